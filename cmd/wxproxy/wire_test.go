package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wxproxy/sandbox"
)

// wireAnswer is what comes back for one request, byte for byte but for headers that are not told.
type wireAnswer struct {
	proto    string
	status   int
	decision string
	reason   string
	body     string
	closes   bool // the gateway says, and does, that this was the last answer of the connection
}

// wireSeen is what WeChat saw of one request.
type wireSeen struct {
	method string
	target string // with TOKEN for the account's
	kind   string // Content-Type
	length int64  // Content-Length
	body   string
}

const (
	wireOK   = `{"errcode":0,"errmsg":"ok"}`
	wireMenu = `{"menu":{"button":[]}}`
	wireJSON = `{"touser":"` + canaryOpenID + `","msgtype":"text","text":{"content":"` + canaryBody + `"}}`
	wireSend = "/cgi-bin/message/custom/send"
)

// The forms of HTTP that SDKs and the libraries under them really send, each as bytes on a
// connection of its own: what the gateway answers, and what reaches WeChat of it. In send and rest
// each line ends in CR LF, and HOST is the gateway's address.
func TestFormsOnTheWire(t *testing.T) {
	t.Parallel()
	var (
		sent    = wireAnswer{proto: "HTTP/1.1", status: 200, decision: "pass", body: wireOK}
		menu    = wireAnswer{proto: "HTTP/1.1", status: 200, decision: "pass", body: wireMenu}
		getMenu = wireSeen{method: "GET", target: "/cgi-bin/menu/get?access_token=TOKEN"}
	)
	refused := func(reason string) wireAnswer {
		return wireAnswer{proto: "HTTP/1.1", status: 200, decision: "refused-auth", reason: reason, body: `{"errcode":48001,"errmsg":"api unauthorized"}`}
	}
	once := func(a wireAnswer) []wireAnswer { return []wireAnswer{a} }
	last := func(proto string, a wireAnswer) wireAnswer {
		a.proto, a.closes = proto, true
		return a
	}
	post := func(kind, body string) []wireSeen {
		return []wireSeen{{"POST", wireSend + "?access_token=TOKEN", kind, int64(len(body)), body}}
	}
	length := fmt.Sprintf("Content-Length: %d\n", len(wireJSON))
	form := "--x\r\nContent-Disposition: form-data; name=\"media\"; filename=\"a.jpg\"\r\n\r\n\x00\x01\r\n--x--\r\n"

	type wireTest struct {
		name  string
		send  string
		pause string // what must come back before rest is sent
		rest  string
		// giveUp ends the client's side after the answer: net/http waits for a body that it did not ask for.
		giveUp bool
		want   []wireAnswer
		seen   []wireSeen
	}
	tests := []wireTest{
		{
			name: "HTTP/1.0",
			send: "GET /cgi-bin/menu/get HTTP/1.0\nHost: HOST\n\n",
			want: once(last("HTTP/1.0", menu)), seen: []wireSeen{getMenu},
		},
		{
			name: "HTTP/1.0, a body",
			send: "POST " + wireSend + " HTTP/1.0\nHost: HOST\nContent-Type: application/json\n" + length + "\n" + wireJSON,
			want: once(last("HTTP/1.0", sent)), seen: post("application/json", wireJSON),
		},
		{
			name: "HTTP/1.0, keep-alive, and another",
			send: "GET /cgi-bin/menu/get HTTP/1.0\nHost: HOST\nConnection: keep-alive\n\n",
			rest: "GET /cgi-bin/menu/get HTTP/1.0\nHost: HOST\n\n",
			want: []wireAnswer{{proto: "HTTP/1.0", status: 200, decision: "pass", body: wireMenu}, last("HTTP/1.0", menu)},
			seen: []wireSeen{getMenu, getMenu},
		},
		{
			name: "HTTP/1.0 without a Host, as only a program of this machine sends it",
			send: "GET /cgi-bin/menu/get HTTP/1.0\n\n",
			want: once(last("HTTP/1.0", menu)), seen: []wireSeen{getMenu},
		},
		{
			name: "HTTP/1.1 with an empty Host",
			send: "GET /cgi-bin/menu/get HTTP/1.1\nHost:\n\n",
			want: once(refused("host")),
		},
		{
			name: "proxy_pass of nginx as it is by default",
			send: "GET /cgi-bin/menu/get HTTP/1.0\nHost: HOST\nConnection: close\nUser-Agent: curl/8.5.0\nAccept: */*\n\n",
			want: once(last("HTTP/1.0", refused("proxy"))),
		},
		{
			name: "Connection: close",
			send: "GET /cgi-bin/menu/get HTTP/1.1\nHost: HOST\nConnection: close\n\n",
			want: once(last("HTTP/1.1", menu)), seen: []wireSeen{getMenu},
		},
		{
			name: "absolute-form",
			send: "GET http://api.weixin.qq.com/cgi-bin/menu/get HTTP/1.1\nHost: api.weixin.qq.com\n\n",
			want: once(menu), seen: []wireSeen{getMenu},
		},
		{
			name: "absolute-form with a foreign authority",
			send: "GET http://169.254.169.254/cgi-bin/menu/get HTTP/1.1\nHost: HOST\n\n",
			want: once(refused("host")),
		},
		{
			name: "two requests at once",
			send: "GET /cgi-bin/menu/get HTTP/1.1\nHost: HOST\n\n" +
				"POST " + wireSend + " HTTP/1.1\nHost: HOST\nContent-Type: application/json\n" + length + "\n" + wireJSON,
			want: []wireAnswer{menu, sent}, seen: append([]wireSeen{getMenu}, post("application/json", wireJSON)...),
		},
		{
			name: "two bodies at once",
			send: strings.Repeat("POST "+wireSend+" HTTP/1.1\nHost: HOST\nContent-Type: application/json\n"+length+"\n"+wireJSON, 2),
			want: []wireAnswer{sent, sent}, seen: append(post("application/json", wireJSON), post("application/json", wireJSON)...),
		},
		{
			name:  "Expect: 100-continue",
			send:  "POST " + wireSend + " HTTP/1.1\nHost: HOST\nContent-Type: application/json\nExpect: 100-continue\n" + length + "\n",
			pause: "HTTP/1.1 100 Continue\r\n\r\n",
			rest:  wireJSON,
			want:  once(sent), seen: post("application/json", wireJSON),
		},
		{
			name: "Expect: 100-continue for what is refused",
			send: "POST /nowhere HTTP/1.1\nHost: HOST\nExpect: 100-continue\n" + length + "\n",
			want: once(wireAnswer{proto: "HTTP/1.1", status: 404, decision: "refused-request", reason: "path", body: `{"errcode":40066,"errmsg":"invalid url"}`, closes: true}), giveUp: true,
		},
		{
			name: "GET with a body",
			send: "GET /cgi-bin/menu/get HTTP/1.1\nHost: HOST\nContent-Type: application/json\nContent-Length: 2\n\n{}",
			want: once(menu), seen: []wireSeen{{"GET", "/cgi-bin/menu/get?access_token=TOKEN", "application/json", 2, "{}"}},
		},
		{
			name: "POST without a body",
			send: "POST " + wireSend + " HTTP/1.1\nHost: HOST\nContent-Length: 0\n\n",
			want: once(wireAnswer{proto: "HTTP/1.1", status: 200, decision: "pass", body: `{"errcode":44002,"errmsg":"empty post data rid: RID"}`}),
			seen: post("", ""),
		},
		{
			name: "JSON typed as a form",
			send: "POST " + wireSend + " HTTP/1.1\nHost: HOST\nContent-Type: application/x-www-form-urlencoded\n" + length + "\n" + wireJSON,
			want: once(sent), seen: post("application/x-www-form-urlencoded", wireJSON),
		},
		{
			name: "JSON typed as text",
			send: "POST " + wireSend + " HTTP/1.1\nHost: HOST\nContent-Type: text/plain;charset=UTF-8\n" + length + "\n" + wireJSON,
			want: once(sent), seen: post("text/plain;charset=UTF-8", wireJSON),
		},
		{
			name: "JSON without a type",
			send: "POST " + wireSend + " HTTP/1.1\nHost: HOST\n" + length + "\n" + wireJSON,
			want: once(sent), seen: post("", wireJSON),
		},
		{
			name: "a chunked body",
			send: "POST " + wireSend + " HTTP/1.1\nHost: HOST\nContent-Type: application/json\nTransfer-Encoding: chunked\n\n" +
				fmt.Sprintf("5\n%s\n%x\n%s\n0\n\n", wireJSON[:5], len(wireJSON)-5, wireJSON[5:]),
			want: once(sent), seen: post("application/json", wireJSON),
		},
		{
			name: "multipart without a boundary in its type",
			send: fmt.Sprintf("POST /cgi-bin/media/uploadimg HTTP/1.1\nHost: HOST\nContent-Type: multipart/form-data\nContent-Length: %d\n\n", len(form)) + form,
			want: once(wireAnswer{proto: "HTTP/1.1", status: 200, decision: "pass", body: `{"url":"http://mmbiz.qpic.cn/mmbiz_jpg/ID/0"}`}),
			seen: []wireSeen{{"POST", "/cgi-bin/media/uploadimg?access_token=TOKEN", "multipart/form-data", int64(len(form)), form}},
		},
		{
			name: "two slashes, from a base URL that ends in one",
			send: "POST /" + wireSend + " HTTP/1.1\nHost: HOST\nContent-Type: application/json\n" + length + "\n" + wireJSON,
			want: once(sent), seen: post("application/json", wireJSON),
		},
		{
			name: "a path escaped without need",
			send: "GET /cgi%2Dbin/menu/%67et HTTP/1.1\nHost: HOST\n\n",
			want: once(menu), seen: []wireSeen{getMenu},
		},
		{
			name: "a path in other letters and with a slash at the end",
			send: "GET /CGI-BIN/Menu/Get/ HTTP/1.1\nHost: HOST\n\n",
			want: once(menu), seen: []wireSeen{{method: "GET", target: "/CGI-BIN/Menu/Get/?access_token=TOKEN"}},
		},
		{
			name: "a token first, and one that holds an equals sign",
			send: "GET /cgi-bin/menu/get?access_token=" + canaryOld + "&a=%E4%BD%A0&access_token=n=" + canaryOld + "&b= HTTP/1.1\nHost: HOST\n\n",
			want: once(menu), seen: []wireSeen{{method: "GET", target: "/cgi-bin/menu/get?access_token=TOKEN&a=%E4%BD%A0&b="}},
		},
		{
			name: "the health check",
			send: "GET /-/healthy HTTP/1.1\nHost: HOST\n\n",
			want: once(wireAnswer{proto: "HTTP/1.1", status: 200, decision: "local", body: "ok"}),
		},
		{
			name: "a foreign Host, as after DNS rebinding",
			send: "GET /cgi-bin/menu/get HTTP/1.1\nHost: rebound.example\n\n",
			want: once(refused("host")),
		},
		{
			name: "headers that are for the gateway or for tracing",
			send: "GET /cgi-bin/menu/get HTTP/1.1\nHost: HOST\nX-Request-Id: 1\nTraceparent: 00-1-2-01\nTracestate: a=b\nBaggage: a=b\nMax-Forwards: 1\n" +
				"X_Wxproxy_Key: " + canaryWeb + "\nx_wxproxy-app: a\nX_RateLimit_Limit: 1\nProxy-Connection: keep-alive\nIdempotency_Key: 1\n\n",
			want: once(menu), seen: []wireSeen{getMenu},
		},
	}
	for reason, headers := range map[string][]string{
		"browser": {
			"Origin", "Referer", "Cookie", "Upgrade-Insecure-Requests", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Sec-Fetch-User", "Sec-CH-UA", "Sec-GPC",
			"Sec-Purpose", "sec_fetch_site", "Upgrade_Insecure_Requests",
		},
		"proxy": {
			"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Client-Cert", "X-Real-IP", "X-Client-IP",
			"True-Client-IP", "CF-Connecting-IP", "X_Forwarded_For", "x-forwarded_for", "X_Real_IP",
		},
	} {
		for _, header := range headers {
			tests = append(tests, wireTest{
				name: header,
				send: "GET /cgi-bin/menu/get HTTP/1.1\nHost: HOST\n" + header + ": x\n\n",
				want: once(refused(reason)),
			})
		}
	}
	for _, host := range []string{
		"[::ffff:127.0.0.1]", "[::ffff:7f00:1]:8080", "[0:0:0:0:0:0:0:1]", "[::1%25lo]", "[::127.0.0.1]", "2130706433", "0x7f000001", "0177.0.0.1", "127.1",
		"127.0.0.1.", "localhost.", "x.localhost", "0.0.0.0", "[::]", "api.weixin.qq.com.",
	} {
		tests = append(tests, wireTest{
			name: "Host: " + host,
			send: "GET /cgi-bin/menu/delete HTTP/1.1\nHost: " + host + "\n\n",
			want: once(refused("host")),
		})
	}
	for _, host := range []string{
		"api.weixin.qq.com", "API.weixin.qq.com:80", "api2.weixin.qq.com", "sh.api.weixin.qq.com",
		"sz.api.weixin.qq.com", "hk.api.weixin.qq.com", "file.api.weixin.qq.com", "localhost",
	} {
		// As from a hosts entry. The name decides nothing, and WeChat is asked under its own.
		tests = append(tests, wireTest{
			name: "Host: " + host,
			send: "GET /cgi-bin/menu/get HTTP/1.1\nHost: " + host + "\n\n",
			want: once(menu), seen: []wireSeen{getMenu},
		})
	}

	// What cannot be sent as it is, or has nothing to do with WeChat.
	for _, odd := range []struct {
		request string
		status  int
		reason  string
		body    string
	}{
		{"GET /", 404, "path", `{"errcode":40066,"errmsg":"invalid url"}`},
		{"GET /favicon.ico", 404, "path", `{"errcode":40066,"errmsg":"invalid url"}`},
		{"GET /cgi-bin/x/../menu/get", 200, "path", `{"errcode":40066,"errmsg":"invalid url"}`},
		{"GET /cgi-bin/%2e%2e/menu/get", 200, "path", `{"errcode":40066,"errmsg":"invalid url"}`},
		{"GET /cgi-bin%2Fmenu/get", 200, "path", `{"errcode":40066,"errmsg":"invalid url"}`},
		{"GET /cgi-bin/menu/get;x=1", 200, "path", `{"errcode":40066,"errmsg":"invalid url"}`},
		{"GET /cgi-bin/menu\\get", 200, "path", `{"errcode":40066,"errmsg":"invalid url"}`},
		{"GET /cgi-bin/gettoken?corpid=a&corpsecret=b", 200, "path", `{"errcode":40066,"errmsg":"invalid url"}`},
		{"GET /cgi-bin/menu/get?a=1;b=2", 200, "query", `{"errcode":40035,"errmsg":"invalid parameter"}`},
		{"GET /cgi-bin/menu/get?a=%zz", 200, "query", `{"errcode":40035,"errmsg":"invalid parameter"}`},
		{"GET /cgi-bin/menu/get?" + strings.Repeat("a&", 1000) + "a", 200, "query", `{"errcode":40035,"errmsg":"invalid parameter"}`},
		{"GET /cgi-bin/stable_token", 200, "method", `{"errcode":43002,"errmsg":"require POST method"}`},
		{"OPTIONS /cgi-bin/menu/get", 405, "method", "method not allowed"},
		{"PUT /cgi-bin/menu/create", 405, "method", "method not allowed"},
		{"TRACE /cgi-bin/menu/get", 405, "method", "method not allowed"},
		{"CONNECT api.weixin.qq.com:443", 405, "method", "method not allowed"},
	} {
		name := odd.request
		if len(name) > 60 {
			name = name[:60]
		}
		tests = append(tests, wireTest{
			name: name,
			send: odd.request + " HTTP/1.1\nHost: HOST\n\n",
			want: once(wireAnswer{proto: "HTTP/1.1", status: odd.status, decision: "refused-request", reason: odd.reason, body: odd.body}),
		})
	}

	wechat := newWechat(t, sandbox.Options{})
	p := start(t, writeOne(t, wechat), wechat)
	if a := do(t, "GET", p.url+"/cgi-bin/menu/get", nil); a.body != wireMenu { // fetches the token
		t.Fatalf("%v", a)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := len(wechat.Requests())
			w := dialWire(t, strings.TrimPrefix(p.url, "http://"))
			w.send(t, test.send)
			var got []wireAnswer
			if test.rest != "" {
				if test.pause != "" {
					w.expect(t, test.pause)
				} else {
					got = append(got, w.answer(t, "GET"))
				}
				w.send(t, test.rest)
			}
			for len(got) < len(test.want) {
				got = append(got, w.answer(t, test.send))
			}
			if test.giveUp {
				w.giveUp(t)
			}
			w.ended(t, got[len(got)-1].closes)
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(wireAnswer{})); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}

			var seen []wireSeen
			for _, r := range wechat.Requests()[before:] {
				seen = append(seen, wireSeen{r.Method, plain(r.Target, wechat.Tokens(appA)), r.Header.Get("Content-Type"), r.ContentLength, string(r.Body)})
				if r.Proto != "HTTP/1.1" || "http://"+r.Host != wechat.URL || len(r.TransferEncoding) > 0 {
					t.Errorf("WeChat saw %s, Host %s, transfer encoding %v, want HTTP/1.1, its own Host and none", r.Proto, r.Host, r.TransferEncoding)
				}
				for name, values := range r.Header {
					if name != "Content-Type" && name != "Content-Length" {
						t.Errorf("WeChat saw %s: %q", name, values)
					}
				}
			}
			if diff := cmp.Diff(test.seen, seen, cmp.AllowUnexported(wireSeen{})); diff != "" {
				t.Errorf("seen by WeChat (-want +got):\n%s", diff)
			}
		})
	}
	if n := wechat.TokenFetches(""); n != 1 {
		t.Errorf("%d tokens were fetched, want 1", n)
	}
}

// plain puts TOKEN in the place of the account's token.
func plain(target string, tokens []string) string {
	for _, token := range tokens {
		target = strings.ReplaceAll(target, token, "TOKEN")
	}
	return target
}

// writeOne writes a wxproxy.yaml of app a alone, for which programs of this machine may call unnamed.
func writeOne(t *testing.T, wechat *sandbox.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wxproxy.yaml")
	writeFile(t, path, fmt.Sprintf(`listen: 127.0.0.1:0
admin: {listen: "127.0.0.1:0", token: "${CANARY_ADMIN}"}
upstream: {url: "%s"}
apps:
  - {name: a, appid: %s, secret: "${CANARY_SECRET}"}
`, wechat.URL, appA))
	return path
}

// wireConn is a connection on which a test writes its own bytes.
type wireConn struct {
	net.Conn
	in   *bufio.Reader
	host string
}

func dialWire(t *testing.T, host string) *wireConn {
	t.Helper()
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &wireConn{Conn: conn, in: bufio.NewReader(conn), host: host}
}

// send writes text with CR LF for each line feed that has none yet.
func (w *wireConn) send(t *testing.T, text string) {
	t.Helper()
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
	if _, err := io.WriteString(w.Conn, strings.ReplaceAll(text, "HOST", w.host)); err != nil {
		t.Fatal(err)
	}
}

// giveUp says that nothing more will be written.
func (w *wireConn) giveUp(t *testing.T) {
	t.Helper()
	if err := w.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

// expect reads exactly text.
func (w *wireConn) expect(t *testing.T, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if n, err := io.ReadFull(w.in, got); err != nil || string(got) != text {
		t.Fatalf("read %q (%v), want %q", got[:n], err, text)
	}
}

// answer reads the answer to a request and checks that its length is told: who speaks HTTP/1.0
// cannot read chunks.
func (w *wireConn) answer(t *testing.T, request string) wireAnswer {
	t.Helper()
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(w.in, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("reading an answer: %v", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("reading an answer: %v", err)
	}
	if response.ContentLength != int64(len(body)) || len(response.TransferEncoding) > 0 {
		t.Errorf("Content-Length %d, Transfer-Encoding %v, for %d bytes", response.ContentLength, response.TransferEncoding, len(body))
	}
	if response.Proto == "HTTP/1.0" && !response.Close && !strings.EqualFold(response.Header.Get("Connection"), "keep-alive") {
		t.Errorf("Connection: %q in an answer to HTTP/1.0 after which the connection stays", response.Header.Get("Connection"))
	}
	return wireAnswer{response.Proto, response.StatusCode, response.Header.Get("X-Wxproxy-Decision"), response.Header.Get("X-Wxproxy-Reason"), withoutIDs(string(body)), response.Close}
}

// withoutIDs replaces what is new in each answer of the sandbox's.
func withoutIDs(body string) string {
	for _, id := range []struct{ before, after, name string }{{"rid: ", `"`, "RID"}, {"mmbiz_jpg/", "/0", "ID"}} {
		if start, rest, ok := strings.Cut(body, id.before); ok {
			if _, end, ok := strings.Cut(rest, id.after); ok {
				body = start + id.before + id.name + id.after + end
			}
		}
	}
	return body
}

// ended checks that nothing more comes, and whether the connection was closed.
func (w *wireConn) ended(t *testing.T, closed bool) {
	t.Helper()
	if !closed {
		if n := w.in.Buffered(); n != 0 {
			t.Errorf("%d more bytes after the last answer", n)
		}
		return
	}
	if b, err := w.in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last answer: %q, %v, want the connection closed", b, err)
	}
}
