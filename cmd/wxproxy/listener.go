package main

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// writeStall is how long a client may take nothing of its answer. http.Server's own WriteTimeout bounds
// the whole answer instead, so it would cut a large one on its way to a slow client.
const writeStall = 30 * time.Second

// listener is a listener whose connections are cut when the client takes nothing for stall. It belongs
// below TLS, where a handshake and an alert are writes too.
type listener struct {
	net.Listener
	stall  time.Duration
	failed func(error) // called with each error of Accept while the listener is open
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		if !errors.Is(err, net.ErrClosed) {
			l.failed(err)
		}
		return nil, err
	}
	return &conn{Conn: c, stall: l.stall}, nil
}

// conn fails a Write and closes the connection once nothing was taken for stall, or up to a quarter more. A
// write deadline that the server sets itself holds instead: net/http sets one for a TLS handshake,
// crypto/tls for its last alert. Reading and its deadlines are the server's alone.
type conn struct {
	net.Conn
	stall time.Duration

	mu    sync.Mutex
	armed time.Time // when the deadline was last set; zero: it is not
	asked time.Time // the server's own deadline; zero: it has none
}

// stallParts is into how many deadlines a stall is divided. One that passes ends nothing unless nothing was
// taken in all of them: it does not tell when in its time something was.
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
