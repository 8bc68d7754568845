package main

import (
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"wxproxy/sandbox"
)

// A caller's key that stands where WeChat would read it, or where it would be logged, comes no further,
// however short it is.
func TestMisplacedKeys(t *testing.T) {
	t.Parallel()
	const (
		form    = "application/x-www-form-urlencoded"
		unknown = "wxcccccccccccccccc" // an app that is not configured, but may be learned
	)
	tests := []struct {
		name, method, target, body, kind string
		header                           []string
		want                             string // the reason; "": the call is made without the key
	}{
		{name: "as a token", target: "/cgi-bin/menu/get?access_token=KEY", want: "misplaced-key"},
		{name: "as a token in another spelling", target: "/cgi-bin/menu/get?access_token=n=KEY", want: "misplaced-key"},
		{name: "as a token of a user", target: "/sns/userinfo?access_token=KEY&openid=o", want: "misplaced-key"},
		{name: "as a token of a platform", target: "/cgi-bin/component/get_domain?component_access_token=KEY", want: "misplaced-key"},
		{name: "as a token beside a good credential", target: "/sns/userinfo?access_token=KEY", header: []string{"Authorization", "BASIC"}, want: "misplaced-key"},
		{name: "as a secret that the call does not take", target: "/cgi-bin/menu/get?appid=" + appA + "&secret=KEY", want: "misplaced-key"},
		{name: "as another parameter", target: "/cgi-bin/user/info?a=b&openid=KEY&lang=zh_CN", want: "misplaced-key"},
		{name: "as a parameter's name", target: "/cgi-bin/menu/get?KEY=1", want: "misplaced-key"},
		{name: "as the query", target: "/cgi-bin/menu/get?KEY", want: "misplaced-key"},
		{name: "as a parameter beside a secret", target: "/sns/jscode2session?appid=" + appA + "&secret=" + canarySecret + "&js_code=KEY", want: "misplaced-key"},
		{name: "as a second secret", target: "/sns/jscode2session?appid=" + appA + "&secret=" + canarySecret + "&Secret=KEY&js_code=c", want: "misplaced-key"},
		{name: "as the secret of another app", target: "/sns/jscode2session?appid=" + unknown + "&secret=KEY&js_code=c", want: "misplaced-key"},
		{name: "as the secret of no app", target: "/sns/jscode2session?secret=KEY&js_code=c", want: "misplaced-key"},

		{name: "as the secret of an app to be learned", target: "/cgi-bin/token?grant_type=client_credential&appid=" + unknown + "&secret=KEY", want: "misplaced-key"},
		{name: "as the appid of a token request", target: "/cgi-bin/token?grant_type=client_credential&appid=KEY&secret=" + canarySecret, want: "misplaced-key"},
		{name: "as the secret in a body", method: "POST", target: "/cgi-bin/stable_token", body: `{"grant_type":"client_credential","appid":"` + unknown + `","secret":"KEY"}`, want: "misplaced-key"},

		{name: "as a path", target: "/KEY", want: "path"},
		{name: "before the path", target: "/KEY/cgi-bin/menu/get", want: "misplaced-key"},
		{name: "in the path", target: "/cgi-bin/KEY/get", want: "misplaced-key"},
		{name: "behind the path", target: "/cgi-bin/menu/get/KEY", want: "misplaced-key"},
		{name: "in the path of a refused call", target: "/" + appB + "/cgi-bin/menu/KEY", header: []string{"X-Wxproxy-App", "a"}, want: "contradiction"},

		{name: "in a form", method: "POST", target: "/sns/jscode2session", kind: form, body: "appid=" + appA + "&secret=KEY&js_code=c", want: "misplaced-key"},
		{name: "in a clear", method: "POST", target: "/cgi-bin/clear_quota/v2", body: `{"appid":"` + appA + `","appsecret":"KEY"}`, want: "misplaced-key"},
		{name: "in a clear of another app", method: "POST", target: "/cgi-bin/clear_quota/v2", body: `{"appid":"` + unknown + `","appsecret":"KEY"}`, want: "misplaced-key"},
		{name: "in a clear, twice", method: "POST", target: "/cgi-bin/clear_quota/v2", body: `{"appid":"` + appA + `","appsecret":"KEY","appsecret":"` + canarySecret + `"}`, want: "misplaced-key"},
		{name: "in a clear by a form", method: "POST", target: "/cgi-bin/clear_quota/v2", kind: form, body: "appid=" + appA + "&appsecret=KEY", want: "misplaced-key"},
		{name: "in a clear that is no JSON", method: "POST", target: "/cgi-bin/clear_quota/v2", body: `{"appsecret":"KEY",}`, want: "misplaced-key"},
		{name: "for a platform's token", method: "POST", target: "/cgi-bin/component/api_component_token", body: `{"component_appid":"x","component_appsecret":"KEY"}`, want: "misplaced-key"},

		{name: "in a header of another name", target: "/cgi-bin/menu/get", header: []string{"X-Api-Key", "KEY"}},
		{name: "as a bearer's", target: "/cgi-bin/menu/get", header: []string{"X-Token", "Bearer KEY", "Authorization", "Bearer KEY"}},
		{name: "in a header with underscores", target: "/cgi-bin/menu/get", header: []string{"X_Wxproxy_Key", "KEY"}},
		{name: "as the program's name", target: "/cgi-bin/menu/get", header: []string{"User-Agent", "KEY"}},
		{name: "beside the program's name", target: "/cgi-bin/menu/get", header: []string{"User-Agent", "crm KEY"}},
		{name: "as the call's id", target: "/cgi-bin/menu/get", header: []string{"X-Request-Id", "KEY"}},
		{name: "as the account", target: "/cgi-bin/menu/get", header: []string{"X-Wxproxy-App", "KEY"}, want: "unknown-app"},
		{name: "as the user of Basic", target: "/cgi-bin/menu/get", header: []string{"Authorization", "USER"}, want: "wrong-key"},
	}
	for _, key := range []string{"k3y", "Sh0rt-_.~Key", "Zm9v/YmFy+cXV4==", "1f2e3d4c5b6a79881f2e3d4c5b6a79881f2e3d4c5b6a7988"} {
		wechat := newWechat(t, sandbox.Options{})
		config := fmt.Sprintf("anonymous: auto\nlearn: true\ncallers:\n  - {name: crm, key: %q, apps: [a]}\n", key)
		p := start(t, write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), "", config), wechat)
		for _, tt := range tests {
			if path, _, _ := strings.Cut(tt.target, "?"); strings.Contains(path, "KEY") && strings.ContainsAny(key, "/+=") {
				continue // no segment of a path
			}
			t.Run(key[:3]+" "+tt.name, func(t *testing.T) {
				before := len(wechat.Requests())
				method := tt.method
				if method == "" {
					method = "GET"
				}
				escaped := url.QueryEscape(key)
				body := strings.ReplaceAll(tt.body, "KEY", key)
				if tt.kind == form {
					body = strings.ReplaceAll(tt.body, "KEY", escaped)
				}
				r, err := http.NewRequestWithContext(t.Context(), method, p.url+strings.ReplaceAll(tt.target, "KEY", escaped), strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				if tt.kind != "" {
					r.Header.Set("Content-Type", tt.kind)
				}
				if len(tt.header) == 0 {
					r.Header.Set("X-Wxproxy-App", "a")
				}
				for i := 0; i < len(tt.header); i += 2 {
					value := strings.NewReplacer("KEY", key, "BASIC", basic("a", key), "USER", basic(key, "")).Replace(tt.header[i+1])
					r.Header.Set(tt.header[i], value)
				}
				if r.Header.Get("Authorization") == "" && tt.want == "" {
					r.Header.Set("Authorization", basic("a", key))
				} else if tt.want == "" {
					r.Header.Set("X-Wxproxy-App", "a")
				}
				if a := send(t, r); a.reason != tt.want {
					t.Errorf("%v, want the reason %q", a, tt.want)
				}
				for _, seen := range wechat.Requests()[before:] {
					target := plain(seen.Target, wechat.Tokens(appA))
					if query, _ := url.QueryUnescape(target); strings.Contains(fmt.Sprint(target, query, seen.Header, string(seen.Body)), key) || tt.want != "" && !strings.HasSuffix(seen.Path, "_token") {
						t.Errorf("WeChat received %s %s %v %s", seen.Method, target, seen.Header, seen.Body)
					}
				}
			})
		}
		p.stop(t)
		for what, text := range map[string]string{"access log": p.stdout.String(), "log": p.stderr.String()} {
			for line := range strings.Lines(text) {
				if strings.Contains(line, key) {
					t.Errorf("the %s has the key %s: %s", what, key, line)
				}
			}
		}
	}
}
