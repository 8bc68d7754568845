package limits

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Usage is what an app has used of one counter in one window.
type Usage struct {
	Rule      *Rule
	Counter   string // the rule's name, or that of one path inside a /*; and @caller for a share
	Period    Period
	Limit     int64 // 0: the rule has no figure
	Used      int64
	Remaining int64 // 0 where there is no figure
	Reset     time.Time
	Latched   bool // WeChat itself answered 45009

	Grant   Grant // in force, and part of Limit
	Reserve int64 // calls kept back for the caller of the counter; of a quota, for all callers
	Kept    int64 // of them what is not used yet: nobody else's, and part of Remaining

	Generation   int64 // of the last clear, milliseconds since 1970; 0: none in this window
	StartUnknown bool  // WeChat did not say how many calls were made before the first of the day
}

// ruleOf returns the name of the rule that a counter belongs to.
func ruleOf(counter string) string {
	if i := strings.IndexAny(counter, ":@"); i >= 0 {
		return counter[:i]
	}
	return counter
}

// Usage returns what an app has used in the windows of now: a line for each quota of each rule in
// the table's order, and one for each path inside a /* that was called.
func (l *Limiter) Usage(ctx context.Context, app string) ([]Usage, error) {
	lines, err := l.UsageAll(ctx, []string{app}, false)
	switch {
	case err != nil:
		return nil, err
	case lines[0] == nil:
		return nil, fmt.Errorf("app %s: not configured", app)
	}
	return lines[0], nil
}

// maxReaders is how many processors read the counters of all apps for one answer, and appsOfReading how many apps each
// reads at a time: the two windows of each in one pipeline.
const (
	maxReaders    = 4
	appsOfReading = readBatch / 2
)

// UsageAll returns the lines of Usage of each app, in the order of apps: nil for one that has no rules.
// With usedOnly, lines with nothing counted and no latch are left out. Several processors read the store, a
// hundred apps at a time. Beside an error it returns the lines of the apps that could be read.
func (l *Limiter) UsageAll(ctx context.Context, apps []string, usedOnly bool) ([][]Usage, error) {
	now := l.now()
	reader := usageReader{cal: l.calendar(now), now: now.store, usedOnly: usedOnly}
	lines := make([][]Usage, len(apps))
	parts := (len(apps) + appsOfReading - 1) / appsOfReading
	errs := make([]error, parts)
	var next atomic.Int64
	var readers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), maxReaders, parts) {
		readers.Go(func() {
			for i := int(next.Add(1)) - 1; i < parts; i = int(next.Add(1)) - 1 {
				at, end := i*appsOfReading, min((i+1)*appsOfReading, len(apps))
				errs[i] = l.usageOf(ctx, apps[at:end], lines[at:end], reader)
				if _, answered := errors.AsType[*StoreError](errs[i]); errs[i] != nil && !answered {
					next.Store(int64(parts)) // the others would have no answer either
				}
			}
		})
	}
	readers.Wait()
	return lines, cmp.Or(errs...)
}

// usageOf sets the lines of apps.
func (l *Limiter) usageOf(ctx context.Context, apps []string, lines [][]Usage, reader usageReader) error {
	queries := make([]Query, 0, 2*len(apps))
	for _, app := range apps {
		for _, w := range reader.cal.of {
			queries = append(queries, Query{App: app, Window: w})
		}
	}
	stored, err := l.read(ctx, queries)
	for i, app := range apps {
		if rules := l.Rules(app); rules != nil && stored[2*i] != nil && stored[2*i+1] != nil {
			u := reader
			u.stored, u.lines = stored[2*i:2*i+2], []Usage{}
			for _, m := range l.registry.of(app) {
				u.add(m)
			}
			u.read(rules)
			lines[i] = u.lines
		}
	}
	return err
}

// read reads the store. A field that is damaged is observed and left out. What could not be read is nil,
// beside an error.
func (l *Limiter) read(ctx context.Context, queries []Query) ([]map[string]CounterState, error) {
	stored, err := l.link.counters.Read(ctx, queries)
	if stored == nil {
		stored = make([]map[string]CounterState, len(queries))
	}
	var rest []error
	for _, err := range joined(err) {
		damaged, ok := errors.AsType[*DamagedError](err)
		if !ok {
			rest = append(rest, err)
		} else if _, known := l.damaged.LoadOrStore(damaged.Key+" "+damaged.Field, true); !known {
			l.observe(Event{Kind: Damaged, Err: damaged})
		}
	}
	return stored, errors.Join(rest...)
}

// joined returns the errors that errors.Join has put together.
func joined(err error) []error {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		return all.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// Today returns what an app has used of one counter today, whether it was ever called or not.
func (l *Limiter) Today(ctx context.Context, app, counter string) (Usage, error) {
	now := l.now()
	cal := l.calendar(now)
	rules := l.Rules(app)
	if rules == nil || rules.Rule(ruleOf(counter)) == nil {
		return Usage{Counter: counter}, fmt.Errorf("app %s: counter %s: not configured", app, counter)
	}
	names := []string{counter}
	for caller := range rules.Rule(ruleOf(counter)).Reserve {
		names = append(names, counter+"@"+caller)
	}
	stored, err := l.read(ctx, []Query{{App: app, Window: cal.of[Day], Names: names}})
	if err != nil {
		return Usage{Counter: counter}, err
	}
	u := usageReader{cal: cal, now: now.store, stored: append(stored, nil)}
	if m := l.registry.find(app, counter); m != nil {
		u.add(m)
	}
	limit := int64(noLimit)
	for _, n := range needsOf(rules.Rule(ruleOf(counter)), counter, "") {
		if n.period == Day && n.reserve == 0 {
			limit = n.limit
		}
	}
	u.line(rules.Rule(ruleOf(counter)), counter, Day, limit)
	return u.lines[0], nil
}

// usageReader makes the lines of one app.
type usageReader struct {
	cal      *calendar
	now      int64
	stored   []map[string]CounterState // by Period
	unknown  map[string]bool           // counters of the day whose start WeChat did not state
	usedOnly bool
	lines    []Usage
}

// add adds what this gateway has not reported yet to what the store holds.
func (u *usageReader) add(m *meter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.counters {
		in := u.stored[c.window.Period]
		if c.window.Name != u.cal.of[c.window.Period].Name || in == nil {
			continue
		}
		state := in[c.name]
		if state.Generation <= c.generation {
			if state.Generation < c.generation {
				state = CounterState{Generation: c.generation, Grant: state.Grant}
			}
			state.Used += c.own.local - c.own.reserved - c.acked
			state.Latch = state.Latch.merge(c.latch)
		}
		state.Grant = state.Grant.merge(c.remote.Grant)
		if in[c.name] != state {
			in[c.name] = state
		}
		if c.seedUnknown {
			if u.unknown == nil {
				u.unknown = make(map[string]bool)
			}
			u.unknown[c.name] = true
		}
	}
}

// read makes the lines of all rules.
func (u *usageReader) read(rules *Ruleset) {
	var paths map[string][]string // of paths inside a /*, by rule
	var counted []*Rule           // of which something is stored
	for _, in := range u.stored {
		for name := range in {
			if rule, path, ok := strings.Cut(name, ":"); ok && !strings.Contains(path, "@") {
				if paths == nil {
					paths = make(map[string][]string)
				}
				paths[rule] = append(paths[rule], name)
			}
			if rule := rules.Rule(ruleOf(name)); u.usedOnly && !slices.Contains(counted, rule) {
				counted = append(counted, rule)
			}
		}
	}
	for _, rule := range rules.Rules {
		if u.usedOnly && !slices.Contains(counted, rule) { // of 10,000 accounts most rules are not called
			continue
		}
		if slices.ContainsFunc(rule.Paths, func(p string) bool { return !strings.HasSuffix(p, "/*") }) {
			u.counter(rule, rule.Name)
		}
		slices.Sort(paths[rule.Name])
		for _, counter := range slices.Compact(paths[rule.Name]) {
			u.counter(rule, counter)
		}
	}
}

// counter makes the lines of one counter and of the shares of it.
func (u *usageReader) counter(rule *Rule, counter string) {
	for _, n := range needsOf(rule, counter, "") {
		if n.reserve == 0 {
			u.line(rule, counter, n.period, n.limit)
		}
	}
	for _, caller := range rule.callers() {
		for _, n := range needsOf(rule, counter, caller) {
			if n.reserve == 0 && n.name != counter {
				u.line(rule, n.name, n.period, n.limit)
			}
		}
	}
}

// reserves fills in what is kept back of a line's quota, or for its caller.
func (u *usageReader) reserves(line *Usage) {
	base, of, share := strings.Cut(line.Counter, "@")
	for caller, n := range line.Rule.Reserve {
		hasQuota := slices.ContainsFunc(line.Rule.Budget.Quotas, func(q Quota) bool { return q.Period == line.Period })
		if hasQuota && (!share || caller == of) {
			line.Reserve += n
			line.Kept += max(0, n-u.stored[line.Period][base+"@"+caller].Used)
		}
	}
}

func (u *usageReader) line(rule *Rule, counter string, p Period, limit int64) {
	state := u.stored[p][counter]
	line := Usage{
		Rule: rule, Counter: counter, Period: p, Reset: u.cal.of[p].End,
		Used: max(0, state.Used), Latched: u.now < state.Latch.Until, Generation: state.Generation,
		StartUnknown: p == Day && u.unknown[counter],
	}
	u.reserves(&line)
	if limit < noLimit {
		if granted := state.Grant.at(u.now); granted > 0 {
			line.Grant = state.Grant
			limit += granted
		}
		line.Limit = limit
		line.Remaining = max(0, line.Limit-line.Used)
	}
	if !u.usedOnly || line.Used > 0 || line.Latched || line.Grant.Calls > 0 {
		u.lines = append(u.lines, line)
	}
}
