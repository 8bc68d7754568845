package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"wxproxy/limits"
)

// event is one call of a generated log.
type event struct {
	at       time.Time
	app      string
	caller   string
	path     string
	errcode  int64
	attempts int64
	decision string
}

// reference is a counter as simple as can be: it counts by the texts of dates.
type reference struct {
	rules *limits.Ruleset
	used  map[string]int64 // by app, counter and date
	tat   map[string]time.Time
}

func (f *reference) decide(e *event) string {
	match := f.rules.Match(e.path)
	day, month := e.at.In(f.rules.Zone).Format("2006-01-02"), e.at.In(f.rules.Zone).Format("2006-01")
	need := map[string]int64{}
	var refusal string
	check := func(name, refused string, budget limits.Budget) {
		for _, q := range budget.Quotas {
			date := map[limits.Period]string{limits.Day: day, limits.Month: month}[q.Period]
			key := strings.Join([]string{e.app, q.Period.String(), date, name}, " ")
			need[key] = 1
			if f.used[key] >= q.Limit && refusal == "" {
				refusal = refused
			}
		}
	}
	check(match.Counter, "refused-quota", match.Rule.Budget)
	if share, ok := match.Rule.Shares[e.caller]; ok {
		check(match.Counter+"@"+e.caller, "refused-share", share)
	}
	if p := match.Rule.Pace; p.Rate > 0 {
		key := e.app + " " + match.Rule.Name
		interval := p.Per / time.Duration(p.Rate)
		tat := f.tat[key]
		if tat.Before(e.at) {
			tat = e.at
		}
		if tat.Add(interval).Add(-interval * time.Duration(p.Burst)).After(e.at) {
			refusal = "refused-pace"
		} else {
			f.tat[key] = tat.Add(interval)
		}
	}
	if match.Rule.Budget.Kind == limits.Denied {
		refusal = "refused-denied"
	}
	if refusal != "" && match.Rule.Shadow {
		refusal = "shadow"
	}
	sent := refusal == "" || refusal == "shadow"
	isClear := e.path == "/cgi-bin/clear_quota"
	if sent && (e.errcode != 40066 || match.Counter == match.Rule.Name) && (e.errcode == 0 || !isClear) {
		for key := range need {
			f.used[key]++
		}
	}
	if sent && isClear && e.errcode == 0 {
		maps.DeleteFunc(f.used, func(key string, _ int64) bool { return strings.HasPrefix(key, e.app+" day "+day) })
	}
	if refusal == "" {
		return "pass"
	}
	return refusal
}

// drawRules makes a table with each thing that a rule can have.
func drawRules(t *rapid.T, zone *time.Location) *limits.Ruleset {
	some := func(name string) int64 { return rapid.Int64Range(1, 6).Draw(t, name) }
	day := func(name string) limits.Budget {
		return limits.Budget{Kind: limits.Limited, Quotas: []limits.Quota{{Limit: some(name), Period: limits.Day}}}
	}
	both := day("both")
	both.Quotas = append(both.Quotas, limits.Quota{Limit: some("month") + 3, Period: limits.Month})
	table := limits.Table{Zone: zone, Profiles: map[string]*limits.Profile{"p": {Name: "p", Rules: []*limits.Rule{
		{Name: "day", Paths: []string{"/cgi-bin/day", "/cgi-bin/day/two"}, Budget: day("day")},
		{Name: "both", Paths: []string{"/cgi-bin/both"}, Budget: both, Shares: map[string]limits.Budget{"crm": day("share")}},
		{Name: "pace", Paths: []string{"/cgi-bin/pace"}, Budget: limits.Budget{Kind: limits.Limited, Quotas: []limits.Quota{{Limit: 40, Period: limits.Day}}},
			Pace: limits.Pace{Rate: int(some("rate")), Per: time.Minute, Burst: int(some("burst"))}},
		{Name: "denied", Paths: []string{"/cgi-bin/denied"}, Budget: limits.Budget{Kind: limits.Denied}},
		{Name: "shadow", Paths: []string{"/cgi-bin/shadow"}, Budget: day("shadow"), Shadow: true},
		{Name: "unknown", Paths: []string{"/cgi-bin/unknown"}},
		{Name: "clear_quota", Paths: []string{"/cgi-bin/clear_quota"}, Budget: limits.Budget{Kind: limits.Limited, Quotas: []limits.Quota{{Limit: 4, Period: limits.Month}}}},
		{Name: "other", Paths: []string{"/cgi-bin/*"}, Budget: day("other")},
	}}}}
	rules, err := table.Rules("p", nil)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

var paths = []string{
	"/cgi-bin/day", "/cgi-bin/Day/two/", "/cgi-bin/both", "/cgi-bin/pace", "/cgi-bin/pace", "/cgi-bin/denied", "/cgi-bin/shadow", "/cgi-bin/unknown",
	"/cgi-bin/clear_quota", "/cgi-bin/some", "/cgi-bin/where",
}

// drawEvents makes calls in the order of time, over the end of a month.
func drawEvents(t *rapid.T, zone *time.Location) []event {
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, zone)
	events := make([]event, rapid.IntRange(1, 120).Draw(t, "calls"))
	for i := range events {
		step := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, 7 * time.Second, time.Minute, 3 * time.Hour}).Draw(t, "step")
		at = at.Add(step)
		e := event{
			at: at, app: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "app"), caller: rapid.SampledFrom([]string{"", "crm", "shop"}).Draw(t, "caller"),
			path: rapid.SampledFrom(paths).Draw(t, "path"), attempts: 1,
		}
		if rapid.IntRange(0, 9).Draw(t, "fails") == 0 {
			e.errcode = rapid.SampledFrom([]int64{40066, 40003}).Draw(t, "errcode")
		}
		events[i] = e
	}
	return events
}

// replayed is what a report says of a log.
func replayed(t *rapid.T, rules *limits.Ruleset, events []event) *Replay {
	r := New(Options{Zone: rules.Zone, WhatIf: &WhatIf{Rules: func(string) *limits.Ruleset { return rules }}})
	late := rapid.SliceOfN(rapid.IntRange(0, 3), 1, 5).Draw(t, "late")
	lines := slices.Clone(events)
	for i := range lines { // a line is written when its call ends
		if j := i + late[i%len(late)]; j < len(lines) {
			lines[i], lines[j] = lines[j], lines[i]
		}
	}
	for _, e := range lines {
		match := rules.Match(e.path)
		r.add(&Line{
			Time: e.at.UnixMilli(), App: []byte("name-" + e.app), AppID: []byte(e.app), Caller: []byte(e.caller), Path: []byte(e.path),
			Rule: []byte(match.Rule.Name), Decision: []byte(e.decision), Status: 200, ErrCode: e.errcode, Attempts: e.attempts,
		})
	}
	r.replay.finish()
	return r.Result(0, nil).WhatIf
}

// tally are outcomes as a test states them: app, rule, caller and decision, with the first time and the number.
func tally(outcomes []Outcome) map[string]string {
	found := make(map[string]string)
	for _, o := range outcomes {
		found[strings.Join([]string{o.App, o.Rule, o.Caller, o.Decision}, " ")] = fmt.Sprint(o.Calls, " from ", o.First, " to ", o.Last)
	}
	return found
}

// A log of calls that were all sent, replayed against a table, is refused what a simple counter refuses.
func TestReplayRefusesWhatACounterRefuses(t *testing.T) {
	zone := shanghai(t)
	rapid.Check(t, func(t *rapid.T) {
		rules, events := drawRules(t, zone), drawEvents(t, zone)
		f := reference{rules, make(map[string]int64), make(map[string]time.Time)}
		var want []Outcome
		index := make(map[string]int)
		refused := int64(0)
		for i := range events {
			e := &events[i]
			e.decision = "pass"
			decision := f.decide(e)
			if strings.HasPrefix(decision, "refused-") {
				refused++
			}
			if decision == "pass" {
				continue
			}
			o := Outcome{App: "name-" + e.app, Rule: rules.Match(e.path).Rule.Name, Caller: e.caller, Decision: decision, First: e.at.Format(time.RFC3339)}
			key := o.App + o.Rule + o.Caller + o.Decision
			if _, known := index[key]; !known {
				index[key] = len(want)
				want = append(want, o)
			}
			want[index[key]].Calls++
			want[index[key]].Last = e.at.Format(time.RFC3339)
		}
		got := replayed(t, rules, events)
		if d := cmp.Diff(tally(want), tally(got.Refusals)); d != "" {
			t.Errorf("refused, want first: %s", d)
		}
		if got.Calls != int64(len(events)) || got.New != refused || got.RefusedNow != refused || got.Passing != 0 || len(got.Passes) != 0 {
			t.Errorf("%+v, want %d calls, %d of them refused", got, len(events), refused)
		}
	})
}

// The table in force decides again what it has decided.
func TestReplayOfTheTableInForce(t *testing.T) {
	zone := shanghai(t)
	rapid.Check(t, func(t *rapid.T) {
		rules, events := drawRules(t, zone), drawEvents(t, zone)
		f := reference{rules, make(map[string]int64), make(map[string]time.Time)}
		refused := int64(0)
		for i := range events {
			e := &events[i]
			if e.decision = f.decide(e); strings.HasPrefix(e.decision, "refused-") {
				refused++
				e.attempts = 0
			}
		}
		got := replayed(t, rules, events)
		if got.Refused != refused || got.RefusedNow != refused || got.New != 0 || got.Passing != 0 {
			t.Errorf("refused %d, now %d, new %d, passing %d, want %d refused as before", got.Refused, got.RefusedNow, got.New, got.Passing, refused)
		}
	})
}
