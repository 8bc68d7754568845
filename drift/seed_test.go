package drift

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// runs starts a's Run for the rest of the test.
func runs(t *testing.T, a *Auditor) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

func TestSeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		w.around(send, 300)
		if n, ok := a.Seed(t.Context(), shop, w.rules.Match(send)); n != 300 || !ok {
			t.Fatalf("Seed = %d, %t, want 300, true", n, ok)
		}
		if w.raises != nil {
			t.Errorf("raises %q, want none: the caller of Seed raises its own count", w.raises)
		}
		readings, err := readingsOf(t, a)
		if err != nil {
			t.Fatal(err)
		}
		check(t, "the seed", readings["send"], 300, 0, 300, 300)

		w.counter("send").used = 300 // as the limiter does with its first call
		w.call(send, 1)
		check(t, "the next reading", readOne(t, a, "send"), 301, 1, 300, 300)
	})
}

// TestSeedIsNotUsed: a seed that the limiter did not use is not counted as drift twice.
func TestSeedIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		w.around(send, 300)
		if n, ok := a.Seed(t.Context(), shop, w.rules.Match(send)); n != 300 || !ok {
			t.Fatalf("Seed = %d, %t, want 300, true", n, ok)
		}
		w.call(send, 10)
		check(t, "the next reading", readOne(t, a, "send"), 310, 10, 300, 300)
		check(t, "and again", readOne(t, a, "send"), 310, 10, 300, 300)
	})
}

func TestSeedOfPathInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		w.around("/cgi-bin/each/one", 7)
		if n, ok := a.Seed(t.Context(), shop, w.rules.Match("/cgi-bin/each/one")); n != 7 || !ok {
			t.Errorf("Seed = %d, %t, want 7, true", n, ok)
		}
		for _, path := range []string{"/cgi-bin/clear_quota", "/cgi-bin/free", "/cgi-bin/denied", quotaPath, "/sns/userinfo", "/sns/x", "/cgi-bin/token"} {
			rest(2 * time.Second)
			if n, ok := a.Seed(t.Context(), shop, w.rules.Match(path)); ok {
				t.Errorf("Seed at %s = %d, want nothing", path, n)
			}
		}
		if n, ok := a.Seed(t.Context(), "wx-learned", w.rules.Match(send)); ok {
			t.Errorf("Seed of an app that is not configured = %d, want nothing", n)
		}
		if diff := cmp.Diff([]string{"/cgi-bin/each/one"}, w.paths()); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
	})
}

// TestSeedTakesNoLonger: callers wait 300 ms at most, even for one who does not heed its context.
// The count is raised later.
func TestSeedTakesNoLonger(t *testing.T) {
	for _, heeds := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			a := w.auditor("a", nil)
			w.around(send, 300)
			w.answer = func(ctx context.Context, path string) ([]byte, error) {
				if heeds {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				time.Sleep(time.Second)
				return w.figures(path), nil
			}
			began := time.Now()
			n, ok := a.Seed(t.Context(), shop, w.rules.Match(send))
			if took := time.Since(began); ok || took > seedTimeout || took < seedTimeout-seedMargin {
				t.Errorf("Seed = %d, %t after %s, want nothing after 300ms", n, ok, took)
			}
			rest(2 * time.Second)
			if w.values[recordKey] != nil {
				t.Errorf("record %s, want none", w.values[recordKey])
			}
			w.answers(nil)
			w.call(send, 1)
			runs(t, a)
			rest(3 * time.Second)
			if got := w.used("send"); got != 301 {
				t.Errorf("our count is %d, want 301", got)
			}
		})
	}
}

// TestSeedIsGivenUp: a caller who goes away, and others who wait for the same answer.
func TestSeedIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		w.around(send, 300)
		w.answer = func(_ context.Context, path string) ([]byte, error) {
			time.Sleep(200 * time.Millisecond)
			return w.figures(path), nil
		}
		leaving, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if n, ok := a.Seed(leaving, shop, w.rules.Match(send)); ok {
				t.Errorf("Seed of who went away = %d, want nothing", n)
			}
		})
		synctest.Wait()
		for range 20 {
			wg.Go(func() {
				if n, ok := a.Seed(t.Context(), shop, w.rules.Match(send)); n != 300 || !ok {
					t.Errorf("Seed = %d, %t, want 300, true", n, ok)
				}
			})
		}
		synctest.Wait()
		leave()
		wg.Wait()
		if diff := cmp.Diff([]string{send}, w.paths()); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
	})
}

// TestSeedsInARow: one question a second for an app; the rest are Run's, which raises.
func TestSeedsInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		for _, path := range []string{send, menu, "/cgi-bin/token", "/cgi-bin/each/one"} {
			w.around(path, 40)
			n, ok := a.Seed(t.Context(), shop, w.rules.Match(path))
			if ok != (path == send) {
				t.Errorf("Seed at %s = %d, %t, want an answer to the first only", path, n, ok)
			}
			w.call(path, 1)
		}
		a.Seed(t.Context(), shop, w.rules.Match(menu)) // and once more: it still is asked about once
		w.counter("send").used = 41
		runs(t, a)
		rest(10 * time.Second)
		var last time.Time
		for _, q := range w.asked {
			if q.at.Sub(last) < time.Second && q.path != "/cgi-bin/menu/addconditional" { // of the same rule as menu
				t.Errorf("%s was asked about %s after the one before, want a second", q.path, q.at.Sub(last))
			}
			last = q.at
		}
		if diff := cmp.Diff([]string{send, menu, "/cgi-bin/menu/addconditional", "/cgi-bin/token", "/cgi-bin/each/one"}, w.paths()); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"menu 41", "token 41", "each:/cgi-bin/each/one 41"}, w.raises); diff != "" {
			t.Errorf("raises (-want +got):\n%s", diff)
		}
		rest(time.Hour)
		if got := w.paths(); got != nil {
			t.Errorf("asked %q later on, want nothing: there is no interval", got)
		}
	})
}

// TestSeedsThatFail: a path that WeChat does not know is left alone for a day. When quota/get's own
// quota is used up so is everything else for an hour, and what waits for its turn is dropped.
func TestSeedsThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		w.answers(always(`{"errcode":76022}`))
		for range 3 {
			if n, ok := a.Seed(t.Context(), shop, w.rules.Match(send)); ok {
				t.Errorf("Seed = %d, want nothing", n)
			}
			rest(2 * time.Second)
		}
		if diff := cmp.Diff([]string{send}, w.paths()); diff != "" {
			t.Errorf("asked about a path of 76022 (-want +got):\n%s", diff)
		}
		w.answers(nil)
		for _, path := range []string{menu, "/cgi-bin/each/one", "/cgi-bin/each/two"} {
			a.Seed(t.Context(), shop, w.rules.Match(path))
			w.call(path, 1)
		}
		if diff := cmp.Diff([]string{menu, "/cgi-bin/menu/addconditional"}, w.paths()); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
		w.answers(always(`{"errcode":44993}`))
		runs(t, a)
		rest(pauseInterval - time.Minute)
		if diff := cmp.Diff([]string{"/cgi-bin/each/one"}, w.paths()); diff != "" {
			t.Errorf("asked after 44993 (-want +got):\n%s", diff)
		}
		if got := len(w.happened()); got != 2 {
			t.Errorf("%d events, want 2", got)
		}
	})
}

// TestFailuresEnd: once one counter is read, WeChat answers, and when it fails for another that is
// news again.
func TestFailuresEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		html := always("<html>")
		for i, answer := range []func(context.Context, string) ([]byte, error){html, nil, html} {
			w.answers(answer)
			path := []string{"/cgi-bin/each/one", "/cgi-bin/each/two", "/cgi-bin/each/three"}[i]
			a.Seed(t.Context(), shop, w.rules.Match(path))
			rest(2 * time.Second)
		}
		if got := len(w.happened()); got != 2 {
			t.Errorf("%d events, want 2", got)
		}
	})
}

// TestStartIsKnown: a reading that has nothing to raise tells the limiter that the start is known.
func TestStartIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		w.call(send, 5)
		w.counter("send").unknown = true
		check(t, "nothing around", readOne(t, a, "send"), 5, 5, 0, 0)
		check(t, "and again", readOne(t, a, "send"), 5, 5, 0, 0)
		if diff := cmp.Diff([]string{"send 5"}, w.raises); diff != "" {
			t.Errorf("raises (-want +got):\n%s", diff)
		}
	})
}

// TestSeedThatAnotherHasDone: what another gateway has read meanwhile is not asked once more.
func TestSeedThatAnotherHasDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.auditor("a", nil), w.auditor("b", nil)
		for _, path := range []string{send, menu} {
			a.Seed(t.Context(), shop, w.rules.Match(path))
		}
		if err := b.Read(t.Context(), shop); err != nil {
			t.Fatal(err)
		}
		w.paths()
		w.counter("menu").unknown = true
		runs(t, a)
		rest(10 * time.Second)
		if got := w.paths(); got != nil {
			t.Errorf("asked %q, want nothing", got)
		}
		if w.counter("menu").unknown {
			t.Error("the limiter was not told what the other gateway heard")
		}
	})
}

// TestSeedWithoutStore: a seed that cannot be recorded is none.
func TestSeedWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		w.around(send, 300)
		w.away = errors.New("connection refused")
		if n, ok := a.Seed(t.Context(), shop, w.rules.Match(send)); ok {
			t.Errorf("Seed = %d, want nothing", n)
		}
		rest(time.Minute)
		w.away = nil
		runs(t, a)
		rest(2 * time.Second)
		check(t, "Run's reading", readOne(t, a, "send"), 300, 0, 300, 300)
	})
}
