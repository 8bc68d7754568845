package admin

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"wxproxy/limits"
)

func TestLimits(t *testing.T) {
	o := newOperated(t)
	o.shipped = ruleset(
		t,
		&limits.Rule{Name: "menu.create", Source: "seed", Paths: []string{"/cgi-bin/menu/create"}, Budget: limited("1000/day")},
		&limits.Rule{Name: "mass", Paths: []string{"/cgi-bin/message/mass/send"}, Budget: limited("100/day", "4/month")},
		&limits.Rule{Name: "clear_quota", Paths: []string{"/cgi-bin/clear_quota"}, Budget: limited("10/month")},
		&limits.Rule{Name: "oauth", Paths: []string{"/sns/userinfo"}, Budget: limited("unlimited")},
		&limits.Rule{Name: "card", Paths: []string{"/card/create"}, Budget: limited("unknown")},
		&limits.Rule{Name: "other", Paths: []string{"/cgi-bin/*"}},
		&limits.Rule{Name: "gone", Paths: []string{"/cgi-bin/gone"}},
	)
	o.table = ruleset( // the app has a menu.create of its own
		t,
		&limits.Rule{Name: "menu.create", Source: "seed", Paths: []string{"/cgi-bin/menu/create"}, Budget: limited("1000/day")},
	)
	at := time.Date(2026, 11, 23, 7, 4, 5, 0, time.UTC)
	o.readings = map[string]Reading{
		"menu.create":      {At: at, Limit: 200, Used: 3},
		"mass":             {At: at, Limit: 300},
		"clear_quota":      {At: at, Limit: 100}, // WeChat says so, and ten a month are what holds
		"quota.clear":      {At: at},
		"oauth":            {At: at, Limit: 5000},
		"card":             {At: at, Limit: 10},
		"other:/cgi-bin/b": {At: at, Limit: 7},
		"other:/cgi-bin/a": {At: at, Limit: 8},
		"other:/cgi-bin/c": {At: at},
	}
	o.unread = errors.New("no answer")
	var got Limits
	if status := o.ask(t, "GET", "/api/v1/limits?app=shop&live=1", &got); status != 200 {
		t.Fatalf("limits = %d", status)
	}
	want := Limits{App: "shop", AppID: "wx0000000000000001", Profile: "p", ReadingError: "no answer", Rows: []LimitRow{
		{Rule: "menu.create", Title: "自定义菜单创建", Shipped: "1000/day", ShippedSource: "seed", Configured: "100/day", Own: true, WechatLimit: 200, ReadAt: at, Differs: true, Write: "200/day"},
		{Rule: "mass", Title: "群发", Shipped: "100/day, 4/month", Configured: "100/day, 4/month", ConfiguredSource: "own table", WechatLimit: 300, ReadAt: at, Differs: true, Write: "300/day, 4/month"},
		{Rule: "clear_quota", Title: "清零", Shipped: "10/month", Configured: "10/month", WechatLimit: 100, ReadAt: at},
		{Rule: "quota.clear", Title: "单接口清零", Configured: "50/month", ReadAt: at},
		{Rule: "oauth", Title: "网页授权", Shipped: "unlimited", Configured: "unlimited", WechatLimit: 5000, ReadAt: at, Differs: true, Write: "5000/day"},
		{Rule: "card", Title: "卡包", Shipped: "unknown", Configured: "denied", WechatLimit: 10, ReadAt: at, Differs: true},
		{Rule: "other", Title: "其他", Shipped: "unknown", Configured: "unknown"},
		{Rule: "other", Title: "其他", Path: "/cgi-bin/a", Configured: "unknown", WechatLimit: 8, ReadAt: at, Differs: true},
		{Rule: "other", Title: "其他", Path: "/cgi-bin/b", Configured: "unknown", WechatLimit: 7, ReadAt: at, Differs: true},
	}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Limits{}, "Time")); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
}

// A profile of the user's own is not shipped.
func TestLimitsOfAnOwnProfile(t *testing.T) {
	o := newOperated(t)
	var got Limits
	if status := o.ask(t, "GET", "/api/v1/limits?app=wx0000000000000002", &got); status != 200 || len(got.Rows) != 7 {
		t.Fatalf("limits = %d %+v", status, got)
	}
	for _, row := range got.Rows {
		if row.Differs || row.Shipped != "" || row.Own || row.WechatLimit != 0 || !row.ReadAt.IsZero() {
			t.Errorf("row %+v, want the configured figure alone", row)
		}
	}
	if len(o.asked) > 0 {
		t.Errorf("WeChat was asked about %v", o.asked)
	}
}
