package limits

import (
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"wxproxy/internal/redistest"
)

// evals is how many scripts a Redis has run.
func evals(t *testing.T, client *redis.Client) (n int64) {
	t.Helper()
	info, err := client.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`cmdstat_eval(?:sha)?:calls=(\d+)`).FindAllStringSubmatch(info, -1) {
		calls, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		n += calls
	}
	return n
}

// old makes a limiter one that has run for an hour: it may borrow.
func old(l *Limiter) *Limiter {
	l.started = l.started.Add(-time.Hour)
	return l
}

// Three gateways that count ahead drain a quota to the last call, while callers go on asking for two
// seconds past the first refusal.
func TestBlocksDrainAQuotaExactly(t *testing.T) {
	t.Parallel()
	const quota = 30_000
	server := redistest.Start(t)
	open := patientStand(server)
	apps := map[string]*Ruleset{"wx1": rules(t, rule("a", "/cgi-bin/a", fmt.Sprintf("%d/day", quota)))}
	var ls []*Limiter
	for range 3 {
		ls = append(ls, old(gateway(t, open(t), apps)))
	}
	var sent atomic.Int64
	var first atomic.Int64 // when the first refusal was, ns
	var wg sync.WaitGroup
	for i := range 24 {
		l := ls[i%len(ls)]
		wg.Go(func() {
			for at := int64(0); at == 0 || time.Now().UnixNano() < at+int64(2*time.Second); at = first.Load() {
				d := take(t, l, "wx1", "/cgi-bin/a")
				switch d.Verdict {
				case Pass:
					sent.Add(1)
					d.Done(0)
				case RefusedQuota:
					first.CompareAndSwap(0, time.Now().UnixNano())
					time.Sleep(time.Millisecond) // callers that are refused pause
				default:
					t.Errorf("verdict = %s", d.Verdict)
					return
				}
			}
		})
	}
	wg.Wait()
	if sent.Load() != quota {
		t.Errorf("sent %d of %d", sent.Load(), quota)
	}
	commands := evals(t, server.Client(t))
	t.Logf("%d calls took %d commands", sent.Load(), commands)
	if commands > quota/2 {
		t.Errorf("%d commands for %d calls: nothing was counted ahead", commands, quota)
	}
	eventually(t, "counted at rest", quota, func() int64 { return used(t, ls[0], "wx1", "a") })
}

// At a steady 5000 calls a second a large quota costs at most ten commands for a thousand calls, and
// one idle second after the last call nothing is counted that was not sent.
func TestBlocksCostFewCommands(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	l := old(gateway(t, patientStand(server)(t), map[string]*Ruleset{"wx1": rules(t, rule("a", "/cgi-bin/a", "5000000/day"))}))
	const calls = 10_000
	begun := time.Now()
	for i := range calls {
		d := take(t, l, "wx1", "/cgi-bin/a")
		if d.Verdict != Pass || d.Used != int64(i+1) || d.Remaining != 5_000_000-int64(i+1) {
			t.Fatalf("call %d: %s, used %d, remaining %d", i+1, d.Verdict, d.Used, d.Remaining)
		}
		d.Done(0)
		if ahead := time.Duration(i) * time.Second / 5000; ahead > time.Since(begun) {
			time.Sleep(ahead - time.Since(begun))
		}
	}
	if n := evals(t, client); n > calls/100 {
		t.Errorf("%d commands for %d calls, want at most 10 for a thousand", n, calls)
	} else {
		t.Logf("%d commands for %d calls in %s", n, calls, time.Since(begun).Round(time.Millisecond))
	}
	day := today(t, client)
	eventually(t, "counted at rest", calls, func() int64 {
		found, err := l.link.counters.Read(t.Context(), []Query{{App: "wx1", Window: day}})
		if err != nil {
			t.Fatal(err)
		}
		return found[0]["a"].Used
	})
}

func TestSmallQuotasAreNeverLentAhead(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	l := old(gateway(t, patientStand(server)(t), map[string]*Ruleset{"wx1": rules(t, rule("a", "/cgi-bin/a", "1000/day"))}))
	day := today(t, client)
	for i := range 500 {
		d := take(t, l, "wx1", "/cgi-bin/a")
		d.Done(0)
		found, err := l.link.counters.Read(t.Context(), []Query{{App: "wx1", Window: day}})
		if err != nil || found[0]["a"].Used != int64(i+1) {
			t.Fatalf("after %d calls the store has %d, %v", i+1, found[0]["a"].Used, err)
		}
	}
}

// A reload, a crash and a clean stop, with a block open.
func TestOpenBlocks(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	open := patientStand(server)
	apps := func(quota string) map[string]*Ruleset {
		return map[string]*Ruleset{"wx1": rules(t, rule("a", "/cgi-bin/a", quota))}
	}
	day := today(t, client)
	l := old(New(Options{Counters: open(t)}))
	l.Configure(apps("5000000/day"), nil)
	pass := func(n int) {
		t.Helper()
		for range n {
			d := take(t, l, "wx1", "/cgi-bin/a")
			if d.Verdict != Pass {
				t.Fatalf("verdict = %s", d.Verdict)
			}
			d.Done(0)
		}
	}
	lent := func() int64 {
		m := l.registry.find("wx1", "a")
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.groups[0].block.left
	}
	pass(2000)
	for lent() == 0 {
		pass(1)
	}
	// A lower limit holds from the next call, and the block of the old table goes back.
	l.Configure(apps("1500/day"), nil)
	if d := take(t, l, "wx1", "/cgi-bin/a"); d.Verdict != RefusedQuota || d.Used < 2000 || lent() != 0 {
		t.Errorf("after a reload: %s at %d with %d still lent, want refused-quota and none", d.Verdict, d.Used, lent())
	}
	l.Configure(apps("5000000/day"), nil)
	pass(2000)
	for lent() == 0 {
		pass(1)
	}
	sent := used(t, l, "wx1", "a")
	closeLimiter(t, l)
	found, err := l.link.counters.Read(t.Context(), []Query{{App: "wx1", Window: day}})
	if err != nil || found[0]["a"].Used != sent {
		t.Errorf("after a clean stop the store has %d, %v, want %d", found[0]["a"].Used, err, sent)
	}
}

func BenchmarkTakeOfABlock(b *testing.B) {
	set := benchRules(b)
	client := redis.NewClient(&redis.Options{Addr: redistest.Start(b).Addr, MaxRetries: -1, ContextTimeoutEnabled: true})
	b.Cleanup(func() { _ = client.Close() })
	l := old(New(Options{Counters: NewRedis(client, "wxp:", "bench002")}))
	l.Configure(map[string]*Ruleset{"wx1": set}, nil)
	b.Cleanup(func() { _ = l.Close(b.Context()) })
	call := Call{App: "wx1", Match: set.Match("/cgi-bin/user/info")}
	b.ReportAllocs()
	for b.Loop() {
		_, hold := l.Take(b.Context(), call)
		hold.Done(0)
	}
}
