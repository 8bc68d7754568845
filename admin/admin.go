// Package admin is what operators ask: health, readiness, reload, metrics, usage. It is served on a
// listener of its own and shows no secret, token or body.
package admin

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"wxproxy/admin/ui"
	"wxproxy/limits"
	"wxproxy/tail"
	"wxproxy/token"
)

// Limiter is what admin asks of the counters. *limits.Limiter is the one in use.
type Limiter interface {
	// Rules returns the rules of an app, or nil when the limiter does not know it.
	Rules(appid string) *limits.Ruleset
	// Usage returns what an app has used in the windows of now.
	Usage(ctx context.Context, appid string) ([]limits.Usage, error)
	// UsageAll returns the usage of each app in the order given, nil for one that has no rules or, beside
	// an error, was not read. Lines of one rule follow each other. usedOnly leaves out those with
	// nothing used and no latch.
	UsageAll(ctx context.Context, appids []string, usedOnly bool) ([][]limits.Usage, error)
	// Store returns whether the store answers, and the error while requests to it fail.
	Store() limits.StoreState
	// FailsOpen reports whether any rule still sends calls then.
	FailsOpen() bool
}

// App is one WeChat account.
type App struct {
	Name    string // its alias
	AppID   string
	Learned bool // not configured: known by the calls that this gateway has counted
}

// Options of New.
type Options struct {
	Token     string        // what /-/reload and /api/v1 ask for, as Authorization: Bearer
	TokenName string        // where Token is from, for the log
	Hosts     []string      // further names of the listener, see [Admin.ServeHTTP]
	CodeLife  time.Duration // how long a code for a page is good; default 30 s
	Apps      func() []App  // the apps of now
	Limiter   Limiter
	Metrics   *Metrics
	Stop      func() bool                        // reports whether the gateway is about to stop: it is not ready any more
	Reload    func(context.Context) error        // reads the configuration again; its error has the faults
	Reloaded  func() (at time.Time, fault error) // how the last reload ended, or when the gateway started
	Refused   func(Refusal)                      // called for each request that is refused for who sends it; may be nil
	Acted     func(Action)                       // called after each change; may be nil

	// Explain tells what a call of an app would meet now. Its errors are ErrTarget, ErrUnknownCaller, or
	// of the store.
	Explain func(ctx context.Context, q Question) (Fate, error)

	// Build is the program.
	Build Build

	// Running is what this process knows of itself, for /api/v1/status. It may be nil.
	Running func() Running

	// Gateways returns when each gateway of the fleet last registered, by its id. nil: there is but this one.
	Gateways func(ctx context.Context) (map[string]time.Time, error)

	// Tokens returns what is known of the access_token of each app, nil for one that is not configured: by the
	// fleet, or only by this gateway, which costs the store nothing. Beside an error it is the latter. May be nil.
	Tokens func(ctx context.Context, appids []string, fleet bool) ([]*token.State, error)

	// What follows may be nil; then the requests that need it are answered 501. Errors are shown to
	// the operator as they are, but that of Forget.

	// Tail has the lines of calls as they end.
	Tail *tail.Stream

	// Readings returns what WeChat itself stated last of the counters of each app, by their names, as far
	// as it holds for the windows and clears of lines, which are the apps' usage. Beside an error it
	// returns nil for an app that was not read. ReadLive asks WeChat about the counters of an app
	// now, which may take a minute. Both are set, or none.
	Readings func(ctx context.Context, appids []string, lines [][]limits.Usage) ([]map[string]Reading, error)
	ReadLive func(ctx context.Context, appid string) error

	// Grant is [limits.Limiter.SetGrant]. KeepReason keeps why a grant of a counter was set, GrantReasons returns
	// that of some by counter. All are set, or none.
	Grant        func(ctx context.Context, appid string, match limits.Match, calls int64, until time.Time, over int64) (limits.Grant, error)
	KeepReason   func(ctx context.Context, appid, counter string, grant limits.Grant, reason string) error
	GrantReasons func(ctx context.Context, appid string, grants map[string]limits.Grant) (map[string]string, error)

	// Shadow reports whether nothing is refused by a budget.
	Shadow func() bool

	// Tables returns the rules of an app's profile without the app's own quotas: as the program ships
	// the profile, nil if it ships none of that name, and as the table in use has it.
	Tables func(appid string) (shipped, table *limits.Ruleset)

	// History is what was counted of past calls.
	History Recorder

	// Clear sends a clear of WeChat's through the gateway, so that it is counted and logged: of the
	// whole app, or with a rule of each of its ClearPaths, up to the first that is not granted. An
	// error means that nothing was sent.
	Clear func(ctx context.Context, appid, rule string) (ClearResult, error)

	// Forget erases everything that the store and the gateway hold of an app that is not configured.
	// It returns ErrConfigured for one that is.
	Forget func(ctx context.Context, appid string) error

	// Alerts returns the last alerts and the state of each sink. Beside an error they are what this gateway has seen
	// last.
	Alerts func(ctx context.Context) (Alerts, error)

	// TestAlerts sends a test message to the sink of a name, or with "" to all, and returns what each answered. With
	// ErrUnknownSink it returns the sinks that there are.
	TestAlerts func(ctx context.Context, sink string) ([]AlertTest, error)
}

// Admin answers operators. It is safe for concurrent use.
type Admin struct {
	o        Options
	token    [sha256.Size]byte
	origins  *http.CrossOriginProtection
	attempts attempts
	codes    codes
	mux      *http.ServeMux
	metrics  http.Handler
	listings listings
}

// New returns the handler of the admin listener.
func New(o Options) *Admin {
	a := &Admin{
		o: o, token: sha256.Sum256([]byte(o.Token)), mux: http.NewServeMux(),
		origins: http.NewCrossOriginProtection(), attempts: attempts{by: make(map[netip.Prefix]*attempt)},
	}
	a.metrics = promhttp.HandlerFor(&scraper{a}, promhttp.HandlerOpts{})
	for _, r := range a.routes() {
		a.mux.Handle(r.method+" "+r.path, a.handler(r))
	}
	pages := ui.New()
	a.mux.Handle("GET /{$}", pages)
	a.mux.Handle("GET /ui/", pages)
	return a
}

// ServeHTTP answers one request. A web page can make a browser on this machine send requests here, so the
// Host must be a name of this listener (a loopback name, the address that the request came in at, or one of
// Options.Hosts), which a rebound name is not. A page of another site may link to this one, and nothing else.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if !a.hosted(r) {
		a.refuse(w, r, http.StatusMisdirectedRequest, WrongHost,
			"the Host is no name of this listener: want a loopback name, the address that it is reached at, or one of admin.hosts")
		return
	}
	if a.crossOrigin(r) {
		a.refuse(w, r, http.StatusForbidden, CrossOrigin, "a web page of another site may not ask this")
		return
	}
	a.mux.ServeHTTP(w, r)
}

// problem is what stands in place of an answer.
type problem struct {
	Error string   `json:"error"`
	Seen  string   `json:"seen,omitempty"`  // a name that is not known
	Known []string `json:"known,omitempty"` // those that are
}

func reply(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(value) // the client has gone
}

func (a *Admin) guarded(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.authenticate(w, r) {
			next(w, r)
		}
	})
}

// scrape answers Prometheus.
func (a *Admin) scrape(w http.ResponseWriter, r *http.Request) {
	if fromThisMachine(r) || a.authenticate(w, r) {
		a.metrics.ServeHTTP(w, r)
	}
}

func (a *Admin) healthy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok")) // the client has gone
}

// readiness is the answer of /-/ready.
type readiness struct {
	Status string `json:"status" enum:"ready,refusing,stopping"`
	Store  string `json:"store"` // ok, unreachable, or what it answers
}

// ready answers 503 only while the gateway stops, or when no rule sends calls without the store. An
// outage of the store must not take every gateway out of the load balancer: rules without a figure go on.
func (a *Admin) ready(w http.ResponseWriter, _ *http.Request) {
	answer := readiness{"ready", "ok"}
	state := a.o.Limiter.Store()
	if answered, ok := errors.AsType[*limits.StoreError](state.Err); ok {
		answer.Store = "refuses: " + answered.Text
	} else if state.Err != nil {
		answer.Store = "unreachable"
	}
	status := http.StatusOK
	switch {
	case a.o.Stop():
		answer.Status, status = "stopping", http.StatusServiceUnavailable
	case state.Err != nil && !a.o.Limiter.FailsOpen():
		answer.Status, status = "refusing", http.StatusServiceUnavailable
	}
	reply(w, status, answer)
}

// reloadAnswer is the answer of /-/reload.
type reloadAnswer struct {
	Status string    `json:"status" enum:"reloaded,fault"` // fault: what ran before goes on
	Time   time.Time `json:"time,omitzero"`                // when the files were last read
	Error  string    `json:"error,omitempty"`              // what is wrong with them
}

func (a *Admin) reload(w http.ResponseWriter, r *http.Request) {
	err := a.o.Reload(r.Context())
	action := Action{Name: "reload", Outcome: done}
	if err != nil {
		action.Outcome = "a fault"
	}
	a.acted(r, action)
	if err != nil {
		reply(w, http.StatusUnprocessableEntity, problem{Error: err.Error()})
		return
	}
	reply(w, http.StatusOK, reloadAnswer{Status: "reloaded"})
}

// lastReload answers how the last reload ended: by this API, a signal or a changed file.
func (a *Admin) lastReload(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, a.reloaded())
}

func (a *Admin) reloaded() reloadAnswer {
	at, fault := a.o.Reloaded()
	answer := reloadAnswer{Status: "reloaded", Time: at}
	if fault != nil {
		answer.Status, answer.Error = "fault", fault.Error()
	}
	return answer
}

// app finds an app by its name or appid. When it returns false it has answered.
func (a *Admin) app(w http.ResponseWriter, name string) (App, bool) {
	if name == "" {
		reply(w, http.StatusBadRequest, problem{Error: "no app: want ?app= with the name or appid of one"})
		return App{}, false
	}
	for _, app := range a.o.Apps() {
		if name == app.AppID || name == app.Name {
			return app, true
		}
	}
	a.unknownApp(w, name)
	return App{}, false
}

func (a *Admin) unknownApp(w http.ResponseWriter, name string) {
	p := problem{Error: "app " + strings.ToValidUTF8(name, "?") + ": not configured", Seen: name}
	for _, app := range a.o.Apps() {
		if p.Known = append(p.Known, app.Name); app.AppID != app.Name {
			p.Known = append(p.Known, app.AppID)
		}
	}
	reply(w, http.StatusNotFound, p)
}

// live reports whether a request asks for what WeChat says now. When ok is false it has answered.
func (a *Admin) live(w http.ResponseWriter, r *http.Request) (live, ok bool) {
	if live, ok = flag(w, r, "live"); !ok {
		return false, false
	}
	switch {
	case live && a.o.Readings == nil:
		notOffered(w, "live")
	case live && r.URL.Query().Get("app") == "":
		reply(w, http.StatusBadRequest, problem{Error: "live without an app: want ?app= with the name or appid of one, because WeChat is asked about each rule in turn"})
	default:
		return live, true
	}
	return false, false
}

// notOffered answers a request for what this gateway was not composed with.
func notOffered(w http.ResponseWriter, what string) {
	reply(w, http.StatusNotImplemented, problem{Error: what + ": this gateway does not offer it"})
}
