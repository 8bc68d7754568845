package limits

import (
	"maps"
	"slices"
	"strings"
)

// Seen returns the appids that this gateway has counted calls of, those that are not configured
// among them, in alphabetical order.
func (l *Limiter) Seen() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	apps := make(map[string]bool)
	for key := range l.meters {
		apps[key.app] = true
	}
	return slices.Sorted(maps.Keys(apps))
}

// usage joins what the store holds with what this gateway has not said yet.
func (l *Limiter) usage(app string, rules *Ruleset, cal *calendar, stored []map[string]Heard) []Usage {
	l.mu.Lock()
	var meters []*meter
	for key, m := range l.meters {
		if key.app == app {
			meters = append(meters, m)
		}
	}
	l.mu.Unlock()
	blind := make(map[counterKey]bool)
	for _, m := range meters {
		m.mu.Lock()
		for key, c := range m.counters {
			blind[key] = c.blind
			for period, w := range cal.of {
				if key.window != w.Name || c.held-c.lent == c.confirmed {
					continue
				}
				h := stored[period][key.name]
				if h.Generation <= c.generation {
					h.Used += c.held - c.lent - c.confirmed
					stored[period][key.name] = h
				}
			}
		}
		m.mu.Unlock()
	}

	now := l.storeNow().UnixMilli()
	var lines []Usage
	line := func(rule *Rule, counter string, p Period, limit int64) {
		h := stored[p][counter]
		u := Usage{Rule: rule, Counter: counter, Period: p, Used: max(0, h.Used), Reset: cal.of[p].End, Latched: now < h.Latch, Generation: h.Generation}
		u.StartUnknown = blind[counterKey{cal.of[p].Name, counter}]
		if limit < noLimit {
			u.Limit = limit + h.Grant
			u.Remaining = max(0, u.Limit-u.Used)
		}
		lines = append(lines, u)
	}
	for _, rule := range rules.Rules {
		counters := []string{rule.Name}
		exact := slices.ContainsFunc(rule.Paths, func(p string) bool { return !strings.HasSuffix(p, "/*") })
		if !exact {
			counters = nil
		}
		paths := make(map[string]bool)
		for _, in := range stored {
			for name := range in {
				if strings.HasPrefix(name, rule.Name+":") && !strings.Contains(name, "@") {
					paths[name] = true
				}
			}
		}
		counters = append(counters, slices.Sorted(maps.Keys(paths))...)
		for _, counter := range counters {
			for _, w := range wantsOf(rule, counter, "") {
				line(rule, counter, w.period, w.limit)
			}
			for _, caller := range slices.Sorted(maps.Keys(rule.Shares)) {
				for _, q := range rule.Shares[caller].Quotas {
					line(rule, counter+"@"+caller, q.Period, q.Limit)
				}
			}
		}
	}
	return lines
}
