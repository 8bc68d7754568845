package limits

import "time"

// takeLocally decides a call while the store is unavailable, if its rule fails open: within this
// gateway's share of what was left when the store last answered. Until the breaker opens calls are
// refused, so that requests that are merely lost never put a quota at risk. What is sent is reported
// when the store is back. There is one share for an outage: it is new only when the store has
// answered about the counter.
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
		if c.remote.Version == 0 && l.link.at(l.started) >= c.window.Start.UnixMilli() {
			return
		}
		if !c.fallbackKnown {
			c.fallbackKnown, c.fallback = true, max(0, c.free()-c.own.reserved)/gateways
		}
		if c.fallback == 0 || c.latched(now.store) {
			return
		}
	}
	for _, c := range g.counters {
		c.fallback--
		c.count()
	}
	d.grant(m, g, time.Time{}, now)
	d.Verdict = Degraded
	*hold = Hold{limiter: l, meter: m, group: g, generation: g.counters[0].generation, since: now.since}
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
		if rules.failsOpen() {
			return true
		}
	}
	return s.others != nil && len(s.of) == 0 && s.others.failsOpen()
}

func (s *Ruleset) failsOpen() bool {
	for _, rule := range s.Rules {
		if len(rule.Paths) == 0 {
			continue
		}
		free := rule.Budget.Kind == Unlimited || rule.Budget.Kind == Unknown
		if free && rule.Pace.Rate == 0 || rule.Budget.Kind == Limited && (rule.Shadow || failsOpen(rule)) {
			return true
		}
	}
	return false
}
