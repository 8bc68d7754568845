package drift

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"
)

// Kind is what an Event is about.
type Kind string

// The kinds of events.
const (
	Failed          Kind = "failed"           // a reading failed: ErrCode, Err; once for each kind of failure until it ends
	BudgetExhausted Kind = "budget exhausted" // the day's questions are used up: Options.PerDay
	Adopted         Kind = "adopted"          // WeChat's figure of Rule, New, replaces Old
	Cleared         Kind = "cleared"          // a clear whose answer was lost was carried out: Counter goes from Old to New
)

// Event is something that an operator should know. It holds no secret and no part of a body.
type Event struct {
	Kind     Kind
	App      string // appid
	Rule     string // Adopted, and where there is a Counter
	Counter  string // Failed, Cleared: as in limits.Match
	ErrCode  int    // Failed: WeChat's, or 0
	Err      error  // Failed
	Old, New int64  // Adopted: figures a day, Old 0 for none; Cleared: calls
}

// failure is why the last reading of a counter failed.
type failure struct {
	kind        string
	at          time.Time
	pathRefused bool
}

const (
	maxFailures  = 1000    // counters of an app whose failures are remembered
	storeFailure = "store" // the kind of every failure that is not WeChat's
)

// failed remembers that a counter could not be read, and reports the first failure of its kind.
func (a *Auditor) failed(app, counter string, err error) {
	for _, expected := range []error{context.Canceled, errWindowChanged, errNotDue, errSweepLost, errBudgetExhausted} {
		if errors.Is(err, expected) {
			return
		}
	}
	e := Event{Kind: Failed, App: app, Counter: counter, Err: err}
	e.Rule, _, _ = strings.Cut(counter, ":")
	now := a.o.Now()
	f := failure{kind: storeFailure, at: now, pathRefused: pathRefused(err)}
	if answer, ok := errors.AsType[*Error](err); ok {
		f.kind, e.ErrCode = answer.reason(), answer.ErrCode
	}
	a.mu.Lock()
	s := a.stateLocked(app)
	if e.ErrCode == errcodeExhausted {
		s.pausedUntil = now.Add(pauseInterval)
	}
	reported := false
	for name, known := range s.failures {
		switch {
		case now.Sub(known.at) >= failureTTL:
			delete(s.failures, name)
		case known.kind == f.kind:
			reported = true
		}
	}
	if _, known := s.failures[counter]; known || len(s.failures) < maxFailures {
		s.failures[counter] = f
	}
	a.mu.Unlock()
	if !reported {
		a.o.Observe(e)
	}
}

// succeeded remembers that a counter was read: WeChat and the store answer again.
func (a *Auditor) succeeded(app, counter string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.stateLocked(app)
	s.pausedUntil = time.Time{}
	maps.DeleteFunc(s.failures, func(name string, f failure) bool { return name == counter || !f.pathRefused })
}

// refusedLocked reports whether WeChat has refused to answer about a counter. It needs a.mu.
func (s *appState) refusedLocked(counter string, now time.Time) bool {
	f := s.failures[counter]
	return f.pathRefused && now.Sub(f.at) < failureTTL
}
