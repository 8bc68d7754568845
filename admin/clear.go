package admin

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"wxproxy/limits"
	"wxproxy/wechat"
)

// WeChat's two ways to clear. Each has a tally of its own, a month long.
const (
	clearAllPath = "/cgi-bin/clear_quota"
	clearOnePath = "/cgi-bin/openapi/quota/clear"
)

// clearLife is how long a clear may take. It is not canceled with the request for it, because a clear that
// breaks off may have been granted.
const clearLife = 2 * time.Minute

// ClearResult is what became of a clear: one call for a whole app, one for each of [ClearPaths] of a
// rule, in their order, up to the first that WeChat has not granted.
type ClearResult struct {
	Calls []ClearCall
}

// ClearCall is one call of a clear.
type ClearCall struct {
	Path     string // what was to be cleared; "" is the whole app
	ErrCode  int    // of the answer, WeChat's or ours; 0: cleared
	Sent     bool   // it went to WeChat; false: the gateway has refused it
	NoAnswer bool   // it was sent and no answer came: WeChat may have cleared
}

// ClearPaths returns the paths of a rule that WeChat can clear, in WeChat's own letter case: those that
// are not a whole /*.
func ClearPaths(rule *limits.Rule) []string {
	var paths []string
	for _, path := range rule.Paths {
		if !strings.HasSuffix(path, "/*") {
			paths = append(paths, wechat.Spelling(path))
		}
	}
	return paths
}

// ClearPlan is the answer of GET /api/v1/clear: what a clear would start over, and what it costs.
type ClearPlan struct {
	App     string   `json:"app"`
	AppID   string   `json:"appid"`
	Profile string   `json:"profile"`
	Rule    string   `json:"rule,omitempty"`   // "": the whole app
	Paths   []string `json:"paths,omitempty"`  // of the rule
	Cost    int      `json:"cost"`             // how many of the month's clears it takes
	Clears  *Row     `json:"clears,omitempty"` // the month's clears of this kind; nil: nothing was counted of them
	Rows    []Row    `json:"rows"`             // today's counters that would start over
}

// ClearAnswer is the answer of POST /api/v1/clear: what became of each call, and what is left.
type ClearAnswer struct {
	App    string      `json:"app"`
	AppID  string      `json:"appid"`
	Rule   string      `json:"rule,omitempty"`
	Done   bool        `json:"done"` // everything that was asked for is cleared
	Calls  []ClearStep `json:"calls"`
	Clears *Row        `json:"clears,omitempty"`
}

// ClearStep is one call of it, in words.
type ClearStep struct {
	Path      string `json:"path,omitempty"`
	ErrCode   int    `json:"errcode"`
	Done      bool   `json:"done"`
	Statement string `json:"statement"`
}

// clearWords say what an errcode means in answer to a clear.
var clearWords = map[int]string{
	-1:    "WeChat is busy",
	40001: "WeChat does not take the access_token",
	40013: "WeChat does not take the appid",
	40014: "WeChat does not take the access_token",
	40125: "WeChat does not take the AppSecret",
	40164: "this machine's address is not on the account's IP whitelist",
	42001: "WeChat does not take the access_token",
	43104: "the account may not use this API",
	45009: "clears were called too often today",
	45011: "clears were called too often this minute",
	48001: "the account may not use this API",
	48004: "WeChat has closed this API to the account",
	48006: "forbid to clear quota because of reaching the limit: WeChat grants no more clears this month",
	50002: "the account is restricted",
	76003: "WeChat cannot clear this path",
	76021: "WeChat does not know this path",
	76022: "WeChat cannot clear this path",
}

// step describes the result of a call. WeChat's own text is not passed on.
func (c ClearCall) step() ClearStep {
	s := ClearStep{Path: c.Path, ErrCode: c.ErrCode}
	const free = "; nothing was cleared, and it cost nothing"
	words, known := clearWords[c.ErrCode]
	switch {
	case c.NoAnswer:
		s.Statement = "no answer came: WeChat may have cleared, or not. The counters stay as they are and one clear " +
			"counts as gone; usage --live shows what WeChat counts now"
	case c.ErrCode == 0 && c.Sent:
		s.Done, s.Statement = true, "done: errcode 0, WeChat counts from 0 again"
	case c.ErrCode == 48006 && !c.Sent:
		s.Statement = "errcode 48006: by our own count no clear is left this month, so WeChat was not asked" + free
	case !c.Sent && (c.ErrCode == 0 || c.ErrCode == -1):
		s.Statement = "the gateway could not send it: no access_token, no store, or no way to WeChat" + free
	case known:
		s.Statement = fmt.Sprintf("errcode %d: %s%s", c.ErrCode, words, free)
	default:
		s.Statement = fmt.Sprintf("errcode %d: WeChat has refused%s", c.ErrCode, free)
	}
	return s
}

// planClear answers what a clear would do.
func (a *Admin) planClear(w http.ResponseWriter, r *http.Request) {
	if plan, ok := a.plan(w, r); ok {
		reply(w, http.StatusOK, plan)
	}
}

// clear does it.
func (a *Admin) clear(w http.ResponseWriter, r *http.Request) {
	plan, ok := a.plan(w, r)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), clearLife)
	defer cancel()
	result, err := a.o.Clear(ctx, plan.AppID, plan.Rule)
	action := Action{Name: "clear", App: plan.App, Rule: plan.Rule, Outcome: "not sent"}
	if err != nil {
		a.acted(r, action)
		reply(w, http.StatusServiceUnavailable, problem{Error: "the clear was not sent: " + err.Error()})
		return
	}
	answer := ClearAnswer{App: plan.App, AppID: plan.AppID, Rule: plan.Rule, Done: len(result.Calls) == plan.Cost, Calls: []ClearStep{}}
	for _, call := range result.Calls {
		step := call.step()
		answer.Calls = append(answer.Calls, step)
		answer.Done = answer.Done && step.Done
		action.Outcome = step.Statement
	}
	if answer.Done {
		action.Outcome = done
	}
	a.acted(r, action)
	if rules := a.o.Limiter.Rules(plan.AppID); rules != nil {
		if lines, err := a.o.Limiter.Usage(ctx, plan.AppID); err == nil { // the answer is complete without
			answer.Clears = clearsRow(lines, rules.Match(clearPathOf(plan.Rule)).Counter)
		}
	}
	reply(w, http.StatusOK, answer)
}

func clearPathOf(rule string) string {
	if rule == "" {
		return clearAllPath
	}
	return clearOnePath
}

// plan checks what is asked for and works out what it would do. When it returns false it has
// answered.
func (a *Admin) plan(w http.ResponseWriter, r *http.Request) (*ClearPlan, bool) {
	if a.o.Clear == nil {
		notOffered(w, "clear")
		return nil, false
	}
	query := r.URL.Query()
	app, ok := a.app(w, query.Get("app"))
	if !ok {
		return nil, false
	}
	if app.Learned {
		reply(w, http.StatusUnprocessableEntity, problem{Error: "app " + app.AppID + ": learned and not configured, so the gateway has no access_token of its own to clear with"})
		return nil, false
	}
	rules := a.o.Limiter.Rules(app.AppID)
	if rules == nil { // between two reloads
		a.unknownApp(w, app.AppID)
		return nil, false
	}
	plan := &ClearPlan{App: app.Name, AppID: app.AppID, Profile: rules.Profile, Rule: query.Get("rule"), Cost: 1, Rows: []Row{}}
	if plan.Rule != "" && !plan.ofRule(w, rules) {
		return nil, false
	}
	match := rules.Match(clearPathOf(plan.Rule))
	if match.Counter != match.Rule.Name || match.Rule.Budget.Kind == limits.Denied {
		reply(w, http.StatusUnprocessableEntity, problem{Error: fmt.Sprintf("profile %s: no rule counts %s: want one with the month's quota", rules.Profile, clearPathOf(plan.Rule))})
		return nil, false
	}
	lines, err := a.o.Limiter.Usage(r.Context(), app.AppID)
	if err != nil {
		reply(w, http.StatusServiceUnavailable, problem{Error: storeProblem(err)})
		return nil, false
	}
	plan.Clears = clearsRow(lines, match.Counter)
	for _, u := range lines {
		if u.Period != limits.Day || u.Used == 0 && !u.Latched || strings.Contains(u.Counter, "@") {
			continue
		}
		if plan.Rule == "" || u.Counter == plan.Rule {
			plan.Rows = append(plan.Rows, rowOf(u))
		}
	}
	return plan, true
}

// ofRule narrows a plan to its rule.
func (p *ClearPlan) ofRule(w http.ResponseWriter, rules *limits.Ruleset) bool {
	rule := rules.Rule(p.Rule)
	if rule == nil {
		var known []string
		for _, r := range rules.Rules {
			known = append(known, r.Name)
		}
		reply(w, http.StatusNotFound, problem{
			Error: fmt.Sprintf("rule %s: not in profile %s", strings.ToValidUTF8(p.Rule, "?"), rules.Profile), Seen: p.Rule, Known: known,
		})
		return false
	}
	p.Paths = ClearPaths(rule)
	p.Cost = len(p.Paths)
	byMonth := rule.Budget.Kind == limits.Limited && rule.Budget.Quotas[0].Period == limits.Month
	switch {
	case p.Cost == 0:
		reply(w, http.StatusUnprocessableEntity, problem{Error: "rule " + rule.Name + ": WeChat clears a path, and this rule names none but whole /*"})
	case byMonth:
		reply(w, http.StatusUnprocessableEntity, problem{Error: "rule " + rule.Name + ": counted by the month, and a clear starts only days over"})
	default:
		return true
	}
	return false
}

// clearsRow is the counter that clears are counted in, its month if it has one.
func clearsRow(lines []limits.Usage, counter string) *Row {
	var found *Row
	for _, u := range lines {
		if u.Counter == counter && (found == nil || u.Period == limits.Month) {
			row := rowOf(u)
			found = &row
		}
	}
	return found
}
