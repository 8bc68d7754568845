package limits

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"wxproxy/internal/redistest"
)

func TestBreaker(t *testing.T) {
	var b breaker
	now := time.Now()
	failed := errors.New("no answer")
	for i := range openAfter {
		if !b.allows(true, now) {
			t.Fatalf("open after %d errors", i)
		}
		for range 100 { // the commands of one batch
			b.result(fmt.Errorf("counters: %w", &batchError{int64(i) + 1, failed}), now)
		}
	}
	if b.allows(true, now) || b.allows(false, now) || !b.isOpen() {
		t.Error("open: allows requests")
	}
	now = now.Add(time.Minute)
	if b.allows(true, now) || b.allows(false, now) {
		t.Error("after a while: allows requests, want only a heartbeat to end it")
	}
	b.result(failed, now)
	if !b.result(nil, now) || b.result(nil, now) {
		t.Error("want the end of the outage told once")
	}
	if b.allows(true, now) || !b.allows(false, now) || !b.allows(true, now.Add(holdTime)) {
		t.Error("just back: want reports at once and calls after the hold")
	}
	for range openAfter * 3 { // errors that are far apart, with successes between, open nothing
		now = now.Add(2 * time.Second)
		b.result(failed, now)
		b.result(nil, now)
	}
	if !b.allows(true, now) {
		t.Error("opened by errors that are far apart")
	}
	b.result(failed, now)
	b.result(failed, now.Add(openTime/2))
	if b.isOpen() {
		t.Error("opened by two errors within half a second")
	}
	if b.result(failed, now.Add(openTime)); !b.isOpen() {
		t.Error("still closed after a second in which no request succeeded")
	}
}

// While the store is away each gateway sends at most its share of what was left as last heard; a
// small quota, a paced rule and a window that it knows nothing of send nothing. Afterwards nothing
// is over and nothing is missing.
func TestLocalShares(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	open := redisStand(server)
	paced := rule("paced", "/cgi-bin/paced", "5000/day")
	paced.Pace = Pace{Rate: 1000, Per: time.Second, Burst: 1000}
	refuses := rule("refuses", "/cgi-bin/refuses", "5000/day")
	refuses.OnError = StoreErrorRefuse
	apps := map[string]*Ruleset{"wx1": rules(t, rule("large", "/cgi-bin/large", "3000/day"), rule("small", "/cgi-bin/small", "1000/day"), paced, refuses)}
	const fleet = 3
	var ls []*Limiter
	for range fleet {
		ls = append(ls, gateway(t, open(t), apps))
	}
	for _, l := range ls { // each hears of the others, and of every counter
		eventually(t, "gateways", fleet, func() int64 {
			n, _ := l.link.counters.Heartbeat(t.Context()) // on a busy machine some get no answer
			return n
		})
		for _, name := range []string{"large", "small", "paced", "refuses"} {
			d := take(t, l, "wx1", "/cgi-bin/"+name)
			d.Done(0)
		}
	}
	late := gateway(t, open(t), apps) // has heard of nothing

	server.Freeze()
	for _, l := range append([]*Limiter{late}, ls...) { // they trust the count after 20 s only
		l.link.gateways.Store(fleet)
	}
	sent := make([]int, fleet)
	for i, l := range ls {
		for range 1200 {
			d := take(t, l, "wx1", "/cgi-bin/large")
			switch d.Verdict {
			case Degraded:
				sent[i]++
				d.Done(0)
			case RefusedStore:
			default:
				t.Fatalf("with the store away: %s", d.Verdict)
			}
		}
		for _, name := range []string{"small", "paced", "refuses"} {
			if d := take(t, l, "wx1", "/cgi-bin/"+name); d.Verdict != RefusedStore {
				t.Errorf("%s with the store away: %s, want refused-store", name, d.Verdict)
			}
		}
	}
	if d := take(t, late, "wx1", "/cgi-bin/large"); d.Verdict != RefusedStore {
		t.Errorf("a gateway that has heard of nothing: %s, want refused-store", d.Verdict)
	}
	begun := time.Now()
	for range 100 {
		take(t, ls[0], "wx1", "/cgi-bin/small")
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("100 calls with the breaker open took %s", took)
	}
	server.Thaw()
	begun = time.Now()
	total := int64(fleet)
	for i, n := range sent {
		total += int64(n)
		if n < 900 || n > 1000 {
			t.Errorf("gateway %d sent %d while the store was away, want about a third of 2997", i, n)
		}
	}
	for i, l := range ls { // a small quota goes on within two seconds
		for {
			d := take(t, l, "wx1", "/cgi-bin/small")
			if d.Verdict == Pass {
				d.Done(0)
				break
			}
			if time.Since(begun) > 2*time.Second {
				t.Fatalf("gateway %d: %s two seconds after the store is back", i, d.Verdict)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	t.Logf("sent %v alone; calls went through again after %s", sent, time.Since(begun).Round(time.Millisecond))
	for i := range 3 * fleet * 100 {
		d := take(t, ls[i%fleet], "wx1", "/cgi-bin/large")
		if d.Verdict.Sent() {
			total++
			d.Done(0)
		} else if d.Verdict != RefusedQuota {
			t.Fatalf("with the store back: %s", d.Verdict)
		}
	}
	if total != 3000 {
		t.Errorf("sent %d in all, want 3000", total)
	}
	eventually(t, "counted at rest", 3000, func() int64 { return used(t, ls[0], "wx1", "large") })
	if ls[0].Degraded() {
		t.Error("Degraded() = true, want false")
	}
}

func TestFleet(t *testing.T) {
	var f fleet
	now := time.Unix(1_800_000_000, 0)
	for i, step := range []struct {
		after   time.Duration
		n, want int64
	}{
		{0, 1, 0},
		{10 * time.Second, 3, 0}, // just started: other gateways may not have registered
		{10 * time.Second, 3, 3},
		{10 * time.Second, 1, 3}, // the store was flushed
		{10 * time.Second, 4, 4},
		{9 * time.Minute, 2, 4},
		{2 * time.Minute, 2, 2}, // the others have been gone for ten minutes
	} {
		now = now.Add(step.after)
		if got := f.seen(step.n, now); got != step.want {
			t.Errorf("step %d: seen(%d) = %d, want %d", i, step.n, got, step.want)
		}
	}
}

func TestFailsOpen(t *testing.T) {
	small, large := rule("a", "/cgi-bin/a", "1000/day"), rule("a", "/cgi-bin/a", "5000/day")
	paced, shadow := rule("a", "/cgi-bin/a", "5000/day"), rule("a", "/cgi-bin/a", "5/day")
	paced.Pace = Pace{Rate: 1, Per: time.Second, Burst: 1}
	shadow.Shadow = true
	for _, tt := range []struct {
		name string
		rule *Rule
		want bool
	}{
		{"a small quota", small, false},
		{"a large one", large, true},
		{"one with a pace", paced, false},
		{"a shadow", shadow, true},
		{"no figure", rule("a", "/cgi-bin/a", "unknown"), true},
		{"no limit", rule("a", "/cgi-bin/a", "unlimited"), true},
		{"denied", rule("a", "/cgi-bin/a", "denied"), false},
	} {
		l := New(Options{Counters: boltStand(openBolt(t, filepath.Join(t.TempDir(), "wxproxy.db")), time.Now)(t)})
		l.Configure(map[string]*Ruleset{"wx1": rules(t, tt.rule)}, rules(t, rule("other", "/cgi-bin/*", "unknown")))
		if got := l.FailsOpen(); got != tt.want {
			t.Errorf("%s: FailsOpen() = %t, want %t", tt.name, got, tt.want)
		}
		closeLimiter(t, l)
	}
}
