package limits

import (
	"context"
	"errors"
	"time"
)

// ErrTooEarly reports that WeChat's count cannot be used yet: its day or its last clear began less
// than ten minutes before it was asked.
var ErrTooEarly = errors.New("the day or its last clear began less than ten minutes ago")

// Raise raises today's counter of a match to used, which WeChat has returned in answer to a question
// asked at began. A count is never lowered by it: every call is counted before it is sent, so that
// the larger of both figures never counts one twice. It returns ErrTooEarly for an answer that may
// be about yesterday.
func (l *Limiter) Raise(ctx context.Context, app string, match Match, used int64, began time.Time) error {
	now := l.now()
	m := l.meterOf(app, &match)
	c := m.today(match, l.calendar(now))
	if c.tooRecent(l.link.at(began)) {
		m.mu.Unlock()
		return ErrTooEarly
	}
	if used > max(c.raise, c.remote.Used) {
		c.raise, c.urgent = used, true
	}
	c.seedUnknown = false
	l.unlock(m, now)
	return l.flush(ctx, m)
}

// ClearTo starts today's counter of a match over with used calls in it: WeChat's own count, asked for
// at began, shows that a clear was carried out whose answer was lost. The new generation is the
// store's time of began. WeChat's count has everything in it that ended before; what ended later or is
// in flight every gateway adds. An answer about yesterday changes nothing.
func (l *Limiter) ClearTo(ctx context.Context, app string, match Match, began time.Time, used int64) error {
	now := l.now()
	day := l.calendar(now).of[Day]
	m := l.meterOf(app, &match)
	if generation, c := l.link.at(began), m.clearable(match, l.calendar(now)); c.generation < generation && generation >= day.Start.UnixMilli() {
		m.clearDay(day, generation, generation, false, now)
		c.raise = used
	}
	l.unlock(m, now)
	return l.flush(ctx, m)
}

// SettleLatch distinguishes a day's limit from a minute's, after a 45009 latched today's counter of a match: by
// WeChat's quota/get, asked at began, the day is used up or not. A used day closes the counter to its
// end. Else the latch was a minute's, and the next one lasts no longer. Nothing happens when the counter
// was cleared since.
func (l *Limiter) SettleLatch(ctx context.Context, app string, match Match, began time.Time, usedUp bool) error {
	now := l.now()
	m := l.meterOf(app, &match)
	var event Event
	if c := m.find(m.name, l.calendar(now).of[Day].Name); c != nil && c.latch.Until > 0 && c.latch.Until < c.end && !c.tooRecent(l.link.at(began)) {
		if usedUp && c.latched(now.store) {
			event = m.setLatch(c, c.end, true, now)
		} else if !usedUp {
			c.latch.At, c.urgent = c.latch.Until, true
		}
	}
	l.unlock(m, now)
	if event.App != "" {
		l.observe(event)
	}
	return l.flush(ctx, m)
}

// today returns the day's counter of a match.
func (m *meter) today(match Match, cal *calendar) *counter {
	c := m.find(m.name, cal.of[Day].Name)
	if c != nil {
		return c
	}
	c = m.counter(m.name, &cal.of[Day])
	c.limit = noLimit
	for _, q := range match.Rule.Budget.Quotas {
		if q.Period == Day {
			c.limit = q.Limit
		}
	}
	return c
}
