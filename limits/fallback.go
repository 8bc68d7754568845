package limits

import (
	"maps"
	"slices"
	"time"
)

// takeLocally decides a call while the store is unavailable, if its rule fails open: within this
// gateway's share of what was left when the store last answered. Until the breaker opens calls are
// refused, so that requests that are merely lost never put a quota at risk. What is sent is reported
// when the store is back. There is one share for an outage: it is new only when the store has
// answered about the counter.
//
// What is unused of reserves is divided by itself: a caller with a reserve has this gateway's share of it
// first, and then that of the rest.
//
// Nothing is sent in a window that this gateway knows nothing of and did not see begin, and nothing of
// a rule with a pace, which only the store can keep.
func (l *Limiter) takeLocally(call *Call, d *Decision, hold *Hold) {
	gateways := l.link.gateways.Load()
	if gateways == 0 || !failsOpen(call.Match.Rule) || !l.link.breaker.isOpen() {
		return
	}
	now := l.now()
	m := l.meterOf(call.App, &call.Match)
	defer l.unlock(m, now)
	g := m.group(call.Match.Rule, call.Caller, l.calendar(now))
	for _, c := range g.counters {
		if c.remote.Version == 0 && c.limit < noLimit && l.link.at(l.started) >= c.window.Start.UnixMilli() {
			return
		}
		if !c.fallbackKnown {
			m.shareOut(g, c, gateways, now)
		}
		if c.fallback == 0 && g.keptFor(c) == nil || c.latched(now.store) {
			return
		}
	}
	for _, c := range g.counters {
		if kept := g.keptFor(c); kept != nil {
			kept.fallbackKept--
		} else {
			c.fallback--
		}
		c.count()
	}
	d.grant(m, g, time.Time{}, now)
	d.Verdict = Degraded
	*hold = Hold{limiter: l, meter: m, group: g, generation: g.counters[0].generation, since: now.since}
}

// shareOut works out this gateway's share of what is left of a counter, and of each reserve in it.
func (m *meter) shareOut(g *group, c *counter, gateways int64, now moment) {
	left := max(0, c.free(now.store)-c.own.reserved)
	if c.name == m.name {
		for _, caller := range slices.Sorted(maps.Keys(g.rule.Reserve)) {
			kept := m.counter(m.name+"@"+caller, c.window)
			n := min(left, max(0, kept.unused(g.rule.Reserve[caller])-kept.own.reserved))
			kept.fallbackKept = n / gateways
			left -= n
		}
	}
	c.fallbackKnown, c.fallback = true, left/gateways
}

// keptFor returns the counter of the caller's own reserve in a counter of the rule, if this gateway's share
// of it has calls left.
func (g *group) keptFor(c *counter) *counter {
	if g.rule.Reserve[g.caller] == 0 || g.caller == "" || c.name != g.counters[0].name {
		return nil
	}
	for _, own := range g.counters {
		if own.name != c.name && own.window.Period == c.window.Period && own.fallbackKept > 0 {
			return own
		}
	}
	return nil
}

// failsOpen reports whether calls of a rule go on while the store is unavailable.
func failsOpen(rule *Rule) bool {
	if rule.Pace.Rate > 0 {
		return false
	}
	if rule.OnError == StoreErrorDefault {
		least, limited := rule.Budget.Smallest()
		return limited && least > 1000
	}
	return rule.OnError == StoreErrorLocal
}

// FailsOpen reports whether any rule of any table still sends calls while the store is unavailable. The
// rule other of a table that does not write it down is none of them.
func (l *Limiter) FailsOpen() bool {
	s := l.rules.Load()
	for _, rules := range s.of {
		if rules.failsOpen(l) {
			return true
		}
	}
	return s.others != nil && len(s.of) == 0 && s.others.failsOpen(l)
}

func (s *Ruleset) failsOpen(l *Limiter) bool {
	for _, rule := range s.Rules {
		if len(rule.Paths) == 0 {
			continue
		}
		free := rule.Budget.Kind == Unlimited || rule.Budget.Kind == Unknown
		if free && rule.Pace.Rate == 0 || rule.Budget.Kind == Limited && (l.isShadow(rule) || failsOpen(rule)) {
			return true
		}
	}
	return false
}
