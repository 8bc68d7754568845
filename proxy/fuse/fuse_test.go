package fuse

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const (
	invalidOpenID   = 40003
	unfollowed      = 43004
	unknownTemplate = 40037
)

// sending is one call of a made-up caller, as WeChat would answer it.
type sending struct {
	print   uint64
	errcode int // 0: it succeeds
}

// stand plays the calls of one caller through the fuses of its gateways, in virtual time.
type stand struct {
	fuses  []*Fuse
	key    Key
	now    time.Time
	always bool // the errcode does not depend on the call

	executed, refused, probes int
	refusedGood               int // of refused: calls that would have succeeded
	trips, closes             int
}

func newStand(gateways int) *stand {
	s := &stand{key: Key{"wx1", "message.template.send", "crm"}, now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)}
	for range gateways {
		s.fuses = append(s.fuses, New(Period))
	}
	return s
}

// call plays one call on one gateway, and lets pause pass after it.
func (s *stand) call(c sending, gateway int, pause time.Duration) {
	f := s.fuses[gateway]
	run := f.Find(s.key)
	var v Verdict
	if run != nil && run.Tripped() {
		v = run.Ask(c.print, s.now)
	}
	switch {
	case v.Refused:
		s.refused++
		if c.errcode == 0 {
			s.refusedGood++
		}
	default:
		s.executed++
		if v.Probe {
			s.probes++
		}
		var change Change
		if c.errcode != 0 {
			change = f.Failed(s.key, Failure{c.errcode, s.always, c.print, v.Probe}, s.now, func() string { return "{}" })
		} else if run != nil {
			change = run.Other(true, v.Probe)
		}
		switch change {
		case Tripped:
			s.trips++
		case Closed:
			s.closes++
		}
	}
	s.now = s.now.Add(pause)
}

// mailing is a send to n users of whom a part has unfollowed, each sent to so often where it fails.
func mailing(r *rand.Rand, n int, part float64, order string, tries int) []sending {
	users := make([]sending, n)
	for i := range users {
		users[i] = sending{print: r.Uint64()}
		if float64(i) < part*float64(n) {
			users[i].errcode = unfollowed
		}
	}
	switch order {
	case "random":
		r.Shuffle(n, func(i, j int) { users[i], users[j] = users[j], users[i] })
	case "runs": // several long runs of both kinds
		var pieces [][]sending
		for rest := users; len(rest) > 0; {
			k := min(len(rest), 200+r.IntN(1000))
			pieces, rest = append(pieces, rest[:k]), rest[k:]
		}
		r.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		users = slices.Concat(pieces...)
	case "last":
		slices.Reverse(users)
	}
	var calls []sending
	for _, u := range users {
		calls = append(calls, u)
		for range tries - 1 {
			if u.errcode != 0 {
				calls = append(calls, u)
			}
		}
	}
	return calls
}

// A send to 10,000 users never trips the fuse, however many of them have unfollowed, whatever the order, the
// retries of the SDK, the speed and the number of gateways.
func TestHonestSendsNeverTrip(t *testing.T) {
	for _, part := range []float64{.15, .3, .6} {
		for _, order := range []string{"random", "runs", "first", "last"} {
			for _, tries := range []int{1, 6} {
				for _, perSecond := range []int{2, 20, 200} {
					for _, gateways := range []int{1, 3} {
						name := fmt.Sprintf("%.0f%% %s %dx %d/s %d gateways", part*100, order, tries, perSecond, gateways)
						r := rand.New(rand.NewPCG(uint64(tries), uint64(perSecond)))
						s := newStand(gateways)
						for i, c := range mailing(r, 10_000, part, order, tries) {
							s.call(c, i%gateways, time.Second/time.Duration(perSecond))
						}
						if s.trips > 0 || s.refused > 0 {
							t.Errorf("%s: %d trips, %d calls refused", name, s.trips, s.refused)
						}
					}
				}
			}
		}
	}
}

// What several honest senders of one caller do at once never trips it: any mix in which each different call is sent a
// few times.
func TestHonestMixesNeverTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStand(1)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		codes := rapid.SliceOfN(rapid.SampledFrom([]int{0, unfollowed, invalidOpenID}), 1, 8).Draw(t, "outcomes")
		length := rapid.IntRange(1, 1000).Draw(t, "length")
		for _, code := range codes {
			for range length {
				c := sending{r.Uint64(), code}
				for range 1 + r.IntN(8) {
					s.call(c, 0, time.Duration(r.IntN(300))*time.Millisecond)
				}
			}
		}
		if s.trips > 0 || s.refused > 0 {
			t.Errorf("%d trips, %d refused", s.trips, s.refused)
		}
	})
}

// With errcodes that do not depend on the call, successes in between keep the fuse from tripping.
func TestMixesOfSuccessesNeverTrip(t *testing.T) {
	for _, failing := range []int{50, 85, 98} {
		s := newStand(1)
		s.always = true
		r := rand.New(rand.NewPCG(1, 2))
		for range 50_000 {
			c := sending{print: r.Uint64()}
			if r.IntN(100) < failing {
				c.errcode = unknownTemplate
			}
			s.call(c, 0, 100*time.Millisecond)
		}
		if s.trips > 0 || s.refused > 0 {
			t.Errorf("%d%% failing: %d trips, %d refused", failing, s.trips, s.refused)
		}
	}
}

// A slow caller fails for ever without being refused: it costs 200 calls in ten minutes to trip.
func TestSlowCallersNeverTrip(t *testing.T) {
	s := newStand(1)
	for range 20_000 {
		s.call(sending{1, invalidOpenID}, 0, 5*time.Second)
	}
	if s.trips > 0 {
		t.Errorf("%d trips, with a call each 5 s", s.trips)
	}
}

// Loops trip: the same call, several ones in turn, and any calls with an errcode that does not depend on them.
func TestLoopsTrip(t *testing.T) {
	for _, tt := range []struct {
		name      string
		errcode   int
		always    bool
		different int // calls in turn; 0: each is new
		good      int // of 1000 calls, new ones that succeed
		perSecond int
		within    int // calls
	}{
		{"one call, 100 %", invalidOpenID, false, 1, 0, 3, 201},
		{"one call, 100 %, fast", invalidOpenID, false, 1, 0, 100, 6001},
		{"one call, 99.5 %", invalidOpenID, false, 1, 5, 3, 600},
		{"one call, 99.5 %, fast", invalidOpenID, false, 1, 5, 100, 7000},
		{"5 calls in turn", unfollowed, false, 5, 0, 5, 301},
		{"100 calls in turn", unfollowed, false, 100, 0, 20, 2001},
		{"5 calls in turn, 99.5 %", unfollowed, false, 5, 5, 20, 3000},
		{"each call new, template unknown", unknownTemplate, true, 0, 0, 4, 241},
		{"one call, template unknown", unknownTemplate, true, 1, 0, 4, 241},
	} {
		s := newStand(1)
		s.always = tt.always
		start := s.now
		r := rand.New(rand.NewPCG(3, 4))
		prints := make([]uint64, max(tt.different, 1))
		for i := range prints {
			prints[i] = r.Uint64()
		}
		goods := 0
		for i := range 40_000 {
			c := sending{prints[i%len(prints)], tt.errcode}
			if tt.different == 0 {
				c.print = r.Uint64()
			}
			if r.IntN(1000) < tt.good {
				c = sending{print: r.Uint64()}
				goods++
			}
			before := s.trips
			s.call(c, 0, time.Second/time.Duration(tt.perSecond))
			if took := s.now.Sub(start); s.trips > before && (i >= tt.within || took < Period) {
				t.Errorf("%s: tripped at call %d after %s, want within %d and not before %s", tt.name, i, took, tt.within, Period)
			}
		}
		periods := 40_000 / tt.perSecond / 60
		if s.trips != 1 || s.closes > 0 || s.probes < periods-12 || s.probes > periods {
			t.Errorf("%s: %d trips, %d closes, %d probes in %d minutes", tt.name, s.trips, s.closes, s.probes, periods)
		}
		if s.executed > tt.within+s.probes+goods+tt.different || s.refusedGood > goods/20 {
			t.Errorf("%s: %d of 40000 executed, %d good ones refused of %d", tt.name, s.executed, s.refusedGood, goods)
		}
	}
}

// trip has one call fail until the fuse trips.
func trip(t *testing.T, s *stand, c sending) {
	t.Helper()
	for range 1000 {
		if s.call(c, 0, 400*time.Millisecond); s.trips > 0 {
			return
		}
	}
	t.Fatal("not tripped")
}

// Where the calls repeat each other, others of the same caller pass, and their outcomes change nothing.
func TestOtherCallsPass(t *testing.T) {
	s := newStand(1)
	trip(t, s, sending{1, invalidOpenID})
	for range 50 {
		s.call(sending{2, 0}, 0, 0)
		s.call(sending{3, unfollowed}, 0, 0)
		s.call(sending{1, invalidOpenID}, 0, 0)
	}
	if s.refused != 50 || s.refusedGood > 0 || s.closes > 0 {
		t.Errorf("%d refused, %d of them good, %d closes; want the 50 that repeat the loop", s.refused, s.refusedGood, s.closes)
	}
	s.key.Caller = "web"
	s.call(sending{1, invalidOpenID}, 0, 0)
	if s.refused != 50 {
		t.Error("another caller was refused")
	}
}

// Where no call can succeed all are refused.
func TestAlwaysRefusesAll(t *testing.T) {
	s := newStand(1)
	s.always = true
	for i := range 300 {
		s.call(sending{uint64(i * 7919), unknownTemplate}, 0, 400*time.Millisecond)
	}
	before := s.refused
	s.call(sending{1 << 40, 0}, 0, 0)
	if s.trips != 1 || s.refused != before+1 {
		t.Errorf("%d trips; %d refused after %d", s.trips, s.refused, before)
	}
}

// A probe that succeeds or fails otherwise closes the fuse; one that fails alike, or never ends, leaves it for another
// period.
func TestProbe(t *testing.T) {
	for _, tt := range []struct {
		name    string
		outcome func(f *Fuse, k Key, r *Run, now time.Time) Change
		closes  bool
	}{
		{"succeeds", func(_ *Fuse, _ Key, r *Run, _ time.Time) Change { return r.Other(true, true) }, true},
		{"fails otherwise", func(_ *Fuse, _ Key, r *Run, _ time.Time) Change { return r.Other(false, true) }, true},
		{"fails with another of these errcodes", func(f *Fuse, k Key, _ *Run, now time.Time) Change {
			return f.Failed(k, Failure{unfollowed, false, 1, true}, now, nil)
		}, true},
		{"fails alike", func(f *Fuse, k Key, _ *Run, now time.Time) Change {
			return f.Failed(k, Failure{invalidOpenID, false, 1, true}, now, nil)
		}, false},
		{"never ends", func(*Fuse, Key, *Run, time.Time) Change { return Unchanged }, false},
		{"a call in flight succeeds", func(_ *Fuse, _ Key, r *Run, _ time.Time) Change { return r.Other(true, false) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStand(1)
			trip(t, s, sending{1, invalidOpenID})
			run := s.fuses[0].Find(s.key)
			if v := run.Ask(1, s.now); !v.Refused || v.Errcode != invalidOpenID || v.Answer != "{}" || v.Wait <= 0 || v.Wait > Period {
				t.Fatalf("after the trip: %+v", v)
			}
			s.now = s.now.Add(Period)
			if v := run.Peek(s.now); v.Refused {
				t.Errorf("peeking when a probe is due: %+v", v)
			}
			if v := run.Ask(1, s.now); !v.Probe || v.Refused {
				t.Fatalf("after a period: %+v, want a probe", v)
			}
			if v := run.Ask(1, s.now); !v.Refused || v.Wait != Period || run.Peek(s.now) != v {
				t.Fatalf("beside the probe: %+v", v)
			}
			if got := tt.outcome(s.fuses[0], s.key, run, s.now) == Closed; got != tt.closes || run.Tripped() == tt.closes {
				t.Errorf("closed: %t, tripped: %t, want closed: %t", got, run.Tripped(), tt.closes)
			}
			if v := run.Ask(1, s.now.Add(Period-1)); v.Refused == tt.closes || v.Probe {
				t.Errorf("then: %+v", v)
			}
			if v := run.Ask(1, s.now.Add(Period)); v.Probe == tt.closes {
				t.Errorf("a period later: %+v", v)
			}
		})
	}
}

// However many callers fail, the memory is bounded, and the one that goes on failing is kept.
func TestBounded(t *testing.T) {
	f, now := New(Period), time.Unix(0, 0)
	loop := Key{"wx1", "user.info", "loop"}
	for i := range 200_000 {
		now = now.Add(10 * time.Millisecond)
		f.Failed(Key{"wx1", "user.info", strconv.Itoa(i)}, Failure{Errcode: unfollowed, Print: 1}, now, nil)
		if run := f.Find(loop); run != nil && run.Tripped() {
			run.Ask(1, now)
		} else if i%50 == 0 {
			f.Failed(loop, Failure{Errcode: unfollowed, Print: 1}, now, func() string { return "" })
		}
	}
	n := 0
	for i := range f.shards {
		n += len(f.shards[i].runs)
	}
	if n > shards*perShard || n < shards*perShard/2 {
		t.Errorf("%d runs are known, want at most %d", n, shards*perShard)
	}
	if run := f.Find(loop); run == nil || !run.Tripped() {
		t.Error("a loop among many callers did not trip")
	}
}

// Calls of callers without a run allocate nothing; nor do failures of one that has one.
func TestAllocations(t *testing.T) {
	f, now := New(Period), time.Unix(0, 0)
	fails := Key{"wx1", "user.info", "crm"}
	f.Failed(fails, Failure{Errcode: unfollowed}, now, nil)
	for name, call := range map[string]func(){
		"no run": func() { f.Find(Key{"wx1", "user.info", "web"}) },
		"a run":  func() { f.Find(fails).Other(true, false) },
		"fails":  func() { f.Failed(fails, Failure{Errcode: unfollowed}, now, nil) },
	} {
		if n := testing.AllocsPerRun(100, call); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	f := New(Period)
	k := Key{"wx0123456789abcdef", "message.template.send", "crm"}
	b.Run("no-run", func(b *testing.B) {
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				f.Find(k)
			}
		})
	})
	f.Failed(k, Failure{Errcode: unfollowed}, time.Now(), nil)
	b.Run("a-run", func(b *testing.B) {
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				f.Find(k)
			}
		})
	})
}
