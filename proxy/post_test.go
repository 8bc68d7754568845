package proxy

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"wxproxy/wechat"
)

const ownPath = "/cgi-bin/user/info"

// A call of the gateway's own needs no proof, and is counted, logged and given the token like any.
func TestPost(t *testing.T) {
	u := newUpstream(t, nil)
	g := newGateway(t, u.URL, func(o *Options) { o.Anonymous = AnonymousNever })
	answer, sent, err := g.h.Post(t.Context(), testAppID, ownPath, []byte(`{"a":1}`))
	if err != nil || !sent || string(answer) != okText {
		t.Fatalf("Post() = %s, %t, %v", answer, sent, err)
	}
	got := u.last(t)
	if got.Target != ownPath+"?access_token="+testToken || got.Body != `{"a":1}` || got.Method != http.MethodPost {
		t.Errorf("sent %+v", got)
	}
	if n := g.limiter.counted(t); n != 1 {
		t.Errorf("counted %d, want 1", n)
	}
	rec := g.nextRecord(t)
	if rec.UserAgent != "wxproxy" || rec.App != "shop" || rec.Decision != "pass" || rec.Status != 200 {
		t.Errorf("logged %+v", rec)
	}
}

func TestPostWithoutAnAnswer(t *testing.T) {
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("do") {
		case "hang":
			<-r.Context().Done()
		case "break":
			w.Header().Set("Content-Length", "1000")
			answerOK(w, r)
		case "large":
			w.Write([]byte(strings.Repeat("x", maxPostAnswer+1)))
		default:
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	g := newGateway(t, u.URL, nil)
	for _, do := range []string{"hang", "break", "large", "status"} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if answer, sent, err := g.h.Post(ctx, testAppID, ownPath+"?do="+do, nil); err == nil || !sent {
			t.Errorf("%s: Post() = %.50q, %t, %v, want an error of a call that was sent", do, answer, sent, err)
		}
		cancel()
	}
	if answer, sent, err := g.h.Post(t.Context(), "wx0000000000000009", ownPath, nil); err != nil || sent || string(answer) != wechat.InvalidAppID.Body() {
		t.Errorf("an app that is not configured: %s, %v, want 40013", answer, err)
	}
	if _, sent, err := g.h.Post(t.Context(), testAppID, "/nowhere", nil); sent || !errors.Is(err, errNoAnswer) {
		t.Errorf("a path outside of the table: %v, want %v", err, errNoAnswer)
	}
}
