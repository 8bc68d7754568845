package words

// The command history, and the forecast of usage.
var (
	HistoryShort = text("HistoryShort", "Show who used how much of which API, and what was refused, by hour and day", "按小时和天显示谁用了哪个接口多少次，以及拒绝了哪些调用")
	HistoryLong  = text("HistoryLong", `
history shows the calls of past hours and days, of all gateways that share the store: what each
caller sent to WeChat by each rule, and what the gateway refused. Each hour of the last 8 days
is known, and each of the last 400 days.

--from and --to take a time as 2026-11-23T15:04, a day as 2026-11-23, today, yesterday, or how
long ago: 7d is the beginning of the day 7 days ago, 36h is 36 hours ago. A day in --to is
included. Without them it is today. Hours at the ends of the range count as a whole.

--refused shows instead what was refused, to which caller and why, first and last.`, `
history 显示过去各小时、各天的调用，包括共用存储的所有网关：每个调用方按每条规则发给微信多少
次，网关自己拒绝了多少次。最近 8 天可按小时看，最近 400 天可按天看。

--from 和 --to 的写法：时刻如 2026-11-23T15:04，日期如 2026-11-23，today（今天）、yesterday（昨
天），或多久以前：7d 是 7 天前那天的开始，36h 是 36 小时前。--to 的日期包括当天。都不写就是今天。
范围两端的小时按整小时计。

--refused 改为显示拒绝了什么：哪个调用方、什么原因、首次和末次的时间。`)
	HistoryFrom    = text("HistoryFrom", "`time` at which the range begins", "范围开始的`时间`")
	HistoryTo      = text("HistoryTo", "`time` at which the range ends", "范围结束的`时间`")
	HistoryStep    = text("HistoryStep", "`step` of the lines: total, day or hour", "每行的`步长`：total、day 或 hour")
	HistoryBy      = text("HistoryBy", "what has lines of its own, with commas: `some` of rule, caller and outcome, or none", "按什么分行，用逗号隔开：rule、caller、outcome 中的`若干`，或 none")
	HistoryRefused = text("HistoryRefused", "show what was refused, and why", "显示拒绝了什么，为什么")
	FlagCSV        = text("FlagCSV", "print CSV, with a byte order mark for Excel", "输出 CSV，带 Excel 需要的字节顺序标记")
	HistoryOneOf   = text("HistoryOneOf", "wxproxy history: want --json or --csv, not both", "wxproxy history：--json 和 --csv 只能用一个")
	HistoryRange   = text("HistoryRange", "from {from} to {to}", "{from} 至 {to}")
	HistoryNone    = text("HistoryNone", "No calls.", "没有调用。")
	RefusedNone    = text("RefusedNone", "Nothing was refused.", "没有拒绝过调用。")
	NoCaller       = text("NoCaller", "(no key)", "（无密钥）")

	HeadStart   = text("HeadStart", "time", "时间")
	HeadApp     = text("HeadApp", "app", "帐号")
	HeadCaller  = text("HeadCaller", "caller", "调用方")
	HeadOutcome = text("HeadOutcome", "outcome", "结果")
	HeadCalls   = text("HeadCalls", "calls", "调用")
	HeadSent    = text("HeadSent", "sent", "发出")
	HeadRefused = text("HeadRefused", "refused", "拒绝")
	HeadShadow  = text("HeadShadow", "would have been refused", "本应拒绝")
	HeadFirst   = text("HeadFirst", "first", "首次")
	HeadLast    = text("HeadLast", "last", "末次")
	HeadCount   = text("HeadCount", "count", "次数")
	HeadRunsOut = text("HeadRunsOut", "runs out", "预计用完")
	CallsLeft   = text("CallsLeft", "{count} left", "还剩 {count} 次")
)
