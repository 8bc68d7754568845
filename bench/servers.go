package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// answerText is the upstream's answer: 120 bytes of JSON.
const answerText = `{"subscribe":1,"openid":"o6_bmjrPTlm6_2sgVt7hMZOPfL2M","language":"zh_CN","subscribe_time":1382694957,"groupid":0,"x":0}`

// refusalText is what wxproxy answers over budget.
const refusalText = `{"errcode":45009,"errmsg":"api freq out of limit"}`

// mediaBytes is the size of a file that is sent or fetched.
const mediaBytes = 1 << 20

// seen is what an upstream was asked for.
type seen struct {
	Gets, Posts, Tokens int64
	Wrong               int64 // bodies that are none of those that the load sends
}

// upstream stands for WeChat. It does as little as a net/http server can, but for reading bodies to
// the end and comparing them.
type upstream struct {
	gets, posts, tokens, wrong atomic.Int64
	delay                      atomic.Int64 // nanoseconds
	bodies                     map[uint32]bool
	media, answer              []byte
	buffers                    sync.Pool
}

func newUpstream() *upstream {
	u := &upstream{bodies: make(map[uint32]bool), media: bytes.Repeat([]byte("m"), mediaBytes), answer: []byte(answerText)}
	u.buffers.New = func() any { return bytes.NewBuffer(make([]byte, 0, 4096)) }
	for _, body := range []string{smallBody, body2K, string(u.media)} {
		u.bodies[crc32.ChecksumIEEE([]byte(body))] = true
	}
	return u
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	path := r.URL.Path
	h := w.Header()
	h["Content-Type"] = []string{"application/json; encoding=utf-8"}
	switch {
	case strings.HasPrefix(path, "/-/"):
		w.Write(u.control(r.URL.Query()))
		return
	case path == "/cgi-bin/stable_token":
		u.tokens.Add(1)
		w.Write([]byte(`{"access_token":"80_benchbenchbenchbenchbenchbenchbenchbenchbenchbench","expires_in":7200}`))
		return
	case path == "/cgi-bin/openapi/quota/get": // of the gateway's own: is anything of the day used?
		w.Write([]byte(`{"errcode":76021,"errmsg":"cgi_path not found"}`))
		return
	case r.Method == http.MethodPost:
		u.posts.Add(1)
		b := u.buffers.Get().(*bytes.Buffer)
		b.Reset()
		if _, err := b.ReadFrom(r.Body); err == nil && !u.bodies[crc32.ChecksumIEEE(b.Bytes())] {
			u.wrong.Add(1)
		}
		u.buffers.Put(b)
	default:
		u.gets.Add(1)
	}
	answer := u.answer
	if r.Method == http.MethodGet && strings.HasSuffix(path, "/media") {
		answer = u.media
		h["Content-Type"] = []string{"image/jpeg"}
	}
	if d := u.delay.Load(); d > 0 {
		time.Sleep(time.Duration(d))
		h["X-Took"] = []string{strconv.FormatInt(time.Since(began).Microseconds(), 10)}
	}
	h["Content-Length"] = []string{strconv.Itoa(len(answer))}
	w.Write(answer)
}

// control tells what was seen. A delay of the answers to come may be set.
func (u *upstream) control(q url.Values) []byte {
	if d, err := time.ParseDuration(q.Get("delay")); err == nil {
		u.delay.Store(int64(d))
	}
	text, _ := json.Marshal(seen{Gets: u.gets.Load(), Posts: u.posts.Load(), Tokens: u.tokens.Load(), Wrong: u.wrong.Load()}) // four numbers
	return text
}

// bare is httputil.ReverseProxy as one would tune it, and nothing else: what every figure is
// compared with. It reads no body, counts nothing and writes no log.
func bare(to *url.URL) http.Handler {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = to.Scheme, to.Host, "" },
		Transport: &http.Transport{
			DisableCompression:  true,
			Protocols:           protocols,
			MaxIdleConnsPerHost: 1024,
			IdleConnTimeout:     45 * time.Second,
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		},
		BufferPool: new(bufferPool),
	}
}

type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[32 << 10]byte); ok {
		return b[:]
	}
	return make([]byte, 32<<10)
}

func (p *bufferPool) Put(b []byte) { p.pool.Put((*[32 << 10]byte)(b)) }

// refuser answers every call as a refusal of wxproxy looks, and does nothing else.
func refuser() http.HandlerFunc {
	body := []byte(refusalText)
	return func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["Content-Type"] = []string{"application/json; encoding=utf-8"}
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
		w.Write(body)
	}
}

// serve runs one of the servers of this program: upstream, bare or refuse. It ends with ctx.
func serve(ctx context.Context, what, address, to string) error {
	var h http.Handler
	switch what {
	case "upstream":
		h = newUpstream()
	case "bare":
		u, err := url.Parse(to)
		if err != nil {
			return err
		}
		h = bare(u)
	case "refuse":
		h = refuser()
	default:
		return fmt.Errorf("serve %s: want upstream, bare or refuse", what)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: h} //nolint:gosec // G112: no timeouts, as in what the figures are compared with
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.Serve(l); ctx.Err() == nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "stopped")
	return nil
}
