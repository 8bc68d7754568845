package history

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPredict(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, shanghai)
	reset := time.Date(2026, 11, 24, 0, 0, 0, 0, shanghai)
	ten := 10 * time.Minute
	var quiet, busy [24]float64
	for i := range busy {
		busy[i] = 6000
	}
	at := func(h, m int) time.Time { return time.Date(2026, 11, 23, h, m, 0, 0, shanghai) }
	for _, test := range []struct {
		name string
		c    Counter
		want Forecast
	}{
		{"at the rate of now", Counter{Limit: 5000, Used: 2000, Reset: reset, Calls: 100, Span: ten}, Forecast{RunsOut: at(15, 0)}},
		{"the same as usual", Counter{Limit: 50000, Used: 20000, Reset: reset, Calls: 1000, Span: ten, Usual: &busy}, Forecast{RunsOut: at(15, 0)}},
		{"after the reset", Counter{Limit: 5000, Used: 2000, Reset: reset, Calls: 10, Span: ten}, Forecast{}},
		{"right at the reset", Counter{Limit: 8400, Reset: reset, Calls: 100, Span: ten}, Forecast{}},
		{"usually quiet: it would be 11:00", Counter{Limit: 1000, Used: 400, Reset: reset, Calls: 100, Span: ten, Usual: &quiet}, Forecast{RunsOut: now.Add(102 * time.Minute)}},
		{"usually quiet, never", Counter{Limit: 2000, Used: 400, Reset: reset, Calls: 100, Span: ten, Usual: &quiet}, Forecast{}},
		{"two calls are no rate", Counter{Limit: 500, Used: 498, Reset: reset, Calls: 2, Span: ten}, Forecast{}},
		{"no calls, though usually many", Counter{Limit: 5000, Used: 2000, Reset: reset, Span: ten, Usual: &busy}, Forecast{}},
		{"no figure", Counter{Used: 10, Reset: reset, Calls: 10, Span: ten}, Forecast{}},
		{"used up", Counter{Limit: 500, Used: 500, Reset: reset, Calls: 10, Span: ten}, Forecast{}},
		{"more than used up", Counter{Limit: 500, Used: 512, Reset: reset, Calls: 10, Span: ten}, Forecast{}},
		{"closed by WeChat", Counter{Limit: 5000, Used: 2000, Reset: reset, Closed: true, Calls: 100, Span: ten}, Forecast{}},
		{"a small quota", Counter{Limit: 10, Used: 3, Reset: reset, Calls: 2, Span: ten}, Forecast{Left: 7}},
		{"a small quota, with a rate", Counter{Limit: 100, Used: 40, Reset: reset, Calls: 10, Span: ten}, Forecast{Left: 60, RunsOut: at(11, 0)}},
		{"a small quota that nobody uses", Counter{Limit: 10, Reset: reset, Span: ten}, Forecast{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := Predict(now, test.c)
			if off := got.RunsOut.Sub(test.want.RunsOut); got.Left != test.want.Left || off.Abs() > 30*time.Second {
				t.Errorf("Predict = %+v, want %+v", got, test.want)
			}
		})
	}
}

// Whatever the figures: a time lies before the reset, more calls left never bring it nearer, and more calls in
// the last ten minutes never move it away.
func TestPredictLaws(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, shanghai)
	rapid.Check(t, func(t *rapid.T) {
		c := Counter{
			Limit: rapid.Int64Range(0, 100_000).Draw(t, "limit"), Used: rapid.Int64Range(0, 100_000).Draw(t, "used"),
			Reset: now.Add(time.Duration(rapid.IntRange(1, 86400).Draw(t, "reset")) * time.Second),
			Calls: rapid.Int64Range(0, 10_000).Draw(t, "calls"), Span: time.Duration(rapid.IntRange(540, 600).Draw(t, "span")) * time.Second,
		}
		if rapid.Bool().Draw(t, "usual") {
			c.Usual = (*[24]float64)(rapid.SliceOfN(rapid.Float64Range(0, 50_000), 24, 24).Draw(t, "hours"))
		}
		got := Predict(now, c)
		if c.Calls < minCalls && !got.RunsOut.IsZero() {
			t.Fatalf("%+v: a time out of %d calls", c, c.Calls)
		}
		if !got.RunsOut.IsZero() && (got.RunsOut.Before(now) || !got.RunsOut.Before(c.Reset)) {
			t.Fatalf("%+v: runs out at %s, want before %s", c, got.RunsOut, c.Reset)
		}
		if got.Left < 0 || got.Left > SmallQuota {
			t.Fatalf("%+v: %d left", c, got.Left)
		}
		later := func(a, b time.Time) bool {
			return a.IsZero() && !b.IsZero() || !b.IsZero() && a.After(b.Add(time.Microsecond))
		}
		if c.Used > 0 && c.Used < c.Limit {
			less := c
			less.Used--
			if f := Predict(now, less); later(got.RunsOut, f.RunsOut) {
				t.Fatalf("%+v: %s with one call more left, %s before", c, f.RunsOut, got.RunsOut)
			}
		}
		if more := c; c.Calls >= minCalls {
			more.Calls++
			if f := Predict(now, more); later(f.RunsOut, got.RunsOut) {
				t.Fatalf("%+v: %s with one call more made, %s before", c, f.RunsOut, got.RunsOut)
			}
		}
	})
}
