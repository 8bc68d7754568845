package ui

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// The forms of import and export that a module may have.
var (
	imported  = regexp.MustCompile(`\bimport ?(\{[^}]*\}|\w+) ?from ?"(\.[^"]+)";\n?`)
	exported  = regexp.MustCompile(`\bexport ?(\{[^}]*\})(?: from "(\.[^"]+)")?;\n?`)
	declared  = regexp.MustCompile(`(?m)^export ((?:async )?(?:const|function|class) (\w+))`)
	byDefault = regexp.MustCompile(`\bexport default function\b`)
	leftOver  = regexp.MustCompile(`(?m)(?:^|;)(?:import|export)\b[^.(].*`)
)

// joiner puts modules into one: a browser takes 10 ms for each file that it imports, and there are more than twenty.
// Joined, they bring the first paint of an account of 200 rules from 418 to 274 ms. What a module exports is the value of a
// function around it, so each keeps its names to itself:
//
//	const views_clear_js = (() => { const { html, useState } = dom_js; ... return { Clear: Clear }; })();
type joiner struct {
	parts map[string]*part
	text  bytes.Buffer
	done  map[string]bool
}

// join returns the module of that name with all that it imports, and removes them from the parts.
func join(parts map[string]*part, name string) *part {
	j := &joiner{parts: parts, done: make(map[string]bool)}
	j.add(name)
	return newPart(kinds[".js"], j.text.Bytes())
}

// add appends a module after those that it imports.
func (j *joiner) add(name string) {
	if j.done[name] {
		return
	}
	j.done[name] = true
	p := j.parts[name]
	if p == nil {
		panic("ui: there is no module " + name)
	}
	delete(j.parts, name)
	text, exports := string(p.plain), []string(nil)
	from := func(address string) string {
		other := path.Join(path.Dir(name), address)
		j.add(other)
		return variable(other)
	}
	text = imported.ReplaceAllStringFunc(text, func(line string) string {
		m := imported.FindStringSubmatch(line)
		if !strings.HasPrefix(m[1], "{") {
			return fmt.Sprintf("const %s = %s.default;\n", m[1], from(m[2]))
		}
		return fmt.Sprintf("const { %s } = %s;\n", strings.Join(renamed(m[1], "%[1]s: %[2]s"), ", "), from(m[2]))
	})
	text = exported.ReplaceAllStringFunc(text, func(line string) string {
		m, of := exported.FindStringSubmatch(line), ""
		if m[2] != "" {
			of = from(m[2]) + "."
		}
		exports = append(exports, renamed(m[1], "%[2]s: "+of+"%[1]s")...)
		return ""
	})
	text = declared.ReplaceAllStringFunc(text, func(line string) string {
		m := declared.FindStringSubmatch(line)
		exports = append(exports, m[2]+": "+m[2])
		return m[1]
	})
	if byDefault.MatchString(text) {
		text, exports = byDefault.ReplaceAllLiteralString(text, "const defaultExport = function"), append(exports, "default: defaultExport")
	}
	if line := leftOver.FindString(text); line != "" {
		panic(fmt.Sprintf("ui: %s: %q: want an import or export as the other modules have them", name, line))
	}
	fmt.Fprintf(&j.text, "// %s\nconst %s = (() => {\n%s\nreturn { %s };\n})();\n", name, variable(name), text, strings.Join(exports, ", "))
}

// renamed formats each name of a list such as { a, b as c }, and what it is called from there on.
func renamed(list, format string) (all []string) {
	for one := range strings.SplitSeq(strings.Trim(list, "{ }"), ",") {
		name, as, ok := strings.Cut(strings.TrimSpace(one), " as ")
		if !ok {
			as = name
		}
		all = append(all, fmt.Sprintf(format, name, as))
	}
	return all
}

// variable is the name of a module's exports.
func variable(module string) string {
	return strings.NewReplacer("/", "_", ".", "_").Replace(module)
}
