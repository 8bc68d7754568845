package tail

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
)

func TestFilter(t *testing.T) {
	call := Call{AppID: "wx1", Rule: "message.custom.send", Caller: "crm", Decision: "refused-quota", Reason: "quota-used-up", Errcode: 45009}
	for _, tt := range []struct {
		filter Filter
		want   bool
	}{
		{Filter{}, true},
		{Filter{AppID: "wx1"}, true},
		{Filter{AppID: "wx2"}, false},
		{Filter{Rule: "message.custom.send"}, true},
		{Filter{Rule: "message.*"}, true},
		{Filter{Rule: "message"}, false},
		{Filter{Rule: "["}, false},
		{Filter{Caller: "crm"}, true},
		{Filter{Caller: "web"}, false},
		{Filter{Decision: "refused-quota"}, true},
		{Filter{Decision: "pass"}, false},
		{Filter{Reason: "quota-used-up"}, true},
		{Filter{Reason: "too-fast"}, false},
		{Filter{Refused: true}, true},
		{Filter{Errcode: new(45009)}, true},
		{Filter{Errcode: new(0)}, false},
		{Filter{AppID: "wx1", Rule: "*", Caller: "crm", Refused: true, Errcode: new(45009)}, true},
	} {
		if got := tt.filter.passes(&call); got != tt.want {
			t.Errorf("%+v passes: %t, want %t", tt.filter, got, tt.want)
		}
	}
	if f := (Filter{Refused: true}); f.passes(&Call{Decision: "pass"}) {
		t.Error("a call that passed is taken for a refused one")
	}
}

// Each line is given to a watcher, or counted as dropped before a later one, under publishers and watchers at once.
func TestEachLineIsGivenOrCounted(t *testing.T) {
	var s Stream
	const publishers, each = 8, 5000
	var watchers sync.WaitGroup
	ended := make(chan struct{})
	for i := range 4 {
		w, err := s.Watch(Filter{})
		if err != nil {
			t.Fatal(err)
		}
		watchers.Go(func() {
			if i == 0 {
				<-ended // reads nothing until all is over
			}
			got, dropped := 0, int64(0)
			take := func(l Line) { got++; dropped += l.Dropped }
			for over := false; !over; {
				select {
				case l := <-w.Lines():
					take(l)
				case <-ended:
					for over = true; len(w.lines) > 0; {
						take(<-w.lines)
					}
				}
			}
			dropped += w.Dropped()
			if got+int(dropped) != publishers*each {
				t.Errorf("watcher %d: %d lines and %d dropped, want %d", i, got, dropped, publishers*each)
			}
			if i == 0 && (got > queueLines || dropped == 0) {
				t.Errorf("a watcher that reads nothing has %d lines, %d dropped", got, dropped)
			}
			w.Close()
		})
	}
	var all sync.WaitGroup
	for p := range publishers {
		all.Go(func() {
			for n := range each {
				s.Publish(&Call{}, fmt.Appendf(nil, "%d %d\n", p, n))
			}
		})
	}
	all.Wait()
	close(ended)
	watchers.Wait()
	if s.Watched() || s.Dropped() == 0 {
		t.Errorf("watched: %t, %d dropped", s.Watched(), s.Dropped())
	}
}

// The number of lines that were dropped comes with the next line that was not.
func TestDroppedStandsWhereItWas(t *testing.T) {
	var s Stream
	w, err := s.Watch(Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for range queueLines + 3 {
		s.Publish(&Call{}, []byte("before\n"))
	}
	for range 2 {
		<-w.Lines()
	}
	if n := w.Dropped(); n != 0 {
		t.Errorf("%d dropped before the lines that were queued", n)
	}
	s.Publish(&Call{}, []byte("after\n"))
	s.Publish(&Call{}, []byte("last\n"))
	for range queueLines - 2 {
		if l := <-w.Lines(); string(l.Text) != "before\n" || l.Dropped != 0 {
			t.Fatalf("%q with %d dropped", l.Text, l.Dropped)
		}
	}
	for _, want := range []Line{{[]byte("after\n"), 3}, {[]byte("last\n"), 0}} {
		if l := <-w.Lines(); string(l.Text) != string(want.Text) || l.Dropped != want.Dropped {
			t.Errorf("%q with %d dropped, want %q with %d", l.Text, l.Dropped, want.Text, want.Dropped)
		}
	}
	s.Publish(&Call{}, []byte("end\n"))
	if <-w.Lines(); w.Dropped() != 0 || s.Dropped() != 3 {
		t.Errorf("%d dropped in all, want 3", s.Dropped())
	}
}

func TestMaxWatchers(t *testing.T) {
	var s Stream
	var watchers []*Watcher
	for range MaxWatchers {
		w, err := s.Watch(Filter{})
		if err != nil {
			t.Fatal(err)
		}
		watchers = append(watchers, w)
	}
	if _, err := s.Watch(Filter{}); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v, want ErrFull", err)
	}
	watchers[7].Close()
	watchers[7].Close() // changes nothing
	w, err := s.Watch(Filter{})
	if err != nil {
		t.Fatalf("after one has ended: %v", err)
	}
	for _, w := range append(slices.Delete(watchers, 7, 8), w) {
		w.Close()
	}
	s.Close()
	<-s.Done()
	if _, err := s.Watch(Filter{}); !errors.Is(err, ErrClosed) || s.Watched() {
		t.Errorf("of a closed stream: %v, watched %t", err, s.Watched())
	}
}

// The line that a publisher uses again is not seen to change.
func TestLinesAreCopied(t *testing.T) {
	var s Stream
	w, err := s.Watch(Filter{})
	if err != nil {
		t.Fatal(err)
	}
	line := []byte("one\n")
	s.Publish(&Call{}, line)
	copy(line, "two\n")
	if l := <-w.Lines(); string(l.Text) != "one\n" {
		t.Errorf("%q, want what was published", l.Text)
	}
	if n := testing.AllocsPerRun(10, func() { s.Publish(&Call{}, line) }); n > 1 {
		t.Errorf("%v allocations for a line, want its copy alone", n)
	}
}

func BenchmarkPublish(b *testing.B) {
	line := make([]byte, 500)
	for _, watchers := range []int{0, 1, MaxWatchers} {
		b.Run(fmt.Sprint(watchers), func(b *testing.B) {
			var s Stream
			for range watchers {
				if _, err := s.Watch(Filter{}); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				s.Publish(&Call{Decision: "pass"}, line)
			}
		})
	}
}
