package proxy

import (
	"net/netip"
	"testing"
	"time"

	"wxproxy/token"
)

// TestBounds: what a caller may call, from where and until when, by key and by proxy token.
func TestBounds(t *testing.T) {
	const (
		key, appSecret = "crm-key-0123456789", "secret-of-the-app"
		fetch          = "/cgi-bin/token?grant_type=client_credential&appid=" + testAppID + "&secret="
		menu, user     = "/cgi-bin/menu/create", "/cgi-bin/user/info"
		unauthorized   = `{"errcode":48001,"errmsg":"api unauthorized"}`
	)
	keyring, err := token.NewKeyring([]token.Account{{AppID: testAppID, Secrets: []string{appSecret}}},
		[]token.Caller{{Name: "crm", Keys: []string{key}, Apps: []string{testAppID}}, {Name: "till", Keys: []string{"till-" + key}, Apps: []string{testAppID}}})
	if err != nil {
		t.Fatal(err)
	}
	prefixes := func(texts ...string) (out []netip.Prefix) {
		for _, text := range texts {
			out = append(out, netip.MustParsePrefix(text))
		}
		return out
	}
	loopback := prefixes("127.0.0.0/8", "::1/128")
	tests := []struct {
		name      string
		bounds    Bounds
		key, path string
		forwarded string // X-Forwarded-For, from a trusted proxy
		reason    Reason // of the refusal; "" is none
		noToken   bool   // the token request is refused, too
	}{
		{name: "no bounds", path: menu},
		{name: "the rule", bounds: Bounds{Rules: []string{"menu.create"}}, path: menu},
		{name: "the rule, in capitals", bounds: Bounds{Rules: []string{"user.*"}}, path: "/CGI-BIN/Menu/Create", reason: RuleNotAllowed},
		{name: "a family of rules", bounds: Bounds{Rules: []string{"user.*", "menu.*"}}, path: menu},
		{name: "another rule", bounds: Bounds{Rules: []string{"menu.*"}}, path: user, reason: RuleNotAllowed},
		{name: "a rule of many paths", bounds: Bounds{Rules: []string{"menu.*"}}, path: "/cgi-bin/tags/get", reason: RuleNotAllowed},
		{name: "a rule that takes no token of the account", bounds: Bounds{Rules: []string{"menu.*"}}, path: "/sns/userinfo", reason: RuleNotAllowed},
		{name: "another caller's bounds", bounds: Bounds{Rules: []string{"menu.*"}, Expires: time.Unix(1, 0)}, key: "till-" + key, path: user},
		{name: "an AppSecret has none", bounds: Bounds{Rules: []string{"menu.*"}, Expires: time.Unix(1, 0)}, key: appSecret, path: user},

		{name: "from here", bounds: Bounds{From: loopback}, path: menu},
		{name: "from elsewhere", bounds: Bounds{From: prefixes("10.0.0.0/8")}, path: menu, reason: AddrNotAllowed, noToken: true},
		{name: "behind a proxy", bounds: Bounds{From: prefixes("10.0.0.0/8")}, path: menu, forwarded: "10.1.2.3"},
		{name: "behind a proxy, from elsewhere", bounds: Bounds{From: loopback}, path: menu, forwarded: "192.0.2.1", reason: AddrNotAllowed, noToken: true},
		{name: "behind a proxy, and a client that names another", bounds: Bounds{From: prefixes("10.0.0.0/8")}, path: menu, forwarded: "10.1.2.3, 192.0.2.1", reason: AddrNotAllowed, noToken: true},

		{name: "not over", bounds: Bounds{Expires: time.Now().Add(time.Hour)}, path: menu},
		{name: "over", bounds: Bounds{Expires: time.Now()}, path: menu, reason: CallerExpired, noToken: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t, nil)
			g := newGateway(t, u.URL, func(o *Options) {
				o.Identity, o.Anonymous = keyring, AnonymousNever
				o.Bounds = map[string]Bounds{"crm": tt.bounds}
				o.TrustedProxies = loopback
			})
			shown := tt.key
			if shown == "" {
				shown = key
			}
			var headers []string
			if tt.forwarded != "" {
				headers = append(headers, "X-Forwarded-For: "+tt.forwarded)
			}
			_, answer := g.do(t, "GET", fetch+shown, "", headers...)
			if refused := answer == unauthorized; refused != tt.noToken {
				t.Errorf("token request answered %s, want refused: %t", answer, tt.noToken)
			}
			proxyToken := issued(t, keyring, shown)
			ways := map[string]struct {
				path    string
				headers []string
			}{"a proxy token": {tt.path + "?access_token=" + proxyToken, headers}}
			if shown != appSecret {
				ways["a key"] = struct {
					path    string
					headers []string
				}{tt.path, append([]string{"X-Wxproxy-Key: " + shown}, headers...)}
			}
			for how, way := range ways {
				g.nextRecord(t)
				res, answer := g.do(t, "GET", way.path, "", way.headers...)
				if got := Reason(res.Header.Get("X-Wxproxy-Reason")); got != tt.reason || (answer == unauthorized) != (got != "") {
					t.Errorf("%s: answered %s for %q, want %q", how, answer, got, tt.reason)
				}
			}
			if r := g.nextRecord(t); tt.reason != "" && (r.Decision != refusedAuth || r.Caller != "crm" || r.Attempts != 0) {
				t.Errorf("logged %s of caller %q with %d attempts, want %s, crm and 0", r.Decision, r.Caller, r.Attempts, refusedAuth)
			}
		})
	}
}

// issued returns a proxy token that was issued before any bound.
func issued(t *testing.T, k *token.Keyring, secret string) string {
	t.Helper()
	proxyToken, _, err := k.Issue(testAppID, secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return proxyToken
}
