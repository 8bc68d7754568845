package drift

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"
)

// Kind says what an Event is about.
type Kind string

// The kinds of events.
const (
	Failed  Kind = "failed"  // a reading came to nothing: ErrCode, Err; once for each kind of failure until it ends
	Spent   Kind = "spent"   // the day's questions are used up: Options.PerDay
	Adopted Kind = "adopted" // WeChat's figure of Rule is New instead of Old, and is taken over
	Cleared Kind = "cleared" // a clear whose answer was lost did happen: Counter goes from Old to New
)

// Event is something that an operator should hear of. It holds no secret and nothing of a body.
type Event struct {
	Kind     Kind
	App      string // appid
	Rule     string // Adopted, and where there is a Counter
	Counter  string // Failed, Cleared: as in limits.Match
	ErrCode  int    // Failed: WeChat's, or 0
	Err      error  // Failed
	Old, New int64  // Adopted: figures a day, Old 0 for none; Cleared: calls
}

// failure is why a counter could not be read last.
type failure struct {
	kind    string
	at      time.Time
	refused bool // WeChat does not tell of this path
}

// maxFailing bounds the counters of an app whose failures are remembered.
const maxFailing = 1000

// storeKind is the kind of every failure that is not WeChat's.
const storeKind = "store"

// failed notes that a counter could not be read, and tells of the first failure of its kind.
func (a *Auditor) failed(app, counter string, err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, errTurned) {
		return
	}
	e := Event{Kind: Failed, App: app, Counter: counter, Err: err}
	e.Rule, _, _ = strings.Cut(counter, ":")
	now := a.o.Now()
	f := failure{kind: storeKind, at: now}
	if answer, ok := errors.AsType[*Error](err); ok {
		f.kind, f.refused, e.ErrCode = answer.kind(), answer.refused(), answer.ErrCode
	}
	a.mu.Lock()
	s := a.state(app)
	if e.ErrCode == errcodeSpent {
		s.quiet = now.Add(quietLife)
	}
	told := false
	for name, known := range s.failing {
		switch {
		case now.Sub(known.at) >= refusalLife:
			delete(s.failing, name)
		case known.kind == f.kind:
			told = true
		}
	}
	if _, known := s.failing[counter]; known || len(s.failing) < maxFailing {
		s.failing[counter] = f
	}
	a.mu.Unlock()
	if !told {
		a.o.Observe(e)
	}
}

// succeeded notes that a counter was read: what fails for all counters fails no more.
func (a *Auditor) succeeded(app, counter string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.state(app)
	s.quiet = time.Time{}
	maps.DeleteFunc(s.failing, func(name string, f failure) bool { return name == counter || !f.refused })
}

// refuses reports whether WeChat does not tell of a counter. a.mu is held.
func (s *appState) refuses(counter string, now time.Time) bool {
	f := s.failing[counter]
	return f.refused && now.Sub(f.at) < refusalLife
}
