package limits

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"wxproxy/internal/redistest"
)

// reference is the protocol once more, in Go and without a store, as a plain reading of its rules.
type reference struct {
	mu       sync.Mutex
	share    int64 // blocks are at most this part of what is left: 1000 in the script
	now      func() time.Time
	windows  map[string]int64 // generation, by app and window
	counters map[string]*referenceCounter
	parts    map[string]*referencePart // by counter and gateway
}

type referenceCounter struct{ e, used, v, lost, latch, grant int64 }

type referencePart struct{ e, q, c int64 }

func newReference(now func() time.Time) *reference {
	return &reference{share: 1000, now: now, windows: map[string]int64{}, counters: map[string]*referenceCounter{}, parts: map[string]*referencePart{}}
}

func (s *reference) exchange(gateway string, q int64, r *Request) *Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	a := &Answer{Now: now.UnixMilli()}
	key := func(c State) string { return r.App + " " + r.Windows[c.Window].Name + " " + c.Name }
	for _, c := range r.Counters {
		if p := s.parts[key(c)+"|"+gateway]; p != nil && p.q >= q {
			return &Answer{Status: Stale, Now: a.Now}
		}
	}
	for _, w := range r.Windows {
		g := max(s.windows[r.App+" "+w.Name], w.Generation)
		s.windows[r.App+" "+w.Name] = g
		a.Generations = append(a.Generations, g)
		if now.Before(w.Start) || !now.Before(w.End) {
			a.Status = Outside
		}
	}
	counters := make([]*referenceCounter, len(r.Counters))
	parts := make([]*referencePart, len(r.Counters))
	changed := make([]bool, len(r.Counters))
	var room int64
	for i, st := range r.Counters {
		c, p := s.counters[key(st)], s.parts[key(st)+"|"+gateway]
		if c == nil {
			c = &referenceCounter{}
		}
		if p == nil {
			p = &referencePart{}
		}
		counters[i], parts[i] = c, p
		if e := max(c.e, a.Generations[st.Window], st.Generation); c.e < e {
			*c = referenceCounter{e: e, grant: c.grant}
			changed[i] = true
		}
		if p.e != c.e {
			p.e, p.c = c.e, 0
		}
		if st.Generation != c.e {
			if a.Status == OK {
				a.Status = Again
			}
			st.Confirmed, st.Held, st.Version, st.Others, st.Latch, st.Raise = 0, 0, 0, 0, 0, 0
		}
		if st.Confirmed > p.c {
			claimed := min(st.Confirmed-p.c, c.lost)
			c.lost -= claimed
			c.used -= claimed
			changed[i] = changed[i] || claimed > 0
		}
		changed[i] = changed[i] || st.Held != p.c
		c.used += st.Held - p.c
		p.c = st.Held
		if c.v < st.Version {
			if d := st.Others - (c.used - p.c); d > 0 {
				c.used += d
				c.lost += d
			}
			c.v = st.Version
			a.Lost, changed[i] = true, true
		}
		changed[i] = changed[i] || st.Latch > c.latch || st.Raise > c.used
		c.latch = max(c.latch, st.Latch)
		c.used = max(c.used, st.Raise)
		left := st.Limit + c.grant - c.used
		if a.Now < c.latch {
			left = 0
		}
		if i == 0 || left < room {
			room, a.Which = left, i
		}
	}
	if a.Status == OK && r.Want > 0 {
		a.Granted = max(0, min(r.Want, room))
		switch {
		case a.Granted == r.Want:
			if ahead := room - a.Granted - 1; ahead > 0 {
				a.Block = max(0, min(r.Block, ahead/s.share))
			}
		case a.Now < counters[a.Which].latch:
			a.Status = Latched
		default:
			a.Status = Full
		}
	}
	for i, c := range counters {
		if changed[i] || a.Granted > 0 || r.Want == 0 {
			c.used += a.Granted + a.Block
			parts[i].c += a.Granted + a.Block
			parts[i].q = q
			c.v++
			s.counters[key(r.Counters[i])] = c
			s.parts[key(r.Counters[i])+"|"+gateway] = parts[i]
		}
		a.Counters = append(a.Counters, Heard{Generation: c.e, Used: c.used, Version: c.v, Latch: c.latch, Grant: c.grant})
	}
	return a
}

// The script in Redis answers as the reference does, whatever is asked.
func TestScriptAgainstReference(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	stores := map[string]*Redis{}
	for _, gateway := range []string{"a", "b", "c"} {
		s := redisStand(server)(t).(*Redis)
		s.gateway = gateway
		stores[gateway] = s
	}
	day := today(t, client)
	month := windowAt(Month, day.Start, shanghai(t))
	rapid.Check(t, func(t *rapid.T) {
		if err := client.FlushAll(context.Background()).Err(); err != nil {
			t.Fatal(err)
		}
		ref := newReference(nil)
		small := rapid.Int64Range(0, 12)
		generation := rapid.SampledFrom([]int64{0, 0, 0, 5, 9})
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			gateway := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "gateway")
			r := &Request{App: "wx1", Want: rapid.Int64Range(0, 4).Draw(t, "want"), Block: rapid.Int64Range(0, 3).Draw(t, "block")}
			r.Windows = []WindowState{{Window: day, Generation: generation.Draw(t, "g")}, {Window: month}}
			if rapid.Bool().Draw(t, "yesterday") {
				r.Windows[0].Window = windowAt(Day, day.Start.Add(-time.Hour), shanghaiFor(t))
			}
			for i := range rapid.IntRange(1, 3).Draw(t, "counters") {
				name, window := "r", min(i, 1)
				if i == 2 {
					name = "r@crm"
				}
				c := State{
					Window: window, Name: name,
					Limit:   rapid.SampledFrom([]int64{10, 15, 5000}).Draw(t, "limit"),
					Version: small.Draw(t, "v"), Others: small.Draw(t, "o"), Confirmed: small.Draw(t, "cs"), Held: small.Draw(t, "c"),
				}
				if window == 0 {
					c.Generation = generation.Draw(t, "e")
				}
				switch rapid.IntRange(0, 9).Draw(t, "rare") {
				case 0:
					c.Latch = day.Start.UnixMilli() + rapid.SampledFrom([]int64{1, 2 * 86400000}).Draw(t, "latch")
				case 1:
					c.Raise = rapid.Int64Range(0, 20).Draw(t, "raise")
				}
				r.Counters = append(r.Counters, c)
			}
			if len(r.Counters) == 1 {
				r.Windows = r.Windows[:1]
			}
			got, err := stores[gateway].Exchange(context.Background(), r)
			if err != nil {
				t.Fatal(err)
			}
			ref.now = func() time.Time { return time.UnixMilli(got.Now) }
			want := ref.exchange(gateway, stores[gateway].q.Load(), r)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s says %+v (-reference +script):\n%s", gateway, r, diff)
			}
		}
	})
}

func shanghaiFor(t *rapid.T) *time.Location {
	zone, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// lossy is a gateway's way to a reference that loses requests and replies.
type lossy struct {
	store   *reference
	gateway string
	q       int64
	fate    func() int
	lent    int // answers with a block
	mu      sync.Mutex
	late    []func() // requests that arrive after their sender has given up
	faults  int
}

var errLost = errors.New("lost")

func (n *lossy) Exchange(_ context.Context, r *Request) (*Answer, error) {
	n.mu.Lock()
	n.q++
	q := n.q
	fate := n.fate()
	n.mu.Unlock()
	if time.Sleep(time.Duration(fate) * time.Millisecond); fate == 5 { // others run meanwhile
		time.Sleep(180 * time.Millisecond) // and some give up waiting
	}
	copied := *r
	copied.Counters = append([]State(nil), r.Counters...)
	n.mu.Lock()
	defer n.mu.Unlock()
	switch fate {
	case 0: // the request is lost
		n.faults++
		return nil, errLost
	case 1: // the reply is lost
		n.faults++
		n.store.exchange(n.gateway, q, &copied)
		return nil, errLost
	case 2: // the request is late
		n.faults++
		n.late = append(n.late, func() { n.store.exchange(n.gateway, q, &copied) })
		return nil, errLost
	case 3: // the request is doubled
		n.faults++
		a := n.store.exchange(n.gateway, q, &copied)
		n.store.exchange(n.gateway, q, &copied)
		return a, nil
	case 4: // an earlier one arrives now
		for _, arrive := range n.late {
			arrive()
		}
		n.late = nil
	}
	a := n.store.exchange(n.gateway, q, &copied)
	if a.Block > 0 {
		n.lent++
	}
	return a, nil
}

func (n *lossy) Patience() time.Duration { return 250 * time.Millisecond }

func (n *lossy) Gateways(context.Context) (int64, error) { return 0, nil }

func (n *lossy) Probe(context.Context, string, string, time.Duration) (bool, error) {
	return false, nil
}

func (n *lossy) Read(context.Context, string, []Window, ...string) ([]map[string]Heard, error) {
	return nil, errLost
}

func (n *lossy) Pace(context.Context, string, string, Pace) (time.Duration, error) { return 0, nil }

// Whatever is lost, late or doubled: the calls executed never exceed the quota, the count is never
// below them, and at rest it is them.
func TestNoInterleavingPassesALimit(t *testing.T) {
	var faults, lent int
	var full atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			limit := rapid.OneOf(rapid.Int64Range(1, 30), rapid.Int64Range(80, 120)).Draw(rt, "limit")
			set := rules(t, rule("a", "/cgi-bin/a", fmt.Sprintf("%d/day", limit)))
			store := newReference(time.Now)
			store.share = rapid.SampledFrom([]int64{1000, 2, 5}).Draw(rt, "share") // blocks even of small quotas
			pause := rapid.SampledFrom([]int{1500, 40}).Draw(rt, "pause")
			var calm atomic.Bool
			fates := rapid.SliceOfN(rapid.IntRange(0, 12), 400, 400).Draw(rt, "fates")
			var next atomic.Int64
			fate := func() int {
				if calm.Load() {
					return 9
				}
				return fates[int(next.Add(1))%len(fates)]
			}
			var ways []*lossy
			var limiters []*Limiter
			for i := range 3 {
				ways = append(ways, &lossy{store: store, gateway: fmt.Sprint("g", i), fate: fate})
				l := New(Options{Counters: ways[i]})
				l.Configure(map[string]*Ruleset{"wx1": set}, nil)
				limiters = append(limiters, l)
			}
			var executed atomic.Int64
			done := make(chan struct{})
			time.Sleep(quietLife) // a process that has just started borrows nothing
			const callers, calls = 12, 8
			for i := range callers {
				pauses := rapid.SliceOfN(rapid.IntRange(0, pause), calls, calls).Draw(rt, "pauses")
				neverLeft := rapid.SliceOfN(rapid.IntRange(0, 5), calls, calls).Draw(rt, "neverLeft")
				go func() {
					defer func() { done <- struct{}{} }()
					l := limiters[i%len(limiters)]
					for j := range calls {
						time.Sleep(time.Duration(pauses[j]) * time.Millisecond)
						d := l.Take(t.Context(), Call{App: "wx1", Match: set.Match("/cgi-bin/a")})
						if !d.Verdict.Sent() {
							full.Add(1)
							continue
						}
						time.Sleep(time.Duration(pauses[j]/20) * time.Millisecond)
						if neverLeft[j] == 0 {
							l.GiveBack(&d)
							continue
						}
						if n := executed.Add(1); n > limit {
							t.Errorf("executed %d of %d", n, limit)
						}
						l.Done(&d, 0)
					}
				}()
			}
			for range callers {
				<-done
			}
			calm.Store(true)
			for _, way := range ways { // what is still on its way arrives
				way.mu.Lock()
				for _, arrive := range way.late {
					arrive()
				}
				way.mu.Unlock()
			}
			time.Sleep(11 * time.Second) // the second settling, too
			day := windowAt(Day, time.Now(), set.Zone)
			store.mu.Lock()
			if c := store.counters["wx1 "+day.Name+" a"]; c != nil && c.used != executed.Load() {
				t.Errorf("at rest: counted %d, executed %d", c.used, executed.Load())
			}
			store.mu.Unlock()
			for i, l := range limiters {
				if err := l.Close(t.Context()); err != nil {
					t.Error(err)
				}
				faults += ways[i].faults
				lent += ways[i].lent
			}
		})
	})
	if faults == 0 || lent == 0 || full.Load() == 0 {
		t.Errorf("%d faults, %d blocks and %d refusals: the test has tested nothing", faults, lent, full.Load())
	}
}
