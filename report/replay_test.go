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
			if name != match.Counter {
				continue
			}
			kept := int64(0)
			for other, calls := range match.Rule.Reserve {
				if other != e.caller {
					kept += max(0, calls-f.used[key+" of "+other])
				} else {
					need[key+" of "+other] = 1
				}
			}
			if f.used[key]+kept >= q.Limit && refusal == "" {
				refusal = "refused-reserved"
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
		{
			Name: "pace", Paths: []string{"/cgi-bin/pace"}, Budget: limits.Budget{Kind: limits.Limited, Quotas: []limits.Quota{{Limit: 40, Period: limits.Day}}},
			Pace: limits.Pace{Rate: int(some("rate")), Per: time.Minute, Burst: int(some("burst"))},
		},
		{Name: "reserve", Paths: []string{"/cgi-bin/reserve"}, Budget: both, Reserve: map[string]int64{"crm": some("reserve"), "oncall": 1}},
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
	"/cgi-bin/day", "/cgi-bin/Day/two/", "/cgi-bin/both", "/cgi-bin/pace", "/cgi-bin/pace", "/cgi-bin/reserve", "/cgi-bin/reserve", "/cgi-bin/denied", "/cgi-bin/shadow", "/cgi-bin/unknown",
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

// What the log does not tell is said, and counted nowhere.
func TestReplayOfWhatTheLogDoesNotTell(t *testing.T) {
	budget := limits.Budget{Kind: limits.Limited, Quotas: []limits.Quota{{Limit: 1, Period: limits.Day}}}
	table := limits.Table{Zone: shanghai(t), Profiles: map[string]*limits.Profile{"p": {Name: "p", Rules: []*limits.Rule{
		{Name: "menu.create", Paths: []string{"/cgi-bin/menu/create"}, Budget: budget},
		{Name: "clear", Paths: []string{"/cgi-bin/openapi/quota/clear"}, Budget: limits.Budget{Kind: limits.Limited, Quotas: []limits.Quota{{Limit: 5, Period: limits.Month}}}},
		{Name: "other", Paths: []string{"/cgi-bin/*"}, Budget: budget},
	}}}}
	rules, err := table.Rules("p", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		lines []Line
		check func(r *Replay) bool
	}{
		{
			"no path: the rule of the line",
			[]Line{{Rule: []byte("menu.create")}, {Rule: []byte("menu.create"), Path: []byte("-")}},
			func(r *Replay) bool { return r.RefusedNow == 1 && len(r.Untold) == 0 },
		},
		{
			"the rule has another name in the new table",
			[]Line{{Rule: []byte("menu"), Path: []byte("/cgi-bin/menu/create")}, {Rule: []byte("menu"), Path: []byte("/cgi-bin/menu/create")}},
			func(r *Replay) bool { return r.RefusedNow == 1 && r.Refusals[0].Rule == "menu.create" },
		},
		{
			"no path, and the new table lacks the rule",
			[]Line{{Rule: []byte("gone")}, {Rule: []byte("gone")}},
			func(r *Replay) bool { return r.RefusedNow == 0 && r.Calls == 0 && r.Untold["gone"] == 2 },
		},
		{
			"a scrubbed path of a rule that counts each path",
			[]Line{{Rule: []byte("other"), Path: []byte("/cgi-bin/*")}, {Rule: []byte("other"), Path: []byte("/cgi-bin/*")}},
			func(r *Replay) bool { return r.RefusedNow == 0 && r.Untold["other"] == 2 },
		},
		{
			"a path that was cut",
			[]Line{{Rule: []byte("other"), Path: []byte("/cgi-bin/" + strings.Repeat("a", 191))}},
			func(r *Replay) bool { return r.Calls == 0 && r.Untold["other"] == 1 },
		},
		{
			"a clear of one path",
			[]Line{{Rule: []byte("x"), Path: []byte("/cgi-bin/openapi/quota/clear")}},
			func(r *Replay) bool { return r.PathClears == 1 && r.Clears == 0 },
		},
		{
			"a clear that WeChat did not grant is not counted", slices.Repeat([]Line{{Path: []byte("/cgi-bin/openapi/quota/clear"), ErrCode: 40013}}, 9),
			func(r *Replay) bool { return r.RefusedNow == 0 && r.PathClears == 0 },
		},
		{
			"after 48006 none is left",
			[]Line{{Path: []byte("/cgi-bin/openapi/quota/clear"), ErrCode: 48006}, {Path: []byte("/cgi-bin/openapi/quota/clear")}},
			func(r *Replay) bool { return r.RefusedNow == 1 && r.PathClears == 0 },
		},
		{
			"other refusals and calls that never left",
			[]Line{{Decision: []byte("refused-auth")}, {Decision: []byte("refused-latched")}, {Decision: []byte("pass"), Attempts: -1}},
			func(r *Replay) bool {
				return r.Calls == 0 && r.Skipped["refused-auth"] == 1 && r.Skipped["refused-latched"] == 1 && r.Skipped["pass"] == 1
			},
		},
	} {
		r := New(Options{Zone: table.Zone, WhatIf: &WhatIf{Rules: func(string) *limits.Ruleset { return rules }}})
		for i, l := range tt.lines {
			l.Time, l.Status, l.AppID = 1_795_788_000_000+int64(i), 200, []byte("wx1")
			if l.Decision == nil {
				l.Decision = []byte("pass")
			}
			l.Attempts++
			r.add(&l)
		}
		r.replay.finish()
		if got := r.Result(0, nil).WhatIf; !tt.check(got) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

// Filters say whose calls are told; all are counted, because they share a quota.
func TestReplayCountsWhatAFilterLeavesOut(t *testing.T) {
	table := limits.Table{Zone: shanghai(t), Profiles: map[string]*limits.Profile{"p": {Name: "p", Rules: []*limits.Rule{
		{Name: "a", Paths: []string{"/cgi-bin/a"}, Budget: limits.Budget{Kind: limits.Limited, Quotas: []limits.Quota{{Limit: 3, Period: limits.Day}}}},
	}}}}
	rules, err := table.Rules("p", nil)
	if err != nil {
		t.Fatal(err)
	}
	r := New(Options{Zone: table.Zone, Filter: Filter{Callers: []string{"crm"}}, WhatIf: &WhatIf{Rules: func(string) *limits.Ruleset { return rules }}})
	for i, caller := range []string{"shop", "shop", "crm", "shop", "crm", "crm"} {
		r.add(&Line{Time: 1_795_788_000_000 + int64(i), Path: []byte("/cgi-bin/a"), Caller: []byte(caller), Decision: []byte("pass"), Attempts: 1, Status: 200})
	}
	r.replay.finish()
	if got := r.Result(0, nil).WhatIf; got.Calls != 3 || got.RefusedNow != 2 || len(got.Refusals) != 1 || got.Refusals[0].Caller != "crm" {
		t.Errorf("%+v, want 2 of crm's 3 calls refused", got)
	}
}

// The last calls of a day whose lines come after those of the next day count for their own.
func TestReplayOverMidnight(t *testing.T) {
	zone := shanghai(t)
	table := limits.Table{Zone: zone, Profiles: map[string]*limits.Profile{"p": {Name: "p", Rules: []*limits.Rule{
		{Name: "a", Paths: []string{"/cgi-bin/a"}, Budget: limits.Budget{Kind: limits.Limited, Quotas: []limits.Quota{{Limit: 2, Period: limits.Day}}}},
	}}}}
	rules, err := table.Rules("p", nil)
	if err != nil {
		t.Fatal(err)
	}
	midnight := time.Date(2026, 11, 30, 0, 0, 0, 0, zone).UnixMilli()
	r := New(Options{Zone: zone, WhatIf: &WhatIf{Rules: func(string) *limits.Ruleset { return rules }}})
	for _, at := range []int64{-5000, 10, 20, -1, 30, -2} { // as the calls end
		r.add(&Line{Time: midnight + at, Path: []byte("/cgi-bin/a"), Decision: []byte("pass"), Attempts: 1, Status: 200})
	}
	r.replay.finish()
	got := r.Result(0, nil).WhatIf
	if got.RefusedNow != 2 || got.Refusals[0].First != "2026-11-29T23:59:59+08:00" || got.Refusals[0].Last != "2026-11-30T00:00:00+08:00" {
		t.Errorf("%+v, want the third call of each day refused", got)
	}
}
