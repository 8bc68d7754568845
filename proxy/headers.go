package proxy

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// requestHeader returns the header of a request to WeChat: the client's, which it shares the values with, but
// for what speaks of the caller or of us, of one connection alone, what could make a server read the request
// differently, and what would make net/http send it twice. Signatures (Wechatmp-*) stay.
func requestHeader(theirs http.Header) http.Header {
	h := make(http.Header, len(theirs)+1) // ReverseProxy adds a User-Agent
	for name, values := range theirs {
		switch name {
		case "Authorization", "Cookie", "Referer", "Origin", "Via", "Forwarded", "X-Real-Ip", "X-Request-Id",
			"Expect", "Te", "Upgrade", "Connection", "Keep-Alive", "Trailer", "Transfer-Encoding", "Http2-Settings",
			"Idempotency-Key", "X-Idempotency-Key",
			"X-Http-Method-Override", "X-Http-Method", "X-Method-Override",
			"X-Original-Url", "X-Rewrite-Url":
		default:
			if !ours(name) && !strings.HasPrefix(name, "X-Forwarded") && !strings.HasPrefix(name, "Proxy-") && !strings.HasPrefix(name, "Sec-") {
				h[name] = values
			}
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
	values := make([]string, 0, 7)
	set := func(name, value string) {
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
	set("X-Request-Id", c.rec.RequestID)
	set("X-Wxproxy-Decision", c.rec.Decision)
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
func requestID(h http.Header) string {
	if ids := h["X-Request-Id"]; len(ids) == 1 && wellFormedID(ids[0]) {
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
