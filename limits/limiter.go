// Package limits answers one question: may this call be sent? It holds the quota table, matches
// paths to rules, works out the windows and keeps the counters, in Redis or in a bbolt file.
//
// A gateway never adds to a counter or takes off it. It states what it holds, and the store moves
// its sum by the difference; see exchange.go.
package limits

import (
	"context"
	"time"
)

// Call names what is counted: who calls what for which app.
type Call struct {
	App    string // appid
	Caller string // "" when nobody is known
	Match  Match
}

// Options of New.
type Options struct {
	Counters Counters         // where the counters live: NewRedis or NewBolt
	Gateway  string           // a random id of this process life, 6 to 8 of [a-z0-9]
	Now      func() time.Time // default time.Now
	Observe  func(Event)      // told of the store going down and coming back; may be nil
}

// Limiter decides calls. It is safe for concurrent use.
type Limiter struct{}

// New returns a limiter that counts in o.Counters. Close it when no call runs any more.
func New(o Options) *Limiter { panic("limits: under way") }

// Configure sets the rules of each app, by appid, at start and on reload. Counters go on; new
// figures hold from the next call.
func (l *Limiter) Configure(apps map[string]*Ruleset) {}

// Rules returns the rules of an app, or nil when it is not configured.
func (l *Limiter) Rules(app string) *Ruleset { return nil }

// Family reports whether a canonical path lies in a family of any app's table.
func (l *Limiter) Family(path string) bool { return false }

// Take matches nothing and sends nothing: it counts one call of call.Match.Rule, or refuses it.
func (l *Limiter) Take(ctx context.Context, call Call) Decision { return Decision{} }

// Done ends a call that was answered or whose fate is unknown: it stays counted.
func (l *Limiter) Done(d *Decision, errcode int) {}

// GiveBack ends a call that provably never left: it is not counted.
func (l *Limiter) GiveBack(d *Decision) {}

// Count counts a call that cannot be refused.
func (l *Limiter) Count(app, path string) {}

// Usage returns what an app has used.
func (l *Limiter) Usage(ctx context.Context, app string) ([]Usage, error) { return nil, nil }

// Close states what is unsaid.
func (l *Limiter) Close(ctx context.Context) error { return nil }

// Usage is one line of the usage table.
type Usage struct {
	Rule      *Rule
	Counter   string
	Period    Period
	Limit     int64 // 0: none
	Used      int64
	Remaining int64
	Reset     time.Time
	Latched   bool
}

// Event is something an operator should hear of.
type Event struct {
	Kind   string
	App    string
	Detail string
}

// Counters is a store of counters.
type Counters interface{}

type (
	meter   struct{}
	counter struct{}
)
