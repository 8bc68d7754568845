package limits

import (
	"context"
	"strings"
	"time"
)

// modelCall is one call from its Take on.
type modelCall struct {
	g       *modelGateway
	app     string
	path    string
	caller  string
	rule    *Rule
	base    string // its counter
	began   time.Time
	taken   time.Time
	verdict Verdict
	day     string // the windows that it was counted in
	month   string
	dayEnd  time.Time
	edge    bool  // so close to a window's end that it may be counted in another one
	knew    int64 // the generation that its gateway knew when it was taken
	probe   bool
	stored  bool      // the store knows of it
	sent    bool      // it left
	months  bool      // its gateway counts the month, though the rule may have no figure now
	over    bool      // it ended
	back    bool      // it was given back
	maybe   bool      // its gateway may have lost it
	endedAt int64     // the store's clock
	endedIn time.Time // running time

	ran      bool   // WeChat executed it
	ranDay   string // in this day of WeChat's
	ranMonth string
	clears   int // after so many clears of the account
	ranAt    time.Time
}

// modelOutcome is what becomes of a call that is sent.
type modelOutcome struct {
	end  ending
	dial time.Duration // until it leaves
	way  time.Duration // to WeChat, and back
	asks bool          // a 45009 has the gateway ask which limit it is
}

// ending is how a call ends.
type ending uint8

const (
	endsWell        ending = iota
	endsBack               // it never leaves
	endsOther              // another errcode
	endsNone               // no answer
	endsUnknownPath        // 40066, for a path inside a /*
)

// take takes one call, and reports whether it may be sent.
func (w *world) take(g *modelGateway, app, path, caller string) (c *modelCall, d Decision, hold Hold, sent bool) {
	set := g.l.Rules(app)
	if set == nil {
		return nil, d, hold, false
	}
	match := set.Match(path)
	c = &modelCall{g: g, app: app, path: path, caller: caller, rule: match.Rule, base: match.Counter, began: time.Now()}
	w.mu.Lock()
	if g.dead {
		w.mu.Unlock()
		return nil, d, hold, false
	}
	g.touch(app, match.Counter)
	w.mu.Unlock()
	d, hold = g.l.Take(context.Background(), Call{App: app, Caller: caller, Match: match})
	w.mu.Lock()
	defer w.mu.Unlock()
	c.taken = time.Now()
	w.took(c, d)
	return c, d, hold, d.Verdict.Sent() && !g.dead
}

// call makes one call, from Take to its end.
func (w *world) call(g *modelGateway, app, path, caller string, o modelOutcome) {
	c, d, hold, sent := w.take(g, app, path, caller)
	if !sent {
		return
	}
	time.Sleep(o.dial)
	if o.end == endsBack || !d.Deadline.IsZero() && Past(w.hostNow(g.skew), d.Deadline) {
		if w.ended(c, true, 0) {
			hold.GiveBack()
		}
		return
	}
	w.mu.Lock()
	c.sent = !g.dead
	w.mu.Unlock()
	if !c.sent {
		return // it stays counted, and nothing runs
	}
	time.Sleep(o.way)
	w.mu.Lock()
	code := w.wechat.run(c, o)
	w.mu.Unlock()
	time.Sleep(o.way)
	if w.ended(c, code == errcodeInvalidURL && strings.Contains(c.base, ":/"), code) {
		hold.Done(code)
	}
	if code == errcodeQuota && o.asks && app == modelApp {
		w.spawn(func() { w.ask(g, c.base, 0, 0) })
	}
}

// ended notes the end of a call, just before its gateway does. It reports false when there is no
// gateway any more.
func (w *world) ended(c *modelCall, back bool, code int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.g.touch(c.app, c.base)
	if c.g.dead {
		return false
	}
	c.over, c.back, c.endedAt, c.endedIn = true, back, w.store.now().UnixMilli(), time.Now()
	if back {
		w.occurs("given back")
		w.swap(c)
	}
	w.note("%s: %s ended, given back %t, errcode %d", c.g.name, c.base, back, code)
	key := modelKey{c.app, c.day, c.base}
	switch h, ok := c.g.h.answers[key]; {
	case code == errcodeQuota:
		w.latched(c)
	case ok && c.probe && code != errcodeNone && !back:
		h.latch = Latch{}
		c.g.h.answers[key] = h
		delete(c.g.latched, c.app+" "+c.base)
	}
	return true
}

// swap has another call take the place that a call which was given back has in what is reported.
func (w *world) swap(c *modelCall) {
	for _, f := range figuresOf(c.rule, c.base, c.caller) {
		for _, o := range w.calls[c.app+" "+f.counter] {
			if c.stored && !o.stored && o.g == c.g && !o.back && o.in(f.period, c.window(f.period)) {
				c.stored, o.stored = false, true
			}
		}
	}
}

// count returns how many calls of a counter there are.
func (w *world) count(app, counter string, is func(*modelCall) bool) (n int64) {
	for _, c := range w.calls[app+" "+counter] {
		if is(c) {
			n++
		}
	}
	return n
}

// hasRoom reports whether the counters of a call have had room for some seconds.
func (w *world) hasRoom(c *modelCall, store time.Time) bool {
	for _, f := range figuresOf(c.rule, c.base, c.caller) {
		if w.store.most(modelKey{c.app, w.window(f.period, store).Name, f.counter}, c.began.Add(-3*time.Second)) >= f.limit {
			return false
		}
	}
	return true
}

// forgotten reports whether a call's gateway forgot its app while it was in flight.
func (w *world) forgotten(c *modelCall) bool {
	return !c.g.dropped[c.app].Before(c.began) || c.taken.Before(w.epoch[c.app])
}
