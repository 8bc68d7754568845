package drift

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLostClear(t *testing.T) {
	tests := []struct {
		name   string
		path   string
		ran    time.Duration // after the clear was sent; 0: never
		clears []string
		asked  int
	}{
		{"it ran", "", time.Second, []string{"send 3", "menu 0"}, 3},
		{"it ran late", "", 20 * time.Second, []string{"send 3", "menu 0"}, 6},
		{"it ran very late", "", 4 * time.Minute, []string{"send 3", "menu 0"}, 9},
		{"it never ran", "", 0, nil, 9},
		{"one path", menu, time.Second, []string{"menu 0"}, 2},
		{"one path, and it never ran", "/CGI-BIN/menu/create/", 0, nil, 6},
		{"a path that WeChat cannot be asked about", "/cgi-bin/free", time.Second, nil, 0},
		{"a path of nobody's", "/x/y", time.Second, nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.call(send, 100)
				w.call(menu, 50)
				w.call("/cgi-bin/free", 100)
				rest(time.Hour)
				a := w.auditor("a", nil)
				runs(t, a)
				at := time.Now().UnixMilli()
				a.LostClear(shop, at, tt.path)
				if tt.ran > 0 {
					rest(tt.ran)
					w.forget()
					w.around(send, 3)
				}
				rest(10 * time.Minute)
				if diff := cmp.Diff(tt.clears, w.cleared()); diff != "" {
					t.Errorf("clears (-want +got):\n%s", diff)
				}
				if got := len(w.paths()); got != tt.asked {
					t.Errorf("%d questions, want %d", got, tt.asked)
				}
				if got := len(w.happened()); got != len(tt.clears) {
					t.Errorf("%d events, want one for each of %q", got, tt.clears)
				}
				for _, counter := range []string{"send", "menu"} {
					if g := w.generation(counter); g != 0 && g <= at {
						t.Errorf("generation of %s = %d, want one after %d", counter, g, at)
					}
				}
			})
		})
	}
}

// TestLostClearOfHalf: a count of WeChat's that is half of ours may be short by calls that failed.
func TestLostClearOfHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.call(send, 100)
		w.around(send, -50)
		rest(time.Hour)
		a := w.auditor("a", nil)
		runs(t, a)
		a.LostClear(shop, time.Now().UnixMilli(), send)
		rest(time.Minute)
		if w.cleared() != nil {
			t.Errorf("cleared %q at half of the count", w.cleared())
		}
		w.around(send, -1)
		rest(10 * time.Minute)
		if diff := cmp.Diff([]string{"send 49"}, w.cleared()); diff != "" {
			t.Errorf("clears at less than half (-want +got):\n%s", diff)
		}
	})
}

// TestLostClearOfYesterday: midnight has cleared what the clear was to clear.
func TestLostClearOfYesterday(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		rest(16*time.Hour - time.Second)
		w.call(send, 100)
		a := w.auditor("a", nil)
		runs(t, a)
		a.LostClear(shop, time.Now().UnixMilli(), "")
		rest(time.Second)
		w.midnight()
		w.call(send, 10)
		w.around(send, -9)
		rest(10 * time.Minute)
		if got := w.paths(); got != nil || w.cleared() != nil {
			t.Errorf("asked %q, cleared %q, want nothing", got, w.cleared())
		}
	})
}

// TestLostClearThatAnotherKnows: a gateway that has heard of the clear has told the store.
func TestLostClearThatAnotherKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.call(send, 100)
		rest(time.Hour)
		a := w.auditor("a", nil)
		runs(t, a)
		a.LostClear(shop, time.Now().UnixMilli(), "")
		rest(time.Second)
		w.clearAll()
		w.call(send, 10)
		rest(10 * time.Minute)
		if got := w.paths(); got != nil || w.cleared() != nil {
			t.Errorf("asked %q, cleared %q, want nothing", got, w.cleared())
		}
	})
}

// TestLostClearWithTraffic: the limiter gets the moment before the first question about a rule, because
// calls that are sent while WeChat answers may not be in WeChat's count.
func TestLostClearWithTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.call(menu, 100)
		rest(time.Hour)
		w.answers(func(_ context.Context, path string) ([]byte, error) {
			body := w.figures(path)
			time.Sleep(3 * time.Second)
			w.call(menu, 60)
			return body, nil
		})
		a := w.auditor("a", nil)
		runs(t, a)
		a.LostClear(shop, time.Now().UnixMilli(), menu)
		w.forget()
		w.around("/cgi-bin/menu/addconditional", 4)
		rest(20 * time.Second)
		if diff := cmp.Diff([]string{"menu 4"}, w.cleared()); diff != "" {
			t.Fatalf("clears (-want +got):\n%s", diff)
		}
		if first, second := w.asked[0], w.asked[1]; !w.clearsBegan[0].Equal(first.at) || !second.at.After(first.at) {
			t.Errorf("ClearTo got %s, want %s, when the first of both paths was asked about", w.clearsBegan[0], first.at)
		}
	})
}
