package proxy

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"go.uber.org/zap/zapcore"
)

func TestAllowsAnonymous(t *testing.T) {
	tests := []struct {
		name      string
		anonymous Anonymous
		open      bool // the listener is not loopback
		remote    string
		host      string
		header    string
		want      bool
	}{
		{name: "auto", want: true},
		{name: "IPv6", remote: "[::1]:9", host: "[::1]:8080", want: true},
		{name: "IPv4 in IPv6", remote: "[::ffff:127.0.0.1]:9", want: true},
		{name: "elsewhere in 127/8", remote: "127.8.9.10:9", host: "127.1.1.1", want: true},
		{name: "unix socket", remote: "@", host: "localhost", want: true},
		{name: "unix socket without a name", remote: "", host: "localhost", want: true},
		{name: "host localhost", host: "LocalHost:8080", want: true},
		{name: "host WeChat", host: "api.weixin.qq.com", want: true},
		{name: "host WeChat with port", host: "API2.weixin.qq.com:443", want: true},
		{name: "host WeChat sh", host: "sh.api.weixin.qq.com", want: true},
		{name: "host WeChat file", host: "file.api.weixin.qq.com", want: true},
		{name: "open listener", open: true},
		{name: "peer elsewhere", remote: "192.0.2.1:9"},
		{name: "peer not an address", remote: "somebody"},
		{name: "host rebound", host: "evil.example"},
		{name: "host like WeChat", host: "api.weixin.qq.com.evil.example"},
		{name: "host under WeChat", host: "x.api.weixin.qq.com"},
		{name: "host like localhost", host: "localhost.evil.example"},
		{name: "host like loopback", host: "127.0.0.1.nip.io"},
		{name: "host IPv6 and more", host: "[::1]x"},
		{name: "host IPv6 open", host: "[::1"},
		{name: "host none", host: "-"},
		{name: "Origin", header: "Origin"},
		{name: "Sec-Fetch-Site", header: "Sec-Fetch-Site"},
		{name: "Forwarded", header: "Forwarded"},
		{name: "X-Forwarded-For", header: "X-Forwarded-For"},
		{name: "X-Real-IP", header: "X-Real-IP"},
		{name: "Via", header: "Via"},
		{name: "never", anonymous: AnonymousNever},
		{name: "always", anonymous: AnonymousAlways, open: true, remote: "192.0.2.1:9", host: "evil.example", header: "Origin", want: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/cgi-bin/user/info", nil)
			r.RemoteAddr, r.Host = "127.0.0.1:4711", "127.0.0.1:8080"
			if tt.remote != "" || tt.name == "unix socket without a name" {
				r.RemoteAddr = tt.remote
			}
			switch tt.host {
			case "":
			case "-":
				r.Host = ""
			default:
				r.Host = tt.host
			}
			if tt.header != "" {
				r.Header.Set(tt.header, "x")
			}
			s := &settings{Config: Config{Anonymous: tt.anonymous, LoopbackListener: !tt.open}}
			if got := s.allowsAnonymous(r, peerAddr(r.RemoteAddr)); got != tt.want {
				t.Errorf("allowsAnonymous = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestWho(t *testing.T) {
	const second = "wxfedcba9876543210"
	one := []App{{Name: "shop", AppID: testAppID}}
	two := []App{{Name: "shop", AppID: testAppID}, {Name: "crm", AppID: second}}
	const (
		unauthorized = `{"errcode":48001,"errmsg":"api unauthorized"}`
		invalidAppID = `{"errcode":40013,"errmsg":"invalid appid"}`
	)
	tests := []struct {
		name    string
		apps    []App
		path    string
		headers []string
		want    string // the app that is called, or the answer
	}{
		{"the only app", one, "/cgi-bin/user/info", nil, testAppID},
		{"two apps, none selected", two, "/cgi-bin/user/info", nil, unauthorized},
		{"by path", two, "/" + second + "/cgi-bin/user/info", nil, second},
		{"by escaped path", two, "/%77xfedcba9876543210//cgi-bin/user/info", nil, second},
		{"by name", two, "/cgi-bin/user/info", []string{"X-Wxproxy-App: crm"}, second},
		{"by appid", two, "/cgi-bin/user/info", []string{"X-Wxproxy-App: " + second}, second},
		{"by path and name, agreed", two, "/" + second + "/cgi-bin/user/info", []string{"X-Wxproxy-App: crm"}, second},
		{"by path and name, disagreed", two, "/" + second + "/cgi-bin/user/info", []string{"X-Wxproxy-App: shop"}, unauthorized},
		{"two names, agreed", two, "/cgi-bin/user/info", []string{"X-Wxproxy-App: crm", "X-Wxproxy-App: " + second}, second},
		{"two names, disagreed", two, "/cgi-bin/user/info", []string{"X-Wxproxy-App: crm", "X-Wxproxy-App: shop"}, unauthorized},
		{"unknown name", one, "/cgi-bin/user/info", []string{"X-Wxproxy-App: nobody"}, unauthorized},
		{"empty name", one, "/cgi-bin/user/info", []string{"X-Wxproxy-App: "}, unauthorized},
		{"unknown appid by path", one, "/wx0000000000000000/cgi-bin/user/info", nil, invalidAppID},
		{"a name is not for the path", one, "/shop/cgi-bin/user/info", nil, `{"errcode":40066,"errmsg":"invalid url"}`},
		{"Basic", one, "/cgi-bin/user/info", []string{"Authorization: Basic c2hvcDprZXk="}, unauthorized},
		{"basic, another case", one, "/cgi-bin/user/info", []string{"Authorization: bASIC c2hvcDprZXk="}, unauthorized},
		{"key", one, "/cgi-bin/user/info", []string{"X-Wxproxy-Key: k"}, unauthorized},
		{"empty key", one, "/cgi-bin/user/info", []string{"X-Wxproxy-Key: "}, unauthorized},
		{"another Authorization", one, "/cgi-bin/user/info", []string{"Authorization: Bearer x"}, testAppID},
		{"a token of whoever", one, "/cgi-bin/user/info?access_token=whatever", nil, testAppID},
	}
	u := newUpstream(t, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGateway(t, u.URL, func(o *Options) { o.Apps = tt.apps })
			g.limiter.rules[second] = g.limiter.rules[testAppID]
			before := u.count()
			_, text := g.do(t, "GET", tt.path, "", tt.headers...)
			rec := g.nextRecord(t)
			if text == okText {
				if rec.AppID != tt.want {
					t.Errorf("app = %q, want %q", rec.AppID, tt.want)
				}
				if got := u.last(t); got.Target != "/cgi-bin/user/info?access_token="+testToken {
					t.Errorf("sent %s", got.Target)
				}
				return
			}
			if text != tt.want {
				t.Errorf("answer = %s, want %s", text, tt.want)
			}
			if u.count() != before || g.limiter.counted(t) != 0 {
				t.Errorf("a refused call was sent or counted")
			}
			want := refusedAuth
			if rec.Status == http.StatusNotFound {
				want = refusedRequest
			}
			if rec.Decision != want {
				t.Errorf("decision = %s, want %s", rec.Decision, want)
			}
		})
	}
}

func TestKeyShownIsSaidOnce(t *testing.T) {
	g := newGateway(t, newUpstream(t, nil).URL, nil)
	for range 3 {
		g.do(t, "GET", "/cgi-bin/user/info", "", "X-Wxproxy-Key: CANARY")
	}
	if got := g.logs.FilterLevelExact(zapcore.WarnLevel).Len(); got != 1 {
		t.Errorf("%d lines, want 1: %v", got, g.logs.All())
	}
}

func TestClientIP(t *testing.T) {
	s := &settings{Config: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}}}
	tests := []struct {
		name      string
		remote    string
		forwarded []string
		want      string
	}{
		{"nobody else", "192.0.2.1:9", nil, "192.0.2.1"},
		{"not to be believed", "192.0.2.1:9", []string{"198.51.100.7"}, "192.0.2.1"},
		{"a proxy's word", "10.0.0.1:9", []string{"198.51.100.7"}, "198.51.100.7"},
		{"a client's word before it", "10.0.0.1:9", []string{"203.0.113.9, 198.51.100.7"}, "198.51.100.7"},
		{"two proxies", "10.0.0.1:9", []string{"203.0.113.9, 198.51.100.7, 10.2.2.2"}, "198.51.100.7"},
		{"two lines", "[::1]:9", []string{"203.0.113.9", "198.51.100.7,10.2.2.2"}, "198.51.100.7"},
		{"only proxies", "10.0.0.1:9", []string{"10.2.2.2"}, "10.2.2.2"},
		{"nonsense", "10.0.0.1:9", []string{"CANARY"}, "10.0.0.1"},
		{"with zone", "10.0.0.1:9", []string{"fe80::1%CANARY"}, "fe80::1"},
		{"mapped", "[::ffff:10.0.0.1]:9", []string{"::ffff:198.51.100.7"}, "198.51.100.7"},
		{"unix socket", "@", []string{"198.51.100.7"}, "unix"},
	}
	for _, tt := range tests {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = tt.remote
		r.Header["X-Forwarded-For"] = tt.forwarded
		if got := s.clientIP(r, peerAddr(r.RemoteAddr)); got != tt.want {
			t.Errorf("%s: clientIP = %s, want %s", tt.name, got, tt.want)
		}
	}
}
