package config

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Chinese keyboards write the punctuation of YAML as characters that look alike and mean nothing to YAML. A
// mistake that one of them makes shows elsewhere: as a key that is not known, or on the next line.

// narrow returns what an ASCII keyboard has for a character of a Chinese one, "" for any other.
func narrow(r rune) string {
	switch {
	case r == '\u3000':
		return "a space"
	case r == '“' || r == '”':
		return `"`
	case r == '‘' || r == '’':
		return "'"
	case r >= '！' && r <= '～': // the full-width forms of all printable ASCII
		return string(r - '！' + '!')
	}
	return ""
}

func isWide(r rune) bool { return narrow(r) != "" }

// wideText is the text of a fault about a character.
func wideText(r rune) string {
	shown := string(r)
	if r == '\u3000' {
		shown = "space"
	}
	return fmt.Sprintf("a full-width %s (U+%04X): want %s", shown, r, narrow(r))
}

// wide returns the place and the character of the first full-width one of a single value, and false if it has
// none.
func (d *document) wide(node *yaml.Node) (line, column int, r rune, ok bool) {
	i := strings.IndexFunc(node.Value, isWide)
	if i < 0 || node.Kind != yaml.ScalarNode {
		return 0, 0, 0, false
	}
	r, _ = utf8.DecodeRuneInString(node.Value[i:])
	for line := max(node.Line, 1); line <= len(d.lines); line++ {
		runes := []rune(d.lines[line-1])
		for column := range runes {
			if runes[column] == r && (line > node.Line || column >= node.Column-1) {
				return line, column + 1, r, true
			}
		}
	}
	return node.Line, node.Column, r, true // written in another form, as "\uff1a"
}

// structural finds a full-width character where YAML wants its own: after a key, between two, around a value, in
// front of a comment, in the indentation.
var structural = regexp.MustCompile(`^[\s\-{]*"?\w+"?(：)|[{,，]\s*"?\w+"?(：)|(，)\s*"?\w+"?\s*[:：]|[:：,，\[{]\s*([“”‘’｛［])|(?:^|\s)(＃)|^[ -]*(　)|:(　)`)

// wideNear looks for a full-width character on a line or the few before it, and moves a fault there.
func (f *Fault) wideNear(lines []string) {
	for i := f.Line; i > max(0, f.Line-4); i-- {
		line := lines[i-1]
		comment := regexp.MustCompile(`(^|\s)#`).FindStringIndex(line)
		if comment != nil {
			line = line[:comment[0]]
		}
		m := structural.FindStringSubmatchIndex(line)
		for at := 2; at+1 < len(m); at += 2 {
			if m[at] >= 0 {
				r, _ := utf8.DecodeRuneInString(line[m[at]:])
				f.Line, f.Column, f.Text = i, utf8.RuneCountInString(line[:m[at]])+1, wideText(r)
				return
			}
		}
	}
}
