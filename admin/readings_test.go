package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wxproxy/limits"
)

// operated is a gateway with everything that an operator can ask of it, and what it was asked.
type operated struct {
	*stand
	lines []limits.Usage
	apps  []App
	down  error // of the store

	readings  map[string]Reading
	unread    error
	asked     []string        // the apps that WeChat was asked about
	rules     *limits.Ruleset // in force
	shipped   *limits.Ruleset
	table     *limits.Ruleset // without the app's own quotas
	cleared   []string
	clears    ClearResult
	unsent    error
	forgotten []string
	unforgot  error
}

func (o *operated) Rules(appid string) *limits.Ruleset {
	if appid == "wx0000000000000009" { // an app that a reload has just taken away
		return nil
	}
	return o.rules
}

func (o *operated) Usage(context.Context, string) ([]limits.Usage, error) { return o.lines, o.down }
func (*operated) FailsOpen() bool                                         { return true }
func (o *operated) Store() limits.StoreState                              { return storeState(o.down) }

func (o *operated) UsageAll(ctx context.Context, appids []string, usedOnly bool) ([][]limits.Usage, error) {
	return usageAll(ctx, o, appids, usedOnly)
}

func limited(quotas ...string) limits.Budget {
	b, err := limits.ParseBudget(quotas...)
	if err != nil {
		panic(err)
	}
	return b
}

func ruleset(t *testing.T, rules ...*limits.Rule) *limits.Ruleset {
	t.Helper()
	table := limits.Table{Zone: time.UTC, Profiles: map[string]*limits.Profile{"p": {Name: "p", Rules: rules}}}
	set, err := table.Rules("p", nil)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

var midnight = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

// newOperated is a gateway of four accounts: shop, one without a name, a learned one, and one whose
// rules have just gone. o changes what it offers.
func newOperated(t *testing.T, change ...func(*Options)) *operated {
	t.Helper()
	o := &operated{
		apps: []App{
			{Name: "shop", AppID: "wx0000000000000001"},
			{Name: "wx0000000000000002", AppID: "wx0000000000000002"},
			{Name: "wx0000000000000003", AppID: "wx0000000000000003", Learned: true},
			{Name: "gone", AppID: "wx0000000000000009"},
		},
		rules: ruleset(
			t,
			&limits.Rule{Name: "menu.create", Title: "自定义菜单创建", Paths: []string{"/cgi-bin/menu/create"}, Budget: limited("100/day")},
			&limits.Rule{Name: "mass", Title: "群发", Source: "own table", Paths: []string{"/cgi-bin/message/mass/send", "/cgi-bin/message/mass/sendall"}, Budget: limited("100/day", "4/month")},
			&limits.Rule{Name: "clear_quota", Title: "清零", Paths: []string{"/cgi-bin/clear_quota", "/cgi-bin/clear_quota/v2"}, Budget: limited("10/month")},
			&limits.Rule{Name: "quota.clear", Title: "单接口清零", Paths: []string{"/cgi-bin/openapi/quota/clear"}, Budget: limited("50/month")},
			&limits.Rule{Name: "oauth", Title: "网页授权", Paths: []string{"/sns/userinfo"}, Budget: limited("unlimited")},
			&limits.Rule{Name: "card", Title: "卡包", Paths: []string{"/card/create"}, Budget: limited("denied")},
			&limits.Rule{Name: "other", Title: "其他", Paths: []string{"/cgi-bin/*"}},
		),
	}
	o.table = o.rules
	r := o.rules.Rules
	o.lines = []limits.Usage{
		{Rule: r[0], Counter: "menu.create", Limit: 100, Used: 100, Reset: midnight, StartUnknown: true},
		{Rule: r[0], Counter: "menu.create@crm", Limit: 50, Used: 50, Reset: midnight},
		{Rule: r[1], Counter: "mass", Limit: 100, Used: 3, Remaining: 97, Reset: midnight},
		{Rule: r[1], Counter: "mass", Period: limits.Month, Limit: 4, Used: 3, Remaining: 1, Reset: midnight},
		{Rule: r[2], Counter: "clear_quota", Period: limits.Month, Limit: 10, Used: 3, Remaining: 7, Reset: midnight},
		{Rule: r[3], Counter: "quota.clear", Period: limits.Month, Limit: 50, Used: 1, Remaining: 49, Reset: midnight},
		{Rule: r[4], Counter: "oauth", Reset: midnight},
		{Rule: r[5], Counter: "card", Reset: midnight},
		{Rule: r[6], Counter: "other:/cgi-bin/a", Used: 2, Reset: midnight},
	}
	metrics := NewMetrics(Build{Version: "test"})
	options := Options{
		Token: "correct", Apps: func() []App { return o.apps }, Limiter: o, Metrics: metrics, Stop: func() bool { return false },
		Readings: func(_ context.Context, appids []string, _ [][]limits.Usage) ([]map[string]Reading, error) {
			return slices.Repeat([]map[string]Reading{o.readings}, len(appids)), nil
		},
		ReadLive: func(_ context.Context, appid string) error {
			o.asked = append(o.asked, appid)
			return o.unread
		},
		Tables: func(string) (shipped, table *limits.Ruleset) { return o.shipped, o.table },
		Clear: func(ctx context.Context, appid, rule string) (ClearResult, error) {
			if _, ok := ctx.Deadline(); !ok {
				t.Error("a clear without a deadline")
			}
			o.cleared = append(o.cleared, appid+" "+rule)
			return o.clears, o.unsent
		},
		Forget: func(_ context.Context, appid string) error {
			o.forgotten = append(o.forgotten, appid)
			return o.unforgot
		},
	}
	for _, c := range change {
		c(&options)
	}
	o.stand = &stand{server: httptest.NewServer(New(options))}
	t.Cleanup(o.server.Close)
	return o
}

// ask sends a request with the token and decodes the answer into value.
func (o *operated) ask(t *testing.T, method, target string, value any) (status int) {
	t.Helper()
	status, body := o.do(t, method, target, "Authorization", "Bearer correct")
	if err := json.Unmarshal([]byte(body), value); err != nil {
		t.Fatalf("%s %s = %d %s: %v", method, target, status, body, err)
	}
	return status
}

func TestWhoMayOperate(t *testing.T) {
	o := newOperated(t)
	token := []string{"Authorization", "Bearer correct"}
	for _, target := range []string{
		"GET /api/v1/usage?app=shop&live=1", "GET /api/v1/limits?app=shop", "GET /api/v1/clear?app=shop", "POST /api/v1/clear?app=shop",
		"GET /api/v1/forget?app=wx0000000000000003", "POST /api/v1/forget?app=wx0000000000000003",
	} {
		method, path, _ := strings.Cut(target, " ")
		for _, tt := range []struct {
			name   string
			header []string
			want   int
		}{
			{"nobody", nil, 401},
			{"a wrong token", []string{"Authorization", "Bearer wrong"}, 401},
			{"a page of another site", append([]string{"Origin", "https://evil.example"}, token...), 403},
			{"a page of this machine", append([]string{"Sec-Fetch-Site", "same-site"}, token...), 403},
		} {
			if got, body := o.do(t, method, path, tt.header...); got != tt.want {
				t.Errorf("%s by %s = %d %s, want %d", target, tt.name, got, body, tt.want)
			}
		}
	}
	for _, target := range []string{"/api/v1/clear?app=shop", "/api/v1/forget?app=shop"} {
		if got, _ := o.do(t, "DELETE", target, token...); got != 405 {
			t.Errorf("DELETE %s = %d, want 405", target, got)
		}
	}
	if len(o.cleared)+len(o.forgotten)+len(o.asked) > 0 {
		t.Errorf("cleared %v, forgotten %v, asked %v by nobody", o.cleared, o.forgotten, o.asked)
	}
}

// A gateway without what an endpoint needs says so, and goes on with the rest.
func TestWhatIsNotOffered(t *testing.T) {
	o := newOperated(t, func(o *Options) { o.Readings, o.ReadLive, o.Tables, o.Clear, o.Forget = nil, nil, nil, nil, nil })
	for _, target := range []string{
		"GET /api/v1/usage?app=shop&live=1", "GET /api/v1/limits?app=shop", "GET /api/v1/clear?app=shop", "POST /api/v1/clear?app=shop",
		"GET /api/v1/forget?app=wx0000000000000003", "POST /api/v1/forget?app=wx0000000000000003",
	} {
		method, path, _ := strings.Cut(target, " ")
		var p problem
		if status := o.ask(t, method, path, &p); status != 501 || !strings.HasSuffix(p.Error, ": this gateway does not offer it") {
			t.Errorf("%s = %d %+v, want 501 in words", target, status, p)
		}
	}
	var u Usage
	if status := o.ask(t, "GET", "/api/v1/usage", &u); status != 200 || len(u.Apps) != 4 || u.Apps[0].Rows[0].WechatUsed != nil {
		t.Errorf("usage = %d %+v, want 200 without readings", status, u)
	}
}

func TestUsageTellsReadings(t *testing.T) {
	o := newOperated(t)
	at := time.Date(2026, 11, 23, 7, 4, 5, 0, time.UTC)
	o.readings = map[string]Reading{
		"menu.create":      {At: at, Limit: 200, Used: 103, Drift: 3},
		"mass":             {At: at, Used: 0, Drift: -3}, // WeChat tells no figure
		"other:/cgi-bin/a": {At: at, Limit: limits.MaxLimit + 1, Used: 2},
	}
	o.unread = errors.New("quota/get of /cgi-bin/menu/create: errcode 44993")
	n := func(i int64) *int64 { return &i }
	for _, tt := range []struct{ target, failed string }{{"/api/v1/usage?app=shop", ""}, {"/api/v1/usage?app=shop&live=true", o.unread.Error()}} {
		var u Usage
		if status := o.ask(t, "GET", tt.target, &u); status != 200 {
			t.Fatalf("%s = %d", tt.target, status)
		}
		got := make(map[string]Row)
		for _, row := range u.Apps[0].Rows {
			if row.WechatUsed != nil || row.Start != "" {
				got[strings.Join(strings.Fields(row.Rule+" "+row.Path+" "+row.Caller+" "+row.Period), " ")] = Row{
					WechatUsed: row.WechatUsed, WechatLimit: row.WechatLimit, Drift: row.Drift, ReadAt: row.ReadAt, Start: row.Start,
				}
			}
		}
		want := map[string]Row{
			"menu.create day":      {WechatUsed: n(103), WechatLimit: 200, Drift: n(3), ReadAt: at, Start: "unknown"},
			"mass day":             {WechatUsed: n(0), Drift: n(-3), ReadAt: at},
			"other /cgi-bin/a day": {WechatUsed: n(2), Drift: n(0), ReadAt: at},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.target, diff)
		}
		if u.Apps[0].ReadingError != tt.failed || u.Apps[0].Error != "" {
			t.Errorf("%s: errors %q and %q, want %q beside the rows", tt.target, u.Apps[0].ReadingError, u.Apps[0].Error, tt.failed)
		}
	}
	if diff := cmp.Diff([]string{"wx0000000000000001"}, o.asked); diff != "" {
		t.Errorf("live (-want +got):\n%s", diff)
	}
}

func TestLiveTakesOneApp(t *testing.T) {
	o := newOperated(t)
	for _, tt := range []struct {
		target string
		status int
		want   string
	}{
		{"/api/v1/usage?live=1", 400, "live without an app: want ?app="},
		{"/api/v1/usage?live=yes&app=shop", 400, "live yes: want 1 or 0"},
		{"/api/v1/limits?live=1", 400, "live without an app: want ?app="},
		{"/api/v1/limits", 400, "no app: want ?app="},
		{"/api/v1/limits?app=gone", 404, "app wx0000000000000009: not configured"},
	} {
		var p problem
		if status := o.ask(t, "GET", tt.target, &p); status != tt.status || !strings.HasPrefix(p.Error, tt.want) {
			t.Errorf("%s = %d %q, want %d %q", tt.target, status, p.Error, tt.status, tt.want)
		}
	}
	var p problem
	status := o.ask(t, "GET", "/api/v1/usage?app=shpo", &p)
	want := problem{Error: "app shpo: not configured", Seen: "shpo", Known: []string{"shop", "wx0000000000000001", "wx0000000000000002", "wx0000000000000003", "gone", "wx0000000000000009"}}
	if diff := cmp.Diff(want, p); status != 404 || diff != "" {
		t.Errorf("usage of an unknown app = %d (-want +got):\n%s", status, diff)
	}
	if len(o.asked) > 0 {
		t.Error("WeChat was asked")
	}
}

func TestMetricsOfReadings(t *testing.T) {
	o := newOperated(t)
	o.readings = map[string]Reading{
		"menu.create":      {Limit: 200, Used: 103, Drift: 3},
		"mass":             {Used: 1, Drift: -2},
		"other:/cgi-bin/a": {Limit: 7, Used: 5, Drift: 3},
		"other:/cgi-bin/b": {Limit: 7, Used: 6, Drift: -1},
	}
	_, body := o.do(t, "GET", "/metrics")
	for _, want := range []string{
		`wxproxy_quota_wechat_used{app="shop",rule="menu.create"} 103`,
		`wxproxy_quota_wechat_limit{app="shop",rule="menu.create"} 200`,
		`wxproxy_quota_drift{app="shop",rule="menu.create"} 3`,
		`wxproxy_quota_drift{app="shop",rule="mass"} -2`,
		`wxproxy_quota_wechat_used{app="shop",rule="other"} 11`,
		`wxproxy_quota_drift{app="wx0000000000000002",rule="other"} 2`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
	for _, unwanted := range []string{"/cgi-bin/", "wx0000000000000003", `wechat_limit{app="shop",rule="other"}`, `wechat_limit{app="shop",rule="mass"}`} {
		if strings.Contains(body, unwanted) {
			t.Errorf("metrics hold %s: want no path, no learned app and no limit that is not known", unwanted)
		}
	}
	if len(o.asked) > 0 {
		t.Error("a scrape asks WeChat")
	}
}
