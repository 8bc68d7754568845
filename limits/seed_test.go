package limits

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// atNoon is a zone in which it is noon, more or less: days are neither young nor about to end.
func atNoon() *time.Location {
	now := time.Now().UTC()
	return time.FixedZone("noon", (12-now.Hour())*3600)
}

// looker stands for WeChat's own count.
type looker struct {
	used  int64
	ok    bool
	delay time.Duration
	asked atomic.Int64
}

func (k *looker) look(ctx context.Context, _ string, _ Match) (int64, bool) {
	k.asked.Add(1)
	select {
	case <-ctx.Done():
		return 0, false
	case <-time.After(k.delay):
	}
	return k.used, k.ok
}

// lookGateway is a limiter that asks k.
func lookGateway(t *testing.T, counters Counters, k *looker, set *Ruleset) *Limiter {
	t.Helper()
	l := New(Options{Counters: counters, Look: k.look})
	l.Configure(map[string]*Ruleset{"wx1": set}, nil)
	t.Cleanup(func() { closeLimiter(t, l) })
	return l
}

func ruleset(t *testing.T, zone *time.Location, rs ...*Rule) *Ruleset {
	t.Helper()
	table := &Table{Zone: zone, Profiles: map[string]*Profile{"p": {Name: "p", Rules: rs}}}
	set, err := table.Rules("p", nil)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// rush makes n calls at once and returns what became of them.
func rush(t *testing.T, l *Limiter, path string, n int) map[Verdict]int {
	t.Helper()
	found := make(map[Verdict]int)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			d := take(t, l, "wx1", path)
			d.Done(0)
			mu.Lock()
			defer mu.Unlock()
			found[d.Verdict]++
		})
	}
	wg.Wait()
	return found
}

// Placed at noon with 80 of 100 used, two gateways send 20 more, however many ask at once, and
// however slowly WeChat answers within its time.
func TestLookBeforeTheFirstCall(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			set := ruleset(t, atNoon(), rule("a", "/cgi-bin/a", "100/day"), rule("large", "/cgi-bin/large", "5000000/day"), rule("none", "/cgi-bin/none", "unknown"))
			k := &looker{used: 80, ok: true, delay: 200 * time.Millisecond}
			l := lookGateway(t, s.open(t), k, set)
			gateways := []*Limiter{l}
			if s.fleet {
				gateways = append(gateways, lookGateway(t, s.open(t), k, set))
			}
			found := make([]map[Verdict]int, len(gateways))
			var wg sync.WaitGroup
			for i, l := range gateways {
				wg.Go(func() { found[i] = rush(t, l, "/cgi-bin/a", 64) })
			}
			wg.Wait()
			passed, refused := 0, 0
			for _, f := range found {
				passed, refused = passed+f[Pass], refused+f[RefusedQuota]
			}
			if passed != 20 || refused != 64*len(gateways)-20 {
				t.Errorf("%d passed and %d were refused, want 20 and the others: %v", passed, refused, found)
			}
			if n := k.asked.Load(); n < 1 || n > int64(len(gateways)) {
				t.Errorf("WeChat was asked %d times, want once for a gateway at most", n)
			}
			before := k.asked.Load()
			if d := take(t, l, "wx1", "/cgi-bin/large"); d.Verdict != Pass || d.Used != 81 {
				t.Errorf("a large quota: %s, used %d, want pass and 81", d.Verdict, d.Used)
			}
			take(t, l, "wx1", "/cgi-bin/none")
			if n := k.asked.Load() - before; n != 1 {
				t.Errorf("WeChat was asked %d times for a large quota and a rule without a figure, want 1", n)
			}
		})
	}
}

// What WeChat does not say in its time is shown, and holds nobody up for longer.
func TestLookWithoutAnAnswer(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			set := ruleset(t, atNoon(), rule("a", "/cgi-bin/a", "10/day"))
			k := &looker{used: 5, ok: true, delay: 10 * time.Second}
			l := lookGateway(t, s.open(t), k, set)
			began := time.Now()
			found := rush(t, l, "/cgi-bin/a", 20)
			if found[Pass] != 10 || found[RefusedQuota] != 10 {
				t.Errorf("found %v, want 10 passed and 10 refused", found)
			}
			if took := time.Since(began); took < seedTimeout || took > 5*time.Second {
				t.Errorf("took %s, want little more than %s", took, seedTimeout)
			}
			for range 3 {
				take(t, l, "wx1", "/cgi-bin/a")
			}
			if k.asked.Load() != 1 {
				t.Errorf("WeChat was asked %d times, want once", k.asked.Load())
			}
			if u := usageOf(t, l, "a"); !u.StartUnknown || u.Used != 10 {
				t.Errorf("usage = %+v, want 10 with an unknown start", u)
			}
			match := l.Rules("wx1").Match("/cgi-bin/a")
			if err := l.Raise(t.Context(), "wx1", match, 12, time.Now()); err != nil {
				t.Fatal(err)
			}
			if u := usageOf(t, l, "a"); u.StartUnknown || u.Used != 12 {
				t.Errorf("usage = %+v, want 12 as WeChat says", u)
			}
		})
	}
}

func usageOf(t *testing.T, l *Limiter, counter string) Usage {
	t.Helper()
	lines, err := l.Usage(t.Context(), "wx1")
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range lines {
		if u.Counter == counter && u.Period == Day {
			return u
		}
	}
	t.Fatalf("no line of %s in %+v", counter, lines)
	return Usage{}
}

// A count is raised and never lowered, by an answer that means this day and this generation only.
func TestRaise(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			set := ruleset(t, atNoon(), rule("a", "/cgi-bin/a", "100/day"), rule("other", "/cgi-bin/*", "unknown"))
			l := lookGateway(t, s.open(t), &looker{}, set)
			match := l.Rules("wx1").Match("/cgi-bin/a")
			for range 5 {
				take(t, l, "wx1", "/cgi-bin/a")
			}
			for _, step := range []struct {
				used, want int64
				began      time.Time
				err        error
			}{
				{3, 5, time.Now(), nil},
				{90, 90, time.Now(), nil},
				{50, 90, time.Now(), nil},
				{95, 90, time.Now().Add(-13 * time.Hour), ErrTooEarly},
			} {
				if err := l.Raise(t.Context(), "wx1", match, step.used, step.began); !errors.Is(err, step.err) {
					t.Fatalf("Raise(%d) = %v, want %v", step.used, err, step.err)
				}
				if u := usageOf(t, l, "a"); u.Used != step.want {
					t.Errorf("raised to %d: used %d, want %d", step.used, u.Used, step.want)
				}
			}
			if found := rush(t, l, "/cgi-bin/a", 20); found[Pass] != 10 {
				t.Errorf("with 90 of 100: %v, want 10 more", found)
			}
			one := l.Rules("wx1").Match("/cgi-bin/x") // inside a /*
			if err := l.Raise(t.Context(), "wx1", one, 7, time.Now()); err != nil {
				t.Fatal(err)
			}
			if d := take(t, l, "wx1", "/cgi-bin/x"); d.Used != 8 {
				t.Errorf("a path inside a /*: used %d, want 8", d.Used)
			}
		})
	}
}

// A clear whose answer was lost is made up for when WeChat's own count shows it.
func TestClearTo(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			set := ruleset(t, atNoon(), rule("a", "/cgi-bin/a", "100/day"), rule("b", "/cgi-bin/b", "100/day"))
			l := lookGateway(t, s.open(t), &looker{}, set)
			for _, path := range []string{"/cgi-bin/a", "/cgi-bin/b"} {
				if found := rush(t, l, path, 100); found[Pass] != 100 {
					t.Fatalf("%s: %v, want 100 passed", path, found)
				}
			}
			match := l.Rules("wx1").Match("/cgi-bin/a")
			time.Sleep(100 * time.Millisecond)
			began := time.Now()
			at := l.link.at(began)
			for range 2 { // a second time changes nothing
				if err := l.ClearTo(t.Context(), "wx1", match, began, 30); err != nil {
					t.Fatal(err)
				}
			}
			if u := usageOf(t, l, "a"); u.Used != 30 || u.Generation != at {
				t.Errorf("usage = %+v, want 30 in the generation %d", u, at)
			}
			if err := l.Raise(t.Context(), "wx1", match, 60, time.Now()); !errors.Is(err, ErrTooEarly) {
				t.Errorf("Raise just after a clear = %v, want %v", err, ErrTooEarly)
			}
			if found := rush(t, l, "/cgi-bin/a", 100); found[Pass] != 70 {
				t.Errorf("after the clear: %v, want 70 passed", found)
			}
			if found := rush(t, l, "/cgi-bin/b", 1); found[Pass] != 0 {
				t.Errorf("its neighbour: %v, want none passed", found)
			}
		})
	}
}

// Who forgets an app begins with nothing.
func TestForget(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			set := ruleset(t, atNoon(), rule("a", "/cgi-bin/a", "100/day"))
			counters := s.open(t)
			l := lookGateway(t, counters, &looker{}, set)
			rush(t, l, "/cgi-bin/a", 10)
			held := take(t, l, "wx1", "/cgi-bin/a")
			l.Forget("wx1")
			held.Done(0) // of a call under way: it says nothing any more
			if seen := l.Seen(); len(seen) != 0 {
				t.Errorf("Seen() = %v, want nobody", seen)
			}
		})
	}
}
