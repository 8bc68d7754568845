package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wxproxy/config"
	"wxproxy/sandbox"
)

// TestConn goes through the deadlines of a connection by virtual time.
func TestConn(t *testing.T) {
	const stall = 30 * time.Second
	for _, tt := range []struct {
		name string
		take func(client net.Conn) // what the client does
		do   func(c *conn) error   // what the server does
		end  time.Duration         // at least until it fails or is through
		most time.Duration
		fail bool
	}{
		{"nothing taken", func(net.Conn) {}, func(c *conn) error { return put(c, 10) }, stall, stall, true},
		{
			"a byte at a time", func(client net.Conn) { takeSlowly(client, 10, 29*time.Second) },
			func(c *conn) error { return put(c, 10) }, 10 * 29 * time.Second, 10 * 29 * time.Second, false,
		},
		{
			"part taken, then nothing", func(client net.Conn) { takeSlowly(client, 2, 10*time.Second) },
			func(c *conn) error { return put(c, 10) }, 20*time.Second + stall, 20*time.Second + stall*5/4, true,
		},
		{
			"small answers, then nothing taken", func(client net.Conn) { takeSlowly(client, 40, time.Second) },
			func(c *conn) error {
				for range 40 {
					if err := put(c, 1); err != nil {
						return err
					}
					if err := c.SetWriteDeadline(time.Time{}); err != nil { // as net/http does
						return err
					}
				}
				return put(c, 1)
			}, 40*time.Second + stall*15/16, 40*time.Second + stall, true,
		},
		{
			"after a long time idle", func(client net.Conn) { takeSlowly(client, 2, 0) },
			func(c *conn) error {
				if err := put(c, 1); err != nil {
					return err
				}
				time.Sleep(time.Hour)
				return put(c, 1)
			}, time.Hour, time.Hour, false,
		},
		{
			"the server's deadline", func(net.Conn) {},
			func(c *conn) error {
				return errors.Join(c.SetWriteDeadline(time.Now().Add(5*time.Second)), put(c, 1))
			}, 5 * time.Second, 5 * time.Second, true,
		},
		{
			"the server's longer deadline", func(net.Conn) {},
			func(c *conn) error { return errors.Join(c.SetDeadline(time.Now().Add(time.Minute)), put(c, 1)) },
			time.Minute, time.Minute, true,
		},
		{
			"the server's deadline, cleared", func(client net.Conn) { takeSlowly(client, 1, 0) },
			func(c *conn) error {
				return errors.Join(put(c, 1), c.SetWriteDeadline(time.Now().Add(5*time.Second)), c.SetWriteDeadline(time.Time{}), put(c, 1))
			}, stall, stall, true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				go tt.take(client)
				begun := time.Now()
				err := tt.do(&conn{Conn: server, stall: stall})
				if took := time.Since(begun); took < tt.end || took > tt.most || errors.Is(err, os.ErrDeadlineExceeded) != tt.fail {
					t.Errorf("%v after %s, want a passed deadline: %t, after %s to %s", err, took, tt.fail, tt.end, tt.most)
				}
				_ = client.Close()
			})
		})
	}
}

func put(w io.Writer, n int) error {
	_, err := w.Write(make([]byte, n))
	return err
}

// takeSlowly reads n bytes, each after a pause.
func takeSlowly(client io.Reader, n int, pause time.Duration) {
	for range n {
		time.Sleep(pause)
		if _, err := client.Read(make([]byte, 1)); err != nil {
			return
		}
	}
}

// here is a gateway in this process.
type here struct {
	main, admin    string
	stdout, stderr *output
	stop           context.CancelFunc
	stopped        chan error
}

// serveHere runs a gateway in this process, for settings that have no key. It is stopped with the test.
func serveHere(t *testing.T, path string, o serving) *here {
	t.Helper()
	c, err := config.Load(loadOptions(path))
	if err != nil {
		t.Fatal(err)
	}
	g := &here{stdout: newOutput(), stderr: newOutput(), stopped: make(chan error, 1)}
	started := make(chan struct{})
	o.load, o.stdout, o.log = loadOptions(path), g.stdout, newLog(g.stderr)
	o.started = func(main, admin net.Addr) {
		g.main, g.admin = main.String(), admin.String()
		close(started)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	g.stop = cancel
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.stopped <- serveConfig(ctx, o, c)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	select {
	case <-started:
	case <-ended:
		t.Fatal(<-g.stopped)
	}
	return g
}

// A client that asks for a large answer and never reads it gives its place back, with and without TLS.
func TestAClientThatReadsNothingIsCut(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	cert, key := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	selfSigned(t, cert, key, 1)
	for name, more := range map[string]string{"plain": "", "tls": "tls: {cert_file: \"" + cert + "\", key_file: \"" + key + "\"}\n"} {
		t.Run(name, func(t *testing.T) {
			wechat := newWechat(t, sandbox.Options{Keep: -1})
			wechat.Order(sandbox.Fault{Path: "/cgi-bin/user/info", Times: -1, Body: strings.Repeat("x", 32<<20), ContentType: "image/jpeg"})
			g := serveHere(t, writeSmall(t, wechat, more), serving{stall: 500 * time.Millisecond})
			narrow := dialWire(t, g.main).Conn
			if err := narrow.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
				t.Fatal(err)
			}
			client := narrow
			if more != "" {
				client = tls.Client(client, &tls.Config{InsecureSkipVerify: true})
			}
			fmt.Fprintf(client, "GET /%s/cgi-bin/user/info?openid=o HTTP/1.1\r\nHost: %s\r\n\r\n", appA, g.main)
			line := g.stdout.await(t, "line of the call that was cut", func(line map[string]any) bool { return line["rule"] == "user.info" })
			if sent := line["bytes_out"].(float64); sent >= 32<<20 {
				t.Errorf("%v bytes went out, want less than were asked for", sent)
			}
			_ = client.SetReadDeadline(time.Now().Add(15 * time.Second))
			if n, err := io.Copy(io.Discard, client); errors.Is(err, os.ErrDeadlineExceeded) || n >= 32<<20 {
				t.Errorf("the client can read %d bytes, then %v, want a part and an end", n, err)
			}
		})
	}
}

// writeSmall writes the configuration of a small table.
func writeSmall(t *testing.T, wechat *sandbox.Server, more ...string) string {
	t.Helper()
	return write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), table("10/day", "10/day"), more...)
}

// A handshake that stops halfway is cut by net/http, as a header is.
func TestAStalledHandshakeIsCut(t *testing.T) {
	t.Parallel() // takes 10 s
	folder := t.TempDir()
	cert, key := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	selfSigned(t, cert, key, 1)
	wechat := newWechat(t, sandbox.Options{})
	p := start(t, writeSmall(t, wechat, "tls: {cert_file: \""+cert+"\", key_file: \""+key+"\"}\n"), wechat)
	client := dialWire(t, strings.TrimPrefix(p.url, "http://"))
	_ = client.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := client.Write([]byte{22, 3, 1, 2, 0, 1}); err != nil { // a ClientHello's beginning
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, client); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is open after 30 s, %d bytes", n)
	}
}

// With no file descriptor left connections wait. The log and the metrics tell, and once there are some
// the gateway goes on.
func TestTooFewDescriptors(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	p := startBy(t, []string{"sh", "-c", `ulimit -n 48; exec "$@"`, "sh"}, writeSmall(t, wechat), wechat)
	operator := &http.Client{Transport: &http.Transport{}} // with a connection that it keeps
	metric := func(name string) string { return metricOf(t, operator, p.admin, name) }
	if n := metric("wxproxy_accept_errors_total"); n != "0" {
		t.Fatalf("wxproxy_accept_errors_total %q at the start, want 0", n)
	}
	var open []net.Conn
	for range 64 {
		open = append(open, dialWire(t, strings.TrimPrefix(p.url, "http://")))
	}
	line := p.stderr.await(t, "line that connections are not accepted", message("accept failed"))
	if line["level"] != "error" || !strings.Contains(line["error"].(string), "too many open files") {
		t.Errorf("the log has %v, want an error that names the cause", line)
	}
	if n := metric("wxproxy_accept_errors_total"); n == "0" {
		t.Error("wxproxy_accept_errors_total 0, want the connections that were not accepted")
	}
	for _, c := range open {
		_ = c.Close()
	}
	if a := do(t, "GET", p.url+"/"+appA+"/cgi-bin/get_api_domain_ip", nil); a.decision != "pass" {
		t.Errorf("with descriptors again: %v, want pass", a)
	}
}

// metricOf returns the value of a metric without labels.
func metricOf(t *testing.T, client *http.Client, admin, name string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, admin+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no %s among the metrics", name)
	return ""
}

// A client that still sends gets its answer, not a reset: net/http needs CloseWrite for that.
func TestConnClosesWriting(t *testing.T) {
	t.Parallel()
	var _ interface{ CloseWrite() error } = (*conn)(nil)
	l := listenHere(t)
	go func() {
		if c, err := l.Accept(); err == nil {
			_ = c.(*conn).CloseWrite()
		}
	}()
	client := dialWire(t, l.Addr().String())
	if n, err := io.Copy(io.Discard, client); n != 0 || err != nil {
		t.Errorf("after CloseWrite the client reads %d bytes, %v, want the end", n, err)
	}
	if _, err := client.Write([]byte("x")); err != nil {
		t.Errorf("after CloseWrite the client cannot write: %v", err)
	}
}

// listenHere returns a guarded listener on a free port.
func listenHere(tb testing.TB) *listener {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	return &listener{Listener: l, stall: writeStall, failed: func(err error) { tb.Error(err) }}
}

// BenchmarkConnWrite is what the guard costs a small answer.
func BenchmarkConnWrite(b *testing.B) {
	for _, guarded := range []bool{false, true} {
		b.Run(fmt.Sprintf("guarded=%t", guarded), func(b *testing.B) {
			l := listenHere(b)
			go func() {
				if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
					_, _ = io.Copy(io.Discard, c)
				}
			}()
			c, err := l.Accept()
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			if !guarded {
				c = c.(*conn).Conn
			}
			p := make([]byte, 400)
			for b.Loop() {
				if _, err := c.Write(p); err != nil {
					b.Fatal(err)
				}
				_ = c.SetWriteDeadline(time.Time{}) // net/http, after each answer
			}
		})
	}
}

// TestListenMode: the mode of a socket is that of listen_mode, also over one that a killed process has left.
func TestListenMode(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "wxproxy.sock")
	for _, mode := range []os.FileMode{0o660, 0o600, 0o666} {
		l, err := listen(t.Context(), "unix:"+path, mode)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("mode %v, %v, want %v", info.Mode().Perm(), err, mode)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
