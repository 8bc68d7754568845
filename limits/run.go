package limits

import (
	"context"
	"time"
)

// runReports reports what is due, until Close.
func (l *Limiter) runReports() {
	tick := time.NewTicker(reportTick)
	defer tick.Stop()
	trimmed := l.link.clock()
	for {
		select {
		case <-l.stop:
			return
		case <-l.reporter.wake:
		case <-tick.C:
		}
		now := l.now()
		if now.at.Sub(trimmed) >= trimInterval {
			trimmed = now.at
			l.trim(now)
		}
		if l.link.breaker.isOpen() {
			continue
		}
		l.reportClears()
		if l.reporter.restateAgain(now.at) {
			l.restate(now)
		}
		_ = l.reportAll(context.Background(), l.reporter.take(now.since)) // observed by the link
	}
}

// trim lets go of what meters that are not called do not need, and of meters that mean nothing any
// more.
func (l *Limiter) trim(now moment) {
	cal := l.calendar(now)
	for _, m := range l.registry.all() {
		m.mu.Lock()
		m.trim(now, cal)
		drop := m.droppable()
		m.mu.Unlock()
		if drop {
			l.drop(m)
		}
	}
}

// runHeartbeat asks for the store's state where requests do not show it, until Close.
func (l *Limiter) runHeartbeat() {
	var f fleet
	var registered time.Time
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		now := l.link.clock()
		idle := now.Sub(l.link.start)-time.Duration(l.link.answered.Load()) >= heartbeatInterval
		if idle || l.link.failure.Load() != nil || now.Sub(registered) >= registerInterval {
			registered = now
			if l.link.heartbeat(&f) {
				l.restate(l.now())
			}
		}
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
	}
}
