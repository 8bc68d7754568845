package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"wxproxy/limits"
)

// seedFiles adds every file of testdata/config to a fuzz target: limits tables, or the others.
func seedFiles(f *testing.F, tables bool) {
	f.Helper()
	paths, err := filepath.Glob("../testdata/config/*/*.yaml")
	if err != nil || len(paths) == 0 {
		f.Fatalf("no files to begin with: %v", err)
	}
	for _, path := range append(paths, "../testdata/wxproxy.yaml") {
		if strings.HasPrefix(filepath.Base(path), "limits-") != tables {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

// smallTable stands for the shipped one, to spend the time on what strangers write.
const smallTable = `
version: 1
profiles:
  production:
    rules:
      - {name: user.info, paths: [/cgi-bin/user/info], quota: 5000000/day}
      - {name: other, paths: [/cgi-bin/*], quota: unknown}
  test: {extends: production, rules: [{name: user.info, quota: [1/day, 2/month], pace: 3/second burst 4}]}
`

// checkFaults fails on an error that is no Faults or names no place.
func checkFaults(t *testing.T, err error) {
	t.Helper()
	var faults Faults
	if !errors.As(err, &faults) || len(faults) == 0 {
		t.Fatalf("%T %v, want faults", err, err)
	}
	for _, fault := range faults {
		if fault.File == "" || fault.Text == "" || strings.ContainsAny(fault.String(), "\n\x00\x1b") {
			t.Errorf("a fault without a file or a text, or with a control character: %q", fault.String())
		}
	}
}

// FuzzLoad: no file panics, and what Load accepts comes back from dump as it was.
func FuzzLoad(f *testing.F) {
	seedFiles(f, false)
	shipped := []byte(smallTable)
	path := filepath.Join(f.TempDir(), "wxproxy.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(LoadOptions{Path: path, Shipped: shipped, Env: env("SHOP_SECRET", "canary-new", "CRM_KEY", "canary-crm")})
		if err != nil {
			checkFaults(t, err)
			return
		}
		if c.LimitsFile != "" { // a path that the fuzzer made; the copy lies elsewhere
			return
		}
		first := dump(t, c)
		if err := os.WriteFile(path, []byte(first), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err = Load(LoadOptions{Path: path, Shipped: shipped, Env: env()})
		if err != nil {
			t.Fatalf("a masked configuration does not load: %v\n%s", err, first)
		}
		if second := dump(t, c); second != first {
			t.Errorf("masked once:\n%stwice:\n%s", first, second)
		}
	})
}

// FuzzParseTable: no table panics; each profile of one that is accepted compiles, and the table
// written out in full is the same table.
func FuzzParseTable(f *testing.F) {
	seedFiles(f, true)
	f.Add(shippedYAML(f))
	shipped, err := ParseTable("limits.yaml", []byte(smallTable), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := ParseTable("limits.yaml", data, shipped)
		if err != nil {
			checkFaults(t, err)
			return
		}
		for name := range table.Profiles {
			if _, err := table.Rules(name, nil); err != nil {
				t.Errorf("profile %s: %v", name, err)
			}
		}
		text := writeTable(t, table)
		again, err := ParseTable("limits.yaml", text, nil)
		if err != nil {
			t.Fatalf("a table written out does not load: %v\n%s", err, text)
		}
		if got := writeTable(t, again); string(got) != string(text) {
			t.Errorf("written once:\n%stwice:\n%s", text, got)
		}
	})
}

// writeTable writes a table as a limits.yaml without extends.
func writeTable(t *testing.T, table *limits.Table) []byte {
	t.Helper()
	type row = map[string]any
	profiles := make(map[string]any)
	for name, p := range table.Profiles {
		rules := []row{}
		for _, r := range p.Rules {
			out := row{
				"name": r.Name, "title": r.Title, "category": r.Category, "source": r.Source, "paths": r.Paths,
				"quota": budgetText(r.Budget), "shadow": r.Shadow,
			}
			if r.Inject != limits.InjectByPath {
				out["inject"] = r.Inject.String()
			}
			if r.Pace.Rate > 0 {
				out["pace"] = r.Pace.String()
			}
			if r.OnError == limits.StoreErrorRefuse {
				out["on_store_error"] = "refuse"
			}
			rules = append(rules, out)
		}
		profiles[name] = row{"title": p.Title, "source": p.Source, "rules": rules}
	}
	out, err := yaml.Marshal(row{"version": 1, "timezone": table.Zone.String(), "profiles": profiles})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// FuzzExpand: a text without a $ is left alone, and nothing panics.
func FuzzExpand(f *testing.F) {
	for _, text := range []string{"", "$$", "${A}", "${A:-b}", "${", "$${A}"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, _, err := expand(text, env("A", "one"))
		if !strings.Contains(text, "$") && (got != text || err != nil) {
			t.Errorf("expand(%q) = %q, %v", text, got, err)
		}
		if back, unset, err := expand(strings.ReplaceAll(text, "$", "$$"), env()); back != text || unset != nil || err != nil {
			t.Errorf("expand with each $ doubled of %q = %q, %v, %v", text, back, unset, err)
		}
	})
}
