package faults

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"wxproxy/internal/redistest"
)

// A gateway has counted two rules in a window that ended more than a day ago: the store cannot keep
// their figures, because their key has expired when it is written. After the store has lost
// everything, the gateway sends no more than a few requests a second for them without a call, and
// logs the loss at most once a second.
func TestWindowsThatCannotBeStored(t *testing.T) {
	t.Parallel()
	const later = 60 * time.Hour
	server := redistest.StartMovable(t)
	f := newFleet(t, setup{gateways: 1, redis: server, rules: []rule{
		{"one", sendPath, "100/day", ""}, {"two", textPath, "100/day", ""}, {"now", menuPath, "100/day", ""},
	}})
	gateway := f.gateways[0]
	for _, path := range []string{sendPath, textPath} {
		if got := f.fire(t.Context(), load{call: call{path: path}, callers: 2, calls: 10}); got.of[passed] != 10 {
			t.Fatalf("answers %v, want 10 %s", got, passed)
		}
	}
	time.Sleep(idle) // everything is reported
	old := f.dayKey(t, 0)
	server.Move(later)
	menu := call{path: menuPath}
	if said := f.hear(t.Context(), gateway, menu); said != passed {
		t.Fatalf("%s later a call is answered %s", later, said)
	}
	if key := f.dayKey(t, 0); key == old {
		t.Fatalf("%s later the one hash of a day is still %s", later, key)
	}

	for _, loss := range []struct {
		name string
		do   func()
	}{
		{"Redis was killed and is back empty", func() {
			server.Stop()
			for range 10 { // so that the outage is noticed
				f.hear(t.Context(), gateway, menu)
			}
			server.Restart()
		}},
		{"Redis was flushed", func() {
			if err := f.direct.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		loss.do()
		within(t, 3*time.Second, loss.name+": the count of today is restored", func() bool {
			return f.hear(t.Context(), gateway, menu) == passed && f.counted(t, 0, "now", "d") >= f.executed(0, menuPath)
		})
		time.Sleep(500 * time.Millisecond)
		scripts, lines := f.scripts(t), gateway.logged("the store has lost counts")
		const span = 3 * time.Second
		time.Sleep(span) // without any call
		scripts, lines = f.scripts(t)-scripts, gateway.logged("the store has lost counts")-lines
		t.Logf("%s: %d scripts and %d log lines in %s without a call", loss.name, scripts, lines, span)
		if scripts > 30 || lines > 4 {
			t.Errorf("%s: %d scripts and %d log lines in %s without a call, want at most 30 and 4", loss.name, scripts, lines, span)
		}
	}
	if gateway.logged("the store has lost counts") == 0 {
		t.Error("no loss was logged: the test has tested nothing")
	}
}

var scriptCalls = regexp.MustCompile(`cmdstat_eval(?:sha)?:calls=(\d+)`)

// scripts is how many scripts Redis has run since it started.
func (f *fleet) scripts(t *testing.T) (sum int) {
	t.Helper()
	info, err := f.direct.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range scriptCalls.FindAllStringSubmatch(info, -1) {
		n, err := strconv.Atoi(found[1])
		if err != nil {
			t.Fatal(fmt.Errorf("%q: %w", found[0], err))
		}
		sum += n
	}
	return sum
}
