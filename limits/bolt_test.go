package limits

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
)

// clock is a wall clock that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) set(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = at
}

// boltExchange sends one request for the counter "a" of wx1 with a limit of 10.
func boltExchange(t *testing.T, s Counters, w Window, want int64, x Report) (*Answer, error) {
	t.Helper()
	x.Name, x.Limit = "a", 10
	return s.Exchange(t.Context(), &Request{App: "wx1", Want: want, Windows: []WindowReport{{Window: w}}, Counters: []Report{x}})
}

// putBolt writes a value of a window of wx1 into the file, as a fault of the disk would.
func putBolt(t *testing.T, db *bbolt.DB, w Window, field, text string) {
	t.Helper()
	if err := db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(countersBucket))
		for _, name := range []string{"wxp", "wx1", w.Name} {
			if err == nil {
				b, err = b.CreateBucketIfNotExists([]byte(name))
			}
		}
		if err == nil {
			err = b.Put([]byte(field), []byte(text))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestBoltDamagedValue(t *testing.T) {
	day := windowAt(Day, time.Now(), shanghai(t))
	late := fmt.Sprint(lastTime(day) + 1)
	for _, text := range []string{
		"", "nan 1 0 0", "1 1 0", "1 1 0 0 0 0", "0 -1 0 0", "9000000000000000000 1 0 0", late + " 1 0 0 0", "0 1 " + late + " 0 0", "0 1 0 0 x", "garbage", "0 1  0 0",
	} {
		db := openBolt(t, filepath.Join(t.TempDir(), "wxproxy.db"))
		putBolt(t, db, day, "a", text)
		putBolt(t, db, day, "b", "0 7 0 0") // as it was before 2026-12
		open := boltStand(db, nil)
		s := open(t)
		query := []Query{{App: "wx1", Window: day}}
		found, err := s.Read(t.Context(), query)
		damaged, ok := errors.AsType[*DamagedError](err)
		if !ok || damaged.Field != "a" || damaged.Value != text || !strings.Contains(damaged.Key, db.Path()) {
			t.Errorf("%q: Read = %v, want a DamagedError of a in %s", text, err, db.Path())
		}
		if got := names(found[0]); !slices.Equal(got, []string{"b"}) || found[0]["b"].Used != 7 {
			t.Errorf("%q: Read = %+v, want the sound counter", text, found)
		}
		if a, err := boltExchange(t, s, day, 2, Report{}); err != nil || a.Damaged != 1 || a.Status != OK || a.Counters[0].Used != 2 {
			t.Errorf("%q: %+v, %v, want it reported, and 2 used", text, a, err)
		}
		if a, err := boltExchange(t, s, day, 0, Report{Acked: 2, Local: 2}); err != nil || a.Damaged != 0 {
			t.Errorf("%q: once more: %+v, %v, want nothing damaged any more", text, a, err)
		}
		s = open(t)
		if found, err := s.Read(t.Context(), query); err != nil || found[0]["a"].Used != 2 || found[0]["b"].Used != 7 {
			t.Errorf("%q: after a restart: %+v, %v, want 2 and 7 used", text, found, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBoltDamagedGeneration(t *testing.T) {
	day := windowAt(Day, time.Now(), shanghai(t))
	db := openBolt(t, filepath.Join(t.TempDir(), "wxproxy.db"))
	putBolt(t, db, day, "|g", "nan")
	open := boltStand(db, nil)
	s := open(t)
	if _, err := s.Read(t.Context(), []Query{{App: "wx1", Window: day}}); err == nil || !strings.Contains(err.Error(), "field |g") {
		t.Errorf("Read = %v, want a DamagedError of |g", err)
	}
	if a, err := boltExchange(t, s, day, 1, Report{}); err != nil || a.Status != OK || a.Generations[0] != 0 {
		t.Errorf("%+v, %v, want a grant of generation 0", a, err)
	}
	if _, err := open(t).Read(t.Context(), []Query{{App: "wx1", Window: day}}); err != nil {
		t.Errorf("Read once it is written anew = %v", err)
	}
}

// A rule may have any name that CheckRuleName allows, also that of a field of ours.
func TestBoltRuleWithTheNameOfAField(t *testing.T) {
	day := windowAt(Day, time.Now(), shanghai(t))
	open := boltStand(openBolt(t, filepath.Join(t.TempDir(), "wxproxy.db")), nil)
	s := open(t)
	for _, name := range []string{"g", "end", "try"} {
		r := &Request{App: "wx1", Want: 2, Windows: []WindowReport{{Window: day, Generation: 5}}, Counters: []Report{{Name: name, Limit: 10, Generation: 5}}}
		if a, err := s.Exchange(t.Context(), r); err != nil || a.Status != OK {
			t.Fatal(a, err)
		}
	}
	found, err := open(t).Read(t.Context(), []Query{{App: "wx1", Window: day}})
	want := CounterState{Generation: 5, Used: 2}
	if diff := cmp.Diff(map[string]CounterState{"g": want, "end": want, "try": want}, found[0]); err != nil || diff != "" {
		t.Errorf("after a restart: %v (-want +got):\n%s", err, diff)
	}
}

// Of the parts of a counter only the one of its latest life is kept.
func TestBoltLives(t *testing.T) {
	day := windowAt(Day, time.Now(), shanghai(t))
	s := boltStand(openBolt(t, filepath.Join(t.TempDir(), "wxproxy.db")), nil)(t)
	for i, life := range []string{"", "1", "2"} {
		r := &Request{App: "wx1", Life: life, Want: 2, Windows: []WindowReport{{Window: day}}, Counters: []Report{{Name: "a", Limit: 10}}}
		if a, err := s.Exchange(t.Context(), r); err != nil || a.Counters[0].Used != 2*int64(i+1) {
			t.Errorf("life %q: %+v, %v, want %d used", life, a, err, 2*(i+1))
		}
	}
}

// To read the counters of apps that are not called costs no memory.
func TestBoltReadKeepsNothing(t *testing.T) {
	day := windowAt(Day, time.Now(), shanghai(t))
	open := boltStand(openBolt(t, filepath.Join(t.TempDir(), "wxproxy.db")), nil)
	if _, err := boltExchange(t, open(t), day, 3, Report{}); err != nil {
		t.Fatal(err)
	}
	s := open(t).(*Bolt)
	found, err := s.Read(t.Context(), []Query{{App: "wx1", Window: day, Names: []string{"a"}}, {App: "wx2", Window: day}})
	if err != nil || found[0]["a"].Used != 3 || len(found[1]) != 0 || len(s.windows) != 0 {
		t.Errorf("Read = %+v, %v with %d windows in memory, want 3 used and none", found, err, len(s.windows))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if found, err := s.Read(ctx, []Query{{App: "wx1", Window: day}}); !errors.Is(err, context.Canceled) || len(found) != 1 || found[0] != nil {
		t.Errorf("Read in a context that has ended = %+v, %v", found, err)
	}
}

// What could not be written is not granted, and is written once the file can be, which a heartbeat
// finds out.
func TestBoltWriteFails(t *testing.T) {
	day := windowAt(Day, time.Now(), shanghai(t))
	db := openBolt(t, filepath.Join(t.TempDir(), "wxproxy.db"))
	full := openBolt(t, filepath.Join(t.TempDir(), "full.db"))
	if err := full.Close(); err != nil { // no write to it can end well
		t.Fatal(err)
	}
	open := boltStand(db, nil)
	s := open(t).(*Bolt)
	use := func(db *bbolt.DB) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.file.db = db
	}
	report := Report{Acked: 2, Local: 2}
	if _, err := boltExchange(t, s, day, 2, Report{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Heartbeat(t.Context()); err != nil {
		t.Errorf("Heartbeat() = %v", err)
	}
	use(full)
	for range 2 {
		_, err := boltExchange(t, s, day, 5, report)
		if refused, ok := errors.AsType[*StoreError](err); !ok || !strings.Contains(refused.Text, "database not open") {
			t.Errorf("with a file that cannot be written: %v, want a StoreError that says why", err)
		}
	}
	if n, err := s.Heartbeat(t.Context()); err == nil {
		t.Errorf("Heartbeat() with a file that cannot be written = %d, no error", n)
	}
	latched := report
	latched.Latch = Latch{Until: day.End.UnixMilli(), At: day.Start.UnixMilli()}
	if _, err := boltExchange(t, s, day, 0, latched); err == nil {
		t.Error("a latch that cannot be written: no error")
	}
	use(db)
	if n, err := s.Heartbeat(t.Context()); n != 0 || err != nil {
		t.Errorf("Heartbeat() once the file can be written = %d, %v, want 0", n, err)
	}
	a, err := boltExchange(t, s, day, 1, report)
	if err != nil || a.Status != Latched || a.Counters[0].Used != 2 {
		t.Errorf("once the file can be written: %+v, %v, want latched, and 2 used: nothing else was granted", a, err)
	}
	found, err := open(t).Read(t.Context(), []Query{{App: "wx1", Window: day}})
	if err != nil || found[0]["a"].Latch != latched.Latch || found[0]["a"].Used != 2 {
		t.Errorf("after a restart: %+v, %v, want the latch, and 2 used", found, err)
	}
}
