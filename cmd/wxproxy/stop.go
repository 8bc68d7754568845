package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"wxproxy/proxy"
)

// shutdownGrace bounds what follows the signal to stop, or the configured delay after it: the calls that
// run, and storing the last counts.
const shutdownGrace = 25 * time.Second

// lastAnswers is how long the calls that are ended have to be answered, and how long closing and the
// last counts have after that.
const lastAnswers = time.Second

// front is the handler of the main listener. Once the gateway stops, load balancers get 503 at
// /-/healthy, and each answer is the last one of its connection, so that the client's next call goes
// to another gateway.
func (g *gateway) front() http.Handler {
	return recovering(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.stopping.Load() {
			w.Header().Set("Connection", "close")
			if r.URL.Path == "/-/healthy" {
				http.Error(w, "stopping", http.StatusServiceUnavailable)
				return
			}
		}
		g.handler.ServeHTTP(w, r)
	}), g.seldom, g.metrics.Panic)
}

// acceptFailed logs and counts a connection that could not be accepted.
func (g *gateway) acceptFailed(err error) {
	g.metrics.AcceptError()
	g.seldom.Error("accept failed", zap.Error(err))
}

// drain closes the server's listener and waits until its calls are over. When they are not after
// patience, or when ctx ends, endCalls has them answered at once. What goes on after that is cut when
// the server is closed.
func drain(ctx context.Context, server *http.Server, patience time.Duration, log *zap.Logger, endCalls context.CancelCauseFunc) error {
	err := atMost(ctx, patience, server.Shutdown)
	if !ended(err) {
		return err
	}
	log.Warn("canceling calls in flight")
	endCalls(proxy.ErrStopping)
	if err = atMost(context.WithoutCancel(ctx), lastAnswers, server.Shutdown); !ended(err) {
		return err
	}
	log.Warn("closing connections")
	return nil
}

// ended reports whether err is that of a context which is over.
func ended(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// atMost returns what f returns, or the error of its context once that ends, after patience or with ctx:
// closing a TLS connection takes up to 5 s if its client reads nothing, and Shutdown closes one after
// the other.
func atMost(ctx context.Context, patience time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
