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

// rest fails the test if a turn was lost: no command would ever go again, or too many at once.
func (p *pipeline) rest(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.trips != 0 || len(p.queue) != 0 {
		t.Errorf("%d round trips are under way and %d commands wait, want none", p.trips, len(p.queue))
	}
}

func TestCommandsTravelTogether(t *testing.T) {
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
					t.Errorf("INCR number %d says %d, %v", n+1, cmd.Val(), err)
				}
			}
		})
	}
	wg.Wait()
	if n := reads(t, p) - before; n > callers*calls/2 {
		t.Errorf("Redis read %d times for %d commands of %d callers, want fewer than half", n, callers*calls, callers)
	}
	p.rest(t)
}

// One command's error is nobody else's.
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
	p.rest(t)
}

// Callers that go away, waiting or under way, take no turn with them, and nobody has another's answer.
func TestCallersThatLeaveTakeNoTurnAlong(t *testing.T) {
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
						t.Errorf("ECHO %s says %s", text, cmd.Val())
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
	time.Sleep(50 * time.Millisecond) // those whose caller has left may be under way yet
	p.rest(t)
	if err := p.do(t.Context(), redis.NewStatusCmd(t.Context(), "ping")); err != nil {
		t.Errorf("a command after all that: %v", err)
	}
}

// A server that hangs costs nobody more than his own time, however many wait.
func TestAServerThatHangs(t *testing.T) {
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
			if took := time.Since(began); err == nil || took > 600*time.Millisecond {
				t.Errorf("%v after %v, want an error within 200 ms or so", err, took)
			}
		})
	}
	wg.Wait()
	server.Thaw()
	p.rest(t)
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
