package limits

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// settle has a meter's unsaid figures stated after a while, by the settler. One statement a second
// is enough.
func (l *Limiter) settle(m *meter, after time.Duration) {
	l.mu.Lock()
	sooner := l.due.add(m, l.now().Add(after))
	l.mu.Unlock()
	if sooner {
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
	for _, m := range l.all() {
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
		l.mu.Lock()
		meters, next := l.due.ripe(l.now())
		l.mu.Unlock()
		if l.stateAll(context.Background(), meters, false) != nil {
			next = min(next, probeEvery)
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

// stateAll says what meters hold, several at a time. Once the store is seen to be away the rest come
// later: they would only wait for it. It returns the first error.
func (l *Limiter) stateAll(ctx context.Context, meters []*meter, all bool) error {
	var away atomic.Bool
	var statements errgroup.Group
	statements.SetLimit(statementsAtOnce)
	for _, m := range meters {
		statements.Go(func() error {
			if away.Load() {
				l.settle(m, probeEvery)
				return nil
			}
			err := l.state(ctx, m, all)
			if err != nil {
				away.Store(true)
				l.settle(m, probeEvery)
			}
			return err
		})
	}
	return statements.Wait()
}

// statementsAtOnce is of the settler. They go to Redis together.
const statementsAtOnce = 16

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
	l.mu.Unlock()
	close(l.stop)
	l.flights.Wait()
	l.breaker.reset()
	meters := l.all()
	err := l.stateAll(ctx, meters, true)
	if err == nil {
		return nil
	}
	unsaid := 0
	for _, m := range meters {
		m.mu.Lock()
		if len(m.dirty(l.now())) > 0 {
			unsaid++
		}
		m.mu.Unlock()
	}
	return fmt.Errorf("stating the counts of %d rules: %w", unsaid, err)
}
