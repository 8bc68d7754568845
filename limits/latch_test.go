package limits

import (
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
	l.Done(&d, errcode)
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

func TestLatchAndProbe(t *testing.T) {
	noon := time.Date(2026, 12, 2, 12, 0, 0, 0, shanghai(t))
	for _, path := range []string{"/cgi-bin/a", "/cgi-bin/large", "/cgi-bin/x"} {
		t.Run(path, func(t *testing.T) {
			l, c := latchStand(t, noon)
			old(l)
			wantVerdicts(t, l, path, Pass, Pass)
			if got := call(t, l, path, errcodeQuota); got != Pass {
				t.Fatalf("the call that WeChat refuses: %s", got)
			}
			wantVerdicts(t, l, path, RefusedLatched, RefusedLatched)
			wantVerdicts(t, l, "/cgi-bin/y", Pass) // its neighbours are open
			d := take(t, l, "wx1", path)
			if d.Verdict != RefusedLatched || d.RetryAfter != 12*time.Hour || d.Used != 3 {
				t.Errorf("latched: %s, retry after %s, used %d, want the rest of the day and 3", d.Verdict, d.RetryAfter, d.Used)
			}

			c.set(noon.Add(probeGap))
			if got := call(t, l, path, errcodeQuota); got != Pass {
				t.Fatalf("after five minutes: %s, want one call as a probe", got)
			}
			wantVerdicts(t, l, path, RefusedLatched, RefusedLatched)

			c.set(noon.Add(2 * probeGap))
			d = take(t, l, "wx1", path)
			if d.Verdict != Pass {
				t.Fatalf("after five more: %s, want a probe", d.Verdict)
			}
			if got := take(t, l, "wx1", path); got.Verdict != RefusedLatched {
				t.Errorf("beside the probe: %s, want refused-latched", got.Verdict)
			}
			l.Done(&d, 0) // somebody has cleared in the console
			wantVerdicts(t, l, path, Pass, Pass)
			if path == "/cgi-bin/a" {
				eventually(t, "used", 7, func() int64 { return used(t, l, "wx1", "a") })
			}
		})
	}
}

func TestLatchNearAStart(t *testing.T) {
	midnight := time.Date(2026, 12, 2, 0, 0, 0, 0, shanghai(t))
	l, c := latchStand(t, midnight.Add(-time.Second))
	late := take(t, l, "wx1", "/cgi-bin/a")
	c.set(midnight.Add(time.Second))
	l.Done(&late, errcodeQuota) // of yesterday
	wantVerdicts(t, l, "/cgi-bin/a", Pass)

	call(t, l, "/cgi-bin/a", errcodeQuota) // WeChat's midnight is not ours to the second
	wantVerdicts(t, l, "/cgi-bin/a", RefusedLatched)
	c.set(midnight.Add(time.Second + youngLatch))
	wantVerdicts(t, l, "/cgi-bin/a", Pass)

	c.set(midnight.Add(12 * time.Hour))
	before := take(t, l, "wx1", "/cgi-bin/a")
	clearing := take(t, l, "wx1", "/cgi-bin/x")
	c.set(midnight.Add(12*time.Hour + time.Second))
	l.Clear("wx1", &clearing, "")
	l.Done(&clearing, 0)
	l.Done(&before, errcodeQuota) // of before the clear
	wantVerdicts(t, l, "/cgi-bin/a", Pass)
	call(t, l, "/cgi-bin/a", errcodeQuota)
	wantVerdicts(t, l, "/cgi-bin/a", RefusedLatched)
	c.set(midnight.Add(12*time.Hour + 2*time.Second + youngLatch))
	wantVerdicts(t, l, "/cgi-bin/a", Pass) // the clear was young, too
}

// Every gateway refuses within a second of one gateway's 45009, with an open block too.
func TestLatchIsHeardByAll(t *testing.T) {
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
