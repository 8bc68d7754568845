package limits

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
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

// silentStore answers no read of an app from a first one on, and refuses those of another.
type silentStore struct {
	Counters
	from, refused string
	reads         atomic.Int64
}

func (s *silentStore) Read(ctx context.Context, queries []Query) ([]map[string]CounterState, error) {
	s.reads.Add(1)
	found, err := s.Counters.Read(ctx, queries)
	for i, query := range queries {
		switch {
		case s.from != "" && query.App >= s.from:
			return make([]map[string]CounterState, len(queries)), errNotSent
		case query.App == s.refused:
			found[i], err = nil, errors.Join(err, &StoreError{"WRONGTYPE"})
		}
	}
	return found, err
}

// Many apps are read in parts, by several processors. An app that the store refuses costs no other its lines; a store
// that does not answer is not asked for the rest.
func TestUsageOfManyApps(t *testing.T) {
	const n = 20*appsOfReading + 7
	set := rules(t, rule("a", "/cgi-bin/a", "10/day"))
	apps, all := make([]string, n), make(map[string]*Ruleset)
	for i := range apps {
		apps[i] = fmt.Sprintf("wx%05d", i)
		all[apps[i]] = set
	}
	s := &silentStore{Counters: newMemory(time.Now).gateway("a")}
	l := gateway(t, s, all)
	last := apps[n-1]
	for range 3 {
		take(t, l, last, "/cgi-bin/a").Done(0)
	}
	for _, tt := range []struct{ from, refused string }{{"", ""}, {"", apps[150]}, {apps[0], ""}} {
		s.from, s.refused = tt.from, tt.refused
		s.reads.Store(0)
		lines, err := l.UsageAll(t.Context(), apps, false)
		if (err == nil) != (tt.from == "" && tt.refused == "") {
			t.Errorf("%+v: %v", tt, err)
		}
		for i, app := range apps {
			if missing := tt.from != "" || app == tt.refused; missing != (lines[i] == nil) {
				t.Fatalf("%+v: %s has the lines %v", tt, app, lines[i])
			}
		}
		if tt.from == "" && (len(lines[n-1]) != 1 || lines[n-1][0].Used != 3) {
			t.Errorf("%+v: %+v, want 3 used by the last app and by no other", tt, lines[n-1])
		}
		if reads := s.reads.Load(); tt.from != "" && reads > maxReaders {
			t.Errorf("%d reads of a store that does not answer, want at most %d", reads, maxReaders)
		}
	}
}
