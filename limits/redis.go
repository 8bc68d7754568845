package limits

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
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
// id of this process life, 6 to 8 of [a-z0-9]: two processes with the same id would overwrite each
// other's part of the counts. The client must not retry on its own (MaxRetries: -1).
func NewRedis(client redis.UniversalClient, prefix, gateway string) *Redis {
	p := &pipeline{UniversalClient: client, attempt: attempt}
	return &Redis{
		client:   p,
		patience: patience,
		prefix:   prefix,
		gateway:  gateway,
		sha:      redis.NewScript(redisScript).Hash(),
		rate:     redis_rate.NewLimiter(paceClient{p}),
	}
}

func (s *Redis) key(app, window string) string {
	return s.prefix + "{" + app + "}:" + window
}

// Patience is 250 ms.
func (s *Redis) Patience() time.Duration { return s.patience }

// Exchange makes up to two attempts. The second is a request of its own with a higher number, so
// it does not matter whether the first was applied. An error that Redis answered is a *StoreError.
func (s *Redis) Exchange(ctx context.Context, r *Request) (*Answer, error) {
	if len(r.Windows) == 0 {
		return nil, fmt.Errorf("counters of %s: a request without a window: want at least one, Redis as it is sold runs no script without a key", r.App)
	}
	a, err := s.try(ctx, r)
	if err != nil && ctx.Err() == nil {
		_, refused := errors.AsType[*StoreError](err)
		again := *r
		again.unsure = r.unsure || !refused
		if a, err = s.try(ctx, &again); err == nil {
			a.Retried = !refused
		}
	}
	if err != nil {
		return nil, fmt.Errorf("counters of %s: %w", r.App, err)
	}
	return a, nil
}

// Figures of the script's answer: of all, and of each counter.
const (
	answerFigures  = 7
	counterFigures = 5
	grantFigures   = 4 // of each counter that has a grant, at the end
)

// What the script reports as lost: this gateway's own part, or the counts of others.
const (
	lostPart  = 1
	lostCount = 2
)

func (s *Redis) try(ctx context.Context, r *Request) (*Answer, error) {
	args := make([]any, 0, firstKey+4+4*len(r.Windows)+11*len(r.Counters))
	args = append(args, "evalsha", s.sha, len(r.Windows))
	for _, w := range r.Windows {
		args = append(args, s.key(r.App, w.Name))
	}
	gateway := s.gateway
	if r.Life != "" {
		gateway += "." + r.Life
	}
	args = append(args, gateway, s.q.Add(1), r.Want, r.Block)
	for _, w := range r.Windows {
		args = append(args, w.Start.UnixMilli(), w.End.UnixMilli(), w.Generation)
	}
	for _, c := range r.Counters {
		limit := c.Limit
		if c.Reserve > 0 {
			limit = -c.Reserve
		}
		args = append(args, c.Window+1, c.Name, limit, c.Generation, c.Version, c.Others, c.Acked, c.Local, c.Latch.Until, c.Latch.At, c.Raise)
	}
	for i, c := range r.Counters {
		if c.Grant != (Grant{}) {
			args = append(args, 0, i+1, c.Grant.Calls, c.Grant.Until, c.Grant.At, c.Over)
		}
	}
	cmd, err := s.run(ctx, args)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		args[0], args[1] = "eval", redisScript
		cmd, err = s.run(ctx, args)
	}
	if err != nil {
		return nil, storeError(err)
	}
	a, err := parseAnswer(cmd.Val(), r)
	if err == nil && a.Damaged > 0 {
		a.Key = s.key(r.App, r.Windows[r.Counters[a.Damaged-1].Window].Name)
	}
	return a, err
}

func (s *Redis) run(ctx context.Context, args []any) (*redis.IntSliceCmd, error) {
	cmd := redis.NewIntSliceCmd(ctx, args...)
	cmd.SetFirstKeyPos(firstKey)
	return cmd, s.client.do(ctx, cmd)
}

var errStale = errors.New("a later request was applied before")

// parseAnswer reads the figures that the script returned for r.
func parseAnswer(figures []int64, r *Request) (*Answer, error) {
	if len(figures) == answerFigures && Status(figures[0]) == Stale {
		return nil, errStale
	}
	want := answerFigures + len(r.Windows) + counterFigures*len(r.Counters)
	if more := len(figures) - want; more < 0 || more%grantFigures != 0 {
		return nil, fmt.Errorf("an answer of %d figures: want %d", len(figures), want)
	}
	a := &Answer{
		Status:      Status(figures[0]),
		Granted:     figures[1],
		Block:       figures[2],
		Which:       int(max(0, figures[3]-1)),
		Now:         figures[4],
		Lost:        figures[5] == lostCount || figures[5] == lostPart && !r.unsure,
		Damaged:     int(figures[6]),
		Generations: figures[answerFigures : answerFigures+len(r.Windows)],
		Counters:    make([]CounterState, len(r.Counters)),
	}
	for i := range a.Counters {
		f := figures[answerFigures+len(r.Windows)+counterFigures*i:]
		a.Counters[i] = CounterState{Generation: f[0], Used: f[1], Version: f[2], Latch: Latch{Until: f[3], At: f[4]}}
	}
	grants := true
	for f := figures[want:]; len(f) > 0; f = f[grantFigures:] {
		if grants = grants && 0 < f[0] && f[0] <= int64(len(a.Counters)); grants {
			a.Counters[f[0]-1].Grant = Grant{Calls: f[1], Until: f[2], At: f[3]}
		}
	}
	counters := int64(len(r.Counters))
	sound := grants && a.Status >= OK && a.Status < Stale &&
		a.Granted <= max(0, r.Want) && a.Block <= max(0, r.Block) && figures[3] <= counters && figures[6] <= counters
	for _, f := range figures {
		sound = sound && f >= 0
	}
	if !sound {
		return nil, fmt.Errorf("an answer of %d to a request for %d calls of %d counters: want figures in their ranges", figures, r.Want, counters)
	}
	return a, nil
}

// storeError returns an error that Redis answered as a *StoreError, cut to 200 bytes and without the
// arguments of a command that Redis does not know. Others it returns as they are.
func storeError(err error) error {
	answered, ok := errors.AsType[redis.Error](err)
	if !ok {
		return withoutQuotes(err)
	}
	text, _, _ := strings.Cut(answered.Error(), ", with args beginning with")
	e := error(&StoreError{Text: text[:min(len(text), 200)]})
	if failed, ok := errors.AsType[*batchError](err); ok {
		e = &batchError{failed.batch, e}
	}
	return e
}

// withoutQuotes returns an error that nothing answered. The text of go-redis about an answer that it cannot
// read quotes that, and on a connection that is out of step it may be another's: a token.
func withoutQuotes(err error) error {
	if text := err.Error(); !strings.Contains(text, "redis: can't parse") && !strings.Contains(text, "redis: invalid reply") {
		return err
	}
	e := errors.New("an answer that is none of Redis's")
	if failed, ok := errors.AsType[*batchError](err); ok {
		return &batchError{failed.batch, e}
	}
	return e
}

// registryScript registers a gateway and counts those of the last ten minutes.
var registryScript = redis.NewScript(`
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 600)
redis.call('EXPIRE', KEYS[1], 3600)
return redis.call('ZCARD', KEYS[1])`)

// Heartbeat keeps a sorted set of the gateways by the time of their last heartbeat.
func (s *Redis) Heartbeat(ctx context.Context) (int64, error) {
	n, err := registryScript.Run(ctx, s.client, []string{s.prefix + "gateways"}, s.gateway).Int64()
	if err != nil {
		return 0, fmt.Errorf("heartbeat: %w", storeError(err))
	}
	return n, nil
}

// Gateways returns when each gateway last registered, by its id, of those that have in the last ten minutes.
func (s *Redis) Gateways(ctx context.Context) (map[string]time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, heartbeatTime)
	defer cancel()
	found, err := s.client.ZRangeWithScores(ctx, s.prefix+"gateways", 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("gateways: %w", storeError(err))
	}
	gateways := make(map[string]time.Time, len(found))
	for _, one := range found {
		if id, ok := one.Member.(string); ok {
			gateways[id] = time.Unix(int64(one.Score), 0)
		}
	}
	return gateways, nil
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
		return false, fmt.Errorf("probe of %s: %w", app, storeError(err))
	}
	return true, nil
}

// Pace asks redis_rate, which is GCRA by Redis's own clock.
func (s *Redis) Pace(ctx context.Context, app, rule string, p Pace, calls int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, s.client.attempt)
	defer cancel()
	got, err := s.rate.AllowN(ctx, s.key(app, "pace:"+rule), redis_rate.Limit{Rate: p.Rate, Period: p.Per, Burst: p.Burst}, calls)
	if err != nil {
		return 0, fmt.Errorf("pace of %s: %w", app, storeError(err))
	}
	if got.Allowed > 0 || calls == 0 && got.Remaining > 0 {
		return 0, nil
	}
	return max(got.RetryAfter, time.Millisecond), nil
}

// paceClient gives redis_rate keys with the prefix of the others: it puts rate: in front of each.
type paceClient struct{ *pipeline }

// EvalSha overrides that of the client.
func (c paceClient) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	return c.pipeline.EvalSha(ctx, sha, withoutRate(keys), args...)
}

// Eval overrides that of the client.
func (c paceClient) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return c.pipeline.Eval(ctx, script, withoutRate(keys), args...)
}

func withoutRate(keys []string) []string {
	own := make([]string, len(keys))
	for i, key := range keys {
		own[i] = strings.TrimPrefix(key, "rate:")
	}
	return own
}
