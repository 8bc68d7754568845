package limits

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// With usedOnly there are the same lines in the same order, but for those with nothing in them.
func TestUsedOnly(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			shared := rule("shared", "/cgi-bin/shared", "10/day")
			shared.Shares = map[string]Budget{"web": aDay(4), "crm": aDay(4)}
			set := rules(t,
				rule("unused", "/cgi-bin/unused", "10/day"), rule("paths", "/paths/*", "10/day"), rule("granted", "/cgi-bin/granted", "10/day"), shared,
				rule("called", "/cgi-bin/called", "10/day", "20/month"), rule("unused too", "/cgi-bin/too", "10/day"))
			l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": set, "wx2": set})
			for _, path := range []string{"/cgi-bin/called", "/cgi-bin/shared", "/paths/b", "/paths/a"} {
				takeAs(t, l, "wx1", "web", path).Done(0)
			}
			if _, err := l.SetGrant(t.Context(), "wx1", set.Match("/cgi-bin/granted"), 1, time.Time{}, 0); err != nil {
				t.Fatal(err)
			}
			all, err := l.UsageAll(t.Context(), []string{"wx1", "wx2"}, false)
			if err != nil {
				t.Fatal(err)
			}
			used, err := l.UsageAll(t.Context(), []string{"wx1", "wx2"}, true)
			if err != nil {
				t.Fatal(err)
			}
			for i := range all {
				all[i] = slices.DeleteFunc(all[i], func(u Usage) bool { return u.Used == 0 && !u.Latched && u.Grant.Calls == 0 })
			}
			byName := cmp.Comparer(func(a, b *Rule) bool { return a.Name == b.Name })
			if diff := cmp.Diff(all, used, byName); diff != "" || len(used[0]) != 7 || len(used[1]) != 0 {
				t.Errorf("%d and %d lines (-all that are used +UsageAll):\n%s", len(used[0]), len(used[1]), diff)
			}
		})
	}
}
