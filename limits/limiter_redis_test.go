package limits

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wxproxy/internal/redistest"
)

func TestScriptFlushedUnderLoad(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	l := gateway(t, patientStand(server)(t), map[string]*Ruleset{"wx1": rules(t, rule("a", "/cgi-bin/a", "500/day"))})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var flushed atomic.Int64
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if client.ScriptFlush(t.Context()).Err() == nil {
					flushed.Add(1)
				}
			}
		}
	})
	var sent atomic.Int64
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() {
			for range 50 {
				switch d := take(t, l, "wx1", "/cgi-bin/a"); d.Verdict {
				case Pass:
					sent.Add(1)
					d.Done(0)
				case RefusedQuota:
				default:
					t.Errorf("verdict = %s", d.Verdict)
				}
			}
		})
	}
	callers.Wait()
	close(stop)
	wg.Wait()
	if sent.Load() != 500 || flushed.Load() == 0 {
		t.Errorf("sent %d, want 500; scripts flushed %d times", sent.Load(), flushed.Load())
	}
}

// The store's clock decides which day it is, whatever the gateway's says.
func TestMidnightByTheStoresClock(t *testing.T) {
	t.Parallel()
	midnight := time.Date(2026, 12, 2, 0, 0, 0, 0, shanghai(t))
	server := redistest.StartAt(t, midnight.Add(-3*time.Second))
	ahead := time.Until(midnight.Add(-3 * time.Second)) // the store's clock of ours
	client := server.Client(t)
	var wg sync.WaitGroup
	for _, skew := range []time.Duration{0, -90 * time.Second, 90 * time.Second} {
		app := fmt.Sprintf("wx%d", skew/time.Second)
		l := New(Options{Counters: patientStand(server)(t), Now: func() time.Time { return time.Now().Add(ahead + skew) }})
		l.Configure(map[string]*Ruleset{app: rules(t, rule("a", "/cgi-bin/a", "20/day"))}, nil)
		defer closeLimiter(t, l)
		wg.Go(func() {
			sent := map[bool]int{}
			for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
				d := take(t, l, app, "/cgi-bin/a")
				at, err := client.Time(t.Context()).Result()
				if err != nil {
					t.Error(err)
					return
				}
				if d.Verdict == Pass {
					sent[at.Before(midnight)]++
					d.Done(0)
				}
				if at.After(midnight.Add(1500 * time.Millisecond)) {
					break
				}
			}
			if want := map[bool]int{true: 20, false: 20}; !cmp.Equal(sent, want) {
				t.Errorf("clock off by %s: sent %v before midnight (true) and after, want %v", skew, sent, want)
			}
		})
	}
	wg.Wait()
}

func TestStoreDown(t *testing.T) {
	server := redistest.Start(t)
	var events []EventKind
	var mu sync.Mutex
	l := New(Options{Counters: redisStand(server)(t), Observe: func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, e.Kind)
	}})
	l.Configure(map[string]*Ruleset{"wx1": rules(t, rule("a", "/cgi-bin/a", "30/day"), rule("b", "/cgi-bin/b", "unknown"))}, nil)
	defer closeLimiter(t, l)
	pass := func(n int) (sent int) {
		for range n {
			d := take(t, l, "wx1", "/cgi-bin/a")
			if d.Verdict == Pass {
				sent++
				d.Done(0)
			}
		}
		return sent
	}
	if got := pass(10); got != 10 {
		t.Fatalf("sent %d, want 10", got)
	}

	server.Freeze()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			start := time.Now()
			d := take(t, l, "wx1", "/cgi-bin/a")
			if took := time.Since(start); d.Verdict != RefusedStore || took > time.Second || d.RetryAfter < time.Second {
				t.Errorf("with a frozen store: %s after %s, retry after %s, want refused-store within 250 ms or so", d.Verdict, took, d.RetryAfter)
			}
		})
	}
	wg.Wait()
	d := take(t, l, "wx1", "/cgi-bin/b")
	if d.Verdict != Pass {
		t.Errorf("a rule that is never refused: %s, want pass", d.Verdict)
	}
	d.Done(0)
	if !l.Degraded() {
		t.Error("Degraded() = false, want true")
	}
	server.Thaw()

	// Whatever the frozen store runs late is taken back: exactly the 20 left are sent.
	sent := 0
	eventually(t, "sent", 20, func() int64 { sent += pass(30); return int64(sent) })
	if got := pass(30); got != 0 {
		t.Errorf("sent %d more than the quota", got)
	}
	eventually(t, "b used", 1, func() int64 { return used(t, l, "wx1", "b") })
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]EventKind{StoreDown, NoFigure, StoreUp}, events); diff != "" {
		t.Errorf("events, each change once (-want +got):\n%s", diff)
	}
}

func TestFlushedStoreIsRestoredByTheGatewayThatKnows(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	open := redisStand(server)
	apps := map[string]*Ruleset{"wx1": rules(t, rule("a", "/cgi-bin/a", "10/day"))}
	knows, other := gateway(t, open(t), apps), gateway(t, open(t), apps)
	for range 8 {
		d := take(t, knows, "wx1", "/cgi-bin/a")
		d.Done(0)
	}
	client.FlushAll(context.WithoutCancel(t.Context()))
	d := take(t, knows, "wx1", "/cgi-bin/a")
	d.Done(0)
	if d.Verdict != Pass || d.Used != 9 {
		t.Errorf("after a flush: %s, used %d, want pass, 9", d.Verdict, d.Used)
	}
	sent := 0
	for range 5 {
		d := take(t, other, "wx1", "/cgi-bin/a")
		if d.Verdict == Pass {
			sent++
			d.Done(0)
		}
	}
	if sent != 1 {
		t.Errorf("another gateway sent %d more, want 1", sent)
	}
}
