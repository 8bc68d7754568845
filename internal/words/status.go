package words

// What status prints, and the options of usage.
var (
	StatusShort = text("StatusShort", "Show what runs and what is wrong: tokens, store, gateways, accounts", "显示运行状况和问题：token、存储、各网关、各帐号")
	StatusLong  = text("StatusLong", `
status shows what the running gateway knows of itself and of the fleet: its version, the
store, the gateways that share it, how the last reload ended, and of each account until when
its access_token is good, who fetched it, and how many clears are left this month. Of more
than 20 accounts only those with a problem are shown; APPID shows one.

A token is renewed when a call needs it, so one of an account without calls may have expired.
What is wrong is said below the table, with what to do about it.`, `
status 显示运行中的网关对自己和其他网关的了解：版本，存储，共用存储的各网关，上次重新加载的结果，
以及每个帐号的 access_token 有效到何时、由哪个网关取得、本月还剩几次清零。帐号超过 20 个时只列
有问题的；指定 APPID 则显示这一个。

token 在有调用需要时才更新，所以没有调用的帐号可能已过期。有问题的写在表的下面，并说明怎么办。`)

	StatusGateway     = text("StatusGateway", "gateway", "网关")
	StatusRuns        = text("StatusRuns", "{id}, version {version}, up {uptime}", "{id}，版本 {version}，已运行 {uptime}")
	StatusStore       = text("StatusStore", "store", "存储")
	StatusStoreGood   = text("StatusStoreGood", "{kind}, answers since {time}", "{kind}，{time} 起正常")
	StatusStoreBad    = text("StatusStoreBad", "{kind}, not available since {time}: {error}", "{kind}，{time} 起不可用：{error}")
	StatusFleet       = text("StatusFleet", "gateways", "各网关")
	StatusThis        = text("StatusThis", "{id} (this one)", "{id}（本网关）")
	StatusOther       = text("StatusOther", "{id} ({ago} ago)", "{id}（{ago}前）")
	StatusUnknown     = text("StatusUnknown", "not known: {error}", "不知道：{error}")
	StatusReload      = text("StatusReload", "last reload", "重新加载")
	StatusCertificate = text("StatusCertificate", "certificate", "证书")
	StatusUntil       = text("StatusUntil", "until {time}", "有效到 {time}")
	StatusAccounts    = text("StatusAccounts", "accounts", "帐号")
	StatusTotals      = text("StatusTotals", "{configured} configured, {learned} learned; {tokens} with a good token, {refused} refused one by WeChat, {latched} with a rule that WeChat refuses, {used} with a quota used up", "已配置 {configured} 个，得知 {learned} 个；token 有效 {tokens} 个，微信不给 token {refused} 个，微信已拒绝调用 {latched} 个，有限额用完 {used} 个")
	StatusNoProblem   = text("StatusNoProblem", "No account has a problem; APPID shows one.", "没有帐号有问题；指定 APPID 可看其中一个。")
	StatusLeftOut     = text("StatusLeftOut", "{count} more accounts with a problem are not shown.", "还有 {count} 个有问题的帐号没有列出。")
	StatusTokenUntil  = text("StatusTokenUntil", "token good until", "token 有效到")
	StatusFetchedBy   = text("StatusFetchedBy", "fetched by", "取得者")
	StatusClears      = text("StatusClears", "clears left", "剩余清零")
	StatusProblem     = text("StatusProblem", "problem", "问题")
	StatusTokenNone   = text("StatusTokenNone", "not needed yet", "还没有用到")
	StatusTokenOver   = text("StatusTokenOver", "expired", "已过期")
	StatusLatched     = text("StatusLatched", "WeChat refuses: {rules}", "微信已拒绝：{rules}")
	StatusUsedUp      = text("StatusUsedUp", "used up: {rules}", "已用完：{rules}")
	StatusMend        = text("StatusMend", "{app}: {error}. What to do: {mend}.", "{app}：{error}。办法：{mend}。")
	StatusNext        = text("StatusNext", "{app}: WeChat is asked again at {time}, if a call needs it.", "{app}：有调用需要时，{time} 再问微信。")

	HeadPercent = text("HeadPercent", "%", "%")
	ResetLine   = text("ResetLine", "{line}  resets {time}", "{line}  重置：{time}")
	ResetMonth  = text("ResetMonth", "{day}, by the month {month}", "{day}（按月的 {month}）")

	UsageSort      = text("UsageSort", "`order` of the rules: percent, used or rule; default that of the table", "规则的`顺序`：percent、used 或 rule，默认按限额表")
	UsageUsed      = text("UsageUsed", "only rules that were used", "只列用过的规则")
	UsageCallers   = text("UsageCallers", "who used how much of each rule today", "每条规则今天各调用方用了多少")
	UsageTop       = text("UsageTop", "only the first `N` rules of all apps, by --sort or else the nearest to their limits", "只列所有帐号的前 `N` 条规则，按 --sort，默认最接近限额的在前")
	UsageWatch     = text("UsageWatch", "show it again every 2 seconds, or every `seconds` with --watch=seconds", "每 2 秒再显示一次，--watch=`秒数` 可指定间隔")
	UsageCSV       = text("UsageCSV", "print a table for a spreadsheet", "输出电子表格用的 CSV")
	UsageOneOf     = text("UsageOneOf", "{command}: want one of {names}", "{command}：{names} 只能用一个")
	WatchSeparator = text("WatchSeparator", "--- {time}", "--- {time}")
	WatchSeconds   = text("WatchSeconds", "{command}: --watch={value}: want 1 to 3600 seconds", "{command}：--watch={value}：应为 1 到 3600 秒")
)
