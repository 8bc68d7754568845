package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"wxproxy"
	"wxproxy/admin"
	"wxproxy/config"
	"wxproxy/drift"
	"wxproxy/history"
	"wxproxy/limits"
	"wxproxy/proxy"
	"wxproxy/store"
	"wxproxy/tail"
	"wxproxy/token"
)

// gateway is everything that runs, composed from one configuration.
type gateway struct {
	id      string // random, of this process life
	started time.Time
	load    config.LoadOptions
	log     *zap.Logger
	seldom  *zap.Logger // log, each message once a second at most
	metrics *admin.Metrics

	store    *store.Store
	counters io.Closer // of the embedded store; nil with Redis
	limiter  *limits.Limiter
	tokens   *token.Source
	learned  *token.Learned
	tickets  *token.Tickets
	handler  *proxy.Handler
	admin    *admin.Admin
	access   *proxy.AccessLog
	tail     tail.Stream // of what access has
	auditor  *drift.Auditor
	history  *history.Recorder
	alerts   *alerts
	shipped  *limits.Table // the table in the binary

	reloading   sync.Mutex                   // one reading of the files at a time; covers seen; taken before mu
	seen        map[string][sha256.Size]byte // what the last reading of each file saw
	reloaded    atomic.Pointer[reloaded]
	certificate *certificate // nil when the listener is plain

	mu        sync.Mutex                          // covers figures and erasures, and what configure sets
	figures   map[string]map[string]limits.Budget // what WeChat has given for apps with quotas: auto
	erasures  map[*erasure]bool                   // under way
	config    atomic.Pointer[config.Config]
	directory atomic.Pointer[directory] // of config
	stopping  atomic.Bool
}

// gatewayID returns the random id of this process life: 8 of [a-z0-9].
func gatewayID() string { return strings.ToLower(rand.Text()[:8]) }

func storeOptions(c *config.Config) store.Options {
	return store.Options{URL: c.Store.URL, Password: c.Store.Password, Prefix: c.Store.Prefix, Upstream: c.Upstream.URL.String()}
}

// openGateway opens the store and composes the gateway. The access log goes to stdout unless the
// configuration names a file. No call is sent to one of listeners.
func openGateway(ctx context.Context, o serving, c *config.Config, adminToken string, listeners ...net.Addr) (*gateway, error) {
	log := o.log
	g := &gateway{id: gatewayID(), started: time.Now(), load: o.load, log: log, metrics: admin.NewMetrics(build()), seen: make(map[string][sha256.Size]byte)}
	g.reloaded.Store(&reloaded{at: time.Now()})
	g.seldom = log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, time.Second, 1, 0)
	}))
	g.figures, g.erasures = make(map[string]map[string]limits.Budget), make(map[*erasure]bool)
	var err error
	if g.shipped, err = config.ParseTable(config.LimitsFile, wxproxy.LimitsYAML, nil); err != nil {
		return nil, err
	}
	g.store, err = store.Open(ctx, storeOptions(c))
	if err != nil {
		return nil, err
	}
	for _, w := range append(g.store.Warnings(), c.Warnings...) {
		log.Warn(w)
	}

	g.alerts = newAlerts(g)
	var counters limits.Counters
	if db := g.store.Bolt(); db != nil {
		bolt := limits.NewBolt(db, g.store.Prefix(), nil)
		counters, g.counters = bolt, bolt
	} else {
		counters = limits.NewRedis(g.store.Redis(), g.store.Prefix(), g.id)
	}
	g.limiter = limits.New(limits.Options{Counters: timedCounters{counters, g.metrics}, Observe: g.observeLimits, Look: g.seed})
	count := func(_ context.Context, appid, path string) { g.limiter.Count(appid, path) }
	g.tokens = token.New(token.Options{
		Store: g.store, Gateway: g.id, Upstream: c.Upstream.URL.String(), Endpoint: c.Token.Endpoint, Count: count, Observe: g.observeToken,
	})
	g.learned = token.NewLearned(token.LearnedOptions{
		Store: g.store, Upstream: c.Upstream.URL.String(), Count: count, Observe: g.observeToken,
	})
	g.tickets = token.NewTickets(g.store, nil)
	g.history = newRecorder(g, c)
	if c.AccessLog.File == "" {
		g.access = proxy.NewAccessLog(o.stdout, g.accessLogChanged)
	} else if g.access, err = proxy.OpenAccessLog(proxy.LogFile{Path: c.AccessLog.File, MaxSizeMB: c.AccessLog.MaxSizeMB, Keep: c.AccessLog.Keep}, g.accessLogChanged); err != nil {
		return nil, errors.Join(err, g.close(ctx))
	}
	g.access.Follow(g.publish)
	g.metrics.AccessLog(g.access.Dropped)
	g.metrics.Tail(g.tail.Dropped)
	settings, err := proxyConfig(c)
	if err != nil {
		return nil, errors.Join(err, g.close(ctx))
	}
	g.handler, err = proxy.New(proxy.Options{
		Config:  settings,
		Limiter: g.limiter,
		Tokens:  g.tokens,
		Learned: g.learned,
		Tickets: g.tickets,
		LostClear: func(appid, path string, at int64) {
			g.log.Warn("a clear was sent and its answer was lost: WeChat's own counts will show whether it was granted", zap.String("app", g.name(appid)))
			g.auditor.LostClear(appid, at, path)
		},
		Usage:    callerUsage(g.limiter, g.history),
		Looping:  g.loopChanged,
		LoopTime: o.loopTime,
		Own:      ownListener(listeners...),
		Record:   g.record,
		Log:      log,
	})
	if err != nil {
		return nil, errors.Join(err, g.close(ctx))
	}
	g.auditor = newAuditor(g, c)
	if err := g.configure(ctx, c); err != nil {
		return nil, errors.Join(err, g.close(ctx))
	}
	g.metrics.Reloaded(true)
	g.alerts.begin()
	g.admin = admin.New(admin.Options{
		Token:     adminToken,
		TokenName: adminTokenName(c),
		Hosts:     adminHosts(c),
		CodeLife:  o.codeLife,
		Apps:      g.allApps,
		Limiter:   g.limiter,
		Metrics:   g.metrics,
		Stop:      g.stopping.Load,
		Reload:    g.reload,
		Reloaded:  func() (time.Time, error) { last := g.reloaded.Load(); return last.at, last.err },
		Refused:   g.adminRefused,
		Acted:     g.adminActed,
		Explain:   g.explain,
		Build:     build(),
		Running:   g.running,
		Gateways:  gatewaysOf(counters),
		Tokens:    g.tokenStates,
		Tail:      &g.tail,

		Readings: g.readings,
		ReadLive: g.readLive,
		Tables:   g.tables,
		History:  g.history,
		Clear:    g.clear,

		Grant:        g.limiter.SetGrant,
		KeepReason:   g.keepReason,
		GrantReasons: g.grantReasons,
		Shadow:       g.limiter.Shadow,

		Forget:     g.forget,
		Alerts:     g.alerts.list,
		TestAlerts: g.alerts.test,
	})
	return g, nil
}

// configure applies a configuration to everything that can change while calls run.
func (g *gateway) configure(ctx context.Context, c *config.Config) error {
	settings, err := proxyConfig(c)
	if err != nil {
		return err
	}
	if err := g.handler.Configure(settings); err != nil {
		return err
	}
	apps := make([]token.App, len(c.Apps))
	for i, app := range c.Apps {
		apps[i] = token.App{AppID: app.AppID, Secret: app.Secrets[0]}
	}
	g.loadFigures(ctx, c)
	if err := g.configureRulesLocked(c); err != nil {
		return err
	}
	g.tokens.Configure(apps)
	g.history.SetZone(c.Table.Zone)
	g.alerts.Configure(alertConfig(c))
	g.directory.Store(newDirectory(c))
	g.config.Store(c)
	return nil
}

func proxyConfig(c *config.Config) (proxy.Config, error) {
	apps := make([]proxy.App, len(c.Apps))
	accounts := make([]token.Account, len(c.Apps))
	for i, app := range c.Apps {
		apps[i] = proxy.App{Name: app.Name, AppID: app.AppID}
		accounts[i] = token.Account{AppID: app.AppID, Secrets: app.Secrets}
	}
	callers := make([]token.Caller, len(c.Callers))
	bounds := make(map[string]proxy.Bounds, len(c.Callers))
	for i, caller := range c.Callers {
		callers[i] = token.Caller{Name: caller.Name, Keys: caller.Keys, Apps: caller.Apps, ThirdParty: caller.ThirdParty}
		bounds[caller.Name] = proxy.Bounds{Rules: caller.Rules, From: caller.From, Expires: caller.ExpiresAt}
	}
	keyring, err := token.NewKeyring(accounts, callers)
	if err != nil {
		return proxy.Config{}, err
	}
	return proxy.Config{
		Apps:             apps,
		Identity:         keyring,
		Bounds:           bounds,
		Learn:            learns(c),
		LearnOpenly:      c.Learn == config.Yes,
		Upstream:         c.Upstream.URL,
		Anonymous:        anonymous(c.Anonymous),
		LoopbackListener: !config.Reachable(c.Listen),
		TrustedProxies:   c.TrustedProxies,
		MaxBody:          c.MaxBody,
		MaxInFlight:      c.MaxInFlight,
		Fuse:             c.Fuse,
		Timeout:          c.Upstream.Timeout,
	}, nil
}

// learns reports whether apps that are not configured are learned: with auto only if none is configured
// and all listeners are on loopback.
func learns(c *config.Config) bool {
	if c.Learn == config.Auto {
		return len(c.Apps) == 0 && !config.Reachable(c.Listen) && !config.Reachable(c.Admin.Listen)
	}
	return c.Learn == config.Yes
}

func anonymous(t config.Tri) proxy.Anonymous {
	switch t {
	case config.Yes:
		return proxy.AnonymousAlways
	case config.No:
		return proxy.AnonymousNever
	default:
		return proxy.AnonymousAuto
	}
}

func (g *gateway) apps() []admin.App {
	c := g.config.Load()
	apps := make([]admin.App, len(c.Apps))
	for i, app := range c.Apps {
		apps[i] = admin.App{Name: app.Name, AppID: app.AppID}
	}
	return apps
}

// allApps are the configured apps and those that were learned.
func (g *gateway) allApps() []admin.App {
	apps := g.apps()
	for _, appid := range g.limiter.Seen() {
		if g.configured(appid) == nil {
			apps = append(apps, admin.App{Name: appid, AppID: appid, Learned: true})
		}
	}
	return apps
}

// adminHosts are the names of the admin listener: those of the configuration, and the one that it listens on.
func adminHosts(c *config.Config) []string {
	hosts := slices.Clone(c.Admin.Hosts)
	if host, _, err := net.SplitHostPort(c.Admin.Listen); err == nil && host != "" && net.ParseIP(host) == nil {
		hosts = append(hosts, host)
	}
	return hosts
}

// adminRefused logs what the admin listener refuses for who sends it.
func (g *gateway) adminRefused(r admin.Refusal) {
	fields := []zap.Field{zap.String("reason", r.Reason), zap.String("client", r.Client)}
	if r.Host != "" {
		fields = append(fields, zap.String("host", r.Host))
	}
	g.seldom.Warn("admin: request refused: "+r.Reason, fields...)
}

// adminActed logs what an operator has changed.
func (g *gateway) adminActed(a admin.Action) {
	fields := []zap.Field{zap.String("action", a.Name), zap.String("outcome", a.Outcome), zap.String("client", a.Client), zap.String("token", a.Token)}
	if a.App != "" {
		fields = append(fields, zap.String("app", a.App))
	}
	if a.Rule != "" {
		fields = append(fields, zap.String("rule", a.Rule))
	}
	if a.Name == "grant" {
		fields = append(fields, zap.Int64("calls", a.Calls), zap.Time("until", a.Until), zap.String("why", a.Reason))
	}
	g.log.Info("admin: "+a.Name, fields...)
}

// record logs and counts a call that has ended.
func (g *gateway) record(r *proxy.Record) {
	g.access.Write(r)
	g.remember(r)
	g.metrics.Call(admin.Call{
		App:      r.App,
		Rule:     r.Rule,
		Caller:   r.Caller,
		Decision: r.Decision,
		Reason:   string(r.Reason),
		Outcome:  outcome(r),
		Errcode:  r.ErrCode,
		Sent:     r.Attempts,
		Quota:    r.Quota,
		Used:     r.Used,
		Duration: r.Duration,
		Upstream: r.Upstream,
	})
}

// process is what runs, for the metrics.
func (g *gateway) process() admin.Process {
	p := admin.Process{InFlight: g.handler.InFlight, Spooled: g.handler.Spooled}
	if g.certificate != nil {
		p.Certificate = g.certificate.end
	}
	return p
}

func outcome(r *proxy.Record) string {
	switch {
	case r.Status == 502 || r.Status == 504 || r.Status == 499:
		return "transport_error"
	case r.Status >= 400:
		return "http_error"
	case r.ErrCode != 0:
		return "errcode"
	}
	return "ok"
}

func (g *gateway) observeLimits(e limits.Event) {
	g.alerts.limits(e)
	switch e.Kind {
	case limits.StoreDown:
		what := "store unavailable"
		if _, answered := errors.AsType[*limits.StoreError](e.Err); answered {
			what = "store unavailable: it answers with errors"
		}
		g.log.Error(what+"; rules with small quotas refuse calls until it is back, large ones continue within this gateway's share", zap.Error(e.Err))
	case limits.StoreUp:
		g.log.Info("store available again")
	case limits.StoreLost:
		g.log.Warn("the store has lost counts: this gateway restores those that it knows")
	case limits.NoFigure:
		g.log.Warn("no figure is published for this rule: its calls are counted and never refused", zap.String("app", g.name(e.App)), zap.String("rule", e.Rule))
	case limits.RuleLatched:
		what := "WeChat answered 45009: calls of this rule are refused"
		if !e.Day {
			what += ", until the end of the day if WeChat's own count is used up"
			g.auditor.Rejected(e.App, e.Counter)
		}
		g.log.Warn(what, zap.String("app", g.name(e.App)), zap.String("rule", e.Rule), zap.Time("until", e.Until))
	case limits.RuleUnlatched:
		g.log.Info("WeChat accepts calls of this rule again", zap.String("app", g.name(e.App)), zap.String("rule", e.Rule))
	case limits.Damaged:
		g.log.Error("a counter in the store cannot be read: the next call of its rule rewrites it from the gateways' own counts", zap.Error(e.Err))
	}
}

func (g *gateway) observeToken(e token.Event) {
	g.alerts.token(e)
	app := g.name(e.AppID)
	fields := []zap.Field{zap.String("app", app)}
	if e.ErrCode != 0 {
		fields = append(fields, zap.Int("errcode", e.ErrCode))
	}
	if e.IP != "" { // what an operator must put on WeChat's IP whitelist
		fields = append(fields, zap.String("ip", e.IP))
	}
	switch e.Kind {
	case token.Fetched:
		g.metrics.Token(app, "ok")
		g.log.Info("access_token fetched", append(fields, zap.Time("expires", e.Expires), zap.Duration("took", e.Took))...)
	case token.Failed:
		result := "transport"
		if e.ErrCode != 0 {
			result = strconv.Itoa(e.ErrCode)
		}
		if e.Unknown {
			app = "" // or made-up appids would make series
		}
		g.metrics.Token(app, result)
		g.log.Warn("access_token not fetched", append(fields, zap.Error(e.Err))...)
	case token.Opened:
		g.log.Error("WeChat refuses to issue an access_token", append(fields, zap.Time("next_attempt", e.Until))...)
	case token.Closed:
		g.log.Info("WeChat issues an access_token again", fields...)
	case token.Forced:
		g.log.Warn("WeChat returned an invalid access_token again: forcing a refresh", fields...)
	case token.StoreFailed:
		g.log.Warn("store unavailable for an access_token: this gateway continues without it", append(fields, zap.Error(e.Err))...)
	case token.Adopted:
		g.log.Info("using access_token fetched by another gateway", append(fields, zap.Time("expires", e.Expires))...)
	}
}

// close ends what has been opened, in the order in which one needs the other.
func (g *gateway) close(ctx context.Context) error {
	var errs []error
	if g.handler != nil {
		g.handler.Close()
	}
	if g.tokens != nil {
		g.tokens.Close()
		g.learned.Close()
		g.tickets.Close()
	}
	if g.limiter != nil {
		errs = append(errs, g.limiter.Close(ctx))
	}
	if g.history != nil {
		_ = g.history.Close(ctx) // observed; what it loses must not make the exit code
	}
	if g.counters != nil {
		errs = append(errs, g.counters.Close())
	}
	if g.access != nil {
		if err := g.access.Close(); err != nil {
			g.log.Warn("stopping", zap.Error(err)) // a log that cannot be written must not keep the process from ending
		}
	}
	return errors.Join(append(errs, g.store.Close())...)
}

// accessLogChanged logs when lines of the access log cannot be written, and when they can again.
func (g *gateway) accessLogChanged(reason error, dropped int64) {
	g.alerts.accessLog(reason, dropped)
	if reason != nil {
		g.log.Error("access log: write failed; calls continue, and lines that do not fit into the queue are dropped", zap.Error(reason))
		return
	}
	g.log.Info("access log: writing again", zap.Int64("dropped", dropped))
}

// loadOptions are where the configuration of a command is.
func loadOptions(path string) config.LoadOptions {
	return config.LoadOptions{Path: path, Shipped: wxproxy.LimitsYAML}
}
