package proxy

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// headerKind says what a header of a request stands for. Only a plain one goes on to WeChat.
type headerKind uint8

const (
	plainHeader   headerKind = 0
	droppedHeader headerKind = 1 << (iota - 1) // speaks of the caller, of us or of one connection, or changes how a request is read or sent
	browserHeader                              // only a browser sends it
	proxyHeader                                // only a proxy sends it
)

// kindOf returns the kind of a header by its canonical name. Underscores count as hyphens: to servers in
// the manner of CGI both are one name.
func kindOf(name string) headerKind {
	switch name {
	case "Accept", "Accept-Encoding", "Content-Length", "Content-Type", "User-Agent":
		return plainHeader
	case "Cookie", "Origin", "Referer", "Upgrade-Insecure-Requests":
		return browserHeader
	case "Forwarded", "Via", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Cluster-Client-Ip", "Fastly-Client-Ip",
		"Cdn-Loop", "X-Original-Forwarded-For", "X-Original-Host":
		return proxyHeader
	case "Authorization", "Baggage", "Traceparent", "Tracestate", "X-Request-Id",
		"Connection", "Expect", "Http2-Settings", "Keep-Alive", "Max-Forwards", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Idempotency-Key", "X-Idempotency-Key", // with them net/http would send a call twice
		"X-Http-Method", "X-Http-Method-Override", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url":
		return droppedHeader
	}
	switch {
	case strings.HasPrefix(name, "Sec-"):
		return browserHeader
	case strings.HasPrefix(name, "X-Forwarded"):
		return proxyHeader
	case ours(name), strings.HasPrefix(name, "Proxy-"):
		return droppedHeader
	case strings.Contains(name, "_"):
		return kindOf(http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")))
	}
	return plainHeader
}

// requestHeader returns the header of a request to WeChat: the plain ones of the client's, which it shares the
// values with, but for one with a caller's key in it. Signatures (Wechatmp-*) stay.
func (s *settings) requestHeader(theirs http.Header) http.Header {
	h := make(http.Header, len(theirs)+1) // ReverseProxy adds a User-Agent
	for name, values := range theirs {
		if kindOf(name) == plainHeader && !s.showsKey(values) {
			h[name] = values
		}
	}
	for _, names := range theirs["Connection"] {
		for name := range strings.SplitSeq(names, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	return h
}

// takeOver puts the headers of WeChat's answer into the gateway's, but for those that are ours to
// set.
func takeOver(h, theirs http.Header) {
	for name, values := range theirs {
		if name != "X-Request-Id" && name != "Retry-After" && !ours(name) {
			h[name] = values
		}
	}
}

// ours reports whether a header, by its canonical name, is one of the gateway's.
func ours(name string) bool {
	return strings.HasPrefix(name, "X-Wxproxy-") || strings.HasPrefix(name, "X-Ratelimit") || strings.HasPrefix(name, "Ratelimit")
}

// setOurs sets the gateway's headers on an answer. wait is for Retry-After; there is none for 0.
func (c *call) setOurs(h http.Header, wait time.Duration) {
	values := make([]string, 0, 8)
	set := func(name, value string) {
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
	set("X-Request-Id", c.rec.RequestID)
	set("X-Wxproxy-Decision", c.rec.Decision)
	if c.rec.Reason != "" {
		set("X-Wxproxy-Reason", string(c.rec.Reason))
	}
	if c.rec.Rule != "" {
		set("X-Wxproxy-Rule", c.rec.Rule)
	}
	if wait > 0 {
		set("Retry-After", strconv.FormatInt(wholeSeconds(wait), 10))
	}
	if d := &c.decision; d.Quota > 0 {
		var b [3 * 20]byte // one text for three numbers
		text := strconv.AppendInt(b[:0], d.Quota, 10)
		quota := len(text)
		text = strconv.AppendInt(text, d.Remaining, 10)
		remaining := len(text)
		numbers := string(strconv.AppendInt(text, wholeSeconds(d.Reset), 10))
		set("X-Ratelimit-Limit", numbers[:quota])
		set("X-Ratelimit-Remaining", numbers[quota:remaining])
		set("X-Ratelimit-Reset", numbers[remaining:])
	}
}

// wholeSeconds rounds up: a caller that waits as long as it was told must not be early.
func wholeSeconds(d time.Duration) int64 {
	return int64((max(d, 0) + time.Second - 1) / time.Second)
}

// requestID returns the caller's id of the call if it is well formed, else a new one.
func (s *settings) requestID(h http.Header) string {
	if ids := h["X-Request-Id"]; len(ids) == 1 && wellFormedID(ids[0]) && !s.isKey(ids[0]) {
		return ids[0]
	}
	return newRequestID()
}

// newRequestID returns 26 letters and digits of 128 bits, which nobody meets twice. They need not be
// hard to guess.
func newRequestID() string {
	const base32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	var id [26]byte
	for i := 0; i < len(id); i += 13 {
		bits := rand.Uint64() //nolint:gosec // G404: not a secret
		for j := range 13 {   // 5 bits each of 64: the last has 4
			id[i+j] = base32[bits&31]
			bits >>= 5
		}
	}
	return string(id[:])
}

func wellFormedID(id string) bool {
	for _, c := range []byte(id) {
		if !alphanumeric(c) && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return id != "" && len(id) <= 64
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
