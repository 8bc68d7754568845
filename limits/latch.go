package limits

import (
	"context"
	"time"
)

// Times of a latch.
const (
	youngLife  = 10 * time.Minute // WeChat's midnight is not ours to the second, and its reset hour is unpublished
	youngLatch = time.Minute      // so a 45009 this soon after one closes the rule for no longer
	probeGap   = 5 * time.Minute  // one call in all the fleet goes through: a clear in WeChat's console is invisible
	probeRetry = 30 * time.Second // how soon a gateway looks again whether it is its turn
)

const errcodeQuota = 45009

// latch closes the counter of a call that WeChat itself has answered with 45009, for the window and
// the generation that the call was counted in: a late 45009 after midnight or after a clear harms
// nobody. It is a time beside the count, which goes on saying what was sent. m.mu is held.
func (l *Limiter) latch(m *meter, d *Decision) (latched bool) {
	c := d.held[0]
	if c.generation != d.generation {
		return false
	}
	now := l.storeNow()
	day := l.calendar().of[Day]
	if c.window.Period == Day && c.window.Name != day.Name {
		return false
	}
	until := day.End
	if now.Sub(day.Start) < youngLife || now.Sub(time.UnixMilli(c.generation)) < youngLife {
		until = now.Add(youngLatch)
	}
	if ms := until.UnixMilli(); ms > c.latch {
		c.latch, c.dirty = ms, true
	}
	for _, s := range m.sets {
		m.void(s)
	}
	m.latch, m.nextProbe = max(m.latch, c.latch), l.now().Add(probeGap)
	return true
}

// heedLatches works out until when the meter is latched. m.mu is held.
func (m *meter) heedLatches() {
	m.latch = 0
	for _, c := range m.counters {
		if c.name == m.name {
			m.latch = max(m.latch, c.latch)
		}
	}
}

// latchedBy returns the counter that WeChat has said no to, or nil. m.mu is held.
func (m *meter) latchedBy(storeNow time.Time) *counter {
	if m.latch == 0 || storeNow.UnixMilli() >= m.latch {
		return nil
	}
	for _, c := range m.counters {
		if c.name == m.name && c.latch == m.latch {
			return c
		}
	}
	return nil
}

// probe lets a call that a latch refuses through after all, if it is the fleet's turn.
func (l *Limiter) probe(ctx context.Context, call Call, d *Decision) {
	m := l.lock(call.App, call.Match)
	now := l.now()
	due := !now.Before(m.nextProbe)
	if due {
		m.nextProbe = now.Add(probeRetry)
	}
	m.mu.Unlock()
	if !due {
		return
	}
	if mine, err := l.counters.Probe(context.WithoutCancel(ctx), call.App, m.name, probeGap); err != nil || !mine {
		return
	}
	l.count(call, d, true)
	d.probe, d.RetryAfter = true, 0
}

// lift opens a latched counter again after a probe that WeChat did not answer with 45009: a new
// generation that begins with the count of the old one. m.mu is held.
func (l *Limiter) lift(m *meter, d *Decision) {
	for _, c := range d.held {
		if c.generation != d.generation || c.latch == 0 {
			continue
		}
		used := c.known()
		c.adopt(max(d.Counted, c.generation+1))
		c.raise = used
	}
	m.voidCleared()
	m.heedLatches()
}
