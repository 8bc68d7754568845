package main

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

func TestWrap(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"words", "the quick brown fox", []string{"the quick", "brown fox"}},
		{"a long word", "see /cgi-bin/message/x now", []string{"see", "/cgi-bin/message/x", "now"}},
		{"no line begins with a full stop", "一二三四五。六", []string{"一二三四", "五。六"}},
		{"no line ends with a bracket", "一二三四（五）", []string{"一二三四", "（五）"}},
		{"words in Chinese", "用 wxproxy 看", []string{"用 wxproxy", "看"}},
		{"a word beside Chinese", "微信45009用完", []string{"微信45009", "用完"}},
		{"nothing", "", []string{""}},
	} {
		if diff := gocmp.Diff(tt.want, wrap(tt.text, 10)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
