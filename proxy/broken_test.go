package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// breaksAt is a WeChat that answers the first POST of a connection whole, and breaks off the answer to
// every other one after some bytes of it. It counts what it executes.
type breaksAt struct {
	*stubWeChat
	executed atomic.Int64
}

func newBreaksAt(t *testing.T, sent int, chunked bool) *breaksAt {
	t.Helper()
	b := &breaksAt{}
	text := `{"errcode":0,"list":"` + strings.Repeat("x", 8000) + `"}`
	var n atomic.Int64
	b.stubWeChat = newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			answerOK(w, r)
			return
		}
		b.executed.Add(1)
		w.Header().Set("Content-Type", jsonType[0])
		if n.Add(1) == 1 {
			answerOK(w, r)
			return
		}
		if !chunked {
			w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		}
		say(w, text[:sent])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	return b
}

// A client that gets an empty close on a connection that it has used before takes the call for one that
// was not executed: curl and Java's HttpURLConnection send a POST again. So whatever of an answer breaks
// off, the client gets to see that there was one.
func TestBrokenAnswerIsSeenAsBroken(t *testing.T) {
	for _, sent := range []int{0, 1, 100, 511, 512, 513, 2047, 2049, 4000, 4096, 7000} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d bytes, chunked %t", sent, chunked), func(t *testing.T) {
				u := newBreaksAt(t, sent, chunked)
				g := newGateway(t, u.URL, nil)
				conn := dial(t, g.Listener.Addr().String())
				from := bufio.NewReader(conn)
				const post = "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
				say(conn, post)
				res, err := http.ReadResponse(from, nil)
				if err != nil {
					t.Fatal(err)
				}
				drain(res.Body)
				res.Body.Close()
				say(conn, post)
				res, err = http.ReadResponse(from, nil)
				if err != nil {
					t.Fatalf("the connection was closed without a byte: %v", err)
				}
				defer res.Body.Close()
				text, err := io.ReadAll(res.Body)
				if whole := err == nil; whole && res.StatusCode != http.StatusBadGateway {
					t.Errorf("answer = %d, %d bytes, whole", res.StatusCode, len(text))
				}
				if u.executed.Load() != 2 || g.limiter.counted(t) != 2 {
					t.Errorf("executed %d, counted %d, want 2 and 2", u.executed.Load(), g.limiter.counted(t))
				}
			})
		}
	}
}

func TestCurlDoesNotRepeat(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl")
	}
	for _, sent := range []int{0, 600, 3000} {
		u := newBreaksAt(t, sent, false)
		g := newGateway(t, u.URL, nil)
		at := g.URL + "/cgi-bin/user/info"
		// Two calls over one connection.
		out, _ := exec.CommandContext(t.Context(), curl, "-s", "-d", "{}", at, "-o", os.DevNull, "--next", "-s", "-d", "{}", at, "-o", os.DevNull, "-w", "%{num_connects} %{http_code}").CombinedOutput()
		if !strings.HasPrefix(string(out), "0 ") {
			t.Errorf("curl: %s: the second call had a connection of its own: the test proves nothing", out)
		}
		if u.executed.Load() != 2 {
			t.Errorf("%d bytes of an answer: curl made 2 calls, executed were %d", sent, u.executed.Load())
		}
	}
}

const javaPosts = `
import java.io.*;
import java.net.*;

class Posts {
    public static void main(String[] args) throws Exception {
        for (int i = 0; i < 2; i++) {
            HttpURLConnection c = (HttpURLConnection) new URL(args[0]).openConnection();
            c.setRequestMethod("POST");
            c.setDoOutput(true);
            try {
                c.getOutputStream().write("{}".getBytes());
                InputStream in = c.getInputStream();
                byte[] b = new byte[4096];
                while (in.read(b) >= 0) { }
                in.close();
            } catch (IOException e) {
                System.out.println(e.getClass().getName());
            }
        }
    }
}
`

func TestJavaDoesNotRepeat(t *testing.T) {
	java, err := exec.LookPath("java")
	if err != nil {
		t.Skip("no java")
	}
	file := filepath.Join(t.TempDir(), "Posts.java")
	if err := os.WriteFile(file, []byte(javaPosts), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, sent := range []int{0, 600} {
		u := newBreaksAt(t, sent, false)
		g := newGateway(t, u.URL, nil)
		out, err := exec.CommandContext(t.Context(), java, file, g.URL+"/cgi-bin/user/info").CombinedOutput()
		if err != nil {
			t.Fatalf("java: %v\n%s", err, out)
		}
		if u.executed.Load() != 2 {
			t.Errorf("%d bytes of an answer: java made 2 calls, executed were %d\n%s", sent, u.executed.Load(), out)
		}
	}
}

// trickle sends the start of a POST, calls started, and then sends a byte of its body now and then.
func trickle(t *testing.T, addr, path string, started func(), stop <-chan struct{}) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		started()
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{", path)
	started()
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Second):
			if _, err := conn.Write([]byte(" ")); err != nil {
				<-stop
				return
			}
		}
	}
}

// Whoever has not authenticated cannot take the places of those who have.
func TestStrangersTakeNoPlaces(t *testing.T) {
	const strangers, honest = 2300, 24 // twice as many descriptors
	u := newUpstream(t, nil)
	g := newGateway(t, u.URL, func(o *Options) {
		o.MaxInFlight, o.Anonymous = 100, AnonymousNever
		o.Identity = fakeIdentity{}
	})
	stop := make(chan struct{})
	var wg, started sync.WaitGroup
	started.Add(strangers)
	for i := range strangers {
		path := "/cgi-bin/token"
		if i%3 == 0 {
			path = "/cgi-bin/user/info" // without credentials
		}
		wg.Go(func() { trickle(t, g.Listener.Addr().String(), path, started.Done, stop) })
	}
	defer wg.Wait()
	defer close(stop)
	started.Wait()
	for i := range honest {
		if _, text := g.do(t, "POST", "/cgi-bin/user/info", "{}", "X-Wxproxy-Key: key"); text != okText {
			t.Errorf("call %d = %s", i, text)
		}
		if _, text := g.do(t, "POST", "/cgi-bin/token", `{"grant_type":"client_credential","appid":"`+testAppID+`","secret":"key"}`); !strings.Contains(text, "access_token") {
			t.Errorf("token request %d = %s", i, text)
		}
	}
	if taken := g.h.inFlight.Load(); taken != 0 {
		t.Errorf("%d places are taken", taken)
	}
}

// A token request has a short time and a small size.
func TestTokenBodies(t *testing.T) {
	g := newGateway(t, newUpstream(t, nil).URL, func(o *Options) { o.Identity = fakeIdentity{} })
	for _, size := range []int{tokenBytes + 1, 32 << 20} {
		if _, text := g.do(t, "POST", "/cgi-bin/token", strings.Repeat("x", size)); !strings.Contains(text, "40035") {
			t.Errorf("a body of %d bytes: %s", size, text)
		}
	}
	for _, size := range []int{100, tokenSmallBytes, tokenSmallBytes + 1, tokenBytes} {
		body := `{"grant_type":"client_credential","appid":"` + testAppID + `","secret":"key"}`
		body += strings.Repeat(" ", max(0, size-len(body)))
		if _, text := g.do(t, "POST", "/cgi-bin/stable_token", body); !strings.Contains(text, "access_token") {
			t.Errorf("a body of %d bytes: %s", size, text)
		}
	}
	conn := dial(t, g.Listener.Addr().String())
	began := time.Now()
	say(conn, "POST /cgi-bin/token HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
	if err := conn.SetDeadline(began.Add(tokenTime + 15*time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("a body that stops: %d, %v, want the connection closed", n, err)
	}
	if took := time.Since(began); took < tokenTime-time.Second {
		t.Errorf("closed after %v, want %v", took, tokenTime)
	}
}

// fakeIdentity knows one key.
type fakeIdentity struct{}

func (fakeIdentity) Issue(_, secret string, _ time.Time) (proxyToken, caller string, err error) {
	if secret != "key" {
		return "", "", errors.New("wrong")
	}
	return "token", "crm", nil
}

func (fakeIdentity) Read(string, time.Time) (appid, caller string, err error) {
	return "", "", errors.New("no token")
}
func (fakeIdentity) Caller(key string) (name string, ok bool) { return "crm", key == "key" }
func (fakeIdentity) May(string, string) bool                  { return true }
func (fakeIdentity) ThirdParty(string) bool                   { return false }

// A panic leaves no place taken and no grant open.
func TestPanicFreesEverything(t *testing.T) {
	u := newUpstream(t, nil)
	var panics atomic.Bool
	g := newGateway(t, u.URL, func(o *Options) {
		o.MaxInFlight = 2
		o.Record = func(*Record) {
			if panics.Load() {
				panic("record")
			}
		}
		o.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Header.Get("X-Panic") != "" {
				panic("transport")
			}
			return http.DefaultTransport.RoundTrip(r)
		})
	})
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	panics.Store(true)
	for range 5 {
		for _, header := range []string{"X-Panic: 1", "X-Other: 1"} {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, g.URL+"/cgi-bin/user/info", http.NoBody)
			name, value, _ := strings.Cut(header, ": ")
			r.Header.Set(name, value)
			if res, err := g.client.Do(r); err == nil {
				res.Body.Close()
			}
		}
	}
	panics.Store(false)
	if _, text := g.do(t, "GET", "/cgi-bin/user/info", ""); text != okText {
		t.Errorf("answer = %s", text)
	}
	g.limiter.counted(t)
	if taken := g.h.inFlight.Load(); taken != 0 {
		t.Errorf("%d places are taken", taken)
	}
}

// A call that the gateway's end cuts off is answered: nobody sees an empty close.
func TestStoppingAnswers(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	u := newUpstream(t, func(http.ResponseWriter, *http.Request) { <-release })
	g := newGateway(t, u.URL, nil)
	ctx, stop := context.WithCancelCause(t.Context())
	server := httptest.NewUnstartedServer(g.h)
	server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	server.Start()
	defer server.Close()
	conn := dial(t, server.Listener.Addr().String())
	say(conn, "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	for u.count() == 0 {
		time.Sleep(time.Millisecond)
	}
	stop(ErrStopping)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	drain(res.Body)
	if res.StatusCode != http.StatusGatewayTimeout || !res.Close || g.limiter.counted(t) != 1 {
		t.Errorf("answer = %d, closes %t, counted %d", res.StatusCode, res.Close, g.limiter.counted(t))
	}
}
