package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// scenario is one kind of load, and who stands it.
type scenario struct {
	name       string
	mode       string // of files/load.lua
	conns      int
	apps       int // 1 unless told
	rules      int // 64 unless told
	quota      int // 5,000,000 unless told
	refused    bool
	unpinned   bool
	rounds     int // as many as asked for, unless told: no gate is about it
	contenders []string
}

// counters are the rules of an app unless a scenario says otherwise.
const counters = 64

// foreignLoad is how much of one core others may use during a measurement.
const foreignLoad = 0.15

// scenarios are in the order in which they matter.
func scenarios() []scenario {
	return []scenario{
		{name: "forwarded-32", mode: "mixed", conns: 32, contenders: []string{bareProxy, ours, nginxLua, nginxCounting, nginx, caddy, haproxy}},
		{name: "forwarded-128", mode: "mixed", conns: 128, contenders: []string{bareProxy, ours, nginxLua, nginxCounting, caddy}},
		{name: "refused", mode: "mixed", conns: 32, quota: 1, refused: true, contenders: []string{handler, ours, nginxLua}},
		{name: "one-by-one", mode: "mixed", conns: 32, apps: 16, quota: 1000, contenders: []string{bareProxy, ours, nginxLua}},
		{name: "one-by-one-shared", mode: "eight", conns: 32, apps: 16, quota: 1000, rounds: 3, contenders: []string{bareProxy, ours}},
		{name: "post-2k", mode: "post2k", conns: 32, rounds: 3, contenders: []string{bareProxy, ours, nginxLua}},
		{name: "hot-key", mode: "hot", conns: 32, rounds: 3, contenders: []string{bareProxy, ours, nginxLua}},
		{name: "alone", mode: "mixed", conns: 1, contenders: []string{direct, bareProxy, ours, nginxLua}},
		{name: "forwarded-1000", mode: "mixed", conns: 1000, rounds: 3, contenders: []string{bareProxy, ours, nginxLua}},
		{name: "apps-10000", mode: "many", conns: 32, apps: manyApps, rules: 20, rounds: 3, contenders: []string{bareProxy, ours, nginxLua}},
		{name: "media-down", mode: "down", conns: 8, rounds: 3, contenders: []string{bareProxy, ours, nginxLua}},
		{name: "media-up", mode: "up", conns: 8, rounds: 3, contenders: []string{bareProxy, ours, nginxLua}},
		{name: "unpinned-forwarded-32", mode: "mixed", conns: 32, unpinned: true, rounds: 3, contenders: []string{bareProxy, ours, nginxLua, caddy}},
		{name: "unpinned-refused", mode: "mixed", conns: 32, quota: 1, refused: true, unpinned: true, rounds: 3, contenders: []string{handler, ours, nginxLua}},
	}
}

// all runs every case and the special measurements: those that gates are about first, and pinned
// before not pinned.
func (b *bench) all(ctx context.Context) error {
	for _, unpinned := range []bool{false, true} {
		if err := b.site(ctx, !unpinned); err != nil {
			return err
		}
		for _, orientation := range []bool{false, true} {
			for _, s := range scenarios() {
				if s.unpinned != unpinned || (s.rounds > 0) != orientation || !strings.HasPrefix(s.name, b.only) {
					continue
				}
				if err := b.rounds(ctx, s); err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
			}
			if orientation || !strings.HasPrefix("specials", b.only) {
				continue
			}
			specials := b.pinnedSpecials
			if unpinned {
				specials = b.unpinnedSpecials
			}
			if err := specials(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// attempts bounds how often a measurement is repeated because others used the machine.
const attempts = 20

// rounds runs one case: all its contenders in turn, again and again. What was measured while others
// used the machine is dropped and measured again, and nothing is dropped for any other reason.
func (b *bench) rounds(ctx context.Context, s scenario) error {
	s.apps, s.quota = cmp.Or(s.apps, 1), cmp.Or(s.quota, 5_000_000)
	s.contenders = slices.DeleteFunc(slices.Clone(s.contenders), func(name string) bool { return !b.tools.available(name) })
	rounds := min(b.options.rounds, cmp.Or(s.rounds, b.options.rounds))
	c := b.results.find(s.name)
	if c.Name == "" {
		b.results.Cases = append(b.results.Cases, result{
			Name: s.name, Contenders: s.contenders, Conns: s.conns, Figures: make(map[string][]figures), Faults: make(map[string]string),
		})
		c = b.results.find(s.name)
	}
	for len(c.Figures[s.contenders[0]]) < rounds {
		round := make(map[string]figures)
		for _, name := range s.contenders {
			if c.Faults[name] != "" {
				continue
			}
			f, err := b.measureQuiet(ctx, s, name, &c.Dropped)
			if wrong, ok := errors.AsType[otherWorkError](err); ok {
				say("%s: %v", s.name, wrong)
				c.Faults[name] = wrong.what
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			round[name] = f
		}
		for name, f := range round {
			c.Figures[name] = append(c.Figures[name], f)
		}
	}
	return nil
}

// measureQuiet measures until others have left the machine alone while it did. It counts what it
// had to drop.
func (b *bench) measureQuiet(ctx context.Context, s scenario, name string, dropped *int) (figures, error) {
	calm := time.Second
	for range attempts {
		if err := b.awaitQuiet(ctx, calm); err != nil {
			return figures{}, err
		}
		f, err := b.measure(ctx, s, name)
		if _, wrong := errors.AsType[otherWorkError](err); err != nil && (!wrong || f.Foreign <= foreignLoad) {
			return f, err
		}
		say("%-22s %-20s %8.0f/s %6.1f + %4.1f us  p50 %d us, p99 %d us, %.0f MB, others %.0f %%, %.1f scripts/1000",
			s.name, name, f.PerSecond, f.ProxyMicros, f.RedisMicros, f.P50, f.P99, f.MB, 100*f.Foreign, 1000*float64(f.RedisCommands)/float64(max(f.Calls, 1)))
		if f.Foreign <= foreignLoad {
			return f, nil
		}
		*dropped++
		calm = 5 * time.Second
	}
	return figures{}, errors.New("others use the machine all the time")
}

// awaitQuiet waits until others leave the machine alone for a while.
func (b *bench) awaitQuiet(ctx context.Context, calm time.Duration) error {
	pids := [2]int{b.redis.cmd.Process.Pid, b.upstream.cmd.Process.Pid}
	for began := time.Now(); time.Since(began) < b.wait; {
		before, err := readUsage(pids[0], pids[1])
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(calm):
		}
		after, err := readUsage(pids[0], pids[1])
		if err != nil {
			return err
		}
		if after.foreign(before) <= foreignLoad {
			return nil
		}
	}
	say("the machine does not get quiet")
	return nil
}

// setup prepares a contender's folder and settings.
func (b *bench) setup(ctx context.Context, apps, rules, quota int) (setup, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return setup{}, err
	}
	dir, err := os.MkdirTemp(b.dir, "contender-")
	s := setup{
		Address: address, Admin: "127.0.0.1:0", Upstream: b.upstream.address, RedisPort: port(b.redis.address),
		Dir: dir, Quota: quota, Procs: procs(b.pinned), Root: os.Getuid() == 0, Modules: modulesDir, Refusal: refusalText,
		pinned: b.pinned,
	}
	for i := range apps {
		s.Apps = append(s.Apps, fmt.Sprintf("wx%016x", i))
	}
	for i := range rules {
		s.Rules = append(s.Rules, fmt.Sprintf("c%02d", i))
	}
	return s, errors.Join(err, b.client.FlushAll(ctx).Err())
}

// measure starts a contender, lets it warm up, loads it, and checks that it did what all do.
func (b *bench) measure(ctx context.Context, s scenario, name string) (f figures, err error) {
	set, err := b.setup(ctx, s.apps, cmp.Or(s.rules, counters), s.quota)
	if err != nil {
		return f, err
	}
	defer os.RemoveAll(set.Dir)
	contender := b.upstream
	if name != direct {
		if contender, err = b.tools.start(ctx, name, set); err != nil {
			return f, err
		}
		defer func() {
			if contender != nil {
				err = errors.Join(err, contender.stop())
			}
		}()
	}
	if _, err := b.counts(ctx, true); err != nil {
		return f, err
	}
	if err := b.probe(ctx, s, contender); err != nil {
		return f, err
	}
	warmUp := time.Second
	if s.refused {
		warmUp *= 2 // a counter that has just filled up is stated once more a second later
	}
	warm, err := b.wrk(ctx, contender.address, s.mode, s.apps, s.conns, warmUp)
	if err != nil {
		return f, err
	}
	if s.refused {
		got, err := fetch(ctx, http.MethodGet, "http://"+contender.address+"/cgi-bin/bench/c00", "")
		if err != nil || got != refusalText {
			return f, fmt.Errorf("a refusal is %q: want %q (%w)", got, refusalText, err)
		}
		warm.Calls++
	}
	commands, err := b.commands(ctx)
	if err != nil {
		return f, err
	}
	pid := contender.cmd.Process.Pid
	before, err := readUsage(pid, b.redis.cmd.Process.Pid)
	if err != nil {
		return f, err
	}
	l, failed := b.wrk(ctx, contender.address, s.mode, s.apps, s.conns, b.window)
	after, err := readUsage(pid, b.redis.cmd.Process.Pid)
	f.Foreign = after.foreign(before)
	if err := errors.Join(failed, err); err != nil {
		return f, err
	}
	commandsNow, err := b.commands(ctx)
	if err != nil {
		return f, err
	}
	perCall := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / float64(l.Calls) }
	proxy, store := after.proxy.cpu-before.proxy.cpu, after.redis.cpu-before.redis.cpu
	f = figures{
		Calls:         l.Calls,
		PerSecond:     float64(l.Calls) * 1e6 / float64(l.Micros),
		ProxyMicros:   perCall(proxy),
		RedisMicros:   perCall(store),
		P50:           l.P50,
		P99:           l.P99,
		MB:            float64(after.proxy.rssBytes) / (1 << 20),
		Foreign:       after.foreign(before),
		RedisCommands: commandsNow - commands,
	}
	if name == direct {
		return f, nil
	}
	made := warm.Calls + l.Calls + probes*int64(min(s.apps, probedApps)) // as many as ended; a few more were under way
	ended := contender
	contender = nil
	if err := ended.stop(); err != nil {
		return f, err
	}
	return f, b.check(ctx, s, ended, made)
}

// probes are made of each app before the load.
const (
	probes     = 2
	probedApps = 16 // at most
)

// probe compares the answers with those that all must give.
func (b *bench) probe(ctx context.Context, s scenario, c *running) error {
	want := answerText
	if s.refused && c.name == handler {
		want = refusalText
	}
	for app := range min(s.apps, probedApps) {
		base := ""
		if s.apps > 1 {
			base = fmt.Sprintf("/wx%016x", app)
		}
		for i, method := range []string{http.MethodGet, http.MethodPost} {
			body := ""
			if method == http.MethodPost {
				body = smallBody
			}
			got, err := fetch(ctx, method, "http://"+c.address+base+"/cgi-bin/bench/c"+fmt.Sprintf("%02d", i)+"?lang=zh_CN", body)
			if err != nil {
				return err
			}
			if got != want {
				return fmt.Errorf("%s %s answers %q: want %q", c.name, method, got, want)
			}
		}
	}
	return nil
}

// check compares the calls that were made with those that the upstream has seen, that were counted,
// and that are in the access log. At the end of a load each connection has a call under way.
func (b *bench) check(ctx context.Context, s scenario, c *running, made int64) error {
	slack := int64(2*s.conns + 2)
	near := func(what string, got, want int64) error {
		if got < want || got > want+slack {
			return fmt.Errorf("%s: %d %s for %d calls", c.name, got, what, want)
		}
		return nil
	}
	saw, err := b.counts(ctx, false)
	if err != nil {
		return err
	}
	executed := made
	switch {
	case s.refused && c.name == handler:
		executed, slack = 0, 0
	case s.refused:
		executed, slack = int64(counters*s.apps), 0
	}
	errs := []error{near("calls executed", saw.Gets+saw.Posts, executed)}
	if saw.Wrong > 0 {
		errs = append(errs, fmt.Errorf("%s: %d bodies arrived changed", c.name, saw.Wrong))
	}
	if s.mode == "mixed" && !s.refused && (saw.Posts*4 < executed-slack*4 || saw.Posts*4 > executed+slack*4+int64(256*s.apps)) {
		errs = append(errs, fmt.Errorf("%s: %d of %d calls are a POST: want a quarter", c.name, saw.Posts, executed))
	}
	counted, err := b.counted(ctx, c.name)
	if err != nil {
		return err
	}
	if counted >= 0 {
		// Never fewer than were executed. Calls whose client has gone before they left are counted by nginx.
		if over := counted - (saw.Gets + saw.Posts); over < 0 || over > slack {
			errs = append(errs, fmt.Errorf("%s: %d calls are counted, %d executed", c.name, counted, saw.Gets+saw.Posts))
		}
	}
	if lines := c.logLines(); lines >= 0 {
		slack = int64(2*s.conns + 2)
		errs = append(errs, near("lines in the access log", lines, made))
	}
	if err := errors.Join(errs...); err != nil {
		return otherWorkError{what: strings.ReplaceAll(err.Error(), "\n", "; "), said: c.decisions()}
	}
	return nil
}

// otherWorkError is of a contender that did not do what all do: its figures are not shown.
type otherWorkError struct{ what, said string }

func (e otherWorkError) Error() string { return e.what + "\n" + e.said }

// counts asks the upstream what it has seen.
func (b *bench) counts(ctx context.Context, reset bool) (seen, error) {
	var s seen
	query := "?x"
	if reset {
		query = "?reset"
	}
	text, err := fetch(ctx, http.MethodGet, "http://"+b.upstream.address+"/-/"+query, "")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(text), &s)
}

// counted adds up the counters in Redis; -1 for a contender that has none.
func (b *bench) counted(ctx context.Context, name string) (int64, error) {
	var sum int64
	switch name {
	case ours:
		keys, err := b.client.Keys(ctx, "wxp*:d2*").Result()
		if err != nil {
			return 0, err
		}
		for _, key := range keys {
			fields, err := b.client.HGetAll(ctx, key).Result()
			if err != nil {
				return 0, err
			}
			for field, text := range fields {
				if f := strings.Fields(text); !strings.Contains(field, "|") && len(f) >= 3 && (field[0] == 'c' || field == "media") {
					n, err := strconv.ParseInt(f[1], 10, 64)
					if err != nil {
						return 0, err
					}
					sum += n
				}
			}
		}
	case nginxLua, nginxCounting:
		keys, err := b.client.Keys(ctx, "bench:*").Result()
		if err != nil || len(keys) == 0 {
			return 0, err
		}
		values, err := b.client.MGet(ctx, keys...).Result()
		if err != nil {
			return 0, err
		}
		for _, v := range values {
			n, err := strconv.ParseInt(fmt.Sprint(v), 10, 64)
			if err != nil {
				return 0, err
			}
			sum += n
		}
	default:
		return -1, nil
	}
	return sum, nil
}

// commands returns how many scripts Redis was asked to run: what a counter in Redis costs it.
func (b *bench) commands(ctx context.Context) (int64, error) {
	text, err := b.client.Info(ctx, "commandstats").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, err
	}
	var sum int64
	for line := range strings.Lines(text) {
		for _, name := range []string{"eval", "evalsha"} {
			if rest, ok := strings.CutPrefix(line, "cmdstat_"+name+":calls="); ok {
				count, _, _ := strings.Cut(rest, ",")
				n, err := strconv.ParseInt(count, 10, 64)
				if err != nil {
					return 0, err
				}
				sum += n
			}
		}
	}
	return sum, nil
}

// profile writes a CPU profile of wxproxy under the first case.
func (b *bench) profile(ctx context.Context, to string) error {
	if err := b.site(ctx, true); err != nil {
		return err
	}
	to, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	// A file more in the program, which the repository's own does not have.
	extra, err := filepath.Abs("cmd/wxproxy/zz_profile.go")
	if err != nil {
		return err
	}
	text, err := files.ReadFile("files/profile.go.txt")
	if err != nil {
		return err
	}
	source := filepath.Join(b.dir, "profile.go")
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {extra: source}})
	if err != nil {
		return err
	}
	file := filepath.Join(b.dir, "overlay.json")
	if err := errors.Join(os.WriteFile(source, text, 0o600), os.WriteFile(file, overlay, 0o600)); err != nil {
		return err
	}
	b.tools.wxproxy = filepath.Join(b.dir, "wxproxy")
	if err := build(ctx, b.tools.wxproxy, "-overlay", file); err != nil {
		return err
	}
	set, err := b.setup(ctx, 1, 64, 5_000_000)
	if err != nil {
		return err
	}
	set.env = []string{"BENCH_PROFILE=" + to, "BENCH_PROFILE_FOR=" + b.window.String()}
	r, err := b.tools.start(ctx, ours, set)
	if err != nil {
		return err
	}
	mode := "mixed"
	if b.only != "" {
		mode = b.only
	}
	_, err = b.wrk(ctx, r.address, mode, 1, 32, b.window+3*time.Second)
	return errors.Join(err, r.stop())
}
