package faults

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"wxproxy/sandbox"
)

// F14: WeChat says 45009 although we think that there is budget. The calls that are on their way are
// answered by WeChat, and then no gateway sends any more. What was sent stays counted.
func TestF14(t *testing.T) {
	const theirs, callers = 50, 24
	f := newFleet(t, setup{
		rules:  []rule{{"send", sendPath, "900/day", ""}, {"text", textPath, "100000/day", ""}},
		wechat: sandbox.Options{Quotas: map[string]int64{sendPath: theirs, textPath: 10 * theirs}},
	})
	for path, quota := range map[string]int64{sendPath: theirs, textPath: 10 * theirs} {
		got := f.fire(t.Context(), load{call: call{path: path}, callers: callers, calls: 2000})
		executed, sent := f.executed(0, path), f.wechat.Calls(appid(0), path)
		t.Logf("%s: executed %d, and %d sent in vain; callers heard %v", path, executed, sent-executed, got)
		// One more of each caller whose gateway has not heard of it from the others.
		if executed != quota || sent-executed > 2*callers {
			t.Errorf("%s: WeChat executed %d of %d calls, want %d, and at most %d in vain", path, executed, sent, quota, 2*callers)
		}
		if int64(got.of[passed]) != executed || got.of[latched] == 0 {
			t.Errorf("%s: callers heard %v, want %d passed and then %s", path, got, executed, latched)
		}
		time.Sleep(1200 * time.Millisecond)
		if more := f.fire(t.Context(), load{call: call{path: path}, callers: callers, calls: 500}); more.of[latched] != 500 {
			t.Errorf("%s: a second later callers heard %v, want only %s", path, more, latched)
		}
		if counted := f.counted(t, 0, map[string]string{sendPath: "send", textPath: "text"}[path], "d"); counted != sent {
			t.Errorf("%s: counted %d, sent %d", path, counted, sent)
		}
	}
}

// F18: 500 callers find their token expired, on three gateways at once. One token is fetched, and
// each call is sent once more at most.
func TestF18(t *testing.T) {
	const callers = 500
	f := newFleet(t, setup{rules: []rule{{"send", sendPath, "100000/day", ""}}})
	for _, p := range f.gateways { // each holds the token
		if said := f.hear(t.Context(), p, call{path: sendPath}); said != passed {
			t.Fatalf("the first call is answered %s", said)
		}
	}
	fetches, calls, executed := f.wechat.TokenFetches(appid(0)), f.wechat.Calls(appid(0), sendPath), f.executed(0, sendPath)
	if fetches != 1 {
		t.Errorf("three gateways fetched %d tokens at first, want 1", fetches)
	}
	f.wechat.Advance(2*time.Hour + time.Minute) // 42001 from now on; the gateways' clocks do not know
	got := f.fire(t.Context(), load{call: call{path: sendPath}, callers: callers, calls: callers})
	fetches, calls, executed = f.wechat.TokenFetches(appid(0))-fetches, f.wechat.Calls(appid(0), sendPath)-calls, f.executed(0, sendPath)-executed
	t.Logf("%d calls of %d callers, %d sent again, %d tokens fetched; callers heard %v", executed, callers, calls-executed, fetches, got)
	if fetches != 1 {
		t.Errorf("%d callers with an expired token caused %d fetches, want 1", callers, fetches)
	}
	if got.of[passed] != callers || executed != callers || calls > 2*callers {
		t.Errorf("callers heard %v; WeChat saw %d calls and executed %d, want %d, each sent once more at most", got, calls, executed, callers)
	}
	if calls == executed {
		t.Error("no call met the expired token: the test has tested nothing")
	}
	time.Sleep(idle)
	if counted, sent := f.counted(t, 0, "send", "d"), f.wechat.Calls(appid(0), sendPath); counted != sent {
		t.Errorf("counted %d, sent %d: a call that is sent twice is counted twice", counted, sent)
	}
}

// F23: a day's quota, a month's and two callers' shares in one call, while replies are lost and
// commands doubled: a call is counted in all of them or in none.
func TestF23(t *testing.T) {
	t.Parallel()
	const crmKey, webKey = "crm-key-of-the-fault-bench", "web-key-of-the-fault-bench"
	tests := []struct {
		name, quota string
		calls       int64
		every       int // so many commands, one reply is lost
	}{
		{"the day is tighter", "[90/day, 150/month]", 90, 10},
		{"the month is tighter", "[150/day, 90/month]", 90, 10},
		{"counted ahead", "[4000/day, 2400/month]", 2400, 40},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f, relay := relayedFleet(t, setup{
				rules: []rule{{"send", sendPath, test.quota, fmt.Sprintf("shares: {crm: %d/day}, on_store_error: refuse", test.calls/3)}},
				more:  fmt.Sprintf("callers:\n  - {name: crm, key: %s, apps: [a0]}\n  - {name: web, key: %s, apps: [a0]}\n", crmKey, webKey),
			})
			faults := []*Ordered{
				order(t, relay, Fault{Match: counting(t), Do: LoseReply, Every: test.every, Times: -1}),
				order(t, relay, Fault{Match: counting(t), Do: Double, After: 4, Every: 7, Times: -1, Wait: 10 * time.Millisecond}),
			}
			var wg sync.WaitGroup
			var crm, web heard
			fire := func(into *heard, key string, calls int) {
				wg.Go(func() {
					header := http.Header{"X-Wxproxy-App": {"a0"}, "X-Wxproxy-Key": {key}}
					*into = f.fire(t.Context(), load{call: call{path: sendPath, header: header}, callers: 12, calls: calls, pause: time.Millisecond})
				})
			}
			fire(&crm, crmKey, 2*int(test.calls))
			fire(&web, webKey, 2*int(test.calls))
			wg.Wait()
			for _, o := range faults {
				o.Cancel()
			}
			time.Sleep(1200 * time.Millisecond)
			var more heard // what refusals have left while replies were lost
			fire(&more, webKey, 300)
			wg.Wait()
			executed := f.executed(0, sendPath)
			t.Logf("executed %d; crm heard %v, web %v, then %v", executed, crm, web, more)
			// Calls whose replies were lost twice are refused, and web may have taken what they had been granted.
			if least := test.calls/3 - int64(crm.of[noStore]); executed != test.calls || int64(crm.of[passed]) > test.calls/3 || int64(crm.of[passed]) < least {
				t.Errorf("WeChat executed %d, %d of crm's, want %d and %d to %d", executed, crm.of[passed], test.calls, least, test.calls/3)
			}
			if crm.of[noShare] == 0 || web.of[full]+more.of[full] == 0 {
				t.Errorf("crm heard %v, web %v, want both refused in the end", crm, web)
			}
			f.atRest(t, 0, "send", sendPath)
			month, share := f.counted(t, 0, "send", "m"), f.counted(t, 0, "send@crm", "d")
			if month != executed || share != int64(crm.of[passed]) {
				t.Errorf("counted %d in the month and %d of crm's, want %d and %d", month, share, executed, crm.of[passed])
			}
		})
	}
}

// F24: a rule that is only a shadow. WeChat sees every call, and the metric says how many a real rule
// would have refused.
func TestF24(t *testing.T) {
	const quota, calls = 100, 1000
	f := newFleet(t, setup{rules: []rule{{"send", sendPath, fmt.Sprint(quota, "/day"), "shadow: true"}}})
	got := f.fire(t.Context(), load{call: call{path: sendPath}, callers: 24, calls: calls})
	if executed := f.executed(0, sendPath); executed != calls || got.of[passed] != quota || got.of["shadow 0"] != calls-quota {
		t.Errorf("WeChat executed %d of %d; callers heard %v, want %d that pass", executed, calls, got, quota)
	}
	shadows := regexp.MustCompile(`(?m)^wxproxy_requests_total\{app="a0",caller="",decision="shadow",reason="",rule="send"\} (\d+)$`)
	sum := 0
	for _, p := range f.gateways {
		_, text := f.ask(t, p, http.MethodGet, "/metrics")
		if m := shadows.FindStringSubmatch(text); m != nil {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
	}
	if sum != calls-quota {
		t.Errorf("the metric says %d, want %d", sum, calls-quota)
	}
	f.atRest(t, 0, "send", sendPath)
}
