package limits

import (
	"context"
	"maps"
	"sync"
)

// pendingClears are clears of whole apps that the store does not know yet.
type pendingClears struct {
	mu sync.Mutex
	of map[string]int64 // the generation, by appid
}

func (p *pendingClears) init() { p.of = make(map[string]int64) }

func (p *pendingClears) add(app string, generation int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of[app] = max(p.of[app], generation)
}

// done takes a clear off, unless a later one has come.
func (p *pendingClears) done(app string, generation int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[app] <= generation {
		delete(p.of, app)
	}
}

func (p *pendingClears) forget(app string) { p.done(app, 1<<62) }

func (p *pendingClears) all() map[string]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.of)
}

// Clear starts the day's counters of an app over, after WeChat has granted a clear that was sent at a
// time of the store's clock, in milliseconds since 1970: that is the Counted of its decision. With a
// path only those of its rule start over. Months are never cleared: mass sendings and the clears
// themselves go on.
//
// The new generation is that time, or one more than the last that is known: it cannot be taken for
// another clear, and the store's clock may have been set back. It begins with the calls that WeChat
// may have run after the clear. Every other gateway learns of it with its next request, which for a
// full or latched counter is within a second.
func (l *Limiter) Clear(app string, at int64, path string) {
	now := l.now()
	day := l.calendar(now).of[Day]
	if at < day.Start.UnixMilli() {
		return // of yesterday: it has not cleared today's count
	}
	if path != "" {
		if rules := l.Rules(app); rules != nil {
			if match := rules.Match(path); match.Rule != nil {
				m := l.meterOf(app, &match)
				m.clearable(match, l.calendar(now))
				m.clearDay(day, m.nextGeneration(day.Name, at, now), at, false, now)
				l.unlock(m, now)
			}
		}
		return
	}
	meters, generation := l.registry.of(app), at
	for _, m := range meters {
		m.mu.Lock()
		generation = max(generation, m.nextGeneration(day.Name, at, now))
		m.mu.Unlock()
	}
	l.clears.add(app, generation)
	for _, m := range meters {
		m.mu.Lock()
		m.clearDay(day, generation, at, true, now)
		l.unlock(m, now)
	}
	l.reportClears()
}

// nextGeneration returns the generation that a clear begins, which was sent at a time: that time, or one
// more than the last generation of the window if that lies ahead of the store's clock, which was set back.
// A clear that was sent before the last one changes nothing.
func (m *meter) nextGeneration(window string, at int64, now moment) int64 {
	last := m.windowGeneration(window)
	for _, c := range m.counters {
		if c.window.Name == window {
			last = max(last, c.generation)
		}
	}
	if last >= at && last > now.store {
		return last + 1
	}
	return at
}

// clearable makes the counters of the day that a clear of one path starts over, and returns the rule's: only
// what has a counter carries the generation to the store. Shares and reserves may be used by calls of other
// gateways alone.
func (m *meter) clearable(match Match, cal *calendar) *counter {
	for _, caller := range match.Rule.callers() {
		for _, n := range needsOf(match.Rule, m.name, caller) {
			if n.period == Day {
				m.counter(n.name, &cal.of[Day])
			}
		}
	}
	return m.today(match, cal)
}

// clearDay moves the meter's counters of a day to a generation, the whole day's or their own, by a clear
// that was sent at a time.
func (m *meter) clearDay(day Window, generation, at int64, whole bool, now moment) {
	if whole {
		m.learnGeneration(day, generation, at, now)
	}
	for _, c := range m.counters {
		if c.window.Name == day.Name && c.generation < generation {
			c.adopt(generation, at, now)
			c.announce = true
		}
	}
	m.releaseCleared()
}

// reportClears reports clears of whole apps. One that is not confirmed is reported again at the next
// tick.
func (l *Limiter) reportClears() {
	cleared := l.clears.all()
	if len(cleared) == 0 {
		return
	}
	day := l.calendar(l.now()).of[Day]
	for app, generation := range cleared {
		if generation >= day.Start.UnixMilli() { // a clear of yesterday has nothing left to clear
			ctx, cancel := context.WithTimeout(context.Background(), l.exchangeTime())
			_, back, err := l.link.exchange(ctx, &Request{App: app, Windows: []WindowReport{{Window: day, Generation: generation}}})
			cancel()
			if back {
				l.restate(l.now())
			}
			if err != nil {
				continue
			}
		}
		l.clears.done(app, generation)
	}
}
