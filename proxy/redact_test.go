package proxy

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// ways are the ways to write a text that a reader takes off again.
var ways = map[string]func(string) string{
	"as it is":     func(s string) string { return s },
	"percent":      everyByte("%%%02x"),
	"PERCENT":      everyByte("%%%02X"),
	"query":        url.QueryEscape,
	"percent of u": everyByte("%%u%04X"),
	"JSON":         everyByte(`\u%04x`),
	"JavaScript":   everyByte(`\x%02X`),
	"braces":       everyByte(`\u{%x}`),
	"slashes":      func(s string) string { return strings.ReplaceAll(s, "/", `\/`) },
	"HTML":         html.EscapeString,
	"decimal":      everyByte("&#%d;"),
	"hexadecimal":  everyByte("&#x%X;"),
	"one byte":     func(s string) string { return fmt.Sprintf(`%%%02x%s\u%04x`, s[0], s[1:len(s)-1], s[len(s)-1]) },
}

func everyByte(format string) func(string) string {
	return func(s string) string {
		var b strings.Builder
		for _, c := range []byte(s) {
			fmt.Fprintf(&b, format, c)
		}
		return b.String()
	}
}

func TestHolds(t *testing.T) {
	const token, secret = "CANARY_-.~TOKEN==", `S3cr3t/+&"<'>%41`
	for name, way := range ways {
		for other, again := range ways {
			for _, text := range []string{token, secret} {
				text = "https://x/?a=1&access_token=" + again(way(text)) + "&b=2"
				if !holds(text, token, secret) {
					t.Errorf("%s over %s: holds(%q) = false", other, name, text)
				}
				if holds(text, "", "ANOTHER") {
					t.Errorf("%s over %s: holds(%q) of another = true", other, name, text)
				}
			}
		}
	}
	deep := token
	for range 40 {
		deep = url.QueryEscape(everyByte("%%%02x")(deep[:1]) + deep[1:])
	}
	for text, want := range map[string]bool{
		"": false, "%": false, "%zz": false, `\`: false, `\u12`: false, "&": false, "&#;": false, "&#x;": false, "%u12": false,
		`\u{110000}`: false, "/x?a=%E4%BD%A0&copy=1": false, "CANARY_-.~TOKEN=": false,
		deep: true, "%" + strings.Repeat("25", 20000): true,
	} {
		if got := holds(text, token); got != want {
			t.Errorf("holds(%.60q) = %t, want %t", text, got, want)
		}
	}
	if holds("anything", "", "") {
		t.Error("holds of no secret = true")
	}
}

func FuzzHolds(f *testing.F) {
	names := slices.Sorted(maps.Keys(ways))
	f.Add("a", "CANARY", "&b", byte(0), byte(3))
	f.Add("%", "S3cr3t/+", "%25", byte(5), byte(9))
	f.Fuzz(func(t *testing.T, before, secret, after string, one, two byte) {
		if secret == "" || strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return
		}
		way, again := ways[names[int(one)%len(names)]], ways[names[int(two)%len(names)]]
		// A blank on each side: what stands there may make another escape of the secret's first byte.
		if len(secret) > 1 && !holds(before+" "+again(way(secret))+" "+after, secret) {
			t.Errorf("holds of %q, %s over %s = false", secret, names[int(two)%len(names)], names[int(one)%len(names)])
		}
	})
}

func TestRedactHeader(t *testing.T) {
	h := http.Header{
		"Location":         {"/x?access_token=T%4fKEN"},
		"Content-Location": {"/x"},
		"Refresh":          {"0; url=/?a=%2553ECRET"},
		"Link":             {"</a>; rel=next", "</b?TOKEN>; rel=next"},
		"Set-Cookie":       {"a=1"},
		"Logicret":         {"TOKEN"},
	}
	if !redact(h, "TOKEN", "SECRET", "") {
		t.Error("redact = false")
	}
	if got, want := fmt.Sprint(h), "map[Content-Location:[/x] Logicret:[TOKEN] Set-Cookie:[a=1]]"; got != want {
		t.Errorf("left: %s, want %s", got, want)
	}
	if redact(h, "TOKEN", "SECRET") || redact(nil, "TOKEN") {
		t.Error("redact = true for a header without")
	}
}

// oneKey is an Identity that takes every key for that of a caller.
type oneKey struct{ noIdentity }

func (oneKey) Issue(string, string, time.Time) (token, caller string, err error) {
	return "wxp1.x", "crm", nil
}

func (oneKey) May(string, string) bool { return true }

func (oneKey) ThirdParty(string) bool { return false }

// TestNoAnswerLeads has WeChat repeat the query that it was called with, in all places and at all
// statuses.
func TestNoAnswerLeads(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 201, 300, 301, 302, 303, 307, 308, 400, 500} {
		for _, field := range []string{"Location", "Content-Location", "Refresh", "Link", "Set-Cookie", ""} {
			for path, leak := range map[string]string{
				"/cgi-bin/user/info": testToken,
				"/sns/oauth2/access_token?appid=" + testAppID + "&secret=key": "fake-secret",
			} {
				t.Run(fmt.Sprint(status, " ", field, " ", path), func(t *testing.T) {
					u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
						w.Header().Set("X-Other", "kept")
						if field != "" {
							w.Header().Add(field, "a=1")
							w.Header().Add(field, everyByte("%%%02x")(r.URL.RawQuery))
						}
						if status >= 300 && status < 400 {
							w.WriteHeader(status)
							say(w, `<a href="/x?`+everyByte("&#%d;")(r.URL.RawQuery)+`">`)
						} else {
							w.WriteHeader(status)
							say(w, okText)
						}
					})
					g := newGateway(t, u.URL, func(o *Options) { o.Identity = oneKey{} })
					res, text := g.do(t, "GET", path, "")
					if sent := u.last(t).Target; !strings.Contains(sent, leak) {
						t.Fatalf("WeChat was called with %q: nothing to hide", sent)
					}
					want := okText
					if status >= 300 && status < 400 {
						want = ""
						if got := res.Header.Get("Content-Type"); got != "" || res.ContentLength != 0 {
							t.Errorf("Content-Type %q, length %d, want none", got, res.ContentLength)
						}
					}
					if res.StatusCode != status || text != want || res.Header.Get("X-Other") != "kept" || field != "" && res.Header.Get(field) != "" {
						t.Errorf("answer = %d %v %q, want %d without %s and with %q", res.StatusCode, res.Header, text, status, field, want)
					}
					if rec := g.nextRecord(t); rec.Status != status || rec.BytesOut != int64(len(want)) {
						t.Errorf("record = %d, %d bytes, want %d, %d", rec.Status, rec.BytesOut, status, len(want))
					}
				})
			}
		}
	}
}

// A redirect that names nothing secret passes as it came.
func TestHarmlessRedirect(t *testing.T) {
	for _, tt := range []struct{ name, packing, body, want string }{
		{"short", "", "moved to /x", "moved to /x"},
		{"long", "", strings.Repeat("x", maxRedirect+1), ""},
		{"packed", "gzip", gzipped("moved to /x"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/x")
				if tt.packing != "" {
					w.Header().Set("Content-Encoding", tt.packing)
				}
				w.WriteHeader(http.StatusFound)
				say(w, tt.body)
			})
			g := newGateway(t, u.URL, nil)
			res, text := g.do(t, "GET", "/cgi-bin/user/info", "")
			if res.StatusCode != 302 || res.Header.Get("Location") != "/x" || text != tt.want || tt.want == "" && res.Header.Get("Content-Encoding") != "" {
				t.Errorf("answer = %d %v %.40q, want 302 to /x and %.40q", res.StatusCode, res.Header, text, tt.want)
			}
			if rec := g.nextRecord(t); rec.BytesOut != int64(len(tt.want)) {
				t.Errorf("%d bytes in the record, want %d", rec.BytesOut, len(tt.want))
			}
		})
	}
}

// ReverseProxy logs why an answer broke off, in words that quote it.
func TestNoLogQuotesAnAnswer(t *testing.T) {
	for name, rest := range map[string]string{
		"trailer": "400\r\n" + strings.Repeat("x", 1024) + "\r\n0\r\nCANARY without a colon\r\n\r\n",
		"chunk":   "400\r\n" + strings.Repeat("x", 1024) + "\r\nCANARY\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					say(conn, "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"+rest)
				}
			}()
			defer func() { l.Close(); <-done }()
			g := newGateway(t, "http://"+l.Addr().String(), nil)
			conn := dial(t, g.Listener.Addr().String())
			say(conn, "GET /cgi-bin/media/get HTTP/1.1\r\nHost: x\r\n\r\n")
			if answer, err := io.ReadAll(conn); strings.Contains(string(answer), "CANARY") {
				t.Errorf("answer = %.2000q, %v", answer, err)
			}
			g.nextRecord(t)
			logged := g.logs.All()
			if len(logged) != 1 || logged[0].Message != "an answer of WeChat's broke off" || len(logged[0].Context) != 0 {
				t.Errorf("log = %+v, want that an answer broke off", logged)
			}
		})
	}
}

func BenchmarkRedact(b *testing.B) {
	h := http.Header{"Content-Type": {"application/json"}, "Date": {"x"}, "Connection": {"keep-alive"}, "Content-Length": {"10"}}
	c := &call{token: testToken}
	res := &http.Response{StatusCode: 200, Header: h}
	b.ReportAllocs()
	for b.Loop() {
		c.redact(res)
	}
}
