package report

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func shanghai(t testing.TB) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func write(t testing.TB, name string, text []byte) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

var allTables = [][]Dimension{{App}, {Rule}, {Caller}, {Decision}, {ErrCode}, {Hour}, {Reason}, {Rule, Caller, Reason}}

// read reports over files.
func read(t testing.TB, o Options, names ...string) (*Result, error) {
	t.Helper()
	if o.Zone == nil {
		o.Zone = shanghai(t)
	}
	inputs, err := Find(names, false)
	if err != nil {
		t.Fatal(err)
	}
	r := New(o)
	err = r.Read(t.Context(), inputs)
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
func checkSums(t testing.TB, g *generator, got *Result) {
	t.Helper()
	if got.Total != g.total {
		t.Errorf("total %+v, want %+v", got.Total, g.total)
	}
	groups := 0
	for _, table := range got.Tables {
		for _, row := range table.Rows {
			group := strings.Join(table.By, ",") + " " + strings.Join(row.Keys, " ")
			groups++
			want := g.by[group]
			if want == nil {
				t.Errorf("%s: %+v, want no such group", group, row.Counts)
			} else if row.Counts != *want {
				t.Errorf("%s: %+v, want %+v", group, row.Counts, *want)
			}
		}
	}
	if groups != len(g.by) {
		t.Errorf("%d groups, want %d", groups, len(g.by))
	}
}
