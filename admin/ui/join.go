package ui

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// The forms of import and export that the modules of this folder may use, each on a line of its own.
var (
	imported   = regexp.MustCompile(`(?m)^import (\{ \w+(?:, \w+)* \}|\w+) from "(\.[^"]+)";\n`)
	reexported = regexp.MustCompile(`(?m)^export (\{ \w+(?:, \w+)* \}) from "(\.[^"]+)";\n`)
	declared   = regexp.MustCompile(`(?m)^export ((?:async )?(?:const|function|class) (\w+))`)
	leftOver   = regexp.MustCompile(`(?m)^(?:import|export)\b.*`)
)

// joiner puts modules into one: a browser takes 10 ms for each file that it imports, and there are twenty. The first
// paint of an account of 200 rules comes after 275 ms and not after 420. What a module exports is the value of a
// function around it, so each keeps its names to itself:
//
//	const views_clear_js = (() => { const { html, useState } = dom_js; ... return { Clear }; })();
type joiner struct {
	parts   map[string]*part
	imports bytes.Buffer // of what is vendored, which stays as it is
	modules bytes.Buffer
	done    map[string]bool
}

// join returns the module of that name with all of ours that it imports, and removes them from the parts.
func join(parts map[string]*part, name string) *part {
	j := &joiner{parts: parts, done: make(map[string]bool)}
	j.add(name)
	return newPart(kinds[".js"], append(j.imports.Bytes(), j.modules.Bytes()...))
}

// add appends a module after those that it imports.
func (j *joiner) add(name string) {
	if j.done[name] {
		return
	}
	j.done[name] = true
	if strings.HasPrefix(name, "vendor/") {
		fmt.Fprintf(&j.imports, "import * as %s from \"./%s\";\n", variable(name), name)
		return
	}
	p := j.parts[name]
	if p == nil {
		panic("ui: there is no module " + name)
	}
	delete(j.parts, name)
	var exports []string
	text := string(p.plain)
	text = imported.ReplaceAllStringFunc(text, func(line string) string {
		m := imported.FindStringSubmatch(line)
		from := path.Join(path.Dir(name), m[2])
		j.add(from)
		if !strings.HasPrefix(m[1], "{") {
			return fmt.Sprintf("const %s = %s.default;\n", m[1], variable(from))
		}
		return fmt.Sprintf("const %s = %s;\n", m[1], variable(from))
	})
	text = reexported.ReplaceAllStringFunc(text, func(line string) string {
		m := reexported.FindStringSubmatch(line)
		from := path.Join(path.Dir(name), m[2])
		j.add(from)
		for exported := range strings.SplitSeq(strings.Trim(m[1], "{ }"), ", ") {
			exports = append(exports, fmt.Sprintf("%s: %s.%[1]s", exported, variable(from)))
		}
		return ""
	})
	text = declared.ReplaceAllStringFunc(text, func(line string) string {
		m := declared.FindStringSubmatch(line)
		exports = append(exports, m[2])
		return m[1]
	})
	if line := leftOver.FindString(text); line != "" {
		panic(fmt.Sprintf("ui: %s: %q: want an import or export as the other modules have them", name, line))
	}
	fmt.Fprintf(&j.modules, "// %s\nconst %s = (() => {\n%s\nreturn { %s };\n})();\n", name, variable(name), text, strings.Join(exports, ", "))
}

// variable is the name of a module's exports.
func variable(module string) string {
	return strings.NewReplacer("/", "_", ".", "_").Replace(module)
}
