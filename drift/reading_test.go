package drift

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"wxproxy/limits"
)

// readOne has an auditor read, and returns what it read of one counter.
func readOne(t *testing.T, a *Auditor, counter string) Reading {
	t.Helper()
	if err := a.Read(t.Context(), shop); err != nil {
		t.Fatal(err)
	}
	readings, err := readingsOf(t, a)
	if err != nil {
		t.Fatal(err)
	}
	return readings[counter]
}

// figuresOf writes the figures of a reading: WeChat's, ours, what was raised, and the drift.
func figuresOf(used, counted, raised, drift int64) string {
	return fmt.Sprintf("used %d, counted %d, raised %d, drift %d", used, counted, raised, drift)
}

func check(t *testing.T, when string, r Reading, used, counted, raised, drift int64) {
	t.Helper()
	got, want := figuresOf(r.Used, r.Counted, r.Raised, r.Drift), figuresOf(used, counted, raised, drift)
	if got != want {
		t.Errorf("%s: %s, want %s", when, got, want)
	}
}

func TestCallsAroundTheGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.auditor("a", nil), w.auditor("b", nil)
		w.limit[send] = 5000
		w.call(send, 1000)
		r := readOne(t, a, "send")
		check(t, "nothing around", r, 1000, 1000, 0, 0)
		if r.Limit != 5000 || !r.At.Equal(time.Now()) {
			t.Errorf("Limit = %d, At = %s, want 5000 and now", r.Limit, r.At)
		}

		w.around(send, 300)
		check(t, "300 around", readOne(t, a, "send"), 1300, 1000, 300, 300)
		if got := w.used("send"); got != 1300 {
			t.Errorf("our count is %d, want it raised to 1300", got)
		}
		check(t, "the next reading", readOne(t, a, "send"), 1300, 1000, 300, 300)
		w.call(send, 50)
		check(t, "another gateway's, after 50 calls", readOne(t, b, "send"), 1350, 1050, 300, 300)
		check(t, "the first gateway's after that", readOne(t, a, "send"), 1350, 1050, 300, 300)

		w.around(send, 20)
		w.call(send, 5)
		check(t, "20 more around", readOne(t, b, "send"), 1375, 1055, 320, 320)
		check(t, "and again", readOne(t, a, "send"), 1375, 1055, 320, 320)
		if diff := cmp.Diff([]string{"send 1300", "send 1375"}, w.raises); diff != "" {
			t.Errorf("raises (-want +got):\n%s", diff)
		}
		if got := w.used("send"); got != 1375 {
			t.Errorf("our count is %d, want 1375", got)
		}
	})
}

// TestWeChatCountsLess: WeChat's figures are not exact, and never lower ours.
func TestWeChatCountsLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		w.call(send, 1000)
		w.around(send, -7)
		check(t, "7 less", readOne(t, a, "send"), 993, 1000, 0, -7)
		if got := w.used("send"); got != 1000 || w.raises != nil {
			t.Errorf("our count is %d after raises %q, want 1000 and none", got, w.raises)
		}
	})
}

// TestDriftIsWhatWentAround: whatever the order of calls, readings of any gateway, clears and
// midnights, a reading shows the calls around the gateway, and the count has them once.
func TestDriftIsWhatWentAround(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var fault string
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			fleet := []*Auditor{w.auditor("a", nil), w.auditor("b", nil)}
			var own, around int64
			for i := range rapid.IntRange(1, 25).Draw(rt, "steps") {
				n := rapid.Int64Range(1, 1000).Draw(rt, "n")
				switch step := rapid.IntRange(0, 9).Draw(rt, "step"); {
				case step < 3:
					w.call(send, n)
					own += n
				case step < 6:
					w.around(send, n)
					around += n
				case step < 9:
					r := readOne(t, fleet[n%2], "send")
					got, want := figuresOf(r.Used, r.Counted, r.Raised, r.Drift), figuresOf(own+around, own, around, around)
					if got != want || w.used("send") != r.Used {
						fault = fmt.Sprintf("step %d: %s, and a count of %d, want %s", i, got, w.used("send"), want)
						return
					}
				case n%2 == 0:
					rest(time.Until(time.Now().In(shanghai).Truncate(24 * time.Hour).Add(40 * time.Hour)))
					w.midnight()
					rest(minAge)
					own, around = 0, 0
				default:
					rest(time.Millisecond)
					w.clearAll()
					rest(minAge)
					own, around = 0, 0
				}
			}
		})
		if fault != "" {
			rt.Fatal(fault)
		}
	})
}

// TestReadingsOverlap has another gateway read while one reads: before WeChat has answered, and
// between its record and its raise.
func TestReadingsOverlap(t *testing.T) {
	for _, when := range []string{"WeChat answers", "the count is raised"} {
		t.Run(when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				a, b := w.auditor("a", nil), w.auditor("b", nil)
				w.call(send, 1000)
				w.around(send, 300)
				between := func() {
					w.answer, w.raise = nil, nil
					check(t, "b while a reads", readOne(t, b, "send"), 1300, 1000, 300, 300)
				}
				if when == "WeChat answers" {
					w.answer = func(_ context.Context, path string) ([]byte, error) {
						if path == send {
							between()
						}
						return w.figures(path), nil
					}
				} else {
					w.raise = func(string) error { between(); return nil }
				}
				check(t, "a", readOne(t, a, "send"), 1300, 1000, 300, 300)
				w.call(send, 10)
				check(t, "b after that", readOne(t, b, "send"), 1310, 1010, 300, 300)
			})
		})
	}
}

// TestRaiseFails: a raise that was recorded and then failed is no drift of its own.
func TestRaiseFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		w.call(send, 1000)
		w.around(send, 300)
		w.raise = func(string) error { return errors.New("the store is away") }
		if err := a.Read(t.Context(), shop); err == nil || !strings.Contains(err.Error(), "raise send of "+shop) {
			t.Errorf("Read = %v, want that the raise failed", err)
		}
		w.call(send, 10)
		w.raise = nil
		check(t, "after a raise that failed", readOne(t, a, "send"), 1310, 1010, 300, 300)
		check(t, "and again", readOne(t, a, "send"), 1310, 1010, 300, 300)

		w.around(send, 5)
		w.raise = func(string) error { return limits.ErrTooEarly }
		if err := a.Read(t.Context(), shop); err != nil {
			t.Errorf("Read = %v where the limiter finds it too early, want none", err)
		}
		w.raise = nil
		check(t, "after one that came too early", readOne(t, a, "send"), 1315, 1010, 305, 305)
	})
}

// TestMidnightWhileWeChatIsAsked: what WeChat says then is of nobody knows which day.
func TestMidnightWhileWeChatIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		rest(16*time.Hour - time.Second)
		w.call(send, 1000)
		w.answer = func(_ context.Context, path string) ([]byte, error) {
			body := w.figures(path)
			time.Sleep(2 * time.Second)
			return body, nil
		}
		w.around(send, 300)
		if err := a.Read(t.Context(), shop); !errors.Is(err, errWindowChanged) {
			t.Errorf("Read over midnight = %v, want %v", err, errWindowChanged)
		}
		if w.values[recordKey] != nil || w.raises != nil || w.events != nil {
			t.Errorf("record %s, raises %q, events %v, want none", w.values[recordKey], w.raises, w.events)
		}

		// In its first minutes a day may not have begun at WeChat: shown, and nothing raised by it.
		w.answer = nil
		clear(w.ours)
		w.call(send, 1)
		check(t, "a minute into the day", readOne(t, a, "send"), 1301, 1, 0, 1300)
		if w.raises != nil {
			t.Errorf("raises %q, want none", w.raises)
		}
	})
}

// TestClearWhileWeChatIsAsked: nor of which side of a clear.
func TestClearWhileWeChatIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		w.call(send, 1000)
		w.around(send, 300)
		w.answer = func(_ context.Context, path string) ([]byte, error) {
			body := w.figures(path)
			w.clearAll()
			return body, nil
		}
		if err := a.Read(t.Context(), shop); !errors.Is(err, errWindowChanged) {
			t.Errorf("Read over a clear = %v, want %v", err, errWindowChanged)
		}
		if w.values[recordKey] != nil || w.raises != nil || w.events != nil {
			t.Errorf("record %s, raises %q, events %v, want none", w.values[recordKey], w.raises, w.events)
		}
	})
}

func TestClearBetweenReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		w.call(send, 1000)
		w.around(send, 300)
		check(t, "before the clear", readOne(t, a, "send"), 1300, 1000, 300, 300)
		rest(time.Hour)
		w.clearAll()
		if readings, err := readingsOf(t, a); err != nil || readings["send"] != (Reading{}) {
			t.Errorf("Readings after a clear = %v, %v, want none of send", readings, err)
		}
		rest(minAge)
		w.call(send, 1400)
		check(t, "after the clear", readOne(t, a, "send"), 1400, 1400, 0, 0)
		w.around(send, 10)
		check(t, "10 around", readOne(t, a, "send"), 1410, 1400, 10, 10)
	})
}

// TestReadAsks: every counter with a figure, and those that were used; never what WeChat cannot tell
// or what decides nothing.
func TestReadAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		w.limit[menu], w.limit["/cgi-bin/menu/addconditional"] = 1000, 700
		if err := a.Read(t.Context(), shop); err != nil {
			t.Fatal(err)
		}
		figures := []string{send, menu, "/cgi-bin/menu/addconditional", "/cgi-bin/token"}
		if diff := cmp.Diff(figures, w.paths()); diff != "" {
			t.Errorf("asked while nothing was used (-want +got):\n%s", diff)
		}
		for _, path := range []string{
			"/cgi-bin/message/custom/typing", "/cgi-bin/message/custom/typing/x", "/cgi-bin/each/one", "/cgi-bin/clear_quota", "/cgi-bin/free", "/cgi-bin/denied",
			quotaPath, "/sns/userinfo", "/sns/other", "/cgi-bin/other",
		} {
			w.call(path, 1)
		}
		w.ours["each:*"] = &count{used: 3}
		w.call(menu, 6)
		w.around("/cgi-bin/menu/addconditional", 5)
		r := readOne(t, a, "menu")
		want := slices.Concat(figures, []string{"/cgi-bin/message/custom/typing", "/cgi-bin/message/custom/typing/x", "/cgi-bin/each/one", "/cgi-bin/other"})
		if diff := cmp.Diff(want, w.paths()); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
		check(t, "a rule of two paths", r, 11, 6, 5, 5)
		if r.Limit != 700 {
			t.Errorf("Limit = %d, want the smaller of both", r.Limit)
		}
		if err := a.Read(t.Context(), "wx-nobody"); err == nil {
			t.Error("Read of an app that is not configured: no error")
		}
	})
}

func TestQuestionsOfFoldedPaths(t *testing.T) {
	rule := func(paths ...string) *limits.Rule {
		return &limits.Rule{Name: "r", Paths: paths}
	}
	tests := []struct {
		rule    *limits.Rule
		counter string
		want    []string
	}{
		{nil, "r", nil},
		{rule("/cgi-bin/a", "/cgi-bin/b", "/cgi-bin/c/*"), "r", []string{"/cgi-bin/a", "/cgi-bin/b"}},
		{rule("/cgi-bin/c/*"), "r", nil},
		{rule("/cgi-bin/c/*"), "r:/cgi-bin/c/d", []string{"/cgi-bin/c/d"}},
		{rule("/cgi-bin/c/*"), "r:*", nil},
		{rule("/cgi-bin/c/*"), "r:/cgi-bin/c/d@crm", nil},
		{rule("/cgi-bin/a"), "r@crm", nil},
		{rule("/cgi-bin/a"), "s", nil},
		{rule("/cgi-bin/a", "/SNS/a"), "r", nil},
		{rule("/cgi-bin/a", "/cgi-bin/openapi/Quota/Get/"), "r", nil},
		{rule("/snsx/a"), "r", []string{"/snsx/a"}},
	}
	for _, tt := range tests {
		if got := questions(tt.rule, tt.counter); !slices.Equal(got, tt.want) {
			t.Errorf("questions(%+v, %q) = %q, want %q", tt.rule, tt.counter, got, tt.want)
		}
	}
}

// TestQuestionsAreSpelledAsWeChatDoes: quota/get does not know a path in another letter case. Names of
// counters are in lower case.
func TestQuestionsAreSpelledAsWeChatDoes(t *testing.T) {
	a := newWorld(t).auditor("a", nil)
	rule := &limits.Rule{Name: "r", Paths: []string{"/retail/b2b/getorder", "/retail/*"}}
	for _, tt := range []struct{ counter, want string }{
		{"r", "/retail/B2b/getorder"},
		{"r:/retail/capital", "/retail/Capital"},
	} {
		if got := a.paths(shop, limits.Match{Rule: rule, Counter: tt.counter}); !slices.Equal(got, []string{tt.want}) {
			t.Errorf("paths of %s = %q, want %q", tt.counter, got, tt.want)
		}
	}
}

// TestReadOfRefusedPaths: a path that WeChat does not know is no reason to leave the others out; the
// end of quota/get's own quota is.
func TestReadOfRefusedPaths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		w.call(send, 10)
		code := 76021
		w.answer = func(_ context.Context, path string) ([]byte, error) {
			if path == send {
				return fmt.Appendf(nil, `{"errcode":%d,"errmsg":"canary"}`, code), nil
			}
			return w.figures(path), nil
		}
		err := a.Read(t.Context(), shop)
		if answer, ok := errors.AsType[*Error](err); !ok || answer.ErrCode != 76021 || answer.Path != send {
			t.Errorf("Read = %v, want errcode 76021 of %s", err, send)
		}
		if got := w.paths(); len(got) != 4 {
			t.Errorf("asked %q, want all that have a figure", got)
		}
		code = errcodeExhausted
		for range 2 { // when somebody asks, WeChat is asked, but once
			if err := a.Read(t.Context(), shop); err == nil || !strings.Contains(err.Error(), "44993") {
				t.Errorf("Read = %v, want errcode 44993", err)
			}
			if diff := cmp.Diff([]string{send}, w.paths()); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		}
		rest(time.Minute)
		if _, ok := a.Seed(t.Context(), shop, w.rules.Match(menu)); ok || len(w.paths()) > 0 {
			t.Error("Seed asked after errcode 44993")
		}
		want := []string{
			"failed quota/get of " + send + ": errcode 76021: want 0",
			"failed quota/get of " + send + ": errcode 44993: want 0",
		}
		if diff := cmp.Diff(want, w.happened()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		rest(pauseInterval)
		w.answer = nil
		if n, ok := a.Seed(t.Context(), shop, w.rules.Match(menu)); n != 0 || !ok {
			t.Errorf("Seed an hour later = %d, %t, want 0, true", n, ok)
		}
	})
}

// TestReadIsShared: two who ask at once share the answers, and one who goes away leaves them to the
// other.
func TestReadIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		w.answer = func(ctx context.Context, path string) ([]byte, error) {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Second):
				return w.figures(path), nil
			}
		}
		results := make(chan error, 3)
		leaving, leave := context.WithCancel(t.Context())
		go func() { results <- a.Read(leaving, shop) }()
		synctest.Wait()
		for range 2 {
			go func() { results <- a.Read(t.Context(), shop) }()
		}
		synctest.Wait()
		leave()
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("Read of who went away = %v", err)
		}
		for range 2 {
			if err := <-results; err != nil {
				t.Errorf("Read of who stayed = %v", err)
			}
		}
		if got := len(w.paths()); got != 1+4 {
			t.Errorf("%d questions, want one of who went away and 4", got)
		}
		if got := w.happened(); got != nil {
			t.Errorf("events %q, want none", got)
		}
	})
}

func TestStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.auditor("a", nil)
		w.call(send, 1)
		w.around(send, 5)
		w.away = errors.New("connection refused")
		for range 2 {
			if err := a.Read(t.Context(), shop); !errors.Is(err, w.away) {
				t.Errorf("Read = %v, want %v", err, w.away)
			}
		}
		if _, err := readingsOf(t, a); !errors.Is(err, w.away) {
			t.Errorf("Readings = %v, want %v", err, w.away)
		}
		if got := w.used("send"); got != 1 {
			t.Errorf("our count is %d, want 1: what nobody can record is not raised", got)
		}
		want := []string{"failed connection refused"}
		if diff := cmp.Diff(want, w.happened()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}
