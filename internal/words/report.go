package words

// The report on access logs.
var (
	ReportShort = text("ReportShort", "Show from access logs who called what, what was refused, and what another table would refuse", "从访问日志统计谁调用了什么、什么被拒绝，以及换一张限额表会怎样")
	ReportLong  = text("ReportLong", `
report reads access logs and sums their calls by app, rule, caller, decision, errcode, reason and
hour, with the first refusal and the last one of each rule, caller and reason. It asks no gateway.

ACCESS_LOG is a file, a folder, a pattern as 'log/*.log', or - for the standard input; packed
files (gzip) are unpacked. Without any, access_log.file of the configuration is read, with the
files that it was rotated into. Files are read in the order of the time in them, those of several
gateways side by side. Lines that are not the gateway's are counted and named by their place.

With --what-if or --profile the log is replayed against another table: which calls it would refuse,
from when on and whose, and which calls that were refused would pass. Counting begins at 0 with the
first line. A call that was refused is taken to be sent once; that its caller would have called less
or more is not known. Clears of one path are not replayed, because the log does not name the path.

"passed" are calls that were sent or would have been, "local" those that the gateway answered by
itself, "sent" the requests that WeChat received, "errors" the errcodes of WeChat's answers.

The exit code is 1 if a file was not read to its end, and 130 after an interrupt; what was read is
printed all the same.`, `
report 读取访问日志，按帐号、规则、调用方、decision、errcode、reason、小时统计调用，并给出每条规则、
每个调用方、每种 reason 最早和最晚一次被拒绝的时间。它不访问网关。

ACCESS_LOG 可以是文件、目录、'log/*.log' 这样的模式，或表示标准输入的 -；gzip 压缩的文件会自动
解压。一个都不写时，读取配置里的 access_log.file 和由它轮转出来的文件。各文件按其中的时间先后读取，
多个网关的日志并排合并。不是网关写的行只计数，并指出在哪个文件的哪一行。

用 --what-if 或 --profile 可以拿另一张限额表重放日志：会拒绝哪些调用、从什么时候开始、是谁的，以及
当时被拒绝的哪些会放行。计数从第一行开始，从 0 数起。当时被拒绝的调用按发出一次计算；调用方会不会
因此少调或多调，无从知道。只清零单个路径的调用不重放，因为日志里没有那个路径。

“放行”是发出了或本应发出的调用，“代答”是网关自己回答的，“发出”是微信收到的请求数，“报错”是微信的
应答带 errcode 的。

有文件没有读到结尾时退出码为 1，被中断时为 130；读到的部分照样输出。`)

	ReportBy      = text("ReportBy", "`tables` to print, each by one field or several joined with +: app, rule, caller, decision, reason, errcode, hour", "输出哪些`表`，每张按一个字段或用 + 连接的几个字段：app、rule、caller、decision、reason、errcode、hour")
	ReportTop     = text("ReportTop", "print this `number` of rows of each table: those with the most calls, or the last hours; 0: all, as --json and --csv do unless it is given", "每张表只输出这个`行数`：调用最多的，或最后的几个小时；0 为全部，--json、--csv 不写时也是全部")
	ReportApp     = text("ReportApp", "only these `apps`, by name or appid; * stands for any letters", "只看这些`帐号`（名字或 appid，可用 *）")
	ReportRule    = text("ReportRule", "only these `rules`, as message.*", "只看这些`规则`，如 message.*")
	ReportCaller  = text("ReportCaller", "only these `callers`", "只看这些`调用方`")
	ReportFrom    = text("ReportFrom", "only calls from this `time` on, as 2026-11-29 or 2026-11-29T15:00", "只看这个`时间`及以后的调用，如 2026-11-29 或 2026-11-29T15:00")
	ReportTo      = text("ReportTo", "only calls before this `time`, or up to the end of this day", "只看这个`时间`以前的调用；写日期则到那天结束")
	ReportZone    = text("ReportZone", "time `zone` of hours and times, instead of the table's", "小时和时间所用的`时区`，代替限额表的")
	ReportCSV     = text("ReportCSV", "print one table as CSV (without --by: by all fields)", "以 CSV 输出一张表（不写 --by 时按所有字段）")
	ReportRotated = text("ReportRotated", "also read the files that each file was rotated into", "同时读取由各文件轮转出来的文件")
	ReportWhatIf  = text("ReportWhatIf", "replay against this limits.yaml `file`", "拿这个 limits.yaml `文件`重放")
	ReportProfile = text("ReportProfile", "replay each app against this `profile`, instead of the one in the configuration", "各帐号都按这张`限额表`重放，代替配置里的")

	ReportWantBy      = text("ReportWantBy", "--by {value}: want {names}, or several of them joined with +", "--by {value} 无效：应为 {names}，或用 + 连接的几个")
	ReportWantTime    = text("ReportWantTime", "{flag} {value}: want a time as 2026-11-29, 2026-11-29T15:00 or 2026-11-29T15:00:00+08:00", "{flag} {value} 无效：应为时间，如 2026-11-29、2026-11-29T15:00、2026-11-29T15:00:00+08:00")
	ReportWantZone    = text("ReportWantZone", "--zone {value}: want the name of a time zone, as Asia/Shanghai", "--zone {value} 无效：应为时区名，如 Asia/Shanghai")
	ReportWantPattern = text("ReportWantPattern", "{flag} {value}: want a name, in which * stands for any letters", "{flag} {value} 无效：应为名字，可用 *")
	ReportWantOne     = text("ReportWantOne", "wxproxy report: --csv prints one table: want one --by", "wxproxy report：--csv 只能输出一张表，--by 应只写一张")
	ReportOneOf       = text("ReportOneOf", "wxproxy report: want --json or --csv, not both", "wxproxy report：--json 和 --csv 只能用一个")
	ReportNoLog       = text("ReportNoLog", "no access log: want ACCESS_LOG, because the configuration has access_log: stdout: its lines are where the standard output of the gateway goes", "没有指定访问日志：配置里是 access_log: stdout，日志在网关标准输出所到之处，请写出 ACCESS_LOG")
	ReportNoTable     = text("ReportNoTable", "what-if: app {app}: {error}", "重放：帐号 {app}：{error}")
	ReportCut         = text("ReportCut", "interrupted: this is what was read so far", "已中断：以上是读到的部分")
	ReportConfig      = text("ReportConfig", "the configuration was not read, so hours are those of {zone}:\n{error}", "没有读配置，小时按 {zone}：\n{error}")

	ReportFiles    = text("ReportFiles", "files {files}, lines {lines}, calls {calls}, from {first} to {last} ({zone})", "文件 {files} 个，{lines} 行，调用 {calls} 次，从 {first} 到 {last}（{zone}）")
	ReportEmpty    = text("ReportEmpty", "files {files}, lines {lines}, no call", "文件 {files} 个，{lines} 行，没有调用")
	ReportForeign  = text("ReportForeign", "lines that are not the gateway's, not counted: {count}", "不是网关写的、没有计入的行：{count}")
	ReportPlace    = text("ReportPlace", "  {file}:{line}: {why}", "  {file}:{line}：{why}")
	ReportMore     = text("ReportMore", "more rows: {count}; --top 0 prints all", "另有 {count} 行：--top 0 输出全部")
	ReportFull     = text("ReportFull", "There are too many groups to keep: those that came late are together in the row {rest}.", "分组太多，后出现的合在 {rest} 一行里。")
	ReportTotal    = text("ReportTotal", "total", "合计")
	ReportPercent  = text("ReportPercent", "{percent} % of {size}, {rate} lines/s, {left} left", "{size} 的 {percent}%，每秒 {rate} 行，还要 {left}")
	ReportProgress = text("ReportProgress", "{size}, {rate} lines/s", "{size}，每秒 {rate} 行")

	FieldApp      = text("FieldApp", "app", "帐号")
	FieldRule     = text("FieldRule", "rule", "规则")
	FieldCaller   = text("FieldCaller", "caller", "调用方")
	FieldDecision = text("FieldDecision", "decision", "decision")
	FieldReason   = text("FieldReason", "reason", "reason")
	FieldErrCode  = text("FieldErrCode", "errcode", "errcode")
	FieldHour     = text("FieldHour", "hour", "小时")
	SumCalls      = text("SumCalls", "calls", "调用")
	SumPassed     = text("SumPassed", "passed", "放行")
	SumRefused    = text("SumRefused", "refused", "拒绝")
	SumLocal      = text("SumLocal", "local", "代答")
	SumSent       = text("SumSent", "sent", "发出")
	SumErrors     = text("SumErrors", "errors", "报错")
	SumFirst      = text("SumFirst", "first", "最早")
	SumLast       = text("SumLast", "last", "最晚")

	WhatIfTable     = text("WhatIfTable", "Replayed against {table}, counting from {time} on:", "用 {table} 重放，从 {time} 开始计数：")
	WhatIfFrom      = text("WhatIfFrom", "{file}, profile {profile}", "{file}，限额表 {profile}")
	WhatIfCalls     = text("WhatIfCalls", "calls that a table decides", "由限额表决定的调用")
	WhatIfRefused   = text("WhatIfRefused", "refused then", "当时拒绝的")
	WhatIfNow       = text("WhatIfNow", "refused by this table", "这张表会拒绝的")
	WhatIfNew       = text("WhatIfNew", "  of these, sent then", "　其中当时发出的")
	WhatIfPassing   = text("WhatIfPassing", "refused then, and would pass", "当时拒绝、会放行的")
	WhatIfClears    = text("WhatIfClears", "clears that began a day's count anew", "使当天计数归零的清零")
	WhatIfRefusals  = text("WhatIfRefusals", "Would be refused (shadow: would be, but is sent):", "会被拒绝的（shadow：本会拒绝，但仍发出）：")
	WhatIfPasses    = text("WhatIfPasses", "Were refused, and would pass:", "当时被拒绝、会放行的：")
	WhatIfNone      = text("WhatIfNone", "none", "无")
	WhatIfSkipped   = text("WhatIfSkipped", "Not replayed, because no table decides them: {decisions}", "不由限额表决定，没有重放：{decisions}")
	WhatIfUntold    = text("WhatIfUntold", "Not replayed, because the log does not tell which counter they belong to, by their rule: {rules}", "日志看不出属于哪个计数，没有重放（按规则）：{rules}")
	WhatIfPaths     = text("WhatIfPaths", "clears of one path, which the log does not name, so that they are not replayed: {count}", "只清单个路径、因日志里没有那个路径而没有重放的清零：{count} 次")
	WhatIfSent      = text("WhatIfSent", "sent then", "当时发出")
	WhatIfConfig    = text("WhatIfConfig", "the configuration", "配置")
	WhatIfOwn       = text("WhatIfOwn", "{file}, each app with its own profile", "{file}，各帐号按自己的限额表")
	WhatIfOtherApps = text("WhatIfOtherApps", "Apps that the configuration does not have are replayed against profile {profile}.", "配置里没有的帐号按限额表 {profile} 重放。")
)
