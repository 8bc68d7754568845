package limits

import (
	"context"
	"maps"
	"time"
)

// Clear starts the day's counters of an app over, after WeChat has granted the clear that d counted.
// With a path only those of its rule start over. Months are never cleared: mass sendings and the
// clears themselves go on.
//
// The new generation is the store's time just before the clear was sent, so it cannot be taken for
// another clear, and it carries the calls that were in flight: WeChat may have run them after it.
// Every other gateway hears of it with its next request, which for a full counter is within a second.
func (l *Limiter) Clear(app string, d *Decision, path string) {
	at := d.Counted
	if at == 0 {
		at = l.storeNow().UnixMilli()
	}
	if path != "" {
		if rules := l.Rules(app); rules != nil {
			if match := rules.Match(path); match.Rule != nil {
				m := l.lock(app, match)
				l.clearDay(m, at, false)
				m.mu.Unlock()
				l.settle(m, 0)
			}
		}
		return
	}
	l.mu.Lock()
	l.cleared[app] = max(l.cleared[app], at)
	l.mu.Unlock()
	for _, m := range l.metersOf(app) {
		m.mu.Lock()
		l.clearDay(m, at, true)
		m.mu.Unlock()
		l.settle(m, 0)
	}
	l.tellClears()
}

// clearDay moves the meter's counters of today to the generation at, the whole day's or this one's.
// m.mu is held.
func (l *Limiter) clearDay(m *meter, at int64, whole bool) {
	day := l.calendar().of[Day]
	if whole {
		m.generations[day.Name] = max(m.generations[day.Name], at)
	}
	for _, c := range m.counters {
		if c.window.Name == day.Name && c.generation < at {
			c.adopt(at)
		}
	}
	m.voidCleared()
	for _, s := range m.sets {
		s.full = nil
	}
}

// tellClears tells the store of clears of whole apps. One that it does not hear is told again by the
// settler.
func (l *Limiter) tellClears() {
	l.mu.Lock()
	cleared := maps.Clone(l.cleared)
	l.mu.Unlock()
	day := l.calendar().of[Day]
	for app, at := range cleared {
		if at >= day.Start.UnixMilli() { // a clear of yesterday has nothing left to clear
			ctx, cancel := context.WithTimeout(context.Background(), l.flightBudget())
			_, err := l.exchange(ctx, &Request{App: app, Windows: []WindowState{{Window: day, Generation: at}}})
			cancel()
			if err != nil {
				continue
			}
		}
		l.mu.Lock()
		if l.cleared[app] == at {
			delete(l.cleared, app)
		}
		l.mu.Unlock()
	}
}

// Fill counts the rule of a call as used up: WeChat has said that it is. d must not be ended yet.
func (l *Limiter) Fill(d *Decision) {
	m := d.meter
	if m == nil {
		return
	}
	m.mu.Lock()
	for _, c := range d.held {
		if c.limit < noLimit {
			c.raise, c.dirty = c.limit+c.grant, true
		}
	}
	m.mu.Unlock()
	l.settle(m, 0)
}

// clearsPending reports whether the store has a clear still to hear of.
func (l *Limiter) clearsPending() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.cleared) > 0
}

// clearAgain is how long the settler waits before it tells of a clear again.
const clearAgain = time.Second
