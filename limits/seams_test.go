package limits

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

// Where two mechanisms meet: each test is one fault that was seen, with a store in memory and a clock
// that moves when everything waits.

// seam is gateways on one store in memory, at noon.
type seam struct {
	t        *testing.T
	store    *memory
	ways     []*way
	limiters []*Limiter
	losses   atomic.Int64 // observed
	back     atomic.Int64 // by how much the store's clock was set back, ns
}

// way is the way of a gateway to the store, which can be cut.
type way struct {
	*memoryGateway
	down  atomic.Bool
	sent  atomic.Int64 // requests of Exchange that arrived
	beats atomic.Int64
}

var errCut = errors.New("no answer")

func (w *way) Exchange(ctx context.Context, r *Request) (*Answer, error) {
	if w.down.Load() {
		return nil, errCut
	}
	w.sent.Add(1)
	return w.memoryGateway.Exchange(ctx, r)
}

func (w *way) Heartbeat(ctx context.Context) (int64, error) {
	w.beats.Add(1)
	if w.down.Load() {
		return 0, errCut
	}
	return w.memoryGateway.Heartbeat(ctx)
}

// atSeam runs a test on gateways of the app wx1.
func atSeam(t *testing.T, gateways int, set func(t *testing.T) *Ruleset, test func(s *seam)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(4 * time.Hour) // midnight in UTC is 8 in Shanghai
		s := &seam{t: t}
		s.store = newMemory(func() time.Time { return time.Now().Add(-time.Duration(s.back.Load())) })
		for i := range gateways {
			s.ways = append(s.ways, &way{memoryGateway: s.store.gateway(fmt.Sprint("gateway", i))})
			l := New(Options{Counters: s.ways[i], Observe: func(e Event) {
				if e.Kind == StoreLost {
					s.losses.Add(1)
				}
			}})
			l.Configure(map[string]*Ruleset{"wx1": set(t)}, nil)
			s.limiters = append(s.limiters, l)
		}
		time.Sleep(quietTime)
		test(s)
		for i, l := range s.limiters {
			s.ways[i].down.Store(false)
			if err := l.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

func oneRule(quotas ...string) func(t *testing.T) *Ruleset {
	return func(t *testing.T) *Ruleset {
		t.Helper()
		return rules(t, rule("a", "/cgi-bin/a", quotas...), rule("other", "/cgi-bin/*", "unknown"))
	}
}

// pass makes n calls through a gateway that WeChat answers with 0, and returns how many were sent.
func (s *seam) pass(gateway, n int) (sent int) {
	s.t.Helper()
	for range n {
		d := take(s.t, s.limiters[gateway], "wx1", "/cgi-bin/a")
		if d.Verdict.Sent() {
			sent++
			d.Done(0)
		}
	}
	return sent
}

// clear is a clear that WeChat grants, through a gateway.
func (s *seam) clear(gateway int) {
	s.t.Helper()
	s.clearOf(gateway, "")
}

// clearOf is a clear of one path; "": of the whole app.
func (s *seam) clearOf(gateway int, path string) {
	s.t.Helper()
	d := take(s.t, s.limiters[gateway], "wx1", "/cgi-bin/clear_quota")
	time.Sleep(50 * time.Millisecond)
	d.Done(0)
	s.limiters[gateway].Clear("wx1", d.Counted, path)
}

// stored is the count of the day in the store.
func (s *seam) stored() int64 {
	return s.store.used("wx1", windowAt(Day, s.store.now(), shanghai(s.t)).Name, "a")
}

// latch has a gateway closed for the day.
func (s *seam) latch(gateway int) {
	s.t.Helper()
	l := s.limiters[gateway]
	d := take(s.t, l, "wx1", "/cgi-bin/a")
	d.Done(errcodeQuota)
	if err := l.SettleLatch(s.t.Context(), "wx1", l.Rules("wx1").Match("/cgi-bin/a"), time.Now(), true); err != nil {
		s.t.Fatal(err)
	}
}

// A gateway that lifts a latch knows only what was counted when it last asked the store.
func TestLiftKeepsTheCount(t *testing.T) {
	atSeam(t, 2, oneRule("1000/day"), func(s *seam) {
		s.pass(0, 11)
		s.pass(1, 899)
		s.latch(0)
		for i := 0; s.pass(0, 1) == 0; i++ {
			if i > 400 {
				s.t.Fatal("no probe within 400 s")
			}
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second)
		if got := s.stored(); got != 912 {
			s.t.Errorf("the store has %d after the lift, want 912", got)
		}
		if sent := s.pass(1, 1000) + s.pass(0, 1000); sent != 1000-912 {
			s.t.Errorf("sent %d more, want %d", sent, 1000-912)
		}
	})
}

// At rest a clear leaves nothing.
func TestClearAtRest(t *testing.T) {
	for _, quota := range []int{10, 30, 100, 1000, 5000} {
		t.Run(fmt.Sprint(quota), func(t *testing.T) {
			atSeam(t, 2, oneRule(fmt.Sprintf("%d/day", quota)), func(s *seam) {
				if sent := s.pass(0, quota+5); sent != quota {
					s.t.Fatalf("sent %d, want %d", sent, quota)
				}
				time.Sleep(100 * time.Millisecond)
				s.clear(1)
				time.Sleep(time.Second)
				for i, l := range s.limiters {
					if u := usage(s.t, l, "wx1", "a", Day); u.Used != 0 || u.Generation == 0 {
						s.t.Errorf("gateway %d: used %d in the generation %d after a clear at rest, want 0", i, u.Used, u.Generation)
					}
				}
				if sent := s.pass(0, 2*quota) + s.pass(1, 1); sent != quota {
					s.t.Errorf("sent %d after the clear, want %d", sent, quota)
				}
			})
		})
	}
}

// What ended just before a clear, or is in flight, may have run after it.
func TestClearCarriesWhatMayHaveRunAfterIt(t *testing.T) {
	atSeam(t, 2, oneRule("100/day"), func(s *seam) {
		s.pass(0, 20)
		time.Sleep(2 * time.Second)
		s.pass(0, 3)
		inFlight := take(s.t, s.limiters[1], "wx1", "/cgi-bin/a")
		s.clear(0)
		s.pass(1, 1)
		inFlight.Done(0)
		time.Sleep(time.Second)
		if got := s.stored(); got != 3+1+1 {
			s.t.Errorf("the new generation has %d calls, want 3 that ended just before, 1 in flight and 1 after it", got)
		}
	})
}

// A clear granted through another gateway opens a latched one within a second.
func TestLatchedGatewayLearnsOfAClear(t *testing.T) {
	atSeam(t, 2, oneRule("1000/day"), func(s *seam) {
		s.latch(0)
		time.Sleep(2 * time.Second)
		if s.pass(0, 1)+s.pass(1, 1) != 0 {
			s.t.Fatal("a latched gateway sends")
		}
		s.clear(1)
		time.Sleep(fullTTL)
		for i, l := range s.limiters {
			if u := usage(s.t, l, "wx1", "a", Day); u.Latched {
				s.t.Errorf("gateway %d: usage says latched", i)
			}
			if s.pass(i, 1) != 1 {
				s.t.Errorf("gateway %d refuses a second after the clear", i)
			}
		}
	})
}

// After clears of the app and of one path, in either order, a gateway that knows of none of them learns all
// generations with one answer, and its call is granted by the next.
func TestClearsAreLearnedTogether(t *testing.T) {
	reserved := func(t *testing.T) *Ruleset {
		t.Helper()
		r := rule("a", "/cgi-bin/a", "100/day")
		r.Reserve = map[string]int64{"oncall": 5, "night": 5}
		return rules(t, r, rule("other", "/cgi-bin/*", "unknown"))
	}
	for _, set := range []func(*testing.T) *Ruleset{oneRule("100/day"), reserved} {
		for _, paths := range [][]string{{"", "/cgi-bin/a"}, {"/cgi-bin/a", ""}, {"", "/cgi-bin/a", "", "/cgi-bin/a"}} {
			atSeam(t, 2, set, func(s *seam) {
				s.pass(0, 5)
				s.pass(1, 5)
				for _, path := range paths {
					time.Sleep(2 * time.Second)
					s.clearOf(0, path)
				}
				time.Sleep(2 * time.Second)
				before := s.ways[1].sent.Load()
				if sent := s.pass(1, 1); sent != 1 {
					s.t.Errorf("clears of %q: the first call of the other gateway is refused", paths)
				}
				if n := s.ways[1].sent.Load() - before; n != 2 {
					s.t.Errorf("clears of %q: %d requests until the first call is granted, want 2", paths, n)
				}
				time.Sleep(2 * time.Second)
				if got := s.stored(); got != 1 {
					s.t.Errorf("clears of %q: the store has %d calls, want 1", paths, got)
				}
			})
		}
	}
}

// Clears that come between a request and its answer: the newest generation holds, whichever gateway has begun it, and what was
// granted in an older one is counted in it.
func TestClearBetweenRequestAndAnswer(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, shanghai(t))
	now := moment{at: at, since: 4 * time.Hour, store: at.UnixMilli()}
	cal := newCalendar(at, shanghai(t))
	ago := func(minutes int64) int64 { return now.store - minutes*time.Minute.Milliseconds() }
	for name, tt := range map[string]struct {
		own        int64 // generation of a clear through this gateway, after the request
		day, state int64 // what the answer says
		granted    int64

		generation, local int64
	}{
		"none":                         {0, 0, 0, 2, 0, 5},
		"another's, of the app":        {0, ago(9), ago(9), 0, ago(9), 1},
		"another's, of the path":       {0, 0, ago(9), 0, ago(9), 1},
		"of the app and then the path": {0, ago(9), ago(8), 0, ago(8), 1},
		"our own, and a grant":         {ago(9), 0, 0, 2, ago(9), 3},
		"our own after another's":      {ago(8), ago(9), ago(9), 0, ago(8), 1},
		"our own before another's":     {ago(9), 0, ago(8), 0, ago(8), 1},
		"our own between two others":   {ago(8), ago(9), ago(7), 0, ago(7), 1},
		"our own, which is known":      {ago(9), 0, ago(9), 0, ago(9), 1},
	} {
		m := &meter{account: &account{appid: "wx1"}, name: "a"}
		c := m.counter("a", &cal.of[Day])
		c.limit, c.own = 10, ownCalls{local: 3, inFlight: 1}
		r := m.request([]*counter{c}, 2, 0, nil)
		if tt.own > 0 {
			m.clearDay(cal.of[Day], tt.own, tt.own, false, now)
		}
		a := &Answer{Granted: tt.granted, Now: now.store, Generations: []int64{tt.day}, Counters: []CounterState{{Generation: tt.state, Used: 3 + tt.granted, Version: 1}}}
		if tt.granted == 0 {
			a.Status = Again
		}
		if m.apply([]*counter{c}, r, a, now); c.generation != tt.generation || c.own.local != tt.local {
			t.Errorf("%s: generation %d with %d calls, want %d with %d", name, c.generation, c.own.local, tt.generation, tt.local)
		}
	}
}

// A clear of one path starts shares and reserves over, too, that the gateway which is granted it has never seen.
func TestClearOfAPathStartsBudgetsOver(t *testing.T) {
	set := func(t *testing.T) *Ruleset {
		t.Helper()
		r := rule("a", "/cgi-bin/a", "40/day", "1000/month")
		r.Reserve = map[string]int64{"oncall": 10}
		r.Shares = map[string]Budget{"crm": aDay(5)}
		return rules(t, r, rule("other", "/cgi-bin/*", "unknown"))
	}
	clears := map[string]func(s *seam){
		"clear": func(s *seam) { s.clearOf(0, "/cgi-bin/a") },
		"ClearTo": func(s *seam) {
			l := s.limiters[0]
			if err := l.ClearTo(s.t.Context(), "wx1", l.Rules("wx1").Match("/cgi-bin/a"), time.Now(), 0); err != nil {
				s.t.Fatal(err)
			}
		},
	}
	for name, clears := range clears {
		atSeam(t, 2, set, func(s *seam) {
			spend := func(when string) {
				s.t.Helper()
				for _, of := range []struct {
					caller string
					sent   int
					then   Verdict
				}{{"crm", 5, RefusedShare}, {"web", 25, RefusedReserved}, {"oncall", 10, RefusedQuota}} {
					for i := range of.sent + 1 {
						want := Pass
						if i == of.sent {
							want = of.then
						}
						d := takeAs(s.t, s.limiters[1], "wx1", of.caller, "/cgi-bin/a")
						if d.Done(0); d.Verdict != want {
							s.t.Errorf("%s, %s: call %d of %s: %s, want %s", name, when, i+1, of.caller, d.Verdict, want)
							return
						}
					}
				}
			}
			spend("at first")
			time.Sleep(5 * time.Second)
			clears(s)
			time.Sleep(2 * time.Second)
			spend("after it")
		})
	}
}

// A latched or full counter asks the store once a second, however often it is called; one that is not
// called never does.
func TestRequestsOfClosedCounters(t *testing.T) {
	for _, latched := range []bool{true, false} {
		atSeam(t, 1, oneRule("5/day"), func(s *seam) {
			if s.pass(0, 6); latched {
				time.Sleep(time.Second)
				s.clear(0)
				s.latch(0)
			}
			time.Sleep(lateTTL)
			before := s.ways[0].sent.Load()
			for range 1000 {
				s.pass(0, 1)
				time.Sleep(10 * time.Millisecond)
			}
			if n := s.ways[0].sent.Load() - before; n < 9 || n > 11 {
				s.t.Errorf("latched %t: %d requests in 10 s of calls, want one a second", latched, n)
			}
			before = s.ways[0].sent.Load()
			time.Sleep(time.Minute)
			if n := s.ways[0].sent.Load() - before; n > 0 {
				s.t.Errorf("latched %t: %d requests in a minute without a call, want none", latched, n)
			}
		})
	}
}

// Counters of windows that the store does not keep any more are not reported for ever.
func TestExpiredWindowsAreDropped(t *testing.T) {
	set := func(t *testing.T) *Ruleset {
		t.Helper()
		return rules(t, rule("a", "/cgi-bin/a", "100/day"), rule("b", "/cgi-bin/b", "100/day", "500/month"), rule("c", "/cgi-bin/c", "unknown"))
	}
	atSeam(t, 1, set, func(s *seam) {
		for _, path := range []string{"/cgi-bin/a", "/cgi-bin/b"} {
			take(s.t, s.limiters[0], "wx1", path).Done(0)
		}
		time.Sleep(2 * time.Second)
		s.ways[0].down.Store(true)
		for range 3 { // counted without the store, and never reported
			take(s.t, s.limiters[0], "wx1", "/cgi-bin/c").Done(0)
		}
		time.Sleep(3 * 24 * time.Hour)
		s.store.flush() // it keeps a window for a day
		s.ways[0].down.Store(false)
		s.losses.Store(0)
		before := s.ways[0].sent.Load()
		time.Sleep(time.Minute)
		if n, losses := s.ways[0].sent.Load()-before, s.losses.Load(); n > 1 || losses > 1 {
			s.t.Errorf("%d requests and %d losses in a minute without a call, want one, about the month", n, losses)
		}
	})
}

// WeChat answers quota/get slowly; calls sent meanwhile are in the count.
func TestLostClearWithTraffic(t *testing.T) {
	atSeam(t, 2, oneRule("1000/day"), func(s *seam) {
		s.pass(0, 500)
		s.pass(1, 400)
		time.Sleep(5 * time.Second) // WeChat has cleared, and its answer was lost
		executed := s.pass(0, 20) + s.pass(1, 10)
		time.Sleep(2 * time.Second)
		began, said := time.Now(), int64(executed)
		for range 3 { // WeChat takes three seconds for its answer
			executed += s.pass(0, 10) + s.pass(1, 10)
			time.Sleep(time.Second)
		}
		l := s.limiters[0]
		if err := l.ClearTo(s.t.Context(), "wx1", l.Rules("wx1").Match("/cgi-bin/a"), began, said); err != nil {
			s.t.Fatal(err)
		}
		time.Sleep(time.Second)
		for i := range 2000 {
			executed += s.pass(i%2, 1)
		}
		if executed != 1000 {
			s.t.Errorf("WeChat executed %d of 1000 in the new generation", executed)
		}
	})
}

// With one call a second, and with none, an outage is noticed.
func TestOutageIsNoticed(t *testing.T) {
	atSeam(t, 1, oneRule("5000/day"), func(s *seam) {
		time.Sleep(fleetTrust + time.Second)
		s.pass(0, 1)
		fleet := s.limiters[0].Store().Gateways
		s.ways[0].down.Store(true)
		time.Sleep(3 * time.Second)
		state := s.limiters[0].Store()
		if state.Answers || !s.limiters[0].Degraded() {
			s.t.Error("an idle gateway has not noticed after 3 s")
		}
		if fleet == 0 || state.Gateways != fleet {
			s.t.Errorf("%d gateways before the outage and %d in it, want the same", fleet, state.Gateways)
		}
		s.ways[0].down.Store(false)
		time.Sleep(3 * time.Second)
		if s.limiters[0].Degraded() || s.pass(0, 1) != 1 {
			s.t.Error("nor that the store is back")
		}
		s.ways[0].down.Store(true)
		var got []Verdict
		for range 10 {
			d := take(s.t, s.limiters[0], "wx1", "/cgi-bin/a")
			d.Done(0)
			got = append(got, d.Verdict)
			time.Sleep(time.Second)
		}
		for i, v := range got {
			if i >= 2 && v != Degraded {
				s.t.Errorf("one call a second: %v, want degraded from the third on", got)
				break
			}
		}
	})
}

// An app that was taken out of the configuration is not written again, and what it had counted is
// right when it comes back.
func TestAppTakenOutOfTheConfiguration(t *testing.T) {
	atSeam(t, 2, oneRule("10/day"), func(s *seam) {
		s.pass(0, 4)
		s.pass(1, 3)
		for _, l := range s.limiters {
			l.Configure(map[string]*Ruleset{}, nil)
		}
		time.Sleep(2 * time.Second)
		s.limiters[0].Forget("wx1")
		s.store.flush()
		s.ways[1].down.Store(true)
		time.Sleep(5 * time.Second)
		s.ways[1].down.Store(false)
		time.Sleep(time.Minute)
		if got := s.stored(); got != 0 {
			s.t.Errorf("the store has %d calls of an app that was forgotten", got)
		}
	})
	atSeam(t, 2, oneRule("10/day"), func(s *seam) {
		s.pass(0, 4)
		s.pass(1, 3)
		set := s.limiters[0].Rules("wx1")
		for _, wait := range []time.Duration{0, 2 * time.Minute} {
			s.limiters[0].Configure(map[string]*Ruleset{}, nil)
			time.Sleep(wait)
			s.limiters[0].Configure(map[string]*Ruleset{"wx1": set}, nil)
			s.pass(0, 1)
		}
		if sent := s.pass(0, 10) + s.pass(1, 10); sent != 1 || s.stored() != 10 {
			s.t.Errorf("sent %d more with %d in the store, want 1 and 10", sent, s.stored())
		}
	})
}

// A store whose clock was set back does not swallow the next clear.
func TestClearByAClockThatWasSetBack(t *testing.T) {
	atSeam(t, 2, oneRule("10/day"), func(s *seam) {
		s.pass(0, 10)
		time.Sleep(2 * time.Second)
		s.clear(0)
		if sent := s.pass(0, 10); sent != 10 {
			s.t.Fatalf("sent %d after a clear", sent)
		}
		s.back.Store(int64(time.Hour))
		time.Sleep(noticeTime + 2*time.Second)
		s.pass(1, 1)
		s.clear(1)
		time.Sleep(fullTTL)
		if sent := s.pass(0, 10); sent != 10 {
			s.t.Errorf("sent %d after a clear by a clock that was set back, want 10", sent)
		}
	})
}

// A month goes on while its rule has no figure for a while.
func TestMonthOfARuleThatHadNoFigure(t *testing.T) {
	for _, between := range []string{"unlimited", "unknown", "8/day"} {
		atSeam(t, 1, oneRule("10/month"), func(s *seam) {
			l := s.limiters[0]
			s.pass(0, 3)
			l.Configure(map[string]*Ruleset{"wx1": oneRule(between)(s.t)}, nil)
			s.pass(0, 4)
			l.Configure(map[string]*Ruleset{"wx1": oneRule("10/month")(s.t)}, nil)
			if sent := s.pass(0, 10); sent != 3 {
				s.t.Errorf("%s: sent %d more, want 3", between, sent)
			}
		})
	}
}

// The monotonic clock of a host that was suspended stands still.
func TestPastOnASuspendedHost(t *testing.T) {
	now := time.Now()
	deadline := now.Add(time.Hour)
	suspended := wake(now, 8*time.Hour)
	if suspended.Sub(now) > time.Second || suspended.Round(0).Sub(now.Round(0)) < 7*time.Hour {
		t.Fatal("the two clocks of the test are not apart")
	}
	if Past(now, deadline) || !Past(suspended, deadline) || !Past(deadline, deadline) {
		t.Errorf("Past = %t before, %t after the host was suspended for 8 hours", Past(now, deadline), Past(suspended, deadline))
	}
	if set := wake(deadline.Add(time.Second), -2*time.Hour); !Past(set, deadline) {
		t.Error("not past by the monotonic clock, because the wall clock was set back")
	}
}

// wake returns a time whose wall clock is ahead by d, and its monotonic reading is not: that is what
// time.Now returns on a host that was suspended.
func wake(t time.Time, d time.Duration) time.Time {
	ahead := t.Add(d)
	monotonic := (*int64)(unsafe.Add(unsafe.Pointer(&ahead), unsafe.Sizeof(uint64(0)))) // time.Time.ext
	*monotonic -= int64(d)
	return ahead
}

// A gateway that was suspended over midnight does not spend a block of yesterday's.
func TestBlockOnASuspendedHost(t *testing.T) {
	var asleep atomic.Int64
	counters := newMemory(func() time.Time { return time.Now().Add(time.Duration(asleep.Load())) }).gateway("gateway0")
	l := old(New(Options{Counters: counters, Now: func() time.Time { return wake(time.Now(), time.Duration(asleep.Load())) }}))
	defer closeLimiter(t, l)
	zone := time.FixedZone("noon", (12-time.Now().UTC().Hour())*3600)
	l.Configure(map[string]*Ruleset{"wx1": ruleset(t, zone, rule("a", "/cgi-bin/a", "5000000/day"))}, nil)
	open := func() int64 {
		m := l.registry.find("wx1", "a")
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.groups[0].block.left
	}
	for i := 0; i < 100 || open() == 0; i++ {
		take(t, l, "wx1", "/cgi-bin/a").Done(0)
	}
	asleep.Store(int64(14 * time.Hour))
	d := take(t, l, "wx1", "/cgi-bin/a")
	if d.Verdict != Pass || d.Used != 1 {
		t.Errorf("after midnight: %s, used %d, want the first call of a new day", d.Verdict, d.Used)
	}
	d.Done(0)
}

// The first call after a store has lost everything has every counter of its gateway restored, with what
// others had counted.
func TestLostStoreIsRestored(t *testing.T) {
	set := func(t *testing.T) *Ruleset {
		t.Helper()
		return rules(t, rule("a", "/cgi-bin/a", "100/day"), rule("b", "/cgi-bin/b", "100/month"), rule("other", "/cgi-bin/*", "unknown"))
	}
	atSeam(t, 2, set, func(s *seam) {
		for i := range 14 {
			for _, path := range []string{"/cgi-bin/a", "/cgi-bin/b", "/cgi-bin/c"} {
				take(s.t, s.limiters[i%2], "wx1", path).Done(0)
			}
		}
		time.Sleep(5 * time.Second)
		s.store.flush()
		s.pass(1, 1)
		time.Sleep(2 * time.Second)
		month := windowAt(Month, time.Now(), shanghai(s.t)).Name
		day := windowAt(Day, time.Now(), shanghai(s.t)).Name
		if a, b, c := s.stored(), s.store.used("wx1", month, "b"), s.store.used("wx1", day, "other:/cgi-bin/c"); a != 15 || b != 14 || c < 7 {
			s.t.Errorf("restored %d, %d and %d calls, want 15, 14 and at least its own 7", a, b, c)
		}
	})
}

// Each gateway notices a loss by its own part, also where another has restored the count before.
func TestLossIsNoticedByItsPart(t *testing.T) {
	set := func(t *testing.T) *Ruleset {
		t.Helper()
		return rules(t, rule("a", "/cgi-bin/a", "100/day"), rule("b", "/cgi-bin/b", "100/month"))
	}
	atSeam(t, 2, set, func(s *seam) {
		b := func(gateway int) { take(s.t, s.limiters[gateway], "wx1", "/cgi-bin/b").Done(0) }
		s.pass(0, 5)
		s.pass(1, 5)
		b(1)
		for range 6 {
			b(0)
		}
		time.Sleep(5 * time.Second)
		s.store.flush()
		s.pass(1, 1)
		time.Sleep(2 * time.Second)
		s.pass(0, 1)
		time.Sleep(2 * time.Second)
		month := windowAt(Month, time.Now(), shanghai(s.t)).Name
		if a, b := s.stored(), s.store.used("wx1", month, "b"); a != 12 || b != 7 {
			s.t.Errorf("restored %d and %d calls, want 12 and 7", a, b)
		}
	})
}

// A grant that finds the store empty has the other counters restored, too.
func TestLossIsNoticedByAGrant(t *testing.T) {
	set := func(t *testing.T) *Ruleset {
		t.Helper()
		return rules(t, rule("a", "/cgi-bin/a", "100/day"), rule("b", "/cgi-bin/b", "100/day"))
	}
	atSeam(t, 1, set, func(s *seam) {
		l := s.limiters[0]
		s.pass(0, 3)
		for range 4 {
			take(s.t, l, "wx1", "/cgi-bin/b").Done(0)
		}
		time.Sleep(5 * time.Second)
		s.store.flush()
		if _, err := l.SetGrant(s.t.Context(), "wx1", l.Rules("wx1").Match("/cgi-bin/a"), 5, time.Time{}, 0); err != nil {
			s.t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		day := windowAt(Day, time.Now(), shanghai(s.t)).Name
		if a, b := s.stored(), s.store.used("wx1", day, "b"); a != 3 || b != 4 {
			s.t.Errorf("restored %d and %d calls, want 3 and 4", a, b)
		}
	})
}

// What WeChat said of yesterday after a lost clear does not start today's count over.
func TestLostClearOfYesterday(t *testing.T) {
	t.Parallel()
	atSeam(t, 1, oneRule("100/day"), func(s *seam) {
		l := s.limiters[0]
		s.pass(0, 90)
		day := l.calendar(l.now()).of[Day]
		time.Sleep(time.Until(day.End) - 100*time.Millisecond)
		began := time.Now()
		time.Sleep(time.Second) // WeChat's answer comes after midnight
		s.pass(0, 5)
		if err := l.ClearTo(s.t.Context(), "wx1", l.Rules("wx1").Match("/cgi-bin/a"), began, 40); err != nil {
			s.t.Fatal(err)
		}
		if u := usage(s.t, l, "wx1", "a", Day); u.Used != 5 || u.Generation != 0 {
			s.t.Errorf("today: used %d in the generation %d, want 5 in none", u.Used, u.Generation)
		}
	})
}
