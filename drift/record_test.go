package drift

import (
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

// TestReadingOfPast: who is late throws its reading away, for another gateway has one of a newer day
// or generation.
func TestReadingOfPast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newWorld(t).auditor("a", nil)
		at := func(days int, generation int64) measured {
			line := limits.Usage{Counter: "send", Reset: time.Now().AddDate(0, 0, days), Generation: generation}
			return measured{before: line, after: line, began: time.Now().Add(24 * time.Hour)}
		}
		for i, tt := range []struct {
			m    measured
			want error
		}{{at(2, 5), nil}, {at(2, 4), errTurned}, {at(1, 9), errTurned}, {at(2, 6), nil}, {at(3, 0), nil}} {
			if _, err := a.keep(t.Context(), shop, tt.m); err != tt.want { //nolint:errorlint // the very error
				t.Errorf("%d: keep = %v, want %v", i, err, tt.want)
			}
		}
	})
}
