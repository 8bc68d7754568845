package limits

import (
	"context"
	"time"
)

// seedTimeout is how long the first calls of a day may wait for WeChat's own count.
const seedTimeout = 300 * time.Millisecond

// seed asks WeChat for its own count before the first call of a day that the store knows nothing of:
// calls may have been made before the gateway was there, or around it. The calls of the meter wait for
// it once. The caller has set m.running. An error means that the store has not answered.
func (l *Limiter) seed(ctx context.Context, m *meter, g *group) error {
	if l.look == nil {
		return nil
	}
	now := l.now()
	m.mu.Lock()
	c := m.unseeded(g, now)
	if c == nil {
		m.mu.Unlock()
		return nil
	}
	r := m.request([]*counter{c}, 0, 0, nil)
	m.mu.Unlock()

	asking, cancel := context.WithTimeout(ctx, l.exchangeTime())
	a, err := l.exchange(asking, m, r)
	cancel()
	m.mu.Lock()
	if again := m.confirm([]*counter{c}, r, a, err, now, l.now()); again || err != nil || a.Status == Outside {
		m.mu.Unlock()
		return err // the next batch seeds
	}
	c.seeded = true
	if c.remote.Used > 0 {
		m.mu.Unlock()
		return nil
	}
	generation := c.generation
	m.seeding = true
	m.mu.Unlock()

	asking, cancel = context.WithTimeout(ctx, seedTimeout)
	used, ok := l.look(asking, m.account.appid, Match{Rule: g.rule, Counter: m.name, Family: true})
	cancel()

	m.mu.Lock()
	defer m.mu.Unlock()
	m.seeding = false
	c.seedUnknown = !ok
	if ok && c.generation == generation && used > 0 {
		c.raise = used
	}
	return nil
}

// unseeded returns the day's counter of a group if WeChat is to be asked about it: it has a figure,
// nothing is counted in it, and the day is old enough for WeChat's answer to be about it.
func (m *meter) unseeded(g *group, now moment) *counter {
	c := g.counters[0]
	if c.window.Period != Day || c.name != m.name || c.limit >= noLimit || m.shared ||
		c.seeded || c.remote.Used > 0 || c.own.local > 0 || c.tooRecent(now.store) {
		return nil
	}
	return c
}
