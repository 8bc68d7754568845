package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"go.uber.org/zap"

	"wxproxy/limits"
	"wxproxy/proxy/fuse"
	"wxproxy/wechat"
)

// call is one HTTP request of a client. It belongs to the goroutine of ServeHTTP.
type call struct {
	h     *Handler
	s     *settings
	w     http.ResponseWriter
	r     *http.Request
	peer  netip.Addr // the zero Addr on a unix socket
	began time.Time

	identity
	path   string            // canonical, without an appid before it: matched, counted and sent
	takes  wechat.Credential // what a call of path carries
	match  limits.Match
	inject bool // the account's token goes into the call
	body   body
	token  string // the account's, that goes into the call
	leads  string // the kind of ticket that others wait for this call to get

	run   *fuse.Run // of the caller's failures; nil: none that is known
	probe bool      // its outcome decides whether the caller is still in a loop

	placed   bool // it has one of MaxInFlight places
	decision limits.Decision
	hold     limits.Hold // what decision has granted
	granted  bool        // hold is not ended

	upstream time.Duration // spent on waiting for WeChat
	answer   answer
	failed   *ownAnswer // in place of WeChat's answer
	rec      Record
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	c := &call{h: h, s: h.settings.Load(), w: w, r: r, peer: peerAddr(r.RemoteAddr), began: now}
	c.rec.Time, c.rec.RequestID = now, c.s.requestID(r.Header)
	if r.URL.Path == "/-/healthy" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		c.write(&ownAnswer{decision: decidedLocal, plain: "ok"}) // no call: not logged, and answered under any load
		return
	}
	defer c.end()
	if own := c.serve(); own != nil {
		c.write(own)
	}
}

// serve takes the call through all steps. It returns the answer that the gateway gives itself, or nil
// when WeChat's was passed on.
func (c *call) serve() *ownAnswer {
	if own := c.checkMethod(); own != nil {
		return own
	}
	if c.r.URL.Path == usagePath {
		return c.usage()
	}
	if own := c.route(); own != nil {
		return own
	}
	if endpoint := c.tokenEndpoint(); endpoint != "" {
		return c.issueToken(endpoint)
	}
	if own := c.authenticate(); own != nil {
		return own
	}
	if own := c.enter(); own != nil {
		return own
	}
	if own := c.findRule(); own != nil {
		return own
	}
	if own := c.ticket(); own != nil {
		return own
	}
	if own := c.readBody(); own != nil {
		return own
	}
	if own := c.checkBody(); own != nil {
		return own
	}
	if own := c.fetchToken(); own != nil {
		return own
	}
	if own := c.checkLoop(); own != nil {
		return own
	}
	if own := c.take(); own != nil {
		return own
	}
	return c.forward()
}

func (c *call) checkMethod() *ownAnswer {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead && c.r.Method != http.MethodPost {
		return (&ownAnswer{status: http.StatusMethodNotAllowed, plain: "method not allowed"}).refused(BadMethod)
	}
	return nil
}

// route works out the one path of the call, takes an appid off its front, and refuses what is no path of
// WeChat's. That needs no credentials.
func (c *call) route() *ownAnswer {
	escaped := c.r.URL.EscapedPath()
	if !strings.HasPrefix(escaped, "/") { // "" of an absolute-form target, or *
		return notFound
	}
	path, err := limits.Canonical(escaped)
	if err != nil {
		return refuse(BadPath, wechat.InvalidURL) // the path is not logged: any bytes at all, a secret among them
	}
	c.path = path
	first, rest := path[1:], ""
	if i := strings.IndexByte(first, '/'); i >= 0 {
		first, rest = first[:i], first[i:]
	}
	configured := c.s.byID[first]
	if configured != nil || looksLikeAppID(first) {
		c.path = rest
	}
	if oneSegment(c.path) {
		return notFound
	}
	if !c.h.limiter.Family(c.path) {
		switch {
		case c.s.byName[first] != nil, strings.HasPrefix(c.path, ownPrefix):
			return notFound
		case strings.Count(c.path, "/") > maxSegments:
			return refuse(BadPath, wechat.InvalidURL)
		}
	}
	if c.path != path {
		if configured == nil {
			return refuse(UnknownApp, wechat.InvalidAppID)
		}
		c.app = configured
	}
	c.takes = wechat.CredentialOf(c.path)
	if !queryParses(c.r.URL.RawQuery) {
		return refuse(BadQuery, wechat.InvalidParameter)
	}
	return nil
}

// maxSegments bounds the paths of families that no table names. WeChat's have six segments at most.
const maxSegments = 16

// ownPrefix begins paths that are the gateway's and not WeChat's.
const ownPrefix = "/-/"

// oneSegment reports whether a path has at most one segment, as none of WeChat's has.
func oneSegment(path string) bool {
	return strings.LastIndexByte(strings.TrimSuffix(path, "/"), '/') <= 0
}

// enter takes one of MaxInFlight places. Only calls whose callers were authenticated get one, so that
// others cannot take them all.
func (c *call) enter() *ownAnswer {
	c.placed = true
	if c.h.inFlight.Add(1) > int64(c.s.MaxInFlight) {
		return refuse(TooManyCalls, wechat.SystemError)
	}
	return nil
}

// findRule finds the rule that the call is counted by.
func (c *call) findRule() *ownAnswer {
	if rules := c.h.limiter.Rules(c.app.AppID); rules != nil {
		c.match = rules.Match(c.path)
	}
	rule := c.match.Rule
	if rule == nil { // between two reloads
		return refuse(UnknownApp, wechat.InvalidAppID)
	}
	c.inject = c.injects()
	c.rec.Rule = rule.Name
	if !c.s.mayUse(c.caller, rule.Name) {
		return refuse(RuleNotAllowed, wechat.Unauthorized)
	}
	if c.match.Counter == rule.Name {
		c.rec.Path = c.path // the table names it, so it holds nothing of a stranger's
	} else if c.holdsKey(c.path) {
		return misplaced()
	}
	return nil
}

// injects reports whether the account's token goes into the call. A token that WeChat has issued to the
// caller stays. Which credential a call takes in a family that no rule names is unknown, so the token goes in only
// in place of one of ours; nor is it added beside the token of a third-party platform.
func (c *call) injects() bool {
	switch {
	case c.ownToken != "" || !c.match.Injects:
		return false
	case !c.match.Family:
		return c.showsOurs
	}
	return c.showsToken || !c.asPlatform
}

// fetchToken gets the account's token before the call is counted, so that a call without one never
// is.
func (c *call) fetchToken() *ownAnswer {
	if !c.inject {
		return nil
	}
	token, err := c.h.tokens.Token(c.r.Context(), c.app.AppID)
	if err == nil && token != "" {
		c.token = token
		return nil
	}
	if c.clientGone() {
		c.abandon(ClientGone)
	}
	c.h.outages.Warn("no access_token", zap.String("app", c.app.Name), zap.Error(err))
	theirs, _ := errors.AsType[wechat.Answer](err)
	return tokenRefused(theirs)
}

// tokenRefused returns the refusal of a call for which there is no access_token: in WeChat's own words, where
// it gave an answer.
func tokenRefused(theirs []byte) *ownAnswer {
	if len(theirs) == 0 {
		return refuse(NoToken, wechat.SystemError)
	}
	own := passOn(theirs)
	return own.refused(noToken(own.errcode))
}

// take asks the limiter whether the call may be sent.
func (c *call) take() *ownAnswer {
	c.decision, c.hold = c.h.limiter.Take(c.r.Context(), limits.Call{App: c.app.AppID, Caller: c.rec.Caller, Match: c.match})
	c.granted = c.decision.Verdict.Sent()
	return c.decided()
}

// decided returns the refusal that the limiter has decided, or nil.
func (c *call) decided() *ownAnswer {
	c.rec.Decision = c.decision.Verdict.String()
	if c.decision.Verdict.Sent() {
		return nil
	}
	refusal := verdicts[c.decision.Verdict]
	own := refuse(refusal.reason, refusal.errcode)
	if own.errcode == wechat.QuotaReached && isClear(c.path) {
		own.errcode = wechat.ClearsUsed
	}
	own.retryAfter = c.decision.RetryAfter
	return own
}

// done ends a granted call that stays counted. errcode is what WeChat answered, or unknownErrcode
// for a call whose fate is not known.
func (c *call) done(errcode wechat.Errcode) {
	c.granted = false
	c.hold.Done(int(errcode))
}

// giveBack ends a granted call that provably never left.
func (c *call) giveBack() {
	c.granted = false
	c.hold.GiveBack()
}

// exhausted ends a granted call to which WeChat answered that its rule is used up.
func (c *call) exhausted() {
	c.granted = false
	c.hold.Exhausted()
}

// clientGone reports whether nobody waits for the answer any more.
func (c *call) clientGone() bool {
	return c.r.Context().Err() != nil && !c.stopping()
}

// stopping reports whether the call was ended because the gateway stops.
func (c *call) stopping() bool { return errors.Is(context.Cause(c.r.Context()), ErrStopping) }

// abandon ends a call that has nobody left to answer: it closes the client's connection. The reason is "" for
// one that was sent.
func (c *call) abandon(reason Reason) {
	if reason != "" {
		c.rec.Decision, c.rec.Reason = decisions[reason], reason
	}
	c.rec.Status = statusClientGone
	panic(http.ErrAbortHandler)
}

// end runs when the call is over, after a panic too. Whatever fails in it, the place is free again.
func (c *call) end() {
	if c.placed {
		defer c.h.inFlight.Add(-1)
	}
	defer c.body.close()
	if c.granted { // a panic came between
		c.done(unknownErrcode)
	}
	c.endLead()
	c.learnLoop()
	if post, ok := c.w.(*postWriter); ok {
		post.sent = c.rec.Attempts > 0
	}
	if c.h.record != nil {
		c.fill()
		c.h.record(&c.rec)
	}
}
