// Package upstream is a small HTTP/1.1 client for one host. It sends a call on the caller's goroutine,
// over connections that it keeps, and tells of each call that fails whether any of it may have left:
// that is a fact of the connection, which counts the bytes that the kernel took. It never repeats a
// call. Parsing, TLS and dialling are the standard library's.
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// The errors of Client and Conn, besides those of package net and of contexts. None quotes what the
// other side sent.
var (
	ErrTimeout   = errors.New("upstream: no progress")                                              // for the timeout of the call
	ErrSwitching = errors.New("upstream switches protocols")                                        // nobody asked for it
	ErrOwn       = errors.New("the upstream's address is the address that this gateway listens on") // every call would come back
	ErrMalformed = errors.New("the answer is not HTTP")
)

// Options of New.
type Options struct {
	// DialTimeout bounds the making of a connection, with its TLS handshake; default and at most 10 s.
	DialTimeout time.Duration

	// TLS is the configuration for https; default TLS 1.2 or newer with the system's roots. Sessions are
	// used again.
	TLS *tls.Config

	// Dial makes a TCP connection; default a net.Dialer's, which looks the name up each time.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Own reports whether a connection between two addresses leads to a listener of this process. May be nil.
	Own func(remote, local net.Addr) bool

	MaxIdle  int           // connections that are kept; default 512
	IdleTime time.Duration // how long; default 45 s
}

// Client keeps connections to one host. It ignores HTTP_PROXY, follows no redirect, adds no header of its
// own and unpacks nothing. It speaks HTTP/1.1 only, because HTTP/2 repeats calls by itself. It is safe
// for concurrent use.
//
// Idle connections go after 45 s: before common servers close them from their side (60 to 75 s), for a
// call that meets such a close has an unknown fate, and soon enough for a changed address of the host's
// to be looked up again.
type Client struct {
	o Options

	mu       sync.Mutex // covers what follows
	host     string     // of the idle connections: scheme and authority
	idle     []*Conn    // the one that was used last is the last
	open     map[*Conn]bool
	watching *time.Timer // nil while no connection is open
}

// New returns a client.
func New(o Options) *Client {
	if o.DialTimeout <= 0 || o.DialTimeout > 10*time.Second {
		o.DialTimeout = 10 * time.Second
	}
	if o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if o.TLS.ClientSessionCache == nil {
		o.TLS = o.TLS.Clone()
		o.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	if o.MaxIdle <= 0 {
		o.MaxIdle = 512
	}
	if o.IdleTime <= 0 {
		o.IdleTime = 45 * time.Second
	}
	return &Client{o: o, open: make(map[*Conn]bool)}
}

// RoundTrip implements http.RoundTripper, with a timeout of 30 s.
func (c *Client) RoundTrip(r *http.Request) (*http.Response, error) {
	conn, err := c.Conn(r.Context(), r.URL)
	if err != nil {
		return nil, err
	}
	return conn.Do(r, 30*time.Second)
}

// Conn returns an idle connection to the host of target that is still usable, or makes one. With an
// error nothing has left. The caller must call Do or Release.
func (c *Client) Conn(ctx context.Context, target *url.URL) (*Conn, error) {
	host := target.Scheme + "://" + target.Host
	for {
		conn := c.take(host)
		if conn == nil {
			return c.dial(ctx, target, host)
		}
		if conn.usable() {
			return conn, nil
		}
		conn.close()
	}
}

// take takes an idle connection, if there is one. Those to another host than before are closed.
func (c *Client) take(host string) *Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.host != host {
		c.host = host
		c.closeIdleLocked(len(c.idle))
	}
	last := len(c.idle) - 1
	if last < 0 {
		return nil
	}
	conn := c.idle[last]
	c.idle[last] = nil
	c.idle = c.idle[:last]
	return conn
}

// put keeps a connection for other calls, or closes it.
func (c *Client) put(conn *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn.host != c.host || len(c.idle) >= c.o.MaxIdle {
		c.closeLocked(conn)
		return
	}
	conn.fresh, conn.idleSince = false, time.Now()
	c.idle = append(c.idle, conn)
}

func (c *Client) closeLocked(conn *Conn) {
	delete(c.open, conn)
	conn.raw.Close()
}

// closeIdleLocked closes the n connections that have been idle for the longest.
func (c *Client) closeIdleLocked(n int) {
	for _, conn := range c.idle[:n] {
		c.closeLocked(conn)
	}
	c.idle = append(c.idle[:0], c.idle[n:]...)
	clear(c.idle[len(c.idle):cap(c.idle)])
}

// CloseIdleConnections closes the connections that serve no call.
func (c *Client) CloseIdleConnections() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeIdleLocked(len(c.idle))
}

// dial makes a connection.
func (c *Client) dial(ctx context.Context, target *url.URL, host string) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.DialTimeout)
	defer cancel()
	port := target.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[target.Scheme]
	}
	raw, err := c.o.Dial(ctx, "tcp", net.JoinHostPort(target.Hostname(), port))
	if err != nil {
		return nil, err
	}
	if c.o.Own != nil && c.o.Own(raw.RemoteAddr(), raw.LocalAddr()) {
		raw.Close()
		return nil, ErrOwn
	}
	var secure *tls.Conn
	if target.Scheme == "https" {
		config := c.o.TLS.Clone() // a name that is set is a test's
		if config.ServerName == "" {
			config.ServerName = target.Hostname()
		}
		secure = tls.Client(raw, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, err
		}
	}
	conn := newConn(c, host, raw, secure)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[conn] = true
	if c.watching == nil {
		c.watching = time.AfterFunc(watchInterval, c.watch)
	}
	return conn, nil
}

// watchInterval is how late a call may notice that its client went away.
const watchInterval = 100 * time.Millisecond

// watch closes the connections of calls whose context has ended, and those that were idle for too long.
// One timer for all calls costs less than a goroutine or a context.AfterFunc for each.
func (c *Client) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		conn.cutIfDone()
	}
	n := 0
	for n < len(c.idle) && time.Since(c.idle[n].idleSince) > c.o.IdleTime {
		n++
	}
	c.closeIdleLocked(n)
	if len(c.open) == 0 {
		c.watching = nil
		return
	}
	c.watching.Reset(watchInterval)
}
