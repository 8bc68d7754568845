package limits

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Seen returns the appids that this gateway has counted calls of, those that are not configured
// among them, in alphabetical order.
func (l *Limiter) Seen() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.meters))
}

// Today returns what an app has used of one counter today, whether it was ever called or not.
func (l *Limiter) Today(ctx context.Context, app, counter string) (Usage, error) {
	cal := l.calendar()
	day := cal.of[Day]
	u := Usage{Counter: counter, Period: Day, Reset: day.End}
	if rules := l.Rules(app); rules != nil {
		name, _, _ := strings.Cut(counter, ":")
		u.Rule = rules.Rule(name)
	}
	if u.Rule == nil {
		return u, fmt.Errorf("app %s: counter %s: not configured", app, counter)
	}
	found, err := l.counters.Read(ctx, app, []Window{day}, counter)
	if err != nil {
		return u, err
	}
	l.mu.RLock()
	m := l.meters[app][counter]
	l.mu.RUnlock()
	h := found[0][counter]
	if m != nil {
		m.mu.Lock()
		if c := m.counters[counterKey{day.Name, counter}]; c != nil {
			h, u.StartUnknown = c.unsaid(h), c.blind
		}
		m.mu.Unlock()
	}
	limit := int64(noLimit)
	for _, w := range wantsOf(u.Rule, counter, "") {
		if w.period == Day {
			limit = w.limit
		}
	}
	u.fill(h, limit, l.storeNow())
	return u, nil
}

// unsaid adds what this gateway has not told the store yet to what the store holds.
func (c *counter) unsaid(h Heard) Heard {
	if h.Generation <= c.generation {
		h.Used += c.held - c.lent - c.confirmed
	}
	return h
}

// fill fills in the figures of a counter.
func (u *Usage) fill(h Heard, limit int64, now time.Time) {
	u.Used, u.Generation, u.Latched = max(0, h.Used), h.Generation, now.UnixMilli() < h.Latch
	if limit < noLimit {
		u.Limit = limit + h.Grant
		u.Remaining = max(0, u.Limit-u.Used)
	}
}

// usage joins what the store holds with what this gateway has not said yet.
func (l *Limiter) usage(app string, rules *Ruleset, cal *calendar, stored []map[string]Heard) []Usage {
	blind := make(map[counterKey]bool)
	for _, m := range l.metersOf(app) {
		m.mu.Lock()
		for key, c := range m.counters {
			blind[key] = c.blind
			for period, w := range cal.of {
				if key.window == w.Name && c.held-c.lent != c.confirmed {
					stored[period][key.name] = c.unsaid(stored[period][key.name])
				}
			}
		}
		m.mu.Unlock()
	}

	now := l.storeNow()
	var lines []Usage
	line := func(rule *Rule, counter string, p Period, limit int64) {
		u := Usage{Rule: rule, Counter: counter, Period: p, Reset: cal.of[p].End}
		u.StartUnknown = blind[counterKey{cal.of[p].Name, counter}]
		u.fill(stored[p][counter], limit, now)
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
