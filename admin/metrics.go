package admin

import (
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"

	"wxproxy/limits"
)

// Metrics is what Prometheus reads. Labels are names of the configuration and of the table, so
// strangers cannot multiply them: no token, openid, address or path.
type Metrics struct {
	registry *prometheus.Registry // of everything but the counters below and the quotas, see [scraper]

	duration        *prometheus.HistogramVec
	upstreamSeconds *prometheus.HistogramVec
	overhead        prometheus.Histogram
	storeSeconds    *prometheus.HistogramVec
	indeterminate   prometheus.Counter
	reloaded        prometheus.Gauge
	reloadedAt      prometheus.Gauge
	acceptErrors    prometheus.Counter
	panics          prometheus.Counter
	adminRefused    *prometheus.CounterVec

	mu        sync.RWMutex      // covers what follows
	ids       map[string]uint32 // of label values, from 1
	values    []string          // by id
	calls     counters
	upstream  counters
	errcodes  counters
	codes     map[int]string // labels of errcodes, maxErrcodes at most
	tokens    counters
	near      counters
	shadows   counters
	loops     counters
	saved     counters
	alerts    counters
	durations map[string]prometheus.Observer    // of duration, by decision
	upstreams map[string]prometheus.Observer    // of upstreamSeconds, by rule
	stores    map[[2]string]prometheus.Observer // of storeSeconds, by op and result
}

// counters are the counters of one name. They do what a prometheus.CounterVec does in an eighth of
// its memory, because there are two for each rule of each app that is called.
type counters struct {
	name, help string
	labels     []string // in alphabetical order; 5 at most
	n          map[seriesKey]*atomic.Uint64
}

// seriesKey is the ids of a series' label values, in the order of its labels.
type seriesKey [5]uint32

func newCounters(name, help string, labels ...string) counters {
	return counters{name: name, help: help, labels: labels, n: make(map[seriesKey]*atomic.Uint64)}
}

// Call is one call that is over.
type Call struct {
	App      string // alias; "" when it is not known
	Rule     string
	Caller   string
	Decision string
	Reason   string // "" unless it was refused; one of a fixed list
	Outcome  string // of the last sending: ok, errcode, http_error or transport_error; "" when nothing was sent
	Errcode  int
	Sent     int   // how often it was sent
	Quota    int64 // the tightest figure of its counters; 0: none
	Used     int64 // calls counted of that, this one included
	Duration time.Duration
	Upstream time.Duration
}

// seconds are the buckets of durations: a local answer takes parts of a millisecond, a media upload
// many seconds.
var seconds = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// ownSeconds are the buckets of what a call costs beside WeChat: parts of a millisecond, unless a body is
// large or its client slow.
var ownSeconds = []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .1, 1, 10}

// storeBuckets are those of a store: a call waits for it no longer than 250 ms.
var storeBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1}

// nearPercent is from which part of a quota on its calls count as near the limit.
const nearPercent = 80

// Build is the program, for wxproxy_build_info.
type Build struct {
	Version  string
	Revision string // of its source; "" when it is not known
}

// NewMetrics returns metrics of a registry of their own.
func NewMetrics(b Build) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wxproxy_request_duration_seconds", Help: "How long calls took, from the first byte to the last.", Buckets: seconds,
		}, []string{"decision"}),
		upstreamSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wxproxy_upstream_duration_seconds", Help: "How long WeChat took to answer.", Buckets: seconds,
		}, []string{"rule"}),
		overhead: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "wxproxy_overhead_seconds", Help: "What sent calls took beside waiting for WeChat: the gateway's own work, and bodies on their way.", Buckets: ownSeconds,
		}),
		storeSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wxproxy_store_duration_seconds", Help: "How long requests for counters to the store took, by what was asked and how it ended: ok, error (an error that the store answered) or no_answer.", Buckets: storeBuckets,
		}, []string{"op", "result"}),
		indeterminate: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "wxproxy_store_indeterminate_total", Help: "Requests to count calls that had no answer, so that it was unknown until the next one whether the store had applied them.",
		}),
		reloaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "wxproxy_config_last_reload_successful", Help: "Whether the last configuration reload succeeded.",
		}),
		reloadedAt: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "wxproxy_config_last_reload_success_timestamp_seconds", Help: "When the configuration was last reloaded successfully.",
		}),
		acceptErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "wxproxy_accept_errors_total", Help: "Connections of both listeners that could not be accepted, mostly because no file descriptor was free.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "wxproxy_panics_total", Help: "Requests that ended in a panic, which is a fault of the program.",
		}),
		adminRefused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wxproxy_admin_refused_total", Help: "Requests to the admin listener that were refused for who sent them.",
		}, []string{"reason"}),
		ids:       make(map[string]uint32),
		values:    []string{""},
		calls:     newCounters("wxproxy_requests_total", "Calls by what became of them.", "app", "caller", "decision", "reason", "rule"),
		upstream:  newCounters("wxproxy_upstream_requests_total", "Requests sent to WeChat by how the last one of the call ended.", "app", "outcome", "rule"),
		errcodes:  newCounters("wxproxy_upstream_errcode_total", "Errcodes that WeChat answered with.", "app", "errcode"),
		tokens:    newCounters("wxproxy_token_refresh_total", "Fetches of access tokens by result.", "app", "result"),
		near:      newCounters("wxproxy_quota_near_limit_total", "Calls that were sent with 80 % or more of their tightest quota used, themselves included.", "app", "rule"),
		shadows:   newCounters("wxproxy_shadow_refusals_total", "Calls that were sent although a quota or pace would have refused them, because of shadow.", "app", "rule"),
		loops:     newCounters("wxproxy_fuse_trips_total", "Loops of failing calls that were found, whether their calls are refused or not.", "app", "rule"),
		saved:     newCounters("wxproxy_fuse_saved_total", "Calls that were refused because they went on with a loop: each would have counted against the quota.", "app", "rule"),
		alerts:    newCounters("wxproxy_alerts_total", "Alerts by what became of them at each sink.", "event", "result", "sink"),
		codes:     make(map[int]string),
		durations: make(map[string]prometheus.Observer),
		upstreams: make(map[string]prometheus.Observer),
		stores:    make(map[[2]string]prometheus.Observer),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "wxproxy_build_info", Help: "Always 1: what runs is in the labels.",
		ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision, "goversion": runtime.Version()},
	})
	build.Set(1)
	for _, reason := range []string{WrongHost, CrossOrigin, WrongToken, TooManyAttempts} {
		m.adminRefused.WithLabelValues(reason) // at 0, so that the first one is an increase
	}
	m.registry.MustRegister(
		m.adminRefused, m.duration, m.upstreamSeconds, m.overhead, m.storeSeconds, m.indeterminate, m.reloaded, m.reloadedAt, m.acceptErrors, m.panics, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// shadow is the decision of calls that shadow lets through.
var shadow = limits.Shadow.String()

// Call counts one call that is over.
func (m *Metrics) Call(c Call) {
	if c.Sent == 0 {
		c.Outcome = ""
	}
	near, shadowed := c.Quota > 0 && c.Used*100 >= c.Quota*nearPercent, c.Decision == shadow
	m.mu.RLock()
	app, rule := m.ids[c.App], m.ids[c.Rule]
	calls := m.calls.n[seriesKey{app, m.ids[c.Caller], m.ids[c.Decision], m.ids[c.Reason], rule}]
	upstream := m.upstream.n[seriesKey{app, m.ids[c.Outcome], rule}]
	duration, seconds := m.durations[c.Decision], m.upstreams[c.Rule]
	var nearBy, shadowedBy *atomic.Uint64
	if near {
		nearBy = m.near.n[seriesKey{app, rule}]
	}
	if shadowed {
		shadowedBy = m.shadows.n[seriesKey{app, rule}]
	}
	m.mu.RUnlock()

	if calls == nil || duration == nil {
		calls, duration = m.counter(&m.calls, c.App, c.Caller, c.Decision, c.Reason, c.Rule), m.observer(m.duration, m.durations, c.Decision)
	}
	calls.Add(1)
	duration.Observe(c.Duration.Seconds())
	if c.Decision == "refused-fuse" {
		m.counter(&m.saved, c.App, c.Rule).Add(1)
	}
	if c.Sent == 0 {
		return
	}
	m.overhead.Observe((c.Duration - c.Upstream).Seconds())
	if near {
		m.add(nearBy, &m.near, c.App, c.Rule)
	}
	if shadowed {
		m.add(shadowedBy, &m.shadows, c.App, c.Rule)
	}
	if upstream == nil || seconds == nil {
		upstream, seconds = m.counter(&m.upstream, c.App, c.Outcome, c.Rule), m.observer(m.upstreamSeconds, m.upstreams, c.Rule)
	}
	upstream.Add(uint64(c.Sent))
	seconds.Observe(c.Upstream.Seconds())
	if c.Errcode != 0 {
		m.counter(&m.errcodes, c.App, m.errcodeLabel(c.Errcode)).Add(1)
	}
}

// add adds 1 to a counter of c, which is nil until it is used.
func (m *Metrics) add(n *atomic.Uint64, c *counters, app, rule string) {
	if n == nil {
		n = m.counter(c, app, rule)
	}
	n.Add(1)
}

// counter returns the counter of label values, in the order of the labels of c, new if need be.
func (m *Metrics) counter(c *counters, values ...string) *atomic.Uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var key seriesKey
	for i, value := range values {
		if m.ids[value] == 0 {
			m.ids[value] = uint32(len(m.values))
			m.values = append(m.values, value)
		}
		key[i] = m.ids[value]
	}
	if c.n[key] == nil {
		c.n[key] = new(atomic.Uint64)
	}
	return c.n[key]
}

// observer returns the histogram of a label value, and keeps it in known.
func (m *Metrics) observer(vec *prometheus.HistogramVec, known map[string]prometheus.Observer, value string) prometheus.Observer {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known[value] == nil {
		known[value] = vec.WithLabelValues(value)
	}
	return known[value]
}

// maxErrcodes is how many errcodes have labels. WeChat answers with some hundred; this keeps the number of
// series bounded whatever an upstream answers.
const maxErrcodes = 500

// errcodeLabel returns the label of an errcode: its digits, or other past maxErrcodes different ones.
func (m *Metrics) errcodeLabel(code int) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	label, known := m.codes[code]
	switch {
	case known:
	case len(m.codes) >= maxErrcodes:
		label = "other"
	default:
		label = strconv.Itoa(code)
		m.codes[code] = label
	}
	return label
}

// Token counts one fetch of an access token. result is ok, transport or an errcode.
func (m *Metrics) Token(app, result string) {
	if code, err := strconv.Atoi(result); err == nil {
		result = m.errcodeLabel(code)
	}
	m.counter(&m.tokens, app, result).Add(1)
}

// Loop counts one loop that was found.
func (m *Metrics) Loop(app, rule string) { m.counter(&m.loops, app, rule).Add(1) }

// Saved returns the calls of each rule of an app that were refused because they went on with a loop, nil for none.
func (m *Metrics) Saved(app string) map[string]uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var saved map[string]uint64
	for key, n := range m.saved.n {
		if m.values[key[0]] == app {
			if saved == nil {
				saved = make(map[string]uint64)
			}
			saved[m.values[key[1]]] = n.Load()
		}
	}
	return saved
}

// Alert counts one event at one sink. result is sent, refused, failed or dropped.
func (m *Metrics) Alert(event, sink, result string) {
	m.counter(&m.alerts, event, result, sink).Add(1)
}

// Reloaded records whether a reload of the configuration succeeded.
func (m *Metrics) Reloaded(ok bool) {
	if !ok {
		m.reloaded.Set(0)
		return
	}
	m.reloaded.Set(1)
	m.reloadedAt.SetToCurrentTime()
}

// AccessLog shows how many lines of the access log were dropped.
func (m *Metrics) AccessLog(dropped func() int64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "wxproxy_access_log_dropped_total", Help: "Lines of the access log that were dropped, because nothing took them or the disk was full.",
	}, func() float64 { return float64(dropped()) }))
}

// Process is what runs, as each scrape asks it. All may be called by many goroutines at once.
type Process struct {
	InFlight    func() int       // calls that have one of the places of max_in_flight
	Spooled     func() int64     // bytes of request bodies in temporary files
	Certificate func() time.Time // the end of the main listener's certificate; nil without one
}

// Watch shows what runs.
func (m *Metrics) Watch(p Process) {
	gauge := func(name, help string, value func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("wxproxy_requests_in_flight", "Calls that have one of the places of max_in_flight.", func() float64 { return float64(p.InFlight()) })
	gauge("wxproxy_spooled_bytes", "Bytes of request bodies that are in temporary files now.", func() float64 { return float64(p.Spooled()) })
	if p.Certificate != nil {
		gauge("wxproxy_tls_cert_not_after_timestamp_seconds", "When the certificate of the main listener ends.", func() float64 { return float64(p.Certificate().Unix()) })
	}
}

// Store counts one request to the store: what it was for, and its result, ok, error or no_answer.
func (m *Metrics) Store(op, result string, took time.Duration) {
	of := [2]string{op, result}
	m.mu.RLock()
	seconds := m.stores[of]
	m.mu.RUnlock()
	if seconds == nil {
		seconds = m.storeSeconds.WithLabelValues(op, result)
		m.mu.Lock()
		m.stores[of] = seconds
		m.mu.Unlock()
	}
	seconds.Observe(took.Seconds())
}

// Indeterminate counts a request to count calls that may have been applied or not.
func (m *Metrics) Indeterminate() { m.indeterminate.Inc() }

// Tail shows how many lines were dropped for clients of /api/v1/tail.
func (m *Metrics) Tail(dropped func() int64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "wxproxy_tail_dropped_total", Help: "Lines that clients of /api/v1/tail were too slow for, each counted for each client.",
	}, func() float64 { return float64(dropped()) }))
}

// AcceptError counts one connection that could not be accepted.
func (m *Metrics) AcceptError() { m.acceptErrors.Inc() }

// Panic counts one request that ended in a panic.
func (m *Metrics) Panic() { m.panics.Inc() }

// families returns the counters as they are now.
func (m *Metrics) families() []*dto.MetricFamily {
	labels := make(labelPairs)
	var families []*dto.MetricFamily
	for _, c := range []*counters{&m.calls, &m.upstream, &m.errcodes, &m.tokens, &m.near, &m.shadows, &m.loops, &m.saved, &m.alerts} {
		f := newFamily(c.name, c.help, dto.MetricType_COUNTER)
		series, values := m.copy(c)
		slices.SortFunc(series, func(a, b oneSeries) int { return slices.Compare(a.key[:], b.key[:]) })
		for _, s := range series {
			var pairs [len(s.key)]*dto.LabelPair
			for i, name := range c.labels {
				pairs[i] = labels.of(name, values[s.key[i]])
			}
			f.add(float64(s.n.Load()), pairs[:len(c.labels)]...)
		}
		families = append(families, f.MetricFamily)
	}
	return families
}

type oneSeries struct {
	key seriesKey
	n   *atomic.Uint64
}

// copy returns the series of c and the label values by id. It does nothing else with the lock: calls
// wait for it.
func (m *Metrics) copy(c *counters) ([]oneSeries, []string) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	series := make([]oneSeries, 0, len(c.n))
	for key, n := range c.n {
		series = append(series, oneSeries{key, n})
	}
	return series, m.values
}
