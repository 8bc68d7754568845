package faults

import (
	"fmt"
	"testing"
	"time"
)

// oddNames are rules with names that a store uses for fields of its own, or might.
var oddNames = []struct {
	call
	name string
}{
	{call{path: sendPath}, "g"},
	{call{path: textPath}, "end"},
	{call{path: menuPath}, "v"},
	{call{path: tagsPath, get: true}, "lost"},
	{call{path: groupsPath, get: true}, "plain"},
}

// A rule counts whatever its name is: its quota is used up exactly, cleared, and used up again; and a
// gateway that is started anew finds the count.
func TestNamesOfRules(t *testing.T) {
	const quota = 20
	for _, store := range []setup{{gateways: 1}, {file: true}} {
		t.Run(fmt.Sprintf("file %t", store.file), func(t *testing.T) {
			for _, r := range oddNames {
				store.rules = append(store.rules, rule{r.name, r.path, fmt.Sprint(quota, "/day"), ""})
			}
			f := newFleet(t, store)
			useUp := func(round int64) {
				t.Helper()
				for _, r := range oddNames {
					got := f.fire(t.Context(), load{call: r.call, callers: 4, calls: quota + 5})
					if executed := f.executed(0, r.path); executed != round*quota || got.of[passed] != quota || got.of[full] != 5 {
						t.Errorf("rule %s: WeChat has executed %d, want %d; answers %v, want %d %s", r.name, executed, round*quota, got, quota, passed)
					}
				}
				for _, r := range oddNames {
					if used := f.used(t, f.gateways[0], 0, r.name); used != quota {
						t.Errorf("rule %s: %d used, want %d", r.name, used, quota)
					}
				}
			}
			useUp(1)
			time.Sleep(1500 * time.Millisecond) // at rest: nothing is carried over the clear
			f.clear(t, f.gateways[0], 0)
			useUp(2)
			f.gateways[0].stop(t)
			f.gateways = nil
			f.start(t)
			for _, r := range oddNames {
				if said, used := f.hear(t.Context(), f.gateways[0], r.call), f.used(t, f.gateways[0], 0, r.name); said != full || used != quota {
					t.Errorf("rule %s, started anew: a call is answered %s, %d used", r.name, said, used)
				}
			}
		})
	}
}

// The hash of a day as the version before wrote it, with the generation of the whole window in the
// field g: it is counted on. A counter of an older generation has been cleared.
func TestHashOfTheVersionBefore(t *testing.T) {
	const quota, before = 20, 7
	f := newFleet(t, setup{gateways: 2, rules: []rule{
		{"send", sendPath, fmt.Sprint(quota, "/day"), ""}, {"text", textPath, fmt.Sprint(quota, "/day"), ""}, {"menu", menuPath, "100/day", ""},
	}})
	if said := f.hear(t.Context(), f.gateways[0], call{path: menuPath}); said != passed { // so that there is a hash
		t.Fatalf("a call is answered %s", said)
	}
	generation := time.Now().Add(-time.Hour).UnixMilli()
	key := f.dayKey(t, 0)
	err := f.direct.HSet(t.Context(), key,
		"g", generation,
		"send", fmt.Sprint(generation, before, 3), "send|aaaaaaaa", fmt.Sprint(generation, 9, before),
		"text", fmt.Sprint(0, quota, 5), "text|aaaaaaaa", fmt.Sprint(0, 8, quota),
	).Err()
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range f.gateways {
		if send, text := f.used(t, p, 0, "send"), f.used(t, p, 0, "text"); send != before || text != 0 {
			t.Errorf("gateway %d: %d and %d used, want %d and 0", i, send, text, before)
		}
	}
	for path, want := range map[string]int64{sendPath: quota - before, textPath: quota} {
		f.fire(t.Context(), load{call: call{path: path}, callers: 4, calls: 2 * quota})
		if executed := f.executed(0, path); executed != want {
			t.Errorf("%s: WeChat has executed %d, want %d", path, executed, want)
		}
	}
}
