package alert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// memory is a store in memory, by the clock of the test. While down it answers nothing.
type memory struct {
	mu     sync.Mutex
	values map[string]kept
	down   bool
}

type kept struct {
	value []byte
	until time.Time // zero: for ever
}

var errDown = errors.New("the store is down")

// locked calls do with the present value of a key.
func (m *memory) locked(key string, do func(present []byte) (kept, bool)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return errDown
	}
	k := m.values[key]
	if !k.until.IsZero() && !time.Now().Before(k.until) {
		k = kept{}
	}
	if next, ok := do(k.value); ok {
		m.values[key] = next
	}
	return nil
}

func (m *memory) Get(_ context.Context, app, key string) (value []byte, err error) {
	err = m.locked(app+"/"+key, func(present []byte) (kept, bool) { value = bytes.Clone(present); return kept{}, false })
	return value, err
}

func (m *memory) Update(_ context.Context, app, key string, _ []byte, change func([]byte) ([]byte, time.Duration, error)) error {
	var failed error
	err := m.locked(app+"/"+key, func(present []byte) (kept, bool) {
		next, expiry, err := change(present)
		failed = err
		return kept{next, time.Now().Add(expiry)}, err == nil && len(next) > 0
	})
	return errors.Join(failed, err)
}

func (m *memory) Lease(_ context.Context, app, key, holder string, expiry time.Duration) (held bool, err error) {
	err = m.locked(app+"/lease/"+key, func(present []byte) (kept, bool) {
		held = present == nil || string(present) == holder
		return kept{[]byte(holder), time.Now().Add(expiry)}, held
	})
	return held, err
}

func (m *memory) Release(_ context.Context, app, key, holder string) error {
	return m.locked(app+"/lease/"+key, func(present []byte) (kept, bool) { return kept{}, string(present) == holder })
}

// inProcess answers requests by the robot of their host, without a socket, which a clock of the test cannot wait for.
type inProcess map[string]*robot

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	p[r.URL.Hostname()].ServeHTTP(w, r)
	return w.Result(), nil
}

// dayFleet is three gateways and 12 accounts on a bad day.
type dayFleet struct {
	*gateways
	store    *memory
	accounts int
	start    time.Time
}

// used is what account i has used of rule j: some end the day at a tenth of the limit, some at three times as much.
func (d *dayFleet) lines(context.Context) ([]Line, error) {
	now := time.Now()
	day := now.Truncate(24 * time.Hour)
	var lines []Line
	for i := range d.accounts {
		for j := range 4 {
			end := int64(100 + (i*37+j*911)%2900)
			lines = append(lines, Line{
				AppID: fmt.Sprintf("wx%016x", i), App: fmt.Sprintf("app%02d", i), Rule: fmt.Sprintf("rule%d", j), Title: "接口", Period: "day",
				Limit: 1000, Used: end * int64(now.Sub(day)/time.Second) / 86400, Reset: day.Add(24 * time.Hour),
			})
		}
	}
	return lines, nil
}

// misfortunes has conditions begin and end on random gateways at random times, and takes the store away now and then.
func (d *dayFleet) misfortunes(ctx context.Context) {
	rng := rand.New(rand.NewPCG(1, 2)) // the same at each run
	holds := make(map[string]bool)
	for ctx.Err() == nil {
		time.Sleep(time.Duration(rng.IntN(60_000)) * time.Millisecond)
		kind := []Kind{Latched, TokenRefused, ReloadFailed, LogDropped, Fuse}[rng.IntN(5)]
		app := rng.IntN(d.accounts)
		e := Event{Kind: kind, AppID: fmt.Sprintf("wx%016x", app), App: fmt.Sprintf("app%02d", app), ErrCode: 40125, Caller: "crm", Rule: "rule1"}
		if kind.ofGateway() {
			e.AppID, e.App, e.Rule, e.Caller = "", "", "", ""
		}
		key := e.condition()
		e.Over, holds[key] = holds[key], !holds[key]
		for _, a := range d.alerts {
			if rng.IntN(3) > 0 {
				a.Notify(e)
			}
		}
		if rng.IntN(100) == 0 { // about 28 times a day
			d.outage(time.Duration(rng.IntN(300)) * time.Second)
		}
	}
}

func (d *dayFleet) outage(length time.Duration) {
	set := func(down bool) {
		d.store.mu.Lock()
		d.store.down = down
		d.store.mu.Unlock()
		for _, a := range d.alerts {
			a.Notify(Event{Kind: StoreDown, Over: !down, Reason: "no answer in time"})
		}
	}
	set(true)
	time.Sleep(length)
	set(false)
}

// A whole day of a fleet with some thousand events: no robot's limit is met, no threshold is sent twice, and none is
// left out.
func TestDay(t *testing.T) {
	if testing.Short() {
		t.Skip("a simulated day takes half a minute")
	}
	synctest.Test(t, func(t *testing.T) {
		robots := inProcess{"wecom": {kind: WeCom}, "dingtalk": {kind: DingTalk}, "lark": {kind: Lark}}
		var sinks []Sink
		for name, r := range robots {
			sinks = append(sinks, r.sinkFor("http://"+name))
		}
		c := testConfig(sinks...)
		c.Zone, c.Remind, c.Digest = time.UTC, 30*time.Minute, 9
		d := &dayFleet{store: &memory{values: make(map[string]kept)}, accounts: 12, start: time.Now()}
		d.gateways = newGateways(t, usualTiming(), c, d.store, d.store, d.store)
		for _, a := range d.alerts {
			a.o.Usage, a.client.Transport = d.lines, robots
		}
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		for _, a := range d.alerts {
			work.Go(func() { a.Run(ctx) })
		}
		work.Go(func() { d.misfortunes(ctx) })
		time.Sleep(24*time.Hour - time.Minute)
		cancel()
		work.Wait()
		for name, r := range robots {
			if r.limited > 0 || len(r.problems) > 0 {
				t.Errorf("%s: its limits were met %d times: %v", name, r.limited, r.problems)
			}
			wantSteady(t, r)
			d.wantThresholds(t, r)
			if n := matching(r.texts(), "【每日报告】"); n != 1 {
				t.Errorf("%s: %d daily reports, want 1", name, n)
			}
			t.Logf("%s: %d messages in the day", name, len(r.got))
		}
	})
}

// A gateway that takes the sending over long after, as after a restart, knows from the store which thresholds were told.
func TestClaimsOutliveTheSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &robot{kind: WeCom}
		robots := inProcess{"wecom": r}
		s := &memory{values: make(map[string]kept)}
		used := int64(810)
		line := Line{AppID: "wx0123456789abcdef", App: "shop", Rule: "menu.create", Period: "day", Limit: 1000, Reset: time.Now().Add(10 * time.Hour)}
		life := func(length time.Duration) {
			g := newGateways(t, usualTiming(), testConfig(r.sinkFor("http://wecom")), s)
			a := g.alerts[0]
			a.client.Transport = robots
			a.o.Usage = func(context.Context) ([]Line, error) { line.Used = used; return []Line{line}, nil }
			ctx, cancel := context.WithCancel(t.Context())
			var work sync.WaitGroup
			work.Go(func() { a.Run(ctx) })
			time.Sleep(length)
			cancel()
			work.Wait()
		}
		life(time.Hour)
		wantCount(t, r, "【已用 81%】", 1)
		life(time.Hour)
		wantCount(t, r, "【已用 ", 1)
		used = 960
		life(time.Hour)
		wantCount(t, r, "【已用 96%】", 1)
		wantCount(t, r, "【已用 ", 2)
	})
}

// One gateway of three reads the usage, and another one after it has ended.
func TestOneSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &memory{values: make(map[string]kept)}
		g := newGateways(t, usualTiming(), testConfig((&robot{kind: WeCom}).sinkFor("http://wecom")), s, s, s)
		reads := make([]atomic.Int64, len(g.alerts))
		stops := make([]context.CancelFunc, len(g.alerts))
		var work sync.WaitGroup
		for i, a := range g.alerts {
			a.o.Usage = func(context.Context) ([]Line, error) { reads[i].Add(1); return nil, nil }
			ctx, cancel := context.WithCancel(t.Context())
			stops[i] = cancel
			work.Go(func() { a.Run(ctx) })
		}
		for n := range g.alerts {
			time.Sleep(time.Minute)
			var senders []int
			for i := range reads {
				if reads[i].Load() > 0 {
					senders = append(senders, i)
				}
			}
			if len(senders) != 1 {
				t.Errorf("with %d gateways those who read the usage are %v, want one", len(g.alerts)-n, senders)
			}
			for _, i := range senders {
				stops[i]()
				synctest.Wait() // it ends
				reads[i].Store(0)
			}
		}
		for _, stop := range stops {
			stop()
		}
		work.Wait()
	})
}

// Forty gateways lose their store at once. Each says so, and together they stay below the limits of the robots, also with what
// else they notice then. A fleet of three does not wait.
func TestManyGatewaysWithoutStore(t *testing.T) {
	for _, n := range []int{3, 40} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				robots := inProcess{"wecom": {kind: WeCom}, "dingtalk": {kind: DingTalk}}
				var sinks []Sink
				for name, r := range robots {
					sinks = append(sinks, r.sinkFor("http://"+name))
				}
				s := &memory{values: make(map[string]kept)}
				g := newGateways(t, usualTiming(), testConfig(sinks...), slices.Repeat([]Store{s}, n)...)
				ctx, cancel := context.WithCancel(t.Context())
				var work sync.WaitGroup
				for _, a := range g.alerts {
					a.client.Transport = robots
					a.o.Fleet = func() int { return n }
					work.Go(func() { a.Run(ctx) })
				}
				time.Sleep(10 * time.Minute)
				s.mu.Lock()
				s.down = true
				s.mu.Unlock()
				for _, a := range g.alerts {
					a.Notify(Event{Kind: StoreDown, Reason: "no answer in time"})
				}
				time.Sleep(time.Minute)
				for _, r := range robots {
					if got := matching(r.texts(), "【存储不可用】"); got == 0 || n == 3 && got != n {
						t.Errorf("%s: %d messages in the first minute, want one at least, of a small fleet all", r.kind, got)
					}
				}
				for i, a := range g.alerts {
					a.Notify(Event{Kind: TokenRefused, AppID: fmt.Sprintf("wx%016x", i), App: "shop", ErrCode: 40125})
				}
				time.Sleep(30 * time.Minute)
				cancel()
				work.Wait()
				for _, r := range robots {
					if r.limited > 0 {
						t.Errorf("%s: its limit was met %d times", r.kind, r.limited)
					}
					wantCount(t, r, "【存储不可用】", n)
					wantCount(t, r, "【取不到 access_token】", n)
				}
			})
		})
	}
}

// wantSteady looks at the busiest minute.
func wantSteady(t *testing.T, r *robot) {
	t.Helper()
	most := 0
	for i, from := range r.times {
		n := 0
		for _, at := range r.times[i:] {
			if at.Sub(from) < time.Minute {
				n++
			}
		}
		most = max(most, n)
	}
	if most > perMinute+3 || most < 3 { // three gateways send for themselves while the store is down
		t.Errorf("%s: %d messages in the busiest minute, want some and at most %d", r.kind, most, perMinute+3)
	}
}

// wantThresholds counts the messages about a threshold of each counter.
func (d *dayFleet) wantThresholds(t *testing.T, r *robot) {
	t.Helper()
	lines, _ := d.lines(context.Background())
	texts := r.texts()
	for _, l := range lines {
		want := 0
		for _, threshold := range []int64{50, 80, 95, 100} {
			if l.Used*100 >= threshold*l.Limit {
				want++
			}
		}
		got := 0
		for _, text := range texts {
			for line := range strings.Lines(text) {
				about := strings.Contains(line, l.App+" 接口 ("+l.Rule+")：") && (strings.Contains(line, "【已用 ") || strings.Contains(line, "【已用完】"))
				if about && !strings.HasPrefix(line, "• "+l.App) {
					got++
				}
			}
		}
		if got != want {
			t.Errorf("%s: %s %s at %d of %d: %d messages, want %d", r.kind, l.App, l.Rule, l.Used, l.Limit, got, want)
		}
	}
	if !slices.ContainsFunc(lines, func(l Line) bool { return l.Used > 2*l.Limit }) {
		t.Error("no counter is far over its limit")
	}
}
