package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"wxproxy/sandbox"
)

// A client that goes away during its call is noticed, however it is connected, and its place is free: the call
// ends as 499, long before WeChat answers.
func TestAClientThatLeaves(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	cert, key := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	selfSigned(t, cert, key, 1)
	secure := "tls: {cert_file: \"" + cert + "\", key_file: \"" + key + "\"}\n"
	const get, post = "GET /%s/cgi-bin/user/info?openid=o HTTP/1.1\r\nHost: %s\r\n\r\n", "POST /%s/cgi-bin/user/info HTTP/1.1\r\nHost: %s\r\nContent-Length: 2\r\n\r\n{}"
	for _, tt := range []struct {
		name, more, request string
		leave               func(c net.Conn)
	}{
		{"GET", "", get, func(c net.Conn) { _ = c.Close() }},
		{"POST", "", post, func(c net.Conn) { _ = c.Close() }},
		{"reset", "", post, func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0); _ = c.Close() }},
		{"half-closed", "", get, func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite() }},
		{"TLS", secure, post, func(c net.Conn) { _ = c.Close() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wechat := newWechat(t, sandbox.Options{})
			slow := wechat.Order(sandbox.Fault{Path: "/cgi-bin/user/info", Times: -1, Delay: 20 * time.Second})
			g := serveHere(t, writeSmall(t, wechat, tt.more), serving{})
			client := dialWire(t, g.main).Conn
			if tt.more != "" {
				client = tls.Client(client, &tls.Config{InsecureSkipVerify: true})
			}
			fmt.Fprintf(client, tt.request, appA, g.main)
			waitFor(t, "the call at WeChat", func() bool { return slow.Fired() > 0 })
			left := time.Now()
			tt.leave(client)
			line := g.stdout.await(t, "line of the call", func(line map[string]any) bool { return line["rule"] == "user.info" })
			if took := time.Since(left); line["status"] != 499.0 || took > 5*time.Second {
				t.Errorf("status %v after %s, want 499 at once", line["status"], took)
			}
		})
	}
}

// watch takes over what net/http reads ahead for. A client that stays keeps its calls, also with requests that
// are sent before the answers.
func TestWatch(t *testing.T) {
	t.Parallel()
	l := listenHere(t)
	entered, leave := make(chan context.Context), make(chan bool)
	server := &http.Server{ConnContext: connContext, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		entered <- r.Context()
		<-leave
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	client := dialWire(t, l.Addr().String())
	const calls = 5
	for range calls {
		fmt.Fprint(client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	}
	for range calls {
		ctx := <-entered
		time.Sleep(3 * goneTime)
		l.watch.mu.Lock()
		if len(l.watch.conns) != 1 {
			t.Errorf("%d connections are watched during a call, want 1: does net/http still read ahead with one byte?", len(l.watch.conns))
		}
		l.watch.mu.Unlock()
		if ctx.Err() != nil {
			t.Error("the context of a call has ended, whose client is there")
		}
		leave <- true
	}
	deadline := time.Now().Add(10 * time.Second)
	for watched := 1; watched > 0; time.Sleep(goneTime) {
		l.watch.mu.Lock()
		watched = len(l.watch.conns)
		l.watch.mu.Unlock()
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are watched at rest, want none", watched)
		}
	}
	fmt.Fprint(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	ctx := <-entered
	_ = client.Close()
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		t.Error("the client is gone, and the context of its call goes on")
	}
	leave <- true
}

// A read deadline holds whether it is set before a Read or during one.
func TestConnReadDeadline(t *testing.T) {
	t.Parallel()
	l := listenHere(t)
	dialWire(t, l.Addr().String())
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	read := func() error {
		_, err := c.Read(make([]byte, 10))
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Hour))
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if err := read(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a deadline set before: %v, want a timeout", err)
	}
	_ = c.SetReadDeadline(time.Time{})
	time.AfterFunc(100*time.Millisecond, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	time.AfterFunc(10*time.Second, func() { _ = c.Close() }) // so that it ends in any case
	if err := read(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a deadline set during a Read: %v, want a timeout", err)
	}
}

// BenchmarkServer is what a small POST costs this process, which is the client too, at 32 connections: with
// net/http's reading ahead, and with watch.
func BenchmarkServer(b *testing.B) {
	for _, watched := range []bool{false, true} {
		b.Run(fmt.Sprintf("watched=%t", watched), func(b *testing.B) {
			l := listenHere(b)
			server := &http.Server{ReadHeaderTimeout: time.Minute, IdleTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				time.Sleep(200 * time.Microsecond) // WeChat
				_, _ = io.WriteString(w, `{"errcode":0,"errmsg":"ok"}`)
			})}
			if watched {
				server.ConnContext = connContext
			}
			go func() { _ = server.Serve(l) }()
			b.Cleanup(func() { _ = server.Close() })
			b.SetParallelism(16)
			var before, after syscall.Rusage
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
			b.RunParallel(func(pb *testing.PB) {
				client, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					b.Error(err)
					return
				}
				defer client.Close()
				answers := bufio.NewReader(client)
				for pb.Next() {
					fmt.Fprint(client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
					res, err := http.ReadResponse(answers, nil)
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
			})
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
			used := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
			b.ReportMetric(float64(used)/float64(b.N), "cpu-ns/op")
		})
	}
}
