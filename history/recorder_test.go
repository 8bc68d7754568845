package history

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// standing is a recorder on a file, whose clock the test moves.
type standing struct {
	*Recorder
	store *Bolt
	now   time.Time
}

func newStanding(tb testing.TB) *standing {
	tb.Helper()
	s := &standing{now: begin, store: NewBolt(openBolt(tb), "p:")}
	s.store.now = func() time.Time { return s.now }
	s.Recorder = s.another("gw000001")
	return s
}

// another is a further gateway on the same store.
func (s *standing) another(gateway string) *Recorder {
	return New(Options{Store: s.store, Gateway: gateway, Zone: shanghai, Now: func() time.Time { return s.now }})
}

func (s *standing) history(t *testing.T, q Query) []Line {
	t.Helper()
	lines, err := s.another("reader").History(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func flush(t *testing.T, r *Recorder) {
	t.Helper()
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

var passed = Outcome{Kind: Passed}

func TestOutcomes(t *testing.T) {
	for text, o := range map[string]Outcome{
		"passed": passed, "shadow": {Kind: Shadow}, "local": {Kind: Local}, "transport-error": {Kind: TransportError}, "http-error": {Kind: HTTPError}, "token-died": {Kind: TokenDied},
		"refused:no-token-40164": {Kind: Refused, Reason: "no-token-40164"}, "errcode:40003": {Kind: Rejected, Errcode: 40003},
		"errcode:-1": {Kind: Rejected, Errcode: -1}, "errcode:other": {Kind: Rejected},
	} {
		if got := o.String(); got != text {
			t.Errorf("%#v = %q, want %q", o, got, text)
		}
		if got := parseOutcome(text); got != o {
			t.Errorf("parseOutcome(%q) = %#v, want %#v", text, got, o)
		}
	}
	if got := parseOutcome("something"); got != (Outcome{}) {
		t.Errorf("parseOutcome(something) = %#v, want none", got)
	}
}

// 1,000 accounts x 20 rules x 5 callers are 100,000 series.
const accounts, rules, callers = 1000, 20, 5

func events(at time.Time, accounts int) []Event {
	var all []Event
	for a := range accounts {
		for r := range rules {
			for c := range callers {
				all = append(all, Event{App: fmt.Sprintf("wx%016d", a), Rule: "message.custom.send" + strconv.Itoa(r), Caller: "service-" + strconv.Itoa(c), Outcome: passed, At: at})
			}
		}
	}
	return all
}

func TestMemoryOfASeries(t *testing.T) {
	all := events(begin, accounts)
	s := newStanding(t)
	live := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := live()
	for range 3 {
		for _, e := range all {
			s.Add(e)
		}
	}
	got := (live() - before) / uint64(len(all))
	runtime.KeepAlive(s)
	runtime.KeepAlive(all)
	t.Logf("%d bytes a series", got)
	if got > 200 {
		t.Errorf("%d bytes a series, want at most 200", got)
	}
}

func TestAddAllocatesNothing(t *testing.T) {
	s := newStanding(t)
	refused := Event{App: "wx1", Rule: "a", Caller: "crm", Outcome: Outcome{Kind: Refused, Reason: "quota-used-up"}, At: begin}
	rejected := Event{App: "wx1", Rule: "a", Caller: "crm", Outcome: Outcome{Kind: Rejected, Errcode: 40003}, At: begin}
	s.Add(refused)
	s.Add(rejected)
	if n := testing.AllocsPerRun(1000, func() { s.Add(refused); s.Add(rejected) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// Nothing waits for a store that does not answer.
func TestAddDuringAFlush(t *testing.T) {
	s := newStanding(t)
	stuck := &stuckStore{Store: s.store, entered: make(chan struct{}), leave: make(chan struct{})}
	r := New(Options{Store: stuck, Gateway: "gw000002", Zone: shanghai, Now: func() time.Time { return s.now }})
	e := Event{App: "wx1", Rule: "a", Outcome: passed, At: begin}
	r.Add(e)
	done := make(chan error, 1)
	go func() { done <- r.Flush(context.Background()) }()
	<-stuck.entered
	for i := range 100 {
		e.App = "wx" + strconv.Itoa(i) // also accounts that are new
		r.Add(e)
	}
	close(stuck.leave)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	flush(t, r)
	if got := s.history(t, Query{Apps: []string{"wx1"}, From: begin, To: begin.Add(time.Second), Step: Total}); len(got) != 1 || got[0].Calls != 2 {
		t.Errorf("%+v, want 2 calls of wx1", got)
	}
}

type stuckStore struct {
	Store
	once           sync.Once
	entered, leave chan struct{}
}

func (s *stuckStore) Write(ctx context.Context, parts []Parts) error {
	s.once.Do(func() { close(s.entered); <-s.leave })
	return s.Store.Write(ctx, parts)
}

// What is made up does not grow without end, and is counted all the same.
func TestBounds(t *testing.T) {
	s := newStanding(t)
	for i := range maxErrcodes + 100 {
		s.Add(Event{App: "wx1", Rule: "a", Outcome: Outcome{Kind: Rejected, Errcode: 1 + i}, At: begin})
	}
	for i := range maxSeries {
		s.Add(Event{App: "wx1", Rule: "b", Caller: strconv.Itoa(i), Outcome: passed, At: begin})
	}
	flush(t, s.Recorder)
	counts := make(map[string]int64)
	var total int64
	for _, l := range s.history(t, Query{Apps: []string{"wx1"}, From: begin, To: begin.Add(time.Second), Step: Total, Rule: true, Caller: true, Outcome: true}) {
		counts[l.Series.Rule+" "+l.Series.Caller+" "+l.Series.Outcome.String()] = l.Calls
		total += l.Calls
	}
	if got := counts["a  errcode:other"]; got != 100 {
		t.Errorf("%d calls with further errcodes, want 100", got)
	}
	if got := counts[Other+" "+Other+" passed"]; got != maxErrcodes+1 {
		t.Errorf("%d calls of further callers, want %d", got, maxErrcodes+1)
	}
	if total != maxErrcodes+100+maxSeries {
		t.Errorf("%d calls in all, want %d", total, maxErrcodes+100+maxSeries)
	}
	for i := range maxAccounts + 10 {
		s.Add(Event{App: "wxx" + strconv.Itoa(i), Rule: "a", Outcome: passed, At: begin})
	}
	if got := len(s.accounts); got != maxAccounts+1 { // NoApp is one more
		t.Errorf("%d accounts, want %d", got, maxAccounts+1)
	}
}

// A call that ends while the next hour begins may be recorded after one of that hour.
func TestStragglers(t *testing.T) {
	s := newStanding(t)
	turn := begin.Truncate(time.Hour).Add(time.Hour)
	s.now = turn.Add(time.Second)
	for _, after := range []time.Duration{-time.Minute, 0, -time.Millisecond, time.Second, -time.Second} {
		s.Add(Event{App: "wx1", Rule: "a", Outcome: passed, At: turn.Add(after)})
	}
	flush(t, s.Recorder)
	got := s.history(t, Query{Apps: []string{"wx1"}, From: begin, To: turn.Add(time.Hour), Step: ByHour})
	if len(got) != 2 || got[0].Calls != 1 || got[1].Calls != 4 || !got[1].Start.Equal(turn) {
		t.Errorf("%+v, want 1 call and then 4", got)
	}
	rates, err := s.Rates(t.Context(), []string{"wx1"})
	if err != nil {
		t.Fatal(err)
	}
	if got := rates[0].Calls("a"); got != 5 {
		t.Errorf("%d calls in ten minutes, want 5", got)
	}
}

// A clock that is set back begins parts of its own: what was written before is not replaced.
func TestTheClockGoesBack(t *testing.T) {
	s := newStanding(t)
	for _, at := range []time.Time{begin, begin.Add(3 * time.Hour), begin, begin.Add(3 * time.Hour)} {
		s.now = at
		s.Add(Event{App: "wx1", Rule: "a", Outcome: passed, At: at})
		flush(t, s.Recorder)
	}
	got := s.history(t, Query{Apps: []string{"wx1"}, From: begin, To: begin.Add(4 * time.Hour), Step: ByHour})
	if len(got) != 2 || got[0].Calls != 2 || got[1].Calls != 2 {
		t.Errorf("%+v, want 2 calls in each of two hours", got)
	}
}

// Days begin in the table's zone.
func TestZones(t *testing.T) {
	for _, zone := range []*time.Location{time.UTC, shanghai, time.FixedZone("IST", 5*3600+1800)} {
		at := time.Date(2099, 11, 23, 23, 59, 59, 0, zone)
		h := hourAt(at.Unix(), zone)
		if h.day != "20991123" || h.start != at.Unix()-3599 || h.end != at.Unix()+1 {
			t.Errorf("%s: hour %+v", zone, h)
		}
		if h := hourAt(at.Unix()+1, zone); h.day != "20991124" || h.start != at.Unix()+1 {
			t.Errorf("%s: the hour after it: %+v", zone, h)
		}
	}
}

// Accounts that are not called any more leave the memory.
func TestIdleAccounts(t *testing.T) {
	s := newStanding(t)
	s.Add(Event{App: "wx1", Rule: "a", Outcome: passed, At: begin})
	flush(t, s.Recorder)
	if len(s.accounts) != 1 {
		t.Fatalf("%d accounts in their hour, want 1", len(s.accounts))
	}
	s.now = begin.Add(2 * time.Hour)
	flush(t, s.Recorder)
	if len(s.accounts) != 0 {
		t.Errorf("%d accounts after two hours, want none", len(s.accounts))
	}
}

// Usual hours come from the last days, and only those in which there were calls.
func TestUsual(t *testing.T) {
	s := newStanding(t)
	for day := range 3 {
		s.now = begin.AddDate(0, 0, day)
		if day == 1 {
			continue
		}
		for range 10 {
			s.Add(Event{App: "wx1", Rule: "a", Outcome: passed, At: s.now})
			s.Add(Event{App: "wx1", Rule: "a", Outcome: Outcome{Kind: Refused, Reason: "path"}, At: s.now})
		}
		flush(t, s.Recorder)
	}
	s.now = s.now.AddDate(0, 0, 1)
	r := s.another("gw000003")
	r.o.Apps = func() []string { return []string{"wx1"} }
	r.review(t.Context())
	rates, err := r.Rates(t.Context(), []string{"wx1"})
	if err != nil {
		t.Fatal(err)
	}
	if got := rates[0].Usual("a"); got == nil || got[begin.Hour()] != 10 || slices.Max(got[:]) != 10 {
		t.Errorf("usual %v, want 10 calls at %d o'clock", got, begin.Hour())
	}
}

func BenchmarkAdd(b *testing.B) {
	s := newStanding(b)
	all := events(begin, 100)
	for _, e := range all {
		s.Add(e)
	}
	b.ReportAllocs()
	b.Run("one", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			s.Add(all[i%len(all)])
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				s.Add(all[i%len(all)])
			}
		})
	})
}
