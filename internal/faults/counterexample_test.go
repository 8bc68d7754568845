package faults

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"wxproxy/internal/redistest"
	"wxproxy/limits"
	"wxproxy/sandbox"
)

// voice is a gateway that is led by hand: what it says of the one counter "a", and hears.
type voice struct {
	redis  *limits.Redis
	window limits.Window
	state  limits.Report
}

// says asks for n calls, and hears the answer.
func (v *voice) says(t *testing.T, n int64) *limits.Answer {
	t.Helper()
	a, err := v.redis.Exchange(t.Context(), &limits.Request{
		App: app, Want: n, Counters: []limits.Report{v.state},
		Windows: []limits.WindowReport{{Window: v.window, Generation: v.state.Generation}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s, h := &v.state, a.Counters[0]
	if h.Generation == s.Generation {
		s.Local += a.Granted
		s.Acked, s.Version, s.Latch = s.Local, h.Version, h.Latch
		s.Others = h.Used - s.Acked
	}
	return a
}

// deaf asks for n calls and does not hear the answer.
func (v *voice) deaf(t *testing.T, n int64) {
	t.Helper()
	was := v.state
	v.says(t, n)
	v.state = was
}

// says what an answer is about.
type said struct {
	Status  limits.Status
	Granted int64
	Used    int64
	Lost    bool
}

func gist(a *limits.Answer) said {
	return said{Status: a.Status, Granted: a.Granted, Used: a.Counters[0].Used, Lost: a.Lost}
}

// hand is a Redis and a way to lead gateways by hand.
type hand struct {
	server *redistest.Server
	direct *redis.Client
	window limits.Window
	limit  int64
}

func newHand(t *testing.T, limit int64) *hand {
	t.Helper()
	server := redistest.Start(t)
	return &hand{server, server.Client(t), today(t), limit}
}

// today is the day's window in a zone where it is about noon.
func today(t *testing.T) limits.Window {
	t.Helper()
	zone := location(t, noon())
	year, month, day := time.Now().In(zone).Date()
	start := time.Date(year, month, day, 0, 0, 0, 0, zone)
	return limits.Window{Name: start.Format("d20060102"), Period: limits.Day, Start: start, End: start.AddDate(0, 0, 1)}
}

func (h *hand) voice(t *testing.T) *voice {
	t.Helper()
	return &voice{redis: counters(t, h.server.Addr), window: h.window, state: limits.Report{Name: "a", Limit: h.limit}}
}

// loses has the store lose what is written while do runs, as a fail-over does.
func (h *hand) loses(t *testing.T, do func()) {
	t.Helper()
	key := "wxp:{" + app + "}:" + h.window.Name
	kept, err := h.direct.Dump(t.Context(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	do()
	if err := h.direct.RestoreReplace(t.Context(), key, 0, kept).Err(); err != nil {
		t.Fatal(err)
	}
}

func (h *hand) flush(t *testing.T) {
	t.Helper()
	if err := h.direct.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}

// want compares an answer with what it should say.
func want(t *testing.T, what string, got *limits.Answer, want said) {
	t.Helper()
	if diff := cmp.Diff(want, gist(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// A floor that is the highest count ever heard would take back what others gave back: only a store
// that is older than what one heard has lost something.
func TestCounterexampleFloorIsTheHighestHeard(t *testing.T) {
	h := newHand(t, 12)
	a, b := h.voice(t), h.voice(t)
	b.says(t, 4)
	want(t, "a hears 10 with b's 4 in it", a.says(t, 6), said{Granted: 6, Used: 10})
	b.state.Local = 0
	want(t, "b gives 4 back", b.says(t, 0), said{Used: 6})
	want(t, "a's next call", a.says(t, 1), said{Granted: 1, Used: 7})
	want(t, "b takes what is left", b.says(t, 9), said{Status: limits.Full, Granted: 5, Used: 12})
}

// A floor by maximum without parts: two calls that were lost, and two others since, would look the
// same.
func TestCounterexampleFloorByMaximum(t *testing.T) {
	h := newHand(t, 20)
	a, b := h.voice(t), h.voice(t)
	b.says(t, 8)
	h.loses(t, func() { want(t, "a takes 2, which will be lost", a.says(t, 2), said{Granted: 2, Used: 10}) })
	want(t, "b, who had heard 8, takes 2", b.says(t, 2), said{Granted: 2, Used: 10})
	want(t, "a says what it holds", a.says(t, 0), said{Used: 12, Lost: true})
	want(t, "b asks for more than is left", b.says(t, 20), said{Status: limits.Full, Granted: 8, Used: 20})
}

// Parts alone forget what processes counted that have ended since.
func TestCounterexamplePartsWithoutAFloor(t *testing.T) {
	h := newHand(t, 20)
	ended, a, fresh := h.voice(t), h.voice(t), h.voice(t)
	ended.says(t, 9)
	a.says(t, 1)
	h.flush(t)
	want(t, "a restores what it had heard", a.says(t, 0), said{Used: 10, Lost: true})
	want(t, "another takes what is left", fresh.says(t, 20), said{Status: limits.Full, Granted: 10, Used: 20})
}

// Floor and parts both added: what a restored of b's must not be added again by b.
func TestCounterexampleFloorAndPartsAdded(t *testing.T) {
	h := newHand(t, 20)
	a, b, c := h.voice(t), h.voice(t), h.voice(t)
	b.says(t, 4)
	a.says(t, 5)
	c.says(t, 3)
	a.says(t, 0) // hears of all 12
	b.says(t, 2) // 14, and only b knows
	h.flush(t)
	want(t, "a restores 12", a.says(t, 0), said{Used: 12, Lost: true})
	want(t, "b claims its 6: two more than were restored of it", b.says(t, 0), said{Used: 12, Lost: true})
	want(t, "c claims what is left, and adds what is missing", c.says(t, 0), said{Used: 14, Lost: true})
	want(t, "a takes what is left", a.says(t, 9), said{Status: limits.Full, Granted: 6, Used: 20})
}

// A grant that nobody heard of goes back by itself, again and again.
func TestCounterexampleRepliesThatNobodyHeard(t *testing.T) {
	h := newHand(t, 10)
	a, b := h.voice(t), h.voice(t)
	a.says(t, 2)
	for range 3 {
		a.deaf(t, 5)
	}
	want(t, "b asks while a has not said so", b.says(t, 9), said{Status: limits.Full, Granted: 3, Used: 10})
	want(t, "a asks again", a.says(t, 1), said{Granted: 1, Used: 6})
}

// The same with a real gateway, when nobody calls any more: within a second it says what it holds.
func TestCounterexampleReplyLostAndThenSilence(t *testing.T) {
	n, relay, direct := relayedNode(t, 10)
	n.spend(t, 3)
	order(t, relay, Fault{Match: counting(t), Do: LoseReply, Times: 2}) // both attempts
	if verdict, _, _ := n.call(t.Context(), groupsPath); verdict != limits.RefusedStore {
		t.Errorf("with both replies lost: %s", verdict)
	}
	n.countedIs(t, direct, groupsPath, 4) // nobody has heard of the fourth
	n.countedIs(t, direct, groupsPath, 3)
}

// Totals without a number: "I hold 5" comes late, when two more were taken, and must not take them
// back.
func TestCounterexampleStaleTotals(t *testing.T) {
	const quota = 10
	n, relay, direct := relayedNode(t, quota)
	n.spend(t, 5)
	late := order(t, relay, Fault{Match: counting(t), Do: LateRequest, Hold: true})
	n.spend(t, 2) // the first by its second attempt
	late.Release()
	waitFor(t, "the late request", func() bool { return len(late.Replies()) == 1 })
	if got, prefix := late.Replies()[0], "*7\r\n:5\r\n:0\r\n"; len(got) < len(prefix) || got[:len(prefix)] != prefix {
		t.Errorf("the late request is answered %q, want that it is stale", got)
	}
	n.is(t, direct, 7)
	n.spend(t, 3)
	n.fullNow(t)
	n.is(t, direct, quota)
}

// A give-back that subtracts would subtract twice when it is doubled.
func TestCounterexampleGiveBackDoubled(t *testing.T) {
	const quota = 10
	for _, wait := range []bool{false, true} { // at once, or when others have called since
		n, relay, direct := relayedNode(t, quota)
		n.spend(t, 5)
		d, hold := n.take(t.Context(), groupsPath)
		if d.Verdict != limits.Pass {
			t.Fatalf("verdict = %s", d.Verdict)
		}
		doubled := order(t, relay, Fault{Match: counting(t), Do: Double, Hold: wait})
		hold.GiveBack()
		waitFor(t, "the give-back", func() bool { return doubled.Fired() == 1 })
		n.is(t, direct, 5)
		n.spend(t, 2)
		doubled.Release()
		waitFor(t, "the second give-back", func() bool { return len(doubled.Replies()) == 2 })
		n.is(t, direct, 7)
		n.spend(t, 3)
		n.fullNow(t)
		n.is(t, direct, quota)
	}
}

// A give-back, or a floor, from before a clear says nothing after it.
func TestCounterexampleAcrossAClear(t *testing.T) {
	h := newHand(t, 20)
	a, b := h.voice(t), h.voice(t)
	a.says(t, 14)
	cleared := time.Now().UnixMilli()
	b.state.Generation = cleared
	want(t, "b clears and takes 8", b.says(t, 8), said{Granted: 8, Used: 8})
	want(t, "a's 14 are of another life", a.says(t, 0), said{Status: limits.Again, Used: 8})
	a.state.Local = 11
	want(t, "and so are the 3 that it gives back", a.says(t, 1), said{Status: limits.Again, Used: 8})
	a.state = limits.Report{Name: "a", Limit: h.limit, Generation: cleared}
	want(t, "a goes on in the new life", a.says(t, 20), said{Status: limits.Full, Granted: 12, Used: 20})
	want(t, "b hears of it", b.says(t, 1), said{Status: limits.Full, Used: 20})
}

// The same with a real gateway: a call that was on its way when somebody else cleared is carried
// into the new generation, and given back there.
func TestCounterexampleGiveBackOfACallBeforeAClear(t *testing.T) {
	const quota = 10
	n, _, direct := relayedNode(t, quota)
	n.spend(t, 3)
	time.Sleep(100 * time.Millisecond)         // what ended just before a clear may have run after it
	_, hold := n.take(t.Context(), groupsPath) // on its way
	other := counters(t, direct.Options().Addr)
	now, err := direct.Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	clears := &voice{redis: other, window: today(t), state: limits.Report{Name: "groups", Limit: quota, Generation: now.UnixMilli()}}
	want(t, "another gateway clears", clears.says(t, 2), said{Granted: 2, Used: 2})
	n.spend(t, 1)
	hold.GiveBack()
	n.is(t, direct, 3) // 2 of the other, 1 of ours
	n.spend(t, quota-3)
	n.fullNow(t)
	n.is(t, direct, quota)
}

// Generations that count 1, 2, 3 would mix two lives when the store has lost a clear. They are times.
func TestCounterexampleGenerationsThatCount(t *testing.T) {
	h := newHand(t, 20)
	a, b := h.voice(t), h.voice(t)
	a.says(t, 5)
	b.says(t, 6)
	now := time.Now().UnixMilli()
	first, second := now, now+1
	h.loses(t, func() {
		a.state = limits.Report{Name: "a", Limit: h.limit, Generation: first}
		want(t, "a clears, which will be lost, and takes 7", a.says(t, 7), said{Granted: 7, Used: 7})
	})
	b.state = limits.Report{Name: "a", Limit: h.limit, Generation: second}
	want(t, "b, who never heard of it, clears and takes 1", b.says(t, 1), said{Granted: 1, Used: 1})
	want(t, "a's 7 are of another life", a.says(t, 0), said{Status: limits.Again, Used: 1})

	h = newHand(t, 20)
	a, b = h.voice(t), h.voice(t)
	b.says(t, 6)
	h.loses(t, func() {
		a.state.Generation = first
		a.says(t, 7)
	})
	want(t, "a brings its clear back", a.says(t, 0), said{Used: 7, Lost: true})
	want(t, "b's 6 are of another life", b.says(t, 1), said{Status: limits.Again, Used: 7})
}

// A deadline by the host's clock, or from the answer's arrival, would send a call after midnight that
// was counted before it: the reply is late, and the hosts' clocks are wrong.
func TestCounterexampleDeadline(t *testing.T) {
	zone := location(t, "Asia/Shanghai")
	midnight := time.Date(2026, 12, 2, 0, 0, 0, 0, zone)
	server := redistest.StartAt(t, midnight.Add(-2*time.Second))
	direct := server.Client(t)
	ahead := aheadOf(t, direct)
	clock := func() time.Time { return time.Now().Add(ahead) }
	j := newJudge(t, sandbox.Options{Zone: zone, Now: clock})
	relay := relayTo(t, server)
	var ns []*node
	for _, skew := range []time.Duration{-90 * time.Second, 0, 90 * time.Second} {
		now := func() time.Time { return clock().Add(skew) }
		n := newNode(t, j, counters(t, relay.Addr()), now, rules(t, zone, map[string][]string{groupsPath: {"100/day"}}))
		// One call beforehand: the node learns how wrong its clock is, which takes a second request where
		// that is another day.
		if verdict, _, _ := n.call(t.Context(), groupsPath); verdict != limits.Pass {
			t.Fatalf("verdict = %s", verdict)
		}
		ns = append(ns, n)
	}
	late := order(t, relay, Fault{Match: counting(t), Do: LateReply, Wait: 75 * time.Millisecond, Times: 3})
	time.Sleep(time.Until(midnight.Add(-40 * time.Millisecond).Add(-ahead)))
	done := make(chan limits.Verdict)
	for _, n := range ns {
		go func() {
			verdict, _, _ := n.call(t.Context(), groupsPath)
			done <- verdict
		}()
	}
	for range ns {
		if verdict := <-done; verdict != limits.Pass {
			t.Errorf("verdict = %s", verdict)
		}
	}
	time.Sleep(idle)
	if late.Fired() != 3 {
		t.Errorf("%d replies were late, want 3", late.Fired())
	}
	after := j.Used(app, groupsPath)
	got := windows(t, direct, app, "groups", "d")
	if before := j.Executed(app, groupsPath) - after; before != 3 || after != 3 || !cmp.Equal(got, map[string]int64{"d20261201": 3, "d20261202": 3}) {
		t.Errorf("WeChat executed %d before midnight and %d after it, counted %v: want 3 each", before, after, got)
	}
}

// A latch that filled the counter would lose the count, and a raised limit would open it.
func TestCounterexampleLatchFillsTheCounter(t *testing.T) {
	h := newHand(t, 10)
	a, b := h.voice(t), h.voice(t)
	a.says(t, 3)
	latch := limits.Latch{Until: h.window.End.UnixMilli(), At: time.Now().UnixMilli()}
	a.state.Latch = latch
	want(t, "WeChat has said 45009 to a", a.says(t, 1), said{Status: limits.Latched, Used: 3})
	b.state.Limit += 1000
	want(t, "a raised limit does not open it", b.says(t, 1), said{Status: limits.Latched, Used: 3})
	b.state.Limit, b.state.Latch = h.limit, limits.Latch{At: latch.At + 1}
	want(t, "a lift opens it, and the count stays", b.says(t, 1), said{Granted: 1, Used: 4})
}

// Full that is remembered until the window's end would never sell what others give back.
func TestCounterexampleFullForGood(t *testing.T) {
	const quota = 5
	a, _, direct := relayedNode(t, quota)
	b := newNode(t, a.judge, counters(t, direct.Options().Addr), time.Now, a.limiter.Rules(app))
	a.spend(t, quota-1)
	_, hold := b.take(t.Context(), groupsPath)
	a.fullNow(t)
	hold.GiveBack()
	begun := time.Now()
	waitFor(t, "the call that was given back", func() bool {
		verdict, _, _ := a.call(t.Context(), groupsPath)
		return verdict == limits.Pass
	})
	if took := time.Since(begun); took > 1500*time.Millisecond {
		t.Errorf("it was sold after %s, want a second", took)
	}
	a.fullNow(t)
	a.is(t, direct, quota)
}

// relayedNode is a gateway inside the test that has one small quota, for groupsPath, behind a relay.
func relayedNode(t *testing.T, quota int) (*node, *Relay, *redis.Client) {
	t.Helper()
	server := redistest.Start(t)
	relay := relayTo(t, server)
	set := rules(t, location(t, noon()), map[string][]string{groupsPath: {fmt.Sprint(quota, "/day")}})
	n := newNode(t, newJudge(t, sandbox.Options{}), counters(t, relay.Addr()), time.Now, set)
	return n, relay, server.Client(t)
}

// spend makes n calls, which must pass.
func (n *node) spend(t *testing.T, calls int) {
	t.Helper()
	for range calls {
		verdict, _, errcode := n.call(t.Context(), groupsPath)
		for try := 1; verdict == limits.RefusedStore && try < 20; try++ { // a busy machine
			verdict, _, errcode = n.call(t.Context(), groupsPath)
		}
		if verdict != limits.Pass || errcode != 0 {
			t.Fatalf("verdict = %s, errcode %d", verdict, errcode)
		}
	}
}

func (n *node) fullNow(t *testing.T) {
	t.Helper()
	if verdict, _, _ := n.call(t.Context(), groupsPath); verdict != limits.RefusedQuota {
		t.Errorf("past the quota: %s", verdict)
	}
}

// is waits until the count is that, for a second and a half.
func (n *node) is(t *testing.T, direct *redis.Client, want int64) {
	t.Helper()
	n.countedIs(t, direct, groupsPath, want)
}

func (*node) countedIs(t *testing.T, direct *redis.Client, path string, want int64) {
	t.Helper()
	deadline := time.Now().Add(1500 * time.Millisecond)
	for {
		var got int64
		for _, used := range windows(t, direct, app, nameOf(path), "d") {
			got += used
		}
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s: counted %d, want %d", path, got, want)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}
