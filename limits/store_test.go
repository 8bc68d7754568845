package limits

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"wxproxy/internal/redistest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// stand is a store under test and a way to open further gateways on it.
type stand struct {
	name  string
	fleet bool // several gateways may share it
	open  func(t *testing.T) Counters
}

// stands returns every kind of store. Each passes the whole suite.
func stands(t *testing.T) []stand {
	t.Helper()
	return []stand{
		{name: "redis", fleet: true, open: patientStand(redistest.Start(t))},
		{name: "bolt", open: boltStand(openBolt(t, filepath.Join(t.TempDir(), "wxproxy.db")), time.Now)},
	}
}

var gateways atomic.Int64

func redisStand(server *redistest.Server) func(t *testing.T) Counters {
	return func(t *testing.T) Counters {
		t.Helper()
		client := redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1, ContextTimeoutEnabled: true})
		t.Cleanup(func() { _ = client.Close() })
		return NewRedis(client, "wxp:00000000:", fmt.Sprintf("gw%04d", gateways.Add(1)))
	}
}

// patientStand is redisStand for tests of anything but time: a machine that is busy with other tests
// is no outage.
func patientStand(server *redistest.Server) func(t *testing.T) Counters {
	open := redisStand(server)
	return func(t *testing.T) Counters {
		t.Helper()
		s := open(t).(*Redis)
		s.client.attempt, s.patience = 5*time.Second, 10*time.Second
		return s
	}
}

// boltStand opens the store anew each time, as a restart after a clean stop does.
func boltStand(db *bbolt.DB, now func() time.Time) func(t *testing.T) Counters {
	var last *Bolt
	return func(t *testing.T) Counters {
		t.Helper()
		if last != nil {
			if err := last.Close(); err != nil {
				t.Errorf("Close() = %v", err)
			}
		}
		s := NewBolt(db, "wxp", now)
		last = s
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Errorf("Close() = %v", err)
			}
		})
		return s
	}
}

func openBolt(t *testing.T, file string) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func shanghai(t *testing.T) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// rules returns a ruleset of rules, in Asia/Shanghai.
func rules(t *testing.T, rs ...*Rule) *Ruleset {
	t.Helper()
	table := &Table{Zone: shanghai(t), Profiles: map[string]*Profile{"p": {Name: "p", Rules: rs}}}
	set, err := table.Rules("p", nil)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func rule(name, path string, quotas ...string) *Rule {
	budget, err := ParseBudget(quotas...)
	if err != nil {
		panic(err)
	}
	return &Rule{Name: name, Paths: []string{path}, Budget: budget}
}

// gateway returns a limiter on counters that is closed with the test.
func gateway(t *testing.T, counters Counters, apps map[string]*Ruleset) *Limiter {
	t.Helper()
	l := New(Options{Counters: counters})
	l.Configure(apps, nil)
	t.Cleanup(func() { closeLimiter(t, l) })
	return l
}

func closeLimiter(t *testing.T, l *Limiter) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Errorf("Close() = %v", err)
	}
}

// taken is a call with what became of it.
type taken struct {
	Decision
	Hold
}

func take(t *testing.T, l *Limiter, app, path string) *taken {
	t.Helper()
	return takeAs(t, l, app, "", path)
}

func takeAs(t *testing.T, l *Limiter, app, caller, path string) *taken {
	t.Helper()
	return takeWith(t.Context(), l, app, caller, path)
}

func takeWith(ctx context.Context, l *Limiter, app, caller, path string) *taken {
	d, hold := l.Take(ctx, Call{App: app, Caller: caller, Match: l.Rules(app).Match(path)})
	return &taken{d, hold}
}

// used returns what a counter's usage line of the day says.
func used(t *testing.T, l *Limiter, app, counter string) int64 {
	t.Helper()
	return usage(t, l, app, counter, Day).Used
}

func usage(t *testing.T, l *Limiter, app, counter string, p Period) Usage {
	t.Helper()
	lines, err := l.Usage(t.Context(), app)
	if err != nil {
		t.Fatalf("Usage(%q) = %v", app, err)
	}
	for _, u := range lines {
		if u.Counter != counter || u.Period != p {
			continue
		}
		if !strings.Contains(counter, "@") && p == Day {
			alone, err := l.Today(t.Context(), app, counter)
			if diff := cmp.Diff(u, alone, cmp.Comparer(func(a, b *Rule) bool { return a == b })); err != nil || diff != "" {
				t.Errorf("Today(%q, %q) = %v (-as Usage says +got):\n%s", app, counter, err, diff)
			}
		}
		return u
	}
	return Usage{}
}

// eventually polls until got() is want, for at most five seconds.
func eventually(t *testing.T, what string, want int64, got func() int64) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for got() != want {
		if time.Now().After(deadline) {
			t.Fatalf("%s = %d, want %d", what, got(), want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestExactUnderConcurrency(t *testing.T) {
	for _, s := range stands(t) {
		for _, n := range []int64{1, 10, 100, 2000} {
			t.Run(fmt.Sprintf("%s/%d", s.name, n), func(t *testing.T) {
				app := fmt.Sprintf("wx%d", n)
				apps := map[string]*Ruleset{app: rules(t, rule("menu.create", "/cgi-bin/menu/create", fmt.Sprintf("%d/day", n)))}
				ls := []*Limiter{gateway(t, s.open(t), apps)}
				for s.fleet && len(ls) < 3 {
					ls = append(ls, gateway(t, s.open(t), apps))
				}
				var sent, refused, other atomic.Int64
				var wg sync.WaitGroup
				calls := 2*n + 128
				var next atomic.Int64
				for i := range 64 {
					wg.Go(func() {
						for next.Add(1) <= calls {
							d := take(t, ls[i%len(ls)], app, "/cgi-bin/menu/create")
							switch d.Verdict {
							case Pass:
								sent.Add(1)
								d.Done(0)
							case RefusedQuota:
								refused.Add(1)
								if d.Used != n || d.Remaining != 0 || d.Quota != n {
									t.Errorf("refused at used %d, remaining %d of %d, want %d, 0 of %d", d.Used, d.Remaining, d.Quota, n, n)
								}
							default:
								other.Add(1)
								t.Errorf("verdict = %s", d.Verdict)
							}
						}
					})
				}
				wg.Wait()
				if sent.Load() != n || refused.Load() != calls-n {
					t.Errorf("sent %d, refused %d, other %d of %d calls, want %d and %d", sent.Load(), refused.Load(), other.Load(), calls, n, calls-n)
				}
				if got := used(t, ls[0], app, "menu.create"); got != n {
					t.Errorf("counted %d, want %d", got, n)
				}
			})
		}
	}
}

func TestAppsAndRulesDoNotDisturbEachOther(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			set := rules(t, rule("a", "/cgi-bin/a", "2/day"), rule("b", "/cgi-bin/b", "3/day"))
			l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": set, "wx2": set})
			for range 4 {
				for _, app := range []string{"wx1", "wx2"} {
					for _, path := range []string{"/cgi-bin/a", "/cgi-bin/b"} {
						d := take(t, l, app, path)
						d.Done(0)
					}
				}
			}
			for _, app := range []string{"wx1", "wx2"} {
				if a, b := used(t, l, app, "a"), used(t, l, app, "b"); a != 2 || b != 3 {
					t.Errorf("%s: a used %d, b used %d, want 2 and 3", app, a, b)
				}
			}
		})
	}
}

func TestGiveBack(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": rules(t, rule("a", "/cgi-bin/a", "1/day"))})
			first := take(t, l, "wx1", "/cgi-bin/a")
			if got := take(t, l, "wx1", "/cgi-bin/a"); got.Verdict != RefusedQuota {
				t.Fatalf("second call: %s, want refused-quota", got.Verdict)
			}
			first.GiveBack()
			first.GiveBack() // a second time changes nothing
			again := take(t, l, "wx1", "/cgi-bin/a")
			if again.Verdict != Pass || again.Used != 1 || again.Remaining != 0 {
				t.Errorf("after a give-back: %s, used %d, remaining %d, want pass, 1, 0", again.Verdict, again.Used, again.Remaining)
			}
			again.Done(0)
			again.Done(0)
			eventually(t, "used", 1, func() int64 { return used(t, l, "wx1", "a") })
		})
	}
}

func TestAppsThatAreNotConfigured(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": rules(t, rule("a", "/cgi-bin/a", "2/day"))})
			if l.Rules("wx2") != nil || l.Family("/sns/x") {
				t.Fatal("an app that nobody has said anything of has rules")
			}
			l.Configure(map[string]*Ruleset{"wx1": l.Rules("wx1")}, rules(t, rule("a", "/cgi-bin/a", "1/day"), rule("s", "/sns/x", "unknown")))
			sent := map[string]int{}
			for range 3 {
				for _, app := range []string{"wx1", "wx2", "wx3"} {
					d := take(t, l, app, "/cgi-bin/a")
					if d.Verdict == Pass {
						sent[app]++
						d.Done(0)
					}
				}
			}
			if sent["wx1"] != 2 || sent["wx2"] != 1 || sent["wx3"] != 1 || !l.Family("/sns/x") {
				t.Errorf("sent %v, want 2 of wx1 by its own table, 1 each of the others", sent)
			}
			if got := strings.Join(l.Seen(), " "); got != "wx1 wx2 wx3" {
				t.Errorf("Seen() = %s, want all three", got)
			}
		})
	}
}

// TestSpellingOfCounters: the names of counters are in lower case, and WeChat knows some paths only as it
// spells them itself.
func TestSpellingOfCounters(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": rules(t, rule("other", "/new/*", "unknown"))})
			take(t, l, "wx1", "/new/Camel/Case/").Done(0)
			take(t, l, "wx1", "/new/camel/case").Done(0)
			for counter, want := range map[string]string{
				"other:/new/camel/case":      "/new/Camel/Case",
				"other:/new/never/called":    "/new/never/called",
				"other:/retail/b2b/getorder": "/retail/B2b/getorder",
			} {
				if got := l.Spelling("wx1", counter); got != want {
					t.Errorf("Spelling(%q) = %q, want %q", counter, got, want)
				}
			}
		})
	}
}

// TestMadeUpPathsAreBounded: in families that no table names, as in the others.
func TestMadeUpPathsAreBounded(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": rules(t, rule("a", "/cgi-bin/a", "1/day"))})
			for i := range 2 * maxPaths {
				take(t, l, "wx1", fmt.Sprintf("/made%d/up", i)).Done(0)
			}
			if n := len(l.registry.of("wx1")); n != maxPaths+1 {
				t.Errorf("%d counters of made-up paths, want %d and the one that the rest share", n, maxPaths)
			}
		})
	}
}

func TestRulesWithoutAFigureCountAndNeverRefuse(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": rules(t,
				rule("unknown", "/cgi-bin/unknown", "unknown"),
				rule("unlimited", "/cgi-bin/unlimited", "unlimited"),
				rule("denied", "/cgi-bin/denied", "denied"),
			)})
			for range 50 {
				for _, path := range []string{"/cgi-bin/unknown", "/cgi-bin/unlimited"} {
					d := take(t, l, "wx1", path)
					if d.Verdict != Pass || d.Quota != 0 {
						t.Fatalf("Take(%s) = %s of %d, want pass of 0", path, d.Verdict, d.Quota)
					}
					d.Done(0)
				}
				if d := take(t, l, "wx1", "/cgi-bin/denied"); d.Verdict != RefusedDenied {
					t.Fatalf("Take(denied) = %s, want refused-denied", d.Verdict)
				}
			}
			for _, name := range []string{"unknown", "unlimited"} {
				if got := used(t, l, "wx1", name); got != 50 {
					t.Errorf("%s: used %d, want 50", name, got)
				}
			}
			closeLimiter(t, l) // states what is unsaid
			other := gateway(t, s.open(t), map[string]*Ruleset{"wx1": l.Rules("wx1")})
			if got := used(t, other, "wx1", "unknown"); got != 50 {
				t.Errorf("seen by another gateway: used %d, want 50", got)
			}
		})
	}
}

func TestDayAndMonthTogether(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": rules(t, rule("a", "/cgi-bin/a", "5/day", "3/month"))})
			var sent int
			for range 6 {
				d := take(t, l, "wx1", "/cgi-bin/a")
				if d.Verdict == Pass {
					sent++
					d.Done(0)
				} else if d.Quota != 3 || d.Reset > 31*24*time.Hour {
					t.Errorf("refused by the quota of %d for %s, want the month's of 3", d.Quota, d.Reset)
				}
			}
			day, month := usage(t, l, "wx1", "a", Day), usage(t, l, "wx1", "a", Month)
			if sent != 3 || day.Used != 3 || month.Used != 3 {
				t.Errorf("sent %d, day %d, month %d, want 3 each: a refused call is counted nowhere", sent, day.Used, month.Used)
			}
		})
	}
}

func TestShares(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			r := rule("a", "/cgi-bin/a", "5/day")
			r.Shares = map[string]Budget{"crm": {Kind: Limited, Quotas: []Quota{{Limit: 2, Period: Day}}}}
			l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": rules(t, r)})
			var got [2]int
			for range 6 {
				for i, caller := range []string{"crm", "web"} {
					d := takeAs(t, l, "wx1", caller, "/cgi-bin/a")
					switch {
					case d.Verdict == Pass:
						got[i]++
						d.Done(0)
					case caller == "crm" && got[0] == 2 && got[1] < 3 && d.Verdict != RefusedShare:
						t.Errorf("crm past its share: %s, want refused-share", d.Verdict)
					case caller == "web" && d.Verdict != RefusedQuota:
						t.Errorf("web past the quota: %s, want refused-quota", d.Verdict)
					}
				}
			}
			if got != [2]int{2, 3} || used(t, l, "wx1", "a") != 5 {
				t.Errorf("crm sent %d, web %d, counted %d, want 2, 3 and 5", got[0], got[1], used(t, l, "wx1", "a"))
			}
			if share := usage(t, l, "wx1", "a@crm", Day); share.Used != 2 || share.Limit != 2 || share.Remaining != 0 {
				t.Errorf("usage of crm's share = %+v, want 2 of 2", share)
			}
		})
	}
}

func TestShadowSendsAndTells(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			r := rule("a", "/cgi-bin/a", "3/day")
			r.Shadow = true
			l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": rules(t, r)})
			counts := map[Verdict]int{}
			for range 10 {
				d := take(t, l, "wx1", "/cgi-bin/a")
				counts[d.Verdict]++
				d.Done(0)
			}
			if counts[Pass] != 3 || counts[Shadow] != 7 {
				t.Errorf("verdicts = %v, want 3 pass and 7 shadow", counts)
			}
			eventually(t, "used", 10, func() int64 { return used(t, l, "wx1", "a") })
		})
	}
}

func TestPace(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			r := rule("a", "/cgi-bin/a", "1000/day")
			r.Pace = Pace{Rate: 2, Per: time.Minute, Burst: 3}
			l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": rules(t, r)})
			var sent int
			for range 10 {
				d := take(t, l, "wx1", "/cgi-bin/a")
				if d.Verdict == Pass {
					sent++
					d.Done(0)
				} else if d.Verdict != RefusedPace || d.RetryAfter < time.Second || d.RetryAfter > time.Minute {
					t.Errorf("over pace: %s, retry after %s, want refused-pace within a minute", d.Verdict, d.RetryAfter)
				}
			}
			if sent != 3 || used(t, l, "wx1", "a") != 3 {
				t.Errorf("sent %d, counted %d, want 3 and 3", sent, used(t, l, "wx1", "a"))
			}
		})
	}
}

func TestPathsInsideAStarAreCountedOneByOne(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": rules(t, rule("other", "/cgi-bin/*", "2/day"))})
			for _, path := range []string{"/cgi-bin/a", "/cgi-bin/A/", "/cgi-bin/b", "/cgi-bin/a"} {
				d := take(t, l, "wx1", path)
				d.Done(0)
			}
			if a, b := used(t, l, "wx1", "other:/cgi-bin/a"), used(t, l, "wx1", "other:/cgi-bin/b"); a != 2 || b != 1 {
				t.Errorf("a used %d, b used %d, want 2 and 1", a, b)
			}
			for i := range maxPaths + 50 {
				d := take(t, l, "wx1", fmt.Sprintf("/cgi-bin/p%d", i))
				d.Done(0)
			}
			if got := len(l.registry.of("wx1")); got != maxPaths+1 {
				t.Errorf("%d counters for paths, want %d and a shared one", got, maxPaths)
			}
		})
	}
}

func TestUnknownPathsAreForgotten(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": rules(t, rule("other", "/cgi-bin/*", "unknown"))})
			for i := range 3 * maxPaths {
				d := take(t, l, "wx1", fmt.Sprintf("/cgi-bin/guess%d", i))
				d.Done(errcodeInvalidURL)
			}
			d := take(t, l, "wx1", "/cgi-bin/real")
			d.Done(0)
			if d.Counter != "other:/cgi-bin/real" {
				t.Errorf("after %d guesses a real path is counted as %q, want its own counter", 3*maxPaths, d.Counter)
			}
			if got := used(t, l, "wx1", "other:/cgi-bin/real"); got != 1 {
				t.Errorf("used %d, want 1", got)
			}
		})
	}
}

func TestLimitsRaisedAndLoweredByReload(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			set := func(quota string) map[string]*Ruleset {
				return map[string]*Ruleset{"wx1": rules(t, rule("a", "/cgi-bin/a", quota))}
			}
			l := gateway(t, s.open(t), set("2/day"))
			verdicts := func(n int) (sent int) {
				for range n {
					d := take(t, l, "wx1", "/cgi-bin/a")
					if d.Verdict == Pass {
						sent++
						d.Done(0)
					}
				}
				return sent
			}
			if got := verdicts(5); got != 2 {
				t.Fatalf("2/day: sent %d, want 2", got)
			}
			l.Configure(set("5/day"), nil)
			if got := verdicts(5); got != 3 {
				t.Errorf("raised to 5/day at the next call: sent %d more, want 3", got)
			}
			l.Configure(set("3/day"), nil)
			if got := verdicts(3); got != 0 {
				t.Errorf("lowered to 3/day: sent %d more, want 0", got)
			}
			l.Configure(set("6/day"), nil)
			if got := verdicts(3); got != 1 {
				t.Errorf("raised to 6/day: sent %d more, want 1", got)
			}
		})
	}
}

func TestCountsOfTheGatewayItselfAreNeverRefused(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": rules(t, rule("token", "/cgi-bin/token", "2/day"))})
			for range 5 {
				l.Count("wx1", "/cgi-bin/token")
			}
			eventually(t, "used", 5, func() int64 { return used(t, l, "wx1", "token") })
			closeLimiter(t, l)
			if d := take(t, gateway(t, s.open(t), map[string]*Ruleset{"wx1": l.Rules("wx1")}), "wx1", "/cgi-bin/token"); d.Verdict != RefusedQuota {
				t.Errorf("a caller's own fetch past the quota: %s, want refused-quota", d.Verdict)
			}
		})
	}
}

func TestCanceledCallersDoNotCutAGrantShort(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": rules(t, rule("a", "/cgi-bin/a", "3/day"))})
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			d := takeWith(ctx, l, "wx1", "", "/cgi-bin/a")
			if d.Verdict != Pass {
				t.Errorf("verdict = %s, want pass", d.Verdict)
			}
			d.Done(0)
		})
	}
}

// TestPeek: what Take decides, without counting.
func TestPeek(t *testing.T) {
	budget := func(text string) Budget {
		b, err := ParseBudget(text)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	shared := rule("shared", "/cgi-bin/shared", "3/day")
	shared.Shares = map[string]Budget{"crm": budget("1/day")}
	paced := rule("paced", "/cgi-bin/paced", "unknown")
	paced.Pace = Pace{Rate: 2, Per: time.Minute, Burst: 2}
	shadow := rule("shadow", "/cgi-bin/shadow", "1/day")
	shadow.Shadow = true
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": rules(t,
				rule("a", "/cgi-bin/a", "2/day"), rule("both", "/cgi-bin/both", "9/day", "2/month"), rule("denied", "/cgi-bin/denied", "denied"),
				shared, paced, shadow, rule("other", "/cgi-bin/*", "unknown"),
			)})
			for _, tt := range []struct {
				path, caller string
				calls        int
			}{
				{"/cgi-bin/a", "", 4},
				{"/cgi-bin/both", "", 3},
				{"/cgi-bin/denied", "", 1},
				{"/cgi-bin/shared", "crm", 2},
				{"/cgi-bin/shared", "", 3},
				{"/cgi-bin/paced", "", 4},
				{"/cgi-bin/shadow", "", 3},
				{"/cgi-bin/new", "", 2},
				{"/new/family", "", 2},
			} {
				for i := range tt.calls {
					call := Call{App: "wx1", Caller: tt.caller, Match: l.Rules("wx1").Match(tt.path)}
					if _, err := l.Peek(t.Context(), call); err != nil { // it takes nothing
						t.Fatal(err)
					}
					peeked, err := l.Peek(t.Context(), call)
					if err != nil {
						t.Fatal(err)
					}
					d := takeAs(t, l, "wx1", tt.caller, tt.path)
					if peeked.Verdict != d.Verdict || peeked.Quota != d.Quota {
						t.Errorf("call %d of %s as %q: Peek = %s of %d, Take = %s of %d", i+1, tt.path, tt.caller, peeked.Verdict, peeked.Quota, d.Verdict, d.Quota)
					}
					if d.Verdict.Sent() {
						d.Done(0)
					}
				}
			}
			d := takeAs(t, l, "wx1", "", "/cgi-bin/new")
			d.Done(45009)
			peeked, err := l.Peek(t.Context(), Call{App: "wx1", Match: l.Rules("wx1").Match("/cgi-bin/new")})
			if err != nil || peeked.Verdict != RefusedLatched {
				t.Errorf("Peek of a latched path = %s (%v), want refused-latched", peeked.Verdict, err)
			}
		})
	}
}
