package token_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wxproxy/token"
	facts "wxproxy/wechat"
)

// What is no token never takes the place of one, and is asked for again a second later.
func TestUnavailable(t *testing.T) {
	long := strings.Repeat("c4n4ry", 400)
	tests := []struct {
		name   string
		answer string
		status int
		want   string // in the error
	}{
		{name: "busy", answer: `{"errcode":-1,"errmsg":"system error"}`, want: "errcode -1, WeChat is busy"},
		{name: "busy, as a text", answer: `{"errcode":"-1"}`, want: "errcode -1, WeChat is busy"},
		{name: "bad gateway", status: http.StatusBadGateway, answer: "<html>c4n4ry</html>", want: "HTTP status 502: want 200"},
		{name: "length required", status: http.StatusPreconditionFailed, want: "HTTP status 412: want 200"},
		{name: "redirect", status: http.StatusFound, want: "HTTP status 302: want 200"},
		{name: "a page", answer: "<html>c4n4ry</html>", want: "the answer is not the JSON object that was expected"},
		{name: "no object", answer: `["c4n4ry"]`, want: "the answer is not the JSON object that was expected"},
		{name: "nothing", answer: `{}`, want: "access_token of 0 bytes: want 1 to 2048 of A-Z a-z 0-9 - . _ ~ ="},
		{name: "errcode 0", answer: `{"errcode":0,"errmsg":"ok"}`, want: "access_token of 0 bytes"},
		{name: "empty token", answer: `{"access_token":"","expires_in":7200}`, want: "access_token of 0 bytes"},
		{name: "odd token", answer: `{"access_token":"c4n4ry&secret=1","expires_in":7200}`, want: "access_token of 15 bytes"},
		{name: "long token", answer: `{"access_token":"` + long + `","expires_in":7200}`, want: "access_token of 2400 bytes"},
		{name: "long answer", answer: `{"access_token":"` + strings.Repeat(long, 40) + `","expires_in":7200}`, want: "the answer is longer than 65536 bytes"},
		{name: "no end", answer: `{"access_token":"c4n4ry"}`, want: "expires_in 0: want more than 0"},
		{name: "past end", answer: `{"access_token":"c4n4ry","expires_in":-5}`, want: "expires_in -5: want more than 0"},
		{name: "no number", answer: `{"access_token":"c4n4ry","expires_in":"c4n4ry"}`, want: "the answer is not the JSON object that was expected"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWeChat()
				s := newStand(t, token.Options{Store: file(t), Transport: w})
				s.want(t, nth(1))
				w.kick()
				w.set(func(w *wechat) { w.answer, w.status = tt.answer, tt.status })
				for range 3 {
					_, err := s.Renew(t.Context(), appid, nth(1))
					if !errors.Is(err, token.ErrUnavailable) || !strings.Contains(err.Error(), tt.want) {
						t.Errorf("Renew = %v, want ErrUnavailable with %q", err, tt.want)
					}
					wantQuiet(t, err)
				}
				wantRequests(t, w, 2)
				s.want(t, nth(1)) // still the best there is
				time.Sleep(time.Second)
				w.set(func(w *wechat) { w.answer, w.status = "", 0 })
				s.wantRenewed(t, nth(1), nth(2))
				if got := s.kinds(); strings.Contains(got, "opened") {
					t.Errorf("events %s: want that nothing is blocked", got)
				}
			})
		})
	}
}

func TestOddAnswersThatWillDo(t *testing.T) {
	tests := []struct{ name, answer, want string }{
		{"text for a number", ` {"access_token":"abc","expires_in":"7200","errcode":"0"}`, "abc"},
		{"null", `{"access_token":"abc","expires_in":7200,"errcode":null}`, "abc"},
		{"as long as can be", `{"access_token":"` + strings.Repeat("x", 2048) + `","expires_in":7200}`, strings.Repeat("x", 2048)},
		{"no end in sight", `{"access_token":"a-._~=Z9","expires_in":9223372036854775807}`, "a-._~=Z9"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWeChat()
			w.answer = tt.answer
			s := newStand(t, token.Options{Store: file(t), Upstream: server(t, w)})
			s.want(t, tt.want)
			if left := time.Until(s.expires()); left > 24*time.Hour || left < time.Hour {
				t.Errorf("it ends in %s", left)
			}
		})
	}
}

// net/http puts the URL into its errors, and the URL of the classic endpoint holds the secret.
func TestNoAnswer(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	tests := []struct {
		name     string
		upstream string
		tr       http.RoundTripper
	}{
		{"nobody there", closed.URL, nil},
		{"no such host", "http://nowhere.invalid", nil},
		{"no URL", "http://[::1", nil},
		{"no scheme", "nowhere", nil},
		{"a transport that tells all", "", tellAll{}},
	}
	for _, tt := range tests {
		for _, endpoint := range []string{"stable_token", "token"} {
			t.Run(tt.name+" "+endpoint, func(t *testing.T) {
				s := newStand(t, token.Options{Upstream: tt.upstream, Transport: tt.tr, Endpoint: endpoint})
				_, err := s.Token(t.Context(), appid)
				if !errors.Is(err, token.ErrUnavailable) {
					t.Errorf("Token = %v, want ErrUnavailable", err)
				}
				wantQuiet(t, err)
				if tt.name == "nobody there" && !strings.HasSuffix(err.Error(), "connect: connection refused") {
					t.Errorf("Token = %v, want why", err)
				}
			})
		}
	}
}

// tellAll fails with what it was given.
type tellAll struct{}

func (tellAll) RoundTrip(r *http.Request) (*http.Response, error) {
	var body [512]byte
	n, _ := r.Body.Read(body[:])
	return nil, fmt.Errorf("cannot send %s %s %s", r.Method, r.URL, body[:n])
}

func wantQuiet(t *testing.T, err error) {
	t.Helper()
	for _, text := range []string{fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err), err.Error()} {
		for _, canary := range []string{"c4n4ry", "canary", "http://", "grant_type"} {
			if strings.Contains(text, canary) {
				t.Errorf("error %s tells %s", text, canary)
			}
		}
	}
}

// Whatever is printed of what the package hands out, no secret and no token is in it. Events are
// looked at as they come.
func TestNothingIsTold(t *testing.T) {
	w := newWeChat()
	s := newStand(t, token.Options{Store: file(t), Upstream: server(t, w)})
	s.want(t, nth(1))
	s.wantRenewed(t, nth(1), nth(2))
	w.set(func(w *wechat) { w.answer = `{"errcode":40125,"errmsg":"` + secret + ` is no secret of ours"}` })
	_, err := s.Renew(t.Context(), appid, nth(2))
	var rejected *token.Rejected
	if !errors.As(err, &rejected) {
		t.Fatalf("Renew = %v, want a *Rejected", err)
	}
	if got, want := answerOf(rejected), `{"errcode":40125,"errmsg":"refused"}`; got != want {
		t.Errorf("Answer() = %s, want %s", got, want)
	}
	app := token.App{AppID: appid, Secret: secret}
	for _, v := range []any{err, rejected, *rejected, app, &app, []token.App{app}, map[string]token.App{"a": app}} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			text := fmt.Sprintf(format, v)
			if strings.Contains(text, "canary") || strings.Contains(text, "c4n4ry") || strings.Contains(text, fmt.Sprintf("%x", "canary")) {
				t.Errorf("%s of %T is %s", format, v, text)
			}
		}
	}
}

// A body that is not one of WeChat's is not handed on.
func TestLongRefusal(t *testing.T) {
	w := newWeChat()
	w.answer = `{"errcode":40013,"errmsg":"` + strings.Repeat("x", 5000) + `"}`
	s := newStand(t, token.Options{Store: file(t), Upstream: server(t, w)})
	_, err := s.Token(t.Context(), appid)
	var rejected *token.Rejected
	if !errors.As(err, &rejected) || answerOf(rejected) != `{"errcode":40013,"errmsg":"refused"}` {
		t.Errorf("Token = %v, want a *Rejected with a short answer", err)
	}
	if want := "token of " + appid + ": WeChat refuses it with errcode 40013"; err.Error() != want {
		t.Errorf("Token = %v, want %s", err, want)
	}
}

// WeChat carries out the second request on a connection that was kept, and closes it without an
// answer. net/http would send many a request again, which nobody would count.
func TestNothingIsSentTwice(t *testing.T) {
	for _, endpoint := range []string{"stable_token", "token"} {
		t.Run(endpoint, func(t *testing.T) {
			var executed atomic.Int32
			srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
				if executed.Add(1) == 2 {
					conn, _, err := rw.(http.Hijacker).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					_ = conn.(*net.TCPConn).SetLinger(0)
					conn.Close()
					return
				}
				fmt.Fprintf(rw, `{"access_token":"t%d","expires_in":7200}`, executed.Load())
			}))
			defer srv.Close()
			kept := srv.Client().Transport.(*http.Transport) // keeps its connections
			s := newStand(t, token.Options{Upstream: srv.URL, Endpoint: endpoint, Transport: kept})
			s.want(t, "t1")
			if _, err := s.Renew(t.Context(), appid, "t1"); !errors.Is(err, token.ErrUnavailable) {
				t.Errorf("Renew = %v, want ErrUnavailable", err)
			}
			if got := executed.Load(); got != 2 {
				t.Errorf("WeChat carried out %d requests, want 2", got)
			}
			if got := len(s.counts); got != 2 {
				t.Errorf("%d counted, want 2", got)
			}
		})
	}
}

// answerOf returns WeChat's body in an error, as package proxy finds it.
func answerOf(err error) string {
	answer, _ := errors.AsType[facts.Answer](err)
	return string(answer)
}
