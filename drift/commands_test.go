package drift

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestStoreCommands: what the questions that no call waits for cost in round trips to the store, for
// 100 counters.
func TestStoreCommands(t *testing.T) {
	const n = 100
	path := func(i int) string { return fmt.Sprintf("/cgi-bin/each/%d", i) }
	tests := []struct {
		name   string
		around int64 // calls of each path that WeChat has counted and we have not
		do     func(t *testing.T, w *world)
		want   map[string]int
	}{
		{"seeds", 0, seedAll, map[string]int{"read": n, "get": n, "cas": n, "raise": n}},
		{"seeds that raise", 5, seedAll, map[string]int{"read": 2 * n, "get": n, "cas": n, "raise": n}},
		{"a Read", 0, func(t *testing.T, w *world) {
			t.Helper()
			if err := w.auditor("a", nil).Read(t.Context(), shop); err != nil {
				t.Error(err)
			}
		}, map[string]int{"read": 1 + n + 3, "get": 1, "cas": n + 3}},
		{"a sweep", 0, func(t *testing.T, w *world) {
			t.Helper()
			runs(t, w.auditor("a", every(time.Hour)))
			rest(2 * n * time.Second)
		}, map[string]int{"read": 1 + n, "get": 4 + n, "cas": 1 + 2*n, "lease": 4 + n}}, // it looks each minute whether one is due
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				for i := range n {
					w.call(path(i), 1)
					w.around(path(i), tt.around)
				}
				tt.do(t, w)
				w.mu.Lock()
				defer w.mu.Unlock()
				if diff := cmp.Diff(tt.want, w.commands); diff != "" {
					t.Errorf("commands for %d counters (-want +got):\n%s", n, diff)
				}
			})
		})
	}
}

// seedAll has Seed leave the questions about all counters to Run.
func seedAll(t *testing.T, w *world) {
	t.Helper()
	a := w.auditor("a", nil)
	a.Seed(t.Context(), shop, w.rules.Match(send))
	w.mu.Lock()
	for _, c := range w.ours {
		c.unknown = true
	}
	counters := len(w.ours)
	w.commands = nil
	w.mu.Unlock()
	for i := range counters {
		a.Seed(t.Context(), shop, w.rules.Match(fmt.Sprintf("/cgi-bin/each/%d", i)))
	}
	runs(t, a)
	rest(2 * time.Duration(counters) * time.Second)
}
