package admin

import (
	"cmp"
	"slices"
	"strings"

	"wxproxy/limits"
)

// counterOf is one line of usage with its app, as an index.
type counterOf struct {
	app  int
	line limits.Usage
}

// compare orders lines by what usage is asked to sort by.
func (c counterOf) compare(d counterOf, sort string) int {
	switch sort {
	case "percent":
		return cmp.Or(cmp.Compare(closeness(d.line), closeness(c.line)), cmp.Compare(d.line.Used, c.line.Used))
	case "used":
		return cmp.Compare(d.line.Used, c.line.Used)
	}
	return cmp.Or(strings.Compare(c.line.Rule.Name, d.line.Rule.Name), strings.Compare(c.line.Counter, d.line.Counter), cmp.Compare(c.line.Period, d.line.Period))
}

// sortLines sorts the lines of each app; without a sort they stay in the order of the table.
func (f *figures) sortLines(sort string) {
	if sort == "" {
		return
	}
	for i, lines := range f.lines {
		if lines == nil {
			continue
		}
		f.lines[i] = slices.Clone(lines) // several apps may share them
		slices.SortStableFunc(f.lines[i], func(x, y limits.Usage) int { return counterOf{line: x}.compare(counterOf{line: y}, sort) })
	}
}

// top keeps the first lines of all apps, and the apps that have one, in the order of their first.
func (f *figures) top(apps []App, n int, sort string) ([]App, figures) {
	var all []counterOf
	for i, lines := range f.lines {
		for _, line := range lines {
			if line.Used > 0 || line.Latched {
				all = append(all, counterOf{i, line})
			}
		}
	}
	slices.SortStableFunc(all, func(x, y counterOf) int { return x.compare(y, sort) })
	var order []int
	kept := make(map[int][]limits.Usage)
	for _, c := range all[:min(n, len(all))] {
		if kept[c.app] == nil {
			order = append(order, c.app)
		}
		kept[c.app] = append(kept[c.app], c.line)
	}
	for i, lines := range f.lines {
		if lines == nil && f.err != nil { // what was not read is not left out
			order = append(order, i)
		}
	}
	apps, g := arrange(apps, *f, order)
	for to, from := range order {
		g.lines[to] = kept[from]
	}
	return apps, g
}
