package proxy

import (
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// stranger returns why a call without proof is not allowed, "" if it is. What auto asks for keeps out
// everybody but a program on this machine that was pointed here on purpose: the Host stops DNS
// rebinding, the headers stop web pages, and proxies that forward calls of other machines.
func (c *call) stranger() Reason {
	unixSocket := c.r.RemoteAddr == "" || c.r.RemoteAddr == "@"
	switch {
	case c.s.Anonymous == AnonymousAlways:
		return ""
	case c.s.Anonymous == AnonymousNever, !c.s.LoopbackListener, !unixSocket && !c.peer.IsLoopback():
		return NothingShown
	}
	switch seen := c.headerKinds(); {
	case seen&proxyHeader != 0:
		c.h.relayed.Do(func() {
			c.h.log.Warn("a reverse proxy on this machine sends calls without credentials; those that look like one's are refused, but not every proxy shows itself: set anonymous: false")
		})
		return Relayed
	case seen&browserHeader != 0:
		return Browser
	case c.r.Host == "" && !c.r.ProtoAtLeast(1, 1), expectedHost(c.r.Host):
		return ""
	}
	return ForeignHost
}

// headerKinds returns the kinds of all headers of the call. Two marks are no header of their own: that of
// nginx, which by default speaks HTTP/1.0 to its upstream, names it as the Host and closes the connection; and
// that of a browser in a request so plain that it has no header of browsers, an image without a referrer from
// a name that it does not take for this machine.
func (c *call) headerKinds() (seen headerKind) {
	h := c.r.Header
	for name := range h {
		seen |= kindOf(name)
	}
	if c.r.Host != "" && !c.r.ProtoAtLeast(1, 1) && lists(h["Connection"], "close") {
		seen |= proxyHeader
	}
	if len(h["Accept-Language"]) > 0 && strings.HasPrefix(h.Get("User-Agent"), "Mozilla/") {
		seen |= browserHeader
	}
	return seen
}

// lists reports whether a comma-separated header has an element, in any case of letters.
func lists(lines []string, element string) bool {
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(part), element) {
				return true
			}
		}
	}
	return false
}

// peerAddr returns the address in an http.Request's RemoteAddr, the zero Addr if there is none.
func peerAddr(remote string) netip.Addr {
	ap, _ := netip.ParseAddrPort(remote)
	return ap.Addr().Unmap().WithZone("")
}

// expectedHost reports whether a Host is a name of WeChat's, or loopback as programs spell it, with any
// port. Browsers send no Sec-Fetch headers to other spellings: they do not take [::ffff:127.0.0.1], which
// leads here all the same, for this machine.
func expectedHost(host string) bool {
	name := host
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		name = host[:i]
		if _, err := strconv.ParseUint(host[i+1:], 10, 16); err != nil {
			return false
		}
	}
	switch strings.ToLower(name) {
	case "localhost", "[::1]", "api.weixin.qq.com", "api2.weixin.qq.com", "sh.api.weixin.qq.com",
		"sz.api.weixin.qq.com", "hk.api.weixin.qq.com", "file.api.weixin.qq.com":
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Is4() && addr.IsLoopback()
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
			addr, ok := forwardedAddr(strings.Trim(last, " \t\""))
			if !ok {
				return peer.String()
			}
			peer = addr
		}
	}
	return peer.String()
}

// forwardedAddr reads one element of X-Forwarded-For: an address, which some proxies write with its port
// or in brackets.
func forwardedAddr(text string) (addr netip.Addr, ok bool) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		if strings.HasSuffix(text, "]") {
			text += ":0"
		}
		var ap netip.AddrPort
		ap, err = netip.ParseAddrPort(text)
		addr = ap.Addr()
	}
	return addr.Unmap().WithZone(""), err == nil
}

func (s *settings) trusts(addr netip.Addr) bool {
	for _, prefix := range s.TrustedProxies {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}
