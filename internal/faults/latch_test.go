package faults

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wxproxy/internal/redistest"
	"wxproxy/limits"
	"wxproxy/sandbox"
)

// A clear that is granted through one gateway opens the latched rule on every gateway within a
// second, and explain reports the same verdict as a call. The new generation is used up exactly:
// WeChat's own count never passes the quota.
func TestClearOpensEveryGateway(t *testing.T) {
	t.Parallel()
	const quota, few, many = 1000, 12, 900
	f := newFleet(t, setup{
		gateways: 2,
		rules:    []rule{{"send", sendPath, fmt.Sprint(quota, "/day"), ""}},
		wechat:   sandbox.Options{Quotas: map[string]int64{sendPath: quota}},
	})
	a, b := f.gateways[0], f.gateways[1]
	send := call{path: sendPath}
	f.watched(t, 0, "send", sendPath, func() {
		f.fire(t.Context(), load{call: send, callers: 4, calls: few, only: []*process{a}})
		f.fire(t.Context(), load{call: send, callers: 16, calls: many, only: []*process{b}})
		f.wechat.AddUsed(appid(0), sendPath, quota-few-many) // calls around the gateways
		if said := f.hear(t.Context(), b, send); said != "pass 45009" {
			t.Fatalf("past WeChat's quota a call is answered %s", said)
		}
		for i, p := range f.gateways {
			within(t, time.Second, fmt.Sprint("gateway ", i, " is closed"), func() bool { return f.hear(t.Context(), p, send) != passed })
			within(t, time.Second, fmt.Sprint("explain of gateway ", i, " reports it"), func() bool {
				return strings.HasPrefix(f.explains(t, p, 0, sendPath), "refused-")
			})
		}
	})
	sent := f.wechat.Calls(appid(0), sendPath)
	if sent > f.executed(0, sendPath)+4 {
		t.Errorf("WeChat has refused %d calls, want at most 2 of each gateway", sent-f.executed(0, sendPath))
	}

	time.Sleep(1500 * time.Millisecond)       // at rest: nothing is carried over the clear
	f.wechat.SetQuota(appid(0), sendPath, -1) // from here on only the gateways stop calls
	inVain := sent - f.executed(0, sendPath)  // none is added below
	if n := f.wechat.Used(appid(0), sendPath); n != quota {
		t.Fatalf("WeChat has counted %d calls before the clear, want %d: the test has tested nothing", n, quota)
	}
	f.clear(t, a, 0)
	for i, p := range f.gateways {
		within(t, time.Second, fmt.Sprint("gateway ", i, " is open after the clear"), func() bool { return f.hear(t.Context(), p, send) == passed })
		if words := f.explains(t, p, 0, sendPath); !strings.HasPrefix(words, "pass") {
			t.Errorf("gateway %d lets a call pass, and explain reports %q", i, words)
		}
	}
	f.drainCleared(t, 0, "send", sendPath, quota)
	if n := f.wechat.Calls(appid(0), sendPath) - f.executed(0, sendPath); n != inVain {
		t.Errorf("WeChat has refused %d calls since the clear", n-inVain)
	}
}

// drainCleared calls until the quota is used up in WeChat's count since its last clear, and a second
// longer. The quota must be used up exactly, and counted so by every gateway.
func (f *fleet) drainCleared(t *testing.T, app int, name, path string, quota int64) {
	t.Helper()
	answers := make(map[string]int)
	more := func(calls int) {
		for said, n := range f.fire(t.Context(), load{call: call{app: app, path: path}, callers: 16, calls: calls}).of {
			answers[said] += n
		}
	}
	left := func() int { return int(quota - f.wechat.Used(appid(app), path)) }
	for try := 0; left() > 0 && try < 20; try++ { // on a busy machine the store has no time for some
		more(left())
	}
	time.Sleep(1100 * time.Millisecond)
	more(100)
	used := f.wechat.Used(appid(app), path)
	t.Logf("%s: WeChat has counted %d of %d since the clear; answers %v", name, used, quota, answers)
	delete(answers, passed)
	delete(answers, noStore)
	if used != quota || answers[full] == 0 || len(answers) != 1 {
		t.Errorf("%s: WeChat has counted %d since the clear, want %d; other answers than %s: %v", name, used, quota, passed, answers)
	}
	for i, p := range f.gateways {
		within(t, time.Second, fmt.Sprintf("gateway %d has counted %d of %s", i, quota, name), func() bool { return f.used(t, p, app, name) == quota })
	}
}

// movable is a Redis, WeChat and gateways inside the test that share one clock, which the test moves.
type movable struct {
	redis *redistest.Server
	judge *judge
	nodes []*node

	ahead atomic.Int64
}

func (m *movable) now() time.Time { return time.Now().Add(time.Duration(m.ahead.Load())) }

// move moves the clock forward.
func (m *movable) move(by time.Duration) {
	ahead := m.ahead.Load() + int64(by)
	m.redis.Move(time.Duration(ahead))
	m.ahead.Store(ahead)
}

// newMovable starts gateways with quotas by path.
func newMovable(t *testing.T, gateways int, quotas map[string][]string) *movable {
	t.Helper()
	m := &movable{redis: redistest.StartMovable(t)}
	zone := location(t, noon())
	m.judge = newJudge(t, sandbox.Options{Zone: zone, Now: m.now})
	set := rules(t, zone, quotas)
	for range gateways {
		m.nodes = append(m.nodes, newNode(t, m.judge, counters(t, m.redis.Addr), m.now, set))
	}
	return m
}

// A gateway that opens a latched counter knows only its own figures of some minutes ago. The count
// goes on from where the store has it: a lift lowers no count, and forgets no call of another
// gateway. WeChat's 45009 lasts for one call, as a minute's limit does, or for half an hour.
func TestLiftLowersNoCount(t *testing.T) {
	t.Parallel()
	for _, closed := range []time.Duration{0, 30 * time.Minute} {
		t.Run(fmt.Sprint(closed), func(t *testing.T) {
			t.Parallel()
			const quota, few, many, step = 1000, 12, 900, 30 * time.Second
			m := newMovable(t, 2, map[string][]string{groupsPath: {fmt.Sprint(quota, "/day")}})
			direct := m.redis.Client(t)
			a, b := m.nodes[0], m.nodes[1]
			var last int64
			counted := func(when string) {
				t.Helper()
				var n int64
				for _, used := range windows(t, direct, app, "groups", "d") {
					n += used
				}
				if executed := m.judge.Executed(app, groupsPath); n < last || n < executed {
					t.Errorf("%s: counted %d after %d, WeChat has executed %d", when, n, last, executed)
				}
				last = n
			}
			// opens calls one gateway until WeChat executes a call of it.
			opens := func(name string, n *node) {
				t.Helper()
				for waited := time.Duration(0); waited <= 11*time.Minute; waited += step {
					verdict, _, errcode := n.call(t.Context(), groupsPath)
					counted(name + " called again")
					if verdict == limits.Pass && errcode == 0 {
						t.Logf("%s is open after %s, counted %d", name, waited, last)
						return
					}
					m.move(step)
				}
				t.Fatalf("%s is not open 11 minutes after WeChat takes calls", name)
			}

			a.spend(t, few)
			reached := m.judge.Order(sandbox.Fault{Path: groupsPath, ErrCode: 45009, Times: -1})
			if verdict, _, errcode := a.call(t.Context(), groupsPath); verdict != limits.Pass || errcode != 45009 {
				t.Fatalf("a call that WeChat refuses: %s, errcode %d", verdict, errcode)
			}
			waitFor(t, "the latch in the store", func() bool { return latchedIn(t, b) })
			for waited := time.Duration(0); waited < closed; waited += step {
				m.move(step)
				for _, n := range m.nodes {
					if verdict, _, errcode := n.call(t.Context(), groupsPath); verdict == limits.Pass && errcode == 0 {
						t.Fatalf("%s later a call was executed: the fault has not fired", waited)
					}
				}
				counted("latched")
			}
			t.Logf("WeChat has refused %d calls", reached.Fired())
			if most := 1 + len(m.nodes)*(3+int(closed/(5*time.Minute))); reached.Fired() == 0 || reached.Fired() > most {
				t.Errorf("WeChat has refused %d calls in %s, want 1 to %d", reached.Fired(), closed, most)
			}
			reached.Cancel()

			opens("b", b)
			b.spend(t, many)
			counted("b has used most of the quota")
			if last < few+many {
				t.Fatalf("counted %d: the test has tested nothing", last)
			}
			opens("a", a)
			drained(t, m, groupsPath, quota)
			counted("used up")
		})
	}
}

// latchedIn reports whether a gateway finds the one counter of the test latched.
func latchedIn(t *testing.T, n *node) bool {
	t.Helper()
	lines, err := n.limiter.Usage(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(lines, func(u limits.Usage) bool { return u.Latched })
}

// drained calls every gateway in turn until all refuse, and a second longer. WeChat's count must not
// be over the quota.
func drained(t *testing.T, m *movable, path string, quota int64) {
	t.Helper()
	for range 2 {
		for refused := 0; refused < 2*len(m.nodes); {
			n := m.nodes[refused%len(m.nodes)]
			switch verdict, _, errcode := n.call(t.Context(), path); {
			case verdict == limits.RefusedQuota:
				refused++
			case verdict != limits.Pass || errcode != 0:
				t.Fatalf("%s, errcode %d, with no fault left", verdict, errcode)
			case m.judge.Used(app, path) > quota:
				t.Fatalf("WeChat has counted %d of %d", m.judge.Used(app, path), quota)
			}
		}
		time.Sleep(1100 * time.Millisecond)
	}
	used := m.judge.Used(app, path)
	t.Logf("WeChat has counted %d of %d", used, quota)
	var counted int64
	for _, n := range windows(t, m.redis.Client(t), app, nameOf(path), "d") {
		counted += n
	}
	if counted < used {
		t.Errorf("counted %d, WeChat %d", counted, used)
	}
}

// Two gateways are latched, probe in turn, and a clear is granted through one of them. Both are open
// within a second of it, and what they use up together is the quota.
func TestLatchProbeClear(t *testing.T) {
	t.Parallel()
	const quota, step = 1000, 30 * time.Second
	m := newMovable(t, 2, map[string][]string{groupsPath: {fmt.Sprint(quota, "/day")}, clearPath: {"10/month"}})
	a, b := m.nodes[0], m.nodes[1]
	a.spend(t, 12)
	b.spend(t, 900)
	reached := m.judge.Order(sandbox.Fault{Path: groupsPath, ErrCode: 45009, Times: -1})
	// refuses calls gateways every half minute, and returns how many of the calls WeChat has refused.
	refuses := func(span time.Duration, gateways ...*node) int {
		before := reached.Fired()
		for waited := time.Duration(0); waited < span; waited += step {
			for _, n := range gateways {
				if verdict, _, errcode := n.call(t.Context(), groupsPath); verdict == limits.Pass && errcode == 0 {
					t.Fatal("a call was executed: the fault has not fired")
				}
			}
			m.move(step)
		}
		return reached.Fired() - before
	}
	sent := []int{refuses(10*time.Minute, a, b)}
	for range 2 {
		sent = append(sent, refuses(6*time.Minute, a), refuses(6*time.Minute, b))
	}
	t.Logf("calls that WeChat has refused: in ten minutes of both gateways, then in six of each: %v", sent)
	if sent[0] < 1 || sent[0] > 10 || slices.Min(sent[1:]) < 1 || slices.Max(sent[1:]) > 2 {
		t.Errorf("calls that WeChat has refused: %v, want 1 to 10, then 1 or 2 of each gateway in turn", sent)
	}
	time.Sleep(1500 * time.Millisecond) // at rest: nothing is carried over the clear
	reached.Cancel()
	a.clear(t)
	for i, n := range m.nodes {
		within(t, time.Second, fmt.Sprint("gateway ", i, " is open after the clear"), func() bool {
			verdict, _, errcode := n.call(t.Context(), groupsPath)
			return verdict == limits.Pass && errcode == 0
		})
	}
	drained(t, m, groupsPath, quota)
	if used := m.judge.Used(app, groupsPath); used != quota {
		t.Errorf("WeChat has counted %d since the clear, want %d", used, quota)
	}
}
