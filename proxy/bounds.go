package proxy

import (
	"net/netip"
	"path"
	"slices"
	"time"

	"wxproxy/wechat"
)

// Bounds are what a caller may do, of what its apps can. The zero value bounds nothing.
type Bounds struct {
	Rules   []string       // only rules that one of these names; a * stands for any letters; nil: all
	From    []netip.Prefix // only from these addresses; nil: from anywhere
	Expires time.Time      // only before that; zero: always
}

// admit refuses a caller whose keys are over, or that calls from elsewhere. The address is the client's, as
// trusted proxies give it; a peer on a unix socket has none.
func (c *call) admit(caller string) *ownAnswer {
	b := c.s.Bounds[caller]
	if !b.Expires.IsZero() && !c.began.Before(b.Expires) {
		return refuse(CallerExpired, wechat.Unauthorized)
	}
	if b.From == nil || c.w == nil { // a call that is explained comes from nowhere
		return nil
	}
	addr, err := netip.ParseAddr(c.s.clientIP(c.r, c.peer))
	if err != nil || !slices.ContainsFunc(b.From, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return refuse(AddrNotAllowed, wechat.Unauthorized)
	}
	return nil
}

// mayUse reports whether a caller may call a rule.
func (s *settings) mayUse(caller, rule string) bool {
	globs := s.Bounds[caller].Rules
	return globs == nil || slices.ContainsFunc(globs, func(glob string) bool { ok, _ := path.Match(glob, rule); return ok })
}
