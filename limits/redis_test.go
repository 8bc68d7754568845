package limits

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"wxproxy/internal/redistest"
)

// today is the day's window by the store's clock.
func today(t *testing.T, client *redis.Client) Window {
	t.Helper()
	now, err := client.Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	return windowAt(Day, now, shanghai(t))
}

// statement is one request for the counter "a" with a limit of 10.
type statement struct {
	want  int64
	state State
}

// heard is what an answer says of that counter.
type heard struct {
	Status    Status
	Granted   int64
	Lost      bool
	Used      int64
	Version   int64
	Generated int64
}

func exchange(t *testing.T, s Counters, w Window, generation int64, st statement) heard {
	t.Helper()
	st.state.Name = "a"
	if st.state.Limit == 0 {
		st.state.Limit = 10
	}
	a, err := s.Exchange(t.Context(), &Request{
		App: "wx1", Want: st.want, Windows: []WindowState{{Window: w, Generation: generation}}, Counters: []State{st.state},
	})
	if err != nil {
		t.Fatalf("Exchange(%+v) = %v", st, err)
	}
	c := a.Counters[0]
	return heard{a.Status, a.Granted, a.Lost, c.Used, c.Version, c.Generation}
}

// The sentences of the protocol, one after the other, as one gateway says them.
func TestScript(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	open := redisStand(server)
	a, b := open(t), open(t)
	day := today(t, client)

	steps := []struct {
		name string
		say  func() heard
		want heard
	}{
		{"a spends 4", func() heard { return exchange(t, a, day, 0, statement{want: 4}) }, heard{Granted: 4, Used: 4, Version: 1}},
		{"a gives 1 back", func() heard {
			return exchange(t, a, day, 0, statement{state: State{Version: 1, Confirmed: 4, Held: 3}})
		}, heard{Used: 3, Version: 2}},
		{"b spends 5", func() heard { return exchange(t, b, day, 0, statement{want: 5}) }, heard{Granted: 5, Used: 8, Version: 3}},
		{"b never heard of it: the grant goes back by itself", func() heard { return exchange(t, b, day, 0, statement{want: 1}) }, heard{Granted: 1, Used: 4, Version: 4}},
		{"a asks for more than there is", func() heard {
			return exchange(t, a, day, 0, statement{want: 9, state: State{Version: 2, Confirmed: 3, Held: 3}})
		}, heard{Status: Full, Granted: 6, Used: 10, Version: 5}},
		{"refused, and nothing is written", func() heard {
			return exchange(t, b, day, 0, statement{want: 1, state: State{Version: 4, Others: 3, Confirmed: 1, Held: 1}})
		}, heard{Status: Full, Used: 10, Version: 5}},
		{"the limit is raised in b's table", func() heard {
			return exchange(t, b, day, 0, statement{want: 1, state: State{Limit: 20, Version: 5, Others: 9, Confirmed: 1, Held: 1}})
		}, heard{Granted: 1, Used: 11, Version: 6}},
		{"a has sent 2 while the store was away", func() heard {
			return exchange(t, a, day, 0, statement{state: State{Version: 5, Others: 1, Confirmed: 9, Held: 11}})
		}, heard{Used: 13, Version: 7}},
		{"the store loses everything; b restores what it had heard", func() heard {
			client.FlushAll(t.Context())
			return exchange(t, b, day, 0, statement{state: State{Version: 6, Others: 9, Confirmed: 2, Held: 2}})
		}, heard{Lost: true, Used: 11, Version: 7}},
		{"a claims its part of that", func() heard {
			return exchange(t, a, day, 0, statement{state: State{Version: 7, Others: 2, Confirmed: 11, Held: 11}})
		}, heard{Used: 13, Version: 8}},
		{"a clear, heard from a", func() heard {
			return exchange(t, a, day, 99, statement{want: 1, state: State{Generation: 99}})
		}, heard{Granted: 1, Used: 1, Version: 1, Generated: 99}},
		{"b does not know of the clear: its figures say nothing", func() heard {
			return exchange(t, b, day, 0, statement{want: 1, state: State{Version: 7, Others: 9, Confirmed: 2, Held: 2}})
		}, heard{Status: Again, Used: 1, Version: 1, Generated: 99}},
		{"b in the new generation", func() heard {
			return exchange(t, b, day, 99, statement{want: 1, state: State{Generation: 99}})
		}, heard{Granted: 1, Used: 2, Version: 2, Generated: 99}},
		{"a count learned from WeChat only raises", func() heard {
			return exchange(t, b, day, 99, statement{state: State{Generation: 99, Version: 2, Others: 1, Confirmed: 1, Held: 1, Raise: 8}})
		}, heard{Used: 8, Version: 3, Generated: 99}},
		{"a latch refuses", func() heard {
			return exchange(t, b, day, 99, statement{want: 1, state: State{Generation: 99, Version: 3, Others: 7, Confirmed: 1, Held: 1, Latch: day.End.UnixMilli()}})
		}, heard{Status: Latched, Used: 8, Version: 4, Generated: 99}},
		{"the next day by the gateway's clock", func() heard {
			return exchange(t, a, windowAt(Day, day.End, shanghai(t)), 0, statement{want: 1})
		}, heard{Status: Outside, Version: 0}},
	}
	for _, step := range steps {
		if diff := cmp.Diff(step.want, step.say()); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", step.name, diff)
		}
	}
	for _, key := range client.Keys(t.Context(), "*").Val() {
		end := day.End
		if ttl := client.ExpireTime(t.Context(), key).Val(); ttl != time.Duration(end.AddDate(0, 0, 1).Unix())*time.Second && ttl != time.Duration(end.AddDate(0, 0, 2).Unix())*time.Second {
			t.Errorf("%s expires at %s, want a day after its window", key, ttl)
		}
	}
}

func TestStaleRequestsChangeNothing(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	s := redisStand(server)(t).(*Redis)
	day := today(t, client)
	exchange(t, s, day, 0, statement{want: 4})
	exchange(t, s, day, 0, statement{want: 2, state: State{Version: 1, Confirmed: 4, Held: 4}})

	for _, q := range []int64{1, 2} { // the first request once more, late, and the second one doubled
		s.q.Store(q - 1)
		_, err := s.try(t.Context(), &Request{App: "wx1", Windows: []WindowState{{Window: day}}, Counters: []State{
			{Name: "a", Limit: 10, Version: 1, Confirmed: 4, Held: 4},
		}})
		if !errors.Is(err, errStale) {
			t.Errorf("request %d once more: %v, want %v", q, err, errStale)
		}
	}
	s.q.Store(100)
	if got := exchange(t, s, day, 0, statement{state: State{Version: 2, Confirmed: 6, Held: 6}}); got.Used != 6 {
		t.Errorf("used %d after a late request, want 6", got.Used)
	}
}

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
					l.Done(&d, 0)
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
					l.Done(&d, 0)
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
				l.Done(&d, 0)
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
			if took := time.Since(start); d.Verdict != RefusedStore || took > 400*time.Millisecond || d.RetryAfter < time.Second {
				t.Errorf("with a frozen store: %s after %s, retry after %s, want refused-store within 400ms", d.Verdict, took, d.RetryAfter)
			}
		})
	}
	wg.Wait()
	d := take(t, l, "wx1", "/cgi-bin/b")
	if d.Verdict != Pass {
		t.Errorf("a rule that is never refused: %s, want pass", d.Verdict)
	}
	l.Done(&d, 0)
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
		knows.Done(&d, 0)
	}
	client.FlushAll(context.WithoutCancel(t.Context()))
	d := take(t, knows, "wx1", "/cgi-bin/a")
	knows.Done(&d, 0)
	if d.Verdict != Pass || d.Used != 9 {
		t.Errorf("after a flush: %s, used %d, want pass, 9", d.Verdict, d.Used)
	}
	sent := 0
	for range 5 {
		d := take(t, other, "wx1", "/cgi-bin/a")
		if d.Verdict == Pass {
			sent++
			other.Done(&d, 0)
		}
	}
	if sent != 1 {
		t.Errorf("another gateway sent %d more, want 1", sent)
	}
}
