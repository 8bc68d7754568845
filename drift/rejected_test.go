package drift

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRejected(t *testing.T) {
	tests := []struct {
		name         string
		counter      string
		limit, extra int64 // WeChat's figure of each path, and its calls of menu not counted here
		asked        int
		closed       bool
		used         int64 // by our count, after it
	}{
		{"a minute's limit", "menu", 1000, 0, 2, false, 30},
		{"the day's limit", "menu", 30, 0, 2, true, 30},
		{"more than the day's limit", "menu", 25, 0, 2, true, 30},
		{"the day's limit, by calls around the gateway", "menu", 50, 20, 2, true, 50},
		{"one call remains", "menu", 31, 0, 2, false, 30},
		{"WeChat has no figure", "menu", 0, 0, 2, false, 30},
		{"calls around the gateway, and some remain", "menu", 1000, 20, 2, false, 50},
		{"a counter that WeChat is not asked about", "free", 10, 0, 0, false, 30},
		{"a rule that a reload has removed", "gone", 10, 0, 0, false, 30},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.call(menu, 30)
				w.around(menu, tt.extra)
				w.offers(menu, tt.limit)
				w.offers("/cgi-bin/menu/addconditional", 1000)
				w.answers(func(_ context.Context, path string) ([]byte, error) {
					time.Sleep(200 * time.Millisecond)
					return w.figures(path), nil
				})
				a := w.auditor("a", nil)
				runs(t, a)
				rest(500 * time.Millisecond)
				rejected := time.Now()
				for range 3 {
					a.Rejected(shop, tt.counter)
				}
				rest(10 * time.Second)
				if len(w.asked) != tt.asked {
					t.Fatalf("asked %v, want %d questions", w.asked, tt.asked)
				}
				var want []closing
				if tt.closed {
					want = []closing{{"menu", w.asked[0].at}}
				}
				if minute := len(w.minutes) > 0; minute != (tt.asked > 0 && !tt.closed) {
					t.Errorf("told that it is a minute's limit: %t, want %t", minute, !minute)
				}
				if diff := cmp.Diff(want, w.closed, cmp.AllowUnexported(closing{})); diff != "" {
					t.Errorf("closed (-want +got):\n%s", diff)
				}
				if tt.asked > 0 && w.asked[0].at.Sub(rejected) > tick {
					t.Errorf("asked after %s, want at most %s", w.asked[0].at.Sub(rejected), tick)
				}
				if got := w.used("menu"); got != tt.used {
					t.Errorf("our count is %d, want %d", got, tt.used)
				}
				if readings, err := readingsOf(t, a); err != nil || (readings["menu"].Used > 0) != (tt.asked > 0) {
					t.Errorf("Readings = %v, %v, want one of each answer", readings, err)
				}
				if got := w.happened(); got != nil {
					t.Errorf("events %q, want none", got)
				}
			})
		})
	}
}

// TestRejectedGoesFirst: before the rest of a sweep and what Seed has left, also in a queue that is
// full, and in its turn: a second after the question before.
func TestRejectedGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.offers(send, 5)
		w.call(send, 5)
		for i := range maxNames {
			w.call(fmt.Sprintf("/cgi-bin/each/%d", i), 1)
		}
		a := w.auditor("a", every(time.Hour))
		runs(t, a)
		rest(10*time.Second + 500*time.Millisecond)
		for i := range maxNames {
			a.Seed(t.Context(), shop, w.rules.Match(fmt.Sprintf("/cgi-bin/each/new%d", i)))
		}
		last := w.asked[len(w.asked)-1].at
		w.paths()
		a.Rejected(shop, "each:/cgi-bin/each/0")
		a.Rejected(shop, "send")
		rest(3 * time.Second)
		asked := w.asked
		if diff := cmp.Diff([]string{"/cgi-bin/each/0", send}, w.paths()[:2]); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
		if first, second := asked[0].at, asked[1].at; first.Sub(last) < questionInterval || second.Sub(first) < questionInterval {
			t.Errorf("asked at %s and %s after one at %s, want a second between", first, second, last)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.closed) != 1 {
			t.Errorf("closed %v, want send", w.closed)
		}
	})
}

// TestRejectedGoesBeforeSeeds: calls that come while it waits for its turn do not take the turn.
func TestRejectedGoesBeforeSeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		runs(t, a)
		rest(500 * time.Millisecond)
		a.Seed(t.Context(), shop, w.rules.Match(send))
		a.Rejected(shop, "menu")
		rest(questionInterval + 100*time.Millisecond) // the next tick is 400 ms away
		if _, ok := a.Seed(t.Context(), shop, w.rules.Match("/cgi-bin/each/one")); ok {
			t.Error("Seed asked before a rejected counter")
		}
		rest(10 * time.Second)
		want := []string{send, menu, "/cgi-bin/menu/addconditional", "/cgi-bin/each/one"}
		if diff := cmp.Diff(want, w.paths()); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
	})
}

// TestRejectedDuringQuestion: while a question is open, another 45009 of the counter asks no further
// one; after it, it does.
func TestRejectedDuringQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.offers(send, 10)
		w.call(send, 5)
		w.answers(func(_ context.Context, path string) ([]byte, error) {
			time.Sleep(5 * time.Second)
			return w.figures(path), nil
		})
		a := w.auditor("a", nil)
		runs(t, a)
		a.Rejected(shop, "send")
		rest(4 * time.Second)
		a.Rejected(shop, "send")
		rest(20 * time.Second)
		if got := w.paths(); len(got) != 1 {
			t.Errorf("asked %q, want once", got)
		}
		w.call(send, 5)
		a.Rejected(shop, "send")
		rest(20 * time.Second)
		if got := w.paths(); len(got) != 1 || len(w.closed) != 1 {
			t.Errorf("asked %q, closed %v, want one more of each", got, w.closed)
		}
	})
}

// TestRejectedIsNotAsked: when WeChat's count says nothing yet, when quota/get's own quota is used up,
// when it does not know the path, and for apps that are not configured.
func TestRejectedIsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.offers(send, 5)
		w.call(send, 5)
		a := w.auditor("a", nil)
		runs(t, a)
		none := func(when string) {
			t.Helper()
			a.Rejected(shop, "send")
			rest(5 * time.Second)
			if got := w.paths(); got != nil || w.closed != nil {
				t.Errorf("%s: asked %q, closed %v, want nothing", when, got, w.closed)
			}
		}
		w.clearAll()
		none("after a clear")
		rest(minAge)

		w.answers(always(`{"errcode":44993}`))
		a.Rejected(shop, "menu")
		rest(5 * time.Second)
		w.answers(nil)
		w.paths()
		none("after 44993")
		rest(pauseInterval)

		w.answers(always(`{"errcode":76022}`))
		a.Rejected(shop, "send")
		rest(5 * time.Second)
		w.answers(nil)
		w.paths()
		none("after 76022")
		a.Rejected("wx-learned", "send")
		rest(5 * time.Second)
		if got := w.paths(); got != nil {
			t.Errorf("asked %q for an app that is not configured", got)
		}
	})
}

// TestRejectedOfTwoPaths: one of them is used up, and WeChat does not know the other.
func TestRejectedOfTwoPaths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.offers(menu, 5)
		w.call(menu, 5)
		w.answers(func(_ context.Context, path string) ([]byte, error) {
			if path != menu {
				return []byte(`{"errcode":76021}`), nil
			}
			return w.figures(path), nil
		})
		a := w.auditor("a", nil)
		runs(t, a)
		a.Rejected(shop, "menu")
		rest(5 * time.Second)
		if len(w.closed) != 1 || len(w.happened()) != 1 {
			t.Errorf("closed %v, want menu, and one event of 76021", w.closed)
		}
	})
}

// TestRejectedOverMidnight: that yesterday is used up says nothing of today.
func TestRejectedOverMidnight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		rest(16*time.Hour - 2*time.Second)
		w.offers(send, 5)
		w.call(send, 3)
		w.around(send, 2)
		w.answers(func(_ context.Context, path string) ([]byte, error) {
			body := w.figures(path)
			time.Sleep(4 * time.Second)
			return body, nil
		})
		a := w.auditor("a", nil)
		runs(t, a)
		a.Rejected(shop, "send")
		rest(30 * time.Second)
		if got := w.paths(); len(got) != 1 || w.closed != nil {
			t.Errorf("asked %q, closed %v, want one question and nothing closed", got, w.closed)
		}
	})
}

// TestSettleLatchFails: it is reported.
func TestSettleLatchFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.offers(send, 5)
		w.call(send, 5)
		a := w.auditor("a", nil)
		runs(t, a)
		w.settleErr = errors.New("connection refused")
		a.Rejected(shop, "send")
		rest(5 * time.Second)
		want := []string{"failed latch of send of " + shop + ": connection refused"}
		if diff := cmp.Diff(want, w.happened()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// TestRejectedAppsGoFirst: there are workers for a few apps only.
func TestRejectedAppsGoFirst(t *testing.T) {
	a := newWorld(t).auditor("a", func(o *Options) {
		o.App = func(appid string) (App, bool) { return App{AppID: appid}, true }
	})
	for i := range 100 {
		a.push(fmt.Sprint("wx", i), a.seedJob("send"))
	}
	a.Rejected("wx50", "send")
	a.Rejected("wx-other", "send")
	got := a.dueApps()
	if len(got) != 101 {
		t.Fatalf("%d apps are due, want 101", len(got))
	}
	slices.Sort(got[:2])
	if diff := cmp.Diff([]string{"wx-other", "wx50"}, got[:2]); diff != "" {
		t.Errorf("the first two apps (-want +got):\n%s", diff)
	}
}

// TestJobsOfARemovedApp: a reload has removed the app.
func TestJobsOfARemovedApp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var removed atomic.Bool
		a := w.auditor("a", func(o *Options) {
			o.App = func(appid string) (App, bool) { return App{AppID: appid}, !removed.Load() }
		})
		w.call(send, 5)
		a.Rejected(shop, "send")
		a.LostClear(shop, time.Now().UnixMilli(), "")
		removed.Store(true)
		w.forget()
		runs(t, a)
		rest(10 * time.Minute)
		if got := w.paths(); got != nil || w.cleared() != nil {
			t.Errorf("asked %q, cleared %q, want nothing", got, w.cleared())
		}
	})
}
