package main

const introEN = `# Benchmarks

What a call costs that goes through wxproxy, compared with others that stand in the same place.
Written by ` + "`make bench`" + `; do not edit. 中文：[benchmarks.zh-CN.md](benchmarks.zh-CN.md)

- **bare**: httputil.ReverseProxy with a tuned transport and a buffer pool; no log, no counting, Go's
  own garbage collector settings. The others are compared with it.
- **wxproxy**: the program as it ships: quotas of 5,000,000 a day in Redis unless told, the account's
  token put in, access log in JSON, metrics.
- **nginx + Lua + Redis**: the same work: one counter a day for each path, read and raised by one script in
  Redis, the account's token put in, figures in the headers, access log in JSON, buffered. **Counting only**:
  without the token and the headers.
- **nginx**: no counting, no log. **Caddy**: its access log in JSON, no counting. **HAProxy**: a stick table, no log.
  These three are for orientation: they do less.

Load (wrk), upstream (120 bytes of JSON) and Redis run on core 0, the proxy alone on core 1 with
GOMAXPROCS=1, one nginx worker, one HAProxy thread. 64 counters; one call of four is a small POST.
Each contender has an upstream and a Redis of its own. In each round all are started afresh and warmed
up, and then are loaded in turn, a second to warm up and a second that is measured, again and again: what
the machine and its host do otherwise comes and goes within seconds, and so meets all alike. Before each turn
memory is taken and given back, more than an access log grows by: to get it from a virtual machine's host costs up to
eight times as much as to write the log. CPU is the kernel's accounting of the proxy and of its Redis, divided by the calls. Each time it is checked that the bodies arrived whole both ways, that the upstream saw the calls, a quarter of them POSTs, that the
counters in Redis equal what the upstream executed, and that each call is in the access log.
`

const introZH = `# 性能测试

一次调用经过 wxproxy 要花多少，与站在同一位置的别的程序相比。
由 ` + "`make bench`" + ` 写出，不要手改。English: [benchmarks.md](benchmarks.md)

- **bare**：httputil.ReverseProxy，transport 调好，有缓冲池；不写日志，不计数，Go 缺省的垃圾回收。其余都与它相比。
- **wxproxy**：发布的程序原样：除另说明外每日额度 5,000,000，计数在 Redis，换上帐号的 access_token，JSON 访问日志，指标。
- **nginx + Lua + Redis**：做同样的事：每个路径每天一个计数器，在 Redis 里用一个脚本查并加；换上帐号的
  access_token，应答头里带上数字；JSON 访问日志，有缓冲。**counting only**：不换 token，不加应答头。
- **nginx**：不计数，不写日志。**Caddy**：JSON 访问日志，不计数。**HAProxy**：stick table，不写日志。
  这三个做的事更少，仅供参考。

压力（wrk）、上游（120 字节 JSON）和 Redis 在 0 号核；代理独占 1 号核，GOMAXPROCS=1，nginx 一个 worker，HAProxy
一个线程。64 个计数器，每四次调用有一次小的 POST。每个对手有自己的上游和 Redis。每一轮都全部重新启动并预热，然后
轮流加压，预热一秒、测一秒，如此往复：机器和宿主机的其他动静几秒一变，这样各对手遇到的大致相同。轮到之前先占用再归还一块内存，
比访问日志的增长要大：虚拟机向宿主机要内存，比写日志本身贵到八倍。CPU 取内核对代理和
它的 Redis 进程的记账，除以调用次数。每次都检查：两个方向的内容完整；上游看到了这些调用，四分之一是 POST；Redis 里的计数等于
上游执行的次数；每次调用都在访问日志里。
`

const repeatEN = "## How to repeat it\n\n```sh\nmake bench                       # installs what it needs and says so; about 35 minutes on a quiet Linux machine of 2 cores or more\n" +
	"go run ./bench -case forwarded   # some of the cases, to the terminal\ngo run ./bench -profile cpu.out  # a CPU profile of wxproxy under load\n" +
	"make bench-compare BASE=main     # Go benchmarks of limits and proxy at BASE and now\n```\n"

const repeatZH = "## 怎样重做\n\n```sh\nmake bench                       # 自己安装所需并说明；在安静的、两核以上的 Linux 机器上约 35 分钟\n" +
	"go run ./bench -case forwarded   # 只跑一部分，打印出来\ngo run ./bench -profile cpu.out  # 压力下 wxproxy 的 CPU profile\n" +
	"make bench-compare BASE=main     # limits 和 proxy 的 Go 基准，BASE 与现在相比\n```\n"
