package config

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"

	"wxproxy/limits"
)

// A struct describes a mapping of a file: what may stand there is in the tags of its fields, and decode
// reads it. yaml.v3's own decoder stops at a duplicate key and knows no columns.
//
//	yaml     the key; a field without one is not read
//	read     what the text must be, as parse has it: address, 1..100 for a whole number, a|b for one of these
//	default  the text that holds where the key is left out, or its value is at fault
//	need     what a key that must not be left out should hold
//	filled   what a list that must not be empty should hold
//	word     a word that may stand in place of the mapping, and how either is written
//
// So a new key is a field here and, where it concerns others, a check in check.go.

// reader is a type that reads itself from a file.
type reader interface{ read(v value) }

// decode reads v into a field. What is at fault is noted, and leaves the field as it is.
func (v value) decode(to reflect.Value, tag reflect.StructTag) {
	if to.Kind() == reflect.Pointer && tag.Get("read") == "" {
		to.Set(reflect.New(to.Type().Elem()))
		to = to.Elem()
	}
	v.doc.places[to.Addr().Interface()] = v
	switch at := to.Addr().Interface().(type) {
	case reader:
		at.read(v)
		return
	case *limits.Budget:
		*at, _ = v.budget()
		return
	}
	words := tag.Get("word")
	switch {
	case words != "" && v.node.Kind == yaml.ScalarNode && !v.null():
		if text, ok := v.text(); ok && text != firstWord.FindString(words) {
			v.wrong(text, words)
		}
	case tag.Get("read") != "" && to.Kind() != reflect.Slice:
		if got, ok := v.scalar(tag.Get("read")); ok {
			to.Set(reflect.ValueOf(got).Convert(to.Type()))
		}
	case to.Kind() == reflect.Struct:
		v.mapping(to)
	case to.Kind() == reflect.Map:
		to.Set(reflect.MakeMap(to.Type()))
		v.entries(func(key string, val value) {
			e := reflect.New(to.Type().Elem()).Elem()
			val.decode(e, "")
			to.SetMapIndex(reflect.ValueOf(key), e)
		})
	default:
		n := len(v.node.Content)
		to.Set(reflect.MakeSlice(to.Type(), n, n))
		v.list(func(i int, e value) { e.decode(to.Index(i), tag) })
		if want := tag.Get("filled"); want != "" && (v.node.Kind == yaml.SequenceNode && n == 0 || v.null()) {
			v.fault("%s", want)
		}
	}
}

var firstWord = regexp.MustCompile(`^\w+`)

// mapping reads a mapping into a struct.
func (v value) mapping(to reflect.Value) {
	setDefaults(to)
	fields := make(map[string]int)
	for i := range to.NumField() {
		if key := keyOf(to.Type().Field(i)); key != "" {
			fields[key] = i
		}
	}
	left := maps.Clone(fields)
	v.entries(func(key string, val value) {
		i, ok := fields[key]
		switch {
		case ok:
			delete(left, key)
			val.decode(to.Field(i), to.Type().Field(i).Tag)
		case strings.Contains(key, ":"):
			val.atName().fault("unknown key: want a space after the colon")
		default:
			val.atName().fault("unknown key: %s", suggest(key, sortedKeys(fields)))
		}
	})
	for i := range to.NumField() {
		f := to.Type().Field(i)
		if _, absent := left[keyOf(f)]; absent && f.Tag.Get("need") != "" && v.node.Kind == yaml.MappingNode {
			v.fault("no %s: want %s", keyOf(f), f.Tag.Get("need"))
		}
	}
}

// keyOf is the key of a field, "" if it has none.
func keyOf(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return key
}

// setDefaults gives the fields of a struct, and of those in it, what holds where a file says nothing.
func setDefaults(to reflect.Value) {
	for i := range to.NumField() {
		f := to.Type().Field(i)
		if text, ok := f.Tag.Lookup("default"); ok {
			got, err := parse(f.Tag.Get("read"), text)
			if err != nil {
				panic("config: default of " + f.Name + ": " + err.Error())
			}
			to.Field(i).Set(reflect.ValueOf(got).Convert(f.Type))
		} else if keyOf(f) != "" && f.Type.Kind() == reflect.Struct {
			setDefaults(to.Field(i))
		}
	}
}

// value is a place in a document and what stands there.
type value struct {
	doc     *document
	node    *yaml.Node
	name    *yaml.Node // the key that it belongs to; nil for the top and the elements of a list
	key     string     // the path from the top, as in apps[0].secret
	secret  bool       // the text must not show in a fault
	unsetOK bool       // an environment variable that is not set counts as empty
}

// at returns the place of the first of some fields, given by their addresses, that the files have; its doc is
// nil when they have none of them.
func (d *document) at(fields ...any) value {
	for _, f := range fields {
		if v, ok := d.places[f]; ok {
			return v
		}
	}
	return value{}
}

// has reports whether the files have a field, given by its address.
func (d *document) has(field any) bool { return d.at(field).doc != nil }

// atName is the place of the key that v belongs to.
func (v value) atName() value {
	if v.name != nil {
		v.node = v.name
	}
	return v
}

// entry is the place of a key of a mapping.
func (v value) entry(key string) value {
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		if v.node.Content[i].Value == key {
			v.name, v.node, v.key = v.node.Content[i], v.node.Content[i+1], join(v.key, key)
			break
		}
	}
	return v
}

// fault notes what is wrong with v.
func (v value) fault(format string, args ...any) {
	f := v.at(format, args...)
	if line, column, r, ok := v.doc.wide(v.node); ok {
		f.Line, f.Column, f.Text = line, column, wideText(r)
	}
	v.doc.faults = append(v.doc.faults, f)
}

// at returns a fault at v, without noting it.
func (v value) at(format string, args ...any) Fault {
	return Fault{File: v.doc.name, Line: v.node.Line, Column: v.node.Column, Key: v.key, Text: fmt.Sprintf(format, args...)}
}

// faulty reports whether a fault was noted at v.
func (v value) faulty() bool {
	return slices.ContainsFunc(v.doc.faults, func(f Fault) bool { return f.Key == v.key })
}

// wrong notes that text is not what was wanted.
func (v value) wrong(text, want string) { v.fault("%s: want %s", v.shown(text), want) }

// shown is text as a fault may show it: never a secret. What came from a variable is not shown either: one
// variable may have been written in place of another.
func (v value) shown(text string) string {
	switch {
	case v.secret:
		return outline(text)
	case text != v.node.Value:
		return quote(v.node.Value) + " as replaced"
	}
	return quote(text)
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
	const written = yaml.TaggedStyle | yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	return v.node.Kind == yaml.ScalarNode && v.node.Style&written == 0 && v.node.Anchor == "" && v.node.ShortTag() == "!!null"
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

// maxText bounds each value. The longest that makes sense is a path or a URL.
const maxText = 4096

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
	text, ok := v.replaced()
	switch {
	case !ok:
	case v.swallows():
		v.fault("a full-width character") // which fault names
	case len(text) > maxText:
		v.fault("longer than %d bytes", maxText)
	case strings.ContainsFunc(text, unicode.IsControl):
		v.fault("a line break or another control character inside")
	default:
		return text, true
	}
	return "", false
}

// swallows reports whether a full-width character has made a value of the lines below it: "a: b" and "c：d" on the
// next line are one value, "b c：d".
func (v value) swallows() bool {
	line, _, _, ok := v.doc.wide(v.node)
	return ok && v.node.Style == 0 && line > v.node.Line
}

// replaced returns the text of a single value with its ${NAME} replaced.
func (v value) replaced() (string, bool) {
	if v.doc.env == nil {
		return v.node.Value, true
	}
	text, unset, err := expand(v.node.Value, v.doc.env)
	switch {
	case err != nil:
		v.fault("%s", err)
		return "", false
	case len(unset) == 0 || v.unsetOK:
		return text, true
	}
	for _, name := range unset {
		if secretLike(name) || v.secret && name != strings.ToUpper(name) {
			v.fault("a ${ } around %s, which names no variable that is set: want the name of one, or the value itself without ${ }", outline(name))
			return "", false
		}
	}
	v.fault("environment variable %s is not set: set it, or write ${%s:-default}", strings.Join(unset, ", "), unset[0])
	return "", false
}

// entries calls do for each key of a mapping, in the order of the file. Duplicate keys are faults.
func (v value) entries(do func(key string, val value)) {
	if v.null() || !v.plain() {
		return
	}
	if v.node.Kind != yaml.MappingNode {
		v.fault("%s: want a mapping", v.kind())
		return
	}
	lines := make(map[string]int)
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		k := v.node.Content[i]
		val := value{doc: v.doc, node: v.node.Content[i+1], name: k, key: v.key}
		if k.Kind != yaml.ScalarNode {
			name := val.atName()
			name.fault("a key that is %s: want a plain word", name.kind())
			continue
		}
		val.key = join(v.key, k.Value)
		if line, ok := lines[k.Value]; ok {
			val.atName().fault("named twice: it stands in line %d already", line)
			continue
		}
		lines[k.Value] = k.Line
		do(k.Value, val)
	}
}

// list calls do for each element.
func (v value) list(do func(i int, e value)) {
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
		do(i, e)
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

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
