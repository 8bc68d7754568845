package words

// The command alert. What messages say is in package alert.
var (
	AlertShort     = text("AlertShort", "Alerts: what was sent, and a test of the sinks", "告警：发过什么，以及测试通知渠道")
	AlertTestShort = text("AlertTestShort", "Send a test message to each sink, or to one", "给每个通知渠道，或其中一个，发一条测试消息")
	AlertTestLong  = text("AlertTestLong", `
alert test has the running gateway send a message to each sink of alerts.sinks, or to the one that is
named, and prints what each answered. A sink that was silenced because it had refused a message for good
gets messages again when it takes this one. The exit code is 1 if a sink did not take it.`, `
alert test 让运行中的网关给 alerts.sinks 里的每个渠道，或指定的一个，发一条消息，并列出各自的应答。曾经
永久拒绝、因而被静默的渠道，收下这条之后恢复发送。有渠道没有收下时，退出码为 1。`)
	AlertSent       = text("AlertSent", "{sink} ({type}): sent", "{sink}（{type}）：已发送")
	AlertNotSent    = text("AlertNotSent", "{sink} ({type}): not sent: {error}", "{sink}（{type}）：没有发出：{error}")
	AlertTestFailed = text("AlertTestFailed", "{count} of {total} sinks did not take the message", "{total} 个渠道中有 {count} 个没有收下消息")

	AlertListShort = text("AlertListShort", "Show the last alerts, and whether each sink takes messages", "看最近的告警，以及各通知渠道是否正常")
	AlertListLong  = text("AlertListLong", `
alert list shows whether each sink of alerts.sinks takes messages, and the last hundred alerts of all
gateways, the newest first: when, which account, what has happened, and what became of it at each sink.`, `
alert list 显示 alerts.sinks 里的各个渠道是否正常，以及所有网关最近的一百条告警，最新的在前：时间、帐号、
事件，以及各渠道收下了没有。`)
	AlertListNone = text("AlertListNone", "No alert was sent yet.", "还没有发过告警。")
	AlertListOld  = text("AlertListOld", "The store does not answer: this is what the gateway has seen last.", "存储没有应答：以下是这个网关最后看到的。")
	HeadAlertTime = text("HeadAlertTime", "time", "时间")
	HeadAlertSink = text("HeadAlertSink", "sink", "渠道")
	HeadAlertType = text("HeadAlertType", "type", "类型")
	HeadSinkState = text("HeadSinkState", "state", "状态")
	HeadEvent     = text("HeadEvent", "event", "事件")
	HeadDelivery  = text("HeadDelivery", "delivery", "送达")

	// What became of an alert at a sink.
	AlertResultWaiting = text("AlertResultWaiting", "waiting", "等待发送")
	AlertResultSent    = text("AlertResultSent", "delivered", "已送达")
	AlertResultRefused = text("AlertResultRefused", "refused", "被拒绝")
	AlertResultFailed  = text("AlertResultFailed", "failed, is tried again", "失败，会重试")
	AlertResultDropped = text("AlertResultDropped", "not sent", "没有发送")
	AlertWhy           = text("AlertWhy", "{result}: {reason}", "{result}：{reason}")
	AlertAtSink        = text("AlertAtSink", "{sink} {result}", "{sink} {result}")

	// The state of a sink.
	SinkUnused   = text("SinkUnused", "nothing sent yet", "还没有发过")
	SinkGood     = text("SinkGood", "takes messages, the last at {time}", "正常，最近一条在 {time}")
	SinkFailing  = text("SinkFailing", "does not take messages since {time}", "{time} 起收不到")
	SinkSilenced = text("SinkSilenced", "silenced since {time}, until its configuration changes or a test succeeds", "{time} 起静默，直到配置更改或测试成功")
	SinkWaiting  = text("SinkWaiting", "{count} waiting", "{count} 条在等")

	// Events in a few words.
	AlertUsed         = text("AlertUsed", "{percent}% used: {used} of {limit}", "已用 {percent}%：{used} / {limit}")
	AlertClearsUsed   = text("AlertClearsUsed", "clears nearly used up: {used} of {limit}", "清零次数将尽：{used} / {limit}")
	AlertForecast     = text("AlertForecast", "used up at about {time}: {used} of {limit}", "预计 {time} 用完：{used} / {limit}")
	AlertLatched      = text("AlertLatched", "WeChat refuses: 45009", "微信已拒绝：45009")
	AlertFuse         = text("AlertFuse", "{caller} fails in a loop: {errcode}", "{caller} 反复失败：{errcode}")
	AlertNoKey        = text("AlertNoKey", "a caller without a key", "无密钥的调用方")
	AlertTokenRefused = text("AlertTokenRefused", "no access_token: {errcode}", "取不到 access_token：{errcode}")
	AlertTokenAddress = text("AlertTokenAddress", "no access_token: address {ip} is not in the IP whitelist", "取不到 access_token：{ip} 不在 IP 白名单")
	AlertTokenEnding  = text("AlertTokenEnding", "the access_token is not renewed", "access_token 没有续上")
	AlertStoreDown    = text("AlertStoreDown", "store unavailable to gateway {gateway}", "网关 {gateway} 的存储不可用")
	AlertReloadFailed = text("AlertReloadFailed", "configuration not reloaded on gateway {gateway}", "网关 {gateway} 的配置没有重新加载")
	AlertLogDropped   = text("AlertLogDropped", "access log drops lines on gateway {gateway}", "网关 {gateway} 的访问日志丢行")
	AlertDrift        = text("AlertDrift", "{calls} calls around the gateway", "{calls} 次调用绕过网关")
	AlertDigest       = text("AlertDigest", "daily report", "每日报告")
	AlertTestMessage  = text("AlertTestMessage", "test message", "测试消息")
	AlertOver         = text("AlertOver", "over: {event}", "已恢复：{event}")
	AlertStill        = text("AlertStill", "still: {event}", "仍未恢复：{event}")
)
