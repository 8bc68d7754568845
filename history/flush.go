package history

import (
	"context"
	"slices"
	"time"
)

// writePatience bounds one write. Nothing waits for it but the next one.
const writePatience = 2 * time.Second

// Run writes what is counted, and rolls up days that are over, until ctx is done. Close writes the last.
func (r *Recorder) Run(ctx context.Context) {
	flush := time.NewTicker(r.o.Every)
	defer flush.Stop()
	review := time.NewTicker(max(r.o.Every/10, time.Millisecond))
	defer review.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-flush.C:
			_ = r.Flush(ctx) // observed
		case <-review.C:
			r.review(ctx)
		}
	}
}

// Close writes what is left. Nothing may be added after it.
func (r *Recorder) Close(ctx context.Context) error { return r.Flush(ctx) }

// batch is how many accounts one request writes.
const batch = 100

// pendingWrite is a write of one account.
type pendingWrite struct {
	of      *account
	parts   Parts
	taken   Parts // the same, with what is not written because it is too late
	changed int64
}

// Flush writes the parts of all accounts that changed. After an error the rest is written with the next flush.
func (r *Recorder) Flush(ctx context.Context) error {
	r.flushing.Lock()
	defer r.flushing.Unlock()
	now := r.o.Now()
	r.mu.RLock()
	accounts := make([]*account, 0, len(r.accounts))
	for _, a := range r.accounts {
		accounts = append(accounts, a)
	}
	r.mu.RUnlock()

	var err error
	for some := range slices.Chunk(accounts, batch) {
		var writes []pendingWrite
		for _, a := range some {
			if w, ok := r.pending(a, now); ok {
				writes = append(writes, w)
			}
		}
		if err = r.write(ctx, writes); err != nil {
			break // the next would wait as long
		}
		r.dropIdle(some, now)
	}
	if (err != nil) != r.failed {
		r.failed = err != nil
		r.o.Observe(err)
	}
	return err
}

// pending returns what is to be written of an account.
func (r *Recorder) pending(a *account, now time.Time) (pendingWrite, bool) {
	r.mu.RLock() // for each account, so that calls of others do not wait
	parts, changed, ok := a.pending()
	r.mu.RUnlock()
	if !ok {
		return pendingWrite{}, false
	}
	zone := r.zone.Load()
	today := dayOf(now.In(zone))
	last := dayOf(dayStart(now.In(zone), -rollDays))
	taken := parts
	parts.Hours = slices.DeleteFunc(slices.Clone(parts.Hours), func(p DayPart) bool { return p.Day < last }) // too late for its day
	for i := range parts.Hours {
		p := &parts.Hours[i]
		p.Sums = r.small.compress(p.Sums)
		if p.Day < today {
			p.Over = true
			r.reviews.again(a.app)
		}
	}
	return pendingWrite{a, parts, taken, changed}, true
}

func (r *Recorder) write(ctx context.Context, writes []pendingWrite) error {
	if len(writes) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writePatience)
	defer cancel()
	parts := make([]Parts, len(writes))
	for i, w := range writes {
		parts[i] = w.parts
	}
	if err := r.o.Store.Write(ctx, parts); err != nil {
		return err
	}
	for _, w := range writes {
		w.of.done(w.taken, w.changed)
	}
	return nil
}

// dropIdle removes accounts that were not called for long.
func (r *Recorder) dropIdle(accounts []*account, now time.Time) {
	idle := slices.DeleteFunc(slices.Clone(accounts), func(a *account) bool { return !a.idle(now.Unix()) })
	if len(idle) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range idle {
		if r.accounts[a.app] == a && a.idle(now.Unix()) { // no call of it is under way: Add holds r.mu
			delete(r.accounts, a.app)
		}
	}
}
