package limits

import (
	"context"
	"errors"
	"time"
)

// lookLife is how long the first calls of a day may wait for WeChat's own count.
const lookLife = 300 * time.Millisecond

// ErrTooEarly is of a count of WeChat's that says nothing yet: its day or its generation has begun
// less than ten minutes before it was asked for, and WeChat's begins when nobody knows.
var ErrTooEarly = errors.New("the day or its last clear is younger than ten minutes")

// look asks WeChat for its own count before the first call of a day that the store knows nothing
// of: calls may have been made before the gateway was there, or around it. Callers wait for it
// once. m.flying is held by the caller.
func (l *Limiter) look(ctx context.Context, m *meter) {
	m.mu.Lock()
	c, match := l.unseen(m)
	if c == nil {
		m.mu.Unlock()
		return
	}
	r := m.request([]*counter{c}, 0, 0)
	m.mu.Unlock()

	ctx = context.WithoutCancel(ctx)
	asking, cancel := context.WithTimeout(ctx, l.flightBudget())
	a, err := l.exchange(asking, r)
	cancel()

	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		return // nor will the calls be counted
	}
	m.hear([]*counter{c}, r, a)
	if a.Status == Outside || a.Status == Again {
		return // the next flight looks
	}
	c.looked = true
	if c.used > 0 {
		return
	}
	generation := c.generation
	m.looking = true
	m.mu.Unlock()

	asking, cancel = context.WithTimeout(ctx, lookLife)
	used, ok := l.lookAt(asking, m.app, match)
	cancel()

	m.mu.Lock()
	m.looking = false
	c.blind = !ok
	if ok && c.generation == generation && used > 0 {
		c.raise, c.dirty = used, true
	}
	for _, w := range m.queue {
		w.since = l.now()
	}
}

// unseen returns the day's counter of the next flight if WeChat is to be asked about it: it has a
// figure, nobody has looked, and the day is old enough for an answer to mean it. m.mu is held.
func (l *Limiter) unseen(m *meter) (*counter, Match) {
	if l.lookAt == nil || len(m.queue) == 0 {
		return nil, Match{}
	}
	cal, w := l.calendar(), m.queue[0]
	for _, want := range w.wants {
		if want.period != Day || want.name != m.name || want.limit >= noLimit {
			continue
		}
		c := m.counter(want, cal)
		if c.looked || c.used > 0 || c.held > 0 || m.young(c, l.storeNow()) {
			return nil, Match{}
		}
		return c, Match{Rule: w.decision.Rule, Counter: m.name, Family: true}
	}
	return nil, Match{}
}

// young reports whether a counter's day or generation has only just begun. m.mu is held.
func (m *meter) young(c *counter, at time.Time) bool {
	since := time.UnixMilli(max(c.generation, m.generations[c.window.Name], c.window.Start.UnixMilli()))
	return at.Sub(since) < youngLife
}

// waits returns how long a call may wait yet.
func (l *Limiter) waits(m *meter, w *waiter) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.looking {
		return lookLife
	}
	return l.patience - l.now().Sub(w.since)
}

// Raise raises today's counter of a match to used, which WeChat has said in answer to a question
// asked at began. A count is never lowered by it: every call is counted before it is sent, so that
// the larger of both figures never counts one twice. It returns ErrTooEarly for an answer that may
// be about yesterday.
func (l *Limiter) Raise(ctx context.Context, app string, match Match, used int64, began time.Time) error {
	m := l.lock(app, match)
	c := l.today(m, match)
	if m.young(c, l.atStore(began)) {
		m.mu.Unlock()
		return ErrTooEarly
	}
	if used > c.raise {
		c.raise, c.dirty = used, true
	}
	c.blind = false
	m.mu.Unlock()
	return l.stated(ctx, m)
}

// ClearTo starts today's counter of a match over as the generation at, in milliseconds since 1970,
// with used calls in it: WeChat's own count shows that a clear was carried out whose answer was lost.
func (l *Limiter) ClearTo(ctx context.Context, app string, match Match, at, used int64) error {
	m := l.lock(app, match)
	if c := l.today(m, match); c.generation < at {
		l.clearDay(m, at, false)
		// WeChat's count has all that ran since the clear in it, but perhaps not what is under way.
		c.held, c.takenSince, c.raise = c.inFlight, 0, used+c.inFlight
	}
	m.mu.Unlock()
	return l.stated(ctx, m)
}

// today returns the day's counter of a match. m.mu is held.
func (l *Limiter) today(m *meter, match Match) *counter {
	w := want{name: m.name, period: Day, limit: noLimit}
	for _, q := range match.Rule.Budget.Quotas {
		if q.Period == Day {
			w.limit = q.Limit
		}
	}
	return m.counter(w, l.calendar())
}

// stated waits until the store has heard what a meter holds.
func (l *Limiter) stated(ctx context.Context, m *meter) error {
	for {
		if err := l.state(ctx, m, false); err != nil {
			return err
		}
		m.mu.Lock()
		said := m.gone || len(m.dirty(l.now())) == 0
		m.mu.Unlock()
		if said {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Forget drops what this gateway knows of an app. Calls of it under way are not counted any more.
func (l *Limiter) Forget(app string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.meters[app] {
		m.mu.Lock()
		m.gone = true
		m.mu.Unlock()
		l.due.drop(m)
	}
	delete(l.meters, app)
	for key := range l.warned {
		if key.app == app {
			delete(l.warned, key)
		}
	}
	delete(l.paths, app)
	delete(l.cleared, app)
}
