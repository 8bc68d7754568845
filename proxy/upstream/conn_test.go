package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const canary = "CANARY"

// Broken and odd answers on a connection that has served a call: what is wrong is an error, no text quotes
// what came, and the next call has its own answer.
func TestAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		method string // default GET
		answer string // to the second call of a connection
		close  bool   // by the server, after it
		want   string
		is     error
		reused bool
	}{
		{name: "length", answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", want: "hello", reused: true},
		{name: "chunks", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n", want: "hello", reused: true},
		{name: "trailer", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n", want: "hello", reused: true},
		{name: "empty", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", reused: true},
		{name: "HEAD", method: "HEAD", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", reused: true},
		{name: "HEAD with a body to come", method: "HEAD", answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"},
		{name: "204", answer: "HTTP/1.1 204 No Content\r\n\r\n", reused: true},
		{name: "304", answer: "HTTP/1.1 304 Not Modified\r\n\r\n", reused: true},
		{name: "five 1xx", answer: strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 5) + "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", want: "a", reused: true},
		{name: "HTTP/1.0 that stays", answer: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", want: "a", reused: true},
		{name: "status 999", answer: "HTTP/1.1 999 ?\r\nContent-Length: 1\r\n\r\na", want: "a", reused: true},
		{name: "gzip", answer: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\na", want: "a", reused: true},
		{name: "redirect", answer: "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 1\r\n\r\na", want: "a", reused: true},

		{name: "HTTP/1.0", answer: "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", want: "a"},
		{name: "Connection: close", answer: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na", want: "a"},
		{name: "to the end", answer: "HTTP/1.1 200 OK\r\n\r\nhello", close: true, want: "hello"},
		{name: "HEAD with a body", method: "HEAD", answer: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nCANARY"},
		{name: "HEAD with chunks", method: "HEAD", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nCANARY\r\n0\r\n\r\n"},
		{name: "204 with a body", answer: "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nCANARY"},
		{name: "204 with a body to come", answer: "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\n"},
		{name: "204 with chunks to come", answer: "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{name: "304 with a body", answer: "HTTP/1.1 304 Not Modified\r\n\r\nCANARY"},
		{name: "more than its length", answer: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naCANARY", want: "a"},
		{name: "more than its chunks", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nCANARY", want: "a"},
		{name: "two answers", answer: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nCANARY", want: "a"},

		{name: "nothing", close: true, is: ErrClosed},
		{name: "half a status", answer: "HTTP/1.1 20", close: true, is: ErrProtocol},
		{name: "half a header", answer: "HTTP/1.1 200 OK\r\nX: CANARY", close: true, is: ErrClosed},
		{name: "half a body", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", close: true, want: "hello", is: ErrClosed},
		{name: "half a chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello", close: true, want: "hello", is: ErrClosed},
		{name: "no last chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", close: true, want: "hello", is: ErrClosed},
		{name: "half a trailer", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: CANARY", close: true, is: ErrProtocol},
		{name: "bad trailer", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nCANARY\r\n\r\n", is: ErrProtocol},
		{name: "bad chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nCANARY\r\n", is: ErrProtocol},
		{name: "chunk longer than said", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naCANARY\r\n0\r\n\r\n", want: "a", is: ErrProtocol},
		{name: "no HTTP", answer: "CANARY CANARY\r\n\r\n", is: ErrProtocol},
		{name: "no status", answer: "HTTP/1.1 CANARY\r\n\r\n", is: ErrProtocol},
		{name: "status +20", answer: "HTTP/1.1 +20 CANARY\r\n\r\n", is: ErrProtocol},
		{name: "status 099", answer: "HTTP/1.1 099 CANARY\r\n\r\n", is: ErrProtocol},
		{name: "HTTP/2", answer: "HTTP/2.0 200 CANARY\r\nContent-Length: 0\r\n\r\n", is: ErrProtocol},
		{name: "bad version", answer: "HTTP/CANARY 200 OK\r\n\r\n", is: ErrProtocol},
		{name: "bad header", answer: "HTTP/1.1 200 OK\r\nCANARY\r\n\r\n", is: ErrProtocol},
		{name: "bad length", answer: "HTTP/1.1 200 OK\r\nContent-Length: CANARY\r\n\r\n", is: ErrProtocol},
		{name: "two lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nCANARY", is: ErrProtocol},
		{name: "bad encoding", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: CANARY\r\n\r\n", is: ErrProtocol},
		{name: "six 1xx", answer: strings.Repeat("HTTP/1.1 100 CANARY\r\n\r\n", 6) + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", is: ErrProtocol},
		{name: "101", answer: "HTTP/1.1 101 Switching Protocols\r\n\r\nCANARY", is: ErrSwitching},
		{name: "endless line", answer: "HTTP/1.1 200 " + strings.Repeat(canary, 200<<10), is: ErrHeader},
		{name: "endless header", answer: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: CANARY\r\n", 100<<10), is: ErrHeader},
		{name: "silence in a header", answer: "HTTP/1.1 200 OK\r\n", is: ErrTimeout},
		{name: "silence in a body", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", want: "hello", is: ErrTimeout},
		{name: "silence in chunks", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", want: "hello", is: ErrTimeout},
	}
	for scheme, secure := range schemes {
		t.Run(scheme, func(t *testing.T) {
			for _, tt := range tests {
				t.Run(tt.name, func(t *testing.T) {
					said := make(chan bool, 1)
					s := newServer(t, secure, func(x *exchange) bool {
						if x.r.Header.Get("X-Odd") == "" {
							return where(x)
						}
						x.say("%s", tt.answer)
						said <- true
						return !tt.close
					})
					c := s.client(Options{})
					if got := s.get(c); got != "0.0" {
						t.Fatalf("the first answer = %q", got)
					}
					method, timeout := "GET", 20*time.Second
					if tt.method != "" {
						method = tt.method
					}
					if errors.Is(tt.is, ErrTimeout) {
						timeout = 100 * time.Millisecond
					}
					r := s.request(t.Context(), method, "")
					r.Header.Set("X-Odd", "1")
					conn := s.conn(c)
					if conn.Fresh() {
						t.Error("the connection was not reused")
					}
					res, err := conn.Do(r, timeout)
					got := ""
					if err == nil {
						var text []byte
						text, err = io.ReadAll(res.Body)
						got = string(text)
						if tt.name == "trailer" && res.Trailer.Get("X-T") != "1" {
							t.Errorf("trailer = %v", res.Trailer)
						}
						res.Body.Close()
						res.Body.Close()
						if n, err := res.Body.Read(make([]byte, 9)); n != 0 || err == nil {
							t.Errorf("Read after Close = %d, %v", n, err)
						}
					} else if !conn.Left() {
						t.Error("Left = false of a call that was answered")
					}
					<-said
					if got != tt.want || (err == nil) != (tt.is == nil) || !errors.Is(err, tt.is) {
						t.Errorf("answer = %q, %v; want %q, %v", got, err, tt.want, tt.is)
					}
					if err != nil && strings.Contains(err.Error(), canary[:3]) {
						t.Errorf("error = %v: quotes the answer", err)
					}
					conn.Release() // does nothing
					want := "1.0"
					if tt.reused {
						want = "0.2"
					}
					if got := s.get(c); got != want {
						t.Errorf("the next answer = %q, want %q", got, want)
					}
				})
			}
		})
	}
}

// An answer that is closed before its end: what has come of it is read, so that the connection can be used again,
// but nothing is waited for.
func TestCloseEarly(t *testing.T) {
	tests := []struct {
		name, answer string
		reused       bool
	}{
		{"whole", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", true},
		{"whole in chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", true},
		{"more to come", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", false},
		{"more chunks to come", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false},
		{"long", "HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + strings.Repeat("x", 9000), false},
		{"to the end", "HTTP/1.1 200 OK\r\n\r\nhello", false},
		{"stray bytes", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloCANARY", false},
	}
	for scheme, secure := range schemes {
		t.Run(scheme, func(t *testing.T) {
			for _, tt := range tests {
				for _, read := range []int{0, 1} {
					t.Run(fmt.Sprint(tt.name, " after ", read), func(t *testing.T) {
						s := newServer(t, secure, func(x *exchange) bool {
							if x.conn == 0 && x.n == 0 {
								x.say("%s", tt.answer)
								return true
							}
							return where(x)
						})
						c := s.client(Options{})
						res, err := s.conn(c).Do(s.request(t.Context(), "GET", ""), 0)
						if err != nil {
							t.Fatal(err)
						}
						if _, err := io.ReadFull(res.Body, make([]byte, read)); err != nil {
							t.Error(err)
						}
						res.Body.Close()
						want := "1.0"
						if tt.reused {
							want = "0.1"
						}
						for range 2 {
							res.Body.Close()
						}
						if _, err := res.Body.Read(make([]byte, 1)); !errors.Is(err, http.ErrBodyReadAfterClose) {
							t.Errorf("Read after Close: %v", err)
						}
						if got := s.get(c); got != want {
							t.Errorf("the next answer = %q, want %q", got, want)
						}
						res.Body.Close()
					})
				}
			}
		})
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	const timeout, step, steps = 400 * time.Millisecond, 50 * time.Millisecond, 16
	for scheme, secure := range schemes {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			t.Run("silence", func(t *testing.T) {
				s := newServer(t, secure, func(*exchange) bool { return true })
				c := s.client(Options{})
				for range 2 {
					conn := s.conn(c)
					began := time.Now()
					err := tryDo(conn, s.request(t.Context(), "GET", ""), timeout)
					if took := time.Since(began); !errors.Is(err, ErrTimeout) || took < timeout || took > 10*time.Second || !conn.Left() {
						t.Errorf("error = %v after %v, Left = %t", err, took, conn.Left())
					}
				}
			})
			// A deadline that was set for one call does not end the next one, which has another timeout.
			t.Run("of one call", func(t *testing.T) {
				t.Parallel()
				s := newServer(t, secure, func(x *exchange) bool {
					if x.n == 1 {
						time.Sleep(3 * step)
					}
					return x.n == 4 || where(x)
				})
				c := s.client(Options{})
				for i, timeout := range []time.Duration{step, 20 * time.Second, step} {
					if i == 1 {
						time.Sleep(2 * step) // the deadline passes meanwhile
					}
					if got, err := s.do(c, s.request(t.Context(), "GET", ""), timeout); err != nil || got != fmt.Sprint("0.", i) {
						t.Errorf("call %d: %q, %v", i, got, err)
					}
				}
				if err := tryDo(s.conn(c), s.request(t.Context(), "GET", ""), 20*time.Second); err != nil {
					t.Error(err)
				}
				began := time.Now()
				if err := tryDo(s.conn(c), s.request(t.Context(), "GET", ""), step); !errors.Is(err, ErrTimeout) || time.Since(began) > 10*time.Second {
					t.Errorf("error = %v after %v", err, time.Since(began))
				}
			})
			t.Run("slow answer", func(t *testing.T) {
				t.Parallel()
				s := newServer(t, secure, func(x *exchange) bool {
					for _, b := range []byte("HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n") {
						x.say("%c", b)
					}
					for range steps {
						time.Sleep(step)
						x.say("x")
					}
					return true
				})
				if got, err := s.do(s.client(Options{}), s.request(t.Context(), "GET", ""), timeout); len(got) != steps || err != nil {
					t.Errorf("answer = %q, %v", got, err)
				}
			})
			t.Run("slow reader", func(t *testing.T) {
				t.Parallel()
				s := newServer(t, secure, func(x *exchange) bool {
					x.answer(strings.Repeat("x", 100000))
					return true
				})
				res, err := s.conn(s.client(Options{})).Do(s.request(t.Context(), "GET", ""), step)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				for n := 0; n < 100000; n += 25000 {
					time.Sleep(3 * step)
					if _, err := io.ReadFull(res.Body, make([]byte, 25000)); err != nil {
						t.Fatal(err)
					}
				}
			})
			t.Run("slow upload", func(t *testing.T) {
				t.Parallel()
				const size, timeout, step = 24 << 20, 2 * time.Second, 200 * time.Millisecond // a busy machine reads 1.5 MB in 2 s
				s := listen(t, secure, func(_ int, conn net.Conn, over <-chan struct{}) {
					from := bufio.NewReader(conn)
					r, err := http.ReadRequest(from)
					if err != nil {
						return
					}
					for n := int64(0); n < size; {
						m, err := io.CopyN(io.Discard, r.Body, size/steps)
						if n += m; err != nil {
							return
						}
						time.Sleep(step)
					}
					fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				})
				began := time.Now()
				got, err := s.do(s.client(Options{}), s.request(t.Context(), "POST", strings.Repeat("x", size)), timeout)
				if err != nil || got != "ok" || time.Since(began) < timeout {
					t.Errorf("answer = %q, %v after %v", got, err, time.Since(began))
				}
			})
			t.Run("upload that stops", func(t *testing.T) {
				t.Parallel()
				s := listen(t, secure, func(_ int, conn net.Conn, over <-chan struct{}) {
					_, _ = conn.Read(make([]byte, 1))
					<-over
				})
				conn := s.conn(s.client(Options{}))
				err := tryDo(conn, s.request(t.Context(), "POST", strings.Repeat("x", 24<<20)), timeout)
				if !errors.Is(err, ErrTimeout) || !conn.Left() {
					t.Errorf("error = %v, Left = %t", err, conn.Left())
				}
			})
		})
	}
}

func TestContext(t *testing.T) {
	t.Parallel()
	errLeft := errors.New("the client left")
	for scheme, secure := range schemes {
		t.Run(scheme, func(t *testing.T) {
			for _, size := range []int{0, 1000, 24 << 20} {
				t.Run(fmt.Sprint("in the wait with ", size), func(t *testing.T) {
					ctx, leave := context.WithCancelCause(t.Context())
					ended := make(chan bool)
					s := listen(t, secure, func(_ int, conn net.Conn, over <-chan struct{}) {
						_, _ = conn.Read(make([]byte, 100))
						leave(errLeft)
						_, _ = io.Copy(io.Discard, conn)
						close(ended)
					})
					conn := s.conn(s.client(Options{}))
					began := time.Now()
					err := tryDo(conn, s.request(ctx, "POST", strings.Repeat("x", size)), time.Minute)
					if !errors.Is(err, errLeft) || !conn.Left() || time.Since(began) > 20*time.Second {
						t.Errorf("error = %v after %v, Left = %t", err, time.Since(began), conn.Left())
					}
					<-ended
				})
			}
			t.Run("before the call", func(t *testing.T) {
				s := newServer(t, secure, where)
				ctx, leave := context.WithCancelCause(t.Context())
				conn := s.conn(s.client(Options{}))
				leave(errLeft)
				var body watchedBody
				r := s.request(ctx, "POST", "x")
				r.Body = &body
				if err := tryDo(conn, r, 0); !errors.Is(err, errLeft) || conn.Left() {
					t.Errorf("error = %v, Left = %t", err, conn.Left())
				}
				if !body.closed.Load() || body.reads.Load() > 0 {
					t.Error("the body was read, or not closed")
				}
			})
			t.Run("in the answer", func(t *testing.T) {
				ctx, leave := context.WithCancelCause(t.Context())
				s := newServer(t, secure, func(x *exchange) bool {
					x.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
					return true
				})
				res, err := s.conn(s.client(Options{})).Do(s.request(ctx, "GET", ""), time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(10*time.Millisecond, func() { leave(errLeft) })
				text, err := io.ReadAll(res.Body)
				if string(text) != "hello" || !errors.Is(err, errLeft) {
					t.Errorf("answer = %q, %v", text, err)
				}
				res.Body.Close()
			})
		})
	}
}

// watchedBody is a body of any length. It fails the test's purpose when it is read too late.
type watchedBody struct {
	size   int64
	err    error // in place of io.EOF
	over   atomic.Bool
	late   atomic.Int64 // reads after over
	reads  atomic.Int64
	closed atomic.Bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	if b.over.Load() {
		b.late.Add(1)
	}
	b.reads.Add(1)
	n := min(int64(len(p)), b.size)
	if b.size -= n; n > 0 {
		return copy(p, strings.Repeat("x", int(n))), nil
	}
	if b.err != nil {
		return 0, b.err
	}
	return 0, io.EOF
}

func (b *watchedBody) Close() error {
	b.closed.Store(true)
	return nil
}

// An answer that comes before the end of the body is read, the writing ends, and the body is left alone.
func TestEarlyAnswer(t *testing.T) {
	const answer = "HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nhello"
	tests := []struct {
		name  string
		serve func(conn net.Conn, over <-chan struct{})
	}{
		{"and nothing is read", func(conn net.Conn, over <-chan struct{}) {
			fmt.Fprint(conn, answer)
			<-over
		}},
		{"and all is read", func(conn net.Conn, over <-chan struct{}) {
			fmt.Fprint(conn, answer)
			_, _ = io.Copy(io.Discard, conn)
		}},
		{"and the end", func(conn net.Conn, over <-chan struct{}) { fmt.Fprint(conn, answer) }},
		{"slowly", func(conn net.Conn, over <-chan struct{}) {
			for _, b := range []byte(answer) {
				fmt.Fprintf(conn, "%c", b)
				time.Sleep(time.Millisecond)
			}
		}},
	}
	for scheme, secure := range schemes {
		t.Run(scheme, func(t *testing.T) {
			for _, tt := range tests {
				t.Run(tt.name, func(t *testing.T) {
					s := listen(t, secure, func(_ int, conn net.Conn, over <-chan struct{}) {
						if _, err := conn.Read(make([]byte, 1000)); err == nil {
							tt.serve(conn, over)
						}
					})
					c := s.client(Options{})
					body := &watchedBody{size: 1 << 30}
					r := s.request(t.Context(), "POST", "")
					r.Body, r.ContentLength = body, body.size
					began := time.Now()
					res, err := s.conn(c).Do(r, 20*time.Second)
					body.over.Store(true)
					if err != nil {
						t.Fatal(err)
					}
					text, err := io.ReadAll(res.Body)
					if res.StatusCode != 413 || string(text) != "hello" || err != nil {
						t.Errorf("answer = %d %q, %v", res.StatusCode, text, err)
					}
					res.Body.Close()
					if took := time.Since(began); took > 10*time.Second {
						t.Errorf("took %v", took)
					}
					if body.late.Load() > 0 || !body.closed.Load() {
						t.Errorf("%d reads of the body after Do, closed = %t", body.late.Load(), body.closed.Load())
					}
					if busy, idle := c.pool.count(); busy+idle != 0 {
						t.Errorf("%d connections in use, %d idle; want it closed", busy, idle)
					}
				})
			}
		})
	}
}

// An error of the body's, or one that ends too early or too late, ends the call; no answer is made up.
func TestBodyFails(t *testing.T) {
	errBody := errors.New("the body broke off")
	for scheme, secure := range schemes {
		t.Run(scheme, func(t *testing.T) {
			for _, size := range []int64{10, 1 << 20} {
				for _, tt := range []struct {
					name string
					body *watchedBody
					text string
				}{
					{"error", &watchedBody{size: size / 2, err: errBody}, errBody.Error()},
					{"short", &watchedBody{size: size / 2}, "ContentLength"},
					{"long", &watchedBody{size: size * 2}, "ContentLength"},
				} {
					t.Run(fmt.Sprint(tt.name, " of ", size), func(t *testing.T) {
						hold := make(chan bool)
						s := listen(t, secure, func(_ int, conn net.Conn, over <-chan struct{}) { _, _ = io.Copy(io.Discard, conn); close(hold) })
						c := s.client(Options{})
						r := s.request(t.Context(), "POST", "")
						r.Body, r.ContentLength = tt.body, size
						began := time.Now()
						err := tryDo(s.conn(c), r, 20*time.Second)
						tt.body.over.Store(true)
						if err == nil || !strings.Contains(err.Error(), tt.text) || time.Since(began) > 10*time.Second {
							t.Errorf("error = %v after %v, want %s", err, time.Since(began), tt.text)
						}
						<-hold
						if tt.body.late.Load() > 0 || !tt.body.closed.Load() {
							t.Errorf("%d reads of the body after Do, closed = %t", tt.body.late.Load(), tt.body.closed.Load())
						}
					})
				}
			}
			t.Run("unknown length", func(t *testing.T) {
				s := newServer(t, secure, where)
				conn := s.conn(s.client(Options{}))
				r := s.request(t.Context(), "GET", "")
				r.Body = &watchedBody{}
				if err := tryDo(conn, r, 0); !errors.Is(err, ErrLength) || conn.Left() {
					t.Errorf("error = %v, Left = %t", err, conn.Left())
				}
			})
		})
	}
}

// Left is what Write has returned. The connection is cut below the client before it writes: nothing left.
func TestLeft(t *testing.T) {
	for scheme, secure := range schemes {
		t.Run(scheme, func(t *testing.T) {
			s := newServer(t, secure, func(x *exchange) bool { return x.n == 0 && where(x) })
			c := s.client(Options{})
			for _, size := range []int{0, 10, 1 << 20} {
				s.get(c)
				conn := s.conn(c)
				conn.wire.Close()
				if err := tryDo(conn, s.request(t.Context(), "POST", strings.Repeat("x", size)), 0); !errors.Is(err, ErrClosed) || conn.Left() {
					t.Errorf("%d bytes on a closed connection: %v, Left = %t", size, err, conn.Left())
				}
				s.get(c)
				conn = s.conn(c)
				if err := tryDo(conn, s.request(t.Context(), "POST", strings.Repeat("x", size)), 0); !errors.Is(err, ErrClosed) || !conn.Left() {
					t.Errorf("%d bytes that were read: %v, Left = %t", size, err, conn.Left())
				}
			}
		})
	}
}

// A write that fails after an answer has come gives that answer.
func TestAnswerBeforeWriteFails(t *testing.T) {
	s := listen(t, false, func(_ int, conn net.Conn, over <-chan struct{}) {
		fmt.Fprint(conn, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")
		<-over
	})
	c := s.client(Options{})
	conn := s.conn(c)
	// Every write but the first fails.
	conn.wire.Conn = &failingConn{Conn: conn.wire.Conn}
	text := ""
	res, err := conn.Do(s.request(t.Context(), "POST", strings.Repeat("x", 60<<10)), 0)
	if err == nil {
		var b []byte
		b, err = io.ReadAll(res.Body)
		text = string(b)
		res.Body.Close()
	}
	if err != nil || text != "hello" {
		t.Errorf("answer = %q, %v", text, err)
	}
	if _, idle := c.pool.count(); idle != 0 {
		t.Error("the connection is kept")
	}
}

type failingConn struct {
	net.Conn
	writes int
}

func (c *failingConn) Write(p []byte) (int, error) {
	if c.writes++; c.writes > 1 {
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", net.ErrClosed)}
	}
	return c.Conn.Write(p)
}

// What leaves is what the request says, and nothing else.
func TestRequest(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	seen := make(chan string, 100) // more than are sent
	s := listen(t, false, func(_ int, conn net.Conn, over <-chan struct{}) {
		b := make([]byte, 1000)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			seen <- string(b[:n])
			fmt.Fprint(conn, "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx")
		}
	})
	c := s.client(Options{})
	r := s.request(t.Context(), "POST", "body")
	r.Header.Set("X-A", "b")
	res, err := c.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != 302 || string(text) != "xx" || res.Header.Get("Content-Encoding") != "gzip" || res.Request != r {
		t.Errorf("answer = %d %q %v", res.StatusCode, text, res.Header)
	}
	want := "POST /path?query HTTP/1.1\r\nHost: " + s.target().Host + "\r\nContent-Length: 4\r\nX-A: b\r\n\r\nbody"
	if got := <-seen; got != want {
		t.Errorf("request = %q, want %q", got, want)
	}
	for _, tt := range []struct {
		change func(r *http.Request)
		want   string // what leaves instead of the line and the headers above; "": nothing
	}{
		{func(r *http.Request) { r.Header = http.Header{} }, "GET /path?query HTTP/1.1\r\nHost: HOST\r\nUser-Agent: Go-http-client/1.1\r\n\r\n"},
		{func(r *http.Request) { r.Header.Set("User-Agent", "") }, "GET /path?query HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		{func(r *http.Request) { r.Header.Set("User-Agent", "curl") }, "GET /path?query HTTP/1.1\r\nHost: HOST\r\nUser-Agent: curl\r\n\r\n"},
		{func(r *http.Request) { r.Method = "POST" }, "POST /path?query HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n"},
		{func(r *http.Request) { r.Host = "[fe80::1%25eth0]:80" }, "GET /path?query HTTP/1.1\r\nHost: [fe80::1]:80\r\n\r\n"},
		{func(r *http.Request) { r.Close = true }, "GET /path?query HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n"},
		{func(r *http.Request) { r.URL.Path, r.URL.RawQuery = "", "" }, "GET / HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		{func(r *http.Request) { r.Header["X-A"] = []string{"b\tc", "d e\xff"} }, "GET /path?query HTTP/1.1\r\nHost: HOST\r\nX-A: b\tc\r\nX-A: d e\xff\r\n\r\n"},
		{
			func(r *http.Request) {
				for _, name := range []string{"Host", "Content-Length", "Transfer-Encoding", "Trailer"} {
					r.Header[name] = []string{"chunked"}
				}
			}, "GET /path?query HTTP/1.1\r\nHost: HOST\r\n\r\n",
		},
		{change: func(r *http.Request) { r.Method = "GET /x HTTP/1.1\r\nX:" }},
		{change: func(r *http.Request) { r.Host = "a b" }},
		{change: func(r *http.Request) { r.URL.RawQuery = "a b" }},
		{change: func(r *http.Request) { r.URL.RawQuery = "a\r\nX-B: c" }},
		{change: func(r *http.Request) { r.Header["X-A"] = []string{"b\r\nX-B: c"} }},
		{change: func(r *http.Request) { r.Header["X-A"] = []string{"b\x00"} }},
		{change: func(r *http.Request) { r.Header["X-A: b\r\nX-B"] = []string{"c"} }},
		{change: func(r *http.Request) { r.Header["X-A:"] = []string{"c"} }},
		{change: func(r *http.Request) { r.Header[""] = []string{"c"} }},
		{change: func(r *http.Request) { r.ContentLength = -1 }},
		{change: func(r *http.Request) { r.ContentLength = 4 }},
	} {
		r := s.request(t.Context(), "GET", "")
		r.Header["User-Agent"] = nil
		tt.change(r)
		conn := s.conn(c)
		err := tryDo(conn, r, 5*time.Second)
		if tt.want == "" {
			if (!errors.Is(err, ErrRequest) && !errors.Is(err, ErrLength)) || conn.Left() {
				t.Fatalf("%q %v: %v, Left = %t, want that nothing leaves", r.Method, r.Header, err, conn.Left())
			}
		} else if got := <-seen; err != nil || got != strings.ReplaceAll(tt.want, "HOST", s.target().Host) {
			t.Errorf("request = %q, %v, want %q", got, err, tt.want)
		}
	}
	var body watchedBody
	r = s.request(t.Context(), "POST", "")
	r.URL.Scheme, r.Body = "ftp", &body
	res, err = c.RoundTrip(r)
	if err == nil {
		res.Body.Close()
	}
	if err == nil || !body.closed.Load() {
		t.Errorf("error = %v, closed = %t", err, body.closed.Load())
	}
}

// Neither failures nor anything else leaves descriptors or, by goleak, goroutines behind.
func TestDescriptors(t *testing.T) {
	count := func() int {
		entries, err := os.ReadDir("/dev/fd")
		if err != nil {
			return 0 // Windows has none
		}
		return len(entries)
	}
	var answers atomic.Int64
	for scheme, secure := range schemes {
		t.Run(scheme, func(t *testing.T) {
			s := newServer(t, secure, func(x *exchange) bool {
				switch answers.Add(1) % 5 {
				case 0:
					return false
				case 1:
					x.say("CANARY\r\n\r\n")
				case 2:
					x.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
				case 3:
					x.say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx")
				default:
					return where(x)
				}
				return true
			})
			c := s.client(Options{MaxIdle: 1})
			answers.Store(3)
			s.get(s.client(Options{})) // what is opened once
			before := count()
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for i := range 25 {
						_, _ = s.do(c, s.request(t.Context(), "POST", strings.Repeat("x", i%2*100000)), 5*time.Millisecond)
					}
				})
			}
			wg.Wait()
			c.CloseIdleConnections()
			eventually(t, "as many descriptors as before", func() bool { return count() <= before })
		})
	}
}
