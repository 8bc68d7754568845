package limits

import (
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// world is one run of the model: gateways, their store, WeChat, and every call there ever was.
//
// There are three clocks. Running time is that of the bubble: laws about how long something may take
// use it. The true time is running time and the jumps of all clocks; WeChat uses it, and the hosts
// with a skew. The store's clock has an offset that may change.
type world struct {
	zone      *time.Location
	jump      atomic.Int64 // ns by which all clocks were set forward
	suspended atomic.Int64 // ns by which only the wall clocks were: the hosts stood still
	inFlight  sync.WaitGroup

	texts   map[string]string // the quotas of the fleet's table
	seed    bool              // a day begins with WeChat's own count
	rtt     time.Duration
	skew    time.Duration // between the hosts
	started int

	mu       sync.Mutex // covers what follows, and the store, its handles and WeChat
	store    *modelStore
	wechat   *modelWeChat
	gateways []*modelGateway
	dead     []*modelGateway
	calls    map[string][]*modelCall // by app and counter
	issued   map[string][]issued     // generations, by app
	latches  map[modelKey]*modelLatch
	extra    map[modelKey]issued // the calls that a generation began with, by quota/get
	around   map[modelKey]int64  // calls around the gateways
	asked    map[modelKey]bool   // counters that WeChat's own count may have raised
	grants   map[modelKey][]*modelGrant
	full     map[modelKey]int64     // counters that a 48006 filled, with their limit
	epoch    map[string]time.Time   // when an app was forgotten last
	forgot   map[string][]time.Time // when a gateway forgot an app, by gateway and app
	stepped  time.Duration          // by how much the store's clock was set in all
	outage   time.Time              // when the store went away last, running time
	day      string                 // of the last step
	month    string
	occurred map[string]int
	trace    []func() string
	broken   string // the first law that was broken
}

// issued is a generation that a clear has begun.
type issued struct {
	counter    string // "": the whole app
	window     string
	generation int64
	calls      int64         // that it began with
	sent       time.Time     // running time
	stored     bool          // the store has it
	by         *modelGateway // that has to report it
}

// modelLatch is what the model knows of the 45009s of a window and generation.
type modelLatch struct {
	times   int
	set     time.Time // running time
	until   int64     // the store's clock: it must be over by then
	since   int64     // the store's clock when it was set
	settled time.Time // when it was known to be a minute's, running time
	before  int       // times until then
}

// modelGateway is one process.
type modelGateway struct {
	name     string
	ended    bool // it was closed, and had reported everything
	h        *modelHandle
	l        *Limiter
	skew     time.Duration
	born     time.Time // running time
	bornAt   time.Time // the store's clock
	dead     bool
	texts    map[string]string // the quotas of its table
	tables   []tableSince
	active   map[string]time.Time // when there was something about an app and counter, running time
	latched  map[string]time.Time // when the first 45009 of a counter ended, which surely latches it, running time
	quota    map[string]time.Time // when the last one did
	lost     time.Time            // the last StoreLost
	lossSeen time.Time            // when an answer last reported lost writes, running time
	losses   []time.Time          // all of them
	dropped  map[string]time.Time // when it may have forgotten an app last, running time
}

// tableSince is a table from a moment on.
type tableSince struct {
	at  time.Time // running time
	set *Ruleset  // nil: the app is not configured
}

// modelApp has all the events; otherApp only calls.
const modelApp, otherApp = "wx1", "wx2"

// now is the true time.
func (w *world) now() time.Time {
	return time.Now().Add(time.Duration(w.jump.Load() + w.suspended.Load()))
}

// hostNow is the clock of a host. Its monotonic reading, which a bubble's clock has not, knows nothing of
// the time that the host was suspended.
func (w *world) hostNow(skew time.Duration) (t time.Time) {
	now := w.now().Add(skew)
	reading := (*struct {
		wall uint64
		ext  int64
		loc  *time.Location
	})(unsafe.Pointer(&t)) // as package time lays it out: 1 bit, seconds since 1885, and nanoseconds
	reading.wall = 1<<63 | uint64(now.Unix()-year1885)<<30 | uint64(now.Nanosecond())
	reading.ext = int64(time.Since(bubbleStart)) + w.jump.Load() + int64(skew)
	return t
}

var (
	year1885    = time.Date(1885, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	bubbleStart = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
)

// note records something for the trace of a failure.
func (w *world) note(format string, args ...any) {
	if w.broken != "" {
		return
	}
	at := w.now().In(w.zone)
	w.trace = append(w.trace, func() string { return at.Format("02 15:04:05.000 ") + fmt.Sprintf(format, args...) })
}

// occurs counts an event that every run of the model must have.
func (w *world) occurs(event string) { w.occurred[event]++ }

// broke records that a law was broken.
func (w *world) broke(format string, args ...any) {
	if w.broken == "" {
		w.note("BROKEN: "+format, args...)
		w.broken = fmt.Sprintf(format, args...)
	}
}

// spawn runs something beside the steps. What panics breaks a law.
func (w *world) spawn(f func()) {
	w.inFlight.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.broke("panic: %v\n%s", p, debug.Stack())
			}
		}()
		f()
	})
}

// window returns the name of the window of a time by the store's clock.
func (w *world) window(p Period, store time.Time) Window { return windowAt(p, store, w.zone) }

// start starts a gateway with the table that the fleet has.
func (w *world) start(skew time.Duration) *modelGateway {
	w.started++
	name := fmt.Sprintf("g%d.", w.started)
	g := &modelGateway{
		name: name, h: w.store.handle(name, w.rtt), skew: skew, born: time.Now(), bornAt: w.store.now(), texts: maps.Clone(w.texts),
		active: make(map[string]time.Time), latched: make(map[string]time.Time), quota: make(map[string]time.Time), dropped: make(map[string]time.Time),
	}
	o := Options{Counters: g.h, Now: func() time.Time { return w.hostNow(skew) }, Observe: func(e Event) { w.observed(g, e) }}
	if w.seed {
		o.Look = func(ctx context.Context, app string, match Match) (int64, bool) {
			if !g.h.wait(ctx, 50*time.Millisecond) {
				return 0, false
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.occurs("seed")
			return w.wechat.asked(app, match.Counter), true
		}
	}
	g.l = New(o)
	g.configure(w, true)
	return g
}

// observed checks a gateway's events. It may be called with any lock but the world's.
func (w *world) observed(g *modelGateway, e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.occurs("event " + e.Kind.String())
	w.note("%s: %s %s", g.name, e.Kind, e.Counter)
	if e.Kind == StoreLost {
		if now := time.Now(); now.Sub(g.lost) < 990*time.Millisecond {
			w.broke("%s: StoreLost twice within a second", g.name)
		} else {
			g.lost = now
		}
	}
	if e.App == otherApp && (e.Kind == RuleLatched || e.Kind == RuleUnlatched) {
		w.broke("%s: %s of an app that WeChat never refused", g.name, e.Kind)
	}
}

// modelTable is the quotas that a run begins with, by rule, but for those that it draws.
var modelTable = []struct{ rule, path string }{
	{"small", "/cgi-bin/small"},
	{"large", "/cgi-bin/large"},
	{"both", "/cgi-bin/both"},
	{"shared", "/cgi-bin/shared"},
	{"kept", "/cgi-bin/kept"},
	{"free", "/cgi-bin/free"},
	{"each", "/cgi-bin/each/*"},
	{"other", "/cgi-bin/other/*"},
	{"clear", "/cgi-bin/clear_quota"},
}

// configure gives a gateway the rules of its quotas, or takes the app out of its configuration.
func (g *modelGateway) configure(w *world, with bool) {
	var rules []*Rule
	for _, row := range modelTable {
		budget, err := ParseBudget(strings.Split(g.texts[row.rule], " ")...)
		if err != nil {
			panic(err)
		}
		r := &Rule{Name: row.rule, Paths: []string{row.path}, Budget: budget, OnError: StoreErrorRefuse}
		switch row.rule {
		case "large":
			r.OnError = StoreErrorLocal
		case "shared":
			share, err := ParseBudget(g.texts["share"])
			if err != nil {
				panic(err)
			}
			r.Shares = map[string]Budget{"crm": share}
		case "kept":
			r.OnError = StoreErrorLocal
			r.Reserve = map[string]int64{"crm": 1}
			if n, err := strconv.ParseInt(g.texts["reserve"], 10, 64); err == nil && n > 0 {
				r.Reserve["oncall"] = n
			}
		}
		rules = append(rules, r)
	}
	table := &Table{Zone: w.zone, Profiles: map[string]*Profile{"p": {Name: "p", Rules: rules}}}
	set, err := table.Rules("p", nil)
	if err != nil {
		panic(err)
	}
	apps := map[string]*Ruleset{otherApp: set}
	if with {
		apps[modelApp] = set
	} else {
		set = nil
	}
	g.l.Configure(apps, nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	g.tables = append(g.tables, tableSince{time.Now(), set})
}

// figure is one counter of a call with its limit; noLimit: it has none.
type figure struct {
	counter string
	period  Period
	limit   int64
}

// figuresOf returns the counters of a call by a table.
func figuresOf(rule *Rule, base, caller string) (f []figure) {
	for _, q := range rule.Budget.Quotas {
		f = append(f, figure{base, q.Period, q.Limit})
	}
	if len(f) == 0 {
		f = append(f, figure{base, Day, noLimit})
	}
	if share, ok := rule.Shares[caller]; ok && caller != "" {
		f = append(f, figure{base + "@" + caller, Day, share.Quotas[0].Limit})
	}
	if rule.Reserve[caller] > 0 && caller != "" && rule.Budget.Kind == Limited {
		f = append(f, figure{base + "@" + caller, Day, noLimit})
	}
	return f
}

// limited reports whether a call has a figure at all.
func limited(f []figure) bool {
	return slices.ContainsFunc(f, func(x figure) bool { return x.limit < noLimit })
}

// ruleNow returns the rule of a call in the table that its gateway has now.
func (c *modelCall) ruleNow() *Rule {
	if set := c.g.tables[len(c.g.tables)-1].set; set != nil {
		return set.Rule(c.rule.Name)
	}
	return nil
}

// touch notes that a gateway has something to report about a counter.
func (g *modelGateway) touch(app, base string) { g.active[app+" "+base] = time.Now() }

// knows returns the generation of a counter that a gateway surely knows.
func (g *modelGateway) knows(app, window, name string) int64 {
	if h := g.h.answers[modelKey{app, window, name}]; !h.vague {
		return h.generation
	}
	return 0
}

// alive returns a gateway by its number.
func (w *world) alive(n int) *modelGateway { return w.gateways[n%len(w.gateways)] }

// kill ends a process as kill -9 does.
func (w *world) kill(g *modelGateway) {
	w.mu.Lock()
	g.dead, g.h.dead = true, true
	for _, calls := range w.calls {
		for _, c := range calls {
			if c.g == g && (!c.stored || c.back || c.knew < g.knows(c.app, c.day, c.base)) { // or it is carried over a clear
				c.maybe = true
			}
		}
	}
	w.dead = append(w.dead, g)
	w.mu.Unlock()
	_ = g.l.Close(context.Background()) // nothing of it reaches the store
}
