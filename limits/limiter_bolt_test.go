package limits

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// A copy of the file at any moment is what a crash leaves.
func TestBoltCrash(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ quota, calls, most int64 }{
		{10, 7, 7},
		{1000, 400, 400},
		{5000, 1234, 1234 + 5},
		{100_000, 2345, 2345 + 100},
	} {
		t.Run(fmt.Sprint(tt.quota), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "wxproxy.db")
			db := openBolt(t, file)
			apps := map[string]*Ruleset{"wx1": rules(t, rule("a", "/cgi-bin/a", fmt.Sprintf("%d/day", tt.quota)))}
			l := old(gateway(t, boltStand(db, nil)(t), apps))
			for range tt.calls {
				d := take(t, l, "wx1", "/cgi-bin/a")
				for try := 1; d.Verdict == RefusedStore && try < 20; try++ { // the disk of a busy machine
					d = take(t, l, "wx1", "/cgi-bin/a")
				}
				if d.Verdict != Pass {
					t.Fatalf("verdict = %s", d.Verdict)
				}
				d.Done(0)
			}
			left := filepath.Join(t.TempDir(), "left.db")
			if err := db.View(func(tx *bbolt.Tx) error { return tx.CopyFile(left, 0o600) }); err != nil {
				t.Fatal(err)
			}
			after := gateway(t, boltStand(openBolt(t, left), nil)(t), apps)
			if got := used(t, after, "wx1", "a"); got < tt.calls || got > tt.most {
				t.Errorf("after a crash at %d calls of %d: used %d, want %d to %d", tt.calls, tt.quota, got, tt.calls, tt.most)
			}
		})
	}
}

func TestBoltCleanStopKeepsTheExactCount(t *testing.T) {
	open := boltStand(openBolt(t, filepath.Join(t.TempDir(), "wxproxy.db")), nil)
	apps := map[string]*Ruleset{"wx1": rules(t, rule("a", "/cgi-bin/a", "100000/day"))}
	for life := range 4 {
		l := New(Options{Counters: open(t)})
		l.Configure(apps, nil)
		for range 11 {
			d := take(t, l, "wx1", "/cgi-bin/a")
			d.Done(0)
		}
		if got, want := used(t, l, "wx1", "a"), int64(11*(life+1)); got != want {
			t.Errorf("life %d: used %d, want %d", life, got, want)
		}
		closeLimiter(t, l)
	}
}

func TestBoltMidnightAndAClockThatGoesBack(t *testing.T) {
	midnight := time.Date(2026, 12, 2, 0, 0, 0, 0, shanghai(t))
	c := &clock{at: midnight.Add(-time.Second)}
	counters := boltStand(openBolt(t, filepath.Join(t.TempDir(), "wxproxy.db")), c.now)(t)
	l := New(Options{Counters: counters, Now: c.now})
	l.Configure(map[string]*Ruleset{"wx1": rules(t, rule("a", "/cgi-bin/a", "3/day", "5/month"))}, nil)
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
	if got := pass(4); got != 3 {
		t.Fatalf("before midnight: sent %d, want 3", got)
	}
	c.set(midnight)
	if got := pass(4); got != 2 {
		t.Errorf("at midnight: sent %d, want 2, then the month is full", got)
	}
	c.set(midnight.Add(-time.Second))
	if got := pass(4); got != 0 {
		t.Errorf("with the clock back: sent %d, want 0", got)
	}
}

func TestBoltDropsOldWindows(t *testing.T) {
	start := time.Date(2026, 12, 2, 12, 0, 0, 0, shanghai(t))
	c := &clock{at: start}
	db := openBolt(t, filepath.Join(t.TempDir(), "wxproxy.db"))
	l := New(Options{Counters: boltStand(db, c.now)(t), Now: c.now})
	l.Configure(map[string]*Ruleset{"wx1": rules(t, rule("a", "/cgi-bin/a", "3/day"))}, nil)
	defer closeLimiter(t, l)
	for day := range 10 {
		c.set(start.AddDate(0, 0, day))
		d := take(t, l, "wx1", "/cgi-bin/a")
		d.Done(0)
	}
	var names []string
	err := db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(countersBucket)).Bucket([]byte("wxp")).Bucket([]byte("wx1")).ForEachBucket(func(name []byte) error {
			names = append(names, string(name))
			return nil
		})
	})
	if err != nil || len(names) > 3 {
		t.Errorf("windows in the file after ten days: %q, %v, want at most three", names, err)
	}
}

func TestBoltThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "wxproxy.db")
	db, err := bbolt.Open(file, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := NewBolt(db, "wxp", nil)
	l := New(Options{Counters: s})
	l.Configure(map[string]*Ruleset{"wx1": rules(t, rule("a", "/cgi-bin/a", "3/day"))}, nil)
	d := take(t, l, "wx1", "/cgi-bin/a")
	d.Done(0)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if d := take(t, l, "wx1", "/cgi-bin/a"); d.Verdict != RefusedStore {
		t.Errorf("with the file closed: %s, want refused-store: nothing may be sent that is not on disk", d.Verdict)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	_ = l.Close(t.Context())
	_ = s.Close()
}
