package main

import (
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wxproxy/admin"
	"wxproxy/internal/redistest"
	"wxproxy/sandbox"
)

// agreeLimits has a rule for each way in which calls are counted or refused. agreePaths are the paths that each is
// called by.
const agreeLimits = `version: 1
timezone: %s
profiles:
  production:
    rules:
      - {name: menu.create, paths: [/cgi-bin/menu/create], quota: 8/day}
      - {name: user.info, paths: [/cgi-bin/user/info], quota: 1000/day, shares: {crm: 20/day}}
      - {name: tags.get, paths: [/cgi-bin/tags/get], quota: 10/day, reserve: {oncall: 4}}
      - {name: menu.get, paths: [/cgi-bin/menu/get], quota: 3/day, shadow: true}
      - {name: quota.get, paths: [/cgi-bin/openapi/quota/get], quota: unknown}
      - {name: tokens, paths: [/cgi-bin/stable_token, /cgi-bin/token], quota: unknown}
      - {name: other, paths: [/cgi-bin/*], quota: 5/day}
`

var agreePaths = map[string][]string{
	"menu.create": {"/cgi-bin/menu/create"}, "user.info": {"/cgi-bin/user/info"}, "tags.get": {"/cgi-bin/tags/get"}, "menu.get": {"/cgi-bin/menu/get"},
	"quota.get": {"/cgi-bin/openapi/quota/get"}, "other": {"/cgi-bin/get_api_domain_ip", "/cgi-bin/getcallbackip"},
}

// tally is what was counted, by rule and caller, by rule, caller and reason, and by rule.
type tally struct{ Sent, Refused, Shadow map[string]int64 }

func newTally() tally {
	return tally{make(map[string]int64), make(map[string]int64), make(map[string]int64)}
}

// add adds n to a count unless that is nothing.
func add(counts map[string]int64, n int64, key ...string) {
	if n != 0 {
		counts[strings.Join(key, " ")] += n
	}
}

// by adds counts up by the first of their keys.
func by(counts map[string]int64) map[string]int64 {
	sums := make(map[string]int64)
	for key, n := range counts {
		rule, _, _ := strings.Cut(key, " ")
		sums[rule] += n
	}
	return sums
}

// Usage, history, metrics and report have the same figures of the same calls, and they are those of WeChat and of the
// callers themselves.
func TestNumbersAgree(t *testing.T) {
	t.Parallel()
	name, zone := noon()
	wechat := newWechat(t, sandbox.Options{Keep: -1, Zone: zone})
	redis := redistest.Start(t).URL()
	var gateways []*process
	var logs []string
	for range 2 {
		log := filepath.Join(t.TempDir(), "access.log")
		config := write(t, wechat, redis, fmt.Sprintf(agreeLimits, name), historyCallers, "access_log: {file: \""+log+"\"}\n")
		gateways, logs = append(gateways, start(t, config, wechat)), append(logs, log)
	}
	want, again := agreeTraffic(t, gateways, wechat)
	settledAt(wechat) // the gateways' own questions are over, too
	for rule, paths := range agreePaths {
		arrived := int64(0)
		for _, path := range paths {
			arrived += wechat.Calls("", path)
		}
		if rule == "quota.get" {
			add(want.Sent, arrived, rule, "") // the gateways' own
		}
		if sent := by(want.Sent)[rule]; sent != arrived {
			t.Errorf("%s: callers have had %d sent, WeChat received %d", rule, sent, arrived)
		}
	}

	var metrics tally
	var sentByRule map[string]int64
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) { // a call is recorded after its answer
		metrics, sentByRule = metricsTally(t, gateways)
		if cmp.Equal(by(want.Sent), sentByRule) && cmp.Equal(want.Refused, metrics.Refused) || time.Now().After(deadline) {
			break
		}
	}
	gateways[1].stop(t) // which writes what it has counted last
	for what, ask := range map[string]func(any, string, ...string){
		"request": func(value any, path string, _ ...string) { gateways[0].askAdmin(t, "GET", path, value) },
		"command": func(value any, _ string, args ...string) { gateways[0].operatorJSON(t, value, args...) },
	} {
		var sums admin.History
		var refused admin.Refusals
		ask(&sums, "/api/v1/history?by=rule,caller", "history", "--by", "rule,caller")
		ask(&refused, "/api/v1/refusals", "history", "--refused")
		if got := historyTally(&sums, &refused); !cmp.Equal(want, got) {
			t.Errorf("history by %s (-want +got):\n%s", what, cmp.Diff(want, got))
		}
	}
	wantUsage(t, gateways[0], wechat, want)
	wantDeadTokens(t, gateways[0], wechat)
	wantMetrics(t, want, again, metrics, sentByRule)
	wantUnfinished(t, gateways[0], wechat, want)
	gateways[0].stop(t)
	if reported := reportTally(t, logs); !cmp.Equal(want, reported) {
		t.Errorf("report (-want +got):\n%s", cmp.Diff(want, reported))
	}
}

// agreeTraffic calls in turn through each gateway, and returns what became of the calls as the callers saw it, and
// how often one was sent again.
func agreeTraffic(t *testing.T, gateways []*process, wechat *sandbox.Server) (want tally, again map[string]int64) {
	t.Helper()
	want, again = newTally(), make(map[string]int64)
	n := 0
	call := func(caller, key, rule, method, target string, times int) {
		t.Helper()
		path, _, _ := strings.Cut(target, "?")
		for range times {
			n++
			r, err := http.NewRequestWithContext(t.Context(), method, gateways[n%2].url+target, strings.NewReader(menu))
			if err != nil {
				t.Fatal(err)
			}
			if method == "GET" {
				r.Body, r.ContentLength = http.NoBody, 0
			}
			r.Header.Set("X-Wxproxy-App", "a")
			r.Header.Set("X-Wxproxy-Key", key)
			before := wechat.Calls("", path)
			a := send(t, r)
			sent := wechat.Calls("", path) - before
			add(want.Sent, sent, rule, caller)
			add(again, max(0, sent-1), rule, caller)
			if a.reason != "" {
				add(want.Refused, 1, rule, caller, a.reason)
			}
			if a.decision == "shadow" {
				add(want.Shadow, 1, rule)
			}
		}
	}
	info := "/cgi-bin/user/info?openid=" + canaryOpenID
	call("crm", keyCRM, "user.info", "GET", info, 2)
	wechat.KillTokens(appA)
	call("crm", keyCRM, "user.info", "GET", info, 2) // sent twice
	call("crm", keyCRM, "user.info", "GET", info, 20)
	call("oncall", keyOncall, "user.info", "GET", info, 10)
	call("oncall", keyOncall, "user.info", "GET", "/cgi-bin/user/info?openid=undefined", 3)
	wechat.Order(sandbox.Fault{AppID: appA, Path: "/cgi-bin/user/info", Status: 500, Execute: true})
	call("oncall", keyOncall, "user.info", "GET", info, 2)
	call("menus", keyMenus, "user.info", "GET", info, 2)
	call("crm", keyCRM, "menu.create", "POST", "/cgi-bin/menu/create", 6)
	call("menus", keyMenus, "menu.create", "POST", "/cgi-bin/menu/create", 6)
	call("crm", keyCRM, "tags.get", "GET", "/cgi-bin/tags/get", 9)
	call("oncall", keyOncall, "tags.get", "GET", "/cgi-bin/tags/get", 2)
	call("crm", keyCRM, "menu.get", "GET", "/cgi-bin/menu/get", 5)
	call("oncall", keyOncall, "other", "GET", "/cgi-bin/get_api_domain_ip", 7)
	call("crm", keyCRM, "other", "GET", "/cgi-bin/getcallbackip", 2)
	call("", "wrong-key-0123456789012345", "", "GET", info, 3)
	fetch(t, gateways[0].url, appA, keyCRM) // answered by the gateway
	for _, key := range []string{
		"user.info crm share-used-up", "user.info menus rule-not-allowed", "menu.create menus quota-used-up",
		"tags.get crm reserved", "other oncall quota-used-up", "  wrong-key",
	} {
		if want.Refused[key] == 0 {
			t.Errorf("nothing was refused as %q: %v", key, want.Refused)
		}
	}
	if want.Shadow["menu.get"] != 2 || want.Sent["user.info crm"] != 20 || again["user.info crm"] == 0 {
		t.Errorf("%v, again %v: want 2 of menu.get that are sent all the same, and crm's share of user.info used up, with some sent again", want, again)
	}
	return want, again
}

func historyTally(h *admin.History, refused *admin.Refusals) tally {
	got := newTally()
	for _, r := range h.Rows {
		add(got.Sent, r.Sent, r.Rule, r.Caller)
		add(got.Shadow, r.Shadow, r.Rule)
	}
	for _, r := range refused.Rows {
		add(got.Refused, r.Count, r.Rule, r.Caller, r.Reason)
	}
	return got
}

// reportTally is what `wxproxy report` has of the access logs of all gateways.
func reportTally(t *testing.T, logs []string) tally {
	t.Helper()
	got, r := newTally(), reportOn(t, append(logs, "--by", "rule+caller,rule+caller+reason,rule+decision")...)
	for _, table := range r.Tables {
		for _, row := range table.Rows {
			switch strings.Join(table.By, "+") {
			case "rule+caller":
				add(got.Sent, row.Sent, row.Keys...)
			case "rule+caller+reason":
				add(got.Refused, row.Refused, row.Keys...)
			case "rule+decision":
				if row.Keys[1] == "shadow" {
					add(got.Shadow, row.Calls, row.Keys[0])
				}
			}
		}
	}
	return got
}

var (
	countLine  = regexp.MustCompile(`(?m)^(wxproxy_\w+)\{(.*)\} (\d+)$`)
	countLabel = regexp.MustCompile(`(\w+)="([^"]*)"`)
)

// metricsTally adds up the metrics of all gateways. There are no requests to WeChat by caller: Sent is the calls that
// were sent, and sentByRule the requests.
func metricsTally(t *testing.T, gateways []*process) (got tally, sentByRule map[string]int64) {
	t.Helper()
	got, sentByRule = newTally(), make(map[string]int64)
	for _, p := range gateways {
		for _, m := range countLine.FindAllStringSubmatch(do(t, "GET", p.admin+"/metrics", nil).body, -1) {
			l := make(map[string]string)
			for _, pair := range countLabel.FindAllStringSubmatch(m[2], -1) {
				l[pair[1]] = pair[2]
			}
			n, err := strconv.ParseInt(m[3], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case m[1] == "wxproxy_upstream_requests_total":
				add(sentByRule, n, l["rule"])
			case m[1] == "wxproxy_shadow_refusals_total":
				add(got.Shadow, n, l["rule"])
			case m[1] == "wxproxy_requests_total" && l["reason"] != "":
				add(got.Refused, n, l["rule"], l["caller"], l["reason"])
			case m[1] == "wxproxy_requests_total" && l["decision"] != "local":
				add(got.Sent, n, l["rule"], l["caller"])
			}
		}
	}
	return got, sentByRule
}

// wantMetrics compares the metrics. They count calls by caller, so what was sent twice is in them once.
func wantMetrics(t *testing.T, want tally, again map[string]int64, got tally, sentByRule map[string]int64) {
	t.Helper()
	if diff := cmp.Diff(by(want.Sent), sentByRule); diff != "" {
		t.Errorf("wxproxy_upstream_requests_total by rule (-want +got):\n%s", diff)
	}
	calls := tally{maps.Clone(want.Sent), want.Refused, want.Shadow}
	for key, n := range again {
		calls.Sent[key] -= n
	}
	if diff := cmp.Diff(calls, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// wantUsage compares the counters, what each caller has used of them, and the shares and reserves.
func wantUsage(t *testing.T, p *process, wechat *sandbox.Server, want tally) {
	t.Helper()
	var u admin.Usage
	p.askAdmin(t, "GET", "/api/v1/usage?app=a", &u)
	rules, callers := make(map[string]int64), make(map[string]int64)
	for _, r := range u.Apps[0].Rows {
		if r.Caller != "" && want.Sent[r.Rule+" "+r.Caller] != r.Used {
			t.Errorf("%s@%s: %d used, want %d", r.Rule, r.Caller, r.Used, want.Sent[r.Rule+" "+r.Caller])
		}
		if r.Caller == "" {
			add(rules, r.Used, r.Rule)
		}
		for _, c := range r.Callers {
			add(callers, c.Sent, r.Rule, c.Caller)
		}
	}
	for rule, used := range u.Apps[0].Callers {
		for _, c := range used {
			add(callers, c.Sent, rule, c.Caller)
		}
	}
	// The gateway's own requests for a token use up a quota of WeChat's, and are calls of nobody.
	used := by(want.Sent)
	used["tokens"] = wechat.Calls("", "/cgi-bin/stable_token") + wechat.Calls("", "/cgi-bin/token")
	if used["tokens"] == 0 {
		t.Error("WeChat was asked for no token")
	}
	if diff := cmp.Diff(used, rules); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.Sent, callers); diff != "" {
		t.Errorf("callers of usage (-want +got):\n%s", diff)
	}
	if !slices.ContainsFunc(u.Apps[0].Rows, func(r admin.Row) bool { return r.Caller == "oncall" && r.Reserve == 4 && r.Used == 2 }) {
		t.Errorf("no reserve of oncall with 2 used in %+v", u.Apps[0].Rows)
	}
}

// wantDeadTokens looks for what WeChat received and did not execute.
func wantDeadTokens(t *testing.T, p *process, wechat *sandbox.Server) {
	t.Helper()
	var outcomes admin.History
	p.askAdmin(t, "GET", "/api/v1/history?app=a&by=rule,outcome", &outcomes)
	var sent, died, calls int64
	for _, r := range outcomes.Rows {
		sent += r.Sent
		if r.Outcome == "token-died" {
			died, calls = died+r.Sent, calls+r.Calls
		}
	}
	if executed := wechat.Executed(appA, ""); died == 0 || calls != 0 || sent-died != executed {
		t.Errorf("%d sent, of these %d with a token that had died, which are %d calls; WeChat executed %d", sent, died, calls, executed)
	}
}

// wantUnfinished makes one more call of oncall. While it has no answer it counts in usage alone.
func wantUnfinished(t *testing.T, p *process, wechat *sandbox.Server, want tally) {
	t.Helper()
	sent := by(want.Sent)["user.info"]
	read := func() (used, ended int64) {
		r := row(t, p, "user.info", false)
		for _, c := range r.Callers {
			ended += c.Sent
		}
		return r.Used, ended
	}
	held := wechat.Order(sandbox.Fault{AppID: appA, Path: "/cgi-bin/user/info", Hold: true})
	ended := make(chan answer)
	go func() { ended <- askUser(t, p.url, keyOncall, canaryOpenID) }()
	select {
	case <-held.Begun():
	case a := <-ended:
		t.Fatalf("the call has ended: %+v", a)
	}
	if used, callers := read(); used != sent+1 || callers != sent {
		t.Errorf("before the answer %d are used and callers have %d, want %d and %d", used, callers, sent+1, sent)
	}
	held.Release()
	if a := <-ended; a.decision != "pass" {
		t.Errorf("the held call: %+v", a)
	}
	add(want.Sent, 1, "user.info", "oncall")
	var used, callers int64
	waitFor(t, "the call to be recorded", func() bool { // after the client has its answer
		used, callers = read()
		return callers == sent+1
	})
	if used != sent+1 {
		t.Errorf("after the answer %d are used, want %d", used, sent+1)
	}
}
