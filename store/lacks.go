package store

import (
	"context"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Lacks returns what a Redis that Open has taken does not offer, each with what follows from it: persistence, and
// commands of [ACL] that its user may not run. Nothing is left behind. A file lacks nothing.
func (s *Store) Lacks(ctx context.Context) ([]string, error) {
	if s.redis == nil {
		return nil, nil
	}
	var lacks []string
	info, err := s.redis.Info(ctx, "persistence").Result()
	if err != nil && !isReply(err) {
		return nil, withoutArguments(err)
	}
	if parseInfo(info)["aof_enabled"] == "0" {
		lacks = append(lacks, "store: appendonly is off: a restart of Redis loses counts and tokens since its last snapshot: want appendonly yes")
	}
	denied, err := s.Denied(ctx)
	if err != nil {
		return nil, err
	}
	if len(denied) > 0 {
		lacks = append(lacks, "store: its user may not run "+strings.Join(denied, ", ")+" on keys of this prefix: calls would be refused or counts lost: want what the manual's ACL SETUSER gives")
	}
	return lacks, nil
}

// Denied returns the commands of [ACL] that the user of a Redis may not run on keys of the prefix, sorted. It runs
// them on a key of its own, and leaves nothing behind. A file denies nothing.
func (s *Store) Denied(ctx context.Context) ([]string, error) {
	if s.redis == nil {
		return nil, nil
	}
	key := s.prefix + "{check}:lacks"
	var denied []string
	for _, command := range [][]any{
		{"get", key}, {"hmget", key, "a"}, {"hgetall", key}, {"zcard", key}, {"zrange", key, 0, -1}, {"time"}, {"scan", 0, "count", 1}, // read
		{"expire", key, 1}, {"expireat", key, 1}, {"zadd", key, "xx", 1, "a"}, {"zremrangebyscore", key, 0, 0}, // do nothing without a key
		{"hset", key, "a", "1"}, {"expire", key, 1}, {"del", key}, {"set", key, "1", "px", 1}, {"unlink", key},
	} {
		err := s.redis.Do(ctx, command...).Err()
		switch {
		case err == nil, err == redis.Nil: //nolint:errorlint // go-redis returns it as it is
		case !isReply(err):
			return nil, withoutArguments(err)
		case strings.HasPrefix(err.Error(), "NOPERM"):
			denied = append(denied, command[0].(string))
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(denied))), nil
}
