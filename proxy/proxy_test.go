package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"wxproxy/limits"
	"wxproxy/proxy/upstream"
	"wxproxy/wechat"
)

var _ Limiter = (*limits.Limiter)(nil)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"))
}

const (
	testAppID = "wx0123456789abcdef"
	testToken = "86_real-token_CANARYCANARYCANARYCANARYCANARYCANARY0123456789"
)

// testRules is a small table: one limited rule, one that gets no token, one that is denied, and a
// family without another rule.
func testRules(tb testing.TB) *limits.Ruleset {
	tb.Helper()
	budget := func(text string) limits.Budget {
		b, err := limits.ParseBudget(text)
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
	table := &limits.Table{Zone: time.UTC, Profiles: map[string]*limits.Profile{"test": {Name: "test", Rules: []*limits.Rule{
		{Name: "menu.create", Paths: []string{"/cgi-bin/menu/create"}, Budget: budget("1000/day")},
		{Name: "token", Paths: []string{"/cgi-bin/token", "/cgi-bin/stable_token"}, Inject: limits.InjectNone, Budget: budget("2000/day")},
		{Name: "user.info", Paths: []string{"/cgi-bin/user/info"}, Budget: budget("unlimited")},
		{Name: "oauth.userinfo", Paths: []string{"/sns/userinfo", "/sns/oauth2/access_token"}, Budget: budget("unlimited"), Inject: limits.InjectNone},
		{Name: "denied", Paths: []string{"/cgi-bin/denied"}, Budget: budget("denied")},
		{Name: "other", Paths: []string{"/cgi-bin/*"}},
	}}}}
	rules, err := table.Rules("test", nil)
	if err != nil {
		tb.Fatal(err)
	}
	return rules
}

// fakeLimiter lets every call through unless decide says otherwise, and counts.
type fakeLimiter struct {
	rules  map[string]*limits.Ruleset
	decide func(n int, call limits.Call) limits.Decision

	mu       sync.Mutex
	taken    int // calls asked for
	granted  int
	given    int // back
	usedUp   int // of given: with WeChat's answer that the rule is used up
	errcodes []int
	clears   []string // "time path"
}

func (l *fakeLimiter) Clear(_ string, at int64, path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clears = append(l.clears, fmt.Sprint(at, " ", path))
}

func (l *fakeLimiter) Rules(appid string) *limits.Ruleset { return l.rules[appid] }

func (l *fakeLimiter) Family(path string) bool {
	for _, rules := range l.rules {
		if rules.Match(path).Family {
			return true
		}
	}
	return false
}

func (l *fakeLimiter) Take(_ context.Context, call limits.Call) (limits.Decision, limits.Hold) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken++
	d := limits.Decision{Quota: 1000, Used: int64(l.granted + 1 - l.given), Reset: 90 * time.Minute}
	if l.decide != nil {
		d = l.decide(l.taken, call)
	} else if call.Match.Rule.Budget.Kind == limits.Denied {
		d = limits.Decision{Verdict: limits.RefusedDenied}
	}
	d.Remaining = max(d.Quota-d.Used, 0)
	d.Rule, d.Counter = call.Match.Rule, call.Match.Counter
	if !d.Verdict.Sent() {
		return d, limits.Hold{}
	}
	l.granted++
	return d, limits.NewHold(l.end)
}

func (l *fakeLimiter) Peek(_ context.Context, call limits.Call) (limits.Decision, error) {
	return limits.Decision{Rule: call.Match.Rule, Counter: call.Match.Counter}, nil
}

func (l *fakeLimiter) end(ending limits.Ending, errcode int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch ending {
	case limits.Finished:
		l.errcodes = append(l.errcodes, errcode)
	case limits.UsedUp:
		l.usedUp++
		l.given++
	default:
		l.given++
	}
}

// counted returns how many calls stay counted, and fails the test unless each grant was ended
// exactly once. Only for when no call is under way.
func (l *fakeLimiter) counted(t *testing.T) int {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.errcodes)+l.given != l.granted {
		t.Errorf("%d grants: %d done and %d given back", l.granted, len(l.errcodes), l.given)
	}
	return len(l.errcodes)
}

func (l *fakeLimiter) codes() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]int(nil), l.errcodes...)
}

// fakeTokens hands out token, and after a renewal the next.
type fakeTokens struct {
	mu     sync.Mutex
	token  string
	next   string
	err    error // of Token
	renews int
	renew  error // of Renew
}

func (f *fakeTokens) Token(context.Context, string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.token, f.err
}

func (f *fakeTokens) Secret(string) string { return "fake-secret" }

func (f *fakeTokens) Renew(_ context.Context, _, failed string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renews++
	if f.renew != nil {
		return "", f.renew
	}
	if failed == f.token {
		f.token = f.next
	}
	return f.token, nil
}

func (f *fakeTokens) renewed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.renews
}

// answerError is a token error that carries WeChat's own answer.
func answerError(text string) error { return fmt.Errorf("token refused: %w", wechat.Answer(text)) }

// gateway is a Handler behind a real listener.
type gateway struct {
	*httptest.Server
	h       *Handler
	limiter *fakeLimiter
	tokens  *fakeTokens
	records chan Record
	logs    *observer.ObservedLogs
	client  *http.Client
}

// newGateway starts a gateway before upstream, with one app, for everybody unless change says so.
func newGateway(tb testing.TB, upstream string, change func(*Options)) *gateway {
	tb.Helper()
	to, err := url.Parse(upstream)
	if err != nil {
		tb.Fatal(err)
	}
	core, logs := observer.New(zapcore.DebugLevel)
	g := &gateway{
		limiter: &fakeLimiter{rules: map[string]*limits.Ruleset{testAppID: testRules(tb)}},
		tokens:  &fakeTokens{token: testToken, next: testToken + "-2"},
		records: make(chan Record, 1<<14),
		logs:    logs,
	}
	o := Options{
		Config: Config{
			Apps:      []App{{Name: "shop", AppID: testAppID}},
			Upstream:  to,
			Anonymous: AnonymousAlways,
		},
		Limiter: g.limiter,
		Tokens:  g.tokens,
		TempDir: tb.TempDir(),
		Record: func(r *Record) {
			select {
			case g.records <- *r:
			default:
			}
		},
		Log: zap.New(core),
	}
	if change != nil {
		change(&o)
	}
	if g.h, err = New(o); err != nil {
		tb.Fatal(err)
	}
	g.Server = httptest.NewUnstartedServer(g.h)
	g.Config.ErrorLog = log.New(io.Discard, "", 0)
	g.Start()
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 128}
	g.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	tb.Cleanup(func() {
		transport.CloseIdleConnections()
		g.Close()
		g.h.Close()
	})
	return g
}

// nextRecord waits for the record of the next call.
func (g *gateway) nextRecord(tb testing.TB) Record {
	tb.Helper()
	select {
	case r := <-g.records:
		return r
	case <-time.After(10 * time.Second):
		tb.Fatal("no record after 10 s")
		return Record{}
	}
}

// reply is an answer without its body.
type reply struct {
	StatusCode       int
	Header           http.Header
	ContentLength    int64
	TransferEncoding []string
}

// read reads an answer to its end.
func read(tb testing.TB, res *http.Response) (*reply, string) {
	tb.Helper()
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return &reply{res.StatusCode, res.Header, res.ContentLength, res.TransferEncoding}, string(text)
}

// do makes a call and returns the answer.
func (g *gateway) do(tb testing.TB, method, target, body string, headers ...string) (*reply, string) {
	tb.Helper()
	var from io.Reader
	if body != "" {
		from = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(tb.Context(), method, g.URL+target, from)
	if err != nil {
		tb.Fatal(err)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Add(name, value)
	}
	res, err := g.client.Do(r)
	if err != nil {
		tb.Fatal(err)
	}
	return read(tb, res)
}

// raw sends bytes on a connection of their own and returns the answer to them.
func (g *gateway) raw(tb testing.TB, request string) (*reply, string) {
	tb.Helper()
	conn := dial(tb, g.Listener.Addr().String())
	if _, err := io.WriteString(conn, request); err != nil {
		tb.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		tb.Fatalf("answer to %.60q: %v", request, err)
	}
	return read(tb, res)
}

// say writes to somebody who may be gone.
func say(w io.Writer, text string) { _, _ = io.WriteString(w, text) }

// drain reads what there is.
func drain(r io.Reader) { _, _ = io.Copy(io.Discard, r) }

// noise returns n bytes that cannot be told from random ones, the same each time.
func noise(n int) []byte {
	b := make([]byte, n)
	if _, err := rand.NewChaCha8([32]byte{}).Read(b); err != nil {
		panic(err)
	}
	return b
}

func dial(tb testing.TB, addr string) net.Conn {
	tb.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	return conn
}

// arrived is a request as the upstream saw it.
type arrived struct {
	Method, Target, Host string
	Header               http.Header
	Length               int64
	Encoding             []string
	Body                 string
}

// stubWeChat is a WeChat that notes every call and answers with answer.
type stubWeChat struct {
	*httptest.Server
	mu    sync.Mutex
	calls []arrived
}

const okText = `{"errcode":0,"errmsg":"ok"}`

func answerOK(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json; encoding=utf-8")
	say(w, okText)
}

func newUpstream(tb testing.TB, answer http.HandlerFunc) *stubWeChat {
	tb.Helper()
	if answer == nil {
		answer = answerOK
	}
	u := &stubWeChat{}
	u.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler) // it was never whole, so it was not executed
		}
		u.mu.Lock()
		u.calls = append(u.calls, arrived{r.Method, r.RequestURI, r.Host, r.Header.Clone(), r.ContentLength, r.TransferEncoding, string(body)})
		u.mu.Unlock()
		answer(w, r)
	}))
	u.Config.ErrorLog = log.New(io.Discard, "", 0)
	u.Start()
	tb.Cleanup(u.Close)
	return u
}

func (u *stubWeChat) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.calls)
}

func (u *stubWeChat) last(tb testing.TB) arrived {
	tb.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.calls) == 0 {
		tb.Fatal("nothing reached the upstream")
	}
	return u.calls[len(u.calls)-1]
}

func TestNew(t *testing.T) {
	limiter, tokens := &fakeLimiter{}, &fakeTokens{}
	good := func() Options {
		return Options{
			Config:  Config{Upstream: &url.URL{Scheme: "https", Host: "api.weixin.qq.com"}, Apps: []App{{Name: "a", AppID: "wx1"}, {AppID: "wx2"}, {AppID: "wx3"}}},
			Limiter: limiter, Tokens: tokens,
		}
	}
	tests := []struct {
		name   string
		change func(*Options)
		want   []string
	}{
		{"good", func(*Options) {}, nil},
		{"no limiter, no tokens", func(o *Options) { o.Limiter, o.Tokens = nil, nil }, []string{"Limiter is missing", "Tokens is missing"}},
		{"no upstream", func(o *Options) { o.Upstream = nil }, []string{"upstream: missing"}},
		{"upstream scheme", func(o *Options) { o.Upstream.Scheme = "ftp" }, []string{`upstream "ftp://api.weixin.qq.com": want http`}},
		{"upstream without host", func(o *Options) { o.Upstream.Host = "" }, []string{"want http"}},
		{"upstream with user", func(o *Options) { o.Upstream.User = url.UserPassword("u", "CANARY") }, []string{`https://u:xxxxx@api`}},
		{"upstream with query", func(o *Options) { o.Upstream.RawQuery = "a=b" }, []string{"no user, query"}},
		{"app without appid", func(o *Options) { o.Apps[0].AppID = "" }, []string{`app "a": appid: missing`}},
		{"app twice", func(o *Options) { o.Apps = append(o.Apps, o.Apps[0]) }, []string{`appid "wx1": configured twice`, `app "a": name: used twice`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := good()
			tt.change(&o)
			_, err := New(o)
			if (err == nil) != (len(tt.want) == 0) {
				t.Fatalf("New = %v, want %q", err, tt.want)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("New = %q, want %q in it", err, want)
				}
			}
			if err != nil && strings.Contains(err.Error(), "CANARY") {
				t.Errorf("New = %q: shows a password", err)
			}
		})
	}
}

func TestConfigure(t *testing.T) {
	u1, u2 := newUpstream(t, nil), newUpstream(t, nil)
	g := newGateway(t, u1.URL, nil)
	g.do(t, "GET", "/cgi-bin/user/info", "")
	config := g.h.settings.Load().Config
	config.Upstream = nil
	if err := g.h.Configure(config); err == nil {
		t.Error("Configure without an upstream: no error")
	}
	g.do(t, "GET", "/cgi-bin/user/info", "")
	to, _ := url.Parse(u2.URL + "/base/")
	config.Upstream = to
	if err := g.h.Configure(config); err != nil {
		t.Fatal(err)
	}
	g.do(t, "GET", "/cgi-bin/user/info", "")
	if u1.count() != 2 || u2.count() != 1 {
		t.Errorf("upstreams got %d and %d calls, want 2 and 1", u1.count(), u2.count())
	}
	if got, want := u2.last(t).Target, "/base/cgi-bin/user/info?access_token="+testToken; got != want {
		t.Errorf("target = %s, want %s", got, want)
	}
}

// TestTLS sends through the client's own TLS and makes sure that it cannot be switched off by
// the other side.
func TestTLS(t *testing.T) {
	var calls int
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		if r.ProtoMajor != 1 {
			t.Errorf("protocol %s, want HTTP/1.1: HTTP/2 repeats calls by itself", r.Proto)
		}
		answerOK(w, r)
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()

	roots := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	client := upstream.New(upstream.Options{DialTimeout: 5 * time.Second, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}})
	g := newGateway(t, server.URL, func(o *Options) { o.Transport = client })
	for range 3 {
		if _, text := g.do(t, "GET", "/cgi-bin/user/info", ""); text != okText {
			t.Errorf("answer = %s, want %s", text, okText)
		}
	}
	if calls != 3 || g.limiter.counted(t) != 3 {
		t.Errorf("executed %d and counted %d, want 3 and 3", calls, g.limiter.counted(t))
	}

	strict := newGateway(t, server.URL, nil) // does not know the issuer
	res, text := strict.do(t, "GET", "/cgi-bin/user/info", "")
	if res.StatusCode != 200 || text != wechat.SystemError.Body() || strict.limiter.counted(t) != 0 {
		t.Errorf("answer = %d %s, counted %d; want 200 %s, 0", res.StatusCode, text, strict.limiter.counted(t), wechat.SystemError.Body())
	}
	if got := strict.logs.FilterField(zap.String("reason", "the certificate's issuer is unknown")).Len(); got != 1 {
		t.Errorf("log = %v, want the reason", strict.logs.All())
	}

	old := httptest.NewUnstartedServer(http.HandlerFunc(answerOK))
	old.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	old.Config.ErrorLog = log.New(io.Discard, "", 0)
	old.StartTLS()
	defer old.Close()
	to, _ := url.Parse(old.URL)
	config := g.h.settings.Load().Config
	config.Upstream = to
	if err := g.h.Configure(config); err != nil {
		t.Fatal(err)
	}
	if _, text := g.do(t, "GET", "/cgi-bin/user/info", ""); text != wechat.SystemError.Body() {
		t.Errorf("answer over TLS 1.1 = %s, want %s", text, wechat.SystemError.Body())
	}
}

func TestReasonTellsNothing(t *testing.T) {
	canary := errors.New(`malformed HTTP response "CANARY"`)
	for _, err := range []error{canary, fmt.Errorf("net/http: %w", canary), &unsentError{canary}} {
		if got := describe(err); strings.Contains(got, "CANARY") {
			t.Errorf("describe(%v) = %s", err, got)
		}
	}
}

// dialing returns the gateway's own client with another way to dial.
func dialing(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *upstream.Client {
	return upstream.New(upstream.Options{Dial: dial})
}

// roundTripper makes a function an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
