package sandbox

import (
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"net/url"
)

// identify finds out whose request this is, for the counts and the faults, before it is known
// whether its token or secret is good. It needs s.mu.
func (c *call) identify() {
	shown := c.shownToken("access_token")
	if shown == "" {
		shown = c.shownToken("component_access_token")
	}
	if t, ok := c.s.tokens[shown]; ok {
		c.token, c.app = t, t.app
		return
	}
	if shown != "" {
		return
	}
	for _, name := range []string{"appid", "component_appid"} {
		if a, ok := c.s.apps[c.param(name)]; ok {
			c.app = a
			return
		}
	}
}

// shownToken is the first parameter of that name: a second one is not looked at.
func (c *call) shownToken(name string) string { return c.query.Get(name) }

// param looks for a parameter in the query, then in the body, which may be JSON or a form
// whatever its Content-Type: clients get that wrong (facts 4b).
func (c *call) param(name string) string {
	if v := c.query.Get(name); v != "" {
		return v
	}
	const mostBytes = 64 << 10 // no body that proves something is larger
	if len(c.body) == 0 || len(c.body) > mostBytes {
		return ""
	}
	if json.Valid(c.body) {
		return c.field(name)
	}
	form, err := url.ParseQuery(string(c.body))
	if err != nil {
		return ""
	}
	return form.Get(name)
}

// decode reads the body as JSON.
func (c *call) decode(v any) error { return json.Unmarshal(c.body, v) }

// field reads one text out of a JSON body, "" if it is not there.
func (c *call) field(name string) string {
	var fields map[string]json.RawMessage
	if c.decode(&fields) != nil {
		return ""
	}
	var v string
	_ = json.Unmarshal(fields[name], &v) // not a string: as good as not there
	return v
}

// shape checks verb and body: the errcode to answer, or 0.
func (c *call) shape() int {
	method := c.r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if !c.api.allows(method) {
		if c.api.allows(http.MethodPost) {
			return 43002
		}
		return 43001
	}
	if method != http.MethodPost {
		return 0
	}
	switch c.api.body {
	case jsonBody:
		if len(c.body) == 0 {
			return 44002
		}
		if !json.Valid(c.body) {
			return 47001
		}
	case fileBody:
		if len(c.body) == 0 {
			return 44002
		}
	case anyBody:
	}
	return 0
}

// A prover finds out whose call this is, and returns the errcode for a proof that fails.
type prover func(c *call) int

// byToken proves by the access_token of an account, or of an account that authorised a platform.
func byToken(c *call) int { return c.checkToken(c.shownToken("access_token"), accountToken) }

// byUser proves by the token of a user's web authorisation. An account's token is of the wrong
// kind (facts 2d).
func byUser(c *call) int { return c.checkToken(c.shownToken("access_token"), userToken) }

// byComponent proves by a platform's own token, under either name (facts 2d).
func byComponent(c *call) int {
	shown := c.shownToken("component_access_token")
	if shown == "" {
		shown = c.shownToken("access_token")
	}
	return c.checkToken(shown, componentToken)
}

func (c *call) checkToken(shown string, kind tokenKind) int {
	if shown == "" {
		return 41001
	}
	t, ok := c.s.tokens[shown]
	if !ok {
		if kind == userToken {
			return 40001
		}
		return 40014
	}
	if t.kind != kind {
		return 40001
	}
	c.token, c.app = t, t.app
	return t.fault(c.now)
}

// bySecret proves by appid and secret in the query or a form, for /cgi-bin/token.
func bySecret(c *call) int {
	if c.param("grant_type") != "client_credential" {
		return 40002
	}
	return c.checkSecret(c.param("appid"), c.param("secret"))
}

// byStableSecret proves by appid and secret in a JSON body: nothing in the query counts.
func byStableSecret(c *call) int {
	var in struct {
		Grant  string `json:"grant_type"`
		AppID  string `json:"appid"`
		Secret string `json:"secret"`
		Force  bool   `json:"force_refresh"`
	}
	if c.decode(&in) != nil {
		return 47001
	}
	if in.Grant != "client_credential" {
		return 40002
	}
	return c.checkSecret(in.AppID, in.Secret)
}

// byAppSecret proves by appid and appsecret, in the query or the body (facts 2d).
func byAppSecret(c *call) int { return c.checkSecret(c.param("appid"), c.param("appsecret")) }

// byComponentSecret proves by a platform's appid and secret, in a JSON body.
func byComponentSecret(c *call) int {
	return c.checkSecret(c.field("component_appid"), c.field("component_appsecret"))
}

// byWebSecret proves by appid and secret in the query, for the /sns paths that exchange a code.
func byWebSecret(c *call) int {
	if c.param("grant_type") != "authorization_code" {
		return 40002
	}
	return c.checkSecret(c.param("appid"), c.param("secret"))
}

// byAppID takes the caller's word for it, and that the app exists.
func byAppID(c *call) int {
	id := c.param("appid")
	if id == "" {
		return 41002
	}
	a, ok := c.s.apps[id]
	if !ok {
		return 40013
	}
	c.app = a
	return 0
}

func (c *call) checkSecret(appid, secret string) int {
	switch a, ok := c.s.apps[appid]; {
	case appid == "":
		return 41002
	case secret == "":
		return 41004
	case !ok:
		return 40013
	case subtle.ConstantTimeCompare([]byte(a.secret), []byte(secret)) != 1:
		return 40125
	default:
		c.app = a
		return 0
	}
}

// byComponentPush proves as byComponentSecret; this one API calls the secret component_secret.
func byComponentPush(c *call) int {
	return c.checkSecret(c.field("component_appid"), c.field("component_secret"))
}
