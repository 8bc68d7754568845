package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"wxproxy/admin"
	"wxproxy/sandbox"
)

const explainLimits = `version: 1
profiles:
  production:
    rules:
      - {name: token, paths: [/cgi-bin/token, /cgi-bin/stable_token], quota: 2000/day}
      - {name: menu.create, paths: [/cgi-bin/menu/create], quota: 40/day, shares: {crm: 5/day}}
      - {name: user.info, paths: [/cgi-bin/user/info, /cgi-bin/user/info/batchget], quota: [400/day, 20/month]}
      - {name: denied, paths: [/card/*], quota: denied}
      - {name: paced, paths: [/cgi-bin/get_api_domain_ip], quota: unknown, pace: 1/minute burst 9}
      - {name: shadow, paths: [/cgi-bin/getcallbackip], quota: 2/day, shadow: true}
      - {name: each, paths: [/cgi-bin/menu/*], quota: 8/day}
      - {name: clear_quota, paths: [/cgi-bin/clear_quota, /cgi-bin/clear_quota/v2], quota: 3/month}
      - {name: kept, paths: [/cgi-bin/tags/get], quota: unlimited, inject: none}
      - {name: other, paths: [/cgi-bin/*, /wxa/*, /tcb/*], quota: unknown}
      - {name: sns, paths: [/sns/*], quota: unknown}
`

const boundedCallers = `  - {name: bounded, key: bounded-0123456789, apps: ["*"], rules: [menu.*, other]}
  - {name: over, key: over-0123456789abcdef, apps: [a], expires: 2020-01-31}
`

// TestExplainLaw: explain says of a call what the call then meets: the decision, the errcode, the rule,
// and whether the account's token goes out.
func TestExplainLaw(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{Quotas: map[string]int64{"/cgi-bin/menu/get": 2}}) // less than the table says: 45009
	g, _ := open(t, write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), explainLimits, platformConfig+boundedCallers))
	keys := map[string]string{"crm": canaryCRMNew, "platform": canaryWeb, "bounded": "bounded-0123456789", "over": "over-0123456789abcdef"}
	paths := []string{
		"/cgi-bin/menu/create", "/cgi-bin/user/info", "/cgi-bin/user/info/batchget", "/card/create", "/cgi-bin/get_api_domain_ip",
		"/cgi-bin/getcallbackip", "/cgi-bin/menu/get", "/cgi-bin/menu/trymatch", "/cgi-bin/clear_quota", "/cgi-bin/tags/get",
		"/cgi-bin/new/thing", "/wxa/getwxacode", "/wxa/gettemplatelist", "/tcb/modifyenv", "/sns/userinfo", "/sns/oauth2/refresh_token",
		"/cgi-bin/component/api_query_auth", "/cgi-bin/component/getprivacysetting", "/new/family", "/a/" + canaryCRMNew,
		"/cgi-bin/token", "/cgi-bin/stable_token", "/cgi-bin/gettoken", "/cgi-bin/ticket/getticket",
		"/cgi-bin", "/favicon.ico", "/", "/-/ready", "/a/cgi-bin/menu/create", "/cgi-bin/../x", "/cgi-bin/a;b", "/" + appA, "/wx0000000000000000/cgi-bin/menu/create",
	}
	queries := []string{
		"", "?", "?a=b", "?access_token=x", "?component_access_token=x", "?access_token=x&component_access_token=y", "?access_token=",
		"?access_token=%zz", "?a;b", "?type=jsapi", "?type=wx_card&access_token=x", "?appid=" + appA, "?appid=" + appB + "&component_access_token=x",
		"?grant_type=client_credential&appid=" + appA + "&secret=" + canarySecret, "?grant_type=client_credential&appid=" + appA + "&secret=wrong", "?grant_type=x",
		"?appid=" + appA + "&secret=" + canaryCRMNew,
	}
	rapid.Check(t, func(t *rapid.T) {
		appid := rapid.SampledFrom([]string{appA, appA, appB}).Draw(t, "app")
		caller := rapid.SampledFrom([]string{"crm", "crm", "platform", "bounded", "over"}).Draw(t, "caller")
		method := rapid.SampledFrom([]string{"GET", "POST", "POST", "HEAD", "PUT"}).Draw(t, "method")
		path := rapid.SampledFrom(paths).Draw(t, "path")
		switch rapid.IntRange(0, 8).Draw(t, "spelling") {
		case 0:
			path = strings.ToUpper(path)
		case 1:
			path += "/"
		case 2:
			path = "/" + strings.ReplaceAll(path, "/", "//")
		case 3:
			path = strings.ReplaceAll(path, "c", "%63")
		case 4:
			path = "/" + appid + path
		}
		target := path + rapid.SampledFrom(queries).Draw(t, "query")

		// The clock may end a minute or a day between the two, but not twice.
		explained, met := compareExplained(t, g, wechat, appid, caller, keys[caller], method, target)
		if explained != met {
			explained, met = compareExplained(t, g, wechat, appid, caller, keys[caller], method, target)
		}
		if explained != met {
			t.Fatalf("%s %s by %s for %s:\nexplained %+v\nmet       %+v", method, target, caller, appid, explained, met)
		}
	})
}

// outcome of a call, as explained or as met.
type callFate struct {
	decision, reason, rule string
	errcode                int // of the gateway's own answer
	injected               bool
}

func compareExplained(t *rapid.T, g *gateway, wechat *sandbox.Server, appid, caller, key, method, target string) (explained, met callFate) {
	query := url.Values{"app": {appid}, "caller": {caller}, "method": {method}, "path": {target}}
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/api/v1/explain?"+query.Encode(), nil)
	r.Header.Set("Authorization", "Bearer "+canaryAdmin)
	w := httptest.NewRecorder()
	g.admin.ServeHTTP(w, r)
	var e admin.Explanation
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != http.StatusOK {
		t.Fatalf("explain = %d %s", w.Code, w.Body)
	}
	if !strings.HasPrefix(e.Statement, e.Decision+": ") {
		t.Errorf("decision %q, statement %q", e.Decision, e.Statement)
	}
	explained = callFate{e.Decision, e.Reason, e.Rule, e.Errcode, e.Decision != "local" && !strings.HasPrefix(e.Decision, "refused-") && e.Inject == "account"}

	body := `{"appid":"` + appid + `"}`
	if folded := strings.ToLower(e.Path); strings.HasPrefix(folded, "/cgi-bin/token") && !strings.Contains(target, "?") {
		target += "?grant_type=client_credential&appid=" + appid + "&secret=" + key
	} else if strings.HasPrefix(folded, "/cgi-bin/token") && !strings.Contains(target, "grant_type") && !strings.Contains(target, "secret") && !strings.Contains(target, "appid=") {
		target += "&grant_type=client_credential&appid=" + appid + "&secret=" + key
	} else if strings.HasPrefix(folded, "/cgi-bin/stable_token") {
		body = `{"grant_type":"client_credential","appid":"` + appid + `","secret":"` + key + `"}`
	}
	call := &http.Request{Method: method, Header: http.Header{"X-Wxproxy-App": {appid}, "X-Wxproxy-Key": {key}}, RemoteAddr: "127.0.0.1:1", Host: "x", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	var err error
	if call.URL, err = url.ParseRequestURI(target); err != nil {
		t.Fatal(err)
	}
	call.Body = http.NoBody
	if method == http.MethodPost && !strings.HasPrefix(strings.ToLower(e.Path), "/cgi-bin/token") {
		call.Body, call.ContentLength = http.NoBody, 0
		call = httptest.NewRequest(method, "http://x/", strings.NewReader(body)).WithContext(call.Context())
		call.URL, err = url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		call.Header = http.Header{"X-Wxproxy-App": {appid}, "X-Wxproxy-Key": {key}}
	}
	answer := httptest.NewRecorder()
	g.handler.ServeHTTP(answer, call.WithContext(t.Context()))
	met.decision, met.reason, met.rule = answer.Header().Get("X-Wxproxy-Decision"), answer.Header().Get("X-Wxproxy-Reason"), answer.Header().Get("X-Wxproxy-Rule")
	if sent := met.decision == "pass" || met.decision == "shadow"; sent {
		last := lastRequest(wechat)
		met.injected = last.AppID == appid && strings.Contains(last.RawQuery, "access_token=") && !strings.Contains(call.URL.RawQuery, last.RawQuery)
	} else {
		var said struct {
			Errcode int `json:"errcode"`
		}
		_ = json.Unmarshal(answer.Body.Bytes(), &said) // a HEAD and a 405 have no JSON
		met.errcode = said.Errcode
		if method == http.MethodHead {
			met.errcode = explained.errcode
		}
	}
	return explained, met
}
