package proxy

import (
	"strconv"

	"wxproxy/limits"
	"wxproxy/wechat"
)

// The decisions that are not a [limits.Verdict].
const (
	decidedLocal    = "local"
	refusedAuth     = "refused-auth"     // who calls, or for which account, is not proven or not allowed
	refusedRequest  = "refused-request"  // the request cannot be sent as it is
	refusedToken    = "refused-token"    // WeChat issues no access_token
	refusedUpstream = "refused-upstream" // WeChat cannot be reached, and nothing left
	refusedOverload = "refused-overload" // too many calls at once
	refusedFuse     = "refused-fuse"     // the caller's calls fail in a loop
)

// Reason says why the gateway refused a call. It is in the header X-Wxproxy-Reason, in the access log and
// in a label of the metrics, and is "" for a call that was not refused. Each refusal has exactly one.
type Reason string

// The reasons. The manual has a table of them with what to do about each.
const (
	WrongKey       Reason = "wrong-key"           // a key of no caller, or a secret that is none of the app's either
	MalformedBasic Reason = "malformed-basic"     // an Authorization header of the Basic scheme that cannot be read
	MisplacedKey   Reason = "misplaced-key"       // a caller's key where WeChat would read it
	UnknownToken   Reason = "unknown-token"       // an access_token that no gateway issued, nor saw being issued
	ForgedToken    Reason = "forged-token"        // a proxy token that was not issued here, or was changed
	ExpiredToken   Reason = "expired-token"       // a proxy token that is too old, or signed with a replaced key
	AppNotAllowed  Reason = "app-not-allowed"     // the caller may not call for the app
	RuleNotAllowed Reason = "rule-not-allowed"    // the caller may not call this rule
	AddrNotAllowed Reason = "address-not-allowed" // the caller may not call from this address
	CallerExpired  Reason = "caller-expired"      // the caller's keys are over
	Contradiction  Reason = "contradiction"       // two credentials that name different apps or callers
	UnknownApp     Reason = "unknown-app"         // an app that is not configured
	NoApp          Reason = "no-app"              // several apps are configured, and the call names none
	NothingShown   Reason = "nothing-shown"       // no credentials, where calls without proof are not allowed
	Browser        Reason = "browser"             // no credentials, and a header that only a browser sends
	Relayed        Reason = "proxy"               // no credentials, and the marks of a proxy
	ForeignHost    Reason = "host"                // no credentials, and a Host that is neither loopback nor WeChat's

	BadPath      Reason = "path"           // not a path of WeChat's, or one that cannot be sent as it is
	BadMethod    Reason = "method"         // not one of GET, HEAD and POST, or GET where only POST is served
	BadQuery     Reason = "query"          // a query that does not parse
	BodyTooLarge Reason = "body-too-large" // over max_body, or over 64 KiB in a token request
	BodyNotKept  Reason = "body-not-kept"  // no temporary file could be written for the body
	TokenRequest Reason = "token-request"  // a token request that lacks something, or cannot be read
	ClientGone   Reason = "client-gone"    // the client closed the connection before anything was sent

	Looping Reason = "fuse" // it repeats calls that WeChat has answered with the same errcode again and again

	NoToken      Reason = "no-token" // see noToken
	Unreachable  Reason = "unreachable"
	TooManyCalls Reason = "too-many-calls"

	QuotaUsedUp      Reason = "quota-used-up"
	QuotaClosed      Reason = "wechat-45009" // WeChat itself answered 45009
	TooFast          Reason = "too-fast"
	ShareUsedUp      Reason = "share-used-up"
	Reserved         Reason = "reserved" // what is left of a quota is kept back for other callers
	APIDenied        Reason = "api-denied"
	StoreUnavailable Reason = "store-unavailable"
)

// decisions has every reason, with the decision that it leads to.
var decisions = map[Reason]string{
	WrongKey:       refusedAuth,
	MalformedBasic: refusedAuth,
	MisplacedKey:   refusedAuth,
	UnknownToken:   refusedAuth,
	ForgedToken:    refusedAuth,
	ExpiredToken:   refusedAuth,
	AppNotAllowed:  refusedAuth,
	RuleNotAllowed: refusedAuth,
	AddrNotAllowed: refusedAuth,
	CallerExpired:  refusedAuth,
	Contradiction:  refusedAuth,
	UnknownApp:     refusedAuth,
	NoApp:          refusedAuth,
	NothingShown:   refusedAuth,
	Browser:        refusedAuth,
	Relayed:        refusedAuth,
	ForeignHost:    refusedAuth,

	BadPath:      refusedRequest,
	BadMethod:    refusedRequest,
	BadQuery:     refusedRequest,
	BodyTooLarge: refusedRequest,
	BodyNotKept:  refusedRequest,
	TokenRequest: refusedRequest,
	ClientGone:   refusedRequest,

	Looping: refusedFuse,

	NoToken:            refusedToken,
	NoToken + "-40001": refusedToken, // a wrong AppSecret
	NoToken + "-40013": refusedToken, // a wrong appid
	NoToken + "-40125": refusedToken, // a wrong AppSecret
	NoToken + "-40164": refusedToken, // the gateway's address is not in the whitelist
	NoToken + "-40243": refusedToken, // the AppSecret is frozen
	NoToken + "-45009": refusedToken, // no token requests are left
	NoToken + "-45011": refusedToken, // too many token requests in a minute
	NoToken + "-50004": refusedToken, // the account is blocked
	NoToken + "-50007": refusedToken,
	NoToken + "-89501": refusedToken, // an administrator of the account must allow the gateway's address, or has refused it
	NoToken + "-89503": refusedToken,
	NoToken + "-89506": refusedToken,
	NoToken + "-89507": refusedToken,

	Unreachable:  refusedUpstream,
	TooManyCalls: refusedOverload,

	QuotaUsedUp:      limits.RefusedQuota.String(),
	QuotaClosed:      limits.RefusedLatched.String(),
	TooFast:          limits.RefusedPace.String(),
	ShareUsedUp:      limits.RefusedShare.String(),
	Reserved:         limits.RefusedReserved.String(),
	APIDenied:        limits.RefusedDenied.String(),
	StoreUnavailable: limits.RefusedStore.String(),
}

// verdicts are the reasons and the answers to the limiter's refusals.
var verdicts = [...]struct {
	reason  Reason
	errcode wechat.Errcode
}{
	limits.RefusedQuota:    {QuotaUsedUp, wechat.QuotaReached},
	limits.RefusedLatched:  {QuotaClosed, wechat.QuotaReached},
	limits.RefusedPace:     {TooFast, wechat.TooFast},
	limits.RefusedShare:    {ShareUsedUp, wechat.QuotaReached},
	limits.RefusedReserved: {Reserved, wechat.QuotaReached},
	limits.RefusedDenied:   {APIDenied, wechat.Unauthorized},
	limits.RefusedStore:    {StoreUnavailable, wechat.SystemError},
}

// noToken returns the reason for a call for which WeChat answers an errcode in place of an access_token:
// no-token-40164 for instance, or no-token for an errcode that is not known there, so that the reasons are bounded
// in number.
func noToken(errcode wechat.Errcode) Reason {
	reason := NoToken + "-" + Reason(strconv.Itoa(int(errcode)))
	if decisions[reason] == "" {
		return NoToken
	}
	return reason
}
