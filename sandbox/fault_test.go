package sandbox

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func decode(t *testing.T, body []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(body, v); err != nil {
		t.Fatalf("answer %q: %v", body, err)
	}
}

func wantFired(t *testing.T, o *Ordered, want int) {
	t.Helper()
	if got := o.Fired(); got != want {
		t.Errorf("fired %d times, want %d", got, want)
	}
}

func TestFaultAnswers(t *testing.T) {
	tests := []struct {
		name        string
		fault       Fault
		status      int
		contentType string
		body        string // its beginning
		executed    int64
	}{
		{"502", Fault{Status: 502}, 502, "text/html", "<html>\r\n<head><title>502 Bad Gateway", 0},
		{"412", Fault{Status: 412}, 412, "", "", 0},
		{"-1", Fault{ErrCode: -1}, 200, jsonType, `{"errcode":-1,"errmsg":"system error"}`, 0},
		{"45009", Fault{ErrCode: 45009}, 200, jsonType, `{"errcode":45009,"errmsg":"reach max api daily quota limit rid: `, 0},
		{"errmsg", Fault{ErrCode: 48001, ErrMsg: "as <said>"}, 200, jsonType, `{"errcode":48001,"errmsg":"as <said>"}`, 0},
		{"error with a status", Fault{ErrCode: -1, Status: 500, ContentType: "text/x"}, 500, "text/x", `{"errcode":-1`, 0},
		{"body", Fault{Body: "<html>", ContentType: "text/html"}, 200, "text/html", "<html>", 0},
		{"body of the usual type", Fault{Body: "{}", Status: 201}, 201, jsonType, "{}", 0},
		{"executed all the same", Fault{Status: 502, Execute: true}, 502, "text/html", "<html>", 1},
		{"a probe", Fault{}, 200, jsonType, `{"errcode":0`, 1},
		{"an unknown code", Fault{ErrCode: 99999}, 200, jsonType, `{"errcode":99999,"errmsg":"error rid: `, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, Options{})
			token := fetch(t, s, DefaultAppID)
			tt.fault.Path = "/CGI-bin/message/custom/send"
			tt.fault.Header = http.Header{"x-from": {"fault"}}
			o := s.Order(tt.fault)
			res, body := send(t, s, "POST", sendPath+"?access_token="+token, "{}")
			if res.StatusCode != tt.status || res.Header.Get("Content-Type") != tt.contentType {
				t.Errorf("status, type = %d, %q; want %d, %q", res.StatusCode, res.Header.Get("Content-Type"), tt.status, tt.contentType)
			}
			if !strings.HasPrefix(string(body), tt.body) || tt.body == "" && len(body) > 0 {
				t.Errorf("body = %q, want %q", body, tt.body)
			}
			if got := res.Header.Get("X-From"); got != "fault" {
				t.Errorf("X-From = %q, want the fault's", got)
			}
			if got := s.Executed("", ""); got != tt.executed {
				t.Errorf("Executed = %d, want %d", got, tt.executed)
			}
			if got := s.Used("", sendPath); got != tt.executed {
				t.Errorf("Used = %d, want %d", got, tt.executed)
			}
			wantFired(t, o, 1)
			wantCode(t, "the next call", message(t, s, token), 0)
			wantFired(t, o, 1)
		})
	}
}

func TestFaultsOfTheTokenEndpoints(t *testing.T) {
	s := start(t, Options{})
	body := `{"grant_type":"client_credential","appid":"` + DefaultAppID + `","secret":"` + DefaultSecret + `"}`
	for _, code := range []int{40164, 40125, 40243, 89503, -1, 45009} {
		o := s.Order(Fault{Path: "/cgi-bin/*", AppID: DefaultAppID, ErrCode: code, Times: 2})
		wantCode(t, "token", callJSON(t, s, "GET", tokenTarget(DefaultAppID, DefaultSecret), "", nil), code)
		wantCode(t, "stable token", callJSON(t, s, "POST", pathStable, body, nil), code)
		wantFired(t, o, 2)
	}
	o := s.Order(Fault{Path: pathStable, ErrCode: 40164})
	_, got := send(t, s, "POST", pathStable, body)
	if want := `{"errcode":40164,"errmsg":"invalid ip 1.2.3.4 ipv6 ::ffff:1.2.3.4, not in whitelist rid: `; !strings.HasPrefix(string(got), want) {
		t.Errorf("answer = %s, want %s", got, want)
	}
	wantFired(t, o, 1)
	if got := s.Tokens(""); len(got) != 0 {
		t.Errorf("tokens = %q, want none", got)
	}
}

func TestWhichCallsAFaultMeets(t *testing.T) {
	const other = "wx00000000000000aa"
	s := start(t, Options{Apps: []App{{}, {AppID: other}}})
	one, two := fetch(t, s, DefaultAppID), fetch(t, s, other)
	run := func(f Fault, tokens ...string) string {
		t.Helper()
		o := s.Order(f)
		defer o.Cancel()
		var codes []string
		var fired int
		for _, token := range tokens {
			code := message(t, s, token)
			if code != 0 {
				fired++
			}
			codes = append(codes, fmt.Sprint(code))
		}
		wantFired(t, o, fired)
		return strings.Join(codes, " ")
	}
	tests := []struct {
		name   string
		fault  Fault
		tokens []string
		want   string
	}{
		{"once", Fault{}, []string{one, one}, "-1 0"},
		{"twice", Fault{Times: 2}, []string{one, one, one}, "-1 -1 0"},
		{"for ever", Fault{Times: -1}, []string{one, one, one}, "-1 -1 -1"},
		{"after two", Fault{After: 2}, []string{one, one, one, one}, "0 0 -1 0"},
		{"of an app", Fault{AppID: other}, []string{one, two, two}, "0 -1 0"},
		{"of an app, after one", Fault{AppID: other, After: 1}, []string{two, one, two}, "0 0 -1"},
		{"elsewhere", Fault{Path: "/cgi-bin/menu/get"}, []string{one}, "0"},
		{"a family", Fault{Path: "/cgi-bin/message/*"}, []string{one}, "-1"},
		{"another family", Fault{Path: "/cgi-bin/menu/*"}, []string{one}, "0"},
	}
	for _, tt := range tests {
		tt.fault.ErrCode = -1
		if got := run(tt.fault, tt.tokens...); got != tt.want {
			t.Errorf("%s: errcodes %s, want %s", tt.name, got, tt.want)
		}
	}

	first, second := s.Order(Fault{ErrCode: 1, After: 1}), s.Order(Fault{ErrCode: 2})
	for i, want := range []int{2, 1, 0} {
		wantCode(t, fmt.Sprint("two faults, call ", i), message(t, s, one), want)
	}
	wantFired(t, first, 1)
	wantFired(t, second, 1)

	made := s.Order(Fault{Path: "/cgi-bin/new", Body: `{"own":1}`, Times: -1})
	if _, got := send(t, s, "GET", "/cgi-bin/new", ""); string(got) != `{"own":1}` {
		t.Errorf("a path of one's own: %s", got)
	}
	wantFired(t, made, 1)
	s.Reset()
	wantCode(t, "after Reset", callJSON(t, s, "GET", "/cgi-bin/new", "", nil), 40066)
	wantFired(t, made, 1)
}

func TestResets(t *testing.T) {
	tests := []struct {
		name     string
		fault    Fault
		executed int64
		err      error // what ends the connection; nil: its end
	}{
		{"before", Fault{ResetBefore: true}, 0, syscall.ECONNRESET},
		{"after", Fault{ResetAfter: true}, 1, syscall.ECONNRESET},
		{"before, politely", Fault{ResetBefore: true, FIN: true}, 0, nil},
		{"after, politely", Fault{ResetAfter: true, FIN: true}, 1, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, Options{})
			token := fetch(t, s, DefaultAppID)
			o := s.Order(tt.fault)
			got, err := raw(t, s, "POST "+sendPath+"?access_token="+token+" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
			if got != "" {
				t.Errorf("answer = %q, want none", got)
			}
			if !errors.Is(err, tt.err) {
				t.Errorf("error = %v, want %v", err, tt.err)
			}
			wantFired(t, o, 1)
			if got := s.Executed("", sendPath); got != tt.executed {
				t.Errorf("Executed = %d, want %d", got, tt.executed)
			}
			if got := s.Calls("", sendPath); got != 1 {
				t.Errorf("Calls = %d, want 1", got)
			}
		})
	}
}

// TestLostTokenAnswer: the token is made all the same, and the one before it begins to end.
func TestLostTokenAnswer(t *testing.T) {
	s := start(t, Options{})
	first := fetch(t, s, DefaultAppID)
	o := s.Order(Fault{Path: pathToken, ResetAfter: true})
	if got, err := raw(t, s, "GET "+tokenTarget(DefaultAppID, DefaultSecret)+" HTTP/1.1\r\nHost: x\r\n\r\n"); err == nil {
		t.Errorf("answer = %q, want a reset", got)
	}
	wantFired(t, o, 1)
	s.Advance(5 * time.Minute)
	wantCode(t, "the token before", try(t, s, first), 40001)
	if got := s.Executed("", pathToken); got != 2 {
		t.Errorf("Executed = %d, want 2", got)
	}
}

func TestResetOverTLS(t *testing.T) {
	sb := New(Options{})
	srv := httptest.NewTLSServer(sb)
	defer srv.Close()
	o := sb.Order(Fault{ResetBefore: true})
	pool := srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	d := tls.Dialer{Config: &tls.Config{RootCAs: pool, ServerName: "example.com"}}
	conn, err := d.DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) || len(got) > 0 {
		t.Errorf("answer = %q, error %v; want a reset", got, err)
	}
	wantFired(t, o, 1)
}

// TestResetWithoutConnection: a ResponseWriter that has none to take is aborted.
func TestResetWithoutConnection(t *testing.T) {
	s := New(Options{})
	o := s.Order(Fault{ResetBefore: true})
	defer func() {
		if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
			t.Errorf("panic = %v, want ErrAbortHandler", err)
		}
		wantFired(t, o, 1)
	}()
	s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", http.NoBody))
}

// TestTransportSendsTwice shows why a gateway needs this judge: net/http repeats a GET whose kept
// connection breaks, so two calls of a client are three executed.
func TestTransportSendsTwice(t *testing.T) {
	for _, fin := range []bool{false, true} {
		t.Run(fmt.Sprintf("fin=%t", fin), func(t *testing.T) {
			s := start(t, Options{})
			target := "/cgi-bin/menu/get?access_token=" + fetch(t, s, DefaultAppID)
			o := s.Order(Fault{Path: "/cgi-bin/menu/get", After: 1, ResetAfter: true, FIN: fin})
			for range 2 {
				wantCode(t, "call", callJSON(t, s, "GET", target, "", nil), 0)
			}
			wantFired(t, o, 1)
			if got := s.Executed("", "/cgi-bin/menu/get"); got != 3 {
				t.Errorf("Executed = %d, want 3", got)
			}
		})
	}
}

func TestTruncatedBody(t *testing.T) {
	s := start(t, Options{})
	token := fetch(t, s, DefaultAppID)
	for _, f := range []Fault{{TruncateBody: true}, {TruncateBody: true, Status: 502}, {TruncateBody: true, Status: 412}} {
		o := s.Order(f)
		res, err := http.Post(s.URL+sendPath+"?access_token="+token, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("reading the body: %v, want an unexpected EOF", err)
		}
		if int64(len(got)) != res.ContentLength/2 {
			t.Errorf("%d of %d bytes, want half", len(got), res.ContentLength)
		}
		if err := res.Body.Close(); err != nil {
			t.Error(err)
		}
		wantFired(t, o, 1)
	}
	if got := s.Executed("", sendPath); got != 1 {
		t.Errorf("Executed = %d, want 1", got)
	}
}

// TestWaits runs in a bubble whose clock jumps: the waits are exact and take no time.
func TestWaits(t *testing.T) {
	tests := []struct {
		name  string
		fault Fault
		want  time.Duration
	}{
		{"before", Fault{Delay: time.Hour}, time.Hour},
		{"after", Fault{DelayAnswer: time.Hour}, time.Hour},
		{"both", Fault{Delay: time.Hour, DelayAnswer: time.Minute}, time.Hour + time.Minute},
		{"each byte", Fault{SlowBody: time.Second, Body: "12345"}, 5 * time.Second},
		{"each 64th", Fault{SlowBody: time.Second, Body: strings.Repeat("x", 6400)}, 64 * time.Second},
		{"each byte of half", Fault{SlowBody: time.Second, Body: "123456", TruncateBody: true}, 3 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Options{})
				o := s.Order(tt.fault)
				w := httptest.NewRecorder()
				begin := time.Now()
				func() {
					defer func() {
						if p := recover(); (p != nil) != tt.fault.TruncateBody {
							t.Errorf("panic = %v", p)
						}
					}()
					s.ServeHTTP(w, httptest.NewRequest("GET", "/", http.NoBody))
				}()
				if got := time.Since(begin); got != tt.want {
					t.Errorf("took %s, want %s", got, tt.want)
				}
				if tt.fault.Body != "" && !tt.fault.TruncateBody && w.Body.String() != tt.fault.Body {
					t.Errorf("body = %q, want %q", w.Body, tt.fault.Body)
				}
				wantFired(t, o, 1)
			})
		})
	}
}

func TestHold(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault Fault
		held  int64 // executed while it is held
	}{
		{"before execution", Fault{Path: sendPath, Hold: true}, 0},
		{"after execution", Fault{Path: sendPath, HoldAnswer: true}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, Options{})
			token := fetch(t, s, DefaultAppID)
			o := s.Order(tt.fault)
			synced := make(chan struct{})
			go func() {
				defer close(synced)
				w := httptest.NewRecorder()
				s.ServeHTTP(w, httptest.NewRequest("POST", sendPath+"?access_token="+token, strings.NewReader("{}")))
				if got := w.Body.String(); got != `{"errcode":0,"errmsg":"ok"}` {
					t.Errorf("answer = %s", got)
				}
			}()
			<-o.Begun()
			for deadline := time.Now().Add(10 * time.Second); s.Executed("", sendPath) != tt.held; {
				if time.Now().After(deadline) {
					t.Fatalf("Executed = %d, want %d", s.Executed("", sendPath), tt.held)
				}
			}
			select {
			case <-synced:
				t.Error("answered before Release")
			default:
			}
			o.Release()
			<-synced
			o.Release() // again: nothing to do
			wantFired(t, o, 1)
			if got := s.Executed("", sendPath); got != 1 {
				t.Errorf("Executed = %d, want 1", got)
			}
		})
	}
}

// TestDeadToken: stable_token keeps handing the dead token out until somebody forces a refresh.
func TestDeadToken(t *testing.T) {
	s := start(t, Options{})
	stable := fetchStable(t, s, false).Token
	o := s.Order(Fault{DeadToken: true})
	if got := fetchStable(t, s, false).Token; got != stable {
		t.Error("another token before it was used")
	}
	wantFired(t, o, 0) // a fetch shows no token
	wantCode(t, "unknown token", try(t, s, "x"), 40014)
	wantFired(t, o, 0)
	wantCode(t, "dying", try(t, s, stable), 40001)
	wantFired(t, o, 1)
	wantCode(t, "dead", try(t, s, stable), 40001)
	if got := fetchStable(t, s, false).Token; got != stable {
		t.Error("stable_token gave another token than the dead one")
	}
	fresh := fetchStable(t, s, true).Token
	if fresh == stable {
		t.Fatal("force_refresh gave the dead token")
	}
	wantCode(t, "fresh", try(t, s, fresh), 0)
	if got := s.Executed("", ""); got != 1 {
		t.Errorf("Executed = %d, want 1", got)
	}
}
