package faults

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// F16: the table is changed every 100 ms while calls run: to a good one, to a bad one, to half of one
// and by the symlink swap of container platforms. Every call is answered, the counts go on, and the
// last good table holds.
func TestF16(t *testing.T) {
	const steps = 36
	f := newFleet(t, setup{rules: []rule{{"send", sendPath, "1000000/day", ""}, {"text", textPath, "1000/day", ""}}})
	good := func(large, small string) string {
		return table(f.zone, rule{"send", sendPath, large, ""}, rule{"text", textPath, small, ""})
	}
	bad := strings.Replace(good("1000000/day", "1000/day"), "1000/day", "1000/fortnight", 1)
	half := good("2000000/day", "900/day")
	half = half[:strings.Index(half, "900/day")]

	path := filepath.Join(f.folder, "limits.yaml")
	// swap makes limits.yaml a link to a folder that is replaced as a whole.
	swap := func(text string) {
		fresh := t.TempDir()
		writeFile(t, filepath.Join(fresh, "limits.yaml"), text)
		link := filepath.Join(f.folder, "next")
		if err := os.Symlink(filepath.Join(fresh, "limits.yaml"), link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, path); err != nil {
			t.Fatal(err)
		}
	}
	replace := func(text string) {
		next := filepath.Join(f.folder, "next")
		writeFile(t, next, text)
		if err := os.Rename(next, path); err != nil {
			t.Fatal(err)
		}
	}
	changes := []struct {
		name  string
		do    func()
		taken bool
	}{
		{"good", func() { replace(good("1000000/day", "1000/day")) }, true},
		{"bad", func() { replace(bad) }, false},
		{"half written", func() { writeFile(t, path, half) }, false},
		{"symlink", func() { swap(good("2000000/day", "900/day")) }, true},
		{"symlink to a bad one", func() { swap(bad) }, false},
		{"good in place", func() { writeFile(t, path, good("1500000/day", "950/day")) }, true},
	}

	stop := make(chan struct{})
	var loads sync.WaitGroup
	var many, few heard
	loads.Go(func() {
		many = f.fire(t.Context(), load{call: call{path: sendPath}, callers: 12, stop: stop, pause: 2 * time.Millisecond})
	})
	loads.Go(func() {
		few = f.fire(t.Context(), load{call: call{path: textPath}, callers: 3, stop: stop, pause: 30 * time.Millisecond})
	})
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	f.watched(t, 0, "send", sendPath, func() {
		for i := range steps {
			<-tick.C
			change := changes[i%len(changes)]
			change.do()
			want := http.StatusUnprocessableEntity
			if change.taken {
				want = http.StatusOK
			}
			var reloads sync.WaitGroup
			for _, p := range f.gateways {
				reloads.Go(func() {
					if status, said := f.ask(t, p, http.MethodPost, "/-/reload"); status != want {
						t.Errorf("%s: the reload is answered %d %s, want %d", change.name, status, said, want)
					}
				})
			}
			reloads.Wait()
		}
	})
	replace(bad) // the last good one stays: 1000 a day or less
	close(stop)
	loads.Wait()
	t.Logf("callers heard %v and %v", many, few)
	if many.of[passed] != many.total() || few.of[passed] != few.total() {
		t.Errorf("callers heard %v and %v, want only %s", many, few, passed)
	}
	f.atRest(t, 0, "send", sendPath)
	f.atRest(t, 0, "text", textPath)
	if executed := f.executed(0, textPath); executed != int64(few.total()) {
		t.Errorf("WeChat executed %d of %d calls", executed, few.total())
	}

	left := 7
	replace(good("1000000/day", fmt.Sprint(few.total()+left, "/day")))
	f.reload(t, f.gateways...)
	if got := f.fire(t.Context(), load{call: call{path: textPath}, callers: 12, calls: 100}); got.of[passed] != left {
		t.Errorf("callers heard %v, want the %d left that the last table says", got, left)
	}
}

// reload has gateways read their files, which must be good.
func (f *fleet) reload(t *testing.T, gateways ...*process) {
	t.Helper()
	for _, p := range gateways {
		if status, said := f.ask(t, p, http.MethodPost, "/-/reload"); status != http.StatusOK {
			t.Fatalf("the reload is answered %d %s", status, said)
		}
	}
}

// F17: a quota is lowered below what is used and raised above it. Either holds from the next call on,
// on each gateway that has heard of it.
func TestF17(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ quota, used, lowered, raised int }{
		{100, 60, 50, 65},
		{20_000, 2000, 1000, 2400}, // counted ahead
	} {
		t.Run(fmt.Sprint(test.quota), func(t *testing.T) {
			f := newFleet(t, setup{rules: []rule{{"send", sendPath, fmt.Sprint(test.quota, "/day"), ""}}})
			set := func(quota int, gateways ...*process) {
				t.Helper()
				writeFile(t, filepath.Join(f.folder, "limits.yaml"), table(f.zone, rule{"send", sendPath, fmt.Sprint(quota, "/day"), ""}))
				f.reload(t, gateways...)
			}
			if test.quota > 1000 {
				time.Sleep(1100 * time.Millisecond) // a process that has just started counts nothing ahead
			}
			f.fire(t.Context(), load{call: call{path: sendPath}, callers: 12, calls: test.used})
			set(test.lowered, f.gateways...)
			for i, p := range f.gateways {
				if said := f.hear(t.Context(), p, call{path: sendPath}); said != full {
					t.Errorf("gateway %d after the quota was lowered: %s, want %s", i, said, full)
				}
			}
			set(test.raised, f.gateways...)
			for i, p := range f.gateways {
				if said := f.hear(t.Context(), p, call{path: sendPath}); said != passed {
					t.Errorf("gateway %d after the quota was raised: %s, want %s", i, said, passed)
				}
			}
			f.fire(t.Context(), load{call: call{path: sendPath}, callers: 12, calls: 2 * test.raised})
			f.atRest(t, 0, "send", sendPath)
			if executed := f.executed(0, sendPath); executed != int64(test.raised) {
				t.Errorf("WeChat executed %d, want %d", executed, test.raised)
			}
			// Raised in the table of one gateway: that one goes on, the others do not, unless they have
			// looked at the file by themselves, which they do every two seconds.
			one, others := f.gateways[0], f.gateways[1:]
			taken := func() (n int) {
				for _, p := range others {
					n += p.logged("configuration reloaded")
				}
				return n
			}
			before := taken()
			set(test.raised+5, one)
			got := f.fire(t.Context(), load{call: call{path: sendPath}, callers: 4, calls: 40, only: others})
			if got.of[full] != 40 && taken() == before {
				t.Errorf("callers of gateways with the old table heard %v", got)
			}
			f.fire(t.Context(), load{call: call{path: sendPath}, callers: 4, calls: 40, only: []*process{one}})
			if executed := f.executed(0, sendPath); executed != int64(test.raised)+5 {
				t.Errorf("WeChat executed %d, want %d", executed, test.raised+5)
			}
		})
	}
}
