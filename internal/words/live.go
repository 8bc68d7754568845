package words

// The command tail, and what the fuse has saved.
var (
	TailShort = text("TailShort", "Show calls as they end, live", "实时显示刚结束的调用")
	TailLong  = text("TailLong", `
tail shows each call as it ends, what became of it and why, until it is interrupted. It shows
the calls of the gateway that it asks, and no others: of several gateways, run one tail for
each, with --admin.

What it shows are the lines of the access log, so no token, key, openid or body. --json prints
them as they are, one JSON object a line. If they come faster than they are taken, the gateway
drops some, and tail prints how many. When the gateway restarts, tail connects again.`, `
tail 逐条显示刚结束的调用、结果和原因，直到被中断。它只显示所连的那一个网关的调用：有几个网关，
就用 --admin 各开一个 tail。

内容就是访问日志的行，没有 token、key、openid 和正文。--json 原样输出，一行一个 JSON 对象。来不及
接收时网关会丢弃一些行，tail 会显示丢了多少。网关重启后，tail 会重新连接。`)
	TailRefused  = text("TailRefused", "only refused calls", "只看被拒绝的调用")
	TailRule     = text("TailRule", "only calls of this `rule`; a * stands for any letters", "只看这条`规则`的调用，* 代表任意字符")
	TailCaller   = text("TailCaller", "only calls of this `caller`", "只看这个`调用方`的调用")
	TailDecision = text("TailDecision", "only calls with this `decision`, as in X-Wxproxy-Decision", "只看`结果`是这个的调用，同 X-Wxproxy-Decision")
	TailReason   = text("TailReason", "only calls refused for this `reason`, as in X-Wxproxy-Reason", "只看因为这个`原因`被拒绝的调用，同 X-Wxproxy-Reason")
	TailErrcode  = text("TailErrcode", "only calls answered with this `errcode`", "只看应答里是这个 `errcode` 的调用")

	TailTime    = text("TailTime", "time", "时间")
	TailApp     = text("TailApp", "app", "帐号")
	TailCall    = text("TailCall", "rule", "规则")
	TailFate    = text("TailFate", "decision", "结果")
	TailUsed    = text("TailUsed", "used/limit", "用量/上限")
	TailTook    = text("TailTook", "took", "耗时")
	TailLost    = text("TailLost", "the connection to the gateway has ended: {reason}; connecting again", "与网关的连接断了：{reason}，正在重新连接")
	TailAgain   = text("TailAgain", "connected again; calls that ended in between are not shown", "已重新连接，中间结束的调用不再显示")
	TailDropped = text("TailDropped", "{count} calls are not shown: they came faster than they were taken", "有 {count} 次调用没有显示：来不及接收")
	UsageSaved  = text("UsageSaved", "{rule}: {count} calls saved by the fuse since the gateway started", "{rule}：网关启动以来，熔断省下 {count} 次调用")
	TailEnded   = text("TailEnded", "it stops, was restarted, or cannot be reached", "网关正在停止、已重启，或连不上")
)
