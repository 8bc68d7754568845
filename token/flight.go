package token

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// flight is one renewal that everybody in this process waits for.
type flight struct {
	dead   string // the token that WeChat refused, or "" if the last one ends or there is none
	cancel context.CancelFunc

	done  chan struct{} // closed when what follows is set
	token string
	err   error
}

// pause is what a flight without success leaves to those who come after it.
type pause struct {
	until time.Time
	err   error  // what they get at once; nil if the token they have will do for now
	still string // if not "", only those who say that this token is dead get err

	// look is when a flight may look into the store nonetheless, for what others have got.
	look time.Time
}

// await returns the token of the flight that is under way, or of one that it starts. A caller
// that goes away leaves the flight to the others.
func (s *Source) await(ctx context.Context, a *app, dead string) (string, error) {
	for {
		f, err := s.join(ctx, a, dead)
		if err != nil {
			return "", err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return "", fmt.Errorf("token of %s: %w", a.AppID, context.Cause(ctx))
		}
		if f.err == nil && f.token != dead {
			return f.token, nil
		}
		if l := a.live.Load(); l != nil && l.token != dead && s.now().Before(l.ends) {
			return l.token, nil // the flight failed to replace what is good enough here
		}
		if f.err != nil {
			return "", f.err
		}
		// It began before anybody knew that the token is dead, and brought it once more.
	}
}

// join returns the app's flight, or the error that a recent one left.
func (s *Source) join(ctx context.Context, a *app, dead string) (*flight, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.flight != nil {
		return a.flight, nil
	}
	if s.closed {
		return nil, fmt.Errorf("token of %s: %w", a.AppID, ErrClosed)
	}
	now, p := s.now(), a.pause
	if p.err != nil && now.Before(p.until) && (p.still == "" || p.still == dead) {
		if !now.Before(p.look) {
			s.launch(ctx, a, dead)
		}
		return nil, p.err
	}
	return s.launch(ctx, a, dead), nil
}

func (s *Source) renewInBackground(ctx context.Context, a *app) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := a.pause; a.flight == nil && !s.closed && (!s.now().Before(p.until) || p.still != "") {
		s.launch(ctx, a, "")
	}
}

// launch starts a flight. The caller holds mu and has seen that there is none, and no end.
func (s *Source) launch(ctx context.Context, a *app, dead string) *flight {
	f := &flight{dead: dead, done: make(chan struct{})}
	ctx, f.cancel = context.WithTimeout(context.WithoutCancel(ctx), flightTimeout)
	a.flight = f
	s.flights[f] = struct{}{}
	s.wg.Go(func() {
		defer f.cancel()
		had := a.live.Load()
		l, err := s.renew(ctx, a, f)
		if err == nil && l.token == dead {
			err = s.stillDead(a)
		}
		s.land(a, f, had, l, err)
	})
	return f
}

// land lets everybody go on who waited for the flight, with l or err, or both if l is the best
// there is. had is the token from before.
func (s *Source) land(a *app, f *flight, had, l *live, err error) {
	if l != nil {
		a.live.Store(l)
		f.token = l.token
	}
	f.err = err
	rejected, _ := errors.AsType[*Rejected](err)

	s.mu.Lock()
	now := s.now()
	switch {
	case rejected != nil:
		a.pause = pause{until: rejected.Until, err: err, look: now.Add(retryAfter)}
	case errors.Is(err, ErrStillDead):
		until := s.allowance().next(now, a.record.Forced)
		until = now.Add(min(max(until.Sub(now), retryAfter), stableAllowance.gap))
		a.pause = pause{until: until, err: err, still: f.dead, look: until}
	case err != nil, l == had: // l == had: the store is down, and the token from before will do
		a.pause = pause{until: now.Add(retryAfter), err: err, look: now.Add(retryAfter)}
	default:
		a.pause = pause{}
	}
	opened := rejected != nil && a.last.rejected == nil
	closed := a.last.rejected != nil && err == nil && l != had
	if err != nil || l != had {
		a.last.err = err
	}
	if rejected != nil || closed {
		a.last.rejected = rejected
	}
	a.flight = nil
	delete(s.flights, f)
	s.mu.Unlock()

	switch {
	case opened:
		s.observe(Event{Kind: Opened, AppID: a.AppID, ErrCode: rejected.ErrCode, IP: rejected.IP, Until: rejected.Until})
	case closed:
		s.observe(Event{Kind: Closed, AppID: a.AppID})
	}
	close(f.done)
}

// renew finds a token other than f.dead, or fetches one. With ErrStillDead it returns the token
// that WeChat insists on, too.
func (s *Source) renew(ctx context.Context, a *app, f *flight) (*live, error) {
	if f.dead != "" {
		a.note(f.dead)
	}
	if s.store == nil {
		return s.alone(ctx, a, f)
	}
	for {
		l, err := s.look(ctx, a, f.dead)
		if l == nil && err == nil {
			l, err = s.leased(ctx, a, f)
		}
		if down, ok := errors.AsType[storeError](err); ok && ctx.Err() == nil {
			s.observe(Event{Kind: StoreFailed, AppID: a.AppID, Err: down.error})
			return s.alone(ctx, a, f)
		}
		if l != nil || err != nil && !errors.Is(err, errTaken) && ctx.Err() == nil {
			return l, err
		}
		select {
		case <-time.After(pollEvery + rand.N(pollEvery)): //nolint:gosec // spreads the looks, hides nothing
		case <-ctx.Done():
			return nil, fmt.Errorf("token of %s: %w: waiting for the store: %w", a.AppID, ErrUnavailable, ctx.Err())
		}
	}
}

// leased does what only one gateway at a time may do: it looks again, and fetches the next token.
func (s *Source) leased(ctx context.Context, a *app, f *flight) (*live, error) {
	if err := s.lease(ctx, a); err != nil {
		return nil, err
	}
	defer s.release(ctx, a)
	if l, err := s.look(ctx, a, f.dead); l != nil || err != nil {
		return l, err
	}
	return s.next(ctx, a, f, true)
}

// errTaken means that another gateway is at it: it has the lease, or has had the time to take it
// and to change the record, or somebody has removed both.
var errTaken = errors.New("another gateway is renewing the token")

// storeError is an error of the store.
type storeError struct{ error }

// alone goes on without the store, by what is in memory.
func (s *Source) alone(ctx context.Context, a *app, f *flight) (*live, error) {
	if l := a.live.Load(); f.dead == "" && l != nil && s.now().Before(l.ends) {
		return l, nil
	}
	if l, err := s.known(a, f.dead); l != nil || err != nil {
		return l, err
	}
	return s.next(ctx, a, f, false)
}

// look reads the record, and returns what is known by it.
func (s *Source) look(ctx context.Context, a *app, dead string) (*live, error) {
	if err := s.read(ctx, a); err != nil {
		return nil, err
	}
	return s.known(a, dead)
}

// known returns what the record has: a token that can replace ours, or a refusal that still
// counts, or neither.
func (s *Source) known(a *app, dead string) (*live, error) {
	now := s.now()
	l, ours := a.record.live(now), a.live.Load()
	needed := dead != "" || ours == nil || !now.Before(ours.ends)
	if l != nil && l.token != dead && !slices.Contains(a.dead, digest(l.token)) && (needed || now.Before(l.renewAt())) {
		s.observe(Event{Kind: Adopted, AppID: a.AppID, Expires: l.ends})
		return l, nil
	}
	if r := a.record.blocked(now, a, s.id); r != nil {
		return nil, r
	}
	return nil, nil
}

// note remembers that WeChat has refused a token, for the store may have missed it.
func (a *app) note(dead string) {
	d := digest(dead)
	if !slices.Contains(a.dead, d) {
		a.dead = append(a.dead, d)
	}
	if extra := len(a.dead) - 8; extra > 0 {
		a.dead = slices.Delete(a.dead, 0, extra)
	}
}

// next fetches the next token and writes it down. shared says that the store answers, and that
// we hold the lease. Before it asks for more than the present token it writes down that it will.
func (s *Source) next(ctx context.Context, a *app, f *flight, shared bool) (*live, error) {
	r := a.record
	if f.dead != "" {
		r.Dead = digest(f.dead)
		if !s.stable {
			if !s.allow(&r) {
				return a.live.Load(), s.stillDead(a)
			}
		}
		if err := s.announce(ctx, a, r, shared); err != nil {
			return nil, err
		}
	}
	l, err := s.fetch(ctx, a, false)
	if err == nil && s.stable && digest(l.token) == r.Dead {
		if l, err = s.force(ctx, a, f, &r, l, shared); errors.Is(err, errTaken) {
			return nil, err
		}
	}
	rejected, _ := errors.AsType[*Rejected](err)
	switch {
	case l != nil:
		r.put(l)
		r.Block = nil
		l = s.publish(ctx, a, r, l, shared)
	case rejected != nil:
		err = r.refuse(s.now(), a, s.id, rejected)
		a.record = r
		if shared {
			_ = s.write(ctx, a, r) // or somebody else has written, and perhaps a token
		}
	}
	return l, err
}

// force asks for a token in the place of l, which is the one that WeChat has refused. If that is
// not allowed now it returns l, with ErrStillDead for a caller who knows that l is dead.
func (s *Source) force(ctx context.Context, a *app, f *flight, r *record, l *live, shared bool) (*live, error) {
	if s.allow(r) {
		if err := s.announce(ctx, a, *r, shared); err != nil {
			return nil, err
		}
		s.observe(Event{Kind: Forced, AppID: a.AppID})
		forced, err := s.fetch(ctx, a, true)
		if err != nil || forced.token != l.token {
			return forced, err
		}
	}
	if f.dead == "" {
		return l, nil // it may have been a mistake, and there is no other
	}
	return l, s.stillDead(a)
}

func (s *Source) stillDead(a *app) error { return fmt.Errorf("token of %s: %w", a.AppID, ErrStillDead) }

func (s *Source) allowance() allowance {
	if s.stable {
		return stableAllowance
	}
	return classicAllowance
}

// allow notes in r that one more token is asked for because one is dead, if that is allowed.
func (s *Source) allow(r *record) bool {
	now, w := s.now(), s.allowance()
	if w.next(now, r.Forced).After(now) {
		return false
	}
	r.Forced = append(w.recent(now, r.Forced), now.UnixMilli())
	return true
}

// The words with the store. Each has its own time, which is never longer than the flight's. What
// the store has to say against them is a storeError.

// lease takes the lease, or takes it anew. Who holds it is the app in this Source and not the
// flight: what a flight has asked for and not heard of would keep the next one waiting.
func (s *Source) lease(ctx context.Context, a *app) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	held, err := s.store.Lease(ctx, a.AppID, recordKey, s.id+"."+a.secretID, leaseExpiry)
	switch {
	case err != nil:
		return storeError{err}
	case !held:
		return errTaken
	}
	return nil
}

// release leaves the lease to itself if the store does not answer: it runs out.
func (s *Source) release(ctx context.Context, a *app) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	_ = s.store.Release(ctx, a.AppID, recordKey, s.id+"."+a.secretID)
}

func (s *Source) read(ctx context.Context, a *app) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	raw, err := s.store.Get(ctx, a.AppID, recordKey)
	if err != nil {
		return storeError{err}
	}
	a.record, a.raw = parseRecord(raw), raw
	return nil
}

// write replaces the record that was read last, or returns errTaken if it has changed since. It
// is not given up when the flight is: what was fetched should not be lost.
func (s *Source) write(ctx context.Context, a *app, r record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return storeError{err}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	ok, err := s.store.CompareAndSet(ctx, a.AppID, recordKey, a.raw, raw, recordExpiry)
	switch {
	case err != nil:
		return storeError{err}
	case !ok:
		return errTaken
	}
	a.record, a.raw = r, raw
	return nil
}

// announce writes r down before a request that it is about, and takes the lease anew, which has
// to last for that request. If the store fails now the request is made all the same.
func (s *Source) announce(ctx context.Context, a *app, r record, shared bool) error {
	if !shared {
		a.record = r
		return nil
	}
	err := s.write(ctx, a, r)
	if err == nil {
		err = s.lease(ctx, a)
	}
	if down, ok := errors.AsType[storeError](err); ok {
		s.observe(Event{Kind: StoreFailed, AppID: a.AppID, Err: down.error})
		return nil
	}
	return err
}

// publish writes a record with the token l, which was just fetched. If another token has been
// written meanwhile that is younger, it returns that one.
func (s *Source) publish(ctx context.Context, a *app, r record, l *live, shared bool) *live {
	a.record = r
	if !shared {
		return l
	}
	for range 3 {
		err := s.write(ctx, a, r)
		if errors.Is(err, errTaken) {
			if err = s.read(context.WithoutCancel(ctx), a); err == nil {
				if theirs := a.record.live(s.now()); theirs != nil && theirs.fetched.After(l.fetched) {
					return theirs
				}
				r.Forced = slices.Concat(r.Forced, a.record.Forced)
				slices.Sort(r.Forced)
				r.Forced = slices.Compact(r.Forced)
				continue
			}
		}
		if down, ok := errors.AsType[storeError](err); ok {
			s.observe(Event{Kind: StoreFailed, AppID: a.AppID, Err: down.error})
		}
		break
	}
	return l
}
