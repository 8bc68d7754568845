package limits

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// settle has a meter's unsaid figures stated after a while, by the settler. One statement a second
// is enough.
func (l *Limiter) settle(m *meter, after time.Duration) {
	at := l.now().Add(after)
	l.mu.Lock()
	times := l.due[m]
	soon := slices.ContainsFunc(times, func(t time.Time) bool { return !t.After(at) && t.After(at.Add(-quietLife)) })
	if !soon {
		l.due[m] = append(times, at)
	}
	l.mu.Unlock()
	if !soon {
		l.wakeSettler()
	}
}

func (l *Limiter) wakeSettler() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// restate has everything stated again that this gateway holds: the store has lost writes.
func (l *Limiter) restate() {
	l.mu.Lock()
	meters := make([]*meter, 0, len(l.meters))
	for _, m := range l.meters {
		meters = append(meters, m)
	}
	l.mu.Unlock()
	for _, m := range meters {
		m.mu.Lock()
		some := false
		for _, c := range m.counters {
			if c.version > 0 {
				c.dirty, some = true, true
			}
		}
		m.mu.Unlock()
		if some {
			l.settle(m, 0)
		}
	}
}

// settler states what is due until Close.
func (l *Limiter) settler() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-l.wake:
		case <-timer.C:
		}
		meters, next := l.ripe(l.now())
		for i, m := range meters {
			if err := l.state(context.Background(), m, false); err != nil { // the store is away: the rest would only wait for it
				for _, m := range meters[i:] {
					l.settle(m, probeEvery)
				}
				next = min(next, probeEvery)
				break
			}
		}
		if l.clearsPending() {
			l.tellClears()
			next = min(next, clearAgain)
		}
		if l.breaker.away() { // with nothing to state, an empty statement asks whether the store is back
			ctx, cancel := context.WithTimeout(context.Background(), l.flightBudget())
			_, _ = l.exchange(ctx, &Request{})
			cancel()
			next = min(next, probeEvery)
		}
		timer.Reset(next)
	}
}

// ripe takes the meters whose time has come, and tells how long until the next one's.
func (l *Limiter) ripe(now time.Time) ([]*meter, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var meters []*meter
	next := time.Hour
	for m, times := range l.due {
		later := times[:0]
		for _, t := range times {
			if t.After(now) {
				later = append(later, t)
				next = min(next, t.Sub(now))
			}
		}
		if len(later) < len(times) {
			meters = append(meters, m)
		}
		if len(later) == 0 {
			delete(l.due, m)
		} else {
			l.due[m] = later
		}
	}
	return meters, next
}

// state says what a meter holds, in one request for all its counters and windows, once it has given
// back the blocks that are idle, or all. While a flight is under way it comes later: requests for
// one counter must not overlap.
func (l *Limiter) state(ctx context.Context, m *meter, all bool) error {
	m.mu.Lock()
	if m.gone {
		m.mu.Unlock()
		return nil
	}
	if m.flying {
		m.mu.Unlock()
		l.settle(m, 20*time.Millisecond)
		return nil
	}
	m.flying = true
	idle := m.voidIdle(l.now(), all)
	ctx, cancel := context.WithTimeout(ctx, l.flightBudget())
	defer cancel()
	var err error
	for range maxAsks { // again when a newer generation was heard
		counters := m.dirty(l.now())
		if len(counters) == 0 {
			break
		}
		r := m.request(counters, 0, 0)
		m.mu.Unlock()
		var a *Answer
		a, err = l.exchange(ctx, r)
		m.mu.Lock()
		if err != nil {
			if !errors.Is(err, errNotAsked) {
				for _, c := range counters {
					c.lost(l.now())
				}
			}
			break
		}
		for _, c := range counters {
			if !l.now().Before(c.later) {
				c.later = time.Time{}
			}
		}
		m.hear(counters, r, a)
		if a.Status != Again {
			break
		}
	}
	if err != nil {
		defer l.settle(m, lateLife)
	}
	if err == nil && len(m.dirty(l.now())) > 0 {
		idle = quietLife
	}
	m.land()
	m.mu.Unlock()
	if err == nil && idle > 0 {
		l.settle(m, idle)
	}
	return err
}

// Close states what is unsaid and ends. No call may be taken any more.
func (l *Limiter) Close(ctx context.Context) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	meters := make([]*meter, 0, len(l.meters))
	for _, m := range l.meters {
		meters = append(meters, m)
	}
	l.mu.Unlock()
	close(l.stop)
	l.flights.Wait()
	l.breaker.reset()
	for i, m := range meters {
		if err := l.state(ctx, m, true); err != nil { // the store is away: the rest would only wait for it
			return fmt.Errorf("stating the counts of %d rules: %w", len(meters)-i, err)
		}
	}
	return nil
}
