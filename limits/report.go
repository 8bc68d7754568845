package limits

import (
	"errors"
	"slices"
	"time"
)

// reportable returns the counters with something to report, those of windows that the store still
// keeps. Others are dropped.
func (m *meter) reportable(now moment) (dirty []*counter) {
	m.counters = slices.DeleteFunc(m.counters, func(c *counter) bool { return c.expired(now.store) })
	for _, c := range m.counters {
		if m.retired { // what is erased next must not be written back
			c.repeatAt = 0
		}
		if c.dirty() || c.repeatAt > 0 && now.since >= c.repeatAt {
			dirty = append(dirty, c)
		}
	}
	return dirty
}

// nextReport returns when the meter has to report next; 0: it need not.
func (m *meter) nextReport(now moment) (next time.Duration) {
	sooner := func(at time.Duration) {
		if next == 0 || at < next {
			next = at
		}
	}
	for _, c := range m.counters {
		switch {
		case !c.dirty() || c.expired(now.store):
		case !c.urgent:
			sooner(now.since + quietTime)
		case c.unacked || c.restate: // not at once after a report that was in vain
			sooner(m.reported + retryTime)
		default:
			return now.since
		}
		if c.repeatAt > 0 {
			sooner(c.repeatAt)
		}
	}
	for _, g := range m.groups {
		if g.block.left > 0 {
			sooner(g.block.idleAt())
		}
	}
	return next
}

// confirm takes in the answer to a report that was sent at a moment. It returns true where it has to be
// repeated in a newer generation.
func (m *meter) confirm(counters []*counter, r *Request, a *Answer, err error, sent, now moment) (again bool) {
	if err != nil {
		if !errors.Is(err, errNotSent) {
			for _, c := range counters {
				c.requestLost(now)
			}
		}
		return false
	}
	for _, c := range counters {
		if sent.since >= c.repeatAt {
			c.repeatAt = 0
		}
	}
	m.apply(counters, r, a, now)
	return a.Status == Again
}

// restateAll marks everything for a report that the store has confirmed before: it may have lost it. Of an app that was
// taken out of the configuration it marks nothing: what is erased next must not be written back.
func (m *meter) restateAll() {
	if m.retired {
		return
	}
	for _, c := range m.counters {
		if c.remote.Version > 0 {
			c.restate, c.urgent = true, true
		}
	}
}
