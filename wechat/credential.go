package wechat

import "strings"

// Credential is what a call carries to WeChat to show for whom it is made.
type Credential uint8

const (
	// AccountToken is the account's access_token, or that of an account that has granted one to a
	// third-party platform.
	AccountToken Credential = iota
	// PlatformToken is the token of a third-party platform: component_access_token, which newer pages
	// pass as access_token. The calls that get that token have the platform's AppSecret in their body.
	PlatformToken
	// EitherToken is the account's token or the platform's, by who asks.
	EitherToken
	// NoToken is anything else: an AppSecret, a code, the token of a user.
	NoToken
)

// PlatformParameter names the token of a third-party platform in a query. Newer pages call it
// access_token.
const PlatformParameter = "component_access_token"

// credentials are the paths whose credential is not that of their family, in lower case. The pages are
// those of https://developers.weixin.qq.com/doc/oplatform/openApi/, read 2026-11.
var credentials = map[string]Credential{
	TokenPath:       NoToken,
	StableTokenPath: NoToken,
	ClearV2Path:     NoToken, // the AppSecret

	// authorization-management, privacy-management: a platform acts for one account.
	ComponentPrefix + "getprivacysetting":         AccountToken,
	ComponentPrefix + "setprivacysetting":         AccountToken,
	ComponentPrefix + "uploadprivacyextfile":      AccountToken,
	ComponentPrefix + "get_authorizer_option":     EitherToken,
	ComponentPrefix + "set_authorizer_option":     EitherToken,
	ComponentPrefix + "api_get_authorizer_option": EitherToken, // the same by their names before 2023
	ComponentPrefix + "api_set_authorizer_option": EitherToken,

	// template-management, register-management and others: for the platform only.
	"/wxa/gettemplatedraftlist":              PlatformToken,
	"/wxa/gettemplatelist":                   PlatformToken,
	"/wxa/addtotemplate":                     PlatformToken,
	"/wxa/deletetemplate":                    PlatformToken,
	"/wxa/security/applysetorderpathinfo":    PlatformToken,
	"/wxa/servicemarket/get_paid_order_list": PlatformToken,
	"/wedata/wedata_get_login_config":        PlatformToken,
	"/wedata/wedata_set_login_config":        PlatformToken,

	"/tcb/invokecloudfunction": EitherToken,
	"/tcb/modifyenv":           EitherToken,
	"/tcb/usecloudaccesstoken": EitherToken,
	QuotaPath:                  EitherToken,
	ClearOnePath:               EitherToken,
	"/cgi-bin/openapi/rid/get": EitherToken,
}

// CredentialOf returns what a call of a canonical path carries. A path that WeChat has added since takes
// the account's token, as nearly all do.
func CredentialOf(path string) Credential {
	folded := strings.ToLower(strings.TrimSuffix(path, "/")) // path itself, mostly
	if credential, ok := credentials[folded]; ok {
		return credential
	}
	switch {
	case strings.HasPrefix(folded, SNSPrefix):
		return NoToken
	case strings.HasPrefix(folded, ComponentPrefix), strings.HasPrefix(folded, "/componenttcb/"),
		strings.HasPrefix(folded, "/wxa/component/"), strings.HasPrefix(folded, "/wxa/servicemarket/service/"):
		return PlatformToken
	}
	return AccountToken
}

// mixedCase are the paths that WeChat spells with capitals. The first is a prefix.
var mixedCase = []string{
	"/retail/B2b/",
	"/wxaapi/broadcast/goods/deleteInRoom",
	"/wxaapi/broadcast/goods/getVideo",
	"/wxaapi/minishop/busiAppeal",
	"/wxaapi/minishop/bussiRespondComplaint",
	"/wxaapi/minishop/bussiSupplyProof",
	"/wxaapi/minishop/bussiSupplyRefund",
	"/wxaapi/minishop/complaintOrderDetail",
}

// Spelling returns a path in WeChat's own letter case. Calls may be spelled in any; the paths that
// quota/get and quota/clear are asked about may not. A path that is not known to have capitals comes
// back as it is.
func Spelling(path string) string {
	for _, spelled := range mixedCase {
		if len(path) >= len(spelled) && strings.EqualFold(path[:len(spelled)], spelled) &&
			(len(path) == len(spelled) || strings.HasSuffix(spelled, "/")) {
			return spelled + path[len(spelled):]
		}
	}
	return path
}
