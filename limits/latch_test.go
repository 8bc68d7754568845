package limits

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"wxproxy/internal/redistest"
)

// latchStand is a limiter on a file whose clock the test moves.
func latchStand(t *testing.T, at time.Time) (*Limiter, *clock) {
	t.Helper()
	c := &clock{at: at}
	l := New(Options{Counters: boltStand(openBolt(t, filepath.Join(t.TempDir(), "wxproxy.db")), c.now)(t), Now: c.now})
	l.Configure(map[string]*Ruleset{"wx1": rules(t,
		rule("a", "/cgi-bin/a", "100/day"), rule("large", "/cgi-bin/large", "5000000/day"), rule("other", "/cgi-bin/*", "unknown"),
	)}, nil)
	t.Cleanup(func() { closeLimiter(t, l) })
	return l, c
}

// call takes one call and ends it with an errcode.
func call(t *testing.T, l *Limiter, path string, errcode int) Verdict {
	t.Helper()
	d := take(t, l, "wx1", path)
	d.Done(errcode)
	return d.Verdict
}

func wantVerdicts(t *testing.T, l *Limiter, path string, want ...Verdict) {
	t.Helper()
	for i, w := range want {
		if got := call(t, l, path, 0); got != w {
			t.Errorf("%s: call %d: %s, want %s", path, i+1, got, w)
		}
	}
}

// A 45009 may be a minute's limit: each further one of a day closes the rule for longer, and the
// fourth for the rest of the day, with a probe each five minutes.
func TestLatchAndProbe(t *testing.T) {
	noon := time.Date(2026, 12, 2, 12, 0, 20, 0, shanghai(t))
	for _, path := range []string{"/cgi-bin/a", "/cgi-bin/large", "/cgi-bin/x"} {
		t.Run(path, func(t *testing.T) {
			l, c := latchStand(t, noon)
			old(l)
			wantVerdicts(t, l, path, Pass, Pass)
			at := noon
			for _, closed := range []time.Duration{40 * time.Second, 2 * time.Minute, 4 * time.Minute} {
				if got := call(t, l, path, errcodeQuota); got != Pass {
					t.Fatalf("the call that WeChat refuses: %s", got)
				}
				wantVerdicts(t, l, path, RefusedLatched, RefusedLatched)
				wantVerdicts(t, l, "/cgi-bin/y", Pass) // its neighbours are open
				if d := take(t, l, "wx1", path); d.Verdict != RefusedLatched || d.RetryAfter != closed {
					t.Errorf("latched: %s, retry after %s, want %s", d.Verdict, d.RetryAfter, closed)
				}
				at = at.Add(closed)
				c.set(at)
				wantVerdicts(t, l, path, Pass)
			}
			call(t, l, path, errcodeQuota)
			d := take(t, l, "wx1", path)
			if rest := time.Date(2026, 12, 3, 0, 0, 0, 0, shanghai(t)).Sub(at); d.Verdict != RefusedLatched || d.RetryAfter != rest || d.Used != 9 {
				t.Errorf("latched the fourth time: %s, retry after %s, used %d, want %s and 9", d.Verdict, d.RetryAfter, d.Used, rest)
			}

			c.set(at.Add(probeGap))
			if got := call(t, l, path, errcodeQuota); got != Pass {
				t.Fatalf("after five minutes: %s, want one call as a probe", got)
			}
			wantVerdicts(t, l, path, RefusedLatched, RefusedLatched)

			c.set(at.Add(2 * probeGap))
			d = take(t, l, "wx1", path)
			if d.Verdict != Pass {
				t.Fatalf("after five more: %s, want a probe", d.Verdict)
			}
			if got := take(t, l, "wx1", path); got.Verdict != RefusedLatched {
				t.Errorf("beside the probe: %s, want refused-latched", got.Verdict)
			}
			d.Done(0) // the day was cleared in WeChat's console
			wantVerdicts(t, l, path, Pass, Pass)
			if path == "/cgi-bin/a" {
				eventually(t, "used", 13, func() int64 { return used(t, l, "wx1", "a") })
			}
		})
	}
}

// When quota/get says that the day is used up, a minute's latch becomes one to the end of the day.
func TestSettleLatch(t *testing.T) {
	noon := time.Date(2026, 12, 2, 12, 0, 20, 0, shanghai(t))
	l, c := latchStand(t, noon)
	match := l.Rules("wx1").Match("/cgi-bin/a")
	if err := l.SettleLatch(t.Context(), "wx1", match, noon, true); err != nil {
		t.Fatal(err)
	}
	wantVerdicts(t, l, "/cgi-bin/a", Pass) // it was not latched
	call(t, l, "/cgi-bin/a", errcodeQuota)
	if err := l.SettleLatch(t.Context(), "wx1", match, noon.Add(-12*time.Hour), true); err != nil {
		t.Fatal(err)
	}
	if d := take(t, l, "wx1", "/cgi-bin/a"); d.RetryAfter != 40*time.Second {
		t.Errorf("asked just after midnight: retry after %s, want the rest of the minute", d.RetryAfter)
	}
	if err := l.SettleLatch(t.Context(), "wx1", match, noon, true); err != nil {
		t.Fatal(err)
	}
	c.set(noon.Add(time.Minute))
	if d := take(t, l, "wx1", "/cgi-bin/a"); d.Verdict != RefusedLatched || d.RetryAfter < 11*time.Hour {
		t.Errorf("the day is used up: %s, retry after %s, want the rest of the day", d.Verdict, d.RetryAfter)
	}
}

// A latch that quota/get has told to be a minute's does not make the next one longer, on any gateway.
func TestMinuteLimitsDoNotAddUp(t *testing.T) {
	noon := time.Date(2026, 12, 2, 12, 0, 20, 0, shanghai(t))
	l, c := latchStand(t, noon)
	match := l.Rules("wx1").Match("/cgi-bin/a")
	for i := range 8 {
		at := noon.Add(time.Duration(i) * 10 * time.Minute)
		c.set(at)
		if got := call(t, l, "/cgi-bin/a", errcodeQuota); got != Pass {
			t.Fatalf("call %d: %s", i, got)
		}
		if err := l.SettleLatch(t.Context(), "wx1", match, at, false); err != nil {
			t.Fatal(err)
		}
		if d := take(t, l, "wx1", "/cgi-bin/a"); d.Verdict != RefusedLatched || d.RetryAfter != 40*time.Second {
			t.Errorf("latched %d times: %s, retry after %s, want the rest of the minute", i+1, d.Verdict, d.RetryAfter)
		}
	}
}

// The paths of a /* that share a counter are not latched by one of them.
func TestSharedPathsAreNotLatched(t *testing.T) {
	l, _ := latchStand(t, time.Date(2026, 12, 2, 12, 0, 20, 0, shanghai(t)))
	for i := range maxPaths {
		call(t, l, fmt.Sprintf("/cgi-bin/p%d", i), 0)
	}
	d := take(t, l, "wx1", "/cgi-bin/late")
	if d.Counter != "other:*" {
		t.Fatalf("counted in %s, want other:*", d.Counter)
	}
	d.Done(errcodeQuota)
	wantVerdicts(t, l, "/cgi-bin/later", Pass)
}

// A place whose calls never left is free again.
func TestPlacesOfCallsThatNeverLeft(t *testing.T) {
	t.Parallel()
	for _, quota := range []string{"unknown", "100/day"} {
		for _, s := range stands(t) {
			t.Run(s.name+"/"+quota, func(t *testing.T) {
				l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": rules(t, rule("other", "/cgi-bin/*", quota))})
				for i := range maxPaths + 88 {
					d := take(t, l, "wx1", fmt.Sprintf("/cgi-bin/made-up%d", i))
					d.GiveBack()
				}
				eventually(t, "meters", 0, func() int64 { return int64(len(l.registry.of("wx1"))) })
				if d := take(t, l, "wx1", "/cgi-bin/real"); d.Counter != "other:/cgi-bin/real" {
					t.Errorf("a real path is counted in %s, want a counter for itself", d.Counter)
				}
			})
		}
	}
}

func TestLatchNearAStart(t *testing.T) {
	midnight := time.Date(2026, 12, 2, 0, 0, 0, 0, shanghai(t))
	l, c := latchStand(t, midnight.Add(-time.Second))
	late := take(t, l, "wx1", "/cgi-bin/a")
	c.set(midnight.Add(time.Second))
	late.Done(errcodeQuota) // of yesterday
	wantVerdicts(t, l, "/cgi-bin/a", Pass)

	for i := range 6 { // WeChat's midnight is not ours to the second
		at := midnight.Add(time.Second + time.Duration(i)*time.Minute)
		c.set(at)
		call(t, l, "/cgi-bin/a", errcodeQuota)
		if d := take(t, l, "wx1", "/cgi-bin/a"); d.RetryAfter != time.Minute {
			t.Errorf("latched %d minutes after midnight: retry after %s, want a minute", i, d.RetryAfter)
		}
	}

	c.set(midnight.Add(12 * time.Hour))
	before := take(t, l, "wx1", "/cgi-bin/a")
	clearing := take(t, l, "wx1", "/cgi-bin/x")
	c.set(midnight.Add(12*time.Hour + time.Second))
	l.Clear("wx1", clearing.Counted, "")
	clearing.Done(0)
	before.Done(errcodeQuota) // of before the clear
	wantVerdicts(t, l, "/cgi-bin/a", Pass)
	call(t, l, "/cgi-bin/a", errcodeQuota)
	wantVerdicts(t, l, "/cgi-bin/a", RefusedLatched)
	c.set(midnight.Add(12*time.Hour + 2*time.Second + time.Minute))
	wantVerdicts(t, l, "/cgi-bin/a", Pass) // the clear was recent, too
}

// Every gateway refuses within a second of one gateway's 45009, with an open block too.
func TestLatchIsHeardByAll(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	open := patientStand(server)
	apps := map[string]*Ruleset{"wx1": rules(t,
		rule("a", "/cgi-bin/a", "100/day"), rule("large", "/cgi-bin/large", "5000000/day"), rule("other", "/cgi-bin/*", "unknown"))}
	one, two := old(gateway(t, open(t), apps)), old(gateway(t, open(t), apps))
	for _, path := range []string{"/cgi-bin/a", "/cgi-bin/large", "/cgi-bin/x"} {
		for range 50 {
			wantVerdicts(t, one, path, Pass)
		}
		wantVerdicts(t, two, path, Pass)
		call(t, one, path, errcodeQuota)
		wantVerdicts(t, one, path, RefusedLatched)
		begun := time.Now()
		for call(t, two, path, 0) != RefusedLatched {
			if time.Since(begun) > 3*time.Second {
				t.Fatalf("%s: the other gateway still sends three seconds later", path)
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Logf("%s: heard after %s", path, time.Since(begun).Round(time.Millisecond))
	}
	wantVerdicts(t, two, "/cgi-bin/y", Pass)
}
