package proxy

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"wxproxy/limits"
	"wxproxy/wechat"
)

// TestEndOfAClear: what WeChat answers to a clear decides how the call ends and what starts over. The
// time is that of the call, by the store's clock.
func TestEndOfAClear(t *testing.T) {
	const counted = 1795392000123
	all := fmt.Sprintf(`{"appid":%q}`, testAppID)
	const one = `{"cgi_path":"/cgi-bin/menu/create"}`
	tests := []struct {
		name         string
		path, body   string
		answer       string // "": the connection breaks
		clears       []string
		lost         []string
		done, usedUp int
		given        int
	}{
		{"all granted", wechat.ClearPath, all, okText, []string{"1795392000123 "}, nil, 1, 0, 0},
		{"one granted", wechat.ClearOnePath, one, okText, []string{"1795392000123 /cgi-bin/menu/create"}, nil, 1, 0, 0},
		{"no more this month", wechat.ClearPath, all, `{"errcode":48006,"errmsg":"forbid"}`, nil, nil, 0, 1, 1},
		{"refused", wechat.ClearPath, all, `{"errcode":40013,"errmsg":"invalid appid"}`, nil, nil, 0, 0, 1},
		{"no answer", wechat.ClearPath, all, "", nil, []string{"1795392000123 "}, 1, 0, 0},
		{"of another app", wechat.ClearPath, `{"appid":"wx9999999999999999"}`, okText, nil, nil, 1, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
				if tt.answer == "" {
					panic(http.ErrAbortHandler)
				}
				w.Header().Set("Content-Type", jsonType[0])
				say(w, tt.answer)
			})
			var lost []string
			g := newGateway(t, u.URL, func(o *Options) {
				o.LostClear = func(_, path string, at int64) { lost = append(lost, fmt.Sprint(at, " ", path)) }
			})
			g.limiter.decide = func(int, limits.Call) limits.Decision {
				return limits.Decision{Quota: 10, Used: 1, Counted: counted}
			}
			g.do(t, http.MethodPost, tt.path, tt.body)
			g.nextRecord(t)
			l := g.limiter
			if done := l.counted(t); done != tt.done || l.given != tt.given || l.usedUp != tt.usedUp || !slices.Equal(l.clears, tt.clears) || !slices.Equal(lost, tt.lost) {
				t.Errorf("done %d, given back %d, used up %d, cleared %q, lost %q; want %d, %d, %d, %q, %q",
					done, l.given, l.usedUp, l.clears, lost, tt.done, tt.given, tt.usedUp, tt.clears, tt.lost)
			}
		})
	}
}
