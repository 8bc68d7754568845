package drift

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"wxproxy/limits"
)

// Look asks WeChat how many calls of a match it has counted today, before the first one of the day
// is sent: calls may have been made before the gateway was there, or around it. It takes 300 ms at
// most, for callers wait, and reports false where nothing is known. What it reports true for is
// recorded as a reading, and the caller raises its count to it. A second question about an app
// within a second is left to Run, which raises the count itself. Concurrent looks at one counter
// share a question.
func (a *Auditor) Look(ctx context.Context, app string, match limits.Match) (used int64, ok bool) {
	paths := questions(match.Rule, match.Counter)
	if _, known := a.o.App(app); !known || len(paths) == 0 {
		return 0, false
	}
	timer := time.NewTimer(lookLife)
	defer timer.Stop()
	result := a.looks.DoChan(app+" "+match.Counter, func() (any, error) { return a.look(ctx, app, match, paths) })
	select {
	case r := <-result:
		used, ok = r.Val.(int64)
		return used, ok && r.Err == nil
	case <-timer.C:
	case <-ctx.Done():
	}
	return 0, false
}

// errNotAsked is of a look that had no question.
var errNotAsked = errors.New("WeChat was not asked")

// look asks about one counter. A caller that goes away leaves the answer to the others.
func (a *Auditor) look(ctx context.Context, app string, match limits.Match, paths []string) (any, error) {
	later := job{kind: firstSight, counter: match.Counter}
	a.mu.Lock()
	s, now := a.state(app), a.o.Now()
	switch {
	case now.Before(s.quiet) || s.refuses(match.Counter, now):
		a.mu.Unlock()
		return nil, errNotAsked
	case now.Before(s.next) || slices.ContainsFunc(paths, issuesToken):
		s.push(later)
		a.mu.Unlock()
		return nil, errNotAsked
	}
	s.next = now.Add(time.Duration(len(paths)) * questionGap)
	a.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookLife-lookMargin)
	defer cancel()
	before, err := a.day(ctx, app, match.Counter)
	if err == nil && young(before, now) {
		return nil, errNotAsked
	}
	var m measured
	if err == nil {
		m, err = a.measure(ctx, app, before, paths)
	}
	if err == nil {
		_, err = a.keep(ctx, app, m)
	}
	if err != nil {
		a.failed(app, match.Counter, err)
		if answer, ok := errors.AsType[*Error](err); !ok || answer.Fault == noAnswer {
			a.push(app, later) // it was slow
		}
		return nil, err
	}
	a.succeeded(app, match.Counter)
	a.push(app, job{kind: takeFigure, counter: match.Counter, figure: m.limit}) // callers wait
	return m.used, nil
}

// seen reports whether another gateway has asked, meanwhile, about a counter that was to be looked
// at. Then our limiter is told what it heard.
func (a *Auditor) seen(ctx context.Context, app string, match limits.Match, line limits.Usage) (bool, error) {
	rec, _, err := a.load(ctx, app)
	e := rec.Counters[match.Counter]
	at := time.UnixMilli(e.At)
	if err != nil || !e.of(line) || young(line, at) {
		return false, err
	}
	if line.StartUnknown {
		err = a.o.Limiter.Raise(ctx, app, match, e.Used, at)
	}
	return true, err
}

// issuesToken reports whether a path issues the token that a question needs: calls of it are looked
// at once there is one.
func issuesToken(path string) bool {
	switch strings.TrimSuffix(strings.ToLower(path), "/") {
	case "/cgi-bin/token", "/cgi-bin/stable_token":
		return true
	}
	return false
}
