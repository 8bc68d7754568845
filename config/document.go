package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// maxFile bounds each file that is read.
const maxFile = 1 << 20

// maxText bounds each value. The longest that makes sense is a path or a URL.
const maxText = 4096

// document is one YAML file while it is read. Faults are collected, so that a user sees all of
// them at once: that is why yaml.Node is walked and nothing is decoded into structs.
type document struct {
	name    string
	env     func(string) (string, bool) // nil: a ${NAME} is left as it stands
	faults  Faults
	literal bool // a secret stands in the file itself
}

// value is a place in a document and what stands there.
type value struct {
	doc     *document
	node    *yaml.Node
	key     string // the path from the top, as in apps[0].secret
	secret  bool   // the text must not show in a fault
	unsetOK bool   // an environment variable that is not set counts as empty
}

// parse returns the top of the file, and false when there is nothing to walk: then it has noted
// the fault, or the file is empty.
func (d *document) parse(data []byte) (value, bool) {
	top := value{doc: d, node: &yaml.Node{Kind: yaml.MappingNode, Line: 1, Column: 1}}
	if len(data) > maxFile {
		top.fault("larger than %d bytes", maxFile)
		return top, false
	}
	if !utf8.Valid(data) {
		d.faults = append(d.faults, notUTF8(d.name, data))
		return top, false
	}
	first, second, err := parseYAML(data)
	if err != nil {
		d.faults = append(d.faults, syntaxFault(d.name, data, err))
		return top, false
	}
	if second != nil {
		d.faults = append(d.faults, Fault{File: d.name, Line: second.Line, Column: second.Column, Text: "a second document: want one in a file"})
	}
	if first == nil || len(first.Content) == 0 {
		return top, true
	}
	top.node = first.Content[0]
	return top, true
}

// parseYAML reads the first two documents; either may be nil.
func parseYAML(data []byte) (first, second *yaml.Node, err error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var docs [2]*yaml.Node
	for i := range docs {
		var n yaml.Node
		if err := dec.Decode(&n); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, nil, err
		}
		docs[i] = &n
	}
	return docs[0], docs[1], nil
}

func notUTF8(name string, data []byte) Fault {
	f := Fault{File: name, Line: 1, Column: 1, Text: "not UTF-8: save the file as UTF-8"}
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r == utf8.RuneError && n == 1 {
			break
		}
		f.Column++
		if r == '\n' {
			f.Line, f.Column = f.Line+1, 1
		}
		data = data[n:]
	}
	return f
}

// syntaxHints say what the parser's words mostly mean.
var syntaxHints = map[string]string{
	"mapping values are not allowed in this context": "look at the indentation here and at the line before",
	"did not find expected key":                      "look at the indentation and the quotes",
	"did not find expected '-' indicator":            "look at the indentation",
	"could not find expected ':'":                    "a key needs a colon and a space after it",
	"found unexpected end of stream":                 "a quote is not closed",
	"did not find expected ',' or '}'":               "a { is not closed, or a comma is missing",
	"did not find expected ',' or ']'":               "a [ is not closed, or a comma is missing",
}

var (
	yamlPlace = regexp.MustCompile(`^yaml: (line \d+: )?`)
	// flowDollar finds a ${ in a value that does not begin with a quote.
	flowDollar = regexp.MustCompile(`[:,\[{]\s*([^"'#\s,\[\]{}]*\$\{)`)
)

// syntaxFault says where and why data is no YAML. The parser names the line where the broken list
// or mapping begins, less one in some of its errors, so the line is searched for: the parser stops
// at the first mistake, therefore every beginning of the file that holds it fails alike.
func syntaxFault(name string, data []byte, err error) Fault {
	lines := bytes.SplitAfter(data, []byte("\n"))
	at := sort.Search(len(lines)-1, func(i int) bool {
		_, _, e := parseYAML(bytes.Join(lines[:i+1], nil))
		return e != nil && e.Error() == err.Error()
	})
	words := yamlPlace.ReplaceAllString(err.Error(), "")
	f := Fault{File: name, Line: at + 1, Text: "not YAML: " + words}
	if hint := syntaxHints[words]; hint != "" {
		f.Text += ": " + hint
	}
	line := string(lines[at])
	switch {
	case strings.Contains(words, "unknown anchor"):
		f.Text = "an alias (*): not used here; quote a value that begins with *" // the text may be a secret
	case strings.Contains(line[:len(line)-len(strings.TrimLeft(line, " \t"))], "\t"):
		f.Text = "a tab in the indentation: want spaces"
		f.Column = strings.IndexByte(line, '\t') + 1
	case strings.HasPrefix(words, "did not find expected ','"):
		for i, line := range lines[at:] {
			if m := flowDollar.FindSubmatchIndex(line); m != nil {
				f.Line += i
				f.Column = utf8.RuneCount(line[:m[2]]) + 1
				f.Text = `a ${ without quotes inside { } or [ ]: write "${NAME}"`
				break
			}
		}
	}
	return f
}

// fault notes what is wrong with v.
func (v value) fault(format string, args ...any) {
	v.doc.faults = append(v.doc.faults, Fault{
		File: v.doc.name, Line: v.node.Line, Column: v.node.Column, Key: v.key, Text: fmt.Sprintf(format, args...),
	})
}

// wrong notes that text is not what was wanted. A secret is not quoted.
func (v value) wrong(text, want string) {
	if v.secret {
		v.fault("%s: want %s", outline(text), want)
		return
	}
	v.fault("%s: want %s", v.quoted(text), want)
}

// quoted is text as a fault may show it. What came from a variable is not shown: one variable may
// have been written in place of another.
func (v value) quoted(text string) string {
	if text != v.node.Value {
		return quote(v.node.Value) + " as replaced"
	}
	return quote(text)
}

// wrongBy is wrong with the words of an error that quotes the text after kind, as those of
// package limits do.
func (v value) wrongBy(err error, kind, text, want string) {
	if v.secret || text != v.node.Value || secretLike(text) {
		v.wrong(text, want)
		return
	}
	v.fault("%s", strings.TrimPrefix(strings.TrimPrefix(err.Error(), kind), " "))
}

// notYet refuses what is valid but not built yet: it must not look as if it worked.
func (v value) notYet(what string) {
	v.fault("not yet: this version has no %s", what)
}

// kind names what stands in a place, for faults.
func (v value) kind() string {
	switch v.node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias (*)"
	default:
		return "a single value"
	}
}

// null reports whether nothing stands there: a key with all below it commented out.
func (v value) null() bool {
	return v.node.Kind == yaml.ScalarNode && v.node.Style&(yaml.TaggedStyle|yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0 &&
		v.node.Anchor == "" && v.node.ShortTag() == "!!null"
}

// plain reports whether v is written without what YAML has and a configuration does not need.
func (v value) plain() bool {
	switch {
	case v.node.Kind == yaml.AliasNode:
		v.fault("an alias (*): not used here; quote a value that begins with *")
	case v.node.Anchor != "":
		v.fault("an anchor (&): not used here; quote a value that begins with &")
	case v.node.Style&yaml.TaggedStyle != 0:
		v.fault("a tag (!): not used here; quote a value that begins with !")
	default:
		return true
	}
	return false
}

// text returns a single value with its ${NAME} replaced, and false when there is a fault. YAML's
// guess at a type is not looked at: a secret of digits is a text.
func (v value) text() (string, bool) {
	if !v.plain() {
		return "", false
	}
	if v.node.Kind != yaml.ScalarNode {
		v.fault("%s: want a single value", v.kind())
		return "", false
	}
	if v.null() {
		v.fault(`no value: want one, or "" (a # begins a comment: quote a value that holds one)`)
		return "", false
	}
	text := v.node.Value
	if v.doc.env != nil {
		replaced, unset, err := expand(text, v.doc.env)
		if err != nil {
			v.fault("%s", err)
			return "", false
		}
		if len(unset) > 0 && !v.unsetOK {
			for _, name := range unset {
				if secretLike(name) || v.secret && name != strings.ToUpper(name) {
					v.fault("a ${ } around %s, which names no variable that is set: want the name of one, or the value itself without ${ }", outline(name))
					return "", false
				}
			}
			v.fault("environment variable %s is not set: set it, or write ${%s:-default}", strings.Join(unset, ", "), unset[0])
			return "", false
		}
		text = replaced
	}
	if len(text) > maxText {
		v.fault("longer than %d bytes", maxText)
		return "", false
	}
	if strings.ContainsFunc(text, unicode.IsControl) {
		v.fault("a line break or another control character inside")
		return "", false
	}
	return text, true
}

// entries calls do for each key of a mapping, in the order of the file. The key is at name, what
// belongs to it at val. Duplicate keys are faults.
func (v value) entries(do func(key string, name, val value)) {
	if v.null() || !v.plain() {
		return
	}
	if v.node.Kind != yaml.MappingNode {
		v.fault("%s: want a mapping", v.kind())
		return
	}
	lines := make(map[string]int)
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		k, n := v.node.Content[i], v.node.Content[i+1]
		name := value{doc: v.doc, node: k, key: v.key, secret: v.secret}
		if k.Kind != yaml.ScalarNode {
			name.fault("a key that is %s: want a plain word", name.kind())
			continue
		}
		name.key = join(v.key, k.Value)
		if line, ok := lines[k.Value]; ok {
			name.fault("named twice: it stands in line %d already", line)
			continue
		}
		lines[k.Value] = k.Line
		do(k.Value, name, value{doc: v.doc, node: n, key: name.key, secret: v.secret})
	}
}

// join adds a key to a path. A key that is no plain word is cut, for it may hold a secret:
// {secret:abc} is a mapping with the key secret:abc.
func join(path, key string) string {
	if secretLike(key) {
		key = "…"
	}
	if i := strings.IndexFunc(key, func(r rune) bool { return r == ':' || unicode.IsControl(r) || unicode.IsSpace(r) }); i >= 0 {
		key = key[:i] + "…"
	}
	if len(key) > 64 {
		key = strings.ToValidUTF8(key[:64], "") + "…"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// mapping hands each key to its field and returns the keys that were there. A key without a field
// is a fault.
func (v value) mapping(fields map[string]func(value)) map[string]bool {
	has := make(map[string]bool)
	v.entries(func(key string, name, val value) {
		field, ok := fields[key]
		switch {
		case ok:
			has[key] = true
			field(val)
		case strings.Contains(key, ":"):
			name.fault("unknown key: want a space after the colon")
		default:
			name.fault("unknown key: %s", suggest(key, sortedKeys(fields)))
		}
	})
	return has
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// list calls do for each element.
func (v value) list(do func(value)) {
	if v.null() || !v.plain() {
		return
	}
	if v.node.Kind != yaml.SequenceNode {
		v.fault("%s: want a list", v.kind())
		return
	}
	for i, n := range v.node.Content {
		e := value{doc: v.doc, node: n, key: fmt.Sprintf("%s[%d]", v.key, i), secret: v.secret}
		if e.null() {
			e.fault("an element without a value")
			continue
		}
		do(e)
	}
}
