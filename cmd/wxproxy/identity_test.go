package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wxproxy/internal/redistest"
	"wxproxy/sandbox"
)

// The keys of the callers in identityConfig.
const (
	canaryCRMNew = "canary-crm-key-new-000001"
	canaryCRMOld = "canary-crm-key-old-000001"
	canaryWeb    = "canary-web-key-0000000001"
)

// identityConfig has two apps; crm may call for a, web for both.
const identityConfig = `anonymous: %s
callers:
  - {name: crm, key: [` + canaryCRMNew + `, ` + canaryCRMOld + `], apps: [a]}
  - {name: web, key: ` + canaryWeb + `, apps: [a, b], third_party: true}
`

// tokenAnswer is what a token endpoint says.
type tokenAnswer struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
	Errcode     int    `json:"errcode"`
}

// fetch asks the classic token endpoint.
func fetch(t *testing.T, base, appid, secret string) tokenAnswer {
	t.Helper()
	return decodeToken(t, do(t, "GET", base+"/cgi-bin/token?grant_type=client_credential&appid="+appid+"&secret="+url.QueryEscape(secret), nil))
}

func decodeToken(t *testing.T, a answer) (got tokenAnswer) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		t.Errorf("%v: %v", a, err)
	}
	return got
}

func basic(app, key string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(app+":"+key))
}

// Every row of the table of who calls, over a socket.
func TestWhoCalls(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	p := start(t, write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), "", fmt.Sprintf(identityConfig, "false")), wechat)
	secretToken := fetch(t, p.url, appA, canarySecret).AccessToken
	crmToken := fetch(t, p.url, appA, canaryCRMNew).AccessToken
	webTokenB := fetch(t, p.url, appB, canaryWeb).AccessToken
	for name, text := range map[string]string{"AppSecret": secretToken, "crm": crmToken, "web": webTokenB} {
		if !strings.HasPrefix(text, "wxp1.") || len(text) <= 32 || len(text) > 512 {
			t.Fatalf("the proxy token of %s is %q", name, text)
		}
	}
	forged := crmToken[:len(crmToken)-4] + "AAAA"
	tests := []struct {
		name   string
		path   string // in front of /cgi-bin/...
		query  string
		header []string
		want   string // "a crm" is the app and the caller; a number is the errcode, with the reason
	}{
		{name: "AppSecret's proxy token", query: secretToken, want: "a"},
		{name: "a caller's proxy token", query: crmToken, want: "a crm"},
		{name: "another's of another app", query: webTokenB, want: "b web"},
		{name: "in another spelling", query: "n=" + crmToken, want: "a crm"},
		{name: "and the right prefix", path: "/" + appA, query: crmToken, want: "a crm"},
		{name: "and another prefix", path: "/" + appB, query: crmToken, want: "48001 contradiction"},
		{name: "and another header", query: crmToken, header: []string{"X-Wxproxy-App", "b"}, want: "48001 contradiction"},
		{name: "forged", query: forged, want: "48001 forged-token"},
		{name: "truncated", query: crmToken[:len(crmToken)-3], want: "48001 forged-token"},
		{name: "of the other format", query: "wxp1.", want: "48001 forged-token"},
		{name: "two proxy tokens of one caller", query: crmToken + "&access_token=" + crmToken, want: "a crm"},
		{name: "of two apps", query: crmToken + "&access_token=" + webTokenB, want: "48001 contradiction"},
		{name: "two of one app", query: crmToken + "&Access_Token=" + secretToken, want: "a crm"},

		{name: "Basic by name", header: []string{"Authorization", basic("a", canaryCRMNew)}, want: "a crm"},
		{name: "Basic by appid", header: []string{"Authorization", basic(appB, canaryWeb)}, want: "b web"},
		{name: "Basic with the old key", header: []string{"Authorization", basic("a", canaryCRMOld)}, want: "a crm"},
		{name: "Basic replaces an unknown token", query: canaryOld, header: []string{"Authorization", basic("a", canaryCRMNew)}, want: "a crm"},
		{name: "Basic with a wrong key", header: []string{"Authorization", basic("a", "wrong")}, want: "48001 wrong-key"},
		{name: "Basic with an empty key", header: []string{"Authorization", basic("a", "")}, want: "48001 wrong-key"},
		{name: "Basic with the AppSecret", header: []string{"Authorization", basic("a", canarySecret)}, want: "48001 wrong-key"},
		{name: "Basic for an app that the caller may not call", header: []string{"Authorization", basic("b", canaryCRMNew)}, want: "48001 app-not-allowed"},
		{name: "Basic for no such app", header: []string{"Authorization", basic("c", canaryCRMNew)}, want: "48001 unknown-app"},
		{name: "Basic that is none", header: []string{"Authorization", "Basic !!!"}, want: "48001 malformed-basic"},
		{name: "Basic and another caller's token", query: webTokenB, header: []string{"Authorization", basic("b", canaryCRMNew)}, want: "48001 contradiction"},
		{name: "Basic without an app, one selected", path: "/" + appB, header: []string{"Authorization", basic("", canaryWeb)}, want: "b web"},
		{name: "Bearer is not for us", query: crmToken, header: []string{"Authorization", "Bearer x"}, want: "a crm"},

		{name: "headers", header: []string{"X-Wxproxy-App", "b", "X-Wxproxy-Key", canaryWeb}, want: "b web"},
		{name: "a key alone, two apps", header: []string{"X-Wxproxy-Key", canaryWeb}, want: "48001 no-app"},
		{name: "a key and a prefix", path: "/" + appA, header: []string{"X-Wxproxy-Key", canaryWeb}, want: "a web"},
		{name: "a wrong key", path: "/" + appA, query: crmToken, header: []string{"X-Wxproxy-Key", "wrong"}, want: "48001 wrong-key"},
		{name: "two keys of two callers", path: "/" + appA, header: []string{"X-Wxproxy-Key", canaryWeb, "Authorization", basic("a", canaryCRMNew)}, want: "48001 contradiction"},

		{name: "only selected", path: "/" + appA, want: "48001 nothing-shown"},
		{name: "only selected by header", header: []string{"X-Wxproxy-App", "a"}, want: "48001 nothing-shown"},
		{name: "an unknown token", path: "/" + appA, query: canaryOld, want: "48001 unknown-token"},
		{name: "nothing", want: "48001 nothing-shown"},
	}
	type line struct{ row, id, app, caller, reason string }
	var logged []line
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := map[string]int64{"a": wechat.Calls(appA, ""), "b": wechat.Calls(appB, "")}
			target := p.url + tt.path + "/cgi-bin/get_api_domain_ip"
			if tt.query != "" {
				target += "?access_token=" + tt.query
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(tt.header); i += 2 {
				r.Header.Add(tt.header[i], tt.header[i+1])
			}
			id := fmt.Sprintf("row-%d", time.Now().UnixNano())
			r.Header.Set("X-Request-Id", id)
			a := send(t, r)
			if app, caller, ok := strings.Cut(tt.want+" ", " "); ok && len(app) == 1 {
				if a.decision != "pass" {
					t.Fatalf("%v, want pass", a)
				}
				appid := map[string]string{"a": appA, "b": appB}[app]
				if sent := wechat.Calls(appid, "") - before[app]; sent < 1 {
					t.Errorf("WeChat saw %d calls of %s, want one", sent, app)
				}
				logged = append(logged, line{row: tt.name, id: id, app: app, caller: strings.TrimSpace(caller)})
				for _, seen := range wechat.Requests() {
					for name, values := range seen.Header {
						if name == "Authorization" || strings.HasPrefix(name, "X-Wxproxy") {
							t.Errorf("WeChat was sent %s: %q", name, values)
						}
					}
				}
				return
			}
			errcode, reason, _ := strings.Cut(tt.want, " ")
			if !strings.HasPrefix(a.body, `{"errcode":`+errcode+`,`) || a.status != 200 || a.decision != "refused-auth" || a.reason != reason {
				t.Errorf("%v, want 200 with %s, refused-auth", a, tt.want)
			}
			logged = append(logged, line{row: tt.name, id: id, reason: reason})
			if sent := wechat.Calls(appA, "") + wechat.Calls(appB, "") - before["a"] - before["b"]; sent != 0 {
				t.Errorf("WeChat saw %d calls, want none", sent)
			}
		})
	}
	for _, want := range logged { // after all rows: a line comes up to half a second after its call
		got := p.stdout.await(t, "line of "+want.row, func(line map[string]any) bool { return line["request_id"] == want.id })
		if want.reason != "" && got["reason"] != want.reason {
			t.Errorf("%s: logged %v, want the reason %s", want.row, got, want.reason)
		}
		if want.app != "" && (got["app"] != want.app || got["caller"] != want.caller) {
			t.Errorf("%s: logged app %v, caller %v, want %s, %s", want.row, got["app"], got["caller"], want.app, want.caller)
		}
	}
}

func TestTokenEndpoints(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	p := start(t, write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), "", fmt.Sprintf(identityConfig, "false")), wechat)
	form := func(values ...string) string {
		v := url.Values{}
		for i := 0; i < len(values); i += 2 {
			v.Set(values[i], values[i+1])
		}
		return v.Encode()
	}
	good := []string{"grant_type", "client_credential", "appid", appA, "secret", canarySecret}
	tests := []struct {
		name, method, target, kind, body string
		want                             int // errcode; 0: a proxy token
	}{
		{"GET", "GET", "/cgi-bin/token?" + form(good...), "", "", 0},
		{"POST with a query", "POST", "/cgi-bin/token?" + form(good...), "", "", 0},
		{"POST with a form", "POST", "/cgi-bin/token", "application/x-www-form-urlencoded", form(good...), 0},
		{"POST with JSON", "POST", "/cgi-bin/token", "application/json", `{"grant_type":"client_credential","appid":"` + appA + `","secret":"` + canarySecret + `"}`, 0},
		{"under a prefix", "GET", "/" + appA + "/cgi-bin/token?" + form(good...), "", "", 0},
		{"under another prefix", "GET", "/" + appB + "/cgi-bin/token?" + form(good...), "", "", 48001},
		{"a caller's key", "GET", "/cgi-bin/token?" + form("grant_type", "client_credential", "appid", appA, "secret", canaryCRMOld), "", "", 0},
		{"a key that may not", "GET", "/cgi-bin/token?" + form("grant_type", "client_credential", "appid", appB, "secret", canaryCRMNew), "", "", 48001},
		{"stable", "POST", "/cgi-bin/stable_token", "application/json", `{"grant_type":"client_credential","appid":"` + appA + `","secret":"` + canaryWeb + `"}`, 0},
		{"stable, forced", "POST", "/cgi-bin/stable_token", "", `{"grant_type":"client_credential","appid":"` + appA + `","secret":"` + canaryWeb + `","force_refresh":true}`, 0},
		{"stable typed as a form", "POST", "/cgi-bin/stable_token", "application/x-www-form-urlencoded", `{"grant_type":"client_credential","appid":"` + appA + `","secret":"` + canaryWeb + `"}`, 0},
		{"stable by GET", "GET", "/cgi-bin/stable_token?" + form(good...), "", "", 43002},
		{"a wrong secret", "GET", "/cgi-bin/token?" + form("grant_type", "client_credential", "appid", appA, "secret", "wrong"), "", "", 40125},
		{"an app that is not configured", "GET", "/cgi-bin/token?" + form("grant_type", "client_credential", "appid", "wxcccccccccccccccc", "secret", canarySecret), "", "", 40013},
		{"no appid", "GET", "/cgi-bin/token?" + form("grant_type", "client_credential", "secret", canarySecret), "", "", 41002},
		{"no secret", "GET", "/cgi-bin/token?" + form("grant_type", "client_credential", "appid", appA), "", "", 41004},
		{"another grant", "GET", "/cgi-bin/token?" + form("grant_type", "x", "appid", appA, "secret", canarySecret), "", "", 40002},
		{"stable without JSON", "POST", "/cgi-bin/stable_token", "", "x", 40035},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), tt.method, p.url+tt.target, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if tt.kind != "" {
				r.Header.Set("Content-Type", tt.kind)
			}
			a := send(t, r)
			got := decodeToken(t, a)
			if got.Errcode != tt.want || a.status != 200 || a.kind != refusalType || strings.HasSuffix(a.body, "\n") {
				t.Fatalf("%v, want errcode %d", a, tt.want)
			}
			if tt.want == 0 && (got.ExpiresIn != 7200 || !strings.HasPrefix(got.AccessToken, "wxp1.") || a.decision != "local") {
				t.Errorf("%v, want a proxy token of 7200 s, local", a)
			}
		})
	}
	if n := wechat.TokenFetches(appA) + wechat.TokenFetches(appB) + wechat.TokenFetches(""); n != 0 {
		t.Errorf("WeChat saw %d token requests, want none", n)
	}
}

// Calls that carry the AppSecret prove who calls by it. A caller's key is put in its place, and never
// reaches WeChat.
func TestCallsThatCarryASecret(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	p := start(t, write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), "", fmt.Sprintf(identityConfig, "false")), wechat)
	codes := 0
	oauth := func(appid, secret string) string {
		codes++ // each is good once
		return fmt.Sprintf("/sns/oauth2/access_token?appid=%s&secret=%s&code=c0de%d&grant_type=authorization_code", appid, secret, codes)
	}
	clearBody := func(secret string) string { return `{"appid":"` + appA + `","appsecret":"` + secret + `"}` }
	tests := []struct {
		name, method, target, body string
		header                     []string
		want                       string // what the answer holds
		sent                       string // the secret that WeChat sees; "": none
	}{
		{name: "AppSecret", method: "GET", target: oauth(appA, canarySecret), want: `"openid"`, sent: canarySecret},
		{name: "a caller's key", method: "GET", target: oauth(appA, canaryCRMOld), want: `"openid"`, sent: canarySecret},
		{name: "and Basic of the same", method: "GET", target: oauth(appB, canaryWeb), header: []string{"Authorization", basic("b", canaryWeb)}, want: `"openid"`, sent: canarySecret},
		{name: "and Basic of another", method: "GET", target: oauth(appA, canaryCRMNew), header: []string{"Authorization", basic("a", canaryWeb)}, want: "48001"},
		{name: "a key that may not", method: "GET", target: oauth(appB, canaryCRMNew), want: "48001"},
		{name: "a wrong secret", method: "GET", target: oauth(appA, "wrong"), want: "40125"},
		{name: "mini program login", method: "GET", target: "/sns/jscode2session?appid=" + appA + "&secret=" + canaryCRMNew + "&js_code=c0de-js&grant_type=authorization_code", want: `"openid"`, sent: canarySecret},
		{name: "clear by a key", method: "POST", target: "/cgi-bin/clear_quota/v2?appid=" + appA + "&appsecret=" + canaryCRMNew, want: `"errcode":0`, sent: canarySecret},
		{name: "clear by a body", method: "POST", target: "/cgi-bin/clear_quota/v2", body: clearBody(canarySecret), header: []string{"Authorization", basic("a", canaryCRMNew)}, want: `"errcode":0`, sent: canarySecret},
		{name: "clear by a key in a body", method: "POST", target: "/cgi-bin/clear_quota/v2", body: clearBody(canaryCRMNew), header: []string{"Authorization", basic("a", canaryCRMNew)}, want: "48001"},
		{name: "clear by a wrong secret in a body", method: "POST", target: "/cgi-bin/clear_quota/v2", body: clearBody("wrong"), header: []string{"Authorization", basic("a", canaryCRMNew)}, want: "40125"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := len(wechat.Requests())
			r, err := http.NewRequestWithContext(t.Context(), tt.method, p.url+tt.target, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(tt.header); i += 2 {
				r.Header.Set(tt.header[i], tt.header[i+1])
			}
			if a := send(t, r); !strings.Contains(a.body, tt.want) {
				t.Errorf("%v, want %s", a, tt.want)
			}
			seen := wechat.Requests()[before:]
			if tt.sent == "" {
				if len(seen) != 0 {
					t.Errorf("WeChat saw %d calls, want none", len(seen))
				}
				return
			}
			if len(seen) != 1 {
				t.Fatalf("WeChat saw %d calls, want one", len(seen))
			}
			if text := seen[0].RawQuery + string(seen[0].Body); !strings.Contains(text, tt.sent) || strings.Contains(text, "canary-") || strings.Contains(text, "access_token=") {
				t.Errorf("WeChat was sent another secret than the AppSecret, or a token")
			}
		})
	}
}

// A secret and a key are rotated with [new, old] under load, and no call fails.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{Keep: -1})
	store := redistest.Start(t).URL()
	keys := func(list string) string {
		return "anonymous: false\ncallers:\n  - {name: crm, key: " + list + ", apps: [a]}\n"
	}
	config := write(t, wechat, store, "", keys("["+canaryCRMOld+"]"))
	p := start(t, config, wechat)
	var failed, sent atomic.Int64
	var key atomic.Value
	key.Store(canaryCRMOld)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			shown := fetch(t, p.url, appA, canaryCRMOld).AccessToken
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if n%20 == 19 { // a service that fetches anew
					shown = fetch(t, p.url, appA, key.Load().(string)).AccessToken
				}
				if a := do(t, "GET", p.url+"/cgi-bin/get_api_domain_ip?access_token="+shown, nil); a.decision != "pass" {
					failed.Add(1)
					t.Errorf("a call during the rotation: %v", a)
					return
				}
				sent.Add(1)
			}
		})
	}
	rewrite := func(list string) {
		t.Helper()
		if status := p.rewriteAndReload(t, config, keys(list)); status != 200 {
			t.Fatalf("reload = %d", status)
		}
	}
	rewrite("[" + canaryCRMOld + ", " + canaryCRMNew + "]") // every gateway knows the new one first
	rewrite("[" + canaryCRMNew + ", " + canaryCRMOld + "]")
	key.Store(canaryCRMNew)
	before := sent.Load()
	waitFor(t, "each service to fetch anew", func() bool { return sent.Load() > before+400 || failed.Load() > 0 })
	rewrite("[" + canaryCRMNew + "]")
	before = sent.Load()
	waitFor(t, "calls after the rotation", func() bool { return sent.Load() > before+100 || failed.Load() > 0 })
	close(stop)
	wg.Wait()
	if failed.Load() != 0 {
		t.Errorf("%d of %d calls failed", failed.Load(), sent.Load())
	}

	// A token of the old key says 42001: its refetch costs nothing and heals.
	q := start(t, write(t, wechat, store, "", keys("["+canaryCRMOld+"]")), wechat)
	old := fetch(t, q.url, appA, canaryCRMOld).AccessToken
	if a := do(t, "GET", p.url+"/cgi-bin/get_api_domain_ip?access_token="+old, nil); !strings.HasPrefix(a.body, `{"errcode":42001,`) {
		t.Errorf("a token of a replaced key: %v, want 42001", a)
	}
}

// rewriteAndReload puts other last lines into a configuration that write made.
func (p *process) rewriteAndReload(t *testing.T, config, more string) int {
	t.Helper()
	text := readFile(t, config)
	head, _, ok := strings.Cut(text, "anonymous:")
	if !ok {
		t.Fatalf("no anonymous: in %s", text)
	}
	writeFile(t, config, head+more)
	return p.askAdmin(t, "POST", "/-/reload", nil)
}
