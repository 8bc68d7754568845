package sandbox

import "strings"

// A third-party platform calls APIs on behalf of accounts that authorised it. Here every app is a
// platform too, and every app has authorised it.

// componentTokenReply answers api_component_token. The ticket is taken as it is.
func componentTokenReply(c *call) reply {
	t := c.s.issue(c.app, componentToken, tokenLife)
	return c.json(map[string]any{"component_access_token": t.text, "expires_in": 7200})
}

// authorize gives an app's next token to a platform; the one before has five more minutes.
func (c *call) authorize(a *app) *token {
	if a.refresh == "" {
		a.refresh = "refreshtoken@@@" + random(32)
	}
	a.authorizer.supersede(c.now.Add(tokenGrace))
	a.authorizer = c.s.issue(a, accountToken, tokenLife)
	return a.authorizer
}

// queryAuth answers api_query_auth. The code is an appid of the sandbox's, or ends in "@@@" and one.
func queryAuth(c *call) reply {
	code := c.field("authorization_code")
	if i := strings.LastIndex(code, "@@@"); i >= 0 {
		code = code[i+len("@@@"):]
	}
	a, ok := c.s.apps[code]
	if !ok {
		return c.fail(61010)
	}
	t := c.authorize(a)
	return c.json(map[string]any{"authorization_info": map[string]any{
		"authorizer_appid": a.id, "authorizer_access_token": t.text, "expires_in": 7200,
		"authorizer_refresh_token": a.refresh, "func_info": []any{},
	}})
}

// authorizerToken answers api_authorizer_token.
func authorizerToken(c *call) reply {
	a, ok := c.s.apps[c.field("authorizer_appid")]
	if !ok {
		return c.fail(40013)
	}
	if a.refresh == "" || c.field("authorizer_refresh_token") != a.refresh {
		return c.fail(61023)
	}
	t := c.authorize(a)
	return c.json(map[string]any{
		"authorizer_access_token": t.text, "expires_in": 7200, "authorizer_refresh_token": a.refresh,
	})
}
