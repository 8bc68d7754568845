package words

// The tables and answers of usage, explain, limits, clear and forget. The Chinese heads of the first table
// are those of WeChat's own console.
var (
	AppLine = text("AppLine", "{app}  {appid}  profile {profile}", "{app}  {appid}  限额表 {profile}")

	UsageShort = text("UsageShort", "Show what each app has used today, in the columns of WeChat's own console", "显示各帐号今天的用量，列名与公众平台后台相同")
	UsageLong  = text("UsageLong", `
usage shows what each app has used, as the running gateway has counted it. Rules without a
figure that were not called are left out; --all shows them too.

Where WeChat was asked for its own count of the day, a second table has that. Drift is WeChat's
count less ours: calls that did not pass the gateway make it positive. "start unknown" means that
WeChat did not say what it had counted before our first call of the day. --live asks WeChat now,
rule by rule, which may take a minute for an app.

The exit code is 1 if the store did not answer about an app.`, `
usage 显示各帐号的用量，以运行中的网关的计数为准。没有数字、也没有调用过的规则不列出，--all 则
全部列出。

向微信查过当天计数的，另有一张表。偏差是微信的计数减去我们的，绕过网关的调用使它大于 0；“起点
未知”表示微信没有说明我们当天第一次调用之前它已计了多少。--live 现在就逐条规则向微信查询，一个
帐号可能要一分钟。

有帐号因存储没有应答而读不到时，退出码为 1。`)
	UsageAll      = text("UsageAll", "also show rules without a figure that were not called", "没有数字、也没有调用过的规则也列出")
	UsageNotRead  = text("UsageNotRead", "usage of {count} of {total} apps was not read: {apps}", "{total} 个帐号中有 {count} 个的用量没有读到：{apps}")
	ReadingFailed = text("ReadingFailed", "WeChat's counts were not read completely:", "没有读完微信的计数：")

	HeadCategory = text("HeadCategory", "category", "类目")
	HeadTitle    = text("HeadTitle", "API", "接口")
	HeadUsed     = text("HeadUsed", "used/limit today", "每日实时调用量/上限")
	HeadState    = text("HeadState", "state", "接口状态")
	HeadRule     = text("HeadRule", "rule", "规则")
	HeadWeChat   = text("HeadWeChat", "WeChat's used/limit", "微信用量/上限")
	HeadDrift    = text("HeadDrift", "drift", "偏差")
	HeadReadAt   = text("HeadReadAt", "read at", "读取")

	StartUnknown = text("StartUnknown", "start unknown", "起点未知")
	Unlimited    = text("Unlimited", "unlimited", "无上限")
	NotPublished = text("NotPublished", "not published", "未公布")
	PerMonth     = text("PerMonth", "{amount} a month", "{amount} 每月")
	StateOpen    = text("StateOpen", "open", "已获得")
	StateDenied  = text("StateDenied", "denied", "未获得")
	StateFull    = text("StateFull", "used up", "已用完")
	StateLatched = text("StateLatched", "refused by WeChat", "微信已拒绝")

	ExplainShort      = text("ExplainShort", "Show what a call would meet: its rule, its quotas, usage and remainder", "显示某个调用现在会怎样：归哪条规则、限额多少、用了多少、还剩多少")
	ExplainCallerFlag = text("ExplainCallerFlag", "the caller's name, for its rights and its share of the quota", "调用方的名字，按它的权限和份额回答")
	ExplainCaller     = text("ExplainCaller", "caller", "调用方")
	ExplainApp        = text("ExplainApp", "app", "帐号")
	ExplainProfile    = text("ExplainProfile", "profile", "限额表")
	ExplainCall       = text("ExplainCall", "call", "调用")
	ExplainRule       = text("ExplainRule", "rule", "规则")
	ExplainSource     = text("ExplainSource", "source", "来源")
	ExplainQuota      = text("ExplainQuota", "quota", "限额")
	ExplainPace       = text("ExplainPace", "pace", "速率")
	ExplainInject     = text("ExplainInject", "inject", "填入")
	ExplainShadow     = text("ExplainShadow", "shadow", "试运行")
	ExplainShadows    = text("ExplainShadows", "yes: counts, and sends what it would refuse", "是：照常计数，本应拒绝的也发出")
	ExplainDay        = text("ExplainDay", "day", "今天")
	ExplainMonth      = text("ExplainMonth", "month", "本月")
	ExplainUsed       = text("ExplainUsed", "{used} used, until {reset}", "已用 {used}，到 {reset} 为止")
	ExplainLeft       = text("ExplainLeft", "{used} of {limit} used, {left} left, until {reset}", "{limit} 中已用 {used}，还剩 {left}，到 {reset} 为止")
	ExplainShare      = text("ExplainShare", "{caller}: {amount}", "{caller}：{amount}")
	ExplainResult     = text("ExplainResult", "a call", "此时调用")

	LimitsShort = text("LimitsShort", "Show the quotas of an app as shipped, as configured and as WeChat states them", "并排显示一个帐号内置的、配置的和微信给出的限额")
	LimitsLong  = text("LimitsLong", `
limits shows the figures of an app side by side: those of its profile as this program ships
them, those that the running gateway uses, and those that WeChat itself has stated. A * marks a
rule whose figures differ. The column "from" is the profile that has the configured figure, or
the file with the app's own.

WeChat is asked only with --live, rule by rule, which may take a minute. --write writes its
figures of the rules that differ into limits.auto.yaml beside wxproxy.yaml, and asks first; --yes
does it without asking. A figure in wxproxy.yaml goes first, so it is to be changed there.`, `
limits 并排显示一个帐号的限额：本程序内置的、运行中的网关正在用的、微信给出的。不一致的规则
前面标 *。“出自”一列是配置的数字所在的限额表，或写着这个帐号自己数字的文件。

带 --live 才向微信查询，逐条规则，可能要一分钟。--write 把微信的不同数字写进 wxproxy.yaml 旁边的
limits.auto.yaml，写之前询问；--yes 不询问。wxproxy.yaml 里写了的数字优先，要改请在那里改。`)
	LimitsWrite      = text("LimitsWrite", "write WeChat's figures that differ into limits.auto.yaml", "把微信的不同数字写进 limits.auto.yaml")
	LimitsOneOf      = text("LimitsOneOf", "wxproxy limits: want --json or --write, not both", "wxproxy limits：--json 和 --write 只能用一个")
	LimitsShipped    = text("LimitsShipped", "shipped", "内置")
	LimitsConfigured = text("LimitsConfigured", "configured", "配置")
	LimitsFrom       = text("LimitsFrom", "from", "出自")
	LimitsProfile    = text("LimitsProfile", "profile {profile}", "限额表 {profile}")
	LimitsWeChat     = text("LimitsWeChat", "WeChat", "微信")
	LimitsNoFigure   = text("LimitsNoFigure", "no figure", "无数字")
	LimitsNotAsked   = text("LimitsNotAsked", "WeChat's own figures are not known yet: --live asks for them.", "还不知道微信的数字：用 --live 查询。")
	LimitsProgram    = text("LimitsProgram", "the table in the program", "程序内置的表")
	LimitsOfApp      = text("LimitsOfApp", "quotas of the app in wxproxy.yaml", "wxproxy.yaml 里帐号的 quotas")
	LimitsReadAt     = text("LimitsReadAt", "read at {time}", "{time} 查询")
	LimitsWildcard   = text("LimitsWildcard", "--write does not change it: the rule covers many paths. Give this path a rule in limits.yaml.", "--write 不改它：这条规则含多个路径，请在 limits.yaml 里给这个路径单独一条规则。")
	LimitsNone       = text("LimitsNone", "Nothing to write: no figure of WeChat's is known that differs from the configured one.", "没有可写的：没有哪个微信的数字与配置的不同。")
	LimitsAuto       = text("LimitsAuto", "nothing to write: app {app} has quotas: auto, which applies WeChat's figures automatically", "没有可写的：帐号 {app} 设了 quotas: auto，会自动采用微信的数字")
	LimitsNotInFile  = text("LimitsNotInFile", "nothing was written: app {app} is not in this configuration: want --config with the gateway's own", "没有写：这份配置里没有帐号 {app}，请用 --config 指定网关自己的配置")
	LimitsNoRule     = text("LimitsNoRule", "nothing was written: no rule {rule} in profile {profile} of this configuration: want --config with the gateway's own", "没有写：这份配置的限额表 {profile} 里没有规则 {rule}，请用 --config 指定网关自己的配置")
	LimitsSame       = text("LimitsSame", "Nothing to write into {file}.", "没有什么要写进 {file}。")
	LimitsDifference = text("LimitsDifference", "{file}: quotas of {app}:", "{file}：{app} 的 quotas：")
	LimitsConfirm    = text("LimitsConfirm", "Write?", "写入？")
	LimitsWritten    = text("LimitsWritten", "{file} was written. The running gateway reloads it within seconds.", "已写入 {file}，运行中的网关几秒内会重新读取。")
	LimitsByHand     = text("LimitsByHand", "Change this in {file} by hand, under the app:", "请在 {file} 里手工修改，在该帐号下面：")
	LimitsNotWritten = text("LimitsNotWritten", "{file} was not changed: {error}", "没有改动 {file}：{error}")

	GrantShort = text("GrantShort", "Show and set calls that are added to a rule's quotas for a while", "查看或设置临时加给一条规则的调用次数")
	GrantLong  = text("GrantLong", `
grant adds N calls to each quota of a rule, on every gateway, until the window of its shortest quota ends
or until --until. A second grant adds to the first, and its end is that of both; 0 ends a grant. A grant
stays when WeChat's counters are cleared. With the app alone it lists the grants in force.

WeChat's own quota is not raised by it: what WeChat refuses with 45009 stays refused. A grant is for a
quota here that is smaller than WeChat's, or after WeChat has raised its own. The parts of callers (shares)
stay as they are.

The reason is shown beside the figure and stands in the gateway's log, so it should hold no secret.`, `
grant 给一条规则的每个限额加 N 次，对所有网关有效，到它最短的周期结束为止，或到 --until 为止。再加一次
与前一次相加，结束时间以后一次为准；0 表示撤销。清零不影响加额。只写帐号则列出现有的加额。

这并不提高微信自己的限额：微信回 45009 的，仍然会拒绝。它用于这里的限额小于微信的，或微信已提高限额
的情况。调用方的份额（shares）不变。

原因显示在数字旁边，也写进网关的日志，因此不要写机密。`)
	GrantUntilFlag  = text("GrantUntilFlag", "when it ends, as 18:00 in the table's time zone or 2026-11-23T18:00:00+08:00; default the end of the window", "结束时间：限额表时区里的时刻，如 18:00，或 2026-11-23T18:00:00+08:00；默认到周期结束")
	GrantReasonFlag = text("GrantReasonFlag", "why, in up to 200 bytes; asked for on a terminal", "原因，最多 200 字节；在终端上会询问")
	GrantAmount     = text("GrantAmount", "{seen}: want +N, as in +50, or 0 to end the grant", "{seen}：应为 +N，如 +50，或 0 表示撤销")
	GrantNoReason   = text("GrantNoReason", "no reason: want --reason with why, for those who look at the figure later", "没有写原因：应有 --reason，说明为什么，给以后看到这个数字的人")
	GrantAsk        = text("GrantAsk", "Why? ", "原因？ ")
	GrantNone       = text("GrantNone", "No grant is in force.", "现在没有加额。")
	HeadGranted     = text("HeadGranted", "granted", "加额")
	HeadUntil       = text("HeadUntil", "until", "到")
	HeadReason      = text("HeadReason", "reason", "原因")
	AmountGranted   = text("AmountGranted", "{amount} ({calls} granted until {until})", "{amount}（加额 {calls}，到 {until}）")
	AmountKept      = text("AmountKept", "{amount} ({kept} of a reserve of {reserve} left)", "{amount}（预留 {reserve}，还剩 {kept}）")

	ClearShort = text("ClearShort", "Reset WeChat's daily counters of an app, or of one rule", "清零：让微信把一个帐号或一条规则当天的计数归零")
	ClearLong  = text("ClearLong", `
clear sends WeChat's own clear through the running gateway: clear_quota for a whole app, of
which WeChat grants 10 a month, those of its console included; or with RULE one
openapi/quota/clear for each path of that rule, of which it grants 50 a month.

It shows what would be reset and what is left of the month, and asks first. --yes does it
without asking.`, `
clear 通过运行中的网关发出微信的清零：整个帐号用 clear_quota，微信每月给 10 次，在后台点的也算在
内；指定 RULE 则对该规则的每个路径各发一次 openapi/quota/clear，每月给 50 次。

先显示哪些计数会归零、本月还剩几次，并询问；--yes 不询问。`)
	ClearOne         = text("ClearOne", "1 clear", "1 次清零")
	ClearMany        = text("ClearMany", "{count} clears", "{count} 次清零")
	ClearTooFew      = text("ClearTooFew", "not cleared: it takes {cost}, and {left} of this month's {limit} are left", "没有清零：需要 {cost}，本月 {limit} 次还剩 {left} 次")
	ClearConfirm     = text("ClearConfirm", "Clear?", "清零？")
	ClearWhat        = text("ClearWhat", "To clear: {what}", "要清零：{what}")
	ClearWhole       = text("ClearWhole", "the whole app", "整个帐号")
	ClearRule        = text("ClearRule", "rule {rule}: {paths}", "规则 {rule}：{paths}")
	ClearNothing     = text("ClearNothing", "No calls of it were counted today.", "今天没有计过它的调用。")
	ClearTakes       = text("ClearTakes", "It takes {cost}", "需要 {cost}")
	ClearEachPath    = text("ClearEachPath", "It takes {cost}, one for each path", "需要 {cost}，每个路径一次")
	ClearLeft        = text("ClearLeft", "{takes}; {left} of this month's {limit} are left.", "{takes}；本月 {limit} 次还剩 {left} 次。")
	ClearLeftUnknown = text("ClearLeftUnknown", "{takes}; how many are left this month is not known here. WeChat grants {limit}.", "{takes}；本月还剩几次这里不知道，微信每月给 {limit} 次。")
	ClearNotTried    = text("ClearNotTried", "{count} of {total} paths were not tried", "{total} 个路径中有 {count} 个没有再试")
	ClearsLeft       = text("ClearsLeft", "{left} of this month's {limit} clears are left.", "本月 {limit} 次清零还剩 {left} 次。")
	ClearFailed      = text("ClearFailed", "not cleared", "没有清零")
	ClearOfPath      = text("ClearOfPath", "{path}: {result}", "{path}：{result}")

	ForgetShort = text("ForgetShort", "Delete all stored data of an app that is no longer configured", "删除存储里某个已不在配置中的帐号的全部数据")
	ForgetLong  = text("ForgetLong", `
forget deletes everything that the store holds of an app, for all gateways that share it:
counters, tokens, tickets, history and readings of WeChat's counts. Remove the app from wxproxy.yaml on
each of them first: the next call of an app that is configured stores it again.

It asks the running gateway, because nothing else may open its store, and asks you first.
--yes does it without asking.`, `
forget 删除存储里一个帐号的全部数据，对共用这个存储的所有网关生效：计数、token、ticket、历史、向微信
查询的结果。请先在每个网关的 wxproxy.yaml 里去掉这个帐号，否则它的下一次调用又会写回来。

由运行中的网关执行，因为只有网关能打开存储；执行前询问，--yes 不询问。`)
	ForgetNoGateway = text("ForgetNoGateway", "{error} Only a gateway may open its store: start one with this configuration, as in: wxproxy serve", "{error}只有网关能打开它的存储：请用这份配置启动一个，例如 wxproxy serve")
	ForgetWhat      = text("ForgetWhat", "To delete of {app}, for all gateways that share this store: {kinds}.", "要删除 {app} 的数据，对共用这个存储的所有网关生效：{kinds}。")
	ForgetSeen      = text("ForgetSeen", "This gateway has counted calls of it since it started. The next call with a token of it stores it again.", "本网关启动以来计过它的调用。下一次带它的 token 的调用又会写回来。")
	ForgetNotSeen   = text("ForgetNotSeen", "This gateway has counted no call of it since it started: check the appid.", "本网关启动以来没有计过它的调用：请核对 appid。")
	ForgetConfirm   = text("ForgetConfirm", "Delete?", "删除？")
	ForgetDone      = text("ForgetDone", "{app} was deleted: {kinds}.", "已删除 {app}：{kinds}。")
	Separator       = text("Separator", ", ", "、")
)
