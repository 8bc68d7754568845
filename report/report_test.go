package report

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func shanghai(tb testing.TB) *time.Location {
	tb.Helper()
	zone, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		tb.Fatal(err)
	}
	return zone
}

func write(tb testing.TB, name string, text []byte) string {
	tb.Helper()
	name = filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(name, text, 0o600); err != nil {
		tb.Fatal(err)
	}
	return name
}

var allTables = [][]Dimension{{App}, {Rule}, {Caller}, {Decision}, {ErrCode}, {Hour}, {Reason}, {Rule, Caller, Reason}}

// read reports over files.
func read(tb testing.TB, o Options, names ...string) (*Result, error) {
	tb.Helper()
	if o.Zone == nil {
		o.Zone = shanghai(tb)
	}
	inputs, err := Find(names, false)
	if err != nil {
		tb.Fatal(err)
	}
	r := New(o)
	err = r.Read(tb.Context(), inputs)
	return r.Result(0, err), err
}

// Every sum is that of the generator which made the lines.
func TestSums(t *testing.T) {
	g := newGenerator(1, 20, 700*time.Millisecond)
	var text bytes.Buffer
	if err := g.write(&text, 20_000); err != nil {
		t.Fatal(err)
	}
	got, err := read(t, Options{By: allTables}, write(t, "access.log", text.Bytes()))
	if err != nil || !got.Complete || got.Lines != 20_000 || got.Foreign != 0 {
		t.Fatalf("%d lines, %d foreign, complete %t, %v, want 20000 of the gateway's", got.Lines, got.Foreign, got.Complete, err)
	}
	checkSums(t, g, got)
}

// checkSums compares all tables with what the generator has counted.
func checkSums(tb testing.TB, g *generator, got *Result) {
	tb.Helper()
	if got.Total != g.total {
		tb.Errorf("total %+v, want %+v", got.Total, g.total)
	}
	groups := 0
	for _, table := range got.Tables {
		for _, row := range table.Rows {
			group := strings.Join(table.By, ",") + " " + strings.Join(row.Keys, " ")
			groups++
			want := g.by[group]
			if want == nil {
				tb.Errorf("%s: %+v, want no such group", group, row.Counts)
			} else if row.Counts != *want {
				tb.Errorf("%s: %+v, want %+v", group, row.Counts, *want)
			}
		}
	}
	if groups != len(g.by) {
		tb.Errorf("%d groups, want %d", groups, len(g.by))
	}
}

// There are at most so many groups: the rest is one, and no call is lost.
func TestTooManyGroups(t *testing.T) {
	r := New(Options{Zone: shanghai(t), By: [][]Dimension{{App}, {App, Rule}}})
	const calls = maxTexts + 1000
	for i := range calls {
		r.add(&Line{Time: 1, App: fmt.Appendf(nil, "app-%d", i), Rule: []byte("a"), Decision: []byte("pass"), Attempts: 1})
	}
	for _, table := range r.Result(0, nil).Tables {
		var sum, rest int64
		for _, row := range table.Rows {
			sum += row.Calls
			if row.Keys[0] == Rest {
				rest += row.Calls
			}
		}
		if want := int64(calls - maxGroups/2); !table.Full || sum != calls || rest != want || len(table.Rows) > maxGroups/2+1 {
			t.Errorf("by %v: full %t, %d calls in %d rows, %d of them in the rest, want %d and %d", table.By, table.Full, sum, len(table.Rows), rest, calls, want)
		}
	}
	if top := r.Result(10, nil).Tables[0]; len(top.Rows) != 10 || top.More != maxGroups/2-9 {
		t.Errorf("%d rows and %d more, want 10 and %d", len(top.Rows), top.More, maxGroups/2-9)
	}
}

func TestFilter(t *testing.T) {
	at := func(clock string) int64 {
		at, err := time.Parse(time.RFC3339, "2026-11-29T"+clock+"+08:00")
		if err != nil {
			t.Fatal(err)
		}
		return at.UnixMilli()
	}
	for _, tt := range []struct {
		name   string
		filter Filter
		want   int64
	}{
		{"none", Filter{}, 6},
		{"an app by name", Filter{Apps: []string{"shop"}}, 3},
		{"an app by appid", Filter{Apps: []string{"wx2"}}, 3},
		{"two apps", Filter{Apps: []string{"wx2", "shop"}}, 6},
		{"rules by a pattern", Filter{Rules: []string{"message.*"}}, 4},
		{"a rule", Filter{Rules: []string{"menu.create"}, Apps: []string{"blog"}}, 1},
		{"no caller", Filter{Callers: []string{""}}, 2},
		{"a caller", Filter{Callers: []string{"crm"}}, 4},
		{"a caller that never called", Filter{Callers: []string{"nosuch"}}, 0},
		{"from", Filter{From: at("10:00:02")}, 4},
		{"to", Filter{To: at("10:00:02")}, 2},
	} {
		r := New(Options{Zone: shanghai(t), By: [][]Dimension{{App}}, Filter: tt.filter})
		for i, rule := range []string{"message.custom.send", "message.template.send", "menu.create", "message.custom.send", "message.template.send", "menu.create"} {
			l := Line{Time: at("10:00:00") + int64(i)*1000, App: []byte("shop"), AppID: []byte("wx1"), Rule: []byte(rule), Caller: []byte("crm"), Decision: []byte("pass")}
			if i >= 3 {
				l.App, l.AppID = []byte("blog"), []byte("wx2")
			}
			if rule == "menu.create" {
				l.Caller = nil
			}
			r.add(&l)
		}
		if got := r.Result(0, nil).Total.Calls; got != tt.want {
			t.Errorf("%s: %d calls, want %d", tt.name, got, tt.want)
		}
	}
}

// A refusal of a version that did not log a reason counts by its decision.
func TestRefusalsWithoutAReason(t *testing.T) {
	r := New(Options{Zone: shanghai(t), By: [][]Dimension{{Reason}}})
	for _, decision := range []string{"pass", "refused-quota", "refused-quota"} {
		r.add(&Line{Time: 1, Decision: []byte(decision)})
	}
	rows := r.Result(0, nil).Tables[0].Rows
	if len(rows) != 1 || rows[0].Keys[0] != "refused-quota" || rows[0].Calls != 2 {
		t.Errorf("%+v, want 2 calls of refused-quota alone", rows)
	}
}
