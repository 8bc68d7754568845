package proxy

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// Headers that no program sends which speaks for itself. Neither kind reaches WeChat.
var (
	browserHeaders = []string{
		"Origin", "Referer", "Cookie", "Upgrade-Insecure-Requests", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest",
		"Sec-Ch-Ua", "Sec-Purpose", "Sec-GPC", "Sec-WebSocket-Key", "Sec-Anything",
	}
	proxyHeaders = []string{
		"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Anything", "X-Forwarded",
		"X-Real-IP", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "X-Cluster-Client-IP", "Fastly-Client-IP", "CDN-Loop",
		"X-Original-Forwarded-For", "X-Original-Host",
	}
)

// underscored is a header's name as CGI and its heirs take for the same one.
func underscored(name string) string { return strings.ReplaceAll(name, "-", "_") }

func TestStranger(t *testing.T) {
	type row struct {
		name      string
		anonymous Anonymous
		open      bool // the listener is not loopback
		remote    string
		proto     string
		host      string
		header    []string
		want      Reason
	}
	tests := []row{
		{name: "auto"},
		{name: "IPv6", remote: "[::1]:9", host: "[::1]:8080"},
		{name: "IPv4 in IPv6", remote: "[::ffff:127.0.0.1]:9"},
		{name: "unix socket", remote: "@", host: "localhost"},
		{name: "unix socket without a name", remote: "unix", host: "localhost"},
		{name: "open listener", open: true, want: NothingShown},
		{name: "peer elsewhere", remote: "192.0.2.1:9", want: NothingShown},
		{name: "peer not an address", remote: "somebody", want: NothingShown},
		{name: "never", anonymous: AnonymousNever, want: NothingShown},
		{name: "always", anonymous: AnonymousAlways, open: true, remote: "192.0.2.1:9", host: "evil.example", header: []string{"Origin", "x"}},

		{name: "no Host", host: "-", want: ForeignHost},
		{name: "HTTP/1.0 without a Host", proto: "HTTP/1.0", host: "-"},
		{name: "HTTP/1.0", proto: "HTTP/1.0"},
		{name: "HTTP/1.0, keep-alive", proto: "HTTP/1.0", header: []string{"Connection", "keep-alive"}},
		{name: "HTTP/1.0, close, without a Host", proto: "HTTP/1.0", host: "-", header: []string{"Connection", "close"}},
		{name: "HTTP/1.1, close", header: []string{"Connection", "close"}},
		{name: "nginx", proto: "HTTP/1.0", header: []string{"Connection", "close"}, want: Relayed},
		{name: "nginx by name", proto: "HTTP/1.0", host: "localhost:8080", header: []string{"Connection", "TE, Close"}, want: Relayed},
		{name: "nginx with a Host of WeChat's", proto: "HTTP/1.0", host: "api.weixin.qq.com", header: []string{"Connection", "close"}, want: Relayed},

		{name: "the words of a browser", header: []string{"Accept-Language", "en", "User-Agent", "Mozilla/5.0 (X11)"}, want: Browser},
		{name: "a library with a browser's name", header: []string{"User-Agent", "Mozilla/5.0 (compatible; MSIE 5.01; Windows NT 5.0)"}},
		{name: "a program with a language", header: []string{"Accept-Language", "*", "User-Agent", "axios/1.7"}},
		{name: "a browser behind a proxy", header: []string{"Via", "x", "Cookie", "x", "Referer", "x", "Origin", "x"}, want: Relayed},
		{name: "tracing", header: []string{"Traceparent", "x", "X-Request-Id", "x", "Max-Forwards", "1", "Proxy-Connection", "keep-alive"}},
	}
	for _, host := range []string{
		"127.0.0.1", "127.1.1.1", "127.0.0.1:80", "localhost", "LocalHost:8080", "[::1]", "[::1]:8080",
		"api.weixin.qq.com", "API2.weixin.qq.com:443", "sh.api.weixin.qq.com", "sz.api.weixin.qq.com", "hk.api.weixin.qq.com", "file.api.weixin.qq.com",
	} {
		tests = append(tests, row{name: "Host: " + host, host: host})
	}
	for _, host := range []string{
		"evil.example", "api.weixin.qq.com.evil.example", "x.api.weixin.qq.com", "api.weixin.qq.com.", "localhost.evil.example", "127.0.0.1.nip.io",
		// Loopback as it is spelled to get around a list. A browser sends no Sec-Fetch header there.
		"[::ffff:127.0.0.1]", "[::ffff:127.0.0.1]:8080", "[::ffff:7f00:1]:8080", "[0:0:0:0:0:ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
		"[0:0:0:0:0:0:0:1]", "[::0001]", "[::1%lo]:8080", "[::1%25lo]:8080", "[fe80::1%25lo]", "[127.0.0.1]:8080", "[localhost]",
		"localhost.", "localhost.:8080", "127.0.0.1.", "127.0.0.1.:8080", "x.localhost", "localhost.localdomain", "ip6-localhost",
		"2130706433", "2130706433:8080", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.1", "127.0.1", "127.000.000.001", "0.0.0.0", "0", "[::]",
		"127.0.0.1:", "127.0.0.1:x", "127.0.0.1:80:80", "localhost:+1", "::1", "[::1]x", "[::1", "::1]", "[]", ":8080", "127.0.0.1%00", "user@127.0.0.1", "\uff11\uff12\uff17.0.0.1",
	} {
		tests = append(tests, row{name: "Host: " + host, host: host, want: ForeignHost})
	}
	for want, names := range map[Reason][]string{Browser: browserHeaders, Relayed: proxyHeaders} {
		for _, name := range names {
			tests = append(tests, row{name: name, header: []string{name, "x"}, want: want},
				row{name: underscored(name), header: []string{underscored(name), "x"}, want: want},
				row{name: name + ", empty", header: []string{name, ""}, want: want})
		}
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/cgi-bin/user/info", nil)
			r.RemoteAddr, r.Host = "127.0.0.1:4711", "127.0.0.1:8080"
			if tt.remote != "" {
				r.RemoteAddr = strings.TrimPrefix(tt.remote, "unix")
			}
			if tt.host != "" {
				r.Host = strings.TrimPrefix(tt.host, "-")
			}
			if tt.proto != "" {
				r.ProtoMajor, r.ProtoMinor, _ = http.ParseHTTPVersion(tt.proto)
			}
			for i := 0; i < len(tt.header); i += 2 {
				r.Header.Set(tt.header[i], tt.header[i+1])
			}
			core, logs := observer.New(zapcore.WarnLevel)
			c := &call{
				h: &Handler{log: zap.New(core)}, s: &settings{Config: Config{Anonymous: tt.anonymous, LoopbackListener: !tt.open}},
				r: r, peer: peerAddr(r.RemoteAddr),
			}
			for range 2 {
				if got := c.stranger(); got != tt.want {
					t.Errorf("stranger = %q, want %q", got, tt.want)
				}
			}
			warned := 0
			if tt.want == Relayed {
				warned = 1
			}
			if logs.Len() != warned {
				t.Errorf("%d warnings, want %d: %v", logs.Len(), warned, logs.All())
			}
		})
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
		{"with port", "10.0.0.1:9", []string{"198.51.100.7:4711"}, "198.51.100.7"},
		{"in brackets", "10.0.0.1:9", []string{"[2001:db8::7]"}, "2001:db8::7"},
		{"in brackets with port", "10.0.0.1:9", []string{"203.0.113.9, [2001:db8::7]:4711 , 10.2.2.2:80"}, "2001:db8::7"},
		{"in brackets with zone", "10.0.0.1:9", []string{"[fe80::1%CANARY]:4711"}, "fe80::1"},
		{"in quotes", "10.0.0.1:9", []string{`"[2001:db8::7]:4711"`}, "2001:db8::7"},
		{"with a port that is none", "10.0.0.1:9", []string{"198.51.100.7:CANARY"}, "10.0.0.1"},
		{"brackets left open", "10.0.0.1:9", []string{"[2001:db8::7"}, "10.0.0.1"},
		{"unknown", "10.0.0.1:9", []string{"198.51.100.7, unknown"}, "10.0.0.1"},
		{"empty", "10.0.0.1:9", []string{"198.51.100.7,"}, "10.0.0.1"},
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
