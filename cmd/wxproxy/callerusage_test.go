package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wxproxy/admin"
	"wxproxy/sandbox"
)

const selfLimits = `version: 1
profiles:
  production:
    rules:
      - {name: menu.create, paths: [/cgi-bin/menu/create], quota: 5/day, shares: {crm: 2/day, web: 3/day}}
      - {name: user.info, paths: [/cgi-bin/user/info], quota: 1000/day}
      - {name: tags.get, paths: [/cgi-bin/tags/get], quota: denied}
      - {name: other, paths: [/cgi-bin/*], quota: unknown}
`

const selfCallers = `callers:
  - {name: crm, key: ` + canaryCRMNew + `, apps: [a], rules: [menu.*, tags.*]}
  - {name: web, key: ` + canaryWeb + `, apps: [a, b]}
  - {name: over, key: over-0123456789abcdef, apps: [a], expires: 2020-01-31}
  - {name: far, key: far-0123456789abcdefg, apps: [a], from: [10.0.0.0/8]}
  - {name: platform, key: platform-0123456789, apps: [b], third_party: true}
anonymous: true
`

// askOwn asks for a caller's own usage. header are names and values in turn.
func askOwn(t *testing.T, base, query string, header ...string) (answer, admin.CallerUsage) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/-/usage"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	a := send(t, r)
	var usage admin.CallerUsage
	if a.decision == "local" {
		if err := json.Unmarshal([]byte(a.body), &usage); err != nil || !strings.HasSuffix(a.body, "}") {
			t.Errorf("%q: %v", a.body, err)
		}
	}
	return a, usage
}

// ownCounters are the counters of an answer.
func ownCounters(u admin.CallerUsage) []string {
	counters := []string{u.Caller}
	for _, app := range u.Apps {
		for _, r := range app.Rows {
			counters = append(counters, fmt.Sprintf("%s %s%s@%s %d/%d %d left %s", app.App, r.Rule, r.Path, r.Caller, r.Used, r.Limit, r.Remaining, r.State))
		}
	}
	return counters
}

// Two callers with accounts and rules in common each see what is theirs, whatever way they show their key.
func TestCallersSeeTheirOwnUsage(t *testing.T) {
	t.Parallel()
	for _, d := range deployments(t) {
		t.Run(d.name, func(t *testing.T) {
			wechat := newWechat(t, sandbox.Options{})
			p := start(t, write(t, wechat, d.store, selfLimits, selfCallers), wechat)
			call := func(app, key, method, path string) {
				r, err := http.NewRequestWithContext(t.Context(), method, p.url+path, strings.NewReader(menu))
				if err != nil {
					t.Fatal(err)
				}
				r.SetBasicAuth(app, key)
				send(t, r)
			}
			for range 3 {
				call("a", canaryCRMNew, "POST", "/cgi-bin/menu/create") // the third is over its share
			}
			call("a", canaryWeb, "POST", "/cgi-bin/menu/create")
			call("b", canaryWeb, "GET", "/cgi-bin/user/info?openid=o")
			sent := wechat.Calls("", "")

			crm := []string{"crm", "a menu.create@ 3/5 2 left open", "a menu.create@crm 2/2 0 left full"}
			web := []string{"web", "a menu.create@ 3/5 2 left open", "a menu.create@web 1/3 2 left open", "b user.info@ 1/1000 999 left open"}
			for _, tt := range []struct {
				name, query string
				header      []string
				want        []string
			}{
				{"key alone", "", []string{"X-Wxproxy-Key", canaryCRMNew}, crm},
				{"key and app", "", []string{"X-Wxproxy-Key", canaryCRMNew, "X-Wxproxy-App", appA}, crm},
				{"Basic", "", []string{"Authorization", basic("a", canaryCRMNew)}, crm},
				{"all", "?all=1", []string{"X-Wxproxy-Key", canaryCRMNew}, append(slices.Clone(crm), "a tags.get@ 0/0 0 left denied")},
				{"two accounts", "", []string{"X-Wxproxy-Key", canaryWeb}, web},
				{"one of two", "", []string{"Authorization", basic("b", canaryWeb)}, []string{"web", web[3]}},
				{"a platform", "", []string{"X-Wxproxy-Key", "platform-0123456789"}, []string{"platform", web[3]}},
			} {
				var a answer
				var u admin.CallerUsage
				waitFor(t, "usage with all that was used", func() bool { // an answer may be a second old
					a, u = askOwn(t, p.url, tt.query, tt.header...)
					return a.decision != "local" || cmp.Equal(ownCounters(u), tt.want) || time.Since(u.Time) < 500*time.Millisecond
				})
				if diff := cmp.Diff(tt.want, ownCounters(u)); diff != "" || a.status != 200 || a.kind != "application/json; encoding=utf-8" {
					t.Errorf("%s: %+v (-want +got):\n%s", tt.name, a, diff)
				}
				for _, r := range u.Apps {
					for _, row := range r.Rows {
						if row.Reset.Before(time.Now()) || row.Period != "day" {
							t.Errorf("%s: reset %s, period %s", tt.name, row.Reset, row.Period)
						}
					}
				}
				for _, secret := range append(tokensOf(wechat, appA), canarySecret, canaryCRMNew, canaryWeb, canaryAdmin) {
					if strings.Contains(a.body, secret) {
						t.Errorf("%s: the answer holds the canary %s", tt.name, secret)
					}
				}
			}
			if now := wechat.Calls("", ""); now != sent {
				t.Errorf("WeChat had %d more calls", now-sent)
			}
			line := p.stdout.await(t, "line of /-/usage", func(l map[string]any) bool { return l["path"] == "/-/usage" && l["caller"] == "web" })
			if line["decision"] != "local" || line["rule"] != "" || line["errcode"] != 0.0 {
				t.Errorf("logged as %v", line)
			}
		})
	}
}

// Who shows no key that is good here and now learns nothing, also where calls without proof are allowed.
func TestOwnUsageNeedsAKey(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	p := start(t, write(t, wechat, "file:"+t.TempDir()+"/wxproxy.db", selfLimits, selfCallers, "allow_open: true\n"), wechat)
	for _, tt := range []struct {
		name, query string
		header      []string
		want        string
	}{
		{"nothing", "", nil, "nothing-shown"},
		{"an app alone", "", []string{"X-Wxproxy-App", "a"}, "nothing-shown"},
		{"a token in the query", "?access_token=" + fetch(t, p.url, appA, canaryCRMNew).AccessToken, nil, "nothing-shown"},
		{"a wrong key", "", []string{"X-Wxproxy-Key", "wrong"}, "wrong-key"},
		{"the AppSecret", "", []string{"Authorization", basic("a", canarySecret)}, "wrong-key"},
		{"the admin token", "", []string{"X-Wxproxy-Key", canaryAdmin}, "wrong-key"},
		{"Basic that is none", "", []string{"Authorization", "Basic !!!"}, "malformed-basic"},
		{"two keys", "", []string{"X-Wxproxy-Key", canaryWeb, "Authorization", basic("a", canaryCRMNew)}, "contradiction"},
		{"another's app", "", []string{"Authorization", basic("b", canaryCRMNew)}, "app-not-allowed"},
		{"no such app", "", []string{"Authorization", basic("c", canaryCRMNew)}, "unknown-app"},
		{"an expired key", "", []string{"X-Wxproxy-Key", "over-0123456789abcdef"}, "caller-expired"},
		{"from elsewhere", "", []string{"X-Wxproxy-Key", "far-0123456789abcdefg"}, "address-not-allowed"},
	} {
		a, _ := askOwn(t, p.url, tt.query, tt.header...)
		if a.status != 200 || a.decision != "refused-auth" || a.reason != tt.want || a.body != `{"errcode":48001,"errmsg":"api unauthorized"}` {
			t.Errorf("%s: %+v, want 48001 %s", tt.name, a, tt.want)
		}
	}
	if a := do(t, "POST", p.url+"/-/usage", nil); a.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %+v", a)
	}
	if a, _ := askOwn(t, p.url, "?a;b", "X-Wxproxy-Key", canaryWeb); a.reason != "query" {
		t.Errorf("a query that cannot be read: %+v", a)
	}
}
