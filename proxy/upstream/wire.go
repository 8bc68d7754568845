package upstream

import (
	"bufio"
	"context"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	bufferBytes    = 4 << 10
	maxHeaderBytes = 1 << 20  // of an answer's header, with the 1xx answers before it
	pieceBytes     = 32 << 10 // of a large body; each piece written is progress
)

// wire is a connection that goes from call to call. It belongs to the goroutine that uses it, but for its
// socket.
type wire struct {
	*socket
	conn  net.Conn // above TLS; the socket itself without
	br    *bufio.Reader
	bw    *bufio.Writer
	stray [1]byte

	limit    int64 // bytes that may be read until the header's end
	left     bool  // a byte of the call may have left
	writeErr error // what writing failed with

	epoch     int       // of the pool
	index     int       // in pool.busy; the pool's mutex covers it
	idleSince time.Time // the pool's mutex covers it
}

func newWire(conn net.Conn) *wire {
	w := &wire{socket: newSocket(conn)}
	w.conn = w.socket
	w.br, w.bw = bufio.NewReaderSize(w, bufferBytes), bufio.NewWriterSize(w, bufferBytes)
	return w
}

// Read reads for br.
func (w *wire) Read(p []byte) (int, error) {
	if w.limit <= 0 {
		return 0, ErrHeader
	}
	n, err := w.conn.Read(p[:min(int64(len(p)), w.limit)])
	w.limit -= int64(n)
	return n, err
}

// Write writes for bw. It lies above TLS: an alert is no part of a call, and a record that did not leave whole
// cannot be read by the other side.
func (w *wire) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var wrote int
		wrote, err = w.conn.Write(p[n:min(len(p), n+pieceBytes)])
		n += wrote
	}
	if n > 0 {
		w.left = true
	}
	if err != nil {
		w.writeErr = err
	}
	return n, err
}

var pieces = sync.Pool{New: func() any { return new([pieceBytes]byte) }}

// ReadFrom writes a large body for bw in pieces that are larger than its buffer.
func (w *wire) ReadFrom(r io.Reader) (n int64, err error) {
	piece := pieces.Get().(*[pieceBytes]byte)
	defer pieces.Put(piece)
	for {
		read, err := r.Read(piece[:])
		if read > 0 {
			wrote, err := w.Write(piece[:read])
			n += int64(wrote)
			if err != nil {
				return n, err
			}
		}
		if err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}

// reset readies w for a call.
func (w *wire) reset() { w.limit, w.left, w.writeErr = maxHeaderBytes, false, nil }

// unlimited ends the limit of the header.
func (w *wire) unlimited() { w.limit = math.MaxInt64 }

// quiet reports whether nothing has come since the last answer: bytes that no call has asked for, or the end of
// the connection. What belongs to TLS alone is taken in.
func (w *wire) quiet() bool {
	w.now = true
	n, err := w.conn.Read(w.stray[:])
	w.now = false
	return n == 0 && isTimeout(err)
}

// socket is the connection below TLS. It moves its deadlines on, and can be cut from another goroutine.
type socket struct {
	net.Conn
	now     bool // Read reads what has come already, and does not wait
	raw     syscall.RawConn
	readRaw func(fd uintptr) // reads into p
	p       []byte
	n       int
	err     error

	mu       sync.Mutex      // covers what follows
	ctx      context.Context //nolint:containedctx // of the call that it serves; nil: none
	timeout  time.Duration   // without progress; 0: none
	deadline time.Time       // as set
	stopped  bool            // nothing is written any more
	cut      bool            // closed because ctx ended
}

func newSocket(conn net.Conn) *socket {
	s := &socket{Conn: conn}
	if c, ok := conn.(syscall.Conn); ok {
		s.raw, _ = c.SyscallConn()
	}
	s.readRaw = func(fd uintptr) { s.n, s.err = readNow(fd, s.p) } // here, not in Read: it is an allocation
	return s
}

func (s *socket) Read(p []byte) (int, error) {
	if s.now {
		// crypto/tls does not take a connection that times out for broken.
		s.p, s.n, s.err = p, 0, os.ErrDeadlineExceeded
		if s.raw != nil {
			if err := s.raw.Control(s.readRaw); err != nil {
				return 0, err
			}
		}
		return s.n, s.err
	}
	if err := s.arm(false); err != nil {
		return 0, err
	}
	return s.Conn.Read(p)
}

func (s *socket) Write(p []byte) (int, error) {
	if err := s.arm(true); err != nil {
		return 0, err
	}
	return s.Conn.Write(p)
}

// arm moves both deadlines on, when a read or a write begins: a large body that is being written keeps the
// wait for the answer alive. Setting one costs 0.2 us, so it is set a little too late and then kept until it
// would be too early: calls that follow each other share it.
func (s *socket) arm(write bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case write && s.stopped:
		return os.ErrDeadlineExceeded
	case s.timeout == 0: // a handshake has a context
		return nil
	}
	now, latest := time.Now(), s.timeout+s.timeout/32
	if left := s.deadline.Sub(now); left >= s.timeout && left <= latest {
		return nil
	}
	s.deadline = now.Add(latest)
	return s.SetDeadline(s.deadline)
}

// begin has the socket serve a call.
func (s *socket) begin(ctx context.Context, timeout time.Duration) {
	s.mu.Lock()
	s.ctx, s.timeout = ctx, timeout
	s.mu.Unlock()
}

// end has the socket serve no call, and reports whether it was not cut. It cannot be cut from here on, so
// that the next call is not cut for this one.
func (s *socket) end() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ctx = nil
	return !s.cut
}

// cutIfDone closes the connection if the context of its call has ended.
func (s *socket) cutIfDone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx != nil && !s.cut && s.ctx.Err() != nil {
		s.cut = true
		s.close()
	}
}

// hurry leaves what is read and written from here on lateTime, because the call has failed.
func (s *socket) hurry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timeout = min(s.timeout, lateTime)
	s.deadline = time.Now().Add(s.timeout)
	_ = s.SetDeadline(s.deadline) // an error is that of a closed connection
}

// stop ends a write that is under way and lets no other begin.
func (s *socket) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	_ = s.SetWriteDeadline(time.Unix(1, 0)) // an error is that of a closed connection
}

// close closes without TLS's goodbye, which could block.
func (s *socket) close() { s.Close() }
