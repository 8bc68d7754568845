package proxy

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"wxproxy/wechat"
)

// A third-party platform calls WeChat with a token of its own, its component token, and for the accounts
// that have granted it one with theirs. Both come through one HTTP client, mostly, so the key of a
// platform in a base URL or a default header comes with all of them. The tokens say which account a call
// is for: they are learned from the answers that issue them, and are sent as they are.

// component stands for the account in a platform's own calls, which name none.
var component = &App{Name: "component", AppID: "component"}

// thirdParty reports whether the call shows the key of a third-party platform.
func (c *call) thirdParty() bool {
	return c.caller != "" && c.s.Identity.ThirdParty(c.caller)
}

// platformsOwn reports whether the call is made by a platform for itself: by its path, or because it
// shows the platform's token.
func (c *call) platformsOwn() bool {
	return c.asPlatform || c.takes == wechat.PlatformToken
}

// ignoresSelector reports whether X-Wxproxy-App or the user of Basic means nothing, because it comes with
// all calls of a platform: nil is an app that is not configured, as the platform's own appid.
func (c *call) ignoresSelector(app *App) bool {
	return c.thirdParty() && (app == nil || c.ownToken != "" || c.platformsOwn())
}

// impliedApp returns the app of a call that selects none, or nil.
func (c *call) impliedApp() *App {
	switch {
	case c.takes == wechat.NoToken:
		return c.appOfQuery()
	case c.platformsOwn():
		return component
	}
	return c.s.only
}

// appOfQuery returns the account that a call without a token names: it logs in a user, mostly. One that a platform names and that has
// granted nothing here is counted under the platform, or made-up appids would take memory.
func (c *call) appOfQuery() *App {
	query, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return nil
	}
	appid := query.Get("appid")
	switch app := c.s.byID[appid]; {
	case app != nil:
		return app
	case !c.asPlatform:
		return c.s.only
	case c.h.granted.has(appid):
		return &App{Name: appid, AppID: appid}
	}
	return component
}

// showsStrangeToken reports whether a platform shows a token that nobody saw being issued: it may be of
// any account, and must not be replaced by that of the one that is selected.
func (c *call) showsStrangeToken() bool {
	return c.unknown && c.ownToken == "" && c.thirdParty() && !c.platformsOwn() && c.takes != wechat.NoToken
}

// mayCall reports whether the caller may call for the app: a platform also for itself, and for the
// accounts that have granted a token.
func (c *call) mayCall() bool {
	switch {
	case c.app == component:
		return c.thirdParty()
	case c.s.Identity.May(c.caller, c.app.AppID):
		return true
	}
	return c.thirdParty() && (c.ownToken != "" || c.h.granted.has(c.app.AppID))
}

// defaultTokenLife is that of a platform's token when the answer does not say.
const defaultTokenLife = 2 * time.Hour

// issuesPlatformTokens reports whether the answer of a path names the token of a platform, or one that an
// account has granted it.
func issuesPlatformTokens(path string) bool {
	return wechat.SamePath(path, wechat.PlatformTokenPath) || wechat.SamePath(path, wechat.QueryAuthPath) || wechat.SamePath(path, wechat.AuthorizerPath)
}

// learnPlatformToken remembers whom a token was issued for: calls with it consume that account's own quota.
func (c *call) learnPlatformToken(ctx context.Context, text []byte) {
	type grant struct {
		AppID       string  `json:"authorizer_appid"`
		AccessToken string  `json:"authorizer_access_token"`
		Component   string  `json:"component_access_token"`
		ExpiresIn   float64 `json:"expires_in"`
	}
	var got struct {
		grant
		Info grant `json:"authorization_info"`
	}
	if json.Unmarshal(text, &got) != nil {
		return
	}
	g := got.grant
	switch {
	case wechat.SamePath(c.path, wechat.PlatformTokenPath):
		g.AppID, g.AccessToken = component.AppID, g.Component
	case wechat.SamePath(c.path, wechat.QueryAuthPath):
		g = got.Info
	default: // the answer leaves out the appid, which the request names
		var ask struct {
			AppID string `json:"authorizer_appid"`
		}
		if json.Unmarshal(c.body.memory, &ask) != nil {
			return
		}
		g.AppID = ask.AppID
	}
	if g.AccessToken == "" || !plausibleAppID(g.AppID) {
		return
	}
	life := time.Duration(g.ExpiresIn) * time.Second
	if life <= 0 || life > 24*time.Hour {
		life = defaultTokenLife
	}
	if g.AppID != component.AppID {
		c.h.granted.add(g.AppID)
	}
	if err := c.h.learned.Remember(ctx, g.AccessToken, g.AppID, life); err != nil {
		c.h.outages.Warn("a third-party platform's token could not be remembered; its calls will be refused", zap.String("app", g.AppID), zap.Error(err))
	}
}

// maxGranted is how many accounts a gateway remembers to have granted a token.
const maxGranted = 10_000

// grantedApps are accounts that have granted a platform a token. The zero value is empty. It is safe for
// concurrent use.
type grantedApps struct {
	mu   sync.RWMutex
	apps map[string]bool
}

func (g *grantedApps) add(appid string) {
	if g.has(appid) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.apps == nil || len(g.apps) >= maxGranted { // the next call with its token brings one back
		g.apps = make(map[string]bool)
	}
	g.apps[strings.Clone(appid)] = true
}

func (g *grantedApps) has(appid string) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.apps[appid]
}
