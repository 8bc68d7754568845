package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"wxproxy/internal/redistest"
	"wxproxy/limits"
	"wxproxy/sandbox"
)

// F4: Redis is stopped for half a minute. No call takes longer than 400 ms more than WeChat does; a
// small quota hears -1; a rule without a figure goes on; a large quota goes on within each gateway's
// share of what was left. Two seconds after Redis runs on everything does.
func TestF4(t *testing.T) {
	t.Parallel() // it waits for most of its time
	const small, large, gateways = 300, 3000, 3
	f := newFleet(t, setup{gateways: gateways, rules: []rule{
		{"small", sendPath, fmt.Sprint(small, "/day"), ""},
		{"large", textPath, fmt.Sprint(large, "/day"), ""},
		{"open", menuPath, "unknown", ""},
	}})
	// Gateways trust how many they are after 20 seconds, also when the store has forgotten it.
	time.Sleep(10500 * time.Millisecond)
	if err := f.direct.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10500 * time.Millisecond)
	for path, n := range map[string]int{sendPath: 60, textPath: 300, menuPath: 30} {
		f.fire(t.Context(), load{call: call{path: path}, callers: 6, calls: n})
	}
	time.Sleep(idle) // no block is open any more
	for _, path := range []string{sendPath, textPath, menuPath} {
		for _, p := range f.gateways { // so that each has heard of what was counted
			if said := f.hear(t.Context(), p, call{path: path}); said != passed {
				t.Fatalf("before the outage %s is answered %s", path, said)
			}
		}
	}
	before := f.executed(0, textPath)
	alones := 0
	opened := f.executed(0, menuPath)

	f.redis.Freeze()
	stop := make(chan struct{})
	time.AfterFunc(30*time.Second, func() { close(stop) })
	var wg sync.WaitGroup
	var got [gateways]map[string]heard
	var mu sync.Mutex
	for i, p := range f.gateways {
		got[i] = make(map[string]heard)
		for _, path := range []string{sendPath, textPath, menuPath} {
			wg.Go(func() {
				pause := 100 * time.Millisecond
				if path == textPath {
					pause = 20 * time.Millisecond // so that each gateway uses up its share
				}
				h := f.fire(t.Context(), load{call: call{path: path}, callers: 2, only: []*process{p}, pause: pause, refused: 100 * time.Millisecond, stop: stop})
				mu.Lock()
				defer mu.Unlock()
				got[i][path] = h
			})
		}
	}
	stall := f.upstream(t, stop)
	wg.Wait()
	for i := range f.gateways {
		for path, h := range got[i] {
			t.Logf("gateway %d, %s: %v", i, path, h)
			if h.slowest > 400*time.Millisecond+stall {
				t.Errorf("gateway %d: a call to %s took %s, want at most 400 ms and the %s that WeChat took", i, path, h.slowest, stall)
			}
		}
		if h := got[i][sendPath]; len(h.of) != 1 || h.of[noStore] == 0 {
			t.Errorf("gateway %d, a small quota: callers heard %v, want only %s", i, h, noStore)
		}
		if h := got[i][menuPath]; len(h.of) != 1 || h.of[passed] == 0 {
			t.Errorf("gateway %d, a rule without a figure: callers heard %v, want only %s", i, h, passed)
		}
		h := got[i][textPath]
		share := (large - int(before) + gateways) / gateways // each had heard all but the last calls of the others
		if sent := h.of[alone] + h.of[passed]; sent > share || sent+h.of[noStore] != h.total() {
			t.Errorf("gateway %d, a large quota: callers heard %v, want at most %d sent", i, h, share)
		}
		alones += h.of[alone]
	}
	if alones == 0 {
		t.Error("no call of a large quota was sent alone")
	}
	if n := f.executed(0, menuPath); n <= opened {
		t.Error("no call of a rule without a figure was executed")
	}

	f.redis.Thaw()
	thawed := time.Now()
	for _, path := range []string{sendPath, textPath} {
		for i, p := range f.gateways {
			waitFor(t, "a call that passes", func() bool {
				said := f.hear(t.Context(), p, call{path: path})
				return said == passed || path == textPath && said == full
			})
			if took := time.Since(thawed); took > 2*time.Second {
				t.Errorf("gateway %d: %s goes on %s after Redis, want within 2 s", i, path, took.Round(time.Millisecond))
			}
		}
	}
	t.Logf("everything goes on %s after Redis", time.Since(thawed).Round(time.Millisecond))
	f.drain(t, 0, "small", sendPath, small)
	f.over = gateways // each share is of what was left before the others' last call and block
	f.drain(t, 0, "large", textPath, large)
	f.atRest(t, 0, "small", sendPath)
	f.atRest(t, 0, "large", textPath)
	for i, p := range f.gateways {
		if down, up := p.logged("store unavailable;"), p.logged("store available again"); down != 1 || up != 1 {
			t.Errorf("gateway %d has logged the outage %d times and its end %d times, want once each", i, down, up)
		}
	}
}

// F4 just after the start: who does not know yet how many share a quota sends nothing alone, or
// three gateways would send what is left three times.
func TestF4JustStarted(t *testing.T) {
	t.Parallel()
	const quota = 3000
	f := newFleet(t, setup{rules: []rule{{"large", textPath, fmt.Sprint(quota, "/day"), ""}}})
	for _, p := range f.gateways {
		if said := f.hear(t.Context(), p, call{path: textPath}); said != passed {
			t.Fatalf("a call is answered %s", said)
		}
	}
	f.redis.Freeze()
	got := f.fire(t.Context(), load{call: call{path: textPath}, callers: 12, calls: 4 * quota})
	f.redis.Thaw()
	t.Logf("callers heard %v", got)
	if executed := f.executed(0, textPath); executed > quota {
		t.Errorf("WeChat executed %d, want at most %d", executed, quota)
	}
	waitFor(t, "the store's end of the outage", func() bool {
		n := 0
		for _, p := range f.gateways {
			n += p.logged("store available again")
		}
		return n == len(f.gateways)
	})
}

// A clean stop while the store is thought to be away still states what was sent meanwhile.
func TestStopJustAfterAnOutage(t *testing.T) {
	const calls = 20
	server := redistest.Start(t)
	relay := relayTo(t, server)
	direct := server.Client(t)
	set := rules(t, location(t, noon()), map[string][]string{groupsPath: {"100/day"}, tagsPath: {"unknown"}})
	n := newNode(t, newJudge(t, sandbox.Options{}), counters(t, relay.Addr()), time.Now, set)
	n.spend(t, 1)
	cut := order(t, relay, Fault{Match: func(Command) bool { return true }, Do: CutBefore, Times: -1})
	for range calls {
		if verdict, _, _ := n.call(t.Context(), groupsPath); verdict != limits.RefusedStore {
			t.Errorf("a quota with the store away: %s", verdict)
		}
		if verdict, _, _ := n.call(t.Context(), tagsPath); verdict != limits.Pass {
			t.Errorf("a rule without a figure with the store away: %s", verdict)
		}
	}
	cut.Cancel() // the store is back, and nobody has asked it yet
	n.close(t)
	for path, want := range map[string]int64{groupsPath: 1, tagsPath: calls} {
		n.countedIs(t, direct, path, want)
		if executed := n.judge.Executed(app, path); executed != want {
			t.Errorf("%s: WeChat executed %d, want %d", path, executed, want)
		}
	}
}

// Redis starts again empty, and one of two gateways reaches it half a second after the other. The
// other takes nothing for a second, so it has heard by then of what was counted.
func TestHoldAfterALoss(t *testing.T) {
	const quota = 10
	server := redistest.Start(t)
	direct := server.Client(t)
	relay := relayTo(t, server)
	j := newJudge(t, sandbox.Options{})
	set := rules(t, location(t, noon()), map[string][]string{groupsPath: {fmt.Sprint(quota, "/day")}})
	late := newNode(t, j, counters(t, relay.Addr()), time.Now, set)
	first := newNode(t, j, counters(t, server.Addr), time.Now, set)
	first.spend(t, 2)
	late.spend(t, 6) // first has not heard of these
	server.Stop()
	cut := order(t, relay, Fault{Match: func(Command) bool { return true }, Do: CutBefore, Times: -1})
	for range 20 {
		for _, n := range []*node{late, first} {
			if verdict, _, _ := n.call(t.Context(), groupsPath); verdict != limits.RefusedStore {
				t.Errorf("with the store away: %s", verdict)
			}
		}
	}
	server.Restart()
	waitFor(t, "the first to restore what it knows", func() bool { return len(windows(t, direct, app, "groups", "d")) > 0 })
	time.AfterFunc(150*time.Millisecond, cut.Cancel)
	waitFor(t, "the quota to be used up", func() bool {
		verdict, _, _ := first.call(t.Context(), groupsPath)
		return verdict == limits.RefusedQuota
	})
	waitFor(t, "the same with the other", func() bool {
		verdict, _, _ := late.call(t.Context(), groupsPath)
		return verdict == limits.RefusedQuota
	})
	if executed := j.Executed(app, groupsPath); executed != quota {
		t.Errorf("WeChat executed %d, want %d", executed, quota)
	}
}

// upstream calls WeChat itself until stop is closed, and returns how long that took at most: the
// time that the machine was busy with something else included.
func (f *fleet) upstream(t *testing.T, stop <-chan struct{}) (slowest time.Duration) {
	t.Helper()
	for last := time.Now(); ; last = time.Now() {
		select {
		case <-stop:
			return slowest
		case <-time.After(10 * time.Millisecond):
		}
		response, err := f.client.Get(f.wechat.URL + menuPath)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		slowest = max(slowest, time.Since(last))
	}
}

// F5: Redis is killed under load and started again with its append-only file: fsynced always, every
// second, and without its end, as after the machine itself has crashed. Nobody who counted has died,
// so nothing is over.
func TestF5(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, fsync string
		torn        bool // the file loses its end
	}{
		{"always", "always", false},
		{"everysec", "everysec", false},
		{"everysec and the end lost", "everysec", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			const small, large = 300, 3000
			f := newFleet(t, setup{
				redis: redistest.Start(t, "--appendonly", "yes", "--appendfsync", test.fsync),
				rules: []rule{
					{"small", sendPath, fmt.Sprint(small, "/day"), ""},
					{"large", textPath, fmt.Sprint(large, "/day"), "on_store_error: refuse"},
				},
			})
			folder := f.direct.ConfigGet(t.Context(), "dir").Val()["dir"]
			var wg sync.WaitGroup
			wg.Go(func() { f.drain(t, 0, "small", sendPath, small) })
			wg.Go(func() { f.drain(t, 0, "large", textPath, large) })
			f.soon(t, 0, sendPath, small/4)
			files := copyFiles(t, filepath.Join(folder, "appendonlydir"))
			kept := f.executed(0, sendPath) + f.executed(0, textPath)
			f.soon(t, 0, sendPath, small/2)
			f.redis.Stop()
			lost := f.executed(0, sendPath) + f.executed(0, textPath) - kept
			if test.torn {
				for name, text := range files {
					writeFile(t, name, text)
				}
				if lost == 0 {
					t.Error("no write was lost: the test has tested nothing")
				}
				t.Logf("about %d calls were counted in the end that is lost", lost)
			}
			time.Sleep(100 * time.Millisecond)
			f.redis.Restart()
			wg.Wait()
			f.settled(t, "small", sendPath, test.torn)
			f.settled(t, "large", textPath, test.torn)
		})
	}
}

// settled compares a counter with what was executed when all is quiet. Where the store has lost
// writes the count may stay above.
func (f *fleet) settled(t *testing.T, counter, path string, lost bool) {
	t.Helper()
	if !lost {
		f.atRest(t, 0, counter, path)
		return
	}
	time.Sleep(idle)
	counted, executed := f.counted(t, 0, counter, "d"), f.executed(0, path)
	t.Logf("%s at rest: counted %d, executed %d", counter, counted, executed)
	if counted < executed {
		t.Errorf("%s at rest: counted %d, executed %d", counter, counted, executed)
	}
}

// copyFiles reads a folder's files, by their paths.
func copyFiles(t *testing.T, folder string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[path] = string(text)
	}
	return files
}

// F6: Redis loses everything in the middle of the day: it is flushed when the quota is used up, under
// load, when gateways that had counted have ended, and it starts again empty. While somebody lives
// who knows nothing is over, and the loss is told within five seconds.
func TestF6(t *testing.T) {
	t.Parallel()
	const small, large = 300, 3000
	begin := func(t *testing.T) *fleet {
		t.Helper()
		return newFleet(t, setup{rules: []rule{
			{"small", sendPath, fmt.Sprint(small, "/day"), ""},
			{"large", textPath, fmt.Sprint(large, "/day"), "on_store_error: refuse"},
		}})
	}
	told := func(t *testing.T, f *fleet, since time.Time) {
		t.Helper()
		waitFor(t, "the loss in a log", func() bool {
			n := 0
			for _, p := range f.gateways {
				n += p.logged("the store has lost counts")
			}
			return n > 0
		})
		if took := time.Since(since); took > 5*time.Second {
			t.Errorf("the loss was told after %s, want within 5 s", took)
		}
	}
	flush := func(t *testing.T, f *fleet) {
		t.Helper()
		if err := f.direct.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("used up", func(t *testing.T) {
		f := begin(t)
		f.drain(t, 0, "small", sendPath, small)
		flush(t, f)
		at := time.Now()
		f.drain(t, 0, "small", sendPath, small)
		told(t, f, at)
		f.settled(t, "small", sendPath, true)
	})

	t.Run("under load", func(t *testing.T) {
		f := begin(t)
		var wg sync.WaitGroup
		wg.Go(func() { f.drain(t, 0, "small", sendPath, small) })
		wg.Go(func() { f.drain(t, 0, "large", textPath, large) })
		f.soon(t, 0, sendPath, small/2)
		flush(t, f)
		told(t, f, time.Now())
		wg.Wait()
		f.settled(t, "small", sendPath, true)
		f.settled(t, "large", textPath, true)
	})

	t.Run("after others have ended", func(t *testing.T) {
		f := begin(t)
		f.fire(t.Context(), load{call: call{path: sendPath}, callers: 12, calls: small / 2})
		f.gateways[0].stop(t)
		f.gateways[1].kill(t)
		f.gateways = f.gateways[2:]
		f.start(t)
		if said := f.hear(t.Context(), f.gateways[0], call{path: sendPath}); said != passed { // it hears of the others' last calls
			t.Fatalf("a call is answered %s", said)
		}
		flush(t, f)
		at := time.Now()
		if said := f.hear(t.Context(), f.gateways[0], call{path: sendPath}); said != passed {
			t.Fatalf("a call is answered %s", said)
		}
		f.drain(t, 0, "small", sendPath, small)
		told(t, f, at)
		f.settled(t, "small", sendPath, true)
	})

	t.Run("restarted empty under load", func(t *testing.T) {
		f := begin(t)
		var wg sync.WaitGroup
		wg.Go(func() { f.drain(t, 0, "small", sendPath, small) })
		wg.Go(func() { f.drain(t, 0, "large", textPath, large) })
		f.soon(t, 0, sendPath, small/2)
		f.redis.Stop()
		time.Sleep(100 * time.Millisecond)
		f.redis.Restart()
		told(t, f, time.Now())
		wg.Wait()
		f.settled(t, "small", sendPath, true)
		f.settled(t, "large", textPath, true)
	})
}
