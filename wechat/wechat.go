// Package wechat holds what is known of WeChat's official-account API and needed in more than one
// place: errcodes, the texts that go with them, and paths. It imports nothing of the gateway.
package wechat

import (
	"errors"
	"strconv"
	"strings"
)

// Errcode is the errcode of an answer of WeChat's. Any but 0 is an error.
//
//nolint:errname // it is WeChat's own word
type Errcode int

// The errcodes that the gateway knows. OK is no error.
//
//nolint:errname // wechat.QuotaReached says it; wechat.ErrQuotaReached would say it twice
const (
	OK                Errcode = 0
	SystemError       Errcode = -1
	InvalidCredential Errcode = 40001
	InvalidGrant      Errcode = 40002
	InvalidAppID      Errcode = 40013
	InvalidToken      Errcode = 40014
	InvalidParameter  Errcode = 40035
	InvalidURL        Errcode = 40066
	InvalidSecret     Errcode = 40125
	NoAppID           Errcode = 41002
	NoSecret          Errcode = 41004
	TokenExpired      Errcode = 42001
	RequirePost       Errcode = 43002
	QuotaReached      Errcode = 45009
	TooFast           Errcode = 45011
	Unauthorized      Errcode = 48001
	ClearsUsed        Errcode = 48006
)

// texts are WeChat's own words for the errcodes that the gateway answers with.
var texts = map[Errcode]string{ //nolint:gosec // G101: no credentials
	InvalidGrant:     "invalid grant_type",
	InvalidAppID:     "invalid appid",
	InvalidParameter: "invalid parameter",
	InvalidURL:       "invalid url",
	InvalidSecret:    "invalid appsecret",
	NoAppID:          "appid missing",
	NoSecret:         "appsecret missing",
	TokenExpired:     "access_token expired",
	RequirePost:      "require POST method",
	QuotaReached:     "api freq out of limit",
	TooFast:          "api minute-quota reach limit, must slower, retry next minute",
	ClearsUsed:       "forbid to clear quota because of reaching the limit",
	Unauthorized:     "api unauthorized",
	SystemError:      "system error",
}

// bodies are made once: a refusal must cost little.
var bodies = func() map[Errcode]string {
	made := make(map[Errcode]string, len(texts))
	for e, text := range texts {
		made[e] = `{"errcode":` + strconv.Itoa(int(e)) + `,"errmsg":"` + text + `"}`
	}
	return made
}()

// Error implements error.
func (e Errcode) Error() string { return "errcode " + strconv.Itoa(int(e)) }

// Body returns an answer with the errcode in WeChat's own words. An errcode without known words gets
// the body of SystemError.
func (e Errcode) Body() string {
	if body, ok := bodies[e]; ok {
		return body
	}
	return bodies[SystemError]
}

// Answer is the body of an answer in which WeChat refuses something. As an error it is found with
// errors.As, so that the caller who waits gets the body; its text does not quote it.
//
//nolint:errname // it is an answer
type Answer []byte

// Error implements error.
func (Answer) Error() string { return "WeChat refuses" }

// ErrUnknownToken is the error for an access_token that was not issued here. WeChat may know it.
var ErrUnknownToken = errors.New("not a token of this gateway")

// Paths, in their canonical form.
//
//nolint:gosec // G101: no credentials
const (
	TokenPath         = "/cgi-bin/token"
	StableTokenPath   = "/cgi-bin/stable_token"
	TicketPath        = "/cgi-bin/ticket/getticket"
	ClearPath         = "/cgi-bin/clear_quota"         // all counts of an account
	ClearV2Path       = "/cgi-bin/clear_quota/v2"      // the same; it carries the AppSecret and no token
	ClearOnePath      = "/cgi-bin/openapi/quota/clear" // the counts of one path
	QuotaPath         = "/cgi-bin/openapi/quota/get"
	ComponentPrefix   = "/cgi-bin/component/" // before the calls of a third-party platform
	PlatformTokenPath = ComponentPrefix + "api_component_token"
	QueryAuthPath     = ComponentPrefix + "api_query_auth"
	AuthorizerPath    = ComponentPrefix + "api_authorizer_token"
	SNSPrefix         = "/sns/" // before calls for a user, which carry no token of the account
	OAuthTokenPath    = SNSPrefix + "oauth2/access_token"
	OAuthRefreshPath  = SNSPrefix + "oauth2/refresh_token"
	JSCodePath        = SNSPrefix + "jscode2session"
	WeComGetTokenPath = "/cgi-bin/gettoken" // of WeCom, which is another product
)

// SamePath reports whether two paths are one to WeChat, which ignores case and a trailing slash.
func SamePath(path, other string) bool {
	return strings.EqualFold(strings.TrimSuffix(path, "/"), other)
}
