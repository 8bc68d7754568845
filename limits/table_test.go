package limits

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseBudget(t *testing.T) {
	tests := []struct {
		name  string
		texts []string
		want  Budget
		err   string
	}{
		{name: "day", texts: []string{"1000/day"}, want: Budget{Kind: Limited, Quotas: []Quota{{1000, Day}}}},
		{name: "month", texts: []string{"10/month"}, want: Budget{Kind: Limited, Quotas: []Quota{{10, Month}}}},
		{name: "both, the day first", texts: []string{"10/month", "2/day"}, want: Budget{Kind: Limited, Quotas: []Quota{{2, Day}, {10, Month}}}},
		{name: "unlimited", texts: []string{"unlimited"}, want: Budget{Kind: Unlimited}},
		{name: "unknown", texts: []string{"unknown"}, want: Budget{}},
		{name: "denied", texts: []string{"denied"}, want: Budget{Kind: Denied}},
		{name: "another period", texts: []string{"5000/fortnight"}, err: `quota "5000/fortnight": want N/day or N/month`},
		{name: "zero", texts: []string{"0/day"}, err: `quota "0/day": want a number from 1 to 1000000000000 (nothing at all is "denied", no limit is "unlimited")`},
		{name: "negative", texts: []string{"-1/day"}, err: `quota "-1/day": want a number from 1 to 1000000000000 (nothing at all is "denied", no limit is "unlimited")`},
		{name: "plus", texts: []string{"+1/day"}, err: `quota "+1/day": "+1" is not a whole number`},
		{name: "fraction", texts: []string{"1.5/day"}, err: `quota "1.5/day": "1.5" is not a whole number`},
		{name: "no figure", texts: []string{"/day"}, err: `quota "/day": "" is not a whole number`},
		{name: "bare number", texts: []string{"1000"}, err: `quota "1000": want N/day, N/month, a list of them, unlimited, unknown or denied`},
		{name: "twice a day", texts: []string{"1/day", "2/day"}, err: `quota "2/day": a second figure a day beside 1/day`},
		{name: "none", err: "quota: an empty list: want N/day, N/month, a list of them, unlimited, unknown or denied"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseBudget(tt.texts...)
			if text := errText(err); text != tt.err {
				t.Fatalf("ParseBudget(%q) = %q, want %q", tt.texts, text, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); err == nil && diff != "" {
				t.Errorf("ParseBudget(%q) (-want +got):\n%s", tt.texts, diff)
			}
			if err == nil {
				if again, err := ParseBudget(strings.Split(got.String(), ", ")...); err != nil || !cmp.Equal(got, again) {
					t.Errorf("ParseBudget(%q) = %v, %v, want %v", got, again, err, got)
				}
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func FuzzParseBudget(f *testing.F) {
	for _, seed := range []string{"1000/day", "unknown", "9999999999999999999/month", "/", "+/day"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b, err := ParseBudget(text)
		if err != nil {
			return
		}
		if again, err := ParseBudget(b.String()); err != nil || !cmp.Equal(b, again) {
			t.Errorf("ParseBudget(%q) = %v, which reads as %v, %v", text, b, again, err)
		}
	})
}

func TestParsePace(t *testing.T) {
	tests := []struct {
		text string
		want Pace
	}{
		{"60/minute", Pace{60, time.Minute, 60}},
		{"5/second burst 20", Pace{5, time.Second, 20}},
		{"0/second", Pace{}},
		{"5/hour", Pace{}},
		{"5/second burst", Pace{}},
		{"5/second burst x", Pace{}},
		{"fast", Pace{}},
	}
	for _, tt := range tests {
		got, err := ParsePace(tt.text)
		if got != tt.want || (err == nil) != (tt.want != Pace{}) {
			t.Errorf("ParsePace(%q) = %v, %v, want %v", tt.text, got, err, tt.want)
		}
		if again, err2 := ParsePace(got.String()); err == nil && (err2 != nil || again != got) {
			t.Errorf("ParsePace(%q) = %v, %v, want %v", got, again, err2, got)
		}
	}
}

func TestCanonical(t *testing.T) {
	tests := []struct {
		name, path, want string // want "": refused
	}{
		{"clean", "/cgi-bin/menu/create", "/cgi-bin/menu/create"},
		{"root", "/", "/"},
		{"duplicate slashes", "//cgi-bin///menu//create", "/cgi-bin/menu/create"},
		{"case and trailing slash stay", "/CGI-bin/Menu/", "/CGI-bin/Menu/"},
		{"unreserved escapes", "/cgi%2Dbin/%6denu/cr%65ate%7e", "/cgi-bin/menu/create~"},
		{"dots inside names", "/a.b/..c/d..", "/a.b/..c/d.."},
		{"empty", "", ""},
		{"no slash", "cgi-bin", ""},
		{"star", "*", ""},
		{"dot", "/cgi-bin/./menu", ""},
		{"dot dot", "/cgi-bin/../sns", ""},
		{"dot dot at the end", "/cgi-bin/..", ""},
		{"escaped dots", "/cgi-bin/%2e%2E/sns", ""},
		{"half escaped dots", "/cgi-bin/.%2e/sns", ""},
		{"escaped slash", "/cgi-bin%2fmenu", ""},
		{"escaped backslash", "/cgi-bin%5cmenu", ""},
		{"escaped nul", "/cgi-bin%00", ""},
		{"escaped percent", "/cgi-bin%252e", ""},
		{"escaped blank", "/cgi-bin/menu%20", ""},
		{"escaped hash", "/cgi-bin/menu%23", ""},
		{"broken escape", "/cgi-bin/%4", ""},
		{"broken escape 2", "/cgi-bin/%zz", ""},
		{"semicolon", "/cgi-bin/menu;x=1", ""},
		{"backslash", `/cgi-bin\menu`, ""},
		{"not ASCII", "/cgi-bin/菜单", ""},
		{"control", "/cgi-bin/\x01", ""},
		{"query", "/cgi-bin?x", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Canonical(tt.path)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("Canonical(%q) = %q, %v, want %q", tt.path, got, err, tt.want)
			}
		})
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = Canonical("/cgi-bin/menu/create") }); n != 0 {
		t.Errorf("a clean path costs %v allocations, want 0", n)
	}
}

func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{"/cgi-bin/menu/create", "//a%2eb/", "/%2e%2e/", "/a/./b", "/%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, escaped string) {
		path, err := Canonical(escaped)
		if err != nil {
			return
		}
		if again, err := Canonical(path); again != path || err != nil {
			t.Errorf("Canonical(%q) = %q, whose own is %q, %v", escaped, path, again, err)
		}
		for segment := range strings.SplitSeq(path, "/") {
			if segment == "." || segment == ".." {
				t.Errorf("Canonical(%q) = %q has a dot segment", escaped, path)
			}
		}
		if strings.ContainsAny(path, "%;\\?#") || strings.Contains(path, "//") {
			t.Errorf("Canonical(%q) = %q", escaped, path)
		}
	})
}

func TestMatch(t *testing.T) {
	set := rules(t,
		rule("menu.create", "/cgi-bin/menu/create", "1/day"),
		rule("menu", "/cgi-bin/menu/*", "1/day"),
		rule("other", "/cgi-bin/*", "unknown"),
		rule("sns", "/sns/userinfo", "unlimited"),
	)
	tests := []struct {
		path, rule, counter string
		family, injects     bool
	}{
		{"/cgi-bin/menu/create", "menu.create", "menu.create", true, true},
		{"/CGI-BIN/Menu/Create/", "menu.create", "menu.create", true, true},
		{"/cgi-bin/menu/create/x", "menu", "menu:/cgi-bin/menu/create/x", true, true},
		{"/cgi-bin/menu/Get", "menu", "menu:/cgi-bin/menu/get", true, true},
		{"/cgi-bin/menu", "other", "other:/cgi-bin/menu", true, true},
		{"/cgi-bin/a/b/c", "other", "other:/cgi-bin/a/b/c", true, true},
		{"/sns/userinfo", "sns", "sns", true, false},
		{"/sns/auth", "other", "other:/sns/auth", true, false},
		{"/cgi-bin/component/x", "other", "other:/cgi-bin/component/x", true, false},
		{"/cgi-bin/component/GetPrivacySetting", "other", "other:/cgi-bin/component/getprivacysetting", true, true},
		{"/new/family", "other", "other:/new/family", false, true},
	}
	for _, tt := range tests {
		m := set.Match(tt.path)
		if want := (Match{set.Rule(tt.rule), tt.counter, tt.path, tt.family, tt.injects}); m != want {
			t.Errorf("Match(%q) = %+v, want %+v", tt.path, m, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { set.Match("/cgi-bin/menu/create") }); n != 0 {
		t.Errorf("a clean path costs %v allocations, want 0", n)
	}
}

// TestMatchWithoutAnOther: WeChat adds families and paths without notice. A table that has no row for the
// rest gets one without a figure.
func TestMatchWithoutAnOther(t *testing.T) {
	set := rules(t, rule("a", "/cgi-bin/a", "1/day"))
	for _, path := range []string{"/cgi-bin/b", "/new/family"} {
		m := set.Match(path)
		if m.Rule == nil || m.Rule.Name != "other" || m.Rule.Budget.Kind != Unknown || m.Counter != "other:"+path {
			t.Errorf("Match(%q) = %+v, want the rule other, without a figure", path, m)
		}
	}
	if rest := set.Rules[len(set.Rules)-1]; rest != set.Rule("other") {
		t.Errorf("the last rule is %s, want other: usage shows what it counted", rest.Name)
	}
}

// TestInject: what a row says wins over what the path says.
func TestInject(t *testing.T) {
	row := func(name, path string, inject Inject) *Rule {
		r := rule(name, path, "unknown")
		r.Inject = inject
		return r
	}
	set := rules(t, row("a", "/sns/a", InjectAccount), row("b", "/cgi-bin/b", InjectNone), row("c", "/cgi-bin/clear_quota/v2", InjectByPath), row("d", "/cgi-bin/d/*", InjectNone))
	for path, want := range map[string]bool{"/sns/a": true, "/cgi-bin/b": false, "/cgi-bin/clear_quota/v2": false, "/cgi-bin/d/e": false} {
		if got := set.Match(path).Injects; got != want {
			t.Errorf("Match(%q).Injects = %v, want %v", path, got, want)
		}
	}
}

func TestRulesFaults(t *testing.T) {
	twice := &Table{Zone: time.UTC, Profiles: map[string]*Profile{"p": {Name: "p", Rules: []*Rule{
		rule("a", "/cgi-bin/a", "1/day"), rule("b", "/CGI-BIN/A", "1/day"),
	}}}}
	tests := []struct {
		name    string
		table   *Table
		profile string
		quotas  map[string]Budget
		want    string
	}{
		{"no such profile", twice, "q", nil, `profile "q": want one of p`},
		{"one path in two rules", twice, "p", nil, `profile "p": rule "b": path "/CGI-BIN/A": already in rule "a"`},
		{"quota of no rule", &Table{Profiles: map[string]*Profile{"p": {Name: "p"}}}, "p", map[string]Budget{"x": {}}, `quotas: rule "x": not in profile "p"`},
		{"bad path", &Table{Profiles: map[string]*Profile{"p": {Name: "p", Rules: []*Rule{rule("a", "/a*b", "unknown")}}}}, "p", nil, `profile "p": rule "a": path "/a*b": a * may only stand at the end, as in /cgi-bin/*`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := tt.table.Rules(tt.profile, tt.quotas); errText(err) != tt.want {
				t.Errorf("Rules() = %q, want %q", errText(err), tt.want)
			}
		})
	}
}

func TestQuotasOfOneApp(t *testing.T) {
	table := &Table{Zone: time.UTC, Profiles: map[string]*Profile{"p": {Name: "p", Rules: []*Rule{rule("a", "/cgi-bin/a", "1/day")}}}}
	own, err := table.Rules("p", map[string]Budget{"a": {Kind: Limited, Quotas: []Quota{{7, Day}}}})
	if err != nil {
		t.Fatal(err)
	}
	shared, err := table.Rules("p", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := own.Match("/cgi-bin/a").Rule.Budget.String(), "7/day"; got != want {
		t.Errorf("own quota = %s, want %s", got, want)
	}
	if got, want := shared.Match("/cgi-bin/a").Rule.Budget.String(), "1/day"; got != want {
		t.Errorf("the profile's quota = %s, want %s", got, want)
	}
}
