package limits

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// want is one counter of a call with the figure that it must stay under.
type want struct {
	name   string
	period Period
	limit  int64
}

// counter is what this gateway knows of one counter in one window. All fields belong to the
// meter's mutex.
type counter struct {
	window Window
	name   string

	limit      int64 // as last stated
	generation int64 // e: figures of another one say nothing here
	held       int64 // c: calls executed, in flight and unspent
	confirmed  int64 // cs: held as the store last confirmed it
	others     int64 // o: the count less our own part, as last heard
	version    int64 // v, as last heard
	used       int64 // the count, as last heard
	lent       int64 // of held: the unspent calls of blocks
	latch      int64 // as last heard
	grant      int64 // as last heard

	inFlight     int64
	inFlightThen int64 // calls in flight at the store's last answer
	takenSince   int64 // calls taken since then

	raise int64 // a count learned from WeChat, to be stated

	looked bool // WeChat was asked, or need not be, for its own count
	blind  bool // and nobody knows

	dirty    bool      // the store has not confirmed what we hold
	unsure   bool      // a request was lost, and may still be heard until a later one was written down
	later    time.Time // when to state once more, for the requests that a frozen store runs late
	hasShare bool      // while the store is away: share was worked out
	share    int64

	fullUntil time.Time // refused from memory until then, while the limit is fullLimit
	fullLimit int64
}

// adopt moves to a newer generation. Calls that were in flight at the last answer or were taken
// since may have run on either side of the clear: the new generation carries them.
func (c *counter) adopt(generation int64) {
	c.generation = generation
	c.held = c.inFlightThen + c.takenSince
	c.confirmed, c.others, c.version, c.used, c.latch, c.lent, c.raise = 0, 0, 0, 0, 0, 0, 0
	c.looked, c.blind = true, false // a new generation begins with what is known
	c.fullUntil = time.Time{}
	c.dirty = true
}

// count counts one call that is on its way.
func (c *counter) count() {
	c.held++
	c.inFlight++
	c.takenSince++
	c.dirty = true
}

// known is the count as far as this gateway can tell: as last heard, and what it holds beyond, but
// not what it has not spent yet.
func (c *counter) known() int64 { return c.used + c.held - c.confirmed - c.lent }

type counterKey struct{ window, name string }

// meter is the gateway's side of one rule of one app, or of one path inside a /*: its counters in
// the windows of now, and of earlier ones as long as there is something to state. Requests for one
// counter must reach the store in order, so a meter has one flight at a time; calls that find it
// flying wait and share the next.
type meter struct {
	app  string
	name string

	mu          sync.Mutex
	counters    map[counterKey]*counter
	sets        map[string]*set  // by caller
	generations map[string]int64 // of whole windows, by window name
	latch       int64            // ms until which WeChat has said no, as the counters say
	nextProbe   time.Time        // when this gateway may ask for the turn to probe
	flying      bool
	looking     bool // the flight waits for WeChat's own count
	gone        bool // forgotten: another meter has taken its place
	queue       []*waiter
}

// waiter is one call that waits for a flight. Its fields belong to the meter's mutex until a
// signal is sent.
type waiter struct {
	caller string // calls of one caller have the same counters
	wants  []want
	since  time.Time
	state  waiterState
	signal chan bool // true: lead the next flight; false: decided

	decision Decision
}

type waiterState uint8

const (
	waiting waiterState = iota
	left                // its caller has gone away; a grant goes back
)

// counter returns the counter of a want in the window of now, new if need be. m.mu is held.
func (m *meter) counter(w want, cal *calendar) *counter {
	window := cal.of[w.period]
	key := counterKey{window.Name, w.name}
	c := m.counters[key]
	if c == nil {
		c = &counter{window: window, name: w.name}
		m.counters[key] = c
		for other, old := range m.counters { // yesterday's, once everything is said
			if old.window.End.Before(window.Start) && !old.dirty && old.inFlight == 0 {
				delete(m.counters, other)
			}
		}
		for name := range m.generations {
			if name != cal.of[Day].Name && name != cal.of[Month].Name {
				delete(m.generations, name)
			}
		}
	}
	c.limit = w.limit
	return c
}

// request states counters, and wishes for n calls and a block. m.mu is held.
func (m *meter) request(counters []*counter, n, block int64) *Request {
	r := &Request{App: m.app, Want: n, Block: block, Counters: make([]State, len(counters))}
	for i, c := range counters {
		at := -1
		for j := range r.Windows {
			if r.Windows[j].Name == c.window.Name {
				at = j
			}
		}
		if at < 0 {
			at = len(r.Windows)
			r.Windows = append(r.Windows, WindowState{Window: c.window, Generation: m.generations[c.window.Name]})
		}
		r.Counters[i] = State{
			Window:     at,
			Name:       c.name,
			Limit:      c.limit,
			Generation: c.generation,
			Version:    c.version,
			Others:     c.others,
			Confirmed:  c.confirmed,
			Held:       c.held,
			Latch:      c.latch,
			Raise:      c.raise,
		}
	}
	return r
}

// hear takes in an answer to what request made of the same counters. m.mu is held; figures may
// have moved since the request was made.
func (m *meter) hear(counters []*counter, r *Request, a *Answer) {
	for i, g := range a.Generations {
		if g > m.generations[r.Windows[i].Name] {
			m.generations[r.Windows[i].Name] = g
		}
	}
	counted := a.Granted + a.Block
	for i, c := range counters {
		if c.generation != r.Counters[i].Generation { // cleared under way: the block is void
			a.Block = 0
		}
	}
	defer m.heedLatches()
	defer m.voidCleared()
	for i, c := range counters {
		h, asked := a.Counters[i], r.Counters[i]
		switch {
		case c.generation != asked.Generation: // cleared under way: what was granted is carried
			c.held += a.Granted
			c.takenSince += a.Granted
			c.dirty = true
		case h.Generation != asked.Generation:
			if h.Generation > c.generation {
				c.adopt(h.Generation)
			}
			c.grant = h.Grant
		default:
			c.confirmed = asked.Held + counted
			c.held += a.Granted + a.Block
			c.lent += a.Block
			c.hasShare = false
			if c.raise <= h.Used {
				c.raise = 0
			}
			c.used, c.version, c.latch, c.grant = h.Used, h.Version, max(h.Latch, asked.Latch, c.latch), h.Grant
			c.others = c.used - c.confirmed
			c.inFlightThen = c.inFlight
			c.takenSince = a.Granted
			// A refusal is not written down, so it does not make the lost request stale.
			c.unsure = (c.unsure || a.Retried) && r.Want > 0 && a.Granted == 0
			c.dirty = c.held != c.confirmed || c.unsure || c.raise > 0 || c.latch > h.Latch
		}
	}
}

// dirty returns the counters with something to state. m.mu is held.
func (m *meter) dirty(now time.Time) []*counter {
	var found []*counter
	for _, c := range m.counters {
		if c.dirty || !c.later.IsZero() && !now.Before(c.later) {
			found = append(found, c)
		}
	}
	return found
}

// lost notes that nobody knows whether the store has heard a request: what we hold must be said
// again, within a second and once more later. m.mu is held.
func (c *counter) lost(now time.Time) {
	c.dirty, c.unsure, c.later = true, true, now.Add(lateLife)
}

// land ends a flight: the next waiter leads, or nobody flies. m.mu is held.
func (m *meter) land() {
	if len(m.queue) == 0 {
		m.flying = false
		return
	}
	m.queue[0].signal <- true
}

// board takes from the queue its head and every other call with the same counters; the others keep
// their turn. m.mu is held.
func (m *meter) board() []*waiter {
	if len(m.queue) == 0 {
		return nil
	}
	caller, wants := m.queue[0].caller, m.queue[0].wants
	var flight []*waiter
	rest := m.queue[:0]
	for _, w := range m.queue {
		if w.caller == caller && slices.Equal(w.wants, wants) {
			flight = append(flight, w)
		} else {
			rest = append(rest, w)
		}
	}
	clear(m.queue[len(rest):])
	m.queue = rest
	return flight
}

// withdraw takes a waiter whose time is up out of the queue. When it is aboard a flight already, a
// grant that comes for it goes back. m.mu is held.
func (m *meter) withdraw(w *waiter) {
	w.state = left
	m.queue = slices.DeleteFunc(m.queue, func(other *waiter) bool { return other == w })
}

// fly runs one flight to its end: it states and asks until the store has decided or time is up,
// decides the calls aboard, and lets the next lead. m.flying is held by the caller.
func (l *Limiter) fly(ctx context.Context, m *meter) {
	l.look(ctx, m)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.flightBudget())
	defer cancel()

	m.mu.Lock()
	flight := m.board()
	if len(flight) == 0 {
		m.land()
		m.mu.Unlock()
		return
	}
	wants, rule := flight[0].wants, flight[0].decision.Rule
	var counters []*counter
	var a *Answer
	var sent time.Time
	var err error
	for range maxAsks {
		cal := l.calendar()
		counters = counters[:0]
		for _, w := range wants {
			counters = append(counters, m.counter(w, cal))
		}
		r := m.request(counters, int64(len(flight)), l.wish(m.set(flight[0].caller)))
		m.mu.Unlock()

		sent = l.now()
		a, err = l.exchange(ctx, r)

		m.mu.Lock()
		if err != nil {
			break
		}
		m.hear(counters, r, a)
		if a.Status == OK && !l.now().Before(deadline(sent, a, counters)) {
			for _, c := range counters { // too late to be used: it goes back with the next request
				c.held -= a.Granted + a.Block
				c.lent -= a.Block
				c.dirty = true
			}
			a.Status, a.Granted, a.Block = Outside, 0, 0
		}
		if a.Status != Outside && a.Status != Again {
			break
		}
	}
	decided := err == nil && a.Status != Outside && a.Status != Again
	if err != nil && !errors.Is(err, errNotAsked) {
		for _, c := range counters {
			c.lost(l.now())
		}
	}
	var back int64
	for i, w := range flight {
		switch {
		case !decided:
			w.decision.Verdict, w.decision.RetryAfter = RefusedStore, time.Second
		case int64(i) >= a.Granted:
			l.refuse(w, m, counters, a)
		case w.state == left:
			back++
		default:
			l.grant(&w.decision, m, counters, a, sent, a.Granted-1-int64(i))
		}
	}
	if back > 0 {
		for _, c := range counters {
			c.held -= back
			c.dirty = true
			c.fullUntil = time.Time{}
		}
	}
	if decided && a.Block > 0 {
		l.lend(m, flight[0].caller, rule, counters, a.Block, deadline(sent, a, counters), l.now())
	}
	dirty := len(m.dirty(l.now())) > 0
	for _, w := range flight {
		if w.state != left {
			w.signal <- false
		}
	}
	m.land()
	m.mu.Unlock()
	switch {
	case err != nil:
		l.settle(m, probeEvery)
		l.settle(m, lateLife)
	case dirty:
		l.settle(m, 0)
	}
	if decided && a.Block > 0 {
		l.settle(m, quietLife) // gives back what is not used
	}
}

// deadline is when a grant ends: the window's end by the store's clock, counted from the moment
// the request was sent, so never late.
func deadline(sent time.Time, a *Answer, counters []*counter) time.Time {
	end := counters[0].window.End
	for _, c := range counters[1:] {
		if c.window.End.Before(end) {
			end = c.window.End
		}
	}
	return sent.Add(end.Sub(time.UnixMilli(a.Now)))
}

// grant fills in the decision of a call that may go. after is how many calls of the same flight
// come after it. m.mu is held.
func (l *Limiter) grant(d *Decision, m *meter, counters []*counter, a *Answer, sent time.Time, after int64) {
	d.Verdict = Pass
	d.meter, d.held, d.generation = m, counters, counters[0].generation
	d.Deadline, d.Counted = deadline(sent, a, counters), a.Now
	for _, c := range counters {
		c.inFlight++
	}
	l.figures(d, counters, l.now())
	d.Used -= after
	d.Remaining += after
}

// wish is the block to ask for: the use of the last span, and none for a process that has just
// started. The store lends at most a thousandth of what is left. m.mu is held.
func (l *Limiter) wish(s *set) int64 {
	if l.now().Sub(l.started) < quietLife {
		return 0
	}
	return max(s.before, s.calls)
}

// refuse fills in the decision of a call for which the store had no room. The counter that was
// full refuses from memory for a second. m.mu is held.
func (l *Limiter) refuse(w *waiter, m *meter, counters []*counter, a *Answer) {
	c := counters[a.Which]
	now := l.now()
	c.fullUntil, c.fullLimit = now.Add(fullLife), w.wants[a.Which].limit
	if s := m.set(w.caller); s.left == 0 {
		s.rule, s.full = w.decision.Rule, c
	}
	l.refused(&w.decision, m, c, now)
}

// refused fills in the decision of a call that the counter c has no room for. m.mu is held.
func (l *Limiter) refused(d *Decision, m *meter, c *counter, now time.Time) {
	l.figures(d, []*counter{c}, now)
	now = l.atStore(now)
	wait := d.Reset
	switch {
	case now.UnixMilli() < c.latch:
		d.Verdict = RefusedLatched
		wait = time.UnixMilli(c.latch).Sub(now)
	case c.name != m.name:
		d.Verdict = RefusedShare
	default:
		d.Verdict = RefusedQuota
	}
	d.RetryAfter = max(wait, time.Second)
}

// figures fills in the tightest of the counters. m.mu is held.
func (l *Limiter) figures(d *Decision, counters []*counter, now time.Time) {
	now = l.atStore(now)
	d.Quota = 0
	for _, c := range counters {
		used := c.known()
		if c.limit >= noLimit {
			if d.Quota == 0 {
				d.Used, d.Reset = used, max(0, c.window.End.Sub(now))
			}
			continue
		}
		limit := c.limit + c.grant
		if remaining := max(0, limit-used); d.Quota == 0 || remaining < d.Remaining {
			d.Quota, d.Used, d.Remaining = limit, used, remaining
			d.Reset = max(0, c.window.End.Sub(now))
		}
	}
}
