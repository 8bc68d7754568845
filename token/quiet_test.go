package token_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"wxproxy/token"
)

// raw serves the same bytes to every request, whatever they are, and closes the connection.
func raw(t *testing.T, answer string) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.Copy(io.Discard, r.Body)
			}
			_, _ = io.WriteString(conn, answer)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "http://" + l.Addr().String()
}

// net/http, net/textproto and net/url quote what they cannot read, and what cannot be read may hold the
// token.
func TestNoErrorQuotesAnAnswer(t *testing.T) {
	const (
		jsonHead = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
		good     = `{"access_token":"c4n4ry","expires_in":7200}`
	)
	for name, answer := range map[string]string{
		"status line":        "c4n4ry\r\n\r\n",
		"status code":        "HTTP/1.1 c4n4ry OK\r\n\r\n",
		"version":            "HTTP/c4n4ry 200 OK\r\n\r\n",
		"header line":        jsonHead + "c4n4ry\r\n\r\n" + good,
		"header name":        jsonHead + "c4n4ry é: 1\r\n\r\n" + good,
		"length":             jsonHead + "Content-Length: c4n4ry\r\n\r\n" + good,
		"transfer encoding":  jsonHead + "Transfer-Encoding: c4n4ry\r\n\r\n" + good,
		"chunk":              jsonHead + "Transfer-Encoding: chunked\r\n\r\nc4n4ry\r\n" + good,
		"trailer":            jsonHead + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nc4n4ry\r\n\r\n",
		"gzip":               jsonHead + "Content-Encoding: gzip\r\n\r\nc4n4ry",
		"broken off":         jsonHead + "Content-Length: 1000\r\n\r\n" + good,
		"location":           "HTTP/1.1 302 Found\r\nLocation: http://c4n4ry:c4n4ry/%zz?access_token=c4n4ry\r\nContent-Length: 0\r\n\r\n",
		"location elsewhere": "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://c4n4ry.invalid/\r\nContent-Length: 0\r\n\r\n",
		"reason phrase":      "HTTP/1.1 500 c4n4ry\r\nContent-Length: 0\r\n\r\n",
		"upgrade":            "HTTP/1.1 101 c4n4ry\r\nUpgrade: c4n4ry\r\nConnection: upgrade\r\n\r\nc4n4ry",
	} {
		for _, endpoint := range []string{"stable_token", "token"} {
			t.Run(name+" "+endpoint, func(t *testing.T) {
				s := newStand(t, token.Options{Upstream: raw(t, answer), Endpoint: endpoint})
				_, err := s.Token(t.Context(), appid)
				if !errors.Is(err, token.ErrUnavailable) {
					t.Errorf("Token = %v, want ErrUnavailable", err)
				}
				wantQuiet(t, err)
			})
		}
	}
}

// A refusal is handed to the callers, who are not to have the account's token.
func TestRefusalHoldsErrcodeAndErrmsgOnly(t *testing.T) {
	for _, tt := range []struct{ name, answer, want string }{
		{"a token", `{"errcode":40125,"errmsg":"no rid: 1-2-3","access_token":"c4n4ry"}`, `{"errcode":40125,"errmsg":"no rid: 1-2-3"}`},
		{"the secret", `{"errcode":40125,"errmsg":"` + secret + `"}`, `{"errcode":40125,"errmsg":"refused"}`},
		{"the secret, escaped", `{"errcode":40125,"errmsg":"\u0073` + secret[1:] + `"}`, `{"errcode":40125,"errmsg":"refused"}`},
		{"the secret elsewhere", `{"errcode":40125,"errmsg":"no","secret":"` + secret + `"}`, `{"errcode":40125,"errmsg":"no"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWeChat()
			w.answer = tt.answer
			s := newStand(t, token.Options{Upstream: server(t, w)})
			_, err := s.Token(t.Context(), appid)
			if rejected, ok := errors.AsType[*token.Rejected](err); !ok || answerOf(rejected) != tt.want {
				t.Errorf("Token = %v, want a *Rejected with %s", err, tt.want)
			}
		})
	}
}
