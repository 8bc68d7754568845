package main

import (
	"bufio"
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"wxproxy/sandbox"
)

// platformConfig has a third-party platform, and a service that is none.
const platformConfig = `anonymous: false
callers:
  - {name: platform, key: ` + canaryWeb + `, apps: [a], third_party: true}
  - {name: crm, key: ` + canaryCRMNew + `, apps: [a]}
`

// platformTokens are what WeChat has issued to a platform.
type platformTokens struct {
	component  string
	authorizer string // of b
	refresh    string
}

// fetchPlatformTokens gets a component token, and one that b has granted, by api_query_auth.
func fetchPlatformTokens(t *testing.T, base string, header ...string) platformTokens {
	t.Helper()
	var platform struct {
		Token string `json:"component_access_token"`
	}
	post(t, base+"/cgi-bin/component/api_component_token",
		`{"component_appid":"`+appA+`","component_appsecret":"`+canarySecret+`","component_verify_ticket":"x"}`, &platform, header...)
	var granted struct {
		Info struct {
			Token   string `json:"authorizer_access_token"`
			Refresh string `json:"authorizer_refresh_token"`
		} `json:"authorization_info"`
	}
	post(t, base+"/cgi-bin/component/api_query_auth?component_access_token="+platform.Token,
		`{"component_appid":"`+appA+`","authorization_code":"`+appB+`"}`, &granted, header...)
	if platform.Token == "" || granted.Info.Token == "" {
		t.Fatalf("no tokens: %+v, %+v", platform, granted)
	}
	return platformTokens{platform.Token, granted.Info.Token, granted.Info.Refresh}
}

// TestPlatformKeyInEveryCall: the HTTP client of a platform sends its key with component calls and with
// calls for the accounts alike, in the base URL or in a header.
func TestPlatformKeyInEveryCall(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	p := start(t, write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), "", platformConfig), wechat)
	for _, client := range []struct {
		name   string
		header []string
	}{
		{"base URL with the platform's appid", []string{"Authorization", basic("wx9999999999999999", canaryWeb)}},
		{"base URL with the caller's name", []string{"Authorization", basic("platform", canaryWeb)}},
		{"base URL with an account's name", []string{"Authorization", basic("a", canaryWeb)}},
		{"base URL without a user", []string{"Authorization", basic("", canaryWeb)}},
		{"header", []string{"X-Wxproxy-Key", canaryWeb}},
		{"headers", []string{"X-Wxproxy-Key", canaryWeb, "X-Wxproxy-App", "a"}},
	} {
		t.Run(client.name, func(t *testing.T) {
			tokens := fetchPlatformTokens(t, p.url, client.header...)
			apps := make(map[string]string) // by request id
			for _, tt := range []struct{ name, target, app string }{
				{"component call", "/cgi-bin/component/api_create_preauthcode?component_access_token=" + tokens.component, "component"},
				{"component token in access_token", "/cgi-bin/component/api_create_preauthcode?access_token=" + tokens.component, "component"},
				{"component token on a path that takes no other", "/wxa/gettemplatelist?access_token=" + tokens.component, "component"},
				{"one that was issued before the gateway came", "/wxa/gettemplatelist?access_token=UNKNOWN", "component"},
				{"component token on a path that takes either", "/cgi-bin/openapi/quota/get?access_token=" + tokens.component, "component"},
				{"component token on a path of accounts", "/product/register/register_shop?component_access_token=" + tokens.component, "component"},
				{"authorizer call", "/cgi-bin/user/info/updateremark?access_token=" + tokens.authorizer, "b"},
				{"authorizer's setting", "/cgi-bin/component/getprivacysetting?access_token=" + tokens.authorizer, "b"},
				{"authorizer's option", "/cgi-bin/component/get_authorizer_option?access_token=" + tokens.authorizer, "b"},
				{"a user of an authorizer", "/sns/component/jscode2session?appid=" + appA + "&js_code=c&grant_type=authorization_code&component_appid=x&component_access_token=" + tokens.component, "a"},
				{"a user's token", "/sns/oauth2/component/refresh_token?appid=" + appA + "&grant_type=refresh_token&component_appid=x&component_access_token=" + tokens.component + "&refresh_token=r", "a"},
				{"a user of an account that is not known", "/sns/component/jscode2session?appid=wx8888888888888888&js_code=c&component_access_token=" + tokens.component, "component"},
			} {
				id := rand.Text()
				a := post(t, p.url+tt.target, `{"x":1}`, nil, append([]string{"X-Request-Id", id}, client.header...)...)
				if a.decision != "pass" {
					t.Errorf("%s: %v, want pass", tt.name, a)
				}
				sent := lastRequest(wechat)
				if sent.Target != tt.target || len(sent.Header["Authorization"])+len(sent.Header["X-Wxproxy-Key"]) > 0 {
					t.Errorf("%s: sent with another credential than its own", tt.name)
				}
				apps[id] = tt.app
			}
			for id, app := range apps {
				line := p.stdout.await(t, "line of the call", func(line map[string]any) bool { return line["request_id"] == id })
				if line["app"] != app || line["caller"] != "platform" {
					t.Errorf("%v counted for %v of %v, want %s", line["path"], line["app"], line["caller"], app)
				}
			}
			// A token that nobody has seen may be of any account: it is not replaced by the token of one.
			unknown := post(t, p.url+"/cgi-bin/user/info/updateremark?access_token=UNKNOWN", `{}`, nil, client.header...)
			if !strings.Contains(unknown.body, "48001") {
				t.Errorf("an unknown token: %v, want 48001", unknown)
			}
		})
	}
}

// TestPlatformAndOthers: who is no platform calls for no platform, and a token of ours is the account's on
// paths below /cgi-bin/component/ too.
func TestPlatformAndOthers(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	p := start(t, write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), "", platformConfig), wechat)
	platform, crm := []string{"X-Wxproxy-Key", canaryWeb}, []string{"X-Wxproxy-Key", canaryCRMNew}
	tokens := fetchPlatformTokens(t, p.url, platform...)
	for _, target := range []string{
		"/cgi-bin/component/api_create_preauthcode?component_access_token=" + tokens.component,
		"/wxa/gettemplatelist?access_token=" + tokens.component,
		"/cgi-bin/user/info/updateremark?access_token=" + tokens.authorizer,
	} {
		if a := post(t, p.url+target, `{}`, nil, crm...); !strings.Contains(a.body, "48001") {
			t.Errorf("%s by a service: %v, want 48001", target, a)
		}
		if a := post(t, p.url+target, `{}`, nil); a.decision != "pass" && !strings.Contains(target, "component_access_token") {
			t.Errorf("%s by its token alone: %v, want pass", target, a)
		}
	}
	ours := fetch(t, p.url, appA, canaryCRMNew).AccessToken
	for _, path := range []string{"/cgi-bin/component/getprivacysetting", "/cgi-bin/component/set_authorizer_option", "/cgi-bin/openapi/rid/get", "/new/family"} {
		post(t, p.url+path+"?access_token="+ours, `{}`, nil)
		if sent := lastRequest(wechat); sent.Path != path || sent.AppID != appA || strings.Contains(sent.RawQuery, "wxp1.") {
			t.Errorf("%s with a token of ours was not sent with the account's", path)
		}
	}
	if a := post(t, p.url+"/new/"+canaryCRMNew+"/x", `{}`, nil, crm...); !strings.Contains(a.body, "48001") || a.decision != "refused-auth" {
		t.Errorf("a key in the path: %v, want 48001 and nothing sent", a)
	}
	if a := post(t, p.url+"/new/family", `{}`, nil); !strings.Contains(a.body, "48001") {
		t.Errorf("a new family by nobody: %v, want 48001", a)
	}
}

// TestSDKPaths: none of the paths that SDKs call is refused, and each goes out with the credential that
// WeChat's pages name.
func TestSDKPaths(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	p := start(t, write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), "", platformConfig), wechat)
	key := []string{"X-Wxproxy-Key", canaryWeb}
	tokens := fetchPlatformTokens(t, p.url, key...)
	ours := fetch(t, p.url, appA, canaryCRMNew).AccessToken

	const withAccount, asItIs = true, false
	call := func(path, query string, want bool, header ...string) {
		t.Helper()
		target := path + "?" + query
		if a := post(t, p.url+target, `{"x":1}`, nil, header...); a.decision != "pass" {
			t.Errorf("%s: %v, want pass", path, a)
			return
		}
		sent := lastRequest(wechat)
		if sent.Path != path {
			t.Errorf("%s: sent as %s", path, sent.Path)
		}
		if replaced := sent.RawQuery != query; replaced != want || replaced && (sent.AppID != appA || strings.Contains(sent.RawQuery, "wxp1.")) {
			t.Errorf("%s?%.16s…: the account's token went out: %t, want %t", path, query, replaced, want)
		}
	}
	paths := 0
	f, err := os.Open("../../wechat/testdata/paths.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	credential := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if !strings.HasPrefix(line, " ") {
			credential = line
			continue
		}
		fields := strings.Fields(line)
		for _, name := range fields[1:] {
			path := fields[0] + "/" + name
			paths++
			switch {
			case path == "/cgi-bin/token" || path == "/cgi-bin/stable_token": // answered here
			case credential == "account":
				call(path, "access_token="+ours+"&a=b", withAccount)
				if paths%8 == 0 && !strings.Contains(path, "/mass/") { // those are 10 and 100 a day
					call(path, "access_token="+tokens.authorizer, asItIs, key...)
				}
			case credential == "platform":
				call(path, "access_token="+tokens.component, asItIs, key...)
				call(path, "component_access_token="+tokens.component, asItIs, key...)
			case credential == "either":
				call(path, "access_token="+ours, withAccount)
				call(path, "access_token="+tokens.component, asItIs, key...)
				call(path, "component_access_token="+tokens.component, asItIs, key...)
			default:
				call(path, "access_token=USER&appid="+appA, asItIs, key...)
			}
		}
	}
	if paths < 1800 {
		t.Errorf("%d paths, want the whole list", paths)
	}
}

// lastRequest is the last one that WeChat has seen, but for the gateway's own questions.
func lastRequest(wechat *sandbox.Server) sandbox.Request {
	for _, r := range slices.Backward(wechat.Requests()) {
		if r.Header.Get("User-Agent") != "wxproxy" {
			return r
		}
	}
	return sandbox.Request{}
}
