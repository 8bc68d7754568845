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
	maxRunning = 4                // batches in flight: fewer than there are connections
	maxBatch   = 256              // commands of one batch
	batchSpan  = time.Millisecond // a command waits for a batch in flight only if that has just left
)

// pipeline sends commands to Redis in batches: under load a round trip of its own for each command
// costs both sides more system calls than work, and would wait for a free connection. A command that
// finds no batch in flight makes its own round trip on its caller's goroutine, under its caller's
// deadline. Others are queued; when a round trip ends, all that are queued form the next batch. (The
// AutoPipeline of go-redis does not return while a command is queued and its context has ended, and
// gives each command of a failed batch an error of its own, which a breaker would count as many.)
type pipeline struct {
	redis.UniversalClient
	attempt time.Duration // bounds one round trip

	mu      sync.Mutex
	running int       // batches in flight
	batches int64     // batches so far
	begun   time.Time // when the last one left
	queue   []*pending
}

// batchError is the error of a command, with the number of its batch: a batch that fails, fails for
// all its commands.
type batchError struct {
	batch int64
	error
}

// Unwrap returns the error itself.
func (e *batchError) Unwrap() error { return e.error }

// pending is a command that is queued or in flight.
type pending struct {
	cmd  redis.Cmder
	done chan struct{} // closed when the command has ended, and err is set
	err  error
}

// do sends cmd and waits for its reply, for two round trips at most: the one in flight, and its own.
// It returns when ctx ends, too. A command that is still queued then is never sent; one in flight may
// be executed, and must not be looked at any more. The deadline of ctx bounds no other command.
func (p *pipeline) do(ctx context.Context, cmd redis.Cmder) error {
	p.mu.Lock()
	leads := p.running == 0 || p.running < maxRunning && time.Since(p.begun) > batchSpan
	if leads && len(p.queue) == 0 {
		number := p.beginLocked()
		p.mu.Unlock()
		ctx, cancel := context.WithTimeout(ctx, p.attempt)
		_ = p.Process(ctx, cmd)
		cancel()
		p.mu.Lock()
		if len(p.queue) > 0 {
			go p.drain()
		} else {
			p.running--
		}
		p.mu.Unlock()
		return commandError(cmd, number)
	}
	w := &pending{cmd: cmd, done: make(chan struct{})}
	p.queue = append(p.queue, w)
	if leads {
		p.running++
		go p.drain()
	}
	p.mu.Unlock()
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		p.remove(w)
		return ctx.Err()
	}
}

// beginLocked begins a round trip and returns its number.
func (p *pipeline) beginLocked() int64 {
	p.running++
	p.batches++
	p.begun = time.Now()
	return p.batches
}

// drain sends what is queued, batch after batch, until nothing is.
func (p *pipeline) drain() {
	for {
		p.mu.Lock()
		p.running--
		if len(p.queue) == 0 {
			p.mu.Unlock()
			return
		}
		n := min(len(p.queue), maxBatch)
		batch := p.queue[:n:n]
		p.queue = p.queue[n:]
		number := p.beginLocked()
		p.mu.Unlock()
		p.exec(batch, number)
	}
}

// exec makes one round trip. Each command has its own reply, or error.
func (p *pipeline) exec(batch []*pending, number int64) {
	ctx, cancel := context.WithTimeout(context.Background(), p.attempt)
	defer cancel()
	if len(batch) == 1 {
		_ = p.Process(ctx, batch[0].cmd)
	} else {
		pipe := p.Pipeline()
		for _, w := range batch {
			_ = pipe.Process(ctx, w.cmd)
		}
		_, _ = pipe.Exec(ctx)
	}
	for _, w := range batch {
		w.err = commandError(w.cmd, number)
		close(w.done)
	}
}

// commandError returns the error that a command ended with, nil for none.
func commandError(cmd redis.Cmder, number int64) error {
	if err := cmd.Err(); err != nil {
		return &batchError{number, err}
	}
	return nil
}

// remove takes a command out of the queue, if it is there.
func (p *pipeline) remove(w *pending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.queue, w); i >= 0 {
		p.queue = slices.Delete(p.queue, i, i+1)
	}
}

// EvalSha overrides that of the client, for scripts of a few commands: redis_rate's and ours.
func (p *pipeline) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	all := append(make([]any, 0, firstKey+len(keys)+len(args)), "evalsha", sha, len(keys))
	for _, key := range keys {
		all = append(all, key)
	}
	cmd := redis.NewCmd(ctx, append(all, args...)...)
	cmd.SetFirstKeyPos(firstKey)
	if err := p.do(ctx, cmd); err != nil {
		cmd = redis.NewCmd(ctx, "evalsha") // the other one may be in flight yet
		cmd.SetErr(err)
	}
	return cmd
}

// firstKey is where the keys of EVALSHA begin, for a cluster to find the server by.
const firstKey = 3
