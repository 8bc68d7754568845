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
	"strings"
	"time"
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
		{name: "one-by-one-shared", mode: "eight", conns: 32, apps: 16, quota: 1000, contenders: []string{bareProxy, ours}},
		{name: "post-2k", mode: "post2k", conns: 32, rounds: 3, contenders: []string{bareProxy, ours, nginxLua}},
		{name: "hot-key", mode: "hot", conns: 32, rounds: 3, contenders: []string{bareProxy, ours, nginxLua}},
		{name: "alone", mode: "mixed", conns: 1, contenders: []string{direct, bareProxy, ours, nginxLua}},
		{name: "forwarded-1000", mode: "mixed", conns: 1000, contenders: []string{bareProxy, ours, nginxLua}},
		{name: "apps-10000", mode: "many", conns: 32, apps: manyApps, rules: 20, contenders: []string{bareProxy, ours, nginxLua}},
		{name: "media-down", mode: "down", conns: 8, contenders: []string{bareProxy, ours, nginxLua}},
		{name: "media-up", mode: "up", conns: 8, contenders: []string{bareProxy, ours, nginxLua}},
		{name: "unpinned-forwarded-32", mode: "mixed", conns: 32, unpinned: true, rounds: 3, contenders: []string{bareProxy, ours, nginxLua, caddy}},
		{name: "unpinned-refused", mode: "mixed", conns: 32, quota: 1, refused: true, unpinned: true, rounds: 3, contenders: []string{handler, ours, nginxLua}},
	}
}

// all runs every case and the special measurements: those that gates are about first, and pinned
// before not pinned.
func (b *bench) all(ctx context.Context) error {
	for _, unpinned := range []bool{false, true} {
		b.pinned = !unpinned
		for _, orientation := range []bool{false, true} {
			for _, s := range scenarios() {
				if s.unpinned != unpinned || (s.rounds > 0) != orientation || !strings.HasPrefix(s.name, b.only) || b.results.find(s.name).Name != "" {
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

// turn is how long a contender is measured before it is the next one's turn. What the machine does
// otherwise, or its host, comes and goes within seconds, so that it meets all contenders alike.
const turn = time.Second

// rounds runs one case. In each round the contenders are started, warmed up, loaded in turn for as many
// seconds as the window has, and checked.
func (b *bench) rounds(ctx context.Context, s scenario) error {
	s.apps, s.rules, s.quota = cmp.Or(s.apps, 1), cmp.Or(s.rules, counters), cmp.Or(s.quota, 5_000_000)
	s.contenders = slices.DeleteFunc(slices.Clone(s.contenders), func(name string) bool { return !b.tools.available(name) })
	c := result{
		Name: s.name, Contenders: s.contenders, Conns: s.conns, Figures: make(map[string][]figures), Faults: make(map[string]string),
	}
	for range min(b.options.rounds, cmp.Or(s.rounds, b.options.rounds)) {
		if err := b.awaitQuiet(ctx, time.Second); err != nil {
			return err
		}
		if err := b.round(ctx, s, &c); err != nil {
			return err
		}
	}
	b.results.Cases = append(b.results.Cases, c)
	return nil
}

// round adds a figure of each contender to c, or what it did otherwise than all.
func (b *bench) round(ctx context.Context, s scenario, c *result) (err error) {
	lanes := make([]*lane, 0, len(s.contenders))
	defer func() {
		for _, l := range lanes {
			err = errors.Join(err, l.close())
		}
	}()
	// fault keeps the faults of a contender apart from those of the run.
	fault := func(l *lane, err error) error {
		wrong, ok := errors.AsType[otherWorkError](err)
		if !ok {
			return err
		}
		say("%s: %s: %v", s.name, l.name, wrong)
		c.Faults[l.name] = wrong.what
		delete(c.Figures, l.name)
		return nil
	}
	for _, name := range s.contenders {
		if c.Faults[name] != "" {
			continue
		}
		l, err := b.lane(ctx, name, s.apps, s.rules, s.quota)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		lanes = append(lanes, l)
		if err := fault(l, b.warmUp(ctx, s, l)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for range b.window / turn {
		for _, l := range lanes {
			if c.Faults[l.name] != "" {
				continue
			}
			if err := fault(l, b.turn(ctx, s, l, &c.Dropped)); err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
		}
		slices.Reverse(lanes)
	}
	for _, l := range lanes {
		if c.Faults[l.name] != "" {
			continue
		}
		f := l.sum()
		if err := fault(l, b.check(ctx, s, l)); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		if c.Faults[l.name] == "" {
			c.Figures[l.name] = append(c.Figures[l.name], f)
			say("%-22s %-22s %8.0f/s %6.1f + %4.1f us  p50 %d us, p99 %d us, %.0f MB, others %.0f %%, %.1f scripts/1000",
				s.name, l.name, f.PerSecond, f.ProxyMicros, f.RedisMicros, f.P50, f.P99, f.MB, 100*f.Foreign, 1000*float64(f.RedisCommands)/float64(f.Calls))
		}
	}
	return nil
}

// turn loads a contender for a moment, and for another one that is measured. What was measured while
// others used the machine is dropped and measured again, and nothing is dropped for any other reason.
func (b *bench) turn(ctx context.Context, s scenario, l *lane, dropped *int) error {
	for range attempts {
		if err := b.spareMemory(); err != nil {
			return err
		}
		if _, err := b.load(ctx, s, l, time.Second); err != nil {
			return err
		}
		f, err := b.measure(ctx, s, l)
		if f.Foreign <= foreignLoad {
			if err == nil {
				l.turns = append(l.turns, f)
			}
			return err
		}
		if _, wrong := errors.AsType[otherWorkError](err); err != nil && !wrong {
			return err
		}
		*dropped++
		if err := b.awaitQuiet(ctx, 5*time.Second); err != nil {
			return err
		}
	}
	return errors.New("others use the machine all the time")
}

// awaitQuiet waits until others leave the machine alone for a while.
func (b *bench) awaitQuiet(ctx context.Context, calm time.Duration) error {
	for began := time.Now(); time.Since(began) < b.wait; {
		before, err := readUsage()
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(calm):
		}
		after, err := readUsage()
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

// warmUp sees that a contender answers as all do, and loads it for a while.
func (b *bench) warmUp(ctx context.Context, s scenario, l *lane) error {
	if err := b.probe(ctx, s, l); err != nil {
		return err
	}
	// A counter that has just filled up is stated once more a second later.
	if _, err := b.load(ctx, s, l, 2*time.Second); err != nil || !s.refused {
		return err
	}
	got, err := fetch(ctx, http.MethodGet, "http://"+l.address+"/cgi-bin/bench/c00", "")
	if err != nil || got != refusalText {
		return fmt.Errorf("a refusal is %q: want %q (%w)", got, refusalText, err)
	}
	l.made++
	return nil
}

// load loads a contender.
func (b *bench) load(ctx context.Context, s scenario, l *lane, d time.Duration) (loaded, error) {
	got, err := b.wrk(ctx, l.address, s.mode, s.apps, s.conns, d)
	l.made += got.Calls
	l.loads++
	return got, err
}

// measure loads a contender for a turn.
func (b *bench) measure(ctx context.Context, s scenario, l *lane) (f figures, err error) {
	scripts, err := l.scripts(ctx)
	if err != nil {
		return f, err
	}
	before, err := readUsage()
	if err != nil {
		return f, err
	}
	proxy, store := l.spent()
	got, failed := b.load(ctx, s, l, turn)
	proxyNow, storeNow := l.spent()
	after, err := readUsage()
	f.Foreign = after.foreign(before)
	if err := errors.Join(failed, err); err != nil {
		return f, err
	}
	scriptsNow, err := l.scripts(ctx)
	perCall := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / float64(got.Calls) }
	return figures{
		Turns:         1,
		Calls:         got.Calls,
		PerSecond:     float64(got.Calls) * 1e6 / float64(got.Micros),
		ProxyMicros:   perCall(proxyNow - proxy),
		RedisMicros:   perCall(storeNow - store),
		P50:           got.P50,
		P99:           got.P99,
		MB:            rssMB(family(processes(), l.cmd.Process.Pid)),
		Foreign:       f.Foreign,
		RedisCommands: scriptsNow - scripts,
	}, err
}

// profile writes a CPU profile of wxproxy under the first case that was asked for.
func (b *bench) profile(ctx context.Context, to string) error {
	b.pinned = true
	at := slices.IndexFunc(scenarios(), func(s scenario) bool { return strings.HasPrefix(s.name, b.only) })
	if at < 0 {
		return fmt.Errorf("no case's name begins with %q", b.only)
	}
	s := scenarios()[at]
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
	apps := cmp.Or(s.apps, 1)
	l, err := b.lane(ctx, ours, apps, cmp.Or(s.rules, counters), cmp.Or(s.quota, 5_000_000), "BENCH_PROFILE="+to, "BENCH_PROFILE_FOR="+b.window.String())
	if err != nil {
		return err
	}
	_, err = b.wrk(ctx, l.address, s.mode, apps, s.conns, b.window+3*time.Second)
	return errors.Join(err, l.close())
}
