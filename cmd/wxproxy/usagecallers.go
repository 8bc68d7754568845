package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"wxproxy/admin"
	"wxproxy/internal/words"
)

// printCallers prints who has used today how much of each rule, in the order of the rows. The paths of a rule with a /*
// are one line for each caller.
func printCallers(w io.Writer, l words.Language, app *admin.AppUsage) {
	rows := [][]string{{l.Text(words.HeadRule), l.Text(words.HeadCaller), l.Text(words.HeadSent), l.Text(words.HeadPercent)}}
	add := func(rule string, callers []admin.CallerUse) {
		total := int64(0)
		for _, c := range callers {
			total += c.Sent
		}
		for _, c := range callers {
			rows = append(rows, []string{rule, callerName(l, c.Caller), strconv.FormatInt(c.Sent, 10), strconv.FormatInt(c.Sent*100/cmp.Or(total, 1), 10) + "%"})
		}
	}
	for _, r := range app.Rows {
		add(r.Rule, r.Callers)
	}
	for _, rule := range slices.Sorted(maps.Keys(app.Callers)) {
		add(rule, app.Callers[rule])
	}
	if len(rows) > 1 {
		fmt.Fprintln(w)
		printTable(w, rows)
	}
}
