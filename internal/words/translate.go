package words

import (
	"regexp"
	"strings"
	"sync"
)

// Translate translates a text that another package has composed in English. It goes line by line, and in a
// line by the parts between ": ", as errors have them. A part that no pattern is known for stays as it is:
// a place in a file, a name, what the operating system says.
func (l Language) Translate(text string) string {
	if l == English {
		return text
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		parts := strings.Split(line, ": ")
		var translated []string
		for len(parts) > 0 {
			part, n := longest(l, parts)
			translated = append(translated, part)
			parts = parts[n:]
		}
		lines[i] = strings.Join(translated, ": ")
	}
	return strings.Join(lines, "\n")
}

// longest translates as many of the first parts as one pattern matches, or keeps the first. It returns how
// many these are.
func longest(l Language, parts []string) (translated string, n int) {
	for n := len(parts); n > 0; n-- {
		text := strings.Join(parts[:n], ": ")
		for _, p := range patterns() {
			found := p.match.FindStringSubmatch(text)
			if found == nil {
				continue
			}
			pairs := make([]string, 0, 2*len(p.names))
			for i, name := range p.names {
				pairs = append(pairs, name, l.Translate(found[i+1]))
			}
			return strings.NewReplacer(pairs...).Replace(p.zh), n
		}
	}
	return parts[0], 1
}

// pattern is a text of another package with its translation.
type pattern struct {
	zh    string
	match *regexp.Regexp
	names []string // of the parameters, in the order of match
}

var parameter = regexp.MustCompile(`\{[a-z]+\}`)

// patterns are those of foreign.
var patterns = sync.OnceValue(func() []pattern {
	found := make([]pattern, 0, len(foreign))
	for _, texts := range foreign {
		p := pattern{zh: texts[1], names: parameter.FindAllString(texts[0], -1)}
		expr := regexp.QuoteMeta(texts[0])
		for _, name := range p.names {
			expr = strings.Replace(expr, regexp.QuoteMeta(name), "(.+?)", 1)
		}
		p.match = regexp.MustCompile("^" + expr + "$")
		found = append(found, p)
	}
	return found
})
