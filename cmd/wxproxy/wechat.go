package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"wxproxy/admin"
	"wxproxy/config"
	"wxproxy/drift"
	"wxproxy/limits"
	"wxproxy/proxy"
)

// The requests that the gateway itself sends to WeChat: for its counts, and to clear them.

func newAuditor(g *gateway, c *config.Config) *drift.Auditor {
	return drift.New(drift.Options{
		Store:   g.store,
		Limiter: g.limiter,
		Post: func(ctx context.Context, appid, path string, body []byte) ([]byte, error) {
			answer, _, err := g.handler.Post(ctx, appid, path, body)
			return answer, err
		},
		Holder: g.id,
		Apps:   func() []drift.App { return g.directory.Load().audited },
		App: func(appid string) (drift.App, bool) {
			app := g.configured(appid)
			if app == nil {
				return drift.App{}, false
			}
			return drift.App{AppID: appid, Auto: app.AutoQuotas}, true
		},
		Every:   c.Drift.Every,
		PerDay:  c.Drift.PerDay,
		Adopt:   g.adopt,
		Observe: g.observeDrift,
	})
}

// directory finds the apps of a configuration.
type directory struct {
	byID    map[string]*config.App
	audited []drift.App // those that WeChat can be asked about: the gateway has their token
}

func newDirectory(c *config.Config) *directory {
	d := &directory{byID: make(map[string]*config.App, len(c.Apps)), audited: make([]drift.App, len(c.Apps))}
	for i := range c.Apps {
		app := &c.Apps[i]
		d.byID[app.AppID] = app
		d.audited[i] = drift.App{AppID: app.AppID, Auto: app.AutoQuotas}
	}
	return d
}

// configured returns an app of the configuration, or nil.
func (g *gateway) configured(appid string) *config.App {
	if d := g.directory.Load(); d != nil {
		return d.byID[appid]
	}
	return nil
}

// name is the alias of an app, or its appid.
func (g *gateway) name(appid string) string {
	if app := g.configured(appid); app != nil {
		return app.Name
	}
	return appid
}

// seed asks WeChat for its count before the first call of a day.
func (g *gateway) seed(ctx context.Context, appid string, match limits.Match) (int64, bool) {
	return g.auditor.Seed(ctx, appid, match)
}

// adopt applies WeChat's own figures to an app.
func (g *gateway) adopt(appid string, figures map[string]limits.Budget) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.figures[appid] = figures
	if err := g.configureRulesLocked(g.config.Load()); err != nil {
		g.log.Error("WeChat's figures were not adopted", zap.String("app", g.name(appid)), zap.Error(err))
	}
}

// configureRulesLocked sets the rules of each app. g.mu is held, or g is not shared yet.
func (g *gateway) configureRulesLocked(c *config.Config) error {
	rules := make(map[string]*limits.Ruleset, len(c.Apps))
	for _, app := range c.Apps {
		rules[app.AppID] = app.Rules
		if !app.AutoQuotas {
			continue
		}
		adopted, err := c.RulesWith(app, g.figures[app.AppID])
		if err != nil {
			return fmt.Errorf("app %s: WeChat's figures: %w", app.Name, err)
		}
		rules[app.AppID] = adopted
	}
	others, err := c.Table.Rules(config.DefaultProfile, nil)
	if err != nil {
		return err
	}
	g.limiter.SetShadow(c.Shadow)
	g.limiter.Configure(rules, others)
	return nil
}

// loadFigures reads the figures that were adopted before, for apps with quotas: auto that are new here.
func (g *gateway) loadFigures(ctx context.Context, c *config.Config) {
	for _, app := range c.Apps {
		if _, known := g.figures[app.AppID]; known || !app.AutoQuotas {
			continue
		}
		figures, err := g.auditor.Figures(ctx, app.AppID)
		if err != nil {
			g.log.Warn("adopted figures cannot be read from the store: the table's are used", zap.String("app", app.Name), zap.Error(err))
			continue
		}
		g.figures[app.AppID] = figures
	}
}

// readLive asks WeChat about the counters of an app.
func (g *gateway) readLive(ctx context.Context, appid string) error {
	return publicError(g.auditor.Read(ctx, appid))
}

// readings returns WeChat's own counts of the counters of each app that has lines.
func (g *gateway) readings(ctx context.Context, appids []string, lines [][]limits.Usage) ([]map[string]admin.Reading, error) {
	found, err := g.auditor.Readings(ctx, appids, lines)
	readings := make([]map[string]admin.Reading, len(appids))
	for i := range found {
		readings[i] = make(map[string]admin.Reading, len(found[i]))
		for counter, r := range found[i] {
			readings[i][counter] = admin.Reading{At: r.At, Limit: r.Limit, Used: r.Used, Drift: r.Drift}
		}
	}
	return readings, publicError(err)
}

// publicError returns what of an error an operator may see: what WeChat or the store has answered, and no
// address of the store.
func publicError(err error) error {
	if answered, ok := errors.AsType[*drift.Error](err); ok {
		return answered
	}
	if answered, ok := errors.AsType[*limits.StoreError](err); ok {
		return answered
	}
	if err != nil {
		return errors.New("WeChat or the store did not answer in time")
	}
	return nil
}

// explain tells what a call would meet now.
func (g *gateway) explain(ctx context.Context, q admin.Question) (admin.Fate, error) {
	known := func(caller config.Caller) bool { return caller.Name == q.Caller }
	if q.Caller != "" && !slices.ContainsFunc(g.config.Load().Callers, known) {
		return admin.Fate{}, admin.ErrUnknownCaller
	}
	e, err := g.handler.Explain(ctx, proxy.Question{AppID: q.AppID, Caller: q.Caller, Method: q.Method, Target: q.Target})
	if errors.Is(err, proxy.ErrTarget) {
		err = admin.ErrTarget
	}
	return admin.Fate{
		Path: e.Path, Match: e.Match, Injects: e.Injects, Decision: e.Decision, Reason: string(e.Reason), Status: e.Status, Errcode: int(e.Errcode),
	}, err
}

// tables returns the rules of an app's profile without its own quotas: as shipped, and as the table
// in use has them.
func (g *gateway) tables(appid string) (shipped, table *limits.Ruleset) {
	c := g.config.Load()
	profile := config.DefaultProfile
	if app := g.configured(appid); app != nil {
		profile = app.Profile
	}
	table, err := c.Table.Rules(profile, nil)
	if err != nil {
		table = nil
	}
	if g.shipped != nil {
		if own := c.Table.Profiles[profile]; own != nil {
			profile = cmp.Or(own.Shipped, profile)
		}
		if shipped, err = g.shipped.Rules(profile, nil); err != nil {
			shipped = nil
		}
	}
	return shipped, table
}

// clear resets WeChat's counts of an app, or those of a rule's paths.
func (g *gateway) clear(ctx context.Context, appid, rule string) (admin.ClearResult, error) {
	type question struct {
		path, asks string
		body       map[string]string
	}
	questions := []question{{path: "/cgi-bin/clear_quota", body: map[string]string{"appid": appid}}}
	if rule != "" {
		rules := g.limiter.Rules(appid)
		if rules == nil || rules.Rule(rule) == nil {
			return admin.ClearResult{}, fmt.Errorf("rule %s: not in the table of app %s", rule, g.name(appid))
		}
		questions = nil
		for _, path := range admin.ClearPaths(rules.Rule(rule)) {
			questions = append(questions, question{"/cgi-bin/openapi/quota/clear", path, map[string]string{"cgi_path": path}})
		}
	}
	var result admin.ClearResult
	for _, q := range questions {
		body, err := json.Marshal(q.body)
		if err != nil {
			return result, err
		}
		answer, sent, err := g.handler.Post(ctx, appid, q.path, body)
		call := admin.ClearCall{Path: q.asks, Sent: sent}
		var said struct {
			ErrCode *int `json:"errcode"`
		}
		switch {
		case err == nil && json.Unmarshal(answer, &said) == nil && said.ErrCode != nil:
			call.ErrCode = *said.ErrCode
		case sent:
			call.NoAnswer = true
		default:
			call.ErrCode = -1
		}
		result.Calls = append(result.Calls, call)
		if call.ErrCode != 0 || call.NoAnswer {
			break
		}
	}
	return result, nil
}

// erasure is a forget that is under way.
type erasure struct {
	appid string
	stop  context.CancelFunc
	done  chan struct{} // closed when nothing is erased any more
}

// forget deletes the stored data of an app that is no longer configured. That reads all keys of a Redis, so
// reloads are possible during it; one that configures the app again cancels it.
func (g *gateway) forget(ctx context.Context, appid string) error {
	erasing, stop := context.WithCancel(ctx)
	defer stop()
	e := &erasure{appid: appid, stop: stop, done: make(chan struct{})}
	g.mu.Lock()
	if g.configured(appid) != nil {
		g.mu.Unlock()
		return admin.ErrConfigured
	}
	g.limiter.Forget(appid)
	delete(g.figures, appid)
	g.erasures[e] = true
	g.mu.Unlock()

	g.history.Forget(appid)
	err := errors.Join(g.store.Forget(erasing, appid), g.alerts.Forget(erasing, appid))
	close(e.done)
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.erasures, e)
	if err != nil && erasing.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%w again: what was left of it in the store is kept", admin.ErrConfigured)
	}
	return err
}

// erasureGrace is how long a reload waits for the last command of a forget that it stops.
const erasureGrace = time.Second

// stopErasuresLocked cancels the erasure of apps that a new configuration has.
func (g *gateway) stopErasuresLocked(c *config.Config) {
	for e := range g.erasures {
		if !slices.ContainsFunc(c.Apps, func(app config.App) bool { return app.AppID == e.appid }) {
			continue
		}
		e.stop()
		select {
		case <-e.done:
		case <-time.After(erasureGrace):
		}
		g.log.Warn("forget canceled: the app is configured again; some of its stored data is already deleted", zap.String("app", e.appid))
	}
}

func (g *gateway) observeDrift(e drift.Event) {
	fields := []zap.Field{zap.String("app", g.name(e.App))}
	if e.Rule != "" {
		fields = append(fields, zap.String("rule", e.Rule))
	}
	switch e.Kind {
	case drift.Failed:
		if e.ErrCode != 0 {
			fields = append(fields, zap.Int("errcode", e.ErrCode))
		}
		g.log.Warn("WeChat's own count could not be read", append(fields, zap.Error(e.Err))...)
	case drift.BudgetExhausted:
		g.log.Warn("drift.per_day is used up: no more scheduled reads of WeChat's own counts today", fields...)
	case drift.Adopted:
		g.log.Info("WeChat's own figure adopted", append(fields, zap.Int64("old", e.Old), zap.Int64("new", e.New))...)
	case drift.Cleared:
		g.log.Warn("a clear whose answer was lost was granted, as WeChat's own count shows", append(fields, zap.Int64("old", e.Old), zap.Int64("new", e.New))...)
	}
}
