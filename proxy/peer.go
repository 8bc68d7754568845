package proxy

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// stranger returns why a call without proof is not allowed, "" if it is. What auto asks for keeps out
// everybody but a program on this machine that was pointed here on purpose: the Host stops DNS
// rebinding, the headers stop web pages and proxies that speak for somebody else.
func (c *call) stranger() Reason {
	s, r, h := c.s, c.r, c.r.Header
	unixSocket := r.RemoteAddr == "" || r.RemoteAddr == "@"
	switch {
	case s.Anonymous == AnonymousAlways:
		return ""
	case s.Anonymous == AnonymousNever, !s.LoopbackListener, !unixSocket && !c.peer.IsLoopback():
		return NothingShown
	case !expectedHost(r.Host):
		return ForeignHost
	case len(h["Origin"]) != 0 || len(h["Sec-Fetch-Site"]) != 0:
		return Browser
	case len(h["Forwarded"]) != 0 || len(h["X-Forwarded-For"]) != 0 || len(h["X-Real-Ip"]) != 0 || len(h["Via"]) != 0:
		return Relayed
	}
	return ""
}

// peerAddr returns the address in an http.Request's RemoteAddr, the zero Addr if there is none.
func peerAddr(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// expectedHost reports whether a Host is loopback or a name of WeChat's, with any port.
func expectedHost(host string) bool {
	name := host
	if strings.HasPrefix(name, "[") {
		end := strings.IndexByte(name, ']')
		if end < 0 || end+1 < len(name) && name[end+1] != ':' {
			return false
		}
		name = name[1:end]
	} else if i := strings.IndexByte(name, ':'); i >= 0 {
		name = name[:i]
	}
	switch strings.ToLower(name) {
	case "localhost", "api.weixin.qq.com", "api2.weixin.qq.com", "sh.api.weixin.qq.com",
		"sz.api.weixin.qq.com", "hk.api.weixin.qq.com", "file.api.weixin.qq.com":
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Unmap().IsLoopback()
}

// looksLikeAppID reports whether a path's first segment is wx and 16 hex digits.
func looksLikeAppID(segment string) bool {
	if len(segment) != 18 || !strings.HasPrefix(segment, "wx") {
		return false
	}
	for _, c := range []byte(segment[2:]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// clientIP returns the address the call came from: the peer's, or the last one in X-Forwarded-For
// that is not a trusted proxy's own, as far as trusted proxies wrote it. A peer on a unix socket
// is "unix".
func (s *settings) clientIP(r *http.Request, peer netip.Addr) string {
	if !peer.IsValid() {
		return "unix"
	}
	if len(s.TrustedProxies) == 0 {
		if i := strings.LastIndexByte(r.RemoteAddr, ':'); peer.Is4() && i > 0 && r.RemoteAddr[0] != '[' {
			return r.RemoteAddr[:i]
		}
		return peer.String()
	}
	for _, line := range slices.Backward(r.Header["X-Forwarded-For"]) {
		for rest, more := line, true; more && s.trusts(peer); {
			var last string
			if cut := strings.LastIndexByte(rest, ','); cut >= 0 {
				rest, last = rest[:cut], rest[cut+1:]
			} else {
				last, more = rest, false
			}
			addr, err := netip.ParseAddr(strings.TrimSpace(last))
			if err != nil {
				return peer.String()
			}
			peer = addr.Unmap().WithZone("")
		}
	}
	return peer.String()
}

func (s *settings) trusts(addr netip.Addr) bool {
	for _, prefix := range s.TrustedProxies {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}
