package config

import (
	"slices"

	"wxproxy/limits"
)

// reserves are how many calls of a rule's quotas are kept back for a caller.
type reserves map[string]int64

func (r *reserves) read(v value) {
	*r = make(reserves)
	v.entries(func(caller string, val value) {
		if !isName(caller) {
			val.atName().fault("want the name of a caller")
		} else if n, ok := val.scalar("1..1000000000000"); ok {
			(*r)[caller] = n.(int64)
		}
	})
}

// reserved is the sum of a rule's reserves.
func reserved(r *limits.Rule) (sum int64) {
	for _, n := range r.Reserve {
		sum += n
	}
	return sum
}

// checkReserves notes reserves of a profile that do not fit into their quotas.
func (p *tableParser) checkReserves(e *profileEntry) {
	for _, r := range e.Rules {
		i := slices.IndexFunc(e.built.Rules, func(rule *limits.Rule) bool { return rule.Name == r.Name })
		if i < 0 || len(e.built.Rules[i].Reserve) == 0 || p.doc.at(r).faulty() {
			continue
		}
		rule, at := e.built.Rules[i], p.doc.at(&r.Reserve, &r.Budget)
		if at.doc == nil {
			continue // its parent's
		}
		if at.faulty() {
			continue
		}
		least, limited := rule.Budget.Smallest()
		sum := reserved(rule)
		switch {
		case !limited:
			at.fault("a reserve of a quota that is %s: want a quota of N/day or N/month to keep calls back of", rule.Budget)
			continue
		case sum > least:
			at.fault("%d calls are kept back in all, of a quota of %s: want %d at most", sum, rule.Budget, least)
			continue
		}
		for _, caller := range sortedKeys(rule.Reserve) {
			for _, q := range rule.Shares[caller].Quotas {
				if n := rule.Reserve[caller]; n > q.Limit {
					at.fault("%s: %d calls are kept back, and its share is %s: want no more than the share", caller, n, q)
				}
			}
		}
	}
}

// checkReservedFor returns faults about reserves of callers that are not there: nobody could use these calls.
// Profiles that no app has may be those of other deployments.
func (l *loader) checkReservedFor(p *tableParser) (faults Faults) {
	if p == nil {
		return nil
	}
	var known []string
	for _, c := range l.config.Callers {
		known = append(known, c.Name)
	}
	told := make(map[string]bool)
	for _, app := range l.config.Apps {
		if app.Rules == nil {
			continue // with a fault
		}
		for _, rule := range app.Rules.Rules {
			for _, caller := range sortedKeys(rule.Reserve) {
				at := p.reserveOf(app.Profile, rule.Name, caller)
				if slices.Contains(known, caller) || at.doc == nil || told[at.key] {
					continue
				}
				told[at.key] = true
				faults = append(faults, at.at("%s: no such caller: %s", quote(caller), suggest(caller, known)))
			}
		}
	}
	return faults
}

// reserveOf is the place of a caller's reserve: in the profile, or in one that it extends.
func (p *tableParser) reserveOf(profile, rule, caller string) value {
	for e := p.entries[profile]; e != nil; e = p.entries[e.Extends] {
		for _, r := range e.Rules {
			if _, ok := r.Reserve[caller]; ok && r.Name == rule {
				return p.doc.at(&r.Reserve).entry(caller).atName()
			}
		}
		if e.Extends == e.name {
			break
		}
	}
	return value{}
}

// checkOwnReserves notes an app's own quotas that are less than what is kept back of them.
func (l *loader) checkOwnReserves(a *App, rules *limits.Ruleset, written []string) {
	for name := range a.Quotas {
		rule := rules.Rule(name)
		least, limited := rule.Budget.Smallest()
		sum := reserved(rule)
		switch {
		case sum == 0 || limited && sum <= least:
		case slices.Contains(written, name):
			l.main.at(&a.Quotas).entry(name).fault("%s: of it %d calls are kept back by the table's reserve: want a quota of no less", rule.Budget, sum)
		default:
			l.warn("app %s: rule %s: WeChat's own quota is %s, and %d calls are kept back of it: callers without a reserve have none left", a.Name, name, rule.Budget, sum)
		}
	}
}
