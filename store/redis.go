package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// oldest is the oldest version of Redis that will do: before 5.0 a script that had asked for the
// TIME could not write.
const oldest = 5

func (s *Store) openRedis(ctx context.Context, o Options) error {
	at, err := parseURL(o)
	if err != nil {
		return err
	}
	b := &redisBackend{prefix: s.prefix, masters: func(ctx context.Context, do func(context.Context, redis.Cmdable) error) error {
		return do(ctx, s.redis)
	}}
	switch {
	case at.cluster != nil:
		c := redis.NewClusterClient(at.cluster)
		c.AddHook(tryOnce{})
		b.masters = func(ctx context.Context, do func(context.Context, redis.Cmdable) error) error {
			return c.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return do(ctx, c) })
		}
		s.redis = c
	case at.failover != nil:
		s.redis = redis.NewFailoverClient(at.failover)
	default:
		s.redis = redis.NewClient(at.single)
	}
	b.redis, s.backend = s.redis, b

	noAnswer := func(err error) bool { return err != nil && !errors.Is(err, errUnfit) && !isReply(err) } // a reply may be NOAUTH or LOADING
	err = s.lookAt(ctx, b)
	for try := 1; noAnswer(err) && try < openTries && ctx.Err() == nil; try++ {
		err = s.lookAt(ctx, b)
	}
	if err != nil {
		if noAnswer(err) {
			err = fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		return errors.Join(fmt.Errorf("store %s: %w", at.name, withoutArguments(err)), s.redis.Close())
	}
	slices.Sort(s.warnings)
	s.warnings = slices.Compact(s.warnings) // the same of each master
	if !at.password && !at.private {
		s.warnings = append(s.warnings, "no password: everybody who reaches it can read the tokens and change the counts")
	}
	if at.unsafe {
		s.warnings = append(s.warnings, "skip_verify is on: its certificate is not checked")
	}
	for i, w := range s.warnings {
		s.warnings[i] = "store " + at.name + ": " + w
	}
	return nil
}

// openTries is how often Open looks at a Redis that does not answer in time: one that is busy for a moment can be
// reached.
const openTries = 3

// lookAt looks at every master, makes connections, and tries a script.
func (s *Store) lookAt(ctx context.Context, b *redisBackend) error {
	if err := s.redis.Ping(ctx).Err(); err != nil {
		return err
	}
	s.warnings = nil
	var mu sync.Mutex // the masters of a cluster are looked at side by side
	err := b.masters(ctx, func(ctx context.Context, c redis.Cmdable) error {
		warnings, err := inspect(ctx, c)
		if client, ok := c.(*redis.Client); ok && err == nil {
			warmUp(ctx, client)
		}
		mu.Lock()
		defer mu.Unlock()
		s.warnings = append(s.warnings, warnings...)
		return err
	})
	if err != nil {
		return err
	}
	return runsScripts(ctx, s.redis, s.prefix+"check")
}

// warmUp makes connections, and says hello on each.
func warmUp(ctx context.Context, c *redis.Client) {
	for range min(readyConns, c.Options().PoolSize) {
		conn := c.Conn()
		defer conn.Close() // it goes back to the pool
		if conn.Ping(ctx).Err() != nil {
			return // it will be seen when there is need for it
		}
	}
}

// errUnfit is wrapped by what inspect says of a server that answers.
var errUnfit = errors.New("it will not do")

// inspect looks at one server.
func inspect(ctx context.Context, c redis.Cmdable) (warnings []string, err error) {
	text, err := c.Info(ctx).Result()
	switch {
	case err != nil && !isReply(err):
		return nil, fmt.Errorf("INFO: %w", err)
	case err != nil:
		warnings = append(warnings, "INFO is not allowed, so neither its version nor maxmemory-policy is known")
	default:
		info := parseInfo(text)
		version := info["redis_version"]
		major, _, _ := strings.Cut(version, ".")
		if n, err := strconv.Atoi(major); err != nil || n < oldest {
			return nil, fmt.Errorf("%w: redis_version is %q: want %d.0 or newer", errUnfit, version, oldest)
		}
		if role := info["role"]; role != "" && role != "master" {
			return nil, fmt.Errorf("%w: role is %q: want the master", errUnfit, role)
		}
		if policy := info["maxmemory_policy"]; policy != "" && policy != "noeviction" {
			warnings = append(warnings, "maxmemory-policy is "+policy+", which throws counts away when memory is short: want noeviction")
		}
	}
	return warnings, nil
}

// runsScripts runs a script on key as those of the counters run: Redis as it is sold runs none without.
func runsScripts(ctx context.Context, c redis.UniversalClient, key string) error {
	err := c.Eval(ctx, "redis.call('GET', KEYS[1]) return redis.call('TIME')", []string{key}).Err()
	if err != nil {
		return fmt.Errorf("EVAL, which every count needs: %w", err)
	}
	return nil
}

func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// isReply reports whether a server sent the error, so that nothing happened and nothing was lost.
func isReply(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok
}

// withoutArguments cuts off what Redis repeats of a command that it does not know, which may be AUTH, and
// what go-redis quotes of an answer that it cannot read, which may be a token.
func withoutArguments(err error) error {
	text := err.Error()
	if before, _, found := strings.Cut(text, ", with args beginning with"); found {
		return errors.New(before)
	}
	if strings.Contains(text, "redis: can't parse") || strings.Contains(text, "redis: invalid reply") {
		return errors.New("an answer that is none of Redis's")
	}
	return err
}

type redisBackend struct {
	redis   redis.UniversalClient
	prefix  string
	masters func(ctx context.Context, do func(context.Context, redis.Cmdable) error) error
}

// key names an app's key. The braces are the hash tag of Redis Cluster.
func (b *redisBackend) key(app, rest string) string { return b.prefix + "{" + app + "}:" + rest }

// compareAndSetScript returns 1, or the present value if that is another one. An expiry of 0 keeps the
// value; "" stands for no value.
var (
	compareAndSetScript = redis.NewScript(`
		local present = redis.call('GET', KEYS[1]) or ''
		if present ~= ARGV[1] then return present end
		if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2])
		else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
		return 1`)
	leaseScript = redis.NewScript(`
		local holder = redis.call('GET', KEYS[1])
		if holder and holder ~= ARGV[1] then return 0 end
		redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
		return 1`)
	releaseScript = redis.NewScript(`
		if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
		return redis.call('DEL', KEYS[1])`)
)

func (b *redisBackend) get(ctx context.Context, app, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	value, err := b.redis.Get(ctx, b.key(app, key)).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return value, err
}

// getBatch is how many values are read in one round trip.
const getBatch = 500

func (b *redisBackend) getAll(ctx context.Context, apps []string, key string) ([][]byte, error) {
	values := make([][]byte, 0, len(apps))
	for batch := range slices.Chunk(apps, getBatch) {
		replies, err := b.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, app := range batch {
				p.Get(ctx, b.key(app, key))
			}
			return nil
		})
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, err
		}
		for _, reply := range replies {
			value, err := reply.(*redis.StringCmd).Bytes()
			if err != nil && !errors.Is(err, redis.Nil) {
				return nil, err
			}
			values = append(values, value)
		}
	}
	return values, nil
}

// maxWrites is how often a change is tried when others change the same value.
const maxWrites = 64

// update costs a round trip if the value is still what was is, and one more for each time it is not.
func (b *redisBackend) update(ctx context.Context, app, key string, was []byte, change change) error {
	for range maxWrites {
		next, expiry, err := change(was)
		if err != nil {
			return err
		}
		reply, err := b.run(ctx, compareAndSetScript, app, key, was, next, milliseconds(expiry))
		if err != nil {
			return err
		}
		present, changed := reply.(string)
		if !changed {
			return nil
		}
		if was = nil; present != "" {
			was = []byte(present)
		}
	}
	return fmt.Errorf("changed by others %d times", maxWrites)
}

func (b *redisBackend) lease(ctx context.Context, app, key, holder string, expiry time.Duration) (bool, error) {
	reply, err := b.run(ctx, leaseScript, app, key, holder, milliseconds(expiry))
	return reply == int64(1), err
}

func (b *redisBackend) release(ctx context.Context, app, key, holder string) error {
	_, err := b.run(ctx, releaseScript, app, key, holder)
	return err
}

// run sends EVALSHA, and EVAL if the server does not know the script.
func (b *redisBackend) run(ctx context.Context, s *redis.Script, app, key string, args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	return s.Run(ctx, b.redis, []string{b.key(app, key)}, args...).Result()
}

// forget looks for the app's keys among all keys of Redis. Until 2026-12 the keys of pace had another
// prefix in front; they expire by themselves, so a user who may not touch them can forget all the same.
func (b *redisBackend) forget(ctx context.Context, app string) error {
	prefix := b.key(app, "")
	return b.masters(ctx, func(ctx context.Context, c redis.Cmdable) error {
		var cursor uint64
		for {
			keys, next, err := c.Scan(ctx, cursor, "*"+prefix+"*", 1000).Result()
			if err != nil {
				return err
			}
			var old []string
			keys = slices.DeleteFunc(keys, func(key string) bool {
				if strings.HasPrefix(key, oldPacePrefix+prefix) {
					old = append(old, key)
				}
				return !strings.HasPrefix(key, prefix)
			})
			if len(old) > 0 {
				if err := c.Unlink(ctx, old...).Err(); err != nil && !redis.HasErrorPrefix(err, "NOPERM") {
					return err
				}
			}
			if len(keys) > 0 {
				if err := c.Unlink(ctx, keys...).Err(); err != nil {
					return err
				}
			}
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	})
}

// oldPacePrefix is what redis_rate puts in front of a key, which package limits takes off again.
const oldPacePrefix = "rate:"

func (b *redisBackend) close() error { return b.redis.Close() }

// milliseconds rounds up, for 0 means never.
func milliseconds(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

// tryOnce keeps a cluster client from sending a command again when its answer did not come:
// MaxRetries does not reach it, it goes by MaxRedirects, which redirections need. Pipelines are
// not covered.
type tryOnce struct{}

func (tryOnce) DialHook(next redis.DialHook) redis.DialHook { return next }

func (tryOnce) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return next(ctx, once{cmd}) }
}

func (tryOnce) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// once is a command that go-redis does not retry.
type once struct{ redis.Cmder }

// NoRetry overrides that of the command.
func (once) NoRetry() bool { return true }
