package limits

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Times of the heartbeat.
const (
	heartbeatInterval = time.Second            // how soon an idle gateway notices that its store is gone
	probeInterval     = 500 * time.Millisecond // while it is; with the hold, calls go again in under 2 s
	registerInterval  = 10 * time.Second       // how often a busy gateway registers
	heartbeatTime     = 250 * time.Millisecond
)

// errNotSent is the error of a request that was not sent: the store is known to be unavailable, or
// has just come back.
var errNotSent = errors.New("the store is unavailable")

// link is the way to the store: what is known of its state and its clock.
type link struct {
	counters Counters
	clock    func() time.Time
	start    time.Time
	ours     bool // clock is time.Now
	observe  func(Event)

	breaker  breaker
	failure  atomic.Pointer[error]     // why requests fail; nil: they do not
	changed  atomic.Pointer[time.Time] // when they began or ceased to fail; nil: they never have
	offset   atomic.Int64              // the store's clock less ours, ns
	margin   atomic.Int64              // by how much offset may be wrong, ns
	skew     skew
	answered atomic.Int64 // when the store last answered a request, by moment.since

	gateways atomic.Int64 // how many share the store; 0: not known, or only this one can
}

// StoreState is what is known of the store.
type StoreState struct {
	Answers bool      // it answers, if only an error
	Err     error     // why requests fail, a *StoreError when the store answered it; nil: they do not
	Since   time.Time // since when they fail, or since when they do not

	Gateways int64 // how many share the store, by the last ten minutes in which it answered; 0: not known
}

func newLink(counters Counters, clock func() time.Time, observe func(Event)) *link {
	ours := clock == nil
	if ours {
		clock = time.Now
	}
	return &link{counters: counters, clock: clock, ours: ours, start: clock().Add(-1), observe: observe}
}

// moment reads the clocks.
func (k *link) moment() moment {
	now := k.clock()
	return moment{now, now.Sub(k.start), k.at(now), time.Duration(k.margin.Load())}
}

// at returns what the store's clock was at a time of ours.
func (k *link) at(t time.Time) int64 { return t.Add(time.Duration(k.offset.Load())).UnixMilli() }

// since is moment.since of now.
func (k *link) since() time.Duration {
	if k.ours { // half the time of the other way, in every call
		return time.Since(k.start)
	}
	return k.clock().Sub(k.start)
}

// exchange makes a request. back reports that it ended an outage.
func (k *link) exchange(ctx context.Context, r *Request) (a *Answer, back bool, err error) {
	sent := k.clock()
	if !k.breaker.allows(r.Want > 0, sent) {
		return nil, false, errNotSent
	}
	a, err = k.counters.Exchange(ctx, r)
	back = k.result(err)
	if err != nil {
		return nil, back, err
	}
	offset, margin := k.skew.learn(sent, k.clock(), a.Now)
	k.offset.Store(int64(offset))
	k.margin.Store(int64(margin))
	return a, back, nil
}

// pace takes one call of a rule's pace, or none.
func (k *link) pace(ctx context.Context, app, rule string, p Pace, calls int) (time.Duration, error) {
	if !k.breaker.allows(true, k.clock()) {
		return 0, errNotSent
	}
	wait, err := k.counters.Pace(ctx, app, rule, p, calls)
	k.result(err)
	return wait, err
}

// result takes in how a request ended. back reports that it ended an outage.
func (k *link) result(err error) (back bool) {
	now := k.clock()
	if err == nil {
		k.answered.Store(int64(now.Sub(k.start)))
		if k.failure.Swap(nil) != nil {
			k.changed.Store(&now)
			k.observe(Event{Kind: StoreUp})
		}
	} else if k.failure.Swap(&err) == nil {
		k.changed.Store(&now)
		k.observe(Event{Kind: StoreDown, Err: err})
	}
	return k.breaker.result(err, now)
}

// state returns what is known of the store.
func (k *link) state() StoreState {
	since := k.start
	if changed := k.changed.Load(); changed != nil {
		since = *changed
	}
	err := k.failure.Load()
	if err == nil {
		return StoreState{Answers: true, Since: since, Gateways: k.gateways.Load()}
	}
	_, answered := errors.AsType[*StoreError](*err)
	return StoreState{Answers: answered, Err: *err, Since: since, Gateways: k.gateways.Load()}
}

// skew is the store's clock less ours, as a range: the store reads its clock between sending and
// receiving, and cuts off less than a millisecond.
type skew struct {
	mu      sync.Mutex
	low     time.Duration
	high    time.Duration
	learned time.Time
}

// learn narrows the range by an answer, and returns its middle and half its width. The clocks may drift
// apart by a thousandth; a range that does not fit any more is of a clock that was set.
func (s *skew) learn(sent, received time.Time, store int64) (offset, margin time.Duration) {
	low, high := time.UnixMilli(store).Sub(received.Round(0)), time.UnixMilli(store+1).Sub(sent.Round(0))
	s.mu.Lock()
	defer s.mu.Unlock()
	if drift := received.Sub(s.learned) / 1000; !s.learned.IsZero() && s.low-drift <= high && low <= s.high+drift {
		low, high = max(low, s.low-drift), min(high, s.high+drift)
	}
	s.low, s.high, s.learned = low, high, received
	return (low + high) / 2, (high - low) / 2
}

// heartbeat registers the gateway and asks whether the store counts, twice if need be: a busy machine is
// no outage. back reports that it counts again after one.
func (k *link) heartbeat(f *fleet) (back bool) {
	ctx, cancel := context.WithTimeout(context.Background(), heartbeatTime)
	defer cancel()
	n, err := k.counters.Heartbeat(ctx)
	if err != nil && ctx.Err() == nil {
		n, err = k.counters.Heartbeat(ctx)
	}
	if err == nil {
		k.gateways.Store(f.seen(n, k.clock()))
	}
	return k.result(err)
}

// Store returns what is known of the store.
func (l *Limiter) Store() StoreState { return l.link.state() }

// Degraded reports whether requests to the store fail.
func (l *Limiter) Degraded() bool { return l.link.failure.Load() != nil }

// fleet is how many gateways share the store, by the last ten minutes.
type fleet struct {
	first  time.Time // when the store was first asked
	counts [11]struct{ minute, most int64 }
}

// fleetTrust is how long a gateway counts before it trusts the count: by then every other one has
// registered twice, so a share of an outage is never too large.
const fleetTrust = 20 * time.Second

// seen takes in a count and returns the most of the last ten minutes: a store that has lost
// everything has lost the gateways, too. It returns 0 for the first 20 s.
func (f *fleet) seen(n int64, now time.Time) (most int64) {
	if f.first.IsZero() {
		f.first = now
	}
	minute := now.Unix() / 60
	slot := &f.counts[minute%int64(len(f.counts))]
	if slot.minute != minute {
		slot.minute, slot.most = minute, 0
	}
	slot.most = max(slot.most, n)
	for _, c := range f.counts {
		if minute-c.minute <= 10 {
			most = max(most, c.most)
		}
	}
	if now.Sub(f.first) < fleetTrust {
		return 0
	}
	return most
}
