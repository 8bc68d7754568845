package main

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// writeStall is how long a client may take nothing of its answer. http.Server's own WriteTimeout bounds
// the whole answer instead, so it would cut a large one on its way to a slow client.
const writeStall = 30 * time.Second

// listener is a listener whose connections are closed when the client takes nothing for stall. It belongs
// below TLS, where a handshake and an alert are writes too.
type listener struct {
	net.Listener
	stall  time.Duration
	failed func(error) // called with each error of Accept while the listener is open
	watch  watch
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		if !errors.Is(err, net.ErrClosed) {
			l.failed(err)
		}
		return nil, err
	}
	return &conn{Conn: c, stall: l.stall, watched: watched{raw: rawConn(c), watch: &l.watch}}, nil
}

// connContext is an http.Server's ConnContext: the context of a connection's calls ends when the client is gone.
// Without it net/http notices that itself.
func connContext(ctx context.Context, nc net.Conn) context.Context {
	if c, ok := nc.(*conn); ok && c.raw != nil {
		ctx, c.gone = context.WithCancel(ctx)
	}
	return ctx
}

// conn fails a Write and closes the connection once nothing was taken for stall, or up to a quarter more. A
// write deadline that the server sets itself holds instead: net/http sets one for a TLS handshake,
// crypto/tls for its last alert.
//
// A read deadline is passed on when a Read needs it: net/http sets six for each request, and reads once.
type conn struct {
	net.Conn
	watched
	stall time.Duration

	mu      sync.Mutex // covers what follows
	armed   time.Time  // when the write deadline was last set; zero: it is not
	asked   time.Time  // the server's own write deadline; zero: it has none
	readBy  time.Time  // the server's read deadline
	readSet time.Time  // the one that was passed on
	reading bool
}

// Read implements [net.Conn].
func (c *conn) Read(p []byte) (int, error) {
	if c.gone != nil && readsAhead(p) {
		c.watch.begin(c)
		return 0, nil
	}
	c.end()
	c.mu.Lock()
	c.reading = true
	err := c.passReadByLocked()
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	defer func() {
		c.mu.Lock()
		c.reading = false
		c.mu.Unlock()
	}()
	return c.Conn.Read(p)
}

// SetReadDeadline implements [net.Conn].
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readBy = t
	if !c.reading {
		return nil
	}
	return c.passReadByLocked()
}

// passReadByLocked passes the read deadline on.
func (c *conn) passReadByLocked() error {
	if c.readBy.Equal(c.readSet) {
		return nil
	}
	c.readSet = c.readBy
	return c.Conn.SetReadDeadline(c.readBy)
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	if c.gone != nil {
		c.gone()
	}
	return c.Conn.Close()
}

// stallParts is into how many deadlines a stall is divided. One that passes ends nothing unless nothing was
// taken in all of them: it does not show when in that time something was.
const stallParts = 4

// arm moves the deadline on, and reports whether it is the server's that holds. Setting a deadline costs
// more than reading the clock, so it is done when a quarter of the time has gone.
func (c *conn) arm() (asked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.asked.IsZero() {
		return true
	}
	part := c.stall / stallParts
	if now := time.Now(); c.armed.IsZero() || now.Sub(c.armed) >= part/4 {
		c.armed = now
		_ = c.Conn.SetWriteDeadline(now.Add(part)) // fails on a closed connection only, as the Write will
	}
	return false
}

// Write implements [net.Conn].
func (c *conn) Write(p []byte) (n int, err error) {
	for left := stallParts; ; {
		asked := c.arm()
		taken, err := c.Conn.Write(p[n:])
		n += taken
		if err == nil || asked || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if left--; taken > 0 {
			left = stallParts
		}
		if left == 0 {
			if tcp, ok := c.Conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // else the kernel keeps what was not taken, megabytes, for minutes
			}
			_ = c.Close() // at once: crypto/tls would try for 5 s more to send an alert
			return n, err
		}
	}
}

// SetWriteDeadline implements [net.Conn]. net/http clears the deadline after each answer: if it has set
// none there is nothing to do.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.IsZero() && c.asked.IsZero() {
		return nil
	}
	c.asked, c.armed = t, time.Time{}
	return c.Conn.SetWriteDeadline(t)
}

// SetWriteBuffer bounds what the kernel keeps of an answer that the client does not take.
func (c *conn) SetWriteBuffer(bytes int) error {
	if s, ok := c.Conn.(interface{ SetWriteBuffer(bytes int) error }); ok {
		return s.SetWriteBuffer(bytes)
	}
	return nil
}

// SetDeadline implements [net.Conn].
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// CloseWrite ends what the client reads. net/http does so before it closes a connection on which the
// client still sends, so that the client sees the answer and not a reset.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}
