package proxy

import (
	"net/http"
	"strings"
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
	case strings.EqualFold(path, "/cgi-bin/stable_token"):
		if c.r.Method != http.MethodPost {
			return !c.refuse(refusedRequest, codeRequirePost)
		}
		return c.issueToken()
	case strings.EqualFold(path, "/cgi-bin/token"):
		return c.issueToken()
	}
	return false
}

// issueToken answers a token request with a proxy token. Until proxy tokens exist it proves
// nobody, reads nothing, and above all sends nothing: a token fetched past us would void ours.
func (c *call) issueToken() bool {
	return !c.refuse(refusedAuth, codeUnauthorized)
}
