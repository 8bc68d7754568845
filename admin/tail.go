package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"wxproxy/tail"
)

const (
	// heartbeat is how often a stream without calls has a line: an empty one, which jq and most readers of lines of
	// JSON pass over. Proxies close what is silent for a minute, some for 30 s.
	heartbeat = 15 * time.Second

	// tailBuffer is what the kernel keeps for a client that does not read. By itself it takes megabytes.
	tailBuffer = 32 << 10
)

type connKey struct{}

// WithConn returns a context of a connection's requests that knows the connection.
func WithConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// tail streams the lines of the access log as calls end, one JSON object each, until the client goes or the gateway
// stops. {"dropped":N} stands where the client was too slow for N lines.
func (a *Admin) tail(w http.ResponseWriter, r *http.Request) {
	if a.o.Tail == nil {
		notOffered(w, "tail")
		return
	}
	filter, ok := a.tailFilter(w, r)
	if !ok {
		return
	}
	watcher, err := a.o.Tail.Watch(filter)
	if err != nil {
		reply(w, http.StatusServiceUnavailable, problem{Error: "tail: " + err.Error()})
		return
	}
	defer watcher.Close()
	if c, ok := r.Context().Value(connKey{}).(interface{ SetWriteBuffer(bytes int) error }); ok {
		_ = c.SetWriteBuffer(tailBuffer) // a hint
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // the server's bounds a request, and this one lasts
	w.Header().Set("Content-Type", "application/x-ndjson; charset=utf-8")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep lines back
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for err := control.Flush(); err == nil; err = control.Flush() {
		select {
		case <-r.Context().Done():
			return
		case <-a.o.Tail.Done():
			return
		case line := <-watcher.Lines():
			err = writeLines(w, watcher, line)
		case <-beat.C:
			err = writeDropped(w, watcher.Dropped())
			if err == nil {
				_, err = w.Write([]byte{'\n'})
			}
		}
		if err != nil {
			return // the client has gone, or takes nothing
		}
	}
}

// writeLines writes a line and those that wait behind it.
func writeLines(w http.ResponseWriter, watcher *tail.Watcher, line tail.Line) error {
	for {
		if err := writeDropped(w, line.Dropped); err != nil {
			return err
		}
		if _, err := w.Write(line.Text); err != nil {
			return err
		}
		select {
		case line = <-watcher.Lines():
		default:
			return nil
		}
	}
}

func writeDropped(w http.ResponseWriter, n int64) error {
	if n == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "{\"dropped\":%d}\n", n)
	return err
}

// tailFilter reads which calls are asked for. When it returns false it has answered.
func (a *Admin) tailFilter(w http.ResponseWriter, r *http.Request) (tail.Filter, bool) {
	query := r.URL.Query()
	f := tail.Filter{Rule: query.Get("rule"), Caller: query.Get("caller"), Decision: query.Get("decision"), Reason: query.Get("reason")}
	wrong := func(name, want string) (tail.Filter, bool) {
		reply(w, http.StatusBadRequest, problem{Error: name + " " + strings.ToValidUTF8(query.Get(name), "?") + ": want " + want})
		return f, false
	}
	if name := query.Get("app"); name != "" {
		app, ok := a.app(w, name)
		if !ok {
			return f, false
		}
		f.AppID = app.AppID
	}
	if text := query.Get("errcode"); text != "" {
		code, err := strconv.Atoi(text)
		if err != nil {
			return wrong("errcode", "a whole number, as in 45009")
		}
		f.Errcode = &code
	}
	if text := query.Get("refused"); text != "" {
		var err error
		if f.Refused, err = strconv.ParseBool(text); err != nil {
			return wrong("refused", "1 or 0")
		}
	}
	return f, true
}
