package proxy

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
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

// Identity knows who calls by keys and by proxy tokens. *token.Keyring is the one in use. Its
// methods are called by many goroutines at once.
type Identity interface {
	// Issue returns a proxy token for who shows an AppSecret of the app, or the key of a caller.
	// errors.As finds an interface{ Errcode() int } in its error.
	Issue(appid, secret string, now time.Time) (proxyToken, caller string, err error)
	// Read returns the app and the caller of a proxy token, the latter "" where it names none.
	// errors.As finds an interface{ Errcode() int; Foreign() bool } in its error; Foreign means
	// that it is no proxy token at all.
	Read(shown string, now time.Time) (appid, caller string, err error)
	// Caller returns the name of the caller that a key belongs to.
	Caller(key string) (name string, ok bool)
	// May reports whether a caller may call for an app.
	May(caller, appid string) bool
}

// Learned knows tokens of WeChat's that this gateway, or another one, saw being issued.
// *token.Learned is the one in use. Its methods are called by many goroutines at once.
type Learned interface {
	// App returns the app that a token was issued for.
	App(ctx context.Context, shown string) (appid string, ok bool)
	// Remember keeps whom a token was issued for, until its end.
	Remember(ctx context.Context, accessToken, appid string, life time.Duration) error
	// Fetch gets a token for an app that is not configured; the answer is one in WeChat's form.
	Fetch(ctx context.Context, endpoint, appid, secret string) (answer []byte, err error)
	// Dead forgets a token that WeChat called dead.
	Dead(ctx context.Context, shown string)
}

// who works out the app and the caller from everything the call shows, and refuses a call that
// contradicts itself or that may not be made.
//
// Proofs are a key (Basic, or X-Wxproxy-Key) and a token that we issued or saw being issued; the
// path prefix, X-Wxproxy-App and the user of Basic only select, because appids are public. A token
// that nobody knows is not a proof and no contradiction: it is replaced, if something else proves
// who calls or calls without proof are allowed.
func (c *call) who() bool {
	if c.own() {
		return c.app != nil
	}
	e := evidence{c: c, app: c.app}
	errcode := e.headers()
	if errcode == 0 {
		errcode = e.tokens()
	}
	if errcode == 0 {
		errcode = e.secret()
	}
	if errcode == 0 {
		errcode = e.judge()
	}
	c.app, c.rec.Caller = e.app, e.caller
	if errcode != 0 {
		return c.refuse(refusedAuth, errcode)
	}
	return true
}

// evidence is what a call shows of who sends it. The methods return the errcode to refuse with, 0
// for none.
type evidence struct {
	c      *call
	app    *App
	caller string
	proven bool
	stale  bool // a proxy token that was ours once
}

// headers takes in X-Wxproxy-App, X-Wxproxy-Key and Basic.
func (e *evidence) headers() int {
	h := e.c.r.Header
	for _, text := range h["X-Wxproxy-App"] {
		if !e.selects(text) {
			return codeUnauthorized
		}
	}
	for _, key := range h["X-Wxproxy-Key"] {
		if !e.key(key) {
			return codeUnauthorized
		}
	}
	for _, text := range h["Authorization"] {
		scheme, credentials, _ := strings.Cut(strings.TrimLeft(text, " \t"), " ")
		if !strings.EqualFold(scheme, "Basic") {
			continue // not meant for us
		}
		plain, err := base64.StdEncoding.DecodeString(strings.Trim(credentials, " \t"))
		app, key, ok := strings.Cut(string(plain), ":")
		if err != nil || !ok || app != "" && !e.selects(app) || !e.key(key) {
			return codeUnauthorized
		}
	}
	return 0
}

// selects takes in an app by its name or appid. It reports false for one that is not configured or
// is not the one that was named before.
func (e *evidence) selects(text string) bool {
	s := e.c.s
	app := s.byID[text]
	if app == nil {
		app = s.byName[text]
	}
	return app != nil && e.is(app)
}

// is takes in the app, and reports false if another one was named before.
func (e *evidence) is(app *App) bool {
	if e.app != nil && e.app.AppID != app.AppID {
		return false
	}
	e.app = app
	return true
}

// by takes in the caller, and reports false if another one was named before. An AppSecret names
// nobody, which contradicts nobody.
func (e *evidence) by(caller string) bool {
	if caller != "" && e.caller != "" && e.caller != caller {
		return false
	}
	if caller != "" {
		e.caller = caller
	}
	e.proven = true
	return true
}

func (e *evidence) key(key string) bool {
	if e.c.s.Identity == nil {
		e.c.h.keyShown.Do(func() {
			e.c.h.log.Warn("a caller showed a key, but no callers are configured: such calls are refused with 48001")
		})
		return false
	}
	caller, ok := e.c.s.Identity.Caller(key)
	return ok && e.by(caller)
}

// tokens takes in every access_token of the query.
func (e *evidence) tokens() int {
	raw := e.c.r.URL.RawQuery
	for start, end := nextParameter(raw, tokenParameter, 0); start >= 0; start, end = nextParameter(raw, tokenParameter, end+1) {
		_, value, _ := strings.Cut(raw[start:end], "=")
		shown, err := url.QueryUnescape(value)
		if err != nil {
			return codeInvalidParameter
		}
		if i := strings.LastIndexByte(shown, '='); i >= 0 {
			shown = shown[i+1:] // one SDK sends access_token=n=TOKEN
		}
		if shown == "" {
			continue
		}
		if errcode := e.token(shown); errcode != 0 {
			return errcode
		}
	}
	return 0
}

func (e *evidence) token(shown string) int {
	c := e.c
	if c.s.Identity != nil {
		appid, caller, err := c.s.Identity.Read(shown, c.began)
		var denied interface {
			Errcode() int
			Foreign() bool
		}
		switch {
		case err == nil:
			if app := c.s.byID[appid]; app == nil || !e.is(app) || !e.by(caller) {
				return codeUnauthorized
			}
			return 0
		case errors.As(err, &denied) && denied.Foreign():
		case errors.As(err, &denied) && denied.Errcode() == codeTokenExpired:
			e.stale = true
			return 0
		default:
			return codeUnauthorized
		}
	}
	if c.h.learned == nil {
		return 0
	}
	appid, ok := c.h.learned.App(c.r.Context(), shown)
	if !ok {
		return 0
	}
	app := c.s.byID[appid]
	if app == nil {
		app = &App{Name: appid, AppID: appid} // a learned one
	}
	if !e.is(app) || !e.by("") {
		return codeUnauthorized
	}
	c.ownToken = shown
	return 0
}

// secretParameters are the calls that carry the AppSecret in their query, by path, and its name
// there. It may be a caller's key as at the token endpoints; then the AppSecret takes its place.
var secretParameters = map[string]string{
	"/sns/oauth2/access_token": "secret",
	"/sns/jscode2session":      "secret",
	"/cgi-bin/clear_quota/v2":  "appsecret",
}

// secret takes in an appid and a secret of the query.
func (e *evidence) secret() int {
	c := e.c
	name := secretParameters[strings.ToLower(strings.TrimSuffix(c.path, "/"))]
	if name == "" || c.s.Identity == nil {
		return 0
	}
	query, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return codeInvalidParameter
	}
	app := c.s.byID[query.Get("appid")]
	shown := query.Get(name)
	if app == nil || shown == "" {
		return 0 // of an app that is not configured, or in the body, which is never changed
	}
	_, caller, err := c.s.Identity.Issue(app.AppID, shown, c.began)
	var denied interface{ Errcode() int }
	if errors.As(err, &denied) {
		return denied.Errcode()
	}
	if err != nil || !e.is(app) || !e.by(caller) {
		return codeUnauthorized
	}
	if caller != "" {
		c.secretName = name
	}
	return 0
}

// clearPath proves itself by an AppSecret that may stand in the body.
const clearPath = "/cgi-bin/clear_quota/v2"

// bodySecret refuses a caller's key in the body of clear_quota/v2: a body is never changed, so the
// key would reach WeChat, and a wrong secret is not sent either.
func (c *call) bodySecret() bool {
	if c.s.Identity == nil || c.body.size == 0 || !samePath(c.path, clearPath) {
		return true
	}
	var ask struct {
		AppID  string `json:"appid"`
		Secret string `json:"appsecret"`
	}
	if json.Unmarshal(c.body.memory, &ask) != nil || ask.Secret == "" || c.s.byID[ask.AppID] == nil {
		return true
	}
	_, caller, err := c.s.Identity.Issue(ask.AppID, ask.Secret, c.began)
	var denied interface{ Errcode() int }
	switch {
	case errors.As(err, &denied):
		return c.refuse(refusedAuth, denied.Errcode())
	case err != nil || caller != "" || ask.AppID != c.app.AppID:
		return c.refuse(refusedAuth, codeUnauthorized)
	}
	return true
}

// judge decides whether the call may be made, once everything was taken in.
func (e *evidence) judge() int {
	c := e.c
	if !e.proven && e.stale {
		return codeTokenExpired // the SDK fetches another one from us, which costs nothing
	}
	if e.app == nil {
		e.app = c.s.only
	}
	if e.app == nil && isComponent(c.path) {
		e.app = component // its own token names no account
	}
	if e.app == nil || !e.proven && !c.s.allowsAnonymous(c.r, c.peer) {
		return codeUnauthorized
	}
	if e.caller != "" && !c.s.Identity.May(e.caller, e.app.AppID) && e.app != component {
		return codeUnauthorized
	}
	return 0
}

// allowsAnonymous reports whether a call without proof is allowed. What auto asks for keeps out
// everybody but a program on this machine that was pointed here on purpose: the Host stops DNS
// rebinding, the headers stop web pages and proxies that speak for somebody else.
func (s *settings) allowsAnonymous(r *http.Request, peer netip.Addr) bool {
	if s.Anonymous != AnonymousAuto {
		return s.Anonymous == AnonymousAlways
	}
	unixSocket := r.RemoteAddr == "" || r.RemoteAddr == "@"
	if !s.LoopbackListener || !unixSocket && !peer.IsLoopback() || !expectedHost(r.Host) {
		return false
	}
	h := r.Header
	return len(h["Origin"]) == 0 && len(h["Sec-Fetch-Site"]) == 0 && len(h["Forwarded"]) == 0 &&
		len(h["X-Forwarded-For"]) == 0 && len(h["X-Real-Ip"]) == 0 && len(h["Via"]) == 0
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
