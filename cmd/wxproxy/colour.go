package main

import (
	"io"
	"os"
)

// colour is how a line is shown on a terminal.
type colour string

// The colours: of what is used up or wrong, and of what soon may be.
const (
	uncoloured colour = ""
	red        colour = "\x1b[31m"
	yellow     colour = "\x1b[33m"
	bold       colour = "\x1b[1m" // what a person reads first
	reset      colour = "\x1b[0m"
)

// colours reports whether a program that writes to w may use colours: on a terminal that shows them, unless
// NO_COLOR is set (https://no-color.org).
func colours(w io.Writer) bool {
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// paint returns a line in a colour.
func (c colour) paint(line string) string {
	if c == uncoloured {
		return line
	}
	return string(c) + line + string(reset)
}
