package config

import (
	"strings"
	"testing"
)

func TestExpand(t *testing.T) {
	lookup := env("A", "one", "B_2", "two", "EMPTY", "", "DOLLAR", "${A}$$")
	tests := []struct{ text, want, unset string }{
		{"", "", ""},
		{"plain", "plain", ""},
		{"${A}", "one", ""},
		{"x${A}y${B_2}z", "xoneytwoz", ""},
		{"$A $ $1 a$", "$A $ $1 a$", ""},
		{"$${A}", "${A}", ""},
		{"$$$${A}", "$${A}", ""},
		{"$$${A}", "$one", ""},
		{"${EMPTY}", "", ""},
		{"${EMPTY:-x}", "x", ""},
		{"${NONE:-x}", "x", ""},
		{"${NONE:-}", "", ""},
		{"${A:-x}", "one", ""},
		{"${NONE:-a:-b}", "a:-b", ""},
		{"${DOLLAR}", "${A}$$", ""}, // what a variable holds is not read again
		{"${NONE}${A}${NONE}${OTHER}", "one", "NONE OTHER"},
	}
	for _, tt := range tests {
		got, unset, err := expand(tt.text, lookup)
		if got != tt.want || strings.Join(unset, " ") != tt.unset || err != nil {
			t.Errorf("expand(%q) = %q, unset %v, %v, want %q, unset %s", tt.text, got, unset, err, tt.want, tt.unset)
		}
	}
	for _, text := range []string{"${", "${}", "${A", "${1}", "${A-x}", "${A:x}", "${ A }", "${A.B}", "a${:-x}"} {
		if got, _, err := expand(text, lookup); err == nil {
			t.Errorf("expand(%q) = %q, want an error", text, got)
		}
	}
}
