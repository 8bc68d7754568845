package admin

import (
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
	shadows   counters
	durations map[string]prometheus.Observer // of duration, by decision
	upstreams map[string]prometheus.Observer // of upstreamSeconds, by rule
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
	Sent     int // how often it was sent
	Duration time.Duration
	Upstream time.Duration
}

// shadowed is the decision about a call that would have been refused.
var shadowed = limits.Shadow.String()

// seconds are the buckets of durations: a local answer takes parts of a millisecond, a media upload
// many seconds.
var seconds = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// NewMetrics returns metrics of a registry of their own. version is the program's.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wxproxy_request_duration_seconds", Help: "How long calls took, from the first byte to the last.", Buckets: seconds,
		}, []string{"decision"}),
		upstreamSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wxproxy_upstream_duration_seconds", Help: "How long WeChat took to answer.", Buckets: seconds,
		}, []string{"rule"}),
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
		shadows:   newCounters("wxproxy_shadow_refusals_total", "Calls that were sent because the rule or the gateway is a shadow, and would have been refused.", "app", "rule"),
		codes:     make(map[int]string),
		durations: make(map[string]prometheus.Observer),
		upstreams: make(map[string]prometheus.Observer),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "wxproxy_build_info", Help: "Always 1.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	for _, reason := range []string{WrongHost, CrossOrigin, WrongToken, TooManyAttempts} {
		m.adminRefused.WithLabelValues(reason) // at 0, so that the first one is an increase
	}
	m.registry.MustRegister(
		m.adminRefused, m.duration, m.upstreamSeconds, m.reloaded, m.reloadedAt, m.acceptErrors, m.panics, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Call counts one call that is over.
func (m *Metrics) Call(c Call) {
	if c.Sent == 0 {
		c.Outcome = ""
	}
	m.mu.RLock()
	app, rule := m.ids[c.App], m.ids[c.Rule]
	calls := m.calls.n[seriesKey{app, m.ids[c.Caller], m.ids[c.Decision], m.ids[c.Reason], rule}]
	upstream := m.upstream.n[seriesKey{app, m.ids[c.Outcome], rule}]
	duration, seconds := m.durations[c.Decision], m.upstreams[c.Rule]
	m.mu.RUnlock()

	if calls == nil || duration == nil {
		calls, duration = m.counter(&m.calls, c.App, c.Caller, c.Decision, c.Reason, c.Rule), m.observer(m.duration, m.durations, c.Decision)
	}
	calls.Add(1)
	duration.Observe(c.Duration.Seconds())
	if c.Decision == shadowed {
		m.counter(&m.shadows, c.App, c.Rule).Add(1)
	}
	if c.Sent == 0 {
		return
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

// AcceptError counts one connection that could not be accepted.
func (m *Metrics) AcceptError() { m.acceptErrors.Inc() }

// Panic counts one request that ended in a panic.
func (m *Metrics) Panic() { m.panics.Inc() }

// families returns the counters as they are now.
func (m *Metrics) families() []*dto.MetricFamily {
	labels := make(labelPairs)
	var families []*dto.MetricFamily
	for _, c := range []*counters{&m.calls, &m.upstream, &m.errcodes, &m.tokens, &m.shadows} {
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
