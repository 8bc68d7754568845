package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"wxproxy/limits"
)

// SetQuotas returns a wxproxy.yaml with figures of one app changed: those of quotas, by rule name,
// each written as limits.Budget prints it. app is the app's name or appid. Nothing else changes:
// figures are put in place by their position, so comments, order and every other byte stay.
//
// The result is parsed again, and returned only if it is the same document but for these figures.
// Otherwise, and where a figure stands in a form that cannot be edited by its place, the error says
// why; the file is to be edited by hand then.
func SetQuotas(file []byte, app string, quotas map[string]string) ([]byte, error) {
	for _, rule := range sortedKeys(quotas) {
		if err := limits.CheckRuleName(rule); err != nil {
			return nil, err
		}
		if _, err := limits.ParseBudget(figures(quotas[rule])...); err != nil {
			return nil, fmt.Errorf("rule %s: %w", rule, err)
		}
	}
	top, err := topOf(file)
	if err != nil {
		return nil, err
	}
	entry, err := appOf(top, app)
	if err != nil {
		return nil, err
	}
	e := newEditor(file)
	if err := e.setQuotas(entry, quotas); err != nil {
		return nil, fmt.Errorf("app %s: %w", app, err)
	}
	edited := e.apply()
	if err := e.verify(edited, app, quotas); err != nil {
		return nil, fmt.Errorf("app %s: %w", app, err)
	}
	return edited, nil
}

// CheckText returns what Load would find wrong, were text the content of the wxproxy.yaml that o
// names. It reads the files that text names and writes none.
func CheckText(o LoadOptions, text []byte) error {
	o.text = text
	_, err := Load(o)
	return err
}

// figures are the texts of a budget as it prints itself.
func figures(budget string) []string { return strings.Split(budget, ", ") }

// quotaText is a budget as a value of the file.
func quotaText(budget string) string {
	if len(figures(budget)) > 1 {
		return "[" + budget + "]"
	}
	return budget
}

// topOf returns the mapping of a file, or nil.
func topOf(file []byte) (*yaml.Node, error) {
	first, second, err := parseYAML(file)
	switch {
	case err != nil:
		return nil, err
	case second != nil:
		return nil, errors.New("a second document: want one in a file")
	case first == nil || len(first.Content) == 0 || first.Content[0].Kind != yaml.MappingNode:
		return nil, nil
	}
	return first.Content[0], nil
}

// appOf finds the element of apps with a name or appid.
func appOf(top *yaml.Node, app string) (*yaml.Node, error) {
	var known []string
	if _, apps := child(top, "apps"); apps != nil && apps.Kind == yaml.SequenceNode {
		for _, entry := range apps.Content {
			for _, key := range []string{"name", "appid"} {
				_, value := child(entry, key)
				if value == nil || value.Kind != yaml.ScalarNode {
					continue
				}
				text, _, err := expand(value.Value, os.LookupEnv)
				if err == nil && text == app || value.Value == app {
					return entry, nil
				}
				known = append(known, text)
			}
		}
	}
	return nil, fmt.Errorf("app %s: not in the file: %s", app, suggest(app, known))
}

// child returns a key of a mapping and what belongs to it, or nil.
func child(node *yaml.Node, key string) (name, value *yaml.Node) {
	if node == nil || node.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i], node.Content[i+1]
		}
	}
	return nil, nil
}

// splice is some bytes of a file and what takes their place.
type splice struct {
	at, end int
	text    string
}

// editor collects what is to change in one file, each by the place of a node.
type editor struct {
	file    []byte
	lines   []int  // where each line begins
	newline string // as the file ends its lines
	splices []splice
}

func newEditor(file []byte) *editor {
	e := &editor{file: file, newline: "\n"}
	start := 0
	if strings.HasPrefix(string(file), "\ufeff") { // is no column
		start = len("\ufeff")
	}
	e.lines = append(e.lines, start)
	for i := 0; i < len(file); {
		n := lineBreak(file[i:])
		if n == 2 && file[i] == '\r' && len(e.lines) == 1 {
			e.newline = "\r\n"
		}
		if n > 0 {
			e.lines = append(e.lines, i+n)
		}
		i += max(n, 1)
	}
	return e
}

// lineBreak is how many bytes of a line break text begins with, in YAML's sense.
func lineBreak(text []byte) int {
	for _, b := range []string{"\r\n", "\n", "\r", "\u0085", "\u2028", "\u2029"} {
		if len(text) >= len(b) && string(text[:len(b)]) == b {
			return len(b)
		}
	}
	return 0
}

// errPlace is a node that cannot be edited by its place.
func errPlace(node *yaml.Node, why string) error {
	return fmt.Errorf("line %d: %s", node.Line, why)
}

// offset is where a node begins.
func (e *editor) offset(node *yaml.Node) (int, error) {
	if node.Line < 1 || node.Line > len(e.lines) || node.Kind == yaml.AliasNode || node.Anchor != "" || node.Style&yaml.TaggedStyle != 0 {
		return 0, errPlace(node, "an alias, an anchor or a tag")
	}
	at := e.lines[node.Line-1]
	for range node.Column - 1 {
		_, n := utf8.DecodeRune(e.file[at:])
		at += n
	}
	return at, nil
}

// end is where a node ends that is written on its own, as a single value or inside { } or [ ].
func (e *editor) end(node *yaml.Node) (int, error) {
	at, err := e.offset(node)
	if err != nil {
		return 0, err
	}
	var end int
	switch {
	case node.Kind != yaml.ScalarNode && node.Style&yaml.FlowStyle != 0:
		end = flowEnd(e.file, at)
	case node.Kind != yaml.ScalarNode:
		return 0, errPlace(node, "a list or mapping over several lines")
	case node.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		end = quotedEnd(e.file, at)
	case node.Style == 0 && node.Value != "" && strings.HasPrefix(string(e.file[at:]), node.Value):
		end = at + len(node.Value)
	}
	if end == 0 {
		return 0, errPlace(node, "a value over several lines, or none")
	}
	return end, nil
}

// quotedEnd is where the quoted text ends that begins at at, or 0.
func quotedEnd(file []byte, at int) int {
	for i := at + 1; at < len(file) && i < len(file); i++ {
		switch {
		case file[i] == '\\' && file[at] == '"':
			i++
		case file[i] == '\'' && file[at] == '\'' && i+1 < len(file) && file[i+1] == '\'':
			i++
		case file[i] == file[at]:
			return i + 1
		}
	}
	return 0
}

// flowEnd is where the { } or [ ] ends that begins at at, or 0.
func flowEnd(file []byte, at int) int {
	depth, fresh := 0, true // fresh: a quote here begins a text
	for i := at; i < len(file); i++ {
		switch c := file[i]; c {
		case '{', '[':
			depth, fresh = depth+1, true
		case '}', ']':
			depth, fresh = depth-1, false
			if depth == 0 {
				return i + 1
			}
		case ',', ':':
			fresh = true
		case ' ', '\t', '\n', '\r':
		case '#':
			if i > 0 && strings.IndexByte(" \t\n\r", file[i-1]) >= 0 {
				for i+1 < len(file) && lineBreak(file[i+1:]) == 0 {
					i++
				}
			}
		case '"', '\'':
			if fresh {
				if i = quotedEnd(file, i) - 1; i < 0 {
					return 0
				}
			}
			fresh = false
		default:
			fresh = false
		}
	}
	return 0
}

func (e *editor) replace(at, end int, text string) {
	if string(e.file[at:end]) != text {
		e.splices = append(e.splices, splice{at, end, text})
	}
}

// apply returns the file with everything changed.
func (e *editor) apply() []byte {
	slices.SortStableFunc(e.splices, func(a, b splice) int { return a.at - b.at })
	var out []byte
	from := 0
	for _, s := range e.splices {
		out = append(append(out, e.file[from:s.at]...), s.text...)
		from = s.end
	}
	return append(out, e.file[from:]...)
}

// setQuotas notes the changes that give an app its figures.
func (e *editor) setQuotas(app *yaml.Node, quotas map[string]string) error {
	if len(quotas) == 0 {
		return nil
	}
	name, own := child(app, "quotas")
	switch {
	case app.Anchor != "":
		return errPlace(app, "an anchor")
	case name == nil && app.Style&yaml.FlowStyle != 0:
		return e.addInside(app, "quotas: "+flowText(quotas))
	case name == nil:
		return e.addLines(app, func(indent string) []string {
			lines := []string{indent + "quotas:"}
			for _, rule := range sortedKeys(quotas) {
				lines = append(lines, indent+"  "+rule+": "+quotaText(quotas[rule]))
			}
			return lines
		})
	case (value{node: own}).null() && own.Value != "":
		at, err := e.offset(own)
		if err == nil {
			e.replace(at, at+len(own.Value), flowText(quotas))
		}
		return err
	case (value{node: own}).null():
		end, err := e.end(name)
		if err != nil {
			return err
		}
		if end == len(e.file) || e.file[end] != ':' {
			return errPlace(name, "a key without a colon right after it")
		}
		e.replace(end+1, end+1, " "+flowText(quotas))
		return nil
	case own.Value == "auto":
		return errPlace(own, "quotas is auto: WeChat's own figures are taken over, so there is nothing to write")
	case own.Kind == yaml.ScalarNode:
		return errPlace(own, "quotas is "+quote(own.Value)+": want figures by rule name there, or nothing")
	case own.Kind != yaml.MappingNode:
		return errPlace(own, "quotas is no mapping")
	}
	added := make(map[string]string)
	for _, rule := range sortedKeys(quotas) {
		if _, figure := child(own, rule); figure == nil {
			added[rule] = quotas[rule]
		} else if err := e.setFigure(figure, figures(quotas[rule])); err != nil {
			return fmt.Errorf("rule %s: %w", rule, err)
		}
	}
	switch {
	case len(added) == 0:
		return nil
	case own.Style&yaml.FlowStyle != 0:
		return e.addInside(own, strings.Trim(flowText(added), "{}"))
	}
	return e.addLines(own, func(indent string) (lines []string) {
		for _, rule := range sortedKeys(added) {
			lines = append(lines, indent+rule+": "+quotaText(added[rule]))
		}
		return lines
	})
}

// flowText is quotas on one line.
func flowText(quotas map[string]string) string {
	var parts []string
	for _, rule := range sortedKeys(quotas) {
		parts = append(parts, rule+": "+quotaText(quotas[rule]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// addInside notes keys to be added at the end of a { }.
func (e *editor) addInside(mapping *yaml.Node, keys string) error {
	if len(mapping.Content) == 0 {
		at, err := e.offset(mapping)
		if err == nil {
			e.replace(at+1, at+1, keys)
		}
		return err
	}
	end, err := e.end(mapping.Content[len(mapping.Content)-1])
	if err == nil {
		e.replace(end, end, ", "+keys)
	}
	return err
}

// addLines notes lines to be added to a mapping with a key on each line: below the last key whose
// value ends on a line of its own. lines get the indentation of the keys.
func (e *editor) addLines(mapping *yaml.Node, lines func(indent string) []string) error {
	for i := len(mapping.Content) - 2; i >= 0; i -= 2 {
		end, err := e.end(mapping.Content[i+1])
		if err != nil {
			continue
		}
		next := end
		for next < len(e.file) && lineBreak(e.file[next:]) == 0 {
			next++
		}
		if rest := strings.TrimSpace(string(e.file[end:next])); rest != "" && rest[0] != '#' {
			continue
		}
		text := strings.Join(lines(strings.Repeat(" ", mapping.Content[i].Column-1)), e.newline)
		if n := lineBreak(e.file[next:]); n > 0 {
			e.replace(next+n, next+n, text+e.newline)
		} else {
			e.replace(next, next, e.newline+text)
		}
		return nil
	}
	return errPlace(mapping, "no key with a value on one line to add others after")
}

// setFigure notes the change of one rule's figures.
func (e *editor) setFigure(node *yaml.Node, texts []string) error {
	if node.Kind == yaml.SequenceNode && len(node.Content) == len(texts) {
		for _, item := range node.Content {
			_, period, _ := strings.Cut(item.Value, "/")
			i := slices.IndexFunc(texts, func(text string) bool { return strings.HasSuffix(text, "/"+period) })
			if i < 0 {
				return errPlace(item, "a list of other figures")
			}
			if err := e.setFigure(item, texts[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	if strings.Contains(node.Value, "${") {
		return errPlace(node, "the figure comes from a variable")
	}
	at, err := e.offset(node)
	if err != nil {
		return err
	}
	end, err := e.end(node)
	if err != nil {
		return err
	}
	if strings.Contains(string(e.file[at:end]), "#") {
		return errPlace(node, "a comment inside a list of figures")
	}
	text := quotaText(strings.Join(texts, ", "))
	if q := e.file[at]; len(texts) == 1 && (q == '"' || q == '\'') {
		text = string(q) + text + string(q)
	}
	e.replace(at, end, text)
	return nil
}

// verify compares the edited file with the one before: it must be the same document but for the
// quotas of one app, and these must be as asked for.
func (e *editor) verify(edited []byte, app string, quotas map[string]string) error {
	errEdit := errors.New("the edit would change more than the figures")
	before, err := topOf(e.file)
	if err != nil {
		return err
	}
	after, err := topOf(edited)
	if err != nil || len(edited) > maxFile {
		return errEdit
	}
	was, err := takeQuotas(before, app)
	if err != nil {
		return err
	}
	is, err := takeQuotas(after, app)
	if err != nil {
		return errEdit
	}
	maps.Copy(was, quotas)
	if !maps.Equal(was, is) || !sameNode(before, after) {
		return errEdit
	}
	return nil
}

// takeQuotas takes the quotas of an app out of a document and returns them as texts.
func takeQuotas(top *yaml.Node, app string) (map[string]string, error) {
	entry, err := appOf(top, app)
	if err != nil {
		return nil, err
	}
	quotas := make(map[string]string)
	name, own := child(entry, "quotas")
	if name == nil {
		return quotas, nil
	}
	for i := 0; i+1 < len(own.Content); i += 2 {
		key, value := own.Content[i].Value, own.Content[i+1]
		quotas[key] = value.Value
		if value.Kind == yaml.SequenceNode {
			var texts []string
			for _, item := range value.Content {
				texts = append(texts, item.Value)
			}
			if b, err := limits.ParseBudget(texts...); err == nil { // in whichever order
				texts = figures(b.String())
			}
			quotas[key] = strings.Join(texts, ", ")
		}
	}
	i := slices.Index(entry.Content, name)
	entry.Content = slices.Delete(entry.Content, i, i+2)
	return quotas, nil
}

// sameNode compares two documents but for places and comments.
func sameNode(a, b *yaml.Node) bool {
	return a.Kind == b.Kind && a.Style == b.Style && a.Tag == b.Tag && a.Value == b.Value && a.Anchor == b.Anchor &&
		slices.EqualFunc(a.Content, b.Content, sameNode)
}
