package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"go.uber.org/zap"
)

// local answers the endpoints that are never sent to WeChat, and reports whether it did. It comes
// before who, because these calls prove who they are in a way of their own.
func (c *call) local() bool {
	switch path := strings.TrimSuffix(c.path, "/"); {
	case strings.EqualFold(path, "/cgi-bin/gettoken"):
		c.h.wecom.Do(func() {
			c.h.log.Warn("/cgi-bin/gettoken is a path of WeCom (qyapi.weixin.qq.com), which this gateway does not serve: answered 40066")
		})
		return !c.refuse(refusedRequest, codeInvalidURL)
	case strings.EqualFold(path, stablePath):
		if c.r.Method != http.MethodPost {
			return !c.refuse(refusedRequest, codeRequirePost)
		}
		return c.issueToken(stablePath)
	case strings.EqualFold(path, classicPath):
		return c.issueToken(classicPath)
	}
	return false
}

const (
	classicPath = "/cgi-bin/token"
	stablePath  = "/cgi-bin/stable_token"
)

// tokenRequest is what both token endpoints ask for. force_refresh is not among it: it is never
// passed on, because every service could void the token of all others with it.
type tokenRequest struct {
	GrantType string `json:"grant_type"`
	AppID     string `json:"appid"`
	Secret    string `json:"secret"`
}

// issueToken answers a token request with a proxy token, without a word to WeChat: a token fetched
// past us would void ours. Only the request of an app that is to be learned is passed on. It
// reports true: the call is answered.
func (c *call) issueToken(path string) bool {
	if !c.readBody() {
		return true
	}
	ask, ok := c.tokenRequest(path)
	switch {
	case !ok:
		return !c.refuse(refusedRequest, codeInvalidParameter)
	case ask.GrantType != "client_credential":
		return !c.refuse(refusedRequest, codeInvalidGrant)
	case ask.AppID == "":
		return !c.refuse(refusedRequest, codeNoAppID)
	case ask.Secret == "":
		return !c.refuse(refusedRequest, codeNoSecret)
	}
	// What else the call shows must not contradict it.
	e := evidence{c: c, app: c.app}
	app := c.s.byID[ask.AppID]
	if app == nil {
		return c.learnToken(path, ask)
	}
	if errcode := e.headers(); errcode != 0 || !e.is(app) {
		return !c.refuse(refusedAuth, codeUnauthorized)
	}
	c.app = app
	if rules := c.h.limiter.Rules(app.AppID); rules != nil {
		if rule := rules.Match(c.path).Rule; rule != nil {
			c.rec.Rule, c.rec.Path = rule.Name, c.path
		}
	}
	if c.s.Identity == nil {
		return !c.refuse(refusedAuth, codeUnauthorized)
	}
	proxyToken, caller, err := c.s.Identity.Issue(ask.AppID, ask.Secret, c.began)
	c.rec.Caller = caller
	var denied interface{ Errcode() int }
	switch {
	case errors.As(err, &denied):
		return !c.refuse(refusedAuth, denied.Errcode())
	case err != nil:
		return !c.refuse(refusedOverload, codeSystemError)
	case !e.by(caller):
		return !c.refuse(refusedAuth, codeUnauthorized)
	}
	c.rec.Decision = decidedLocal
	c.reply(http.StatusOK, 0, `{"access_token":"`+proxyToken+`","expires_in":`+strconv.Itoa(proxyTokenSeconds)+`}`, 0)
	return true
}

// proxyTokenSeconds is what SDKs are told. Some compute with it: under 1500 one cannot cache it.
const proxyTokenSeconds = 7200

// tokenRequest reads a token request: the query and a form for the classic endpoint, JSON for the
// stable one, and JSON where a client sends it to the classic one.
func (c *call) tokenRequest(path string) (ask tokenRequest, ok bool) {
	if c.body.media != nil {
		return ask, false // over 64 KiB
	}
	text := bytes.TrimLeft(c.body.memory, " \t\r\n")
	if len(text) > 0 && text[0] == '{' {
		return ask, json.Unmarshal(text, &ask) == nil
	}
	if path == stablePath {
		return ask, false
	}
	query, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return ask, false
	}
	form, err := url.ParseQuery(string(text))
	if err != nil {
		form = nil // some other body, which WeChat does not read either
	}
	value := func(name string) string {
		if text := query.Get(name); text != "" {
			return text
		}
		return form.Get(name)
	}
	return tokenRequest{value("grant_type"), value("appid"), value("secret")}, true
}

// learnToken answers the token request of an app that is not configured: its own fetch passes, and
// the token that comes back names it from then on.
func (c *call) learnToken(path string, ask tokenRequest) bool {
	if !c.s.Learn || c.h.learned == nil || c.app != nil || !plausibleAppID(ask.AppID) {
		return !c.refuse(refusedAuth, codeInvalidAppID)
	}
	if !c.s.LearnOpenly && !c.s.allowsAnonymous(c.r, c.peer) {
		return !c.refuse(refusedAuth, codeUnauthorized)
	}
	c.app = &App{Name: ask.AppID, AppID: ask.AppID}
	text, err := c.h.learned.Fetch(c.r.Context(), strings.TrimPrefix(path, "/cgi-bin/"), ask.AppID, ask.Secret)
	if err != nil || len(text) == 0 {
		c.h.outages.Warn("no access_token for an app that is learned", zap.String("app", ask.AppID), zap.Error(err))
		return !c.refuse(refusedOverload, codeSystemError)
	}
	c.rec.Decision = decidedLocal
	errcode, _ := peekErrcode(text, true)
	c.rec.RID = peekRID(text)
	c.reply(http.StatusOK, errcode, string(text), 0)
	return true
}

// plausibleAppID keeps a stranger's bytes out of the log and the store.
func plausibleAppID(appid string) bool {
	if len(appid) < 6 || len(appid) > 64 {
		return false
	}
	for _, c := range []byte(appid) {
		if !alphanumeric(c) && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
