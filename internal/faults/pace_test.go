package faults

import (
	"testing"
	"time"

	"wxproxy/limits"
)

// While the breaker is open only statements may ask the store whether it is back. Errors of a pace open
// it and leave nothing to state, so nobody ever asks: neither this rule nor any other goes on.
func TestBreakerOpenedByAPace(t *testing.T) {
	f := newFleet(t, setup{gateways: 1, rules: []rule{
		{"paced", sendPath, "5000/day", "pace: 1000/second"},
		{"plain", textPath, "500/day", ""},
	}})
	for _, path := range []string{sendPath, textPath} {
		if said := f.hear(t.Context(), f.gateways[0], call{path: path}); said != passed {
			t.Fatalf("a call is answered %s", said)
		}
	}
	time.Sleep(1500 * time.Millisecond) // everything is said
	f.redis.Freeze()
	f.fire(t.Context(), load{call: call{path: sendPath}, callers: 10, calls: 20})
	f.redis.Thaw()
	time.Sleep(3 * time.Second)
	for _, path := range []string{sendPath, textPath} {
		if said := f.hear(t.Context(), f.gateways[0], call{path: path}); said != passed {
			t.Errorf("three seconds after the store is back %s is answered %s, want %s", path, said, passed)
		}
	}
}

// One idle second after the last call nothing is counted that was not sent.
func TestIdleSecond(t *testing.T) {
	n, _, direct := relayedNode(t, 1_000_000)
	time.Sleep(1100 * time.Millisecond)
	for _, run := range []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, 700 * time.Millisecond, 990 * time.Millisecond} {
		for begun := time.Now(); time.Since(begun) < run; {
			if verdict, _, _ := n.call(t.Context(), groupsPath); verdict != limits.Pass {
				t.Fatal(verdict)
			}
			time.Sleep(500 * time.Microsecond)
		}
		idle := time.Now()
		executed := n.judge.Executed(app, groupsPath)
		open := false
		waitFor(t, "rest", func() bool {
			var got int64
			for _, used := range windows(t, direct, app, "groups", "d") {
				got += used
			}
			open = open || got > executed
			return got == executed
		})
		t.Logf("after %s of calls: a block was open %t, given back after %s", run, open, time.Since(idle).Round(time.Millisecond))
		if time.Since(idle) > 1250*time.Millisecond {
			t.Error("want an idle second")
		}
		time.Sleep(2200 * time.Millisecond)
	}
}
