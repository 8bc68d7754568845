package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"wxproxy/sandbox"
)

func TestRecovering(t *testing.T) {
	t.Parallel()
	abort := func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
	for _, tt := range []struct {
		name   string
		handle func(http.ResponseWriter)
		status int    // 0: the connection closes without an answer
		body   string // what of it the client sees
		whole  bool   // and that is all of it
		kind   string // of the panic; "" when none is counted
		reason string
	}{
		{"none", func(w http.ResponseWriter) { _, _ = io.WriteString(w, "ok") }, 200, "ok", true, "", ""},
		{"abort", abort, 0, "", false, "", ""},
		{"before the answer", func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000")
			w.Header().Set("Content-Encoding", "gzip")
			panic("quotes " + canaryOld)
		}, 502, "internal error\n", true, "string", "not logged: it may quote the request"},
		{"an error", func(http.ResponseWriter) { panic(fmt.Errorf("quotes %s: %w", canaryOld, os.ErrNotExist)) }, 502, "internal error\n", true, "*fmt.wrapError", "not logged: it may quote the request"},
		{"a runtime error", func(http.ResponseWriter) {
			_ = strings.Split("", ",")[len(canaryOld)]
		}, 502, "internal error\n", true, "runtime.boundsError", "runtime error: index out of range [34] with length 1"},
		{"header written", func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusOK)
			panic("test")
		}, 200, "", false, "string", "not logged: it may quote the request"},
		{"in the answer", func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, "begun")
			panic("test")
		}, 200, "begun", false, "string", "not logged: it may quote the request"},
		{"in an answer of known length", func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "begun")
			panic("test")
		}, 200, "begun", false, "string", "not logged: it may quote the request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			core, logs := observer.New(zap.ErrorLevel)
			counted := 0
			l := listenHere(t)
			server := newServer(t.Context(), recovering(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { tt.handle(w) }), zap.New(core), func() { counted++ }), zap.New(core))
			served := make(chan error, 1)
			go func() { served <- server.Serve(l) }()
			client := dialWire(t, l.Addr().String())
			client.send(t, "POST / HTTP/1.1\nHost: HOST\nContent-Length: 1\n\nx")
			response, err := http.ReadResponse(bufio.NewReader(client), nil)
			if tt.status == 0 {
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("an answer, %v, want none", err)
				}
			} else if err != nil {
				t.Fatal(err)
			} else {
				defer response.Body.Close()
				body, err := io.ReadAll(response.Body)
				if response.StatusCode != tt.status || string(body) != tt.body || (err == nil) != tt.whole {
					t.Errorf("%d %q, %v, want %d %q, whole: %t", response.StatusCode, body, err, tt.status, tt.body, tt.whole)
				}
				if tt.status == 502 && (!response.Close || response.Header.Get("Content-Encoding") != "") {
					t.Errorf("headers %v, close: %t, want none of the handler's, and a connection that closes", response.Header, response.Close)
				}
			}
			if err := server.Shutdown(context.WithoutCancel(t.Context())); err != nil {
				t.Fatal(err)
			}
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
			if tt.kind == "" {
				if counted != 0 || logs.Len() != 0 {
					t.Errorf("%d counted, log %v, want none", counted, logs.All())
				}
				return
			}
			if counted != 1 || logs.Len() != 1 {
				t.Fatalf("%d counted, log %v, want one", counted, logs.All())
			}
			fields := logs.All()[0].ContextMap()
			if stack, _ := fields["stack"].(string); fields["type"] != tt.kind || fields["reason"] != tt.reason || !strings.Contains(stack, "recovering_test.go") {
				t.Errorf("the log has %v, want type %s, reason %q and the stack of the handler", fields, tt.kind, tt.reason)
			}
			if text := fmt.Sprint(fields); strings.Contains(text, canaryOld) {
				t.Errorf("the log quotes the panic: %s", text)
			}
		})
	}
}

// The gateway's handler is behind recovering, and its panics are counted.
func TestPanicsAreCounted(t *testing.T) {
	t.Parallel()
	g, logs := open(t, writeSmall(t, newWechat(t, sandbox.Options{})))
	l := listenHere(t)
	server := newServer(t.Context(), g.front(), g.log)
	operators := listenHere(t)
	adminServer := newServer(t.Context(), g.admin, g.log)
	for _, serve := range []func() error{func() error { return server.Serve(l) }, func() error { return adminServer.Serve(operators) }} {
		go func() { _ = serve() }()
	}
	defer server.Close()
	defer adminServer.Close()
	handler := g.handler
	g.handler = nil
	if a := do(t, "GET", "http://"+l.Addr().String()+"/cgi-bin/user/info", nil); a.status != 502 {
		t.Errorf("a panic in the handler: %v, want 502", a)
	}
	g.handler = handler
	if n := metricOf(t, client, "http://"+operators.Addr().String(), "wxproxy_panics_total"); n != "1" {
		t.Errorf("wxproxy_panics_total %s, want 1", n)
	}
	if logs.FilterMessage("panic in a handler").Len() != 1 {
		t.Errorf("log %v, want one entry of the panic", logs.All())
	}
}
