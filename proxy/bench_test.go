package proxy

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"wxproxy/limits"
	"wxproxy/proxy/upstream"
)

// openLimiter decides at once, so that the benchmarks show the proxy's own cost.
type openLimiter struct {
	*limits.Ruleset
	decision limits.Decision
}

func (*openLimiter) Clear(string, int64, string) {}

func (l *openLimiter) Rules(string) *limits.Ruleset { return l.Ruleset }
func (l *openLimiter) Family(path string) bool      { return l.Match(path).Family }
func (l *openLimiter) Take(_ context.Context, call limits.Call) (limits.Decision, limits.Hold) {
	d := l.decision
	d.Rule = call.Match.Rule
	return d, limits.Hold{}
}

func (l *openLimiter) Peek(context.Context, limits.Call) (limits.Decision, error) {
	return l.decision, nil
}

func (l *openLimiter) with(d limits.Decision) *openLimiter {
	return &openLimiter{Ruleset: l.Ruleset, decision: d}
}

type oneToken struct{}

func (oneToken) Token(context.Context, string) (string, error) { return testToken, nil }
func (oneToken) Secret(string) string                          { return "" }

func (oneToken) Renew(context.Context, string, string) (string, error) { return testToken, nil }

// canned answers at once, as a transport.
func canned(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		drain(r.Body)
		r.Body.Close()
	}
	return &http.Response{
		StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: int64(len(okText)),
		Header: http.Header{"Content-Type": {jsonType[0]}, "Content-Length": {"27"}, "Date": {"Mon, 23 Nov 2026 08:00:00 GMT"}},
		Body:   io.NopCloser(strings.NewReader(okText)),
	}, nil
}

func benchHandler(b *testing.B, at string, transport http.RoundTripper, verdict limits.Verdict) *Handler {
	b.Helper()
	to, err := url.Parse(at)
	if err != nil {
		b.Fatal(err)
	}
	l := &openLimiter{Ruleset: testRules(b)}
	accessLog := NewAccessLog(&discard{}, nil)
	h, err := New(Options{
		Config:    Config{Apps: []App{{Name: "shop", AppID: testAppID}}, Upstream: to, LoopbackListener: true},
		Limiter:   l.with(limits.Decision{Verdict: verdict, Quota: 1000, Used: 10, Remaining: 990, Reset: 3600e9, RetryAfter: 3600e9}),
		Tokens:    oneToken{},
		Transport: transport,
		Record:    accessLog.Write,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { h.Close(); accessLog.Close() })
	return h
}

type discard struct{}

func (*discard) Write(p []byte) (int, error) { return len(p), nil }
func (*discard) Sync() error                 { return nil }

func benchRequest(method, body string) *http.Request {
	r := httptest.NewRequest(method, "/cgi-bin/menu/create?access_token="+testToken, strings.NewReader(body))
	r.RemoteAddr, r.Host = "127.0.0.1:4711", "127.0.0.1:8080"
	r.Header.Set("User-Agent", "okhttp/4.9.0")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "*/*")
	return r
}

// writer is a ResponseWriter that keeps its header map from call to call.
type writer struct{ h http.Header }

func (w *writer) Header() http.Header         { return w.h }
func (w *writer) Write(p []byte) (int, error) { return len(p), nil }
func (w *writer) WriteHeader(int)             { clear(w.h) }

func BenchmarkServeHTTP(b *testing.B) {
	const body = `{"button":[{"type":"click","name":"today","key":"V1001"}]}`
	run := func(name string, h http.Handler, method, body string) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			w := &writer{http.Header{}}
			for b.Loop() {
				h.ServeHTTP(w, benchRequest(method, body))
			}
		})
	}
	run("request-alone", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), "POST", body)
	run("refused", benchHandler(b, "http://x", roundTripper(canned), limits.RefusedQuota), "POST", body)
	run("forwarded", benchHandler(b, "http://x", roundTripper(canned), limits.Pass), "POST", body)
	bare := &httputil.ReverseProxy{Transport: roundTripper(canned), BufferPool: new(copyBuffers), Rewrite: func(p *httputil.ProxyRequest) { p.Out.URL.Scheme, p.Out.URL.Host = "http", "x" }}
	run("bare-ReverseProxy", bare, "POST", body)
}

// BenchmarkCall is a whole call over loopback connections: client, gateway, upstream.
func BenchmarkCall(b *testing.B) {
	wechat := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		drain(r.Body)
		answerOK(w, r)
	}))
	defer wechat.Close()
	to, _ := url.Parse(wechat.URL)
	transport := &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true}
	defer transport.CloseIdleConnections()
	for _, bench := range []struct {
		name    string
		handler http.Handler
	}{
		{"wxproxy", benchHandler(b, wechat.URL, upstream.New(upstream.Options{}), limits.Pass)},
		{"bare-ReverseProxy", &httputil.ReverseProxy{Transport: transport, Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to) }}},
	} {
		for _, method := range []string{"GET", "POST"} {
			b.Run(bench.name+"/"+method, func(b *testing.B) {
				g := httptest.NewUnstartedServer(bench.handler)
				g.Config.ErrorLog = log.New(io.Discard, "", 0)
				g.Start()
				defer g.Close()
				client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
				defer client.CloseIdleConnections()
				b.ReportAllocs()
				for b.Loop() {
					var body io.Reader
					if method == "POST" {
						body = strings.NewReader(`{"a":1}`)
					}
					r, _ := http.NewRequestWithContext(b.Context(), method, g.URL+"/cgi-bin/menu/create?access_token=x", body)
					res, err := client.Do(r)
					if err != nil {
						b.Fatal(err)
					}
					drain(res.Body)
					res.Body.Close()
				}
			})
		}
	}
}
