package main

import (
	"context"
	"errors"
	"time"

	"wxproxy/admin"
	"wxproxy/limits"
)

// timedCounters measures what the counters ask of the store.
type timedCounters struct {
	limits.Counters
	metrics *admin.Metrics
}

// Exchange implements [limits.Counters].
func (c timedCounters) Exchange(ctx context.Context, r *limits.Request) (*limits.Answer, error) {
	begun := time.Now()
	a, err := c.Counters.Exchange(ctx, r)
	result := c.took("count", begun, err)
	if result == tookNoAnswer || err == nil && a.Retried {
		c.metrics.Indeterminate()
	}
	return a, err
}

// Heartbeat implements [limits.Counters].
func (c timedCounters) Heartbeat(ctx context.Context) (int64, error) {
	begun := time.Now()
	n, err := c.Counters.Heartbeat(ctx)
	c.took("heartbeat", begun, err)
	return n, err
}

// Read implements [limits.Counters].
func (c timedCounters) Read(ctx context.Context, queries []limits.Query) ([]map[string]limits.CounterState, error) {
	begun := time.Now()
	found, err := c.Counters.Read(ctx, queries)
	c.took("read", begun, err)
	return found, err
}

// Probe implements [limits.Counters].
func (c timedCounters) Probe(ctx context.Context, app, counter string, gap time.Duration) (bool, error) {
	begun := time.Now()
	turn, err := c.Counters.Probe(ctx, app, counter, gap)
	c.took("probe", begun, err)
	return turn, err
}

// Pace implements [limits.Counters].
func (c timedCounters) Pace(ctx context.Context, app, rule string, p limits.Pace, calls int) (time.Duration, error) {
	begun := time.Now()
	wait, err := c.Counters.Pace(ctx, app, rule, p, calls)
	c.took("pace", begun, err)
	return wait, err
}

// The results of a request.
const (
	tookOK       = "ok"
	tookError    = "error"
	tookNoAnswer = "no_answer"
)

// took counts a request that has ended, and returns its result. A damaged field is an answer.
func (c timedCounters) took(op string, begun time.Time, err error) string {
	result := tookOK
	if _, refused := errors.AsType[*limits.StoreError](err); refused {
		result = tookError
	} else if _, damaged := errors.AsType[*limits.DamagedError](err); err != nil && !damaged {
		result = tookNoAnswer
	}
	c.metrics.Store(op, result, time.Since(begun))
	return result
}
