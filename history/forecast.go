package history

import (
	"math"
	"time"
)

const (
	// minCalls is how many calls the last ten minutes must have had: of fewer there is no rate.
	minCalls = 3
	// SmallQuota is up to what limit the calls that are left say more than a time.
	SmallQuota = 100
	// forecastStep is how exactly the time is worked out along the hours of the day.
	forecastStep = time.Minute
	// halfLife is after what time the rate of the last ten minutes and that of the same hours of the last
	// days weigh the same.
	halfLife = time.Hour
)

// Counter is what a forecast looks at: one quota in its window, and the calls that are counted in it.
type Counter struct {
	Limit  int64     // 0: there is no figure
	Used   int64     // at Now
	Reset  time.Time // the end of the window
	Closed bool      // it takes no calls at present, so it is not being used up

	Calls int64         // that were sent in the last ten minutes
	Span  time.Duration // that these took: ten minutes or a little less

	// Usual are the calls sent in each hour of the day, by the clock of Reset's zone, on average of the last
	// days. nil: not known, and the rate stays as it is.
	Usual *[24]float64
}

// Forecast is when a counter will be used up, if that can be said.
type Forecast struct {
	RunsOut time.Time // zero: not before the reset, or nobody can say
	Left    int64     // of a quota up to SmallQuota that is in use: to be shown in place of a time
}

// Predict returns when a counter will be used up. There is no forecast for one without a figure, one that
// is used up, one with fewer than three calls in the last ten minutes, and one whose window ends before. The
// rate begins as that of the last ten minutes, and moves to that of the same hours of the last days.
func Predict(now time.Time, c Counter) Forecast {
	left := c.Limit - c.Used
	if c.Limit <= 0 || left <= 0 || c.Closed {
		return Forecast{}
	}
	var f Forecast
	if c.Limit <= SmallQuota && c.Used > 0 {
		f.Left = left
	}
	if c.Calls < minCalls || c.Span <= 0 {
		return f
	}
	f.RunsOut = runsOut(now, float64(left), c)
	return f
}

// runsOut follows the rate minute by minute until left calls are made or the window ends.
func runsOut(now time.Time, left float64, c Counter) time.Time {
	recent := float64(c.Calls) / c.Span.Seconds()
	if c.Usual == nil {
		at := left / recent
		if at >= c.Reset.Sub(now).Seconds() {
			return time.Time{}
		}
		return now.Add(time.Duration(at * float64(time.Second)))
	}
	for t := now; t.Before(c.Reset); t = t.Add(forecastStep) {
		weight := math.Exp2(-float64(t.Sub(now)+forecastStep/2) / float64(halfLife))
		rate := weight*recent + (1-weight)*c.Usual[t.In(c.Reset.Location()).Hour()]/3600
		step := min(forecastStep, c.Reset.Sub(t)).Seconds()
		if rate*step > left {
			return t.Add(time.Duration(left / rate * float64(time.Second)))
		}
		left -= rate * step
	}
	return time.Time{}
}
