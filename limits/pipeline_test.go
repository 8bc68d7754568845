package limits

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"wxproxy/internal/redistest"
)

// newPipeline returns a pipeline, whose client does not try again.
func newPipeline(t *testing.T, server *redistest.Server, attempt time.Duration) *pipeline {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1, ContextTimeoutEnabled: true, PipelinePoolSize: -1})
	t.Cleanup(func() { _ = client.Close() })
	return &pipeline{UniversalClient: client, attempt: attempt}
}

// reads is how often a server has read from its connections.
func reads(t *testing.T, client redis.UniversalClient) int64 {
	t.Helper()
	for line := range strings.Lines(client.Info(t.Context(), "stats").Val()) {
		if text, ok := strings.CutPrefix(line, "total_reads_processed:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Skip("this redis-server does not count its reads")
	return 0
}

// wantIdle waits until nothing is queued or in flight. It fails the test where the count of batches
// has gone wrong: no command would ever be sent again, or too many batches at once.
func (p *pipeline) wantIdle(t *testing.T) {
	t.Helper()
	eventually(t, "batches in flight and commands queued", 0, func() int64 {
		p.mu.Lock()
		defer p.mu.Unlock()
		return int64(p.running + len(p.queue))
	})
}

func TestCommandsAreSentInBatches(t *testing.T) {
	server := redistest.Start(t)
	p := newPipeline(t, server, 5*time.Second)
	const callers, calls = 64, 100
	before := reads(t, p)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for n := range calls {
				cmd := redis.NewIntCmd(t.Context(), "incr", fmt.Sprint("counter", i))
				if err := p.do(t.Context(), cmd); err != nil || cmd.Val() != int64(n)+1 {
					t.Errorf("INCR number %d = %d, %v", n+1, cmd.Val(), err)
				}
			}
		})
	}
	wg.Wait()
	if n := reads(t, p) - before; n > callers*calls/2 {
		t.Errorf("Redis read %d times for %d commands of %d callers, want fewer than half", n, callers*calls, callers)
	}
	p.wantIdle(t)
}

// An error that Redis answers to one command of a batch is the error of no other.
func TestErrorsStayWithTheirCommand(t *testing.T) {
	p := newPipeline(t, redistest.Start(t), 5*time.Second)
	if err := p.Set(t.Context(), "text", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 400 {
		key := "text" // no number
		if i%2 == 0 {
			key = "number"
		}
		wg.Go(func() {
			if err := p.do(t.Context(), redis.NewIntCmd(t.Context(), "incr", key)); (err == nil) != (key == "number") {
				t.Errorf("INCR %s: %v", key, err)
			}
		})
	}
	wg.Wait()
	if n := p.Get(t.Context(), "number").Val(); n != "200" {
		t.Errorf("%s of 200 were counted", n)
	}
	p.wantIdle(t)
}

// Callers that go away, with a command queued or in flight, stop no batch, and no caller gets the
// reply to another's command.
func TestCallersThatGoAway(t *testing.T) {
	server := redistest.Start(t)
	p := newPipeline(t, server, 5*time.Second)
	var left, served atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 100 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(3000))*time.Microsecond)
				text := strconv.FormatInt(rand.Int64(), 36)
				cmd := redis.NewStringCmd(ctx, "echo", text)
				if err := p.do(ctx, cmd); err == nil {
					served.Add(1)
					if cmd.Val() != text {
						t.Errorf("ECHO %s = %s", text, cmd.Val())
					}
				} else if ctx.Err() != nil {
					left.Add(1)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if left.Load() == 0 || served.Load() == 0 {
		t.Errorf("%d callers left and %d were served, want some of both", left.Load(), served.Load())
	}
	p.wantIdle(t)
	if err := p.do(t.Context(), redis.NewStatusCmd(t.Context(), "ping")); err != nil {
		t.Errorf("a command after all that: %v", err)
	}
}

// With a server that hangs every caller returns in its own time, however many wait.
func TestServerThatHangs(t *testing.T) {
	server := redistest.Start(t)
	p := newPipeline(t, server, 100*time.Millisecond)
	if err := p.do(t.Context(), redis.NewStatusCmd(t.Context(), "ping")); err != nil {
		t.Fatal(err)
	}
	server.Freeze()
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			began := time.Now()
			err := p.do(ctx, redis.NewStatusCmd(ctx, "ping"))
			if took := time.Since(began); err == nil || took > 1500*time.Millisecond {
				t.Errorf("%v after %v, want an error within 200 ms or so", err, took)
			}
		})
	}
	wg.Wait()
	server.Thaw()
	p.wantIdle(t)
	var err error
	for range 20 { // the connections that hung are closed one by one
		if err = p.do(t.Context(), redis.NewStatusCmd(t.Context(), "ping")); err == nil {
			break
		}
		if errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if err != nil {
		t.Errorf("the server is back: %v", err)
	}
}

// A caller with hardly any time left does not take the time of the commands that are sent with its own.
func TestDeadlineOfOneCommand(t *testing.T) {
	server := redistest.Start(t)
	p := newPipeline(t, server, 10*time.Second)
	if err := p.do(t.Context(), redis.NewStatusCmd(t.Context(), "ping")); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.running, p.begun = 1, time.Now().Add(time.Hour) // a batch that has just left: what follows is queued
	p.mu.Unlock()
	const patient = 20
	errs := make(chan error, patient)
	for range patient {
		go func() { errs <- p.do(t.Context(), redis.NewStatusCmd(t.Context(), "ping")) }()
	}
	eventually(t, "commands queued", patient, func() int64 {
		p.mu.Lock()
		defer p.mu.Unlock()
		return int64(len(p.queue))
	})
	p.mu.Lock()
	p.begun = time.Time{} // it left long ago: the next command takes along those that are queued
	p.mu.Unlock()

	server.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if err := p.do(ctx, redis.NewStatusCmd(ctx, "ping")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the caller with 5 ms: %v, want that its deadline has passed", err)
	}
	server.Thaw()
	for range patient {
		if err := <-errs; err != nil {
			t.Errorf("a command of the same batch, which has 10 s: %v", err)
		}
	}
	p.mu.Lock()
	p.running-- // the batch that was made up
	p.mu.Unlock()
	p.wantIdle(t)
}
