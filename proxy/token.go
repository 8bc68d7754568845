package proxy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"wxproxy/wechat"
)

// tokenEndpoint returns the path of the token endpoint that the call goes to, "" if it goes to none.
// Those calls are never sent to WeChat, and authenticate in a way of their own.
func (c *call) tokenEndpoint() string {
	for _, endpoint := range []string{wechat.TokenPath, wechat.StableTokenPath, wechat.WeComGetTokenPath} {
		if wechat.SamePath(c.path, endpoint) {
			return endpoint
		}
	}
	return ""
}

// tokenRequest is what both token endpoints ask for. force_refresh is not among it: it is never
// passed on, because every service could void the token of all others with it.
type tokenRequest struct {
	GrantType string `json:"grant_type"`
	AppID     string `json:"appid"`
	Secret    string `json:"secret"`
}

// issueToken answers a token request with a proxy token, without asking WeChat: a token fetched
// past the gateway would void its own. Only the request of an app that is to be learned is passed on.
func (c *call) issueToken(endpoint string) *ownAnswer {
	switch {
	case endpoint == wechat.WeComGetTokenPath:
		c.h.wecom.Do(func() {
			c.h.log.Warn("/cgi-bin/gettoken is a path of WeCom (qyapi.weixin.qq.com), which this gateway does not serve: answered 40066")
		})
		return refuse(BadPath, wechat.InvalidURL)
	case endpoint == wechat.StableTokenPath && c.r.Method != http.MethodPost:
		return refuse(BadMethod, wechat.RequirePost)
	}
	if own := c.readTokenBody(); own != nil {
		return own
	}
	ask, ok := c.tokenRequest(endpoint)
	switch {
	case !ok:
		return refuse(TokenRequest, wechat.InvalidParameter)
	case ask.GrantType != "client_credential":
		return refuse(TokenRequest, wechat.InvalidGrant)
	case ask.AppID == "":
		return refuse(TokenRequest, wechat.NoAppID)
	case ask.Secret == "":
		return refuse(TokenRequest, wechat.NoSecret)
	}
	app := c.s.byID[ask.AppID]
	if app == nil {
		return c.learnToken(endpoint, ask)
	}
	// What else the call shows must not contradict it.
	var few [4]credential
	if own := cmp.Or(c.verifyAll(c.headerCredentials(few[:0])), c.selects(app)); own != nil {
		return own
	}
	if rules := c.h.limiter.Rules(app.AppID); rules != nil {
		if rule := rules.Match(c.path).Rule; rule != nil {
			c.rec.Rule, c.rec.Path = rule.Name, c.path
		}
	}
	proxyToken, caller, err := c.s.Identity.Issue(ask.AppID, ask.Secret, c.began)
	c.rec.Caller = caller
	if err != nil {
		return denied(err)
	}
	if own := c.proves(caller); own != nil {
		return own
	}
	if own := c.admit(c.caller); own != nil {
		return own
	}
	return &ownAnswer{decision: decidedLocal, body: `{"access_token":"` + proxyToken + `","expires_in":` + strconv.Itoa(proxyTokenSeconds) + `}`}
}

// proxyTokenSeconds is what SDKs are told. Some compute with it: under 1500 one cannot cache it.
const proxyTokenSeconds = 7200

// tokenRequest reads a token request: the query and a form for the classic endpoint, JSON for the
// stable one, and JSON where a client sends it to the classic one.
func (c *call) tokenRequest(endpoint string) (ask tokenRequest, ok bool) {
	text := bytes.TrimLeft(c.body.memory, " \t\r\n")
	if len(text) > 0 && text[0] == '{' {
		return ask, json.Unmarshal(text, &ask) == nil
	}
	if endpoint == wechat.StableTokenPath {
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
func (c *call) learnToken(endpoint string, ask tokenRequest) *ownAnswer {
	if c.s.isKey(ask.AppID) || c.s.isKey(ask.Secret) {
		return misplaced()
	}
	if !c.s.Learn || c.h.learned == nil || c.app != nil || !plausibleAppID(ask.AppID) {
		return refuse(UnknownApp, wechat.InvalidAppID)
	}
	if !c.s.LearnOpenly {
		if reason := c.stranger(); reason != "" {
			return refuse(reason, wechat.Unauthorized)
		}
	}
	if own := c.enter(); own != nil {
		return own
	}
	c.rec.AppID = ask.AppID // and no app, which would be in the metrics, before WeChat has issued a token for it
	text, known, err := c.h.learned.Fetch(c.r.Context(), strings.TrimPrefix(endpoint, "/cgi-bin/"), ask.AppID, ask.Secret)
	if known {
		c.app = &App{Name: ask.AppID, AppID: ask.AppID}
	}
	if err != nil || len(text) == 0 {
		c.h.outages.Warn("no access_token for an app that is learned", zap.String("app", ask.AppID), zap.Error(err))
		return tokenRefused(nil)
	}
	own := passOn(text)
	if own.errcode != 0 {
		own.refused(noToken(own.errcode))
	}
	return own
}

// plausibleAppID keeps a stranger's bytes out of the log and the store, and an AppSecret that stands in the
// place of the appid.
func plausibleAppID(appid string) bool {
	if len(appid) < 6 || len(appid) > 64 || secretForm.MatchString(appid) {
		return false
	}
	for _, c := range []byte(appid) {
		if !alphanumeric(c) && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
