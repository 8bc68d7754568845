package limits

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A request that nobody heard the answer of arrives late, after the store has lost what would have
// made it stale. What it takes goes back when the gateway states what it holds the second time.
func TestLateRequestAfterALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sent = 3
		set := rules(t, rule("a", "/cgi-bin/a", "10/day"))
		store := newReference(time.Now)
		var fate atomic.Int64
		fate.Store(9)
		way := &lossy{store: store, gateway: "g0", fate: func() int { return int(fate.Load()) }}
		l := New(Options{Counters: way})
		l.Configure(map[string]*Ruleset{"wx1": set}, nil)
		for range sent {
			d := l.Take(t.Context(), Call{App: "wx1", Match: set.Match("/cgi-bin/a")})
			if d.Verdict != Pass {
				t.Fatalf("verdict = %s", d.Verdict)
			}
			l.Done(&d, 0)
		}
		fate.Store(2)
		if d := l.Take(t.Context(), Call{App: "wx1", Match: set.Match("/cgi-bin/a")}); d.Verdict != RefusedStore {
			t.Fatalf("with the request under way: %s", d.Verdict)
		}
		fate.Store(9)
		time.Sleep(2 * time.Second) // it is settled
		counted := func() (used int64) {
			store.mu.Lock()
			defer store.mu.Unlock()
			for _, c := range store.counters {
				used += c.used
			}
			return used
		}
		if got := counted(); got != sent {
			t.Errorf("settled: counted %d, want %d", got, sent)
		}
		store.mu.Lock()
		clear(store.counters)
		clear(store.parts)
		store.mu.Unlock()
		way.mu.Lock()
		for _, arrive := range way.late {
			arrive()
		}
		way.mu.Unlock()
		if got := counted(); got != sent+1 {
			t.Errorf("the late request: counted %d, want %d: the test has tested nothing", got, sent+1)
		}
		time.Sleep(lateLife)
		if got := counted(); got != sent {
			t.Errorf("at rest: counted %d, executed %d", got, sent)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
