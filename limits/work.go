package limits

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// ask has the store decide a call, alone or together with others. m.mu is held, and is not on
// return. A call for whose meter no goroutine works makes its own round trip, without a hand-off.
func (l *Limiter) ask(ctx context.Context, m *meter, g *group, d *Decision, hold *Hold) {
	if !m.running {
		m.running = true
		m.mu.Unlock()
		b := &batch{group: g, calls: 1}
		l.decide(ctx, m, b)
		l.handOn(m)
		l.outcome(b, 0, d, hold)
		return
	}
	b, place := m.join(g)
	m.mu.Unlock()
	timer := time.NewTimer(l.patience)
	defer timer.Stop()
	for {
		select {
		case <-b.done:
			l.outcome(b, place, d, hold)
			return
		case <-timer.C:
		}
		m.mu.Lock()
		if m.seeding { // WeChat is asked something first
			m.mu.Unlock()
			timer.Reset(seedTimeout)
			continue
		}
		decided := b.decided
		if !decided {
			b.left = append(b.left, place)
		}
		m.mu.Unlock()
		if decided {
			l.outcome(b, place, d, hold)
		} else {
			d.unavailable(m)
		}
		return
	}
}

// outcome returns what became of the call at a place of a batch.
func (l *Limiter) outcome(b *batch, place int64, d *Decision, hold *Hold) {
	if place >= b.granted {
		*d = b.refusal
		return
	}
	after := b.granted - 1 - place
	*d, *hold = b.pass, b.hold
	d.Used -= after
	d.Remaining += after
	hold.limiter = l
}

// handOn has a goroutine do what has gathered while a call made its round trip.
func (l *Limiter) handOn(m *meter) {
	m.mu.Lock()
	m.running = m.report != nil || len(m.pending) > 0
	more := m.running
	m.mu.Unlock()
	if more {
		l.work.Go(func() { l.drive(m) })
	}
}

// drive does the meter's work until there is none. The caller has set m.running.
func (l *Limiter) drive(m *meter) {
	for {
		m.mu.Lock()
		switch {
		case m.report != nil:
			r := m.report
			m.report = nil
			m.mu.Unlock()
			r.err = l.sendReport(m)
			close(r.done)
		case len(m.pending) > 0:
			b := m.pending[0]
			m.pending = append(m.pending[:0], m.pending[1:]...)
			m.mu.Unlock()
			l.decide(context.Background(), m, b)
			close(b.done)
		default:
			m.running = false
			drop := m.droppable()
			m.mu.Unlock()
			if drop {
				l.drop(m)
			}
			return
		}
	}
}

// decide has the store decide a batch.
func (l *Limiter) decide(ctx context.Context, m *meter, b *batch) {
	ctx = context.WithoutCancel(ctx) // what is granted is counted, whether its caller waits or not
	if l.seed(ctx, m, b.group) != nil {
		m.mu.Lock()
		m.abandon(b)
		m.mu.Unlock()
		return
	}
	ctx, cancel := context.WithTimeout(ctx, l.exchangeTime())
	defer cancel()
	for range maxAsks {
		now := l.now()
		m.mu.Lock()
		r := m.requestFor(b, l.calendar(now), now, l.blocks(now))
		l.unlock(m, now)
		if r == nil {
			return
		}
		a, err := l.exchange(ctx, m, r)
		after := l.now()
		m.mu.Lock()
		again := m.answer(b, r, a, err, now, after)
		l.unlock(m, after)
		if !again {
			return
		}
	}
	now := l.now()
	m.mu.Lock()
	m.abandon(b)
	l.unlock(m, now)
}

// sendReport reports what a meter has, in one request for all its counters and windows, once it has
// given back the blocks that are idle. The caller has set m.running.
func (l *Limiter) sendReport(m *meter) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.exchangeTime())
	defer cancel()
	m.mu.Lock()
	for range maxAsks { // again in a newer generation
		sent := l.now()
		m.scheduled, m.reported = 0, sent.since
		m.releaseIdle(sent, l.closed.Load())
		counters := m.reportable(sent)
		if len(counters) == 0 {
			break
		}
		r := m.request(counters, 0, 0, nil)
		m.mu.Unlock()
		var a *Answer
		a, err = l.exchange(ctx, m, r)
		m.mu.Lock()
		if !m.confirm(counters, r, a, err, sent, l.now()) {
			break
		}
	}
	l.unlock(m, l.now())
	return err
}

// report is a report that a meter is to make. err is written before done is closed.
type report struct {
	done chan struct{}
	err  error
}

// reportNow has a meter report, and waits for that.
func (l *Limiter) reportNow(ctx context.Context, m *meter) error {
	m.mu.Lock()
	if m.gone {
		m.mu.Unlock()
		return nil
	}
	if m.report == nil {
		m.report = &report{done: make(chan struct{})}
	}
	r, idle := m.report, !m.running
	m.running = true
	m.mu.Unlock()
	if idle {
		l.drive(m)
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reportAll has meters report, many at a time, and returns the first error. After one the rest come
// later: they would only wait for the store.
func (l *Limiter) reportAll(ctx context.Context, meters []*meter) error {
	var reports errgroup.Group
	reports.SetLimit(reportsAtOnce)
	for _, m := range meters {
		reports.Go(func() error { return l.reportNow(ctx, m) })
	}
	return reports.Wait()
}

// flush waits until the store has confirmed what a meter has.
func (l *Limiter) flush(ctx context.Context, m *meter) error {
	for {
		if err := l.reportNow(ctx, m); err != nil {
			return err
		}
		m.mu.Lock()
		confirmed := m.gone || len(m.reportable(l.now())) == 0
		m.mu.Unlock()
		if confirmed {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}
