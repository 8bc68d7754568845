package admin

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Metrics is what Prometheus reads. Labels are names of the configuration and of the table, so
// strangers cannot multiply them: no token, openid, address or path.
type Metrics struct {
	registry *prometheus.Registry

	calls           *prometheus.CounterVec
	duration        *prometheus.HistogramVec
	upstream        *prometheus.CounterVec
	upstreamSeconds *prometheus.HistogramVec
	errcodes        *prometheus.CounterVec
	tokens          *prometheus.CounterVec
	reloaded        prometheus.Gauge
	reloadedAt      prometheus.Gauge

	mu     sync.RWMutex
	series map[labels]*callSeries
}

// Call is what the metrics hear of one call.
type Call struct {
	App      string // alias; "" when nobody knows
	Rule     string
	Caller   string
	Decision string
	Outcome  string // of the last sending: ok, errcode, http_error or transport_error; "" when nothing was sent
	Errcode  int
	Sent     int // how often it was sent
	Duration time.Duration
	Upstream time.Duration
}

// seconds are the buckets of durations: a local answer takes parts of a millisecond, a media upload
// many seconds.
var seconds = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// NewMetrics returns metrics of a registry of their own. version is the program's.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		series:   make(map[labels]*callSeries),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wxproxy_requests_total", Help: "Calls by what became of them.",
		}, []string{"app", "rule", "caller", "decision"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wxproxy_request_duration_seconds", Help: "How long calls took, from the first byte to the last.", Buckets: seconds,
		}, []string{"decision"}),
		upstream: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wxproxy_upstream_requests_total", Help: "Requests sent to WeChat by how the last one of the call ended.",
		}, []string{"app", "rule", "outcome"}),
		upstreamSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wxproxy_upstream_duration_seconds", Help: "How long WeChat took to answer.", Buckets: seconds,
		}, []string{"rule"}),
		errcodes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wxproxy_upstream_errcode_total", Help: "Errcodes that WeChat answered with.",
		}, []string{"app", "errcode"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wxproxy_token_refresh_total", Help: "Fetches of access tokens by result.",
		}, []string{"app", "result"}),
		reloaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "wxproxy_config_last_reload_successful", Help: "Whether the last reading of the configuration was taken over.",
		}),
		reloadedAt: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "wxproxy_config_last_reload_success_timestamp_seconds", Help: "When the configuration was last taken over.",
		}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "wxproxy_build_info", Help: "Always 1.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(
		m.calls, m.duration, m.upstream, m.upstreamSeconds, m.errcodes, m.tokens, m.reloaded, m.reloadedAt, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Call counts one call that is over.
func (m *Metrics) Call(c Call) {
	if c.Sent == 0 {
		c.Outcome = ""
	}
	s := m.of(labels{c.App, c.Rule, c.Caller, c.Decision, c.Outcome})
	s.calls.Inc()
	s.duration.Observe(c.Duration.Seconds())
	if c.Sent == 0 {
		return
	}
	s.upstream.Add(float64(c.Sent))
	s.upstreamSeconds.Observe(c.Upstream.Seconds())
	if c.Errcode != 0 {
		m.errcodes.WithLabelValues(c.App, errcodeLabel(c.Errcode)).Inc()
	}
}

// labels are all that a call's series are chosen by.
type labels struct{ app, rule, caller, decision, outcome string }

// callSeries are the series that calls with the same labels count in: found once for all of them.
type callSeries struct {
	calls, upstream           prometheus.Counter
	duration, upstreamSeconds prometheus.Observer
}

func (m *Metrics) of(l labels) *callSeries {
	m.mu.RLock()
	s := m.series[l]
	m.mu.RUnlock()
	if s != nil {
		return s
	}
	s = &callSeries{
		calls:    m.calls.WithLabelValues(l.app, l.rule, l.caller, l.decision),
		duration: m.duration.WithLabelValues(l.decision),
	}
	if l.outcome != "" {
		s.upstream = m.upstream.WithLabelValues(l.app, l.rule, l.outcome)
		s.upstreamSeconds = m.upstreamSeconds.WithLabelValues(l.rule)
	}
	m.mu.Lock()
	m.series[l] = s
	m.mu.Unlock()
	return s
}

// errcodeLabel keeps the number of labels bounded whatever an upstream answers: errcodes of WeChat
// have at most six digits.
func errcodeLabel(code int) string {
	if code < -1 || code > 99999 && code < 200000 || code > 999999 {
		return "other"
	}
	return strconv.Itoa(code)
}

// Token counts one fetch of an access token. result is ok, transport or an errcode.
func (m *Metrics) Token(app, result string) { m.tokens.WithLabelValues(app, result).Inc() }

// Reloaded tells whether a reading of the configuration was taken over.
func (m *Metrics) Reloaded(ok bool) {
	if !ok {
		m.reloaded.Set(0)
		return
	}
	m.reloaded.Set(1)
	m.reloadedAt.SetToCurrentTime()
}

// Watch adds the figures that are read when Prometheus asks: the quotas of each app and the state
// of the store.
func (m *Metrics) Watch(apps func() []App, l Limiter) {
	m.registry.MustRegister(&quotaCollector{apps: apps, limiter: l})
}

// quotaCollector reads the counters at each scrape.
type quotaCollector struct {
	apps    func() []App
	limiter Limiter
}

var (
	quotaLimit = prometheus.NewDesc("wxproxy_quota_limit", "Calls that the quota allows in its window.", []string{"app", "rule", "period"}, nil)
	quotaUsed  = prometheus.NewDesc("wxproxy_quota_used", "Calls counted in the window.", []string{"app", "rule", "period"}, nil)
	quotaLeft  = prometheus.NewDesc("wxproxy_quota_remaining", "Calls left in the window.", []string{"app", "rule", "period"}, nil)
	quotaReset = prometheus.NewDesc("wxproxy_quota_reset_timestamp_seconds", "When the window ends.", []string{"app", "period"}, nil)
	storeUp    = prometheus.NewDesc("wxproxy_store_up", "Whether the store answers.", nil, nil)
)

// scrapeBudget bounds what a scrape may ask of the store.
const scrapeBudget = 2 * time.Second

func (*quotaCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{quotaLimit, quotaUsed, quotaLeft, quotaReset, storeUp} {
		ch <- d
	}
}

// Collect sends the figures. Paths inside a /* are summed up under their rule: a path is no label.
func (c *quotaCollector) Collect(ch chan<- prometheus.Metric) {
	up := 1.0
	if c.limiter.Degraded() {
		up = 0
	}
	ch <- prometheus.MustNewConstMetric(storeUp, prometheus.GaugeValue, up)
	ctx, cancel := context.WithTimeout(context.Background(), scrapeBudget)
	defer cancel()
	type series struct{ rule, period string }
	for _, app := range c.apps() {
		lines, err := c.limiter.Usage(ctx, app.AppID)
		if err != nil {
			continue // store_up tells
		}
		used := make(map[series]float64)
		reset := make(map[string]time.Time)
		for _, u := range lines {
			if strings.Contains(u.Counter, "@") {
				continue // a share is a part of what its rule has
			}
			s := series{u.Rule.Name, u.Period.String()}
			used[s] += float64(u.Used)
			reset[s.period] = u.Reset
			if u.Limit > 0 && u.Counter == u.Rule.Name {
				ch <- prometheus.MustNewConstMetric(quotaLimit, prometheus.GaugeValue, float64(u.Limit), app.Name, s.rule, s.period)
				ch <- prometheus.MustNewConstMetric(quotaLeft, prometheus.GaugeValue, float64(u.Remaining), app.Name, s.rule, s.period)
			}
		}
		for s, n := range used {
			ch <- prometheus.MustNewConstMetric(quotaUsed, prometheus.GaugeValue, n, app.Name, s.rule, s.period)
		}
		for period, at := range reset {
			ch <- prometheus.MustNewConstMetric(quotaReset, prometheus.GaugeValue, float64(at.Unix()), app.Name, period)
		}
	}
}
