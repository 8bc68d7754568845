package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server is a Sandbox that listens.
type Server struct {
	*Sandbox
	URL string // http://host:port, without a slash at the end

	srv    *http.Server
	served chan error // what Serve returned, once

	close sync.Once
	mu    sync.Mutex // covers busy, closed
	idle  sync.Cond  // busy came down to 0
	busy  int        // requests being answered
	done  bool       // Close was called
}

// NewServer listens on a free port of 127.0.0.1, like httptest.NewServer, and panics if there is
// none. The caller closes it.
func NewServer(o Options) *Server {
	s, err := Listen("127.0.0.1:0", o)
	if err != nil {
		panic("sandbox: " + err.Error())
	}
	return s
}

// Listen listens on a TCP address. The caller closes the server.
func Listen(addr string, o Options) (*Server, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	s := &Server{Sandbox: New(o), URL: "http://" + ln.Addr().String(), served: make(chan error, 1)}
	s.idle.L = &s.mu
	s.srv = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: time.Minute}
	go func() { s.served <- s.srv.Serve(ln) }()
	return s, nil
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.done {
		s.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	s.busy++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.busy--
		s.idle.Broadcast()
	}()
	s.ServeHTTP(w, r)
}

// Close stops listening, breaks every connection, lets delayed and held calls go, and returns
// when the last one has ended. What the sandbox counted stays readable.
func (s *Server) Close() error {
	var err error
	s.close.Do(func() {
		err = s.srv.Close()
		close(s.closing) // only now: what was held finds its connection broken
		if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.done = true
		for s.busy > 0 {
			s.idle.Wait()
		}
	})
	return err
}
