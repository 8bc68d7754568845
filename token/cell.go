package token

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// cell is one value of an app that the gateways of a fleet share: its access_token, the token of a learned
// app, a ticket. However many goroutines of however many gateways want it, one of them fetches it:
//
//	flight      one for each cell and process: all callers of the process wait for the same one
//	 read       the store may have a valid value
//	 lease      one process at a time goes on; the others poll the store
//	 read       another process may have written between the two
//	 fetch
//	 write      by compare-and-set; where another process has written too, the better value is kept
//	 release
//
// While the store does not answer, each process fetches for itself.
type cell[T value[T]] struct {
	*fleet
	app, key string // of the value in the store, and of the lease
	holder   string // of the lease. Not the flight's: one whose answer was lost would keep the next one waiting

	mu     sync.Mutex // covers what follows
	flight *flight[T]
	known  T // the best value that this process knows
}

// value is what a cell holds. In the store it is JSON; text there that is none is the zero value.
type value[T any] interface {
	// merge returns what is to be kept of two values, in whichever order they are given.
	merge(other T, now time.Time) T

	// keep is how long the store has to keep it: more than 0.
	keep(now time.Time) time.Duration
}

// flight is one renewal that all callers of this process wait for.
type flight[T any] struct {
	done  chan struct{} // closed when what follows is set
	value T
	err   error
}

// fetcher returns the value to follow old, which it may return as it is. An error leaves what was known,
// and what was noted.
type fetcher[T value[T]] func(ctx context.Context, old T, l *lead[T]) (T, error)

// lead is what a fetcher may know of its place among the gateways.
type lead[T value[T]] struct {
	cell  *cell[T]
	raw   []byte // what the store has
	alone bool   // the store does not answer, or there is none
}

// fleet is what all cells of one owner have in common.
type fleet struct {
	store    Store // nil: this process is on its own
	now      func() time.Time
	down     func(app string, err error) // the store has failed
	patience time.Duration               // of a flight, waiting for other processes included
	lease    time.Duration               // a process that dies with a lease keeps the others waiting for so long

	mu      sync.Mutex // covers what follows
	closed  bool
	cancels map[*context.CancelFunc]bool // of the flights
	wg      sync.WaitGroup               // of the flights; nothing is added once closed is set
}

// pollEvery is how often those without the lease look into the store, or up to twice as seldom.
const pollEvery = 25 * time.Millisecond

// errTaken means that another process has the lease, or had the time to take it and to change the value.
var errTaken = errors.New("another gateway is renewing the token")

// close ends the flights and waits for them. No other begins.
func (f *fleet) close() {
	f.mu.Lock()
	f.closed = true
	for cancel := range f.cancels {
		(*cancel)()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

// begin runs fly in a goroutine of its own, unless the fleet is closed. The context lasts longer than the
// caller's, for others may wait.
func (f *fleet) begin(ctx context.Context, fly func(context.Context)) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.patience)
	if f.cancels == nil {
		f.cancels = map[*context.CancelFunc]bool{}
	}
	f.cancels[&cancel] = true
	f.wg.Go(func() {
		fly(ctx)
		cancel()
		f.mu.Lock()
		delete(f.cancels, &cancel)
		f.mu.Unlock()
	})
	return true
}

// join returns the flight that is under way, or starts one that runs renew, which ends in [cell.renew].
func (c *cell[T]) join(ctx context.Context, renew func(context.Context) (T, error)) *flight[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.joinLocked(ctx, renew)
}

func (c *cell[T]) joinLocked(ctx context.Context, renew func(context.Context) (T, error)) *flight[T] {
	if c.flight != nil {
		return c.flight
	}
	f := &flight[T]{done: make(chan struct{})}
	if !c.begin(ctx, func(ctx context.Context) {
		f.value, f.err = renew(ctx)
		c.mu.Lock()
		c.flight = nil
		c.mu.Unlock()
		close(f.done)
	}) {
		f.value, f.err = c.known, fmt.Errorf("token of %s: %w", c.app, ErrClosed)
		close(f.done)
		return f
	}
	c.flight = f
	return f
}

// wait returns nil when the flight is over, or why the caller goes away before.
func (f *flight[T]) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// value returns the best value that this process knows.
func (c *cell[T]) value() T {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known
}

// learn adds to what this process knows, and returns that.
func (c *cell[T]) learn(v T) T {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = c.known.merge(v, c.now())
	return c.known
}

// renew finds a valid value, or has it fetched. A cell has one renewal at a time.
func (c *cell[T]) renew(ctx context.Context, valid func(T) bool, fetch fetcher[T]) (T, error) {
	if c.store == nil {
		return c.alone(ctx, valid, fetch)
	}
	for {
		v, err := c.together(ctx, valid, fetch)
		switch down, failed := errors.AsType[storeError](err); {
		case failed && ctx.Err() == nil:
			c.down(c.app, down.error)
			return c.alone(ctx, valid, fetch)
		case !failed && !errors.Is(err, errTaken):
			return v, err
		}
		select {
		case <-time.After(pollEvery + rand.N(pollEvery)): //nolint:gosec // spreads the reads, hides nothing
		case <-ctx.Done():
			return c.value(), fmt.Errorf("token of %s: %w: waiting for the store: %w", c.app, ErrUnavailable, ctx.Err())
		}
	}
}

// alone does without the store.
func (c *cell[T]) alone(ctx context.Context, valid func(T) bool, fetch fetcher[T]) (T, error) {
	if v := c.value(); valid(v) {
		return v, nil
	}
	v, err := fetch(ctx, c.value(), &lead[T]{cell: c, alone: true})
	if err != nil {
		return c.value(), err
	}
	return c.learn(v), nil
}

// together makes one attempt with the fleet. Its error is errTaken if another process is at it, or a
// storeError.
func (c *cell[T]) together(ctx context.Context, valid func(T) bool, fetch fetcher[T]) (T, error) {
	v, raw, err := c.read(ctx)
	if err != nil || valid(v) {
		return c.write(ctx, raw, v, err)
	}
	if err := c.take(ctx); err != nil {
		return v, err
	}
	defer c.release(ctx)
	v, raw, err = c.read(ctx)
	if err != nil || valid(v) {
		return c.write(ctx, raw, v, err)
	}
	l := &lead[T]{cell: c, raw: raw}
	v, err = fetch(ctx, v, l)
	return c.write(ctx, l.raw, v, err)
}

// storeError is an error of the store.
type storeError struct{ error }

// read returns what the store and this process know together, and what the store has.
func (c *cell[T]) read(ctx context.Context) (v T, raw []byte, err error) {
	raw, err = c.store.Get(ctx, c.app, c.key)
	if err != nil {
		return v, nil, storeError{err}
	}
	return c.learn(parse[T](raw)), raw, nil
}

// write gives a value to this process and, if it is not raw, to the store, unless there is an error. It is
// not given up when the flight is: what was fetched should not be lost.
func (c *cell[T]) write(ctx context.Context, raw []byte, v T, err error) (T, error) {
	if err != nil {
		return c.value(), err
	}
	v = c.learn(v)
	if err := c.store.Update(context.WithoutCancel(ctx), c.app, c.key, raw, func(present []byte) ([]byte, time.Duration, error) {
		v = c.learn(parse[T](present))
		return encode(v, c.now())
	}); err != nil {
		c.down(c.app, err)
	}
	return v, nil
}

// note writes v down before the request that it is about, and takes the lease anew, which has to last for
// that request. Its error is errTaken; if the store fails now the request may be made all the same.
func (l *lead[T]) note(ctx context.Context, v T) error {
	c := l.cell
	if l.alone {
		c.learn(v)
		return nil
	}
	err := errTaken
	if failed := c.store.Update(context.WithoutCancel(ctx), c.app, c.key, l.raw, func(present []byte) ([]byte, time.Duration, error) {
		if err = errTaken; string(present) != string(l.raw) {
			return nil, 0, nil
		}
		text, keep, failed := encode(v, c.now())
		l.raw, err = text, nil
		return text, keep, failed
	}); failed != nil {
		err = storeError{failed}
	}
	if err == nil {
		c.learn(v)
		err = c.take(ctx)
	}
	if down, failed := errors.AsType[storeError](err); failed {
		c.learn(v)
		c.down(c.app, down.error)
		return nil
	}
	return err
}

// take takes the lease, or takes it anew.
func (c *cell[T]) take(ctx context.Context) error {
	held, err := c.store.Lease(ctx, c.app, c.key, c.holder, c.lease)
	switch {
	case err != nil:
		return storeError{err}
	case !held:
		return errTaken
	}
	return nil
}

// release leaves the lease to itself if the store does not answer: it runs out.
func (c *cell[T]) release(ctx context.Context) {
	_ = c.store.Release(context.WithoutCancel(ctx), c.app, c.key, c.holder)
}

// encode is what the store is to have, and for how long.
func encode[T value[T]](v T, now time.Time) ([]byte, time.Duration, error) {
	text, err := json.Marshal(v)
	return text, v.keep(now), err
}

// parse reads what the store has. What is no T is none.
func parse[T any](raw []byte) T {
	var v T
	if json.Unmarshal(raw, &v) != nil {
		var none T
		return none
	}
	return v
}
