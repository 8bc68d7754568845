package faults

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"wxproxy/internal/redistest"
	"wxproxy/sandbox"
)

// bursts are rules of small quotas, each of which one burst uses up.
var bursts = []struct {
	call
	name  string
	quota int
}{
	{call{path: menuPath}, "menu", 10},
	{call{path: sendPath}, "send", 30},
	{call{path: textPath}, "text", 100},
	{call{path: tagsPath, get: true}, "tags", 1000},
}

// Quotas are used up in one burst each, everything rests for two seconds, and a clear is granted.
// Then exactly nothing is counted, and as many calls pass as before: WeChat executes two quotas.
// Calls that ended long before the clear are not carried over it.
func TestClearAtRest(t *testing.T) {
	t.Parallel()
	for _, store := range []setup{{gateways: 2}, {file: true}} {
		t.Run(fmt.Sprintf("file %t", store.file), func(t *testing.T) {
			t.Parallel()
			for _, r := range bursts {
				store.rules = append(store.rules, rule{r.name, r.path, fmt.Sprint(r.quota, "/day"), ""})
			}
			f := newFleet(t, store)
			burst := func(round int) {
				t.Helper()
				for _, r := range bursts {
					got := f.fire(t.Context(), load{call: r.call, callers: min(r.quota, 100), calls: r.quota})
					if executed := f.executed(0, r.path); got.of[passed] != r.quota || executed != int64(round*r.quota) {
						t.Errorf("%d/day, burst %d: answers %v, want %d %s; WeChat has executed %d, want %d",
							r.quota, round, got, r.quota, passed, executed, round*r.quota)
					}
				}
			}
			burst(1) // and no call after it: the last answer of the store came while calls were in flight
			time.Sleep(2 * time.Second)
			f.clear(t, f.gateways[0], 0)
			time.Sleep(idle) // every gateway has reported what it carries
			for i, p := range f.gateways {
				for _, r := range bursts {
					if used := f.used(t, p, 0, r.name); used != 0 {
						t.Errorf("%d/day: gateway %d has counted %d after the clear, want 0", r.quota, i, used)
					}
				}
			}
			burst(2)
			for _, r := range bursts {
				if said := f.hear(t.Context(), f.gateways[0], r.call); said != full {
					t.Errorf("%d/day: past the quota after the clear a call is answered %s", r.quota, said)
				}
			}
		})
	}
}

// The clock of Redis goes back by an hour, as after a fail-over to a host whose clock is wrong: the
// generation of the last clear then lies ahead of it. The next clear still starts the count over,
// that of the whole account and that of one path. One gateway makes the calls and the clears: another
// one cannot tell by such a generation which of its calls ended before the clear, and carries them.
func TestClearByAClockThatWentBack(t *testing.T) {
	t.Parallel()
	const quota = 10
	server := redistest.StartMovable(t)
	server.Move(time.Hour)
	f := newFleet(t, setup{
		gateways: 2, redis: server,
		rules:  []rule{{"send", sendPath, fmt.Sprint(quota, "/day"), ""}},
		wechat: sandbox.Options{Quotas: map[string]int64{sendPath: quota}},
	})
	send := call{path: sendPath}
	useUp := func(what string, round int) {
		t.Helper()
		for i, p := range f.gateways {
			within(t, time.Second, fmt.Sprintf("%s: gateway %d has counted nothing", what, i), func() bool { return f.used(t, p, 0, "send") == 0 })
		}
		time.Sleep(1100 * time.Millisecond) // a gateway that was full asks again
		got := f.fire(t.Context(), load{call: send, callers: 4, calls: 3 * quota, only: f.gateways[:1]})
		if executed := f.executed(0, sendPath); executed != int64(round*quota) || got.of[passed] != quota || got.of[full] != 2*quota {
			t.Errorf("%s: WeChat has executed %d, want %d; answers %v, want %d %s", what, executed, round*quota, got, quota, passed)
		}
		time.Sleep(1500 * time.Millisecond) // at rest: nothing is carried over the next clear
	}
	useUp("at first", 1)
	f.clear(t, f.gateways[0], 0)
	useUp("cleared by a clock that is an hour ahead", 2)
	server.Move(0)
	for _, p := range f.gateways { // each asks the store, and learns its clock
		if said := f.hear(t.Context(), p, send); said != full {
			t.Fatalf("past the quota a call is answered %s", said)
		}
	}
	f.clear(t, f.gateways[0], 0)
	useUp("cleared by the right clock", 3)
	one := call{path: clearOnePath, body: fmt.Sprintf(`{"cgi_path":%q}`, sendPath)}
	if said := f.hear(t.Context(), f.gateways[0], one); said != passed {
		t.Fatalf("a clear of one path is answered %s", said)
	}
	useUp("one path cleared by the right clock", 4)
}

// A clear of one path that is granted through one gateway opens its rule on the other within a
// second, also where the first has nothing to carry over. The other rules stay as they are.
func TestClearOfOnePath(t *testing.T) {
	t.Parallel()
	const quota = 10
	f := newFleet(t, setup{
		gateways: 2,
		rules:    []rule{{"send", sendPath, fmt.Sprint(quota, "/day"), ""}, {"text", textPath, fmt.Sprint(quota, "/day"), ""}},
		wechat:   sandbox.Options{Quotas: map[string]int64{sendPath: quota, textPath: quota}},
	})
	a, b := f.gateways[0], f.gateways[1]
	send, text := call{path: sendPath}, call{path: textPath}
	one := call{path: clearOnePath, body: fmt.Sprintf(`{"cgi_path":%q}`, sendPath)}
	useUp := func(round int64) {
		t.Helper()
		for _, c := range []call{send, text} {
			f.fire(t.Context(), load{call: c, callers: 4, calls: 2 * quota})
		}
		if executed := f.executed(0, sendPath); executed != round*quota {
			t.Errorf("WeChat has executed %d, want %d", executed, round*quota)
		}
		if executed := f.executed(0, textPath); executed != quota {
			t.Errorf("of the other path WeChat has executed %d, want %d", executed, quota)
		}
		time.Sleep(1500 * time.Millisecond) // at rest
	}
	useUp(1)
	for i, order := range [][]*process{{a, b}, {b, a}} {
		if said := f.hear(t.Context(), order[0], one); said != passed {
			t.Fatalf("a clear of one path is answered %s", said)
		}
		for _, p := range slices.Backward(order) { // the other one first: a call would report the clear
			within(t, time.Second, fmt.Sprintf("clear %d: a gateway is open", i), func() bool { return f.used(t, p, 0, "send") < quota && f.hear(t.Context(), p, send) == passed })
		}
		useUp(int64(i) + 2)
	}
}

// A clear is granted and its answer is lost, while calls go on. WeChat's own count shows it, and its
// answer to that question takes three seconds. The calls of these seconds are in the new count: it
// is never below WeChat's, which never passes the quota.
func TestLostClearWithTraffic(t *testing.T) {
	t.Parallel()
	const quota, before, slow = 1000, 600, 3 * time.Second
	f := newFleet(t, setup{
		gateways: 2,
		rules:    []rule{{"send", sendPath, fmt.Sprint(quota, "/day"), ""}},
		wechat:   sandbox.Options{Quotas: map[string]int64{sendPath: 100 * quota}}, // only the gateways stop calls
	})
	a := f.gateways[0]
	send := call{path: sendPath}
	f.fire(t.Context(), load{call: send, callers: 8, calls: before})
	time.Sleep(1500 * time.Millisecond)
	answers := f.wechat.Order(sandbox.Fault{Path: "/cgi-bin/openapi/quota/get", DelayAnswer: slow, Times: -1})
	lost := f.wechat.Order(sandbox.Fault{Path: clearPath, ResetAfter: true})
	body := fmt.Sprintf(`{"appid":%q}`, appid(0))
	if said := f.hear(t.Context(), a, call{path: clearPath, body: body}); said != "HTTP 502 -1" || lost.Fired() != 1 {
		t.Fatalf("a clear whose answer is lost is answered %s", said)
	}
	stop := make(chan struct{})
	var traffic heard
	var wg sync.WaitGroup
	wg.Go(func() {
		traffic = f.fire(t.Context(), load{call: send, callers: 2, stop: stop, pause: 100 * time.Millisecond})
	})
	within(t, 15*time.Second, "the clear is found out", func() bool { return f.used(t, a, 0, "send") < before })
	time.Sleep(500 * time.Millisecond)
	close(stop)
	wg.Wait()
	time.Sleep(idle)
	t.Logf("WeChat was asked %d times, answers in the meantime %v", answers.Fired(), traffic)
	if answers.Fired() == 0 || traffic.of[passed] < 20 {
		t.Errorf("WeChat was asked %d times, answers in the meantime %v: the test has tested nothing", answers.Fired(), traffic)
	}
	compare := func() {
		t.Helper()
		theirs := f.wechat.Used(appid(0), sendPath)
		for i, p := range f.gateways {
			if used := f.used(t, p, 0, "send"); used < theirs {
				t.Errorf("gateway %d has counted %d, WeChat %d", i, used, theirs)
			}
		}
	}
	compare()
	f.fire(t.Context(), load{call: send, callers: 8, calls: 2 * quota})
	compare()
	if used := f.wechat.Used(appid(0), sendPath); used > quota || used < quota-quota/10 {
		t.Errorf("WeChat has counted %d since the clear, want %d, or a little less", used, quota)
	}
}
