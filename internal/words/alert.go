package words

// The command alert. What messages say is in package alert.
var (
	AlertShort     = text("AlertShort", "Alerts: test the sinks of the configuration", "提醒：测试配置里的通知渠道")
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
)
