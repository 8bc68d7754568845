package words

// The help of the commands, and what is wrong with a command line.
var (
	HelpUsage    = text("HelpUsage", "Usage:", "用法：")
	HelpExamples = text("HelpExamples", "Examples:", "示例：")
	HelpCommands = text("HelpCommands", "Commands:", "命令：")
	HelpFlags    = text("HelpFlags", "Flags:", "选项：")
	HelpLine     = text("HelpLine", "[flags]", "[选项]")
	HelpCommand  = text("HelpCommand", "[command]", "[命令]")
	HelpDefault  = text("HelpDefault", "{usage} (default {value})", "{usage}（默认 {value}）")
	HelpMore     = text("HelpMore", "Run 'wxproxy COMMAND --help' for the help of a command.", "各命令的帮助：wxproxy 命令 --help")
	HelpHint     = text("HelpHint", "Run 'wxproxy --help' for usage.", "用法见 wxproxy --help")
	HelpExit     = text("HelpExit", `
Exit codes:
  0  done
  1  not done, or not all of it; the error is on stderr
  2  the command line makes no sense`, `
退出码：
  0  完成
  1  没有完成，或没有全部完成；错误在 stderr
  2  命令行有误`)

	RootShort = text("RootShort", "A gateway in front of api.weixin.qq.com that keeps to WeChat's quotas", "api.weixin.qq.com 前的网关，替帐号守住微信的调用限额")
	RootLong  = text("RootLong", `
wxproxy stands between your services and api.weixin.qq.com. It counts every call
against the quota of its account and API, injects the account's access_token, and
answers calls over budget itself with WeChat's own 45009.

Without a command it runs the gateway, as "wxproxy serve" does.`, `
wxproxy 位于你的服务和 api.weixin.qq.com 之间：按帐号和接口统计每次调用，代为填入
帐号的 access_token，超出限额的调用由它直接用微信的 45009 应答，不再发出。

不带命令时运行网关，等同于 wxproxy serve。`)

	FlagConfig    = text("FlagConfig", "configuration `file` (default ./wxproxy.yaml, if it exists)", "配置`文件`（默认 ./wxproxy.yaml，有则读取）")
	FlagLang      = text("FlagLang", "`language` of the output, zh or en (default by LC_ALL, LC_MESSAGES or LANG)", "输出所用的`语言`：zh 或 en（默认按 LC_ALL、LC_MESSAGES、LANG）")
	FlagHelp      = text("FlagHelp", "help for the command", "显示命令的帮助")
	FlagAdmin     = text("FlagAdmin", "`URL` of the admin listener, instead of admin.listen in the configuration", "管理端口的 `URL`，代替配置里的 admin.listen")
	FlagTokenFile = text("FlagTokenFile", "`file` that holds the admin token, instead of the configuration's", "存放管理 token 的`文件`，代替配置里的 token")
	FlagJSON      = text("FlagJSON", "print JSON", "输出 JSON")
	FlagYes       = text("FlagYes", "do it without asking", "不询问，直接执行")
	FlagLive      = text("FlagLive", "ask WeChat first, rule by rule", "先逐条规则向微信查询")

	UnknownCommand   = text("UnknownCommand", "unknown command {name}", "没有 {name} 这个命令")
	UnknownFlag      = text("UnknownFlag", "{command}: unknown flag {flag}", "{command}：没有 {flag} 这个选项")
	FlagWithoutValue = text("FlagWithoutValue", "{command}: flag {flag}: want a value", "{command}：选项 {flag} 需要一个值")
	FlagInvalid      = text("FlagInvalid", "{command}: flag {flag}: {value}: want {type}", "{command}：选项 {flag}：{value} 无效，应为 {type}")
	FlagSyntax       = text("FlagSyntax", "{command}: {flag}: want --name or --name=value", "{command}：{flag} 写法不对，应为 --名称 或 --名称=值")
	FlagTypeBool     = text("FlagTypeBool", "true or false", "true 或 false")
	WrongArguments   = text("WrongArguments", "{command}: arguments: got {got}, want {want}", "{command}：参数有 {got} 个，应为 {want}")
	NoArguments      = text("NoArguments", "none", "无")
	WrongLanguage    = text("WrongLanguage", "--lang {value}: want zh or en", "--lang {value}：应为 zh 或 en")
	DidYouMean       = text("DidYouMean", "{error}: did you mean {name}?", "{error}，是不是想写 {name}？")
	WantOneOf        = text("WantOneOf", "{error}: want one of {names}", "{error}，应为其中之一：{names}")
	ErrorLine        = text("ErrorLine", "wxproxy: {error}", "wxproxy：{error}")
	VersionShort     = text("VersionShort", "Print the version", "显示版本")
	HelpShort        = text("HelpShort", "Show the help of a command", "显示命令的帮助")
	CompletionShort  = text("CompletionShort", "Print a shell's completion script", "输出 shell 的补全脚本")
	CompletionLong   = text("CompletionLong", `
completion prints a script that completes the commands and flags of wxproxy in a shell:
bash, zsh, fish or powershell.`, `
completion 输出补全脚本，用来在 shell 里补全 wxproxy 的命令和选项：bash、zsh、fish 或 powershell。`)
	UnknownShell = text("UnknownShell", "completion: {name}: want bash, zsh, fish or powershell", "completion：{name} 无效，应为 bash、zsh、fish 或 powershell")
)
