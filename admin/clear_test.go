package admin

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wxproxy/limits"
)

func TestClearPlan(t *testing.T) {
	o := newOperated(t)
	clears := &Row{Title: "清零", Rule: "clear_quota", Period: "month", Quota: "10/month", Limit: 10, Used: 3, Remaining: 7, Reset: midnight, State: "open"}
	singles := &Row{Title: "单接口清零", Rule: "quota.clear", Period: "month", Quota: "50/month", Limit: 50, Used: 1, Remaining: 49, Reset: midnight, State: "open"}
	create := Row{Title: "自定义菜单创建", Rule: "menu.create", Period: "day", Quota: "100/day", Limit: 100, Used: 100, Reset: midnight, State: "full", Start: "unknown"}
	mass := Row{Title: "群发", Rule: "mass", Period: "day", Quota: "100/day, 4/month", Limit: 100, Used: 3, Remaining: 97, Reset: midnight, State: "open"}
	path := Row{Title: "其他", Rule: "other", Path: "/cgi-bin/a", Period: "day", Quota: "unknown", Used: 2, Reset: midnight, State: "open"}
	for _, want := range []ClearPlan{
		{Cost: 1, Clears: clears, Rows: []Row{create, mass, path}},
		{Rule: "mass", Paths: []string{"/cgi-bin/message/mass/send", "/cgi-bin/message/mass/sendall"}, Cost: 2, Clears: singles, Rows: []Row{mass}},
		{Rule: "oauth", Paths: []string{"/sns/userinfo"}, Cost: 1, Clears: singles, Rows: []Row{}},
	} {
		want.App, want.AppID, want.Profile = "shop", "wx0000000000000001", "p"
		var got ClearPlan
		status := o.ask(t, "GET", "/api/v1/clear?app=shop&rule="+want.Rule, &got)
		if diff := cmp.Diff(want, got); status != 200 || diff != "" {
			t.Errorf("plan of %q = %d (-want +got):\n%s", want.Rule, status, diff)
		}
	}
	if len(o.cleared) > 0 {
		t.Errorf("a plan has cleared %v", o.cleared)
	}
}

func TestClearRefuses(t *testing.T) {
	o := newOperated(t)
	rules := []string{"menu.create", "mass", "clear_quota", "quota.clear", "oauth", "card", "other"}
	for _, tt := range []struct {
		query  string
		status int
		want   problem
	}{
		{"", 400, problem{Error: "no app: want ?app= with the name or appid of one"}},
		{"app=wx0000000000000003", 422, problem{Error: "app wx0000000000000003: learned and not configured, so the gateway has no access_token of its own to clear with"}},
		{"app=gone", 404, problem{Error: "app wx0000000000000009: not configured", Seen: "wx0000000000000009", Known: []string{"shop", "wx0000000000000001", "wx0000000000000002", "wx0000000000000003", "gone", "wx0000000000000009"}}},
		{"app=shop&rule=menu.creat", 404, problem{Error: "rule menu.creat: not in profile p", Seen: "menu.creat", Known: rules}},
		{"app=shop&rule=other", 422, problem{Error: "rule other: WeChat clears a path, and this rule names none but whole /*"}},
		{"app=shop&rule=clear_quota", 422, problem{Error: "rule clear_quota: counted by the month, and a clear starts only days over"}},
	} {
		for _, method := range []string{"GET", "POST"} {
			var got problem
			status := o.ask(t, method, "/api/v1/clear?"+tt.query, &got)
			if diff := cmp.Diff(tt.want, got); status != tt.status || diff != "" {
				t.Errorf("%s %s = %d, want %d (-want +got):\n%s", method, tt.query, status, tt.status, diff)
			}
		}
	}
	o.down = errors.New("redis: connection refused at 10.0.0.7")
	var got problem
	if status := o.ask(t, "POST", "/api/v1/clear?app=shop", &got); status != 503 || got.Error != "the store does not answer" {
		t.Errorf("clear without a store = %d %q", status, got.Error)
	}
	o.down, o.rules = nil, ruleset(t, &limits.Rule{Name: "menu", Paths: []string{"/cgi-bin/menu/create"}})
	if status := o.ask(t, "POST", "/api/v1/clear?app=shop", &got); status != 422 || got.Error != "profile p: no rule counts /cgi-bin/clear_quota: want one with the month's quota" {
		t.Errorf("clear without a rule for it = %d %q", status, got.Error)
	}
	if len(o.cleared) > 0 {
		t.Errorf("cleared %v", o.cleared)
	}
}

func TestClear(t *testing.T) {
	o := newOperated(t)
	o.clears = ClearResult{Calls: []ClearCall{{Sent: true}}}
	var got ClearAnswer
	status := o.ask(t, "POST", "/api/v1/clear?app=shop", &got)
	want := ClearAnswer{
		App: "shop", AppID: "wx0000000000000001", Done: true, Calls: []ClearStep{{Done: true, Statement: "done: errcode 0, WeChat counts from 0 again"}},
		Clears: &Row{Title: "清零", Rule: "clear_quota", Period: "month", Quota: "10/month", Limit: 10, Used: 3, Remaining: 7, Reset: midnight, State: "open"},
	}
	if diff := cmp.Diff(want, got); status != 200 || diff != "" {
		t.Errorf("clear = %d (-want +got):\n%s", status, diff)
	}

	o.clears = ClearResult{Calls: []ClearCall{{Path: "/cgi-bin/message/mass/send", Sent: true}}} // the second was never sent
	if status := o.ask(t, "POST", "/api/v1/clear?app=shop&rule=mass", &got); status != 200 || got.Done || got.Rule != "mass" || got.Clears.Rule != "quota.clear" {
		t.Errorf("half a clear = %d %+v, want it not done", status, got)
	}
	if diff := cmp.Diff([]string{"wx0000000000000001 ", "wx0000000000000001 mass"}, o.cleared); diff != "" {
		t.Errorf("cleared (-want +got):\n%s", diff)
	}

	o.unsent = errors.New("stopping")
	var p problem
	if status := o.ask(t, "POST", "/api/v1/clear?app=shop", &p); status != 503 || p.Error != "the clear was not sent: stopping" {
		t.Errorf("a clear that was not sent = %d %q", status, p.Error)
	}
}

func TestClearInWords(t *testing.T) {
	for _, tt := range []struct {
		call ClearCall
		want string
	}{
		{ClearCall{Sent: true}, "done: errcode 0, WeChat counts from 0 again"},
		{ClearCall{Sent: true, ErrCode: 48006}, "errcode 48006: forbid to clear quota because of reaching the limit: WeChat grants no more clears this month; nothing was cleared, and it cost nothing"},
		{ClearCall{ErrCode: 48006}, "errcode 48006: by our own count no clear is left this month, so WeChat was not asked; nothing was cleared, and it cost nothing"},
		{ClearCall{Sent: true, ErrCode: 76022}, "errcode 76022: WeChat cannot clear this path; nothing was cleared, and it cost nothing"},
		{ClearCall{Sent: true, ErrCode: 12345}, "errcode 12345: WeChat has refused; nothing was cleared, and it cost nothing"},
		{ClearCall{Sent: true, ErrCode: -1}, "errcode -1: WeChat is busy; nothing was cleared, and it cost nothing"},
		{ClearCall{ErrCode: -1}, "the gateway could not send it: no access_token, no store, or no way to WeChat; nothing was cleared, and it cost nothing"},
		{ClearCall{}, "the gateway could not send it: no access_token, no store, or no way to WeChat; nothing was cleared, and it cost nothing"},
		{ClearCall{Sent: true, NoAnswer: true}, "no answer came: WeChat may have cleared, or not. The counters stay as they are and one clear counts as gone; usage --live shows what WeChat counts now"},
	} {
		if got := tt.call.step(); got.Statement != tt.want || got.Done != strings.HasPrefix(tt.want, "done") {
			t.Errorf("%+v is %+v, want %q", tt.call, got, tt.want)
		}
	}
}
