//go:build unix

package upstream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const benchAnswer = `{"errcode":0,"errmsg":"ok"}`

// TestBenchServer is the server of the benchmarks in a process of its own, so that the CPU time of theirs is the
// client's.
func TestBenchServer(*testing.T) {
	if os.Getenv("UPSTREAM_BENCH_SERVER") == "" {
		return
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	secure := tls.NewListener(raw, certificate.TLS)
	certificate.Close()
	fmt.Println(plain.Addr(), raw.Addr())
	go serveBench(secure)
	go serveBench(plain)
	_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent
}

func serveBench(ln net.Listener) {
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json; encoding=utf-8\r\nDate: Mon, 23 Nov 2026 08:00:00 GMT\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n%s", len(benchAnswer), benchAnswer)
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			from := bufio.NewReader(conn)
			for {
				body := 0
				for {
					line, err := from.ReadSlice('\n')
					if err != nil {
						return
					}
					if len(line) == 2 {
						break
					}
					if after, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
						body, _ = strconv.Atoi(string(bytes.TrimSpace(after)))
					}
				}
				if _, err := from.Discard(body); err != nil {
					return
				}
				if _, err := conn.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}

// BenchmarkRoundTrip compares this client to net/http's. cpu-ns/op is the CPU time of the client's process,
// user and system.
func BenchmarkRoundTrip(b *testing.B) {
	server := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^TestBenchServer$")
	server.Env = append(os.Environ(), "UPSTREAM_BENCH_SERVER=1")
	stdin, _ := server.StdinPipe()
	stdout, _ := server.StdoutPipe()
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { stdin.Close(); _ = server.Wait() }()
	var plain, secure string
	if _, err := fmt.Fscan(stdout, &plain, &secure); err != nil {
		b.Fatal(err)
	}
	config := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(0)} // as fast for both
	std := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 512, TLSClientConfig: config}
	defer std.CloseIdleConnections()
	ours := New(Options{TLS: config})
	defer ours.CloseIdleConnections()
	for _, target := range []string{"http://" + plain, "https://" + secure} {
		for _, parallel := range []int{1, 32} {
			for _, body := range []string{"", `{"touser":"o6","msgtype":"text"}`} {
				for _, client := range []struct {
					name string
					http.RoundTripper
				}{{"net-http", std}, {"upstream", ours}} {
					name := fmt.Sprintf("%s/%d/%dB/%s", target[:strings.Index(target, ":")], parallel, len(body), client.name)
					b.Run(name, func(b *testing.B) { benchRoundTrip(b, client, target, body, parallel) })
				}
			}
		}
	}
}

func benchRoundTrip(b *testing.B, client http.RoundTripper, target, body string, parallel int) {
	b.Helper()
	to, _ := url.Parse(target + "/cgi-bin/message/custom/send?access_token=x")
	ctx, cancel := context.WithCancel(b.Context()) // as a server's requests have
	defer cancel()
	b.ReportAllocs()
	b.SetParallelism((parallel + 1) / 2)
	before := cpuTime()
	one := func() {
		r := &http.Request{Method: "GET", URL: to, Header: http.Header{"User-Agent": nil, "Content-Type": {"application/json"}}}
		if body != "" {
			r.Method, r.Body, r.ContentLength = "POST", io.NopCloser(strings.NewReader(body)), int64(len(body))
		}
		res, err := client.RoundTrip(r.WithContext(ctx))
		if err != nil {
			b.Error(err)
			return
		}
		if n, err := io.Copy(io.Discard, res.Body); err != nil || n != int64(len(benchAnswer)) {
			b.Error(n, err)
		}
		res.Body.Close()
	}
	if parallel == 1 {
		for b.Loop() {
			one()
		}
	} else {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				one()
			}
		})
	}
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkWrite compares the writing of a request to net/http's.
func BenchmarkWrite(b *testing.B) {
	to, _ := url.Parse("http://127.0.0.1/cgi-bin/message/custom/send?access_token=x")
	body := strings.Repeat("x", 200)
	for _, std := range []bool{true, false} {
		b.Run(fmt.Sprintf("net-http=%t", std), func(b *testing.B) {
			b.ReportAllocs()
			w := &wire{bw: bufio.NewWriterSize(io.Discard, bufferBytes)}
			for b.Loop() {
				r := &http.Request{Method: "POST", URL: to, Header: http.Header{
					"User-Agent": {"curl/8.5.0"}, "Content-Type": {"application/json"}, "Accept": {"*/*"}, "Accept-Encoding": {"gzip"},
				}}
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
				var err error
				if std {
					err = r.Write(w.bw)
				} else {
					err = w.write(r)
				}
				if err == nil {
					err = w.bw.Flush()
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
