package words

import (
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	gocmp "github.com/google/go-cmp/cmp"
)

func TestLanguage(t *testing.T) {
	for _, tt := range []struct {
		env  map[string]string
		want Language
	}{
		{nil, English},
		{map[string]string{"LANG": "zh_CN.UTF-8"}, Chinese},
		{map[string]string{"LANG": "zh-TW"}, Chinese},
		{map[string]string{"LANG": "zh"}, Chinese},
		{map[string]string{"LANG": "en_GB.UTF-8"}, English},
		{map[string]string{"LANG": "de_DE"}, English},
		{map[string]string{"LANG": "zhongwen"}, English},
		{map[string]string{"LANG": "zh_CN", "LC_MESSAGES": "C"}, English},
		{map[string]string{"LANG": "en_US", "LC_MESSAGES": "zh_CN"}, Chinese},
		{map[string]string{"LANG": "en_US", "LC_MESSAGES": "en_US", "LC_ALL": "zh_CN.GB18030"}, Chinese},
		{map[string]string{"LANG": "zh_CN", "LC_ALL": ""}, Chinese},
	} {
		if got := FromEnv(func(name string) string { return tt.env[name] }); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.env, got, tt.want)
		}
	}
}

func TestErrors(t *testing.T) {
	file := New(NoSuchFile)
	err := error(New(TokenFileFailed, "file", "x", "error", file))
	if got, want := fmt.Sprint(err), "admin token: --token-file x: no such file"; got != want {
		t.Errorf("in English %q, want %q", got, want)
	}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{err, "管理 token：--token-file x：没有这个文件"},
		{errors.Join(file, errors.New("no TLS")), "没有这个文件\n对方没有使用 TLS"},
		{fmt.Errorf("%w and %w", file, file), "no such file and no such file"},
		{errors.New("reading x: no answer in time"), "reading x: 没有及时应答"},
		{errors.New("nothing that is known"), "nothing that is known"},
		{New(TokenMissing, "tried", List{"a", New(TokenNotSet, "source", "b"), HelpUsage}), "找不到管理 token，试过：a、b（未设置）、用法：。网关在运行吗，用的是同一份配置吗？也可以用 --token-file 文件 指定存放它的文件"},
	} {
		if got := Chinese.Error(tt.err); got != tt.want {
			t.Errorf("%q in Chinese: %q, want %q", tt.err, got, tt.want)
		}
		if got := English.Error(tt.err); got != tt.err.Error() {
			t.Errorf("%q in English: %q", tt.err, got)
		}
	}
	if !errors.Is(err, file) {
		t.Error("an error does not wrap that of its parameters")
	}
}

// Both languages have every message, with the same parameters, and each in its own script.
func TestMessages(t *testing.T) {
	if len(messages) < 100 {
		t.Fatalf("%d messages", len(messages))
	}
	han := func(s string) bool {
		return strings.ContainsFunc(s, func(r rune) bool { return unicode.Is(unicode.Han, r) })
	}
	for key, m := range messages {
		if m.en == "" || m.zh == "" {
			t.Errorf("%s: a language lacks it", key)
		}
		if diff := gocmp.Diff(parameters(m.en), parameters(m.zh)); diff != "" {
			t.Errorf("%s: parameters (-English +Chinese):\n%s", key, diff)
		}
		if strings.Count(m.en, "`") != strings.Count(m.zh, "`") {
			t.Errorf("%s: one language names the value of the flag, the other does not", key)
		}
		if han(m.en) {
			t.Errorf("%s: Chinese in the English text %q", key, m.en)
		}
		if words := parameter.ReplaceAllString(m.en, ""); !han(m.zh) && m.en != m.zh && strings.ContainsFunc(words, unicode.IsLetter) && !slices.Contains([]string{"ErrorLine", "YesOrNo"}, key) {
			t.Errorf("%s: no Chinese in %q", key, m.zh)
		}
	}
	for l, text := range map[Language]string{English: "done", Chinese: "完成"} {
		if d := l.Dictionary(); len(d) != len(messages) || !strings.Contains(d["HelpExit"], text) {
			t.Errorf("%s: a dictionary of %d messages, want %d", l, len(d), len(messages))
		}
	}
	for _, texts := range foreign {
		if diff := gocmp.Diff(parameters(texts[0]), parameters(texts[1])); diff != "" {
			t.Errorf("%s: parameters (-English +Chinese):\n%s", texts[0], diff)
		}
	}
}

// parameters are the names in a text, sorted.
func parameters(text string) []string {
	names := parameter.FindAllString(text, -1)
	slices.Sort(names)
	return names
}

// Every message is used, by its own name and with its own parameters.
func TestUses(t *testing.T) {
	defined, used := make(map[string]bool), make(map[string]bool)
	inFiles(t, func(path string, file *ast.File, at func(ast.Node) string) {
		inside := filepath.Dir(path) == "."
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				if call, ok := only(n.Values).(*ast.CallExpr); ok && inside && name(call.Fun) == "text" {
					key := n.Names[0].Name
					defined[key] = true
					if got := literal(call.Args[0]); got != key {
						t.Errorf("%s: the key of %s is %q", at(n), key, got)
					}
				}
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "words" {
					used[n.Sel.Name] = true
				}
			case *ast.CallExpr:
				checkParameters(t, n, at(n), inside)
			case *ast.Ident:
				if inside && n.Name == "Separator" {
					used[n.Name] = true
				}
			}
			return true
		})
	})
	inScripts(t, func(at, key string, parameters []string) {
		message, ok := messages[key]
		if !ok {
			t.Errorf("%s: no message %s", at, key)
			return
		}
		used[key] = true
		if want := slices.Compact(parametersOf(message)); !slices.Equal(parameters, want) {
			t.Errorf("%s: %s has the parameters %v, want %v", at, key, parameters, want)
		}
	})
	for key := range messages {
		if strings.HasPrefix(key, "reason.") || strings.HasPrefix(key, "outcome.") { // their last part is a word of a call
			continue
		}
		if !defined[key] {
			t.Errorf("%s: no variable has this name", key)
		}
		if !used[key] {
			t.Errorf("%s: nothing uses it", key)
		}
	}
}

// parametersOf are the parameters of a message as a script names them, sorted.
func parametersOf(m Message) []string {
	names := parameters(m.en)
	for i, name := range names {
		names[i] = strings.Trim(name, "{}")
	}
	return names
}

var (
	scriptUse       = regexp.MustCompile(`\bt\("(\w+)"(?:, \{([^{}]*)\})?\)`)
	scriptParameter = regexp.MustCompile(`^\s*([a-z]+)\s*(?::|$)`)
)

// inScripts finds each use of a message in the scripts of the pages: t("Key", { name: value }).
func inScripts(t *testing.T, do func(at, key string, parameters []string)) {
	t.Helper()
	scripts, err := filepath.Glob("../../admin/ui/*.js")
	views, errViews := filepath.Glob("../../admin/ui/views/*.js")
	if err := errors.Join(err, errViews); err != nil || len(scripts) == 0 || len(views) == 0 {
		t.Fatalf("%v: no scripts of the pages", err)
	}
	for _, script := range append(scripts, views...) {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		for _, use := range scriptUse.FindAllStringSubmatch(string(text), -1) {
			var names []string
			for one := range strings.SplitSeq(use[2], ",") {
				if name := scriptParameter.FindStringSubmatch(one); name != nil {
					names = append(names, name[1])
				}
			}
			slices.Sort(names)
			do(script, use[1], names)
		}
	}
}

// checkParameters checks a call of Text or New that names its message: its parameters are those of the text.
func checkParameters(t *testing.T, call *ast.CallExpr, at string, inside bool) {
	t.Helper()
	if called := name(call.Fun); called != "Text" && called != "New" || len(call.Args) == 0 {
		return
	}
	message, ok := messages[name(call.Args[0])]
	if _, selected := call.Args[0].(*ast.SelectorExpr); !ok || !selected && !inside || call.Ellipsis.IsValid() {
		return
	}
	var got []string
	for i := 1; i < len(call.Args); i += 2 {
		got = append(got, "{"+literal(call.Args[i])+"}")
	}
	slices.Sort(got)
	if want := slices.Compact(parameters(message.en)); !slices.Equal(got, want) || len(call.Args)%2 == 0 {
		t.Errorf("%s: %s has the parameters %v, want %v with a value each", at, message.Key, got, want)
	}
}

// inFiles parses each Go file of the module that is not a test.
func inFiles(t *testing.T, do func(path string, file *ast.File, at func(ast.Node) string)) {
	t.Helper()
	const root = "../.."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			if d != nil && d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") {
				return fs.SkipDir
			}
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		path, err = filepath.Rel(root+"/internal/words", path)
		do(path, file, func(n ast.Node) string { return files.Position(n.Pos()).String() })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func only(exprs []ast.Expr) ast.Expr {
	if len(exprs) == 1 {
		return exprs[0]
	}
	return nil
}

// name is that of a function or variable, without its package.
func name(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func literal(e ast.Expr) string {
	if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
		if s, err := strconv.Unquote(l.Value); err == nil {
			return s
		}
	}
	return ""
}

// Every fault of the configuration and every text of the admin API has a translation.
func TestTranslations(t *testing.T) {
	files, err := filepath.Glob("../../testdata/config/*/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v: no faults in testdata/config", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			wantNoEnglish(t, file, strings.TrimSuffix(line, "\n"))
		}
	}
	for _, fault := range []string{ // of a reload
		"wxproxy.yaml: gone: the running gateway has read it: put it back, or restart to do without it",
		"wxproxy.yaml: empty: the running gateway was configured by it: restore it, or restart the gateway to run with defaults",
		"wxproxy.yaml: no app is left, and the running gateway has 3: want one at least, or a restart",
		"wxproxy.yaml:2:12: anonymous: true while others can reach listen 0.0.0.0:8080 (the running one, until a restart): want auto or false, or listen on 127.0.0.1, or allow_open: true",
		"wxproxy.yaml: is a directory",
		"wxproxy.yml: not read, for it is not called wxproxy.yaml: rename it",
		`limits.auto.yaml: quotas.wx0123456789abcdef."gone": no such rule in profile shop: it is not used`,
		"store: appendonly is off: a restart of Redis loses counts and tokens since its last snapshot: want appendonly yes",
		"store: its user may not run del, zcard on keys of this prefix: calls would be refused or counts lost: want what the manual's ACL SETUSER gives",
	} {
		wantNoEnglish(t, "config/reload.go", fault)
	}
	for _, fault := range []string{ // of a range
		"from 3x: want a time as 2026-11-23T15:04, a day as 2026-11-23, today, yesterday, or how long ago as 7d or 36h",
		"from 2026-11-23T15:04:00+08:00, to 2026-11-22T15:04:00+08:00: want from before to",
		"from 2026-11-01 with step hour: want from 2026-11-15 on, for hours are kept 8 days, or step day",
		"by color: want some of rule, caller and outcome with commas between them, or none",
	} {
		wantNoEnglish(t, "admin/history.go", fault)
	}
	var constants map[string]string // of a file
	composed := func(e ast.Expr) string { return composed(e, constants) }
	inFiles(t, func(path string, file *ast.File, at func(ast.Node) string) {
		if filepath.Dir(path) != "../../admin" {
			return
		}
		constants = make(map[string]string)
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				if value := only(n.Values); value != nil {
					constants[n.Names[0].Name] = literal(value)
				}
			case *ast.KeyValueExpr: // problem{Error: ...}; the help of a metric is English
				if name(n.Key) == "Error" {
					wantNoEnglish(t, at(n), composed(n.Value))
				}
				return name(n.Key) != "Help"
			case *ast.AssignStmt:
				if len(n.Lhs) == 1 && (name(n.Lhs[0]) == "Statement") {
					wantNoEnglish(t, at(n), composed(n.Rhs[0]))
				}
			case *ast.CallExpr: // a.refuse(w, r, status, reason, text)
				if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "refuse" {
					wantNoEnglish(t, at(n), composed(n.Args[len(n.Args)-1]))
				}
			case *ast.FuncDecl:
				if n.Name.Name == "statement" || n.Name.Name == "storeProblem" {
					ast.Inspect(n, func(n ast.Node) bool {
						if r, ok := n.(*ast.ReturnStmt); ok {
							wantNoEnglish(t, at(r), composed(r.Results[0]))
						}
						return true
					})
				}
			}
			return true
		})
	})
}

// composed is the text of an expression, with X for what is not known before it runs.
func composed(e ast.Expr, constants map[string]string) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		return literal(e)
	case *ast.BinaryExpr:
		return composed(e.X, constants) + composed(e.Y, constants)
	case *ast.CallExpr:
		if name(e.Fun) == "Sprintf" {
			return verb.ReplaceAllString(composed(e.Args[0], constants), "X")
		}
	}
	return cmp.Or(constants[name(e)], "X")
}

var (
	verb    = regexp.MustCompile(`%[0-9.]*[a-z]`)
	quoted  = regexp.MustCompile(`"[^"]*"|\$\{[^}]*\}|\w+ extends \w+`)
	english = regexp.MustCompile(`\b[a-z]+ [a-z]+ [a-z]+\b|\b(want|no|not) [a-z]+`)
)

func wantNoEnglish(t *testing.T, at, text string) {
	t.Helper()
	got := Chinese.Translate(text)
	if found := english.FindString(quoted.ReplaceAllString(got, "")); found != "" && !strings.Contains(got, "forbid to clear quota") {
		t.Errorf("%s: %q is not translated in %q: want a line in foreign.go", at, found, got)
	}
}
