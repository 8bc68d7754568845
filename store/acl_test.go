package store_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"wxproxy/history"
	"wxproxy/internal/redistest"
	"wxproxy/limits"
	"wxproxy/store"
)

// restrict makes the user of store.ACL on each of the servers, and lets the test fail if Redis had to
// deny it anything.
func restrict(t *testing.T, servers ...*redistest.Server) {
	t.Helper()
	for _, server := range servers {
		admin := server.Client(t)
		var args []any
		for arg := range strings.FieldsSeq(strings.Replace(store.ACL, "PASSWORD", "hunter2", 1)) {
			args = append(args, arg)
		}
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatalf("%s: %v", store.ACL, err)
		}
		t.Cleanup(func() {
			denied, err := admin.ACLLog(context.Background(), 10).Result()
			if err != nil {
				t.Error(err)
			}
			for _, d := range denied {
				t.Errorf("Redis denied the user of store.ACL: %s %s (%s)", d.Reason, d.Object, d.Context)
			}
		})
	}
}

func restrictedRedis(t *testing.T) store.Options {
	t.Helper()
	server := redistest.Start(t)
	restrict(t, server)
	return store.Options{URL: "redis://wxproxy@" + server.Addr + "/1", Password: "hunter2"}
}

func restrictedCluster(t *testing.T) store.Options {
	t.Helper()
	nodes := redistest.StartCluster(t)
	restrict(t, nodes...)
	var hosts []string
	for _, n := range nodes {
		hosts = append(hosts, n.Addr)
	}
	return store.Options{URL: "redis+cluster://wxproxy@" + strings.Join(hosts, ","), Password: "hunter2"}
}

// With no more than store.ACL a gateway counts, and its counters can be read and forgotten. The values
// pass the suite of TestStore.
func TestACL(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]func(t *testing.T) store.Options{"redis": restrictedRedis, "cluster": restrictedCluster} {
		t.Run(name, func(t *testing.T) {
			s := open(t, options(t))
			if warnings := s.Warnings(); len(warnings) > 0 {
				t.Errorf("Warnings() = %q, want none", warnings)
			}
			counters := limits.NewRedis(s.Redis(), s.Prefix(), "gw000001")
			now := time.Now()
			day := limits.Window{Name: now.Format("d20060102"), Start: now.Add(-time.Hour), End: now.Add(time.Hour)}
			month := limits.Window{Name: now.Format("m200601"), Start: now.Add(-time.Hour), End: now.Add(time.Hour)}
			windows := []limits.WindowReport{{Window: day}, {Window: month}}
			report := []limits.Report{{Name: "a", Limit: 10}, {Name: "a", Limit: 10, Window: 1}}
			exchange := func(r *limits.Request) *limits.Answer {
				t.Helper()
				r.App = "wx1"
				a, err := counters.Exchange(t.Context(), r)
				if err != nil {
					t.Fatalf("Exchange: %v", err)
				}
				return a
			}
			for range 2 { // the second time the scripts are known
				exchange(&limits.Request{Want: 1, Windows: windows, Counters: report})
				if _, err := counters.Heartbeat(t.Context()); err != nil {
					t.Errorf("Heartbeat: %v", err)
				}
				if gateways, err := counters.Gateways(t.Context()); err != nil || len(gateways) != 1 || time.Since(gateways["gw000001"]).Abs() > time.Minute {
					t.Errorf("Gateways = %v, %v, want this one", gateways, err)
				}
				if _, err := counters.Probe(t.Context(), "wx1", "a", time.Minute); err != nil {
					t.Errorf("Probe: %v", err)
				}
				if _, err := counters.Pace(t.Context(), "wx1", "a", limits.Pace{Rate: 1, Per: time.Minute, Burst: 1}, 1); err != nil {
					t.Errorf("Pace: %v", err)
				}
				queries := []limits.Query{{App: "wx1", Window: day}, {App: "wx2", Window: month, Names: []string{"a"}}}
				if _, err := counters.Read(t.Context(), queries); err != nil {
					t.Errorf("Read: %v", err)
				}
				windows[0].Generation = now.UnixMilli() // a clear
			}
			if err := s.Redis().HSet(t.Context(), s.Prefix()+"{wx1}:"+day.Name, "a", "nan 1 1").Err(); err != nil {
				t.Fatal(err)
			}
			if a := exchange(&limits.Request{Windows: windows, Counters: report}); a.Damaged != 1 {
				t.Errorf("%+v, want the damaged counter reported", a)
			}
			keepHistory(t, s)
			for range 2 {
				if err := s.Forget(t.Context(), "wx1"); err != nil {
					t.Errorf("Forget: %v", err)
				}
			}
			if left := keysOf(t, s, "wx1"); len(left) > 0 {
				t.Errorf("left of wx1: %q, want nothing", left)
			}
		})
	}
}

// keepHistory writes, reads and rolls up the calls of wx1.
func keepHistory(t *testing.T, s *store.Store) {
	t.Helper()
	kept := history.NewRedis(s.Redis(), s.Prefix(), "gw000001")
	now := time.Now()
	r := history.New(history.Options{Store: kept, Gateway: "gw000001", Now: func() time.Time { return now }})
	r.Add(history.Event{App: "wx1", Rule: "a", Outcome: history.Outcome{Kind: history.Passed}, At: now.AddDate(0, 0, -1)})
	r.Add(history.Event{App: "wx1", Rule: "a", Outcome: history.Outcome{Kind: history.Passed}, At: now})
	if err := r.Flush(t.Context()); err != nil {
		t.Errorf("Flush: %v", err)
	}
	day := history.Day{App: "wx1", Day: now.UTC().AddDate(0, 0, -1).Format("20060102")}
	for range 2 { // the second time the script is known
		if err := kept.Roll(t.Context(), day, func([]history.Part) []byte { return []byte("x") }); err != nil {
			t.Errorf("Roll: %v", err)
		}
	}
	if _, err := r.Rates(t.Context(), []string{"wx1"}); err != nil {
		t.Errorf("Rates: %v", err)
	}
	q := history.Query{Apps: []string{"wx1"}, From: now.AddDate(0, 0, -2), To: now.Add(time.Second), Step: history.ByHour}
	if lines, err := r.History(t.Context(), q); err != nil || len(lines) != 2 {
		t.Errorf("History = %+v, %v, want two hours", lines, err)
	}
}

// A user who may touch other keys only is told so at start, not at the first call.
func TestKeyPatternThatDoesNotFit(t *testing.T) {
	server := redistest.Start(t)
	o := restrictedRedis(t)
	restrict(t, server)
	o.URL, o.Prefix = "redis://wxproxy@"+server.Addr, "other"
	_, err := store.Open(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "EVAL, which every count needs: NOPERM") {
		t.Errorf("Open = %v, want NOPERM", err)
	}
	server.Client(t).Do(t.Context(), "ACL", "LOG", "RESET")
}

// Keys of pace as they were named until 2026-12 are forgotten, too, where the user may touch them.
func TestForgetPace(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, store.Options{URL: server.URL()})
	ctx := t.Context()
	counters := limits.NewRedis(s.Redis(), s.Prefix(), "gw000001")
	if _, err := counters.Pace(ctx, "wx1", "a", limits.Pace{Rate: 1, Per: time.Minute, Burst: 1}, 1); err != nil {
		t.Fatal(err)
	}
	keep := []string{"rate:" + s.Prefix() + "{wx12}:pace:a", s.Prefix() + "{wx12}:pace:a", "x" + s.Prefix() + "{wx1}:pace:a", "rate:x" + s.Prefix() + "{wx1}:pace:a"}
	old := "rate:" + s.Prefix() + "{wx1}:pace:a"
	for _, key := range append(keep, old) {
		if err := s.Redis().Set(ctx, key, 1, time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Forget(ctx, "wx1"); err != nil {
		t.Fatal(err)
	}
	if left := keysOf(t, s, "wx1"); len(left) > 0 || s.Redis().Exists(ctx, old).Val() != 0 {
		t.Errorf("left of wx1: %q, and %s is there: %d, want nothing", left, old, s.Redis().Exists(ctx, old).Val())
	}
	if n := s.Redis().Exists(ctx, keep...).Val(); n != int64(len(keep)) {
		t.Errorf("%d of %d keys of others are left", n, len(keep))
	}

	if err := s.Redis().Set(ctx, old, 1, time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	set(t, s, "wx1", "token", "1", 0)
	restrict(t, server)
	limited := open(t, store.Options{URL: "redis://wxproxy@" + server.Addr, Password: "hunter2"})
	if err := limited.Forget(ctx, "wx1"); err != nil {
		t.Errorf("Forget by a user who may not touch the old key = %v, want no error", err)
	}
	wantValue(t, s, "wx1", "token", "")
	server.Client(t).Do(ctx, "ACL", "LOG", "RESET")
}

// Nothing that the store runs is a script without a key.
func TestNoScriptWithoutAKey(t *testing.T) {
	server := redistest.Start(t)
	// Not go-redis's Monitor, which gives the connection back while it reads on.
	monitor, err := net.Dial("tcp", server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer monitor.Close()
	if _, err := io.WriteString(monitor, "MONITOR\r\n"); err != nil {
		t.Fatal(err)
	}
	seen := bufio.NewScanner(monitor)
	if !seen.Scan() || seen.Text() != "+OK" {
		t.Fatalf("MONITOR = %q, %v", seen.Text(), seen.Err())
	}
	ctx := t.Context()
	s := open(t, store.Options{URL: server.URL()})
	if _, err := s.Lease(ctx, "wx1", "token", "a", time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := s.Redis().Set(ctx, "last", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	var scripts int
	for seen.Scan() {
		line := seen.Text()
		if strings.Contains(strings.ToLower(line), `"eval`) {
			scripts++
			if strings.Contains(line, `" "0"`) {
				t.Errorf("a script without a key: %s", line)
			}
		}
		if strings.Contains(line, `"last"`) {
			break
		}
	}
	if scripts < 2 {
		t.Errorf("%d scripts seen, want that of the start and that of the lease", scripts)
	}
}

// The manuals give the line that is tested here.
func TestACLInTheManuals(t *testing.T) {
	for _, name := range []string{"../README.md", "../README.zh-CN.md"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "\n"+store.ACL+"\n") {
			t.Errorf("%s: want the line %q", name, store.ACL)
		}
	}
}
