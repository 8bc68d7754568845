package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
)

// maxPostAnswer bounds the answer to a call of the gateway's w.
const maxPostAnswer = 64 << 10

// Post makes a call of the gateway's own as a configured app, and returns its answer: WeChat's, or
// that of a refusal. The call goes the way of every other one, so it is counted and logged, has
// the account's token, and teaches what its answer teaches. An error means that there is no answer
// with status 200; the call may have been executed all the same, if sent says that it left.
func (h *Handler) Post(ctx context.Context, appid, path string, body []byte) (answer []byte, sent bool, err error) {
	// With a server in its context ReverseProxy breaks off an answer that breaks off.
	ctx = context.WithValue(ctx, http.ServerContextKey, &http.Server{}) //nolint:gosec // G112: it serves nobody
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, path, bytes.NewReader(body))
	if err != nil {
		return nil, false, err
	}
	r.RemoteAddr = "127.0.0.1:0"
	r.Header["User-Agent"] = []string{"wxproxy"}
	r.Header["Content-Type"] = []string{"application/json"}
	w := &postWriter{appid: appid, header: make(http.Header)}
	defer func() {
		if p := recover(); p == http.ErrAbortHandler { //nolint:errorlint,err113 // panicked with as it is
			answer, sent, err = nil, w.sent, fmt.Errorf("%s for %s: %w", path, appid, errNoAnswer)
		} else if p != nil {
			panic(p)
		}
	}()
	h.ServeHTTP(w, r)
	if w.status != http.StatusOK {
		return nil, w.sent, fmt.Errorf("%s for %s: %w: HTTP status %d", path, appid, errNoAnswer, w.status)
	}
	return w.body.Bytes(), w.sent, nil
}

var errNoAnswer = errors.New("no answer")

// postWriter keeps the answer to a call of the gateway's own, and marks the call as one: nobody else's
// has such a writer.
type postWriter struct {
	appid  string
	sent   bool
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *postWriter) Header() http.Header { return w.header }

func (w *postWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *postWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.body.Len()+len(p) > maxPostAnswer {
		return 0, http.ErrContentLength
	}
	return w.body.Write(p)
}
