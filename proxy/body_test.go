package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wxproxy/wechat"
)

// TestWire compares every byte of what reaches WeChat.
func TestWire(t *testing.T) {
	tests := []struct {
		name    string
		request string
		want    string // with %H for the upstream's host and %T for the token
	}{
		{
			"GET", "GET /cgi-bin/user/info?openid=o1 HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET /cgi-bin/user/info?openid=o1&access_token=%T HTTP/1.1\r\nHost: %H\r\n\r\n",
		},
		{
			"HEAD", "HEAD /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nUser-Agent: okhttp/4.9.0\r\n\r\n",
			"HEAD /cgi-bin/user/info?access_token=%T HTTP/1.1\r\nHost: %H\r\nUser-Agent: okhttp/4.9.0\r\n\r\n",
		},
		{
			"GET with a body", "GET /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
			"GET /cgi-bin/user/info?access_token=%T HTTP/1.1\r\nHost: %H\r\nContent-Length: 2\r\n\r\n{}",
		},
		{
			"GET with an empty chunked body", "GET /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			"GET /cgi-bin/user/info?access_token=%T HTTP/1.1\r\nHost: %H\r\n\r\n",
		},
		{
			"POST", "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n{\"a\":1}",
			"POST /cgi-bin/user/info?access_token=%T HTTP/1.1\r\nHost: %H\r\nContent-Length: 7\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n{\"a\":1}",
		},
		{
			"POST of nothing", "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
			"POST /cgi-bin/user/info?access_token=%T HTTP/1.1\r\nHost: %H\r\nContent-Length: 0\r\n\r\n",
		},
		{
			"POST without a length", "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\n\r\n",
			"POST /cgi-bin/user/info?access_token=%T HTTP/1.1\r\nHost: %H\r\nContent-Length: 0\r\n\r\n",
		},
		{
			"POST chunked", "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-After\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-After: CANARY\r\n\r\n",
			"POST /cgi-bin/user/info?access_token=%T HTTP/1.1\r\nHost: %H\r\nContent-Length: 5\r\n\r\nabcde",
		},
		{
			"POST chunked, empty", "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			"POST /cgi-bin/user/info?access_token=%T HTTP/1.1\r\nHost: %H\r\nContent-Length: 0\r\n\r\n",
		},
		{
			"HTTP/1.0", "POST /cgi-bin/user/info HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}",
			"POST /cgi-bin/user/info?access_token=%T HTTP/1.1\r\nHost: %H\r\nContent-Length: 2\r\n\r\n{}",
		},
		{
			"packed body", "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x00",
			"POST /cgi-bin/user/info?access_token=%T HTTP/1.1\r\nHost: %H\r\nContent-Length: 3\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x00",
		},
		{
			"boundary missing", "POST /cgi-bin/media/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data\r\nContent-Length: 4\r\n\r\n--x\n",
			"POST /cgi-bin/media/upload?access_token=%T HTTP/1.1\r\nHost: %H\r\nContent-Length: 4\r\nContent-Type: multipart/form-data\r\n\r\n--x\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			host, seen := rawUpstream(t)
			g := newGateway(t, "http://"+host, nil)
			g.raw(t, tt.request)
			want := strings.NewReplacer("%H", host, "%T", testToken).Replace(tt.want)
			if got := <-seen; got != want {
				t.Errorf("sent\n%q, want\n%q", got, want)
			}
			if g.limiter.counted(t) != 1 {
				t.Errorf("counted %d, want 1", g.limiter.counted(t))
			}
		})
	}
}

// rawUpstream is a WeChat that answers one request and tells its bytes.
func rawUpstream(t *testing.T) (host string, seen <-chan string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	requests := make(chan string, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return
		}
		var all []byte
		buf := make([]byte, 4096)
		for length := -1; length < 0 || len(all) < length; {
			n, err := conn.Read(buf)
			all = append(all, buf[:n]...)
			if end := bytes.Index(all, []byte("\r\n\r\n")); end >= 0 && length < 0 {
				length = end + 4
				if _, rest, ok := bytes.Cut(all[:end+2], []byte("\r\nContent-Length: ")); ok {
					var body int
					if _, err := fmt.Sscanf(string(rest), "%d", &body); err != nil {
						break
					}
					length += body
				}
			}
			if err != nil {
				break
			}
		}
		say(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
		// Whatever else may come, for a while.
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			return
		}
		n, _ := conn.Read(buf)
		requests <- string(append(all, buf[:n]...))
	}()
	return ln.Addr().String(), requests
}

func TestBodiesOfAllSizes(t *testing.T) {
	const maxBody = 1 << 20
	source := noise(maxBody + 2)
	type seen struct {
		length int64
		sum    [32]byte
	}
	var mu sync.Mutex
	var got []seen
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) { answerOK(w, r) })
	u.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || len(r.TransferEncoding) > 0 {
			t.Errorf("body: %v, encoding %v", err, r.TransferEncoding)
		}
		mu.Lock()
		got = append(got, seen{r.ContentLength, sha256.Sum256(body)})
		mu.Unlock()
		answerOK(w, r)
	})
	dir := t.TempDir()
	g := newGateway(t, u.URL, func(o *Options) { o.MaxBody, o.TempDir = maxBody, dir })
	sizes := []int{1, 4095, 4096, pieceBytes - 1, pieceBytes, pieceBytes + 1, 2 * pieceBytes, 3*pieceBytes + 5, maxBody - 1, maxBody, maxBody + 1}
	for _, size := range sizes {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprint(size, " chunked ", chunked), func(t *testing.T) {
				got = nil
				before := g.limiter.counted(t)
				var body io.Reader = bytes.NewReader(source[:size])
				if chunked {
					body = io.MultiReader(body) // of unknown length
				}
				r, _ := http.NewRequestWithContext(t.Context(), "POST", g.URL+"/cgi-bin/media/upload", body)
				res, err := g.client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				text, _ := io.ReadAll(res.Body)
				res.Body.Close()
				rec := g.nextRecord(t)
				if size > maxBody {
					if want := wechat.InvalidParameter.Body(); res.StatusCode != 200 || string(text) != want || rec.Decision != refusedRequest {
						t.Errorf("answer = %d %s, decision %s, want %s", res.StatusCode, text, rec.Decision, want)
					}
					if len(got) != 0 || g.limiter.counted(t) != before {
						t.Errorf("sent %d and counted %d, want nothing", len(got), g.limiter.counted(t)-before)
					}
					return
				}
				want := seen{int64(size), sha256.Sum256(source[:size])}
				if len(got) != 1 || got[0] != want || string(text) != okText {
					t.Errorf("arrived %v, want %v; answer %s", got, want, text)
				}
				if rec.BytesIn != int64(size) {
					t.Errorf("bytes_in = %d, want %d", rec.BytesIn, size)
				}
			})
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestTempFileFails(t *testing.T) {
	u := newUpstream(t, nil)
	g := newGateway(t, u.URL, func(o *Options) { o.TempDir = t.TempDir() + "/gone" })
	_, text := g.do(t, "POST", "/cgi-bin/media/upload", strings.Repeat("x", memoryBytes+1))
	if text != wechat.SystemError.Body() || u.count() != 0 || g.limiter.counted(t) != 0 {
		t.Errorf("answer = %s, sent %d, counted %d", text, u.count(), g.limiter.counted(t))
	}
}

// TestMediaInMemory sends more at once than there is room for: what finds room needs no file, nothing is
// mixed up, although pieces go from body to body, and all room is there again at the end. Some answers
// come before the body was read, some clients leave.
func TestMediaInMemory(t *testing.T) {
	const uploads, rounds, size = 48, 3, 1<<20 + 12345
	var wrong, whole atomic.Int64
	u := newUpstream(t, nil)
	u.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("what") == "early" {
			answerOK(w, r)
			return
		}
		want := r.URL.Query().Get("fill")[0]
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		whole.Add(1)
		if len(body) != size || bytes.Count(body, []byte{want}) != size {
			wrong.Add(1)
		}
		answerOK(w, r)
	})
	for _, dir := range []string{t.TempDir(), t.TempDir() + "/gone"} {
		g := newGateway(t, u.URL, func(o *Options) { o.TempDir = dir })
		var wg sync.WaitGroup
		var answered, refused atomic.Int64
		for n := range uploads {
			wg.Go(func() {
				for round := range rounds {
					fill := string(rune('0' + (n+round)%75))
					what := [...]string{"whole", "early", "leaves"}[(n+round)%3]
					ctx, cancel := context.WithCancel(t.Context())
					if what == "leaves" {
						time.AfterFunc(time.Duration(rand.IntN(20))*time.Millisecond, cancel)
					}
					r, _ := http.NewRequestWithContext(ctx, "POST", g.URL+"/cgi-bin/media/upload?what="+what+"&fill="+url.QueryEscape(fill), strings.NewReader(strings.Repeat(fill, size)))
					res, err := g.client.Do(r)
					if err == nil {
						text, _ := io.ReadAll(res.Body)
						res.Body.Close()
						if string(text) == okText {
							answered.Add(1)
						} else {
							refused.Add(1)
						}
					}
					cancel()
				}
			})
		}
		wg.Wait()
		g.Close()
		if room := g.h.room.Load(); room != roomBytes {
			t.Errorf("room for %d bytes at the end, want %d", room, int64(roomBytes))
		}
		if spooled := g.h.Spooled(); spooled != 0 {
			t.Errorf("%d bytes in files at the end, want none", spooled)
		}
		gone := strings.HasSuffix(dir, "gone")
		if answered.Load() == 0 || gone != (refused.Load() > 0) {
			t.Errorf("%d answered, %d refused; without a folder for files: %t", answered.Load(), refused.Load(), gone)
		}
	}
	if wrong.Load() > 0 || whole.Load() == 0 {
		t.Errorf("%d of %d bodies arrived changed", wrong.Load(), whole.Load())
	}
}

// TestMediaClosed makes sure that a transport which reads on after the call reads nothing of the next one's.
func TestMediaClosed(t *testing.T) {
	g := newGateway(t, "http://127.0.0.1:1", nil)
	for _, toFile := range []bool{false, true} {
		m := &media{h: g.h, toFile: toFile}
		for range 2 {
			p := g.h.pieces.Get().(*piece)
			copy(p[:], bytes.Repeat([]byte("m"), pieceBytes))
			if err := m.add(p, pieceBytes); err != nil {
				t.Fatal(err)
			}
		}
		if (m.file != nil) != toFile {
			t.Fatalf("in a file: %t, want %t", m.file != nil, toFile)
		}
		if spooled := g.h.Spooled(); spooled != m.size || (spooled == 2*pieceBytes) != toFile {
			t.Errorf("in a file: %t: %d bytes in files", toFile, spooled)
		}
		r := io.NewSectionReader(m, 0, 2*pieceBytes)
		half := make([]byte, pieceBytes+pieceBytes/2)
		if _, err := io.ReadFull(r, half); err != nil || bytes.Count(half, []byte("m")) != len(half) {
			t.Errorf("in a file: %t: read %v", toFile, err)
		}
		m.close()
		if spooled := g.h.Spooled(); spooled != 0 {
			t.Errorf("after close %d bytes in files", spooled)
		}
		if n, err := r.Read(half); n != 0 || !errors.Is(err, os.ErrClosed) {
			t.Errorf("in a file: %t: after close read %d, %v, want 0 and %v", toFile, n, err, os.ErrClosed)
		}
	}
}

// TestBodyBreaksOff makes sure that a call whose body never came to its end is nothing to anybody.
func TestBodyBreaksOff(t *testing.T) {
	tests := []struct {
		name, request string
	}{
		{"short", "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"},
		{"short and large", "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 70000)},
		{"chunks without an end", "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"},
		{"a chunk without its end", "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"},
		{"a full scratch and no end", "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n" + strings.Repeat("x", pieceBytes) + "\r\n"},
		{"not a chunk", "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"},
		{"a bare line feed in a chunk", "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n"},
		{"a trailer without its end", "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: b"},
	}
	u := newUpstream(t, nil)
	dir := t.TempDir()
	g := newGateway(t, u.URL, func(o *Options) { o.TempDir = dir })
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := dial(t, g.Listener.Addr().String())
			say(conn, tt.request)
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if answer, _ := io.ReadAll(conn); len(answer) > 0 {
				t.Errorf("answer = %q, want none", answer)
			}
			rec := g.nextRecord(t)
			if rec.Status != statusClientGone || rec.Decision != refusedRequest {
				t.Errorf("record = %+v", rec)
			}
		})
	}
	if u.count() != 0 || g.limiter.taken != 0 {
		t.Errorf("sent %d and asked the limiter %d times, want nothing", u.count(), g.limiter.taken)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestExpectContinue(t *testing.T) {
	u := newUpstream(t, nil)
	g := newGateway(t, u.URL, nil)
	conn := dial(t, g.Listener.Addr().String())
	say(conn, "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
	const interim = "HTTP/1.1 100 Continue\r\n\r\n"
	buf := make([]byte, len(interim))
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != interim {
		t.Fatalf("answer = %q, %v, want %q", buf, err, interim)
	}
	say(conn, "{}")
	g.nextRecord(t)
	if got := u.last(t); got.Body != "{}" || got.Header.Get("Expect") != "" {
		t.Errorf("arrived %+v", got)
	}
	// A refused call need not send its body.
	conn = dial(t, g.Listener.Addr().String())
	say(conn, "POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
	var answer strings.Builder
	drain(io.LimitReader(io.TeeReader(conn, &answer), 12))
	if answer.String() != "HTTP/1.1 404" {
		t.Errorf("answer = %q, want 404", &answer)
	}
}

// TestSmallPostLargeAnswer is the call that breaks off behind a plain ReverseProxy, once in 25.
func TestSmallPostLargeAnswer(t *testing.T) {
	t.Parallel()
	large := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/jpeg")
		say(w, string(large))
	})
	g := newGateway(t, u.URL, nil)
	const calls, workers = 200, 8
	var left atomic.Int64
	left.Store(calls)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				r, _ := http.NewRequestWithContext(context.Background(), "POST", g.URL+"/cgi-bin/material/get_material", strings.NewReader(`{"media_id":"x"}`))
				res, err := g.client.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				n, err := io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if err != nil || n != int64(len(large)) {
					t.Errorf("%d bytes, %v, want %d", n, err, len(large))
				}
			}
		})
	}
	wg.Wait()
	if u.count() != calls || g.limiter.counted(t) != calls {
		t.Errorf("executed %d, counted %d, want %d", u.count(), g.limiter.counted(t), calls)
	}
}

// TestLargeBothWays sends 10 MB there and back.
func TestLargeBothWays(t *testing.T) {
	source := noise(10 << 20)
	u := newUpstream(t, nil)
	u.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		if r.ContentLength != int64(len(source)) {
			t.Errorf("Content-Length = %d, want %d", r.ContentLength, len(source))
		}
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	})
	g := newGateway(t, u.URL, nil)
	r, _ := http.NewRequestWithContext(t.Context(), "POST", g.URL+"/cgi-bin/media/upload", io.MultiReader(bytes.NewReader(source)))
	res, err := g.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	back, err := io.ReadAll(res.Body)
	if err != nil || !bytes.Equal(back, source) {
		t.Errorf("%d bytes came back, %v, equal %v", len(back), err, bytes.Equal(back, source))
	}
	if rec := g.nextRecord(t); rec.BytesIn != int64(len(source)) || rec.BytesOut != int64(len(source)) {
		t.Errorf("bytes in %d, out %d, want %d", rec.BytesIn, rec.BytesOut, len(source))
	}
}

// TestUploadsInBoundedMemory holds 64 uploads of 10 MB at once, all read and none answered.
func TestUploadsInBoundedMemory(t *testing.T) {
	const uploads, size = 64, 10 << 20
	var began sync.WaitGroup
	began.Add(uploads)
	release := make(chan struct{})
	ready := make(chan struct{})
	u := newUpstream(t, nil)
	u.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil || n != size {
			t.Errorf("%d bytes, %v", n, err)
		}
		began.Done()
		<-release
		answerOK(w, r)
	})
	dir := t.TempDir()
	g := newGateway(t, u.URL, func(o *Options) { o.TempDir = dir })
	debug.FreeOSMemory()
	idle := inUse()
	var done sync.WaitGroup
	for range uploads {
		done.Go(func() {
			r, _ := http.NewRequestWithContext(context.Background(), "POST", g.URL+"/cgi-bin/media/upload", io.LimitReader(zeros{}, size))
			r.ContentLength = size
			res, err := g.client.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			res.Body.Close()
		})
	}
	go func() { began.Wait(); close(ready) }()
	select {
	case <-ready:
	case <-time.After(60 * time.Second):
		t.Fatal("the uploads do not arrive")
	}
	if grown := inUse() - idle; grown > 64<<20 {
		t.Errorf("%d MiB over idle, want under 64", grown>>20)
	} else {
		t.Logf("%d KiB over idle, client and upstream among it", grown>>10)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("the temporary files have names: %v", left)
	}
	if _, err := os.Stat("/proc/self/fd"); err == nil && openBodies() != uploads {
		t.Errorf("%d temporary files are open, want %d: the test proves nothing", openBodies(), uploads)
	}
	close(release)
	done.Wait()
	for range uploads {
		g.nextRecord(t)
	}
	if n := openBodies(); n != 0 {
		t.Errorf("%d temporary files are still open", n)
	}
}

// openBodies returns how many temporary files are open, or 0 where nobody can tell.
func openBodies() int {
	n := 0
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if name, err := os.Readlink(fd); err == nil && strings.Contains(name, "wxproxy-body") {
			n++
		}
	}
	return n
}

// inUse is the memory that the process holds and has not given back. The client and the upstream
// are part of it.
func inUse() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys - m.HeapReleased)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
