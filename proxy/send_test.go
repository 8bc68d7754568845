package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wxproxy/limits"
	"wxproxy/proxy/upstream"
	"wxproxy/wechat"
)

// lossy is a WeChat that executes every request and answers all of them but the second on each
// connection, which it closes instead.
type lossy struct {
	ln       net.Listener
	executed atomic.Int64
	dropped  atomic.Int64
	wg       sync.WaitGroup
}

func newLossy(t *testing.T) *lossy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &lossy{ln: ln}
	l.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			l.wg.Go(func() { l.serve(conn) })
		}
	})
	return l
}

func (l *lossy) serve(conn net.Conn) {
	defer conn.Close()
	from := bufio.NewReader(conn)
	for n := 1; ; n++ {
		r, err := http.ReadRequest(from)
		if err != nil {
			return
		}
		drain(r.Body)
		l.executed.Add(1)
		if n == 2 {
			l.dropped.Add(1)
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(okText))
		if r.Method != http.MethodHead {
			say(conn, okText)
		}
	}
}

// TestNoSecondSending is what a plain net/http client gets wrong: a call that was executed on a
// kept-alive connection and lost its answer is sent again.
func TestNoSecondSending(t *testing.T) {
	tests := []struct {
		name, method, body string
		headers            []string
	}{
		{"GET", "GET", "", nil},
		{"HEAD", "HEAD", "", nil},
		{"POST", "POST", `{"touser":"x"}`, nil},
		{"POST of nothing", "POST", "", nil},
		{"POST of a file", "POST", strings.Repeat("x", 3*pieceBytes), nil},
		{"GET with Idempotency-Key", "GET", "", []string{"Idempotency-Key: 1"}},
		{"POST with Idempotency-Key", "POST", `{"touser":"x"}`, []string{"Idempotency-Key: 1"}},
		{"POST with X-Idempotency-Key", "POST", `{"touser":"x"}`, []string{"X-Idempotency-Key: 1"}},
		{"POST of nothing with X-Idempotency-Key", "POST", "", []string{"X-Idempotency-Key: 1"}},
		{"POST of nothing with Idempotency-Key", "POST", "", []string{"idempotency-key: 1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLossy(t)
			g := newGateway(t, "http://"+l.ln.Addr().String(), nil)
			const calls = 6
			for i := range calls {
				method := tt.method
				if i%2 == 0 && method == "HEAD" {
					method = "GET" // a connection is not used again after a HEAD
				}
				res, text := g.do(t, method, "/cgi-bin/message/custom/send", tt.body, tt.headers...)
				rec := g.nextRecord(t)
				if i%2 == 0 {
					if res.StatusCode != 200 || text != okText {
						t.Errorf("call %d: answer = %d %s", i, res.StatusCode, text)
					}
					continue
				}
				// Not HTTP 200 with -1, which SDKs repeat: it was executed.
				if res.StatusCode != 502 || tt.method != "HEAD" && text != wechat.SystemError.Body() || res.Header.Get("Content-Type") != jsonType[0] {
					t.Errorf("call %d: answer = %d %s", i, res.StatusCode, text)
				}
				if rec.Status != 502 || rec.ErrCode != -1 || rec.Attempts != 1 || rec.Decision != "pass" {
					t.Errorf("call %d: record = %+v", i, rec)
				}
			}
			if l.dropped.Load() != calls/2 {
				t.Errorf("%d answers were lost, want %d: the test proves nothing", l.dropped.Load(), calls/2)
			}
			if l.executed.Load() != calls || g.limiter.counted(t) != calls {
				t.Errorf("executed %d and counted %d for %d calls", l.executed.Load(), g.limiter.counted(t), calls)
			}
			if got, want := g.limiter.codes(), []int{0, -1, 0, -1, 0, -1}; tt.method != "HEAD" && !cmp.Equal(got, want) {
				t.Errorf("errcodes told = %v, want %v", got, want)
			}
			g.client.CloseIdleConnections()
			g.h.Close()
			l.ln.Close()
			l.wg.Wait()
		})
	}
}

const deadText = `{"errcode":40001,"errmsg":"invalid credential, access_token is invalid or not latest rid: 617682e0-09059ac5-34a8e2ea"}`

// tokenCheck is a WeChat that knows one token only.
func tokenCheck(good, answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json; encoding=utf-8")
		if r.URL.Query().Get("access_token") != good {
			w.Header().Set("X-Which", "dead")
			say(w, answer)
			return
		}
		say(w, okText)
	}
}

func TestReplay(t *testing.T) {
	second := testToken + "-2"
	tests := []struct {
		name     string
		path     string
		answer   string // to a dead token
		good     string
		renewErr error
		refuse   bool // the second Take
		same     bool // Renew knows no other token
		want     string
		sent     int
		renews   int
		codes    []int
	}{
		{"40001", "/cgi-bin/user/info", deadText, second, nil, false, false, okText, 2, 1, []int{40001, 0}},
		{"40014", "/cgi-bin/user/info", `{"errcode":40014,"errmsg":"x"}`, second, nil, false, false, okText, 2, 1, []int{40014, 0}},
		{"42001", "/cgi-bin/user/info", `{"errmsg":"x","errcode":"42001"}`, second, nil, false, false, okText, 2, 1, []int{42001, 0}},
		{"wrapped", "/cgi-bin/user/info", `{"base_resp":{"errcode":42001}}`, second, nil, false, false, okText, 2, 1, []int{42001, 0}},
		{"dead for good", "/cgi-bin/user/info", deadText, "none", nil, false, false, deadText, 2, 1, []int{40001, 40001}},
		{"not renewed", "/cgi-bin/user/info", deadText, second, errors.New("no token"), false, false, deadText, 1, 1, []int{40001}},
		{"renewed with WeChat's refusal", "/cgi-bin/user/info", deadText, second, answerError(`{"errcode":40164}`), false, false, deadText, 1, 1, []int{40001}},
		{"refused the second time", "/cgi-bin/user/info", deadText, second, nil, true, false, wechat.QuotaReached.Body(), 1, 1, []int{40001}},
		{"renewed in name only", "/cgi-bin/user/info", deadText, second, nil, false, true, deadText, 1, 1, []int{40001}},
		{"a long answer", "/cgi-bin/user/info", `{"errcode":40001,"errmsg":"` + strings.Repeat("x", 5000) + `"}`, second, nil, false, false, okText, 2, 1, []int{40001, 0}},
		{"a very long answer", "/cgi-bin/user/info", `{"errcode":40001,"errmsg":"` + strings.Repeat("x", 100000) + `"}`, second, nil, false, false, okText, 2, 1, []int{40001, 0}},
		{"another errcode", "/cgi-bin/user/info", `{"errcode":41001}`, second, nil, false, false, `{"errcode":41001}`, 1, 0, []int{41001}},
		{"a token of the caller's", "/sns/userinfo?access_token=theirs", deadText, second, nil, false, false, deadText, 1, 0, []int{40001}},
	}
	for _, tt := range tests {
		for _, body := range []string{"", `{"a":1}`, strings.Repeat("x", 3*pieceBytes)} {
			t.Run(fmt.Sprint(tt.name, " with ", len(body)), func(t *testing.T) {
				u := newUpstream(t, tokenCheck(tt.good, tt.answer))
				g := newGateway(t, u.URL, nil)
				g.tokens.renew = tt.renewErr
				if tt.same {
					g.tokens.next = g.tokens.token
				}
				if tt.refuse {
					g.limiter.decide = func(n int, _ limits.Call) limits.Decision {
						d := limits.Decision{Quota: 1000, Used: 1000}
						if n > 1 {
							d.Verdict, d.RetryAfter = limits.RefusedQuota, time.Hour
						}
						return d
					}
				}
				method := "POST"
				if body == "" {
					method = "GET"
				}
				res, text := g.do(t, method, tt.path, body)
				rec := g.nextRecord(t)
				if res.StatusCode != 200 || text != tt.want {
					t.Errorf("answer = %d %s, want %s", res.StatusCode, text, tt.want)
				}
				if u.count() != tt.sent || g.tokens.renewed() != tt.renews || rec.Attempts != tt.sent {
					t.Errorf("sent %d, logged %d, renewed %d; want %d and %d", u.count(), rec.Attempts, g.tokens.renewed(), tt.sent, tt.renews)
				}
				for _, call := range u.calls {
					if call.Body != body || call.Length != int64(len(body)) {
						t.Errorf("sent a body of %d bytes, length %d, want %d", len(call.Body), call.Length, len(body))
					}
				}
				g.limiter.counted(t)
				if got := g.limiter.codes(); !cmp.Equal(got, tt.codes) {
					t.Errorf("errcodes told = %v, want %v", got, tt.codes)
				}
				if which := res.Header.Get("X-Which"); (which == "dead") != (text == tt.answer) {
					t.Errorf("X-Which = %q: the header of another answer", which)
				}
				if code, _ := peekErrcode([]byte(text), true); rec.ErrCode != int(code) {
					t.Errorf("errcode logged = %d, want %d", rec.ErrCode, code)
				}
				if text == deadText && rec.RID != "617682e0-09059ac5-34a8e2ea" {
					t.Errorf("rid = %q", rec.RID)
				}
				if tt.refuse && (rec.Decision != "refused-quota" || res.Header.Get("Retry-After") != "3600") {
					t.Errorf("decision = %s, Retry-After %q", rec.Decision, res.Header.Get("Retry-After"))
				}
			})
		}
	}
}

// TestReplayClosesTheFirstAnswer makes sure that no connection is lost with it.
func TestReplayClosesTheFirstAnswer(t *testing.T) {
	long := `{"errcode":40001,"errmsg":"` + strings.Repeat("x", 100000) + `"}`
	u := newUpstream(t, tokenCheck(testToken+"-2", long))
	transport := upstream.New(upstream.Options{})
	defer transport.CloseIdleConnections()
	var opened, closed atomic.Int64
	g := newGateway(t, u.URL, func(o *Options) {
		o.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			res, err := transport.RoundTrip(r)
			if err == nil {
				opened.Add(1)
				res.Body = &closer{res.Body, &closed}
			}
			return res, err
		})
	})
	if _, text := g.do(t, "POST", "/cgi-bin/user/info", "{}"); text != okText {
		t.Errorf("answer = %s", text)
	}
	g.nextRecord(t)
	if opened.Load() != 2 || closed.Load() != 2 {
		t.Errorf("%d answers, %d closed, want 2 and 2", opened.Load(), closed.Load())
	}
}

type closer struct {
	io.ReadCloser
	closed *atomic.Int64
}

func (c *closer) Close() error {
	c.closed.Add(1)
	return c.ReadCloser.Close()
}

// TestNeverLeft is of calls that cannot have been executed: they are given back, and the answer is
// one that SDKs repeat.
func TestNeverLeft(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := ln.Addr().String()
	ln.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never says anything to a TLS client
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()

	tests := []struct {
		name, url string
		timeout   time.Duration
		reason    string
	}{
		{"nobody listens", "http://" + nobody, 0, "connection refused"},
		{"no such host", "http://nothing.invalid", 0, "nothing.invalid"},
		{"no TLS", "https://" + newUpstream(t, nil).Listener.Addr().String(), 0, ""},
		{"TLS takes too long", "https://" + mute.Addr().String(), 50 * time.Millisecond, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGateway(t, tt.url, func(o *Options) { o.Timeout = tt.timeout })
			for _, body := range []string{"", "{}"} {
				res, text := g.do(t, "POST", "/cgi-bin/user/info", body)
				rec := g.nextRecord(t)
				if res.StatusCode != 200 || text != wechat.SystemError.Body() || res.Header.Get("Retry-After") != "1" {
					t.Errorf("answer = %d %s %v", res.StatusCode, text, res.Header)
				}
				if rec.Decision != refusedUpstream || rec.Attempts != 0 || rec.Quota != 0 || rec.Rule != "user.info" {
					t.Errorf("record = %+v", rec)
				}
			}
			if g.limiter.counted(t) != 0 || g.limiter.given != 2 {
				t.Errorf("counted %d, given back %d, want 0 and 2", g.limiter.counted(t), g.limiter.given)
			}
			lines := g.logs.FilterMessage("WeChat cannot be reached").All()
			if len(lines) != 1 || !strings.Contains(lines[0].ContextMap()["reason"].(string), tt.reason) {
				t.Errorf("log = %v, want one line with %q", lines, tt.reason)
			}
		})
	}
}

// TestFateUnknown is of calls that may have been executed: they stay counted, and the answer is not
// one that SDKs repeat.
func TestFateUnknown(t *testing.T) {
	t.Parallel()
	reset := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		if err := conn.(*net.TCPConn).SetLinger(0); err != nil { // so that it is a RST
			panic(err)
		}
		conn.Close()
	}
	raw := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			say(conn, text)
			conn.Close()
		}
	}
	tests := []struct {
		name   string
		answer http.HandlerFunc
		status int
	}{
		{"reset", reset, 502},
		{"closed", raw(""), 502},
		{"half a header", raw("HTTP/1.1 200 OK\r\nContent-"), 502},
		{"not HTTP", raw("CANARY CANARY\r\n\r\n"), 502},
		{"protocol switch", raw("HTTP/1.1 101 Switching Protocols\r\n\r\nCANARY"), 502},
		{"silence", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 504},
	}
	for _, tt := range tests {
		for _, body := range []string{"", "{}", strings.Repeat("x", 2*pieceBytes)} {
			t.Run(fmt.Sprint(tt.name, " with ", len(body)), func(t *testing.T) {
				u := newUpstream(t, tt.answer)
				g := newGateway(t, u.URL, func(o *Options) {
					if tt.status == 504 {
						o.Timeout = 300 * time.Millisecond
					}
				})
				res, text := g.do(t, "POST", "/cgi-bin/user/info", body)
				rec := g.nextRecord(t)
				if res.StatusCode != tt.status || text != wechat.SystemError.Body() || res.Header.Get("Content-Type") != jsonType[0] || res.Header.Get("Retry-After") != "" {
					t.Errorf("answer = %d %s %v", res.StatusCode, text, res.Header)
				}
				if rec.Decision != "pass" || rec.Attempts != 1 || rec.ErrCode != -1 || rec.Quota != 1000 {
					t.Errorf("record = %+v", rec)
				}
				if u.count() != 1 || g.limiter.counted(t) != 1 || g.limiter.codes()[0] != -1 {
					t.Errorf("executed %d, counted %d, told %v", u.count(), g.limiter.counted(t), g.limiter.codes())
				}
				for _, line := range g.logs.All() {
					if strings.Contains(fmt.Sprint(line.Message, line.ContextMap()), "CANARY") {
						t.Errorf("log = %v: quotes the answer", line)
					}
				}
			})
		}
	}
}

// deafConn is a connection on which, once it is dead, every write fails with nothing written.
type deafConn struct {
	net.Conn
	dead atomic.Bool
}

func (c *deafConn) Write(p []byte) (int, error) {
	if c.dead.Load() {
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(p)
}

// TestStaleConnection closes the kept-alive connection under a call before it writes. Nothing
// left, so it goes out on another one, once, and nobody notices.
func TestStaleConnection(t *testing.T) {
	u := newUpstream(t, nil)
	var conns []*deafConn
	client := dialing(func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			conns = append(conns, &deafConn{Conn: conn})
			conn = conns[len(conns)-1]
		}
		return conn, err
	})
	g := newGateway(t, u.URL, func(o *Options) { o.Transport = client })
	g.do(t, "GET", "/cgi-bin/user/info", "")
	for _, method := range []string{"GET", "POST"} {
		conns[len(conns)-1].dead.Store(true)
		body := ""
		if method == "POST" {
			body = "{}"
		}
		if _, text := g.do(t, method, "/cgi-bin/user/info", body); text != okText {
			t.Errorf("%s = %s", method, text)
		}
	}
	if len(conns) != 3 || u.count() != 3 || g.limiter.counted(t) != 3 || g.limiter.given != 0 {
		t.Errorf("%d connections, executed %d, counted %d, given back %d; want 3, 3, 3, 0", len(conns), u.count(), g.limiter.counted(t), g.limiter.given)
	}
}

func TestDeadline(t *testing.T) {
	late := time.Now().Add(-time.Millisecond)
	tests := []struct {
		name      string
		deadlines []time.Time // of each Take; the last of all others
		refuse    bool        // from the second Take on
		slowDial  time.Duration
		want      string
		executed  int
		given     int
	}{
		{name: "none", deadlines: []time.Time{{}}, want: okText, executed: 1},
		{name: "far", deadlines: []time.Time{time.Now().Add(time.Hour)}, want: okText, executed: 1},
		{name: "past, then none", deadlines: []time.Time{late, {}}, want: okText, executed: 1, given: 1},
		{name: "past, then refused", deadlines: []time.Time{late}, refuse: true, want: wechat.QuotaReached.Body(), given: 1},
		{name: "always past", deadlines: []time.Time{late}, want: wechat.SystemError.Body(), given: maxTries},
		{name: "past while dialling", deadlines: []time.Time{{}, {}}, slowDial: 300 * time.Millisecond, want: okText, executed: 1, given: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t, nil)
			if tt.slowDial > 0 {
				tt.deadlines[0] = time.Now().Add(tt.slowDial / 2)
			}
			g := newGateway(t, u.URL, func(o *Options) {
				o.Transport = dialing(func(ctx context.Context, network, addr string) (net.Conn, error) {
					time.Sleep(tt.slowDial)
					return new(net.Dialer).DialContext(ctx, network, addr)
				})
			})
			g.limiter.decide = func(n int, _ limits.Call) limits.Decision {
				d := limits.Decision{Quota: 10, Used: 1, Deadline: tt.deadlines[min(n, len(tt.deadlines))-1]}
				if tt.refuse && n > 1 {
					d.Verdict = limits.RefusedQuota
				}
				return d
			}
			if _, text := g.do(t, "POST", "/cgi-bin/user/info", "{}"); text != tt.want {
				t.Errorf("answer = %s, want %s", text, tt.want)
			}
			if u.count() != tt.executed || g.limiter.counted(t) != tt.executed || g.limiter.given != tt.given {
				t.Errorf("executed %d, counted %d, given back %d; want %d, %d, %d", u.count(), g.limiter.counted(t), g.limiter.given, tt.executed, tt.executed, tt.given)
			}
		})
	}
}

func TestClientGoesAway(t *testing.T) {
	t.Run("waiting for WeChat", func(t *testing.T) {
		arrivedAt, cancelled := make(chan struct{}), make(chan struct{})
		u := newUpstream(t, func(_ http.ResponseWriter, r *http.Request) {
			close(arrivedAt)
			<-r.Context().Done()
			close(cancelled)
		})
		g := newGateway(t, u.URL, nil)
		conn := dial(t, g.Listener.Addr().String())
		say(conn, "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
		<-arrivedAt
		conn.Close()
		rec := g.nextRecord(t)
		<-cancelled
		if rec.Status != statusClientGone || rec.Attempts != 1 {
			t.Errorf("record = %+v", rec)
		}
		if g.limiter.counted(t) != 1 {
			t.Errorf("counted %d, want 1", g.limiter.counted(t))
		}
	})
	t.Run("waiting for a connection", func(t *testing.T) {
		dialling, release := make(chan struct{}), make(chan struct{})
		client := dialing(func(ctx context.Context, _, _ string) (net.Conn, error) {
			close(dialling)
			select {
			case <-release:
				return nil, errors.New("released")
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
		g := newGateway(t, "http://127.0.0.1:1", func(o *Options) { o.Transport = client })
		conn := dial(t, g.Listener.Addr().String())
		say(conn, "GET /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\n\r\n")
		<-dialling
		conn.Close()
		rec := g.nextRecord(t)
		close(release)
		if rec.Status != statusClientGone || rec.Attempts != 0 {
			t.Errorf("record = %+v", rec)
		}
		if g.limiter.counted(t) != 0 || g.limiter.given != 1 {
			t.Errorf("counted %d, given back %d, want 0 and 1", g.limiter.counted(t), g.limiter.given)
		}
	})
	t.Run("reading the answer", func(t *testing.T) {
		u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "image/jpeg")
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 32<<10)); err != nil {
					return
				}
			}
		})
		g := newGateway(t, u.URL, nil)
		conn := dial(t, g.Listener.Addr().String())
		say(conn, "GET /cgi-bin/media/get HTTP/1.1\r\nHost: x\r\n\r\n")
		drain(io.LimitReader(conn, 100<<10))
		conn.Close()
		if rec := g.nextRecord(t); rec.Status != 200 || rec.BytesOut == 0 {
			t.Errorf("record = %+v", rec)
		}
		if g.limiter.counted(t) != 1 {
			t.Errorf("counted %d, want 1", g.limiter.counted(t))
		}
	})
}

// TestSlowIsNotDead lets an upload and a download take many times the timeout, a step at a time,
// and ends those that stop.
func TestSlowIsNotDead(t *testing.T) {
	t.Parallel()
	const timeout, step, steps = 600 * time.Millisecond, 100 * time.Millisecond, 10
	t.Run("download", func(t *testing.T) {
		u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "image/jpeg")
			for range steps {
				say(w, "x")
				w.(http.Flusher).Flush()
				time.Sleep(step)
			}
		})
		g := newGateway(t, u.URL, func(o *Options) { o.Timeout = timeout })
		if _, text := g.do(t, "GET", "/cgi-bin/media/get", ""); len(text) != steps {
			t.Errorf("%d bytes, want %d", len(text), steps)
		}
	})
	t.Run("download that stops", func(t *testing.T) {
		u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "image/jpeg")
			say(w, "x")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		g := newGateway(t, u.URL, func(o *Options) { o.Timeout = timeout })
		conn := dial(t, g.Listener.Addr().String())
		say(conn, "GET /cgi-bin/media/get HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if _, err := io.ReadAll(res.Body); err == nil {
			t.Error("an answer that broke off was ended as if it were whole")
		}
		if rec := g.nextRecord(t); rec.Status != 200 || rec.BytesOut != 1 {
			t.Errorf("record = %+v", rec)
		}
	})
	t.Run("upload", func(t *testing.T) {
		// The kernel takes the first megabytes at once, so the body is large. A busy machine reads 3 MB in 2 s.
		const timeout, step = 2 * time.Second, 300 * time.Millisecond
		u := newUpstream(t, nil)
		u.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for {
				n, err := io.CopyN(io.Discard, r.Body, 3<<20)
				if n == 0 || err != nil {
					break
				}
				time.Sleep(step)
			}
			answerOK(w, r)
		})
		g := newGateway(t, u.URL, func(o *Options) { o.Timeout = timeout })
		began := time.Now()
		if _, text := g.do(t, "POST", "/cgi-bin/media/upload", strings.Repeat("x", 31<<20)); text != okText {
			t.Errorf("answer = %s", text)
		}
		if took := time.Since(began); took < timeout {
			t.Errorf("took %v: the test proves nothing", took)
		}
	})
	t.Run("upload that stops", func(t *testing.T) {
		u := newUpstream(t, nil)
		release := make(chan struct{})
		u.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })
		defer close(release)
		g := newGateway(t, u.URL, func(o *Options) { o.Timeout = timeout })
		if res, text := g.do(t, "POST", "/cgi-bin/media/upload", strings.Repeat("x", 31<<20)); res.StatusCode != 504 {
			t.Errorf("answer = %d %s, want 504", res.StatusCode, text)
		}
		if g.limiter.counted(t) != 1 {
			t.Errorf("counted %d, want 1", g.limiter.counted(t))
		}
	})
}

func TestRedirects(t *testing.T) {
	other := newUpstream(t, nil)
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cgi-bin/user/info" {
			w.Header().Set("Location", other.URL+r.URL.RequestURI()) // with the account's token in it
		} else {
			w.Header().Set("Location", other.URL+"/x")
		}
		w.WriteHeader(http.StatusFound)
	})
	g := newGateway(t, u.URL, nil)
	res, _ := g.do(t, "GET", "/cgi-bin/user/info", "")
	if res.StatusCode != 302 || res.Header.Get("Location") != "" {
		t.Errorf("answer = %d, Location %q: the token leaves", res.StatusCode, res.Header.Get("Location"))
	}
	res, _ = g.do(t, "GET", "/cgi-bin/other", "")
	if res.StatusCode != 302 || res.Header.Get("Location") != other.URL+"/x" {
		t.Errorf("answer = %d, Location %q", res.StatusCode, res.Header.Get("Location"))
	}
	if other.count() != 0 || u.count() != 2 {
		t.Errorf("a redirect was followed")
	}
}

// TestForeignTransport counts every failure when the transport cannot tell what became of a call.
func TestForeignTransport(t *testing.T) {
	g := newGateway(t, "http://127.0.0.1:1", func(o *Options) {
		o.Transport = roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("CANARY") })
	})
	res, text := g.do(t, "GET", "/cgi-bin/user/info", "")
	if res.StatusCode != 502 || text != wechat.SystemError.Body() || g.limiter.counted(t) != 1 {
		t.Errorf("answer = %d %s, counted %d", res.StatusCode, text, g.limiter.counted(t))
	}
}

// An Upgrade header is not passed on, also where ReverseProxy would refuse it.
func TestUpgrade(t *testing.T) {
	u := newUpstream(t, nil)
	g := newGateway(t, u.URL, nil)
	for _, upgrade := range []string{"Connection: Upgrade\r\nUpgrade: \xff", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x"} {
		_, text := g.raw(t, "GET /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\n"+upgrade+"\r\n\r\n")
		if got := u.last(t).Header; text != okText || len(got) != 0 {
			t.Errorf("answer = %s, headers %v", text, got)
		}
	}
	if u.count() != 2 || g.limiter.counted(t) != 2 {
		t.Errorf("sent %d, counted %d, want 2", u.count(), g.limiter.counted(t))
	}
}

// TestChaos lets many clients at a WeChat that breaks off before and after it executes, and whose
// token dies now and then. Each call is executed once at most and counted at least as often.
func TestChaos(t *testing.T) {
	var mu sync.Mutex
	executed := make(map[string]int)
	var dead atomic.Int64
	var tokens renewals
	u := newUpstream(t, nil)
	u.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := rand.IntN(10)
		if n == 0 {
			panic(http.ErrAbortHandler) // before it reads
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil || n == 1 {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", jsonType[0])
		if r.URL.Query().Get("access_token") != tokens.current() || n == 2 {
			dead.Add(1)
			say(w, deadText)
			return
		}
		mu.Lock()
		executed[r.URL.Query().Get("n")]++
		mu.Unlock()
		if n == 3 {
			panic(http.ErrAbortHandler)
		}
		say(w, okText)
	})
	g := newGateway(t, u.URL, func(o *Options) { o.Tokens = &tokens })
	const workers, calls = 16, 60
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for i := range calls {
				var body io.Reader
				method := "GET"
				if i%3 > 0 {
					method, body = "POST", strings.NewReader(strings.Repeat("x", i%3*50000))
				}
				r, _ := http.NewRequestWithContext(context.Background(), method, fmt.Sprintf("%s/cgi-bin/user/info?n=%d.%d", g.URL, worker, i), body)
				res, err := g.client.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				drain(res.Body)
				res.Body.Close()
			}
		})
	}
	wg.Wait()
	u.Close() // waits for its handlers: a connection that breaks off does not order their writes before what is read here
	total := 0
	for n, times := range executed {
		total += times
		if times > 1 {
			t.Errorf("call %s was executed %d times", n, times)
		}
	}
	if counted := g.limiter.counted(t); counted < total+int(dead.Load()) {
		t.Errorf("counted %d, want at least %d executed and %d with a dead token", counted, total, dead.Load())
	}
	if total < workers*calls/3 || dead.Load() == 0 {
		t.Errorf("%d executed, %d dead: the test proves nothing", total, dead.Load())
	}
}

// appTokens has a token for each app.
type appTokens struct{}

func (appTokens) Token(_ context.Context, appid string) (string, error) { return "token-" + appid, nil }
func (appTokens) Secret(string) string                                  { return "" }

func (appTokens) Renew(_ context.Context, appid, _ string) (string, error) {
	return "token-" + appid, nil
}

// Connections are used again for other calls, whatever became of the first: nothing of one is found in
// another.
func TestCallsDoNotMix(t *testing.T) {
	const apps, workers, rounds = 8, 16, 150
	appid := func(n int) string { return fmt.Sprintf("wx%016d", n) }
	var seen, mixed atomic.Int64
	u := newUpstream(t, nil)
	u.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		seen.Add(1)
		call := r.URL.Query().Get("call") // app.what.number
		app, what, _ := strings.Cut(call, ".")
		want := ""
		if r.Method == http.MethodPost {
			want = strings.Repeat(call+"\n", len(body)/(len(call)+1))
		}
		if r.URL.Query().Get("access_token") != "token-"+app || string(body) != want {
			mixed.Add(1)
		}
		if strings.HasPrefix(what, "breaks") {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", jsonType[0])
		w.Header().Set("X-Call", call)
		fmt.Fprintf(w, `{"errcode":%d,"errmsg":%q}`, 50000+int(app[len(app)-1]-'0'), call)
	})
	transport := dialing(func(ctx context.Context, network, addr string) (net.Conn, error) {
		time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
		return new(net.Dialer).DialContext(ctx, network, addr)
	})
	var wrong sync.Map
	g := newGateway(t, u.URL, func(o *Options) {
		o.Transport, o.Tokens, o.Apps = transport, appTokens{}, nil
		o.Limiter = &openLimiter{Ruleset: testRules(t), decision: limits.Decision{Verdict: limits.Pass, Quota: 9, Remaining: 9}}
		for n := range apps {
			o.Apps = append(o.Apps, App{Name: "name-" + appid(n), AppID: appid(n)})
		}
		o.Record = func(r *Record) {
			number := int(r.AppID[len(r.AppID)-1] - '0')
			if r.App != "name-"+r.AppID || r.UserAgent != r.RequestID || !strings.HasPrefix(r.RequestID, r.AppID) ||
				r.Status == http.StatusOK && r.ErrCode != 50000+number || r.Status == statusClientGone && r.ErrCode != 0 && r.ErrCode != 50000+number {
				wrong.Store(*r, true)
			}
		}
	})
	var wg sync.WaitGroup
	var answered, gone atomic.Int64
	for worker := range workers {
		wg.Go(func() {
			for i := range rounds {
				app, what := appid((worker+i)%apps), [...]string{"answers", "breaks", "leaves"}[rand.IntN(3)]
				call := fmt.Sprintf("%s.%s%d-%d", app, what, worker, i)
				var body io.Reader
				method := http.MethodGet
				if size := [...]int{0, 1, 3000}[i%3]; size > 0 { // the last does not fit into memory
					method, body = http.MethodPost, strings.NewReader(strings.Repeat(call+"\n", size))
				}
				ctx, cancel := context.WithCancel(t.Context())
				if what == "leaves" {
					time.AfterFunc(time.Duration(rand.IntN(2000))*time.Microsecond, cancel)
				}
				r, _ := http.NewRequestWithContext(ctx, method, g.URL+"/"+app+"/cgi-bin/user/info?call="+call, body)
				r.Header.Set("X-Request-Id", call)
				r.Header.Set("User-Agent", call)
				res, err := g.client.Do(r)
				if err != nil {
					gone.Add(1)
					cancel()
					continue
				}
				text, err := io.ReadAll(res.Body)
				res.Body.Close()
				cancel()
				if err == nil && what != "breaks" {
					answered.Add(1)
					want := fmt.Sprintf(`{"errcode":%d,"errmsg":%q}`, 50000+int(app[len(app)-1]-'0'), call)
					if string(text) != want || res.Header.Get("X-Call") != call || res.Header.Get("X-Request-Id") != call {
						t.Errorf("call %s: answer %s, %s", call, text, res.Header)
					}
				}
			}
		})
	}
	wg.Wait()
	g.Close()
	wrong.Range(func(record, _ any) bool {
		t.Errorf("record = %+v", record)
		return true
	})
	if mixed.Load() > 0 {
		t.Errorf("%d of %d calls had another's token or body", mixed.Load(), seen.Load())
	}
	if answered.Load() < workers*rounds/4 || gone.Load() < workers*rounds/10 {
		t.Errorf("%d calls answered, %d callers gone: the test proves nothing", answered.Load(), gone.Load())
	}
}

// renewals are tokens that change with each renewal.
type renewals struct{ n atomic.Int64 }

func (r *renewals) current() string    { return fmt.Sprint("token-", r.n.Load()) }
func (*renewals) Secret(string) string { return "" }

func (r *renewals) Token(context.Context, string) (string, error) { return r.current(), nil }
func (r *renewals) Renew(_ context.Context, _, failed string) (string, error) {
	if failed == r.current() {
		r.n.Add(1)
	}
	return r.current(), nil
}
