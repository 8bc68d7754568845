package limits

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// readBatch is how many hashes one round trip reads. A hash of 20 rules and 3 gateways is 3 KB, and
// the answer to a round trip has 250 ms.
const readBatch = 200

// maxReadErrors is how many damaged fields and refused queries the error of Read names.
const maxReadErrors = 10

// The field of a window's generation, and its name before 2026-12, which may be a counter's too.
const (
	generationField    = "|g"
	oldGenerationField = "g"
)

// grantField and the name of a counter are the field of its grant. A gateway of before 2026-12 does not read
// it, and adds what the counter's own field says, without an end of its own.
const grantField = "|+"

// readTries is how often a batch is read that gets no answer in the connection's time. A read changes nothing, and
// no call of WeChat's waits for it: a server that is busy for a moment is not reported to an operator as one that is
// down.
const readTries = 3

// Read reads the hash of each window, by pipelines. A query that Redis answers with an error does not
// stop the others.
func (s *Redis) Read(ctx context.Context, queries []Query) ([]map[string]CounterState, error) {
	found := make([]map[string]CounterState, len(queries))
	var errs []error
	for at := 0; at < len(queries); at += readBatch {
		end := min(at+readBatch, len(queries))
		failed, answered := s.readBatch(ctx, queries[at:end], found[at:end])
		for try := 1; !answered && try < readTries && ctx.Err() == nil; try++ {
			failed, answered = s.readBatch(ctx, queries[at:end], found[at:end])
		}
		if !answered { // the last one says why
			return found, errors.Join(append(errs, failed[len(failed)-1])...)
		}
		errs = append(errs, failed[:min(len(failed), maxReadErrors-len(errs))]...)
	}
	return found, errors.Join(errs...)
}

// readBatch reads the hashes of queries in one round trip. Unless Redis has answered all of them, the last error
// says why.
func (s *Redis) readBatch(ctx context.Context, queries []Query, found []map[string]CounterState) (failed []error, answered bool) {
	pipe := s.client.Pipeline()
	commands := make([]func() (map[string]string, error), len(queries))
	for i, query := range queries {
		commands[i] = readFields(ctx, pipe, s.key(query.App, query.Window.Name), query.Names)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for i, query := range queries {
		key := s.key(query.App, query.Window.Name)
		fields, err := commands[i]()
		if err != nil {
			err = fmt.Errorf("counters of %s: %w", query.App, storeError(err))
			failed = append(failed, err)
			if _, refused := errors.AsType[*StoreError](err); !refused {
				return failed, false
			}
			continue
		}
		var damaged []error
		found[i], damaged = parseHash(key, fields, query.Window)
		failed = append(failed, damaged...)
	}
	return failed, true
}

// readFields adds the command that reads a hash, and returns what reads its reply: the generation and
// the counters of names, or all fields if names is empty.
func readFields(ctx context.Context, pipe redis.Pipeliner, key string, names []string) func() (map[string]string, error) {
	if len(names) == 0 {
		return pipe.HGetAll(ctx, key).Result
	}
	names = append([]string{generationField, oldGenerationField}, names...)
	for _, name := range names[2:] {
		names = append(names, grantField+name)
	}
	cmd := pipe.HMGet(ctx, key, names...)
	return func() (map[string]string, error) {
		values, err := cmd.Result()
		if err != nil {
			return nil, err
		}
		if len(values) != len(names) {
			return nil, fmt.Errorf("HMGET of %d fields: %d values", len(names), len(values))
		}
		fields := make(map[string]string, len(names))
		for i, value := range values {
			if text, ok := value.(string); ok {
				fields[names[i]] = text
			}
		}
		return fields, nil
	}
}

// parseHash reads the counters among the fields of a window's hash; see redis.lua.
func parseHash(key string, fields map[string]string, w Window) (found map[string]CounterState, damaged []error) {
	last := lastTime(w)
	generation, ok := parseGeneration(fields[generationField], last)
	if _, there := fields[generationField]; there && !ok {
		damaged = append(damaged, &DamagedError{key, generationField, fields[generationField]})
	}
	if old, ok := parseGeneration(fields[oldGenerationField], last); ok {
		generation = max(generation, old)
	}
	found = make(map[string]CounterState, len(fields))
	for name, text := range fields {
		if strings.Contains(name, "|") || name == oldGenerationField && isNumber(text) {
			continue
		}
		c, ok := parseRecord(text, last)
		switch {
		case !ok:
			damaged = append(damaged, &DamagedError{key, name, text})
		case c.Generation < generation:
			found[name] = CounterState{Generation: generation, Grant: c.Grant}
		default:
			found[name] = c.CounterState
		}
		if grant, there := parseGrant(fields[grantField+name], last); there && ok {
			state := found[name]
			state.Grant = grant
			found[name] = state
		}
	}
	return found, damaged
}

// lastTime is the latest time that a counter of a window may name, as its generation or its latch:
// a day after the window's end, when its counters expire.
func lastTime(w Window) int64 { return w.End.UnixMilli() + (24 * time.Hour).Milliseconds() }

// parseGeneration reads the generation of a window. It reports false for text that is not one.
func parseGeneration(text string, last int64) (int64, bool) {
	g, ok := parseFigure(text)
	if !ok || g > last {
		return 0, false
	}
	return g, true
}

// parseRecord reads "generation used version[ lost until grant[ at]]". It reports false for text that
// is not a counter.
func parseRecord(text string, last int64) (record, bool) {
	var f [7]int64
	n := 0
	for word := range strings.SplitSeq(text, " ") {
		figure, ok := parseFigure(word)
		if !ok || n == len(f) {
			return record{}, false
		}
		f[n] = figure
		n++
	}
	if n != 3 && n != 6 && n != 7 {
		return record{}, false
	}
	c := record{Lost: f[3]}
	c.CounterState = CounterState{Generation: f[0], Used: f[1], Version: f[2], Latch: Latch{Until: f[4], At: f[6]}, Grant: grantUntil(f[5], last)}
	return c, c.Generation <= last && c.Latch.Until <= last && c.Latch.At <= last
}

// hugeFigure is over every count and every time of this millennium; Lua writes numbers from it on with
// an exponent.
const hugeFigure = 1_000_000_000_000_000

// parseFigure reads a whole number under 1e15 that has no sign.
func parseFigure(text string) (n int64, ok bool) {
	if !isNumber(text) {
		return 0, false
	}
	for i := range len(text) {
		if n = n*10 + int64(text[i]-'0'); n >= hugeFigure {
			return 0, false
		}
	}
	return n, true
}

// isNumber reports whether text has nothing but digits.
func isNumber(text string) bool {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return text != ""
}
