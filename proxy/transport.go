package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// NewTransport returns the transport to WeChat. timeout bounds the making of a connection, ten
// seconds at most; what comes after is bounded by each call.
//
// It speaks HTTP/1.1 only, because HTTP/2 repeats calls by itself. It ignores HTTP_PROXY, follows
// no redirect, adds no Accept-Encoding and unpacks nothing. Idle connections go after 45 s: before
// common servers close them from their side (60 to 75 s), for a call that meets such a close has
// an unknown fate, and soon enough for a changed address of WeChat's to be looked up again.
func NewTransport(timeout time.Duration) *http.Transport {
	if timeout <= 0 || timeout > 10*time.Second {
		timeout = 10 * time.Second
	}
	dialer := &net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	t := &http.Transport{
		DisableCompression:  true,
		Protocols:           protocols,
		MaxIdleConnsPerHost: 512,
		IdleConnTimeout:     45 * time.Second,
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			ClientSessionCache: tls.NewLRUClientSessionCache(0),
		},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &wire{Conn: conn}, nil
		},
	}
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		secure := tls.Dialer{NetDialer: dialer, Config: t.TLSClientConfig}
		conn, err := secure.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &wire{Conn: conn}, nil
	}
	return t
}

// wire is a connection that can tell whether anything of a call has left on it. It lies above TLS:
// an alert is not part of a call, and a record that did not leave whole cannot be read by anybody.
type wire struct {
	net.Conn
	begun  atomic.Int64 // writes that were begun, without those that wrote nothing
	sealed atomic.Bool

	armed atomic.Bool // timer runs
	mu    sync.Mutex  // covers what follows, and the sealing of what dog guards
	dog   *watchdog   // of the call that the connection serves
	timer *time.Timer // looks after it
}

var errSealed = errors.New("connection sealed")

// Write writes unless the wire is sealed.
func (w *wire) Write(p []byte) (int, error) {
	if w.sealed.Load() {
		return 0, errSealed
	}
	w.begun.Add(1)
	if w.sealed.Load() { // since the line before last; seal has seen the write, or will not mind
		return 0, errSealed
	}
	n, err := w.Conn.Write(p)
	if n == 0 && err != nil {
		w.begun.Add(-1)
	}
	return n, err
}

// seal lets nothing leave any more, and reports whether nothing has left since begun stood at mark.
// What the order of Write's and seal's steps proves: a write that gets past its second look at
// sealed had raised begun before seal looks at it.
func (w *wire) seal(mark int64) bool {
	w.sealed.Store(true)
	return w.begun.Load() == mark
}

// serve notes that the connection serves the call of d from now on.
func (w *wire) serve(d *watchdog) {
	w.mu.Lock()
	w.dog = d
	w.mu.Unlock()
}

// leave notes that it does not serve the call of d any more.
func (w *wire) leave(d *watchdog) {
	w.mu.Lock()
	if w.dog == d {
		w.dog = nil
	}
	w.mu.Unlock()
}

// watch has the watchdog looked after in a while, or sooner.
func (w *wire) watch(after time.Duration) {
	if w.armed.Load() || !w.armed.CompareAndSwap(false, true) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer == nil {
		w.timer = time.AfterFunc(after, w.look)
	} else {
		w.timer.Reset(after)
	}
}

// look has the watchdog bark if its time has come, and else comes back when it will have.
func (w *wire) look() {
	d := w.served()
	left, on := d.left(time.Now())
	switch {
	case on && left <= 0:
		d.barked.Store(true)
		w.cut(d)
	case on:
		w.timer.Reset(left)
	default:
		w.armed.Store(false)
		if left, on := w.served().left(time.Now()); on { // it began since
			w.watch(left)
		}
	}
}

func (w *wire) served() *watchdog {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dog
}

// cut seals and closes the connection if it still serves the call of d. A call that gets it a moment
// later finds it sealed, so that nothing of it leaves.
func (w *wire) cut(d *watchdog) {
	w.mu.Lock()
	mine := w.dog == d
	if mine {
		w.dog = nil
		w.sealed.Store(true)
	}
	w.mu.Unlock()
	if mine {
		w.Close()
	}
}
