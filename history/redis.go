package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// Redis keeps history in a Redis. Of an account it has
//
//	<prefix>{<appid>}:history:h20261123   a hash of the hours of a day: hour|part -> sums
//	<prefix>{<appid>}:history:m202611     a hash of the days of a month: day -> sums
//	<prefix>{<appid>}:history:r2954880    a hash of the minutes of a slot: part -> calls
//
// which expire. It needs no command beyond those of the counters.
type Redis struct {
	redis  redis.UniversalClient
	prefix string
	rolls  atomic.Int64
	life   string
}

// NewRedis returns history in a Redis. prefix begins every key, and gateway is the random id of this
// process life.
func NewRedis(c redis.UniversalClient, prefix, gateway string) *Redis {
	return &Redis{redis: c, prefix: prefix, life: gateway}
}

const (
	writeBatch = 100 // accounts in one request
	readBatch  = 100 // keys in one request
)

func (s *Redis) key(app, rest string) string { return s.prefix + "{" + app + "}:history:" + rest }

func (s *Redis) monthKey(d Day) string { return s.key(d.App, "m"+d.Day[:len("200601")]) }

// Write implements [Store]. It sends two commands for each hour and each slot.
func (s *Redis) Write(ctx context.Context, parts []Parts) error {
	var errs []error
	for batch := range slices.Chunk(parts, writeBatch) {
		_, err := s.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, a := range batch {
				s.write(ctx, p, a)
			}
			return nil
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("history: %w", err))
			break // the rest would wait as long
		}
	}
	return errors.Join(errs...)
}

func (s *Redis) write(ctx context.Context, p redis.Pipeliner, a Parts) {
	for _, h := range a.Hours {
		key := s.key(a.App, "h"+h.Day)
		p.HSet(ctx, key, hourField(h.Part), h.Sums)
		p.ExpireAt(ctx, key, hoursExpire(h.Day))
		if h.Over { // after the part: a roll that has not seen it must not last
			month := s.monthKey(Day{a.App, h.Day})
			p.HSet(ctx, month, h.Day, "")
			p.ExpireAt(ctx, month, daysExpire(h.Day))
		}
	}
	for _, m := range a.Minutes {
		key := s.key(a.App, "r"+strconv.FormatInt(m.Slot, 10))
		p.HSet(ctx, key, m.Name, m.Packed)
		p.ExpireAt(ctx, key, slotExpires(m.Slot))
	}
}

// hourField names a part in the hash of its day.
func hourField(p Part) string { return strconv.FormatInt(p.Hour, 36) + "|" + p.Name }

// parseHourField reads what hourField wrote.
func parseHourField(field string, sums []byte) (Part, bool) {
	at, name, ok := strings.Cut(field, "|")
	hour, err := strconv.ParseInt(at, 36, 64)
	return Part{Hour: hour, Name: name, Sums: sums}, ok && err == nil
}

// Hours implements [Store].
func (s *Redis) Hours(ctx context.Context, days []Day) ([][]Part, error) {
	all := make([][]Part, 0, len(days))
	err := pipelined(ctx, s.redis, days, func(p redis.Pipeliner, d Day) {
		p.HGetAll(ctx, s.key(d.App, "h"+d.Day))
	}, func(c redis.Cmder) error {
		fields, err := c.(*redis.MapStringStringCmd).Result()
		var parts []Part
		for field, sums := range fields {
			if part, ok := parseHourField(field, []byte(sums)); ok {
				parts = append(parts, part)
			}
		}
		all = append(all, parts)
		return err
	})
	return all, err
}

// pipelined sends a command for each of several values, many in one request, and reads the replies.
func pipelined[T any](ctx context.Context, c redis.UniversalClient, values []T, send func(redis.Pipeliner, T), read func(redis.Cmder) error) error {
	for batch := range slices.Chunk(values, readBatch) {
		replies, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, v := range batch {
				send(p, v)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("history: %w", err)
		}
		for _, reply := range replies {
			if err := read(reply); err != nil {
				return fmt.Errorf("history: %w", err)
			}
		}
	}
	return nil
}

// Days implements [Store].
func (s *Redis) Days(ctx context.Context, days []Day) ([][]byte, error) {
	all := make([][]byte, 0, len(days))
	var months [][]Day // runs of days of one month
	for i, d := range days {
		if i == 0 || s.monthKey(days[i-1]) != s.monthKey(d) {
			months = append(months, nil)
		}
		months[len(months)-1] = append(months[len(months)-1], d)
	}
	err := pipelined(ctx, s.redis, months, func(p redis.Pipeliner, run []Day) {
		fields := make([]string, len(run))
		for i, d := range run {
			fields[i] = d.Day
		}
		p.HMGet(ctx, s.monthKey(run[0]), fields...)
	}, func(c redis.Cmder) error {
		values, err := c.(*redis.SliceCmd).Result()
		for _, value := range values {
			text, _ := value.(string)
			if text == "" || strings.HasPrefix(text, rolling) {
				all = append(all, nil)
			} else {
				all = append(all, []byte(text))
			}
		}
		return err
	})
	return all, err
}

// Minutes implements [Store].
func (s *Redis) Minutes(ctx context.Context, apps []string, slots []int64) ([][]Minutes, error) {
	all := make([][]Minutes, len(apps))
	type key struct {
		app  string
		slot int64
	}
	keys := make([]key, 0, len(apps)*len(slots))
	for _, app := range apps {
		for _, slot := range slots {
			keys = append(keys, key{app, slot})
		}
	}
	n := 0
	err := pipelined(ctx, s.redis, keys, func(p redis.Pipeliner, k key) {
		p.HGetAll(ctx, s.key(k.app, "r"+strconv.FormatInt(k.slot, 10)))
	}, func(c redis.Cmder) error {
		fields, err := c.(*redis.MapStringStringCmd).Result()
		for name, packed := range fields {
			all[n/len(slots)] = append(all[n/len(slots)], Minutes{keys[n].slot, name, []byte(packed)})
		}
		n++
		return err
	})
	return all, err
}

// rolling begins what stands for a day while it is rolled up. No packed sums begin so.
const rolling = "?"

// rollScript stores a day unless another value has replaced the mark since.
var rollScript = redis.NewScript(`
	if redis.call('HMGET', KEYS[1], ARGV[1])[1] ~= ARGV[2] then return 0 end
	redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
	redis.call('EXPIREAT', KEYS[1], ARGV[4])
	return 1`)

// Roll implements [Store]. It marks the day before it reads the parts, and each later write of a part
// removes the mark, so what is stored has all parts. A mark that is left behind counts as nothing.
func (s *Redis) Roll(ctx context.Context, day Day, merge func([]Part) []byte) error {
	mark := rolling + s.life + "." + strconv.FormatInt(s.rolls.Add(1), 10)
	key, expires := s.monthKey(day), daysExpire(day.Day)
	_, err := s.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, key, day.Day, mark)
		p.ExpireAt(ctx, key, expires)
		return nil
	})
	if err != nil {
		return fmt.Errorf("history: roll up: %w", err)
	}
	hours, err := s.Hours(ctx, []Day{day})
	if err != nil {
		return err
	}
	sums := merge(hours[0])
	if sums == nil {
		sums = []byte{}
	}
	if err := rollScript.Run(ctx, s.redis, []string{key}, day.Day, mark, sums, expires.Unix()).Err(); err != nil {
		return fmt.Errorf("history: roll up: %w", err)
	}
	return nil
}
