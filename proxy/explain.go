package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"wxproxy/limits"
	"wxproxy/wechat"
)

// Question is a call that Explain is asked about.
type Question struct {
	AppID  string // of an app that is configured or was learned
	Caller string // a caller's name; "" is a client that shows the AppSecret or a token of the account
	Method string
	Target string // a path with or without a query, or a whole URL
}

// Explanation is what would become of a call now.
type Explanation struct {
	Path     string       // canonical, without an appid before it; "" for a target that cannot be sent
	Match    limits.Match // Rule is nil for a call that no rule counts
	Injects  bool         // the account's token goes into the call
	Decision string       // as in X-Wxproxy-Decision
	Reason   Reason       // as in X-Wxproxy-Reason
	Status   int          // of the gateway's own answer; 0: WeChat answers
	Errcode  wechat.Errcode
	Figures  limits.Decision // before the call, where it would be counted
}

// ErrTarget is the error for a target that is neither a path nor a URL.
var ErrTarget = errors.New("want a path as in /cgi-bin/user/info, or a whole URL")

// Explain takes a call through the steps of serve, up to the one that would count it, and sends nothing
// but the request for an access_token that the account lacks. A token request is taken to be complete
// where the target does not say what it holds. The error is ErrTarget, or of the store.
func (h *Handler) Explain(ctx context.Context, q Question) (Explanation, error) {
	s := h.settings.Load()
	target, _, _ := strings.Cut(q.Target, "#")
	if _, rest, ok := strings.Cut(target, "://"); ok {
		_, path, _ := strings.Cut(rest, "/")
		target = "/" + path
	}
	to, err := url.ParseRequestURI(target)
	if err != nil || !strings.HasPrefix(target, "/") {
		return Explanation{}, ErrTarget // the parser's own words quote the target
	}
	r := (&http.Request{Method: q.Method, URL: to, Header: make(http.Header), Body: http.NoBody}).WithContext(ctx)
	c := &call{h: h, s: s, r: r, began: time.Now()}
	own, err := c.explain(q)
	if err != nil {
		return Explanation{}, err
	}
	e := Explanation{Path: c.path, Match: c.match, Injects: c.inject, Decision: c.rec.Decision, Figures: c.decision}
	if own != nil {
		e.Decision, e.Reason, e.Status, e.Errcode = own.decision, own.reason, max(own.status, http.StatusOK), own.errcode
	}
	return e, nil
}

// explain does what serve does. It returns the answer that the gateway would give itself, or nil.
func (c *call) explain(q Question) (*ownAnswer, error) {
	if own := c.checkMethod(); own != nil {
		return own, nil
	}
	if own := c.route(); own != nil {
		return own, nil
	}
	if endpoint := c.tokenEndpoint(); endpoint != "" {
		return c.explainToken(endpoint, q), nil
	}
	if own := c.authenticateAs(q); own != nil {
		return own, nil
	}
	if own := c.findRule(); own != nil {
		return own, nil
	}
	if kind := c.ticketKind(); kind != "" {
		if text, ok := c.h.tickets.Get(c.r.Context(), c.app.AppID, kind); ok {
			return &ownAnswer{decision: decidedLocal, body: string(text)}, nil
		}
	}
	if own := c.fetchToken(); own != nil {
		return own, nil
	}
	if own := c.explainLoop(); own != nil {
		return own, nil
	}
	var err error
	c.decision, err = c.h.limiter.Peek(c.r.Context(), limits.Call{App: c.app.AppID, Caller: c.caller, Match: c.match})
	if err != nil {
		return nil, err
	}
	return c.decided(), nil
}

// authenticateAs is authenticate for a caller that has shown its key, or for the account's own secret, and
// that selects the app in a header.
func (c *call) authenticateAs(q Question) *ownAnswer {
	c.caller, c.proven = q.Caller, true
	if c.s.byID[q.AppID] == nil { // a learned one: its token names it
		c.app, c.ownToken = &App{Name: q.AppID, AppID: q.AppID}, "learned"
		return nil
	}
	var few [4]credential
	shown, own := c.queryCredentials(append(few[:0], credential{kind: appName, value: q.AppID}))
	if own == nil {
		own = c.verifyAll(shown)
	}
	if own == nil {
		own = c.judge()
	}
	return own
}

// explainToken tells what becomes of a token request. It issues nothing.
func (c *call) explainToken(endpoint string, q Question) *ownAnswer {
	local := &ownAnswer{decision: decidedLocal}
	switch {
	case endpoint == wechat.WeComGetTokenPath:
		return refuse(BadPath, wechat.InvalidURL)
	case endpoint == wechat.StableTokenPath && c.r.Method != http.MethodPost:
		return refuse(BadMethod, wechat.RequirePost)
	case c.s.byID[q.AppID] == nil:
		return local
	}
	query, err := url.ParseQuery(c.r.URL.RawQuery)
	said := err == nil && endpoint == wechat.TokenPath && (query.Has("grant_type") || query.Has("appid") || query.Has("secret"))
	if appid := query.Get("appid"); said && appid != "" && c.s.byID[appid] == nil {
		if c.s.Learn {
			return local // WeChat answers
		}
		return refuse(UnknownApp, wechat.InvalidAppID)
	}
	own := local
	if said {
		if c.app == nil { // an appid before the path selects before a header does
			c.app = c.s.byID[q.AppID]
		}
		c.caller = q.Caller
		own = c.issueToken(endpoint)
		own.body = ""
	} else if q.Caller != "" && !c.s.Identity.May(q.Caller, q.AppID) {
		own = refuse(AppNotAllowed, wechat.Unauthorized)
	} else if over := c.admit(q.Caller); over != nil {
		own = over
	}
	if rules := c.h.limiter.Rules(q.AppID); rules != nil && (c.rec.Rule != "" || !said) {
		c.match = rules.Match(c.path)
	}
	return own
}
