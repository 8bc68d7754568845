package admin

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// route is one kind of request that the listener answers. It is all that is to be written for one more: the
// mux, who may ask, which parameters there are, and the OpenAPI document are made of it.
type route struct {
	method, path string
	about        string // what it answers, in one sentence
	open         bool   // no token is asked for
	takes        []parameter
	gives        any  // the value that 200 answers with as JSON; nil: plain text
	csv          bool // format=csv answers the same as a table
	streams      bool // 200 answers with lines of JSON until the client goes
	serve        http.HandlerFunc
}

// parameter is one parameter of a query. A request with another one is refused, so each that a handler reads is here.
type parameter struct {
	name  string
	about string
	kind  string   // string, integer or boolean, which is 1 or 0
	oneOf []string // the values that it may have; nil: any
	must  bool     // it may not be left out
}

// Parameters that several routes take.
var (
	appParameter    = parameter{name: "app", about: "the name or appid of one account", kind: "string"}
	theApp          = parameter{name: "app", about: "the name or appid of the account", kind: "string", must: true}
	liveParameter   = parameter{name: "live", about: "1: ask WeChat now, rule by rule, which may take a minute; needs app", kind: "boolean"}
	formatParameter = parameter{name: "format", about: "csv: a table in UTF-8 with a byte order mark, for a spreadsheet; default json", kind: "string", oneOf: []string{"json", "csv"}}
	fromParameter   = parameter{name: "from", about: "a time as 2026-11-23T15:04, a day as 2026-11-23, today, the default, yesterday, or how long ago as 7d or 36h", kind: "string"}
	toParameter     = parameter{name: "to", about: "the same; now by default, and a day is meant to its end", kind: "string"}
	limitParameter  = parameter{name: "limit", about: "how many accounts to answer with at most", kind: "integer"}
	cursorParameter = parameter{name: "cursor", about: "the field next of the page before", kind: "string"}
	grantRule       = parameter{name: "rule", about: "the rule; left out: all of them", kind: "string"}
	clearRule       = parameter{name: "rule", about: "the rule to clear; left out: the whole app", kind: "string"}
)

// routes are all requests that are answered.
func (a *Admin) routes() []route {
	return []route{
		{method: "GET", path: "/-/healthy", about: "ok while the process lives.", open: true, serve: a.healthy},
		{method: "GET", path: "/-/ready", about: "Whether calls should be sent here: 503 while the gateway stops, or when it refuses all calls.", open: true, gives: readiness{}, serve: a.ready},
		{method: "GET", path: "/-/reload", about: "How the last reload of the configuration ended.", gives: reloadAnswer{}, serve: a.lastReload},
		{method: "POST", path: "/-/reload", about: "Reads the configuration again.", gives: reloadAnswer{}, serve: a.reload},
		{method: "GET", path: "/metrics", about: "The metrics, for Prometheus. No token is asked for from this machine.", open: true, serve: a.scrape},
		{method: "POST", path: "/api/v1/session/code", about: "A one-time code that signs a page in, good for 30 s.", gives: SessionCode{}, serve: a.sessionCode},
		{method: "POST", path: "/api/v1/session", about: "The admin token, for the one-time code in the body: {\"code\": \"...\"}.", open: true, gives: Session{}, serve: a.session},
		{method: "GET", path: "/api/v1/openapi.json", about: "This document.", gives: document{}, serve: a.openapi},
		{
			method: "GET", path: "/api/v1/status", about: "What runs and what is wrong: tokens, store, gateways, latches, clears, reload, version, configuration.",
			takes: []parameter{appParameter}, gives: Status{}, serve: a.status,
		},
		{
			method: "GET", path: "/api/v1/accounts", about: "One row for each account, nearest to a limit first.",
			takes: []parameter{
				limitParameter, cursorParameter,
				{name: "sort", about: "nearest, the default: by the part of a quota that is used; or by name", kind: "string", oneOf: []string{"nearest", "name"}},
				{name: "q", about: "only accounts whose name or appid has this in it", kind: "string"},
				formatParameter,
			},
			gives: Accounts{}, csv: true, serve: a.accounts,
		},
		{
			method: "GET", path: "/api/v1/usage", about: "What each account has used today and this month, by rule.",
			takes: []parameter{
				appParameter, liveParameter, limitParameter, cursorParameter,
				{name: "used", about: "1: only counters that were used, or are latched", kind: "boolean"},
				{name: "sort", about: "the order of the rows: that of the table by default; the largest part of a quota first; the most calls first; by the rule's name", kind: "string", oneOf: []string{"percent", "used", "rule"}},
				{name: "callers", about: "1: with who has used it today; with app it always is", kind: "boolean"},
				{name: "top", about: "only so many rows of all accounts, the first by sort, which is percent then", kind: "integer"},
				formatParameter,
			},
			gives: Usage{}, csv: true, serve: a.usage,
		},
		{
			method: "GET", path: "/api/v1/history", about: "The calls of a range of time, by account, rule, caller and outcome.",
			takes: []parameter{
				appParameter, fromParameter, toParameter,
				{name: "step", about: "total, the default: the whole range; or each day or hour of it", kind: "string", oneOf: []string{"total", "day", "hour"}},
				{name: "by", about: "what is kept apart, with commas: rule, caller, outcome, which is the default; or none", kind: "string"},
				formatParameter,
			},
			gives: History{}, csv: true, serve: a.history,
		},
		{
			method: "GET", path: "/api/v1/refusals", about: "What was refused in a range of time, to whom and why, the most frequent first.",
			takes: []parameter{appParameter, fromParameter, toParameter, formatParameter}, gives: Refusals{}, csv: true, serve: a.refusals,
		},
		{
			method: "GET", path: "/api/v1/tail", about: "The lines of the access log as calls of this gateway end, one JSON object each, until the client goes. {\"dropped\":N} stands for lines that it was too slow for; an empty line comes every 15 s without any.",
			takes: []parameter{
				appParameter,
				{name: "rule", about: "only of this rule", kind: "string"},
				{name: "caller", about: "only of this caller", kind: "string"},
				{name: "decision", about: "only with this decision", kind: "string"},
				{name: "reason", about: "only with this reason", kind: "string"},
				{name: "refused", about: "1: only refused calls", kind: "boolean"},
				{name: "errcode", about: "only with this errcode of WeChat's", kind: "integer"},
			},
			streams: true, serve: a.tail,
		},
		{
			method: "GET", path: "/api/v1/explain", about: "What a call would meet now.",
			takes: []parameter{
				theApp,
				{name: "path", about: "a path with or without a query, or a whole URL", kind: "string", must: true},
				{name: "method", about: "GET by default", kind: "string"},
				{name: "caller", about: "the name of the caller", kind: "string"},
			},
			gives: Explanation{}, serve: a.explain,
		},
		{
			method: "GET", path: "/api/v1/limits", about: "The figures of an account as shipped, as configured, and as WeChat states them.",
			takes: []parameter{theApp, liveParameter}, gives: Limits{}, serve: a.limits,
		},
		{method: "GET", path: "/api/v1/clear", about: "What a clear would start over, and what it costs.", takes: []parameter{theApp, clearRule}, gives: ClearPlan{}, serve: a.planClear},
		{method: "POST", path: "/api/v1/clear", about: "Has WeChat clear its counters of an account, or of a rule.", takes: []parameter{theApp, clearRule}, gives: ClearAnswer{}, serve: a.clear},
		{
			method: "GET", path: "/api/v1/grant", about: "The grants of an account that are in force, or that of a rule.",
			takes: []parameter{theApp, grantRule}, gives: Grants{}, serve: a.listGrants,
		},
		{
			method: "POST", path: "/api/v1/grant", about: "Adds calls to the quotas of a rule in place of the grant before, on every gateway, until a time.",
			takes: []parameter{
				theApp,
				{name: "rule", about: "the rule", kind: "string", must: true},
				{name: "calls", about: "how many calls are added in all; 0 ends the grant", kind: "integer", must: true},
				{name: "until", about: "a time of today as in 18:00, or one as in 2026-11-23T18:00:00+08:00; left out: to the end of the window", kind: "string"},
				{name: "reason", about: "why, for those who look at the figure later", kind: "string"},
				{name: "version", about: "that of the grant which it takes the place of; left out: whatever there is", kind: "integer"},
			},
			gives: Grants{}, serve: a.setGrant,
		},
		{method: "GET", path: "/api/v1/alerts", about: "The last hundred alerts of the fleet with what became of each at each sink, and the state of the sinks.", gives: Alerts{}, serve: a.alerts},
		{
			method: "POST", path: "/api/v1/alerts/test", about: "Sends a message to each sink of alerts, or to one.",
			takes: []parameter{{name: "sink", about: "the name of one sink", kind: "string"}}, gives: AlertTests{}, serve: a.testAlerts,
		},
		{method: "GET", path: "/api/v1/forget", about: "What would be erased of an account that is not configured.", takes: []parameter{theApp}, gives: Forgotten{}, serve: a.planForget},
		{method: "POST", path: "/api/v1/forget", about: "Erases everything that the store holds of an account that is not configured.", takes: []parameter{theApp}, gives: Forgotten{}, serve: a.forget},
	}
}

// handler is a route as the mux has it.
func (a *Admin) handler(r route) http.Handler {
	checked := func(w http.ResponseWriter, q *http.Request) {
		if err := r.check(q); err != nil {
			reply(w, http.StatusBadRequest, *err)
			return
		}
		r.serve(w, q)
	}
	if r.open {
		return http.HandlerFunc(checked)
	}
	return a.guarded(checked)
}

// check returns what is wrong with the parameters of a request, or nil. That a required one is there the handlers check:
// each knows what it is for.
func (r *route) check(q *http.Request) *problem {
	if !strings.HasPrefix(r.path, "/api/") { // scrapers and load balancers may add what they like
		return nil
	}
	names := make([]string, len(r.takes))
	for i, p := range r.takes {
		names[i] = p.name
	}
	for name, values := range q.URL.Query() {
		i := slices.Index(names, name)
		if i < 0 && len(names) == 0 {
			return &problem{Error: fmt.Sprintf("parameter %s: want none", strings.ToValidUTF8(name, "?"))}
		}
		if i < 0 {
			return &problem{Error: fmt.Sprintf("parameter %s: not known", strings.ToValidUTF8(name, "?")), Seen: name, Known: names}
		}
		if one := r.takes[i].oneOf; one != nil && values[0] != "" && !slices.Contains(one, values[0]) {
			return &problem{Error: fmt.Sprintf("%s %s: not known", name, strings.ToValidUTF8(values[0], "?")), Seen: values[0], Known: one}
		}
	}
	return nil
}
