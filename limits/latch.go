package limits

import (
	"context"
	"time"
)

// Times of a latch.
const (
	probeGap   = 5 * time.Minute  // one call in all the fleet goes through: a clear in WeChat's console is invisible
	probeRetry = 30 * time.Second // how soon a gateway asks again for the turn to probe
)

// latchedBy returns the counter of a group for which WeChat answers 45009, or nil.
func (m *meter) latchedBy(g *group, now moment) *counter {
	for _, c := range g.counters {
		if c.name == m.name && c.latched(now.store) {
			return c
		}
	}
	return nil
}

// latch closes the counter of a call that WeChat has answered with 45009, for the window and the
// generation that the call was counted in: a late 45009 after midnight or after a clear changes
// nothing, nor does one of a call that was sent before the latch or its lift. The latch is a time
// beside the count, which goes on telling what was sent.
//
// A 45009 may be a minute's limit, in the same words as a day's. So the first latch of a window lasts to
// the end of the clock minute, the next one two minutes, then four, and then to the day's end, unless
// [Limiter.SettleLatch] has found out which it is. Near the start of a day or of a generation each lasts a
// minute only: WeChat's own start is not ours to the second.
func (m *meter) latch(h *Hold, now moment, cal *calendar) Event {
	c, day := h.group.counters[0], cal.of[Day]
	if m.shared || c.generation != h.generation || h.since < c.latchSince ||
		c.window.Period == Day && c.window.Name != day.Name {
		return Event{}
	}
	const minute = int64(time.Minute / time.Millisecond)
	end := day.End.UnixMilli()
	const margin = 1000 // a minute of which less is left may be over for us and not for WeChat
	until := now.store + margin
	until += minute - until%minute
	switch last := c.latch.Until - c.latch.At; {
	case c.tooRecent(now.store) || now.store-day.Start.UnixMilli() < settlingTime.Milliseconds():
		until = now.store + minute
	case last == 0: // none before, or one that was a minute's
	case last <= minute+margin:
		until = now.store + 2*minute
	case last <= 2*minute:
		until = now.store + 4*minute
	default:
		until = end
	}
	return m.setLatch(c, min(until, end), until >= end, now)
}

// setLatch closes a counter until a time of the store's clock, which may be the end of the day.
func (m *meter) setLatch(c *counter, until int64, day bool, now moment) Event {
	c.latch, c.latchSince = c.latch.merge(Latch{Until: until, At: max(now.store, c.latch.At+1)}), now.since
	c.urgent = true
	c.close(true, c.limit, now)
	for _, g := range m.groups {
		m.releaseBlock(g)
	}
	event := m.event(RuleLatched, c)
	event.Day = day
	return event
}

// event describes a latch of a counter.
func (m *meter) event(kind EventKind, c *counter) Event {
	return Event{
		Kind: kind, App: m.account.appid, Rule: ruleOf(c.name), Counter: c.name, Until: time.UnixMilli(c.latch.Until),
	}
}

// unlatch opens the latched counters of a probe that WeChat has not answered with 45009. No count
// changes by it.
func (m *meter) unlatch(h *Hold, now moment) (event Event) {
	for _, c := range h.group.counters {
		if c.name != m.name || c.generation != h.generation && c == h.group.counters[0] || c.latch.Until == 0 {
			continue
		}
		c.latch, c.latchSince = Latch{At: max(now.store, c.latch.At+1)}, now.since
		c.urgent = true
		c.open()
		event = m.event(RuleUnlatched, c)
	}
	return event
}

// probes reports whether a call that a latch refuses is to be sent after all: whether it is this
// gateway's turn.
func (l *Limiter) probes(ctx context.Context, call *Call) bool {
	now := l.now()
	m := l.meterOf(call.App, &call.Match)
	g := m.group(call.Match.Rule, call.Caller, l.calendar(now))
	c := m.latchedBy(g, now)
	due := c != nil && now.store-c.latch.At >= probeGap.Milliseconds() && now.since >= m.nextProbe
	if due {
		m.nextProbe = now.since + probeRetry
	}
	m.mu.Unlock()
	if !due {
		return false
	}
	won, err := l.link.counters.Probe(context.WithoutCancel(ctx), call.App, m.name, probeGap)
	return won && err == nil
}
