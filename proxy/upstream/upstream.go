// Package upstream is a small HTTP/1.1 client for one host. A gateway uses it in place of net/http's
// Transport, because that one repeats calls by itself, cannot tell whether a failed call has left, and
// moves each call through two goroutines of the connection.
//
// Here a call is written and read on the goroutine that makes it. Nothing is ever repeated. The package
// speaks HTTP/1.1 only, ignores HTTP_PROXY, follows no redirect, adds no header but Host, Content-Length and
// Connection, and unpacks nothing. A request without a User-Agent gets that of net/http, unless its header
// holds "User-Agent": nil. The header goes out in no particular order.
package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

const (
	defaultTimeout  = 30 * time.Second
	maxDialTimeout  = 10 * time.Second
	defaultMaxIdle  = 512
	defaultIdleTime = 45 * time.Second
)

// Options are what a Client can be made with. The zero value is fit for use.
type Options struct {
	// DialTimeout bounds the making of a connection, its TLS handshake included. It is 10 s by default
	// and at most.
	DialTimeout time.Duration
	// TLS is cloned for each connection, and gets the target's name unless it has a ServerName. By default
	// it asks for TLS 1.2 or newer, verifies by the system's roots, and resumes sessions.
	TLS *tls.Config
	// Dial makes a TCP connection; by default that of a net.Dialer, which looks the name up each time.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Own reports whether a connection leads to a listener of this process. Conn then returns ErrOwn. By
	// default none does.
	Own func(remote, local net.Addr) bool
	// MaxIdle is how many idle connections are kept, by default 512.
	MaxIdle int
	// IdleTime is how long an idle connection is kept, by default 45 s: it is closed before common servers
	// close it from their side (60 to 75 s), because a call that meets such a close has an unknown fate, and
	// soon enough for a changed address of the host to be looked up again.
	IdleTime time.Duration
}

// Client keeps connections to one host, the target of the latest call. It is safe for concurrent use.
type Client struct {
	o    Options
	pool pool
}

// New returns a Client.
func New(o Options) *Client {
	if o.DialTimeout <= 0 || o.DialTimeout > maxDialTimeout {
		o.DialTimeout = maxDialTimeout
	}
	if o.MaxIdle <= 0 {
		o.MaxIdle = defaultMaxIdle
	}
	if o.IdleTime <= 0 {
		o.IdleTime = defaultIdleTime
	}
	if o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(0)}
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	c := &Client{o: o}
	c.pool.init(o.MaxIdle, o.IdleTime)
	return c
}

// Conn returns a connection to target for one call: an idle one that is still usable, or a new one. Of
// target only the scheme, http or https, and the host count; the host is an IP address or an ASCII name,
// which is looked up for each new connection. A target that differs from that of the call before closes
// the connections to the former one.
//
// The caller ends the use of a connection with Do or Release. An error means that nothing has left:
// ErrOwn, ErrTimeout, the cause of ctx's end, or what failed in dialling.
func (c *Client) Conn(ctx context.Context, target *url.URL) (*Conn, error) {
	for {
		w, epoch := c.pool.take(target.Scheme, target.Host)
		if w == nil {
			w, err := c.dial(ctx, target)
			if err != nil {
				return nil, err
			}
			w.epoch = epoch
			c.pool.add(w)
			return &Conn{pool: &c.pool, wire: w, fresh: true}, nil
		}
		if w.quiet() {
			return &Conn{pool: &c.pool, wire: w}, nil
		}
		c.pool.put(w, false)
	}
}

// RoundTrip implements [http.RoundTripper] with a timeout of 30 s.
func (c *Client) RoundTrip(r *http.Request) (*http.Response, error) {
	conn, err := c.Conn(r.Context(), r.URL)
	if err != nil {
		closeBody(r)
		return nil, err
	}
	return conn.Do(r, defaultTimeout)
}

// CloseIdleConnections closes the idle connections, and has those in use closed when their call ends.
func (c *Client) CloseIdleConnections() { c.pool.closeIdle() }

// dial makes a connection.
func (c *Client) dial(ctx context.Context, target *url.URL) (*wire, error) {
	port := target.Port()
	switch {
	case target.Scheme != "http" && target.Scheme != "https":
		return nil, fmt.Errorf("upstream scheme %q: want http or https", target.Scheme)
	case port != "":
	case target.Scheme == "http":
		port = "80"
	default:
		port = "443"
	}
	bounded, cancel := context.WithTimeoutCause(ctx, c.o.DialTimeout, ErrTimeout)
	defer cancel()
	conn, err := c.o.Dial(bounded, "tcp", net.JoinHostPort(target.Hostname(), port))
	if err != nil {
		return nil, dialFailure(bounded, "dialling", err)
	}
	if c.o.Own != nil && c.o.Own(conn.RemoteAddr(), conn.LocalAddr()) {
		conn.Close()
		return nil, ErrOwn
	}
	w := newWire(conn)
	if target.Scheme == "http" {
		return w, nil
	}
	config := c.o.TLS.Clone()
	config.NextProtos = nil // no HTTP/2
	if config.ServerName == "" {
		config.ServerName = target.Hostname()
	}
	secure := tls.Client(w.socket, config)
	if err := secure.HandshakeContext(bounded); err != nil {
		conn.Close()
		return nil, dialFailure(bounded, "TLS handshake", err)
	}
	w.conn = secure
	return w, nil
}

// pool holds the connections that are idle and knows those that are in use.
type pool struct {
	maxIdle  int
	idleTime time.Duration

	mu           sync.Mutex // covers what follows
	scheme, host string
	epoch        int     // moves on with scheme and host; a wire of an earlier one is not kept
	idle         []*wire // the one that was used last is the last
	busy         []*wire // each knows its index
	watch        *time.Timer
	watching     bool // watch ends within watchTime
}

// watchTime is how long it takes at most until a call whose context has ended is cut. One timer for all
// calls costs a call nothing; a context.AfterFunc for each costs 1.6 us and five allocations.
const watchTime = 100 * time.Millisecond

func (p *pool) init(maxIdle int, idleTime time.Duration) {
	p.maxIdle, p.idleTime = maxIdle, idleTime
	p.watch = time.AfterFunc(time.Hour, p.look)
	p.watch.Stop()
}

// take moves an idle connection to those in use, or returns nil if there is none. It returns the epoch for
// one that is dialled instead.
func (p *pool) take(scheme, host string) (*wire, int) {
	p.mu.Lock()
	var former []*wire
	if p.host != host || p.scheme != scheme {
		p.scheme, p.host = scheme, host
		former = p.clearLocked()
	}
	var w *wire
	if last := len(p.idle) - 1; last >= 0 {
		w, p.idle[last] = p.idle[last], nil
		p.idle = p.idle[:last]
		p.addLocked(w)
	}
	epoch := p.epoch
	p.mu.Unlock()
	closeAll(former)
	return w, epoch
}

// add adds a connection to those in use.
func (p *pool) add(w *wire) {
	p.mu.Lock()
	p.addLocked(w)
	p.mu.Unlock()
}

func (p *pool) addLocked(w *wire) {
	w.index = len(p.busy)
	p.busy = append(p.busy, w)
	if !p.watching {
		p.watching = true
		p.watch.Reset(watchTime)
	}
}

// put ends the use of a connection: keep says that it may serve another call.
func (p *pool) put(w *wire, keep bool) {
	keep = w.end() && keep
	p.mu.Lock()
	last := len(p.busy) - 1
	p.busy[w.index], p.busy[last].index = p.busy[last], w.index
	p.busy[last] = nil
	p.busy = p.busy[:last]
	keep = keep && w.epoch == p.epoch && len(p.idle) < p.maxIdle
	if keep {
		w.idleSince = time.Now()
		p.idle = append(p.idle, w)
	}
	p.mu.Unlock()
	if !keep {
		w.close()
	}
}

// clearLocked begins an epoch and returns the connections that were idle.
func (p *pool) clearLocked() []*wire {
	idle := p.idle
	p.idle = nil
	p.epoch++
	return idle
}

func (p *pool) closeIdle() {
	p.mu.Lock()
	idle := p.clearLocked()
	p.mu.Unlock()
	closeAll(idle)
}

// look cuts the connections whose call's context has ended, closes those that have been idle for too
// long, and is called again while there are connections.
func (p *pool) look() {
	p.mu.Lock()
	for _, w := range p.busy {
		w.cutIfDone()
	}
	now := time.Now()
	n := 0
	for n < len(p.idle) && now.Sub(p.idle[n].idleSince) >= p.idleTime {
		n++
	}
	old := slices.Clone(p.idle[:n])
	p.idle = slices.Delete(p.idle, 0, n)
	p.watching = len(p.busy) > 0
	switch {
	case p.watching:
		p.watch.Reset(watchTime)
	case len(p.idle) > 0:
		p.watch.Reset(p.idle[0].idleSince.Add(p.idleTime).Sub(now))
	}
	p.mu.Unlock()
	closeAll(old)
}

func closeAll(wires []*wire) {
	for _, w := range wires {
		w.conn.Close() // with TLS's goodbye
	}
}
