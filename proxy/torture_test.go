package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wxproxy/proxy/upstream"
)

// tortures are the ways in which a WeChat answers with the text of a call; each returns whether it goes on with the
// connection. A second answer that comes a while after the first is not among them: once the next request has left
// HTTP/1.1 cannot tell whose it is.
var tortures = []struct {
	name   string
	answer func(c net.Conn, text string) (goOn bool)
}{
	{"whole", func(c net.Conn, text string) bool { return send(c, withLength(text)) }},
	{"in chunks", func(c net.Conn, text string) bool { return send(c, inChunks(text)+"0\r\n\r\n") }},
	{"in pieces", func(c net.Conn, text string) bool {
		for answer := withLength(text); answer != ""; {
			n := min(len(answer), 1+rand.IntN(200))
			if !send(c, answer[:n]) {
				return false
			}
			answer = answer[n:]
		}
		return true
	}},
	{"without length", func(c net.Conn, text string) bool { send(c, statusLine+"\r\n"+text); return false }},
	{"and closes", func(c net.Conn, text string) bool {
		send(c, strings.Replace(withLength(text), "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1))
		return false
	}},
	{"after 1xx", func(c net.Conn, text string) bool {
		return send(c, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"+withLength(text))
	}},
	{"nothing", func(net.Conn, string) bool { return false }},
	{"a reset", func(c net.Conn, _ string) bool { _ = c.(*net.TCPConn).SetLinger(0); return false }},
	{"half a status line", func(c net.Conn, _ string) bool { send(c, "HTTP/1."); return false }},
	{"half a header", func(c net.Conn, _ string) bool { send(c, statusLine+"Content-"); return false }},
	{"a header alone", func(c net.Conn, text string) bool {
		send(c, withLength(text)[:len(withLength(text))-len(text)])
		return false
	}},
	{"half a body", func(c net.Conn, text string) bool {
		send(c, withLength(text)[:len(withLength(text))-len(text)/2])
		return false
	}},
	{"half a chunk", func(c net.Conn, text string) bool {
		send(c, inChunks(text)[:len(inChunks(text))-len(text)/3])
		return false
	}},
	{"no last chunk", func(c net.Conn, text string) bool { send(c, inChunks(text)); return false }},
	{"garbage", func(c net.Conn, _ string) bool { send(c, "STRAY STRAY\r\n\r\n"); return false }},
	{"a second answer", func(c net.Conn, text string) bool { return send(c, withLength(text)+withLength("STRAY")) }},
	{"1xx without end", func(c net.Conn, _ string) bool {
		send(c, strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100))
		return false
	}},
	{"another protocol", func(c net.Conn, _ string) bool {
		return send(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nSTRAY")
	}},
	{"204 with a body", func(c net.Conn, _ string) bool {
		return send(c, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nSTRAY")
	}},
	{"two lengths", func(c net.Conn, text string) bool {
		return send(c, strings.Replace(withLength(text), "\r\n\r\n", "\r\nContent-Length: 1\r\n\r\n", 1))
	}},
	{"a length below 0", func(c net.Conn, _ string) bool { return send(c, statusLine+"Content-Length: -1\r\n\r\nSTRAY") }},
	{"a header without end", func(c net.Conn, _ string) bool { return send(c, statusLine+"X: "+strings.Repeat("x", 2<<20)) }},
	{"silence", func(c net.Conn, _ string) bool { return silence(c) }},
	{"silence in the body", func(c net.Conn, text string) bool {
		send(c, withLength(text)[:len(withLength(text))-1])
		return silence(c)
	}},
}

const statusLine = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

func send(c net.Conn, text string) bool { _, err := io.WriteString(c, text); return err == nil }

// silence lasts until the other side gives up.
func silence(c net.Conn) bool { _, _ = c.Read(make([]byte, 1)); return false }

func withLength(text string) string {
	return statusLine + "Content-Length: " + strconv.Itoa(len(text)) + "\r\n\r\n" + text
}

func inChunks(text string) string {
	return fmt.Sprintf("%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n", statusLine, len(text)/2, text[:len(text)/2], len(text)-len(text)/2, text[len(text)/2:])
}

// TestTorture has clients that leave at all times call a WeChat that breaks its answers in all ways. No call is
// executed twice or uncounted, no byte of an answer reaches another call, and nothing stays open.
func TestTorture(t *testing.T) {
	calls := int64(2000)
	if n, err := strconv.ParseInt(os.Getenv("WXPROXY_TORTURE_CALLS"), 10, 64); err == nil {
		calls = n
	}
	const workers = 32
	openBefore := descriptors(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var executed sync.Map // call -> *atomic.Int64
	var wechat sync.WaitGroup
	done := make([]atomic.Int64, len(tortures))
	wechat.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			wechat.Go(func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					request, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					if _, err = io.Copy(io.Discard, request.Body); err != nil {
						return
					}
					call := request.URL.Query().Get("call")
					times, _ := executed.LoadOrStore(call, new(atomic.Int64))
					times.(*atomic.Int64).Add(1)
					kind := rand.IntN(len(tortures))
					done[kind].Add(1)
					if !tortures[kind].answer(c, answerTo(call)) {
						return
					}
				}
			})
		}
	})
	g := newGateway(t, "http://"+listener.Addr().String(), func(o *Options) {
		o.Timeout = 300 * time.Millisecond
		o.Record = nil
	})
	var next, answered, whole, left atomic.Int64
	var clients sync.WaitGroup
	for range workers {
		clients.Go(func() {
			client := &tortureClient{t: t, address: g.Listener.Addr().String()}
			defer client.close()
			for n := next.Add(1); n <= calls; n = next.Add(1) {
				switch client.call(fmt.Sprintf("call-%d-", n)) {
				case clientLeft:
					left.Add(1)
				case answerWhole:
					whole.Add(1)
				case answerOther:
					answered.Add(1)
				}
			}
		})
	}
	clients.Wait()
	g.Close()
	g.h.Close()
	listener.Close()
	total := 0
	executed.Range(func(call, times any) bool {
		total++
		if n := times.(*atomic.Int64).Load(); n != 1 {
			t.Errorf("%s was executed %d times", call, n)
		}
		return true
	})
	if counted := g.limiter.counted(t); counted < total || counted > int(calls) {
		t.Errorf("counted %d of %d calls, %d were executed", counted, calls, total)
	}
	for kind := range done {
		if done[kind].Load() == 0 {
			t.Errorf("no answer was %q", tortures[kind].name)
		}
	}
	if int64(total) < calls/2 || whole.Load() < calls/10 || left.Load() < calls/20 {
		t.Errorf("%d executed, %d answered whole, %d clients left: the test proves nothing", total, whole.Load(), left.Load())
	}
	t.Logf("%d calls: %d executed, %d answered whole, %d otherwise, %d clients left", calls, total, whole.Load(), answered.Load(), left.Load())
	wechat.Wait()
	client := g.client.Transport.(*http.Transport)
	client.CloseIdleConnections()
	for deadline := time.Now().Add(10 * time.Second); descriptors(t) > openBefore; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors are open, %d were before", descriptors(t), openBefore)
		}
	}
	if c, ok := g.h.transport.(*upstream.Client); !ok {
		t.Errorf("the transport is a %T, want *upstream.Client", c)
	}
}

// answerTo is what WeChat answers to a call: long enough to be flushed in between, now and then.
func answerTo(call string) string {
	return `{"errcode":0,"text":"` + strings.Repeat(call, 1+len(call)%3*2000) + `"}`
}

// descriptors counts the open ones of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc/self/fd: ", err)
	}
	return len(entries)
}

type tortureEnd int

const (
	clientLeft tortureEnd = iota
	answerWhole
	answerOther // broken off, or the gateway's own
)

// tortureClient makes its calls one after the other, over one connection as long as that lasts.
type tortureClient struct {
	t       *testing.T
	address string
	conn    net.Conn
	reader  *bufio.Reader
}

func (c *tortureClient) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *tortureClient) call(call string) tortureEnd {
	if c.conn == nil {
		var err error
		if c.conn, err = net.Dial("tcp", c.address); err != nil {
			c.t.Error(err)
			return clientLeft
		}
		c.reader = bufio.NewReader(c.conn)
	}
	method, body := http.MethodGet, ""
	if rand.IntN(2) == 0 {
		method, body = http.MethodPost, strings.Repeat("x", [...]int{0, 100, 100_000}[rand.IntN(3)])
	}
	request := fmt.Sprintf("%s /cgi-bin/user/info?call=%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, call, len(body), body)
	leaves := rand.IntN(10)
	switch leaves {
	case 0: // in the middle of the request
		_, _ = io.WriteString(c.conn, request[:rand.IntN(len(request))])
		c.close()
		return clientLeft
	case 1: // when it is sent
		_, _ = io.WriteString(c.conn, request)
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
		c.close()
		return clientLeft
	}
	_ = c.conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c.conn, request); err != nil {
		c.close() // it was closed after the last answer
		return answerOther
	}
	response, err := http.ReadResponse(c.reader, &http.Request{Method: method})
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Errorf("%s: no answer: %v", call, err)
		}
		c.close()
		return answerOther
	}
	if leaves == 2 { // in the middle of the answer
		_, _ = io.CopyN(io.Discard, response.Body, 10)
		c.close()
		return clientLeft
	}
	text, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil || response.Close {
		c.close()
	}
	if response.StatusCode != http.StatusOK || response.Header.Get("X-Wxproxy-Decision") != "pass" {
		return answerOther
	}
	want := answerTo(call)
	if err == nil && string(text) == want {
		return answerWhole
	}
	if !strings.HasPrefix(want, string(text)) || err == nil && response.ContentLength >= 0 && len(text) > 0 {
		c.t.Errorf("%s: %d bytes of an answer, %v, that are not its own: %.80q", call, len(text), err, text)
	}
	return answerOther
}
