package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// figures are one measurement of one contender. Microseconds are CPU for each call; P50 and P99
// are microseconds too.
type figures struct {
	Turns                    int // that make it up
	Calls                    int64
	PerSecond                float64
	ProxyMicros, RedisMicros float64
	P50, P99                 int64
	MB                       float64
	Foreign                  float64 // of one core, used by others
	RedisCommands            int64   // scripts run
}

func (f figures) cpu() float64 { return f.ProxyMicros + f.RedisMicros }

// result is one case.
type result struct {
	Name       string
	Contenders []string
	Conns      int
	Dropped    int
	Figures    map[string][]figures // of each round, by contender
	Faults     map[string]string    // what a contender did otherwise than all; it has no figures then
}

// results are what a run has seen.
type results struct {
	Machine, Commit string
	Versions        []string
	Date            time.Time
	Rounds          int
	Window          time.Duration
	Cases           []result
	Special         special
}

// spread is a median with its extremes.
type spread struct{ median, low, high float64 }

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return spread{(v[(n-1)/2] + v[n/2]) / 2, v[0], v[n-1]}
}

func (s spread) String() string { return s.text(2) }

func (s spread) text(digits int) string {
	if math.IsNaN(s.median) {
		return "–"
	}
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, s.median, digits, s.low, digits, s.high)
}

func ints(values []int64, divisor float64) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = float64(v) / divisor
	}
	return out
}

func (r *results) find(name string) *result {
	for i := range r.Cases {
		if r.Cases[i].Name == name {
			return &r.Cases[i]
		}
	}
	return &result{}
}

// of is the spread of a figure over the rounds.
func (c *result) of(contender string, what func(figures) float64) spread {
	var v []float64
	for _, f := range c.Figures[contender] {
		v = append(v, what(f))
	}
	return spreadOf(v)
}

// ratio is the spread of a figure of one contender over another's in the same round.
func (c *result) ratio(a, b string, what func(figures) float64) spread {
	var v []float64
	for i, f := range c.Figures[a] {
		if i < len(c.Figures[b]) && what(c.Figures[b][i]) > 0 {
			v = append(v, what(f)/what(c.Figures[b][i]))
		}
	}
	return spreadOf(v)
}

func perSecond(f figures) float64 { return f.PerSecond }
func p50(f figures) float64       { return float64(f.P50) }

// gate is a figure that the project has promised.
type gate struct {
	name, nameZH string
	seen         spread
	digits       int
	atMost       bool
	want, aim    float64 // aim 0: none
	unit         string
}

func (g gate) met() bool {
	if g.atMost {
		return g.seen.median <= g.want
	}
	return g.seen.median >= g.want
}

func (r *results) gates() []gate {
	f32, f128, refused := r.find("forwarded-32"), r.find("forwarded-128"), r.find("refused")
	alone, s := r.find("alone"), &r.Special
	added := func(over string) spread {
		var v []float64
		for i, p := range s.OpenLoop[ours] {
			v = append(v, float64(p-s.OpenLoop[over][i])/1000)
		}
		return spreadOf(v)
	}
	lone := func(over string) spread {
		var v []float64
		for i, f := range alone.Figures[ours] {
			v = append(v, float64(f.P50-alone.Figures[over][i].P50)/1000)
		}
		return spreadOf(v)
	}
	benchmark := func(name string) (nanos, allocs spread) {
		for _, g := range s.Go {
			if g.Name == name {
				return spreadOf([]float64{g.Nanos}), spreadOf([]float64{float64(g.Allocs)})
			}
		}
		return spreadOf(nil), spreadOf(nil)
	}
	takeNanos, takeAllocs := benchmark("Take/redis/counted/alone")
	_, matchAllocs := benchmark("CanonicalAndMatch")
	most := func(en, zh string, seen spread, want, aim float64) gate {
		return gate{name: en, nameZH: zh, seen: seen, digits: 2, atMost: true, want: want, aim: aim}
	}
	bare := func(name, en, zh string, want, aim float64) gate {
		return most(en+", CPU / bare", zh+"，CPU 与 bare 之比", r.find(name).ratio(ours, bareProxy, figures.cpu), want, aim)
	}
	in := func(g gate, unit string, digits int) gate {
		g.unit, g.digits = unit, digits
		return g
	}
	return []gate{
		bare("forwarded-32", "forwarded, 32 connections", "转发，32 个连接", 1.00, 0.92),
		bare("forwarded-128", "forwarded, 128 connections", "转发，128 个连接", 0.95, 0.85),
		bare("forwarded-1000", "forwarded, 1000 connections", "转发，1000 个连接", 1.00, 0.90),
		most("forwarded, 32 connections, CPU / nginx + Lua + Redis", "转发，32 个连接，CPU 与 nginx + Lua + Redis 之比", f32.ratio(ours, nginxLua, figures.cpu), 0.90, 0.80),
		most("forwarded, 128 connections, CPU / nginx + Lua + Redis", "转发，128 个连接，CPU 与 nginx + Lua + Redis 之比", f128.ratio(ours, nginxLua, figures.cpu), 0.90, 0.80),
		most("forwarded, 32 connections, CPU / Caddy with its log", "转发，32 个连接，CPU 与 Caddy（写日志）之比", f32.ratio(ours, caddy, figures.cpu), 0.50, 0),
		most("forwarded, 128 connections, CPU / Caddy with its log", "转发，128 个连接，CPU 与 Caddy（写日志）之比", f128.ratio(ours, caddy, figures.cpu), 0.50, 0),
		bare("one-by-one-shared", "counted one by one, calls that wait share a batch", "逐次计数，等待的调用共用一批", 1.9, 0),
		bare("one-by-one", "counted one by one, hardly any shares one", "逐次计数，几乎没有共用", 1.9, 0),
		bare("apps-10000", "10,000 apps x 20 rules", "10,000 个帐号 x 20 条规则", 2.2, 0),
		bare("media-down", "download of 1 MB", "下载 1 MB", 1.0, 0),
		bare("media-up", "upload of 1 MB", "上传 1 MB", 1.0, 0),
		{name: "refused here, calls/s / net/http", nameZH: "本地拒绝，每秒次数与 net/http 之比", seen: refused.ratio(ours, handler, perSecond), digits: 2, want: 0.80},
		most("refused here, commands to Redis for 1000 calls", "本地拒绝，每 1000 次的 Redis 命令数", refused.of(ours, func(f figures) float64 { return 1000 * float64(f.RedisCommands) / float64(f.Calls) }), 0, 0),
		most("of it, beyond one a second for each counter, which may open again", "其中超出每个计数器每秒一条的部分（计数器可能重新开放）", refused.of(ours, func(f figures) float64 {
			asks := counters * (float64(f.Calls)/f.PerSecond + float64(f.Turns)) // the second has begun before each turn
			return 1000 * max(0, float64(f.RedisCommands)-asks) / float64(f.Calls)
		}), 0, 0),
		in(most("commands to Redis for 1000 calls, 5000 calls/s of one rule", "每 1000 次调用的 Redis 命令数（一条规则，每秒 5000 次）", spreadOf(s.Redis), 10, 0), "", 2),
		in(most("added p50, 1000 calls/s, upstream of 50 ms", "增加的 p50，每秒 1000 次，上游 50 ms", added(direct), 0.1, 0), "ms", 3),
		in(most("of it, what is added to bare", "其中比 bare 多出的", added(bareProxy), 0.1, 0), "ms", 3),
		in(most("added p50, a lone caller", "增加的 p50，单个调用者", lone(direct), 0.08, 0), "ms", 3),
		in(most("of it, what is added to bare", "其中比 bare 多出的", lone(bareProxy), 0.01, 0), "ms", 3),
		in(most("Take from memory (BenchmarkTake/redis/counted/alone)", "从内存取一次（BenchmarkTake/redis/counted/alone）", takeNanos, 150, 0), "ns", 0),
		in(most("the same, allocations", "同上，内存分配次数", takeAllocs, 0, 0), "", 0),
		in(most("canonicalise and match a clean path, allocations", "规整并匹配一个干净的路径，内存分配次数", matchAllocs, 0, 0), "", 0),
		in(most("start with 10,000 apps and 200 rules", "10,000 个帐号、200 条规则的启动时间", spreadOf(ints(s.Start[200], 1e6)), 1, 0), "s", 2),
		in(most("slowest call while 10,000 apps are reloaded", "重新读入 10,000 个帐号时最慢的一次调用", spreadOf(ints(s.Reload, 1000)), 10, 0), "ms", 1),
	}
}

// title describes a case.
type title struct{ en, zh string }

var titles = map[string]title{ //nolint:gochecknoglobals // constant
	"forwarded-32":          {"Forwarded, 32 connections", "转发，32 个连接"},
	"forwarded-128":         {"Forwarded, 128 connections", "转发，128 个连接"},
	"forwarded-1000":        {"Forwarded, 1000 connections", "转发，1000 个连接"},
	"alone":                 {"A lone caller: one connection", "单个调用者：一个连接"},
	"refused":               {"Refused here: the quota is used up, 32 connections", "本地拒绝：额度已用完，32 个连接"},
	"one-by-one":            {"Counted one by one: quotas of 1000/day, 1024 counters, 32 connections", "逐次计数：每日 1000 次，1024 个计数器，32 个连接"},
	"one-by-one-shared":     {"The same, eight calls in a row to one counter", "同上，连续八次调用用同一个计数器"},
	"post-2k":               {"POST of 2 KB, 32 connections", "2 KB 的 POST，32 个连接"},
	"hot-key":               {"One hot counter, 32 connections", "一个热点计数器，32 个连接"},
	"apps-10000":            {"10,000 apps x 20 rules, chosen at random: nearly every call is its counter's first, 32 connections", "10,000 个帐号 x 20 条规则，随机：几乎每次都是该计数器的第一次，32 个连接"},
	"media-down":            {"Download of 1 MB, 8 connections", "下载 1 MB，8 个连接"},
	"media-up":              {"Upload of 1 MB, 8 connections", "上传 1 MB，8 个连接"},
	"unpinned-forwarded-32": {"Not pinned: forwarded, 32 connections", "不绑核：转发，32 个连接"},
	"unpinned-refused":      {"Not pinned: refused here, 32 connections", "不绑核：本地拒绝，32 个连接"},
}

type language int

const (
	english language = iota
	chinese
)

// pick chooses a text.
func (l language) pick(en, zh string) string {
	if l == chinese {
		return zh
	}
	return en
}

// markdown is the document.
func (r *results) markdown(l language) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("%s", l.pick(introEN, introZH))
	line("%s", l.pick("## This run", "## 这一次"))
	line("")
	line("| | |\n|---|---|")
	line("| %s | %s |", l.pick("machine", "机器"), r.Machine)
	line("| %s | %s |", l.pick("versions", "版本"), strings.Join(r.Versions, ", "))
	line("| %s | %s, %s |", l.pick("date, commit", "日期，提交"), r.Date.Format("2006-01-02"), r.Commit)
	dropped := 0
	worst := 0.0
	for _, c := range r.Cases {
		dropped += c.Dropped
		for _, figures := range c.Figures {
			for _, f := range figures {
				worst = max(worst, f.Foreign)
			}
		}
	}
	line("| %s | "+l.pick("%d rounds of %v for each contender (3 where no gate depends on it); %d measurements were dropped and made again because others used more than %.0f %% of a core; in those kept they used at most %.0f %%",
		"每个对手 %d 轮（与要求无关的 3 轮），每轮 %v；有 %d 次因为别的程序占用超过一个核的 %.0f%% 而作废重测；留下的各次里别的程序至多占 %.0f%%")+" |",
		l.pick("rounds", "轮次"), r.Rounds, r.Window, dropped, 100*foreignLoad, 100*worst)
	line("")

	line("%s\n", l.pick("## Gates", "## 要求"))
	line("%s", l.pick("Medians of the rounds' ratios, with the least and the greatest.", "各轮比值的中位数，括号内是最小和最大。"))
	line("")
	line("| %s | %s | %s | |\n|---|---|---|---|", l.pick("figure", "数字"), l.pick("wanted", "要求"), l.pick("seen", "实测"))
	for _, g := range r.gates() {
		sign, unit := "≥", ""
		if g.atMost {
			sign = "≤"
		}
		if g.unit != "" {
			unit = " " + g.unit
		}
		want := fmt.Sprintf("%s %g%s", sign, g.want, unit)
		if g.aim != 0 {
			want += fmt.Sprintf(l.pick(" (aim %g)", "（目标 %g）"), g.aim)
		}
		met := l.pick("met", "达到")
		switch {
		case math.IsNaN(g.seen.median):
			met = l.pick("not measured", "未测")
		case !g.met():
			met = l.pick("**not met**", "**未达到**")
		}
		line("| %s | %s | %s%s | %s |", l.pick(g.name, g.nameZH), want, g.seen.text(g.digits), unit, met)
	}
	line("")

	for _, c := range r.Cases {
		t := titles[c.Name]
		line("## %s\n", l.pick(t.en, t.zh))
		base := c.Contenders[0]
		if base == direct {
			base = bareProxy
		}
		line(l.pick("| | CPU, us/call | Redis, us/call | x %s | calls/s | x %s | p50, ms | p99, ms | MB |", "| | CPU，微秒/次 | Redis，微秒/次 | x %s | 次/秒 | x %s | p50，毫秒 | p99，毫秒 | MB |"), base, base)
		line("|---|---|---|---|---|---|---|---|---|")
		for _, name := range c.Contenders {
			if c.Faults[name] != "" {
				line("| %s | – | | | | | | | |", name)
				continue
			}
			cpu := c.ratio(name, base, figures.cpu).String()
			if name == base {
				cpu = "1"
			}
			line("| %s | %s | %.1f | %s | %.0f | %.2f | %.2f | %.2f | %.0f |", name,
				c.of(name, func(f figures) float64 { return f.ProxyMicros }).text(1),
				c.of(name, func(f figures) float64 { return f.RedisMicros }).median, cpu,
				c.of(name, perSecond).median, c.ratio(name, base, perSecond).median,
				c.of(name, p50).median/1000, c.of(name, func(f figures) float64 { return float64(f.P99) }).median/1000,
				c.of(name, func(f figures) float64 { return f.MB }).median)
		}
		line("")
		for _, name := range c.Contenders {
			if fault := c.Faults[name]; fault != "" {
				line(l.pick("It did not do the same work, so it has no figures: %s.", "没有做同样的事，所以没有数字：%s。")+"\n", fault)
			}
		}
	}

	s := &r.Special
	if len(s.OpenLoop) > 0 {
		line("## %s\n", l.pick("1000 calls a second, begun at their time, upstream of 50 ms", "每秒 1000 次，按时发出，上游 50 ms"))
		line("%s\n", l.pick("Time of a call less what the upstream says that it took, p50 in microseconds, pinned.", "一次调用的时间减去上游自报的时间，p50，微秒，绑核。"))
		line("| | us |\n|---|---|")
		for _, name := range []string{direct, bareProxy, ours} {
			line("| %s | %s |", name, spreadOf(ints(s.OpenLoop[name], 1)).text(0))
		}
		line("")
	}
	if len(s.Start) > 0 {
		line("## %s\n", l.pick("10,000 apps, not pinned", "10,000 个帐号，不绑核"))
		line("| %s | ms | MB |\n|---|---|---|", l.pick("until ready", "到可用为止"))
		for _, rules := range []int{20, 200} {
			line("| "+l.pick("%d rules", "%d 条规则")+" | %s | %.0f |", rules, spreadOf(ints(s.Start[rules], 1000)).text(0), s.MB[rules])
		}
		line("")
		line(l.pick("The slowest of 2000 calls at 1000 a second: %s ms; with a reload (SIGHUP) in between: %s ms.", "每秒 1000 次共 2000 次中最慢的一次：%s 毫秒；其间重新读入配置（SIGHUP）：%s 毫秒。"),
			spreadOf(ints(s.Calm, 1000)).text(1), spreadOf(ints(s.Reload, 1000)).text(1))
		line("")
	}
	line("%s", l.pick(repeatEN, repeatZH))
	return strings.TrimRight(b.String(), "\n") + "\n"
}
