// Package tail hands the lines of calls, as they end, to those who watch. No call waits for a watcher: each has a queue
// of a fixed size, and what finds no room in it is dropped and counted.
package tail

import (
	"bytes"
	"errors"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	// MaxWatchers is how many may watch at once.
	MaxWatchers = 100

	queueLines = 512 // of a watcher; a line has at most some 1.5 KB, and about 500 bytes
)

// The errors of Watch.
var (
	ErrFull   = errors.New("100 clients watch already: want one of them to end")
	ErrClosed = errors.New("the gateway is stopping")
)

// Call is what of a call is filtered by.
type Call struct {
	AppID    string
	Rule     string
	Caller   string
	Decision string
	Reason   string // "" unless it was refused
	Errcode  int
}

// Filter is which calls are watched: those that each field passes. The zero value passes all.
type Filter struct {
	AppID    string
	Rule     string // a * stands for any letters
	Caller   string
	Decision string
	Reason   string
	Refused  bool // only refused calls
	Errcode  *int // of the answer; 0 is none
}

func (f *Filter) passes(c *Call) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	if !is(f.AppID, c.AppID) || !is(f.Caller, c.Caller) || !is(f.Decision, c.Decision) || !is(f.Reason, c.Reason) ||
		f.Refused && !strings.HasPrefix(c.Decision, "refused-") || f.Errcode != nil && *f.Errcode != c.Errcode {
		return false
	}
	if f.Rule == "" || f.Rule == c.Rule {
		return true
	}
	ok, _ := path.Match(f.Rule, c.Rule) // a malformed one passes nothing
	return ok
}

// Line is one line of a watcher's.
type Line struct {
	Text    []byte // with its newline; not to be changed, because others have it too
	Dropped int64  // lines that were dropped before it
}

// Stream is the lines of all calls. The zero value has no watchers. It is safe for concurrent use.
type Stream struct {
	watchers atomic.Pointer[[]*Watcher] // nil: none; never changed in place
	dropped  atomic.Int64

	mu     sync.Mutex    // covers changes of watchers, and what follows
	done   chan struct{} // made when first asked for
	closed bool
}

// Watched reports whether anybody watches. It costs one atomic load.
func (s *Stream) Watched() bool { return s.watchers.Load() != nil }

// Publish gives the line of a call to all whose filters it passes. It never waits and keeps nothing of line.
func (s *Stream) Publish(c *Call, line []byte) {
	watchers := s.watchers.Load()
	if watchers == nil {
		return
	}
	var text []byte
	dropped := int64(0)
	for _, w := range *watchers {
		if !w.filter.passes(c) {
			continue
		}
		if text == nil && w.hasRoom() {
			text = bytes.Clone(line)
		}
		if text == nil || !w.add(text) {
			w.dropped.Add(1)
			dropped++
		}
	}
	if dropped > 0 {
		s.dropped.Add(dropped)
	}
}

// Watch begins to watch. The watcher must be closed. The error is ErrFull or ErrClosed.
func (s *Stream) Watch(f Filter) (*Watcher, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	var watchers []*Watcher
	if known := s.watchers.Load(); known != nil {
		watchers = slices.Clone(*known)
	}
	if len(watchers) >= MaxWatchers {
		return nil, ErrFull
	}
	w := &Watcher{stream: s, filter: f, lines: make(chan Line, queueLines)}
	watchers = append(watchers, w)
	s.watchers.Store(&watchers)
	return w, nil
}

// Dropped returns how many lines were dropped.
func (s *Stream) Dropped() int64 { return s.dropped.Load() }

// Done is closed when the stream ends.
func (s *Stream) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doneLocked()
}

func (s *Stream) doneLocked() chan struct{} {
	if s.done == nil {
		s.done = make(chan struct{})
	}
	return s.done
}

// Close ends the stream for all who watch.
func (s *Stream) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.doneLocked())
	}
}

// Watcher is one who watches.
type Watcher struct {
	stream  *Stream
	filter  Filter
	lines   chan Line
	dropped atomic.Int64 // since the last line that was queued
}

func (w *Watcher) hasRoom() bool { return len(w.lines) < queueLines }

// add queues a line, if there is room.
func (w *Watcher) add(text []byte) bool {
	if !w.hasRoom() {
		return false
	}
	dropped := int64(0)
	if w.dropped.Load() > 0 {
		dropped = w.dropped.Swap(0)
	}
	select {
	case w.lines <- Line{text, dropped}:
		return true
	default:
		w.dropped.Add(dropped)
		return false
	}
}

// Lines has the lines in the order in which their calls ended. It is never closed.
func (w *Watcher) Lines() <-chan Line { return w.lines }

// Dropped returns how many lines were dropped after the last one of Lines, once all of those were taken; they are not
// counted again.
func (w *Watcher) Dropped() int64 {
	if len(w.lines) > 0 {
		return 0
	}
	return w.dropped.Swap(0)
}

// Close ends watching.
func (w *Watcher) Close() {
	s := w.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.watchers.Load()
	if known == nil {
		return
	}
	watchers := slices.DeleteFunc(slices.Clone(*known), func(other *Watcher) bool { return other == w })
	if len(watchers) == 0 {
		s.watchers.Store(nil)
		return
	}
	s.watchers.Store(&watchers)
}
