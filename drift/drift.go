// Package drift compares the calls that WeChat has counted today with the calls that the gateways
// have counted. A count that is higher at WeChat means calls that did not pass a gateway: it raises
// the gateways' count, and is shown as drift until the day ends.
//
// WeChat's count is read with openapi/quota/get, which has a quota that is not published. So WeChat
// is asked rarely: before the first call of a day, on demand, after a lost clear, after a 45009, and
// at an interval only where one is configured.
package drift

import (
	"context"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"wxproxy/limits"
	"wxproxy/wechat"
)

// How often WeChat is asked, and for how long an answer is waited for.
const (
	questionInterval = time.Second            // between two questions about an app, except those of Read
	questionTimeout  = 10 * time.Second       // of one question that no call waits for
	seedTimeout      = 300 * time.Millisecond // how long calls wait before the first one of a day
	seedMargin       = 20 * time.Millisecond  // part of seedTimeout: the way back to the caller
	pauseInterval    = time.Hour              // after errcode 44993: quota/get's own quota is used up
	failureTTL       = 24 * time.Hour         // for this long a path that quota/get refuses is not asked about
	minAge           = 10 * time.Minute       // of a day or a clear: WeChat's midnight and clears differ from ours by seconds
)

// Limiter is the part of [limits.Limiter] that the auditor needs. began is when WeChat was asked, just
// before the first question about a counter.
type Limiter interface {
	Rules(app string) *limits.Ruleset
	Spelling(app, counter string) string
	Usage(ctx context.Context, app string) ([]limits.Usage, error)
	Today(ctx context.Context, app, counter string) (limits.Usage, error)
	Raise(ctx context.Context, app string, match limits.Match, used int64, began time.Time) error
	ClearTo(ctx context.Context, app string, match limits.Match, began time.Time, used int64) error
	SettleLatch(ctx context.Context, app string, match limits.Match, began time.Time, usedUp bool) error
}

// Store is where the gateways of a fleet share their readings. Its methods are those of package store.
type Store interface {
	Get(ctx context.Context, app, key string) ([]byte, error)
	GetAll(ctx context.Context, apps []string, key string) ([][]byte, error)
	Update(ctx context.Context, app, key string, was []byte, change func(present []byte) (next []byte, expiry time.Duration, err error)) error
	Lease(ctx context.Context, app, key, holder string, expiry time.Duration) (bool, error)
}

// App is a configured account.
type App struct {
	AppID string
	Auto  bool // WeChat's figures replace those of the table
}

// Options of New. All but Every, PerDay and Now must be set.
type Options struct {
	Store   Store
	Limiter Limiter

	// Post sends a POST as app through the gateway itself, so that it is counted and logged and has
	// the account's token, and returns WeChat's body.
	Post func(ctx context.Context, app, path string, body []byte) ([]byte, error)

	Holder string                         // the id of this process, for leases
	Apps   func() []App                   // the apps that are configured now
	App    func(appid string) (App, bool) // one of them; an app that was learned is none: the gateway has no token of it

	Every  time.Duration // how often each rule that was used today is asked about, to the minute; 0: never
	PerDay int           // how many such questions all gateways together may ask for an app in a day

	// Adopt is called with all figures a day that were adopted for an app with Auto, by rule name,
	// when they have changed. One call runs at a time; it must not call the auditor.
	Adopt func(app string, figures map[string]limits.Budget)

	Observe func(Event)      // it must not block
	Now     func() time.Time // default time.Now
}

// Auditor compares WeChat's counts with ours. It is safe for concurrent use.
type Auditor struct {
	o     Options
	reads singleflight.Group // by app

	mu   sync.Mutex
	apps map[string]*appState // those with something to do or to remember

	adopting sync.Mutex                  // serializes Adopt
	adopted  map[string]map[string]int64 // the figures of the last call of Adopt, by app
}

// appState is what this process knows of one app. Its fields are guarded by Auditor.mu.
type appState struct {
	nextQuestion time.Time                // when jobs may ask WeChat again
	pausedUntil  time.Time                // WeChat does not answer questions until then
	failures     map[string]failure       // by counter
	seeds        map[string]*seedQuestion // in flight, by counter
	jobs         []job                    // an urgent one first
	running      *job                     // of the worker that has the app, for the first of its names
}

// New returns an auditor. Its jobs are done by Run.
func New(o Options) *Auditor {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Auditor{o: o, apps: make(map[string]*appState), adopted: make(map[string]map[string]int64)}
}

// stateLocked returns the state of an app. a.mu is held.
func (a *Auditor) stateLocked(app string) *appState {
	s := a.apps[app]
	if s == nil {
		s = &appState{failures: make(map[string]failure), seeds: make(map[string]*seedQuestion)}
		a.apps[app] = s
	}
	return s
}

const quotaPath = "/cgi-bin/openapi/quota/get"

// questions returns the paths whose counts at WeChat make up a counter: those of its rule, or the one
// inside a /* that the counter is named after. It returns none where WeChat cannot be asked, or where
// its count of the day has no use: for denied, unlimited and monthly rules, for /sns (which WeChat
// answers with 76022), for the paths inside a /* that share a counter, and for quota/get itself.
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

// paths returns the questions of a counter in WeChat's own letter case: WeChat does not know a path in
// another.
func (a *Auditor) paths(app string, match limits.Match) []string {
	paths := questions(match.Rule, match.Counter)
	for i, path := range paths {
		if match.Counter == match.Rule.Name {
			paths[i] = wechat.Spelling(path)
		} else {
			paths[i] = a.o.Limiter.Spelling(app, match.Counter)
		}
	}
	return paths
}

// dayFigure returns a rule's quota of the day, or 0 for a rule without one.
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

// counter is a counter of today that WeChat is asked about.
type counter struct {
	app   string
	match limits.Match
	paths []string     // to ask about
	line  limits.Usage // our count, before WeChat is asked
}

// counter returns a counter, or nil when WeChat cannot be asked or a reload has removed the app or the
// rule.
func (a *Auditor) counter(ctx context.Context, app, name string) (*counter, error) {
	rule, _, _ := strings.Cut(name, ":")
	rules := a.o.Limiter.Rules(app)
	if _, known := a.o.App(app); !known || rules == nil {
		return nil, nil
	}
	c := counter{app: app, match: limits.Match{Rule: rules.Rule(rule), Counter: name, Family: true}}
	if c.paths = a.paths(app, c.match); len(c.paths) == 0 {
		return nil, nil
	}
	var err error
	c.line, err = a.o.Limiter.Today(ctx, app, name)
	return &c, err
}

// days returns the lines of an app's counters of the day that WeChat can be asked about.
func (a *Auditor) days(ctx context.Context, app string) ([]limits.Usage, error) {
	lines, err := a.o.Limiter.Usage(ctx, app)
	if err != nil {
		return nil, err
	}
	var days []limits.Usage
	for _, line := range lines {
		if line.Period == limits.Day && len(questions(line.Rule, line.Counter)) > 0 {
			days = append(days, line)
		}
	}
	return days, nil
}

// tooRecent reports whether WeChat's answer to a question asked at a moment may still be about the day
// before, or about the counts before a clear.
func tooRecent(line limits.Usage, at time.Time) bool {
	start := line.Reset.AddDate(0, 0, -1)
	return at.Sub(start) < minAge || at.Sub(time.UnixMilli(line.Generation)) < minAge
}
