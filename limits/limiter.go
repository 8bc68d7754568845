// Package limits answers one question: may this call be sent? It holds the quota table, matches
// paths to rules, works out the windows and keeps the counters, in Redis or in a bbolt file.
//
// A gateway never adds to a counter or takes off it. It states what it holds, and the store moves
// its sum by the difference; see [Counters].
package limits

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Times of the protocol.
const (
	fullLife  = time.Second      // how long a full counter refuses from memory
	quietLife = time.Second      // how long a statement that nobody waits for may wait
	lateLife  = 10 * time.Second // how late a frozen store may run a request
	maxAsks   = 3                // requests of one flight: the store may know another day or generation
	maxPaths  = 512              // paths inside /* that are counted one by one, for each app
)

// Options of New.
type Options struct {
	Counters Counters         // where the counters live: NewRedis or NewBolt
	Now      func() time.Time // default time.Now
	Observe  func(Event)      // told of the store going away and coming back; may be nil

	// Look asks WeChat how many calls it has counted today, before the first call of a day that the
	// store knows nothing of; it reports false when nobody knows. Callers wait for it. May be nil.
	Look func(ctx context.Context, app string, match Match) (used int64, ok bool)
}

// Event is something that an operator should hear of, once for each change.
type Event struct {
	Kind EventKind
	Err  error  // of StoreDown
	App  string // appid, of NoFigure
	Rule string // of NoFigure
}

// EventKind says what an event is about.
type EventKind uint8

// The kinds of event.
const (
	StoreDown EventKind = iota // a request to the store had no answer
	StoreUp                    // the store answers again
	StoreLost                  // the store has lost writes, which are being restored
	NoFigure                   // the first call of a rule without a published figure: counted, never refused
)

func (k EventKind) String() string {
	return [...]string{"store down", "store up", "store lost writes", "no figure"}[k]
}

// Limiter decides calls. It is safe for concurrent use.
type Limiter struct {
	counters Counters
	patience time.Duration // how long a call may wait for the store
	now      func() time.Time
	started  time.Time
	observe  func(Event)
	lookAt   func(ctx context.Context, app string, match Match) (used int64, ok bool)

	apps   atomic.Pointer[rulesets]
	cal    atomic.Pointer[calendar]
	offset atomic.Int64 // the store's clock less ours, ns
	down   atomic.Bool  // the last request to the store had no answer

	breaker  breaker
	gateways atomic.Int64 // how many share the store, as last heard; 0: unknown, or no fleet

	mu      sync.RWMutex
	meters  map[string]map[string]*meter // by app and name
	paths   map[string]int               // meters of paths inside /*, by app
	due     agenda
	warned  map[ruleKey]bool // rules without a figure that NoFigure was said of
	cleared map[string]int64 // clears of whole apps that the store has not heard of, by app
	closed  bool

	wake    chan struct{} // of one; tells the settler that due has something sooner
	stop    chan struct{}
	flights sync.WaitGroup // the settler, and flights that no call leads
}

type ruleKey struct{ app, rule string }

// rulesets are the rules of each app by appid, and those of the apps that are not configured.
type rulesets struct {
	of     map[string]*Ruleset
	others *Ruleset // nil: there are no others
}

// New returns a limiter that counts in o.Counters. Close it when no call runs any more.
func New(o Options) *Limiter {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Observe == nil {
		o.Observe = func(Event) {}
	}
	l := &Limiter{
		counters: o.Counters,
		patience: o.Counters.Patience(),
		now:      o.Now,
		started:  o.Now(),
		observe:  o.Observe,
		lookAt:   o.Look,
		meters:   make(map[string]map[string]*meter),
		paths:    make(map[string]int),
		due:      agenda{times: make(map[*meter][]time.Time)},
		warned:   make(map[ruleKey]bool),
		cleared:  make(map[string]int64),
		wake:     make(chan struct{}, 1),
		stop:     make(chan struct{}),
	}
	l.apps.Store(&rulesets{})
	l.flights.Go(l.settler)
	l.flights.Go(l.registrar)
	return l
}

// Configure sets the rules of each app, by appid, at start and on reload, and those of the apps
// that are learned while calls run; others may be nil. Counters go on; new figures hold from the
// next call. All rulesets must have the same zone.
func (l *Limiter) Configure(apps map[string]*Ruleset, others *Ruleset) {
	l.apps.Store(&rulesets{of: apps, others: others})
}

// Rules returns the rules of an app, or nil when it has none.
func (l *Limiter) Rules(app string) *Ruleset {
	s := l.apps.Load()
	if rules := s.of[app]; rules != nil {
		return rules
	}
	return s.others
}

// Family reports whether a canonical path lies in a family of any app's table.
func (l *Limiter) Family(path string) bool {
	name := family(fold(path))
	s := l.apps.Load()
	for _, rules := range s.of {
		if rules.families[name] {
			return true
		}
	}
	return s.others != nil && s.others.families[name]
}

// storeNow is the store's clock, as far as it is known.
func (l *Limiter) storeNow() time.Time { return l.atStore(l.now()) }

// atStore is the store's clock when ours says now.
func (l *Limiter) atStore(now time.Time) time.Time { return now.Add(time.Duration(l.offset.Load())) }

// calendar returns the windows of now, by the store's clock.
func (l *Limiter) calendar() *calendar {
	now := l.storeNow()
	zone := time.UTC
	s := l.apps.Load()
	if s.others != nil {
		zone = s.others.Zone
	}
	for _, rules := range s.of {
		zone = rules.Zone
		break
	}
	cal := l.cal.Load()
	if !cal.holds(now, zone) {
		cal = newCalendar(now, zone)
		l.cal.Store(cal)
	}
	return cal
}

// Call names what is counted: who calls what for which app.
type Call struct {
	App    string // appid
	Caller string // "" when nobody is known
	Match  Match  // with a rule
}

// Take counts one call, or refuses it. A refused call changes no count. Take never waits longer
// than the store's Patience, and a caller that goes away does not cut it short. A call that may be
// sent must be ended by Done or GiveBack. A rule that is only a shadow refuses nothing: its verdict is Shadow
// where it would have, Degraded where nobody could tell.
func (l *Limiter) Take(ctx context.Context, call Call) Decision {
	d := Decision{Rule: call.Match.Rule, Counter: call.Match.Counter}
	if d.Rule.Budget.Kind == Denied {
		d.Verdict = RefusedDenied
		return d
	}
	if d.Rule.Pace.Rate > 0 {
		l.pace(ctx, call, &d)
	}
	if d.Verdict.Sent() {
		l.takeQuota(ctx, call, &d)
	}
	switch d.Verdict {
	case RefusedStore:
		l.local(call, &d)
	case RefusedLatched:
		l.probe(ctx, call, &d)
	}
	if d.Rule.Shadow && !d.Verdict.Sent() {
		verdict := Shadow
		if d.Verdict == RefusedStore {
			verdict = Degraded
		}
		l.count(call, &d, true)
		d.Verdict, d.RetryAfter = verdict, 0
	}
	return d
}

func (l *Limiter) pace(ctx context.Context, call Call, d *Decision) {
	var wait time.Duration
	err := errNotAsked
	if l.breaker.allows(true, l.now()) {
		if wait, err = l.counters.Pace(context.WithoutCancel(ctx), call.App, d.Rule.Name, d.Rule.Pace); err != nil {
			l.answered(err)
			l.breaker.result(err, l.now())
			l.wakeSettler()
		}
	}
	switch {
	case err != nil:
		d.Verdict, d.RetryAfter = RefusedStore, time.Second
	case wait > 0:
		d.Verdict, d.RetryAfter = RefusedPace, max(wait, time.Second)
	}
}

// takeQuota takes one call of every counter that has a figure, all or none: of the block that was
// counted ahead, or else of the store. Without a figure nothing can be refused: the call is counted
// and the store hears of it later.
func (l *Limiter) takeQuota(ctx context.Context, call Call, d *Decision) {
	if len(d.Rule.Budget.Quotas) == 0 && len(d.Rule.Shares[call.Caller].Quotas) == 0 {
		l.count(call, d, false)
		return
	}
	now := l.now()
	m := l.lock(call.App, call.Match)
	d.Counter = m.name
	s := m.set(call.Caller)
	s.arrive(now)
	latched := m.latchedBy(l.atStore(now))
	switch {
	case latched != nil:
		l.refused(d, m, latched, now)
		m.mu.Unlock()
	case s.spends(d.Rule, now):
		l.spend(d, m, s, now)
		m.mu.Unlock()
	case s.refuses(d.Rule, now, l.atStore(now)):
		l.refused(d, m, s.full, now)
		m.mu.Unlock()
	default:
		if s.left > 0 { // of another table, or past its window
			m.void(s)
			defer l.settle(m, 0)
		}
		l.ask(ctx, m, call.Caller, d)
	}
}

// wantsOf returns the counters of a call. A rule without a figure has one all the same.
func wantsOf(rule *Rule, name, caller string) []want {
	wants := make([]want, 0, 4)
	for _, q := range rule.Budget.Quotas {
		wants = append(wants, want{name: name, period: q.Period, limit: q.Limit})
	}
	if len(wants) == 0 {
		wants = append(wants, want{name: name, period: Day, limit: noLimit})
	}
	if share, ok := rule.Shares[caller]; ok && caller != "" {
		for _, q := range share.Quotas {
			wants = append(wants, want{name: name + "@" + caller, period: q.Period, limit: q.Limit})
		}
	}
	return wants
}

// count counts a call that is sent whatever the figures are; the store hears of it within a
// second, and nobody waits for it. Only a latch holds it back, unless the call is forced.
func (l *Limiter) count(call Call, d *Decision, forced bool) {
	cal, now := l.calendar(), l.now()
	m := l.lock(call.App, call.Match)
	defer l.settle(m, quietLife)
	defer m.mu.Unlock()
	d.Counter = m.name
	wants := wantsOf(d.Rule, m.name, call.Caller)
	counters := make([]*counter, len(wants))
	for i, w := range wants {
		counters[i] = m.counter(w, cal)
		if !forced && l.atStore(now).UnixMilli() < counters[i].latch {
			l.refused(d, m, counters[i], now)
			return
		}
	}
	for _, c := range counters {
		c.count()
	}
	d.Verdict, d.meter, d.held, d.Counted = Pass, m, counters, l.atStore(now).UnixMilli()
	d.generation = counters[0].generation
	l.figures(d, counters, now)
}

// ask has the store decide a call, alone or in one flight with others. m.mu is held, and is not on
// return.
func (l *Limiter) ask(ctx context.Context, m *meter, caller string, d *Decision) {
	cal, now := l.calendar(), l.now()
	wants := wantsOf(d.Rule, m.name, caller)
	for _, w := range wants {
		c := m.counters[counterKey{cal.of[w.period].Name, w.name}]
		if c != nil && c.fullLimit == w.limit && now.Before(c.fullUntil) {
			l.refused(d, m, c, now)
			m.mu.Unlock()
			return
		}
	}
	w := &waiter{caller: caller, wants: wants, since: now, signal: make(chan bool, 1), decision: *d}
	m.queue = append(m.queue, w)
	lead := !m.flying
	m.flying = true
	m.mu.Unlock()

	if lead { // alone: its own round trip, without a hand-off
		l.fly(ctx, m)
		<-w.signal
		*d = w.decision
		return
	}
	l.await(ctx, m, w, d)
}

// await waits until a call is decided, in a flight that another one leads or that it comes to lead.
func (l *Limiter) await(ctx context.Context, m *meter, w *waiter, d *Decision) {
	timer := time.NewTimer(l.patience)
	defer timer.Stop()
	for {
		select {
		case lead := <-w.signal:
			switch {
			case !lead:
				*d = w.decision
				return
			case l.now().Sub(w.since) > l.patience-l.flightBudget():
				l.flights.Go(func() { l.fly(ctx, m) })
			default:
				l.fly(ctx, m)
			}
		case <-timer.C:
			if wait := l.waits(m, w); wait > 0 { // WeChat was asked something first
				timer.Reset(wait)
				continue
			}
			if l.giveUp(m, w) {
				d.Verdict, d.RetryAfter = RefusedStore, time.Second
			} else {
				*d = w.decision
			}
			return
		}
	}
}

// flightBudget is how long one flight may take: most of a call's patience, so that a call that had
// to wait for its turn still has one.
func (l *Limiter) flightBudget() time.Duration { return l.patience * 4 / 5 }

// giveUp ends the wait of a call whose time is up. It reports false when the call was decided at
// the same moment.
func (l *Limiter) giveUp(m *meter, w *waiter) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case lead := <-w.signal:
		if !lead {
			return false
		}
		m.withdraw(w)
		m.land()
	default:
		m.withdraw(w)
	}
	return true
}

// exchange sends a request and keeps watch over the store's state and clock.
func (l *Limiter) exchange(ctx context.Context, r *Request) (*Answer, error) {
	if !l.breaker.allows(r.Want > 0, l.now()) {
		return nil, errNotAsked
	}
	a, err := l.counters.Exchange(ctx, r)
	l.answered(err)
	if l.breaker.result(err, l.now()) {
		l.restate()
	}
	if err != nil {
		return nil, err
	}
	if skew := time.UnixMilli(a.Now).Sub(l.storeNow()); a.Status == Outside || skew > time.Second || skew < -time.Second {
		l.offset.Store(int64(time.UnixMilli(a.Now).Sub(l.now())))
	}
	if a.Lost {
		l.observe(Event{Kind: StoreLost})
		l.restate()
	}
	return a, nil
}

func (l *Limiter) answered(err error) {
	if failed := err != nil; l.down.CompareAndSwap(!failed, failed) {
		if failed {
			l.observe(Event{Kind: StoreDown, Err: err})
		} else {
			l.observe(Event{Kind: StoreUp})
		}
	}
}

// Degraded reports whether the last request to the store had no answer.
func (l *Limiter) Degraded() bool { return l.down.Load() }

// Done ends a call that was answered or whose fate is unknown: it stays counted. errcode is
// WeChat's: 0 of an answer that has none, -1 when no answer was seen. 45009 latches the call's
// counter on every gateway. A path inside a /* that WeChat does not know (40066) is
// forgotten, so that guessed paths do not use up the places of real ones.
func (l *Limiter) Done(d *Decision, errcode int) {
	m := d.meter
	if m == nil {
		return
	}
	m.mu.Lock()
	for _, c := range d.held {
		c.inFlight--
	}
	latched, lifted := false, false
	switch {
	case errcode == errcodeQuota:
		latched = l.latch(m, d)
	case d.probe && errcode != errcodeNone:
		l.lift(m, d)
		lifted = true
	}
	m.mu.Unlock()
	d.meter, d.held = nil, nil
	if latched { // the next probe is five minutes off, for every gateway
		ctx, cancel := context.WithTimeout(context.Background(), l.patience)
		_, _ = l.counters.Probe(ctx, m.app, m.name, probeGap) // without it a probe may come early
		cancel()
	}
	if latched || lifted {
		l.settle(m, 0)
	}
	if errcode == errcodeInvalidURL && m.name != d.Rule.Name {
		l.forget(m)
	}
}

// Errcodes that mean something to a counter.
const (
	errcodeNone       = -1 // no answer was seen
	errcodeInvalidURL = 40066
)

// GiveBack ends a call that provably never left: it is not counted.
func (l *Limiter) GiveBack(d *Decision) {
	m := d.meter
	if m == nil {
		return
	}
	m.mu.Lock()
	for _, c := range d.held {
		c.inFlight--
		if c.held > 0 {
			c.held--
		}
		c.dirty = true
		c.fullUntil = time.Time{}
	}
	m.mu.Unlock()
	d.meter, d.held = nil, nil
	l.settle(m, 0)
}

// Count counts a call that is never refused, whatever its rule says: the gateway's own.
func (l *Limiter) Count(app, path string) {
	rules := l.Rules(app)
	if rules == nil {
		return
	}
	match := rules.Match(path)
	if match.Rule == nil || match.Rule.Budget.Kind == Denied {
		return
	}
	d := Decision{Rule: match.Rule}
	l.count(Call{App: app, Match: match}, &d, true)
	l.Done(&d, 0)
}

// lock returns the meter of a match, locked.
func (l *Limiter) lock(app string, match Match) *meter {
	for {
		m := l.meter(app, match)
		m.mu.Lock()
		if !m.gone {
			return m
		}
		m.mu.Unlock()
	}
}

// meter returns the meter of a match, new if need be. Past maxPaths paths inside /*, the rest of
// a rule share one.
func (l *Limiter) meter(app string, match Match) *meter {
	l.mu.RLock()
	m := l.meters[app][match.Counter]
	l.mu.RUnlock()
	if m != nil {
		return m
	}
	l.mu.Lock()
	meters := l.meters[app]
	if m := meters[match.Counter]; m != nil {
		l.mu.Unlock()
		return m
	}
	rule := ruleKey{app, match.Rule.Name}
	if match.Rule.Budget.Kind == Unknown && !l.warned[rule] {
		l.warned[rule] = true
		defer l.observe(Event{Kind: NoFigure, App: app, Rule: rule.rule})
	}
	defer l.mu.Unlock()
	name := match.Counter
	if name != match.Rule.Name {
		if l.paths[app] >= maxPaths {
			name = match.Rule.Name + ":*"
			if m := meters[name]; m != nil {
				return m
			}
		} else {
			l.paths[app]++
		}
	}
	m = &meter{
		app: app, name: name,
		counters: make(map[counterKey]*counter), sets: make(map[string]*set), generations: make(map[string]int64),
	}
	if meters == nil {
		meters = make(map[string]*meter)
		l.meters[app] = meters
	}
	meters[name] = m
	return m
}

// all returns the meters of all apps.
func (l *Limiter) all() []*meter {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var meters []*meter
	for _, of := range l.meters {
		for _, m := range of {
			meters = append(meters, m)
		}
	}
	return meters
}

// metersOf returns the meters of an app.
func (l *Limiter) metersOf(app string) []*meter {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Collect(maps.Values(l.meters[app]))
}

// forget drops the meter of a path, unless somebody still uses it. What it has not said to the
// store is never said: the path does not exist.
func (l *Limiter) forget(m *meter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.flying || len(m.queue) > 0 || l.meters[m.app][m.name] != m {
		return
	}
	for _, c := range m.counters {
		if c.inFlight > 0 || c.version > 0 {
			return
		}
	}
	m.gone = true
	if delete(l.meters[m.app], m.name); len(l.meters[m.app]) == 0 {
		delete(l.meters, m.app)
	}
	l.due.drop(m)
	if !strings.HasSuffix(m.name, ":*") {
		l.paths[m.app]--
	}
}

// Usage is what an app has used of one counter in one window.
type Usage struct {
	Rule      *Rule
	Counter   string // the rule's name, or that of one path inside a /*; and @caller for a share
	Period    Period
	Limit     int64 // 0: the rule has no figure
	Used      int64
	Remaining int64 // 0 where there is no figure
	Reset     time.Time
	Latched   bool // WeChat itself has said 45009

	Generation   int64 // of the last clear, milliseconds since 1970; 0: none in this window
	StartUnknown bool  // WeChat did not say how many calls were made before the first of the day
}

// Usage returns what an app has used in the windows of now: a line for each quota of each rule in
// the table's order, and one for each path inside a /* that was called.
func (l *Limiter) Usage(ctx context.Context, app string) ([]Usage, error) {
	rules := l.Rules(app)
	if rules == nil {
		return nil, fmt.Errorf("app %s: not configured", app)
	}
	cal := l.calendar()
	stored, err := l.counters.Read(ctx, app, cal.of[:])
	if err != nil {
		return nil, err
	}
	return l.usage(app, rules, cal, stored), nil
}
