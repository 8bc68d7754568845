package alert

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"
)

// ledger is a record with a clock, as one gateway changes it.
type ledger struct {
	t     *testing.T
	r     *record
	now   time.Time
	sinks []sink
	count map[outcome]int
}

func newLedger(t *testing.T, names ...string) *ledger {
	t.Helper()
	l := &ledger{t: t, r: parseRecord(nil), now: time.Date(2026, 11, 29, 10, 1, 0, 0, time.UTC), count: make(map[outcome]int)}
	for _, name := range names {
		l.sinks = append(l.sinks, sink{Sink: Sink{Name: name, Type: WeCom}, print: name})
	}
	return l
}

// change makes a change, and stores the record as JSON and back.
func (l *ledger) change(do func(c *change)) {
	l.t.Helper()
	c := &change{now: l.now, sinks: l.sinks}
	do(c)
	l.r.tidy(c)
	for _, o := range c.outcomes {
		l.count[o]++
	}
	raw, err := json.Marshal(l.r)
	if err != nil {
		l.t.Fatal(err)
	}
	l.r = parseRecord(raw)
}

func (l *ledger) notice(e Event) {
	l.t.Helper()
	e.At = l.now
	l.change(func(c *change) { l.r.notice(c, e, false, usualTiming().calm) })
}

// begin begins an attempt at the first sink.
func (l *ledger) begin(holder string) (d delivery, ok bool) {
	l.t.Helper()
	l.change(func(c *change) { d, ok = l.r.begin(c, l.sinks[0], holder, usualTiming()) })
	return d, ok
}

func (l *ledger) end(d delivery, err *SendError) {
	l.t.Helper()
	l.change(func(c *change) { l.r.end(c, d, err) })
}

func (l *ledger) sleep(d time.Duration) { l.now = l.now.Add(d) }

// wantQueue compares the kinds that wait, with an o in front of those that are over.
func (l *ledger) wantQueue(want ...string) {
	l.t.Helper()
	var got []string
	for _, q := range l.r.Queue {
		name := string(q.Event.Kind)
		if q.Event.Over {
			name = "over " + name
		}
		if q.Event.Again {
			name = "again " + name
		}
		got = append(got, name)
	}
	if !slices.Equal(got, want) {
		l.t.Errorf("waiting: %v, want %v", got, want)
	}
}

func TestConditionOnce(t *testing.T) {
	l := newLedger(t, "a")
	began, ended := Event{Kind: TokenRefused, AppID: "wx1", ErrCode: 40164}, Event{Kind: TokenRefused, AppID: "wx1", Over: true}
	l.notice(ended) // nothing holds
	l.wantQueue()
	l.notice(began)
	l.notice(began) // of another gateway
	l.wantQueue("token_refused")
	l.sleep(10 * time.Minute)
	l.notice(ended)
	l.notice(ended)
	l.wantQueue("token_refused", "over token_refused")

	// What another gateway saw before the end and tells only now begins nothing.
	late := began
	late.At = l.now.Add(-time.Minute)
	l.change(func(c *change) { l.r.notice(c, late, true, usualTiming().calm) })
	if len(l.r.Holding) != 0 {
		t.Errorf("holding %v, want nothing", l.r.Holding)
	}
}

// A condition that comes and goes is messaged at most twice in five minutes, and when it stays.
func TestFlapping(t *testing.T) {
	l := newLedger(t, "a")
	e, over := Event{Kind: Latched, AppID: "wx1", Rule: "menu.create"}, Event{Kind: Latched, AppID: "wx1", Rule: "menu.create", Over: true}
	for range 20 {
		l.notice(e)
		l.sleep(5 * time.Second)
		l.notice(over)
		l.sleep(5 * time.Second)
	}
	l.wantQueue("latched", "over latched")
	l.notice(e)
	remind := func() { l.change(func(c *change) { l.r.remind(c, usualTiming().calm, 0) }) }
	l.sleep(4 * time.Minute)
	remind()
	l.wantQueue("latched", "over latched")
	l.sleep(time.Minute)
	remind()
	remind()
	l.wantQueue("latched", "over latched", "latched")
}

func TestReminders(t *testing.T) {
	l := newLedger(t, "a")
	l.notice(Event{Kind: StoreDown})
	l.notice(Event{Kind: Latched, AppID: "wx1", Rule: "r", Until: l.now.Add(30 * time.Minute)})
	for range 130 { // minutes
		l.sleep(time.Minute)
		l.change(func(c *change) { l.r.remind(c, usualTiming().calm, time.Hour) })
	}
	l.wantQueue("store_down", "latched", "again store_down", "again store_down") // the latch has ended by itself
	l.change(func(c *change) { l.r.remind(c, usualTiming().calm, 0) })
	l.wantQueue("store_down", "latched", "again store_down", "again store_down")
}

// Nothing ends a condition of an app that is not served any more.
func TestRetain(t *testing.T) {
	l := newLedger(t, "a")
	for _, app := range []string{"wx1", "wx2", ""} {
		l.notice(Event{Kind: TokenRefused, AppID: app})
	}
	l.change(func(c *change) { l.r.retain(c, func(appid string) bool { return appid == "wx2" }) })
	if _, has := l.r.Holding[Event{Kind: TokenRefused, AppID: "wx1"}.condition()]; has || len(l.r.Holding) != 2 {
		t.Errorf("holding %v, want those of wx2 and of no app", l.r.Holding)
	}
}

// One message per ten seconds and sink, 15 a minute, with all that waits.
func TestMerging(t *testing.T) {
	l := newLedger(t, "a")
	used := func(n int) Event { return Event{Kind: Used, AppID: fmt.Sprintf("wx%d", n), Threshold: 80} }
	l.notice(used(1))
	if _, ok := l.begin("g1"); ok {
		t.Error("sent at once: want it to wait for others")
	}
	l.sleep(3 * time.Second)
	l.notice(used(2))
	d, ok := l.begin("g1")
	if !ok || len(d.events) != 2 {
		t.Fatalf("%d events, want 2", len(d.events))
	}
	if _, ok := l.begin("g2"); ok {
		t.Error("two attempts at once")
	}
	l.end(d, nil)
	l.notice(used(3))
	l.sleep(6 * time.Second)
	if _, ok := l.begin("g1"); ok {
		t.Error("a second message after 6 s: want 10")
	}
	l.sleep(4 * time.Second)
	if d, ok := l.begin("g1"); !ok || len(d.events) != 1 {
		t.Errorf("%d events after 10 s, want 1", len(d.events))
	} else {
		l.end(d, nil)
	}
	if got := l.count[outcome{Used, "a", Sent}]; got != 3 {
		t.Errorf("sent %d, want 3", got)
	}
}

func TestPerMinute(t *testing.T) {
	p := new(progress)
	n := 0
	for at := int64(1); at < 60_000; at += 100 {
		if p.mayStart(at, timing{}) {
			p.start(at)
			n++
		}
	}
	if n != perMinute {
		t.Errorf("%d attempts in a minute, want %d", n, perMinute)
	}
}

// A sender that is killed leaves its message to another one, which sends the same under the same id. After a second one
// that was killed nobody tries again.
func TestKilledSender(t *testing.T) {
	l := newLedger(t, "a")
	l.notice(Event{Kind: StoreDown})
	l.sleep(3 * time.Second)
	first, _ := l.begin("g1")
	l.notice(Event{Kind: ReloadFailed}) // belongs into the next message
	l.sleep(20 * time.Second)
	if _, ok := l.begin("g2"); ok {
		t.Error("the attempt may still run")
	}
	l.sleep(21 * time.Second)
	second, ok := l.begin("g2")
	if !ok || second.id != first.id || len(second.events) != 1 || second.events[0].Kind != StoreDown {
		t.Fatalf("the second attempt: %+v, want the message %s again", second, first.id)
	}
	l.end(first, nil) // g1 was not killed, only slow
	l.sleep(time.Minute)
	if d, ok := l.begin("g3"); !ok || d.id == first.id || d.events[0].Kind != ReloadFailed {
		t.Errorf("the next message: %+v, want that of reload_failed", d)
	}

	l = newLedger(t, "a")
	l.notice(Event{Kind: StoreDown})
	attempts := 0
	for range 600 {
		l.sleep(10 * time.Second)
		if _, ok := l.begin("g"); ok {
			attempts++
		}
	}
	if attempts != 2 || l.count[outcome{StoreDown, "a", Dropped}] != 1 {
		t.Errorf("%d attempts that may have been delivered and %v, want 2 and dropped", attempts, l.count)
	}
}

func TestRetries(t *testing.T) {
	for _, tt := range []struct {
		name     string
		err      SendError
		attempts int
		last     Result
	}{
		{"failed", SendError{}, maxAttempts, Dropped},
		{"may have been delivered", SendError{Unknown: true}, 2, Dropped},
		{"gone", SendError{Silence: true}, 1, Refused},
		{"this message", SendError{Refused: true}, 1, Refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLedger(t, "a")
			l.notice(Event{Kind: StoreDown})
			attempts := 0
			for range 24 * 360 {
				l.sleep(10 * time.Second)
				if d, ok := l.begin("g"); ok {
					attempts++
					l.end(d, &tt.err)
				}
			}
			if attempts != tt.attempts || l.count[outcome{StoreDown, "a", tt.last}] != 1 || len(l.r.Queue) != 0 {
				t.Errorf("%d attempts, %v: want %d and %s", attempts, l.count, tt.attempts, tt.last)
			}
		})
	}
}

// DingTalk's ten minutes are waited out, and what came meanwhile is sent after.
func TestWait(t *testing.T) {
	l := newLedger(t, "a")
	l.notice(Event{Kind: StoreDown})
	l.sleep(3 * time.Second)
	d, _ := l.begin("g")
	l.end(d, &SendError{Code: "130101", Wait: dingtalkSilence})
	waited := time.Duration(0)
	for ; waited < time.Hour; waited += time.Second {
		if again, ok := l.begin("g"); ok {
			if again.id != d.id {
				t.Errorf("message %s, want %s again", again.id, d.id)
			}
			break
		}
		l.sleep(time.Second)
	}
	if waited != dingtalkSilence {
		t.Errorf("waited %s, want %s", waited, dingtalkSilence)
	}
}

// A sink that refuses for good gets nothing more, the others go on, and a new configuration of it begins anew.
func TestSilenced(t *testing.T) {
	l := newLedger(t, "a", "b")
	l.notice(Event{Kind: StoreDown})
	l.sleep(3 * time.Second)
	d, _ := l.begin("g")
	l.notice(Event{Kind: ReloadFailed})
	l.end(d, &SendError{Code: "93000", Silence: true})
	l.notice(Event{Kind: LogDropped})
	l.sleep(time.Minute)
	if _, ok := l.begin("g"); ok {
		t.Error("a silenced sink gets a message")
	}
	for _, q := range l.r.Queue {
		if !slices.Equal(q.Left, []string{"b"}) {
			t.Errorf("%s waits for %v, want b alone", q.Event.Kind, q.Left)
		}
	}
	want := map[outcome]int{{StoreDown, "a", Refused}: 1, {ReloadFailed, "a", Dropped}: 1, {LogDropped, "a", Dropped}: 1}
	for o, n := range want {
		if l.count[o] != n {
			t.Errorf("%v: %d, want %d", o, l.count[o], n)
		}
	}
	l.sinks[0].print = "another URL"
	l.notice(Event{Kind: Fuse})
	l.sleep(time.Minute)
	if d, ok := l.begin("g"); !ok || d.events[0].Kind != Fuse {
		t.Errorf("with a new URL: %+v, want the next event", d)
	}
}

// The oldest event is dropped when too many wait.
func TestBounded(t *testing.T) {
	l := newLedger(t, "a")
	for i := range maxQueue + 50 {
		l.notice(Event{Kind: Used, AppID: fmt.Sprintf("wx%d", i), Threshold: 80})
	}
	if len(l.r.Queue) != maxQueue || l.r.Queue[0].Event.AppID != "wx50" || l.count[outcome{Used, "a", Dropped}] != 50 {
		t.Errorf("%d wait, the first is %s, %v dropped: want %d from wx50 on", len(l.r.Queue), l.r.Queue[0].Event.AppID, l.count, maxQueue)
	}
}

func TestCrossings(t *testing.T) {
	now := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	c := testConfig()
	c.Overrides = []Override{{App: "shop", Rule: "media.*", Thresholds: []int{90}}, {Rule: "quiet", Thresholds: nil}}
	line := Line{AppID: "wx1", App: "shop", Rule: "menu.create", Period: "day", Limit: 1000, Reset: now.Add(time.Hour)}
	for _, tt := range []struct {
		name   string
		change func(*Line)
		want   string
	}{
		{"below", func(l *Line) { l.Used = 499 }, "[]"},
		{"at", func(l *Line) { l.Used = 500 }, "[used 50]"},
		{"the highest only", func(l *Line) { l.Used = 960 }, "[used 95]"},
		{"over", func(l *Line) { l.Used = 5000 }, "[used 100]"},
		{"no figure", func(l *Line) { l.Used, l.Limit = 5000, 0 }, "[]"},
		{"another window", func(l *Line) { l.Used, l.Reset = 960, now }, "[]"},
		{"of an override", func(l *Line) { l.Rule, l.Used = "media.upload", 890 }, "[]"},
		{"of an override, at", func(l *Line) { l.Rule, l.Used = "media.upload", 900 }, "[used 90]"},
		{"of another app", func(l *Line) { l.App, l.Rule, l.Used = "mini", "media.upload", 890 }, "[used 80]"},
		{"none", func(l *Line) { l.Rule, l.Used = "quiet", 1000 }, "[]"},
		{"clears", func(l *Line) { l.Clears, l.Limit, l.Used = true, 10, 7 }, "[]"},
		{"clears, nearly", func(l *Line) { l.Clears, l.Limit, l.Used = true, 10, 9 }, "[clears_used 80]"},
		{"a forecast", func(l *Line) { l.Used, l.Forecast = 400, now.Add(30*time.Minute) }, "[forecast 1]"},
		{"a forecast after the window", func(l *Line) { l.Used, l.Forecast = 400, now.Add(2*time.Hour) }, "[]"},
		{"a forecast of what is used up", func(l *Line) { l.Used, l.Forecast = 1000, now.Add(30*time.Minute) }, "[used 100]"},
		{"drift", func(l *Line) { l.Used, l.Counted, l.Wechat = 100, 100, 149 }, "[]"},
		{"drift at the bound", func(l *Line) { l.Used, l.Counted, l.Wechat = 100, 100, 150 }, "[drift 5]"},
	} {
		l := line
		tt.change(&l)
		var got []string
		for _, x := range c.crossings(l, now) {
			got = append(got, fmt.Sprintf("%s %d", x.event.Kind, x.event.Threshold))
		}
		if fmt.Sprint(got) != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, got, tt.want)
		}
	}
}

// A claim holds for its window, clear and limit.
func TestClaims(t *testing.T) {
	has := claim{Reset: 1, Generation: 1, Limit: 1000, Threshold: 80}
	for _, tt := range []struct {
		next claim
		want bool
	}{
		{claim{1, 1, 1000, 80}, true},
		{claim{1, 1, 1000, 50}, true},
		{claim{1, 1, 1000, 95}, false},
		{claim{2, 1, 1000, 50}, false},
		{claim{1, 2, 1000, 50}, false},
		{claim{1, 1, 1200, 50}, false},
	} {
		if got := has.covers(tt.next); got != tt.want {
			t.Errorf("%+v: covered %t, want %t", tt.next, got, tt.want)
		}
	}
}
