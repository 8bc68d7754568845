package alert

import (
	"encoding/json"
	"maps"
	"path"
	"time"
)

// Line is what one counter of an account has counted in the window of now.
type Line struct {
	AppID, App  string
	Rule, Title string
	Path        string // inside a /*
	Period      string // day or month
	Used, Limit int64  // Limit 0: no figure
	Generation  int64  // Unix milliseconds of the last clear; 0: none
	Reset       time.Time
	Clears      bool  // the counter of WeChat's own clears
	Wechat      int64 // WeChat's own count; 0: not known
	Counted     int64 // ours when Wechat was read

	Forecast time.Time // when the limit will be reached; zero: not known, or not before Reset
}

// clearThresholds are those of the counter of clears: of ten a month, the eighth and the last.
var clearThresholds = []int{80, 100}

// forecastThreshold stands for a forecast in a claim: it is told once in a window.
const forecastThreshold = 1

// claim is the highest threshold of a counter that was sent, for one window, clear and limit. A change of any of
// these arms the thresholds anew.
type claim struct {
	Reset      int64 `json:"reset_ms"`
	Generation int64 `json:"generation,omitempty"`
	Limit      int64 `json:"limit"`
	Threshold  int   `json:"threshold"`
}

// covers reports whether c leaves nothing to send of next.
func (c claim) covers(next claim) bool {
	return c.Reset == next.Reset && c.Generation == next.Generation && c.Limit == next.Limit && c.Threshold >= next.Threshold
}

// claims are those of one app, by kind, counter and period.
type claims map[string]claim

func parseClaims(raw []byte) claims {
	c := make(claims)
	if json.Unmarshal(raw, &c) != nil || c == nil {
		c = make(claims)
	}
	return c
}

// trim drops the claims of windows that have ended.
func (c claims) trim(now time.Time) {
	maps.DeleteFunc(c, func(_ string, one claim) bool { return one.Reset <= now.UnixMilli() })
}

// expiry is how long the claims are of use: to the end of the last window.
func (c claims) expiry(now time.Time) time.Duration {
	last := now.Add(time.Hour)
	for _, one := range c {
		if end := time.UnixMilli(one.Reset); end.After(last) {
			last = end
		}
	}
	return last.Sub(now) + time.Hour
}

// passed returns the highest of ascending thresholds that used calls of limit have passed, 0 for none.
func passed(thresholds []int, used, limit int64) int {
	highest := 0
	for _, t := range thresholds {
		if float64(used)*100 >= float64(t)*float64(limit) {
			highest = t
		}
	}
	return highest
}

// thresholds returns those of a counter.
func (c Config) thresholds(l Line) []int {
	if l.Clears {
		return clearThresholds
	}
	for _, o := range c.Overrides {
		if (o.App == "" || o.App == l.App || o.App == l.AppID) && (o.Rule == "" || matches(o.Rule, l.Rule)) {
			return o.Thresholds
		}
	}
	return c.Thresholds
}

func matches(glob, rule string) bool {
	ok, err := path.Match(glob, rule)
	return err == nil && ok
}

// crossing is a threshold that a counter has passed.
type crossing struct {
	key   string // of claims
	claim claim
	event Event
}

// crossings returns what is to be sent about a line if it was not sent before: its highest threshold passed, that it
// will be used up before its window ends, and calls that WeChat has counted and no gateway.
func (c Config) crossings(l Line, now time.Time) []crossing {
	if l.Limit <= 0 || !l.Reset.After(now) {
		return nil
	}
	e := Event{
		Kind: Used, At: now, AppID: l.AppID, App: l.App, Rule: l.Rule, Title: l.Title, Path: l.Path,
		Period: l.Period, Used: l.Used, Limit: l.Limit, Reset: l.Reset, Forecast: l.Forecast,
	}
	if l.Clears {
		e.Kind = ClearsUsed
	}
	var found []crossing
	add := func(e Event) {
		found = append(found, crossing{
			key:   string(e.Kind) + "|" + e.counter() + "|" + e.Period,
			claim: claim{l.Reset.UnixMilli(), l.Generation, l.Limit, e.Threshold},
			event: e,
		})
	}
	if e.Threshold = passed(c.thresholds(l), l.Used, l.Limit); e.Threshold > 0 {
		add(e)
	}
	if l.Forecast.Before(l.Reset) && l.Forecast.After(now) && l.Used < l.Limit {
		early := e
		early.Kind, early.Threshold = Forecast, forecastThreshold
		add(early)
	}
	if drift := l.Wechat - l.Counted; c.DriftBound > 0 && l.Wechat > 0 && drift > 0 && drift*100 >= int64(c.DriftBound)*l.Limit {
		e.Kind, e.Threshold, e.Wechat, e.Used, e.Forecast = Drift, c.DriftBound, l.Wechat, l.Counted, time.Time{}
		add(e)
	}
	return found
}
