package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"wxproxy/admin"
	"wxproxy/alert"
	"wxproxy/config"
	"wxproxy/internal/words"
	"wxproxy/limits"
	"wxproxy/proxy"
	"wxproxy/token"
	"wxproxy/wechat"
)

// alerts turns what the parts of a gateway observe into events.
type alerts struct {
	*alert.Alerts
	g *gateway

	mu      sync.Mutex           // covers what follows
	expires map[string]time.Time // of tokens, by appid

	from int // of the next reading of the usage; it belongs to the goroutine of Run
}

func newAlerts(g *gateway) *alerts {
	a := &alerts{g: g, expires: make(map[string]time.Time)}
	host, err := os.Hostname()
	if err != nil {
		host = g.id
	}
	a.Alerts = alert.New(alert.Options{
		Store: g.store, Holder: g.id, Host: host, Usage: a.usage, Detail: a.detail,
		Serves:  func(appid string) bool { return g.configured(appid) != nil || learns(g.config.Load()) },
		Fleet:   func() int { return int(g.limiter.Store().Gateways) },
		Count:   func(kind alert.Kind, sink string, r alert.Result) { g.metrics.Alert(string(kind), sink, string(r)) },
		Observe: a.observe,
	})
	return a
}

// alertConfig is what package alert needs of a configuration.
func alertConfig(c *config.Config) alert.Config {
	a := alert.Config{
		Language: alert.Language(c.Alerts.Language), Zone: c.Table.Zone, Thresholds: c.Alerts.Thresholds, DriftBound: c.Alerts.Drift,
		Remind: c.Alerts.Remind, Digest: c.Alerts.DigestHour(), Page: c.Alerts.Page,
	}
	for _, r := range c.Alerts.Rules {
		a.Overrides = append(a.Overrides, alert.Override{App: r.App, Rule: r.Rule, Thresholds: r.Thresholds})
	}
	for _, s := range c.Alerts.Sinks {
		a.Sinks = append(a.Sinks, alertSink(s))
	}
	return a
}

func alertSink(s config.AlertSink) alert.Sink {
	sink := alert.Sink{Name: s.Name, Type: s.Type, Secrets: s.Secret}
	if len(s.URL) > 0 {
		sink.URL = s.URL[0]
	}
	for _, kind := range s.Events {
		sink.Events = append(sink.Events, alert.Kind(kind))
	}
	if s.Type == alert.Mail {
		host, port := s.MailServer()
		sink.Mail = alert.MailServer{Host: host, Port: port, TLS: s.TLS, Username: s.Username, From: s.From, To: s.To}
	}
	return sink
}

// observe logs what becomes of messages.
func (a *alerts) observe(r alert.Report) {
	switch r.Kind {
	case alert.Silenced:
		a.g.log.Error("alerts: the sink refuses messages for good: nothing is sent to it until its configuration changes or `wxproxy alert test` succeeds",
			zap.String("sink", r.Sink), zap.Error(r.Err))
	case alert.Failing:
		a.g.log.Warn("alerts: a message was not sent: it is tried again", zap.String("sink", r.Sink), zap.Error(r.Err))
	case alert.Recovered:
		a.g.log.Info("alerts: the sink takes messages again", zap.String("sink", r.Sink))
	case alert.StoreFailed:
		a.g.log.Warn("alerts: store unavailable: this gateway sends for itself, one message per sink in five minutes", zap.Error(r.Err))
	}
}

// usagePerReading is how many accounts one reading has. The sender reads every ten seconds, so that a fleet with more
// accounts costs the store no more; each of ten thousand is read every 100 seconds.
const usagePerReading = 1000

// usage reads the counters of the next accounts, and WeChat's own counts of them.
func (a *alerts) usage(ctx context.Context) ([]alert.Line, error) {
	apps := a.g.allApps()
	if a.from >= len(apps) {
		a.from = 0
	}
	apps = apps[a.from:min(a.from+usagePerReading, len(apps))]
	a.from += len(apps)
	ids := make([]string, len(apps))
	for i, app := range apps {
		ids[i] = app.AppID
	}
	lines, err := a.g.limiter.UsageAll(ctx, ids, true)
	if err != nil && lines == nil {
		return nil, err
	}
	readings, unread := a.g.readings(ctx, ids, lines)
	rates, now := admin.Rates(ctx, a.g.history, apps, lines), time.Now()
	var all []alert.Line
	for i, app := range apps {
		for _, u := range lines[i] {
			if u.Limit <= 0 || strings.Contains(u.Counter, "@") { // the share of one caller
				continue
			}
			l := alertLine(app, u)
			if f := admin.ForecastOf(now, u, rates[app.AppID]); f != nil && f.Left == 0 { // of a small quota the calls left say more
				l.Forecast = f.RunsOut
			}
			if r, ok := readingOf(readings, i, u); ok {
				l.Wechat, l.Counted = r.Used, r.Used-r.Drift
			}
			all = append(all, l)
		}
	}
	return all, errors.Join(err, unread)
}

func readingOf(readings []map[string]admin.Reading, i int, u limits.Usage) (admin.Reading, bool) {
	if i >= len(readings) || u.Period != limits.Day {
		return admin.Reading{}, false
	}
	r, ok := readings[i][u.Counter]
	return r, ok
}

func alertLine(app admin.App, u limits.Usage) alert.Line {
	path := strings.TrimPrefix(strings.TrimPrefix(u.Counter, u.Rule.Name), ":")
	return alert.Line{
		AppID: app.AppID, App: app.Name, Rule: u.Rule.Name, Title: u.Rule.Title, Path: path, Period: u.Period.String(),
		Used: u.Used, Limit: u.Limit, Generation: u.Generation, Reset: u.Reset,
		Clears: u.Period == limits.Month && slices.Contains(u.Rule.Paths, wechat.ClearPath),
	}
}

// maxAlertCallers is how many callers an event names.
const maxAlertCallers = 3

// detail adds who has called most today to an event about a day's counter. Of a path inside a /* that is not known.
func (a *alerts) detail(ctx context.Context, e *alert.Event) {
	if e.Kind != alert.Used && e.Kind != alert.Forecast || e.Path != "" || e.Period != limits.Day.String() {
		return
	}
	callers := admin.Callers(ctx, a.g.history, []admin.App{{AppID: e.AppID}})[e.AppID][e.Rule]
	for _, c := range callers[:min(len(callers), maxAlertCallers)] {
		e.Callers = append(e.Callers, alert.Caller{Name: c.Caller, Calls: c.Sent})
	}
}

// loopKnown is how long a loop is known that no gateway ends: one that stops forgets it.
const loopKnown = 24 * time.Hour

// loop takes a caller whose calls fail in a loop, and that it has ended.
func (a *alerts) loop(l proxy.Loop) {
	e := alert.Event{Kind: alert.Fuse, Over: l.Ended, AppID: l.AppID, App: l.App, Rule: l.Rule, Caller: l.Caller, ErrCode: l.Errcode}
	if !l.Ended {
		e.Until = time.Now().Add(loopKnown)
	}
	if rules := a.g.limiter.Rules(l.AppID); rules != nil && rules.Rule(l.Rule) != nil {
		e.Title = rules.Rule(l.Rule).Title
	}
	a.Notify(e)
}

// limits takes what the counters observe.
func (a *alerts) limits(e limits.Event) {
	about := alert.Event{Kind: alert.Latched, AppID: e.App, App: a.g.name(e.App), Rule: e.Rule, Path: strings.TrimPrefix(strings.TrimPrefix(e.Counter, e.Rule), ":")}
	if e.App != "" { // else the limiter may be about to be made
		if rules := a.g.limiter.Rules(e.App); rules != nil && rules.Rule(e.Rule) != nil {
			about.Title = rules.Rule(e.Rule).Title
		}
	}
	switch e.Kind {
	case limits.StoreDown, limits.StoreUp:
		down := alert.Event{Kind: alert.StoreDown, Over: e.Kind == limits.StoreUp}
		if answered, ok := errors.AsType[*limits.StoreError](e.Err); ok {
			down.Reason = a.translate(answered.Text) // without an address of the store
		} else if !down.Over {
			down.Reason = a.translate("the store does not answer")
		}
		a.Notify(down)
	case limits.RuleLatched:
		if about.Until = e.Until; e.Day { // what lasts for a minute is over when it is read
			a.Notify(about)
		}
	case limits.RuleUnlatched:
		about.Over = true
		a.Notify(about)
	}
}

// endsSoon is how long before its end a token that was not renewed is worth an event. It is renewed four minutes before.
const endsSoon = 200 * time.Second

// token takes what becomes of access_tokens.
func (a *alerts) token(e token.Event) {
	about := alert.Event{AppID: e.AppID, App: a.g.name(e.AppID), ErrCode: e.ErrCode}
	switch e.Kind {
	case token.Opened:
		about.Kind, about.IP, about.Until = alert.TokenRefused, e.IP, e.Until
		a.Notify(about)
	case token.Failed:
		a.mu.Lock()
		expires, known := a.expires[e.AppID]
		a.mu.Unlock()
		if known && time.Until(expires) < endsSoon {
			about.Kind, about.Expires = alert.TokenEnding, expires
			about.Reason = a.translate(strings.TrimPrefix(e.Err.Error(), fmt.Sprintf("token of %s: %v: ", e.AppID, token.ErrUnavailable)))
			a.Notify(about)
		}
	case token.Fetched, token.Adopted:
		a.mu.Lock()
		a.expires[e.AppID] = e.Expires
		a.mu.Unlock()
		for _, kind := range []alert.Kind{alert.TokenRefused, alert.TokenEnding} { // maybe of an earlier life
			about.Kind, about.Over = kind, true
			a.Notify(about)
		}
	}
}

// translate returns a text in the language of messages. Without a sink there are no messages.
func (a *alerts) translate(text string) string {
	c := a.g.config.Load().Alerts
	if len(c.Sinks) == 0 {
		return "" // the first translation takes a while
	}
	return words.Language(c.Language).Translate(text)
}

// maxFault is how much of the faults of a configuration a message holds.
const maxFault = 400

// reloaded takes how a reload ended.
func (a *alerts) reloaded(fault error) {
	e := alert.Event{Kind: alert.ReloadFailed, Over: fault == nil}
	if c := a.g.config.Load().Alerts; fault != nil && len(c.Sinks) > 0 {
		e.Reason = words.Language(c.Language).Error(fault)
		if runes := []rune(e.Reason); len(runes) > maxFault {
			e.Reason = string(runes[:maxFault]) + "…"
		}
	}
	a.Notify(e)
}

// begin ends the conditions that an earlier life of this process may have left: it could not have started with them.
func (a *alerts) begin() {
	for _, kind := range []alert.Kind{alert.StoreDown, alert.ReloadFailed, alert.LogDropped} {
		a.Notify(alert.Event{Kind: kind, Over: true})
	}
}

// accessLog takes that lines of the access log cannot be written, or can again.
func (a *alerts) accessLog(reason error, dropped int64) {
	a.Notify(alert.Event{Kind: alert.LogDropped, Over: reason == nil, Dropped: dropped})
}

// list is what was sent, with times in the zone of the table.
func (a *alerts) list(ctx context.Context) (admin.Alerts, error) {
	zone := a.g.config.Load().Table.Zone
	in := func(at time.Time) time.Time {
		if at.IsZero() {
			return at
		}
		return at.In(zone)
	}
	l := a.List(ctx)
	answer := admin.Alerts{Time: in(time.Now()), Sinks: make([]admin.AlertSink, len(l.Sinks)), Alerts: make([]admin.Alert, len(l.Alerts))}
	for i, s := range l.Sinks {
		answer.Sinks[i] = admin.AlertSink{
			Sink: s.Sink, Type: s.Type, State: string(s.State), Error: s.Why, Taken: in(s.Taken), Tried: in(s.Tried), Next: in(s.Next), Waiting: s.Waiting,
		}
	}
	for i, listed := range l.Alerts {
		e, state := listed.Event, "began"
		switch {
		case e.Over:
			state = "over"
		case e.Again:
			state = "still"
		}
		results := make([]admin.AlertResult, len(listed.Sinks))
		for j, f := range listed.Sinks {
			results[j] = admin.AlertResult{Sink: f.Sink, Result: string(f.Result), Error: f.Why, Time: in(f.At)}
		}
		answer.Alerts[i] = admin.Alert{
			Time: in(listed.At), Event: string(e.Kind), State: state, App: e.App, AppID: e.AppID, Rule: e.Rule, Title: e.Title, Path: e.Path,
			Period: e.Period, Used: e.Used, Limit: e.Limit, Threshold: e.Threshold, Forecast: in(e.Forecast), Wechat: e.Wechat,
			Errcode: e.ErrCode, IP: e.IP, Caller: e.Caller, Gateway: e.Host, Reason: e.Reason, Sinks: results,
		}
	}
	return answer, l.Err
}

// test sends a test message.
func (a *alerts) test(ctx context.Context, sink string) ([]admin.AlertTest, error) {
	results, err := a.Test(ctx, sink)
	if errors.Is(err, alert.ErrUnknownSink) {
		err = admin.ErrUnknownSink
		for _, s := range a.g.config.Load().Alerts.Sinks {
			results = append(results, alert.Tested{Sink: s.Name, Type: s.Type})
		}
	}
	tests := make([]admin.AlertTest, len(results))
	for i, r := range results {
		tests[i] = admin.AlertTest{Sink: r.Sink, Type: r.Type}
		if r.Err != nil {
			tests[i].Error = r.Err.Error()
		}
	}
	return tests, err
}
