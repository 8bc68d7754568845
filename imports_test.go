package wxproxy_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mayImport is the table of ARCHITECTURE.md: what of ours each package may import outside its
// tests. cmd/wxproxy knows everything.
var mayImport = map[string][]string{
	"wxproxy":                    {},
	"wxproxy/admin":              {"wxproxy/admin/ui", "wxproxy/history", "wxproxy/limits", "wxproxy/tail", "wxproxy/token", "wxproxy/wechat"},
	"wxproxy/admin/ui":           {"wxproxy/internal/words"},
	"wxproxy/alert":              {"wxproxy/internal/reason"},
	"wxproxy/bench":              {},
	"wxproxy/cmd/wxproxy":        {"wxproxy", "wxproxy/admin", "wxproxy/alert", "wxproxy/config", "wxproxy/doctor", "wxproxy/drift", "wxproxy/history", "wxproxy/internal/reason", "wxproxy/internal/words", "wxproxy/limits", "wxproxy/proxy", "wxproxy/report", "wxproxy/sandbox", "wxproxy/store", "wxproxy/tail", "wxproxy/token", "wxproxy/wechat"},
	"wxproxy/config":             {"wxproxy/alert", "wxproxy/limits"},
	"wxproxy/doctor":             {"wxproxy/config", "wxproxy/internal/reason", "wxproxy/internal/words", "wxproxy/store", "wxproxy/token", "wxproxy/wechat"},
	"wxproxy/drift":              {"wxproxy/limits", "wxproxy/wechat"},
	"wxproxy/history":            {},
	"wxproxy/internal/faults":    {},
	"wxproxy/internal/reason":    {},
	"wxproxy/internal/redistest": {},
	"wxproxy/internal/words":     {},
	"wxproxy/limits":             {"wxproxy/wechat"},
	"wxproxy/proxy":              {"wxproxy/internal/reason", "wxproxy/limits", "wxproxy/proxy/fuse", "wxproxy/proxy/upstream", "wxproxy/wechat"},
	"wxproxy/proxy/fuse":         {},
	"wxproxy/proxy/upstream":     {},
	"wxproxy/report":             {"wxproxy/limits", "wxproxy/wechat"},
	"wxproxy/sandbox":            {},
	"wxproxy/store":              {},
	"wxproxy/tail":               {},
	"wxproxy/token":              {"wxproxy/internal/reason", "wxproxy/wechat"},
	"wxproxy/wechat":             {},
}

// mustNotImport holds what a package stays free of, so that what it does can be read, and changed,
// without it. A name ends at a slash: net/http stands for net/http/httptest too.
var mustNotImport = map[string][]string{
	"wxproxy/alert":   {"gopkg.in/yaml.v3", "go.uber.org/zap", "github.com/redis/go-redis", "go.etcd.io/bbolt"},
	"wxproxy/drift":   {"gopkg.in/yaml.v3", "go.uber.org/zap", "net/http", "github.com/redis/go-redis", "go.etcd.io/bbolt"},
	"wxproxy/history": {"gopkg.in/yaml.v3", "go.uber.org/zap", "net/http"},
	"wxproxy/limits":  {"gopkg.in/yaml.v3", "go.uber.org/zap", "net/http"},
	"wxproxy/proxy":   {"github.com/redis/go-redis", "go.etcd.io/bbolt"},
	"wxproxy/report":  {"gopkg.in/yaml.v3", "go.uber.org/zap", "net/http", "github.com/redis/go-redis", "go.etcd.io/bbolt"},
	"wxproxy/token":   {"gopkg.in/yaml.v3", "go.uber.org/zap", "github.com/redis/go-redis", "go.etcd.io/bbolt"},
}

// vagueNames say nothing of what a package is responsible for.
var vagueNames = []string{"util", "utils", "common", "types", "model", "models", "pkg", "helpers"}

// modules are the direct requirements of go.mod. One more is argued for in the commit that adds it.
var modules = []string{
	"github.com/go-redis/redis_rate/v10",  // pace
	"github.com/hashicorp/golang-lru/v2",  // learned tokens and tickets in memory
	"github.com/mattn/go-runewidth",       // widths of Chinese in tables
	"github.com/prometheus/client_golang", // metrics
	"github.com/prometheus/client_model",  // client_golang's own types, for metrics gathered without a registry
	"github.com/redis/go-redis/v9",        // counters and tokens of several gateways
	"github.com/spf13/cobra",              // commands, their help and completion
	"github.com/spf13/pflag",              // the flags that cobra uses: what is wrong with one
	"github.com/wneessen/go-mail",         // alerts by mail
	"go.etcd.io/bbolt",                    // counters and tokens of one gateway
	"go.uber.org/zap",                     // logs
	"golang.org/x/sync",                   // errgroup, singleflight
	"golang.org/x/term",                   // whether a person can be asked
	"golang.org/x/time",                   // pace in the embedded store
	"gopkg.in/natefinch/lumberjack.v2",    // access log in a file that rotates
	"gopkg.in/yaml.v3",                    // configuration, with the place of each value
	"github.com/chromedp/cdproto",         // tests: what the browser reports
	"github.com/chromedp/chromedp",        // tests: the pages in a real browser
	"github.com/google/go-cmp",            // tests: differences of structs
	"github.com/rogpeppe/go-internal",     // tests: testscript
	"go.uber.org/goleak",                  // tests: goroutines left behind
	"pgregory.net/rapid",                  // tests: laws
}

type goPackage struct {
	ImportPath string
	Name       string
	Dir        string
	GoFiles    []string
	Imports    []string
}

func TestImports(t *testing.T) {
	out := goCommand(t, "list", "-json=ImportPath,Name,Dir,GoFiles,Imports", "./...")
	for dec := json.NewDecoder(strings.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		allowed, known := mayImport[p.ImportPath]
		if !known {
			t.Errorf("%s is not in the table of packages: want what it may import, here and in ARCHITECTURE.md", p.ImportPath)
			continue
		}
		if slices.Contains(vagueNames, p.Name) || slices.Contains(vagueNames, path.Base(p.ImportPath)) {
			t.Errorf("%s: want a name that says what it does", p.ImportPath)
		}
		for _, imported := range p.Imports {
			if within(imported, "wxproxy") && !slices.Contains(allowed, imported) {
				t.Errorf("%s imports %s, which the table does not allow", p.ImportPath, imported)
			}
			for _, forbidden := range mustNotImport[p.ImportPath] {
				if within(imported, forbidden) {
					t.Errorf("%s imports %s: it must stay free of it", p.ImportPath, imported)
				}
			}
		}
		if p.ImportPath == "wxproxy/token" {
			checkNoServer(t, p)
		}
	}
}

// within reports whether an import path is name or lies under it.
func within(imported, name string) bool {
	return imported == name || strings.HasPrefix(imported, name+"/")
}

// checkNoServer fails where a package that may be a client of HTTP is a server of it.
func checkNoServer(t *testing.T, p goPackage) {
	t.Helper()
	server := []string{"Handler", "HandlerFunc", "Handle", "HandleFunc", "ResponseWriter", "ServeMux", "NewServeMux", "Server"}
	files := token.NewFileSet()
	for _, name := range p.GoFiles {
		file, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && slices.Contains(server, s.Sel.Name) {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "http" {
					t.Errorf("%s: http.%s: %s must not serve HTTP", files.Position(s.Pos()), s.Sel.Name, p.ImportPath)
				}
			}
			return true
		})
	}
}

func TestModules(t *testing.T) {
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal([]byte(goCommand(t, "mod", "edit", "-json")), &mod); err != nil {
		t.Fatal(err)
	}
	if len(mod.Require) == 0 {
		t.Fatal("go mod edit -json shows no requirement")
	}
	for _, r := range mod.Require {
		if !r.Indirect && !slices.Contains(modules, r.Path) {
			t.Errorf("go.mod requires %s, which is not in the list of modules here", r.Path)
		}
	}
}

func goCommand(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}
