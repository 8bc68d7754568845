package wxproxy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What make test runs without the race detector is run, and starts no goroutine where the Makefile promises so.
func TestSerial(t *testing.T) {
	makefile := readFile(t, "Makefile")
	variable := func(name string) string {
		found := regexp.MustCompile(`(?m)^` + name + ` *:= (.+)$`).FindStringSubmatch(makefile)
		if found == nil {
			t.Fatalf("the Makefile sets no %s", name)
		}
		return found[1]
	}
	in := strings.Fields(variable("SERIAL_IN"))
	for test := range strings.SplitSeq(variable("SERIAL_TESTS"), "|") {
		var packages []string
		for _, pattern := range []string{"*_test.go", "*/*_test.go", "*/*/*_test.go"} {
			files, err := filepath.Glob(pattern)
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				if strings.Contains(readFile(t, file), "func "+test+"(t *testing.T)") {
					packages = append(packages, "./"+filepath.ToSlash(filepath.Dir(file)))
				}
			}
		}
		if len(packages) == 0 || slices.ContainsFunc(packages, func(p string) bool { return !slices.Contains(in, p) }) {
			t.Errorf("%s is in %v, want packages of SERIAL_IN", test, packages)
		}
	}
	for name := range strings.SplitSeq(variable("SERIAL"), "|") {
		files, err := filepath.Glob(name + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", name, len(files), err)
		}
		set := token.NewFileSet()
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, isCall := n.(*ast.CallExpr)
				_, starts := n.(*ast.GoStmt)
				if isCall {
					s, ok := call.Fun.(*ast.SelectorExpr)
					starts = ok && (s.Sel.Name == "Go" || s.Sel.Name == "AfterFunc")
				}
				if starts {
					t.Errorf("%s starts a goroutine, and its package runs without the race detector", set.Position(n.Pos()))
				}
				return true
			})
		}
	}
}
