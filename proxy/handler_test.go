package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"wxproxy/wechat"
)

// TestOddInput sends what strangers send over connections of their own. Where want is empty the
// call must arrive as sent says.
func TestOddInput(t *testing.T) {
	const (
		invalidURL       = `{"errcode":40066,"errmsg":"invalid url"}`
		invalidParameter = `{"errcode":40035,"errmsg":"invalid parameter"}`
		notAllowed       = "method not allowed"
		unauthorized     = `{"errcode":48001,"errmsg":"api unauthorized"}`
	)
	get := func(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n" }
	sent := func(path string) string { return path + "?access_token=" + testToken }
	tests := []struct {
		name    string
		request string
		status  int
		want    string // the answer
		sent    string // the target that arrives
		path    string // in the log
	}{
		// of one segment, or not WeChat's
		{"root", get("/"), 404, invalidURL, "", "/"},
		{"favicon", get("/favicon.ico"), 404, invalidURL, "", "/favicon.ico"},
		{"one segment and slash", get("//favicon.ico//"), 404, invalidURL, "", "/favicon.ico/"},
		{"the family itself", get("/cgi-bin"), 404, invalidURL, "", "/cgi-bin"},
		{"the name of an app", get("/shop/cgi-bin/user/info"), 404, invalidURL, "", "/shop/cgi-bin/user/info"},
		{"appid alone", get("/" + testAppID), 404, invalidURL, "", "-"},
		{"appid and slash", get("/" + testAppID + "/"), 404, invalidURL, "", "/"},
		{"appid and no family", get("/" + testAppID + "/x"), 404, invalidURL, "", "/x"},
		{"a secret for a path", get("/0123456789abcdef0123456789abcdef"), 404, invalidURL, "", "/*"},
		{"no path", get("http://api.weixin.qq.com"), 404, invalidURL, "", "-"},
		{"POST to healthy", "POST /-/healthy HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 404, invalidURL, "", "/-/healthy"},

		// in a family that no table names: counted, and no token put in
		{"another family", get("/wxnothing/x"), 200, "", "/wxnothing/x", "/wxnothing/x"},
		{"another family with a token", get("/wxnothing/x?access_token=THEIRS"), 200, "", "/wxnothing/x?access_token=THEIRS", "/wxnothing/x"},
		{"family as a beginning", get("/cgi-binary/x"), 200, "", "/cgi-binary/x", "/cgi-binary/x"},
		{"another family without end", get("/wxnothing" + strings.Repeat("/x", 16)), 200, invalidURL, "", "/wxnothing" + strings.Repeat("/x", 16)},
		{"another family, odd path", get("/wxnothing/../x"), 200, invalidURL, "", "-"},

		// inside of one
		{"unknown path", get("/cgi-bin/new/thing"), 200, "", sent("/cgi-bin/new/thing"), "/cgi-bin/new/thing"},
		{"no rule and no other", get("/sns/nothing"), 200, "", "/sns/nothing", "/sns/nothing"},
		{"duplicate slashes", get("//cgi-bin///user//info"), 200, "", sent("/cgi-bin/user/info"), "/cgi-bin/user/info"},
		{"escaped unreserved", get("/cgi-bin/%75ser/%69nfo"), 200, "", sent("/cgi-bin/user/info"), "/cgi-bin/user/info"},
		{"letter case", get("/CGI-BIN/User/Info"), 200, "", sent("/CGI-BIN/User/Info"), "/CGI-BIN/User/Info"},
		{"trailing slash", get("/cgi-bin/user/info/"), 200, "", sent("/cgi-bin/user/info/"), "/cgi-bin/user/info/"},
		{"escaped slash", get("/cgi-bin%2fuser/info"), 200, invalidURL, "", "-"},
		{"escaped backslash", get("/cgi-bin%5Cuser"), 200, invalidURL, "", "-"},
		{"escaped percent", get("/cgi-bin/%2575ser"), 200, invalidURL, "", "-"},
		{"escaped NUL", get("/cgi-bin/user%00"), 200, invalidURL, "", "-"},
		{"escaped space", get("/cgi-bin/user/info%20"), 200, invalidURL, "", "-"},
		{"escaped hash", get("/cgi-bin/user%23"), 200, invalidURL, "", "-"},
		{"escaped question mark", get("/cgi-bin/user%3Faccess_token=x"), 200, invalidURL, "", "-"},
		{"dot", get("/cgi-bin/./user/info"), 200, invalidURL, "", "-"},
		{"dots", get("/cgi-bin/../user/info"), 200, invalidURL, "", "-"},
		{"escaped dots", get("/cgi-bin/%2e%2E/user"), 200, invalidURL, "", "-"},
		{"half escaped dots", get("/cgi-bin/.%2e"), 200, invalidURL, "", "-"},
		{"semicolon", get("/cgi-bin/user;x=1/info"), 200, invalidURL, "", "-"},
		{"backslash", get(`/cgi-bin\user`), 200, invalidURL, "", "-"},
		{"beyond ASCII", get("/cgi-bin/\xe4\xbd\xa0"), 200, invalidURL, "", "-"},
		{"comma", get("/cgi-bin/a,b"), 200, invalidURL, "", "-"},
		{"equals", get("/cgi-bin/user/info&access_token=CANARY"), 200, invalidURL, "", "-"},

		// targets
		{"absolute form", get("http://169.254.169.254/cgi-bin/user/info?a=1"), 200, "", "/cgi-bin/user/info?a=1&access_token=" + testToken, "/cgi-bin/user/info"},
		{"absolute form, https", get("https://evil.example:1/cgi-bin/user/info"), 200, "", sent("/cgi-bin/user/info"), "/cgi-bin/user/info"},
		{"absolute form with user", get("http://u:p@evil.example/cgi-bin/user/info"), 200, "", sent("/cgi-bin/user/info"), "/cgi-bin/user/info"},
		{"absolute form, odd path", get("http://evil.example/cgi-bin%2fuser"), 200, invalidURL, "", "-"},
		{"HTTP/1.0", "GET /cgi-bin/user/info HTTP/1.0\r\n\r\n", 200, "", sent("/cgi-bin/user/info"), "/cgi-bin/user/info"},
		{"Host of WeChat", "GET /cgi-bin/user/info HTTP/1.1\r\nHost: api.weixin.qq.com\r\n\r\n", 200, "", sent("/cgi-bin/user/info"), "/cgi-bin/user/info"},

		// methods
		{"CONNECT", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", 405, notAllowed, "", "-"},
		{"CONNECT of a path", "CONNECT /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\n\r\n", 405, notAllowed, "", "-"},
		{"TRACE", "TRACE /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\n\r\n", 405, notAllowed, "", "-"},
		{"OPTIONS", "OPTIONS /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\n\r\n", 405, notAllowed, "", "-"},
		{"PUT", "PUT /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405, notAllowed, "", "-"},
		{"DELETE", "DELETE /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\n\r\n", 405, notAllowed, "", "-"},
		{"a made-up one", "CANARY /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\n\r\n", 405, notAllowed, "", "-"},
		{"lower case", "get /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\n\r\n", 405, notAllowed, "", "-"},

		// queries
		{"semicolon in the query", get("/cgi-bin/user/info?a=1;access_token=EVIL"), 200, invalidParameter, "", "/cgi-bin/user/info"},
		{"bad escape", get("/cgi-bin/user/info?access_token=EVIL%zz"), 200, invalidParameter, "", "/cgi-bin/user/info"},
		{"1001 parameters", get("/cgi-bin/user/info?" + strings.Repeat("a&", 1000) + "access_token=EVIL"), 200, invalidParameter, "", "/cgi-bin/user/info"},
		{"bad escape, no token put in", get("/sns/userinfo?access_token=EVIL%zz"), 200, invalidParameter, "", "/sns/userinfo"},
		{"tokens of all kinds", get("/cgi-bin/user/info?Access_Token=E1&x=%20&access%5Ftoken=E2&access_token=E3"), 200, "", "/cgi-bin/user/info?access_token=" + testToken + "&x=%20", "/cgi-bin/user/info"},
		{"a token of another kind", get("/sns/userinfo?access_token=THEIRS&openid=o1&Access_Token=x"), 200, "", "/sns/userinfo?access_token=THEIRS&openid=o1&Access_Token=x", "/sns/userinfo"},
		{"no token where none belongs", get("/sns/userinfo"), 200, "", "/sns/userinfo", "/sns/userinfo"},
		{"empty query", get("/sns/userinfo?"), 200, "", "/sns/userinfo?", "/sns/userinfo"},

		// what is never sent
		{"token of an app that is not configured", get("/cgi-bin/token?grant_type=client_credential&appid=x&secret=CANARY"), 200, `{"errcode":40013,"errmsg":"invalid appid"}`, "", "/cgi-bin/token"},
		{"token by form, of a wrong grant", "POST /cgi-bin/token HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\nsecret=CANARY", 200, `{"errcode":40002,"errmsg":"invalid grant_type"}`, "", "/cgi-bin/token"},
		{"token spelled otherwise", get("/CGI-bin//%74oken/?grant_type=client_credential&secret=CANARY"), 200, `{"errcode":41002,"errmsg":"appid missing"}`, "", "/CGI-bin/token/"},
		{"token without a secret", get("/" + testAppID + "/cgi-bin/token?grant_type=client_credential&appid=" + testAppID), 200, `{"errcode":41004,"errmsg":"appsecret missing"}`, "", "/cgi-bin/token"},
		{"stable_token without a grant", "POST /cgi-bin/stable_token HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 200, `{"errcode":40002,"errmsg":"invalid grant_type"}`, "", "/cgi-bin/stable_token"},
		{"stable_token that is no JSON", "POST /cgi-bin/stable_token HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\nsecret=CANARY", 200, invalidParameter, "", "/cgi-bin/stable_token"},
		{"GET stable_token", get("/cgi-bin/Stable_Token"), 200, `{"errcode":43002,"errmsg":"require POST method"}`, "", "/cgi-bin/Stable_Token"},
		{"gettoken", get("/cgi-bin/gettoken?corpid=x&corpsecret=CANARY"), 200, invalidURL, "", "/cgi-bin/gettoken"},

		// requests that net/http takes for us
		{"two lengths", "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, "*", "", ""},
		{"an unknown coding", "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501, "*", "", ""},
		{"Host with junk", "GET /cgi-bin/user/info HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "*", "", ""},
	}
	u := newUpstream(t, nil)
	g := newGateway(t, u.URL, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before, counted := u.count(), g.limiter.counted(t)
			res, text := g.raw(t, tt.request)
			if res.StatusCode != tt.status {
				t.Errorf("status = %d, want %d", res.StatusCode, tt.status)
			}
			if tt.want == "*" {
				return
			}
			rec := g.nextRecord(t)
			if rec.Path != tt.path || rec.Status != tt.status {
				t.Errorf("logged %q with status %d, want %q with %d", rec.Path, rec.Status, tt.path, tt.status)
			}
			if tt.want == "" {
				if text != okText {
					t.Errorf("answer = %s, want %s", text, okText)
				}
				if u.count() != before+1 || g.limiter.counted(t) != counted+1 {
					t.Fatalf("sent %d and counted %d, want 1 and 1", u.count()-before, g.limiter.counted(t)-counted)
				}
				got := u.last(t)
				if got.Target != tt.sent {
					t.Errorf("sent %s, want %s", got.Target, tt.sent)
				}
				if want := strings.TrimPrefix(u.URL, "http://"); got.Host != want {
					t.Errorf("Host = %s, want %s", got.Host, want)
				}
				if rec.Decision != "pass" {
					t.Errorf("decision = %s, want pass", rec.Decision)
				}
				return
			}
			if text != tt.want {
				t.Errorf("answer = %s, want %s", text, tt.want)
			}
			if u.count() != before || g.limiter.counted(t) != counted {
				t.Errorf("sent %d and counted %d, want nothing", u.count()-before, g.limiter.counted(t)-counted)
			}
			kind, decision := jsonType[0], refusedRequest
			if tt.status == http.StatusMethodNotAllowed {
				kind = "text/plain; charset=utf-8"
				if got := res.Header.Get("Allow"); got != "GET, HEAD, POST" {
					t.Errorf("Allow = %q", got)
				}
			}
			if text == unauthorized || strings.Contains(text, "40013") {
				decision = refusedAuth
			}
			if got := res.Header.Get("Content-Type"); got != kind {
				t.Errorf("Content-Type = %q, want %q", got, kind)
			}
			if res.ContentLength != int64(len(text)) {
				t.Errorf("Content-Length = %d, want %d", res.ContentLength, len(text))
			}
			if rec.Decision != decision || res.Header.Get("X-Wxproxy-Decision") != decision {
				t.Errorf("decision = %s, in the header %s, want %s", rec.Decision, res.Header.Get("X-Wxproxy-Decision"), decision)
			}
		})
	}
	if got := g.logs.FilterMessageSnippet("WeCom").Len(); got != 1 {
		t.Errorf("%d lines say WeCom, want 1", got)
	}
}

// TestLocalNeedsNobody is of paths whose callers prove who they are in a way of their own, or need not.
func TestLocalNeedsNobody(t *testing.T) {
	g := newGateway(t, newUpstream(t, nil).URL, func(o *Options) { o.Anonymous = AnonymousNever })
	for target, want := range map[string]wechat.Errcode{"/cgi-bin/gettoken": wechat.InvalidURL, "/cgi-bin/stable_token": wechat.RequirePost, "/cgi-bin/user/info": wechat.Unauthorized} {
		if _, text := g.do(t, "GET", target, ""); text != want.Body() {
			t.Errorf("%s = %s, want %s", target, text, want.Body())
		}
	}
}

// TestOptionsStar is apart because net/http answers it before any handler.
func TestOptionsStar(t *testing.T) {
	u := newUpstream(t, nil)
	g := newGateway(t, u.URL, nil)
	g.raw(t, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
	if res, _ := g.raw(t, "GET * HTTP/1.1\r\nHost: x\r\n\r\n"); res.StatusCode != 404 && res.StatusCode != 400 {
		t.Errorf("GET * = %d", res.StatusCode)
	}
	if u.count() != 0 {
		t.Errorf("sent %d calls", u.count())
	}
}

func TestHealthy(t *testing.T) {
	g := newGateway(t, "http://127.0.0.1:1", func(o *Options) { o.Anonymous = AnonymousNever })
	for _, method := range []string{"GET", "HEAD"} {
		res, text := g.do(t, method, "/-/healthy", "")
		if res.StatusCode != 200 || method == "GET" && text != "ok" || res.ContentLength != 2 {
			t.Errorf("%s = %d %q, length %d", method, res.StatusCode, text, res.ContentLength)
		}
	}
	select {
	case r := <-g.records:
		t.Errorf("recorded %+v", r)
	default:
	}
}

func TestHTTP10NeverChunked(t *testing.T) {
	large := strings.Repeat("x", 100<<10)
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/jpeg")
		say(w, large[:1000])
		w.(http.Flusher).Flush() // of unknown length
		say(w, large[1000:])
	})
	g := newGateway(t, u.URL, nil)
	res, text := g.raw(t, "GET /cgi-bin/user/info HTTP/1.0\r\n\r\n")
	if len(res.TransferEncoding) > 0 || text != large {
		t.Errorf("encoding %v, %d bytes, want none and %d", res.TransferEncoding, len(text), len(large))
	}
}

func TestKeepAlive(t *testing.T) {
	u := newUpstream(t, nil)
	g := newGateway(t, u.URL, nil)
	conn := dial(t, g.Listener.Addr().String())
	from := bufio.NewReader(conn)
	for i, request := range []string{
		"GET /cgi-bin/user/info HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
		"POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
		"POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", // unread
		"GET /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		say(conn, request)
		res, err := http.ReadResponse(from, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		read(t, res)
	}
	if u.count() != 4 {
		t.Errorf("sent %d calls, want 4", u.count())
	}
}

func TestOverload(t *testing.T) {
	arrivedAt, release := make(chan struct{}), make(chan struct{})
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		arrivedAt <- struct{}{}
		<-release
		answerOK(w, r)
	})
	g := newGateway(t, u.URL, func(o *Options) { o.MaxInFlight = 2 })
	var held sync.WaitGroup
	for range 2 {
		held.Go(func() { g.do(t, "GET", "/cgi-bin/user/info", "") })
		<-arrivedAt
	}
	res, text := g.do(t, "GET", "/cgi-bin/user/info", "")
	if text != wechat.SystemError.Body() || res.Header.Get("Retry-After") != "1" || res.Header.Get("X-Wxproxy-Decision") != refusedOverload {
		t.Errorf("answer = %s %v", text, res.Header)
	}
	if res, _ := g.do(t, "GET", "/-/healthy", ""); res.StatusCode != 200 {
		t.Errorf("healthy = %d under overload", res.StatusCode)
	}
	close(release)
	held.Wait()
	go func() { <-arrivedAt }()
	// A call ends after its answer is out.
	for range 3 {
		g.nextRecord(t)
	}
	if _, text := g.do(t, "GET", "/cgi-bin/user/info", ""); text != okText {
		t.Errorf("answer = %s after the overload", text)
	}
	if g.limiter.counted(t) != 3 {
		t.Errorf("counted %d, want 3", g.limiter.counted(t))
	}
}

func TestTokenMissing(t *testing.T) {
	const own = `{"errcode":40164,"errmsg":"invalid ip 192.0.2.1, not in whitelist rid: 617682e0-09059ac5-34a8e2ea"}`
	tests := []struct {
		name string
		err  error
		want string
		code int
	}{
		{"no answer", fmt.Errorf("token of shop: %w", io.EOF), wechat.SystemError.Body(), -1},
		{"WeChat's answer", fmt.Errorf("token of shop: %w", answerError(own)), own, 40164},
		{"empty answer", answerError(""), wechat.SystemError.Body(), -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t, nil)
			g := newGateway(t, u.URL, nil)
			g.tokens.err = tt.err
			for range 5 {
				res, text := g.do(t, "GET", "/cgi-bin/user/info", "")
				if res.StatusCode != 200 || text != tt.want || res.Header.Get("Content-Type") != jsonType[0] {
					t.Errorf("answer = %d %s %v", res.StatusCode, text, res.Header)
				}
				if rec := g.nextRecord(t); rec.ErrCode != tt.code || rec.Decision != refusedToken {
					t.Errorf("record = %+v", rec)
				}
			}
			// a rule without a token needs none
			if _, text := g.do(t, "GET", "/sns/userinfo", ""); text != okText {
				t.Errorf("answer = %s without a need of a token", text)
			}
			if u.count() != 1 || g.limiter.taken != 1 {
				t.Errorf("sent %d, asked %d times, want 1 and 1", u.count(), g.limiter.taken)
			}
			if got := g.logs.FilterLevelExact(zapcore.WarnLevel).Len(); got != 1 {
				t.Errorf("%d lines about 5 calls of one outage, want 1", got)
			}
		})
	}
}

// TestTokenAwaited has the client go away while its token is fetched.
func TestTokenAwaited(t *testing.T) {
	u := newUpstream(t, nil)
	tokens := make(slowTokens)
	g := newGateway(t, u.URL, func(o *Options) { o.Tokens = tokens })
	conn := dial(t, g.Listener.Addr().String())
	say(conn, "GET /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\n\r\n")
	<-tokens
	conn.Close()
	if rec := g.nextRecord(t); rec.Status != statusClientGone || rec.Reason != ClientGone {
		t.Errorf("record = %+v", rec)
	}
	if u.count() != 0 || g.limiter.taken != 0 || g.logs.FilterLevelExact(zapcore.WarnLevel).Len() != 0 {
		t.Errorf("sent %d, asked %d times, log %v", u.count(), g.limiter.taken, g.logs.All())
	}
}

// slowTokens says that it is asked, and answers when the asker gives up.
type slowTokens chan struct{}

func (slowTokens) Secret(string) string { return "" }

func (s slowTokens) Token(ctx context.Context, _ string) (string, error) {
	s <- struct{}{}
	<-ctx.Done()
	return "", ctx.Err()
}

func (s slowTokens) Renew(ctx context.Context, appid, _ string) (string, error) {
	return s.Token(ctx, appid)
}

func TestTimes(t *testing.T) {
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(20 * time.Millisecond)
		answerOK(w, r)
	})
	g := newGateway(t, u.URL, nil)
	g.do(t, "GET", "/cgi-bin/user/info", "")
	rec := g.nextRecord(t)
	if rec.Upstream < 20*time.Millisecond || rec.Duration < rec.Upstream || rec.Duration > rec.Upstream+5*time.Second {
		t.Errorf("duration %v of which upstream %v", rec.Duration, rec.Upstream)
	}
}
