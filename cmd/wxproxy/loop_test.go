package main

import (
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"wxproxy/admin"
	"wxproxy/sandbox"
)

const twoCallers = `callers:
  - {name: crm, key: ` + canaryCRMNew + `, apps: [a]}
  - {name: web, key: ` + canaryWeb + `, apps: [a, b]}
`

// askUser asks for a user as a caller, and returns the answer.
func askUser(t *testing.T, base, key, openid string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/cgi-bin/user/info?openid="+openid, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("a", key)
	return send(t, r)
}

// A caller that asks 500 times for a user that does not exist reaches WeChat about 200 times, and then once in each
// of the fuse's periods. What was refused is not counted, and nothing else is refused.
func TestFuseRefusesALoop(t *testing.T) {
	t.Parallel()
	const period = 2 * time.Second
	wechat := newWechat(t, sandbox.Options{Keep: -1})
	path := write(t, wechat, "file:"+t.TempDir()+"/wxproxy.db", table("100/day", "2000/day"), twoCallers, "fuse: on\nanonymous: false\n")
	g := serveHere(t, path, serving{loopTime: period})
	base := "http://" + g.main

	const calls = 500
	began := time.Now()
	got := make(map[answer]int)
	for range calls {
		a := askUser(t, base, canaryCRMNew, "undefined")
		a.body = withoutIDs(a.body)
		got[a]++
		time.Sleep(11 * time.Millisecond) // 200 take a period
	}
	want := answer{200, "application/json; encoding=utf-8", "refused-fuse", "fuse", `{"errcode":40003,"errmsg":"invalid openid"}`}
	refused, executed := got[want], int(wechat.Executed(appA, "/cgi-bin/user/info"))
	probes := int(time.Since(began)/period) + 1
	if refused == 0 || executed+refused != calls || executed > 201+probes || executed < 200 {
		t.Errorf("%d refused and %d executed of %d, want 200 executed and at most %d probes; answers %v", refused, executed, calls, probes, got)
	}
	if a := askUser(t, base, canaryWeb, "undefined"); a.decision != "pass" || !strings.Contains(a.body, "40003") {
		t.Errorf("another caller: %+v", a)
	}
	if a := askUser(t, base, canaryCRMNew, "oSomebody"); a.decision != "pass" || !strings.Contains(a.body, "oSomebody") {
		t.Errorf("another user: %+v", a)
	}

	operator := &process{admin: "http://" + g.admin}
	var usage admin.Usage
	operator.askAdmin(t, "GET", "/api/v1/usage?app=a", &usage)
	for _, row := range usage.Apps[0].Rows {
		if executed := wechat.Executed(appA, "/cgi-bin/user/info"); row.Rule == "user.info" && row.Used != executed {
			t.Errorf("%d are counted, WeChat executed %d", row.Used, executed)
		}
	}
	if got, want := usage.Apps[0].Saved, map[string]uint64{"user.info": uint64(refused)}; !maps.Equal(got, want) {
		t.Errorf("usage has %v calls saved, want %v", got, want)
	}
	if saved := metricOf(t, client, operator.admin, `wxproxy_fuse_saved_total{app="a",rule="user.info"}`); saved != strconv.Itoa(refused) {
		t.Errorf("wxproxy_fuse_saved_total is %s, want %d", saved, refused)
	}
	if trips := metricOf(t, client, operator.admin, `wxproxy_fuse_trips_total{app="a",rule="user.info"}`); trips != "1" {
		t.Errorf("wxproxy_fuse_trips_total is %s, want 1", trips)
	}
	line := g.stderr.await(t, "line that calls fail in a loop", message("fuse: calls fail in a loop"))
	if line["caller"] != "crm" || line["rule"] != "user.info" || line["errcode"] != 40003.0 || strings.Count(g.stderr.String(), "fuse: ") != 1 {
		t.Errorf("the log has %v, want one line with the caller and the errcode:\n%s", line, g.stderr)
	}

	var e admin.Explanation
	waitFor(t, "explanation that calls are refused", func() bool { // unless a probe is due just then
		askUser(t, base, canaryCRMNew, "undefined")
		operator.askAdmin(t, "GET", "/api/v1/explain?app=a&caller=crm&path=/cgi-bin/user/info", &e)
		return e.Decision == "refused-fuse"
	})
	if e.Errcode != 40003 || !strings.Contains(e.Statement, "loop") {
		t.Errorf("explained as %s: %s", e.Decision, e.Statement)
	}
	if operator.askAdmin(t, "GET", "/api/v1/explain?app=a&caller=web&path=/cgi-bin/user/info", &e); e.Decision != "pass" {
		t.Errorf("explained for another caller as %s: %s", e.Decision, e.Statement)
	}
}

// Without a setting a loop is only reported, and a reload that says off or on holds for the next call.
func TestFuseWatchesByDefault(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{Keep: -1})
	path := write(t, wechat, "file:"+t.TempDir()+"/wxproxy.db", table("100/day", "100000/day"), twoCallers)
	g := serveHere(t, path, serving{loopTime: time.Second})
	base := "http://" + g.main
	deadline := time.Now().Add(30 * time.Second)
	for n := 0; !strings.Contains(g.stderr.String(), "fuse: calls fail in a loop and are sent all the same"); n++ {
		if a := askUser(t, base, canaryCRMNew, "undefined"); a.decision != "pass" {
			t.Fatalf("call %d: %+v", n, a)
		}
		if time.Now().After(deadline) {
			t.Fatalf("no loop after %d calls:\n%s", n, g.stderr)
		}
		time.Sleep(time.Millisecond)
	}
	writeFile(t, path, readFile(t, path)+"fuse: on\n")
	operator := &process{admin: "http://" + g.admin}
	if status := operator.askAdmin(t, "POST", "/-/reload", nil); status != http.StatusOK {
		t.Fatalf("reload: %d", status)
	}
	waitFor(t, "refusal after a reload with fuse: on", func() bool { return askUser(t, base, canaryCRMNew, "undefined").decision == "refused-fuse" })
}
