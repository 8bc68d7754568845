package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestReuse(t *testing.T) {
	for scheme, secure := range schemes {
		t.Run(scheme, func(t *testing.T) {
			s := newServer(t, secure, func(x *exchange) bool {
				if x.r.Method == "HEAD" {
					x.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				} else {
					x.answer(fmt.Sprintf("%s %s %d", x.r.Method, x.body, x.n))
				}
				return true
			})
			c := s.client(Options{})
			for i, tt := range []struct{ method, body string }{
				{"GET", ""}, {"POST", "a"}, {"POST", strings.Repeat("x", 60<<10)}, {"POST", strings.Repeat("x", 1<<20)}, {"HEAD", ""}, {"GET", ""},
			} {
				want := ""
				if tt.method != "HEAD" {
					want = fmt.Sprintf("%s %s %d", tt.method, tt.body, i)
				}
				conn := s.conn(c)
				if conn.Fresh() != (i == 0) {
					t.Errorf("call %d: Fresh = %t", i, conn.Fresh())
				}
				conn.Release()
				conn.Release()
				if got, err := s.do(c, s.request(t.Context(), tt.method, tt.body), 0); err != nil || got != want {
					t.Errorf("%s with %d bytes: %.50q, %v", tt.method, len(tt.body), got, err)
				}
				if err := tryDo(conn, s.request(t.Context(), "GET", ""), 0); !errors.Is(err, ErrUsed) {
					t.Errorf("Do after Release: %v", err)
				}
			}
			if n := s.connections(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
}

// The connection that was used last is used first, so that those of a busy hour age.
func TestLastInFirstOut(t *testing.T) {
	s := newServer(t, false, where)
	c := s.client(Options{MaxIdle: 2})
	conns := []*Conn{s.conn(c), s.conn(c), s.conn(c)}
	for i, conn := range conns {
		conn.Release()
		if _, idle := c.pool.count(); idle != min(i+1, 2) {
			t.Errorf("%d idle, want %d", idle, min(i+1, 2))
		}
	}
	first := s.get(c)
	for range 3 {
		if again := s.get(c); again[:1] != first[:1] {
			t.Errorf("connection %s after %s, want the same", again, first)
		}
	}
	busy := s.conn(c)
	if second := s.get(c); second[:1] == first[:1] {
		t.Errorf("connection %s while it is in use", second)
	}
	busy.Release()
}

func TestIdleTime(t *testing.T) {
	t.Parallel()
	for scheme, secure := range schemes {
		t.Run(scheme, func(t *testing.T) {
			s := newServer(t, secure, where)
			c := s.client(Options{IdleTime: 300 * time.Millisecond})
			began := time.Now()
			s.get(c)
			eventually(t, "the idle connection is closed", func() bool { _, idle := c.pool.count(); return idle == 0 })
			if took := time.Since(began); took < 300*time.Millisecond {
				t.Errorf("closed after %v", took)
			}
			if got := s.get(c); got != "1.0" {
				t.Errorf("answer = %s, want that of a new connection", got)
			}
		})
	}
}

func TestTargetChanges(t *testing.T) {
	ended := make(chan bool, 1)
	former := newServer(t, false, func(x *exchange) bool {
		where(x)
		_, err := x.Read(make([]byte, 1))
		ended <- errors.Is(err, io.EOF)
		return false
	})
	s := newServer(t, false, where)
	c := s.client(Options{})
	former.get(c)
	s.get(c)
	if !<-ended {
		t.Error("the former target's connection was not closed")
	}
	// One in use goes when its call is over.
	conn := former.conn(c)
	s.get(c)
	conn.Release()
	if _, idle := c.pool.count(); idle != 1 {
		t.Errorf("%d idle, want that of the new target", idle)
	}
	conn = s.conn(c)
	c.CloseIdleConnections()
	conn.Release()
	if busy, idle := c.pool.count(); busy+idle != 0 {
		t.Errorf("%d connections after CloseIdleConnections, want none", busy+idle)
	}
}

// A connection that has ended, or has bytes that no call has asked for, is not used.
func TestStale(t *testing.T) {
	tests := []struct {
		name string
		late string // comes after the answer
		end  bool
	}{
		{"closed", "", true},
		{"an answer", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nCANARY", false},
		{"a timeout's answer", "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", true},
		{"one byte", "C", false},
	}
	for scheme, secure := range schemes {
		t.Run(scheme, func(t *testing.T) {
			for _, tt := range tests {
				for _, together := range []bool{true, false} {
					t.Run(fmt.Sprint(tt.name, " together=", together), func(t *testing.T) {
						said := make(chan bool, 1)
						s := newServer(t, secure, func(x *exchange) bool {
							if x.conn > 0 {
								return where(x)
							}
							answer := "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n0.0"
							if together {
								x.say("%s%s", answer, tt.late)
							} else {
								x.say("%s", answer)
								x.say("%s", tt.late) // TLS: another record, which may be read with the first
							}
							if tt.end {
								x.Close()
							}
							said <- true
							return !tt.end
						})
						c := s.client(Options{})
						if got := s.get(c); got != "0.0" {
							t.Errorf("answer = %s", got)
						}
						<-said
						if tt.end {
							// The end needs a moment.
							eventually(t, "a new connection", func() bool {
								conn := s.conn(c)
								defer conn.Release()
								return conn.Fresh()
							})
						}
						for n := range 2 {
							if got, want := s.get(c), fmt.Sprint("1.", n); got != want {
								t.Errorf("answer = %q, want %s", got, want)
							}
						}
					})
				}
			}
		})
	}
}

func TestDialFails(t *testing.T) {
	mute := listen(t, false, func(_ int, conn net.Conn, over <-chan struct{}) { _, _ = io.Copy(io.Discard, conn) })
	hangsUp := listen(t, false, func(_ int, conn net.Conn, over <-chan struct{}) { _, _ = conn.Read(make([]byte, 1)) })
	plain := newServer(t, false, where)
	refuses := listen(t, false, func(_ int, conn net.Conn, over <-chan struct{}) {
		_ = tls.Server(conn, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, io.EOF }}).Handshake() //nolint:contextcheck // a test
	})
	old := listen(t, false, func(_ int, conn net.Conn, over <-chan struct{}) {
		certificate, _ := testCertificate()
		_ = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}).Handshake()
	})
	secure := newServer(t, true, where)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	gone, leave := context.WithCancelCause(t.Context())
	errLeft := errors.New("the client left")
	leave(errLeft)
	addr := func(s *server) string { return s.target().Host }
	tests := []struct {
		name, url string
		o         Options
		ctx       context.Context
		is        error
		text      string
	}{
		{name: "nothing listens", url: "http://" + ln.Addr().String(), text: "connection refused"},
		{name: "no such host", url: "http://nothing.invalid", text: "nothing.invalid"},
		{name: "no such scheme", url: "ftp://" + addr(plain), text: `upstream scheme "ftp": want http or https`},
		{name: "silence", url: "https://" + addr(mute), is: ErrTimeout, text: "TLS handshake: " + ErrTimeout.Error()},
		{name: "the client leaves", url: "https://" + addr(mute), ctx: gone, is: errLeft},
		{name: "no TLS", url: "https://" + addr(hangsUp), text: "TLS handshake: "},
		{name: "HTTP", url: "https://" + addr(plain), text: "TLS handshake: upstream does not speak TLS"},
		{name: "an alert", url: "https://" + addr(refuses), text: "internal error"},
		{name: "TLS 1.1", url: "https://" + addr(old), text: "protocol version"},
		{name: "unknown issuer", url: secure.url, text: "TLS handshake: the certificate's issuer is unknown"},
		{name: "another name", url: secure.url, o: Options{TLS: &tls.Config{RootCAs: secure.tls.RootCAs, ServerName: "canary.example.org"}}, text: "TLS handshake: the certificate is for another name"},
		{name: "another time", url: secure.url, o: Options{TLS: &tls.Config{RootCAs: secure.tls.RootCAs, Time: func() time.Time { return time.Unix(1<<40, 0) }}}, text: "TLS handshake: the certificate is not valid"},
		{name: "its own listener", url: secure.url, o: Options{Own: func(remote, local net.Addr) bool {
			return remote.String() == addr(secure) && strings.HasPrefix(local.String(), "127.0.0.1:")
		}}, is: ErrOwn, text: "the upstream address is this process's own listener"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			target, err := url.Parse(tt.url)
			if err != nil {
				t.Fatal(err)
			}
			if tt.o.DialTimeout = 5 * time.Second; errors.Is(tt.is, ErrTimeout) {
				tt.o.DialTimeout = 100 * time.Millisecond
			}
			if tt.ctx == nil {
				tt.ctx = t.Context()
			}
			c := New(tt.o)
			_, err = c.Conn(tt.ctx, target)
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error = %v, want %v and %q", err, tt.is, tt.text)
			}
			if strings.Contains(err.Error(), "example.com") || strings.Contains(err.Error(), "Acme") {
				t.Errorf("error = %v: quotes the certificate", err)
			}
			if busy, idle := c.pool.count(); busy+idle != 0 {
				t.Errorf("%d connections", busy+idle)
			}
		})
	}
	t.Run("the client leaves in the handshake", func(t *testing.T) {
		ctx, leave := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { leave(errLeft) })
		target, _ := url.Parse("https://" + addr(mute))
		if _, err := New(Options{}).Conn(ctx, target); !errors.Is(err, errLeft) {
			t.Errorf("error = %v", err)
		}
	})
}

func TestTLS(t *testing.T) {
	var states []tls.ConnectionState
	s := newServer(t, true, func(x *exchange) bool {
		states = append(states, x.Conn.(*tls.Conn).ConnectionState())
		where(x)
		return false
	})
	c := s.client(Options{})
	s.get(c)
	eventually(t, "the server closes", func() bool {
		conn := s.conn(c)
		defer conn.Release()
		return conn.Fresh()
	})
	s.get(c)
	if len(states) != 2 || states[0].NegotiatedProtocol != "" || states[0].Version < tls.VersionTLS12 {
		t.Errorf("states = %+v", states)
	}
	if !states[1].DidResume {
		t.Error("the session was not resumed")
	}
	config := New(Options{}).o.TLS
	if config.MinVersion != tls.VersionTLS12 || config.InsecureSkipVerify || config.ClientSessionCache == nil {
		t.Errorf("TLS = %+v", config)
	}
}

func TestOptions(t *testing.T) {
	for dial, want := range map[time.Duration]time.Duration{0: 10 * time.Second, time.Second: time.Second, time.Minute: 10 * time.Second, -1: 10 * time.Second} {
		if got := New(Options{DialTimeout: dial}).o.DialTimeout; got != want {
			t.Errorf("DialTimeout %v = %v, want %v", dial, got, want)
		}
	}
	if o := New(Options{}).o; o.MaxIdle != 512 || o.IdleTime != 45*time.Second {
		t.Errorf("options = %+v", o)
	}
}

// A call's end and the end of its context come together in all orders. Whatever comes first, the next call on
// the connection is not cut.
func TestCutsItsOwnCallOnly(t *testing.T) {
	t.Parallel()
	for scheme, secure := range schemes {
		t.Run(scheme, func(t *testing.T) {
			s := newServer(t, secure, where)
			c := s.client(Options{})
			stop, looked := make(chan bool), make(chan bool)
			go func() { // much more often than each 100 ms
				defer close(looked)
				for {
					select {
					case <-stop:
						return
					default:
						c.pool.look()
					}
				}
			}()
			calls := 300
			if secure {
				calls = 40 // a handshake after each cut
			}
			var cut, whole atomic.Int64
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for range calls {
						ctx, cancel := context.WithCancel(t.Context())
						go cancel()
						conn, err := c.Conn(t.Context(), s.target())
						if err != nil {
							t.Error(err)
							return
						}
						res, err := conn.Do(s.request(ctx, "GET", ""), 0)
						if err == nil {
							_, err = io.ReadAll(res.Body)
							res.Body.Close()
						}
						switch {
						case err == nil:
							whole.Add(1)
						case errors.Is(err, context.Canceled):
							cut.Add(1)
						default:
							t.Errorf("a call that was given up: %v", err)
						}
						s.get(c) // must succeed
					}
				})
			}
			wg.Wait()
			close(stop)
			<-looked
			t.Logf("%d calls cut, %d not", cut.Load(), whole.Load())
			if cut.Load() == 0 || whole.Load() == 0 {
				t.Error("the test proves nothing")
			}
		})
	}
}

// A connection that is cut when its call is over already is not kept.
func TestCutIsNotKept(t *testing.T) {
	s := newServer(t, false, where)
	c := s.client(Options{})
	conn := s.conn(c)
	ctx, cancel := context.WithCancel(t.Context())
	conn.wire.begin(ctx, time.Minute)
	cancel()
	c.pool.look()
	conn.Release()
	if busy, idle := c.pool.count(); busy+idle != 0 {
		t.Errorf("%d connections in use, %d idle; want none", busy, idle)
	}
}

// The watch rests while nothing is in use, and is there again for the next call.
func TestWatchRests(t *testing.T) {
	s := newServer(t, false, func(x *exchange) bool { return x.n > 0 || where(x) })
	c := s.client(Options{IdleTime: time.Hour})
	s.get(c)
	eventually(t, "the watch rests", func() bool {
		c.pool.mu.Lock()
		defer c.pool.mu.Unlock()
		return !c.pool.watching
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := s.do(c, s.request(ctx, "GET", ""), time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error = %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}
