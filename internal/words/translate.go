package words

import (
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Translate translates a text that another package has composed in English. It goes line by line, and in a
// line by the parts between ": " or "; ", as errors have them. A part that no pattern is known for stays as it
// is: a place in a file, a name, what the operating system says.
func (l Language) Translate(text string) string {
	if l == English {
		return text
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		ends := append(separator.FindAllStringIndex(line, -1), []int{len(line), len(line)})
		var translated strings.Builder
		for start := 0; len(ends) > 0; {
			part, n := l.longest(line, start, ends)
			translated.WriteString(part + line[ends[n-1][0]:ends[n-1][1]])
			start, ends = ends[n-1][1], ends[n:]
		}
		lines[i] = translated.String()
	}
	return strings.Join(lines, "\n")
}

// longest translates as many parts of a line as one pattern matches, or keeps the first. The first begins at
// start, and each ends at one of ends. It returns how many these are.
func (l Language) longest(line string, start int, ends [][]int) (translated string, n int) {
	for n := len(ends); n > 0; n-- {
		text := line[start:ends[n-1][0]]
		for _, p := range patterns() {
			found := p.match.FindStringSubmatch(text)
			if found == nil || slices.ContainsFunc(found[1:], separator.MatchString) {
				continue // a parameter is inside one part
			}
			pairs := make([]string, 0, 2*len(p.names))
			for i, name := range p.names {
				pairs = append(pairs, name, l.Translate(found[i+1]))
			}
			return strings.NewReplacer(pairs...).Replace(p.zh), n
		}
	}
	return line[start:ends[0][0]], 1
}

// Patterns are the texts of other packages with their translations, for a page that translates by itself what the
// admin API answers. {name} in them stands for what differs. They are none in English.
func (l Language) Patterns() [][2]string {
	if l == English {
		return nil
	}
	return slices.Clone(foreign)
}

// pattern is a text of another package with its translation.
type pattern struct {
	zh    string
	match *regexp.Regexp
	names []string // of the parameters, in the order of match
}

var (
	parameter = regexp.MustCompile(`\{[a-z]+\}`)
	separator = regexp.MustCompile(`: |; `)
)

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
