package alert

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"wxproxy/internal/redistest"
	"wxproxy/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fastTiming is usualTiming a hundred times as fast, for a machine that is loaded.
func fastTiming() timing {
	return timing{
		tick: 20 * time.Millisecond, lease: time.Second, poll: 50 * time.Millisecond, hold: 60 * time.Millisecond,
		merge: 100 * time.Millisecond, attempt: 2 * time.Second, settle: 2 * time.Second, calm: 5 * time.Minute,
		direct: 200 * time.Millisecond, directEvery: 5 * time.Minute,
	}
}

var errDead = errors.New("this gateway was killed")

// mortal is one gateway: its store, its transport, and when it dies. After its death nothing of it is heard.
type mortal struct {
	Store
	dies func(op, key string) bool // asked before each change of the store
	dead atomic.Bool
}

func (m *mortal) before(op, key string) error {
	if m.dies != nil && m.dies(op, key) {
		m.dead.Store(true)
	}
	if m.dead.Load() {
		return errDead
	}
	return nil
}

func (m *mortal) Get(ctx context.Context, app, key string) ([]byte, error) {
	if err := m.before("get", key); err != nil {
		return nil, err
	}
	return m.Store.Get(ctx, app, key)
}

func (m *mortal) Update(ctx context.Context, app, key string, was []byte, change func([]byte) ([]byte, time.Duration, error)) error {
	if err := m.before("update", key); err != nil {
		return err
	}
	return m.Store.Update(ctx, app, key, was, change)
}

func (m *mortal) Lease(ctx context.Context, app, key, holder string, expiry time.Duration) (bool, error) {
	if err := m.before("lease", key); err != nil {
		return false, err
	}
	return m.Store.Lease(ctx, app, key, holder, expiry)
}

func (m *mortal) Release(ctx context.Context, app, key, holder string) error {
	if err := m.before("release", key); err != nil {
		return err
	}
	return m.Store.Release(ctx, app, key, holder)
}

func (m *mortal) RoundTrip(r *http.Request) (*http.Response, error) {
	if m.dead.Load() {
		return nil, errDead
	}
	return http.DefaultTransport.RoundTrip(r)
}

// gateways is a fleet whose members share one store and see the same usage.
type gateways struct {
	members []*mortal
	alerts  []*Alerts
	polls   atomic.Int64

	mu    sync.Mutex
	lines []Line
	count map[outcome]int
	log   []string
}

func (g *gateways) setUsed(used, limit int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lines = []Line{{AppID: "wx0123456789abcdef", App: "shop", Rule: "menu.create", Title: "自定义菜单创建", Period: "day", Used: used, Limit: limit, Reset: time.Now().Add(time.Hour)}}
	for i := range g.lines {
		g.lines[i].Reset = g.lines[i].Reset.Truncate(time.Hour).Add(2 * time.Hour)
	}
}

func (g *gateways) usage(context.Context) ([]Line, error) {
	g.polls.Add(1)
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.lines), nil
}

// newGateways starts a gateway for each store.
func newGateways(t *testing.T, timing timing, c Config, stores ...Store) *gateways {
	t.Helper()
	g := &gateways{count: make(map[outcome]int)}
	for i, s := range stores {
		m := &mortal{Store: s}
		a := newAlerts(Options{
			Store: m, Holder: fmt.Sprintf("holder%d", i), Host: fmt.Sprintf("gw-%d", i), Usage: g.usage, Transport: m,
			Count: func(kind Kind, sink string, r Result) {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.count[outcome{kind, sink, r}]++
			},
			Observe: func(r Report) {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.log = append(g.log, fmt.Sprintf("%s %s %v", r.Kind, r.Sink, r.Err))
			},
		}, timing)
		a.Configure(c)
		g.members, g.alerts = append(g.members, m), append(g.alerts, a)
	}
	return g
}

// run runs all gateways until the test ends, and then looks for canaries in what they logged.
func (g *gateways) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for _, a := range g.alerts {
		work.Go(func() { a.Run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		work.Wait()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		for _, line := range g.log {
			if strings.Contains(line, "CANARY") || strings.Contains(line, canarySecret) {
				t.Errorf("the log holds a secret: %s", line)
			}
		}
	})
}

// await polls until is holds, for half a minute.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s for %s", what)
		}
	}
}

// morePolls waits until the usage was read several times more.
func (g *gateways) morePolls(t *testing.T) {
	t.Helper()
	n := g.polls.Load() + 10
	await(t, "ten readings of the usage", func() bool { return g.polls.Load() >= n })
}

// matching is how often a part stands in texts.
func matching(texts []string, part string) (n int) {
	for _, text := range texts {
		n += strings.Count(text, part)
	}
	return n
}

func wantCount(t *testing.T, r *robot, part string, want int) {
	t.Helper()
	if got := matching(r.texts(), part); got != want {
		t.Errorf("%s: %q %d times, want %d, in:\n%s", r.kind, part, got, want, strings.Join(r.texts(), "\n--\n"))
	}
}

type stores struct {
	name string
	open func(t *testing.T, n int) []Store
}

// openStores opens one store as n gateways see it.
func openStores(t *testing.T, url string, n int) []Store {
	t.Helper()
	var opened []Store
	for range n {
		s, err := store.Open(t.Context(), store.Options{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		opened = append(opened, s)
	}
	return opened
}

func fleets() []stores {
	return []stores{
		{"three gateways on Redis", func(t *testing.T, _ int) []Store { t.Helper(); return openStores(t, redistest.Start(t).URL(), 3) }},
		{"one gateway on a file", func(t *testing.T, _ int) []Store {
			t.Helper()
			return openStores(t, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), 1)
		}},
	}
}

// Each alert reaches each sink once, whichever gateways notice it, and a changed limit arms the thresholds anew.
func TestOnce(t *testing.T) {
	t.Parallel()
	for _, f := range fleets() {
		t.Run(f.name, func(t *testing.T) {
			robots := []*robot{{kind: WeCom}, {kind: Webhook}}
			c := testConfig(serve(t, robots[0]), serve(t, robots[1]))
			g := newGateways(t, fastTiming(), c, f.open(t, 3)...)
			for _, a := range g.alerts {
				a.o.Detail = func(_ context.Context, e *Event) { e.Callers = []Caller{{"crm", e.Used}} }
			}
			g.setUsed(400, 1000)
			g.run(t)
			g.morePolls(t)
			all := func(part string, n int) {
				t.Helper()
				for _, r := range robots {
					await(t, part, func() bool { return matching(r.texts(), part) >= n })
				}
			}
			g.setUsed(970, 1000) // past three thresholds
			for _, a := range g.alerts {
				a.Notify(Event{Kind: TokenRefused, AppID: "wx0123456789abcdef", App: "shop", ErrCode: 40164, IP: "203.0.113.9"})
			}
			all("970 / 1000", 1)
			all("40164", 1)
			g.morePolls(t)
			g.setUsed(980, 2000) // a larger limit: below 50 %
			g.morePolls(t)
			g.setUsed(1010, 2000)
			all("1010 / 2000", 1)
			for _, a := range g.alerts {
				a.Notify(Event{Kind: TokenRefused, AppID: "wx0123456789abcdef", App: "shop", Over: true})
			}
			all("重新取到", 1)
			g.morePolls(t)
			for _, r := range robots {
				wantCount(t, r, "【已用 97%】", 1)
				wantCount(t, r, "调用最多：crm 970。", 1)
				wantCount(t, r, "【已用 ", 2)
				wantCount(t, r, "【取不到 access_token】", 1)
				wantCount(t, r, "【已恢复】", 1)
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			for _, o := range []outcome{{Used, WeCom, Sent}, {Used, Webhook, Sent}, {TokenRefused, WeCom, Sent}, {TokenRefused, Webhook, Sent}} {
				if g.count[o] != 2 {
					t.Errorf("%v: counted %d, want 2", o, g.count[o])
				}
			}
			if len(g.count) != 4 {
				t.Errorf("counted %v, want these four", g.count)
			}
		})
	}
}

// A gateway is killed at each step between seeing that a threshold is passed and recording that the message is sent.
// Another one sends it; a webhook gets it twice at most, under one id.
func TestKilled(t *testing.T) {
	for _, tt := range []struct {
		name string
		dies func() func(op, key string) bool
		most int
	}{
		{"before it queues", func() func(op, key string) bool {
			return func(op, key string) bool { return op == "update" && key == recordKey }
		}, 1},
		{"after it has queued, before it claims", func() func(op, key string) bool {
			return func(op, key string) bool { return op == "update" && key == claimsKey }
		}, 1},
		{"while it sends", nil, 1},
		{"after it has sent, before it records that", nil, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &robot{kind: Webhook}
			timing := fastTiming()
			timing.attempt = time.Second
			g := newGateways(t, timing, testConfig(serve(t, r)), openStores(t, redistest.Start(t).URL(), 3)...)
			var killed atomic.Int64
			release := make(chan struct{})
			defer close(release)
			switch {
			case tt.dies != nil:
				for _, m := range g.members {
					dies := tt.dies()
					m.dies = func(op, key string) bool { return dies(op, key) && killed.CompareAndSwap(0, 1) }
				}
			default:
				r.answer = func(n int) (int, string) {
					if n > 1 {
						return 0, ""
					}
					g.killSender(t, &killed)
					if tt.most == 2 {
						return 0, "" // it is delivered
					}
					return 500, ""
				}
			}
			g.setUsed(800, 1000)
			g.run(t)
			await(t, "a killed gateway and a message", func() bool { return killed.Load() > 0 && len(r.texts()) >= tt.most })
			g.morePolls(t)
			got := matching(r.texts(), "【已用 80%】")
			if got < 1 || got > tt.most {
				t.Errorf("delivered %d times, want at least once and at most %d", got, tt.most)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(slices.Compact(slices.Clone(r.ids))) != 1 || r.ids[0] == "" {
				t.Errorf("ids %v, want the same one", r.ids)
			}
		})
	}
}

// killSender kills the gateway that holds the lease.
func (g *gateways) killSender(t *testing.T, killed *atomic.Int64) {
	t.Helper()
	for i, m := range g.members {
		if held, err := m.Store.Lease(context.Background(), fleet, senderKey, g.alerts[i].o.Holder, g.alerts[i].t.lease); err != nil {
			t.Error(err)
		} else if held {
			m.dead.Store(true)
			killed.Add(1)
			return
		}
	}
	t.Error("no gateway holds the lease")
}

// While the store is down each gateway sends what it cannot leave there, once; when it is back, the fleet says so once.
func TestStoreDown(t *testing.T) {
	t.Parallel()
	r := &robot{kind: WeCom}
	server := redistest.Start(t)
	g := newGateways(t, fastTiming(), testConfig(serve(t, r)), openStores(t, server.URL(), 3)...)
	g.run(t)
	g.morePolls(t)
	server.Stop()
	for _, a := range g.alerts {
		a.Notify(Event{Kind: StoreDown, Reason: "no answer in time"})
	}
	await(t, "three messages", func() bool { return matching(r.texts(), "【存储不可用】") >= 3 })
	server.Restart()
	g.morePolls(t)
	for _, a := range g.alerts {
		a.Notify(Event{Kind: StoreDown, Over: true})
	}
	await(t, "the end", func() bool { return matching(r.texts(), "【已恢复】") >= 1 })
	g.morePolls(t)
	wantCount(t, r, "【存储不可用】", 3)
	wantCount(t, r, "【已恢复】", 1)

	for _, a := range g.alerts { // too short to be worth a message
		a.Notify(Event{Kind: StoreDown})
		a.Notify(Event{Kind: StoreDown, Over: true})
	}
	g.morePolls(t)
	wantCount(t, r, "【存储不可用】", 3)
}

// A clear ends a latch, and not one that begins after it.
func TestClearEndsALatch(t *testing.T) {
	r := &robot{kind: WeCom}
	timing := fastTiming()
	timing.calm = 0
	g := newGateways(t, timing, testConfig(serve(t, r)), openStores(t, redistest.Start(t).URL(), 2)...)
	g.setUsed(10, 1000)
	g.run(t)
	latched := Event{Kind: Latched, AppID: "wx0123456789abcdef", App: "shop", Rule: "menu.create", Until: time.Now().Add(time.Hour)}
	g.alerts[0].Notify(latched)
	await(t, "the latch", func() bool { return matching(r.texts(), "【微信已拒绝】") == 1 })
	g.morePolls(t)
	wantCount(t, r, "【已恢复】", 0)
	g.mu.Lock()
	g.lines[0].Generation = time.Now().UnixMilli()
	g.mu.Unlock()
	await(t, "the end", func() bool {
		return matching(r.texts(), "【已恢复】微信重新接受 shop 自定义菜单创建 (menu.create) 的调用") == 1
	})
	g.alerts[1].Notify(latched)
	await(t, "the next latch", func() bool { return matching(r.texts(), "【微信已拒绝】") == 2 })
	g.morePolls(t)
	wantCount(t, r, "【已恢复】", 1)
}

// A sink that is silenced, or that refuses for good while the store is down, gets nothing more without the store either.
func TestSilencedWithoutStore(t *testing.T) {
	for _, before := range []bool{true, false} {
		t.Run(fmt.Sprintf("before the outage: %t", before), func(t *testing.T) {
			refusing, other := &robot{kind: WeCom, answer: func(int) (int, string) { return 200, `{"errcode":93000,"errmsg":"invalid webhook url"}` }}, &robot{kind: Webhook}
			timing := fastTiming()
			timing.directEvery = 200 * time.Millisecond
			server := redistest.Start(t)
			g := newGateways(t, timing, testConfig(serve(t, refusing), serve(t, other)), openStores(t, server.URL(), 1)...)
			g.run(t)
			g.morePolls(t)
			if before {
				g.alerts[0].Notify(Event{Kind: ReloadFailed})
				await(t, "the silence", func() bool { s := g.alerts[0].List(t.Context()).Sinks; return s[0].State == Off && s[1].State == Good })
			}
			server.Stop()
			for i, kind := range []Kind{Latched, TokenRefused, LogDropped} {
				g.alerts[0].Notify(Event{Kind: kind, AppID: "wx0123456789abcdef"})
				await(t, "a message about "+string(kind), func() bool { return len(other.texts()) >= i+1 })
			}
			refusing.mu.Lock()
			defer refusing.mu.Unlock()
			if refusing.asked != 1 {
				t.Errorf("the sink that refuses was asked %d times, want once", refusing.asked)
			}
		})
	}
}

// A sink that refuses for good is logged once, without its URL, and gets nothing more until a test succeeds.
func TestSilencedSink(t *testing.T) {
	t.Parallel()
	r := &robot{kind: WeCom, answer: func(int) (int, string) {
		return 200, `{"errcode":93000,"errmsg":"invalid webhook url ` + canaryKey + `"}`
	}}
	g := newGateways(t, fastTiming(), testConfig(serve(t, r)), openStores(t, redistest.Start(t).URL(), 3)...)
	g.setUsed(800, 1000)
	g.run(t)
	await(t, "a refusal", func() bool { g.mu.Lock(); defer g.mu.Unlock(); return g.count[outcome{Used, WeCom, Refused}] == 1 })
	g.setUsed(1000, 1000)
	await(t, "a dropped event", func() bool { g.mu.Lock(); defer g.mu.Unlock(); return g.count[outcome{Used, WeCom, Dropped}] == 1 })
	g.morePolls(t)
	r.mu.Lock()
	if r.asked != 1 {
		t.Errorf("%d requests, want 1", r.asked)
	}
	r.mu.Unlock()
	results, err := g.alerts[0].Test(t.Context(), WeCom)
	if err != nil || len(results) != 1 || results[0].Err == nil || !strings.Contains(results[0].Err.Error(), "93000") {
		t.Errorf("a test of the refusing robot: %v, %v", results, err)
	}
	r.mu.Lock()
	r.answer = nil
	r.mu.Unlock()
	if results, err = g.alerts[1].Test(t.Context(), ""); err != nil || len(results) != 1 || results[0].Err != nil {
		t.Errorf("a test: %v, %v", results, err)
	}
	g.alerts[2].Notify(Event{Kind: ReloadFailed, Reason: "wxproxy.yaml: gone"})
	await(t, "a message after the test", func() bool { return matching(r.texts(), "【配置没有重新加载】") == 1 })
	if _, err := g.alerts[0].Test(t.Context(), "none"); !errors.Is(err, ErrUnknownSink) {
		t.Errorf("a test of no sink: %v", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	silenced := 0
	for _, line := range g.log {
		if strings.HasPrefix(line, string(Silenced)) {
			silenced++
		}
	}
	if silenced != 1 {
		t.Errorf("logged %v, want one line that the sink is silenced", g.log)
	}
}

// stuck is a store that answers nothing.
type stuck struct{ until chan struct{} }

func (s stuck) Get(context.Context, string, string) ([]byte, error) { <-s.until; return nil, errDead }

func (s stuck) Update(context.Context, string, string, []byte, func([]byte) ([]byte, time.Duration, error)) error {
	<-s.until
	return errDead
}

func (s stuck) Lease(context.Context, string, string, string, time.Duration) (bool, error) {
	<-s.until
	return false, errDead
}

func (s stuck) Release(context.Context, string, string, string) error { return errDead }

// Notify returns whatever the store does, and what waits is bounded.
func TestNotifyNeverBlocks(t *testing.T) {
	const calls = 4 * maxLocal
	s := stuck{make(chan struct{})}
	g := newGateways(t, fastTiming(), testConfig(Sink{Name: "a", Type: WeCom, URL: "http://127.0.0.1:1"}), s)
	g.run(t)
	defer close(s.until)
	for i := range calls {
		g.alerts[0].Notify(Event{Kind: Latched, AppID: fmt.Sprint(i)})
	}
	if n := len(g.alerts[0].local); n != maxLocal {
		t.Errorf("%d wait, want %d", n, maxLocal)
	}
	if got := g.count[outcome{Latched, "a", Dropped}]; got != calls-maxLocal {
		t.Errorf("%d dropped, want %d", got, calls-maxLocal)
	}
}
