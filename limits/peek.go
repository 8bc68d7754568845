package limits

import (
	"context"
	"time"
)

// Peek returns what Take would decide now, with the figures before the call, and counts nothing. Only
// whether a call to a latched counter would be this gateway's probe stays open. Peek returns an error
// where the store does not answer.
func (l *Limiter) Peek(ctx context.Context, call Call) (Decision, error) {
	rule := call.Match.Rule
	d := Decision{Rule: rule, Counter: l.registry.counterOf(call.App, &call.Match)}
	if rule.Budget.Kind == Denied {
		d.Verdict = RefusedDenied
		return d, nil
	}
	if rule.Pace.Rate > 0 {
		wait, err := l.link.pace(ctx, call.App, rule.Name, rule.Pace, 0)
		if err != nil {
			return d, err
		}
		if wait > 0 {
			d.Verdict, d.RetryAfter = RefusedPace, max(wait, time.Second)
		}
	}
	if d.Verdict == Pass {
		if err := l.peek(ctx, &call, &d); err != nil {
			return d, err
		}
	}
	if !d.Verdict.Sent() && l.isShadow(rule) {
		d.Verdict = Shadow
	}
	return d, nil
}

// peek decides by the counters of a call.
func (l *Limiter) peek(ctx context.Context, call *Call, d *Decision) error {
	now := l.now()
	cal := l.calendar(now)
	needs := needsOf(d.Rule, d.Counter, call.Caller)
	queries := make([]Query, len(cal.of))
	for p := range queries {
		queries[p] = Query{App: call.App, Window: cal.of[p]}
		for _, n := range needs {
			queries[p].Names = append(queries[p].Names, n.name)
		}
	}
	stored, err := l.read(ctx, queries)
	if err != nil {
		return err
	}
	u := usageReader{cal: cal, now: now.store, stored: stored}
	m := l.registry.find(call.App, d.Counter)
	if m != nil {
		u.add(m)
		if verdict, i := m.closedBy(needs, call, cal, now); verdict != Pass {
			d.peeked(verdict, needs[i], needs, cal, stored, now)
			return nil
		}
	}
	for _, latched := range []bool{true, false} { // a latch comes first, as in meter.decide
		for _, n := range needs {
			if verdict := d.verdictOf(n, needs, stored, now, latched); verdict != Pass {
				d.peeked(verdict, n, needs, cal, stored, now)
				return nil
			}
		}
	}
	for i, n := range needs {
		if n.reserve > 0 {
			continue
		}
		one := Decision{Counter: d.Counter}
		if one.peeked(Pass, n, needs, cal, stored, now); i == 0 || one.Quota > 0 && (d.Quota == 0 || one.Remaining < d.Remaining) {
			d.Quota, d.Used, d.Remaining, d.Reset = one.Quota, one.Used, one.Remaining, one.Reset
		}
	}
	return nil
}

// verdictOf is what one counter of a call makes of it: by a latch alone, or by what is left.
func (d *Decision) verdictOf(n need, needs []need, stored []map[string]CounterState, now moment, latch bool) Verdict {
	state := stored[n.period][n.name]
	free := n.limit + state.Grant.at(now.store) - state.Used
	switch {
	case n.reserve > 0:
	case latch && now.store < state.Latch.Until:
		return RefusedLatched
	case latch:
	case free <= 0 && n.name != d.Counter:
		return RefusedShare
	case free <= 0:
		return RefusedQuota
	case n.name == d.Counter && free <= keptOf(needs, n.period, stored):
		return RefusedReserved
	}
	return Pass
}

// keptOf is what is unused of the reserves of other callers in a window.
func keptOf(needs []need, p Period, stored []map[string]CounterState) (n int64) {
	for _, other := range needs {
		if other.reserve > 0 && other.period == p {
			n += max(0, other.reserve-stored[p][other.name].Used)
		}
	}
	return n
}

// peeked fills in a verdict with the figures of one counter.
func (d *Decision) peeked(verdict Verdict, n need, needs []need, cal *calendar, stored []map[string]CounterState, now moment) {
	state := stored[n.period][n.name]
	d.Verdict, d.Used = verdict, state.Used
	d.Reset = cal.of[n.period].End.Sub(time.UnixMilli(now.store))
	if n.limit < noLimit {
		d.Quota = n.limit + state.Grant.at(now.store)
		d.Remaining = d.Quota - state.Used
		if n.name == d.Counter {
			d.Remaining -= keptOf(needs, n.period, stored)
		}
		d.Remaining = max(0, d.Remaining)
	}
	if verdict != Pass {
		d.RetryAfter = max(d.Reset, time.Second)
	}
}

// closedBy returns the refusal that decide gives from memory, and which of the needs it is for; Pass is none.
func (m *meter) closedBy(needs []need, call *Call, cal *calendar, now moment) (verdict Verdict, which int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var kept *counter
	for _, g := range m.groups {
		if g.rule == call.Match.Rule && g.caller == call.Caller && g.calendar == cal {
			kept = g.kept.by(now)
		}
	}
	for i, n := range needs {
		if c := m.find(n.name, cal.of[n.period].Name); c != nil && n.reserve == 0 && c.limit == n.limit && c.closed(now) {
			return m.refusal(c, now), i
		} else if c != nil && c == kept {
			return RefusedReserved, i
		}
	}
	return Pass, 0
}
