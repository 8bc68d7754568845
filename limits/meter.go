package limits

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Times of the protocol.
const (
	fullTTL      = time.Second      // how long a full or latched counter refuses from memory
	quietTime    = time.Second      // how long a report may wait that no call waits for, and a block may be idle
	retryTime    = time.Second      // how soon a report that had no answer is repeated
	lateTTL      = 10 * time.Second // how late a frozen store may apply a request
	noticeTime   = 4 * time.Second  // how long a clear may take to be noticed, where its time is of no use
	settlingTime = 10 * time.Minute // WeChat's midnight is not ours to the second, nor are its clears
	windowGrace  = 23 * time.Hour   // how long after its end a window can be reported: less than the store keeps it
)

// moment is one reading of the clocks.
type moment struct {
	at    time.Time     // this host's clock, with its monotonic reading
	since time.Duration // since shortly before the start, by the monotonic clock: never 0
	store int64         // the store's clock, as far as it is known, in milliseconds since 1970

	margin time.Duration // by how much store may be wrong
}

// meter is the gateway's side of one rule of one app, or of one path inside a /*: its counters in
// the windows of now, and in earlier ones as long as there is something to report. It is a state
// machine without I/O: decide returns what becomes of a call, request makes the request that the store
// needs to see, apply takes in the answer. Requests for one counter must reach the store in order, so
// one goroutine at a time works for a meter (running), and calls that it does not decide from
// memory wait for it in batches.
//
// A meter that is forgotten and made again has a new life: its part in the store is another one,
// and what its former life counted stays counted.
type meter struct {
	account *account
	name    string
	life    int64
	path    bool   // counts one path inside a /*, which takes a place of the account
	spelled string // that path as its first caller spelled it; "": as in name
	shared  bool   // counts the paths that found no place; it never latches, for it would latch all of them

	mu          sync.Mutex // covers what follows; never held over I/O
	counters    []*counter
	groups      []*group
	generations []WindowReport // of whole windows that were cleared

	running bool     // a goroutine works for the meter
	seeding bool     // it waits for WeChat's own count
	retired bool     // the app was taken out of the configuration
	gone    bool     // forgotten: another meter has taken its place
	report  *report  // the next thing to do; nil: none
	pending []*batch // to be done after it, in this order

	// By moment.since; 0: none.
	scheduled time.Duration // when the reporter comes
	reported  time.Duration // when the last report was made
	nextProbe time.Duration // when this gateway may ask again for the turn to probe
}

// group is the counters of one call, which are granted all or none: those of a rule, and of the
// caller's share of it. It holds the block of calls that were counted ahead for them. A group never
// changes its counters; another table or another day makes a new one.
type group struct {
	rule     *Rule
	caller   string
	calendar *calendar
	asked    []*counter // those that a request is about: counters, and those of reserves
	counters []*counter // those that a call is counted in
	reserves []reserve  // of other callers
	limited  bool       // some counter has a figure

	block block
	recent
	kept reserved
}

// need is one counter of a call with the figure that it must stay under.
type need struct {
	name   string
	period Period
	limit  int64

	reserve int64 // over 0: the call is not counted in it. It is that of another caller, with its reserve
}

// needsOf returns the counters of a call, and then those of other callers' reserves. A rule without a figure
// has one all the same.
func needsOf(rule *Rule, name, caller string) []need {
	needs := make([]need, 0, 4)
	for _, q := range rule.Budget.Quotas {
		needs = append(needs, need{name: name, period: q.Period, limit: q.Limit})
	}
	if len(needs) == 0 {
		needs = append(needs, need{name: name, period: Day, limit: noLimit})
	}
	if share, ok := rule.Shares[caller]; ok && caller != "" {
		for _, q := range share.Quotas {
			needs = append(needs, need{name: name + "@" + caller, period: q.Period, limit: q.Limit})
		}
	}
	if len(rule.Reserve) > 0 {
		needs = appendReserves(needs, rule, name, caller)
	}
	return needs
}

// group returns the group of a caller's calls under a rule and a calendar. The block of the one before
// goes back.
func (m *meter) group(rule *Rule, caller string, cal *calendar) *group {
	i := slices.IndexFunc(m.groups, func(g *group) bool { return g.caller == caller })
	if i >= 0 && m.groups[i].rule == rule && m.groups[i].calendar == cal {
		return m.groups[i]
	}
	g := &group{rule: rule, caller: caller, calendar: cal}
	for _, n := range needsOf(rule, m.name, caller) {
		c := m.counter(n.name, &cal.of[n.period])
		c.limit = n.limit
		if n.reserve > 0 {
			g.reserves = append(g.reserves, reserve{c, n.reserve})
			continue
		}
		g.limited = g.limited || n.limit < noLimit
		g.counters = append(g.counters, c)
	}
	// A month that this process has counted goes on while its rule has none: a reload may bring it back.
	if c := m.find(m.name, cal.of[Month].Name); c != nil && !slices.Contains(g.counters, c) {
		c.limit = noLimit
		g.counters = append(g.counters, c)
	}
	g.asked = g.counters
	for _, r := range g.reserves {
		g.asked = append(slices.Clip(g.asked), r.counter)
	}
	if i < 0 {
		m.groups = append(m.groups, g)
	} else {
		m.releaseBlock(m.groups[i])
		g.recent = m.groups[i].recent
		m.groups[i] = g
	}
	return g
}

// find returns the counter of a name in a window, or nil.
func (m *meter) find(name, window string) *counter {
	for _, c := range m.counters {
		if c.window.Name == window && c.name == name {
			return c
		}
	}
	return nil
}

// counter returns the counter of a name in a window of now, new if need be. A new one has the
// generation of its window.
func (m *meter) counter(name string, w *Window) *counter {
	c := m.find(name, w.Name)
	if c == nil {
		c = &counter{window: w, end: w.End.UnixMilli(), name: name, generation: m.windowGeneration(w.Name)}
		m.counters = append(m.counters, c)
	}
	return c
}

// windowGeneration returns the generation of a whole window; 0: it was not cleared.
func (m *meter) windowGeneration(window string) int64 {
	for _, w := range m.generations {
		if w.Name == window {
			return w.Generation
		}
	}
	return 0
}

// learnGeneration moves a whole window to a generation, by a clear that was sent at a time.
func (m *meter) learnGeneration(w Window, generation, at int64, now moment) {
	if generation == 0 || generation <= m.windowGeneration(w.Name) {
		return
	}
	if i := slices.IndexFunc(m.generations, func(known WindowReport) bool { return known.Name == w.Name }); i >= 0 {
		m.generations[i].Generation = generation
	} else {
		m.generations = append(m.generations, WindowReport{w, generation})
	}
	for _, c := range m.counters {
		if c.window.Name == w.Name && c.generation < generation {
			c.adopt(generation, at, now)
		}
	}
}

// decide decides n calls from memory. It reports false where the store has to be asked: that is
// once a second where there is no room or WeChat has refused, so that every change is seen
// within a second.
func (m *meter) decide(g *group, n int64, now moment) (verdict Verdict, by *counter, decided bool) {
	if c := m.latchedBy(g, now); c != nil {
		return RefusedLatched, c, now.since < c.closedUntil
	}
	switch {
	case !g.limited:
		for _, c := range g.counters {
			c.own.local += n
		}
	case g.block.left >= n && now.since < g.block.until:
		g.block.left -= n
		g.block.used = now.since
		for _, c := range g.counters {
			c.own.reserved -= n
		}
	default:
		for _, c := range g.counters {
			if c.closed(now) {
				return m.refusal(c, now), c, true
			}
		}
		if c := g.kept.by(now); c != nil {
			return RefusedReserved, c, true
		}
		return 0, nil, false
	}
	for _, c := range g.counters {
		c.own.inFlight += n
	}
	return Pass, nil, true
}

// refusal is the verdict where a counter has no room.
func (m *meter) refusal(c *counter, now moment) Verdict {
	switch {
	case c.closedLatched || c.latched(now.store):
		return RefusedLatched
	case c.name != m.name:
		return RefusedShare
	}
	return RefusedQuota
}

// lifeName is the name of the meter's life in requests.
func (m *meter) lifeName() string {
	if m.life == 0 {
		return ""
	}
	return strconv.FormatInt(m.life, 36)
}

// request makes the request about counters, for want calls and a block of so many. With day, the
// day's generation is asked for too: a rule that is counted by the month only has to know it.
func (m *meter) request(counters []*counter, want, block int64, day *Window) *Request {
	r := &Request{App: m.account.appid, Life: m.lifeName(), Want: want, Block: block, Counters: make([]Report, len(counters))}
	window := func(w *Window) int {
		i := slices.IndexFunc(r.Windows, func(other WindowReport) bool { return other.Name == w.Name })
		if i < 0 {
			i = len(r.Windows)
			r.Windows = append(r.Windows, WindowReport{Window: *w, Generation: m.windowGeneration(w.Name)})
		}
		return i
	}
	for i, c := range counters {
		r.restates = r.restates || c.restate
		r.unsure = r.unsure || c.unacked
		r.Counters[i] = Report{
			Window:     window(c.window),
			Name:       c.name,
			Limit:      c.limit,
			Generation: c.generation,
			Version:    c.remote.Version,
			Others:     c.remote.Used - c.acked,
			Acked:      c.acked,
			Local:      c.own.local,
			Latch:      c.latch,
			Raise:      c.raise,
			Grant:      c.remote.Grant,
			Over:       c.remote.Grant.At,
		}
		if c.wish != nil {
			r.Counters[i].Grant, r.Counters[i].Over = c.wish.grant, c.wish.over
		}
	}
	if day != nil {
		window(day)
	}
	return r
}

// apply takes in the answer to a request about counters.
func (m *meter) apply(counters []*counter, r *Request, a *Answer, now moment) {
	for i, g := range a.Generations {
		m.learnGeneration(r.Windows[i].Window, g, g, now)
	}
	block := a.Block
	for i, c := range counters {
		if c.generation != r.Counters[i].Generation {
			block = 0 // cleared since: what other counters have of the block goes back
		}
	}
	for i, c := range counters {
		c.apply(r, a, i, block, now)
	}
	a.Block = block
	m.releaseCleared()
}

// idle reports whether no goroutine works for the meter, no call waits and nothing has to be
// reported: what it knows is in the store too.
func (m *meter) idle() bool {
	return !m.running && len(m.pending) == 0 && !slices.ContainsFunc(m.counters, func(c *counter) bool { return !c.clean() })
}

// droppable reports whether the meter can be forgotten: its app is not configured any more, or it
// counts a path that has never been called successfully.
func (m *meter) droppable() bool {
	if !m.idle() {
		return false
	}
	return m.retired || m.path && !slices.ContainsFunc(m.counters, func(c *counter) bool { return !c.empty() })
}

// trim lets go of what a meter that is not called does not need.
func (m *meter) trim(now moment, cal *calendar) {
	m.groups = slices.Clip(slices.DeleteFunc(m.groups, func(g *group) bool {
		return g.block.left == 0 && now.at.Sub(g.bucket) > idleGroup
	}))
	m.counters = slices.DeleteFunc(m.counters, func(c *counter) bool {
		over := c.window.End.Before(cal.of[c.window.Period].Start) && c.clean()
		return over || c.expired(now.store)
	})
	m.generations = slices.DeleteFunc(m.generations, func(w WindowReport) bool {
		return !slices.ContainsFunc(m.counters, func(c *counter) bool { return c.window.Name == w.Name }) && w.Name != cal.of[Day].Name
	})
	for _, c := range m.counters {
		if n := len(c.own.ended); n > 0 && now.since-c.own.ended[n-1].last > idleGroup {
			c.own.ended.compact()
		}
	}
}

// idleGroup is how long the callers of a meter are remembered.
const idleGroup = time.Minute

// grant fills in the decision of a call that may go and is counted.
func (d *Decision) grant(m *meter, g *group, deadline time.Time, now moment) {
	d.Verdict, d.Counter, d.Deadline, d.RetryAfter, d.Counted = Pass, m.name, deadline, 0, now.store
	d.figures(g, g.counters, now)
}

// unavailable fills in the decision of a call that the store has not decided.
func (d *Decision) unavailable(m *meter) {
	d.Verdict, d.Counter, d.RetryAfter = RefusedStore, m.name, time.Second
}

// figures fills in the tightest of the counters.
func (d *Decision) figures(g *group, counters []*counter, now moment) {
	d.Quota = 0
	for _, c := range counters {
		reset := max(0, time.Duration(c.end-now.store)*time.Millisecond)
		switch used := c.known(); {
		case c.limit >= noLimit:
			if d.Quota == 0 {
				d.Used, d.Reset = used, reset
			}
		default:
			if free := g.free(c, now); d.Quota == 0 || free < d.Remaining {
				d.Quota, d.Used, d.Remaining, d.Reset = c.limit+c.remote.Grant.at(now.store), used, free, reset
			}
		}
	}
}

// refuse fills in the decision of a call that a counter has no room for.
func (d *Decision) refuse(m *meter, g *group, verdict Verdict, by *counter, now moment) {
	d.Counter = m.name
	d.figures(g, []*counter{by}, now)
	wait := d.Reset
	if verdict == RefusedLatched {
		wait = time.Duration(by.latch.Until-now.store) * time.Millisecond
	}
	d.Verdict, d.RetryAfter = verdict, max(wait, time.Second)
}

// isShared reports whether a counter's name stands for all the paths of a /* that found no place.
func isShared(name string) bool { return strings.HasSuffix(name, ":*") }
