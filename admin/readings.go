package admin

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"wxproxy/limits"
)

// Reading is what WeChat itself said of one counter today.
type Reading struct {
	At    time.Time // when WeChat was asked
	Limit int64     // its figure for the day; 0: it tells none
	Used  int64     // the calls that it has counted
	Drift int64     // its count less ours: calls that did not pass a gateway
}

// limit is WeChat's figure as far as a quota can have it; 0 is none.
func (r Reading) limit() int64 {
	if r.Limit < 1 || r.Limit > limits.MaxLimit {
		return 0
	}
	return r.Limit
}

// readings asks for the readings of an app where there is somebody to ask. The text is what went
// wrong, for the operator.
func (a *Admin) readings(ctx context.Context, app App, live bool) (map[string]Reading, string) {
	if a.o.Readings == nil {
		return nil, ""
	}
	readings, err := a.o.Readings(ctx, app.AppID, live)
	if err != nil {
		return readings, err.Error()
	}
	return readings, ""
}

// read puts what WeChat said into the row of a day's counter.
func (r *Row) read(readings map[string]Reading, u limits.Usage) {
	reading, ok := readings[u.Counter]
	if !ok || u.Period != limits.Day {
		return
	}
	used, drift := reading.Used, reading.Drift
	r.WechatUsed, r.WechatLimit, r.Drift, r.ReadAt = &used, reading.limit(), &drift, reading.At.In(u.Reset.Location())
}

// readingCollector tells at each scrape what is known of WeChat's own counts. It asks WeChat nothing.
type readingCollector struct {
	apps     func() []App
	readings func(ctx context.Context, appid string, live bool) (map[string]Reading, error)
}

var (
	wechatUsed  = prometheus.NewDesc("wxproxy_quota_wechat_used", "Calls of the day that WeChat itself had counted when it was last asked.", []string{"app", "rule"}, nil)
	wechatLimit = prometheus.NewDesc("wxproxy_quota_wechat_limit", "Calls a day that WeChat itself allows, as it last said.", []string{"app", "rule"}, nil)
	wechatDrift = prometheus.NewDesc("wxproxy_quota_drift", "WeChat's count of the day less the calls counted here, when WeChat was last asked.", []string{"app", "rule"}, nil)
)

func (*readingCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{wechatUsed, wechatLimit, wechatDrift} {
		ch <- d
	}
}

// Collect sends the figures of the configured apps. Paths inside a /* are summed up under their
// rule: a path is no label.
func (c *readingCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeBudget)
	defer cancel()
	for _, app := range c.apps() {
		if app.Learned {
			continue // strangers must not multiply the series
		}
		readings, err := c.readings(ctx, app.AppID, false)
		if err != nil {
			continue // store_up tells
		}
		used, drift := make(map[string]float64), make(map[string]float64)
		for counter, r := range readings {
			rule, path, _ := strings.Cut(counter, ":")
			used[rule] += float64(r.Used)
			drift[rule] += float64(r.Drift)
			if limit := r.limit(); limit > 0 && path == "" {
				ch <- prometheus.MustNewConstMetric(wechatLimit, prometheus.GaugeValue, float64(limit), app.Name, rule)
			}
		}
		for rule, n := range used {
			ch <- prometheus.MustNewConstMetric(wechatUsed, prometheus.GaugeValue, n, app.Name, rule)
			ch <- prometheus.MustNewConstMetric(wechatDrift, prometheus.GaugeValue, drift[rule], app.Name, rule)
		}
	}
}
