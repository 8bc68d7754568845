package sandbox

import "strings"

// api is one row of the table: a path, and how it is called and answered.
type api struct {
	methods string // "GET", "POST" or "GET POST"
	path    string
	prove   prover
	body    bodyKind // what a POST must carry
	// shapeFirst checks verb and body before who calls: paths that are proven by what they carry.
	shapeFirst bool
	answer     answer
}

// answer makes the answer to a call that was proven, counted and has the right shape. It runs
// under Sandbox.mu.
type answer func(c *call) reply

// bodyKind is what the body of a POST must be.
type bodyKind int

const (
	jsonBody bodyKind = iota // 44002 if empty, 47001 if not JSON
	fileBody                 // 44002 if empty; the answer reads the form
	anyBody                  // nothing is wanted of it
)

func (a *api) allows(method string) bool {
	for m := range strings.SplitSeq(a.methods, " ") {
		if m == method {
			return true
		}
	}
	return false
}

func get(path string, answer answer) api {
	return api{methods: "GET", path: path, prove: byToken, answer: answer}
}

func post(path string, answer answer) api {
	return api{methods: "POST", path: path, prove: byToken, answer: answer}
}

func file(path string, answer answer) api {
	return api{methods: "POST", path: path, prove: byToken, body: fileBody, answer: answer}
}

// either is for paths that clients call with both verbs, or POST without a body.
func either(path string, answer answer) api {
	return api{methods: "GET POST", path: path, prove: byToken, body: anyBody, answer: answer}
}

// posts makes rows below one folder that answer alike.
func posts(folder string, answer answer, names ...string) []api {
	rows := make([]api, len(names))
	for i, name := range names {
		rows[i] = post(folder+name, answer)
	}
	return rows
}

// apis is the table of everything the sandbox answers; any other path is 40066. The order is that
// of facts 1a, 1b, the newer official rows, 2d.
func apis() []api {
	rows := []api{
		// Tokens, and what else is proven without one.
		{methods: "GET POST", path: pathToken, prove: bySecret, body: anyBody, shapeFirst: true, answer: classicToken},
		{methods: "POST", path: pathStable, prove: byStableSecret, shapeFirst: true, answer: stableToken},
		{methods: "POST", path: "/cgi-bin/clear_quota/v2", prove: byAppSecret, body: anyBody, shapeFirst: true, answer: clearQuotaV2},

		// Menus.
		post("/cgi-bin/menu/create", createMenu),
		get("/cgi-bin/menu/get", getMenu),
		get("/cgi-bin/menu/delete", deleteMenu),
		get("/cgi-bin/get_current_selfmenu_info", says(`{"is_menu_open":1,"selfmenu_info":{"button":[]}}`)),
		post("/cgi-bin/menu/addconditional", says(`{"menuid":"208379533"}`)),
		post("/cgi-bin/menu/delconditional", ok),
		post("/cgi-bin/menu/trymatch", says(`{"button":[]}`)),

		// Groups, tags, users.
		post("/cgi-bin/groups/create", created("group")),
		get("/cgi-bin/groups/get", says(`{"groups":[{"id":0,"name":"未分组","count":3},{"id":1,"name":"黑名单","count":0},{"id":2,"name":"星标组","count":0}]}`)),
		post("/cgi-bin/groups/getid", says(`{"groupid":0}`)),
		post("/cgi-bin/groups/update", ok),
		post("/cgi-bin/groups/delete", ok),
		post("/cgi-bin/groups/members/update", ok),
		post("/cgi-bin/groups/members/batchupdate", ok),
		post("/cgi-bin/tags/create", created("tag")),
		get("/cgi-bin/tags/get", says(`{"tags":[{"id":2,"name":"星标组","count":0}]}`)),
		post("/cgi-bin/tags/update", ok),
		post("/cgi-bin/tags/delete", ok),
		post("/cgi-bin/tags/getidlist", says(`{"tagid_list":[]}`)),
		post("/cgi-bin/tags/members/batchtagging", ok),
		post("/cgi-bin/tags/members/batchuntagging", ok),
		post("/cgi-bin/tags/members/getblacklist", says(`{"total":0,"count":0,"data":{"openid":[]},"next_openid":""}`)),
		post("/cgi-bin/tags/members/batchblacklist", ok),
		post("/cgi-bin/tags/members/batchunblacklist", ok),
		either("/cgi-bin/user/tag/get", says(`{"count":0,"data":{"openid":[]},"next_openid":""}`)),
		get("/cgi-bin/user/get", listUsers),
		get("/cgi-bin/user/info", getUser),
		post("/cgi-bin/user/info/batchget", getUsers),
		post("/cgi-bin/user/info/updateremark", ok),
		post("/cgi-bin/changeopenid", says(`{"errcode":0,"errmsg":"ok","result_list":[]}`)),

		// Media and material.
		file("/cgi-bin/media/upload", uploadMedia),
		get("/cgi-bin/media/get", getMedia),
		get("/cgi-bin/media/get/jssdk", getMedia),
		post("/cgi-bin/media/uploadnews", uploadNews("news")),
		post("/cgi-bin/media/uploadvideo", uploadNews("video")),
		file("/cgi-bin/media/uploadimg", uploadPicture),
		post("/cgi-bin/material/add_news", addNews),
		file("/cgi-bin/material/add_material", addMaterial),
		post("/cgi-bin/material/get_material", getMaterial),
		post("/cgi-bin/material/del_material", deleteMaterial),
		post("/cgi-bin/material/update_news", ok),
		post("/cgi-bin/material/batchget_material", says(`{"total_count":0,"item_count":0,"item":[]}`)),
		get("/cgi-bin/material/get_materialcount", countMaterial),

		// Messages.
		post("/cgi-bin/message/custom/send", ok),
		post("/cgi-bin/message/custom/typing", ok),
		post("/cgi-bin/message/mass/sendall", massSent),
		post("/cgi-bin/message/mass/send", massSent),
		post("/cgi-bin/message/mass/preview", massSent),
		post("/cgi-bin/message/mass/delete", ok),
		post("/cgi-bin/message/mass/get", says(`{"msg_id":201053012,"msg_status":"SEND_SUCCESS"}`)),
		either("/cgi-bin/message/mass/speed/get", says(`{"speed":3,"realspeed":15}`)),
		post("/cgi-bin/message/mass/speed/set", ok),
		post("/cgi-bin/message/template/send", templateSent),
		post("/cgi-bin/message/template/subscribe", ok),
		post("/cgi-bin/message/subscribe/bizsend", ok),
		post("/cgi-bin/message/subscribe/send", ok),
		post("/cgi-bin/template/api_set_industry", ok),
		get("/cgi-bin/template/get_industry", says(`{"primary_industry":{"first_class":"IT科技","second_class":"互联网|电子商务"},"secondary_industry":{"first_class":"IT科技","second_class":"IT软件与服务"}}`)),
		post("/cgi-bin/template/api_add_template", says(`{"errcode":0,"errmsg":"ok","template_id":"Doclyl5uP7Aciu-qZ7mJNPtWkbkYnWBWVja26EGbNyk"}`)),
		get("/cgi-bin/template/get_all_private_template", says(`{"template_list":[]}`)),
		post("/cgi-bin/template/del_private_template", ok),
		get("/cgi-bin/get_current_autoreply_info", says(`{"is_add_friend_reply_open":0,"is_autoreply_open":0}`)),

		// Codes, links, tickets, addresses.
		post("/cgi-bin/qrcode/create", createCode),
		post("/cgi-bin/shorturl", says(`{"errcode":0,"errmsg":"ok","short_url":"http://w.url.cn/s/AvCo6Ih"}`)),
		post("/cgi-bin/shorten/gen", says(`{"errcode":0,"errmsg":"ok","short_key":"EiDPtfdCa3wWQ2Q"}`)),
		post("/cgi-bin/shorten/fetch", says(`{"errcode":0,"errmsg":"ok","long_data":"","create_time":0,"expire_seconds":0}`)),
		get("/cgi-bin/ticket/getticket", getTicket),
		get("/cgi-bin/getcallbackip", says(`{"ip_list":["127.0.0.1"]}`)),
		get("/cgi-bin/get_api_domain_ip", says(`{"ip_list":["127.0.0.1"]}`)),
		post("/cgi-bin/callback/check", says(`{"dns":[],"ping":[]}`)),

		// Drafts and publishing.
		post("/cgi-bin/draft/add", addNews),
		post("/cgi-bin/draft/get", getDraft),
		post("/cgi-bin/draft/delete", deleteMaterial),
		post("/cgi-bin/draft/update", ok),
		get("/cgi-bin/draft/count", says(`{"total_count":0}`)),
		post("/cgi-bin/draft/batchget", says(`{"total_count":0,"item_count":0,"item":[]}`)),
		either("/cgi-bin/draft/switch", says(`{"errcode":0,"errmsg":"ok","is_open":1}`)),
		post("/cgi-bin/freepublish/submit", submitted),
		post("/cgi-bin/freepublish/get", says(`{"publish_id":"100000001","publish_status":0,"article_id":"ARTICLE_ID","article_detail":{"count":0,"item":[]},"fail_idx":[]}`)),
		post("/cgi-bin/freepublish/delete", ok),
		post("/cgi-bin/freepublish/getarticle", says(`{"news_item":[]}`)),
		post("/cgi-bin/freepublish/batchget", says(`{"total_count":0,"item_count":0,"item":[]}`)),

		// Quotas.
		post("/cgi-bin/clear_quota", clearQuota),
		post("/cgi-bin/openapi/quota/clear", clearOneQuota),
		post(pathQuotaGet, getQuota),
		post("/cgi-bin/openapi/rid/get", getRid),

		// Customer service.
		post("/customservice/msgrecord/getmsglist", says(`{"recordlist":[],"number":0,"msgid":0}`)),
		post("/customservice/msgrecord/getrecord", says(`{"recordlist":[],"errcode":0,"errmsg":"ok"}`)),
		post("/customservice/kfaccount/add", ok),
		post("/customservice/kfaccount/update", ok),
		post("/customservice/kfaccount/inviteworker", ok),
		file("/customservice/kfaccount/uploadheadimg", uploadFile),
		either("/customservice/kfaccount/del", ok),
		get("/cgi-bin/customservice/getkflist", says(`{"kf_list":[]}`)),
		get("/cgi-bin/customservice/getonlinekflist", says(`{"kf_online_list":[]}`)),
		post("/customservice/kfsession/create", ok),
		post("/customservice/kfsession/close", ok),
		get("/customservice/kfsession/getsession", says(`{"createtime":0,"kf_account":""}`)),
		get("/customservice/kfsession/getsessionlist", says(`{"sessionlist":[]}`)),
		get("/customservice/kfsession/getwaitcase", says(`{"count":0,"waitcaselist":[]}`)),

		// Web authorisation: tokens of users, not of the account. The secret or the user's token
		// proves the caller; answers are text/plain.
		{methods: "GET", path: "/sns/oauth2/access_token", prove: byWebSecret, shapeFirst: true, answer: webToken},
		{methods: "GET", path: "/sns/oauth2/refresh_token", prove: byAppID, shapeFirst: true, answer: webRefresh},
		{methods: "GET", path: "/sns/userinfo", prove: byUser, answer: webUser},
		{methods: "GET", path: "/sns/auth", prove: byUser, answer: webAuth},
		{methods: "GET", path: "/sns/jscode2session", prove: byWebSecret, shapeFirst: true, answer: miniSession},

		// Third-party platforms.
		{methods: "POST", path: "/cgi-bin/component/api_component_token", prove: byComponentSecret, shapeFirst: true, answer: componentTokenReply},
		{methods: "POST", path: "/cgi-bin/component/api_start_push_ticket", prove: byComponentPush, shapeFirst: true, answer: ok},
		{methods: "POST", path: "/cgi-bin/component/api_create_preauthcode", prove: byComponent, answer: says(`{"pre_auth_code":"preauthcode@@@sandbox","expires_in":1800}`)},
		{methods: "POST", path: "/cgi-bin/component/api_query_auth", prove: byComponent, answer: queryAuth},
		{methods: "POST", path: "/cgi-bin/component/api_authorizer_token", prove: byComponent, answer: authorizerToken},

		// Mini programs.
		post("/wxa/getwxacode", picture),
		post("/wxa/getwxacodeunlimit", picture),
		post("/cgi-bin/wxaapp/createwxaqrcode", picture),
		post("/wxa/business/getuserphonenumber", says(`{"errcode":0,"errmsg":"ok","phone_info":{"phoneNumber":"13800000000","purePhoneNumber":"13800000000","countryCode":"86"}}`)),
		post("/wxa/msg_sec_check", says(`{"errcode":0,"errmsg":"ok","result":{"suggest":"pass","label":100},"detail":[]}`)),
		file("/wxa/img_sec_check", uploadFile),
		post("/wxa/media_check_async", says(`{"errcode":0,"errmsg":"ok","trace_id":"sandbox"}`)),
		post("/wxa/generatescheme", says(`{"errcode":0,"errmsg":"ok","openlink":"weixin://dl/business/?t=sandbox"}`)),
		post("/wxa/generate_urllink", says(`{"errcode":0,"errmsg":"ok","url_link":"https://wxaurl.cn/sandbox"}`)),
		post("/wxa/genwxashortlink", says(`{"errcode":0,"errmsg":"ok","link":"#小程序://sandbox"}`)),
		either("/wxa/checksession", ok),
		post("/wxaapi/newtmpl/addtemplate", says(`{"errcode":0,"errmsg":"ok","priTmplId":"9Aw5ZV1j9xdWTFEkqCpZ7jWySL7aGN6rQom4gXINfJs"}`)),
		post("/wxaapi/newtmpl/deltemplate", ok),
		get("/wxaapi/newtmpl/getcategory", says(`{"errcode":0,"errmsg":"ok","data":[]}`)),
		get("/wxaapi/newtmpl/getpubtemplatekeywords", says(`{"errcode":0,"errmsg":"ok","count":0,"data":[]}`)),
		get("/wxaapi/newtmpl/getpubtemplatetitles", says(`{"errcode":0,"errmsg":"ok","count":0,"data":[]}`)),
		get("/wxaapi/newtmpl/gettemplate", says(`{"errcode":0,"errmsg":"ok","data":[]}`)),

		// One or a few of each other family that carries an account's token.
		post("/semantic/semproxy/search", says(`{"errcode":0,"query":"","type":"","semantic":{}}`)),
		get("/merchant/group/getall", says(`{"errcode":0,"errmsg":"success","groups_detail":[]}`)),
		get("/merchant/shelf/getall", says(`{"errcode":0,"errmsg":"success","shelves":[]}`)),
		post("/device/transmsg", says(`{"ret":0,"ret_info":"ok"}`)),
		post("/device/authorize_device", says(`{"resp":[]}`)),
		get("/device/get_stat", says(`{"device":"","msg":"ok"}`)),
		get("/device/getqrcode", says(`{"base_resp":{"errcode":0,"errmsg":"ok"},"deviceid":"sandbox","qrticket":"sandbox"}`)),
		post("/shakearound/device/applyid", says(`{"errcode":0,"errmsg":"success.","data":{"apply_id":1,"audit_status":1,"audit_comment":""}}`)),
		post("/shakearound/page/search", says(`{"errcode":0,"errmsg":"success.","data":{"pages":[],"total_count":0}}`)),
		post("/bizwifi/shop/list", says(`{"errcode":0,"data":{"totalcount":0,"pageindex":1,"pagecount":0,"records":[]}}`)),
		post("/scan/product/create", says(`{"errcode":0,"errmsg":"ok","pid":"sandbox"}`)),
		get("/scan/merchantinfo/get", says(`{"errcode":0,"errmsg":"ok","brand_tag_list":[],"verified_list":[]}`)),
		either("/cv/ocr/idcard", says(`{"errcode":0,"errmsg":"ok","type":"Front","name":"","id":""}`)),
		either("/cv/img/aicrop", says(`{"errcode":0,"errmsg":"ok","results":[]}`)),
		post("/marketing/user_actions/add", says(`{"errcode":0,"errmsg":""}`)),
		either("/publisher/stat", says(`{"base_resp":{"err_msg":"ok","ret":0},"list":[],"total_num":0}`)),
		post("/product/spu/get_list", says(`{"errcode":0,"errmsg":"ok","total_num":0,"spus":[]}`)),
		post("/shop/register/check", says(`{"errcode":0,"errmsg":"ok","data":{"status":2}}`)),
		get("/channels/ec/basics/info/get", says(`{"errcode":0,"errmsg":"ok","info":{"nickname":"sandbox"}}`)),
		post("/channels/ec/order/list/get", says(`{"errcode":0,"errmsg":"ok","order_id_list":[],"has_more":false}`)),
		post("/tcb/invokecloudfunction", says(`{"errcode":0,"errmsg":"ok","resp_data":"{}"}`)),
		post("/tcb/databasequery", says(`{"errcode":0,"errmsg":"ok","pager":{"Offset":0,"Limit":10,"Total":0},"data":[]}`)),
		post("/nontax/queryfee", says(`{"errcode":0,"errmsg":"ok","fee":0}`)),
		post("/intp/getbillauthurl", says(`{"errcode":0,"errmsg":"ok","auth_url":""}`)),
		post("/xpay/query_user_balance", says(`{"errcode":0,"errmsg":"ok","balance":0,"present_balance":0}`)),
		post("/redpacketcover/wxapp/cover_url/get_by_token", says(`{"errcode":0,"errmsg":"ok","data":{"url":""}}`)),
		post("/ilink/device/list", ok),
		get("/card/getapplyprotocol", says(`{"errcode":0,"errmsg":"ok","category":[]}`)),
	}
	rows = append(rows, posts("/card/", ok, "update", "delete", "modifystock", "paycell/set", "selfconsumecell/set", "testwhitelist/set")...)
	rows = append(rows, posts("/card/", says(`{"errcode":0,"errmsg":"ok","card_id":"pFS7Fjg8kV1IdDz01r4SQwMkuCKc"}`), "create")...)
	rows = append(rows, posts("/card/", says(`{"errcode":0,"errmsg":"ok","card":{}}`), "get", "code/get", "code/consume")...)
	rows = append(rows, posts("/card/", says(`{"errcode":0,"errmsg":"ok","card_id_list":[],"total_num":0}`), "batchget")...)
	rows = append(rows, posts("/card/", says(`{"errcode":0,"errmsg":"ok","ticket":"sandbox","url":"http://weixin.qq.com/q/sandbox","show_qrcode_url":""}`), "qrcode/create")...)
	rows = append(rows, posts("/merchant/", says(`{"errcode":0,"errmsg":"success"}`), "create", "del", "update", "get", "getbystatus", "modproductstatus", "stock/add", "stock/reduce", "order/getbyid", "order/getbyfilter", "order/setdelivery", "order/close")...)
	rows = append(rows, posts("/datacube/", says(`{"list":[]}`),
		"getusersummary", "getusercumulate",
		"getarticlesummary", "getarticletotal", "getuserread", "getuserreadhour", "getusershare", "getusersharehour",
		"getupstreammsg", "getupstreammsghour", "getupstreammsgweek", "getupstreammsgmonth",
		"getupstreammsgdist", "getupstreammsgdistweek", "getupstreammsgdistmonth",
		"getinterfacesummary", "getinterfacesummaryhour", "getcardbizuininfo", "getcardcardinfo", "getcardmembercardinfo",
		"getweanalysisappiddailysummarytrend", "getweanalysisappiddailyvisittrend")...)
	return rows
}
