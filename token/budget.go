package token

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"
)

// Upstream fetches of a minute and a fleet: of one app, and in total, because a client that may be learned from
// can show any number of appids. Sixty fill a fleet of sixty learned apps in its first minute.
const (
	maxFetchesOfApp = 10
	maxFetches      = 60
	fetchWindow     = time.Minute

	fetchesKey = "fetches" // of LearnedApp: []spent of the last minute
)

// budget bounds the fetches for apps that are not configured: those of the fleet while the store answers,
// those of this gateway otherwise.
type budget struct {
	store Store // may be nil
	now   func() time.Time
	slot  chan struct{} // held while spending from the fleet's budget; covers last
	last  []byte        // what the store had

	mu   sync.Mutex // covers what follows
	past []spent    // while the store does not answer
	full time.Time  // until then nothing is left, for any app
}

// spentAll reports whether it is known that nothing is left, for any app.
func (b *budget) spentAll() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now().Before(b.full)
}

// spent is one upstream fetch.
type spent struct {
	App string `json:"app"`
	At  int64  `json:"ms"`
}

// spend adds one upstream fetch of an app, unless there have been too many within a minute.
func (b *budget) spend(ctx context.Context, appid string, alone bool) (ok bool) {
	if !alone {
		select {
		case b.slot <- struct{}{}:
			defer func() { <-b.slot }()
		case <-ctx.Done():
			return false
		}
		// An old list refuses rightly: what is in it stays in every later one for as long as it counts.
		err := b.store.Update(ctx, LearnedApp, fetchesKey, b.last, func(present []byte) ([]byte, time.Duration, error) {
			var past []spent
			past, ok = spendOne(parse[[]spent](present), appid, b.now())
			if b.last = present; !ok {
				b.note(past)
				return nil, 0, nil
			}
			next, err := json.Marshal(past)
			b.last = next
			return next, fetchWindow, err
		})
		if err == nil {
			return ok
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.past, ok = spendOne(b.past, appid, b.now())
	return ok
}

// note notes until when nothing is left of a minute with these fetches.
func (b *budget) note(past []spent) {
	if len(past) >= maxFetches {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.full = time.UnixMilli(past[0].At).Add(fetchWindow)
	}
}

// spendOne adds a fetch to those of the last minute, if there is room for it. A time further ahead
// than the window comes from a clock that is wrong.
func spendOne(past []spent, appid string, now time.Time) (left []spent, ok bool) {
	from, to := now.Add(-fetchWindow).UnixMilli(), now.Add(fetchWindow).UnixMilli()
	past = slices.DeleteFunc(past, func(s spent) bool { return s.At <= from || s.At > to })
	ofApp := 0
	for _, s := range past {
		if s.App == appid {
			ofApp++
		}
	}
	if ofApp >= maxFetchesOfApp || len(past) >= maxFetches {
		return past, false
	}
	return append(past, spent{App: appid, At: now.UnixMilli()}), true
}
