package history

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"wxproxy/internal/redistest"
)

// begin is when the tests' clocks start: far ahead, so that no Redis drops what it is given.
var (
	shanghai = time.FixedZone("CST", 8*3600)
	begin    = time.Date(2099, 11, 23, 22, 58, 30, 0, shanghai)
)

// faulty is a store whose next write fails.
type faulty struct {
	Store
	lose  bool // the request
	reply bool // the reply: the write is carried out
}

var errLost = errors.New("lost")

func (f *faulty) Write(ctx context.Context, parts []Parts) error {
	if f.lose {
		return errLost
	}
	err := f.Store.Write(ctx, parts)
	if f.reply {
		return errLost
	}
	return err
}

// world is two gateways on one store, and what must come out.
type world struct {
	t        *rapid.T
	store    *faulty
	loseDays func() error
	now      time.Time
	lives    int
	gateways [2]*Recorder
	stored   []event    // of what the store has
	pending  [2][]event // of what a gateway has alone
}

// event is a call, as the model knows it.
type event struct {
	Event
	hour time.Time
}

func (w *world) gateway() *Recorder {
	w.lives++
	return New(Options{
		Store: w.store, Gateway: fmt.Sprintf("gw%06d", w.lives), Zone: shanghai,
		Apps: func() []string { return slices.Clone(testApps) }, Now: func() time.Time { return w.now },
	})
}

var (
	testApps    = []string{"wx1", "wx2"}
	testReasons = []Outcome{{Kind: Passed}, {Kind: Passed}, {Kind: Refused, Reason: "quota-used-up"}, {Kind: Rejected, Errcode: 40003}, {Kind: Shadow}, {Kind: Local}}
)

func (w *world) call(g int, e Event) {
	e.At = w.now
	w.gateways[g].Add(e)
	w.pending[g] = append(w.pending[g], event{e, w.now.Truncate(time.Hour)})
}

func (w *world) flush(g int, lose, reply bool) {
	w.store.lose, w.store.reply = lose, reply
	defer func() { w.store.lose, w.store.reply = false, false }()
	err := w.gateways[g].Flush(w.t.Context())
	if len(w.pending[g]) > 0 && (lose || reply) != (err != nil) {
		w.t.Fatalf("Flush = %v with lose %v, reply %v", err, lose, reply)
	}
	if lose {
		return
	}
	w.stored = append(w.stored, w.pending[g]...) // after a lost reply they are written again, which counts nothing twice
	w.pending[g] = nil
}

func (w *world) kill(g int) { w.pending[g], w.gateways[g] = nil, w.gateway() }

// advance moves the clock, and lets each gateway look at the days that are over.
func (w *world) advance(d time.Duration) {
	day := dayOf(w.now)
	w.now = w.now.Add(d)
	if dayOf(w.now.Add(-rollDelay)) == day {
		return
	}
	for _, g := range w.gateways {
		w.review(g)
	}
}

func (w *world) review(g *Recorder) {
	for range 3 {
		g.review(w.t.Context())
	}
}

func (w *world) forget(app string, erase func(app string) error) {
	for g := range w.gateways {
		w.gateways[g].Forget(app)
		w.pending[g] = slices.DeleteFunc(w.pending[g], func(e event) bool { return e.App == app })
	}
	if err := erase(app); err != nil {
		w.t.Fatal(err)
	}
	w.stored = slices.DeleteFunc(w.stored, func(e event) bool { return e.App == app })
}

// check reads through a gateway that has counted nothing, and through one that has.
func (w *world) check(g int) {
	w.t.Helper()
	w.compare("what the store has", w.gateway(), w.stored)
	w.compare("what a gateway knows", w.gateways[g], append(slices.Clone(w.stored), w.pending[g]...))
}

func (w *world) compare(what string, r *Recorder, events []event) {
	w.t.Helper()
	for _, step := range []Step{ByHour, ByDay, Total} {
		since := dayStart(begin, -1)
		if step == ByHour && since.Before(r.HoursSince()) {
			since = r.HoursSince()
		}
		q := Query{Apps: testApps, From: since, To: w.now.Add(time.Second), Step: step, Rule: true, Caller: true, Outcome: true}
		lines, err := r.History(w.t.Context(), q)
		if err != nil {
			w.t.Fatal(err)
		}
		got, want := make(map[string]int64), make(map[string]int64)
		for _, l := range lines {
			got[fmt.Sprint(l.Start.Unix(), l.App, l.Series)] += l.Calls
		}
		for _, e := range events {
			start := map[Step]time.Time{ByHour: e.hour, ByDay: dayStart(e.At.In(shanghai), 0), Total: since}[step]
			if !e.At.Before(since) {
				want[fmt.Sprint(start.Unix(), e.App, Series{e.Rule, e.Caller, e.Outcome})]++
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			w.t.Fatalf("%s by %s (-want +got):\n%s", what, step, diff)
		}
	}
	w.compareRefusals(what, r, events)
	w.compareRates(what, r, events)
}

func (w *world) compareRefusals(what string, r *Recorder, events []event) {
	w.t.Helper()
	refusals, err := r.Refusals(w.t.Context(), Query{Apps: testApps, From: dayStart(begin, -1), To: w.now.Add(time.Second)})
	if err != nil {
		w.t.Fatal(err)
	}
	want := make(map[string]Refusal)
	for _, e := range events {
		if e.Outcome.Kind != Refused {
			continue
		}
		key, at := e.App+"|"+e.Rule+"|"+e.Caller, e.At.Truncate(time.Second)
		f, ok := want[key]
		if !ok {
			f = Refusal{App: e.App, Rule: e.Rule, Caller: e.Caller, Reason: e.Outcome.Reason, First: at, Last: at}
		}
		if at.Before(f.First) {
			f.First = at
		}
		if at.After(f.Last) {
			f.Last = at
		}
		f.Count++
		want[key] = f
	}
	got := make(map[string]Refusal)
	for _, f := range refusals {
		got[f.App+"|"+f.Rule+"|"+f.Caller] = f
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Fatalf("%s, refusals (-want +got):\n%s", what, diff)
	}
}

func (w *world) compareRates(what string, r *Recorder, events []event) {
	w.t.Helper()
	rates, err := r.Rates(w.t.Context(), testApps)
	if err != nil {
		w.t.Fatal(err)
	}
	for i, app := range testApps {
		want := make(map[[2]string]int64)
		for _, e := range events {
			if e.App == app && e.Outcome.Sent() && e.At.Unix()/60 > w.now.Unix()/60-slotMinutes {
				want[[2]string{e.Rule, e.Caller}]++
			}
		}
		if diff := cmp.Diff(want, rates[i].pairs); diff != "" {
			w.t.Fatalf("%s, rates of %s (-want +got):\n%s", what, app, diff)
		}
	}
}

// Whatever is lost between two gateways and their store, and whichever of them is killed: everything is
// counted once, for hours and days, and both stores give the same.
func TestStores(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	file := openBolt(t)
	n := 0
	before := flag.Lookup("rapid.checks").Value.String()
	if before == "100" { // by default: each takes a fifth of a second
		if err := flag.Set("rapid.checks", "40"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = flag.Set("rapid.checks", before) })
	}
	worlds := map[string]func(rt *rapid.T, prefix string) (*world, func(app string) error){
		"redis": func(rt *rapid.T, prefix string) (*world, func(string) error) {
			s := NewRedis(client, prefix, "life0001")
			drop := func(pattern string) error {
				keys, err := client.Keys(t.Context(), pattern).Result()
				if err == nil && len(keys) > 0 {
					err = client.Del(t.Context(), keys...).Err()
				}
				return err
			}
			w := &world{store: &faulty{Store: s}, loseDays: func() error { return drop(prefix + "*:history:m*") }}
			return w, func(app string) error { return drop(prefix + "{" + app + "}:*") }
		},
		"file": func(rt *rapid.T, prefix string) (*world, func(string) error) {
			s := NewBolt(file, prefix)
			w := &world{store: &faulty{Store: s}, loseDays: func() error { return dropDays(s) }}
			s.now = func() time.Time { return w.now }
			return w, func(app string) error { return dropApp(s, app) }
		},
	}
	for name, make := range worlds {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				n++
				w, erase := make(rt, "p"+strconv.Itoa(n)+":")
				w.t, w.now = rt, begin
				w.gateways = [2]*Recorder{w.gateway(), w.gateway()}
				w.run(erase)
			})
		})
	}
}

// run draws what happens.
func (w *world) run(erase func(app string) error) {
	t := w.t
	g := rapid.IntRange(0, 1)
	w.t.Repeat(map[string]func(*rapid.T){
		"call": func(t *rapid.T) {
			e := Event{
				App: rapid.SampledFrom(testApps).Draw(t, "app"), Rule: rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "rule"),
				Caller: rapid.SampledFrom([]string{"crm", ""}).Draw(t, "caller"), Outcome: rapid.SampledFrom(testReasons).Draw(t, "outcome"),
			}
			w.call(g.Draw(t, "gateway"), e)
		},
		"seconds": func(t *rapid.T) { w.advance(time.Duration(rapid.IntRange(1, 700).Draw(t, "seconds")) * time.Second) },
		"hours":   func(t *rapid.T) { w.advance(time.Duration(rapid.IntRange(1, 20).Draw(t, "hours")) * time.Hour) },
		"flush":   func(t *rapid.T) { w.flush(g.Draw(t, "gateway"), false, false) },
		"lost": func(t *rapid.T) {
			lose := rapid.Bool().Draw(t, "request")
			w.flush(g.Draw(t, "gateway"), lose, !lose)
		},
		"kill":   func(t *rapid.T) { w.kill(g.Draw(t, "gateway")) },
		"review": func(t *rapid.T) { w.review(w.gateways[g.Draw(t, "gateway")]) },
		"lose the days": func(*rapid.T) {
			if err := w.loseDays(); err != nil {
				t.Fatal(err)
			}
			w.stored = slices.DeleteFunc(w.stored, func(e event) bool { // hours that far back are not rolled up again
				return dayOf(e.At.In(shanghai)) < dayOf(dayStart(w.now.In(shanghai), -HoursKept))
			})
		},
		"forget": func(t *rapid.T) { w.forget(rapid.SampledFrom(testApps).Draw(t, "app"), erase) },
		"":       func(t *rapid.T) { w.check(g.Draw(t, "read by")) },
	})
}

func openBolt(tb testing.TB) *bbolt.DB {
	tb.Helper()
	db, err := bbolt.Open(filepath.Join(tb.TempDir(), "history.db"), 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

// dropDays removes what was rolled up.
func dropDays(s *Bolt) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		apps := s.apps(tx)
		if apps == nil {
			return nil
		}
		return apps.ForEachBucket(func(app []byte) error {
			var days []string
			scan(apps.Bucket(app), "m", func(rest string, _ []byte) { days = append(days, "m"+rest) })
			for _, day := range days {
				if err := apps.Bucket(app).Delete([]byte(day)); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func dropApp(s *Bolt, app string) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		if s.app(tx, app) == nil {
			return nil
		}
		return s.apps(tx).DeleteBucket([]byte(app))
	})
}

// A part that is written while a day is rolled up is not missing from it for ever.
func TestRollDuringAWrite(t *testing.T) {
	for name, s := range map[string]Store{"redis": NewRedis(redistest.Start(t).Client(t), "p:", "life0001"), "file": NewBolt(openBolt(t), "p:")} {
		t.Run(name, func(t *testing.T) {
			day := Day{"wx1", "20991123"}
			write := func(name string, sums []byte) {
				t.Helper()
				err := s.Write(t.Context(), []Parts{{App: "wx1", Hours: []DayPart{{Part: Part{Hour: begin.Unix(), Name: name, Sums: sums}, Day: day.Day, Over: true}}}})
				if err != nil {
					t.Fatal(err)
				}
			}
			roll := func(late func()) []byte {
				t.Helper()
				err := s.Roll(t.Context(), day, func(parts []Part) []byte {
					late()
					return []byte{plain, byte(len(parts))}
				})
				if err != nil {
					t.Fatal(err)
				}
				days, err := s.Days(t.Context(), []Day{day})
				if err != nil {
					t.Fatal(err)
				}
				return days[0]
			}
			write("a", []byte{1})
			if got := roll(func() { write("b", []byte{1}) }); got != nil {
				t.Errorf("rolled up without the new part: %x", got)
			}
			if got := roll(func() { write("b", []byte{2}) }); got != nil {
				t.Errorf("rolled up with the old part: %x", got)
			}
			if got := roll(func() {}); len(got) != 2 || got[1] != 2 {
				t.Errorf("rolled up %x, want 2 parts", got)
			}
			write("b", []byte{3})
			if days, err := s.Days(t.Context(), []Day{day}); err != nil || days[0] != nil {
				t.Errorf("after a late part: %x, %v, want nothing", days, err)
			}
		})
	}
}
