package limits

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Times of an outage.
const (
	openAfter   = 5                      // errors within a second open the breaker
	probeEvery  = 500 * time.Millisecond // how often a store that is away is asked; with the hold, back in under 2 s
	holdLife    = time.Second            // after an outage the counts are stated first, and nothing is taken
	registerGap = 10 * time.Second       // how often a gateway says that it lives
)

// errNotAsked is the error of a request that was not sent: the store is known to be away, or has
// just come back.
var errNotAsked = errors.New("the store is away")

// breaker keeps calls from waiting for a store that does not answer.
type breaker struct {
	mu     sync.Mutex
	errors int // since
	since  time.Time
	trip   int64 // the last one that failed
	open   bool
	probe  time.Time // an open breaker lets a statement through from then on
	hold   time.Time // nothing is taken before
}

// allows reports whether a request may be sent. While the breaker is open only statements probe:
// a store that came back is told first what is held, and asked after.
func (b *breaker) allows(takes bool, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !b.open:
		return !takes || !now.Before(b.hold)
	case takes || now.Before(b.probe):
		return false
	}
	b.probe = now.Add(probeEvery)
	return true
}

// away reports whether the store is known to be away. A request that was lost now and then is no
// outage, and within the hold after one not everybody has told the store what was sent meanwhile.
func (b *breaker) away() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}

// reset has the next request sent whatever is known of the store: it is the last chance to be heard.
func (b *breaker) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open, b.errors = false, 0
}

// result takes in how a request ended, and reports whether that was the end of an outage.
func (b *breaker) result(err error, now time.Time) (back bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		back = b.open
		if back {
			b.hold = now.Add(holdLife)
		}
		b.open, b.errors = false, 0
		return back
	}
	if now.Sub(b.since) > time.Second {
		b.since, b.errors = now, 0
	}
	if failed, ok := errors.AsType[*tripError](err); ok {
		if failed.trip == b.trip {
			return false // another command of it
		}
		b.trip = failed.trip
	}
	if b.errors++; b.errors >= openAfter && !b.open {
		b.open, b.probe = true, now.Add(probeEvery)
	}
	return false
}

// local decides a call while the store is away, if its rule goes on then: within this gateway's
// share of what was left as last heard. Until the breaker opens calls are refused, so that requests
// that are merely lost never put a quota at risk. What it sends is stated when the store is back. There is one
// share for an outage: it is new only when the store has answered about the counter.
//
// Nothing is sent in a window that this gateway neither heard of nor saw begin, and nothing of a
// rule with a pace, which only the store can keep.
func (l *Limiter) local(call Call, d *Decision) {
	gateways := l.gateways.Load()
	if gateways == 0 || !goesLocal(d.Rule) || !l.breaker.away() {
		return
	}
	cal := l.calendar()
	m := l.lock(call.App, call.Match)
	defer l.settle(m, quietLife)
	defer m.mu.Unlock()
	wants := wantsOf(d.Rule, m.name, call.Caller)
	counters := make([]*counter, len(wants))
	for i, w := range wants {
		c := m.counter(w, cal)
		if c.version == 0 && !l.started.Before(c.window.Start) {
			return
		}
		if !c.hasShare {
			c.hasShare, c.share = true, max(0, (c.limit+c.grant-c.known())/gateways)
		}
		if c.share == 0 || l.storeNow().UnixMilli() < c.latch {
			return
		}
		counters[i] = c
	}
	for _, c := range counters {
		c.share--
		c.count()
	}
	d.Verdict, d.RetryAfter, d.meter, d.held, d.generation = Degraded, 0, m, counters, counters[0].generation
	d.Counted = l.storeNow().UnixMilli()
	l.figures(d, counters, l.now())
}

// goesLocal reports whether calls of a rule go on while the store is away.
func goesLocal(rule *Rule) bool {
	if rule.Pace.Rate > 0 {
		return false
	}
	if rule.OnError == StoreErrorDefault {
		least, limited := rule.Budget.Smallest()
		return limited && least > 1000
	}
	return rule.OnError == StoreErrorLocal
}

// GoesOn reports whether any rule of any app still sends calls while the store is away.
func (l *Limiter) GoesOn() bool {
	s := l.apps.Load()
	for _, rules := range s.of {
		if rules.goesOn() {
			return true
		}
	}
	return s.others != nil && len(s.of) == 0 && s.others.goesOn()
}

func (s *Ruleset) goesOn() bool {
	for _, rule := range s.Rules {
		free := rule.Budget.Kind == Unlimited || rule.Budget.Kind == Unknown
		if free && rule.Pace.Rate == 0 || rule.Budget.Kind == Limited && (rule.Shadow || goesLocal(rule)) {
			return true
		}
	}
	return false
}

// registrar says every ten seconds that this gateway lives, and hears how many do.
func (l *Limiter) registrar() {
	tick := time.NewTicker(registerGap)
	defer tick.Stop()
	var f fleet
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		if n, err := l.counters.Gateways(ctx); err == nil {
			l.gateways.Store(f.heard(n, l.now()))
		}
		cancel()
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
	}
}

// fleet is how many gateways share the store, as this one heard lately.
type fleet struct {
	times  int // how often it heard
	counts []heardGateways
}

type heardGateways struct {
	at time.Time
	n  int64
}

const (
	fleetMemory = 10 * time.Minute
	fleetTimes  = 3 // hearings before the count is trusted
)

// heard takes in a count, and returns the most of the last ten minutes: a store that has lost
// everything has lost who lives, too. It returns 0 until it has heard three times. So whoever goes
// on alone has said that it lives for longer than all others take to hear of it, and nobody's share
// is too large.
func (f *fleet) heard(n int64, now time.Time) (most int64) {
	f.times++
	recent := f.counts[:0]
	for _, h := range append(f.counts, heardGateways{now, n}) {
		if now.Sub(h.at) < fleetMemory {
			recent = append(recent, h)
			most = max(most, h.n)
		}
	}
	f.counts = recent
	if f.times < fleetTimes {
		return 0
	}
	return most
}
