// Package history counts the calls of each account by rule, caller, outcome and hour, and forecasts from
// that when a counter will be used up. These are statistics: no call waits for the store, and a crash loses
// what was counted since the last write.
//
// A gateway keeps the sums of the present hour in memory. Every few seconds it writes, for each account that
// changed, all that it has counted in the hour: its part. A reader adds up the parts of all gateways.
// When a day is over, one of the gateways rolls the parts up into the sums of the day.
package history

import (
	"compress/flate"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Event is one call that has ended.
type Event struct {
	App     string // appid; "" where none is known
	Rule    string
	Caller  string
	Outcome Outcome
	At      time.Time
}

const (
	// NoApp stands for the account of calls that were refused before one was known.
	NoApp = "-"
	// Other stands for the rule and the caller of what is beyond a bound. A rule may be named other.
	Other = "(other)"
)

// The bounds. Rules, callers and reasons are of the configuration and fixed lists, so these are reached
// only where the upstream, or thousands of accounts that are learned, would go on for ever.
const (
	maxAccounts = 50_000  // in memory; the calls of the rest are those of NoApp
	maxNames    = 100_000 // rules and callers of all accounts
	maxSeries   = 8192    // of an account in an hour
)

// Options of New.
type Options struct {
	Store   Store
	Gateway string           // random, of this process life
	Zone    *time.Location   // of the table; SetZone changes it
	Apps    func() []string  // the appids to look after; those with calls of this gateway are looked after anyway
	Every   time.Duration    // between two writes; default 10 s
	Now     func() time.Time // default time.Now
	// Observe is called when writes begin to fail, and with nil when one succeeds again; may be nil.
	Observe func(err error)
}

// Recorder counts, writes and reads. It is safe for concurrent use.
type Recorder struct {
	o     Options
	zone  atomic.Pointer[time.Location]
	hour  atomic.Pointer[hour] // of the last event
	parts atomic.Int64         // number of parts so far: each has a name of its own

	flushing sync.Mutex // one flush, or one Forget, at a time; taken before mu
	failed   bool       // the last flush; covered by flushing, as is small
	small    *compressor

	mu       sync.RWMutex // covers what follows; taken before that of an account
	accounts map[string]*account
	ids      map[string]uint32  // of rules and callers
	names    []string           // by id
	outcomes map[Outcome]uint32 // those with a reason or an errcode
	results  []Outcome          // by id
	errcodes int                // among outcomes

	reviews reviews
}

// New returns a Recorder. Run writes what it counts.
func New(o Options) *Recorder {
	if o.Every == 0 {
		o.Every = 10 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	if o.Observe == nil {
		o.Observe = func(error) {}
	}
	if o.Apps == nil {
		o.Apps = func() []string { return nil }
	}
	r := &Recorder{
		o: o, accounts: make(map[string]*account), ids: make(map[string]uint32), outcomes: make(map[Outcome]uint32),
		small: newCompressor(flate.BestSpeed), names: []string{""}, // 0 is no id
		reviews: reviews{profiles: make(map[string]*profile)},
	}
	r.name(Other)
	for k := range kinds { // without a reason or an errcode the kind is the id
		r.results = append(r.results, Outcome{Kind: Kind(k)})
	}
	r.SetZone(o.Zone)
	return r
}

// SetZone sets the zone of days and hours, for the next event.
func (r *Recorder) SetZone(zone *time.Location) {
	r.zone.Store(zone)
	r.hour.Store(nil)
}

// Add counts a call. It allocates nothing once the series is known, and waits for no store.
func (r *Recorder) Add(e Event) {
	at := e.At.Unix()
	h := r.hourAt(at)
	app := e.App
	if app == "" {
		app = NoApp
	}
	r.mu.RLock()
	a, rule, caller, outcome := r.accounts[app], r.ids[e.Rule], r.ids[e.Caller], uint32(e.Outcome.Kind)
	if e.Outcome != (Outcome{Kind: e.Outcome.Kind}) {
		outcome = r.outcomes[e.Outcome]
	}
	if a == nil || rule == 0 || caller == 0 || outcome == 0 {
		r.mu.RUnlock()
		a, rule, caller, outcome = r.learn(app, e)
		r.mu.RLock() // the account may have gone since; what it counts then is lost, as by a crash
	}
	a.add(h, at, keyOf(rule, caller, outcome), e.Outcome.Sent())
	r.mu.RUnlock()
}

// hourAt returns the hour of a moment in Unix seconds.
func (r *Recorder) hourAt(at int64) *hour {
	h := r.hour.Load()
	if h == nil || at < h.start || at >= h.end {
		h = hourAt(at, r.zone.Load())
		r.hour.Store(h)
	}
	return h
}

// learn makes the account and the ids of an event known.
func (r *Recorder) learn(app string, e Event) (a *account, rule, caller, outcome uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.accounts[app] == nil && len(r.accounts) >= maxAccounts {
		app = NoApp
	}
	a = r.accounts[app]
	if a == nil {
		a = &account{r: r, app: app}
		r.accounts[app] = a
	}
	return a, r.name(e.Rule), r.name(e.Caller), r.outcome(e.Outcome)
}

// name returns the id of a rule or a caller. The caller of it holds r.mu, New excepted.
func (r *Recorder) name(text string) uint32 {
	if id := r.ids[text]; id != 0 {
		return id
	}
	if len(r.names) >= maxNames {
		return r.ids[Other]
	}
	id := uint32(len(r.names))
	r.ids[text] = id
	r.names = append(r.names, text)
	return id
}

// outcome returns the id of an outcome. The caller of it holds r.mu.
func (r *Recorder) outcome(o Outcome) uint32 {
	if o == (Outcome{Kind: o.Kind}) {
		return uint32(o.Kind)
	}
	if id := r.outcomes[o]; id != 0 {
		return id
	}
	if o.Kind == Rejected {
		if r.errcodes >= maxErrcodes {
			return uint32(Rejected) // with otherErrcode
		}
		r.errcodes++
	}
	id := uint32(len(r.results))
	r.outcomes[o] = id
	r.results = append(r.results, o)
	return id
}

// partName returns a name that no other part has.
func (r *Recorder) partName() string {
	return r.o.Gateway + "." + strconv.FormatInt(r.parts.Add(1), 36)
}

// Forget drops what is in memory of an account, and returns when no write of it is under way. What the store
// has is not touched.
func (r *Recorder) Forget(app string) {
	r.flushing.Lock()
	defer r.flushing.Unlock()
	r.mu.Lock()
	delete(r.accounts, app)
	r.mu.Unlock()
	r.reviews.forget(app)
}
