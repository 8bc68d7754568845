package sandbox

import (
	"crypto/sha256"
	"encoding/base64"
	"time"
)

// userRefreshLife is how long a user's token can be renewed (official web authorisation guide).
const userRefreshLife = 30 * 24 * time.Hour

// openidOf is the openid of the user that a code or a number stands for: 28 characters, the same
// every time for the same app.
func openidOf(a *app, seed string) string {
	sum := sha256.Sum256([]byte(a.id + "\x00" + seed))
	return "o" + base64.RawURLEncoding.EncodeToString(sum[:])[:27]
}

// userReply is the answer with a user's tokens in it.
func (c *call) userReply(access, refresh *token) reply {
	return c.json(struct {
		AccessToken    string `json:"access_token"`
		ExpiresSeconds int64  `json:"expires_in"`
		RefreshToken   string `json:"refresh_token"`
		OpenID         string `json:"openid"`
		Scope          string `json:"scope"`
	}{access.text, int64(access.expires.Sub(c.now) / time.Second), refresh.text, access.openid, "snsapi_userinfo"})
}

// exchange takes a code: any text is good, once. It returns the openid of the user who gave it.
func (c *call) exchange(name string) (openid string, code int) {
	text := c.param(name)
	if text == "" {
		return "", 41008
	}
	key := c.app.id + " " + text
	if c.s.codes[key] {
		return "", 40163
	}
	c.s.codes[key] = true
	return openidOf(c.app, text), 0
}

// webToken answers /sns/oauth2/access_token.
func webToken(c *call) reply {
	openid, code := c.exchange("code")
	if code != 0 {
		return c.fail(code)
	}
	access := c.s.issue(c.app, userToken, tokenLife)
	refresh := c.s.issue(c.app, userRefresh, userRefreshLife)
	access.openid, refresh.openid = openid, openid
	return c.userReply(access, refresh)
}

// webRefresh answers /sns/oauth2/refresh_token.
func webRefresh(c *call) reply {
	if c.param("grant_type") != "refresh_token" {
		return c.fail(40002)
	}
	refresh, known := c.s.tokens[c.param("refresh_token")]
	if !known || refresh.kind != userRefresh || refresh.app != c.app || refresh.fault(c.now) != 0 {
		return c.fail(40030)
	}
	access := c.s.issue(c.app, userToken, tokenLife)
	access.openid = refresh.openid
	return c.userReply(access, refresh)
}

// webUser answers /sns/userinfo.
func webUser(c *call) reply {
	if c.param("openid") != c.token.openid {
		return c.fail(40003)
	}
	return c.json(map[string]any{
		"openid": c.token.openid, "nickname": "sandbox", "sex": 0, "province": "", "city": "", "country": "",
		"headimgurl": "https://thirdwx.qlogo.cn/mmopen/sandbox/132", "privilege": []string{},
		"unionid": openidOf(c.app, "union "+c.token.openid),
	})
}

// webAuth answers /sns/auth.
func webAuth(c *call) reply {
	if c.param("openid") != c.token.openid {
		return c.fail(40003)
	}
	return ok(c)
}

// miniSession answers /sns/jscode2session.
func miniSession(c *call) reply {
	openid, code := c.exchange("js_code")
	if code != 0 {
		return c.fail(code)
	}
	return c.json(map[string]string{
		"session_key": base64.StdEncoding.EncodeToString([]byte(random(12))),
		"openid":      openid,
		"unionid":     openidOf(c.app, "union "+openid),
	})
}
