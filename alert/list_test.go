package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"wxproxy/internal/redistest"
)

// shown writes what a list shows: the events, the newest first, and the states of the sinks.
func shown(l List) (alerts, sinks string) {
	var lines, states []string
	for _, a := range l.Alerts {
		line := string(a.Event.Kind)
		if a.Event.Over {
			line += " over"
		}
		for _, f := range a.Sinks {
			line += fmt.Sprintf(", %s %s", f.Sink, f.Result)
			if f.Why != "" {
				line += " (" + f.Why + ")"
			}
		}
		lines = append(lines, line)
	}
	for _, s := range l.Sinks {
		state := fmt.Sprintf("%s %s", s.Sink, s.State)
		if s.Why != "" {
			state += " (" + s.Why + ")"
		}
		if s.Waiting > 0 {
			state += fmt.Sprintf(", %d wait", s.Waiting)
		}
		states = append(states, state)
	}
	return strings.Join(lines, "; "), strings.Join(states, "; ")
}

func (l *ledger) wantList(alerts, sinks string) {
	l.t.Helper()
	gotAlerts, gotSinks := shown(l.r.view(l.sinks))
	if gotAlerts != alerts || gotSinks != sinks {
		l.t.Errorf("the list is\n%s\n%s\nwant\n%s\n%s", gotAlerts, gotSinks, alerts, sinks)
	}
}

// Each event is listed with what became of it at each sink, and each sink with its state.
func TestList(t *testing.T) {
	l := newLedger(t, "a", "b")
	l.wantList("", "a unused; b unused")
	l.notice(Event{Kind: StoreDown})
	l.wantList("store_down, a waiting, b waiting", "a unused, 1 wait; b unused, 1 wait")
	l.sleep(3 * time.Second)
	d, _ := l.begin("g")
	l.end(d, &SendError{Code: "HTTP 502", Text: "bad gateway"})
	l.wantList("store_down, a failed (HTTP 502: bad gateway), b waiting", "a failing (HTTP 502: bad gateway), 1 wait; b unused, 1 wait")
	if next := l.r.view(l.sinks).Sinks[0].Next; !next.Equal(l.now.Add(retryAfter[0])) {
		t.Errorf("the next attempt is at %s, want %s", next, l.now.Add(retryAfter[0]))
	}
	l.sleep(time.Minute)
	d, _ = l.begin("g")
	l.end(d, nil)
	l.wantList("store_down, a sent, b waiting", "a good; b unused, 1 wait")
	l.notice(Event{Kind: StoreDown, Over: true})
	l.sleep(time.Minute)
	d, _ = l.begin("g")
	l.notice(Event{Kind: ReloadFailed})
	l.end(d, &SendError{Code: "93000", Text: "gone", Silence: true})
	l.notice(Event{Kind: LogDropped})
	silenced := "a dropped (the sink is silenced: it has refused a message for good), b waiting"
	l.wantList("log_dropped, "+silenced+"; reload_failed, "+silenced+"; store_down over, a refused (93000: gone), b waiting; store_down, a sent, b waiting",
		"a silenced (93000: gone); b unused, 4 wait")
	l.sinks[0].print = "another URL"
	if _, got := shown(l.r.view(l.sinks)); got != "a unused; b unused, 4 wait" {
		t.Errorf("with another URL: %s", got)
	}
	l.sinks = l.sinks[1:]
	l.change(func(*change) {})
	if _, got := shown(l.r.view(l.sinks)); got != "b unused, 4 wait" {
		t.Errorf("without the first sink: %s", got)
	}
	l.change(func(c *change) { l.r.retain(c, func(string) bool { return false }) })
	if len(l.r.List) != 4 {
		t.Errorf("%d alerts of gateways, want 4", len(l.r.List))
	}
}

// The list is bounded in number and in size, also by what a message has to say. What an account had goes with it.
func TestListBounded(t *testing.T) {
	l := newLedger(t, "a", "b", "c")
	for i := range maxListed + 20 {
		l.notice(Event{
			Kind: Used, AppID: fmt.Sprintf("wx%016x", i), App: "shop", Rule: "message.custom.send", Title: "客服接口-发消息", Period: "day", Threshold: 80,
			Used: 400000, Limit: 500000, Reset: l.now.Add(time.Hour), Forecast: l.now.Add(time.Hour), Reason: strings.Repeat("长", 400),
			Callers: []Caller{{"a", 1}, {"b", 2}, {"c", 3}, {"d", 4}}, Top: make([]Event, 10), Holding: make([]Event, 10),
		})
		l.sleep(10 * time.Second)
		if d, ok := l.begin("g"); ok {
			l.end(d, nil)
		}
	}
	raw, err := json.Marshal(l.r.List)
	if err != nil {
		t.Fatal(err)
	}
	first := l.r.List[0]
	if len(l.r.List) != maxListed || first.Event.AppID != fmt.Sprintf("wx%016x", 20) {
		t.Errorf("%d are listed, the first %s: want %d and the 21st", len(l.r.List), first.Event.AppID, maxListed)
	}
	if len(raw) > 100<<10 || len(first.Event.Reason) > maxReason || len(first.Event.Callers) != maxCallers || first.Event.Top != nil || first.Event.Holding != nil {
		t.Errorf("%d bytes, the first %+v: want at most 100 KiB, without what only a message needs", len(raw), first.Event)
	}
	l.change(func(c *change) { l.r.retain(c, func(appid string) bool { return appid == first.Event.AppID }) })
	if len(l.r.List) != 1 {
		t.Errorf("%d are listed of one account that is left, want 1", len(l.r.List))
	}
}

// What a gateway sends while the store is down is listed by it at once, and by all when the store is back.
func TestListWithoutStore(t *testing.T) {
	r := &robot{kind: WeCom}
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	g := newGateways(t, fastTiming(), testConfig(serve(t, r)), openStores(t, server.URL(), 2)...)
	g.run(t)
	if results, err := g.alerts[1].Test(t.Context(), ""); err != nil || results[0].Err != nil {
		t.Fatalf("a test: %v, %v", results, err)
	}
	list := func(i int) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		l := g.alerts[i].List(ctx)
		alerts, sinks := shown(l)
		return alerts + " | " + sinks, l.Err
	}
	const tested = "test, wecom sent | wecom good"
	if got, err := list(0); got != tested || err != nil {
		t.Fatalf("the list is %s, %v: want %s", got, err, tested)
	}
	server.Stop()
	g.alerts[0].Notify(Event{Kind: StoreDown, Reason: "no answer in time"})
	const told = "store_down, wecom sent; " + tested
	await(t, "the list of the gateway without a store", func() bool {
		got, err := list(0)
		return got == told && err != nil
	})
	if got, err := list(1); got != tested || err == nil {
		t.Errorf("the list of the other gateway is %s, %v: want what it has seen last, and the error", got, err)
	}
	server.Restart()
	g.morePolls(t)
	await(t, "the list of both", func() bool {
		one, err1 := list(0)
		other, err2 := list(1)
		return one == told && other == told && errors.Join(err1, err2) == nil
	})
}

// Nothing of an account that is forgotten stays in the record, and a fleet without one gets none.
func TestForgetAccount(t *testing.T) {
	s := &memory{values: make(map[string]kept)}
	g := newGateways(t, fastTiming(), testConfig(Sink{Name: "a", Type: WeCom, URL: "http://127.0.0.1:1"}), s)
	forget := func() {
		t.Helper()
		if err := g.alerts[0].Forget(t.Context(), "wx0123456789abcdef"); err != nil {
			t.Fatal(err)
		}
	}
	forget()
	if len(s.values) > 0 {
		t.Errorf("the store has %v, want nothing", s.values)
	}
	g.run(t)
	g.alerts[0].Notify(Event{Kind: TokenRefused, AppID: "wx0123456789abcdef"})
	g.alerts[0].Notify(Event{Kind: TokenRefused, AppID: "wx0000000000000002"})
	await(t, "both", func() bool { return len(g.alerts[0].List(t.Context()).Alerts) == 2 })
	forget()
	raw, err := s.Get(t.Context(), fleet, recordKey)
	if r := parseRecord(raw); err != nil || strings.Contains(string(raw), "wx0123456789abcdef") || len(r.List) != 1 || len(r.Queue) != 1 || len(r.Holding) != 1 {
		t.Errorf("%v, after it the record is %s", err, raw)
	}
}

// BenchmarkRecord is what a full list costs the sender every two seconds.
func BenchmarkRecord(b *testing.B) {
	r, c := parseRecord(nil), &change{now: time.Now()}
	for i, e := range sampleEvents(maxListed) {
		l := r.list(c, fmt.Sprint(i), e)
		for _, name := range []string{"wecom", "dingtalk", "mail"} {
			l.Sinks[name] = newFate(c.now, Sent, nil)
		}
	}
	raw, err := json.Marshal(r)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := json.Marshal(parseRecord(raw)); err != nil {
			b.Fatal(err)
		}
	}
}
