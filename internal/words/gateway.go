package words

// What the commands say of the gateway that they ask, and of the program as a gateway.
var (
	AdminWantURL    = text("AdminWantURL", "--admin: want a URL, as http://127.0.0.1:8081, or unix:/path", "--admin 应为 URL，如 http://127.0.0.1:8081，或 unix:/路径")
	TokenFileFailed = text("TokenFileFailed", "admin token: --token-file {file}: {error}", "管理 token：--token-file {file}：{error}")
	TokenFromConfig = text("TokenFromConfig", "admin.token in {file}", "{file} 的 admin.token")
	TokenFromFlag   = text("TokenFromFlag", "--token-file {file}", "--token-file {file}")
	TokenNotSet     = text("TokenNotSet", "{source} (not set)", "{source}（未设置）")
	TokenVariable   = text("TokenVariable", "{source} ({variables} not set)", "{source}（{variables} 未设置）")
	TokenNotRead    = text("TokenNotRead", "{source} ({error})", "{source}（{error}）")
	TokenMissing    = text("TokenMissing", "no admin token: tried {tried}: is the gateway running, with the same configuration? Else name a file that holds its token: --token-file FILE", "找不到管理 token，试过：{tried}。网关在运行吗，用的是同一份配置吗？也可以用 --token-file 文件 指定存放它的文件")
	TokenOneLine    = text("TokenOneLine", "want one line: the token", "应只有一行，即 token")
	TokenRefused    = text("TokenRefused", "the gateway at {address} does not accept the admin token from {source}: want the token that this gateway runs with: set it there, or name a file that holds it: --token-file FILE", "{address} 的网关不接受来自 {source} 的管理 token：应为该网关正在使用的 token，请在那里改正，或用 --token-file 文件 指定")
	NoSuchFile      = text("NoSuchFile", "no such file", "没有这个文件")
	NoGateway       = text("NoGateway", "no gateway answers at {address}: is it running?", "{address} 没有网关应答：网关在运行吗？")
	RequestFailed   = text("RequestFailed", "request to the gateway at {address}: {reason}", "请求 {address} 的网关：{reason}")
	GatewayError    = text("GatewayError", "the gateway at {address}: {error}", "{address} 的网关：{error}")
	GatewayStatus   = text("GatewayStatus", "HTTP status {status}", "HTTP 状态码 {status}")
	NotJSON         = text("NotJSON", "its answer is not the JSON of a gateway: does another program listen there?", "应答不是网关的 JSON：监听在那里的是别的程序吗？")
	AskingWeChat    = text("AskingWeChat", "asking WeChat about {app}, rule by rule: this may take a minute", "正在逐条规则向微信查询 {app}，可能要一分钟")
	YesOrNo         = text("YesOrNo", "{question} yes/no: ", "{question}（yes/no）：")
	NoTerminal      = text("NoTerminal", "stdin is not a terminal, so nobody can be asked: nothing was done; want --yes to do it without asking", "标准输入不是终端，无法询问：什么也没有做。要不经询问就执行，请加 --yes")
	Interrupted     = text("Interrupted", "interrupted: nothing was done", "已中断：什么也没有做")
	NotConfirmed    = text("NotConfirmed", "{answer}: want yes: nothing was done", "输入的是 {answer}，不是 yes：什么也没有做")
	HealthShort     = text("HealthShort", "Exit with 0 if the running gateway is healthy", "运行中的网关正常则退出码为 0")
	Unhealthy       = text("Unhealthy", "unhealthy: {reason}", "不正常：{reason}")
	UnhealthyStatus = text("UnhealthyStatus", "HTTP status {status} without ok", "HTTP 状态码 {status}，且没有 ok")
	ServeShort      = text("ServeShort", "Run the gateway", "运行网关")
	FlagListen      = text("FlagListen", "`address` to listen on, instead of the configuration's", "监听`地址`，代替配置里的")
	NoApps          = text("NoApps", `
no app is configured. Either name one account in the environment:

    WX_APPID=wx... WX_SECRET=... wxproxy

or write wxproxy.yaml:

    apps:
      - {appid: wx..., secret: "${WX_SECRET}"}

To see it work without an account, run: wxproxy demo`, `
没有配置帐号。可以用环境变量指定一个：

    WX_APPID=wx... WX_SECRET=... wxproxy

或者写 wxproxy.yaml：

    apps:
      - {appid: wx..., secret: "${WX_SECRET}"}

没有帐号也想看看效果：wxproxy demo`)
	PortInUse   = text("PortInUse", "listen on {address}: the port is in use by another process", "监听 {address}：端口已被其他进程占用")
	SocketInUse = text("SocketInUse", "listen on {address}: the socket is in use by another process", "监听 {address}：套接字已被其他进程占用")

	ValidateShort = text("ValidateShort", "Check the configuration; print every fault with its file, line and column", "检查配置，列出全部错误及所在的文件、行、列")
	ValidateLong  = text("ValidateLong", `
validate reads the configuration as serve does, with the certificate and the folder of the access
log, and prints every fault with its file, line and column. It changes nothing.

With --connect it also opens the store, and prints what a Redis lacks: persistence, rights of its
user, a policy that keeps the counts. Nothing is left in the store. An embedded store can be
opened only while no gateway has it open.`, `
validate 像 serve 一样读取配置，也检查证书和访问日志的目录，列出全部错误及所在的文件、行、列，不改动
任何东西。

带 --connect 还会打开存储，列出 Redis 缺什么：持久化、用户的权限、不丢计数的淘汰策略。存储里不留下
任何东西。内嵌的存储只有在没有网关打开它时才能打开。`)
	ValidateConnect  = text("ValidateConnect", "open the store, too, and print what it lacks", "还打开存储，列出它缺什么")
	ValidateWarning  = text("ValidateWarning", "warning: {text}", "警告：{text}")
	ValidateNoFile   = text("ValidateNoFile", "no configuration file: the defaults are used", "没有配置文件：使用默认值")
	ValidateFile     = text("ValidateFile", "{file}: ok", "{file}：正确")
	ValidateApp      = text("ValidateApp", "app {app}: {appid}, profile {profile}, {count} rules", "帐号 {app}：{appid}，限额表 {profile}，{count} 条规则")
	ValidateLearns   = text("ValidateLearns", "no app is configured: apps are learned from their own token requests", "没有配置帐号：从帐号自己的取 token 请求中得知")
	ValidateNoApp    = text("ValidateNoApp", "no app is configured, so serve will not start", "没有配置帐号，serve 不会启动")
	ValidateRedisACL = text("ValidateRedisACL", "store: Redis must allow its user {user} at least:\n  {acl}", "存储：Redis 至少要给用户 {user} 这些权限：\n  {acl}")

	SandboxShort = text("SandboxShort", "Run a local stand-in for api.weixin.qq.com", "运行本机模拟的 api.weixin.qq.com")
	SandboxLong  = text("SandboxLong", `
sandbox answers as api.weixin.qq.com does: tokens, quotas with WeChat's own 45009, media, errors.
It has one account, printed at start, and the daily quotas of a profile of limits.yaml. Faults are
set at /-/sandbox/; GET /-/sandbox/state shows what it has executed.`, `
sandbox 像 api.weixin.qq.com 那样应答：token、限额与 45009、素材、各种错误码。它有一个帐号（启动
时打印），每日限额取自 limits.yaml 的某个限额表。故障在 /-/sandbox/ 设置；GET /-/sandbox/state
显示它执行过什么。`)
	SandboxListen  = text("SandboxListen", "`address` to listen on", "监听`地址`")
	SandboxProfile = text("SandboxProfile", "`profile` of the shipped limits.yaml that has the daily quotas", "每日限额取自内置 limits.yaml 的这个`限额表`")
	SandboxAppID   = text("SandboxAppID", "`appid` of its account", "帐号的 `appid`")
	SandboxSecret  = text("SandboxSecret", "AppSecret of its account", "帐号的 AppSecret")
	SandboxStarted = text("SandboxStarted", "a stand-in for api.weixin.qq.com at {url}", "模拟的 api.weixin.qq.com：{url}")
)
