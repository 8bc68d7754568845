// Package ui is the pages of the admin listener: static files, in the binary as they are in this folder. They
// show what /api/v1 answers and hold nothing themselves, so no token is asked for them.
package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"wxproxy/internal/words"
)

//go:embed index.html *.js *.css *.svg views vendor/*.js vendor/*.mjs vendor/*.css
var embedded embed.FS

// policy lets a page load what this listener serves and ask this listener, and nothing else: no inline script or
// style, no other host, no frame around it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// kinds are the content types by the ending of a name.
var kinds = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
	".json": "application/json; charset=utf-8", ".svg": "image/svg+xml",
}

// Pages serves the pages: / is the first, and /ui/VERSION/ holds its parts. VERSION is a hash of them all, so that a
// browser may keep each for good. It is safe for concurrent use.
type Pages struct {
	base  string // of the parts
	index *part
	parts map[string]*part // by name
}

// part is one file.
type part struct {
	kind  string
	plain []byte
	gzip  func() []byte
}

func newPart(kind string, plain []byte) *part {
	return &part{kind, plain, sync.OnceValue(func() []byte {
		var b bytes.Buffer
		w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // a level that there is
		_, _ = w.Write(plain)                                 // into memory
		_ = w.Close()
		return b.Bytes()
	})}
}

// New returns the pages. It panics on embedded files that cannot be read, which a test would have shown.
func New() *Pages {
	p := &Pages{parts: make(map[string]*part)}
	err := fs.WalkDir(embedded, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := embedded.ReadFile(name)
		p.parts[name] = newPart(kinds[path.Ext(name)], text)
		return err
	})
	if err != nil {
		panic(fmt.Sprintf("ui: %v", err))
	}
	index := p.parts["index.html"].plain
	delete(p.parts, "index.html")
	keys := p.keys()
	for _, l := range []words.Language{words.English, words.Chinese} {
		p.parts["words/"+string(l)+".json"] = newPart(kinds[".json"], dictionary(l, keys))
	}
	p.parts["app.js"] = join(p.parts, "app.js")
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(p.parts)) {
		fmt.Fprintf(sum, "%s %d\n%s", name, len(p.parts[name].plain), p.parts[name].plain)
	}
	p.base = "/ui/" + hex.EncodeToString(sum.Sum(nil))[:16] + "/"
	p.index = newPart("text/html; charset=utf-8", bytes.ReplaceAll(index, []byte("{base}"), []byte(p.base)))
	return p
}

var key = regexp.MustCompile(`\bt\("([A-Z]\w*)"`)

// keys are those of the texts that the scripts name, and of all that a call can meet.
func (p *Pages) keys() []string {
	found := make(map[string]bool)
	for key := range words.English.Dictionary() {
		if strings.HasPrefix(key, "reason.") || strings.HasPrefix(key, "outcome.") {
			found[key] = true
		}
	}
	for name, part := range p.parts {
		if strings.HasSuffix(name, ".js") && !strings.HasPrefix(name, "vendor/") {
			for _, match := range key.FindAllSubmatch(part.plain, -1) {
				found[string(match[1])] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// dictionary is what words.js reads of a language: the texts of the pages, and the translations of what the API says.
func dictionary(l words.Language, keys []string) []byte {
	all, messages := l.Dictionary(), make(map[string]string, len(keys))
	for _, key := range keys {
		messages[key] = all[key]
	}
	text, err := json.Marshal(struct {
		Language words.Language    `json:"language"`
		Messages map[string]string `json:"messages"`
		Patterns [][2]string       `json:"patterns,omitempty"`
	}{l, messages, l.Patterns()})
	if err != nil {
		panic(fmt.Sprintf("ui: %v", err)) // texts can be encoded
	}
	return text
}

// ServeHTTP implements [http.Handler].
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	found := p.index
	if r.URL.Path != "/" {
		name, ok := strings.CutPrefix(r.URL.Path, p.base)
		if found = p.parts[name]; !ok || found == nil {
			http.NotFound(w, r)
			return
		}
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	body := found.plain
	h.Set("Vary", "Accept-Encoding")
	if acceptsGzip(r) {
		h.Set("Content-Encoding", "gzip")
		body = found.gzip()
	}
	h.Set("Content-Type", found.kind)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the client has gone
}

// acceptsGzip reports whether a client takes gzip. One that gives it a weight takes it too, unless that is 0.
func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(strings.ReplaceAll(coding, " ", ""), ";q=")
		if name == "gzip" {
			return strings.Trim(weight, "0.") != "" || weight == ""
		}
	}
	return false
}
