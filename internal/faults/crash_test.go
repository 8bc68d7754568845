package faults

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"wxproxy/sandbox"
)

// F12: a gateway is killed between count and send, and between send and answer, before and after
// WeChat has executed the call. Counted is never less than executed, and more by the calls in flight
// at most.
func TestF12(t *testing.T) {
	const quota, inFlight = 100, 8
	f, relay := relayedFleet(t, setup{apps: 3 * *repeat, rules: []rule{{"send", sendPath, fmt.Sprint(quota, "/day"), ""}}})
	asks := counting(t)
	// dies has calls made through a gateway of their own, and kills it when it is somewhere.
	dies := func(t *testing.T, app int, there func()) {
		t.Helper()
		others := f.gateways
		dying := f.start(t)
		f.gateways = others
		for _, p := range append(others, dying) {
			if said := f.hear(t.Context(), p, call{app: app, path: sendPath}); said != passed {
				t.Fatalf("the first call is answered %s", said)
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			got := f.fire(t.Context(), load{call: call{app: app, path: sendPath}, callers: inFlight, calls: inFlight, only: []*process{dying}})
			if got.of[broken] != inFlight {
				t.Errorf("callers of the killed gateway heard %v, want %d that it is gone", got, inFlight)
			}
		})
		there()
		dying.kill(t)
		wg.Wait()
	}
	// rest uses up the quota, and compares.
	rest := func(t *testing.T, app int, inFlight, executed int64) {
		t.Helper()
		f.fire(t.Context(), load{call: call{app: app, path: sendPath}, callers: 24, calls: 2 * quota})
		got, counted := f.executed(app, sendPath), f.counted(t, app, "send", "d")
		t.Logf("executed %d, counted %d of %d", got, counted, quota)
		if got != executed || counted < got || counted-got > inFlight {
			t.Errorf("WeChat executed %d, want %d; counted %d, want at most %d more", got, executed, counted, inFlight)
		}
	}
	for i := range *repeat {
		t.Run("counted, not sent", func(t *testing.T) {
			app := 3 * i
			var held *Ordered
			dies(t, app, func() {
				// The reply that says it is counted is held, and that of a second attempt.
				held = order(t, relay, Fault{Match: func(c Command) bool { return asks(c) && c.names(appid(app)) }, Do: LateReply, Hold: true, Times: -1})
				waitFor(t, "a reply that is held", func() bool { return len(held.Replies()) > 0 })
			})
			held.Cancel()
			held.Release()
			unsent := quota - f.counted(t, app, "send", "d") // what is left
			if spent := quota - unsent - f.executed(app, sendPath); spent < 1 || spent > inFlight {
				t.Errorf("%d calls were counted and not sent, want 1 to %d", spent, inFlight)
			}
			rest(t, app, inFlight, f.executed(app, sendPath)+unsent)
		})
		for j, fault := range []struct {
			name string
			sandbox.Fault
		}{
			{"sent, not executed yet", sandbox.Fault{Hold: true}},
			{"executed, not answered", sandbox.Fault{HoldAnswer: true}},
		} {
			t.Run(fault.name, func(t *testing.T) {
				app := 3*i + j + 1
				var held *sandbox.Ordered
				dies(t, app, func() {
					fault.AppID, fault.Path, fault.Times = appid(app), sendPath, inFlight
					held = f.wechat.Order(fault.Fault)
					waitFor(t, "calls in flight", func() bool { return held.Fired() == inFlight })
				})
				held.Release()
				f.soon(t, app, sendPath, int64(len(f.gateways))+1+inFlight)
				rest(t, app, 0, quota)
			})
		}
	}
}

// F12 under load: of three gateways that count ahead one is killed and another takes its place. What
// the dead one had counted and not sent stays counted: its block and its calls in flight.
func TestF12UnderLoad(t *testing.T) {
	t.Parallel()
	const callers = 8
	tests := []struct {
		quota int64
		ahead int64 // the largest block that a gateway may have
	}{{900, 0}, {100_000, 100}}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.quota), func(t *testing.T) {
			f := newFleet(t, setup{rules: []rule{{"send", sendPath, fmt.Sprint(test.quota, "/day"), ""}}})
			const kills = 2
			var loads sync.WaitGroup
			stop := make(chan struct{})
			fire := func(p *process) {
				loads.Go(func() {
					f.fire(t.Context(), load{call: call{path: sendPath}, callers: callers, only: []*process{p}, stop: stop, pause: time.Millisecond, refused: 20 * time.Millisecond})
				})
			}
			for _, p := range f.gateways {
				fire(p)
			}
			for i := range kills {
				f.soon(t, 0, sendPath, int64(i+1)*300)
				time.Sleep(time.Duration(test.ahead) * 12 * time.Millisecond) // a process that has just started counts nothing ahead
				f.gateways[0].kill(t)
				f.gateways = f.gateways[1:]
				fire(f.start(t))
			}
			if test.ahead == 0 {
				waitFor(t, "the quota to be used up", func() bool { return f.counted(t, 0, "send", "d") >= test.quota })
			}
			time.Sleep(500 * time.Millisecond)
			close(stop)
			loads.Wait()
			time.Sleep(idle)
			executed, counted := f.executed(0, sendPath), f.counted(t, 0, "send", "d")
			t.Logf("executed %d, counted %d of %d after %d kills", executed, counted, test.quota, kills)
			if executed > test.quota || counted < executed || counted-executed > kills*(callers+test.ahead) {
				t.Errorf("WeChat executed %d of %d, counted %d: want at most %d more", executed, test.quota, counted, kills*(callers+test.ahead))
			}
		})
	}
}

// F13: WeChat executes a call and drops the connection, after another call went through on it. Each
// call of a client is executed once, whatever its method and headers, and counted once.
func TestF13(t *testing.T) {
	key := func(name string) http.Header { return http.Header{name: {"c0ffee"}} }
	calls := []struct {
		name string
		call
	}{
		{"GET", call{path: menuPath}},
		{"GET Idempotency-Key", call{path: menuPath, header: key("Idempotency-Key")}},
		{"GET X-Idempotency-Key", call{path: menuPath, header: key("X-Idempotency-Key")}},
		{"POST", call{path: sendPath}},
		{"POST Idempotency-Key", call{path: sendPath, header: key("Idempotency-Key")}},
		{"POST X-Idempotency-Key", call{path: sendPath, header: key("X-Idempotency-Key")}},
		{"empty POST", call{path: textPath, empty: true}},
		{"empty POST Idempotency-Key", call{path: textPath, empty: true, header: key("Idempotency-Key")}},
		{"empty POST X-Idempotency-Key", call{path: textPath, empty: true, header: key("X-Idempotency-Key")}},
	}
	f := newFleet(t, setup{gateways: 1, apps: *repeat, rules: []rule{
		{"menu", menuPath, "100000/day", ""}, {"send", sendPath, "100000/day", ""}, {"text", textPath, "1000/day", ""},
	}})
	name := map[string]string{menuPath: "menu", sendPath: "send", textPath: "text"}
	for i := range *repeat {
		sum := make(map[string]int64)
		for _, c := range calls {
			for _, fin := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, FIN %t", c.name, fin), func(t *testing.T) {
					c.app = i
					before := f.executed(i, c.path)
					first := f.hear(t.Context(), f.gateways[0], c.call)
					torn := f.wechat.Order(sandbox.Fault{AppID: appid(i), Path: c.path, ResetAfter: true, FIN: fin})
					second := f.hear(t.Context(), f.gateways[0], c.call)
					if first != passed && !c.empty || second != "HTTP 502 -1" {
						t.Errorf("the client heard %q and %q, want an answer and a 502", first, second)
					}
					executed := f.executed(i, c.path) - before
					if executed != 2 || torn.Fired() != 1 {
						t.Errorf("2 calls, %d torn: WeChat executed %d", torn.Fired(), executed)
					}
					sum[c.path] += executed
				})
			}
			// Many at once, all torn.
			const many = 60
			before := f.executed(i, c.path)
			torn := f.wechat.Order(sandbox.Fault{AppID: appid(i), Path: c.path, ResetAfter: true, Times: many})
			got := f.fire(t.Context(), load{call: c.call, callers: 20, calls: many})
			executed := f.executed(i, c.path) - before
			if executed != many || torn.Fired() != many || got.of["HTTP 502 -1"] != many {
				t.Errorf("%s: of %d calls at once, %d torn, WeChat executed %d; callers heard %v", c.name, many, torn.Fired(), executed, got)
			}
			sum[c.path] += executed
		}
		for path, n := range sum {
			f.atRest(t, i, name[path], path)
			if counted := f.counted(t, i, name[path], "d"); counted != n {
				t.Errorf("%s: executed %d, counted %d", path, n, counted)
			}
		}
	}
}

// F22: clients go away in the middle of a call, before and after WeChat has executed it. It is
// counted once and not sent again.
func TestF22(t *testing.T) {
	const quota, clients = 100, 20
	f := newFleet(t, setup{apps: 2, rules: []rule{{"send", sendPath, fmt.Sprint(quota, "/day"), ""}}})
	for app, fault := range []sandbox.Fault{{Hold: true}, {HoldAnswer: true}} {
		fault.AppID, fault.Path, fault.Times = appid(app), sendPath, clients
		held := f.wechat.Order(fault)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			got := f.fire(ctx, load{call: call{app: app, path: sendPath}, callers: clients, calls: clients})
			if got.of[broken] != clients {
				t.Errorf("clients that went away heard %v", got)
			}
		})
		waitFor(t, "calls in flight", func() bool { return held.Fired() == clients })
		cancel()
		wg.Wait()
		held.Release()
		f.soon(t, app, sendPath, clients)
		f.atRest(t, app, "send", sendPath)
		if calls := f.wechat.Calls(appid(app), sendPath); calls != clients {
			t.Errorf("WeChat saw %d calls, want %d", calls, clients)
		}
		got := f.fire(t.Context(), load{call: call{app: app, path: sendPath}, callers: 24, calls: 2 * quota})
		if executed := f.executed(app, sendPath); executed != quota || got.of[passed] != quota-clients {
			t.Errorf("WeChat executed %d, want %d; then callers heard %v", executed, quota, got)
		}
		f.atRest(t, app, "send", sendPath)
	}
}
