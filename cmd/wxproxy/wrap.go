package main

import (
	"strings"
	"unicode"
)

// wrap breaks a text into lines of a width: at blanks, and between Chinese characters, but not before what ends a
// sentence or a bracket. A word that is longer than a line has one of its own.
func wrap(text string, width int) []string {
	var lines []string
	line, used, blank := "", 0, false
	for _, piece := range pieces(text) {
		if piece == " " {
			blank = used > 0
			continue
		}
		took := columns.StringWidth(piece)
		switch {
		case used == 0:
		case blank && used+1+took <= width:
			line, used = line+" ", used+1
		case blank || used+took > width:
			lines, line, used = append(lines, line), "", 0
		}
		line, used, blank = line+piece, used+took, false
	}
	return append(lines, line)
}

// pieces are the parts of a text between which a line may be broken; a blank is a piece.
func pieces(text string) []string {
	var found []string
	open := false // the last piece takes the next rune, whatever it is
	wide := true  // the last rune was
	for _, r := range text {
		is := columns.RuneWidth(r) > 1
		switch {
		case r == ' ':
			found, wide = append(found, " "), true
			continue
		case len(found) == 0 || found[len(found)-1] == " ",
			!open && (is || wide) && !strings.ContainsRune("，。：；、）」》？！”/.,;:)…", r):
			found = append(found, string(r))
		default:
			found[len(found)-1] += string(r)
		}
		open, wide = strings.ContainsRune("（「《“(", r), is && !unicode.Is(unicode.Pd, r)
	}
	return found
}
