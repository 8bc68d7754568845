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
	maxTrips     = 8                // round trips at once: fewer than a client's connections
	maxTogether  = 256              // commands of one round trip
	togetherSpan = time.Millisecond // a command waits for others only if one has just left
)

// pipeline sends commands to Redis, those that come at the same time together: under load a command
// of its own costs both sides more system calls than work, and would wait for a free connection. A
// command that finds nobody on the way makes its own round trip, without a hand-off. The others
// wait, and the first of them takes all to Redis when a round trip ends.
type pipeline struct {
	redis.UniversalClient
	attempt time.Duration // bounds one round trip

	mu    sync.Mutex
	trips int       // round trips under way
	left  time.Time // when the last one began
	queue []*passenger
}

// passenger is a command that waits for a round trip.
type passenger struct {
	cmd  redis.Cmder
	turn chan bool // of one; true: take the queue to Redis; false: cmd has its answer
}

// do sends cmd and waits for its answer. When the context ends first cmd must not be used any more.
func (p *pipeline) do(ctx context.Context, cmd redis.Cmder) error {
	now := time.Now()
	p.mu.Lock()
	if p.trips == 0 || p.trips < maxTrips && now.Sub(p.left) > togetherSpan {
		p.trips++
		p.mu.Unlock()
		return p.travel(ctx, cmd)
	}
	w := &passenger{cmd: cmd, turn: make(chan bool, 1)}
	p.queue = append(p.queue, w)
	p.mu.Unlock()
	select {
	case leads := <-w.turn:
		if leads {
			return p.travel(ctx, cmd)
		}
		return cmd.Err()
	case <-ctx.Done():
		p.leave(w)
		return ctx.Err()
	}
}

// travel takes cmd and the commands that wait to Redis.
func (p *pipeline) travel(ctx context.Context, cmd redis.Cmder) error {
	p.mu.Lock()
	n := min(len(p.queue), maxTogether)
	others := p.queue[:n:n]
	p.queue = p.queue[n:]
	p.left = time.Now()
	p.mu.Unlock()
	defer p.arrive(others)
	ctx, cancel := context.WithTimeout(ctx, p.attempt)
	defer cancel()
	if len(others) == 0 {
		return p.Process(ctx, cmd)
	}
	_, _ = p.Pipelined(ctx, func(together redis.Pipeliner) error { // each command has its error
		for _, w := range others {
			_ = together.Process(ctx, w.cmd)
		}
		return together.Process(ctx, cmd)
	})
	return cmd.Err()
}

// arrive ends a round trip, and has the next begin.
func (p *pipeline) arrive(others []*passenger) {
	p.mu.Lock()
	p.next()
	p.mu.Unlock()
	for _, w := range others {
		w.turn <- false
	}
}

// next gives the turn that has ended to the first that waits. p.mu is held.
func (p *pipeline) next() {
	if len(p.queue) == 0 {
		p.trips--
		return
	}
	p.queue[0].turn <- true
	p.queue = p.queue[1:]
}

// leave takes a command out of the queue, or passes on the turn that it has just been given. When it
// is on its way its answer is for nobody.
func (p *pipeline) leave(w *passenger) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.queue, w); i >= 0 {
		p.queue = slices.Delete(p.queue, i, i+1)
		return
	}
	select {
	case leads := <-w.turn:
		if leads {
			p.next()
		}
	default:
	}
}

// EvalSha overrides that of the client, for redis_rate.
func (p *pipeline) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	cmd := redis.NewCmd(ctx, evalArgs("evalsha", sha, keys, args)...)
	cmd.SetFirstKeyPos(firstKey)
	if err := p.do(ctx, cmd); err != nil && ctx.Err() != nil { // cmd may be on its way yet
		cmd = redis.NewCmd(ctx)
		cmd.SetErr(err)
	}
	return cmd
}

// firstKey is where the keys of EVALSHA begin, for a cluster to find the server by.
const firstKey = 3

func evalArgs(name, script string, keys []string, args []any) []any {
	all := make([]any, 0, firstKey+len(keys)+len(args))
	all = append(all, name, script, len(keys))
	for _, key := range keys {
		all = append(all, key)
	}
	return append(all, args...)
}
