package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"wxproxy/admin"
	"wxproxy/internal/redistest"
	"wxproxy/internal/words"
	"wxproxy/sandbox"
)

// fleetStatus is what a gateway of two answers, with an account of which something is wrong.
func fleetStatus() admin.Status {
	return admin.Status{
		Time: readAt, Version: "v1", Go: "go1.26", Gateway: "gw1", Started: readAt.Add(-50 * time.Hour), UptimeSeconds: 50 * 3600,
		Store:    admin.StoreStatus{Kind: "redis", Since: readAt.Add(-time.Minute), Error: "the store does not answer"},
		Gateways: []admin.Gateway{{ID: "gw1", LastHeartbeat: readAt, This: true}, {ID: "gw2", LastHeartbeat: readAt.Add(-4 * time.Second)}},
		Totals:   admin.Totals{Accounts: 2, Tokens: 1, Refused: 1, UsedUp: 1},
		Accounts: []admin.AccountStatus{
			{
				App: "shop", AppID: appA, Token: &admin.TokenState{State: "good", Expires: readAt.Add(112 * time.Minute), FetchedBy: "gw2"},
				Clears: []admin.Clears{{Kind: "app", Limit: 10, Remaining: 7}, {Kind: "rule", Limit: 50, Remaining: 49}},
			},
			{
				App: "b", AppID: appB, Problem: true, UsedUp: []string{"menu.create"}, Token: &admin.TokenState{
					State: "refused", ErrCode: 40164, IP: "203.0.113.9", NextAttempt: readAt.Add(time.Minute),
					Error: "errcode 40164: the address 203.0.113.9 is not on the IP whitelist of the account", Mend: "add 203.0.113.9 to the IP whitelist in WeChat's console",
				},
			},
		},
		LeftOut: 3,
		Config:  map[string]any{},
	}
}

func TestStatusCommand(t *testing.T) {
	t.Parallel()
	here := strings.NewReplacer( // the command prints times of this machine's zone
		"2026-11-23 15:03:05", readAt.Add(-time.Minute).Local().Format(time.DateTime), "2026-11-23 15:04:05", readAt.Local().Format(time.DateTime),
		"16:56 ", readAt.Add(112*time.Minute).Local().Format("15:04 "), "15:05:05", readAt.Add(time.Minute).Local().Format(time.TimeOnly),
	)
	s := newAdminStand(t, shopApps)
	status := fleetStatus()
	status.Reload.Time = readAt
	s.answers["GET /api/v1/status"] = status
	s.answers["GET /api/v1/status?app=shop"] = status
	for lang, want := range map[words.Language]string{
		words.English: `
gateway      gw1, version v1, up 2d2h
store        redis, not available since 2026-11-23 15:03:05: the store does not answer
gateways     gw1 (this one), gw2 (4s ago)
last reload  2026-11-23 15:04:05
accounts     2 configured, 0 learned; 1 with a good token, 1 refused one by WeChat, 0 with a rule that WeChat refuses, 1 with a quota used up

accounts  token good until  fetched by  clears left  problem
shop      16:56 (1h52m)     gw2         7/10 49/50
b         -                 -                        errcode 40164, used up: menu.create

b: errcode 40164: the address 203.0.113.9 is not on the IP whitelist of the account. What to do: add 203.0.113.9 to the IP whitelist in WeChat's console.
b: WeChat is asked again at 15:05:05, if a call needs it.
3 more accounts with a problem are not shown.
`,
		words.Chinese: `
网关      gw1，版本 v1，已运行 2d2h
存储      redis，2026-11-23 15:03:05 起不可用：存储没有应答
各网关    gw1（本网关）、gw2（4s前）
重新加载  2026-11-23 15:04:05
帐号      已配置 2 个，得知 0 个；token 有效 1 个，微信不给 token 1 个，微信已拒绝调用 0 个，有限额用完 1 个

帐号  token 有效到   取得者  剩余清零    问题
shop  16:56 (1h52m)  gw2     7/10 49/50
b     -              -                   errcode 40164、已用完：menu.create

b：errcode 40164：地址 203.0.113.9 不在帐号的 IP 白名单里。办法：在微信后台把 203.0.113.9 加进 IP 白名单。
b：有调用需要时，15:05:05 再问微信。
还有 3 个有问题的帐号没有列出。
`,
	} {
		s.lang = lang
		stdout, _, err := s.run(t, nil, "status")
		if err != nil {
			t.Error(err)
		}
		wantText(t, "status in "+string(lang), stdout, here.Replace(want))
	}
	stdout, _, err := s.run(t, nil, "status", "shop", "--json")
	var got admin.Status
	if failed := json.Unmarshal([]byte(stdout), &got); err != nil || failed != nil || got.Gateway != "gw1" {
		t.Errorf("status --json: %v, %v\n%s", err, failed, stdout)
	}
	s.wantAsked(t, "GET /api/v1/status?app=shop")
}

// The options of usage are asked of the gateway, and --watch shows it again until it is interrupted.
func TestUsageCommandOptions(t *testing.T) {
	t.Parallel()
	s := newAdminStand(t, shopApps)
	u := admin.Usage{Apps: []admin.AppUsage{shopUsage()}}
	s.answers["GET /api/v1/usage?sort=percent&top=3&used=1"] = u
	s.answers["GET /api/v1/usage?app=shop&sort=used"] = u
	s.answers["GET /api/v1/usage?format=csv&top=3"] = u
	for _, tt := range []struct {
		args  []string
		asked string
	}{
		{[]string{"--sort", "percent", "--top", "3", "--used"}, "GET /api/v1/usage?sort=percent&top=3&used=1"},
		{[]string{"shop", "--sort=used", "--json"}, "GET /api/v1/usage?app=shop&sort=used"},
		{[]string{"--csv", "--top=3"}, "GET /api/v1/usage?format=csv&top=3"},
	} {
		if _, _, err := s.run(t, nil, append([]string{"usage"}, tt.args...)...); err != nil {
			t.Errorf("usage %v: %v", tt.args, err)
		}
		s.wantAsked(t, tt.asked)
	}
	for _, args := range [][]string{{"--json", "--csv"}, {"--watch", "--json"}, {"--watch=0"}, {"--watch=x"}} {
		if _, _, err := s.run(t, nil, append([]string{"usage"}, args...)...); err == nil {
			t.Errorf("usage %v: want a command line that makes no sense", args)
		}
	}
}

// On a terminal what is used up is red and what is nearly so yellow, unless NO_COLOR says otherwise; elsewhere nothing is.
func TestColours(t *testing.T) {
	rows := []admin.Row{
		{Rule: "full", Limit: 10, Used: 10, State: "full"}, {Rule: "near", Limit: 10, Used: 8, State: "open"}, {Rule: "open", Limit: 10, Used: 7, State: "open"},
	}
	for i, want := range []colour{red, yellow, uncoloured} {
		if got := colourOf(rows[i]); got != want {
			t.Errorf("%s is %q, want %q", rows[i].Rule, got, want)
		}
	}
	var out strings.Builder
	printConsole(&out, words.English, rows)
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("colours where there is no terminal: %q", out.String())
	}
	terminal := terminal(t, "")
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	if !colours(terminal) {
		t.Error("no colours on a terminal")
	}
	t.Setenv("NO_COLOR", "1")
	if colours(terminal) {
		t.Error("colours although NO_COLOR is set")
	}
}

// The daily questions, after real calls through two gateways: what is nearest to its limit, and is the token healthy and
// how long does it live. Each is answered by one request and by one command, the same by either gateway, and the figures
// are those that WeChat has counted.
func TestQuestionsOfStatus(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{Keep: -1})
	config := write(t, wechat, redistest.Start(t).URL(), table("100/day", "1000/day"))
	text := readFile(t, config)
	gateways := []*process{start(t, config, wechat), start(t, config, wechat)}
	begun := time.Now()
	fire(t, gateways, 8, 93, "POST", "/"+appA+createPath, menu)
	fire(t, gateways, 8, 120, "POST", "/"+appB+createPath, menu)
	fire(t, gateways, 8, 200, "GET", "/"+appA+"/cgi-bin/user/info?openid="+canaryOpenID, "")
	address := strings.TrimPrefix(gateways[0].admin, "http://")
	writeFile(t, config, strings.Replace(text, `admin: {listen: "127.0.0.1:0"`, `admin: {listen: "`+address+`"`, 1))
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), built(t), append(args, "--config", config, "--lang=en")...)
		cmd.Env = append(os.Environ(), "CANARY_ADMIN="+canaryAdmin, "CANARY_SECRET="+canarySecret)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("wxproxy %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	used := func(app string) int64 { return wechat.Executed(app, createPath) }
	if used(appA) != 93 || used(appB) != 100 {
		t.Fatalf("WeChat executed %d and %d, want 93 and 100", used(appA), used(appB))
	}

	for i, p := range gateways { // what is nearest to its limit?
		var page admin.Accounts
		if status := p.askAdmin(t, "GET", "/api/v1/accounts", &page); status != 200 || len(page.Accounts) != 2 {
			t.Fatalf("accounts: %d %+v", status, page)
		}
		b, a := page.Accounts[0], page.Accounts[1]
		if b.App != "b" || b.Nearest == nil || b.Nearest.Rule != "menu.create" || b.Nearest.Used != used(appB) || b.Nearest.State != "full" {
			t.Errorf("gateway %d: nearest to its limit is %+v %+v", i, b, b.Nearest)
		}
		if a.Nearest == nil || a.Nearest.Percent != 93 || a.UsedToday < used(appA)+wechat.Executed(appA, "/cgi-bin/user/info") {
			t.Errorf("gateway %d: then %+v %+v", i, a, a.Nearest)
		}
	}
	for _, p := range gateways { // each adds what the other has written
		waitFor(t, "20 refused calls", func() bool {
			var page admin.Accounts
			p.askAdmin(t, "GET", "/api/v1/accounts?q=b", &page)
			return len(page.Accounts) > 0 && page.Accounts[0].RefusedToday != nil && *page.Accounts[0].RefusedToday == 20
		})
	}
	if out := run("usage", "--top", "2"); !regexp.MustCompile(`(?s)^b .*100/100 +100% +used up +menu.create.*\na .*93/100 +93% +open +7 left +menu.create`).MatchString(out) {
		t.Errorf("usage --top 2:\n%s", out)
	}
	table, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(run("usage", "--top", "2", "--csv"), "\uFEFF"))).ReadAll()
	if err != nil || len(table) != 3 || table[1][0] != "b" || table[2][11] != "93" {
		t.Errorf("usage --top 2 --csv: %v, %v", table, err)
	}

	for i, p := range gateways { // is the token healthy, and how long does it live?
		var s admin.Status
		if status := p.askAdmin(t, "GET", "/api/v1/status", &s); status != 200 || len(s.Accounts) != 2 || len(s.Gateways) != 2 || !s.Store.Counting || s.Totals.Tokens != 2 {
			t.Fatalf("gateway %d: status %d %+v", i, status, s)
		}
		for _, account := range s.Accounts {
			if token := account.Token; token == nil || token.State != "good" || token.FetchedBy == "" || token.Expires.Before(begun.Add(time.Hour)) {
				t.Errorf("gateway %d: the token of %s: %+v", i, account.App, token)
			}
		}
		raw, err := json.Marshal(s)
		if err != nil || strings.Contains(string(raw), canarySecret) || strings.Contains(string(raw), canaryAdmin) {
			t.Errorf("gateway %d: a secret in the status, or %v", i, err)
		}
	}
	if out := run("status"); !regexp.MustCompile(`(?m)^a +\d\d:\d\d \([12]h\d+m\) +[a-z2-7]{8}( |$)`).MatchString(out) || !strings.Contains(out, "(this one)") {
		t.Errorf("status:\n%s", out)
	}

	// The metrics of both give the same figures, and together what WeChat has counted.
	sent := int64(0)
	for i, p := range gateways {
		scrape := do(t, "GET", p.admin+"/metrics", nil).body
		if want := fmt.Sprintf("wxproxy_quota_used{app=\"b\",period=\"day\",rule=\"menu.create\"} %d\n", used(appB)); !strings.Contains(scrape, want) {
			t.Errorf("gateway %d: the metrics lack %s", i, want)
		}
		for _, n := range regexp.MustCompile(`wxproxy_upstream_requests_total\{app="[ab]",outcome="ok",rule="menu.create"\} (\d+)`).FindAllStringSubmatch(scrape, -1) {
			count, err := strconv.ParseInt(n[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			sent += count
		}
	}
	if want := wechat.Calls(appA, createPath) + wechat.Calls(appB, createPath); sent != want {
		t.Errorf("the metrics of both have %d requests to WeChat, which has seen %d", sent, want)
	}
}
