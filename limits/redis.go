package limits

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
)

//go:embed redis.lua
var redisScript string

// A call has 250 ms for its store: for a round trip that it waits for, its own, and a second one if a
// packet was lost.
const (
	patience = 250 * time.Millisecond
	attempt  = 80 * time.Millisecond // bounds one round trip
)

// Redis keeps counters in Redis 5 or newer, one hash for each app and window. Its clock decides
// which window it is.
type Redis struct {
	client   *pipeline
	patience time.Duration
	prefix   string
	gateway  string
	sha      string
	rate     *redis_rate.Limiter
	q        atomic.Int64 // number of the last request; a later request has a higher one
}

// NewRedis returns counters in client under keys that start with prefix. The gateway is a random
// id of this process life, 6 to 8 of [a-z0-9]: two processes with the same id would take each
// other's calls for their own. The client must not retry on its own (MaxRetries: -1).
func NewRedis(client redis.UniversalClient, prefix, gateway string) *Redis {
	together := &pipeline{UniversalClient: client, attempt: attempt}
	return &Redis{
		client:   together,
		patience: patience,
		prefix:   prefix,
		gateway:  gateway,
		sha:      redis.NewScript(redisScript).Hash(),
		rate:     redis_rate.NewLimiter(together),
	}
}

func (s *Redis) key(app, window string) string {
	return s.prefix + "{" + app + "}:" + window
}

// Patience is 250 ms.
func (s *Redis) Patience() time.Duration { return s.patience }

// Exchange makes up to two attempts. The second is a request of its own with a higher number, so
// it does not matter whether the first was heard.
func (s *Redis) Exchange(ctx context.Context, r *Request) (*Answer, error) {
	a, err := s.try(ctx, r)
	if err != nil && ctx.Err() == nil {
		if a, err = s.try(ctx, r); err == nil {
			a.Retried = true
		}
	}
	if err != nil {
		return nil, fmt.Errorf("counters of %s: %w", r.App, err)
	}
	return a, nil
}

func (s *Redis) try(ctx context.Context, r *Request) (*Answer, error) {
	args := make([]any, 0, firstKey+4+4*len(r.Windows)+10*len(r.Counters))
	args = append(args, "evalsha", s.sha, len(r.Windows))
	for _, w := range r.Windows {
		args = append(args, s.key(r.App, w.Name))
	}
	args = append(args, s.gateway, s.q.Add(1), r.Want, r.Block)
	for _, w := range r.Windows {
		args = append(args, w.Start.UnixMilli(), w.End.UnixMilli(), w.Generation)
	}
	for _, c := range r.Counters {
		args = append(args, c.Window+1, c.Name, c.Limit, c.Generation, c.Version, c.Others, c.Confirmed, c.Held, c.Latch, c.Raise)
	}
	cmd, err := s.run(ctx, args)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		args[0], args[1] = "eval", redisScript
		cmd, err = s.run(ctx, args)
	}
	if err != nil {
		return nil, err
	}
	figures := cmd.Val()
	if len(figures) >= 6 && Status(figures[0]) == Stale {
		return nil, errStale
	}
	if want := 6 + len(r.Windows) + 5*len(r.Counters); len(figures) != want {
		return nil, fmt.Errorf("an answer of %d figures: want %d", len(figures), want)
	}
	a := &Answer{
		Status:  Status(figures[0]),
		Granted: figures[1],
		Block:   figures[2],
		Which:   int(figures[3]) - 1,
		Now:     figures[4],
		Lost:    figures[5] != 0,
	}
	a.Generations = figures[6 : 6+len(r.Windows)]
	a.Counters = make([]Heard, len(r.Counters))
	for i := range a.Counters {
		f := figures[6+len(r.Windows)+5*i:]
		a.Counters[i] = Heard{Generation: f[0], Used: f[1], Version: f[2], Latch: f[3], Grant: f[4]}
	}
	return a, nil
}

func (s *Redis) run(ctx context.Context, args []any) (*redis.IntSliceCmd, error) {
	cmd := redis.NewIntSliceCmd(ctx, args...)
	if keys := args[firstKey-1]; keys != 0 {
		cmd.SetFirstKeyPos(firstKey)
	}
	return cmd, s.client.do(ctx, cmd)
}

var errStale = errors.New("a later request was heard before")

// registryScript enters a gateway and counts those of the last ten minutes.
const registryScript = `
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 600)
redis.call('EXPIRE', KEYS[1], 3600)
return redis.call('ZCARD', KEYS[1])`

// Gateways keeps a sorted set of the gateways by when they last said that they live.
func (s *Redis) Gateways(ctx context.Context) (int64, error) {
	n, err := s.client.Eval(ctx, registryScript, []string{s.prefix + "gateways"}, s.gateway).Int64()
	if err != nil {
		return 0, fmt.Errorf("gateways: %w", err)
	}
	return n, nil
}

// Read reads the hash of each window.
func (s *Redis) Read(ctx context.Context, app string, windows []Window, counters ...string) ([]map[string]Heard, error) {
	found := make([]map[string]Heard, len(windows))
	for i, w := range windows {
		fields, err := s.fields(ctx, s.key(app, w.Name), counters)
		if err != nil {
			return nil, fmt.Errorf("counters of %s: %w", app, err)
		}
		generation, _ := strconv.ParseInt(fields["g"], 10, 64) // absent: 0
		delete(fields, "g")
		found[i] = make(map[string]Heard, len(fields))
		for name, text := range fields {
			if strings.Contains(name, "|") {
				continue
			}
			h, err := parseCounter(text)
			if err != nil {
				return nil, fmt.Errorf("counters of %s: %s: %w", app, name, err)
			}
			if h.Generation < generation {
				h = Heard{Generation: generation, Grant: h.Grant}
			}
			found[i][name] = h
		}
	}
	return found, nil
}

// fields returns the fields of a hash: g and those of some counters, or all if none is named.
func (s *Redis) fields(ctx context.Context, key string, counters []string) (map[string]string, error) {
	if len(counters) == 0 {
		return s.client.HGetAll(ctx, key).Result()
	}
	args := []any{"hmget", key, "g"}
	for _, name := range counters {
		args = append(args, name)
	}
	cmd := redis.NewSliceCmd(ctx, args...)
	if err := s.client.do(ctx, cmd); err != nil {
		return nil, err
	}
	fields := make(map[string]string, len(counters)+1)
	for i, name := range append([]string{"g"}, counters...) {
		if text, ok := cmd.Val()[i].(string); ok {
			fields[name] = text
		}
	}
	return fields, nil
}

// parseCounter reads a counter's field; see redis.lua.
func parseCounter(text string) (Heard, error) {
	var figures [6]int64
	n := 0
	for word := range strings.FieldsSeq(text) {
		var err error
		if n == len(figures) {
			return Heard{}, fmt.Errorf("%q: want %d figures at most", text, len(figures))
		}
		if figures[n], err = strconv.ParseInt(word, 10, 64); err != nil {
			return Heard{}, fmt.Errorf("%q: %w", text, err)
		}
		n++
	}
	if n < 3 {
		return Heard{}, fmt.Errorf("%q: want a generation, a count and a version", text)
	}
	return Heard{Generation: figures[0], Used: figures[1], Version: figures[2], Latch: figures[4], Grant: figures[5]}, nil
}

// Probe sets a key that expires, if it is not there.
func (s *Redis) Probe(ctx context.Context, app, counter string, gap time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.client.attempt)
	defer cancel()
	err := s.client.SetArgs(ctx, s.key(app, "probe:"+counter), s.gateway, redis.SetArgs{Mode: "NX", TTL: gap}).Err()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("probe of %s: %w", app, err)
	}
	return true, nil
}

// Pace asks redis_rate, which is GCRA by Redis's own clock.
func (s *Redis) Pace(ctx context.Context, app, rule string, p Pace) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, s.client.attempt)
	defer cancel()
	got, err := s.rate.Allow(ctx, s.key(app, "pace:"+rule), redis_rate.Limit{Rate: p.Rate, Period: p.Per, Burst: p.Burst})
	if err != nil {
		return 0, fmt.Errorf("pace of %s: %w", app, err)
	}
	if got.Allowed > 0 {
		return 0, nil
	}
	return max(got.RetryAfter, time.Millisecond), nil
}
