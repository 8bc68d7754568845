package admin

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"wxproxy/limits"
)

// A reason is one line of at most 200 bytes: what does not fit is refused, not cut, and nothing is set.
func TestReasonOfAGrant(t *testing.T) {
	const long, control = "a reason of %d bytes: want 200 at most", "the reason has a control character: want one line of text"
	for _, tt := range []struct {
		name, reason string
		calls        int
		want         string // "": it is set
	}{
		{"a line", "the launch of 10:00, asked for by 王", 30, ""},
		{"200 bytes", strings.Repeat("r", 200), 30, ""},
		{"201 bytes", strings.Repeat("r", 201), 30, fmt.Sprintf(long, 201)},
		{"66 characters of 198 bytes", strings.Repeat("促", 66), 30, ""},
		{"67 characters of 201 bytes", strings.Repeat("促", 67), 30, fmt.Sprintf(long, 201)},
		{"a line feed", "one\ntwo", 30, control},
		{"a carriage return", "one\rtwo", 30, control},
		{"a tab", "one\ttwo", 30, control},
		{"a zero byte", "one\x00two", 30, control},
		{"an escape sequence", "\x1b[2Jone", 30, control},
		{"a delete", "one\x7f", 30, control},
		{"a next line, which is no ASCII", "one\u0085two", 30, control},
		{"an override of the direction", "one\u202etwo", 30, control},
		{"no UTF-8", "one\xfftwo", 30, control},
		{"none", "", 30, "no reason: want &reason= with why, for those who look at the figure later"},
		{"spaces", "  ", 30, "no reason: want &reason= with why, for those who look at the figure later"},
		{"none, of an end", "", 0, ""},
		{"a line feed, of an end", "one\ntwo", 0, control},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var kept []string
			set := 0
			o := newOperated(t, func(o *Options) {
				o.Grant = func(_ context.Context, _ string, _ limits.Match, calls int64, _ time.Time, _ int64) (limits.Grant, error) {
					set++
					return limits.Grant{Calls: calls, At: 1}, nil
				}
				o.KeepReason = func(_ context.Context, _, _ string, _ limits.Grant, reason string) error {
					kept = append(kept, reason)
					return nil
				}
				o.GrantReasons = func(context.Context, string, map[string]limits.Grant) (map[string]string, error) { return nil, nil }
			})
			query := url.Values{"app": {"shop"}, "rule": {"mass"}, "calls": {fmt.Sprint(tt.calls)}, "version": {"0"}, "reason": {tt.reason}}
			var answer struct {
				Error  string
				Grants []GrantRow
			}
			status := o.ask(t, "POST", "/api/v1/grant?"+query.Encode(), &answer)
			if tt.want != "" {
				if status != 400 || answer.Error != tt.want || set > 0 || len(kept) > 0 {
					t.Errorf("answered %d %q, set %d times, kept %q, want 400 %q and nothing set", status, answer.Error, set, kept, tt.want)
				}
				return
			}
			if status != 200 || set != 1 || len(kept) != 1 || kept[0] != tt.reason {
				t.Errorf("answered %d %q, set %d times, kept %q, want it set once with the whole reason", status, answer.Error, set, kept)
			}
		})
	}
}
