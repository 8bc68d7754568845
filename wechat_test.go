package wxproxy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"html"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	_ "time/tzdata" // limits.yaml names a zone

	"github.com/google/go-cmp/cmp"

	"wxproxy"
	"wxproxy/config"
	"wxproxy/limits"
)

// docs/wechat.md says for each statement of the seeds which rule and code it is and which tests
// prove it. These tests keep that true, in both languages.

// statements is how many of the seeds' statements concern calls of a server.
const statements = 14

// languages holds the words that a page's lists begin with.
var languages = []struct{ file, rules, code, tests string }{
	{"docs/wechat.md", "Rules: ", "Code: ", "Tests: "},
	{"docs/wechat.zh-CN.md", "规则：", "代码：", "测试："},
}

// section is what stands under one heading.
type section struct {
	heading string
	items   []string   // of its lists, each in one line
	rows    [][]string // cells of its tables, without the heads
	text    string     // all of it
}

// readPage splits a page into its sections.
func readPage(t *testing.T, file string) []*section {
	t.Helper()
	s := &section{}
	sections := []*section{s}
	lines := strings.Split(readFile(t, file), "\n")
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "#"):
			s = &section{heading: line}
			sections = append(sections, s)
		case strings.HasPrefix(line, "- "):
			s.items = append(s.items, line[2:])
		case strings.HasPrefix(line, "  ") && len(s.items) > 0:
			s.items[len(s.items)-1] += " " + strings.TrimSpace(line)
		case strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "|---") && !strings.HasPrefix(lines[i+1], "|---"):
			var cells []string
			for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
				cells = append(cells, strings.TrimSpace(cell))
			}
			s.rows = append(s.rows, cells)
		}
		s.text += line + "\n"
	}
	return sections
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// item returns what follows a word at the beginning of a list item; "" when there is none.
func (s *section) item(word string) string {
	for _, item := range s.items {
		if text, ok := strings.CutPrefix(item, word); ok {
			return text
		}
	}
	return ""
}

var codeSpan = regexp.MustCompile("`([^`]+)`")

// spans returns what stands between backquotes.
func spans(text string) []string {
	var found []string
	for _, m := range codeSpan.FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	return found
}

func TestWeChatStatements(t *testing.T) {
	for _, l := range languages {
		next := 1
		for _, s := range readPage(t, l.file) {
			rest, ok := strings.CutPrefix(s.heading, "### "+strconv.Itoa(next)+". ")
			if !ok {
				if regexp.MustCompile(`^### \d`).MatchString(s.heading) {
					t.Errorf("%s: %s: want statement %d", l.file, s.heading, next)
				}
				continue
			}
			next++
			if rest == "" || !regexp.MustCompile(`[Ss]eeds? 00[0-3]`).MatchString(s.text) {
				t.Errorf("%s: statement %s names no seed", l.file, s.heading)
			}
			if len(spans(s.item(l.tests))) == 0 || len(spans(s.item(l.code))) == 0 {
				t.Errorf("%s: %s: no tests or no code", l.file, s.heading)
			}
		}
		if next != statements+1 {
			t.Errorf("%s: %d statements, want %d", l.file, next-1, statements)
		}
	}
}

var (
	testName = regexp.MustCompile(`^([a-z/]+)\.((?:Test|Fuzz)\w+)$`)
	codeName = regexp.MustCompile(`^([a-z/]+\.go):(\w+)$`)
)

// TestWeChatCitations: each test and each function that a page names is there.
func TestWeChatCitations(t *testing.T) {
	for _, l := range languages {
		for _, s := range readPage(t, l.file) {
			for _, span := range spans(s.text) {
				if m := testName.FindStringSubmatch(span); m != nil {
					files, err := filepath.Glob(filepath.Join(m[1], "*_test.go"))
					if err != nil || !slices.ContainsFunc(files, func(file string) bool { return declares(t, file, m[2]) }) {
						t.Errorf("%s: %s: no such test", l.file, span)
					}
				} else if m := codeName.FindStringSubmatch(span); m != nil && !declares(t, m[1], m[2]) {
					t.Errorf("%s: %s: no such function", l.file, span)
				}
			}
			for _, span := range spans(s.item(l.tests)) {
				if !testName.MatchString(span) {
					t.Errorf("%s: %s: want a test as package.TestName", l.file, span)
				}
			}
			for _, span := range spans(s.item(l.code)) {
				if !codeName.MatchString(span) {
					t.Errorf("%s: %s: want code as file.go:Function", l.file, span)
				}
			}
			for _, m := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(s.text, -1) {
				if _, err := os.Stat(path.Join("docs", m[1])); !strings.Contains(m[1], "://") && err != nil {
					t.Errorf("%s: a link: %v", l.file, err)
				}
			}
		}
	}
}

// declares reports whether a file has a function or method of that name.
func declares(t *testing.T, file, name string) bool {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return false
	}
	return slices.ContainsFunc(parsed.Decls, func(d ast.Decl) bool {
		f, ok := d.(*ast.FuncDecl)
		return ok && f.Name.Name == name
	})
}

// TestWeChatTestsOfEachRow: what is assumed, and what else the seeds say, has a test in each row.
func TestWeChatTestsOfEachRow(t *testing.T) {
	cites := func(row []string) bool { return slices.ContainsFunc(spans(row[len(row)-1]), testName.MatchString) }
	for _, l := range languages {
		tables := 0
		for _, s := range readPage(t, l.file) {
			if !slices.ContainsFunc(s.rows, cites) {
				continue
			}
			tables++
			for _, row := range s.rows {
				if !cites(row) {
					t.Errorf("%s: %s: no test", l.file, row[0])
				}
			}
		}
		if tables != 2 {
			t.Errorf("%s: %d tables with a column of tests, want 2", l.file, tables)
		}
	}
}

// profiles is limits.yaml as the program has it.
func profiles(t *testing.T) func(name string) *limits.Ruleset {
	t.Helper()
	table, err := config.ParseTable("limits.yaml", wxproxy.LimitsYAML, nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(name string) *limits.Ruleset {
		t.Helper()
		rules, err := table.Rules(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		return rules
	}
}

// wantRule fails unless the rules have one of that name with that figure and these paths.
func wantRule(t *testing.T, where string, rules *limits.Ruleset, name, figure string, paths []string) {
	t.Helper()
	r := rules.Rule(name)
	if r == nil {
		t.Errorf("%s: profile %s has no rule %s", where, rules.Profile, name)
		return
	}
	if got := r.Budget.String(); got != figure {
		t.Errorf("%s: rule %s of %s is %s, the page says %s", where, name, rules.Profile, got, figure)
	}
	if !slices.Equal(r.Paths, paths) {
		t.Errorf("%s: rule %s of %s has the paths %v, the page says %v", where, name, rules.Profile, r.Paths, paths)
	}
}

// TestWeChatRules: each rule of a list is in limits.yaml with the figure and the paths of the page.
func TestWeChatRules(t *testing.T) {
	profile := profiles(t)
	for _, l := range languages {
		for _, s := range readPage(t, l.file) {
			text := s.item(l.rules)
			if text == "" {
				continue
			}
			for part := range strings.SplitSeq(strings.ReplaceAll(text, "；", ";"), ";") {
				words := spans(part)
				if len(words) < 4 {
					t.Errorf("%s: %s: %s: want a profile, a rule, a figure and its paths", l.file, s.heading, part)
					continue
				}
				wantRule(t, l.file, profile(words[0]), words[1], words[2], words[3:])
			}
		}
	}
}

// one returns the only span of a cell.
func one(t *testing.T, cell string) string {
	t.Helper()
	found := spans(cell)
	if len(found) != 1 || "`"+found[0]+"`" != cell {
		t.Errorf("%s: want one name or figure in backquotes", cell)
		return ""
	}
	return found[0]
}

// TestWeChatTable compares the table of statement 2 with seed 000 and with limits.yaml.
func TestWeChatTable(t *testing.T) {
	profile := profiles(t)
	production, test := profile("production"), profile("test")
	seed := readFile(t, "testdata/seeds/000_124e833b49e77331.txt")
	var want []string
	for _, m := range regexp.MustCompile(`<tr><td>([^<]*)</td>`).FindAllStringSubmatch(seed, 21) {
		want = append(want, strings.TrimSpace(html.UnescapeString(m[1])))
	}
	for _, l := range languages {
		var got []string
		for _, s := range readPage(t, l.file) {
			if !strings.HasPrefix(s.heading, "### 2. ") {
				continue
			}
			for _, row := range s.rows {
				if len(row) != 5 {
					t.Fatalf("%s: %v: want 5 cells", l.file, row)
				}
				got = append(got, row[0])
				name := one(t, row[1])
				wantRule(t, l.file, production, name, one(t, row[2]), spans(row[4]))
				wantRule(t, l.file, test, name, one(t, row[3]), spans(row[4]))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: rows of seed 000 (-seed +page):\n%s", l.file, diff)
		}
	}
}

// consoleStates reads seed 002: what its page says of each row. The columns have slipped, so a cell
// is known by what it holds.
func consoleStates(t *testing.T) map[string]string {
	t.Helper()
	link := regexp.MustCompile(`\[([^\]]+)\]\(http[^)]*\)`)
	states := make(map[string]string)
	for line := range strings.Lines(readFile(t, "testdata/seeds/002_8949a0ddcf2da2d8.txt")) {
		m := link.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		state, figure := "", ""
		for cell := range strings.SplitSeq(line, "|") {
			switch cell = strings.TrimSpace(cell); {
			case cell == "已获得" || cell == "未获得":
				state = cell
			case cell == "无上限" || cell == "详情" || strings.HasPrefix(cell, "0/"):
				figure = cell
			}
		}
		states[m[1]] = strings.TrimSpace(state + " " + figure)
	}
	return states
}

// TestWeChatConsole compares the permission page with the page's two tables: a row is a call, with
// all its rules, or none.
func TestWeChatConsole(t *testing.T) {
	profile := profiles(t)
	production, unverified := profile("production"), profile("unverified")
	for _, l := range languages {
		left := consoleStates(t)
		rules := make(map[string]string) // title by rule, as limits.yaml says it
		for _, r := range unverified.Rules {
			if title, ok := strings.CutPrefix(r.Source, "seed 002 "); ok && left[title] != "" {
				rules[r.Name] = title
			}
		}
		for _, s := range readPage(t, l.file) {
			title := ""
			for _, row := range s.rows {
				switch {
				case len(row) == 6: // a rule of a row that is a call; the row's name stands in the first of them
					if row[0] != "" {
						title = row[0]
						if left[title] != row[1] {
							t.Errorf("%s: %s: the page says %q, the seed %q", l.file, title, row[1], left[title])
						}
						delete(left, title)
					}
					name, paths := one(t, row[2]), spans(row[5])
					wantRule(t, l.file, unverified, name, one(t, row[4]), paths)
					for _, path := range paths {
						m := production.Match(strings.Replace(path, "*", "x", 1))
						if m.Rule == nil || m.Rule.Budget.String() != one(t, row[3]) {
							t.Errorf("%s: %s: %s is in %v of production, the page says %s", l.file, title, path, m.Rule, row[3])
						}
					}
					if rules[name] != title {
						t.Errorf("%s: %s: limits.yaml has rule %s under %q", l.file, title, name, rules[name])
					}
					delete(rules, name)
				case len(row) == 3 && (row[1] == "无上限" || row[1] == "未获得"):
					for title := range strings.SplitSeq(row[2], "、") {
						if state := left[title]; state != row[1] && state != "已获得 "+row[1] {
							t.Errorf("%s: %s: the page says %s, the seed %q", l.file, title, row[1], state)
						}
						if slices.ContainsFunc(unverified.Rules, func(r *limits.Rule) bool { return r.Title == title }) {
							t.Errorf("%s: %s is no call there, and a rule of limits.yaml", l.file, title)
						}
						delete(left, title)
					}
				}
			}
		}
		for title := range left {
			t.Errorf("%s: %s of seed 002 is not there", l.file, title)
		}
		for name, title := range rules {
			t.Errorf("%s: %s: rule %s is not there", l.file, title, name)
		}
	}
}

// TestWeChatLanguages: both pages cite the same rules, figures, paths, code, tests and sources,
// section by section.
func TestWeChatLanguages(t *testing.T) {
	link := regexp.MustCompile(`\]\((https://[^)]+)\)`)
	cited := func(s *section) []string {
		found := spans(s.text)
		for _, m := range link.FindAllStringSubmatch(s.text, -1) {
			found = append(found, m[1])
		}
		slices.Sort(found)
		return found
	}
	english, chinese := readPage(t, languages[0].file), readPage(t, languages[1].file)
	if len(english) != len(chinese) {
		t.Fatalf("%d sections in English, %d in Chinese", len(english), len(chinese))
	}
	for i, s := range english {
		if diff := cmp.Diff(cited(s), cited(chinese[i])); diff != "" {
			t.Errorf("%s / %s (-English +Chinese):\n%s", s.heading, chinese[i].heading, diff)
		}
	}
}
