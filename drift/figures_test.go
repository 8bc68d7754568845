package drift

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"wxproxy/limits"
)

func auto(o *Options) {
	o.Apps = func() []App { return []App{{AppID: shop, Auto: true}} }
	o.App = func(string) (App, bool) { return App{AppID: shop, Auto: true}, true }
}

func daily(figures map[string]int64) map[string]limits.Budget { return budgets(figures) }

func TestAdopt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", auto)
		w.call("/cgi-bin/message/custom/typing", 1)
		w.call("/cgi-bin/message/custom/typing/x", 1)
		w.call("/cgi-bin/other", 1)
		w.limit[send] = 5000 // as configured
		w.limit[menu], w.limit["/cgi-bin/menu/addconditional"] = 1000, 800
		w.limit["/cgi-bin/message/custom/typing"] = 3000
		for _, path := range []string{"/cgi-bin/message/custom/typing/x", "/cgi-bin/other", "/cgi-bin/clear_quota", "/cgi-bin/free", "/cgi-bin/denied"} {
			w.limit[path] = 99
			w.call(path, 1)
		}
		if err := a.Read(t.Context(), shop); err != nil {
			t.Fatal(err)
		}
		want := daily(map[string]int64{"menu": 800, "typing": 3000})
		if figures, err := a.Figures(t.Context(), shop); err != nil || !cmp.Equal(figures, want) {
			t.Errorf("Figures = %v, %v, want %v", figures, err, want)
		}
		if diff := cmp.Diff([]map[string]limits.Budget{daily(map[string]int64{"menu": 800}), want}, w.adopted()); diff != "" {
			t.Errorf("Adopt (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"adopted menu 1000 800", "adopted typing 0 3000"}, w.happened()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}

		// The same figures again, none, and a new one.
		if err := a.Read(t.Context(), shop); err != nil {
			t.Fatal(err)
		}
		w.limit["/cgi-bin/message/custom/typing"] = 0
		if err := a.Read(t.Context(), shop); err != nil {
			t.Fatal(err)
		}
		w.commands = nil
		if err := a.Read(t.Context(), shop); err != nil {
			t.Fatal(err)
		}
		if w.commands["get"] != 1 {
			t.Errorf("%d GETs for a Read that adopts nothing, want that of the record", w.commands["get"])
		}
		if got := w.happened(); got != nil || len(w.adopted()) != 2 {
			t.Errorf("events %q, Adopt called %d times: want none and 2", got, len(w.adopted()))
		}
		w.limit[menu], w.limit["/cgi-bin/menu/addconditional"] = 1000, 1000
		if err := a.Read(t.Context(), shop); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"adopted menu 800 1000"}, w.happened()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(daily(map[string]int64{"menu": 1000, "typing": 3000}), w.adopted()[2]); diff != "" {
			t.Errorf("Adopt (-want +got):\n%s", diff)
		}
	})
}

// TestAdoptIsForAuto: figures that differ are shown and nothing else where the file says its own.
func TestAdoptIsForAuto(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		w.limit[send] = 7
		if r := readOne(t, a, "send"); r.Limit != 7 {
			t.Errorf("Limit = %d, want 7", r.Limit)
		}
		if figures, err := a.Figures(t.Context(), shop); err != nil || len(figures) != 0 || w.adopted() != nil || w.events != nil {
			t.Errorf("Figures = %v, %v, Adopt %v, events %v, want none", figures, err, w.adopted(), w.events)
		}
	})
}

// TestAdoptedByAnother: figures are taken over within a minute, and after a start.
func TestAdoptedByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runs(t, w.auditor("b", auto))
		rest(10 * time.Second)
		quiet := func(o *Options) { auto(o); o.Adopt = func(string, map[string]limits.Budget) {} }
		w.offers(send, 7)
		if n, ok := w.auditor("c", quiet).Seed(t.Context(), shop, w.rules.Match(send)); n != 0 || !ok {
			t.Fatalf("Seed = %d, %t, want 0, true", n, ok)
		}
		a := w.auditor("a", quiet)
		if err := a.Read(t.Context(), shop); err != nil {
			t.Fatal(err)
		}
		if w.adopted() != nil {
			t.Errorf("b was told %v before it could know", w.adopted())
		}
		rest(time.Minute)
		want := []map[string]limits.Budget{daily(map[string]int64{"send": 7})}
		if diff := cmp.Diff(want, w.adopted()); diff != "" {
			t.Errorf("what b was told (-want +got):\n%s", diff)
		}
		rest(10 * time.Minute)
		if len(w.adopted()) != 1 {
			t.Errorf("b was told %d times, want once", len(w.adopted()))
		}
		runs(t, w.auditor("d", auto))
		rest(time.Second)
		if len(w.adopted()) != 2 {
			t.Errorf("d was told nothing at its start")
		}
		fakeStore{w}.put(figuresKey, `{"send":0,"menu":-1,"NO":5,"token":1000000000001,"typing":9}`)
		if figures, err := a.Figures(t.Context(), shop); err != nil || !cmp.Equal(figures, daily(map[string]int64{"typing": 9})) {
			t.Errorf("Figures of what others wrote = %v, %v, want typing only", figures, err)
		}
	})
}

// TestSeedAdopts: the figure of a seed is adopted too, but calls do not wait for that.
func TestSeedAdopts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", auto)
		w.limit[send] = 7
		a.Seed(t.Context(), shop, w.rules.Match(send))
		if w.adopted() != nil {
			t.Errorf("Adopt %v while callers wait", w.adopted())
		}
		runs(t, a)
		rest(time.Second)
		if diff := cmp.Diff([]string{"adopted send 5000 7"}, w.happened()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}
