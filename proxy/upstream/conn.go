package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// largeBody is the size from which a request body is written by a goroutine of its own, so that an
	// answer that comes early is noticed. What is smaller fits into the kernel's buffers.
	largeBody = 64 << 10

	maxHeader        = 1 << 20 // bytes of an answer's header
	maxInformational = 5       // answers 1xx before the one that counts

	// lingerTime is how long the other direction may still bring something after one has failed or ended.
	lingerTime = 50 * time.Millisecond
)

// Conn is a connection that serves one call. It belongs to the goroutine of that call until the body of
// the answer was read to its end or closed.
type Conn struct {
	client *Client
	host   string
	raw    net.Conn
	secure *tls.Conn // over raw; nil without TLS
	peek   func() bool
	r      *bufio.Reader
	w      *bufio.Writer
	fresh  bool

	idleSince time.Time
	header    int64 // how many bytes of a header may still be read; negative: a body is read

	// deadline is that of raw, in both directions, in nanoseconds of the monotonic clock. It is moved on
	// by what is read and written, by two goroutines during an upload.
	deadline atomic.Int64
	timeout  atomic.Int64 // the longest time without progress; 0: the deadline stays as it is
	written  atomic.Int64 // bytes of this call

	mu  sync.Mutex      // covers ctx
	ctx context.Context //nolint:containedctx // of the call; one that never ends while there is none
}

func newConn(c *Client, host string, raw net.Conn, secure *tls.Conn) *Conn {
	conn := &Conn{client: c, host: host, raw: raw, secure: secure, fresh: true, peek: peeker(raw), ctx: context.Background()}
	conn.r = bufio.NewReader((*wire)(conn))
	conn.w = bufio.NewWriter((*wire)(conn))
	return conn
}

// Fresh reports whether the connection was made for this call.
func (c *Conn) Fresh() bool { return c.fresh }

// Left reports whether anything of the call may have left. It is of use after Do has failed.
func (c *Conn) Left() bool { return c.written.Load() > 0 }

// Release gives back a connection on which nothing was sent.
func (c *Conn) Release() { c.client.put(c) }

func (c *Conn) close() {
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	c.client.closeLocked(c)
}

// cutIfDone closes the connection if it serves a call whose context has ended. A call that gets the
// connection later is not met: it begins under the same mutex.
func (c *Conn) cutIfDone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		c.raw.Close()
	}
}

// serve notes the context of the call that the connection serves.
func (c *Conn) serve(ctx context.Context) {
	c.mu.Lock()
	c.ctx = ctx
	c.mu.Unlock()
}

// usable reports whether an idle connection is open and has brought nothing that nobody asked for.
func (c *Conn) usable() bool {
	if time.Since(c.idleSince) > c.client.o.IdleTime || !c.peek() {
		return false
	}
	if c.secure == nil {
		return true
	}
	// What TLS has read and not returned yet cannot be seen from outside. With a deadline in the past
	// nothing new is read, and such an error is not a lasting one.
	c.deadline.Store(0)
	if c.raw.SetReadDeadline(time.Unix(1, 0)) != nil {
		return false
	}
	n, err := c.secure.Read(make([]byte, 1))
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// Do sends a call and returns the answer, whose body must be closed. It writes with [http.Request.Write],
// which adds a User-Agent unless r has one, perhaps an empty one. timeout is the longest time without
// progress: each read and write begins it anew, and a reader of the body that takes its time does not use it up.
// When the request's context ends the call ends, within a tenth of a second. With an error the connection
// is closed, and the request's body is not read any more; the same holds at the end of the answer's body.
func (c *Conn) Do(r *http.Request, timeout time.Duration) (*http.Response, error) {
	c.timeout.Store(int64(timeout))
	c.written.Store(0)
	c.serve(r.Context())
	var up *upload
	var failed error
	if r.ContentLength < 0 || r.ContentLength > largeBody {
		up = &upload{done: make(chan struct{})}
		go func() {
			defer close(up.done)
			up.err = c.send(r)
		}()
	} else if failed = c.send(r); failed != nil && !c.Left() {
		return nil, c.fail(r.Context(), nil, failed)
	}
	res, err := c.receive(r)
	if err != nil {
		if failed != nil {
			err = failed
		}
		return nil, c.fail(r.Context(), up, err)
	}
	b := &body{c: c, from: res.Body, ctx: r.Context(), up: up}
	b.reuse = !res.Close && !r.Close && failed == nil && !mayBring(res)
	if res.Body == http.NoBody {
		b.end()
		return res, nil
	}
	res.Body = b
	return res, nil
}

// mayBring reports whether a body may follow an answer that has none: some servers send one after the answer to
// a HEAD, or a 204. Nobody can tell when.
func mayBring(res *http.Response) bool {
	length := res.Header.Get("Content-Length")
	return res.Body == http.NoBody && length != "" && length != "0"
}

// upload is a large request body on its way. err is set when done is closed.
type upload struct {
	done chan struct{}
	err  error
}

// send writes the request. After an error the answer that may be on its way already is not waited for
// any longer than lingerTime: a server may answer before it has the body, and close.
func (c *Conn) send(r *http.Request) error {
	err := r.Write(c.w)
	if err == nil {
		err = c.w.Flush()
	}
	if err != nil {
		c.hurry()
	}
	return err
}

// hurry leaves lingerTime for what is still to be read.
func (c *Conn) hurry() {
	c.timeout.Store(0)
	_ = c.raw.SetDeadline(time.Now().Add(lingerTime)) // a connection that is closed needs none
}

// receive reads the header of the answer.
func (c *Conn) receive(r *http.Request) (*http.Response, error) {
	for range maxInformational + 1 {
		c.header = maxHeader
		res, err := http.ReadResponse(c.r, r)
		c.header = -1
		switch {
		case err != nil:
			return nil, err
		case res.StatusCode == http.StatusSwitchingProtocols:
			return nil, ErrSwitching
		case res.StatusCode >= http.StatusOK:
			return res, nil
		}
	}
	return nil, ErrMalformed
}

// fail closes the connection of a call that has failed, and returns why it has.
func (c *Conn) fail(ctx context.Context, up *upload, err error) error {
	c.close()
	if up != nil {
		<-up.done // every write fails now
	}
	c.serve(context.Background())
	return cause(ctx, err)
}

// cause returns an error that quotes nothing of what was read: those of net/http may.
func cause(ctx context.Context, err error) error {
	if ended := context.Cause(ctx); ended != nil {
		return ended
	}
	_, network := errors.AsType[*net.OpError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrTimeout
	case network, alert, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, ErrSwitching), errors.Is(err, syscall.EPIPE):
		return err
	}
	return ErrMalformed
}

// body is the body of an answer. At its end the connection is free for other calls.
type body struct {
	c     *Conn
	from  io.ReadCloser
	ctx   context.Context
	up    *upload // nil unless the request's body is large
	reuse bool
	err   error // since the end
}

var errBodyClosed = errors.New("read of a closed body")

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.from.Read(p)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		b.end()
		b.err = io.EOF
	default:
		b.err = b.c.fail(b.ctx, b.up, err)
	}
	return n, b.err
}

// Close closes the connection unless the body was read to its end.
func (b *body) Close() error {
	if b.err == nil {
		b.err = errBodyClosed
		_ = b.c.fail(b.ctx, b.up, errBodyClosed)
	}
	return nil
}

// end gives the connection back, or closes it: nothing may follow the answer, and the request must have
// left whole.
func (b *body) end() {
	c := b.c
	if b.up != nil {
		b.reuse = b.up.end(c) && b.reuse
	}
	c.serve(context.Background())
	if b.reuse && c.r.Buffered() == 0 {
		c.client.put(c)
	} else {
		c.close()
	}
}

// end ends an upload whose answer is there, and reports whether all of it has left. It may just be
// about to.
func (u *upload) end(c *Conn) bool {
	timer := time.NewTimer(lingerTime)
	defer timer.Stop()
	select {
	case <-u.done:
		return u.err == nil
	case <-timer.C:
		c.raw.Close() // it is not used again, and every write fails now
		<-u.done
		return false
	}
}

// wire is what a Conn reads from and writes to below its buffers. It moves the deadline on, and counts
// what has left. It lies above TLS: an alert is not part of a call, and a record that did not leave whole
// cannot be read by anybody.
type wire Conn

// start is where the monotonic clock of deadlines begins.
var start = time.Now()

// arm moves the deadline on. That costs a fifth of a microsecond, so it is done only when an eighth of the timeout is
// over since the last time, and the timeout may be shorter by that.
func (w *wire) arm() error {
	timeout := time.Duration(w.timeout.Load())
	if timeout == 0 {
		return nil
	}
	now := time.Now()
	due := now.Add(timeout)
	at := int64(due.Sub(start))
	if before := w.deadline.Load(); before > at-int64(timeout/8) && before <= at {
		return nil
	}
	w.deadline.Store(at)
	if err := w.raw.SetDeadline(due); err != nil {
		return err
	}
	if w.timeout.Load() == 0 { // hurry came between
		return w.raw.SetDeadline(now.Add(lingerTime))
	}
	return nil
}

func (w *wire) conn() net.Conn {
	if w.secure != nil {
		return w.secure
	}
	return w.raw
}

func (w *wire) Read(p []byte) (int, error) {
	if w.header == 0 {
		return 0, ErrMalformed
	}
	if w.header > 0 {
		p = p[:min(int64(len(p)), w.header)]
	}
	if err := w.arm(); err != nil {
		return 0, err
	}
	n, err := w.conn().Read(p)
	if w.header > 0 {
		w.header -= int64(n)
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	if err := w.arm(); err != nil {
		return 0, err
	}
	n, err := w.conn().Write(p)
	w.written.Add(int64(n))
	return n, err
}

// pieces are the buffers of uploads.
var pieces = sync.Pool{New: func() any { return new([largeBody]byte) }}

// ReadFrom implements io.ReaderFrom for large bodies: bufio's own buffer is small.
func (w *wire) ReadFrom(from io.Reader) (sum int64, err error) {
	p := pieces.Get().(*[largeBody]byte)
	defer pieces.Put(p)
	for {
		n, err := from.Read(p[:])
		if n > 0 {
			written, failed := w.Write(p[:n])
			sum += int64(written)
			if failed != nil {
				return sum, failed
			}
		}
		if errors.Is(err, io.EOF) {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
	}
}
