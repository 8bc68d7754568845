package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wxproxy/admin"
	"wxproxy/config"
	"wxproxy/internal/words"
)

// adminStand is an admin listener with answers made up, what it was asked, and a configuration
// whose commands ask it.
type adminStand struct {
	answers map[string]any // by method and target; a wrong is answered with its status
	asked   []string
	config  string
	address string
	lang    words.Language // of the commands
}

// wrong is an answer other than 200.
type wrong struct {
	status int
	body   map[string]any
}

func newAdminStand(t *testing.T, apps string) *adminStand {
	t.Helper()
	s := &adminStand{answers: make(map[string]any), lang: words.English}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+canaryAdmin {
			t.Errorf("%s %s without the admin token", r.Method, r.URL)
		}
		asked := r.Method + " " + r.URL.Path
		if r.URL.RawQuery != "" {
			asked += "?" + r.URL.RawQuery
		}
		s.asked = append(s.asked, asked)
		answer, ok := s.answers[asked]
		if !ok {
			t.Errorf("asked %s, of which the test knows nothing", asked)
		}
		if problem, ok := answer.(wrong); ok {
			w.WriteHeader(problem.status)
			answer = problem.body
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	s.address = strings.TrimPrefix(server.URL, "http://")
	s.config = filepath.Join(t.TempDir(), "wxproxy.yaml")
	writeFile(t, s.config, fmt.Sprintf("admin: {listen: %q, token: %s}\n%s", s.address, canaryAdmin, apps))
	return s
}

// run runs a command against the stand. No secret may come out of it.
func (s *adminStand) run(t *testing.T, stdin io.Reader, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	s.asked = nil
	root := rootCommand(s.lang)
	var out, errs bytes.Buffer
	root.SetArgs(append(args, "--config", s.config))
	root.SetIn(stdin)
	root.SetOut(&out)
	root.SetErr(&errs)
	err = root.ExecuteContext(t.Context())
	for _, canary := range []string{canarySecret, canaryAdmin} {
		if strings.Contains(out.String()+errs.String()+fmt.Sprint(err), canary) {
			t.Errorf("%v: the output holds the canary %q", args, canary)
		}
	}
	return out.String(), errs.String(), err
}

func (s *adminStand) wantAsked(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, s.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

func wantText(t *testing.T, what, got, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q in it", err, want)
	}
	if errors.As(err, new(usageError)) {
		t.Errorf("%v is a command line that makes no sense, want exit code 1", err)
	}
}

var (
	beijing  = time.FixedZone("CST", 8*3600)
	midnight = time.Date(2026, 11, 24, 0, 0, 0, 0, beijing)
	readAt   = time.Date(2026, 11, 23, 15, 4, 5, 0, beijing)
)

func shopUsage() admin.AppUsage {
	return admin.AppUsage{App: "shop", AppID: appA, Profile: "production", Rows: []admin.Row{
		{Category: "界面丰富", Title: "自定义菜单创建", Rule: "menu.create", Period: "day", Quota: "1000/day", Limit: 1000, Used: 12, Remaining: 988, Reset: midnight, State: "open", WechatUsed: new(int64(15)), WechatLimit: 2000, Drift: new(int64(3)), ReadAt: readAt},
		{Category: "用户管理", Title: "设置用户备注名", Rule: "user.info.updateremark", Period: "day", Quota: "10000/day", Limit: 10000, Used: 10000, Reset: midnight, State: "full", WechatUsed: new(int64(9998)), Drift: new(int64(-2)), ReadAt: readAt},
		{Category: "用户管理", Title: "获取用户基本信息", Rule: "user.info", Period: "day", Quota: "5000000/day", Limit: 5000000, Used: 1234567, Remaining: 3765433, Reset: midnight, State: "latched", WechatUsed: new(int64(1234567)), WechatLimit: 5000000, Drift: new(int64(0)), ReadAt: readAt},
		{Category: "素材管理", Title: "上传多媒体文件，图片、语音、视频和缩略图都算在内", Rule: "media.upload", Period: "day", Quota: "100000/day", Limit: 100000, Used: 100, Remaining: 99900, Reset: midnight, State: "open", Start: "unknown"},
		{Category: "Publishing", Title: "Get the list of articles that were published", Rule: "freepublish.getarticle", Period: "day", Quota: "100/day", Limit: 100, Used: 7, Remaining: 93, Reset: midnight, State: "open", WechatUsed: new(int64(7)), WechatLimit: 100, Drift: new(int64(0)), ReadAt: readAt},
		{Category: "基础支持", Title: "接口调用次数清零", Rule: "clear_quota", Period: "month", Quota: "10/month", Limit: 10, Used: 3, Remaining: 7, Reset: midnight, State: "open"},
		{Title: "其他接口", Rule: "other", Path: "/customservice/kfaccount/uploadheadimg", Period: "day", Quota: "unknown", Reset: midnight, State: "open", WechatUsed: new(int64(4)), Drift: new(int64(4)), ReadAt: readAt},
		{Category: "界面丰富", Title: "自定义菜单创建", Rule: "menu.create", Caller: "crm", Period: "day", Quota: "1000/day", Limit: 50, Used: 9, Remaining: 41, Reset: midnight, State: "open"},
		{Title: "没有用过", Rule: "idle", Period: "day", Quota: "unknown", Reset: midnight, State: "open", WechatUsed: new(int64(0)), Drift: new(int64(0)), ReadAt: readAt},
	}}
}

const shopApps = "apps: [{name: shop, appid: " + appA + ", secret: " + canarySecret + "}]\n"

func TestUsageWithReadings(t *testing.T) {
	t.Parallel()
	s := newAdminStand(t, shopApps)
	shop := shopUsage()
	shop.ReadingError = "quota/get of /cgi-bin/user/get: errcode 44993: want 0"
	other := admin.AppUsage{App: "b", AppID: appB, Profile: "test", Rows: []admin.Row{
		{Category: "界面丰富", Title: "自定义菜单创建", Rule: "menu.create", Period: "day", Quota: "100/day", Limit: 100, Used: 1, Remaining: 99, Reset: midnight, State: "open"},
	}}
	s.answers["GET /api/v1/usage"] = admin.Usage{Apps: []admin.AppUsage{shop, other}}
	s.lang = words.Chinese
	stdout, stderr, err := s.run(t, nil, "usage")
	if err != nil || stderr != "" {
		t.Errorf("usage: %v, stderr %q", err, stderr)
	}
	wantText(t, "usage", stdout, `
shop  `+appA+`  限额表 production  重置：11-24 00:00（按月的 11-24 00:00）
类目        接口                       每日实时调用量/上限  %     接口状态    规则
界面丰富    自定义菜单创建             12/1000              1%    已获得      menu.create
用户管理    设置用户备注名             10000/10000          100%  已用完      user.info.updateremark
用户管理    获取用户基本信息           1234567/5000000      24%   微信已拒绝  user.info
素材管理    上传多媒体文件，图片、语…  100/100000           0%    已获得      media.upload
Publishing  Get the list of articles…  7/100                7%    已获得      freepublish.getarticle
基础支持    接口调用次数清零           3/10 每月            30%   已获得      clear_quota
            其他接口                   0/未公布                   已获得      other:/customservice/kfaccount/uploadheadimg
界面丰富    自定义菜单创建             9/50                 18%   已获得      menu.create@crm

接口                                        微信用量/上限    偏差      读取   规则
自定义菜单创建                              15/2000          +3        15:04  menu.create
设置用户备注名                              9998             -2        15:04  user.info.updateremark
获取用户基本信息                            1234567/5000000  0         15:04  user.info
上传多媒体文件，图片、语音、视频和缩略图…                    起点未知         media.upload
Get the list of articles that were publis…  7/100            0         15:04  freepublish.getarticle
其他接口                                    4                +4        15:04  other:/customservice/kfaccount/uploadheadimg

没有读完微信的计数：
查询 /cgi-bin/user/get：errcode 44993，应为 0

b  `+appB+`  限额表 test  重置：11-24 00:00
类目      接口            每日实时调用量/上限  %   接口状态  规则
界面丰富  自定义菜单创建  1/100                1%  已获得    menu.create
`)
	s.lang = words.English
	stdout, _, err = s.run(t, nil, "usage")
	if err != nil {
		t.Error(err)
	}
	wantText(t, "usage in English", stdout, `
shop  `+appA+`  profile production  resets 11-24 00:00, by the month 11-24 00:00
used/limit today  %     state              rule
12/1000           1%    open               menu.create
10000/10000       100%  used up            user.info.updateremark
1234567/5000000   24%   refused by WeChat  user.info
100/100000        0%    open               media.upload
7/100             7%    open               freepublish.getarticle
3/10 a month      30%   open               clear_quota
0/not published         open               other:/customservice/kfaccount/uploadheadimg
9/50              18%   open               menu.create@crm

WeChat's used/limit  drift          read at  rule
15/2000              +3             15:04    menu.create
9998                 -2             15:04    user.info.updateremark
1234567/5000000      0              15:04    user.info
                     start unknown           media.upload
7/100                0              15:04    freepublish.getarticle
4                    +4             15:04    other:/customservice/kfaccount/uploadheadimg

WeChat's counts were not read completely:
quota/get of /cgi-bin/user/get: errcode 44993: want 0

b  `+appB+`  profile test  resets 11-24 00:00
used/limit today  %   state  rule
1/100             1%  open   menu.create
`)
}

// Whatever stands in the table, lines without a path keep to 100 columns.
func TestTablesKeepTheirWidth(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	printUsage(&out, words.Chinese, &admin.Usage{Apps: []admin.AppUsage{shopUsage()}}, true, false)
	l := shopLimits()
	printLimits(&out, words.Chinese, &l)
	for line := range strings.Lines(out.String()) {
		if n := columns.StringWidth(strings.TrimSuffix(line, "\n")); n > tableWidth && !strings.Contains(line, ":/") {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if !strings.Contains(out.String(), "/customservice/kfaccount/uploadheadimg") || !strings.Contains(out.String(), "…") {
		t.Errorf("want the path whole and a title cut in:\n%s", out.String())
	}
}

func TestUsageAsJSON(t *testing.T) {
	t.Parallel()
	s := newAdminStand(t, shopApps)
	s.answers["GET /api/v1/usage?app=shop"] = admin.Usage{Apps: []admin.AppUsage{shopUsage()}}
	stdout, _, err := s.run(t, nil, "usage", "shop", "--json")
	var got struct {
		Apps []struct {
			Rows []map[string]any
		}
	}
	if err = errors.Join(err, json.Unmarshal([]byte(stdout), &got)); err != nil {
		t.Fatal(err)
	}
	pick := func(row map[string]any) map[string]any {
		picked := make(map[string]any)
		for _, key := range []string{"wechat_used", "wechat_limit", "drift", "read_at", "start"} {
			if value, ok := row[key]; ok {
				picked[key] = value
			}
		}
		return picked
	}
	rows := got.Apps[0].Rows
	for i, want := range map[int]map[string]any{
		0: {"wechat_used": 15., "wechat_limit": 2000., "drift": 3., "read_at": "2026-11-23T15:04:05+08:00"},
		1: {"wechat_used": 9998., "drift": -2., "read_at": "2026-11-23T15:04:05+08:00"},
		3: {"start": "unknown"},
		5: {},
	} {
		if diff := cmp.Diff(want, pick(rows[i])); diff != "" {
			t.Errorf("row %d (-want +got):\n%s", i, diff)
		}
	}
}

// What the store has answered stands in place of an app's rows.
func TestUsageWithoutTheStore(t *testing.T) {
	t.Parallel()
	s := newAdminStand(t, shopApps)
	const denied = "the store answered: NOPERM User wxproxy has no permissions to run the 'hgetall' command"
	s.answers["GET /api/v1/usage"] = admin.Usage{Apps: []admin.AppUsage{{App: "shop", AppID: appA, Profile: "test", Error: denied}}}
	stdout, _, err := s.run(t, nil, "usage")
	wantError(t, err, "usage of 1 of 1 apps was not read: shop")
	wantText(t, "usage", stdout, "shop  "+appA+"  profile test\n"+denied+"\n")
	stdout, _, err = s.run(t, nil, "usage", "--json")
	wantError(t, err, "usage of 1 of 1 apps was not read: shop")
	if !json.Valid([]byte(stdout)) {
		t.Errorf("usage --json: %s", stdout)
	}
}

// Live questions are asked about one app after the other.
func TestUsageLive(t *testing.T) {
	t.Parallel()
	s := newAdminStand(t, shopApps)
	a, b := admin.AppUsage{App: "shop", AppID: appA}, admin.AppUsage{App: "b", AppID: appB}
	s.answers["GET /api/v1/usage"] = admin.Usage{Apps: []admin.AppUsage{a, b}}
	live := shopUsage()
	s.answers["GET /api/v1/usage?app="+appA+"&live=1"] = admin.Usage{Apps: []admin.AppUsage{live}}
	s.answers["GET /api/v1/usage?app="+appB+"&live=1"] = admin.Usage{Apps: []admin.AppUsage{b}}
	stdout, stderr, err := s.run(t, nil, "usage", "--live", "--json")
	var got admin.Usage
	if err = errors.Join(err, json.Unmarshal([]byte(stdout), &got)); err != nil {
		t.Fatal(err)
	}
	s.wantAsked(t, "GET /api/v1/usage", "GET /api/v1/usage?app="+appA+"&live=1", "GET /api/v1/usage?app="+appB+"&live=1")
	if len(got.Apps) != 2 || len(got.Apps[0].Rows) != len(live.Rows) || got.Apps[1].App != "b" {
		t.Errorf("got %+v, want both apps with what is live", got.Apps)
	}
	wantText(t, "stderr", stderr, "asking WeChat about "+appA+", rule by rule: this may take a minute\nasking WeChat about "+appB+", rule by rule: this may take a minute\n")

	s.answers["GET /api/v1/usage?app=shop&live=1"] = admin.Usage{Apps: []admin.AppUsage{live}}
	if _, _, err := s.run(t, nil, "usage", "shop", "--live"); err != nil {
		t.Error(err)
	}
	s.wantAsked(t, "GET /api/v1/usage?app=shop&live=1")
}

const (
	planShop  = "GET /api/v1/clear?app=shop"
	clearShop = "POST /api/v1/clear?app=shop"
	planMass  = "GET /api/v1/clear?app=shop&rule=mass"
	clearMass = "POST /api/v1/clear?app=shop&rule=mass"
)

func clearsRow(rule string, limit, left int64) *admin.Row {
	return &admin.Row{Rule: rule, Period: "month", Limit: limit, Used: limit - left, Remaining: left}
}

// clearStand is a gateway that can clear all of shop, and its rule mass of two paths.
func clearStand(t *testing.T) *adminStand {
	t.Helper()
	s := newAdminStand(t, shopApps)
	rows := shopUsage().Rows[:2]
	s.answers[planShop] = admin.ClearPlan{App: "shop", AppID: appA, Profile: "production", Cost: 1, Clears: clearsRow("clear_quota", 10, 7), Rows: rows}
	s.answers[clearShop] = admin.ClearAnswer{Done: true, Calls: []admin.ClearStep{{Done: true, Statement: "done: errcode 0"}}, Clears: clearsRow("clear_quota", 10, 6)}
	s.answers[planMass] = admin.ClearPlan{
		App: "shop", AppID: appA, Profile: "production", Rule: "mass", Paths: []string{"/cgi-bin/mass/send", "/cgi-bin/mass/sendall"}, Cost: 2,
		Clears: clearsRow("quota.clear", 50, 2), Rows: rows[:1],
	}
	return s
}

func TestClearCommand(t *testing.T) {
	t.Parallel()
	s := clearStand(t)
	stdout, stderr, err := s.run(t, nil, "clear", "shop", "--yes")
	if err != nil || stderr != "" {
		t.Errorf("clear: %v, stderr %q", err, stderr)
	}
	s.wantAsked(t, planShop, clearShop)
	wantText(t, "clear", stdout, `
shop  `+appA+`  profile production
To clear: the whole app

used/limit today  %     state    rule
12/1000           1%    open     menu.create
10000/10000       100%  used up  user.info.updateremark

It takes 1 clear; 7 of this month's 10 are left.
done: errcode 0
6 of this month's 10 clears are left.
`)
	s.answers[clearMass] = admin.ClearAnswer{Rule: "mass", Calls: []admin.ClearStep{
		{Path: "/cgi-bin/mass/send", Done: true, Statement: "done: errcode 0"}, {Path: "/cgi-bin/mass/sendall", ErrCode: 48006, Statement: "errcode 48006: none is left"},
	}, Clears: clearsRow("quota.clear", 50, 0)}
	stdout, _, err = s.run(t, nil, "clear", "shop", "mass", "--yes")
	wantError(t, err, "/cgi-bin/mass/sendall: errcode 48006: none is left")
	s.wantAsked(t, planMass, clearMass)
	wantText(t, "clear of a rule", stdout, `
shop  `+appA+`  profile production
To clear: rule mass: /cgi-bin/mass/send, /cgi-bin/mass/sendall

used/limit today  %   state  rule
12/1000           1%  open   menu.create

It takes 2 clears, one for each path; 2 of this month's 50 are left.
/cgi-bin/mass/send: done: errcode 0
0 of this month's 50 clears are left.
`)
}

func TestClearThatFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		answer admin.ClearAnswer
		want   string
	}{
		{"the first of two", admin.ClearAnswer{Calls: []admin.ClearStep{{Path: "/a", ErrCode: 48006, Statement: "errcode 48006: none is left"}}}, "/a: errcode 48006: none is left\n1 of 2 paths were not tried"},
		{"no answer", admin.ClearAnswer{Calls: []admin.ClearStep{{Path: "/a", Statement: "no answer came"}, {}}}, "/a: no answer came"},
		{"nothing at all", admin.ClearAnswer{}, "2 of 2 paths were not tried"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := clearStand(t)
			s.answers[clearMass] = tt.answer
			_, _, err := s.run(t, nil, "clear", "shop", "mass", "--yes")
			wantError(t, err, tt.want)
		})
	}
	s := clearStand(t)
	s.answers[clearShop] = wrong{503, map[string]any{"error": "the clear was not sent: stopping"}}
	_, _, err := s.run(t, nil, "clear", "shop", "--yes")
	wantError(t, err, "the gateway at "+s.address+": the clear was not sent: stopping")
}

func TestClearNeedsEnoughClears(t *testing.T) {
	t.Parallel()
	s := clearStand(t)
	plan := s.answers[planMass].(admin.ClearPlan)
	plan.Clears = clearsRow("quota.clear", 50, 1)
	s.answers[planMass] = plan
	_, _, err := s.run(t, nil, "clear", "shop", "mass", "--yes")
	wantError(t, err, "not cleared: it takes 2 clears, and 1 of this month's 50 are left")
	s.wantAsked(t, planMass)

	plan.Clears, plan.Rows = nil, nil // a table without a figure for them
	s.answers[planMass] = plan
	s.answers[clearMass] = admin.ClearAnswer{Done: true, Calls: []admin.ClearStep{{Path: "/a", Done: true, Statement: "done"}, {Path: "/b", Done: true, Statement: "done"}}}
	stdout, _, err := s.run(t, nil, "clear", "shop", "mass", "--yes")
	if err != nil {
		t.Error(err)
	}
	wantText(t, "clear without a figure", stdout, `
shop  `+appA+`  profile production
To clear: rule mass: /cgi-bin/mass/send, /cgi-bin/mass/sendall

No calls of it were counted today.

It takes 2 clears, one for each path; how many are left this month is not known here. WeChat grants 50.
/a: done
/b: done
`)
}

// The commands that change something ask first, and only who says yes has it done.
func TestConfirmation(t *testing.T) {
	t.Parallel()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = null.Close() })
	pipe, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := write.WriteString("yes\n"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(pipe.Close(), write.Close()) })
	const refused = "stdin is not a terminal, so nobody can be asked: nothing was done; want --yes to do it without asking"
	for _, tt := range []struct {
		name, typed string
		stdin       io.Reader
		want        string // of the error
	}{
		{"no terminal", "", strings.NewReader("yes\n"), refused},
		{"a pipe", "", pipe, refused},
		{"nothing to read", "", null, refused},
		{"yes", "yes\n", nil, ""},
		{"yes in capitals", " YES \n", nil, ""},
		{"y", "y\n", nil, `"y": want yes: nothing was done`},
		{"no", "no\n", nil, `"no": want yes: nothing was done`},
		{"only a line break", "\n", nil, `"": want yes: nothing was done`},
		{"end of input", "\x04", nil, refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := clearStand(t)
			if tt.stdin == nil {
				tt.stdin = terminal(t, tt.typed)
			}
			_, stderr, err := s.run(t, tt.stdin, "clear", "shop")
			if tt.want == "" {
				s.wantAsked(t, planShop, clearShop)
				wantText(t, "stderr", stderr, "Clear? yes/no: ")
				if err != nil {
					t.Error(err)
				}
				return
			}
			s.wantAsked(t, planShop)
			wantError(t, err, tt.want)
		})
	}
}

// Ctrl-C ends the question.
func TestConfirmationInterrupted(t *testing.T) {
	t.Parallel()
	cmd := clearCommand(words.English)
	ctx, cancel := context.WithCancel(t.Context())
	cmd.SetContext(ctx)
	cmd.SetIn(terminal(t, ""))
	cmd.SetErr(io.Discard)
	cancel()
	wantError(t, confirm(cmd, words.English, words.ClearConfirm), "interrupted: nothing was done")
}

func TestOperateFailures(t *testing.T) {
	t.Parallel()
	s := clearStand(t)
	unknown := map[string]any{"error": "app shpo: not configured", "seen": "shpo", "known": []string{"shop", appA}}
	s.answers["GET /api/v1/clear?app=shpo"] = wrong{404, unknown}
	s.answers["GET /api/v1/limits?app=shpo"] = wrong{404, unknown}
	s.answers["GET /api/v1/usage?app=shpo"] = wrong{404, unknown}
	s.answers["GET /api/v1/clear?app=shop&rule=mas"] = wrong{404, map[string]any{"error": "rule mas: not in profile production", "seen": "mas", "known": []string{"mass", "menu.create"}}}
	s.answers["GET /api/v1/clear?app=shop&rule=zzzzzzzz"] = wrong{404, map[string]any{"error": "rule zzzzzzzz: not in profile production", "seen": "zzzzzzzz", "known": []string{"mass", "menu.create"}}}
	s.answers["GET /api/v1/forget?app=shop"] = wrong{409, map[string]any{"error": "app shop (" + appA + ") is configured"}}
	s.answers["GET /api/v1/limits?app=shop"] = wrong{501, map[string]any{"error": "limits: this gateway does not offer it"}}
	gateway := "the gateway at " + s.address + ": "
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"clear", "shpo", "--yes"}, gateway + "app shpo: not configured: did you mean shop?"},
		{[]string{"limits", "shpo"}, gateway + "app shpo: not configured: did you mean shop?"},
		{[]string{"usage", "shpo"}, gateway + "app shpo: not configured: did you mean shop?"},
		{[]string{"clear", "shop", "mas", "--yes"}, gateway + "rule mas: not in profile production: did you mean mass?"},
		{[]string{"clear", "shop", "zzzzzzzz", "--yes"}, gateway + "rule zzzzzzzz: not in profile production: want one of mass, menu.create"},
		{[]string{"forget", "shop", "--yes"}, gateway + "app shop (" + appA + ") is configured"},
		{[]string{"limits", "shop"}, gateway + "limits: this gateway does not offer it"},
	} {
		_, _, err := s.run(t, nil, tt.args...)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%v: error %v, want %s", tt.args, err, tt.want)
		}
	}
	for _, args := range [][]string{{"clear"}, {"clear", "a", "b", "c"}, {"forget"}, {"limits"}, {"limits", "shop", "--json", "--write"}, {"clear", "--nosuch"}} {
		if _, _, err := s.run(t, nil, args...); !errors.As(err, new(usageError)) {
			t.Errorf("%v: %v, want a command line that makes no sense", args, err)
		}
	}
}

func TestNoGateway(t *testing.T) {
	t.Parallel()
	s := newAdminStand(t, shopApps)
	writeFile(t, s.config, "admin: {listen: \"127.0.0.1:1\", token: "+canaryAdmin+"}\n"+shopApps)
	const nobody = "no gateway answers at 127.0.0.1:1: is it running?"
	for _, args := range [][]string{{"clear", "shop", "--yes"}, {"limits", "shop"}, {"usage"}, {"forget", appB, "--yes"}} {
		_, _, err := s.run(t, nil, args...)
		want := nobody
		if args[0] == "forget" {
			want += " Only a gateway may open its store: start one with this configuration, as in: wxproxy serve"
		}
		if err == nil || err.Error() != want {
			t.Errorf("%v: error %v, want %s", args, err, want)
		}
	}
}

func TestForgetCommand(t *testing.T) {
	t.Parallel()
	s := newAdminStand(t, shopApps)
	erased := []string{"counters", "tickets"}
	s.answers["GET /api/v1/forget?app="+appB] = admin.Forgotten{AppID: appB, Erased: erased}
	s.answers["POST /api/v1/forget?app="+appB] = admin.Forgotten{AppID: appB, Erased: erased}
	stdout, stderr, err := s.run(t, nil, "forget", appB, "--yes")
	if err != nil || stderr != "" {
		t.Errorf("forget: %v, stderr %q", err, stderr)
	}
	s.wantAsked(t, "GET /api/v1/forget?app="+appB, "POST /api/v1/forget?app="+appB)
	wantText(t, "forget", stdout, `
To delete of `+appB+`, for all gateways that share this store: counters, tickets.
This gateway has counted no call of it since it started: check the appid.
`+appB+` was deleted: counters, tickets.
`)
	s.answers["GET /api/v1/forget?app="+appB] = admin.Forgotten{AppID: appB, Seen: true, Erased: erased}
	stdout, stderr, err = s.run(t, strings.NewReader("yes\n"), "forget", appB)
	wantError(t, err, "stdin is not a terminal")
	s.wantAsked(t, "GET /api/v1/forget?app="+appB)
	if !strings.Contains(stdout, "The next call with a token of it stores it again.") || stderr != "" {
		t.Errorf("forget of an app that was seen: %q, %q", stdout, stderr)
	}
	stdout, stderr, err = s.run(t, terminal(t, "no\n"), "forget", appB)
	wantError(t, err, "want yes")
	if strings.Contains(stdout, "was deleted") || stderr != "Delete? yes/no: " {
		t.Errorf("forget that was not confirmed: %q, %q", stdout, stderr)
	}
	s.wantAsked(t, "GET /api/v1/forget?app="+appB)
}

func shopLimits() admin.Limits {
	return admin.Limits{App: "shop", AppID: appA, Profile: "production", Rows: []admin.LimitRow{
		{Rule: "menu.create", Title: "自定义菜单创建", Shipped: "1000/day", ShippedSource: "seeds 000, 001", Configured: "1000/day", ConfiguredFrom: "production", ConfiguredSource: "seeds 000, 001", WechatLimit: 1000, ReadAt: readAt},
		{Rule: "user.info", Title: "获取用户基本信息", Shipped: "5000000/day", Configured: "500000/day", ConfiguredFrom: "wxproxy.yaml", Own: true, WechatLimit: 800000, ReadAt: readAt, Differs: true, Write: "800000/day"},
		{Rule: "message.mass.send", Title: "高级群发接口", Shipped: "100/day", Configured: "100/day, 4/month", ConfiguredFrom: "shop", WechatLimit: 200, ReadAt: readAt, Differs: true, Write: "200/day, 4/month"},
		{Rule: "oauth.userinfo", Title: "网页授权获取用户信息", Shipped: "unlimited", Configured: "unlimited", ConfiguredFrom: "production"},
		{Rule: "media.get", Title: "Download a file of any kind that was uploaded before, as long as it is there", Configured: "unknown", ConfiguredFrom: "production", ReadAt: readAt},
		{Rule: "other", Title: "其他接口", Shipped: "unknown", Configured: "unknown", ConfiguredFrom: "production"},
		{Rule: "other", Title: "其他接口", Path: "/cgi-bin/tags/get", Configured: "unknown", ConfiguredFrom: "production", WechatLimit: 1000, ReadAt: readAt, Differs: true},
	}}
}

const limitsTable = `shop  ` + appA + `  profile production
   rule               shipped      configured        from          WeChat
   menu.create        1000/day     1000/day          production    1000/day
*  user.info          5000000/day  500000/day        wxproxy.yaml  800000/day
*  message.mass.send  100/day      100/day, 4/month  shop          200/day
   oauth.userinfo     unlimited    unlimited         production
   media.get                       no figure         production    no figure
   other              no figure    no figure         production
*  other                           no figure         production    1000/day    /cgi-bin/tags/get

* user.info
     shipped     5000000/day  the table in the program
     configured  500000/day   quotas of the app in wxproxy.yaml
     WeChat      800000/day   read at 2026-11-23 15:04:05

* message.mass.send
     shipped     100/day           the table in the program
     configured  100/day, 4/month  profile shop
     WeChat      200/day           read at 2026-11-23 15:04:05

* other  /cgi-bin/tags/get
     configured  no figure  profile production
     WeChat      1000/day   read at 2026-11-23 15:04:05
     --write does not change it: the rule covers many paths. Give this path a rule in limits.yaml.
`

func TestLimitsCommand(t *testing.T) {
	t.Parallel()
	s := newAdminStand(t, shopApps)
	s.answers["GET /api/v1/limits?app=shop"] = shopLimits()
	stdout, stderr, err := s.run(t, nil, "limits", "shop")
	if err != nil || stderr != "" {
		t.Errorf("limits: %v, stderr %q", err, stderr)
	}
	wantText(t, "limits", stdout, limitsTable)
	stdout, _, err = s.run(t, nil, "limits", "shop", "--json")
	var got admin.Limits
	if err = errors.Join(err, json.Unmarshal([]byte(stdout), &got)); err != nil || len(got.Rows) != 7 || !strings.Contains(stdout, `"write": "200/day, 4/month"`) {
		t.Errorf("limits --json: %v\n%s", err, stdout)
	}

	failed := shopLimits()
	failed.ReadingError = "quota/get of /cgi-bin/user/get: errcode 44993: want 0"
	s.answers["GET /api/v1/limits?app=shop&live=1"] = failed
	stdout, stderr, err = s.run(t, nil, "limits", "shop", "--live")
	if err != nil || stderr != "asking WeChat about shop, rule by rule: this may take a minute\n" {
		t.Errorf("limits --live: %v, stderr %q", err, stderr)
	}
	wantText(t, "limits --live", stdout, limitsTable+"\nWeChat's counts were not read completely:\n"+failed.ReadingError+"\n")

	s.answers["GET /api/v1/limits?app=shop"] = admin.Limits{App: "shop", AppID: appA, Profile: "production", Rows: []admin.LimitRow{{Rule: "token", Title: "获取access_token", Configured: "2000/day", ConfiguredFrom: "production"}}}
	stdout, _, err = s.run(t, nil, "limits", "shop", "--write", "--yes")
	if err != nil {
		t.Error(err)
	}
	wantText(t, "limits that nobody has asked for", stdout, `
shop  `+appA+`  profile production
   rule   shipped  configured  from        WeChat
   token           2000/day    production

WeChat's own figures are not known yet: --live asks for them.

Nothing to write: no figure of WeChat's is known that differs from the configured one.
`)
}

// auto is the file that limits --write writes.
func (s *adminStand) auto() string { return filepath.Join(filepath.Dir(s.config), config.AutoFile) }

func TestLimitsWrite(t *testing.T) {
	t.Parallel()
	s := newAdminStand(t, "apps: [{name: shop, appid: "+appA+", secret: "+canarySecret+", quotas: {user.info: 500000/day}}]\n")
	s.answers["GET /api/v1/limits?app=shop"] = shopLimits()
	before := readFile(t, s.config)
	const byHand = `
Change this in wxproxy.yaml by hand, under the app:

    quotas:
      user.info: 800000/day
`
	diff := byHand + "\n" + s.auto() + `: quotas of shop:
+ message.mass.send: [200/day, 4/month]
`
	for _, stdin := range []io.Reader{strings.NewReader("yes\n"), terminal(t, "no\n")} {
		stdout, _, err := s.run(t, stdin, "limits", "shop", "--write")
		wantError(t, err, "nothing was done")
		wantText(t, "the question", stdout, limitsTable+diff)
		if _, err := os.Stat(s.auto()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("not confirmed, and there is %s: %v", s.auto(), err)
		}
	}
	stdout, stderr, err := s.run(t, terminal(t, "yes\n"), "limits", "shop", "--write")
	if err != nil || stderr != "Write? yes/no: " {
		t.Errorf("limits --write: %v, stderr %q", err, stderr)
	}
	wantText(t, "limits --write", stdout, limitsTable+diff+s.auto()+" was written. The running gateway reloads it within seconds.\n")
	_, text, _ := strings.Cut(readFile(t, s.auto()), "quotas:\n")
	wantText(t, "the file", text, "    "+appA+":\n        message.mass.send:\n            - 200/day\n            - 4/month\n")
	if info, err := os.Stat(s.auto()); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the file: %v, %v, want mode 0644", info.Mode(), err)
	}
	if got := readFile(t, s.config); got != before {
		t.Errorf("wxproxy.yaml is now\n%s", got)
	}
	if names, err := filepath.Glob(filepath.Join(filepath.Dir(s.config), ".*")); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v %v", names, err)
	}

	stdout, _, err = s.run(t, nil, "limits", "shop", "--write", "--yes") // the gateway has not read it yet
	if err != nil {
		t.Error(err)
	}
	wantText(t, "a second time", stdout, limitsTable+byHand+"\nNothing to write into "+s.auto()+".\n")

	again := shopLimits()
	again.Rows[2].Write = "300/day, 4/month"
	s.answers["GET /api/v1/limits?app=shop"] = again
	stdout, _, err = s.run(t, nil, "limits", "shop", "--write", "--yes")
	if want := "- message.mass.send: [200/day, 4/month]\n+ message.mass.send: [300/day, 4/month]\n"; err != nil || !strings.Contains(stdout, want) {
		t.Errorf("another figure: %v\n%s\nwant %s", err, stdout, want)
	}
}

func TestLimitsWriteRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, apps, auto, want string }{
		{"another app", "apps: [{name: b, appid: " + appB + ", secret: " + canarySecret + "}]", "", "app shop is not in this configuration"},
		{"a rule that the file's profile lacks", "apps: [{name: shop, appid: " + appA + ", secret: " + canarySecret + ", profile: miniprogram}]", "", "no rule user.info in profile miniprogram"},
		{"a file that is not YAML", shopApps, "quotas: [", "limits.auto.yaml:1: not YAML"},
		{"a file with other keys", shopApps, "quota: {}", "limits.auto.yaml:1:1: quota: unknown key: did you mean quotas?"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newAdminStand(t, tt.apps)
			if tt.auto != "" {
				writeFile(t, s.auto(), tt.auto)
			}
			s.answers["GET /api/v1/limits?app=shop"] = shopLimits()
			_, _, err := s.run(t, nil, "limits", "shop", "--write", "--yes")
			wantError(t, err, tt.want)
			if got, _ := os.ReadFile(s.auto()); string(got) != tt.auto {
				t.Errorf("%s is now\n%s", s.auto(), got)
			}
		})
	}
}

func TestLimitsWriteOfAuto(t *testing.T) {
	t.Parallel()
	s := newAdminStand(t, "apps: [{name: shop, appid: "+appA+", secret: "+canarySecret+", quotas: auto}]")
	s.answers["GET /api/v1/limits?app=shop"] = shopLimits()
	stdout, _, err := s.run(t, nil, "limits", "shop", "--write", "--yes")
	wantError(t, err, "nothing to write: app shop has quotas: auto, which applies WeChat's figures automatically")
	wantText(t, "limits", stdout, limitsTable)
}

// Without a file the app is named in the environment; the figures are written all the same.
func TestLimitsWriteWithoutAFile(t *testing.T) {
	s := newAdminStand(t, "")
	s.answers["GET /api/v1/limits?app=shop"] = shopLimits()
	t.Chdir(t.TempDir())
	t.Setenv("WX_APPID", appA)
	t.Setenv("WX_SECRET", canarySecret)
	t.Setenv("WXPROXY_ADMIN_TOKEN", canaryAdmin)
	writeFile(t, "wxproxy.yaml", readFile(t, s.config))
	s.config = ""
	if _, _, err := s.run(t, nil, "limits", "shop", "--write", "--yes"); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, config.AutoFile); !strings.Contains(got, "user.info: 800000/day\n") {
		t.Errorf("%s is\n%s", config.AutoFile, got)
	}
}
