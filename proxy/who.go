package proxy

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Anonymous says whether a call may come without any proof of who sends it.
type Anonymous uint8

const (
	// AnonymousAuto allows it to programs of this machine only.
	AnonymousAuto Anonymous = iota
	// AnonymousNever refuses it.
	AnonymousNever
	// AnonymousAlways allows it to everybody who can reach the listener.
	AnonymousAlways
)

// who works out the app and the caller, and refuses a call that may not be made.
func (c *call) who() bool {
	h := c.r.Header
	for _, text := range h["X-Wxproxy-App"] {
		app := c.s.byID[text]
		if app == nil {
			app = c.s.byName[text]
		}
		if app == nil || c.app != nil && c.app != app {
			return c.refuse(refusedAuth, codeUnauthorized)
		}
		c.app = app
	}
	if c.app == nil {
		c.app = c.s.only
	}
	if c.app == nil {
		return c.refuse(refusedAuth, codeUnauthorized)
	}
	if showsKey(h) {
		c.h.keyShown.Do(func() {
			c.h.log.Warn("a caller showed a key, but no callers are configured: such calls are refused with 48001")
		})
		return c.refuse(refusedAuth, codeUnauthorized)
	}
	if !c.s.allowsAnonymous(c.r) {
		return c.refuse(refusedAuth, codeUnauthorized)
	}
	return true
}

// showsKey reports whether the call tries to prove who sends it.
func showsKey(h http.Header) bool {
	if len(h["X-Wxproxy-Key"]) > 0 {
		return true
	}
	for _, text := range h["Authorization"] {
		scheme, _, _ := strings.Cut(strings.TrimLeft(text, " \t"), " ")
		if strings.EqualFold(scheme, "Basic") {
			return true
		}
	}
	return false
}

// allowsAnonymous reports whether a call without proof is allowed. What auto asks for keeps out
// everybody but a program on this machine that was pointed here on purpose: the Host stops DNS
// rebinding, the headers stop web pages and proxies that speak for somebody else.
func (s *settings) allowsAnonymous(r *http.Request) bool {
	if s.Anonymous != AnonymousAuto {
		return s.Anonymous == AnonymousAlways
	}
	if !s.LoopbackListener || !loopbackPeer(r.RemoteAddr) || !expectedHost(r.Host) {
		return false
	}
	h := r.Header
	return len(h["Origin"]) == 0 && len(h["Sec-Fetch-Site"]) == 0 && len(h["Forwarded"]) == 0 &&
		len(h["X-Forwarded-For"]) == 0 && len(h["X-Real-Ip"]) == 0 && len(h["Via"]) == 0
}

// loopbackPeer reports whether the peer is on this machine. One on a unix socket has no address.
func loopbackPeer(remote string) bool {
	if remote == "" || remote == "@" {
		return true
	}
	return peerAddr(remote).IsLoopback()
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
func (s *settings) clientIP(r *http.Request) string {
	peer := peerAddr(r.RemoteAddr)
	if !peer.IsValid() {
		return "unix"
	}
	if len(s.TrustedProxies) == 0 {
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
