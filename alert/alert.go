// Package alert tells people what happens to a fleet of gateways, once: in chat robots, by webhook, in
// Alertmanager, by mail.
//
// Every gateway has an [Alerts] and gives it the events that it notices. The gateways of a store share one
// record there, with the conditions that hold, the events that are still to be sent and how far each sink
// is with them. One gateway at a time holds the lease of the sender: it reads the usage of the accounts, and
// sends. When that process ends, another one continues with the record after the lease has expired. So an
// event reaches each sink at least once, and at most twice.
//
// While the store is unavailable each gateway sends for itself what it cannot leave there, one message per
// sink in five minutes.
package alert

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// Store is what is needed of the store. *store.Store is the one in use.
type Store interface {
	// Get returns the value of an app's key, or nil.
	Get(ctx context.Context, app, key string) ([]byte, error)
	// Update replaces a value by compare-and-set. was is the value as it was read last; change may be called
	// more than once, and its last call counts.
	Update(ctx context.Context, app, key string, was []byte, change func(present []byte) (next []byte, expiry time.Duration, err error)) error
	// Lease makes holder the only one to hold a lease until expiry has passed, and reports whether it did.
	Lease(ctx context.Context, app, key, holder string, expiry time.Duration) (bool, error)
	// Release ends a lease if holder has it.
	Release(ctx context.Context, app, key, holder string) error
}

// Options of New.
type Options struct {
	Store  Store
	Holder string // random, of this process life
	Host   string // the name of this machine, for events that concern one gateway

	// Usage returns the counters of some accounts, or of all. The sender calls it every ten seconds. May be nil.
	Usage func(ctx context.Context) ([]Line, error)
	// Detail adds what is known of an event about a counter before it is sent: its Callers. It is
	// called once for each such event. May be nil.
	Detail func(ctx context.Context, e *Event)

	// Serves reports whether an app is one that the fleet serves. A condition of another one is dropped. May be nil.
	Serves func(appid string) bool

	// Fleet returns how many gateways share the store, as known last; 0: not known. May be nil.
	Fleet func() int

	// Count is called with each event that was sent to a sink or not: the counter of metrics. May be nil.
	Count func(kind Kind, sink string, r Result)
	// Observe is called for what belongs into the log. May be nil.
	Observe func(Report)

	// Transport sends the requests of all sinks but mail. Default: one of its own, which goes through the
	// proxy that the environment names.
	Transport http.RoundTripper
}

// Result is what became of one event at one sink.
type Result string

// The results.
const (
	Sent    Result = "sent"
	Refused Result = "refused" // the sink has refused it for good
	Failed  Result = "failed"  // an attempt failed; others follow
	Dropped Result = "dropped" // it is not sent: too many events, too many attempts, or a silenced sink
)

// Report is what belongs into the log. It holds no URL and no secret.
type Report struct {
	Kind ReportKind
	Sink string
	Err  error // Silenced, Failing: a *SendError. StoreFailed
}

// ReportKind is what a Report is about.
type ReportKind string

// The kinds of reports.
const (
	Silenced    ReportKind = "silenced"     // the sink refuses for good, and nothing is sent to it any more
	Failing     ReportKind = "failing"      // an attempt failed; once until one succeeds
	Recovered   ReportKind = "recovered"    // the sink takes messages again
	StoreFailed ReportKind = "store_failed" // the record of the fleet cannot be written: this gateway sends for itself
)

// Config is what can change while alerts are sent.
type Config struct {
	Language   Language
	Zone       *time.Location
	Thresholds []int      // percent of a limit, ascending
	Overrides  []Override // the first that matches a counter has its thresholds
	DriftBound int        // percent of a limit; 0: none
	Remind     time.Duration
	Digest     int    // hour of the day; negative: none
	Page       string // the address of the pages, for links; "" if there is none
	Sinks      []Sink
}

// Override has the thresholds of some rules of some accounts.
type Override struct {
	App        string // a name or an appid; "" is all
	Rule       string // a name, in which a * stands for any letters; "" is all
	Thresholds []int  // none: no event
}

// Alerts takes events and sends them. It is safe for concurrent use.
type Alerts struct {
	o      Options
	t      timing
	client *http.Client

	mu       sync.Mutex // covers what follows
	conf     Config
	sinks    []sink
	local    []pending // noticed here and not in the store yet, oldest first
	numbered uint64    // of the last pending
	failing  map[string]bool
	last     *record // as this gateway has seen it last; nil: not yet
	unstored bool    // the last attempt to leave local in the store failed

	directing bool              // a goroutine sends without the store
	refused   map[string]string // the fingerprints of sinks, by name, that have refused such a message for good
	directAt  time.Time         // of its last message
	turn      time.Time         // when this gateway may send next, if it is one of many; zero: nothing is due

	wake chan struct{} // holds one element when local has changed
	work sync.WaitGroup

	watch watcher // of Run's goroutine
}

// timing is what tests shorten.
type timing struct {
	tick        time.Duration // of the sender
	lease       time.Duration // how long another gateway waits for a sender that was killed
	poll        time.Duration // between two readings of the usage
	hold        time.Duration // how long the first event waits for others of the same message
	merge       time.Duration // between two messages to a sink
	attempt     time.Duration // of one attempt to send
	settle      time.Duration // how long the store must be down to be an event
	calm        time.Duration // a condition that returns sooner is messaged when it has lasted that long
	direct      time.Duration // how long the store may be unavailable before this gateway sends for itself
	directEvery time.Duration // between two messages to a sink then
}

func usualTiming() timing {
	return timing{
		tick: 2 * time.Second, lease: 20 * time.Second, poll: 10 * time.Second,
		hold: 3 * time.Second, merge: 10 * time.Second, attempt: 20 * time.Second,
		settle: 15 * time.Second, calm: 5 * time.Minute,
		direct: 20 * time.Second, directEvery: 5 * time.Minute,
	}
}

// maxLocal bounds the events that a gateway has noticed and not left in the store.
const maxLocal = 256

// pending is an event that was noticed here.
type pending struct {
	number uint64
	event  Event
	at     time.Time        // when it may go to the store
	told   bool             // sent by this gateway itself: the store need only know that the condition holds
	fates  map[string]*fate // of that attempt, by sink; it is replaced, never changed
}

// New returns alerts without sinks; nothing is sent and the store is not used before Configure names one.
func New(o Options) *Alerts { return newAlerts(o, usualTiming()) }

func newAlerts(o Options, t timing) *Alerts {
	if o.Count == nil {
		o.Count = func(Kind, string, Result) {}
	}
	if o.Observe == nil {
		o.Observe = func(Report) {}
	}
	if o.Serves == nil {
		o.Serves = func(string) bool { return true }
	}
	if o.Fleet == nil {
		o.Fleet = func() int { return 0 }
	}
	if o.Transport == nil {
		own := http.DefaultTransport.(*http.Transport).Clone()
		own.MaxIdleConnsPerHost, own.IdleConnTimeout = 1, 15*time.Second
		o.Transport = own
	}
	return &Alerts{
		o: o, t: t,
		client: &http.Client{
			Transport:     o.Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the URL is a secret
		},
		failing: make(map[string]bool),
		refused: make(map[string]string),
		wake:    make(chan struct{}, 1),
	}
}

// Configure replaces the configuration, at the start and at each reload.
func (a *Alerts) Configure(c Config) {
	if c.Zone == nil {
		c.Zone = time.UTC
	}
	sinks := make([]sink, len(c.Sinks))
	for i, s := range c.Sinks {
		sinks[i] = sink{Sink: s, print: s.fingerprint(), sender: s.sender(a.client)}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conf, a.sinks = c, sinks
	if len(sinks) == 0 {
		a.local = nil
	}
}

// settings returns the configuration of now.
func (a *Alerts) settings() (Config, []sink) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.conf, a.sinks
}

// Notify takes an event. It never blocks. Each gateway of a fleet may notice the same condition: it is sent
// once. An event that is over ends the condition of its kind, app and counter, and costs next to nothing where that
// does not hold. When too many events wait, the oldest is dropped.
func (a *Alerts) Notify(e Event) {
	now := time.Now()
	if e.At.IsZero() {
		e.At = now
	}
	if e.Host == "" && e.Kind.ofGateway() {
		e.Host = a.o.Host
	}
	p := pending{event: e, at: now}
	a.mu.Lock()
	i := a.findLocked(e.condition())
	if len(a.sinks) == 0 || e.Over && i < 0 && a.last != nil && a.last.Holding[e.condition()] == nil {
		a.mu.Unlock()
		return
	}
	a.numbered++
	p.number = a.numbered
	var dropped []pending
	switch {
	case e.Kind == StoreDown && !e.Over:
		if i < 0 {
			p.at = now.Add(a.t.settle)
			a.local = append(a.local, p)
		}
	case e.Kind == StoreDown && i >= 0 && !a.local[i].told && now.Before(a.local[i].at):
		a.local = append(a.local[:i], a.local[i+1:]...) // too short to be of interest
	default:
		a.local = append(a.local, p)
	}
	if n := len(a.local) - maxLocal; n > 0 {
		dropped, a.local = a.local[:n:n], append([]pending(nil), a.local[n:]...)
	}
	sinks := a.sinks
	a.mu.Unlock()
	for _, p := range dropped {
		a.countAll(p.event.Kind, sinks, Dropped)
	}
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// findLocked returns the index of the waiting event that began a condition, or -1. a.mu is held.
func (a *Alerts) findLocked(condition string) int {
	for i, p := range a.local {
		if !p.event.Over && p.event.condition() == condition {
			return i
		}
	}
	return -1
}

func (a *Alerts) countAll(kind Kind, sinks []sink, r Result) {
	for _, s := range sinks {
		if s.takes(kind) {
			a.o.Count(kind, s.Name, r)
		}
	}
}

// Run leaves events in the store and sends them, until ctx is done and nothing is being sent.
func (a *Alerts) Run(ctx context.Context) {
	defer a.work.Wait()
	tick := time.NewTicker(a.t.tick)
	defer tick.Stop()
	leads, ticks := false, 0
	defer func() {
		if leads {
			released, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = a.o.Store.Release(released, fleet, senderKey, a.o.Holder) // it expires anyway
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
			a.flush(ctx)
			continue
		case <-tick.C:
		}
		if _, sinks := a.settings(); len(sinks) == 0 {
			continue
		}
		a.flush(ctx)
		held, err := a.o.Store.Lease(ctx, fleet, senderKey, a.o.Holder, a.t.lease)
		if leads = held && err == nil; leads {
			a.lead(ctx)
		} else if ticks++; err == nil && ticks%lookEvery == 0 {
			a.look(ctx)
		}
	}
}

// lookEvery is how many ticks a gateway that does not send lets pass before it looks which conditions hold.
const lookEvery = 15

// look reads the record of the fleet.
func (a *Alerts) look(ctx context.Context) {
	raw, err := a.o.Store.Get(ctx, fleet, recordKey)
	if err != nil {
		return
	}
	r := parseRecord(raw)
	a.mu.Lock()
	a.last = r
	a.mu.Unlock()
}

// lead is one tick of the sender.
func (a *Alerts) lead(ctx context.Context) {
	now := time.Now()
	events := a.watch.due(ctx, a, now)
	if err := a.send(ctx, events); err == nil {
		a.watch.claim(ctx, a, events)
	}
}
