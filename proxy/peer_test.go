package proxy

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

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
