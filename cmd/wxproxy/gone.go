package main

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// goneTime is how often the connections whose calls last are looked at, so a client that went away is noticed
// after twice that.
const goneTime = 100 * time.Millisecond

// watch notices clients that go away while their calls are under way. net/http reads one byte ahead for that, on
// a goroutine for each call, which a deadline wakes when the call is over. Here one timer peeks at the connections
// whose calls last longer than goneTime: 73 -> 60 us of CPU time for a small POST, the client's part included
// (BenchmarkServer, medians of 8 pairs on a busy machine).
type watch struct {
	mu    sync.Mutex // covers what follows
	conns []*conn    // with calls, or that had one since the last look
	timer *time.Timer
}

// watched is what a connection knows of its calls.
type watched struct {
	watch *watch // nil: net/http reads ahead
	raw   syscall.RawConn
	gone  func()        // ends the contexts of the connection's calls
	calls atomic.Uint64 // is odd during a call
	seen  uint64        // calls at the last look; watch.mu covers it
	among atomic.Bool   // watch.conns has the connection
}

// readsAhead reports whether a Read is net/http's that only waits for the client to go away: it is the only one
// with room for one byte. It may return without a byte and an error, and is not repeated then.
func readsAhead(p []byte) bool { return cap(p) == 1 }

// begin notes that a request of c was read to its end.
func (w *watch) begin(c *conn) {
	if c.calls.Load()%2 == 0 {
		c.calls.Add(1)
	}
	if c.among.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.among.Swap(true) {
		return
	}
	w.conns = append(w.conns, c)
	if len(w.conns) > 1 {
		return
	}
	if w.timer == nil {
		w.timer = time.AfterFunc(goneTime, w.look)
	} else {
		w.timer.Reset(goneTime)
	}
}

// end notes that the call of c is over.
func (c *watched) end() {
	if c.calls.Load()%2 == 1 {
		c.calls.Add(1)
	}
}

// look ends the calls of clients that are gone, forgets the connections without a call since the last look, and
// runs again while there are others.
func (w *watch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	kept := w.conns[:0]
	for _, c := range w.conns {
		now := c.calls.Load()
		same := now == c.seen
		c.seen = now
		if same && (now%2 == 0 || clientGone(c.raw)) {
			if now%2 == 1 {
				c.gone()
			}
			c.among.Store(false)
			if c.calls.Load() == now {
				continue
			}
			c.among.Store(true) // a call began, and may have seen it so
		}
		kept = append(kept, c)
	}
	clear(w.conns[len(kept):])
	w.conns = kept
	if len(kept) > 0 {
		w.timer.Reset(goneTime)
	}
}

// rawConn returns the descriptor of a connection, or nil if it has none that can be peeked at.
func rawConn(c net.Conn) syscall.RawConn {
	if s, ok := c.(syscall.Conn); ok && canPeek {
		if raw, err := s.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}
