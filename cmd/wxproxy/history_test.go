package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wxproxy/admin"
	"wxproxy/history"
	"wxproxy/internal/redistest"
	"wxproxy/sandbox"
	"wxproxy/store"
)

// operator runs a command of the built program against a gateway, and returns what it prints.
func (p *process) operator(t *testing.T, args ...string) string {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	writeFile(t, token, canaryAdmin)
	cmd := exec.CommandContext(t.Context(), built(t), append(args, "--admin", p.admin, "--token-file", token)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "NO_PROXY=*")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("wxproxy %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

func (p *process) operatorJSON(t *testing.T, value any, args ...string) {
	t.Helper()
	if err := json.Unmarshal([]byte(p.operator(t, append(args, "--json")...)), value); err != nil {
		t.Fatal(err)
	}
}

const (
	keyCRM    = "history-key-of-crm-0123456789"
	keyOncall = "history-key-of-oncall-0123456789"
	keyMenus  = "history-key-of-menus-0123456789"
)

const historyCallers = `callers:
  - {name: crm, key: ` + keyCRM + `, apps: [a]}
  - {name: oncall, key: ` + keyOncall + `, apps: [a]}
  - {name: menus, key: ` + keyMenus + `, apps: [a], rules: [menu.*]}
`

// lastWeek puts 500 calls of crm into a store, three days ago.
func lastWeek(t *testing.T, url string, wechat *sandbox.Server, zone *time.Location) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: url, Upstream: wechat.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	at := time.Now().AddDate(0, 0, -3)
	o := history.Options{Gateway: "lastweek", Zone: zone, Now: func() time.Time { return at }}
	if s.Bolt() != nil {
		o.Store = history.NewBolt(s.Bolt(), s.Prefix())
	} else {
		o.Store = history.NewRedis(s.Redis(), s.Prefix(), "lastweek")
	}
	r := history.New(o)
	for range 500 {
		r.Add(history.Event{App: appA, Rule: "user.info", Caller: "crm", Outcome: history.Outcome{Kind: history.Passed}, At: at})
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// logged adds up the access logs as history does.
func logged(t *testing.T, gateways []*process) map[string]int64 {
	t.Helper()
	counts := make(map[string]int64)
	for _, p := range gateways {
		for _, line := range p.stdout.lines(t) {
			text := func(name string) string { s, _ := line[name].(string); return s }
			outcome := "passed"
			switch {
			case text("reason") != "":
				outcome = "refused:" + text("reason")
			case line["attempts"] == 0.0:
				outcome = "local"
			case line["errcode"] != 0.0:
				outcome = fmt.Sprintf("errcode:%v", line["errcode"])
			}
			appid := text("appid")
			if text("app") == "" {
				appid = history.NoApp
			}
			counts[strings.Join([]string{appid, text("rule"), text("caller"), outcome}, " ")]++
		}
	}
	return counts
}

func countsOf(h *admin.History) map[string]int64 {
	counts := make(map[string]int64)
	for _, r := range h.Rows {
		counts[strings.Join([]string{r.AppID, r.Rule, r.Caller, r.Outcome}, " ")] += r.Calls
	}
	return counts
}

func total(counts map[string]int64) (sum int64) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

// Who used how much of what today and last week, what was refused to whom and why, and when will it run out:
// one command and one request for each, whichever gateway is asked.
func TestDailyQuestions(t *testing.T) {
	t.Parallel()
	for _, d := range []deployment{{"redis", redistest.Start(t).URL(), 2}, {"file", "file:" + filepath.Join(t.TempDir(), "wxproxy.db"), 1}} {
		t.Run(d.name, func(t *testing.T) {
			wechat := newWechat(t, sandbox.Options{})
			name, zone := noon()
			lastWeek(t, d.store, wechat, zone)
			rules := strings.Replace(table("8/day", "150/day"), "Asia/Shanghai", name, 1)
			config := write(t, wechat, d.store, rules, historyCallers)
			var gateways []*process
			for range d.gateways {
				gateways = append(gateways, start(t, config, wechat))
			}
			dailyTraffic(t, gateways)
			asks := gateways[0]
			if len(gateways) > 1 {
				gateways[1].stop(t) // which writes what it has counted last
			}

			var today, request admin.History
			asks.operatorJSON(t, &today, "history", "--by", "rule,caller,outcome")
			asks.askAdmin(t, "GET", "/api/v1/history", &request)
			waitFor(t, "the access log", func() bool { return total(logged(t, gateways)) >= total(countsOf(&today)) })
			if diff := cmp.Diff(logged(t, gateways), countsOf(&today)); diff != "" {
				t.Errorf("history differs from the access logs (-log +history):\n%s", diff)
			}
			if diff := cmp.Diff(countsOf(&today), countsOf(&request)); diff != "" {
				t.Errorf("the request differs from the command (-command +request):\n%s", diff)
			}
			wantSent(t, asks, wechat)
			wantLastWeek(t, asks)
			wantRefusals(t, asks)
			wantForecast(t, asks)
		})
	}
}

// dailyTraffic sends the calls of several services, in turn to each gateway.
func dailyTraffic(t *testing.T, gateways []*process) {
	t.Helper()
	n := 0
	call := func(key, method, path, body string, times int) {
		t.Helper()
		for range times {
			n++
			r, err := http.NewRequestWithContext(t.Context(), method, gateways[n%len(gateways)].url+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Wxproxy-App", "a")
			r.Header.Set("X-Wxproxy-Key", key)
			send(t, r)
		}
	}
	info := "/cgi-bin/user/info?openid=" + canaryOpenID
	call(keyCRM, "GET", info, "", 40)
	call(keyOncall, "GET", info, "", 13)
	call(keyMenus, "GET", info, "", 3)                          // may not
	call(keyCRM, "POST", "/cgi-bin/menu/create", menu, 10)      // two too many
	call("wrong-key-0123456789012345", "GET", info, "", 2)      // whose is that?
	call(keyOncall, "GET", "/cgi-bin/get_api_domain_ip", "", 2) // a rule without a figure
}

// wantSent compares what WeChat executed with what was sent.
func wantSent(t *testing.T, p *process, wechat *sandbox.Server) {
	t.Helper()
	var byRule admin.History
	p.operatorJSON(t, &byRule, "history", "a", "--by", "rule")
	sent := make(map[string]int64)
	for _, r := range byRule.Rows {
		sent[r.Rule] = r.Sent
	}
	for rule, path := range map[string]string{"menu.create": "/cgi-bin/menu/create", "user.info": "/cgi-bin/user/info"} {
		if want := wechat.Executed(appA, path); sent[rule] != want || want == 0 {
			t.Errorf("%s: %d sent, WeChat executed %d", rule, sent[rule], want)
		}
	}
}

func wantLastWeek(t *testing.T, p *process) {
	t.Helper()
	var week admin.History
	p.operatorJSON(t, &week, "history", "a", "--from", "7d", "--by", "rule,caller")
	got := make(map[string]int64)
	for _, r := range week.Rows {
		got[r.Rule+" "+r.Caller] = r.Sent
	}
	if got["user.info crm"] != 540 || got["user.info oncall"] != 13 || got["menu.create crm"] != 8 {
		t.Errorf("last week: %v, want 540 calls of user.info by crm, 13 by oncall, 8 of menu.create by crm", got)
	}
	table := p.operator(t, "history", "a", "--from", "7d", "--step", "day", "--by", "caller")
	for _, want := range []string{"time        caller  ", "  crm       500   0\n", "  oncall    15    0\n"} {
		if !strings.Contains(table, want) {
			t.Errorf("want %q in:\n%s", want, table)
		}
	}
	text := p.operator(t, "history", "a", "--from", "7d", "--csv")
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "\ufeff"))).ReadAll()
	if err != nil || !strings.HasPrefix(text, "\ufeffstart,app,appid,rule,caller,outcome,calls,sent,refused,shadow\r\n") || len(rows) != 1+len(week.Rows) {
		t.Errorf("CSV: %v, %d rows, want %d:\n%s", err, len(rows), 1+len(week.Rows), text)
	}
}

func wantRefusals(t *testing.T, p *process) {
	t.Helper()
	var refused, request admin.Refusals
	p.operatorJSON(t, &refused, "history", "--refused")
	p.askAdmin(t, "GET", "/api/v1/refusals", &request)
	if diff := cmp.Diff(refused, request, cmp.FilterPath(func(path cmp.Path) bool { return path.String() == "To" }, cmp.Ignore())); diff != "" {
		t.Errorf("the request differs from the command:\n%s", diff)
	}
	got := make(map[string]int64)
	for _, r := range refused.Rows {
		got[strings.Join([]string{r.App, r.Rule, r.Caller, r.Reason}, " ")] = r.Count
		if age := time.Since(r.First); age < 0 || age > 2*time.Minute || r.Last.Before(r.First) {
			t.Errorf("%+v: first and last are not of this test", r)
		}
	}
	for _, want := range []struct {
		key string
		n   int64
	}{{"a menu.create crm quota-used-up", 2}, {"a user.info menus rule-not-allowed", 3}} {
		if got[want.key] != want.n {
			t.Errorf("refused: %v, want %d of %s", got, want.n, want.key)
		}
	}
	if table := p.operator(t, "history", "a", "--refused"); !strings.Contains(table, "menu.create  crm     quota-used-up     ") {
		t.Errorf("want what was refused to crm in:\n%s", table)
	}
}

func wantForecast(t *testing.T, p *process) {
	t.Helper()
	find := func(u *admin.Usage) admin.Row {
		t.Helper()
		for _, r := range u.Apps[0].Rows {
			if r.Rule == "user.info" {
				return r
			}
		}
		t.Fatalf("no user.info in %+v", u)
		return admin.Row{}
	}
	var command, request admin.Usage
	p.operatorJSON(t, &command, "usage", "a")
	p.askAdmin(t, "GET", "/api/v1/usage?app=a", &request)
	for _, row := range []admin.Row{find(&command), find(&request)} {
		if row.Used != 53 {
			t.Errorf("%d used of user.info, want 53", row.Used)
		}
		if diff := cmp.Diff([]admin.CallerUse{{Caller: "crm", Sent: 40}, {Caller: "oncall", Sent: 13}}, row.Callers); diff != "" {
			t.Errorf("callers (-want +got):\n%s", diff)
		}
		if row.Forecast == nil || !row.Forecast.RunsOut.After(time.Now()) || row.Forecast.RunsOut.After(time.Now().Add(time.Hour)) {
			t.Errorf("forecast %+v, want some time within the next hour", row.Forecast)
		}
	}
	if text := p.operator(t, "usage", "a"); !strings.Contains(text, "runs out") {
		t.Errorf("want a forecast in:\n%s", text)
	}
	if text := p.operator(t, "usage", "a", "--callers"); !strings.Contains(text, "user.info    crm       40    75%\n") || !strings.Contains(text, "other        oncall    2 ") {
		t.Errorf("want who has used how much in:\n%s", text)
	}
	var all admin.Usage
	p.operatorJSON(t, &all, "usage", "--callers", "--top", "1", "--sort", "used")
	if len(all.Apps) != 1 || len(all.Apps[0].Rows) != 1 || len(all.Apps[0].Rows[0].Callers) != 2 {
		t.Errorf("the callers of the rule with the most calls: %+v", all)
	}
	if text := p.operator(t, "usage", "--callers", "--csv"); !strings.Contains(text, ",crm=40 oncall=13,") {
		t.Errorf("want a column of callers in:\n%s", text)
	}
	metrics := do(t, "GET", p.admin+"/metrics", nil).body
	if !strings.Contains(metrics, "\nwxproxy_quota_exhaustion_timestamp_seconds{app=\"a\",period=\"day\",rule=\"user.info\"} ") ||
		strings.Contains(metrics, "exhaustion_timestamp_seconds{app=\"a\",period=\"day\",rule=\"menu.create\"}") {
		t.Error("metrics: want a forecast of user.info, and none of what is used up")
	}
}

// What a kill loses is what was counted since the last write, and nothing before it.
func TestHistoryAfterAKill(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	config := write(t, wechat, redistest.Start(t).URL(), table("1000/day", "1000/day"))
	first, second := start(t, config, wechat), start(t, config, wechat)
	info := "/" + appA + "/cgi-bin/user/info?openid=" + canaryOpenID
	fire(t, []*process{first}, 4, 20, "GET", info, "")
	sent := func() (n int64) {
		var h admin.History
		second.askAdmin(t, "GET", "/api/v1/history?app=a&by=rule", &h)
		for _, r := range h.Rows {
			if r.Rule == "user.info" {
				n = r.Sent
			}
		}
		return n
	}
	deadline := time.Now().Add(time.Minute)
	for sent() != 20 {
		if time.Now().After(deadline) {
			t.Fatalf("%d calls known to the other gateway after a minute, want 20", sent())
		}
		time.Sleep(50 * time.Millisecond)
	}
	first.kill(t)
	fire(t, []*process{second}, 4, 5, "GET", info, "")
	if got := sent(); got != 25 {
		t.Errorf("%d calls after the kill, want 25", got)
	}
}

// forget erases the history of an app.
func TestForgetHistory(t *testing.T) {
	t.Parallel()
	for _, d := range deployments(t) {
		t.Run(d.name, func(t *testing.T) {
			wechat := newWechat(t, sandbox.Options{})
			_, zone := noon()
			lastWeek(t, d.store, wechat, zone)
			config := write(t, wechat, d.store, table("1000/day", "1000/day"))
			p := start(t, config, wechat)
			fire(t, []*process{p}, 1, 3, "GET", "/"+appA+"/cgi-bin/user/info?openid="+canaryOpenID, "")
			calls := func() (n int64) {
				var h admin.History
				p.askAdmin(t, "GET", "/api/v1/history?app=a&from=7d&by=rule", &h)
				for _, r := range h.Rows {
					if r.Rule == "user.info" {
						n += r.Calls
					}
				}
				return n
			}
			if got := calls(); got != 503 {
				t.Fatalf("%d calls before, want 503", got)
			}
			with := readFile(t, config)
			without := strings.Replace(with, "  - {name: a, appid: "+appA+`, secret: "${CANARY_SECRET}"}`+"\n", "", 1)
			writeFile(t, config, without)
			p.askAdmin(t, "POST", "/-/reload", nil)
			if status := p.askAdmin(t, "POST", "/api/v1/forget?app="+appA, nil); status != http.StatusOK {
				t.Fatalf("forget: %d", status)
			}
			writeFile(t, config, with)
			p.askAdmin(t, "POST", "/-/reload", nil)
			if got := calls(); got != 0 {
				t.Errorf("%d calls after forget, want none", got)
			}
		})
	}
}
