package drift

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func every(d time.Duration) func(*Options) { return func(o *Options) { o.Every = d } }

// TestInterval: what was used is asked about, and nothing else, as often as was said.
func TestInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runs(t, w.auditor("a", every(30*time.Minute)))
		w.call(send, 10)
		w.call("/cgi-bin/message/custom/typing", 5)
		w.call("/cgi-bin/other", 1)
		w.call("/cgi-bin/free", 1)
		rest(20 * time.Second)
		used := []string{send, "/cgi-bin/message/custom/typing", "/cgi-bin/other"}
		if w.asked[1].at.Sub(w.asked[0].at) < time.Second || w.asked[2].at.Sub(w.asked[1].at) < time.Second {
			t.Errorf("asked %v, want a second between", w.asked)
		}
		if diff := cmp.Diff(used, w.paths()); diff != "" {
			t.Errorf("asked at first (-want +got):\n%s", diff)
		}
		w.around(send, 300)
		rest(29 * time.Minute)
		if got := w.paths(); got != nil {
			t.Errorf("asked %q before half an hour was over", got)
		}
		rest(time.Minute)
		if diff := cmp.Diff(used, w.paths()); diff != "" {
			t.Errorf("asked again (-want +got):\n%s", diff)
		}
		if got := w.used("send"); got != 310 {
			t.Errorf("our count is %d, want 310", got)
		}
		if got := w.happened(); got != nil {
			t.Errorf("events %q, want none", got)
		}
	})
}

// TestIntervalOfFleet: one gateway asks for all, and another takes over when that is gone.
func TestIntervalOfFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.auditor("a", every(10*time.Minute)).Run(ctx)
		}()
		synctest.Wait()
		runs(t, w.auditor("b", every(10*time.Minute)))
		runs(t, w.auditor("c", every(10*time.Minute)))
		w.call(send, 10)
		rest(59*time.Minute + 30*time.Second)
		if got := len(w.paths()); got != 6-1 { // nothing was used at the first sweep
			t.Errorf("%d questions in an hour, want 5", got)
		}
		stop()
		<-done
		rest(time.Hour)
		if got := len(w.paths()); got != 6 {
			t.Errorf("%d questions in the hour after a has gone, want 6", got)
		}
	})
}

// TestIntervalEnds: a day has so many questions for all gateways, and a new one as many again.
func TestIntervalEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		few := func(o *Options) { o.Every, o.PerDay = time.Minute, 7 }
		w.call(send, 10)
		w.call(menu, 10) // two paths
		runs(t, w.auditor("a", few))
		rest(time.Hour)
		if got := len(w.paths()); got != 7 {
			t.Errorf("%d questions, want 7", got)
		}
		if diff := cmp.Diff([]string{"budget exhausted"}, w.happened()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		a := w.auditor("b", few)
		if err := a.Read(t.Context(), shop); err != nil || len(w.paths()) == 0 {
			t.Errorf("Read = %v, or asked nothing: somebody wants to know", err)
		}
		rest(15 * time.Hour) // to midnight
		w.midnight()
		w.call(send, 10)
		w.paths()
		rest(minAge - time.Minute)
		if got := w.paths(); got != nil {
			t.Errorf("asked %q in the first minutes of a day", got)
		}
		rest(time.Hour)
		if got := len(w.paths()); got != 7 {
			t.Errorf("%d questions the day after, want 7", got)
		}
	})
}

// TestIntervalAfterFailures: paths that WeChat does not know are left alone, the end of its own
// quota is an hour's silence, and HTML ends the pass.
func TestIntervalAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.call(send, 10)
		w.call(menu, 10)
		w.call("/cgi-bin/other", 10)
		w.answers(func(_ context.Context, path string) ([]byte, error) {
			if path == send {
				return []byte(`{"errcode":76021}`), nil
			}
			return w.figures(path), nil
		})
		runs(t, w.auditor("a", every(10*time.Minute)))
		rest(9 * time.Minute)
		all := []string{send, menu, "/cgi-bin/menu/addconditional", "/cgi-bin/other"}
		if diff := cmp.Diff(all, w.paths()); diff != "" {
			t.Errorf("asked at first (-want +got):\n%s", diff)
		}
		rest(10 * time.Minute)
		if diff := cmp.Diff(all[1:], w.paths()); diff != "" {
			t.Errorf("asked after 76021 (-want +got):\n%s", diff)
		}

		w.answers(always("<html>"))
		rest(10 * time.Minute)
		if diff := cmp.Diff(all[1:2], w.paths()); diff != "" {
			t.Errorf("asked while WeChat sends HTML (-want +got):\n%s", diff)
		}
		w.answers(always(`{"errcode":44993}`))
		rest(10 * time.Minute)
		if diff := cmp.Diff(all[1:2], w.paths()); diff != "" {
			t.Errorf("asked up to 44993 (-want +got):\n%s", diff)
		}
		w.answers(nil)
		rest(50 * time.Minute)
		if got := w.paths(); got != nil {
			t.Errorf("asked %q within an hour of 44993", got)
		}
		rest(20 * time.Minute)
		if diff := cmp.Diff(all[1:], w.paths()[:3]); diff != "" {
			t.Errorf("asked an hour after 44993 (-want +got):\n%s", diff)
		}
		if got := len(w.happened()); got != 3 {
			t.Errorf("%d events, want one for each kind of failure", got)
		}
	})
}

// TestRunEnds: nothing of it goes on, though WeChat never answers.
func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.call(send, 10)
		w.answer = func(ctx context.Context, _ string) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		a := w.auditor("a", every(time.Minute))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.Run(ctx)
		}()
		rest(5 * time.Second)
		cancel()
		synctest.Wait()
		select {
		case <-done:
		default:
			t.Error("Run goes on after its context is done")
		}
		if got := w.happened(); got != nil {
			t.Errorf("events %q, want none: nothing failed", got)
		}
	})
}

// TestWhatIsRememberedIsBounded: strangers' paths fill neither the jobs nor the failures nor the
// record, and what is over is forgotten.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var ahead atomic.Int64
		a := w.auditor("a", func(o *Options) {
			o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		})
		for i := range 2 * maxNames {
			path := fmt.Sprintf("/cgi-bin/each/%d", i)
			a.Seed(t.Context(), shop, w.rules.Match(path))
			a.LostClear(shop, int64(i), "")
			a.failed(shop, "each:"+path, &Error{Path: path, ErrCode: 76021})
		}
		s := a.apps[shop]
		seeds := s.jobs[slices.IndexFunc(s.jobs, func(j job) bool { return j.kind == "seed" })]
		if len(s.jobs) != maxJobs || len(seeds.names) != maxNames || len(s.failures) != maxFailures {
			t.Errorf("%d jobs with %d names, %d failures: want at most %d, %d and %d",
				len(s.jobs), len(seeds.names), len(s.failures), maxJobs, maxNames, maxFailures)
		}
		if got := len(w.happened()); got != 1 {
			t.Errorf("%d events, want one of all these failures", got)
		}
		runs(t, a)
		rest(2 * maxNames * time.Second)
		a.mu.Lock()
		if len(s.jobs) != 0 {
			t.Errorf("%d jobs after a while, want none", len(s.jobs))
		}
		a.mu.Unlock()
		ahead.Store(int64(failureTTL))
		rest(2 * time.Minute)
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(s.failures) != 0 {
			t.Errorf("%d failures a day later, want none", len(s.failures))
		}
	})
}
