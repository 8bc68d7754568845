package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// special holds what is not a load by wrk. Times are microseconds.
type special struct {
	OpenLoop map[string][]int64 // p50 at 1000 calls a second by contender, less the upstream's 50 ms
	Redis    []float64          // scripts that Redis ran for each 1000 calls at 5000 calls a second
	Start    map[int][]int64    // until ready, of 10,000 apps, by rules
	MB       map[int]float64    // then, by rules
	Calm     []int64            // slowest call at 1000 calls a second
	Reload   []int64            // the same with a reload of 10,000 apps in between
	Go       []goBenchmark
}

// goBenchmark is a line of `go test -bench`.
type goBenchmark struct {
	Name   string
	Nanos  float64
	Allocs int64
}

// pinnedSpecials measures what a call is delayed by, and how often Redis is asked.
func (b *bench) pinnedSpecials(ctx context.Context) error {
	s := &b.results.Special
	if s.OpenLoop == nil {
		s.OpenLoop = make(map[string][]int64)
	}
	for len(s.Redis) < b.options.rounds {
		round := make(map[string]int64)
		for _, name := range []string{direct, bareProxy, ours} {
			p, _, err := b.openLoop(ctx, name, 1000, "50ms")
			if err != nil {
				return fmt.Errorf("open loop, %s: %w", name, err)
			}
			round[name] = p.at(0.5)
			say("open loop at 1000/s: %-10s p50 %d us, p99 %d us beside the upstream's 50 ms", name, p.at(0.5), p.at(0.99))
		}
		p, commands, err := b.openLoop(ctx, ours, 5000, "0s")
		if err != nil {
			return fmt.Errorf("5000 calls a second: %w", err)
		}
		for name, p50 := range round {
			s.OpenLoop[name] = append(s.OpenLoop[name], p50)
		}
		s.Redis = append(s.Redis, 1000*float64(commands)/float64(p.Calls))
		say("5000/s: %d scripts in Redis for %d calls", commands, p.Calls)
	}
	return nil
}

// openLoop is pacedOnce on a machine that others leave alone: it is done again if they did
// not.
func (b *bench) openLoop(ctx context.Context, name string, rate int, delay string) (p *paced, scripts int64, err error) {
	for range attempts {
		if err := b.awaitQuiet(ctx, 3*time.Second); err != nil {
			return nil, 0, err
		}
		before, err1 := readUsage()
		p, scripts, err = b.pacedOnce(ctx, name, rate, delay)
		after, err2 := readUsage()
		if err := errors.Join(err1, err2); err != nil {
			return nil, 0, err
		}
		foreign := after.foreign(before)
		if ctx.Err() != nil || foreign <= foreignLoad {
			break
		}
		say("open loop: once more, because others used %.0f %% of a core", 100*foreign)
	}
	return p, scripts, err
}

// pacedOnce paces calls of one rule through a contender. It returns how many scripts Redis ran too.
func (b *bench) pacedOnce(ctx context.Context, name string, rate int, delay string) (p *paced, scripts int64, err error) {
	l, err := b.lane(ctx, name, 1, counters, 5_000_000)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	if _, err := fetch(ctx, http.MethodGet, "http://"+l.upstream.address+"/-/?delay="+delay, ""); err != nil {
		return nil, 0, err
	}
	target := "http://" + l.address + "/cgi-bin/bench/c00?lang=zh_CN"
	if _, err := b.paced(ctx, target, rate, time.Second); err != nil {
		return nil, 0, err
	}
	before, err := l.scripts(ctx)
	if err != nil {
		return nil, 0, err
	}
	if p, err = b.paced(ctx, target, rate, b.window); err != nil {
		return nil, 0, err
	}
	after, err := l.scripts(ctx)
	return p, after - before, err
}

// manyApps is how many apps the configuration of unpinnedSpecials has.
const manyApps = 10_000

// unpinnedSpecials measures the start and the reload of a large configuration.
func (b *bench) unpinnedSpecials(ctx context.Context) error {
	s := &b.results.Special
	if s.Start == nil {
		s.Start, s.MB = make(map[int][]int64), make(map[int]float64)
	}
	for len(s.Start[200]) < b.options.rounds {
		if err := b.awaitQuiet(ctx, 3*time.Second); err != nil {
			return err
		}
		for _, rules := range []int{20, 200} {
			if err := b.startAndReload(ctx, rules); err != nil {
				return fmt.Errorf("%d apps: %w", manyApps, err)
			}
		}
	}
	if len(s.Go) > 0 {
		return nil
	}
	if err := b.awaitQuiet(ctx, 3*time.Second); err != nil {
		return err
	}
	return b.goBenchmarks(ctx)
}

func (b *bench) startAndReload(ctx context.Context, rules int) (err error) {
	s := &b.results.Special
	l, err := b.lane(ctx, ours, manyApps, rules, 5_000_000)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	// Connections are taken before the gateway is complete.
	began := time.Now()
	if _, err := fetch(ctx, http.MethodGet, "http://"+l.address+"/-/healthy", ""); err != nil {
		return err
	}
	took := (l.started + time.Since(began)).Microseconds()
	s.Start[rules] = append(s.Start[rules], took)
	s.MB[rules] = rssMB(family(processes(), l.cmd.Process.Pid))
	if rules != 20 {
		say("%d apps, %d rules: ready after %d ms, %.0f MB", manyApps, rules, took/1000, s.MB[rules])
		return nil
	}
	target := "http://" + l.address + "/wx0000000000000000/cgi-bin/bench/c00?lang=zh_CN"
	if _, err := b.paced(ctx, target, 1000, time.Second); err != nil {
		return err
	}
	calm, err := b.paced(ctx, target, 1000, 2*time.Second)
	if err != nil {
		return err
	}
	go func() {
		time.Sleep(time.Second)
		_ = l.cmd.Process.Signal(syscall.SIGHUP) // that it was heard is seen below
	}()
	busy, err := b.paced(ctx, target, 1000, 2*time.Second)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(l.running.dir + "/stderr.log")
	if err != nil {
		return err
	}
	if !bytes.Contains(text, []byte("configuration reloaded")) {
		return fmt.Errorf("no word of a reload:\n%s", text)
	}
	s.Calm = append(s.Calm, calm.at(1))
	s.Reload = append(s.Reload, busy.at(1))
	say("%d apps, %d rules: ready after %d ms, %.0f MB; slowest call %d us, with a reload %d us", manyApps, rules, took/1000, s.MB[rules], calm.at(1), busy.at(1))
	return nil
}

// goBenchmarks runs those of limits that a gate is about.
func (b *bench) goBenchmarks(ctx context.Context) error {
	cmd := command(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkTake$/^redis$/^(counted|full)$/^alone$|^BenchmarkCanonicalAndMatch$", "-benchmem", "./limits")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go test -bench: %w\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line) // name n 123 ns/op 0 B/op 0 allocs/op
		if len(f) != 8 || f[3] != "ns/op" {
			continue
		}
		nanos, err1 := strconv.ParseFloat(f[2], 64)
		allocs, err2 := strconv.ParseInt(f[6], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		name := strings.TrimPrefix(f[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i]
		}
		b.results.Special.Go = append(b.results.Special.Go, goBenchmark{name, nanos, allocs})
	}
	return nil
}
