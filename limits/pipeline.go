package limits

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Limits of a pipeline.
const (
	maxTrips     = 4                // round trips at once: fewer than there are connections
	maxTogether  = 256              // commands of one round trip
	togetherSpan = time.Millisecond // a command waits for others only if one has just left
)

// pipeline sends commands to Redis, those that come at the same time together: under load a command
// of its own costs both sides more system calls than work, and would wait for a free connection. A
// command that finds nobody on the way makes its own round trip, without a hand-off. The others
// wait, and all go when a round trip ends.
type pipeline struct {
	redis.UniversalClient
	attempt time.Duration // bounds one round trip

	mu    sync.Mutex
	trips int       // round trips under way
	begun int64     // round trips so far
	left  time.Time // when the last one began
	queue []*passenger
}

// tripError is the error of a command, with the round trip that it was on: what befalls one befalls
// all commands on it.
type tripError struct {
	trip int64
	error
}

func (e *tripError) Unwrap() error { return e.error }

// passenger is a command that waits for a round trip, or is on one.
type passenger struct {
	cmd  redis.Cmder
	done chan struct{} // nil: it goes itself
	trip int64
}

// answer is the error that the command came back with.
func (w *passenger) answer() error {
	if err := w.cmd.Err(); err != nil {
		return &tripError{w.trip, err}
	}
	return nil
}

// do sends cmd and waits for its answer, for two round trips at most: that of others which is under
// way, and its own. When the context ends while cmd waits for the first, cmd does not go.
func (p *pipeline) do(ctx context.Context, cmd redis.Cmder) error {
	w := &passenger{cmd: cmd}
	p.mu.Lock()
	if p.trips == 0 || p.trips < maxTrips && time.Since(p.left) > togetherSpan {
		p.trips++
		all := p.board(w)
		p.mu.Unlock()
		p.travel(ctx, all)
		p.mu.Lock()
		if len(p.queue) > 0 {
			go p.shuttle() //nolint:gosec // G118: it goes for others, who may be there longer than this caller
		} else {
			p.trips--
		}
		p.mu.Unlock()
		return w.answer()
	}
	w.done = make(chan struct{})
	p.queue = append(p.queue, w)
	p.mu.Unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
		if p.leave(w) {
			return ctx.Err()
		}
		<-w.done
	}
	return w.answer()
}

// shuttle takes to Redis whoever waits, until nobody does.
func (p *pipeline) shuttle() {
	for {
		p.mu.Lock()
		if len(p.queue) == 0 {
			p.trips--
			p.mu.Unlock()
			return
		}
		all := p.board()
		p.mu.Unlock()
		p.travel(context.Background(), all)
	}
}

// board begins a round trip: with those who wait, and the caller itself. p.mu is held.
func (p *pipeline) board(self ...*passenger) []*passenger {
	n := min(len(p.queue), maxTogether)
	all := append(self, p.queue[:n]...)
	p.queue = p.queue[n:]
	p.begun++
	p.left = time.Now()
	for _, w := range all {
		w.trip = p.begun
	}
	return all
}

// travel makes one round trip. Each command has its own answer, or error.
func (p *pipeline) travel(ctx context.Context, all []*passenger) {
	ctx, cancel := context.WithTimeout(ctx, p.attempt)
	defer cancel()
	if len(all) == 1 {
		_ = p.Process(ctx, all[0].cmd)
	} else {
		together := p.Pipeline()
		for _, w := range all {
			_ = together.Process(ctx, w.cmd)
		}
		_, _ = together.Exec(ctx)
	}
	for _, w := range all {
		if w.done != nil {
			close(w.done)
		}
	}
}

// leave takes a command out of the queue. It reports false for one that is on its way.
func (p *pipeline) leave(w *passenger) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.queue, w)
	if i >= 0 {
		p.queue = slices.Delete(p.queue, i, i+1)
	}
	return i >= 0
}

// EvalSha overrides that of the client, for redis_rate.
func (p *pipeline) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	all := append(make([]any, 0, firstKey+len(keys)+len(args)), "evalsha", sha, len(keys))
	for _, key := range keys {
		all = append(all, key)
	}
	cmd := redis.NewCmd(ctx, append(all, args...)...)
	cmd.SetFirstKeyPos(firstKey)
	if err := p.do(ctx, cmd); err != nil {
		cmd.SetErr(err)
	}
	return cmd
}

// firstKey is where the keys of EVALSHA begin, for a cluster to find the server by.
const firstKey = 3
