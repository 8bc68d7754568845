package faults

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wxproxy/internal/redistest"
)

// counting matches the commands of the counters' script.
func counting(t *testing.T) func(Command) bool {
	t.Helper()
	text, err := os.ReadFile("../../limits/redis.lua")
	if err != nil {
		t.Fatal(err)
	}
	return Runs(string(text))
}

// names reports whether a command is about an account: its key has the appid in braces.
func (c Command) names(app string) bool {
	return slices.ContainsFunc(c, func(arg string) bool { return strings.Contains(arg, "{"+app+"}") })
}

// F1: 3 gateways, 64 callers each, 30,000 calls against a quota of 2000. Exactly 2000 are executed,
// the others hear 45009, and nobody hears anything else.
func TestF1(t *testing.T) {
	const quota, calls = 2000, 30_000
	f := newFleet(t, setup{apps: *repeat, rules: []rule{{"send", sendPath, "2000/day", ""}}})
	for i := range *repeat {
		got := f.fire(t.Context(), load{call: call{app: i, path: sendPath}, callers: 3 * 64, calls: calls})
		executed := f.executed(i, sendPath)
		t.Logf("executed %d; callers heard %v", executed, got)
		if executed != quota {
			t.Errorf("WeChat executed %d, want %d", executed, quota)
		}
		if got.of[passed] != quota || got.of[full] != calls-quota {
			t.Errorf("callers heard %v, want %d passed and %d refused", got, quota, calls-quota)
		}
		f.atRest(t, i, "send", sendPath)
	}
}

// F2: 200 first calls at once against quotas of 1, 10 and 100.
func TestF2(t *testing.T) {
	quotas := map[int]string{1: menuPath, 10: sendPath, 100: textPath}
	var rules []rule
	for n, path := range quotas {
		rules = append(rules, rule{fmt.Sprint("of", n), path, fmt.Sprint(n, "/day"), ""})
	}
	f := newFleet(t, setup{apps: *repeat, rules: rules})
	for i := range *repeat {
		for n, path := range quotas {
			got := f.fire(t.Context(), load{call: call{app: i, path: path}, callers: 200, calls: 200})
			if executed := f.executed(i, path); executed != int64(n) {
				t.Errorf("WeChat executed %d, want %d", executed, n)
			}
			if got.of[passed] != n || got.of[full] != 200-n {
				t.Errorf("callers heard %v, want %d passed and %d refused", got, n, 200-n)
			}
			f.atRest(t, i, fmt.Sprint("of", n), path)
		}
	}
}

// Three gateways drain a quota that is counted ahead to its last call, while callers keep asking for two
// seconds past the first refusal: in that time every block goes back and is sold.
func TestDrained(t *testing.T) {
	const quota = 20_000
	f := newFleet(t, setup{rules: []rule{{"send", sendPath, fmt.Sprint(quota, "/day"), ""}}})
	stop := make(chan struct{})
	ctx := context.WithoutCancel(t.Context())
	go func() {
		defer close(stop)
		for late := time.Now().Add(4 * time.Minute); time.Now().Before(late); time.Sleep(5 * time.Millisecond) {
			if f.hear(ctx, f.gateways[0], call{path: sendPath}) != passed {
				time.Sleep(2 * time.Second)
				return
			}
		}
	}()
	got := f.fire(t.Context(), load{call: call{path: sendPath}, callers: 3 * 16, stop: stop, refused: 10 * time.Millisecond})
	t.Logf("callers heard %v", got)
	if executed := f.executed(0, sendPath); executed != quota {
		t.Errorf("WeChat executed %d, want %d", executed, quota)
	}
	if got.of[full] == 0 || got.of[passed]+got.of[full] != got.total() {
		t.Errorf("callers heard %v, want only passed and refused", got)
	}
	f.atRest(t, 0, "send", sendPath)
}

// F3: the counters' commands lose one reply in ten, or one request in ten; or everything at once: they
// are lost before and after execution, executed twice, cut off, and executed when their sender has
// long given up. Never is more executed than the quota, nor more than is counted; at rest both are
// the same.
func TestF3(t *testing.T) {
	t.Parallel()
	everything := func(every int) []Fault {
		return []Fault{
			{Do: LoseReply, Every: every},
			{Do: LoseRequest, After: 3, Every: every},
			{Do: Double, After: 5, Every: every, Wait: 20 * time.Millisecond},
			{Do: CutAfter, After: 7, Every: 2 * every},
			{Do: CutBefore, After: 12, Every: 2 * every},
			{Do: LateRequest, After: 18, Every: 2 * every, Wait: 300 * time.Millisecond},
			{Do: LateReply, After: 19, Every: 2 * every, Wait: 80 * time.Millisecond},
		}
	}
	tests := []struct {
		name   string
		quota  int
		more   string
		faults []Fault
	}{
		{"one reply in ten", 300, "", []Fault{{Do: LoseReply, Every: 10}}},
		{"one request in ten", 300, "", []Fault{{Do: LoseRequest, Every: 10}}},
		{"everything", 300, "", everything(10)},
		{"everything, counted ahead", 3000, "on_store_error: refuse", everything(30)},
		{"everything, counted ahead, local", 3000, "on_store_error: local", everything(30)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f, relay := relayedFleet(t, setup{apps: *repeat, rules: []rule{{"send", sendPath, fmt.Sprint(test.quota, "/day"), test.more}}})
			for i := range *repeat {
				var orders []*Ordered
				for _, fault := range test.faults {
					fault.Match, fault.Times = counting(t), -1
					orders = append(orders, order(t, relay, fault))
				}
				// What is sent while the store is away is stated afterwards.
				if test.more == "on_store_error: local" {
					f.drain(t, i, "send", sendPath, int64(test.quota))
				} else {
					f.watched(t, i, "send", sendPath, func() { f.drain(t, i, "send", sendPath, int64(test.quota)) })
				}
				fired := 0
				for _, o := range orders {
					fired += o.Fired()
					o.Cancel()
				}
				t.Logf("%d faults", fired)
				f.atRest(t, i, "send", sendPath)
			}
		})
	}
}

// F7: the scripts are flushed again and again while calls run.
func TestF7(t *testing.T) {
	const quota, calls = 2000, 4000
	f := newFleet(t, setup{rules: []rule{{"send", sendPath, "2000/day", ""}}})
	stop := make(chan struct{})
	var flusher sync.WaitGroup
	flushed := 0
	flusher.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			if err := f.direct.ScriptFlush(t.Context()).Err(); err != nil {
				t.Errorf("SCRIPT FLUSH: %v", err)
				return
			}
			flushed++
		}
	})
	got := f.fire(t.Context(), load{call: call{path: sendPath}, callers: 48, calls: calls})
	close(stop)
	flusher.Wait()
	t.Logf("executed %d, scripts flushed %d times", f.executed(0, sendPath), flushed)
	if executed := f.executed(0, sendPath); executed != quota || got.of[passed] != quota || got.of[full] != calls-quota {
		t.Errorf("WeChat executed %d; callers heard %v, want %d passed and %d refused", executed, got, quota, calls-quota)
	}
	if flushed < 10 {
		t.Errorf("scripts were flushed %d times: the test has tested nothing", flushed)
	}
	f.atRest(t, 0, "send", sendPath)
}

// relayedFleet is a fleet that knows its Redis only through a relay.
func relayedFleet(t *testing.T, s setup) (*fleet, *Relay) {
	t.Helper()
	if s.redis == nil {
		s.redis = redistest.Start(t)
	}
	relay := relayTo(t, s.redis)
	s.store = relay.Addr()
	return newFleet(t, s), relay
}
