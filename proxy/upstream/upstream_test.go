package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is an upstream that speaks in bytes.
type server struct {
	testing.TB
	url   string
	tls   *tls.Config // for clients; nil without TLS
	mu    sync.Mutex  // covers conns
	conns []net.Conn
}

// exchange is one request as the server has it.
type exchange struct {
	net.Conn
	r    *http.Request
	body string
	conn int // number of the connection, from 0
	n    int // number of the request on it, from 0
}

func (x *exchange) say(format string, args ...any) {
	fmt.Fprintf(x.Conn, format, args...) // a client that is gone needs no answer
}

// answer says an answer with a length.
func (x *exchange) answer(body string) {
	x.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// newServer has serve answer each request, which was read whole, until it returns false.
func newServer(tb testing.TB, secure bool, serve func(x *exchange) bool) *server {
	tb.Helper()
	return listen(tb, secure, func(n int, conn net.Conn, _ <-chan struct{}) {
		from := bufio.NewReader(conn)
		for i := 0; ; i++ {
			r, err := http.ReadRequest(from)
			if err != nil {
				fmt.Fprint(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
				return
			}
			body, err := io.ReadAll(r.Body)
			if err != nil || !serve(&exchange{conn, r, string(body), n, i}) {
				return
			}
		}
	})
}

// listen has serve handle each connection, which is closed then. over is closed at the test's end.
func listen(tb testing.TB, secure bool, serve func(n int, conn net.Conn, over <-chan struct{})) *server {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &server{TB: tb, url: "http://" + ln.Addr().String()}
	if secure {
		certificate, roots := testCertificate()
		s.tls = &tls.Config{RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(0)}
		s.url = "https://" + ln.Addr().String()
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}})
	}
	var wg sync.WaitGroup
	over := make(chan struct{})
	wg.Go(func() {
		for n := 0; ; n++ {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				serve(n, conn, over)
			})
		}
	})
	tb.Cleanup(func() {
		close(over)
		ln.Close()
		s.mu.Lock()
		for _, conn := range s.conns {
			conn.Close()
		}
		s.mu.Unlock()
		wg.Wait()
	})
	return s
}

// testCertificate is httptest's, of 127.0.0.1 and example.com.
var testCertificate = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	u := httptest.NewUnstartedServer(nil)
	u.StartTLS()
	defer u.Close()
	roots := x509.NewCertPool()
	roots.AddCert(u.Certificate())
	return u.TLS.Certificates[0], roots
})

// connections returns how many connections were made.
func (s *server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// client returns a client. At the test's end none of its connections may be in use.
func (s *server) client(o Options) *Client {
	if o.TLS == nil {
		o.TLS = s.tls
	}
	c := New(o)
	s.Cleanup(func() {
		c.CloseIdleConnections()
		if busy, idle := c.pool.count(); busy != 0 || idle != 0 {
			s.Errorf("%d connections in use and %d idle at the end, want none", busy, idle)
		}
	})
	return c
}

func (p *pool) count() (busy, idle int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.busy), len(p.idle)
}

func (s *server) target() *url.URL {
	u, err := url.Parse(s.url)
	if err != nil {
		s.Fatal(err)
	}
	return u
}

func (s *server) request(ctx context.Context, method, body string) *http.Request {
	s.Helper()
	var from io.Reader
	if body != "" {
		from = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, s.url+"/path?query", from)
	if err != nil {
		s.Fatal(err)
	}
	r.Header["User-Agent"] = nil
	return r
}

// conn returns a connection for a call.
func (s *server) conn(c *Client) *Conn {
	s.Helper()
	conn, err := c.Conn(context.Background(), s.target())
	if err != nil {
		s.Fatal(err)
	}
	return conn
}

// do makes a call and reads its answer.
func (s *server) do(c *Client, r *http.Request, timeout time.Duration) (string, error) {
	s.Helper()
	res, err := s.conn(c).Do(r, timeout)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return string(text), err
}

// tryDo returns the error of a call.
func tryDo(conn *Conn, r *http.Request, timeout time.Duration) error {
	res, err := conn.Do(r, timeout)
	if err == nil {
		res.Body.Close()
	}
	return err
}

// get makes a call that must succeed and returns its answer.
func (s *server) get(c *Client) string {
	s.Helper()
	text, err := s.do(c, s.request(context.Background(), "GET", ""), 0)
	if err != nil {
		s.Error(err)
	}
	return text
}

// eventually waits for a condition.
func eventually(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("not within 20 s: %s", what)
		}
	}
}

// schemes are without and with TLS.
var schemes = map[string]bool{"http": false, "https": true}

// where answers with the numbers of the connection and of the request on it.
func where(x *exchange) bool {
	x.answer(fmt.Sprintf("%d.%d", x.conn, x.n))
	return true
}
