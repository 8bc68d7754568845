package limits

import (
	"context"
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
	latch      int64 // as last heard
	grant      int64 // as last heard

	inFlight     int64
	inFlightThen int64 // calls in flight at the store's last answer
	takenSince   int64 // calls taken since then

	dirty     bool      // the store has not confirmed what we hold
	fullUntil time.Time // refused from memory until then, while the limit is fullLimit
	fullLimit int64
}

// adopt moves to a newer generation. Calls that were in flight at the last answer or were taken
// since may have run on either side of the clear: the new generation carries them.
func (c *counter) adopt(generation int64) {
	c.generation = generation
	c.held = c.inFlightThen + c.takenSince
	c.confirmed, c.others, c.version, c.used, c.latch = 0, 0, 0, 0, 0
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

// known is the count as far as this gateway can tell: as last heard, and what it holds beyond.
func (c *counter) known() int64 { return c.used + c.held - c.confirmed }

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
	generations map[string]int64 // of whole windows, by window name
	flying      bool
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

// request states counters, and wishes for n calls. m.mu is held.
func (m *meter) request(counters []*counter, n int64) *Request {
	r := &Request{App: m.app, Want: n, Counters: make([]State, len(counters))}
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
	granted := a.Granted + a.Block
	for i, c := range counters {
		h := a.Counters[i]
		if h.Generation != r.Counters[i].Generation {
			if h.Generation > c.generation {
				c.adopt(h.Generation)
			}
			c.grant = h.Grant
			continue
		}
		c.confirmed = r.Counters[i].Held + granted
		c.held += granted
		c.used, c.version, c.latch, c.grant = h.Used, h.Version, h.Latch, h.Grant
		c.others = c.used - c.confirmed
		c.inFlightThen = c.inFlight
		c.takenSince = granted
		c.dirty = c.held != c.confirmed
	}
}

// dirty returns the counters with something to state. m.mu is held.
func (m *meter) dirty() []*counter {
	var found []*counter
	for _, c := range m.counters {
		if c.dirty {
			found = append(found, c)
		}
	}
	return found
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
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.flightBudget())
	defer cancel()

	m.mu.Lock()
	flight := m.board()
	if len(flight) == 0 {
		m.land()
		m.mu.Unlock()
		return
	}
	wants := flight[0].wants
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
		r := m.request(counters, int64(len(flight)))
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
				c.held -= a.Granted
				c.dirty = true
			}
			a.Status, a.Granted = Outside, 0
		}
		if a.Status != Outside && a.Status != Again {
			break
		}
	}
	decided := err == nil && a.Status != Outside && a.Status != Again
	if err != nil { // the store may have heard it: what we hold must be said again
		for _, c := range counters {
			c.dirty = true
		}
	}
	var back int64
	for i, w := range flight {
		switch {
		case !decided:
			w.decision.Verdict, w.decision.RetryAfter = RefusedStore, time.Second
		case int64(i) >= a.Granted:
			l.refuse(&w.decision, m, counters, wants, a)
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
	dirty := len(m.dirty()) > 0
	for _, w := range flight {
		if w.state != left {
			w.signal <- false
		}
	}
	m.land()
	m.mu.Unlock()
	switch {
	case err != nil:
		l.settle(m, time.Second)
		l.settle(m, 10*time.Second) // a frozen Redis runs old requests late
	case dirty:
		l.settle(m, 0)
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
	d.meter, d.held = m, counters
	d.Deadline = deadline(sent, a, counters)
	for _, c := range counters {
		c.inFlight++
	}
	l.figures(d, counters)
	d.Used -= after
	d.Remaining += after
}

// refuse fills in the decision of a call for which the store had no room. The counter that was
// full refuses from memory for a second. m.mu is held.
func (l *Limiter) refuse(d *Decision, m *meter, counters []*counter, wants []want, a *Answer) {
	c := counters[a.Which]
	c.fullUntil, c.fullLimit = l.now().Add(fullLife), wants[a.Which].limit
	l.refused(d, m, c)
}

// refused fills in the decision of a call that the counter c has no room for. m.mu is held.
func (l *Limiter) refused(d *Decision, m *meter, c *counter) {
	now := l.storeNow()
	l.figures(d, []*counter{c})
	switch {
	case now.UnixMilli() < c.latch:
		d.Verdict = RefusedLatched
	case c.name != m.name:
		d.Verdict = RefusedShare
	default:
		d.Verdict = RefusedQuota
	}
	d.RetryAfter = max(d.Reset, time.Second)
}

// figures fills in the tightest of the counters. m.mu is held.
func (l *Limiter) figures(d *Decision, counters []*counter) {
	now := l.storeNow()
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
