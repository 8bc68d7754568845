package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"wxproxy/proxy"
	"wxproxy/sandbox"
)

func (p *process) terminate(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// During shutdown_delay the gateway is not ready, and serves. Each answer is the last one of its connection.
func TestShutdownDelay(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	p := start(t, writeSmall(t, wechat, "shutdown_delay: 1h\n"), wechat)
	call := func() (status int, closes bool) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/"+appA+"/cgi-bin/get_api_domain_ip", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return response.StatusCode, response.Close
	}
	if status, closes := call(); status != 200 || closes {
		t.Errorf("before the signal: %d, connection closes: %t", status, closes)
	}
	if a := do(t, "GET", p.url+"/-/healthy", nil); a.status != 200 {
		t.Errorf("/-/healthy before the signal: %v, want 200", a)
	}
	p.terminate(t)
	p.stderr.await(t, "line that it stops", message("stopping"))
	if status := p.askAdmin(t, "GET", "/-/ready", nil); status != 503 {
		t.Errorf("/-/ready during the delay: %d, want 503", status)
	}
	if a := do(t, "GET", p.url+"/-/healthy", nil); a.status != 503 {
		t.Errorf("/-/healthy of the main listener during the delay: %v, want 503", a)
	}
	for range 3 {
		if status, closes := call(); status != 200 || !closes {
			t.Errorf("a call during the delay: %d, connection closes: %t, want 200 and true", status, closes)
		}
	}
	p.stop(t) // a second signal ends the delay
}

func TestShutdownDelayEnds(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	p := start(t, writeSmall(t, wechat, "shutdown_delay: 500ms\n"), wechat)
	p.terminate(t)
	p.stderr.await(t, "line that it stops", message("stopping"))
	begun := time.Now()
	if err := <-p.exited; err != nil {
		t.Errorf("the process ended with %v, want 0", err)
	}
	p.ended = true
	if took := time.Since(begun); took < 400*time.Millisecond || took > 15*time.Second {
		t.Errorf("it took %s, want the delay of 500 ms", took)
	}
}

// A call that WeChat does not answer, idle connections, half a request and a client of the admin listener
// hold nothing up: at the end of the grace the gateway ends without an error.
func TestAStuckCallDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{Keep: -1})
	g := serveHere(t, writeSmall(t, wechat), serving{grace: 4 * time.Second})
	held := wechat.Order(sandbox.Fault{Path: "/cgi-bin/user/info", Hold: true})
	defer held.Release()
	for _, text := range []string{"", "GET / HTTP/1.1\nHo", "POST /" + appA + "/cgi-bin/menu/create HTTP/1.1\nHost: HOST\nContent-Length: 100\n\nhalf"} {
		dialWire(t, g.main).send(t, text)
		dialWire(t, g.admin).send(t, text)
	}
	call := dialWire(t, g.main)
	call.send(t, "GET /"+appA+"/cgi-bin/user/info?openid=o HTTP/1.1\nHost: HOST\n\n")
	<-held.Begun()
	g.stop()
	begun := time.Now()
	err := <-g.stopped
	if took := time.Since(begun); err != nil || took > 8*time.Second {
		t.Errorf("it ended after %s with %v, want no error within the grace of 4 s", took, err)
	}
	g.stdout.await(t, "line of the call", func(line map[string]any) bool { return line["rule"] == "user.info" })
}

// A second signal ends the calls that still wait, and the exit code is 0.
func TestASecondSignalEndsCalls(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{Keep: -1})
	p := start(t, writeSmall(t, wechat), wechat)
	held := wechat.Order(sandbox.Fault{Path: "/cgi-bin/user/info", Hold: true})
	defer held.Release()
	call := dialWire(t, strings.TrimPrefix(p.url, "http://"))
	call.send(t, "GET /"+appA+"/cgi-bin/user/info?openid=o HTTP/1.1\nHost: HOST\n\n")
	<-held.Begun()
	p.terminate(t)
	p.stderr.await(t, "line that it stops", message("stopping"))
	begun := time.Now()
	p.stop(t)
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("after a second signal it took %s, want it to end at once", took)
	}
}

// A call that is ended at the end is answered: on an empty close many clients send it again, and WeChat
// may have executed it.
func TestACallThatIsEndedIsAnswered(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{Keep: -1})
	p := start(t, writeSmall(t, wechat), wechat)
	held := wechat.Order(sandbox.Fault{Path: "/cgi-bin/user/info", HoldAnswer: true})
	defer held.Release()
	call := dialWire(t, strings.TrimPrefix(p.url, "http://"))
	const request = "GET /" + appA + "/cgi-bin/user/info?openid=o HTTP/1.1\nHost: HOST\n\n"
	call.send(t, request)
	<-held.Begun()
	p.terminate(t)
	p.stderr.await(t, "line that it stops", message("stopping"))
	p.terminate(t)
	if a := call.answer(t, request); a.status != 504 || !a.closes {
		t.Errorf("%+v, want 504 and a connection that closes", a)
	}
	p.stop(t)
}

// drain gives a handler that looks at the cause of its context the time to answer.
func TestDrain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		patience time.Duration
		hurry    bool
	}{{"patience ends", 50 * time.Millisecond, false}, {"a second signal", time.Hour, true}} {
		t.Run(tt.name, func(t *testing.T) {
			calls, endCalls := context.WithCancelCause(t.Context())
			defer endCalls(nil)
			begun := make(chan struct{})
			server := newServer(calls, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(begun)
				<-r.Context().Done()
				if errors.Is(context.Cause(r.Context()), proxy.ErrStopping) {
					w.Header().Set("Connection", "close")
					w.WriteHeader(http.StatusGatewayTimeout)
				}
			}), zap.NewNop())
			l := listenHere(t)
			go func() { _ = server.Serve(l) }()
			call := dialWire(t, l.Addr().String())
			call.send(t, "POST / HTTP/1.1\nHost: HOST\nContent-Length: 0\n\n")
			<-begun
			again, hurry := context.WithCancel(t.Context())
			defer hurry()
			if tt.hurry {
				hurry()
			}
			if err := drain(again, server, tt.patience, zap.NewNop(), endCalls); err != nil {
				t.Error(err)
			}
			if a := call.answer(t, "POST / HTTP/1.1"); a.status != 504 || !a.closes {
				t.Errorf("%+v, want 504 and a connection that closes", a)
			}
		})
	}
}

// closing is a connection that takes its time to close, as one with TLS does whose client reads nothing.
type closing struct {
	net.Conn
	until chan struct{}
}

func (c closing) Close() error {
	<-c.until
	return c.Conn.Close()
}

type closingListener struct {
	net.Listener
	until chan struct{}
}

func (l closingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return closing{c, l.until}, err
}

// Connections that cannot be closed do not hold up the end.
func TestDrainWithoutClosing(t *testing.T) {
	t.Parallel()
	until := make(chan struct{})
	defer close(until)
	server := newServer(t.Context(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), zap.NewNop())
	l := closingListener{listenHere(t), until}
	go func() { _ = server.Serve(l) }()
	idle := dialWire(t, l.Addr().String())
	idle.send(t, "GET / HTTP/1.1\nHost: HOST\n\n")
	idle.answer(t, "GET / HTTP/1.1")
	begun := time.Now()
	if err := drain(t.Context(), server, 50*time.Millisecond, zap.NewNop(), func(error) {}); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("drain took %s, want little more than %s", took, lastAnswers)
	}
}
