package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"wxproxy/internal/redistest"
	"wxproxy/sandbox"
)

// A clear that WeChat grants starts the day over on every gateway within a second; one that it does
// not grant changes nothing and costs nothing of the month's ten.
func TestClears(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{Quotas: map[string]int64{"/cgi-bin/menu/create": 5, "/cgi-bin/user/info": 4}})
	limits := table("5/day", "4/day") + `      - {name: clear_quota, title: 清零, paths: [/cgi-bin/clear_quota, /cgi-bin/clear_quota/v2], quota: 10/month}
      - {name: quota.clear, title: 单接口清零, paths: [/cgi-bin/openapi/quota/clear], quota: 50/month}
`
	config := write(t, wechat, redistest.Start(t).URL(), limits)
	gateways := []*process{start(t, config, wechat), start(t, config, wechat), start(t, config, wechat)}
	create := func() int64 {
		t.Helper()
		fire(t, gateways, 6, 18, "POST", "/"+appA+"/cgi-bin/menu/create", menu)
		return wechat.Executed(appA, "/cgi-bin/menu/create")
	}
	info := func() int64 {
		t.Helper()
		fire(t, gateways, 6, 18, "GET", "/"+appA+"/cgi-bin/user/info?openid="+canaryOpenID, "")
		return wechat.Executed(appA, "/cgi-bin/user/info")
	}
	clearAll := func(p *process, appid string) answer {
		t.Helper()
		return post(t, p.url+"/"+appA+"/cgi-bin/clear_quota", `{"appid":"`+appid+`"}`, nil)
	}
	// Calls that a gateway had in flight when it last heard of a counter, or took since, are carried
	// over a clear: they may have run after it. Once it was refused by the store there are none.
	atRest := func(wantCreate, wantInfo int64) {
		t.Helper()
		time.Sleep(1100 * time.Millisecond) // a full counter is asked for again after a second
		if a, b := create(), info(); a != wantCreate || b != wantInfo {
			t.Fatalf("executed %d and %d, want %d and %d", a, b, wantCreate, wantInfo)
		}
	}
	if a, b := create(), info(); a != 5 || b != 4 {
		t.Fatalf("executed %d and %d, want 5 and 4", a, b)
	}
	atRest(5, 4)
	if a := clearAll(gateways[0], appB); !strings.Contains(a.body, "40013") {
		t.Fatalf("a clear for another app: %v, want WeChat's 40013", a)
	}
	if a := create(); a != 5 {
		t.Errorf("after a clear that failed %d were executed, want still 5", a)
	}

	if a := clearAll(gateways[0], appA); !strings.Contains(a.body, `"errcode":0`) {
		t.Fatalf("clear: %v", a)
	}
	waitFor(t, "the day to start over on all gateways", func() bool { return create() == 10 && info() == 8 })
	atRest(10, 8)

	if a := post(t, gateways[1].url+"/"+appA+"/cgi-bin/openapi/quota/clear", `{"cgi_path":"/cgi-bin/user/info"}`, nil); !strings.Contains(a.body, `"errcode":0`) {
		t.Fatalf("clear of one path: %v", a)
	}
	waitFor(t, "that path to start over", func() bool { return info() == 12 })
	atRest(10, 12)

	// A clear whose answer is lost leaves the counts, and one of the month's is gone as far as we know.
	lost := wechat.Order(sandbox.Fault{Path: "/cgi-bin/clear_quota", ResetAfter: true})
	if a := clearAll(gateways[2], appA); a.status != 502 || lost.Fired() != 1 {
		t.Fatalf("a clear whose answer is lost: %v", a)
	}
	if a := create(); a != 10 {
		t.Errorf("after a clear whose answer is lost %d were executed, want still 10", a)
	}

	// Two of the ten are used; the eleventh is refused here.
	for i := range 8 {
		if a := clearAll(gateways[i%3], appA); !strings.Contains(a.body, `"errcode":0`) {
			t.Fatalf("clear %d of the month: %v", i+3, a)
		}
	}
	seen := wechat.Calls(appA, "/cgi-bin/clear_quota")
	for i, p := range gateways {
		if a := clearAll(p, appA); a.body != `{"errcode":48006,"errmsg":"forbid to clear quota because of reaching the limit"}` || a.decision != "refused-quota" {
			t.Errorf("gateway %d: the eleventh clear: %v, want 48006 here", i, a)
		}
	}
	if n := wechat.Calls(appA, "/cgi-bin/clear_quota"); n != seen {
		t.Errorf("WeChat saw %d more clears", n-seen)
	}
}

// When clears were made in the console, WeChat's own 48006 fills the tally.
func TestClearsInTheConsole(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	p := start(t, write(t, wechat, redistest.Start(t).URL(), ""), wechat)
	for range 10 {
		wechat.ClearQuota(appA)
	}
	for i, want := range []string{"pass", "refused-quota"} {
		var a answer
		waitFor(t, fmt.Sprintf("answer %d", i), func() bool {
			a = post(t, p.url+"/"+appA+"/cgi-bin/clear_quota", `{"appid":"`+appA+`"}`, nil)
			return a.decision == want
		})
		if !strings.Contains(a.body, "48006") {
			t.Errorf("clear %d: %v, want 48006", i, a)
		}
	}
	if n := wechat.Calls(appA, "/cgi-bin/clear_quota"); n > 2 {
		t.Errorf("WeChat saw %d clears, want one, or two before the tally was filled", n)
	}
}

// WeChat says 45009 at half of our figure: at most the calls in flight are sent after it, by any of
// the gateways, and its neighbours stay open.
func TestWeChatItselfRefuses(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{Keep: -1, Quotas: map[string]int64{"/cgi-bin/menu/create": 50, "/cgi-bin/tags/get": 5}})
	config := write(t, wechat, redistest.Start(t).URL(), table("100/day", "7/day"))
	gateways := []*process{start(t, config, wechat), start(t, config, wechat), start(t, config, wechat)}
	const callers = 12
	for _, path := range []string{"/cgi-bin/menu/create", "/cgi-bin/tags/get"} {
		got := fire(t, gateways, callers, 300, "POST", "/"+appA+path, menu)
		if path == "/cgi-bin/tags/get" {
			got = fire(t, gateways, callers, 300, "GET", "/"+appA+path, "")
		}
		time.Sleep(1100 * time.Millisecond) // each gateway asks the store once a second
		before := wechat.Calls(appA, path)
		fire(t, gateways, callers, 60, "GET", "/"+appA+path, "")
		if n := wechat.Calls(appA, path) - before; n != 0 {
			t.Errorf("%s: WeChat saw %d calls a second after its 45009", path, n)
		}
		refused := 0
		for a, n := range got {
			if a.decision == "refused-latched" && a.body == refusal {
				refused += n
			}
		}
		if refused == 0 {
			t.Errorf("%s: nothing was refused-latched: %v", path, got)
		}
	}
	if n := wechat.Executed(appA, "/cgi-bin/menu/create"); n != 50 {
		t.Errorf("WeChat executed %d, want its 50", n)
	}
	if n := wechat.Calls(appA, "/cgi-bin/menu/create") - 50; n > 100 {
		t.Errorf("%d calls were sent after WeChat's 45009", n)
	}
	if a := do(t, "GET", gateways[0].url+"/"+appA+"/cgi-bin/get_api_domain_ip", nil); a.decision != "pass" {
		t.Errorf("another path of the same rule: %v, want pass", a)
	}
}

// Clears come while 64 callers run on three gateways and WeChat takes its time. Between two clears it
// executes no more than the quota, because the calls that were on their way are carried over: some of
// them run after the clear. What that costs is shown: calls that are counted and were not executed.
func TestClearsUnderLoad(t *testing.T) {
	t.Parallel()
	const quota, callers, clears = 600, 64, 4
	wechat := newWechat(t, sandbox.Options{Keep: -1, Quotas: map[string]int64{"/cgi-bin/menu/create": quota}})
	slow := wechat.Order(sandbox.Fault{Path: "/cgi-bin/menu/create", Times: -1, Delay: 10 * time.Millisecond, DelayAnswer: 10 * time.Millisecond})
	limits := table(fmt.Sprint(quota, "/day"), "7/day") + "      - {name: clear_quota, title: 清零, paths: [/cgi-bin/clear_quota], quota: 10/month}\n"
	config := write(t, wechat, redistest.Start(t).URL(), limits)
	gateways := []*process{start(t, config, wechat), start(t, config, wechat), start(t, config, wechat)}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				a := post(t, gateways[i%3].url+"/"+appA+"/cgi-bin/menu/create", menu, nil)
				if a.decision == "refused-quota" || a.decision == "refused-store" { // the machine may be busy with other tests
					time.Sleep(5 * time.Millisecond)
				} else if a.body != `{"errcode":0,"errmsg":"ok"}` {
					t.Errorf("a call is answered %v", a)
				}
			}
		})
	}
	used := func() int64 { return wechat.Used(appA, "/cgi-bin/menu/create") }
	var spent []int64
	for i := range clears {
		waitFor(t, "half of the quota to be spent", func() bool { return used() >= quota/2 })
		spent = append(spent, used())
		if a := post(t, gateways[i%3].url+"/"+appA+"/cgi-bin/clear_quota", `{"appid":"`+appA+`"}`, nil); !strings.Contains(a.body, `"errcode":0`) {
			t.Fatalf("clear %d: %v", i, a)
		}
	}
	waitFor(t, "the quota to be used up", func() bool {
		time.Sleep(1200 * time.Millisecond)
		before := used()
		time.Sleep(300 * time.Millisecond)
		return used() == before
	})
	close(stop)
	wg.Wait()
	slow.Cancel()
	if sent, executed := wechat.Calls(appA, "/cgi-bin/menu/create"), wechat.Executed(appA, "/cgi-bin/menu/create"); sent != executed {
		t.Errorf("WeChat refused %d of %d calls: they were over its quota", sent-executed, sent)
	}
	carried := quota - used()
	t.Logf("at the clears WeChat counted %v of %d; after the last one it executed %d, and %d calls were carried over", spent, quota, used(), carried)
	if carried < 0 || carried > callers {
		t.Errorf("%d calls were carried over the last clear, want 0 to the %d callers", carried, callers)
	}
}
