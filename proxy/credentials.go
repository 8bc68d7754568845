package proxy

import (
	"cmp"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"

	"wxproxy/wechat"
)

// identity is who a call is made by, and for which account.
type identity struct {
	app    *App
	caller string // "" is nobody by name
	proven bool   // by something that others cannot know
	stale  bool   // a proxy token was shown that is no longer good

	showsToken bool // in access_token, of whatever kind
	showsOurs  bool // a proxy token, good or not any more
	unknown    bool // an unknown access_token was shown
	asPlatform bool // the token of a third-party platform is shown as component_access_token

	ownToken   string // a learned token that the call shows and keeps
	secretName string // the query's parameter in which the AppSecret takes the place of a caller's key
}

// credential is one thing that a call shows of who sends it.
type credential struct {
	kind  credentialKind
	value string
	appid string // of a secret
}

type credentialKind uint8

const (
	appName        credentialKind = iota // X-Wxproxy-App, or the user of Basic: a name or appid
	callerKey                            // X-Wxproxy-Key, or the password of Basic
	accessToken                          // access_token in the query
	appSecret                            // the AppSecret or a caller's key, in the query
	unintelligible                       // a header that should be a credential and is none
)

// authenticate works out the app and the caller from all credentials of the call, and refuses a call
// that contradicts itself or that may not be made.
//
// Proofs are a key (Basic, or X-Wxproxy-Key), a secret, and a token that was issued by the gateway or seen being
// issued; the path prefix, X-Wxproxy-App and the user of Basic only select, because appids are public.
// An unknown token is not a proof and no contradiction: it is replaced, if something else
// proves who calls or calls without proof are allowed.
func (c *call) authenticate() *ownAnswer {
	if post, ok := c.w.(*postWriter); ok { // a call of the gateway's own
		if c.app = c.s.byID[post.appid]; c.app == nil {
			return refuse(UnknownApp, wechat.InvalidAppID)
		}
		return nil
	}
	var few [4]credential
	shown, own := c.queryCredentials(c.headerCredentials(few[:0]))
	if own == nil {
		own = c.verifyAll(shown)
	}
	c.rec.Caller = c.caller
	if own == nil {
		own = c.judge()
	}
	return own
}

// denied returns the refusal for an error of Identity.Issue.
func denied(err error) *ownAnswer {
	errcode, _ := errors.AsType[wechat.Errcode](err)
	switch errcode {
	case wechat.InvalidSecret:
		return refuse(WrongKey, errcode)
	case wechat.InvalidAppID:
		return refuse(UnknownApp, errcode)
	}
	return refuse(AppNotAllowed, wechat.Unauthorized)
}

// headerCredentials appends the credentials of the call's headers.
func (c *call) headerCredentials(shown []credential) []credential {
	h := c.r.Header
	for _, name := range h["X-Wxproxy-App"] {
		shown = append(shown, credential{kind: appName, value: name})
	}
	for _, key := range h["X-Wxproxy-Key"] {
		shown = append(shown, credential{kind: callerKey, value: key})
	}
	for _, text := range h["Authorization"] {
		scheme, encoded, _ := strings.Cut(strings.TrimLeft(text, " \t"), " ")
		if !strings.EqualFold(scheme, "Basic") {
			continue // not meant for the gateway
		}
		plain, err := base64.StdEncoding.DecodeString(strings.Trim(encoded, " \t"))
		app, key, ok := strings.Cut(string(plain), ":")
		if err != nil || !ok {
			return append(shown, credential{kind: unintelligible})
		}
		if app != "" {
			shown = append(shown, credential{kind: appName, value: app})
		}
		shown = append(shown, credential{kind: callerKey, value: key})
	}
	return shown
}

// secretParameter returns the name of the parameter that holds the AppSecret in the query of a call to
// path, "" if the call has none. It may be a caller's key as at the token endpoints; then the AppSecret takes its place.
func secretParameter(path string) string {
	for _, known := range [...]string{wechat.OAuthTokenPath, wechat.JSCodePath} {
		if wechat.SamePath(path, known) {
			return "secret"
		}
	}
	if wechat.SamePath(path, wechat.ClearV2Path) {
		return "appsecret"
	}
	return ""
}

// queryCredentials appends every access_token of the query, and the secret of a call that carries one.
func (c *call) queryCredentials(shown []credential) ([]credential, *ownAnswer) {
	raw := c.r.URL.RawQuery
	if raw == "" {
		return shown, nil
	}
	secretName := secretParameter(c.path)
	for parameter := range strings.SplitSeq(raw, "&") {
		secret := secretName != "" && c.secretName == "" && names(parameter, secretName)
		if !secret {
			if own := c.checkParameter(parameter); own != nil {
				return nil, own
			}
			if !names(parameter, tokenParameter) {
				c.asPlatform = c.asPlatform || names(parameter, wechat.PlatformParameter) && !strings.HasSuffix(parameter, "=")
				continue
			}
		}
		_, value, _ := strings.Cut(parameter, "=")
		value, err := url.QueryUnescape(value)
		switch {
		case err != nil:
			return nil, refuse(BadQuery, wechat.InvalidParameter)
		case secret && value != "": // else it is in the body, which is never changed
			query, _ := url.ParseQuery(raw) // queryParses has read it
			shown = append(shown, credential{appSecret, value, query.Get("appid")})
			c.secretName = secretName
		case !secret:
			value = value[strings.LastIndexByte(value, '=')+1:] // one SDK sends access_token=n=TOKEN
			if value != "" {
				c.showsToken = true
				shown = append(shown, credential{kind: accessToken, value: value})
			}
		}
	}
	return shown, nil
}

// verifyAll verifies each credential, and takes in whom it names: first those that prove something.
func (c *call) verifyAll(shown []credential) *ownAnswer {
	for _, selectors := range []bool{false, true} {
		for i := range shown {
			if (shown[i].kind == appName) != selectors {
				continue
			}
			if own := c.verify(&shown[i]); own != nil {
				return own
			}
		}
	}
	return nil
}

func (c *call) verify(shown *credential) *ownAnswer {
	switch shown.kind {
	case appName:
		app := c.s.byID[shown.value]
		if app == nil {
			app = c.s.byName[shown.value]
		}
		if c.ignoresSelector(app) {
			return nil
		}
		return c.selects(app)
	case callerKey:
		caller, ok := c.s.Identity.Caller(shown.value)
		if !ok {
			return refuse(WrongKey, wechat.Unauthorized)
		}
		return c.proves(caller)
	case accessToken:
		return c.verifyToken(shown.value)
	case appSecret:
		app := c.s.byID[shown.appid]
		if app == nil && c.s.isKey(shown.value) {
			return misplaced()
		}
		if app == nil {
			c.secretName = ""
			return nil // WeChat judges it
		}
		_, caller, err := c.s.Identity.Issue(app.AppID, shown.value, c.began)
		if err != nil {
			return denied(err)
		}
		if caller == "" {
			c.secretName = "" // it is the AppSecret
		}
		return cmp.Or(c.selects(app), c.proves(caller))
	default:
		return refuse(MalformedBasic, wechat.Unauthorized)
	}
}

// verifyToken takes in what an access_token says, if it was issued by the gateway or is learned.
func (c *call) verifyToken(shown string) *ownAnswer {
	appid, caller, err := c.s.Identity.Read(shown, c.began)
	switch {
	case err == nil:
		c.showsOurs = true
		return cmp.Or(c.selects(c.s.byID[appid]), c.proves(caller))
	case errors.Is(err, wechat.TokenExpired):
		c.stale, c.showsOurs = true, true
		return nil
	case !errors.Is(err, wechat.ErrUnknownToken):
		return refuse(ForgedToken, wechat.Unauthorized)
	}
	if c.s.isKey(shown) {
		return misplaced()
	}
	ok := false
	if c.h.learned != nil {
		appid, ok = c.h.learned.App(c.r.Context(), shown)
	}
	if !ok {
		c.unknown = true
		return nil
	}
	app := c.s.byID[appid]
	switch {
	case appid == component.AppID:
		app = component
	case app == nil:
		app = &App{Name: appid, AppID: appid} // a learned one
		c.h.granted.add(appid)
	}
	c.ownToken = shown
	return cmp.Or(c.selects(app), c.proves(""))
}

// selects takes in the app; nil is one that is not configured.
func (i *identity) selects(app *App) *ownAnswer {
	switch {
	case app == nil:
		return refuse(UnknownApp, wechat.Unauthorized)
	case i.app != nil && i.app.AppID != app.AppID:
		return refuse(Contradiction, wechat.Unauthorized)
	}
	i.app = app
	return nil
}

// proves takes in the caller. An AppSecret names nobody, which contradicts nobody.
func (i *identity) proves(caller string) *ownAnswer {
	if caller != "" && i.caller != "" && i.caller != caller {
		return refuse(Contradiction, wechat.Unauthorized)
	}
	i.caller = cmp.Or(caller, i.caller)
	i.proven = true
	return nil
}

// judge decides whether the call may be made, once all credentials were taken in.
func (c *call) judge() *ownAnswer {
	if !c.proven && c.stale {
		return refuse(ExpiredToken, wechat.TokenExpired) // the SDK fetches another one from the gateway, which costs nothing
	}
	if !c.proven {
		if reason := c.stranger(); reason != "" && c.unknown {
			return refuse(UnknownToken, wechat.Unauthorized)
		} else if reason != "" {
			return refuse(reason, wechat.Unauthorized)
		}
	}
	if c.app == nil {
		c.app = c.impliedApp()
	}
	switch {
	case c.showsStrangeToken():
		return refuse(UnknownToken, wechat.Unauthorized)
	case c.app == nil:
		return refuse(NoApp, wechat.Unauthorized)
	case c.caller != "" && !c.mayCall():
		return refuse(AppNotAllowed, wechat.Unauthorized)
	}
	return c.admit(c.caller)
}
