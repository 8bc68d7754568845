package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"wxproxy/limits"
	"wxproxy/store"
)

// usedFile returns the content of a file that a gateway has used for some days.
func usedFile(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wxproxy.db")
	s, err := store.Open(t.Context(), store.Options{URL: "file:" + path, Upstream: upstream})
	if err != nil {
		t.Fatal(err)
	}
	clock := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	s.Bolt().NoSync = true
	counters := limits.NewBolt(s.Bolt(), s.Prefix(), func() time.Time { return clock })
	for day := range 3 {
		for i := range 20 {
			app := fmt.Sprintf("wx%02d", i)
			set(t, s, app, "token", strings.Repeat("x", 300), time.Hour)
			if i%10 == 0 {
				set(t, s, app, "big", strings.Repeat("y", 6000), 0)
			}
			count(t, counters, app, day, 2)
		}
		clock = clock.AddDate(0, 0, 1)
	}
	if err := counters.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// count counts calls of some rules of an app on a day.
func count(t *testing.T, counters limits.Counters, app string, day int, want int64) {
	t.Helper()
	start := time.Date(2026, 11, 28+day, 0, 0, 0, 0, time.UTC)
	r := &limits.Request{App: app, Want: want, Windows: []limits.WindowReport{{
		Window:     limits.Window{Name: start.Format("d20060102"), Start: start, End: start.AddDate(0, 0, 1)},
		Generation: int64(day),
	}}}
	for _, name := range []string{"menu.create", "message.custom.send", "other:/cgi-bin/x", "user.info"} {
		r.Counters = append(r.Counters, limits.Report{Name: name, Limit: 1000, Generation: int64(day)})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, _ = counters.Exchange(ctx, r) // a damaged file may refuse
}

// openDamaged opens a file with that content, and uses it where that is possible. It reports the error of
// Open. A panic of bbolt ends the test, and all others.
func openDamaged(t *testing.T, content []byte) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wxproxy.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), store.Options{URL: "file:" + path, Upstream: upstream})
	if err != nil {
		for _, want := range []string{"store file " + path + ": ", "damaged", "Move the file away", "restore a copy", "no counts of this day"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("Open = %v, want it to have %q", err, want)
			}
		}
		return err
	}
	s.Bolt().NoSync = true
	counters := limits.NewBolt(s.Bolt(), s.Prefix(), func() time.Time { return time.Date(2026, 11, 30, 13, 0, 0, 0, time.UTC) })
	for i := range 20 {
		app := fmt.Sprintf("wx%02d", i)
		_, _ = s.Get(t.Context(), app, "token")
		_ = s.Update(t.Context(), app, "token", nil, to("new", 0))
		count(t, counters, app, 2, 1)
		count(t, counters, app, 1, 1)
	}
	_ = s.Forget(t.Context(), "wx01")
	_ = counters.Close()
	if err := s.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	return nil
}

// A damaged file is an error that says what to do with it, and never a panic inside bbolt.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	content := usedFile(t)
	if err := openDamaged(t, content); err != nil {
		t.Fatalf("the sound file: %v", err)
	}
	page := os.Getpagesize()
	pages := len(content) / page
	random := rand.New(rand.NewPCG(1, 2))
	noise := func(p []byte) {
		for i := range p {
			p[i] = byte(random.Uint32())
		}
	}
	t.Run("cut", func(t *testing.T) {
		var refused int
		for size := 1; size < len(content); size += page/2 + 3 {
			if openDamaged(t, content[:size]) != nil {
				refused++
			}
		}
		if openDamaged(t, content[:len(content)/2]) == nil {
			t.Error("cut in half: no error")
		}
		if refused < pages {
			t.Errorf("%d of %d cut files were refused", refused, 2*pages)
		}
	})
	t.Run("nothing in it", func(t *testing.T) {
		if err := openDamaged(t, nil); err != nil {
			t.Errorf("an empty file: %v, want a new store", err)
		}
	})
	for name, spoil := range map[string]func(p []byte, id int){
		"noise":      func(p []byte, _ int) { noise(p) },
		"zeros":      func(p []byte, _ int) { clear(p) },
		"other page": func(p []byte, id int) { copy(p, content[(id+7)%pages*page:]) },
		"stale page": func(p []byte, id int) { // another page's content with the right number
			copy(p, content[(id+7)%pages*page:][:page])
			binary.NativeEndian.PutUint64(p, uint64(id))
		},
		"itself as a child": func(p []byte, id int) {
			binary.NativeEndian.PutUint16(p[8:], 1)
			binary.NativeEndian.PutUint16(p[10:], 1)
			binary.NativeEndian.PutUint64(p[24:], uint64(id))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var refused int
			for id := range pages {
				damaged := bytes.Clone(content)
				spoil(damaged[id*page:(id+1)*page], id)
				if openDamaged(t, damaged) != nil {
					refused++
				}
			}
			t.Logf("%d of %d files were refused", refused, pages)
			if refused == 0 {
				t.Error("no file was refused: the test has tested nothing")
			}
		})
	}
	t.Run("both meta pages", func(t *testing.T) {
		damaged := bytes.Clone(content)
		noise(damaged[:2*page])
		if openDamaged(t, damaged) == nil {
			t.Error("no error")
		}
	})
	t.Run("a few bytes", func(t *testing.T) {
		for range 200 {
			damaged := bytes.Clone(content)
			at, n := random.IntN(len(damaged)-64), 1+random.IntN(64)
			if random.IntN(2) == 0 { // most of the structure is at the beginning of a page
				at = at/page*page + random.IntN(64)
			}
			noise(damaged[at : at+n])
			_ = openDamaged(t, damaged) // values have no checksum: not all of it can be seen
		}
	})
}

// A list of free pages, which other programs write into the file, is checked too.
func TestDamagedFreelist(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wxproxy.db")
	if err := os.WriteFile(path, usedFile(t), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := openDamaged(t, content); err != nil {
		t.Fatalf("the sound file: %v", err)
	}
	page := os.Getpagesize()
	var lists int
	for id := 2; id < len(content)/page; id++ {
		p := content[id*page:]
		if binary.NativeEndian.Uint16(p[8:]) != 0x10 {
			continue
		}
		for _, at := range []int{8, 10, 16} { // flags, count, the first page of the list
			damaged := bytes.Clone(content)
			binary.NativeEndian.PutUint16(damaged[id*page+at:], 0x0303)
			if openDamaged(t, damaged) != nil {
				lists++
			}
		}
	}
	if lists == 0 {
		t.Error("no file was refused: the test has tested nothing")
	}
}
