// Package drift asks WeChat how many calls it has counted itself today, and compares that with what
// was counted here. A count that is higher there means calls around the gateway: it raises ours, and
// goes on showing as drift until the day ends.
//
// The question is openapi/quota/get, which has a quota of its own that nobody publishes. So it is
// asked sparingly: before the first call of a day, when somebody wants to know, and at an interval
// only where that is configured.
package drift

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"wxproxy/limits"
)

// How often WeChat is asked.
const (
	questionLife = 10 * time.Second       // how long one question may take that no call waits for
	lookLife     = 300 * time.Millisecond // how long callers wait before the first call of a day
	lookMargin   = 20 * time.Millisecond  // of lookLife, for the way back
	questionGap  = time.Second            // between two questions about an app, but for those of Read
	quietLife    = time.Hour              // after errcode 44993: quota/get's own quota is used up
	refusalLife  = 24 * time.Hour         // how long a path that quota/get does not know is left alone
	youngLife    = 10 * time.Minute       // WeChat's midnight is not ours to the second, nor are its clears
)

// Limiter is what the auditor needs of a [limits.Limiter].
type Limiter interface {
	Rules(app string) *limits.Ruleset
	Usage(ctx context.Context, app string) ([]limits.Usage, error)
	// Today returns the day's line of one counter, which may never have been called.
	Today(ctx context.Context, app, counter string) (limits.Usage, error)
	// Raise raises the day's counter of a match to at least used, which WeChat has said in answer
	// to a question asked at began.
	Raise(ctx context.Context, app string, match limits.Match, used int64, began time.Time) error
	// ClearTo starts the day's counter of a match over as the generation at, in milliseconds since
	// 1970, with used calls in it.
	ClearTo(ctx context.Context, app string, match limits.Match, at, used int64) error
}

// Store is where the gateways of a fleet share what they have read. Its methods do what those of
// package store promise.
type Store interface {
	Get(ctx context.Context, app, key string) ([]byte, error)
	CompareAndSet(ctx context.Context, app, key string, was, value []byte, expiry time.Duration) (bool, error)
	Lease(ctx context.Context, app, key, holder string, expiry time.Duration) (bool, error)
}

// App is an account whose used rules are asked about at an interval.
type App struct {
	AppID string
	Auto  bool // its figures are what WeChat says they are
}

// Options of New. Store, Limiter, Post, Holder, Apps and App must be set.
type Options struct {
	Store   Store
	Limiter Limiter

	// Post sends a POST as app through the gateway itself, so that it is counted and logged and has
	// the account's token, and returns WeChat's body.
	Post func(ctx context.Context, app, path string, body []byte) ([]byte, error)

	Holder string                         // this process, as it signs leases
	Apps   func() []App                   // the configured apps of now
	App    func(appid string) (App, bool) // one of them; the gateway can ask nothing as one that it has learned

	// Every is how often each rule that was used today is asked about, to the minute; 0: never.
	Every time.Duration
	// PerDay is how many such questions a day may be asked for an app, by all gateways together.
	PerDay int

	// Adopt is told of the day's figures of an app with Auto, by rule name, when they have changed:
	// all that were ever adopted. One call at a time; it must not call the auditor. It may be nil.
	Adopt func(app string, figures map[string]limits.Budget)

	Observe func(Event)      // it must not block; may be nil
	Now     func() time.Time // default time.Now
}

// Auditor compares WeChat's counts with ours. It is safe for concurrent use.
type Auditor struct {
	o     Options
	looks singleflight.Group // by app and counter
	reads singleflight.Group // by app

	mu   sync.Mutex
	apps map[string]*appState // configured ones, and for a minute those that were

	adopting sync.Mutex
	adopted  map[string]map[string]int64 // what Adopt was told last, by app
}

// appState is what this process knows of asking for one app. Its fields belong to Auditor.mu.
type appState struct {
	next    time.Time          // when the next question is due that nobody waits for
	quiet   time.Time          // WeChat does not answer until then
	failing map[string]failure // by counter
	jobs    []job
	busy    bool      // a worker has the jobs
	spent   time.Time // the end of the day whose questions are used up, as observed
}

// New returns an auditor. What it does by itself is done by Run.
func New(o Options) *Auditor {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Observe == nil {
		o.Observe = func(Event) {}
	}
	if o.Adopt == nil {
		o.Adopt = func(string, map[string]limits.Budget) {}
	}
	return &Auditor{o: o, apps: make(map[string]*appState), adopted: make(map[string]map[string]int64)}
}

// state returns what is known of an app. a.mu is held.
func (a *Auditor) state(app string) *appState {
	s := a.apps[app]
	if s == nil {
		s = &appState{failing: make(map[string]failure)}
		a.apps[app] = s
	}
	return s
}

const quotaPath = "/cgi-bin/openapi/quota/get"

// questions returns the paths whose counts of WeChat's make up a counter: those of its rule, or the
// one inside a /* that the counter is named after. It returns none where WeChat cannot be asked, or
// where its count of the day decides nothing: of denied, unlimited and monthly rules, of /sns (which
// it answers with 76022), of the paths inside a /* that share a counter, and of the question itself.
func questions(rule *limits.Rule, counter string) []string {
	if rule == nil || rule.Budget.Kind != limits.Unknown && dayFigure(rule) == 0 {
		return nil
	}
	paths := []string{strings.TrimPrefix(counter, rule.Name+":")}
	if counter == rule.Name {
		paths = nil
		for _, path := range rule.Paths {
			if !strings.HasSuffix(path, "/*") {
				paths = append(paths, path)
			}
		}
	}
	for _, path := range paths {
		folded := strings.TrimSuffix(strings.ToLower(path), "/")
		if folded == quotaPath || folded == "/sns" || strings.HasPrefix(folded, "/sns/") ||
			!strings.HasPrefix(path, "/") || strings.Contains(path, "@") {
			return nil
		}
	}
	return paths
}

// dayFigure returns the figure for the day of a rule that has one; 0 is none.
func dayFigure(rule *limits.Rule) int64 {
	if rule.Budget.Kind == limits.Limited {
		for _, q := range rule.Budget.Quotas {
			if q.Period == limits.Day {
				return q.Limit
			}
		}
	}
	return 0
}

// match returns what a counter's calls are matched to, if its rule still is in the table.
func (a *Auditor) match(app, counter string) (match limits.Match, paths []string) {
	name, _, _ := strings.Cut(counter, ":")
	rules := a.o.Limiter.Rules(app)
	if rules == nil || rules.Rule(name) == nil {
		return limits.Match{}, nil
	}
	match = limits.Match{Rule: rules.Rule(name), Counter: counter, Family: true}
	return match, questions(match.Rule, counter)
}

// days returns the lines of an app's counters for the day that WeChat can be asked about.
func (a *Auditor) days(ctx context.Context, app string) ([]limits.Usage, error) {
	lines, err := a.o.Limiter.Usage(ctx, app)
	if err != nil {
		return nil, fmt.Errorf("counts of %s: %w", app, err)
	}
	var days []limits.Usage
	for _, line := range lines {
		if line.Period == limits.Day && len(questions(line.Rule, line.Counter)) > 0 {
			days = append(days, line)
		}
	}
	return days, nil
}

// day returns today's line of one counter. One that was never called has one without a count.
func (a *Auditor) day(ctx context.Context, app, counter string) (limits.Usage, error) {
	line, err := a.o.Limiter.Today(ctx, app, counter)
	if err != nil {
		return limits.Usage{}, fmt.Errorf("counts of %s: %w", app, err)
	}
	return line, nil
}

// young reports whether what WeChat says at a moment may still be about the day before, or about the
// counts before a clear.
func young(line limits.Usage, at time.Time) bool {
	start := line.Reset.AddDate(0, 0, -1)
	return at.Sub(start) < youngLife || at.Sub(time.UnixMilli(line.Generation)) < youngLife
}
