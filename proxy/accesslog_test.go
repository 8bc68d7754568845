package proxy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zapcore"

	"wxproxy/limits"
)

// sink is a file that a test can read while it is written.
type sink struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *sink) Sync() error { return nil }

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// fields are those of the access log, in their order.
var fields = strings.Fields("time request_id client_ip caller app appid method path rule decision reason quota used remaining reset_s status errcode rid duration_ms upstream_ms attempts bytes_in bytes_out user_agent")

func TestAccessLogLine(t *testing.T) {
	var s sink
	l := NewAccessLog(&s, nil)
	l.Write(&Record{
		Time:      time.Date(2026, 11, 23, 9, 8, 7, 6_000_000, time.FixedZone("CST", 8*3600)),
		RequestID: "me-1", ClientIP: "192.0.2.1", Caller: "crm", App: "shop", AppID: testAppID,
		Method: "POST", Path: "/cgi-bin/menu/create", Rule: "menu.create", Decision: "pass",
		Quota: 1000, Used: 1, Remaining: 999, Reset: 1500 * time.Millisecond,
		Status: 200, ErrCode: 40001, RID: "617682e0-09059ac5-34a8e2ea",
		Duration: 12345 * time.Microsecond, Upstream: 12 * time.Millisecond, Attempts: 2, BytesIn: 3, BytesOut: 4,
		UserAgent: "okhttp/4.9.0",
	})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	const want = `{"time":"2026-11-23T09:08:07.006+08:00","request_id":"me-1","client_ip":"192.0.2.1","caller":"crm","app":"shop","appid":"wx0123456789abcdef",` +
		`"method":"POST","path":"/cgi-bin/menu/create","rule":"menu.create","decision":"pass","reason":"","quota":1000,"used":1,"remaining":999,"reset_s":2,` +
		`"status":200,"errcode":40001,"rid":"617682e0-09059ac5-34a8e2ea","duration_ms":12.345,"upstream_ms":12,"attempts":2,"bytes_in":3,"bytes_out":4,"user_agent":"okhttp/4.9.0"}` + "\n"
	if diff := cmp.Diff(want, s.String()); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
	if l.Dropped() != 0 {
		t.Errorf("%d lines lost", l.Dropped())
	}
}

func TestAccessLogIsFlushed(t *testing.T) {
	var s sink
	l := NewAccessLog(&s, nil)
	defer l.Close()
	l.Write(&Record{Time: time.Now()})
	began := time.Now()
	for s.String() == "" {
		if time.Since(began) > 5*time.Second {
			t.Fatal("not flushed after 5 s")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("flushed after %v, want half a second or so", took)
	}
}

func TestAccessLogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logs", "access.log")
	l, err := OpenAccessLog(LogFile{Path: path, MaxSizeMB: 1, Keep: 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	const lines = 8000 // 400 bytes each: more than two files of 1 MB, so the first is gone or kept
	for range lines {
		l.Write(&Record{Time: time.Now(), UserAgent: strings.Repeat("x", 20)})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if err != nil || len(files) < 2 || len(files) > 4 {
		t.Fatalf("files = %v, %v: not rotated", files, err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v, want 0600", file, info.Mode(), err)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		for scan := bufio.NewScanner(f); scan.Scan(); {
			if !json.Valid(scan.Bytes()) {
				t.Fatalf("%s: %q is no JSON", file, scan.Text())
			}
		}
		f.Close()
	}
	if _, err := OpenAccessLog(LogFile{Path: filepath.Dir(path)}, nil); err == nil {
		t.Error("OpenAccessLog of a folder: no error")
	}
	if _, err := OpenAccessLog(LogFile{}, nil); err == nil {
		t.Error("OpenAccessLog of nothing: no error")
	}
}

func TestScrub(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", ""},
		{"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"},
		{"/datacube/getweanalysisappidmonthlyvisittrend", "/datacube/getweanalysisappidmonthlyvisittrend"},
		{"python-requests/2.31.0", "python-requests/2.31.0"},
		{"x 0123456789abcdef0123456789abcdef y", "x * y"},
		{"token=86_abcdefghijklmnopqrstuvw", "token=*"},
		{"oABCDEFGHIJKLMNOPQRSTUVWXY1z", "*"},
		{"a\x00b\xffc\n\"d\"", `a?b?c?"d"`},
		{strings.Repeat("ab ", 100), strings.Repeat("ab ", 66) + "ab"},
		{strings.Repeat("x", 300), strings.Repeat("x", 200)},
		{strings.Repeat("1", 300), "*"},
		{strings.Repeat("x ", 99) + strings.Repeat("a1", 30), strings.Repeat("x ", 99) + "*"},
	}
	for _, tt := range tests {
		if got := scrub(tt.text); got != tt.want {
			t.Errorf("scrub(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}

// TestLogsTellNothing sends canaries in every place that a client or WeChat can fill, through
// every outcome, and looks for them in both logs.
func TestLogsTellNothing(t *testing.T) {
	const canary = "CANARY0SECRET0VALUE0123456789"
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/cgi-bin/reset":
			conn, _, _ := w.(http.Hijacker).Hijack()
			say(conn, "HTTP/9 "+canary+"\r\n\r\n")
			conn.Close()
		case "/cgi-bin/dead":
			w.Header().Set("Content-Type", "application/json")
			say(w, `{"errcode":40001,"errmsg":"`+canary+` rid: 617682e0-09059ac5-34a8e2ea"}`)
		case "/cgi-bin/half":
			w.Header().Set("Content-Length", "1000")
			say(w, canary)
		default:
			w.Header().Set("X-Secret", canary)
			say(w, `{"access_token":"`+canary+`"}`)
		}
	})
	var s sink
	accessLog := NewAccessLog(&s, nil)
	var lines sync.WaitGroup
	g := newGateway(t, u.URL, func(o *Options) {
		o.Record = func(r *Record) { accessLog.Write(r); lines.Done() }
	})
	g.tokens.token, g.tokens.renew = canary+"-token", answerError(`{"errcode":40164,"errmsg":"`+canary+`"}`)
	g.limiter.decide = func(_ int, call limits.Call) limits.Decision {
		if call.Match.Rule.Name == "menu.create" {
			return limits.Decision{Verdict: limits.RefusedQuota, Quota: 1, Used: 1}
		}
		return limits.Decision{}
	}
	query := "?access_token=" + canary + "&secret=" + canary + "&openid=" + canary
	targets := []string{
		"/cgi-bin/user/info" + query, "/cgi-bin/menu/create" + query, "/cgi-bin/denied" + query, "/cgi-bin/" + canary + query,
		"/cgi-bin/reset" + query, "/cgi-bin/dead" + query, "/cgi-bin/half" + query, "/sns/userinfo" + query,
		"/" + canary + query, "/cgi-bin/user%2f" + canary + query, "/cgi-bin/user/info;" + canary, "/cgi-bin/user/info?" + canary + ";" + canary,
		"/cgi-bin/token" + query, "/cgi-bin/gettoken" + query, "http://" + canary + ":" + canary + "@" + canary + "/cgi-bin/user/info" + query,
		"/wx0000000000000000/cgi-bin/" + canary + query,
	}
	headers := "Host: " + canary + "\r\nUser-Agent: x " + canary + "\r\nX-Request-Id: !" + canary + "\r\nCookie: " + canary + "\r\nReferer: http://x/" + canary +
		"\r\nX-Forwarded-For: " + canary + "\r\nContent-Type: " + canary + "\r\nConnection: close\r\n"
	send := func(request string) {
		lines.Add(1)
		conn := dial(t, g.Listener.Addr().String())
		say(conn, request)
		drain(conn)
		conn.Close()
	}
	for _, target := range targets {
		send("POST " + target + " HTTP/1.1\r\n" + headers + "Content-Length: 29\r\n\r\n" + canary)
		send("GET " + target + " HTTP/1.1\r\n" + headers + "Authorization: Basic " + canary + "\r\n\r\n")
		send("GET " + target + " HTTP/1.1\r\n" + headers + "X-Wxproxy-Key: " + canary + "\r\n\r\n")
		send("GET " + target + " HTTP/1.1\r\n" + headers + "X-Wxproxy-App: " + canary + "\r\n\r\n")
		send(canary + " " + target + " HTTP/1.1\r\n" + headers + "\r\n")
	}
	lines.Wait()
	if err := accessLog.Close(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(s.String()) {
		n++
		if strings.Contains(strings.ToUpper(line), "CANARY") {
			t.Errorf("line = %s", line)
		}
		decoder := json.NewDecoder(strings.NewReader(line))
		var names []string
		for depth := 0; ; {
			token, err := decoder.Token()
			if err != nil {
				break
			}
			if _, delim := token.(json.Delim); delim {
				continue
			}
			if depth++; depth%2 == 1 {
				names = append(names, token.(string))
			}
		}
		if !cmp.Equal(names, fields) {
			t.Fatalf("fields of %s (-want +got):\n%s", line, cmp.Diff(fields, names))
		}
	}
	if want := 5 * len(targets); n != want {
		t.Errorf("%d lines for %d calls", n, want)
	}
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg"})
	for _, line := range g.logs.All() {
		text, err := encoder.EncodeEntry(line.Entry, line.Context)
		if err != nil || strings.Contains(text.String(), "CANARY") {
			t.Errorf("log = %s, %v", text, err)
		}
	}
	if g.logs.Len() == 0 {
		t.Error("the program's log is empty: the test proves nothing")
	}
}
