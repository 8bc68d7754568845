package limits

import (
	"errors"
	"sync"
	"time"
)

// Times of an outage.
const (
	openAfter = 5           // failed requests within a second open the breaker,
	openTime  = time.Second // and so does a second in which none succeeds
	holdTime  = time.Second // after an outage the counts are reported first, and nothing is taken
)

// breaker keeps calls from waiting for a store that does not answer.
type breaker struct {
	mu      sync.Mutex
	open    bool
	errors  int       // since second
	second  time.Time // begins with a failed request
	failing time.Time // when the first request failed after the last success; zero: none did
	batch   int64     // the last batch that failed
	hold    time.Time // nothing is taken before
}

// allows reports whether a request may be sent. While the breaker is open only heartbeats are: a
// store that comes back gets the reports first, and demands after the hold.
func (b *breaker) allows(takes bool, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.open && (!takes || !now.Before(b.hold))
}

// isOpen reports whether the store is known to be unavailable. A request that was lost now and then is
// no outage, and within the hold after one other gateways may not have reported yet what they sent.
func (b *breaker) isOpen() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}

// reset has the next request sent whatever is known of the store: it is the last chance to report.
func (b *breaker) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open, b.errors, b.failing = false, 0, time.Time{}
}

// result takes in how a request ended, and reports whether that was the end of an outage.
func (b *breaker) result(err error, now time.Time) (back bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		back = b.open
		if back {
			b.hold = now.Add(holdTime)
		}
		b.open, b.errors, b.failing = false, 0, time.Time{}
		return back
	}
	if failed, ok := errors.AsType[*batchError](err); ok {
		if failed.batch == b.batch {
			return false // another command of the same batch
		}
		b.batch = failed.batch
	}
	if b.failing.IsZero() {
		b.failing = now
	}
	if now.Sub(b.second) > time.Second {
		b.second, b.errors = now, 0
	}
	b.errors++
	b.open = b.open || b.errors >= openAfter || now.Sub(b.failing) >= openTime
	return false
}
