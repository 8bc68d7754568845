package wechat

// lasting are the errcodes that WeChat gives again however often a call is repeated, until something other than time
// changes: true where it gives them whatever the call holds and whomever it is for. Missing are those of tokens, of
// limits and of a busy WeChat, which another moment mends.
//
// From WeChat's table of return codes and the pages of the APIs, https://developers.weixin.qq.com, read 2026-11. That
// an unfollowed user is 40003, 43004, 43101, 45015 or 45047, by API, is why these depend on the call.
var lasting = map[Errcode]bool{
	40003: false, // invalid openid
	40004: false, // invalid media type
	40005: false, // invalid file type
	40006: false, // invalid file size
	40007: false, // invalid media_id
	40008: true,  // invalid message type
	40009: false, // invalid image size
	40010: false, // invalid voice size
	40011: false, // invalid video size
	40012: false, // invalid thumb size
	40015: false, // the menu: its type, buttons, names, keys, URLs
	40016: false,
	40017: false,
	40018: false,
	40019: false,
	40020: false,
	40021: false,
	40022: false,
	40023: false,
	40024: false,
	40025: false,
	40026: false,
	40027: false,
	40028: false,
	40029: false, // invalid code
	40031: false, // invalid openid list
	40032: false,
	40033: false, // invalid charset
	40035: false, // invalid parameter
	40036: true,  // invalid template_id size
	40037: true,  // invalid template_id
	40038: false, // invalid packet
	40039: false, // invalid url size
	40048: false, // invalid url domain
	40050: false, // invalid group or tag id
	40051: false,
	40060: false, // invalid article_idx
	40097: false, // invalid args
	40117: false, // invalid group name
	40118: false, // invalid media_id size
	40119: false, // invalid button type
	40120: false,
	40121: false, // invalid media_id type
	40132: false, // invalid username
	40137: false, // invalid image format
	40155: false, // links to other accounts
	40163: false, // code been used
	40226: false, // the user is blocked
	41005: false, // media data missing
	41006: false, // media_id missing
	41007: false, // submenu data missing
	41008: false, // code missing
	41009: false, // openid missing
	41028: false, // invalid form id
	41029: false, // form id used
	41030: false, // invalid page
	42003: false, // code expired
	43001: true,  // require GET method
	43002: true,  // require POST method
	43003: true,  // require https
	43004: false, // require subscribe
	43005: false, // require friend relations
	43019: false, // require remove blacklist
	43101: false, // the user has not agreed to the message
	44001: false, // empty media data
	44002: true,  // empty post data
	44003: false, // empty news data
	44004: false, // empty content
	45001: false, // media size out of limit
	45002: false, // content size out of limit
	45003: false, // title size out of limit
	45004: false, // description size out of limit
	45005: false, // url size out of limit
	45006: false, // picurl size out of limit
	45007: false, // playtime out of limit
	45008: false, // article size out of limit
	45015: false, // response out of time limit
	45016: false, // system group
	45017: false, // group name out of limit
	45018: false, // too many groups
	45047: false, // customer messages to the user out of limit
	45056: false, // tags
	45057: false,
	45058: false,
	45059: false,
	45157: false,
	45158: false,
	45159: false,
	46001: false, // media data not found
	46002: false, // menu version not found
	46003: false, // menu not found
	46004: false, // user not found
	47001: true,  // data format error
	47003: false, // argument invalid
	49003: false, // the openid is of another account
	61451: false, // customer service: invalid parameter, account
	61452: false,
	61453: false,
	61454: false,
	61455: false,
	61456: false,
	61457: false,
	61458: false,
	65400: false, // customer service: not opened, invalid account
	65401: false,
	65403: false,
	65404: false,
}

// Lasting reports whether WeChat answers a call with this errcode however often it is repeated, and whether it does
// so whatever the call holds.
func (e Errcode) Lasting() (lasts, always bool) {
	always, lasts = lasting[e]
	return lasts, always
}
