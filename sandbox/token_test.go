package sandbox

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// try makes an ordinary call with a token and returns its errcode.
func try(t *testing.T, s *Server, token string) int {
	t.Helper()
	return callJSON(t, s, "GET", "/cgi-bin/get_api_domain_ip?access_token="+token, "", nil)
}

func wantCode(t *testing.T, what string, got, want int) {
	t.Helper()
	if got != want {
		t.Errorf("%s: errcode %d, want %d", what, got, want)
	}
}

func TestClassicToken(t *testing.T) {
	s := start(t, Options{})
	first := fetchWith(t, s, DefaultAppID, DefaultSecret)
	if first.Expires != 7200 {
		t.Errorf("expires_in = %d, want 7200", first.Expires)
	}
	if len(first.Token) <= 100 || len(first.Token) > 512 || !regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString(first.Token) {
		t.Errorf("token = %q, want over 100 URL-safe characters", first.Token)
	}
	second := fetch(t, s, DefaultAppID)
	if second == first.Token {
		t.Error("the second fetch gave the first token")
	}
	wantCode(t, "old token beside the new one", try(t, s, first.Token), 0)
	s.Advance(5*time.Minute - time.Second)
	wantCode(t, "old token before five minutes", try(t, s, first.Token), 0)
	s.Advance(time.Second)
	wantCode(t, "old token after five minutes", try(t, s, first.Token), 40001)
	wantCode(t, "new token", try(t, s, second), 0)
	s.Advance(tokenLife - 5*time.Minute)
	wantCode(t, "new token after two hours", try(t, s, second), 42001)

	_, body := send(t, s, "GET", "/cgi-bin/menu/get?access_token="+first.Token, "")
	const text = "invalid credential, access_token is invalid or not latest, could get access_token by " +
		"getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r rid: "
	if !strings.HasPrefix(string(body), `{"errcode":40001,"errmsg":"`+text) {
		t.Errorf("answer = %s, want %q in it", body, text)
	}
}

// TestThreeFetches: each token has its own five minutes, whatever comes after.
func TestThreeFetches(t *testing.T) {
	s := start(t, Options{})
	a := fetch(t, s, DefaultAppID)
	s.Advance(4 * time.Minute)
	b := fetch(t, s, DefaultAppID)
	s.Advance(4 * time.Minute)
	c := fetch(t, s, DefaultAppID)
	s.Advance(time.Minute)
	wantCode(t, "first", try(t, s, a), 40001)
	wantCode(t, "second", try(t, s, b), 0)
	wantCode(t, "third", try(t, s, c), 0)
	if got, want := s.Tokens(DefaultAppID), []string{b, c}; !slices.Equal(got, want) {
		t.Errorf("Tokens = %q, want %q", got, want)
	}
}

func TestTokenErrors(t *testing.T) {
	s := start(t, Options{Quotas: map[string]int64{pathToken: 1}})
	form := "grant_type=client_credential&appid=" + DefaultAppID + "&secret=" + DefaultSecret
	tests := []struct {
		name, method, target, body string
		code                       int
	}{
		{"no grant", "GET", pathToken, "", 40002},
		{"wrong grant", "GET", pathToken + "?grant_type=x&appid=" + DefaultAppID + "&secret=" + DefaultSecret, "", 40002},
		{"no appid", "GET", pathToken + "?grant_type=client_credential", "", 41002},
		{"no secret", "GET", pathToken + "?grant_type=client_credential&appid=" + DefaultAppID, "", 41004},
		{"unknown appid", "GET", tokenTarget("wxnobody", DefaultSecret), "", 40013},
		{"wrong secret", "GET", tokenTarget(DefaultAppID, "wrong"), "", 40125},
		{"a form", "POST", pathToken, form, 0},
		{"over the quota", "GET", pathToken + "?" + form, "", 45009},
		{"stable by GET", "GET", pathStable + "?" + form, "", 43002},
		{"stable without body", "POST", pathStable + "?" + form, "", 44002},
		{"stable by a form", "POST", pathStable, form, 47001},
		{"stable, wrong grant", "POST", pathStable, `{"appid":"x","secret":"x"}`, 40002},
		{"stable, no appid", "POST", pathStable + "?" + form, `{"grant_type":"client_credential"}`, 41002},
		{"stable, no secret", "POST", pathStable, `{"grant_type":"client_credential","appid":"x"}`, 41004},
		{"stable, unknown appid", "POST", pathStable, `{"grant_type":"client_credential","appid":"x","secret":"x"}`, 40013},
		{"stable, wrong secret", "POST", pathStable, `{"grant_type":"client_credential","appid":"` + DefaultAppID + `","secret":"x"}`, 40125},
		{"stable, odd force_refresh", "POST", pathStable, `{"grant_type":"client_credential","force_refresh":"true"}`, 47001},
	}
	for _, tt := range tests {
		wantCode(t, tt.name, callJSON(t, s, tt.method, tt.target, tt.body, nil), tt.code)
	}
	if got := s.TokenFetches(""); got != int64(len(tests)) {
		t.Errorf("TokenFetches = %d, want %d", got, len(tests))
	}
	if got := s.Executed("", pathToken); got != 1 {
		t.Errorf("Executed = %d, want 1", got)
	}
	_, body := send(t, s, "GET", pathToken+"?"+form, "")
	if want := "reach max api daily quota limit, could get access_token by getStableAccessToken, more details at "; !strings.Contains(string(body), want) {
		t.Errorf("answer = %s, want %q in it", body, want)
	}
}

func TestStableToken(t *testing.T) {
	s := start(t, Options{})
	first := fetchStable(t, s, false)
	if first.Expires != 7200 {
		t.Errorf("expires_in = %d, want 7200", first.Expires)
	}
	s.Advance(6855 * time.Second)
	again := fetchStable(t, s, false)
	if again.Token != first.Token || again.Expires != 345 {
		t.Errorf("after 6855 s: same token %t, expires_in %d; want the same, 345", again.Token == first.Token, again.Expires)
	}
	s.Advance(45 * time.Second)
	if again = fetchStable(t, s, false); again.Token != first.Token || again.Expires != 300 {
		t.Errorf("after 6900 s: same token %t, expires_in %d; want the same, 300", again.Token == first.Token, again.Expires)
	}
	s.Advance(time.Second)
	next := fetchStable(t, s, false)
	if next.Token == first.Token || next.Expires != 7200 {
		t.Errorf("in the last five minutes: same token %t, expires_in %d; want a new one, 7200", next.Token == first.Token, next.Expires)
	}
	wantCode(t, "old token beside the new one", try(t, s, first.Token), 0)
	s.Advance(299 * time.Second)
	wantCode(t, "old token at its end", try(t, s, first.Token), 42001)
	wantCode(t, "new token", try(t, s, next.Token), 0)
}

func TestForceRefresh(t *testing.T) {
	s := start(t, Options{})
	first := fetchStable(t, s, false).Token
	second := fetchStable(t, s, true).Token
	if second == first {
		t.Fatal("force_refresh gave the old token")
	}
	wantCode(t, "old token", try(t, s, first), 40001)
	s.Advance(29 * time.Second)
	if got := fetchStable(t, s, true).Token; got != second {
		t.Error("force_refresh after 29 s gave a new token")
	}
	last := second
	for i := 2; i <= forcePerDay; i++ {
		s.Advance(30 * time.Second)
		got := fetchStable(t, s, true).Token
		if got == last {
			t.Errorf("force_refresh %d of the day gave the old token", i)
		}
		last = got
	}
	s.Advance(30 * time.Second)
	if got := fetchStable(t, s, true).Token; got != last {
		t.Error("force_refresh 21 of the day gave a new token")
	}
	s.Advance(24 * time.Hour)
	fetchStable(t, s, false)
	if got := fetchStable(t, s, true).Token; got == last {
		t.Error("force_refresh of the next day gave the old token")
	}
}

func TestEndpointsAreIsolated(t *testing.T) {
	s := start(t, Options{})
	classic, stable := fetch(t, s, DefaultAppID), fetchStable(t, s, false).Token
	fetchStable(t, s, true)
	wantCode(t, "classic after a forced stable", try(t, s, classic), 0)
	stable2 := fetchStable(t, s, false).Token
	fetch(t, s, DefaultAppID)
	s.Advance(time.Hour)
	wantCode(t, "stable after a classic fetch", try(t, s, stable2), 0)
	wantCode(t, "classic after a classic fetch", try(t, s, classic), 40001)
	wantCode(t, "stable after a forced one", try(t, s, stable), 40001)
}

func TestKillTokens(t *testing.T) {
	const other = "wx00000000000000aa"
	s := start(t, Options{Apps: []App{{}, {AppID: other}}})
	classic, stable, spared := fetch(t, s, DefaultAppID), fetchStable(t, s, false).Token, fetch(t, s, other)
	s.KillTokens(DefaultAppID)
	wantCode(t, "classic", try(t, s, classic), 40001)
	wantCode(t, "stable", try(t, s, stable), 40001)
	wantCode(t, "another app's", try(t, s, spared), 0)
	if got := s.Tokens(DefaultAppID); len(got) != 0 {
		t.Errorf("Tokens = %q, want none", got)
	}
	wantCode(t, "next stable", try(t, s, fetchStable(t, s, false).Token), 0)
	s.KillTokens("")
	wantCode(t, "another app's, all killed", try(t, s, spared), 40001)
}

func TestTokensAreForgotten(t *testing.T) {
	s := New(Options{Now: atNoon})
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.apps[DefaultAppID]
	old := s.issue(a, userToken, tokenLife)
	s.offset = tokenLife + forget
	for range 2000 {
		s.issue(a, userToken, tokenLife)
	}
	if _, kept := s.tokens[old.text]; !kept {
		t.Error("a token was forgotten before a day after its end")
	}
	s.offset += time.Second
	for range 2000 {
		s.issue(a, userToken, tokenLife)
	}
	if _, kept := s.tokens[old.text]; kept {
		t.Error("a token was kept for over a day after its end")
	}
}

func TestUnknownAppPanics(t *testing.T) {
	s := New(Options{})
	for name, f := range map[string]func(){
		"KillTokens": func() { s.KillTokens("wxnobody") },
		"SetQuota":   func() { s.SetQuota("wxnobody", "/x", 1) },
		"AddUsed":    func() { s.AddUsed("wxnobody", "/x", 1) },
		"ClearQuota": func() { s.ClearQuota("wxnobody") },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if got := fmt.Sprint(recover()); got != "sandbox: no app wxnobody" {
					t.Errorf("panic = %q", got)
				}
			}()
			f()
		})
	}
	if got := s.Executed("", ""); got != 0 { // the lock was given back
		t.Errorf("Executed = %d", got)
	}
}

func TestWebAuthorisation(t *testing.T) {
	s := start(t, Options{})
	account := fetch(t, s, DefaultAppID)
	type user struct {
		Token   string `json:"access_token"`
		Refresh string `json:"refresh_token"`
		OpenID  string `json:"openid"`
		Expires int    `json:"expires_in"`
		Union   string `json:"unionid"`
		Session string `json:"session_key"`
	}
	exchange := "/sns/oauth2/access_token?appid=" + DefaultAppID + "&secret=" + DefaultSecret + "&grant_type=authorization_code"
	var u, renewed, told, mini user
	res, _ := send(t, s, "GET", exchange, "")
	if got := res.Header.Get("Content-Type"); got != "text/plain" {
		t.Errorf("Content-Type = %q, want text/plain", got)
	}
	wantCode(t, "no code", callJSON(t, s, "GET", exchange, "", nil), 41008)
	wantCode(t, "code", callJSON(t, s, "GET", exchange+"&code=c1", "", &u), 0)
	wantCode(t, "code again", callJSON(t, s, "GET", exchange+"&code=c1", "", nil), 40163)
	wantCode(t, "wrong secret", callJSON(t, s, "GET", strings.Replace(exchange, DefaultSecret, "x", 1)+"&code=c2", "", nil), 40125)
	if u.Token == "" || u.Refresh == "" || len(u.OpenID) != 28 || u.Expires != 7200 {
		t.Errorf("user's token = %+v", u)
	}

	info := "/sns/userinfo?openid=" + u.OpenID + "&access_token="
	wantCode(t, "userinfo", callJSON(t, s, "GET", info+u.Token, "", &told), 0)
	if told.OpenID != u.OpenID || told.Union == "" {
		t.Errorf("userinfo = %+v", told)
	}
	wantCode(t, "auth", callJSON(t, s, "GET", "/sns/auth?openid="+u.OpenID+"&access_token="+u.Token, "", nil), 0)
	wantCode(t, "another's openid", callJSON(t, s, "GET", "/sns/userinfo?openid=x&access_token="+u.Token, "", nil), 40003)
	wantCode(t, "auth, another's openid", callJSON(t, s, "GET", "/sns/auth?openid=x&access_token="+u.Token, "", nil), 40003)
	wantCode(t, "account's token", callJSON(t, s, "GET", info+account, "", nil), 40001)
	wantCode(t, "unknown token", callJSON(t, s, "GET", info+"x", "", nil), 40001)
	wantCode(t, "user's token elsewhere", try(t, s, u.Token), 40001)

	refresh := "/sns/oauth2/refresh_token?appid=" + DefaultAppID + "&grant_type=refresh_token&refresh_token="
	s.Advance(3 * time.Hour)
	wantCode(t, "expired", callJSON(t, s, "GET", info+u.Token, "", nil), 42001)
	wantCode(t, "refresh", callJSON(t, s, "GET", refresh+u.Refresh, "", &renewed), 0)
	wantCode(t, "refreshed", callJSON(t, s, "GET", info+renewed.Token, "", nil), 0)
	wantCode(t, "refresh by nothing", callJSON(t, s, "GET", refresh+"x", "", nil), 40030)
	wantCode(t, "refresh of nobody", callJSON(t, s, "GET", strings.Replace(refresh, DefaultAppID, "x", 1)+u.Refresh, "", nil), 40013)
	wantCode(t, "refresh, no appid", callJSON(t, s, "GET", "/sns/oauth2/refresh_token", "", nil), 41002)
	wantCode(t, "refresh, no grant", callJSON(t, s, "GET", "/sns/oauth2/refresh_token?appid="+DefaultAppID, "", nil), 40002)

	login := "/sns/jscode2session?appid=" + DefaultAppID + "&secret=" + DefaultSecret + "&grant_type=authorization_code"
	wantCode(t, "login", callJSON(t, s, "GET", login+"&js_code=j1", "", &mini), 0)
	if mini.OpenID == "" || mini.Session == "" {
		t.Errorf("session = %+v", mini)
	}
	wantCode(t, "login, no code", callJSON(t, s, "GET", login, "", nil), 41008)
	if slices.Contains(s.Tokens(""), u.Token) {
		t.Error("Tokens names a user's token")
	}
}

func TestThirdPartyPlatform(t *testing.T) {
	const platform = "wx00000000000000aa"
	s := start(t, Options{Apps: []App{{AppID: platform}, {}}})
	var out struct {
		Component string `json:"component_access_token"`
		Token     string `json:"authorizer_access_token"`
		Refresh   string `json:"authorizer_refresh_token"`
		Info      struct {
			AppID   string `json:"authorizer_appid"`
			Token   string `json:"authorizer_access_token"`
			Refresh string `json:"authorizer_refresh_token"`
		} `json:"authorization_info"`
	}
	const base = "/cgi-bin/component/"
	post := func(target, body string) int {
		t.Helper()
		return callJSON(t, s, "POST", base+target, body, &out)
	}
	wantCode(t, "wrong secret", post("api_component_token", `{"component_appid":"`+platform+`","component_appsecret":"x"}`), 40125)
	wantCode(t, "component token", post("api_component_token", `{"component_appid":"`+platform+`","component_appsecret":"`+DefaultSecret+`","component_verify_ticket":"t"}`), 0)
	wantCode(t, "push ticket", post("api_start_push_ticket", `{"component_appid":"`+platform+`","component_secret":"`+DefaultSecret+`"}`), 0)
	wantCode(t, "no token", post("api_query_auth", `{}`), 41001)
	wantCode(t, "odd code", post("api_query_auth?component_access_token="+out.Component, `{"authorization_code":"x"}`), 61010)
	wantCode(t, "code", post("api_query_auth?component_access_token="+out.Component, `{"authorization_code":"queryauthcode@@@`+DefaultAppID+`"}`), 0)
	if out.Info.AppID != DefaultAppID {
		t.Errorf("authorizer_appid = %q, want %q", out.Info.AppID, DefaultAppID)
	}
	wantCode(t, "call on behalf", try(t, s, out.Info.Token), 0)
	if got := s.Executed(DefaultAppID, ""); got != 1 {
		t.Errorf("Executed of the authorising app = %d, want 1", got)
	}
	renew := func(refresh string) string {
		return fmt.Sprintf(`{"component_appid":%q,"authorizer_appid":%q,"authorizer_refresh_token":%q}`, platform, DefaultAppID, refresh)
	}
	wantCode(t, "renew", post("api_authorizer_token?access_token="+out.Component, renew(out.Info.Refresh)), 0)
	wantCode(t, "renewed", try(t, s, out.Token), 0)
	wantCode(t, "renew by nothing", post("api_authorizer_token?component_access_token="+out.Component, renew("x")), 61023)
	wantCode(t, "renew of nobody", post("api_authorizer_token?component_access_token="+out.Component, `{}`), 40013)
	wantCode(t, "platform's token elsewhere", try(t, s, out.Component), 40001)
	wantCode(t, "app's token at the platform", post("api_query_auth?component_access_token="+out.Token, `{}`), 40001)
	s.Advance(5 * time.Minute)
	wantCode(t, "superseded", try(t, s, out.Info.Token), 40001)
	wantCode(t, "still good", try(t, s, out.Token), 0)
}

// TestHeadCounts: net/http's HEAD is a GET to WeChat.
func TestHeadCounts(t *testing.T) {
	s := start(t, Options{})
	res, body := send(t, s, http.MethodHead, "/cgi-bin/menu/get?access_token="+fetch(t, s, DefaultAppID), "")
	if res.StatusCode != 200 || len(body) != 0 {
		t.Errorf("status %d, %d bytes; want 200, none", res.StatusCode, len(body))
	}
	if got := s.Executed("", "/cgi-bin/menu/get"); got != 1 {
		t.Errorf("Executed = %d, want 1", got)
	}
}
