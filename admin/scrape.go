package admin

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"wxproxy/history"
	"wxproxy/limits"
	"wxproxy/token"
)

const (
	// scrapeBudget bounds what a scrape may ask of the store.
	scrapeBudget = 2 * time.Second

	// manyApps is the number of configured accounts beyond which only rules that are used are
	// exported: each rule of each account has three series.
	manyApps = 1000
)

// scraper gathers the metrics at each scrape: the registry's, the counters of calls, and the quotas of
// each account as the store has them. It is a gatherer and no collector because a registry needs
// three times the time and memory for each series.
type scraper struct{ admin *Admin }

var _ prometheus.Gatherer = (*scraper)(nil)

// Gather implements [prometheus.Gatherer]. It asks WeChat nothing.
func (s *scraper) Gather() ([]*dto.MetricFamily, error) {
	families, err := s.admin.o.Metrics.registry.Gather()
	families = append(families, s.admin.o.Metrics.families()...)
	families = append(families, s.quotas()...)
	families = slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return len(f.GetMetric()) == 0 })
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return families, err
}

// quotas reads the counters and the readings of all configured accounts.
func (s *scraper) quotas() []*dto.MetricFamily {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeBudget)
	defer cancel()
	apps := slices.DeleteFunc(s.admin.o.Apps(), func(app App) bool { return app.Learned }) // strangers must not multiply the series
	f := s.admin.figures(ctx, apps, len(apps) > manyApps)
	rates := Rates(ctx, s.admin.o.History, apps, f.lines)
	q := newQuotas()
	for i, app := range apps {
		q.addUsage(app.Name, f.lines[i], rates[app.AppID])
		q.addReadings(app.Name, f.readings[i])
		if rules := s.admin.o.Limiter.Rules(app.AppID); rules != nil {
			q.addClears(app.Name, clearsLeft(rules, f.lines[i]))
		}
	}
	if s.admin.o.Tokens != nil {
		states, _ := s.admin.o.Tokens(ctx, appids(apps), false) // of this gateway's memory
		q.addTokens(apps, states)
	}
	state := s.admin.o.Limiter.Store()
	q.complete.addBool(f.err == nil && f.unread == nil)
	q.up.addBool(state.Answers)
	q.counting.addBool(state.Err == nil)
	return q.families()
}

// quotas are the metrics of the accounts' counters. Paths inside a /* are summed up under their rule:
// a path is no label.
type quotas struct {
	limit, used, remaining, reset        *family
	granted, exhaustion                  *family
	wechatUsed, wechatLimit, wechatDrift *family
	latched, clears                      *family
	expires, blocked                     *family
	complete, up, counting               *family
	labels                               labelPairs
}

func newQuotas() *quotas {
	gauge := func(name, help string) *family { return newFamily(name, help, dto.MetricType_GAUGE) }
	return &quotas{
		limit:       gauge("wxproxy_quota_limit", "Calls that the quota allows in its window."),
		used:        gauge("wxproxy_quota_used", "Calls counted in the window."),
		remaining:   gauge("wxproxy_quota_remaining", "Calls left in the window."),
		granted:     gauge("wxproxy_quota_granted", "Calls that an operator has added to the quota for a while; they are in its limit. Only where there are any."),
		reset:       gauge("wxproxy_quota_reset_timestamp_seconds", "When the window ends."),
		exhaustion:  gauge("wxproxy_quota_exhaustion_timestamp_seconds", "When the quota will be used up at the present rate, if that is before its window ends."),
		wechatUsed:  gauge("wxproxy_quota_wechat_used", "Calls of the day that WeChat itself had counted when it was last asked."),
		wechatLimit: gauge("wxproxy_quota_wechat_limit", "Calls a day that WeChat itself allows, as last read from it."),
		wechatDrift: gauge("wxproxy_quota_drift", "WeChat's count of the day less the calls counted here, when WeChat was last asked."),
		latched:     gauge("wxproxy_latched", "1 for a rule that WeChat itself answers 45009 for, so that its calls are refused. No series: it does not."),
		clears:      gauge("wxproxy_clears_remaining", "Clears that WeChat still grants this month: kind app is clear_quota, kind rule is openapi/quota/clear."),
		expires:     gauge("wxproxy_token_expires_timestamp_seconds", "When the access_token that this gateway uses ends. A gateway that no call needs one of has none, or an old one."),
		blocked:     gauge("wxproxy_token_refresh_blocked", "Whether WeChat refuses to issue an access_token, as this gateway knows: a wrong secret, an address that is not whitelisted and the like."),
		complete:    gauge("wxproxy_quota_scrape_complete", "Whether this scrape has read the counters of all accounts; 0: some of the quota series are missing."),
		up:          gauge("wxproxy_store_up", "Whether the store answers, be it with an error; see wxproxy_store_counting."),
		counting:    gauge("wxproxy_store_counting", "Whether the store takes counts: 0 when it does not answer, or answers with an error."),
		labels:      make(labelPairs),
	}
}

func (q *quotas) families() []*dto.MetricFamily {
	all := []*family{
		q.limit, q.used, q.remaining, q.granted, q.reset, q.exhaustion, q.wechatUsed, q.wechatLimit, q.wechatDrift,
		q.latched, q.clears, q.expires, q.blocked, q.complete, q.up, q.counting,
	}
	families := make([]*dto.MetricFamily, len(all))
	for i, f := range all {
		families[i] = f.MetricFamily
	}
	return families
}

// addUsage adds the lines of one app, in which those of a rule follow each other.
func (q *quotas) addUsage(name string, lines []limits.Usage, rates *history.Rates) {
	now := time.Now()
	app := q.labels.of("app", name)
	var resets [2]time.Time // by period
	for len(lines) > 0 {
		rule := lines[0].Rule
		label := q.labels.of("rule", rule.Name)
		var used [2]int64
		var seen [2]bool
		latched := false
		for len(lines) > 0 && lines[0].Rule == rule {
			u := lines[0]
			lines = lines[1:]
			latched = latched || u.Latched
			if strings.Contains(u.Counter, "@") {
				continue // a share is a part of what its rule has
			}
			used[u.Period] += u.Used
			seen[u.Period], resets[u.Period] = true, u.Reset
			if u.Limit > 0 && u.Counter == rule.Name {
				period := q.labels.of("period", u.Period.String())
				q.limit.add(float64(u.Limit), app, period, label)
				q.remaining.add(float64(u.Remaining), app, period, label)
				if u.Grant.Calls > 0 {
					q.granted.add(float64(u.Grant.Calls), app, period, label)
				}
				if f := forecast(now, u, rates); !f.RunsOut.IsZero() {
					q.exhaustion.add(float64(f.RunsOut.Unix()), app, period, label)
				}
			}
		}
		if latched {
			q.latched.add(1, app, label)
		}
		for p, n := range used {
			if seen[p] {
				q.used.add(float64(n), app, q.labels.of("period", limits.Period(p).String()), label)
			}
		}
	}
	for p, at := range resets {
		if !at.IsZero() {
			q.reset.add(float64(at.Unix()), app, q.labels.of("period", limits.Period(p).String()))
		}
	}
}

// addClears adds the clears that an app has left.
func (q *quotas) addClears(name string, left []Clears) {
	for _, c := range left {
		q.clears.add(float64(c.Remaining), q.labels.of("app", name), q.labels.of("kind", c.Kind))
	}
}

// addTokens adds the tokens of the apps that have one or would have one.
func (q *quotas) addTokens(apps []App, states []*token.State) {
	for i, s := range states {
		if s == nil || s.Expires.IsZero() && s.Rejected == nil {
			continue
		}
		app := q.labels.of("app", apps[i].Name)
		if !s.Expires.IsZero() {
			q.expires.add(float64(s.Expires.Unix()), app)
		}
		blocked := 0.0
		if s.Rejected != nil {
			blocked = 1
		}
		q.blocked.add(blocked, app)
	}
}

// addReadings adds WeChat's own counts of one app.
func (q *quotas) addReadings(name string, readings map[string]Reading) {
	app := q.labels.of("app", name)
	used, drift := make(map[string]float64, len(readings)), make(map[string]float64, len(readings))
	for counter, r := range readings {
		rule, path, _ := strings.Cut(counter, ":")
		used[rule] += float64(r.Used)
		drift[rule] += float64(r.Drift)
		if limit := r.limit(); limit > 0 && path == "" {
			q.wechatLimit.add(float64(limit), app, q.labels.of("rule", rule))
		}
	}
	for rule, n := range used {
		q.wechatUsed.add(n, app, q.labels.of("rule", rule))
		q.wechatDrift.add(drift[rule], app, q.labels.of("rule", rule))
	}
}

// labelPairs are labels with their values, each made once for all series of a scrape.
type labelPairs map[[2]string]*dto.LabelPair

func (l labelPairs) of(name, value string) *dto.LabelPair {
	key := [2]string{name, value}
	pair := l[key]
	if pair == nil {
		value = strings.ToValidUTF8(value, "\uFFFD") // or the whole scrape fails
		pair = &dto.LabelPair{Name: &name, Value: &value}
		l[key] = pair
	}
	return pair
}

// family is a metric family that is being filled. Its series are allocated many at a time.
type family struct {
	*dto.MetricFamily
	gauges   []series[dto.Gauge]
	counters []series[dto.Counter]
}

// series is what one series consists of.
type series[T any] struct {
	metric dto.Metric
	of     T
	value  float64
	labels [len(seriesKey{})]*dto.LabelPair
}

func newFamily(name, help string, kind dto.MetricType) *family {
	return &family{MetricFamily: &dto.MetricFamily{Name: &name, Help: &help, Type: &kind}}
}

// add adds a series. Labels are in alphabetical order.
func (f *family) add(value float64, labels ...*dto.LabelPair) {
	var m *dto.Metric
	if f.GetType() == dto.MetricType_COUNTER {
		s := next(&f.counters, len(f.Metric), value, labels)
		s.metric.Counter, s.of.Value = &s.of, &s.value
		m = &s.metric
	} else {
		s := next(&f.gauges, len(f.Metric), value, labels)
		s.metric.Gauge, s.of.Value = &s.of, &s.value
		m = &s.metric
	}
	f.Metric = append(f.Metric, m)
}

func (f *family) addBool(yes bool) {
	value := 0.0
	if yes {
		value = 1
	}
	f.add(value)
}

// next takes a series with its value and labels out of what is allocated. n is how many there are
// already.
func next[T any](free *[]series[T], n int, value float64, labels []*dto.LabelPair) *series[T] {
	if len(*free) == 0 {
		*free = make([]series[T], max(4, min(n, 256)))
	}
	s := &(*free)[0]
	*free = (*free)[1:]
	s.value = value
	s.metric.Label = s.labels[:copy(s.labels[:], labels)]
	return s
}
