package alert

// phrase is a text in both languages. {name} stands for what values has.
type phrase struct{ en, zh string }

// heads are the first lines of events.
var heads = map[Kind]phrase{
	Used:         {"{percent}% used: {app}, {api}: {used} of {limit} calls", "【已用 {percent}%】{app} {api}：{used} / {limit}"},
	ClearsUsed:   {"Clears nearly used up: {app}: {used} of {limit} this month", "【清零次数将尽】{app}：本月已用 {used} / {limit} 次"},
	Forecast:     {"Used up at about {forecast}: {app}, {api}: {used} of {limit} calls", "【预计 {forecast} 用完】{app} {api}：{used} / {limit}"},
	Latched:      {"WeChat refuses: {app}, {api}: 45009, the day's calls are used up", "【微信已拒绝】{app} {api}：45009，当日次数用完"},
	Fuse:         {"Failing in a loop: calls of {caller} to {app}, {api}: {errcode}", "【反复失败】{caller} 对 {app} {api} 的调用：{errcode}"},
	TokenRefused: {"No access_token: {app}: WeChat answers {errcode}", "【取不到 access_token】{app}：微信应答 {errcode}"},
	TokenEnding:  {"The access_token is not renewed: {app}", "【access_token 没有续上】{app}"},
	StoreDown:    {"The store is unavailable to gateway {host}", "【存储不可用】网关 {host}"},
	ReloadFailed: {"The configuration was not reloaded on gateway {host}", "【配置没有重新加载】网关 {host}"},
	LogDropped:   {"Lines of the access log are dropped on gateway {host}", "【访问日志丢行】网关 {host}"},
	Drift:        {"Calls around the gateway: {app}, {api}: WeChat has counted {drift} more", "【有调用绕过网关】{app} {api}：微信多计了 {drift} 次"},
	Digest:       {"Daily report, {day}", "【每日报告】{day}"},
	Test:         {"Test message from gateway {host}: this sink works", "【测试消息】来自网关 {host}：这个通知渠道可用"},
}

// overHeads are those of events that end a condition.
var overHeads = map[Kind]phrase{
	Latched:      {"Over: WeChat accepts calls again: {app}, {api}", "【已恢复】微信重新接受 {app} {api} 的调用"},
	Fuse:         {"Over: calls of {caller} to {app}, {api} no longer fail in a loop", "【已恢复】{caller} 对 {app} {api} 的调用不再反复失败"},
	TokenRefused: {"Over: {app} has an access_token again", "【已恢复】{app} 重新取到 access_token"},
	TokenEnding:  {"Over: the access_token of {app} is renewed", "【已恢复】{app} 的 access_token 已续上"},
	StoreDown:    {"Over: the store is available again", "【已恢复】存储重新可用"},
	ReloadFailed: {"Over: the configuration is reloaded", "【已恢复】配置已重新加载"},
	LogDropped:   {"Over: the access log is written again", "【已恢复】访问日志重新写入"},
}

// advices say what to do.
var advices = map[Kind]phrase{
	Used:         {"What to do: see who calls with `wxproxy usage {app} --callers`, and stop a service that runs in a loop. If this is normal growth, apply for a higher limit at mp.weixin.qq.com.", "怎么办：用 wxproxy usage {app} --callers 看是谁在调用，停掉失控的服务；正常增长就到公众平台申请提高上限。"},
	ClearsUsed:   {"What to do: keep the rest for an emergency.", "怎么办：剩下的留着应急。"},
	Forecast:     {"What to do: find the caller that grew with `wxproxy usage {app} --callers`, slow it down or put off what can wait, or apply for a higher limit.", "怎么办：用 wxproxy usage {app} --callers 找出增长的调用方，限速或推迟不急的任务，或申请提高上限。"},
	Latched:      {"What to do: compare the limits with `wxproxy limits {app}`: either calls go around the gateway, or the table has too high a figure. If that cannot wait: `wxproxy clear {app} {rule}`; after it calls go on by themselves.", "怎么办：用 wxproxy limits {app} 对照限额：要么有调用绕过了网关，要么限额表的数字偏大。等不了就清零：wxproxy clear {app} {rule}，之后自动恢复。"},
	Fuse:         {"What to do: look why {caller} repeats a call that fails, and mend it. Until then `fuse: on` keeps it from using up the quota.", "怎么办：查 {caller} 为什么反复调用失败的接口。修好之前，配置 fuse: on 可以避免用光限额。"},
	TokenRefused: {"What to do: look the errcode up, and check the account's appid, secret and state at mp.weixin.qq.com (基本配置).", "怎么办：按错误码检查公众平台“基本配置”里的 appid、AppSecret 和帐号状态。"},
	TokenEnding:  {"What to do: check that the gateway reaches api.weixin.qq.com. When the token has ended, calls of this account are refused.", "怎么办：检查网关到 api.weixin.qq.com 的网络；token 到期后这个帐号的调用会被拒绝。"},
	StoreDown:    {"What to do: check the Redis of store.url and the network to it. Until it is back, rules with small quotas refuse calls, and large ones continue within this gateway's share.", "怎么办：检查 store.url 的 Redis 和到它的网络。恢复之前，小限额的接口拒绝调用，大限额的按本网关的份额继续。"},
	ReloadFailed: {"What to do: run `wxproxy validate` on that machine, and mend the file. What ran before goes on.", "怎么办：在那台机器上运行 wxproxy validate，改好文件。原来的配置继续生效。"},
	LogDropped:   {"What to do: check the disk and what reads stdout. Calls go on.", "怎么办：检查磁盘，以及读取 stdout 的程序。调用不受影响。"},
	Drift:        {"What to do: find the service that still calls api.weixin.qq.com directly, and point it at the gateway.", "怎么办：找出仍直接调用 api.weixin.qq.com 的服务，改到网关。"},
}

// The heads and advices of special cases.
var (
	phraseFull    = phrase{"Used up: {app}, {api}: {used} of {limit} calls", "【已用完】{app} {api}：{used} / {limit}"}
	adviceFull    = phrase{"What to do: the gateway refuses further calls with 45009 until {reset}. If that cannot wait: `wxproxy clear {app} {rule}` (WeChat grants ten clears a month).", "怎么办：{reset} 之前网关用 45009 拒绝其余调用。等不了就清零：wxproxy clear {app} {rule}（每月 10 次）。"}
	adviceMonth   = phrase{"What to do: the gateway refuses further calls with 45009 until {reset}. A clear does not start a month over.", "怎么办：{reset} 之前网关用 45009 拒绝其余调用。月限额不能清零。"}
	phraseCleared = phrase{"Clears used up: {app}: {used} of {limit} this month", "【清零次数已用完】{app}：本月已用 {used} / {limit} 次"}
	adviceCleared = phrase{"What to do: until then an API that is used up stays so to the end of its day. Stop a service that runs in a loop early.", "怎么办：在那之前，用完的接口只能等到次日，所以要及早停掉失控的服务。"}
	phraseAddress = phrase{"No access_token: {app}: address {ip} is not in the IP whitelist (40164)", "【取不到 access_token】{app}：{ip} 不在 IP 白名单（40164）"}
	adviceAddress = phrase{"What to do: sign in at mp.weixin.qq.com, 设置与开发, 基本配置, IP白名单, and add {ip}.", "怎么办：登录 mp.weixin.qq.com，在“设置与开发 → 基本配置 → IP白名单”加上 {ip}。"}
	adviceSecret  = phrase{"What to do: the AppSecret is wrong or was reset: copy it from mp.weixin.qq.com (基本配置) into the gateway's configuration.", "怎么办：AppSecret 不对或已重置：把公众平台“基本配置”里的填进网关的配置。"}
)

// Lines below a head.
var (
	phraseDay      = phrase{"The day's count begins anew at {reset}.", "每日限额，{reset} 重新计算。"}
	phraseMonth    = phrase{"The month's count begins anew on {reset}.", "每月限额，{reset} 重新计算。"}
	phraseWechat   = phrase{"WeChat has counted {wechat} of {limit}, the gateways {used}.", "微信自己的计数：{wechat} / {limit}，其中经过网关的 {used}。"}
	phraseForecast = phrase{"At this rate it is used up at {forecast}.", "按现在的速度，{forecast} 用完。"}
	phraseCallers  = phrase{"Most calls: {callers}.", "调用最多：{callers}。"}
	phraseUntil    = phrase{"The gateway sends no calls of this API until {until}, or until WeChat accepts them again.", "网关不再发送这个接口的调用，到 {until} 或微信重新接受为止。"}
	phraseNoToken  = phrase{"Without an access_token, calls of this account are refused.", "没有可用的 access_token 时，这个帐号的调用会被拒绝。"}
	phraseNext     = phrase{"Next attempt at {until}.", "下次尝试：{until}。"}
	phraseExpires  = phrase{"The present one ends at {expires}.", "现有的到 {expires} 为止。"}
	phraseReason   = phrase{"Reason: {reason}", "原因：{reason}"}
	phraseSince    = phrase{"It began at {since}.", "始于 {since}。"}
	phraseAgain    = phrase{"Still: {text}", "【仍未恢复】{text}"}
	phraseTop      = phrase{"Most used today:", "今天用得最多："}
	phraseTopLine  = phrase{"{app}, {api}: {used} of {limit} ({percent}%)", "{app} {api}：{used} / {limit}（{percent}%）"}
	phraseNothing  = phrase{"No counter with a limit was used.", "有上限的接口今天都没有调用。"}
	phraseHolding  = phrase{"Not over yet:", "尚未恢复："}
	phraseMany     = phrase{"{count} alerts", "【{count} 条告警】"}
	phraseMore     = phrase{"… and {count} more lines", "……还有 {count} 行"}
	phraseNoKey    = phrase{"callers without a key", "无密钥的调用方"}
	phraseComma    = phrase{", ", "、"}
)
