package drift

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"wxproxy/limits"
)

// seedQuestion is a question that calls wait for.
type seedQuestion struct {
	done chan struct{} // closed when used and ok are set
	used int64
	ok   bool
}

// Seed asks WeChat for its count of a match before the first call of a day is sent: calls may have been
// made before the gateway was started, or not through it. Calls wait for it: it takes at most 300 ms, and
// returns false without an answer. It records an answer as a reading; the caller raises its count. A
// second question about an app within a second is left to Run, which raises the count itself.
// Concurrent calls for one counter share a question.
func (a *Auditor) Seed(ctx context.Context, app string, match limits.Match) (used int64, ok bool) {
	c := &counter{app: app, match: match, paths: a.paths(app, match)}
	if _, known := a.o.App(app); !known || len(c.paths) == 0 {
		return 0, false
	}
	q := a.startSeed(ctx, c)
	if q == nil {
		return 0, false
	}
	ctx, cancel := context.WithTimeout(ctx, seedTimeout)
	defer cancel()
	select {
	case <-q.done:
		return q.used, q.ok
	case <-ctx.Done():
		return 0, false
	}
}

// startSeed returns the question about a counter that is in flight, or starts one. It returns nil when
// WeChat is not asked now.
func (a *Auditor) startSeed(ctx context.Context, c *counter) *seedQuestion {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, now, name := a.stateLocked(c.app), a.o.Now(), c.match.Counter
	q := s.seeds[name]
	switch {
	case q != nil, now.Before(s.pausedUntil), s.refusedLocked(name, now):
		return q
	case now.Before(s.nextQuestion), s.urgentLocked(), slices.ContainsFunc(c.paths, issuesToken):
		s.pushLocked(a.seedJob(name))
		return nil
	}
	s.delayLocked(now, len(c.paths))
	q = &seedQuestion{done: make(chan struct{})}
	s.seeds[name] = q
	go func() {
		defer close(q.done)
		// The answer is for all calls that wait, so it does not end with the context of the first.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), seedTimeout-seedMargin)
		defer cancel()
		q.used, q.ok = a.seed(ctx, c)
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(s.seeds, name)
	}()
	return q
}

// seed asks about a counter while calls wait.
func (a *Auditor) seed(ctx context.Context, c *counter) (used int64, ok bool) {
	var err error
	var m *answer
	if c.line, err = a.o.Limiter.Today(ctx, c.app, c.match.Counter); err == nil {
		if tooRecent(c.line, a.o.Now()) {
			return 0, false
		}
		m, err = a.measure(ctx, c)
	}
	if err == nil {
		_, err = a.save(ctx, m, new(stored[record]))
	}
	if err != nil {
		a.failed(c.app, c.match.Counter, err)
		if e, ok := errors.AsType[*Error](err); !ok || e.Fault == noAnswer {
			a.push(c.app, a.seedJob(c.match.Counter)) // it was slow
		}
		return 0, false
	}
	a.succeeded(c.app, c.match.Counter)
	key := jobKey{kind: "adopt " + c.match.Counter, number: m.limit} // later, because calls wait
	a.push(c.app, job{jobKey: key, run: func(ctx context.Context) error { return a.adopt(ctx, m) }})
	return m.used, true
}

// seedJob asks about a counter that Seed did not ask about.
func (a *Auditor) seedJob(name string) job {
	return job{jobKey: jobKey{kind: "seed"}, asks: true, ask: a.seedLater, names: []string{name}}
}

// seedLater asks about a counter unless another gateway has done so.
func (a *Auditor) seedLater(ctx context.Context, c *counter) error {
	if tooRecent(c.line, a.o.Now()) {
		return nil
	}
	rec, err := a.load(ctx, c.app)
	if err != nil {
		return err
	}
	e := rec.value.Counters[c.match.Counter]
	at := time.UnixMilli(e.At)
	switch {
	case !e.matches(c.line) || tooRecent(c.line, at):
		return a.read(ctx, c, &rec)
	case c.line.StartUnknown:
		return a.o.Limiter.Raise(ctx, c.app, c.match, e.Used, at)
	}
	return nil
}

// issuesToken reports whether a path issues the token that a question needs: Run asks about it later.
func issuesToken(path string) bool {
	switch strings.TrimSuffix(strings.ToLower(path), "/") {
	case "/cgi-bin/token", "/cgi-bin/stable_token":
		return true
	}
	return false
}
