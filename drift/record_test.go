package drift

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"wxproxy/limits"
)

// TestRecordIsBounded: entries of an earlier day go, and then the oldest.
func TestRecordIsBounded(t *testing.T) {
	r := record{Counters: make(map[string]entry)}
	for i := range 2 * maxEntries {
		r.Counters[fmt.Sprint(i)] = entry{Reset: int64(1000 + i%2), At: int64(i)}
	}
	r.Counters["late"] = entry{Reset: 1001, At: -1}
	r.trim(1001)
	if _, ok := r.Counters["late"]; ok || len(r.Counters) != maxEntries {
		t.Errorf("%d entries, the oldest among them: %t; want %d without it", len(r.Counters), ok, maxEntries)
	}
	for name, e := range r.Counters {
		if e.Reset != 1001 {
			t.Fatalf("entry %s is of an earlier day", name)
		}
	}
}

// TestRecordOfOthers: what is in the store and is no record of ours is like none.
func TestRecordOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, raw := range []string{"x", "[]", "null", `{"counters":7}`, `{"counters":null,"passed_ms":1}`, `{"counters":{"send":{"reset_ms":"x"}}}`} {
			w := newWorld(t)
			w.values[recordKey] = []byte(raw)
			w.call(send, 10)
			check(t, raw, readOne(t, w.auditor("a", nil), "send"), 10, 10, 0, 0)
		}
	})
}

// TestRecordIsChangedDuringQuestion: what another gateway records meanwhile stays, and the answer is
// compared with that.
func TestRecordIsChangedDuringQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.auditor("a", nil), w.auditor("b", nil)
		w.call(menu, 10)
		a.Seed(t.Context(), shop, w.rules.Match("/cgi-bin/each/one"))
		a.Seed(t.Context(), shop, w.rules.Match(send)) // left to Run
		w.call(send, 10)
		w.around(send, 5)
		w.answers(func(_ context.Context, path string) ([]byte, error) {
			w.answers(nil)
			check(t, "b while a asks", readOne(t, b, "send"), 15, 10, 5, 5)
			w.around(send, 2)
			return w.figures(path), nil
		})
		runs(t, a)
		rest(10 * time.Second)
		readings, err := readingsOf(t, a)
		if err != nil || len(readings) != 3 {
			t.Errorf("Readings = %v, %v, want those of send, menu and token", readings, err)
		}
		check(t, "a after b", readings["send"], 17, 10, 7, 7)
		check(t, "b's reading of menu", readings["menu"], 10, 10, 0, 0)
	})
}

// TestReadingOfPast: who is late throws its reading away, for another gateway has one of a newer day
// or generation.
func TestReadingOfPast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newWorld(t).auditor("a", nil)
		at := func(days int, generation int64) *answer {
			line := limits.Usage{Counter: "send", Reset: time.Now().AddDate(0, 0, days), Generation: generation}
			c := counter{app: shop, match: limits.Match{Counter: "send"}, line: line}
			return &answer{counter: c, after: line, began: time.Now().Add(24 * time.Hour)}
		}
		for i, tt := range []struct {
			m    *answer
			want error
		}{{at(2, 5), nil}, {at(2, 4), errWindowChanged}, {at(1, 9), errWindowChanged}, {at(2, 6), nil}, {at(3, 0), nil}} {
			if _, err := a.save(t.Context(), tt.m, new(stored[record])); err != tt.want { //nolint:errorlint // the very error
				t.Errorf("%d: save = %v, want %v", i, err, tt.want)
			}
		}
	})
}

// TestCallsWhileWeChatIsAsked: what is counted between the two readings of a question may be in WeChat's
// answer or not, so it does not change a drift that may be the same.
func TestCallsWhileWeChatIsAsked(t *testing.T) {
	reset := time.UnixMilli(1000)
	for _, tt := range []struct {
		name                         string
		before, wechat, after, drift int64
	}{
		{"at rest", 90, 90, 90, 80},
		{"all in the answer", 80, 95, 95, 80},
		{"some in the answer", 80, 85, 95, 80},
		{"none in the answer", 80, 80, 95, 80},
		{"read before the raise", 0, 85, 95, 80},
		{"more around", 80, 105, 95, 90},
		{"WeChat counts less", 90, 85, 90, 75},
	} {
		e := entry{Reset: 1000, Used: 80, Raised: 80, Last: 80, To: 80}
		m := &answer{counter: counter{line: limits.Usage{Reset: reset, Used: tt.before}}, after: limits.Usage{Reset: reset, Used: tt.after}, used: tt.wechat}
		if n, _ := e.next(m); n.Used-n.Counted != tt.drift {
			t.Errorf("%s: drift %d, want %d", tt.name, n.Used-n.Counted, tt.drift)
		}
	}
}
