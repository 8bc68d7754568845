package token

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// pause is what a flight without success leaves to those who come after it.
type pause struct {
	until time.Time
	err   error  // what they get at once; nil if the token they have will do for now
	still string // if not "", only those who say that this token is dead get err

	// read is when a flight may read the store all the same, for what another gateway has got.
	read time.Time
}

// await returns the token of the flight that is under way, or of one that it starts. A caller
// that goes away leaves the flight to the others.
func (s *Source) await(ctx context.Context, a *app, dead string) (string, error) {
	for {
		f, err := s.join(ctx, a, dead)
		if err != nil {
			return "", err
		}
		if err := f.wait(ctx); err != nil {
			return "", fmt.Errorf("token of %s: %w", a.AppID, err)
		}
		if f.err == nil && f.value.Token != dead {
			return f.value.Token, nil
		}
		if l := a.live.Load(); l != nil && l.token != dead && s.now().Before(l.ends) {
			return l.token, nil // the flight failed to replace what is good enough here
		}
		if f.err != nil {
			return "", f.err
		}
		// It began before it was known that the token is dead, and brought it once more.
	}
}

// join returns the app's flight, or the error that a recent one left.
func (s *Source) join(ctx context.Context, a *app, dead string) (*flight[record], error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, p := s.now(), a.pause
	if a.flight == nil && p.err != nil && now.Before(p.until) && (p.still == "" || p.still == dead) {
		if !now.Before(p.read) {
			s.flyLocked(ctx, a, dead)
		}
		return nil, p.err
	}
	return s.flyLocked(ctx, a, dead), nil
}

func (s *Source) renewInBackground(ctx context.Context, a *app) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.pause; !s.now().Before(p.until) || p.still != "" {
		s.flyLocked(ctx, a, "")
	}
}

// flyLocked returns the flight that is under way, or starts one. dead is the token that WeChat has refused,
// or "" if the last one ends or there is none.
func (s *Source) flyLocked(ctx context.Context, a *app, dead string) *flight[record] {
	return a.joinLocked(ctx, func(ctx context.Context) (record, error) {
		if dead != "" {
			a.mu.Lock()
			if a.known.Token == dead {
				a.known.Dead = digest(dead) // the store may have missed it
			}
			a.mu.Unlock()
		}
		fetched := false
		r, err := a.renew(ctx, func(r record) bool {
			l, refused := s.usable(a, r, dead)
			return l != nil || refused != nil
		}, func(ctx context.Context, r record, l *lead[record]) (record, error) {
			fetched = true
			return s.next(ctx, a, dead, r, l)
		})
		return r, s.land(a, dead, r, err, fetched)
	})
}

// usable returns what a record means to a flight: a token that can replace ours, or a refusal that still
// counts, or neither.
func (s *Source) usable(a *app, r record, dead string) (*live, *Rejected) {
	now := s.now()
	l, ours := r.live(now), a.live.Load()
	needed := dead != "" || ours == nil || !now.Before(ours.ends)
	if l != nil && l.token != dead && (needed || now.Before(l.renewAt(early))) {
		return l, nil
	}
	return nil, r.blocked(now, a.asker)
}

// land takes what came of a flight, and returns the error for those who wait for it.
func (s *Source) land(a *app, dead string, r record, err error, fetched bool) error {
	had := a.live.Load()
	l, rejected := had, (*Rejected)(nil)
	if err == nil {
		l, rejected = s.usable(a, r, dead)
		switch {
		case rejected != nil:
			l, err = had, rejected
		case l != nil:
		case !s.now().Before(r.present().ends): // what was usable a moment ago
			l, err = had, fmt.Errorf("token of %s: %w", a.AppID, ErrUnavailable)
		default: // the best there is: WeChat gives no other, or the store is down and it will do
			if l = r.present(); l.token == dead {
				err = s.stillDead(a)
			}
		}
	}
	same := l == had || had != nil && *l == *had
	if !same {
		a.live.Store(l)
		if err == nil && !fetched {
			s.observe(Event{Kind: Adopted, AppID: a.AppID, Expires: l.ends})
		}
	}

	a.mu.Lock()
	now := s.now()
	switch {
	case rejected != nil:
		a.pause = pause{until: rejected.Until, err: err, read: now.Add(retryAfter)}
	case errors.Is(err, ErrStillDead):
		until := s.allowance().next(now, r.Forced)
		until = now.Add(min(max(until.Sub(now), retryAfter), stableAllowance.gap))
		a.pause = pause{until: until, err: err, still: dead, read: until}
	case err != nil, same:
		a.pause = pause{until: now.Add(retryAfter), err: err, read: now.Add(retryAfter)}
	default:
		a.pause = pause{}
	}
	opened := rejected != nil && !a.refused
	closed := a.refused && err == nil && !same
	a.refused = (a.refused || opened) && !closed
	a.mu.Unlock()

	switch {
	case opened:
		s.observe(Event{Kind: Opened, AppID: a.AppID, ErrCode: rejected.ErrCode, IP: rejected.IP, Until: rejected.Until})
	case closed:
		s.observe(Event{Kind: Closed, AppID: a.AppID})
	}
	return err
}

// next fetches the next token after r. Before it asks for more than the present token it notes that it will.
func (s *Source) next(ctx context.Context, a *app, dead string, r record, lead *lead[record]) (record, error) {
	if l := a.live.Load(); lead.alone && dead == "" && l != nil && s.now().Before(l.ends) {
		return r, nil // without the store every gateway would fetch one
	}
	if dead != "" {
		r.Dead = digest(dead)
		if !s.stable && !s.allow(&r) {
			return r, s.stillDead(a)
		}
		if err := lead.note(ctx, r); err != nil {
			return r, err
		}
	}
	l, err := s.fetch(ctx, a.App, false)
	if err == nil && s.stable && digest(l.token) == r.Dead && s.allow(&r) {
		// WeChat gives out the very token that it has refused.
		if err := lead.note(ctx, r); err != nil {
			return r, err
		}
		s.observe(Event{Kind: Forced, AppID: a.AppID})
		l, err = s.fetch(ctx, a.App, true)
	}
	if rejected, ok := errors.AsType[*Rejected](err); ok {
		_ = r.refuse(s.now(), a.asker, rejected)
		return r, nil
	}
	if err == nil {
		r.put(l, s.id)
	}
	return r, err
}

func (s *Source) stillDead(a *app) error { return fmt.Errorf("token of %s: %w", a.AppID, ErrStillDead) }

func (s *Source) allowance() allowance {
	if s.stable {
		return stableAllowance
	}
	return classicAllowance
}

// allow adds to r that one more token is asked for because one is dead, if that is allowed.
func (s *Source) allow(r *record) bool {
	now, w := s.now(), s.allowance()
	if w.next(now, r.Forced).After(now) {
		return false
	}
	r.Forced = w.add(now, r.Forced)
	return true
}
