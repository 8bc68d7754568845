package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func get(p http.Handler, target, encoding string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Header.Set("Accept-Encoding", encoding)
	p.ServeHTTP(w, r)
	return w
}

func TestServe(t *testing.T) {
	p := New()
	const immutable = "public, max-age=31536000, immutable"
	for _, tt := range []struct {
		target      string
		status      int
		kind, cache string
	}{
		{"/", 200, "text/html; charset=utf-8", ""}, // the admin listener says no-store
		{p.base + "app.js", 200, "text/javascript; charset=utf-8", immutable},
		{p.base + "early.js", 200, "text/javascript; charset=utf-8", immutable},
		{p.base + "views/account.js", 404, "text/plain; charset=utf-8", ""}, // it is in app.js
		{p.base + "vendor/uPlot.iife.min.js", 200, "text/javascript; charset=utf-8", immutable},
		{p.base + "style.css", 200, "text/css; charset=utf-8", immutable},
		{p.base + "icon.svg", 200, "image/svg+xml", immutable},
		{p.base + "words/zh.json", 200, "application/json; charset=utf-8", immutable},
		{p.base + "index.html", 404, "text/plain; charset=utf-8", ""},
		{p.base + "ui.go", 404, "text/plain; charset=utf-8", ""},
		{p.base, 404, "text/plain; charset=utf-8", ""},
		{"/ui/0123456789abcdef/app.js", 404, "text/plain; charset=utf-8", ""}, // of another version
		{p.base + "../app.js", 404, "text/plain; charset=utf-8", ""},
	} {
		w := get(p, tt.target, "")
		h := w.Result().Header
		got := []any{w.Code, h.Get("Content-Type"), h.Get("Cache-Control"), h.Get("Content-Encoding")}
		if diff := cmp.Diff([]any{tt.status, tt.kind, tt.cache, ""}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.target, diff)
		}
		if h.Get("Content-Security-Policy") != policy || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", tt.target, h)
		}
	}
	for _, directive := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
		if !strings.Contains(policy, directive) || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
			t.Errorf("the policy lacks %s, or allows more: %s", directive, policy)
		}
	}
}

// The modules are one: each once, after what it imports, with its names to itself.
func TestJoin(t *testing.T) {
	text := func(text string) *part { return newPart("", []byte(text)) }
	parts := map[string]*part{
		"app.js":       text("// First.\nimport { b, C } from \"./views/b.js\";\nimport { name } from \"./a.js\";\nb(C, name, import.meta.url);\n"),
		"a.js":         text("import f from \"./vendor/f.mjs\";\nexport { g, h as i } from \"./vendor/g.mjs\";\nexport const name = f();\n"),
		"views/b.js":   text("import { g, name } from \"../a.js\";\nconst own = 1;\nexport async function b() { g(name, own); }\nexport class C {}\n"),
		"vendor/f.mjs": text("import{$ as n}from\"./g.mjs\";var a=n;export default function(){return a}"),
		"vendor/g.mjs": text("var n=1,h=2;export{n as $,n as g,h};"),
		"other.js":     text(""),
	}
	want := `// vendor/g.mjs
const vendor_g_mjs = (() => {
var n=1,h=2;
return { $: n, g: n, h: h };
})();
// vendor/f.mjs
const vendor_f_mjs = (() => {
const { $: n } = vendor_g_mjs;
var a=n;const defaultExport = function(){return a}
return { default: defaultExport };
})();
// a.js
const a_js = (() => {
const f = vendor_f_mjs.default;
const name = f();

return { g: vendor_g_mjs.g, i: vendor_g_mjs.h, name: name };
})();
// views/b.js
const views_b_js = (() => {
const { g: g, name: name } = a_js;
const own = 1;
async function b() { g(name, own); }
class C {}

return { b: b, C: C };
})();
// app.js
const app_js = (() => {
// First.
const { b: b, C: C } = views_b_js;
const { name: name } = a_js;
b(C, name, import.meta.url);

return {  };
})();
`
	if diff := cmp.Diff(want, string(join(parts, "app.js").plain)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if left := slices.Sorted(maps.Keys(parts)); !slices.Equal(left, []string{"other.js"}) {
		t.Errorf("left: %v", left)
	}
	for _, unknown := range []string{
		"import * as b from \"./b.js\";\n", "import \"./b.js\";\n", "export default 1;\n", "export let a = 1;\n", "export * from \"./b.js\";\n",
		"import { c } from \"./missing.js\";\n",
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q was taken", unknown)
				}
			}()
			join(map[string]*part{"app.js": text(unknown), "b.js": text("")}, "app.js")
		}()
	}
	ours, err := fs.Glob(embedded, "views/*.js")
	if err != nil || len(ours) == 0 {
		t.Fatal(err)
	}
	joined := New().parts["app.js"].plain
	for _, name := range append(ours, "vendor/preact.mjs", "vendor/hooks.mjs", "vendor/htm.module.js") {
		if bytes.Count(joined, []byte("// "+name+"\n")) != 1 {
			t.Errorf("%s is not in app.js, or more than once", name)
		}
	}
}

func TestGzip(t *testing.T) {
	p := New()
	for encoding, want := range map[string]string{
		"gzip": "gzip", "br, gzip;q=0.5": "gzip", "gzip;q=1.0": "gzip", "gzip;q=0": "", "gzip; q=0.000": "", "br": "", "": "", "x-gzip": "",
	} {
		if got := get(p, "/", encoding).Header().Get("Content-Encoding"); got != want {
			t.Errorf("Accept-Encoding %q: %q, want %q", encoding, got, want)
		}
	}
	for name, part := range p.parts {
		zipped := get(p, p.base+name, "gzip").Body
		r, err := gzip.NewReader(zipped)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(plain, part.plain) {
			t.Errorf("%s: %v: not the same after gzip", name, err)
		}
	}
}

// All that a page transfers, in the larger language, is small.
func TestTransfer(t *testing.T) {
	p := New()
	const most = 150_000
	total := get(p, "/", "gzip").Body.Len()
	for name := range p.parts {
		if name != "words/en.json" {
			total += get(p, p.base+name, "gzip").Body.Len()
		}
	}
	t.Logf("%d bytes compressed", total)
	if total > most {
		t.Errorf("%d bytes compressed, want at most %d", total, most)
	}
}

// The page names only what there is, nothing of it stands in the page itself, and nothing is on another host.
func TestNothingInline(t *testing.T) {
	p := New()
	page := get(p, "/", "").Body.String()
	for _, match := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if w := get(p, match[1], ""); w.Code != http.StatusOK || !strings.HasPrefix(match[1], p.base) {
			t.Errorf("%s = %d", match[1], w.Code)
		}
	}
	if inline := regexp.MustCompile(`<script[^>]*>[^<]|<style|\son\w+=|\sstyle=`).FindString(page); inline != "" {
		t.Errorf("the page holds %q", inline)
	}
	hosts := regexp.MustCompile(`(?:https?:)?//[a-z0-9-]+\.[a-z0-9.-]+`)
	err := fs.WalkDir(embedded, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(name, "vendor/") {
			return err
		}
		file, err := embedded.ReadFile(name)
		for _, forbidden := range []string{"new Function", "eval(", "innerHTML", "document.cookie"} {
			if strings.Contains(string(file), forbidden) {
				t.Errorf("%s holds %s", name, forbidden)
			}
		}
		if host := hosts.FindString(strings.ReplaceAll(string(file), `xmlns="http://www.w3.org/2000/svg"`, "")); host != "" {
			t.Errorf("%s names %s", name, host)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The version changes with what is served, so that a browser never keeps an old part.
func TestVersion(t *testing.T) {
	p := New()
	if q := New(); q.base != p.base || !regexp.MustCompile(`^/ui/[0-9a-f]{16}/$`).MatchString(p.base) {
		t.Errorf("%s, then %s", p.base, q.base)
	}
}

func TestDictionaries(t *testing.T) {
	p := New()
	keys := make(map[string][]string)
	for _, l := range []string{"en", "zh"} {
		var d struct {
			Language string
			Messages map[string]string
			Patterns [][2]string
		}
		if err := json.Unmarshal(p.parts["words/"+l+".json"].plain, &d); err != nil {
			t.Fatal(err)
		}
		for key, text := range d.Messages {
			if text == "" {
				t.Errorf("%s: no text %s", l, key)
			}
		}
		keys[l] = slices.Sorted(maps.Keys(d.Messages))
		if d.Language != l || len(keys[l]) < 150 || (len(d.Patterns) > 100) != (l == "zh") {
			t.Errorf("%s: %s, %d texts, %d patterns", l, d.Language, len(keys[l]), len(d.Patterns))
		}
	}
	if diff := cmp.Diff(keys["en"], keys["zh"]); diff != "" {
		t.Errorf("the languages differ (-en +zh):\n%s", diff)
	}
}

// What is vendored is what vendor/SUMS says, of the packages that the lock names, each with its licence.
func TestVendor(t *testing.T) {
	var lock struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	text, err := os.ReadFile("package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &lock); err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile("vendor/SUMS")
	if err != nil {
		t.Fatal(err)
	}
	listed, licensed := map[string]bool{"SUMS": true}, make(map[string]bool)
	for line := range strings.Lines(string(sums)) {
		var sum, name, from string
		if _, err := fmt.Sscanf(line, "%s %s %s", &sum, &name, &from); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		listed[name] = true
		file, err := os.ReadFile(filepath.Join("vendor", name))
		if err != nil {
			t.Fatal(err)
		}
		if got := sha256.Sum256(file); hex.EncodeToString(got[:]) != sum {
			t.Errorf("%s has another sum than vendor/SUMS: want scripts/vendor-ui.sh to have written both", name)
		}
		released, source, _ := strings.Cut(from, "/")
		pkg, version, _ := strings.Cut(released, "@")
		if locked := lock.Packages["node_modules/"+pkg]; locked.Version != version || !strings.HasPrefix(locked.Integrity, "sha512-") {
			t.Errorf("%s is from %s, and the lock has %q %q", name, released, locked.Version, locked.Integrity)
		}
		licensed[pkg] = licensed[pkg] || source == "LICENSE"
		compareWithModule(t, pkg, source, file)
	}
	for pkg, ok := range licensed {
		if !ok {
			t.Errorf("%s has no licence beside it", pkg)
		}
	}
	entries, err := os.ReadDir("vendor")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !listed[e.Name()] {
			t.Errorf("vendor/%s is not in vendor/SUMS", e.Name())
		}
	}
}

// compareWithModule compares a vendored file with that of npm, where it is there.
func compareWithModule(t *testing.T, pkg, source string, vendored []byte) {
	t.Helper()
	const modules = "../../.cache/ui"
	installed, err := os.ReadFile(filepath.Join(modules, "installed.json"))
	lock, _ := os.ReadFile("package-lock.json")
	if err != nil || !bytes.Equal(installed, lock) {
		return // the sums hold
	}
	original, err := os.ReadFile(filepath.Join(modules, "node_modules", pkg, source))
	if err != nil {
		t.Fatal(err)
	}
	original = bytes.ReplaceAll(original, []byte(`from"preact"`), []byte(`from"./preact.mjs"`))
	original = regexp.MustCompile(`(?m)^//# sourceMappingURL=.*\n?`).ReplaceAll(original, nil)
	if !bytes.Equal(bytes.TrimSpace(original), bytes.TrimSpace(vendored)) {
		t.Errorf("%s of %s is not what is vendored", source, pkg)
	}
}

// Each reason for which a call is refused is on the pages in plain words.
func TestReasons(t *testing.T) {
	manual, err := os.ReadFile("../../docs/reasons.md")
	if err != nil {
		t.Fatal(err)
	}
	known, n := New().keys(), 0
	for line := range strings.Lines(string(manual)) {
		cell, _, _ := strings.Cut(line, " | `refused-")
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		for _, word := range regexp.MustCompile("`([a-z0-9-]+)`").FindAllStringSubmatch(cell, -1) {
			if n++; !slices.Contains(known, "reason."+word[1]) {
				t.Errorf("%s has no plain words", word[1])
			}
		}
	}
	if n < 40 {
		t.Errorf("%d reasons in the manual, want all", n)
	}
}
