package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wxproxy/limits"
)

// countedLimiter counts how often the store is read, and for which apps last.
type countedLimiter struct {
	*fakeLimiter
	lines []limits.Usage
	reads atomic.Int64
	mu    sync.Mutex
	apps  []string
}

func (c *countedLimiter) Rules(string) *limits.Ruleset { return c.rules }

func (c *countedLimiter) UsageAll(_ context.Context, appids []string, _ bool) ([][]limits.Usage, error) {
	c.reads.Add(1)
	c.mu.Lock()
	c.apps = appids
	c.mu.Unlock()
	lines := make([][]limits.Usage, len(appids))
	for i := range lines {
		if c.err == nil || i > 0 {
			lines[i] = c.lines
		}
	}
	return lines, c.err
}

func everyRule(string) bool { return true }

// askCaller returns the counters in the answer to a caller.
func askCaller(t *testing.T, u *CallerUsages, q CallerQuestion) (answer CallerUsage, counters []string) {
	t.Helper()
	body, err := u.Answer(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &answer); err != nil || body[len(body)-1] != '}' {
		t.Fatalf("%q: %v", body, err)
	}
	for _, app := range answer.Apps {
		for _, r := range app.Rows {
			counters = append(counters, fmt.Sprintf("%s %s%s@%s %d/%d %s", app.App, r.Rule, r.Path, r.Caller, r.Used, r.Limit, r.State))
		}
	}
	return answer, counters
}

func TestCallerUsage(t *testing.T) {
	f := newFakeLimiter(t)
	create, card, other := f.rules.Rules[0], f.rules.Rules[1], f.rules.Rules[2]
	limiter := &countedLimiter{fakeLimiter: f, lines: []limits.Usage{
		{Rule: create, Counter: "menu.create", Limit: 9, Used: 9},
		{Rule: create, Counter: "menu.create@crm", Limit: 5, Used: 0, Remaining: 5},
		{Rule: create, Counter: "menu.create@web", Limit: 4, Used: 4},
		{Rule: card, Counter: "card"},
		{Rule: other, Counter: "other:/cgi-bin/a", Used: 3},
		{Rule: other, Counter: "other:/cgi-bin/b", Latched: true},
	}}
	shop, mall := App{Name: "shop", AppID: "wx1"}, App{Name: "mall", AppID: "wx2"}
	u := NewCallerUsages(limiter, nil)
	for name, tt := range map[string]struct {
		q    CallerQuestion
		want []string
	}{
		"used":   {CallerQuestion{Caller: "crm", Apps: []App{shop}, May: everyRule}, []string{"shop menu.create@ 9/9 full", "shop menu.create@crm 0/5 open", "shop other/cgi-bin/b@ 0/0 latched"}},
		"all":    {CallerQuestion{Caller: "crm", Apps: []App{shop}, May: everyRule, All: true}, []string{"shop menu.create@ 9/9 full", "shop menu.create@crm 0/5 open", "shop card@ 0/0 denied", "shop other/cgi-bin/a@ 3/0 open", "shop other/cgi-bin/b@ 0/0 latched"}},
		"bounds": {CallerQuestion{Caller: "bounded", Apps: []App{shop}, May: func(rule string) bool { return rule == "other" }}, []string{"shop other/cgi-bin/b@ 0/0 latched"}},
		"two":    {CallerQuestion{Caller: "two", Apps: []App{shop, mall}, May: func(rule string) bool { return rule == "menu.create" }}, []string{"shop menu.create@ 9/9 full", "mall menu.create@ 9/9 full"}},
		"one":    {CallerQuestion{Caller: "two", Apps: []App{shop, mall}, Only: "wx2", May: func(rule string) bool { return rule == "menu.create" }}, []string{"mall menu.create@ 9/9 full"}},
		"none":   {CallerQuestion{Caller: "none", May: everyRule}, nil},
	} {
		if _, got := askCaller(t, u, tt.q); cmp.Diff(tt.want, got) != "" {
			t.Errorf("%s (-want +got):\n%s", name, cmp.Diff(tt.want, got))
		}
	}
}

// A caller sees when what it draws on runs out, and not who else draws on it.
func TestCallerUsageForecast(t *testing.T) {
	f := newFakeLimiter(t)
	create := f.rules.Rules[0]
	limiter := &countedLimiter{fakeLimiter: f, lines: []limits.Usage{{Rule: create, Counter: "menu.create", Limit: 9, Used: 2, Remaining: 7, Reset: time.Now().Add(time.Hour)}}}
	u := NewCallerUsages(limiter, &fakeHistory{zone: time.UTC})
	body, err := u.Answer(t.Context(), CallerQuestion{Caller: "crm", Apps: []App{{Name: "shop", AppID: "wx1"}}, May: everyRule})
	if err != nil || !strings.Contains(string(body), `"forecast":{"left":7}`) || strings.Contains(string(body), "callers") || strings.Contains(string(body), "oncall") {
		t.Errorf("%v, %s: want 7 calls left, and no other callers", err, body)
	}
}

// However many requests come, the store is read once a second for a caller.
func TestCallerUsageReadsSeldom(t *testing.T) {
	limiter := &countedLimiter{fakeLimiter: newFakeLimiter(t)}
	u := NewCallerUsages(limiter, nil)
	apps := make([]App, 150)
	for i := range apps {
		apps[i] = App{Name: fmt.Sprint(i), AppID: fmt.Sprint("wx", i)}
	}
	began := time.Now()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for range 50 {
				q := CallerQuestion{Caller: "crm", Apps: apps[:50], All: i%2 == 0, May: everyRule}
				if i%3 == 0 {
					q.Only = apps[i].AppID
				}
				if _, err := u.Answer(t.Context(), q); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if most := int64(time.Since(began)/time.Second) + 1; limiter.reads.Load() > most {
		t.Errorf("%d reads in %s", limiter.reads.Load(), time.Since(began))
	}

	// Another caller has its own, and one with many accounts gets some of them, or the one that it names.
	many := CallerQuestion{Caller: "many", Apps: apps, May: everyRule}
	before := limiter.reads.Load()
	answer, _ := askCaller(t, u, many)
	if len(answer.Apps) != maxCallerApps || answer.More != 50 || limiter.reads.Load() != before+1 {
		t.Errorf("%d accounts, %d more, in %d reads", len(answer.Apps), answer.More, limiter.reads.Load()-before)
	}
	began = time.Now()
	many.Only = apps[149].AppID
	answer, _ = askCaller(t, u, many)
	if len(answer.Apps) != 1 || answer.Apps[0].App != "149" || answer.More != 0 || len(limiter.apps) != 1 {
		t.Errorf("asked about one: %d accounts, %d more; %d were read", len(answer.Apps), answer.More, len(limiter.apps))
	}
	if took := time.Since(began); took < callerReads/2 {
		t.Errorf("the second read came after %s", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	many.Only = apps[148].AppID
	if _, err := u.Answer(ctx, many); !errors.Is(err, context.Canceled) {
		t.Errorf("a client that is gone: %v", err)
	}
}

func TestCallerUsageWithoutStore(t *testing.T) {
	limiter := &countedLimiter{fakeLimiter: newFakeLimiter(t)}
	limiter.err = errors.New("dial tcp 10.1.2.3:6379: connection refused")
	u := NewCallerUsages(limiter, nil)
	shop, mall := App{Name: "shop", AppID: "wx1"}, App{Name: "mall", AppID: "wx2"}
	for range 3 {
		if body, err := u.Answer(t.Context(), CallerQuestion{Caller: "crm", Apps: []App{shop}, May: everyRule}); err == nil {
			t.Errorf("nothing was read, and the answer is %s", body)
		}
	}
	if limiter.reads.Load() != 1 {
		t.Errorf("%d reads of a store that does not answer, want one a second", limiter.reads.Load())
	}
	limiter.lines = []limits.Usage{}
	if answer, _ := askCaller(t, u, CallerQuestion{Caller: "web", Apps: []App{shop, mall}, May: everyRule}); answer.Apps[0].Error != "the store does not answer" || answer.Apps[1].Error != "" {
		t.Errorf("one of two was read: %+v", answer.Apps)
	}
}
