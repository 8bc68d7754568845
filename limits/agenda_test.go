package limits

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A meter that is to be stated at some time is, not earlier, and no later than a second after another
// statement that was to come first.
func TestAgenda(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		meters := []*meter{{name: "a"}, {name: "b"}, {name: "c"}}
		a := agenda{times: make(map[*meter][]time.Time)}
		start := time.Unix(1_800_000_000, 0)
		now := start
		wanted := make(map[*meter][]time.Time) // of those that were not stated yet
		take := func() time.Duration {
			ripe, next := a.ripe(now)
			if next <= 0 {
				t.Fatalf("the next is due in %v", next)
			}
			for _, m := range ripe {
				wanted[m] = slices.DeleteFunc(wanted[m], func(at time.Time) bool { return !at.After(now.Add(quietLife)) })
			}
			for m, times := range wanted {
				for _, at := range times {
					if !at.After(now) {
						t.Fatalf("%s was due %v ago", m.name, now.Sub(at))
					}
				}
			}
			return next
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				m := rapid.SampledFrom(meters).Draw(t, "meter")
				at := now.Add(time.Duration(rapid.IntRange(1, 11_000).Draw(t, "milliseconds")) * time.Millisecond)
				first := !slices.ContainsFunc(a.queue, func(other appointment) bool { return !other.at.After(at) })
				if sooner := a.add(m, at); first && !sooner {
					t.Fatalf("%s at %v is the first, and nobody is told", m.name, at.Sub(start))
				}
				wanted[m] = append(wanted[m], at)
			},
			"drop": func(t *rapid.T) {
				m := rapid.SampledFrom(meters).Draw(t, "meter")
				a.drop(m)
				delete(wanted, m)
			},
			"sleep as told": func(*rapid.T) {
				now = now.Add(take())
				take()
			},
			"woken up early": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "milliseconds")) * time.Millisecond)
				take()
			},
		})
		now = now.Add(time.Hour)
		take()
		if len(a.queue) > 0 || len(a.times) > 0 {
			t.Fatalf("%d appointments and %d meters are left over", len(a.queue), len(a.times))
		}
	})
}
