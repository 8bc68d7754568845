package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wxproxy/limits"
)

// lines writes the rules of a profile, one a line.
func lines(p *limits.Profile) string {
	var b strings.Builder
	for _, r := range p.Rules {
		fmt.Fprintf(&b, "%s %v %s", r.Name, r.Paths, r.Budget)
		if r.Pace.Rate > 0 {
			fmt.Fprintf(&b, " pace %s", r.Pace)
		}
		if r.Inject == limits.InjectNone {
			b.WriteString(" none")
		}
		if r.Shadow {
			b.WriteString(" shadow")
		}
		if r.Source != "" {
			fmt.Fprintf(&b, " source %s", r.Source)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

const familyTable = `
version: 1
profiles:
  parent:
    title: 父
    rules:
      - {name: a, title: 甲, paths: [/cgi-bin/a, /cgi-bin/a2], quota: 10/day, pace: 5/second, inject: none, shadow: true, source: book}
      - {name: b, paths: [/cgi-bin/b], quota: unknown}
      - {name: all, paths: [/cgi-bin/*], quota: unknown}
`

func TestParseTableExtends(t *testing.T) {
	tests := []struct{ name, rules, want string }{
		{"nothing", "", `
a [/cgi-bin/a /cgi-bin/a2] 10/day pace 5/second none shadow source book
b [/cgi-bin/b] unknown
all [/cgi-bin/*] unknown
`},
		{"a figure keeps the rest but the source", "{name: a, quota: 50/day}", `
a [/cgi-bin/a /cgi-bin/a2] 50/day pace 5/second none shadow
b [/cgi-bin/b] unknown
all [/cgi-bin/*] unknown
`},
		{"all but the figure", "{name: a, paths: [/cgi-bin/c], pace: none, inject: account, shadow: false, source: own}", `
a [/cgi-bin/c] 10/day source own
b [/cgi-bin/b] unknown
all [/cgi-bin/*] unknown
`},
		{"another rule is added", "{name: c, paths: [/cgi-bin/c], quota: [1/month, 2/day]}", `
a [/cgi-bin/a /cgi-bin/a2] 10/day pace 5/second none shadow source book
b [/cgi-bin/b] unknown
all [/cgi-bin/*] unknown
c [/cgi-bin/c] 2/day, 1/month
`},
		{"a path moves", "{name: c, paths: [/CGI-BIN/A2], quota: 1/day}", `
a [/cgi-bin/a] 10/day pace 5/second none shadow source book
b [/cgi-bin/b] unknown
all [/cgi-bin/*] unknown
c [/CGI-BIN/A2] 1/day
`},
		{"the last path moves, the rule goes", "{name: a, paths: [/cgi-bin/a, /cgi-bin/b]}", `
a [/cgi-bin/a /cgi-bin/b] 10/day pace 5/second none shadow source book
all [/cgi-bin/*] unknown
`},
		{"a wider path takes nothing", "{name: wide, paths: [/cgi-bin/b/*], quota: denied}", `
a [/cgi-bin/a /cgi-bin/a2] 10/day pace 5/second none shadow source book
b [/cgi-bin/b] unknown
all [/cgi-bin/*] unknown
wide [/cgi-bin/b/*] denied
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// The child stands first: the order of the file makes no difference.
			text := strings.Replace(familyTable, "profiles:\n", "profiles:\n  child: {extends: parent, rules: ["+tt.rules+"]}\n", 1)
			table, err := ParseTable("limits.yaml", []byte(text), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := lines(table.Profiles["child"]), strings.TrimPrefix(tt.want, "\n"); got != want {
				t.Errorf("rules of the child:\n%swant:\n%s", got, want)
			}
			parent := strings.TrimPrefix(tests[0].want, "\n")
			if got := lines(table.Profiles["parent"]); got != parent {
				t.Errorf("the parent has changed:\n%swant:\n%s", got, parent)
			}
		})
	}
}

func TestParseTableReplacesShipped(t *testing.T) {
	shipped := shippedTable(t)
	before := lines(shipped.Profiles["production"])
	table, err := ParseTable("limits.yaml", []byte(`
version: 1
profiles:
  grand: {extends: mine, rules: [{name: user.get, quota: 3/day}]}
  mine: {extends: production, rules: [{name: menu.get, quota: 2/day}]}
  production: {extends: production, rules: [{name: user.info, quota: 1/day}]}
  service: {rules: [{name: all, paths: [/cgi-bin/*], quota: unknown}]}
`), shipped)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct{ profile, rule, budget string }{
		{"production", "user.info", "1/day"},
		{"production", "menu.get", "10000/day"},
		{"mine", "user.info", "1/day"}, // the file's production, not the shipped one
		{"mine", "menu.get", "2/day"},
		{"grand", "user.get", "3/day"},
		{"grand", "menu.get", "2/day"},
		{"test", "user.info", "500000/day"},
		{"current", "user.info", "5000000/day"}, // a shipped profile extends the shipped one
		{"service", "all", "unknown"},
	} {
		rules, err := table.Rules(want.profile, nil)
		if err != nil {
			t.Fatal(err)
		}
		if r := rules.Rule(want.rule); r == nil || r.Budget.String() != want.budget {
			t.Errorf("%s: rule %s is %s, want %s", want.profile, want.rule, describe(r), want.budget)
		}
	}
	if n := len(table.Profiles["service"].Rules); n != 1 {
		t.Errorf("service has %d rules, want the one of the file", n)
	}
	if after := lines(shipped.Profiles["production"]); after != before {
		t.Error("the shipped table has changed")
	}
	if table.Zone != shipped.Zone {
		t.Errorf("zone = %s, want the shipped one", table.Zone)
	}
}

// revisionOf returns the revision of a table.
func revisionOf(t *testing.T, data []byte) string {
	t.Helper()
	p, faults := readTable("limits.yaml", data, nil)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return p.file.Revision
}

func TestParseTableRevision(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"revision: 2026-11-23", ""},
		{`revision: "2026-11-23"`, ""},
		{"revision: 2026-11-31", `limits.yaml:2:11: revision: "2026-11-31": want a date, as in 2026-11-23`},
		{"revision: soon", `limits.yaml:2:11: revision: "soon": want a date, as in 2026-11-23`},
		{"revision: [2026-11-23]", "limits.yaml:2:11: revision: a list: want a single value"},
		{"revisoin: 2026-11-23", "limits.yaml:2:1: revisoin: unknown key: did you mean revision?"},
	} {
		_, err := ParseTable("limits.yaml", []byte("version: 1\n"+tt.line+"\n"), shippedTable(t))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.line, got, tt.want)
		}
	}
}

// TestLoadWarnsOfReplacedProfiles: a user's profile in place of a built-in one stays as it is, and
// what differs is told until the file says that it was compared.
func TestLoadWarnsOfReplacedProfiles(t *testing.T) {
	const rows = `
      - {name: token, paths: [/cgi-bin/token], quota: 2000/day, inject: none}
      - {name: a, paths: [/cgi-bin/a], quota: 10/day, pace: 5/second}
      - {name: b, paths: [/cgi-bin/b, /cgi-bin/b2], quota: [3/day, 9/month]}
`
	builtIn := "version: 1\nrevision: 2026-11-23\nprofiles:\n  production:\n    rules:" + rows +
		"  test: {extends: production, rules: [{name: token, quota: 200/day}]}\n"
	const told = "limits.yaml:%s: in place of the built-in one of 2026-11-23, which is not the same: %s; %s: once you have compared them, write revision: 2026-11-23"
	const none, old = "the file says no revision", "the file is of 2026-01-05"
	warn := func(place, differences, own string) string { return fmt.Sprintf(told, place, differences, own) }
	tests := []struct {
		name, revision, profiles string
		want                     []string
	}{
		{"no profile", "", "{}", nil},
		{"another name", "", "{shop: {rules: [{name: all, paths: [/cgi-bin/*], quota: unknown}]}}", nil},
		{"another name, older", "2026-01-05", "{shop: {extends: production, rules: [{name: a, quota: 1/day}]}}", nil},
		{"the same", "", "\n  production:\n    title: 自己的\n    rules:" + rows, nil},
		{"the same by extends", "", "{test: {extends: test}}", nil},
		{"the same rows in another spelling", "", `{production: {extends: production, rules: [{name: b, title: 乙, source: 后台, paths: [/cgi-bin/B2, /cgi-bin/b], shares: {crm: 1/day}}]}}`, nil},
		{"another figure", "", "{production: {extends: production, rules: [{name: a, quota: 11/day}]}}", []string{
			warn("2:12: profiles.production", "it changes a (11/day, built in 10/day)", none),
		}},
		{"all that a rule can change", "", "{production: {extends: production, rules: [{name: token, paths: [/cgi-bin/t], quota: unknown, inject: account, shadow: true}, {name: a, pace: none}]}}", []string{
			warn("2:12: profiles.production", "it changes token (unknown, built in 2000/day; inject account, built in none; shadow true, built in false; other paths), a (pace none, built in 5/second)", none),
		}},
		{"missing and new", "", "{production: {rules: [{name: token, paths: [/cgi-bin/token], quota: 2000/day, inject: none}, {name: c, paths: [/cgi-bin/c], quota: 1/day}]}}", []string{
			warn("2:12: profiles.production", "it lacks a, b; it adds c", none),
		}},
		{"a handful of names", "", "{production: {rules: [{name: c, paths: [/cgi-bin/c], quota: 1/day}, {name: d, paths: [/cgi-bin/d], quota: 1/day}, {name: e, paths: [/cgi-bin/e], quota: 1/day}, {name: f, paths: [/cgi-bin/f], quota: 1/day}, {name: g, paths: [/cgi-bin/g], quota: 1/day}]}}", []string{
			warn("2:12: profiles.production", "it lacks token, a, b; it adds c, d, e and 2 more", none),
		}},
		{"two profiles, older", "2026-01-05", "{test: {rules: [{name: token, paths: [/cgi-bin/token], quota: 2000/day, inject: none}]}, production: {extends: production, rules: [{name: a, quota: 11/day}]}}", []string{
			warn("3:12: profiles.test", "it lacks a, b; it changes token (2000/day, built in 200/day)", old),
			warn("3:100: profiles.production", "it changes a (11/day, built in 10/day)", old),
		}},
		{"compared with this table", "2026-11-23", "{production: {extends: production, rules: [{name: a, quota: 11/day}]}}", nil},
		{"of a newer table", "2027-02-01", "{production: {extends: production, rules: [{name: a, quota: 11/day}]}}", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			own := "version: 1\n"
			if tt.revision != "" {
				own += "revision: " + tt.revision + "\n"
			}
			dir := files(t, "limits.yaml", own+"profiles: "+tt.profiles+"\n")
			c, err := Load(LoadOptions{Dir: dir, Shipped: []byte(builtIn), Env: env()})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, w := range c.Warnings {
				got = append(got, strings.TrimPrefix(w, dir+string(filepath.Separator)))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Warnings (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNewerShippedTableIsNotMerged: a copy of an older table stays in force beside a newer one,
// word for word, and what it lacks is told.
func TestNewerShippedTableIsNotMerged(t *testing.T) {
	shipped := string(shippedYAML(t))
	revision := "revision: " + revisionOf(t, []byte(shipped))
	newer := strings.Replace(shipped, revision, "revision: 2099-01-01", 1)
	newer = strings.Replace(newer, "quota: 5000000/day}", "quota: 400000/day}", 1)
	newer = strings.Replace(newer, "      # ---- 凭据与清零", "      - {name: brand.new, title: 新接口, paths: [/cgi-bin/brand/new], quota: 7/day}\n      # ---- 凭据与清零", 1)
	dir := files(t, "limits.yaml", shipped)
	for _, tt := range []struct{ name, builtIn, want string }{
		{"the same table", shipped, ""},
		{"a newer one", newer, "it lacks brand.new; it changes user.info (5000000/day, built in 400000/day); the file is of "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Load(LoadOptions{Dir: dir, Shipped: []byte(tt.builtIn), Env: env()})
			if err != nil {
				t.Fatal(err)
			}
			p := c.Table.Profiles["production"]
			if got := lines(p); got != lines(shippedTable(t).Profiles["production"]) {
				t.Errorf("production is no longer the user's:\n%s", got)
			}
			warned := strings.Join(c.Warnings, "\n")
			if tt.want == "" && warned != "" || !strings.Contains(warned, tt.want) {
				t.Errorf("Warnings = %s, want %q in them", warned, tt.want)
			}
		})
	}
}
