package limits

import (
	"cmp"
	"context"
	"time"
)

// exchange makes one request to the store for a meter. When the store has lost what it had confirmed,
// or is back after an outage, all meters report again what they have.
func (l *Limiter) exchange(ctx context.Context, m *meter, r *Request) (*Answer, error) {
	a, back, err := l.link.exchange(ctx, r)
	if back {
		l.restate(l.now())
	}
	if err != nil {
		return nil, err
	}
	if a.Lost {
		l.lostWrites(r)
	}
	if a.Damaged > 0 && a.Damaged <= len(r.Counters) {
		l.observe(Event{Kind: Damaged, Err: &DamagedError{Key: cmp.Or(a.Key, m.account.appid), Field: r.Counters[a.Damaged-1].Name}})
	}
	return a, nil
}

// exchangeTime is how long one batch or report may take: most of a call's patience, so that a call
// that had to wait for its turn still has one.
func (l *Limiter) exchangeTime() time.Duration { return l.patience * 4 / 5 }

// lostWrites has all meters report again what they have: the store has lost some of it. A report that
// only repeats what may be lost shows nothing new.
func (l *Limiter) lostWrites(r *Request) {
	now := l.now()
	if first, restate := l.reporter.lost(now.at, r.restates); first || restate {
		if first {
			l.observe(Event{Kind: StoreLost})
		}
		if restate {
			l.restate(now)
		}
	}
}

// restate has all meters report again what they have.
func (l *Limiter) restate(now moment) {
	for _, m := range l.registry.all() {
		m.mu.Lock()
		m.restateAll()
		l.unlock(m, now)
	}
}
