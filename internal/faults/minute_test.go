package faults

import (
	"fmt"
	"testing"
	"time"

	"wxproxy/internal/redistest"
	"wxproxy/sandbox"
)

// WeChat answers 45009 in the same words for a minute's limit and for a day's. The first closes the
// rule to the end of the clock minute, and Retry-After is at most that; the second, which quota/get
// tells apart, closes it to the end of the day. The clock of Redis stands 20 seconds before the end
// of a minute, so that the test need not wait for longer.
func TestMinuteLimit(t *testing.T) {
	t.Parallel()
	const daily, quota = 5, 100_000
	ahead := (100*time.Second - time.Duration(time.Now().Second())*time.Second) % time.Minute // now is then the 40th second
	server := redistest.StartMovable(t)
	server.Move(ahead)
	f := newFleet(t, setup{
		gateways: 2,
		redis:    server,
		rules:    []rule{{"send", sendPath, fmt.Sprint(quota, "/day"), ""}, {"text", textPath, fmt.Sprint(quota, "/day"), ""}},
		wechat: sandbox.Options{
			Now:    func() time.Time { return time.Now().Add(ahead) },
			Quotas: map[string]int64{sendPath: quota, textPath: daily},
		},
	})
	a, b := f.gateways[0], f.gateways[1]
	send, text := call{path: sendPath}, call{path: textPath}

	// The day's limit: six calls, the last one too many.
	f.fire(t.Context(), load{call: text, callers: 1, calls: daily, only: []*process{a}})
	if said := f.hear(t.Context(), a, text); said != "pass 45009" {
		t.Fatalf("past WeChat's daily quota a call is answered %s", said)
	}
	// The minute's limit.
	minute := f.wechat.Order(sandbox.Fault{Path: sendPath, ErrCode: 45009, Times: -1})
	if said := f.hear(t.Context(), a, send); said != "pass 45009" {
		t.Fatalf("past WeChat's limit of a minute a call is answered %s", said)
	}
	begun := time.Now()
	var longest time.Duration
	for i, p := range f.gateways {
		within(t, time.Second, fmt.Sprint("gateway ", i, " refuses until the end of the minute"), func() bool {
			said, header := f.answer(t.Context(), p, send)
			if said != latched {
				return false
			}
			wait := retryAfter(t, header)
			if wait > time.Minute {
				t.Errorf("gateway %d: Retry-After %s after a 45009 of the minute, want at most a minute", i, wait)
			}
			longest = max(longest, min(wait, time.Minute))
			return true
		})
	}
	for i, p := range f.gateways {
		within(t, 5*time.Second, fmt.Sprint("gateway ", i, " refuses until the end of the day"), func() bool {
			said, header := f.answer(t.Context(), p, text)
			return said == latched && retryAfter(t, header) > time.Hour
		})
	}
	if minute.Fired() < 1 || minute.Fired() > 4 {
		t.Errorf("WeChat has refused %d calls of the minute, want 1 to 4", minute.Fired())
	}
	sent := f.wechat.Calls(appid(0), textPath)

	minute.Cancel() // WeChat takes calls again
	for i, p := range f.gateways {
		within(t, longest-time.Since(begun), fmt.Sprint("gateway ", i, " is open again"), func() bool { return f.hear(t.Context(), p, send) == passed })
	}
	for i, p := range f.gateways {
		if said, header := f.answer(t.Context(), p, text); said != latched || retryAfter(t, header) < time.Hour {
			t.Errorf("gateway %d: the rule of a day that is used up is answered %s, Retry-After %s", i, said, header.Get("Retry-After"))
		}
	}
	if n := f.wechat.Calls(appid(0), textPath); n != sent {
		t.Errorf("WeChat was sent %d calls of a day that is used up", n-sent)
	}

	// The next one closes the rule for longer, but not for the day.
	minute = f.wechat.Order(sandbox.Fault{Path: sendPath, ErrCode: 45009})
	if said := f.hear(t.Context(), b, send); said != "pass 45009" || minute.Fired() != 1 {
		t.Fatalf("past WeChat's limit of a minute a call is answered %s", said)
	}
	said, header := f.answer(t.Context(), b, send)
	if wait := retryAfter(t, header); said != latched || wait > 2*time.Minute {
		t.Errorf("after a second 45009 a call is answered %s, Retry-After %s, want at most two minutes", said, wait)
	}
}
