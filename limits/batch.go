package limits

import (
	"errors"
	"slices"
	"time"
)

// maxAsks is how often one batch may ask the store: it may know another day or generation.
const maxAsks = 3

// batch is calls of one group that the store decides in one request. What follows done is written
// before done is closed.
type batch struct {
	group   *group
	calls   int64
	left    []int64 // places of the calls whose callers have given up
	done    chan struct{}
	decided bool

	granted int64    // so many go, in the order of their places
	pass    Decision // of the last of them
	refusal Decision // of the others
	hold    Hold
}

// join adds a call to the pending batch of a group, or to a new one, and returns its place in it.
func (m *meter) join(g *group) (b *batch, place int64) {
	for _, b := range m.pending {
		if b.group == g {
			b.calls++
			return b, b.calls - 1
		}
	}
	b = &batch{group: g, calls: 1, done: make(chan struct{})}
	m.pending = append(m.pending, b)
	return b, 0
}

// requestFor makes the request that decides a batch; nil: it was decided from memory, by a block or a
// refusal that came since it was joined. The figures and windows of now are asked about.
func (m *meter) requestFor(b *batch, cal *calendar, now moment, blocks bool) *Request {
	b.group = m.group(b.group.rule, b.group.caller, cal)
	if verdict, by, decided := m.decide(b.group, b.calls, now); decided {
		if verdict == Pass {
			m.grant(b, b.calls, b.group.block.deadline, now.store, now)
		}
		m.refuseRest(b, verdict, by, now)
		return nil
	}
	var wish int64
	if blocks {
		wish = b.group.wish()
	}
	r := m.request(b.group.asked, b.calls, wish, &cal.of[Day])
	for i, kept := range b.group.reserves {
		r.Counters[len(b.group.counters)+i].Reserve = kept.calls
	}
	return r
}

// answer takes in the answer to what was asked for a batch. It reports true where the store has to
// be asked again: for other windows, or in another generation.
func (m *meter) answer(b *batch, r *Request, a *Answer, err error, sent, now moment) (again bool) {
	counters := b.group.counters
	if err != nil {
		if !errors.Is(err, errNotSent) {
			for _, c := range b.group.asked {
				c.requestLost(now)
			}
		}
		m.abandon(b)
		return false
	}
	m.apply(b.group.asked, r, a, now)
	deadline := deadlineOf(counters, sent, a)
	switch {
	case a.Status == Outside || a.Status == Again:
		return true
	case a.Status == OK && Past(now.at, deadline): // too late to be used
		for _, c := range counters {
			c.own.reserved -= a.Block
			c.giveBack(a.Granted + a.Block)
		}
		return true
	}
	switch {
	case a.Block == 0:
	case slices.Contains(m.groups, b.group):
		m.keepBlock(b.group, a.Block, deadline, now)
	default: // another table or another day has come since
		for _, c := range counters {
			c.own.reserved -= a.Block
			c.giveBack(a.Block)
		}
	}
	for _, c := range counters {
		c.own.inFlight += a.Granted
	}
	m.grant(b, a.Granted, deadline, a.Now, now)
	b.hold.since = sent.since // the calls have not passed a latch that was set since
	by := counters[a.Which]
	switch {
	case a.Granted == b.calls:
	case keptBack(r, a):
		b.group.kept.close(by, now)
		m.refuseRest(b, RefusedReserved, by, now)
		return false
	default:
		by.close(a.Status == Latched, r.Counters[a.Which].Limit, now)
	}
	m.refuseRest(b, m.refusal(by, now), by, now)
	return false
}

// deadlineOf is when a grant ends: the first window's end by the store's clock, counted from the
// moment the request was sent, so never late.
func deadlineOf(counters []*counter, sent moment, a *Answer) time.Time {
	end := counters[0].window.End
	for _, c := range counters[1:] {
		if c.window.End.Before(end) {
			end = c.window.End
		}
	}
	return sent.at.Add(end.Sub(time.UnixMilli(a.Now)))
}

// grant fills in what the first n calls of a batch get. They are in flight already; those whose
// callers have given up go back.
func (m *meter) grant(b *batch, n int64, deadline time.Time, counted int64, now moment) {
	g := b.group
	var back int64
	for _, place := range b.left {
		if place < n {
			back++
		}
	}
	if back > 0 {
		for _, c := range g.counters {
			c.own.inFlight -= back
			c.giveBack(back)
		}
	}
	b.granted = n
	b.pass.Rule = g.rule
	b.pass.grant(m, g, deadline, now)
	b.pass.Counted = counted
	b.hold = Hold{meter: m, group: g, generation: g.counters[0].generation, since: now.since}
	b.decided = true
}

// refuseRest fills in what the calls of a batch get that are not granted.
func (m *meter) refuseRest(b *batch, verdict Verdict, by *counter, now moment) {
	b.decided = true
	b.refusal.Rule = b.group.rule
	if by != nil {
		b.refusal.refuse(m, b.group, verdict, by, now)
	}
}

// abandon ends a batch that the store has not decided.
func (m *meter) abandon(b *batch) {
	b.decided = true
	b.refusal.Rule = b.group.rule
	b.refusal.unavailable(m)
}
