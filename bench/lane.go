package main

import (
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

// lane is a contender with an upstream, and a Redis if it counts there, that it alone uses: so what
// these have counted and cost is its own while others are up, too.
type lane struct {
	*running // the contender; the upstream where there is no proxy
	dir      string
	upstream *running
	redis    *running // may be nil
	client   *redis.Client
	stopped  bool // the contender was

	made, loads int64     // calls of all loads and probes; a load's last ones may have no answer
	turns       []figures // of the round
}

// lane starts a contender and what belongs to it. env is added to its environment.
func (b *bench) lane(ctx context.Context, name string, apps, rules, quota int, env ...string) (l *lane, err error) {
	l = new(lane)
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
			l = nil
		}
	}()
	if l.dir, err = os.MkdirTemp(b.dir, "lane-"); err != nil {
		return l, err
	}
	if l.upstream, err = b.help(ctx, l.dir, b.tools.self, "serve", "upstream", "ADDRESS"); err != nil {
		return l, err
	}
	if name == direct {
		l.running = &running{name: direct, address: l.upstream.address, dir: l.dir, cmd: l.upstream.cmd}
		return l, nil
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return l, err
	}
	set := setup{
		Address: address, Admin: "127.0.0.1:0", Upstream: l.upstream.address,
		Dir: filepath.Join(l.dir, "contender"), Quota: quota, Procs: procs(b.pinned), Root: os.Getuid() == 0, Modules: modulesDir, Refusal: refusalText,
		pinned: b.pinned, env: env,
	}
	for i := range apps {
		set.Apps = append(set.Apps, fmt.Sprintf("wx%016x", i))
	}
	for i := range rules {
		set.Rules = append(set.Rules, fmt.Sprintf("c%02d", i))
	}
	if err := os.Mkdir(set.Dir, 0o750); err != nil {
		return l, err
	}
	if slices.Contains([]string{ours, nginxLua, nginxCounting}, name) {
		l.redis, err = b.help(ctx, l.dir, b.tools.redis, "--bind", "127.0.0.1", "--port", "PORT", "--save", "", "--appendonly", "no", "--maxclients", "4000")
		if err != nil {
			return l, err
		}
		l.client = redis.NewClient(&redis.Options{Addr: l.redis.address})
		set.RedisPort = port(l.redis.address)
	}
	l.running, err = b.tools.start(ctx, name, set)
	return l, err
}

// help starts a helper of a lane, which is pinned where the load is.
func (b *bench) help(ctx context.Context, parent string, argv ...string) (*running, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	for i := range argv {
		argv[i] = strings.NewReplacer("ADDRESS", address, "PORT", strconv.Itoa(port(address))).Replace(argv[i])
	}
	name := filepath.Base(argv[0])
	if b.pinned {
		argv = append([]string{"taskset", "-c", "0"}, argv...)
	}
	dir := filepath.Join(parent, name)
	if err := os.Mkdir(dir, 0o750); err != nil {
		return nil, err
	}
	cmd := command(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(procs(b.pinned)))
	return launch(ctx, name, address, dir, cmd)
}

// stop ends the contender, unless that was done.
func (l *lane) stop() error {
	if l.running == nil || l.stopped || l.name == direct {
		return nil
	}
	l.stopped = true
	return l.running.stop()
}

func (l *lane) close() error {
	errs := []error{l.stop()}
	if l.client != nil {
		errs = append(errs, l.client.Close())
	}
	for _, r := range []*running{l.redis, l.upstream} {
		if r != nil {
			errs = append(errs, r.stop())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(l.dir))...)
}

// spent is the CPU that the contender and its Redis have used.
func (l *lane) spent() (proxy, store time.Duration) {
	all := processes()
	proxy = exact(family(all, l.cmd.Process.Pid))
	if l.redis != nil {
		store = exact(family(all, l.redis.cmd.Process.Pid))
	}
	return proxy, store
}

// sum makes one figure of a round's turns.
func (l *lane) sum() (sum figures) {
	var seconds, proxy, store float64
	var p50s, p99s []float64
	for _, f := range l.turns {
		sum.Turns++
		sum.Calls += f.Calls
		sum.RedisCommands += f.RedisCommands
		sum.MB, sum.Foreign = f.MB, max(sum.Foreign, f.Foreign)
		seconds += float64(f.Calls) / f.PerSecond
		proxy += f.ProxyMicros * float64(f.Calls)
		store += f.RedisMicros * float64(f.Calls)
		p50s, p99s = append(p50s, float64(f.P50)), append(p99s, float64(f.P99))
	}
	calls := float64(sum.Calls)
	sum.PerSecond, sum.ProxyMicros, sum.RedisMicros = calls/seconds, proxy/calls, store/calls
	sum.P50, sum.P99 = int64(spreadOf(p50s).median), int64(spreadOf(p99s).median)
	return sum
}

// probes are made of each app before the load.
const (
	probes     = 2
	probedApps = 16 // at most
)

// probe compares the answers with those that all must give.
func (b *bench) probe(ctx context.Context, s scenario, l *lane) error {
	want := answerText
	if s.refused && l.name == handler {
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
			got, err := fetch(ctx, method, "http://"+l.address+base+"/cgi-bin/bench/c"+fmt.Sprintf("%02d", i)+"?lang=zh_CN", body)
			if err != nil {
				return err
			}
			if got != want {
				return fmt.Errorf("%s %s answers %q: want %q", l.name, method, got, want)
			}
		}
	}
	l.made += int64(probes * min(s.apps, probedApps))
	return nil
}

// check ends a contender and compares the calls that were made with those that the upstream has seen,
// that were counted, and that are in the access log. At the end of a load each connection has a call
// under way.
func (b *bench) check(ctx context.Context, s scenario, l *lane) error {
	if l.name == direct {
		return nil
	}
	if err := l.stop(); err != nil {
		return err
	}
	under := l.loads*int64(2*s.conns) + 2
	slack := under
	near := func(what string, got, want int64) error {
		if got < want || got > want+slack {
			return fmt.Errorf("%d %s for %d calls", got, what, want)
		}
		return nil
	}
	saw, err := l.seen(ctx)
	if err != nil {
		return err
	}
	executed := l.made
	switch {
	case s.refused && l.name == handler:
		executed, slack = 0, 0
	case s.refused:
		executed, slack = int64(counters*s.apps), 0
	}
	errs := []error{near("calls executed", saw.Gets+saw.Posts, executed)}
	if saw.Wrong > 0 {
		errs = append(errs, fmt.Errorf("%d bodies arrived changed", saw.Wrong))
	}
	if cycle := 256 * int64(s.apps) * l.loads; s.mode == "mixed" && !s.refused && (saw.Posts*4 < executed-slack*4-cycle || saw.Posts*4 > executed+slack*4+cycle) {
		errs = append(errs, fmt.Errorf("%d of %d calls are a POST: want a quarter", saw.Posts, executed))
	}
	if l.redis != nil {
		counted, err := l.counted(ctx, l.name)
		if err != nil {
			return err
		}
		// Never fewer than were executed. Calls whose client has gone before they left are counted by nginx.
		if over := counted - (saw.Gets + saw.Posts); over < 0 || over > slack {
			errs = append(errs, fmt.Errorf("%d calls are counted, %d executed", counted, saw.Gets+saw.Posts))
		}
	}
	if lines := l.logLines(); lines >= 0 {
		slack = under
		errs = append(errs, near("lines in the access log", lines, l.made))
	}
	if err := errors.Join(errs...); err != nil {
		return otherWorkError{what: strings.ReplaceAll(err.Error(), "\n", "; "), said: l.decisions()}
	}
	return nil
}

// otherWorkError says what a contender did otherwise than all others, so that its figures are not shown.
type otherWorkError struct{ what, said string }

func (e otherWorkError) Error() string { return e.what + "\n" + e.said }

// seen asks the upstream what it was asked for.
func (l *lane) seen(ctx context.Context) (s seen, err error) {
	text, err := fetch(ctx, http.MethodGet, "http://"+l.upstream.address+"/-/", "")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(text), &s)
}

// counted adds up a contender's counters in Redis.
func (l *lane) counted(ctx context.Context, name string) (sum int64, err error) {
	if name != ours {
		keys, err := l.client.Keys(ctx, "bench:*").Result()
		if err != nil || len(keys) == 0 {
			return 0, err
		}
		values, err := l.client.MGet(ctx, keys...).Result()
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
		return sum, nil
	}
	keys, err := l.client.Keys(ctx, "wxp*:d2*").Result()
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		fields, err := l.client.HGetAll(ctx, key).Result()
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
	return sum, nil
}

// scripts returns how many scripts Redis was asked to run: what a counter in Redis costs it.
func (l *lane) scripts(ctx context.Context) (sum int64, err error) {
	if l.redis == nil {
		return 0, nil
	}
	text, err := l.client.Info(ctx, "commandstats").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, err
	}
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
