// Package limits answers one question: may this call be sent? It holds the quota table, matches
// paths to rules, works out the windows and keeps the counters, in Redis or in a bbolt file.
//
// A gateway never sends increments. It reports its own total for each counter, and the store
// applies the difference to the shared sum; see [Counters].
package limits

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// Options of New.
type Options struct {
	Counters Counters         // where the counters live: NewRedis or NewBolt
	Now      func() time.Time // default time.Now
	Observe  func(Event)      // called at each change of state; must not block; may be nil

	// Look asks WeChat how many calls it has counted today, before the first call of a day that the
	// store knows nothing of; it reports false when that is not known. Callers wait for it. May be nil.
	Look func(ctx context.Context, app string, match Match) (used int64, ok bool)
}

// Event is something that an operator should know, once for each change.
type Event struct {
	Kind    EventKind
	Err     error     // StoreDown; Damaged: a *DamagedError
	App     string    // NoFigure, RuleLatched, RuleUnlatched: the appid
	Rule    string    // NoFigure, RuleLatched, RuleUnlatched
	Counter string    // RuleLatched, RuleUnlatched
	Until   time.Time // RuleLatched
	Day     bool      // RuleLatched: to the end of the day
}

// EventKind is what an event is about.
type EventKind uint8

// The kinds of event.
const (
	StoreDown     EventKind = iota // a request to the store failed; Err is a *StoreError when the store answered it
	StoreUp                        // the store counts again
	StoreLost                      // the store has lost writes, which are being restored; at most once a second
	NoFigure                       // the first call of a rule without a published figure: counted, never refused
	RuleLatched                    // WeChat answered 45009: the counter is closed until Until
	RuleUnlatched                  // WeChat takes calls again
	Damaged                        // a field of the store could not be read; the next request writes it anew
)

func (k EventKind) String() string {
	return [...]string{"store down", "store up", "store lost writes", "no figure", "latched", "unlatched", "damaged"}[k]
}

// Limiter decides calls. It is safe for concurrent use.
type Limiter struct {
	link     *link
	patience time.Duration // how long a call may wait for the store
	started  time.Time
	observe  func(Event)
	look     func(ctx context.Context, app string, match Match) (used int64, ok bool)

	rules atomic.Pointer[rulesets]
	days  atomic.Pointer[calendar]

	damaged  sync.Map // fields of the store that were observed to be damaged
	registry registry
	reporter reporter
	clears   pendingClears
	granting chan struct{} // holds one: SetGrant is one at a time
	shadow   atomic.Bool

	closed atomic.Bool
	stop   chan struct{}
	work   sync.WaitGroup // the reporter, the heartbeat, and drivers of meters
}

// rulesets are the rules of each app by appid, and those of the apps that are not configured.
type rulesets struct {
	of       map[string]*Ruleset
	others   *Ruleset // nil: there are no others
	zone     *time.Location
	families map[string]bool // of all tables
}

// New returns a limiter that counts in o.Counters. Close it when no call runs any more.
func New(o Options) *Limiter {
	if o.Observe == nil {
		o.Observe = func(Event) {}
	}
	l := &Limiter{
		link:     newLink(o.Counters, o.Now, o.Observe),
		patience: o.Counters.Patience(),
		observe:  o.Observe,
		look:     o.Look,
		stop:     make(chan struct{}),
		granting: make(chan struct{}, 1),
	}
	l.started = l.link.clock()
	l.registry.init()
	l.reporter.init()
	l.clears.init()
	l.rules.Store(&rulesets{zone: time.UTC})
	l.work.Go(l.runReports)
	l.work.Go(l.runHeartbeat)
	return l
}

// Configure sets the rules of each app, by appid, at start and on reload, and those of the apps
// that are learned while calls run; others may be nil. Counters go on; new figures hold from the
// next call. All rulesets must have the same zone. What is known of an app that is not configured any
// more is reported once, and then forgotten.
func (l *Limiter) Configure(apps map[string]*Ruleset, others *Ruleset) {
	zone := time.UTC
	for _, rules := range apps {
		zone = rules.Zone
		break
	}
	if others != nil {
		zone = others.Zone
	}
	families := make(map[string]bool)
	for _, rules := range apps {
		maps.Copy(families, rules.families)
	}
	if others != nil {
		maps.Copy(families, others.families)
	}
	old := l.rules.Swap(&rulesets{apps, others, zone, families})
	for app := range old.of {
		if apps[app] == nil {
			l.retire(app, true)
		}
	}
	for app := range apps {
		if old.of[app] == nil {
			l.retire(app, false)
		}
	}
}

// retire has the meters of an app that is not configured any more report and go, or takes that back.
func (l *Limiter) retire(app string, retired bool) {
	now := l.now()
	for _, m := range l.registry.of(app) {
		m.mu.Lock()
		m.retired = retired
		if retired {
			m.releaseIdle(now, true)
			l.reporter.add(m, now.since)
		}
		l.unlock(m, now)
	}
}

// SetShadow has every rule be a shadow, or only those that the table says.
func (l *Limiter) SetShadow(on bool) { l.shadow.Store(on) }

// isShadow reports whether a rule sends what it would refuse.
func (l *Limiter) isShadow(rule *Rule) bool { return rule.Shadow || l.shadow.Load() }

// Shadow reports whether every rule is a shadow.
func (l *Limiter) Shadow() bool { return l.shadow.Load() }

// Rules returns the rules of an app, or nil when it has none.
func (l *Limiter) Rules(app string) *Ruleset {
	s := l.rules.Load()
	if rules := s.of[app]; rules != nil {
		return rules
	}
	return s.others
}

// Family reports whether a canonical path lies in a family of any app's table.
func (l *Limiter) Family(path string) bool {
	return l.rules.Load().families[family(fold(path))]
}

// now reads the clocks.
func (l *Limiter) now() moment { return l.link.moment() }

// calendar returns the windows of a moment, by the store's clock.
func (l *Limiter) calendar(now moment) *calendar {
	zone, cal := l.rules.Load().zone, l.days.Load()
	if !cal.holds(now.store, zone) {
		cal = newCalendar(time.UnixMilli(now.store), zone)
		l.days.Store(cal)
	}
	return cal
}

// Call names what is counted: who calls what for which app.
type Call struct {
	App    string // appid
	Caller string // "" when the caller is not known
	Match  Match  // with a rule
}

// Take counts one call, or refuses it. A refused call changes no count. Take waits for the store's
// Patience at most, and the first calls of a day for WeChat's own count as well; a caller that goes away does not cut it short. The hold of a call
// that may be sent must be ended. A rule that is only a shadow refuses nothing: its verdict is Shadow
// where it would have, Degraded where the store did not answer.
func (l *Limiter) Take(ctx context.Context, call Call) (d Decision, hold Hold) {
	rule := call.Match.Rule
	d.Rule, d.Counter = rule, call.Match.Counter
	switch {
	case rule.Budget.Kind == Denied:
		d.Verdict = RefusedDenied
		return d, hold
	case rule.Pace.Rate > 0 && !l.pace(ctx, &call, &d):
	default:
		l.take(ctx, &call, &d, &hold)
	}
	switch d.Verdict {
	case RefusedStore:
		l.takeLocally(&call, &d, &hold)
	case RefusedLatched:
		if l.probes(ctx, &call) {
			l.count(&call, &d, &hold)
			hold.probe = true
		}
	}
	if !d.Verdict.Sent() && l.isShadow(rule) {
		verdict := Shadow
		if d.Verdict == RefusedStore {
			verdict = Degraded
		}
		l.count(&call, &d, &hold)
		d.Verdict = verdict
	}
	return d, hold
}

// pace takes one call of the rule's pace, or fills in the refusal.
func (l *Limiter) pace(ctx context.Context, call *Call, d *Decision) bool {
	rule := d.Rule
	wait, err := l.link.pace(context.WithoutCancel(ctx), call.App, rule.Name, rule.Pace, 1)
	switch {
	case err != nil:
		d.Verdict, d.RetryAfter = RefusedStore, time.Second
	case wait > 0:
		d.Verdict, d.RetryAfter = RefusedPace, max(wait, time.Second)
	default:
		return true
	}
	return false
}

// take takes one call of every counter of the rule, all or none: from memory, or else from the
// store. Without a figure nothing can be refused: the call is counted, and reported later.
func (l *Limiter) take(ctx context.Context, call *Call, d *Decision, hold *Hold) {
	now := l.now()
	m := l.meterOf(call.App, &call.Match)
	g := m.group(call.Match.Rule, call.Caller, l.calendar(now))
	g.arrive(now.at)
	verdict, by, decided := m.decide(g, 1, now)
	switch {
	case !decided:
		l.ask(ctx, m, g, d, hold)
		return
	case verdict == Pass:
		d.grant(m, g, g.block.deadline, now)
		*hold = Hold{limiter: l, meter: m, group: g, generation: g.counters[0].generation, since: now.since}
	default:
		d.refuse(m, g, verdict, by, now)
	}
	if m.scheduled == 0 || m.scheduled > now.since+quietTime {
		l.scheduleLocked(m, now)
	}
	m.mu.Unlock()
}

// count counts one call that is sent whatever its counters say.
func (l *Limiter) count(call *Call, d *Decision, hold *Hold) {
	now := l.now()
	m := l.meterOf(call.App, &call.Match)
	g := m.group(call.Match.Rule, call.Caller, l.calendar(now))
	for _, c := range g.counters {
		c.count()
	}
	d.grant(m, g, time.Time{}, now)
	*hold = Hold{limiter: l, meter: m, group: g, generation: g.counters[0].generation, since: now.since}
	l.unlock(m, now)
}

// Count counts a call of the gateway itself, which is never refused, whatever its rule.
func (l *Limiter) Count(app, path string) {
	rules := l.Rules(app)
	if rules == nil {
		return
	}
	match := rules.Match(path)
	if match.Rule.Budget.Kind == Denied {
		return
	}
	var d Decision
	var hold Hold
	l.count(&Call{App: app, Match: match}, &d, &hold)
	hold.Done(0)
}

// finish ends a call.
func (l *Limiter) finish(h *Hold, ending Ending, errcode int) {
	m := h.meter
	if ending == Finished && errcode != errcodeQuota && !h.probe && (!m.path || errcode != errcodeInvalidURL) {
		since := l.link.since()
		m.mu.Lock()
		for _, c := range h.group.counters {
			c.own.inFlight--
			c.own.ended.add(since)
		}
		m.mu.Unlock()
		return
	}
	now := l.now()
	m.mu.Lock()
	for _, c := range h.group.counters {
		c.own.inFlight--
		switch {
		case ending == Finished && errcode != errcodeInvalidURL:
			c.own.ended.add(now.since)
			continue
		case ending == UsedUp && c.limit < noLimit:
			c.raise = c.limit + c.remote.Grant.at(now.store)
		}
		c.giveBack(1)
	}
	var event Event
	switch {
	case ending != Finished:
	case errcode == errcodeQuota:
		event = m.latch(h, now, l.calendar(now))
	case h.probe && errcode != errcodeNone:
		event = m.unlatch(h, now)
	}
	drop := m.droppable()
	l.unlock(m, now)
	if drop {
		l.drop(m)
	}
	if event.App != "" {
		l.observe(event)
	}
}

// Errcodes that mean something to a counter.
const (
	errcodeNone       = -1 // no answer was seen
	errcodeInvalidURL = 40066
	errcodeQuota      = 45009
)

// blocks reports whether blocks may be asked for: a process that has just started does not know its
// use.
func (l *Limiter) blocks(now moment) bool { return now.at.Sub(l.started) >= quietTime }

// Close reports what the store does not know yet and ends. No call may be taken any more.
func (l *Limiter) Close(ctx context.Context) error {
	if l.closed.Swap(true) {
		return nil
	}
	close(l.stop)
	l.work.Wait()
	l.link.breaker.reset()
	meters := l.registry.all()
	err := l.reportAll(ctx, meters)
	if err == nil {
		return nil
	}
	left := 0
	for _, m := range meters {
		m.mu.Lock()
		if !m.idle() {
			left++
		}
		m.mu.Unlock()
	}
	return fmt.Errorf("reporting the counts of %d rules: %w", left, err)
}
