package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wxproxy/admin"
	"wxproxy/internal/redistest"
	"wxproxy/sandbox"
)

const (
	createPath = "/cgi-bin/menu/create"
	askPath    = "/cgi-bin/openapi/quota/get"
)

// noon is a zone in which it is noon, more or less: WeChat's own count says nothing in the first ten
// minutes of a day.
func noon() (string, *time.Location) {
	offset := 12 - time.Now().UTC().Hour()
	return fmt.Sprintf("Etc/GMT%+d", -offset), time.FixedZone("noon", offset*3600) // POSIX counts westward
}

// noonTable is table where it is noon, with the rule that asks for WeChat's own count.
func noonTable(create, info string) string {
	name, _ := noon()
	return strings.Replace(table(create, info), "Asia/Shanghai", name, 1) +
		"      - {name: quota.get, title: 查询额度, paths: [" + askPath + "], quota: unknown}\n" +
		"      - {name: clear_quota, title: 清零, paths: [/cgi-bin/clear_quota, /cgi-bin/clear_quota/v2], quota: 10/month}\n" +
		"      - {name: quota.clear, title: 单接口清零, paths: [/cgi-bin/openapi/quota/clear], quota: 50/month}\n"
}

func noonWechat(t *testing.T, quotas map[string]int64) *sandbox.Server {
	t.Helper()
	_, zone := noon()
	return newWechat(t, sandbox.Options{Quotas: quotas, Zone: zone})
}

// row returns the line of a rule of app a, as an operator sees it.
func row(t *testing.T, p *process, counter string, live bool) admin.Row {
	t.Helper()
	var usage admin.Usage
	path := "/api/v1/usage?app=a"
	if live {
		path += "&live=1"
	}
	if status := p.askAdmin(t, "GET", path, &usage); status != 200 || len(usage.Apps) != 1 {
		t.Fatalf("usage: %d, %d apps", status, len(usage.Apps))
	}
	for _, r := range usage.Apps[0].Rows {
		if r.Rule == counter && r.Path == "" && r.Caller == "" && r.Period == "day" {
			return r
		}
	}
	t.Fatalf("no row of %s in %+v", counter, usage.Apps[0].Rows)
	return admin.Row{}
}

// Placed at noon with 80 of 100 used, the gateways send 20 more, and show what was there before.
func TestPlacedAtNoon(t *testing.T) {
	t.Parallel()
	for _, d := range deployments(t) {
		t.Run(d.name, func(t *testing.T) {
			wechat := noonWechat(t, map[string]int64{createPath: 100})
			wechat.AddUsed(appA, createPath, 80)
			config := write(t, wechat, d.store, noonTable("100/day", "7/day"))
			var gateways []*process
			for range d.gateways {
				gateways = append(gateways, start(t, config, wechat))
			}
			fire(t, gateways, 64, 300, "POST", "/"+appA+createPath, menu)
			if executed, calls := wechat.Executed(appA, createPath), wechat.Calls(appA, createPath); executed != 20 || calls != 20 {
				t.Errorf("WeChat executed %d of %d calls, want 20 of 20", executed, calls)
			}
			r := row(t, gateways[0], "menu.create", false)
			if r.Used != 100 || r.Drift == nil || *r.Drift > 80 {
				t.Fatalf("usage = %+v, want 100 used, and a drift of 80", r)
			}
			if *r.Drift < 80 { // a gateway asked while calls ran, and those are no drift
				r = row(t, gateways[0], "menu.create", true)
			}
			if r.Used != 100 || r.Drift == nil || *r.Drift != 80 {
				t.Errorf("usage = %+v, want 100 used, and a drift of 80 with no call under way", r)
			}
		})
	}
}

// 300 calls around the gateway show as 300, in every reading, and are counted as spent.
func TestDriftIsShown(t *testing.T) {
	t.Parallel()
	wechat := noonWechat(t, map[string]int64{createPath: 1000})
	config := write(t, wechat, redistest.Start(t).URL(), noonTable("1000/day", "7/day"))
	gateways := []*process{start(t, config, wechat), start(t, config, wechat)}
	fire(t, gateways, 8, 50, "POST", "/"+appA+createPath, menu)
	wechat.AddUsed(appA, createPath, 300)
	for i, p := range []*process{gateways[0], gateways[1], gateways[0]} {
		r := row(t, p, "menu.create", true)
		if want := int64(350 + 10*i); r.Used != want || r.Drift == nil || *r.Drift != 300 || r.WechatUsed == nil || *r.WechatUsed != want {
			t.Errorf("reading %d: %+v, want %d used by both counts and a drift of 300", i, r, want)
		}
		if r.WechatLimit != 1000 {
			t.Errorf("reading %d: WeChat's figure is %d, want 1000", i, r.WechatLimit)
		}
		metrics := do(t, "GET", p.admin+"/metrics", nil).body
		if want := `wxproxy_quota_drift{app="a",rule="menu.create"} 300`; !strings.Contains(metrics, want) {
			t.Errorf("reading %d: the metrics lack %s", i, want)
		}
		fire(t, gateways, 5, 10, "POST", "/"+appA+createPath, menu)
	}
	if got := fire(t, gateways, 8, 1000, "POST", "/"+appA+createPath, menu); wechat.Used(appA, createPath) != 1000 || wechat.Calls(appA, createPath) != 700 {
		t.Errorf("WeChat saw %d calls and counts %d, want 700 and 1000: %v", wechat.Calls(appA, createPath), wechat.Used(appA, createPath), got)
	}
}

// What is no answer of quota/get changes nothing, and is told once.
func TestBadReadings(t *testing.T) {
	t.Parallel()
	wechat := noonWechat(t, map[string]int64{createPath: 100})
	p := start(t, write(t, wechat, redistest.Start(t).URL(), noonTable("100/day", "7/day")), wechat)
	fire(t, []*process{p}, 4, 20, "POST", "/"+appA+createPath, menu)
	const failed = "WeChat's own count could not be read"
	for _, fault := range []sandbox.Fault{
		{ErrCode: 44993},
		{ErrCode: 76021},
		{Status: 502},
		{Body: "<html>" + canaryBody + "</html>", ContentType: "text/html"},
		{Body: " "},
		{Body: `{"errcode":0,"errmsg":"ok","quota":{"daily_limit":100,"used":-5,"remain":105}}`},
		{Body: `{"errcode":0,"errmsg":"ok","quota":{"daily_limit":100,"used":99999999999999999999,"remain":0}}`},
	} {
		before := strings.Count(p.stderr.String(), failed)
		fault.Path, fault.Times = askPath, -1
		order := wechat.Order(fault)
		for range 2 {
			if r := row(t, p, "menu.create", true); r.Used != 20 {
				t.Errorf("%+v: used %d, want still 20", fault, r.Used)
			}
		}
		order.Cancel()
		if order.Fired() == 0 {
			t.Errorf("%+v: WeChat was not asked", fault)
		}
		if n := strings.Count(p.stderr.String(), failed) - before; n != 1 {
			t.Errorf("%+v: told %d times, want once", fault, n)
		}
		if r := row(t, p, "menu.create", true); r.Drift == nil || *r.Drift != 0 {
			t.Errorf("after %+v: %+v, want a reading", fault, r)
		}
	}
}

// A clear whose answer is lost leaves the counts, and WeChat's own counts tell that it was carried out.
func TestLostClear(t *testing.T) {
	t.Parallel()
	wechat := noonWechat(t, map[string]int64{createPath: 5})
	config := write(t, wechat, redistest.Start(t).URL(), noonTable("5/day", "7/day"))
	gateways := []*process{start(t, config, wechat), start(t, config, wechat)}
	create := func() int64 {
		fire(t, gateways, 6, 12, "POST", "/"+appA+createPath, menu)
		return wechat.Executed(appA, createPath)
	}
	if n := create(); n != 5 {
		t.Fatalf("executed %d, want 5", n)
	}
	lost := wechat.Order(sandbox.Fault{Path: "/cgi-bin/clear_quota", ResetAfter: true})
	if a := post(t, gateways[0].url+"/"+appA+"/cgi-bin/clear_quota", `{"appid":"`+appA+`"}`, nil); a.status != 502 || lost.Fired() != 1 {
		t.Fatalf("a clear whose answer is lost: %v", a)
	}
	if n := create(); n != 5 {
		t.Errorf("just after the lost clear: executed %d, want still 5", n)
	}
	waitFor(t, "WeChat's counts to tell", func() bool { return create() == 10 })
	time.Sleep(1100 * time.Millisecond)
	if n := create(); n != 10 {
		t.Errorf("executed %d, want 10: WeChat's count must not be taken for another clear", n)
	}
	if n := strings.Count(gateways[0].stderr.String(), "a clear whose answer was lost was granted"); n == 0 {
		t.Error("the log does not say that the clear was granted")
	}
}

// quotas: auto goes by WeChat's own figure, on every gateway and after a restart.
func TestQuotasAuto(t *testing.T) {
	t.Parallel()
	wechat := noonWechat(t, map[string]int64{createPath: 7})
	config := write(t, wechat, redistest.Start(t).URL(), noonTable("100/day", "50/day"))
	text := readFile(t, config)
	writeFile(t, config, strings.Replace(text, `secret: "${CANARY_SECRET}"}`, `secret: "${CANARY_SECRET}", quotas: auto}`, 1))
	gateways := []*process{start(t, config, wechat), start(t, config, wechat)}
	fire(t, gateways[:1], 1, 1, "POST", "/"+appA+createPath, menu)
	waitFor(t, "WeChat's figure to hold", func() bool { return row(t, gateways[0], "menu.create", false).Limit == 7 })
	if n := strings.Count(gateways[0].stderr.String(), "WeChat's own figure adopted"); n != 1 {
		t.Errorf("the log tells of it %d times, want once", n)
	}
	fire(t, gateways[:1], 8, 40, "POST", "/"+appA+createPath, menu)
	if executed, calls := wechat.Executed(appA, createPath), wechat.Calls(appA, createPath); executed != 7 || calls != 7 {
		t.Errorf("WeChat executed %d of %d calls, want 7 of 7", executed, calls)
	}
	if n := row(t, gateways[0], "user.info", false).Limit; n != 50 {
		t.Errorf("a rule that WeChat names no figure for has %d, want the table's 50", n)
	}
	again := start(t, config, wechat)
	if n := row(t, again, "menu.create", false).Limit; n != 7 {
		t.Errorf("after a restart the figure is %d, want 7", n)
	}
}

// The commands of an operator, against a gateway that runs.
func TestOperatorsCommands(t *testing.T) {
	t.Parallel()
	wechat := noonWechat(t, map[string]int64{createPath: 300})
	config := write(t, wechat, redistest.Start(t).URL(), noonTable("100/day", "7/day"))
	text := readFile(t, config)
	p := start(t, config, wechat)
	address := strings.TrimPrefix(p.admin, "http://")
	writeFile(t, config, strings.Replace(text, `admin: {listen: "127.0.0.1:0"`, `admin: {listen: "`+address+`"`, 1))
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), built(t), append(args, "--config", config)...)
		cmd.Env = append(cmd.Environ(), "CANARY_ADMIN="+canaryAdmin, "CANARY_SECRET="+canarySecret)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	want := func(text string, args ...string) {
		t.Helper()
		out, err := run(args...)
		if err != nil || !strings.Contains(out, text) {
			t.Errorf("wxproxy %s: %v\n%s\nwant %q in it", strings.Join(args, " "), err, out, text)
		}
	}
	fire(t, []*process{p}, 8, 150, "POST", "/"+appA+createPath, menu)
	if executed := wechat.Executed(appA, createPath); executed != 100 {
		t.Fatalf("executed %d, want 100", executed)
	}
	if out, err := run("clear", "a"); err == nil || wechat.Calls(appA, "/cgi-bin/clear_quota") != 0 {
		t.Errorf("clear without --yes and without a terminal: %v\n%s\nwant a refusal", err, out)
	}
	want("9", "clear", "a", "--yes")
	if n := wechat.Calls(appA, "/cgi-bin/clear_quota"); n != 1 || wechat.Used(appA, createPath) != 0 {
		t.Errorf("WeChat saw %d clears, and counts %d", n, wechat.Used(appA, createPath))
	}
	waitFor(t, "the day to start over", func() bool {
		fire(t, []*process{p}, 8, 20, "POST", "/"+appA+createPath, menu)
		return wechat.Executed(appA, createPath) > 100
	})
	want("49", "clear", "a", "menu.create", "--yes")
	if n := wechat.Calls(appA, "/cgi-bin/openapi/quota/clear"); n != 1 {
		t.Errorf("WeChat saw %d clears of a path, want 1", n)
	}
	want("300", "limits", "a", "--live")
	want("menu.create", "usage", "a", "--live")
	want("menu.create: 300/day", "limits", "a", "--write", "--yes")
	if got := readFile(t, filepath.Join(filepath.Dir(config), "limits.auto.yaml")); !strings.Contains(got, "menu.create: 300/day") {
		t.Errorf("limits.auto.yaml has no override:\n%s", got)
	}
	waitFor(t, "the override to hold", func() bool { return row(t, p, "menu.create", false).Limit == 300 })

	if out, err := run("forget", "a", "--yes"); err == nil || !strings.Contains(out, "wxproxy.yaml") {
		t.Errorf("forget of an app that is configured: %v\n%s", err, out)
	}
	var lines []string
	for line := range strings.Lines(readFile(t, config)) {
		if !strings.Contains(line, appA) {
			lines = append(lines, line)
		}
	}
	writeFile(t, config, strings.Join(lines, ""))
	if status := p.askAdmin(t, "POST", "/-/reload", nil); status != 200 {
		t.Fatalf("reload: %d", status)
	}
	want(appA, "forget", appA, "--yes")
}
