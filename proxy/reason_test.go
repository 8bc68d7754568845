package proxy

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wxproxy/limits"
	"wxproxy/wechat"
)

// The tables of the manual have each reason once, with its decision, a meaning and what to do about it.
func TestReasonsAreInTheManual(t *testing.T) {
	word := regexp.MustCompile("`([a-z0-9-]+)`")
	for _, name := range []string{"../docs/reasons.md", "../docs/reasons.zh-CN.md"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		listed := make(map[Reason]string)
		for line := range strings.Lines(string(text)) {
			cells := strings.Split(strings.TrimSpace(line), " | ")
			if !strings.HasPrefix(line, "| `") {
				continue
			}
			if len(cells) != 4 {
				t.Fatalf("%s: %d cells, want 4: %s", name, len(cells), line)
			}
			for _, found := range word.FindAllStringSubmatch(cells[0], -1) {
				reason := Reason(found[1])
				if listed[reason] != "" {
					t.Errorf("%s: %s is there twice", name, reason)
				}
				listed[reason] = strings.Trim(cells[1], "`")
			}
		}
		if diff := cmp.Diff(decisions, listed); diff != "" {
			t.Errorf("%s (-in the code +in the manual):\n%s", name, diff)
		}
	}
}

// Every refusal of the limiter has a reason, and the decision of the reason is the limiter's own.
func TestVerdictsHaveReasons(t *testing.T) {
	for v := limits.RefusedQuota; int(v) < len(verdicts); v++ {
		if got := decisions[verdicts[v].reason]; got != v.String() {
			t.Errorf("the decision of %q is %q, want %q", verdicts[v].reason, got, v)
		}
	}
}

func TestNoTokenIsBounded(t *testing.T) {
	for errcode, want := range map[wechat.Errcode]Reason{40164: "no-token-40164", -1: NoToken, 0: NoToken, 123456: NoToken} {
		if got := noToken(errcode); got != want {
			t.Errorf("noToken(%d) = %s, want %s", errcode, got, want)
		}
	}
}
