package limits

import (
	"maps"
	"strings"
	"time"
)

// modelWeChat counts what it executes itself. Its fields belong to the world's mutex.
type modelWeChat struct {
	w       *world
	quota   map[string]int64 // a day's, by rule; 0: none
	minute  map[string]int64 // a clock minute's
	tallies map[string]*tally
}

// tally is what WeChat has counted of one path.
type tally struct {
	day      string
	executed int64 // of them those of gateways
	around   int64 // and those that went around them
	minute   int64
	inMinute int64
	clears   int
	cleared  time.Time // running time
}

// tally returns WeChat's figures of today for a path.
func (x *modelWeChat) tally(app, base string) *tally {
	key := app + " " + base
	t := x.tallies[key]
	if t == nil {
		t = &tally{}
		x.tallies[key] = t
	}
	if day := x.w.window(Day, x.w.store.now()).Name; t.day != day {
		*t = tally{day: day, clears: t.clears, cleared: time.Now()}
	}
	return t
}

// used is what quota/get answers.
func (x *modelWeChat) used(app, base string) int64 {
	t := x.tally(app, base)
	return t.executed + t.around
}

// asked is what quota/get answers a gateway that may raise its count to it: what others have not reported
// yet is counted twice then.
func (x *modelWeChat) asked(app, base string) int64 {
	key := modelKey{app, x.w.window(Day, x.w.store.now()).Name, base}
	x.w.asked[key] = true
	x.w.around[key] += x.w.count(app, base, func(c *modelCall) bool {
		return c.ran && !c.back && c.day == key.window && (!c.stored || c.g.knows(app, key.window, base) < x.w.generation(app, key.window, base))
	})
	x.w.around[key] += x.w.store.missing(key, "") // or has lost
	yesterday := modelKey{app, x.w.window(Day, x.w.store.now().Add(-24*time.Hour)).Name, base}
	x.w.around[yesterday] += x.used(app, base) // of a gateway that does not know the store's clock yet
	return x.used(app, base)
}

// clear starts the day over for one path or for all of an account.
func (x *modelWeChat) clear(app, base string) {
	for key := range maps.Clone(x.tallies) {
		if in, name, _ := strings.Cut(key, " "); in == app && (base == "" || base == name) {
			t := x.tally(in, name)
			t.executed, t.around, t.inMinute = 0, 0, 0
			t.clears++
			t.cleared = time.Now()
		}
	}
}

// run executes a call, or answers why not.
func (x *modelWeChat) run(c *modelCall, o modelOutcome) (code int) {
	w := x.w
	base := c.base
	if isShared(base) {
		base = c.rule.Name + ":" + c.path
	}
	t := x.tally(c.app, base)
	if o.end == endsUnknownPath && strings.Contains(c.base, ":") {
		w.occurs("errcode 40066")
		return errcodeInvalidURL
	}
	now := w.store.now()
	if minute := now.Unix() / 60; minute != t.minute {
		t.minute, t.inMinute = minute, 0
	}
	rule := c.rule.Name
	if n := x.quota[rule]; n > 0 && c.app == modelApp && t.executed+t.around >= n {
		w.occurs("45009 of a day")
		return errcodeQuota
	}
	if n := x.minute[rule]; n > 0 && c.app == modelApp && t.inMinute >= n {
		w.occurs("45009 of a minute")
		return errcodeQuota
	}
	t.executed++
	t.inMinute++
	c.ran, c.ranDay, c.ranMonth = true, w.window(Day, now).Name, w.window(Month, now).Name
	c.ranAt, c.clears = time.Now(), t.clears
	w.executed(c, t)
	switch o.end {
	case endsOther:
		return 40001
	case endsNone:
		return errcodeNone
	default:
		return 0
	}
}
