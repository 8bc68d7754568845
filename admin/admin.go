// Package admin is what operators ask: health, readiness, reload, metrics, usage. It is served on a
// listener of its own and shows no secret, token or body.
package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"wxproxy/limits"
)

// Limiter is what admin asks of the counters. *limits.Limiter is the one in use.
type Limiter interface {
	// Rules returns the rules of an app, or nil when the limiter does not know it.
	Rules(appid string) *limits.Ruleset
	// Usage returns what an app has used in the windows of now.
	Usage(ctx context.Context, appid string) ([]limits.Usage, error)
	// Degraded reports whether the store does not answer.
	Degraded() bool
}

// App is one configured WeChat account.
type App struct {
	Name  string // its alias
	AppID string
}

// Options of New.
type Options struct {
	Token   string       // what /-/reload and /api/v1 ask for, as Authorization: Bearer
	Apps    func() []App // the apps of now
	Limiter Limiter
	Metrics *Metrics
	Stop    func() bool  // reports whether the gateway is about to stop: it is not ready any more
	Reload  func() error // reads the configuration again; its error says what is wrong
}

// Admin answers operators. It is safe for concurrent use.
type Admin struct {
	o     Options
	token [sha256.Size]byte
	mux   *http.ServeMux
}

// New returns the handler of the admin listener.
func New(o Options) *Admin {
	a := &Admin{o: o, token: sha256.Sum256([]byte(o.Token)), mux: http.NewServeMux()}
	metrics := promhttp.HandlerFor(o.Metrics.registry, promhttp.HandlerOpts{})
	a.mux.HandleFunc("GET /-/healthy", a.healthy)
	a.mux.HandleFunc("GET /-/ready", a.ready)
	a.mux.Handle("POST /-/reload", a.guarded(a.reload))
	a.mux.Handle("GET /api/v1/usage", a.guarded(a.usage))
	a.mux.Handle("GET /api/v1/explain", a.guarded(a.explain))
	a.mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if !fromLoopback(r) && !a.knows(r) {
			unauthorized(w)
			return
		}
		metrics.ServeHTTP(w, r)
	})
	return a
}

// ServeHTTP answers one request. A page in a browser can reach a loopback listener, so a request
// that a page has sent is refused.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if r.Header.Get("Origin") != "" || fromPage(r.Header.Get("Sec-Fetch-Site")) {
		reply(w, http.StatusForbidden, problem{"a web page may not ask this"})
		return
	}
	a.mux.ServeHTTP(w, r)
}

// fromPage reports whether a Sec-Fetch-Site header says that a page sent the request, rather than
// the person at the address bar.
func fromPage(site string) bool { return site != "" && site != "none" && site != "same-origin" }

type problem struct {
	Error string `json:"error"`
}

func reply(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(value) // the client has gone
}

func unauthorized(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="wxproxy admin"`)
	reply(w, http.StatusUnauthorized, problem{"want Authorization: Bearer with the admin token"})
}

func (a *Admin) guarded(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.knows(r) {
			unauthorized(w)
			return
		}
		next(w, r)
	})
}

// knows reports whether a request shows the token, in constant time.
func (a *Admin) knows(r *http.Request) bool {
	shown, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	sum := sha256.Sum256([]byte(shown))
	return subtle.ConstantTimeCompare(sum[:], a.token[:]) == 1 && ok && a.o.Token != ""
}

func fromLoopback(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func (a *Admin) healthy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok")) // the client has gone
}

// ready says 503 only while the gateway stops: a store that is away must not take every gateway
// out of the load balancer, because rules without a figure go on.
func (a *Admin) ready(w http.ResponseWriter, _ *http.Request) {
	answer := struct {
		Status string `json:"status"`
		Store  string `json:"store"`
	}{"ready", "ok"}
	if a.o.Limiter.Degraded() {
		answer.Store = "degraded"
	}
	status := http.StatusOK
	if a.o.Stop() {
		answer.Status, status = "stopping", http.StatusServiceUnavailable
	}
	reply(w, status, answer)
}

func (a *Admin) reload(w http.ResponseWriter, _ *http.Request) {
	if err := a.o.Reload(); err != nil {
		reply(w, http.StatusUnprocessableEntity, problem{err.Error()})
		return
	}
	reply(w, http.StatusOK, struct {
		Status string `json:"status"`
	}{"reloaded"})
}

// app finds an app by its name or appid.
func (a *Admin) app(w http.ResponseWriter, name string) (App, bool) {
	for _, app := range a.o.Apps() {
		if name == app.AppID || name == app.Name {
			return app, true
		}
	}
	reply(w, http.StatusNotFound, problem{"app " + strings.ToValidUTF8(name, "?") + ": not configured"})
	return App{}, false
}

// Usage is the answer of /api/v1/usage: what each app has used today and this month.
type Usage struct {
	Time time.Time  `json:"time"`
	Apps []AppUsage `json:"apps"`
}

// AppUsage is one app's part of it. Error stands in place of the rows when the store does not
// answer.
type AppUsage struct {
	App     string `json:"app"`
	AppID   string `json:"appid"`
	Profile string `json:"profile"`
	Rows    []Row  `json:"rows"`
	Error   string `json:"error,omitempty"`
}

// Row is one counter, in the words of WeChat's own console.
type Row struct {
	Category  string    `json:"category"`
	Title     string    `json:"title"`
	Rule      string    `json:"rule"`
	Path      string    `json:"path,omitempty"`   // of a path inside a /* that is counted by itself
	Caller    string    `json:"caller,omitempty"` // whose share of the quota it is; "" is the quota itself
	Period    string    `json:"period"`
	Quota     string    `json:"quota"` // N, unlimited, unknown or denied
	Limit     int64     `json:"limit"` // 0 where there is no figure
	Used      int64     `json:"used"`
	Remaining int64     `json:"remaining"`
	Reset     time.Time `json:"reset"`
	State     string    `json:"state"` // open, full, latched or denied
}

func rowOf(u limits.Usage) Row {
	r := Row{
		Category: u.Rule.Category, Title: u.Rule.Title, Rule: u.Rule.Name,
		Period: u.Period.String(), Limit: u.Limit, Used: u.Used, Remaining: u.Remaining, Reset: u.Reset,
		Quota: u.Rule.Budget.String(), State: "open",
	}
	counter, caller, _ := strings.Cut(u.Counter, "@")
	r.Path, r.Caller = strings.TrimPrefix(strings.TrimPrefix(counter, u.Rule.Name), ":"), caller
	switch {
	case u.Rule.Budget.Kind == limits.Denied:
		r.State = "denied"
	case u.Latched:
		r.State = "latched"
	case u.Limit > 0 && u.Remaining == 0:
		r.State = "full"
	}
	return r
}

func (a *Admin) usage(w http.ResponseWriter, r *http.Request) {
	apps := a.o.Apps()
	if name := r.URL.Query().Get("app"); name != "" {
		app, ok := a.app(w, name)
		if !ok {
			return
		}
		apps = []App{app}
	}
	answer := Usage{Time: time.Now(), Apps: []AppUsage{}}
	for _, app := range apps {
		answer.Apps = append(answer.Apps, a.usageOf(r.Context(), app))
	}
	reply(w, http.StatusOK, answer)
}

func (a *Admin) usageOf(ctx context.Context, app App) AppUsage {
	one := AppUsage{App: app.Name, AppID: app.AppID, Rows: []Row{}}
	rules := a.o.Limiter.Rules(app.AppID)
	if rules == nil { // between two reloads
		one.Error = "not configured"
		return one
	}
	one.Profile = rules.Profile
	lines, err := a.o.Limiter.Usage(ctx, app.AppID)
	if err != nil {
		one.Error = "the store does not answer"
		return one
	}
	for _, u := range lines {
		one.Rows = append(one.Rows, rowOf(u))
	}
	return one
}

// Explanation is the answer of /api/v1/explain: the rule of one path and what is left of it.
type Explanation struct {
	App       string `json:"app"`
	AppID     string `json:"appid"`
	Profile   string `json:"profile"`
	Method    string `json:"method"`
	Path      string `json:"path"` // canonical, as it would be matched, counted and sent
	Rule      string `json:"rule,omitempty"`
	Title     string `json:"title,omitempty"`
	Category  string `json:"category,omitempty"`
	Source    string `json:"source,omitempty"`
	Quota     string `json:"quota,omitempty"`
	Pace      string `json:"pace,omitempty"`
	Inject    string `json:"inject,omitempty"`
	Shadow    bool   `json:"shadow,omitempty"`
	Rows      []Row  `json:"rows"`
	Statement string `json:"statement"` // what would become of a call now, in words
}

func (a *Admin) explain(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	app, ok := a.app(w, query.Get("app"))
	if !ok {
		return
	}
	e := Explanation{App: app.Name, AppID: app.AppID, Method: strings.ToUpper(query.Get("method")), Rows: []Row{}}
	if e.Method == "" {
		e.Method = http.MethodGet
	}
	path, err := limits.Canonical(query.Get("path"))
	if err != nil {
		e.Statement = "refused-request: " + err.Error()
		reply(w, http.StatusOK, e)
		return
	}
	e.Path = path
	rules := a.o.Limiter.Rules(app.AppID)
	if rules == nil {
		reply(w, http.StatusNotFound, problem{"app " + app.AppID + ": not configured"})
		return
	}
	e.Profile = rules.Profile
	match := rules.Match(path)
	switch {
	case match.Rule == nil && !match.Family:
		e.Statement = "HTTP 404 with errcode 40066: the path is outside of every family of the table"
	case match.Rule == nil:
		e.Statement = "errcode 40066: no rule of the table names the path, and its family has no rule for the rest"
	default:
		if e.Statement, err = a.explainRule(r.Context(), app, match, &e); err != nil {
			reply(w, http.StatusServiceUnavailable, problem{"the store does not answer"})
			return
		}
	}
	if e.Method != http.MethodGet && e.Method != http.MethodPost && e.Method != http.MethodHead {
		e.Statement = "HTTP 405: only GET, HEAD and POST are sent"
	}
	reply(w, http.StatusOK, e)
}

func (a *Admin) explainRule(ctx context.Context, app App, match limits.Match, e *Explanation) (string, error) {
	rule := match.Rule
	e.Rule, e.Title, e.Category, e.Source = rule.Name, rule.Title, rule.Category, rule.Source
	e.Quota, e.Pace, e.Inject, e.Shadow = rule.Budget.String(), rule.Pace.String(), rule.Inject.String(), rule.Shadow
	lines, err := a.o.Limiter.Usage(ctx, app.AppID)
	if err != nil {
		return "", err
	}
	state := "open"
	for _, u := range lines {
		if u.Counter == match.Counter {
			row := rowOf(u)
			e.Rows = append(e.Rows, row)
			if row.State != "open" {
				state = row.State
			}
		}
	}
	return statement(rule, state), nil
}

func statement(rule *limits.Rule, state string) string {
	switch {
	case state == "denied":
		return "refused-denied: errcode 48001, the account lacks the API"
	case rule.Shadow && state == "full":
		return "shadow: sent, although the quota is used up"
	case state == "full":
		return "refused-quota: errcode 45009, the quota is used up"
	case state == "latched":
		return "refused-latched: errcode 45009, WeChat itself has said so"
	case rule.Budget.Kind == limits.Unknown:
		return "pass: counted and never refused, because no figure is published"
	case rule.Budget.Kind == limits.Unlimited:
		return "pass: counted and never refused, because the table says there is no limit"
	}
	return "pass: counted and sent"
}
