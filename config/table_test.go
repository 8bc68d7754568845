package config

import (
	"fmt"
	"strings"
	"testing"

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
