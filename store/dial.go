package store

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"time"
)

// dialer returns how to connect to a Redis. secure may be nil.
func dialer(timeout time.Duration, secure *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		plain := &punctual{conn}
		if secure == nil {
			return plain, nil
		}
		config := secure
		if config.ServerName == "" {
			config = secure.Clone()
			if config.ServerName, _, err = net.SplitHostPort(addr); err != nil {
				return nil, errors.Join(err, conn.Close())
			}
		}
		c := tls.Client(plain, config)
		if err := c.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return c, nil
	}
}

// punctual is a connection on which an answer that has come in time is read, however late.
//
// A process with thousands of connections and too few processors may get round to looking at one only
// after its deadline, and then a net.Conn does not look any more. So a gateway with more to do than it
// can would take its Redis for dead and refuse nearly all calls.
type punctual struct{ net.Conn }

// Read implements net.Conn.
func (c *punctual) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		if n := readNow(c.Conn, p); n > 0 {
			return n, nil
		}
	}
	return n, err
}
