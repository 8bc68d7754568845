package words

// The demo.
var (
	DemoShort = text("DemoShort", "Show the gateway at work: a local stand-in for WeChat, three services that call it, and the pages", "演示网关如何工作：本机模拟的微信、三个调用它的服务，以及管理页面")
	DemoLong  = text("DemoLong", `
Starts a local stand-in for WeChat, the gateway in front of it, and three services: one behaves, one
sends more than its share, one repeats a call that cannot succeed. Each call is a line; what happens to
them is explained. It prints the address of the pages, already signed in. Nothing leaves this machine,
and Ctrl-C ends it and removes its files.`, `
启动本机模拟的微信、前面的网关和三个服务：一个正常，一个发得超过自己的份额，一个反复发同一个不可能成功的
调用。每次调用一行，发生的事附有说明。它会打印管理页面的地址，打开就已登录。一切都在本机；按 Ctrl-C 结束并
删除它的文件。`)
	DemoOnce       = text("DemoOnce", "make the calls, print them with their answers, and exit with 0 if they are as expected", "自己发出这些调用，打印调用和应答，都符合预期则退出码为 0")
	DemoDirect     = text("DemoDirect", "Straight to WeChat (the stand-in), without a token: it is refused.", "不经网关直接请求微信（模拟的），不带 token：被拒绝。")
	DemoInjected   = text("DemoInjected", "The same through the gateway: it injects the account's token.", "同一个请求经过网关：网关填入帐号的 token。")
	DemoFirst      = text("DemoFirst", "A menu is created, 1 of 2 for today.", "创建菜单，今天 2 次中的第 1 次。")
	DemoSecond     = text("DemoSecond", "Again, 2 of 2. A service's own old token is replaced.", "再来一次，2 次中的第 2 次。服务自带的旧 token 会被替换。")
	DemoRefused    = text("DemoRefused", "Once more: the gateway refuses it with WeChat's own 45009; WeChat never sees it.", "再来一次：网关用微信的 45009 拒绝，微信收不到。")
	DemoExecuted   = text("DemoExecuted", "What WeChat (the stand-in) executed: menu/create twice.", "微信（模拟的）执行过什么：menu/create 两次。")
	DemoUnexpected = text("DemoUnexpected", "demo: {url}: want an answer with {want}", "demo：{url}：应答里应有 {want}")
	DemoBusy       = text("DemoBusy", "{address} is in use by another program: the demo uses {instead}.", "{address} 已被别的程序占用：演示改用 {instead}。")

	DemoIntro      = text("DemoIntro", "A stand-in for WeChat at {wechat}, the gateway in front of it at {gateway}. Nothing leaves this machine.", "模拟的微信在 {wechat}，前面的网关在 {gateway}。一切都在本机。")
	DemoPage       = text("DemoPage", "Open the pages, already signed in (the address works once):", "打开管理页面，已经登录好（这个地址只能用一次）：")
	DemoServices   = text("DemoServices", "Three services use one account, each with a key of its own:", "三个服务共用一个帐号，各有各的密钥：")
	DemoCRM        = text("DemoCRM", "works as it should", "正常")
	DemoCampaign   = text("DemoCampaign", "sends more than its share", "发得超过自己的份额")
	DemoReporter   = text("DemoReporter", "has a bug: asks for a user that does not exist, again and again", "有 bug：反复查询一个不存在的用户")
	DemoTry        = text("DemoTry", "You can call too, from another terminal (the third is refused), and look:", "也可以另开一个终端自己调用（第三次被拒绝），并查看：")
	DemoEnd        = text("DemoEnd", "Ctrl-C ends the demo and removes its files.", "按 Ctrl-C 结束演示并删除它的文件。")
	DemoYou        = text("DemoYou", "you", "你")
	DemoOK         = text("DemoOK", "ok", "成功")
	DemoAnswered   = text("DemoAnswered", "WeChat: {errcode}", "微信：{errcode}")
	DemoFailed     = text("DemoFailed", "HTTP {status}", "HTTP {status}")
	DemoTurnedDown = text("DemoTurnedDown", "refused: {reason}", "拒绝：{reason}")
	DemoHere       = text("DemoHere", "answered here", "网关应答")
	DemoTimes      = text("DemoTimes", "{outcome} ×{count}", "{outcome} ×{count}")

	DemoTellToken   = text("DemoTellToken", "The gateway has fetched the account's access_token, once for all services, and puts it into each call. The services have neither it nor the AppSecret. It also asks WeChat how much of each quota was used before (quota.get).", "网关取来了帐号的 access_token，所有服务只取这一次，并填进每次调用。服务手里既没有它，也没有 AppSecret。网关还向微信查询每项额度之前用了多少（quota.get）。")
	DemoTellShare   = text("DemoTellShare", "{caller} has used up its share: {quota} calls of {rule} a day. The gateway answers its calls with WeChat's own 45009, and WeChat receives none of them. What is left of the quota is there for the others. (limits.yaml: shares)", "{caller} 用完了自己的份额：每天 {quota} 次 {rule}。它的调用由网关用微信的 45009 应答，微信一次也收不到；剩下的额度留给别的服务。（limits.yaml 的 shares）")
	DemoTellRepeats = text("DemoTellRepeats", "{caller} repeats one call, and WeChat answers {errcode} each time. WeChat counts every one of them, from the quota of all services.", "{caller} 反复发同一个调用，微信每次都答 {errcode}。每一次微信都计数，用的是所有服务共用的额度。")
	DemoTellFuse    = text("DemoTellFuse", "The gateway has stopped the loop of {caller}: after 200 answers {errcode} it gives that answer itself, at no cost, and tries one call every {seconds} s until the cause is mended. The others go on. (A real gateway takes a minute to be sure and tries once a minute; wxproxy.yaml: fuse: on. With alerts configured, the team is notified in its chat.)", "网关停下了 {caller} 的循环：微信答了 200 次 {errcode} 之后，网关自己给出这个应答，不再耗额度，每隔 {seconds} 秒放一次调用去试，直到原因消除。别的服务照常。（真实的网关要观察一分钟，每分钟试一次；wxproxy.yaml 写 fuse: on。配了 alerts 会通知企业微信、钉钉或飞书。）")
	DemoTellQuota   = text("DemoTellQuota", "The quota of {rule} is used up: {used} of {quota} today. The gateway answers 45009 itself until midnight in China, so that WeChat never sees a call over the limit. (wxproxy grant allows more here, wxproxy clear asks WeChat to start over; alerts warn before.)", "{rule} 今天的额度用完了：{used}/{quota}。到北京时间午夜为止网关自己回 45009，微信看不到超限的调用。（wxproxy grant 可放宽这里的额度，wxproxy clear 向微信申请清零；告警在用完之前就会提醒。）")
	DemoTellAround  = text("DemoTellAround", "A forgotten script has called WeChat directly, around the gateway: {count} times {rule}.", "有个被遗忘的脚本绕过网关，直接调用了微信：{rule} {count} 次。")
	DemoTellReject  = text("DemoTellReject", "WeChat itself answers 45009 for {rule}, although only {used} of {quota} went through the gateway: other calls went around it. The gateway asks WeChat for its own count and shows the difference as drift.", "微信自己对 {rule} 答了 45009，而经过网关的只有 {used}/{quota}：其余的绕过了网关。网关向微信查询它自己的计数，差额显示为偏差（drift）。")
	DemoTellLatch   = text("DemoTellLatch", "{rule} is closed for all services: the gateway answers 45009 itself, and only tries a call every few minutes to see whether WeChat takes it again. Other APIs go on.", "{rule} 对所有服务关闭：网关自己回 45009，只每隔几分钟试一次，看微信是否又接受了。其他接口照常。")
	DemoTellReason  = text("DemoTellReason", "Refused for {reason}: what that means and what to do is in docs/reasons.md.", "拒绝的原因是 {reason}：含义和办法见 docs/reasons.zh-CN.md。")
	DemoTellRest    = text("DemoTellRest", "That was all. The services go on, and from here repeated calls are summed up every {seconds} s. The pages show who used what, when it runs out and why calls were refused. If you have not opened them yet:", "演示到此。服务继续运行，从这里起重复的调用每 {seconds} 秒汇总一次。管理页面显示谁用了多少、何时用完、为什么被拒。还没打开的话：")
	DemoSum         = text("DemoSum", "The demo has ended. WeChat's stand-in executed {executed} calls; {refused} were refused by the gateway and never reached it.", "演示结束。模拟的微信执行了 {executed} 次调用；{refused} 次被网关拒绝，没有到达微信。")
)
