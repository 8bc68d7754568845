package faults

import (
	"testing"
	"time"

	"wxproxy/internal/redistest"
	"wxproxy/limits"
	"wxproxy/sandbox"
)

// A fail-over loses some of the writes, and a gateway that made some of them has died. What others had
// heard of them is restored: the store need not be empty for that.
func TestFailOverWhileAWriterDies(t *testing.T) {
	h := newHand(t, 20)
	a, dead, fresh := h.voice(t), h.voice(t), h.voice(t)
	a.says(t, 2)
	h.loses(t, func() {
		want(t, "another takes 4, which will be lost", dead.says(t, 4), said{Granted: 4, Used: 6})
		want(t, "a takes 1 and hears of them", a.says(t, 1), said{Granted: 1, Used: 7})
	})
	want(t, "a restores what it had heard", a.says(t, 0), said{Used: 7, Lost: true})
	want(t, "a third takes what is left", fresh.says(t, 20), said{Status: limits.Full, Granted: 13, Used: 20})
}

// Whoever sees by one counter that the store has lost writes states all others that it knows, too,
// within a second and without a call of them: otherwise somebody who knows nothing is granted them again.
func TestLossSeenByOneCounterRestoresAll(t *testing.T) {
	const quota = 10
	server := redistest.Start(t)
	direct := server.Client(t)
	j := newJudge(t, sandbox.Options{})
	set := rules(t, location(t, noon()), map[string][]string{groupsPath: {"10/day"}, tagsPath: {"10/day"}})
	knows := newNode(t, j, counters(t, server.Addr), time.Now, set)
	fresh := newNode(t, j, counters(t, server.Addr), time.Now, set)
	for range 6 {
		if verdict, _, _ := knows.call(t.Context(), tagsPath); verdict != limits.Pass {
			t.Fatalf("verdict = %s", verdict)
		}
	}
	knows.spend(t, 1)
	time.Sleep(idle) // everything is said
	if err := direct.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	knows.spend(t, 1) // sees the loss
	knows.countedIs(t, direct, tagsPath, 6)
	passed := 0
	for range 2 * quota {
		if verdict, _, _ := fresh.call(t.Context(), tagsPath); verdict == limits.Pass {
			passed++
		}
	}
	if executed := j.Executed(app, tagsPath); passed != quota-6 || executed != quota {
		t.Errorf("another gateway sent %d, and WeChat executed %d, want %d and %d", passed, executed, quota-6, quota)
	}
}

// An outage may have lost the writes of counters that nobody called meanwhile. They are stated when the
// store is back, whether or not the counters that were called show a loss.
func TestOutageRestoresWhatWasNotCalled(t *testing.T) {
	server := redistest.Start(t)
	direct := server.Client(t)
	set := rules(t, location(t, noon()), map[string][]string{groupsPath: {"10/day"}, tagsPath: {"10/day"}})
	n := newNode(t, newJudge(t, sandbox.Options{}), counters(t, server.Addr), time.Now, set)
	for range 6 {
		if verdict, _, _ := n.call(t.Context(), tagsPath); verdict != limits.Pass {
			t.Fatalf("verdict = %s", verdict)
		}
	}
	time.Sleep(idle) // everything is said
	server.Stop()    // its memory is lost
	for range 20 {
		if verdict, _, _ := n.call(t.Context(), groupsPath); verdict != limits.RefusedStore { // of which nothing was counted yet
			t.Errorf("with the store away: %s", verdict)
		}
	}
	server.Restart()
	waitFor(t, "a call that passes", func() bool {
		verdict, _, _ := n.call(t.Context(), groupsPath)
		return verdict == limits.Pass
	})
	n.countedIs(t, direct, tagsPath, 6)
}
