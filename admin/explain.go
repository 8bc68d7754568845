package admin

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"wxproxy/limits"
	"wxproxy/wechat"
)

// Question is a call that explain is asked about.
type Question struct {
	AppID  string
	Caller string // its name; "" is a client that shows the AppSecret or a token of the account
	Method string
	Target string // a path with or without a query, or a whole URL
}

// Fate is what the call would meet now.
type Fate struct {
	Path     string       // canonical; "" for a target that cannot be sent
	Match    limits.Match // Rule is nil for a call that no rule counts
	Injects  bool         // the account's access_token goes into it
	Decision string       // as in X-Wxproxy-Decision
	Reason   string       // as in X-Wxproxy-Reason
	Status   int          // of the gateway's own answer; 0: WeChat answers
	Errcode  int          // of the gateway's own answer
}

// The errors of Options.Explain.
var (
	ErrTarget        = errors.New("want a path as in /cgi-bin/user/info, or a whole URL")
	ErrUnknownCaller = errors.New("no such caller")
)

// Explanation is the answer of /api/v1/explain: what a call would meet, the rule of its path and what is
// left of it.
type Explanation struct {
	App       string `json:"app"`
	AppID     string `json:"appid"`
	Caller    string `json:"caller,omitempty"`
	Profile   string `json:"profile"`
	Method    string `json:"method"`
	Path      string `json:"path"` // canonical, as it would be matched, counted and sent
	Rule      string `json:"rule,omitempty"`
	Title     string `json:"title,omitempty"`
	Category  string `json:"category,omitempty"`
	Source    string `json:"source,omitempty"`
	Quota     string `json:"quota,omitempty"`
	Pace      string `json:"pace,omitempty"`
	Inject    string `json:"inject,omitempty"` // account or none: what becomes of access_token
	Shadow    bool   `json:"shadow,omitempty"`
	Rows      []Row  `json:"rows"`              // the rule's counters, and the caller's share of them
	Decision  string `json:"decision"`          // as in X-Wxproxy-Decision
	Reason    string `json:"reason,omitempty"`  // as in X-Wxproxy-Reason
	Errcode   int    `json:"errcode,omitempty"` // of the gateway's own answer
	Statement string `json:"statement"`         // the same in words
}

func (a *Admin) explain(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	app, ok := a.app(w, query.Get("app"))
	if !ok {
		return
	}
	rules := a.o.Limiter.Rules(app.AppID)
	if rules == nil {
		reply(w, http.StatusNotFound, problem{Error: "app " + app.AppID + ": not configured"})
		return
	}
	e := Explanation{
		App: app.Name, AppID: app.AppID, Caller: query.Get("caller"), Profile: rules.Profile,
		Method: strings.ToUpper(query.Get("method")), Rows: []Row{},
	}
	if e.Method == "" {
		e.Method = http.MethodGet
	}
	fate, err := a.o.Explain(r.Context(), Question{AppID: app.AppID, Caller: e.Caller, Method: e.Method, Target: query.Get("path")})
	switch {
	case errors.Is(err, ErrTarget):
		reply(w, http.StatusBadRequest, problem{Error: "path: " + err.Error()})
		return
	case errors.Is(err, ErrUnknownCaller):
		reply(w, http.StatusNotFound, problem{Error: "caller " + strings.ToValidUTF8(e.Caller, "?") + ": not configured"})
		return
	case err == nil && fate.Match.Rule != nil:
		err = a.explainRule(r.Context(), app, &fate, &e)
	}
	if err != nil {
		reply(w, http.StatusServiceUnavailable, problem{Error: storeProblem(err)})
		return
	}
	e.Path, e.Decision, e.Reason, e.Errcode, e.Statement = fate.Path, fate.Decision, fate.Reason, fate.Errcode, fate.statement()
	reply(w, http.StatusOK, e)
}

// explainRule fills in the rule, and its counters as they are.
func (a *Admin) explainRule(ctx context.Context, app App, fate *Fate, e *Explanation) error {
	rule := fate.Match.Rule
	e.Rule, e.Title, e.Category, e.Source = rule.Name, rule.Title, rule.Category, rule.Source
	e.Quota, e.Pace, e.Inject, e.Shadow = rule.Budget.String(), rule.Pace.String(), "none", rule.Shadow || a.o.Shadow != nil && a.o.Shadow()
	if fate.Injects {
		e.Inject = limits.InjectAccount.String()
	}
	lines, err := a.o.Limiter.Usage(ctx, app.AppID)
	reasons := a.reasons(ctx, app.AppID, lines)
	for _, u := range lines {
		if u.Counter == fate.Match.Counter || e.Caller != "" && u.Counter == fate.Match.Counter+"@"+e.Caller {
			row := rowOf(u)
			row.GrantReason = reasons[u.Counter]
			e.Rows = append(e.Rows, row)
		}
	}
	return err
}

// statement says in words what becomes of the call.
func (f *Fate) statement() string {
	switch f.Decision {
	case "pass":
		return "pass: " + f.sent()
	case limits.Shadow.String():
		return "shadow: sent, although the rule's budget would refuse it"
	case "local":
		if wechat.SamePath(f.Path, wechat.TicketPath) {
			return "local: answered from the shared cache of tickets, and not counted"
		}
		return "local: answered here with a token of the gateway's own, and not counted"
	}
	var words string
	switch f.Decision {
	case limits.RefusedQuota.String():
		words = "the quota is used up"
	case limits.RefusedLatched.String():
		words = "WeChat itself has answered so"
	case limits.RefusedPace.String():
		words = "the rule's pace is used up for now"
	case limits.RefusedShare.String():
		words = "the caller's share of the quota is used up"
	case limits.RefusedReserved.String():
		words = "what is left of the quota is kept back for other callers"
	case limits.RefusedDenied.String():
		words = "the account lacks the API"
	case "refused-auth":
		words = "the caller may not make this call for the account"
	case "refused-fuse":
		words = "the caller's calls fail in a loop, and WeChat's last answer is given until one is tried again"
	case "refused-request":
		words = f.badRequest()
	default:
		words = "WeChat gives the account no access_token"
	}
	answer := "errcode " + strconv.Itoa(f.Errcode)
	if f.Status != http.StatusOK {
		answer = "HTTP " + strconv.Itoa(f.Status)
	}
	return f.Decision + ": " + answer + ", " + words
}

// sent says how a call that is sent is counted.
func (f *Fate) sent() string {
	rule := f.Match.Rule
	switch {
	case !f.Match.Family:
		return "counted by the rule " + rule.Name + " and sent; no rule names its family, so an access_token is put in only in place of one of the gateway's own"
	case rule.Budget.Kind == limits.Unknown:
		return "counted and never refused, because no figure is published"
	case rule.Budget.Kind == limits.Unlimited:
		return "counted and never refused, because the table says there is no limit"
	}
	return "counted and sent"
}

func (f *Fate) badRequest() string {
	switch {
	case f.Status == http.StatusMethodNotAllowed:
		return "only GET, HEAD and POST are sent"
	case f.Status == http.StatusNotFound:
		return "not a path of WeChat's"
	case wechat.Errcode(f.Errcode) == wechat.InvalidParameter:
		return "a query that cannot be read"
	case wechat.SamePath(f.Path, wechat.WeComGetTokenPath):
		return "a path of WeCom (qyapi.weixin.qq.com), which is not served here"
	case wechat.Errcode(f.Errcode) == wechat.InvalidURL:
		return "a path that cannot be sent as it is"
	}
	return "the request lacks something" // a token request
}
