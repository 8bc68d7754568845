package sandbox

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is a time that is the same day in Shanghai and in UTC, and not near the end of a month.
var noon = time.Date(2026, time.March, 10, 12, 0, 0, 0, time.FixedZone("CST", 8*60*60))

func atNoon() time.Time { return noon }

func start(t *testing.T, o Options) *Server {
	t.Helper()
	if o.Now == nil {
		o.Now = atNoon
	}
	s := NewServer(o)
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// response is what a test looks at beside the body.
type response struct {
	StatusCode    int
	Header        http.Header
	ContentLength int64
}

// send makes one request. target is a path and query.
func send(t *testing.T, s *Server, method, target, body string) (response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return exchange(t, req)
}

func exchange(t *testing.T, req *http.Request) (response, []byte) {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: reading the answer: %v", req.Method, req.URL, err)
	}
	return response{res.StatusCode, res.Header, res.ContentLength}, body
}

// callJSON makes one request and reads its JSON answer into v, which may be nil. It returns the errcode.
func callJSON(t *testing.T, s *Server, method, target, body string, v any) int {
	t.Helper()
	res, got := send(t, s, method, target, body)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: status %d, want 200", method, target, res.StatusCode)
	}
	var st status
	if err := json.Unmarshal(got, &st); err != nil {
		t.Fatalf("%s %s: answer %q: %v", method, target, got, err)
	}
	if v != nil {
		if err := json.Unmarshal(got, v); err != nil {
			t.Fatalf("%s %s: answer %q: %v", method, target, got, err)
		}
	}
	return st.Code
}

type tokenAnswer struct {
	Token   string `json:"access_token"`
	Expires int    `json:"expires_in"`
}

// fetch takes a token of the app at /cgi-bin/token.
func fetch(t *testing.T, s *Server, appid string) string {
	t.Helper()
	return fetchWith(t, s, appid, DefaultSecret).Token
}

func fetchWith(t *testing.T, s *Server, appid, secret string) tokenAnswer {
	t.Helper()
	var got tokenAnswer
	if code := callJSON(t, s, "GET", tokenTarget(appid, secret), "", &got); code != 0 {
		t.Fatalf("token of %s: errcode %d", appid, code)
	}
	return got
}

func tokenTarget(appid, secret string) string {
	return pathToken + "?grant_type=client_credential&appid=" + appid + "&secret=" + secret
}

// fetchStable takes a token of the default app at /cgi-bin/stable_token.
func fetchStable(t *testing.T, s *Server, force bool) tokenAnswer {
	t.Helper()
	var got tokenAnswer
	body := fmt.Sprintf(`{"grant_type":"client_credential","appid":%q,"secret":%q,"force_refresh":%t}`, DefaultAppID, DefaultSecret, force)
	if code := callJSON(t, s, "POST", pathStable, body, &got); code != 0 {
		t.Fatalf("stable token: errcode %d", code)
	}
	return got
}

// raw sends bytes on a connection of their own and returns all that comes back, and the error
// that ended it.
func raw(t *testing.T, s *Server, request string) (string, error) {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	return string(got), err
}

func TestAnswersLikeWeChat(t *testing.T) {
	s := start(t, Options{})
	good := fetch(t, s, DefaultAppID)
	rid := regexp.MustCompile(` rid: ([0-9a-f]{8})-[0-9a-f]{8}-[0-9a-f]{8}$`)
	tests := []struct {
		name, method, target, body string
		code                       int
		message                    string // without the rid
	}{
		{"no token", "GET", "/cgi-bin/menu/get", "", 41001, "access_token missing"},
		{"unknown token", "GET", "/cgi-bin/menu/get?access_token=nonsense", "", 40014, "invalid access_token"},
		{"the first token counts", "GET", "/cgi-bin/menu/get?access_token=" + good + "&access_token=x", "", 0, ""},
		{"the second does not", "GET", "/cgi-bin/menu/get?access_token=x&access_token=" + good, "", 40014, "invalid access_token"},
		{"an empty one is none", "GET", "/cgi-bin/menu/get?access_token=&access_token=" + good, "", 41001, "access_token missing"},
		{"GET for POST", "GET", "/cgi-bin/menu/create?access_token=" + good, "", 43002, "require POST method"},
		{"POST for GET", "POST", "/cgi-bin/menu/get?access_token=" + good, "{}", 43001, "require GET method"},
		{"DELETE", "DELETE", "/cgi-bin/menu/create?access_token=" + good, "", 43002, "require POST method"},
		{"no body", "POST", "/cgi-bin/menu/create?access_token=" + good, "", 44002, "empty post data"},
		{"no JSON", "POST", "/cgi-bin/menu/create?access_token=" + good, "button=1", 47001, "data format error"},
		{"no such path", "GET", "/cgi-bin/nothing?access_token=" + good, "", 40066, "invalid url"},
		{"no such path, no token", "GET", "/", "", 40066, "invalid url"},
		{"a space", "GET", "/cgi-bin/menu/get%20?access_token=" + good, "", 40066, "invalid url"},
		{"WeCom's path", "GET", "/cgi-bin/gettoken", "", 40066, "invalid url"},
		{"folded", "GET", "/CGI-bin/%6denu//x/../get/?access_token=" + good, "", 0, ""},
		{"token last", "GET", "/cgi-bin/menu/get?a=b&access_token=" + good, "", 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res, body := send(t, s, tt.method, tt.target, tt.body)
			if res.StatusCode != 200 {
				t.Errorf("status = %d, want 200", res.StatusCode)
			}
			if got := res.Header.Get("Content-Type"); got != "application/json; encoding=utf-8" {
				t.Errorf("Content-Type = %q", got)
			}
			if got, want := res.Header.Get("Date"), noon.UTC().Format(http.TimeFormat); got != want {
				t.Errorf("Date = %q, want %q", got, want)
			}
			var got status
			if err := json.Unmarshal(body, &got); err != nil {
				t.Fatalf("answer %q: %v", body, err)
			}
			if got.Code != tt.code {
				t.Fatalf("errcode = %d (%s), want %d", got.Code, got.Message, tt.code)
			}
			if tt.code == 0 {
				return
			}
			if !bytes.HasPrefix(body, []byte(`{"errcode":`)) || bytes.HasSuffix(body, []byte("\n")) {
				t.Errorf("answer = %q, want {\"errcode\":... without a newline", body)
			}
			m := rid.FindStringSubmatch(got.Message)
			if m == nil || m[1] != fmt.Sprintf("%08x", noon.Unix()) {
				t.Errorf("errmsg = %q, want a rid of %08x", got.Message, noon.Unix())
			}
			if text := rid.ReplaceAllString(got.Message, ""); text != tt.message {
				t.Errorf("errmsg = %q, want %q", text, tt.message)
			}
		})
	}
}

func TestChunkedIsRefused(t *testing.T) {
	s := start(t, Options{})
	token := fetch(t, s, DefaultAppID)
	for _, path := range []string{"/cgi-bin/menu/create", pathToken, pathStable, "/cgi-bin/nothing"} {
		got, err := raw(t, s, "POST "+path+"?access_token="+token+" HTTP/1.1\r\nHost: api.weixin.qq.com\r\n"+
			"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		head, body, _ := strings.Cut(got, "\r\n\r\n")
		if !strings.HasPrefix(head, "HTTP/1.1 412 Precondition Failed\r\n") || body != "" {
			t.Errorf("%s: answer = %q, want 412 and no body", path, got)
		}
		if n := s.Calls("", path); n == 0 {
			t.Errorf("Calls(%q) = 0, want the refused one", path)
		}
	}
	if n := s.Executed("", "/cgi-bin/menu/create"); n != 0 {
		t.Errorf("Executed = %d, want 0", n)
	}
	seen := s.Requests()
	last := seen[len(seen)-1]
	if last.ContentLength != -1 || len(last.TransferEncoding) != 1 || last.TransferEncoding[0] != "chunked" {
		t.Errorf("recorded ContentLength %d, TransferEncoding %q; want -1, chunked", last.ContentLength, last.TransferEncoding)
	}
}

func TestHTTP10(t *testing.T) {
	s := start(t, Options{})
	token := fetch(t, s, DefaultAppID)
	got, err := raw(t, s, "POST /cgi-bin/menu/create?access_token="+token+" HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}")
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"errcode":0,"errmsg":"ok"}`; !strings.HasSuffix(got, "\r\n\r\n"+want) {
		t.Errorf("answer = %q, want %q at its end", got, want)
	}
}

func TestKeepAlive(t *testing.T) {
	s := start(t, Options{})
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for i := range 3 {
		if _, err := io.WriteString(conn, "GET "+tokenTarget(DefaultAppID, DefaultSecret)+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.TokenFetches(DefaultAppID); n != 3 {
		t.Errorf("TokenFetches = %d, want 3", n)
	}
}

func TestBodyThatBreaksOff(t *testing.T) {
	s := start(t, Options{})
	token := fetch(t, s, DefaultAppID)
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /cgi-bin/menu/create?access_token="+token+" HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{}"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(conn); strings.Contains(string(got), "errcode") {
		t.Errorf("answer = %q, want none of WeChat's", got)
	}
	if got := s.Calls(DefaultAppID, "/cgi-bin/menu/create"); got != 1 {
		t.Errorf("Calls = %d, want 1", got)
	}
	if got := s.Executed(DefaultAppID, "/cgi-bin/menu/create"); got != 0 {
		t.Errorf("Executed = %d, want 0", got)
	}
}

func TestCounts(t *testing.T) {
	const other = "wx00000000000000aa"
	s := start(t, Options{Apps: []App{{}, {AppID: other}}})
	one, two := fetch(t, s, DefaultAppID), fetch(t, s, other)
	for range 3 {
		callJSON(t, s, "GET", "/cgi-bin/menu/get?access_token="+one, "", nil)
	}
	callJSON(t, s, "GET", "/cgi-bin/user/get?access_token="+two, "", nil)
	callJSON(t, s, "GET", "/cgi-bin/user/get", "", nil)                      // 41001
	callJSON(t, s, "GET", "/cgi-bin/nothing?access_token="+two, "", nil)     // 40066
	callJSON(t, s, "GET", "/cgi-bin/menu/create?access_token="+two, "", nil) // 43002: executed all the same
	callJSON(t, s, "GET", tokenTarget("wxnobody", "x"), "", nil)             // 40013
	callJSON(t, s, "GET", tokenTarget(other, "x"), "", nil)                  // 40125

	tests := []struct {
		name      string
		got, want int64
	}{
		{"executed of one", s.Executed(DefaultAppID, "/cgi-bin/menu/get"), 3},
		{"executed of one, other spelling", s.Executed(DefaultAppID, "/CGI-BIN//menu/get/"), 3},
		{"executed of one, all", s.Executed(DefaultAppID, ""), 3},
		{"executed of two, all", s.Executed(other, ""), 2},
		{"executed of all", s.Executed("", ""), 5},
		{"executed of nobody", s.Executed("wxnobody", ""), 0},
		{"tokens of one", s.Executed(DefaultAppID, pathToken), 1},
		{"calls of one", s.Calls(DefaultAppID, ""), 4},
		{"calls of two", s.Calls(other, ""), 5},
		{"calls of all", s.Calls("", ""), 11},
		{"calls of all to user/get", s.Calls("", "/cgi-bin/user/get"), 2},
		{"fetches of one", s.TokenFetches(DefaultAppID), 1},
		{"fetches of two", s.TokenFetches(other), 2},
		{"fetches of all", s.TokenFetches(""), 4},
		{"used by two", s.Used(other, "/cgi-bin/user/get"), 1},
		{"used by all", s.Used("", "/cgi-bin/menu/get"), 3},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s = %d, want %d", tt.name, tt.got, tt.want)
		}
	}

	s.Reset()
	if got := s.Calls("", ""); got != 0 {
		t.Errorf("Calls after Reset = %d, want 0", got)
	}
	if code := callJSON(t, s, "GET", "/cgi-bin/menu/get?access_token="+one, "", nil); code != 40014 {
		t.Errorf("an old token after Reset: errcode %d, want 40014", code)
	}
}

// TestQuotaIsExact sends far more calls than a quota holds, all at once.
func TestQuotaIsExact(t *testing.T) {
	const quota, clients, callsEach = 500, 40, 50
	const path = "/cgi-bin/message/custom/send"
	s := start(t, Options{Quotas: map[string]int64{path: quota}, Keep: -1})
	token := fetch(t, s, DefaultAppID)
	var granted, refused atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range callsEach {
				w := httptest.NewRecorder()
				s.ServeHTTP(w, httptest.NewRequest("POST", path+"?access_token="+token, strings.NewReader("{}")))
				switch {
				case strings.HasPrefix(w.Body.String(), `{"errcode":0,`):
					granted.Add(1)
				case strings.HasPrefix(w.Body.String(), `{"errcode":45009,"errmsg":"reach max api daily quota limit rid: `):
					refused.Add(1)
				default:
					t.Errorf("answer = %q", w.Body)
				}
			}
		})
	}
	wg.Wait()
	if got := granted.Load(); got != quota {
		t.Errorf("granted %d, want %d", got, quota)
	}
	if got, want := refused.Load(), int64(clients*callsEach-quota); got != want {
		t.Errorf("refused %d, want %d", got, want)
	}
	if got := s.Executed(DefaultAppID, path); got != quota {
		t.Errorf("Executed = %d, want %d", got, quota)
	}
	if got := s.Used(DefaultAppID, path); got != quota {
		t.Errorf("Used = %d, want %d", got, quota)
	}
	if got := s.Calls(DefaultAppID, path); got != clients*callsEach {
		t.Errorf("Calls = %d, want %d", got, clients*callsEach)
	}
}

func TestPathsAreBounded(t *testing.T) {
	n := make(counts)
	for i := range maxPaths + 5 {
		n.add(fmt.Sprint("/", i))
	}
	if len(n) != maxPaths+1 || n["*"] != 5 || n.sum("", true) != maxPaths+5 {
		t.Errorf("%d paths, %d under *, %d in all; want %d, 5, %d", len(n), n["*"], n.sum("", true), maxPaths+1, maxPaths+5)
	}
}

func TestCloseEndsHeldCalls(t *testing.T) {
	s := NewServer(Options{})
	held := s.Order(Fault{Path: pathToken, Hold: true})
	failed := make(chan error, 1)
	go func() {
		res, err := http.Get(s.URL + tokenTarget(DefaultAppID, DefaultSecret))
		if err == nil {
			err = res.Body.Close()
		}
		failed <- err
	}()
	<-held.Begun()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := <-failed; err == nil {
		t.Error("the held call was answered, want its connection broken")
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if held.Fired() != 1 {
		t.Errorf("Fired = %d, want 1", held.Fired())
	}
}

func TestListenRefusesATakenAddress(t *testing.T) {
	s := start(t, Options{})
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := Listen(u.Host, Options{}); err == nil {
		t.Error("Listen on a taken address: no error")
		if err := second.Close(); err != nil {
			t.Error(err)
		}
	}
}

// FuzzServeHTTP: no request makes the sandbox panic, and every answer that is JSON is valid.
func FuzzServeHTTP(f *testing.F) {
	f.Add("POST", "/cgi-bin/menu/create", "", "", "{}")
	f.Add("POST", "/cgi-bin/media/upload", "type=image", "", "--x\r\nContent-Disposition: form-data; name=\"media\"; filename=\"a\"\r\n\r\nx\r\n--x--\r\n")
	f.Add("POST", "/cgi-bin/openapi/quota/get", "", "text/plain", `{"cgi_path":"/cgi-bin/menu/get"}`)
	f.Add("POST", "/cgi-bin/user/info/batchget", "a=%zz;", "multipart/form-data; boundary=x", `{"user_list":[{"openid":"o"}]}`)
	f.Add("POST", pathStable, "", "", `{"grant_type":"client_credential","appid":"x","secret":"x"}`)
	f.Add("GET", pathToken, "grant_type=client_credential", "", "")
	f.Add("POST", "/-/sandbox/fault", "", "", `{"hold":false,"after":1}`)
	f.Fuzz(func(t *testing.T, method, path, query, contentType, body string) {
		s := New(Options{})
		s.mu.Lock()
		token := s.issue(s.apps[DefaultAppID], accountToken, tokenLife).text
		s.mu.Unlock()
		w := httptest.NewRecorder()
		s.ServeHTTP(w, &http.Request{
			Method:        method,
			URL:           &url.URL{Path: path, RawQuery: "access_token=" + token + "&" + query},
			Header:        http.Header{"Content-Type": {contentType}},
			Body:          io.NopCloser(strings.NewReader(body)),
			ContentLength: int64(len(body)),
		})
		if ct := w.Header().Get("Content-Type"); ct == jsonType && !json.Valid(w.Body.Bytes()) {
			t.Errorf("answer = %q", w.Body)
		}
	})
}
