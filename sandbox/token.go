package sandbox

import (
	"crypto/rand"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The two token endpoints.
const (
	pathToken  = "/cgi-bin/token" //nolint:gosec // a path, no credential
	pathStable = "/cgi-bin/stable_token"
)

const (
	tokenLife = 7200 * time.Second // facts 2a: within 7200 s
	// tokenGrace is how long a token stays valid beside the one that took its place (facts 2a), and
	// how early stable_token swaps it, so that expires_in is never below it (facts 2b).
	tokenGrace = 5 * time.Minute

	forceEvery  = 30 * time.Second // facts 2b: closer together, no refresh happens
	forcePerDay = 20               // facts 2b
	// forget is how long after its end a token is still known, to say 42001 or 40001 of it, not 40014.
	forget = 24 * time.Hour
)

// tokenKind distinguishes tokens that are valid for different APIs (facts 2d).
type tokenKind int

const (
	accountToken   tokenKind = iota // of /cgi-bin/token, stable_token or a third-party platform
	componentToken                  // of the platform itself
	userToken                       // of one user's web authorisation
	userRefresh                     // renews a userToken
)

// token is one that was handed out. It is covered by Sandbox.mu.
type token struct {
	text    string
	app     *app
	kind    tokenKind
	openid  string // of a user's token
	expires time.Time
	voidAt  time.Time // when it falls to a newer one; zero: never
	dead    bool      // killed, or by a fault
}

// fault is the errcode that a call with this token gets, 0 if it is good.
func (t *token) fault(now time.Time) int {
	switch {
	case t.dead, !t.voidAt.IsZero() && !now.Before(t.voidAt):
		return 40001
	case !now.Before(t.expires):
		return 42001
	}
	return 0
}

// supersede ends a token at the latest at a time. t may be nil.
func (t *token) supersede(at time.Time) {
	if t != nil && (t.voidAt.IsZero() || at.Before(t.voidAt)) {
		t.voidAt = at
	}
}

// issue makes a token of an app. It needs s.mu.
func (s *Sandbox) issue(a *app, kind tokenKind, life time.Duration) *token {
	now := s.clock()
	serial := s.next()
	if serial%1024 == 0 {
		for text, t := range s.tokens {
			if now.Sub(t.expires) > forget {
				delete(s.tokens, text)
			}
		}
	}
	// WeChat's look like 57_ and some hundred URL-safe characters.
	t := &token{
		text:    strconv.FormatInt(serial, 10) + "_" + random(102),
		app:     a,
		kind:    kind,
		expires: now.Add(life),
	}
	s.tokens[t.text] = t
	return t
}

// random returns n random bytes as URL-safe text.
func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

func isTokenPath(path string) bool { return path == pathToken || path == pathStable }

// tokenReply is the success answer of both endpoints: no errcode in it.
func (c *call) tokenReply(t *token) reply {
	return c.json(struct {
		AccessToken    string `json:"access_token"`
		ExpiresSeconds int64  `json:"expires_in"`
	}{t.text, int64(t.expires.Sub(c.now) / time.Second)})
}

// classicToken answers /cgi-bin/token: every call makes a new token, the one before it has five
// more minutes (facts 2a).
func classicToken(c *call) reply {
	c.app.classic.supersede(c.now.Add(tokenGrace))
	c.app.classic = c.s.issue(c.app, accountToken, tokenLife)
	return c.tokenReply(c.app.classic)
}

// stableToken answers /cgi-bin/stable_token (facts 2b).
func stableToken(c *call) reply {
	var in struct {
		Force bool `json:"force_refresh"`
	}
	_ = c.decode(&in) // proven to decode: stableSecret read it
	a := c.app
	if in.Force && a.mayForce(c.now) {
		a.forces++
		a.forced = c.now
		a.stable.supersede(c.now)
		a.stable = nil
	}
	// A dead token is handed out again: in normal mode WeChat looks at its age only.
	if a.stable == nil || a.stable.expires.Sub(c.now) < tokenGrace {
		a.stable.supersede(c.now.Add(tokenGrace))
		a.stable = c.s.issue(a, accountToken, tokenLife)
	}
	return c.tokenReply(a.stable)
}

// mayForce reports whether a forced refresh happens: otherwise it is a fetch like any other. What the
// 21st of a day gets is not published; this way it cannot pass for a refresh or for a spent quota.
func (a *app) mayForce(now time.Time) bool {
	a.roll(now)
	return a.forces < forcePerDay && (a.forced.IsZero() || now.Sub(a.forced) >= forceEvery)
}

// KillTokens makes every account and platform token of an app invalid at once: calls get 40001,
// and the next fetch at either endpoint makes a new one. An empty appid means every app; an
// unknown one panics.
func (s *Sandbox) KillTokens(appid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	killed := s.each(appid)
	for _, t := range s.tokens {
		if (t.kind == accountToken || t.kind == componentToken) && slices.Contains(killed, t.app) {
			t.dead = true
		}
	}
	for _, a := range killed {
		a.classic, a.stable, a.authorizer = nil, nil, nil
	}
}

// Tokens returns the account tokens of an app that are valid now, the oldest first. An empty
// appid means every app.
func (s *Sandbox) Tokens(appid string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	var valid []*token
	for _, t := range s.tokens {
		if t.kind == accountToken && (appid == "" || t.app.id == appid) && t.fault(now) == 0 {
			valid = append(valid, t)
		}
	}
	slices.SortFunc(valid, func(a, b *token) int { return a.serial() - b.serial() })
	texts := make([]string, len(valid))
	for i, t := range valid {
		texts[i] = t.text
	}
	return texts
}

func (t *token) serial() int {
	digits, _, _ := strings.Cut(t.text, "_")
	n, _ := strconv.Atoi(digits)
	return n
}
