package faults

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wxproxy/sandbox"
)

// The keys of callers. oncall has a reserve.
const oncall, web = "6f6e63616c6c6f6e63616c6c31323334", "7765627765627765623132333435363a"

// budgetCallers are callers with keys of their own.
const budgetCallers = `callers:
  - {name: oncall, apps: [a0], key: ` + oncall + `}
  - {name: web, apps: [a0], key: ` + web + `}
`

// as makes calls of a caller, shared among threads and the gateways of a fleet, and returns what became of them
// by decision.
func (f *fleet) as(t *testing.T, key string, threads, calls int) map[string]int {
	t.Helper()
	found := make(map[string]int)
	var mu sync.Mutex
	var wg sync.WaitGroup
	var next atomic.Int64
	for range threads {
		wg.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(calls) {
					return
				}
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.gateways[int(n)%len(f.gateways)].url+sendPath, strings.NewReader(message))
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("X-Wxproxy-App", appid(0))
				r.Header.Set("X-Wxproxy-Key", key)
				response, err := f.client.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				_ = response.Body.Close()
				mu.Lock()
				found[response.Header.Get("X-Wxproxy-Decision")]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return found
}

// grantOf asks a gateway for the grant of the rule send, or sets it.
func (f *fleet) grantOf(t *testing.T, method, query string) (calls, version int64) {
	t.Helper()
	status, body := f.ask(t, f.gateways[0], method, "/api/v1/grant?app=a0&rule=send"+query)
	var answer struct {
		Grants []struct{ Calls, Version int64 }
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK || len(answer.Grants) != 1 {
		t.Fatalf("%s /api/v1/grant%s = %d %s", method, query, status, body)
	}
	return answer.Grants[0].Calls, answer.Grants[0].Version
}

// Three gateways and 64 threads keep a reserve and a grant to the call, over a clear and a reload. WeChat is the
// judge.
func TestReserveAndGrant(t *testing.T) {
	f := newFleet(t, setup{rules: []rule{{"send", sendPath, "100/day", "reserve: {oncall: 20}"}, {"clear", "/cgi-bin/clear_quota", "10/month", ""}}, more: budgetCallers})
	executed := func(what string, want int64) {
		t.Helper()
		if got := f.executed(0, sendPath); got != want {
			t.Fatalf("%s: WeChat executed %d calls, want %d", what, got, want)
		}
	}
	settle := func() { time.Sleep(1200 * time.Millisecond) } // what is full is asked for once a second

	found := f.as(t, web, 64, 200)
	executed("web alone", 80)
	if found["pass"] != 80 || found["refused-reserved"] != 120 {
		t.Errorf("calls of web: %v, want 80 and the rest refused-reserved", found)
	}
	var both sync.WaitGroup
	both.Go(func() { f.as(t, web, 32, 100) })
	both.Go(func() {
		if found := f.as(t, oncall, 32, 20); found["pass"] != 20 {
			t.Errorf("calls of oncall within its reserve: %v, want 20 to pass", found)
		}
	})
	both.Wait()
	executed("with the reserve", 100)
	settle()
	if found := f.as(t, oncall, 64, 64); found["refused-quota"] != 64 {
		t.Errorf("calls of oncall past it: %v, want refused-quota", found)
	}

	query := "&calls=30&version=0&reason=" + url.QueryEscape("the launch")
	calls, version := f.grantOf(t, http.MethodPost, query)
	if calls != 30 {
		t.Errorf("a grant of 30: %d", calls)
	}
	if status, body := f.ask(t, f.gateways[1], http.MethodPost, "/api/v1/grant?app=a0&rule=send"+query); status != http.StatusConflict {
		t.Errorf("the same once more: %d %s, want 409", status, body)
	}
	if status, body := f.ask(t, f.gateways[2], http.MethodGet, "/api/v1/usage?app=a0"); status != http.StatusOK || !strings.Contains(body, `"grant":30`) || !strings.Contains(body, `"grant_reason":"the launch"`) {
		t.Errorf("usage with a grant: %d %s", status, body)
	}
	settle()
	f.as(t, web, 64, 200)
	executed("with a grant", 130)

	if status, body := f.ask(t, f.gateways[0], http.MethodPost, "/api/v1/clear?app=a0"); status != http.StatusOK {
		t.Fatalf("clear: %d %s", status, body)
	}
	settle()
	before := f.executed(0, sendPath)
	f.as(t, web, 64, 300)
	executed("after a clear", before+110)
	if found := f.as(t, oncall, 64, 40); found["pass"] != 20 {
		t.Errorf("calls of oncall after a clear: %v, want 20 to pass", found)
	}
	executed("after a clear, with the reserve", before+130)

	writeFile(t, f.folder+"/limits.yaml", table(f.zone, rule{"send", sendPath, "150/day", "reserve: {oncall: 40}"}, rule{"clear", "/cgi-bin/clear_quota", "10/month", ""}))
	for _, p := range f.gateways {
		if status, body := f.ask(t, p, http.MethodPost, "/-/reload"); status != http.StatusOK {
			t.Fatalf("reload: %d %s", status, body)
		}
	}
	settle()
	f.as(t, web, 64, 200) // 150 and 30, of which 130 are used and 20 are kept
	executed("after a reload", before+160)
	calls, _ = f.grantOf(t, http.MethodPost, fmt.Sprintf("&calls=0&version=%d", version))
	if calls != 0 {
		t.Errorf("an ended grant: %d", calls)
	}
	settle()
	f.as(t, oncall, 64, 64)
	executed("after the end of the grant", before+160)
}

// A latch of WeChat's in the middle of a burst, and then a midnight, leave a reserve and a grant exact: a latched
// rule is closed to the caller with a reserve too, what it has counted goes on when the latch ends, and the new day
// has its reserve and no grant.
func TestReserveAndGrantOverLatchAndMidnight(t *testing.T) {
	t.Parallel()                                                                      // it waits for most of its time
	lifted := time.Now().Add(15 * time.Second).Truncate(time.Minute).Add(time.Minute) // the first latch lasts to the end of the clock minute
	midnight := lifted.Add(40 * time.Second)
	east, env := zoneWithMidnight(t, midnight)
	f := newFleet(t, setup{
		zone: "Asia/Shanghai", env: env, more: budgetCallers,
		wechat: sandbox.Options{Zone: time.FixedZone("test", east), Quotas: map[string]int64{sendPath: 1000}},
		rules:  []rule{{"send", sendPath, "100/day", "reserve: {oncall: 20}"}},
	})
	refused := f.wechat.Order(sandbox.Fault{Path: sendPath, ErrCode: 45009, After: 50})
	reached := func(what string, want int64) {
		t.Helper()
		if got := f.executed(0, sendPath) + int64(refused.Fired()); got != want { // what WeChat refused is counted too
			t.Fatalf("%s: WeChat executed %d calls and refused %d, want %d", what, f.executed(0, sendPath), refused.Fired(), want)
		}
	}
	before := func(limit time.Time) {
		t.Helper()
		if !time.Now().Before(limit) {
			t.Fatal("the machine is too slow: the time of the next step has come already")
		}
	}
	query := "&calls=30&version=0&reason=" + url.QueryEscape("the launch")
	f.grantOf(t, http.MethodPost, query)
	f.as(t, web, 64, 100)
	if refused.Fired() != 1 {
		t.Fatalf("WeChat refused %d calls, want 1", refused.Fired())
	}
	for i, p := range f.gateways {
		within(t, time.Second, fmt.Sprint("gateway ", i, " is closed"), func() bool {
			return strings.HasPrefix(f.explains(t, p, 0, sendPath), "refused-latched")
		})
	}
	sent := f.executed(0, sendPath)
	if found := f.as(t, oncall, 64, 64); found["refused-latched"] != 64 || f.executed(0, sendPath) != sent {
		t.Errorf("calls of oncall while it is latched: %v, want refused-latched", found)
	}
	before(lifted)

	time.Sleep(time.Until(lifted.Add(2 * time.Second))) // what is latched is asked for once a second
	found := f.as(t, web, 64, 200)
	reached("web after the latch, with a grant", 110)
	if found["refused-reserved"] == 0 || found["pass"]+found["refused-reserved"] != 200 {
		t.Errorf("calls of web after the latch: %v, want pass and refused-reserved", found)
	}
	if found := f.as(t, oncall, 64, 64); found["pass"] != 20 || found["pass"]+found["refused-quota"] != 64 {
		t.Errorf("calls of oncall after the latch: %v, want 20 to pass and refused-quota", found)
	}
	reached("with the reserve", 130)
	before(midnight)

	time.Sleep(time.Until(midnight.Add(-2 * time.Second)))
	for time.Now().Before(midnight.Add(1500 * time.Millisecond)) {
		f.as(t, web, 64, 64)
	}
	f.as(t, web, 64, 200)
	reached("web after midnight", 130+80)
	if found := f.as(t, oncall, 64, 64); found["pass"] != 20 {
		t.Errorf("calls of oncall after midnight: %v, want 20 to pass", found)
	}
	reached("with the reserve after midnight", 130+100)
	if calls, _ := f.grantOf(t, http.MethodGet, ""); calls != 0 {
		t.Errorf("after midnight %d calls are granted, want none", calls)
	}
	f.grantOf(t, http.MethodPost, query)
	time.Sleep(1200 * time.Millisecond)
	f.as(t, web, 64, 200)
	reached("with a grant of the new day", 130+130)
	waitFor(t, "260 calls counted", func() bool { return f.counted(t, 0, "send", "d") == 130+130 })
}
