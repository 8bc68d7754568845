package faults

import (
	"fmt"
	"testing"
	"time"
)

// A month's rule becomes one without a limit, or one whose figure nobody knows, and is limited again.
// The calls in between are in the month's count.
func TestMonthCountsWhileUnlimited(t *testing.T) {
	t.Parallel()
	const quota, before, between = 60, 10, 20
	for _, store := range []setup{{gateways: 2}, {file: true}} {
		month := rule{"send", sendPath, fmt.Sprint(quota, "/month"), ""}
		store.rules = []rule{month}
		for _, figure := range []string{"unlimited", "unknown"} {
			t.Run(fmt.Sprintf("%s, file %t", figure, store.file), func(t *testing.T) {
				t.Parallel()
				f := newFleet(t, store)
				send := func(calls int) {
					t.Helper()
					got := f.fire(t.Context(), load{call: call{path: sendPath}, callers: 4, calls: calls})
					if got.of[passed] != calls {
						t.Errorf("answers %v, want %d %s", got, calls, passed)
					}
				}
				send(before)
				f.change(t, rule{"send", sendPath, figure, ""})
				send(between)
				time.Sleep(1200 * time.Millisecond) // a call without a limit is reported within a second
				f.change(t, month)
				for i, p := range f.gateways {
					within(t, time.Second, fmt.Sprint("gateway ", i, " has all calls in the month"), func() bool {
						return f.row(t, p, 0, "send", "", "month").Used == before+between
					})
				}
				got := f.fire(t.Context(), load{call: call{path: sendPath}, callers: 4, calls: 2 * quota})
				if executed := f.executed(0, sendPath); executed != quota {
					t.Errorf("WeChat has executed %d of %d a month; answers %v", executed, quota, got)
				}
			})
		}
	}
}
