package faults

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// damages are what stands in the field of a counter in place of its figures.
var damages = []string{"nan 1 1", "0 nan 1", "9000000000000000000 1 1", "garbage", "", "7"}

// One field of an account's hash is damaged. Calls of the other rules, usage and the metrics of the
// account go on, and so do calls of the damaged counter, which begins anew with what its gateways
// know of it. The log names the key and the field.
func TestDamagedFields(t *testing.T) {
	const quota, before = 20, 5
	rules := []rule{{"hurt", sendPath, fmt.Sprint(quota, "/day"), ""}, {"whole", textPath, fmt.Sprint(quota, "/day"), ""}}
	f := newFleet(t, setup{gateways: 2, apps: len(damages), rules: rules})
	for i, damage := range damages {
		t.Run(damage, func(t *testing.T) {
			hurt, whole := call{app: i, path: sendPath}, call{app: i, path: textPath}
			for _, c := range []call{hurt, whole} {
				f.fire(t.Context(), load{call: c, callers: 1, calls: before, only: f.gateways[:1]})
			}
			key := f.dayKey(t, i)
			if n, err := f.direct.HSet(t.Context(), key, "hurt", damage).Result(); n != 0 || err != nil {
				t.Fatalf("HSET %s hurt: %d new fields, %v; want the counter's own", key, n, err)
			}
			f.goesOn(t, i, hurt, whole)
			within(t, time.Second, "a log line with key and field", func() bool {
				n := 0
				for _, p := range f.gateways {
					n += p.loggedTogether(key, "hurt")
				}
				return n > 0
			})
			for _, c := range []call{hurt, whole} {
				f.fire(t.Context(), load{call: c, callers: 4, calls: 2 * quota})
				if executed := f.executed(i, c.path); executed != quota {
					t.Errorf("%s: WeChat has executed %d, want %d", c.path, executed, quota)
				}
			}
		})
	}
}

// The generation of the whole window is damaged, after a clear has written it.
func TestDamagedGeneration(t *testing.T) {
	tests := []string{"garbage", "nan", "9000000000000000000", ""}
	rules := []rule{{"hurt", sendPath, "20/day", ""}, {"whole", textPath, "20/day", ""}}
	f := newFleet(t, setup{gateways: 2, apps: len(tests), rules: rules})
	single := regexp.MustCompile(`^\d{13}$`)
	for i, damage := range tests {
		t.Run(damage, func(t *testing.T) {
			t.Parallel()
			hurt, whole := call{app: i, path: sendPath}, call{app: i, path: textPath}
			f.goesOn(t, i, hurt, whole)
			f.clear(t, f.gateways[0], i)
			key, damaged := f.dayKey(t, i), 0
			waitFor(t, "the generation of the window in the store", func() bool {
				for field, text := range f.direct.HGetAll(t.Context(), key).Val() {
					if single.MatchString(text) {
						damaged++
						if err := f.direct.HSet(t.Context(), key, field, damage).Err(); err != nil {
							t.Fatal(err)
						}
					}
				}
				return damaged > 0
			})
			f.goesOn(t, i, hurt, whole)
			// And a clear still starts the counts over.
			f.fire(t.Context(), load{call: hurt, callers: 4, calls: 30})
			time.Sleep(1500 * time.Millisecond) // at rest: nothing is carried over the clear
			f.clear(t, f.gateways[0], i)
			for n, p := range f.gateways {
				within(t, time.Second, fmt.Sprint("gateway ", n, " is open after a clear"), func() bool { return f.hear(t.Context(), p, hurt) == passed })
			}
		})
	}
}

// goesOn makes a call of each kind through each gateway, the first gateway first, and reads usage and
// the metrics of the account.
func (f *fleet) goesOn(t *testing.T, app int, calls ...call) {
	t.Helper()
	for i, p := range f.gateways {
		for _, c := range calls {
			if said := f.hear(t.Context(), p, c); said != passed {
				t.Errorf("gateway %d: a call to %s is answered %s", i, c.path, said)
			}
		}
	}
	for i, p := range f.gateways {
		if used, theirs := f.used(t, p, app, "whole"), f.wechat.Used(appid(app), textPath); used < theirs {
			t.Errorf("gateway %d: %d used, WeChat has counted %d", i, used, theirs)
		}
		name := fmt.Sprintf(`wxproxy_quota_used{app="a%d",period="day",rule="whole"}`, app)
		if _, ok := metric(f.metrics(t, p), name); !ok {
			t.Errorf("gateway %d: /metrics has no %s", i, name)
		}
	}
}

// dayKey is the key of an account's hash of today, which must be there.
func (f *fleet) dayKey(t *testing.T, app int) string {
	t.Helper()
	var keys []string
	waitFor(t, "a hash of today", func() bool {
		keys = f.direct.Keys(t.Context(), "*{"+appid(app)+"}:d[0-9]*").Val()
		return len(keys) == 1
	})
	return keys[0]
}

// loggedTogether counts the lines of a gateway's log that have all of these in them.
func (p *process) loggedTogether(texts ...string) (n int) {
	for line := range strings.Lines(p.log.String()) {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			n++
		}
	}
	return n
}
