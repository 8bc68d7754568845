package limits

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"wxproxy/internal/redistest"
)

// Figures that no script of ours returns are an error, and no panic.
func TestAnswersOutOfRange(t *testing.T) {
	r := &Request{Want: 3, Block: 2, Windows: make([]WindowReport, 1), Counters: make([]Report, 2)}
	sound := []int64{0, 3, 2, 2, 1, 0, 0, 5, 5, 9, 9, 0, 0, 5, 9, 9, 0, 0, 2, 7, 8, 9}
	if _, err := parseAnswer(sound, r); err != nil {
		t.Fatalf("parseAnswer(%d) = %v", sound, err)
	}
	for _, tt := range []struct {
		name  string
		at    int
		value int64
	}{
		{"status", 0, 5},
		{"status", 0, 9},
		{"status", 0, -1},
		{"granted", 1, 4},
		{"granted", 1, -1},
		{"block", 2, 3},
		{"block", 2, -1},
		{"which", 3, 3},
		{"which", 3, -1},
		{"now", 4, -1},
		{"damaged", 6, 3},
		{"damaged", 6, -1},
		{"generation", 7, -1},
		{"used", 9, -1},
		{"version", 10, -1},
		{"latched at", 17, -1},
		{"granted counter", 18, 3},
		{"granted counter", 18, 0},
		{"grant", 19, -1},
	} {
		figures := slices.Clone(sound)
		figures[tt.at] = tt.value
		if a, err := parseAnswer(figures, r); err == nil {
			t.Errorf("%s %d: %+v, want an error", tt.name, tt.value, a)
		}
	}
	for _, figures := range [][]int64{nil, {}, {0}, {5, 0, 0, 0, 1, 0}, sound[:19], sound[:16], append(slices.Clone(sound), 1)} {
		if _, err := parseAnswer(figures, r); err == nil {
			t.Errorf("%d figures: no error", len(figures))
		}
	}
	if _, err := parseAnswer([]int64{5, 0, 0, 0, 1, 0, 0}, r); !errors.Is(err, errStale) {
		t.Errorf("stale: %v, want %v", err, errStale)
	}
}

// commands records what a client sends.
type commands struct {
	mu        sync.Mutex
	all       [][]any
	pipelines int
}

func (c *commands) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *commands) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.add(cmd)
		return next(ctx, cmd)
	}
}

func (c *commands) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.mu.Lock()
		c.pipelines++
		c.mu.Unlock()
		c.add(cmds...)
		return next(ctx, cmds)
	}
}

func (c *commands) add(cmds ...redis.Cmder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cmd := range cmds {
		c.all = append(c.all, cmd.Args())
	}
}

// Redis as it is sold runs no script without a key, and an ACL allows keys by their prefix.
func TestEveryCommandHasAKeyWithThePrefix(t *testing.T) {
	server := redistest.Start(t)
	s := patientStand(server)(t).(*Redis)
	sent := &commands{}
	s.client.AddHook(sent)
	client := server.Client(t)
	day := today(t, client)
	month := windowAt(Month, day.Start, shanghai(t))
	for range 2 { // the first time the scripts are not known
		exchange(t, s, day, 0, demand{want: 1, report: Report{Local: 1}})
		if _, err := s.Exchange(t.Context(), &Request{App: "wx1", Windows: []WindowReport{{Window: day, Generation: 5}, {Window: month}}}); err != nil {
			t.Error(err)
		}
		if n, err := s.Heartbeat(t.Context()); n != 1 || err != nil {
			t.Errorf("Heartbeat() = %d, %v, want 1", n, err)
		}
		if _, err := s.Pace(t.Context(), "wx1", "a", Pace{Rate: 2, Per: time.Minute, Burst: 3}, 1); err != nil {
			t.Error(err)
		}
		if _, err := s.Probe(t.Context(), "wx1", "a", time.Minute); err != nil {
			t.Error(err)
		}
		if _, err := s.Read(t.Context(), []Query{{App: "wx1", Window: day}, {App: "wx1", Window: day, Names: []string{"a"}}}); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Exchange(t.Context(), &Request{App: "wx1"}); err == nil {
		t.Error("a request without a window: no error, and it has no key")
	}
	for _, args := range sent.all {
		if args[0] == "hello" || args[0] == "client" {
			continue // of the connection, and of no key
		}
		keys := args[1:2]
		if name := args[0].(string); name == "eval" || name == "evalsha" {
			n := args[2].(int)
			if n == 0 {
				t.Errorf("%s without a key", name)
			}
			keys = args[3 : 3+n]
		}
		for _, key := range keys {
			if !strings.HasPrefix(fmt.Sprint(key), "wxp:00000000:") {
				t.Errorf("%v has the key %v, want the prefix wxp:00000000:", args[0], key)
			}
		}
	}
	for _, key := range client.Keys(t.Context(), "*").Val() {
		if !strings.HasPrefix(key, "wxp:00000000:") {
			t.Errorf("key %s in Redis, want the prefix wxp:00000000:", key)
		}
		if client.TTL(t.Context(), key).Val() <= 0 {
			t.Errorf("key %s never expires", key)
		}
	}
	if n := client.Exists(t.Context(), "wxp:00000000:{wx1}:pace:a").Val(); n != 1 {
		t.Error("no key wxp:00000000:{wx1}:pace:a")
	}
}

// What Redis answers is told apart from no answer.
func TestStoreErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		spoil func(client *redis.Client) error
		want  string // how the error begins that Redis answers; "": it answers nothing
		read  bool   // it still reads
	}{
		{"no permission", func(c *redis.Client) error {
			return c.Do(context.Background(), "ACL", "SETUSER", "default", "-evalsha", "-eval", "-set").Err()
		}, "NOPERM ", true},
		{"no permission to read", func(c *redis.Client) error {
			return c.Do(context.Background(), "ACL", "SETUSER", "default", "-hgetall", "-evalsha", "-set").Err()
		}, "NOPERM ", false},
		{"out of memory", func(c *redis.Client) error { return c.ConfigSet(context.Background(), "maxmemory", "1").Err() }, "OOM ", true},
		{"a replica", func(c *redis.Client) error { return c.ReplicaOf(context.Background(), "127.0.0.1", "1").Err() }, "READONLY ", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := redistest.Start(t)
			s := patientStand(server)(t).(*Redis)
			client := server.Client(t)
			day := today(t, client)
			exchange(t, s, day, 0, demand{want: 1})
			if err := tt.spoil(client); err != nil {
				t.Fatal(err)
			}
			for name, err := range everything(t, s, day) {
				if name == "Read" && tt.read {
					if err != nil {
						t.Errorf("Read = %v, want no error", err)
					}
					continue
				}
				refused, ok := errors.AsType[*StoreError](err)
				if !ok || !strings.HasPrefix(refused.Text, tt.want) || !strings.Contains(err.Error(), "the store answered: "+tt.want) {
					t.Errorf("%s = %v, want a StoreError that begins with %s", name, err, tt.want)
				}
			}
		})
	}
	t.Run("no answer", func(t *testing.T) {
		server := redistest.Start(t)
		s := redisStand(server)(t).(*Redis)
		day := today(t, server.Client(t))
		server.Stop()
		for name, err := range everything(t, s, day) {
			if _, ok := errors.AsType[*StoreError](err); ok || err == nil {
				t.Errorf("%s = %v, want an error that is no StoreError", name, err)
			}
		}
	})
	t.Run("the text", func(t *testing.T) {
		long := redis.Error(replyError("ERR " + strings.Repeat("x", 300)))
		if got := storeError(fmt.Errorf("wrapped: %w", long)).Error(); len(got) != len("the store answered: ")+200 {
			t.Errorf("%d bytes of text: %s, want 200", len(got), got)
		}
		unknown := replyError("ERR unknown command 'AUTH', with args beginning with: 'hunter2' ")
		if got := storeError(unknown).Error(); got != "the store answered: ERR unknown command 'AUTH'" {
			t.Errorf("%s: want it without the arguments", got)
		}
	})
}

type replyError string

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}

// everything calls every method of a store that can fail.
func everything(t *testing.T, s Counters, w Window) map[string]error {
	t.Helper()
	errs := map[string]error{}
	_, errs["Exchange"] = s.Exchange(t.Context(), &Request{App: "wx1", Want: 1, Windows: []WindowReport{{Window: w}}, Counters: []Report{{Name: "a", Limit: 10}}})
	_, errs["Heartbeat"] = s.Heartbeat(t.Context())
	_, errs["Read"] = s.Read(t.Context(), []Query{{App: "wx1", Window: w}})
	_, errs["Probe"] = s.Probe(t.Context(), "wx1", "b", time.Minute)
	_, errs["Pace"] = s.Pace(t.Context(), "wx1", "a", Pace{Rate: 2, Per: time.Minute, Burst: 3}, 1)
	return errs
}

// go-redis quotes the answer that it cannot read. On a connection that is out of step it may be a token.
func TestStoreErrorQuotesNoAnswer(t *testing.T) {
	quoting := errors.New(`redis: can't parse int reply: "CANARY"`)
	for _, err := range []error{storeError(quoting), storeError(&batchError{7, quoting})} {
		if strings.Contains(err.Error(), "CANARY") {
			t.Errorf("storeError = %v", err)
		}
	}
	if failed, ok := errors.AsType[*batchError](storeError(&batchError{7, quoting})); !ok || failed.batch != 7 {
		t.Error("the batch is lost")
	}
}
