package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/mattn/go-runewidth"
)

// tableWidth is how many columns of a terminal a table should keep to.
const tableWidth = 100

// columns measures texts: a Chinese character is two columns wide. It does not go by the locale, in
// which a … may be two columns wide too: terminals show it in one today.
var columns = &runewidth.Condition{StrictEmojiNeutral: true}

// fit cuts the texts of one column, so that the table keeps to its width. Paths are left whole: they
// stand in the last column, where they widen no other line.
func fit(rows [][]string, column int) {
	const least = 12
	room := tableWidth
	for i, n := range widths(rows) {
		if i != column {
			room -= n + 2
		}
	}
	for _, row := range rows[1:] {
		if !hasPath(row[column]) {
			row[column] = columns.Truncate(row[column], max(room, least), "…")
		}
	}
}

func hasPath(cell string) bool { return strings.HasPrefix(cell, "/") || strings.Contains(cell, ":/") }

// widths are those of the columns, paths left out.
func widths(rows [][]string) []int {
	found := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			if !hasPath(cell) {
				found[i] = max(found[i], columns.StringWidth(cell))
			}
		}
	}
	return found
}

// printTable prints rows in columns. text/tabwriter would take a Chinese character for one column.
func printTable(w io.Writer, rows [][]string) { printPainted(w, rows, nil) }

// printPainted prints rows in columns, each in the colour that of returns for its index, where w shows colours.
func printPainted(w io.Writer, rows [][]string, of func(row int) colour) {
	if of == nil || !colours(w) {
		of = func(int) colour { return uncoloured }
	}
	found := widths(rows)
	for n, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			if i < len(row)-1 {
				cell = columns.FillRight(cell, found[i]) + "  "
			}
			line.WriteString(cell)
		}
		fmt.Fprintln(w, of(n).paint(strings.TrimRight(line.String(), " ")))
	}
}
