package limits

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Errors of SetGrant.
var (
	ErrNoQuota      = errors.New("the rule has no quota, so there is nothing to add to")
	ErrGrantChanged = errors.New("the grant was changed meanwhile")
	ErrGrantTime    = errors.New("the end lies in the past, or after the window of the quota")
)

// grantWish is a grant that takes the place of one that was set by a time, and of no later one.
type grantWish struct {
	grant Grant
	over  int64
}

// SetGrant sets how many calls more than its quotas the counter of a match has, on every gateway, until a
// time or the end of the shortest of its windows if that is zero; 0 calls end a grant. It takes the place
// of the grant whose At is over and of older ones, and returns ErrGrantChanged where a later one is in
// force: so to repeat it after an answer was lost adds nothing twice. After an error of the store it is
// unknown whether it was set.
func (l *Limiter) SetGrant(ctx context.Context, app string, match Match, calls int64, until time.Time, over int64) (Grant, error) {
	select {
	case l.granting <- struct{}{}:
		defer func() { <-l.granting }()
	case <-ctx.Done():
		return Grant{}, ctx.Err()
	}
	if match.Rule.Budget.Kind != Limited {
		return Grant{}, ErrNoQuota
	}
	if err := l.learnClock(ctx, app, match); err != nil {
		return Grant{}, err
	}
	grant, err := l.setGrant(ctx, app, match, calls, until, over)
	if errors.Is(err, ErrGrantChanged) && grant.at(l.now().store) == 0 { // a later one, which has ended
		return l.setGrant(ctx, app, match, calls, until, grant.At)
	}
	return grant, err
}

func (l *Limiter) setGrant(ctx context.Context, app string, match Match, calls int64, until time.Time, over int64) (Grant, error) {
	now := l.now()
	cal := l.calendar(now)
	end := cal.of[match.Rule.Budget.Quotas[0].Period].End
	if until.IsZero() {
		until = end
	}
	if calls > 0 && (until.UnixMilli() <= now.store || until.After(end)) {
		return Grant{}, ErrGrantTime
	}
	m := l.meterOf(app, &match)
	grant := Grant{Calls: calls, Until: until.UnixMilli(), At: max(now.store, over+1)}
	if calls == 0 {
		grant.Until = 0
	}
	var counters []*counter
	for _, c := range m.group(match.Rule, "", cal).counters {
		if c.name == m.name && c.limit < noLimit {
			c.wish, c.urgent = &grantWish{grant, over}, true
			counters = append(counters, c)
		}
	}
	l.unlock(m, now)
	err := l.flush(ctx, m)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range counters {
		c.wish = nil
		if err == nil && c.remote.Grant != grant {
			grant, err = c.remote.Grant, ErrGrantChanged
		}
	}
	return grant, err
}

// learnClock reports a counter of the match, so that it is known which day the store has: the grant of a gateway
// whose clock is wrong would be tomorrow's.
func (l *Limiter) learnClock(ctx context.Context, app string, match Match) error {
	now := l.now()
	m := l.meterOf(app, &match)
	c := m.group(match.Rule, "", l.calendar(now)).counters[0]
	c.announce, c.urgent = true, true // not restate: a loss that it shows is news to the other meters
	l.unlock(m, now)
	return l.flush(ctx, m)
}

// String is how a grant is written in a store.
func (g Grant) String() string { return fmt.Sprintf("%d %d %d", g.Calls, g.Until, g.At) }

// parseGrant reads "calls until at". It reports false for text that is no grant.
func parseGrant(text string, last int64) (Grant, bool) {
	words := strings.Split(text, " ")
	var f [3]int64
	if len(words) != len(f) {
		return Grant{}, false
	}
	for i, word := range words {
		var ok bool
		if f[i], ok = parseFigure(word); !ok {
			return Grant{}, false
		}
	}
	g := Grant{Calls: f[0], Until: f[1], At: f[2]}
	return g, g.Until <= last && g.At <= last
}

// grantUntil is a grant of which only the calls are known, in a window whose counters may name times until
// last: it lasts to the window's end.
func grantUntil(calls, last int64) Grant {
	if calls == 0 {
		return Grant{}
	}
	return Grant{Calls: calls, Until: last - (24 * time.Hour).Milliseconds()}
}
