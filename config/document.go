package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"sort"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// maxFile bounds each file that is read.
const maxFile = 1 << 20

// document is one YAML file while it is read. Faults are collected, so that a user sees all of them at once.
type document struct {
	name    string
	env     func(string) (string, bool) // nil: a ${NAME} is left as it stands
	places  map[any]value               // of what was decoded, by the addresses of the fields
	faults  Faults
	lines   []string
	literal bool // a secret stands in the file itself
}

// parse returns the top of the file, and false when there is nothing to walk: then it has noted the fault.
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
	d.lines = strings.SplitAfter(string(data), "\n")
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
	f.wideNear(strings.SplitAfter(string(data), "\n"))
	return f
}
