package proxy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"wxproxy/limits"
	"wxproxy/wechat"
)

func gzipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	say(z, text)
	if err := z.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

// TestAnswersPass compares answers of all shapes byte for byte.
func TestAnswersPass(t *testing.T) {
	t.Parallel()
	random := noise(1 << 20)
	const latched = `{"errcode":45009,"errmsg":"reach max api daily quota limit rid: 617682e0-09059ac5-34a8e2ea"}`
	tests := []struct {
		name    string
		kind    string // Content-Type; "-" for none
		packing string
		status  int
		body    string
		code    int // logged
		told    int // to the limiter
	}{
		{"ok", "application/json; encoding=utf-8", "", 200, okText, 0, 0},
		{"refused by WeChat", "application/json; encoding=utf-8", "", 200, latched, 45009, 45009},
		{"text/plain", "text/plain", "", 200, latched, 45009, 45009},
		{"untyped", "-", "", 200, latched, 45009, 45009},
		{"packed", "application/json", "gzip", 200, gzipped(latched), 45009, 45009},
		{"packed and large", "application/json", "gzip", 200, gzipped(`{"openid":"` + fmt.Sprintf("%x", random[:4096]) + `"}`), 0, 0},
		{"packed, but not really", "application/json", "gzip", 200, latched, 0, 0},
		{"packed in another way", "application/json", "br", 200, latched, 0, 0},
		{"control characters", "application/json", "", 200, "{\"nickname\":\"a\x01\x02\n\xff\"}", 0, 0},
		{"broken JSON", "application/json", "", 200, `{"errcode":`, 0, 0},
		{"leading blanks", "application/json", "", 200, "\n\n " + latched, 45009, 45009},
		{"blanks only", "application/json", "", 200, strings.Repeat(" ", 3000), 0, 0},
		{"empty", "application/json", "", 200, "", 0, 0},
		{"long errmsg", "application/json", "", 200, `{"errmsg":"` + strings.Repeat("x", 600) + `","errcode":1}`, 0, 0},
		{"errcode and much more", "application/json", "", 200, `{"errcode":7,"errmsg":"` + strings.Repeat("x", 5000) + `"}`, 7, 7},
		{"a picture", "image/jpeg", "", 200, string(random), 0, 0},
		{"a picture that looks like JSON", "image/jpeg", "", 200, latched, 0, 0},
		{"a picture that says it is text", "text/plain", "", 200, string(random), 0, 0},
		{"a page at 502", "text/html", "", 502, "<html>", 0, -1},
		{"nothing at 412", "-", "", 412, "", 0, -1},
		{"an errcode at 500", "application/json", "", 500, latched, 45009, 45009},
		{"503", "text/plain", "", 503, "busy", 0, -1},
		{"302", "text/html", "", 302, "moved", 0, -1},
		{"204", "-", "", 204, "", 0, 0},
		{"304", "-", "", 304, "", 0, -1},
	}
	for _, tt := range tests {
		for _, way := range []string{"length", "chunked", "dribble"} {
			if way != "length" && (tt.status == 204 || tt.status == 304) || way == "dribble" && len(tt.body) > 10000 {
				continue
			}
			t.Run(tt.name+" "+way, func(t *testing.T) {
				u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
					h := w.Header()
					h["Content-Type"] = nil
					if tt.kind != "-" {
						h["Content-Type"] = []string{tt.kind}
					}
					if tt.packing != "" {
						h.Set("Content-Encoding", tt.packing)
					}
					h["LogicRet"] = []string{"0"} // spelled as no canonical header is
					h.Add("Set-Cookie", "a=1")
					h.Add("Set-Cookie", "b=2")
					h.Set("Wechatmp-Signature", "s")
					if way == "length" && tt.status != 204 && tt.status != 304 {
						h.Set("Content-Length", fmt.Sprint(len(tt.body)))
					}
					w.WriteHeader(tt.status)
					switch way {
					case "chunked":
						w.(http.Flusher).Flush()
						say(w, tt.body)
					case "dribble":
						for i := 0; i < len(tt.body); i += 7 {
							say(w, tt.body[i:min(i+7, len(tt.body))])
							w.(http.Flusher).Flush()
						}
					default:
						say(w, tt.body)
					}
				})
				g := newGateway(t, u.URL, nil)
				res, text := g.do(t, "GET", "/cgi-bin/user/info", "", "Accept-Encoding: "+tt.packing)
				rec := g.nextRecord(t)
				if res.StatusCode != tt.status || text != tt.body {
					t.Errorf("answer = %d, %d bytes, want %d, %d bytes, equal %v", res.StatusCode, len(text), tt.status, len(tt.body), text == tt.body)
				}
				if got := strings.Join(res.Header["Content-Type"], "|"); got != strings.TrimPrefix(tt.kind, "-") {
					t.Errorf("Content-Type = %q, want %q", got, tt.kind)
				}
				if res.Header.Get("Logicret") != "0" || len(res.Header["Set-Cookie"]) != 2 || res.Header.Get("Wechatmp-Signature") != "s" {
					t.Errorf("headers = %v", res.Header)
				}
				if way == "length" && tt.status == 200 && res.ContentLength != int64(len(tt.body)) {
					t.Errorf("Content-Length = %d, want %d", res.ContentLength, len(tt.body))
				}
				if rec.Status != tt.status || rec.ErrCode != tt.code || rec.BytesOut != int64(len(tt.body)) {
					t.Errorf("record = %+v", rec)
				}
				if got := g.limiter.codes(); g.limiter.counted(t) != 1 || got[0] != tt.told {
					t.Errorf("told %v, want %d", got, tt.told)
				}
				if tt.code == 45009 && rec.RID != "617682e0-09059ac5-34a8e2ea" {
					t.Errorf("rid = %q", rec.RID)
				}
			})
		}
	}
}

// TestAnswersPassAsTheyCome has WeChat hold the rest of an answer until its beginning was read.
func TestAnswersPassAsTheyCome(t *testing.T) {
	const first, last = `{"total":2,"data":[`, `1,2]}`
	release := make(chan struct{})
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", jsonType[0])
		say(w, first)
		w.(http.Flusher).Flush()
		<-release
		say(w, last)
	})
	g := newGateway(t, u.URL, nil)
	r, _ := http.NewRequestWithContext(t.Context(), "GET", g.URL+"/cgi-bin/user/info", nil)
	res, err := g.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	begin := make([]byte, len(first))
	if _, err := io.ReadFull(res.Body, begin); err != nil || string(begin) != first {
		t.Errorf("begins %q, %v", begin, err)
	}
	close(release)
	if _, text := read(t, res); text != last {
		t.Errorf("ends %q", text)
	}
}

func TestHead(t *testing.T) {
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "27")
	})
	g := newGateway(t, u.URL, nil)
	res, text := g.do(t, "HEAD", "/cgi-bin/user/info", "")
	if res.StatusCode != 200 || text != "" || res.ContentLength != 27 {
		t.Errorf("answer = %d %q, length %d", res.StatusCode, text, res.ContentLength)
	}
	res, text = g.do(t, "HEAD", "/cgi-bin/denied", "")
	if res.StatusCode != 200 || text != "" || res.ContentLength != int64(len(wechat.Unauthorized.Body())) {
		t.Errorf("refusal = %d %q, length %d", res.StatusCode, text, res.ContentLength)
	}
}

// TestBrokenAnswer makes sure that half an answer does not look whole.
func TestBrokenAnswer(t *testing.T) {
	tests := []struct {
		name, kind string
		sent       int64
		status     int // logged
	}{
		{"a picture", "image/jpeg", 20000, 200},
		{"JSON", "application/json", 20000, 200},
		{"JSON, of which little came", "application/json", 12, 502},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tt.kind)
				w.Header().Set("Content-Length", "100000")
				say(w, "{"+strings.Repeat(" ", int(tt.sent)-1))
			})
			g := newGateway(t, u.URL, nil)
			conn := dial(t, g.Listener.Addr().String())
			say(conn, "GET /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\n\r\n")
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != tt.status {
				t.Errorf("status = %d, want %d", res.StatusCode, tt.status)
			}
			if _, err := io.ReadAll(res.Body); (err == nil) != (tt.status == 502) {
				t.Errorf("the answer's end: %v", err)
			}
			rec := g.nextRecord(t)
			if rec.Status != tt.status || tt.status == 200 && rec.BytesOut != tt.sent {
				t.Errorf("record = %+v", rec)
			}
			if g.limiter.counted(t) != 1 {
				t.Errorf("counted %d, want 1", g.limiter.counted(t))
			}
		})
	}
}

// TestForgery has WeChat send every header of ours, before, in and behind its answer.
func TestForgery(t *testing.T) {
	forged := []string{
		"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Limit-Day", "RateLimit", "RateLimit-Policy",
		"X-Wxproxy-Rule", "X-Wxproxy-Decision", "X-Wxproxy-Cache", "X-Request-Id", "Retry-After",
	}
	large := strings.Repeat("x", 100<<10)
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for _, name := range forged {
			h.Set(name, "forged")
		}
		w.WriteHeader(http.StatusEarlyHints)
		h.Set("Trailer", "X-Wxproxy-Rule, X-Other")
		if r.URL.Path == "/cgi-bin/media/get" {
			say(w, large)
		} else {
			answerOK(w, r)
		}
		w.(http.Flusher).Flush()
		h.Set("X-Wxproxy-Rule", "forged")
		h.Set("X-Other", "forged")
		h.Set(http.TrailerPrefix+"X-Wxproxy-Decision", "forged")
	})
	g := newGateway(t, u.URL, nil)
	for path, want := range map[string]string{"/cgi-bin/user/info": okText, "/cgi-bin/media/get": large[:2000]} {
		conn := dial(t, g.Listener.Addr().String())
		say(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n")
		answer, err := io.ReadAll(conn)
		if err != nil || !bytes.Contains(answer, []byte(want)) {
			t.Fatalf("answer of %d bytes, %v, want %.40q in it", len(answer), err, want)
		}
		for _, not := range []string{"forged", "103", "Trailer", "X-Other"} {
			if bytes.Contains(answer, []byte(not)) {
				t.Errorf("%s in the answer: %.800q", not, answer)
			}
		}
		if got := u.last(t).Header; got.Get("Te") != "" {
			t.Errorf("sent %v", got)
		}
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		verdict limits.Verdict
		wait    time.Duration
		want    string
		retry   string
	}{
		{limits.RefusedQuota, 41231*time.Second + time.Millisecond, `{"errcode":45009,"errmsg":"api freq out of limit"}`, "41232"},
		{limits.RefusedLatched, time.Minute, `{"errcode":45009,"errmsg":"api freq out of limit"}`, "60"},
		{limits.RefusedShare, time.Second, `{"errcode":45009,"errmsg":"api freq out of limit"}`, "1"},
		{limits.RefusedPace, time.Millisecond, `{"errcode":45011,"errmsg":"api minute-quota reach limit, must slower, retry next minute"}`, "1"},
		{limits.RefusedDenied, 0, `{"errcode":48001,"errmsg":"api unauthorized"}`, ""},
		{limits.RefusedStore, time.Second, `{"errcode":-1,"errmsg":"system error"}`, "1"},
	}
	for _, tt := range tests {
		t.Run(tt.verdict.String(), func(t *testing.T) {
			u := newUpstream(t, nil)
			g := newGateway(t, u.URL, nil)
			g.limiter.decide = func(int, limits.Call) limits.Decision {
				return limits.Decision{Verdict: tt.verdict, Quota: 100, Used: 100, Reset: 1500 * time.Millisecond, RetryAfter: tt.wait}
			}
			res, text := g.do(t, "POST", "/cgi-bin/menu/create", "{}", "X-Request-ID: me-1")
			rec := g.nextRecord(t)
			if res.StatusCode != 200 || text != tt.want {
				t.Errorf("answer = %d %s, want %s", res.StatusCode, text, tt.want)
			}
			want := map[string]string{
				"Content-Type": "application/json; encoding=utf-8", "Content-Length": fmt.Sprint(len(tt.want)), "Retry-After": tt.retry,
				"X-Ratelimit-Limit": "100", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": "2",
				"X-Wxproxy-Rule": "menu.create", "X-Wxproxy-Decision": tt.verdict.String(), "X-Request-Id": "me-1",
			}
			for name, value := range want {
				if got := res.Header.Get(name); got != value {
					t.Errorf("%s = %q, want %q", name, got, value)
				}
			}
			if code, _ := peekErrcode([]byte(tt.want), true); rec.ErrCode != int(code) || rec.Decision != tt.verdict.String() || rec.Attempts != 0 {
				t.Errorf("record = %+v", rec)
			}
			if u.count() != 0 || g.limiter.counted(t) != 0 {
				t.Errorf("sent %d, counted %d", u.count(), g.limiter.counted(t))
			}
		})
	}
}

func TestSentVerdicts(t *testing.T) {
	u := newUpstream(t, nil)
	g := newGateway(t, u.URL, nil)
	for _, verdict := range []limits.Verdict{limits.Pass, limits.Degraded, limits.Shadow} {
		g.limiter.decide = func(int, limits.Call) limits.Decision { return limits.Decision{Verdict: verdict} }
		res, text := g.do(t, "GET", "/cgi-bin/user/info", "")
		rec := g.nextRecord(t)
		if text != okText || rec.Decision != verdict.String() || res.Header.Get("X-Wxproxy-Decision") != verdict.String() {
			t.Errorf("%s: answer = %s, record %+v", verdict, text, rec)
		}
		if _, has := res.Header["X-Ratelimit-Limit"]; has || res.Header.Get("X-Wxproxy-Rule") != "user.info" {
			t.Errorf("%s: headers of a rule without a figure = %v", verdict, res.Header)
		}
	}
}

// TestRequestHeaders sends everything that must not reach WeChat, and what must.
func TestRequestHeaders(t *testing.T) {
	u := newUpstream(t, nil)
	g := newGateway(t, u.URL, nil)
	stripped := []string{
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix", "X-Forwarded", "Forwarded", "X-Real-IP", "Via",
		"X-Wxproxy-Decision", "X-Wxproxy-Anything", "RateLimit", "RateLimit-Policy", "X-RateLimit-Limit", "X-Ratelimit-Remaining",
		"Proxy-Authorization", "Proxy-Connection", "Proxy-Anything", "Cookie", "Referer", "Origin", "Sec-Fetch-Site", "Sec-Ch-Ua",
		"Idempotency-Key", "X-Idempotency-Key", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override",
		"X-Original-URL", "X-Rewrite-URL", "X-Request-ID", "Max-Forwards", "Traceparent", "Tracestate", "Baggage",
	}
	stripped = append(append(stripped, browserHeaders...), proxyHeaders...)
	for _, name := range stripped {
		stripped = append(stripped, underscored(name))
	}
	stripped = append(stripped, "Keep-Alive", "TE", "Trailer", "X-Hop", "X_Wxproxy_Key", "x-wxproxy_app", "X_WXPROXY-Reason", "X_RateLimit_Limit")
	kept := []string{"Wechatmp-Appid", "Wechatmp-TimeStamp", "Wechatmp-Signature", "Accept", "Accept-Language", "Accept-Encoding", "Content-Type", "Content-Encoding", "X-Custom", "Range"}
	headers := []string{"Connection: X-Hop, X-Wxproxy-App", "Authorization: Bearer CANARY", "X-Wxproxy-App: shop"}
	for _, name := range stripped {
		headers = append(headers, name+": CANARY")
	}
	for _, name := range kept {
		headers = append(headers, name+": kept")
	}
	_, text := g.raw(t, "POST /cgi-bin/user/info HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"+strings.Join(headers, "\r\n")+"\r\n\r\n{}")
	if text != okText {
		t.Fatalf("answer = %s", text)
	}
	got := u.last(t).Header
	for name, values := range got {
		if strings.Contains(strings.Join(values, ""), "CANARY") {
			t.Errorf("%s: %v reached WeChat", name, values)
		}
	}
	for _, name := range kept {
		if got.Get(name) != "kept" {
			t.Errorf("%s did not reach WeChat", name)
		}
	}
	if want := len(kept) + 1; len(got) != want { // Content-Length
		t.Errorf("%d headers reached WeChat, want %d: %v", len(got), want, got)
	}
}

func TestRequestID(t *testing.T) {
	s := &settings{Config: Config{Identity: noIdentity{}}}
	tests := []struct {
		ids  []string
		keep bool
	}{
		{[]string{"me-1"}, true},
		{[]string{strings.Repeat("a", 64)}, true},
		{[]string{strings.Repeat("a", 65)}, false},
		{[]string{""}, false},
		{[]string{"a b"}, false},
		{[]string{"a\"b"}, false},
		{[]string{"a", "b"}, false},
		{nil, false},
	}
	for _, tt := range tests {
		got := s.requestID(http.Header{"X-Request-Id": tt.ids})
		if tt.keep != (len(tt.ids) > 0 && got == tt.ids[0]) || !wellFormedID(got) {
			t.Errorf("requestID(%q) = %q", tt.ids, got)
		}
	}
}

// TestUpstreamWithPath joins a path of the upstream's own with the call's.
func TestUpstreamWithPath(t *testing.T) {
	u := newUpstream(t, nil)
	for _, base := range []string{"/base", "/base/", "/ba%20se"} {
		g := newGateway(t, u.URL+base, nil)
		g.do(t, "GET", "//cgi-bin/user/info", "")
		want, _ := url.JoinPath(base, "/cgi-bin/user/info")
		if got, _, _ := strings.Cut(u.last(t).Target, "?"); got != want {
			t.Errorf("sent %s, want %s", got, want)
		}
	}
}
