package history

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// Step is into what a range is divided.
type Step string

// The steps. Of days that are longer ago than HoursKept only whole days are known.
const (
	Total  Step = "total" // not at all
	ByDay  Step = "day"
	ByHour Step = "hour"
)

// Query says what is asked of the history of some accounts.
type Query struct {
	Apps     []string
	From, To time.Time // To is not included
	Step     Step
	Rule     bool // lines for each rule, caller or outcome; otherwise these are added up
	Caller   bool
	Outcome  bool
}

// Line is the calls of a series in one step. What is added up is zero.
type Line struct {
	App    string
	Start  time.Time // of the step; of the range where it is Total
	Series Series

	Calls   int64 // all of them
	Sent    int64 // requests to WeChat, which count against a quota; a call whose token had died is two
	Refused int64 // by the gateway
	Shadow  int64 // sent, and would have been refused
}

func (l *Line) add(s sum) {
	if s.Outcome.Kind != TokenDied {
		l.Calls += s.count
	}
	switch {
	case s.Outcome.Sent():
		l.Sent += s.count
		if s.Outcome.Kind == Shadow {
			l.Shadow += s.count
		}
	case s.Outcome.Kind == Refused:
		l.Refused += s.count
	}
}

// ErrTooMany is the error of a query with more than MaxLines lines.
var ErrTooMany = errors.New("too many lines")

// MaxLines is how many lines an answer may have: each takes some hundred bytes until it is sent.
const MaxLines = 200_000

// Refusal is what was refused of one rule to one caller for one reason.
type Refusal struct {
	App, Rule, Caller, Reason string
	First, Last               time.Time // of the range, to the second
	Count                     int64
}

// History returns the counts of a range, by account, time and series. Hours and days are whole: those in which
// the range begins and ends are included. It reads all gateways' parts and this one's latest.
func (r *Recorder) History(ctx context.Context, q Query) ([]Line, error) {
	type key struct {
		app   string
		start int64
		Series
	}
	counts := make(map[key]*Line)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	err := r.each(ctx, q, func(app string, start int64, s sum) {
		k := key{app: app, start: start}
		if q.Rule {
			k.Rule = s.Rule
		}
		if q.Caller {
			k.Caller = s.Caller
		}
		if q.Outcome {
			k.Outcome = s.Outcome
		}
		l := counts[k]
		switch {
		case l == nil && len(counts) == MaxLines:
			stop(ErrTooMany)
			return
		case l == nil:
			l = &Line{App: app, Start: time.Unix(start, 0).In(r.zone.Load()), Series: k.Series}
			counts[k] = l
		}
		l.add(s)
	})
	if errors.Is(context.Cause(ctx), ErrTooMany) {
		return nil, ErrTooMany
	}
	lines := make([]Line, 0, len(counts))
	for _, l := range counts {
		lines = append(lines, *l)
	}
	order := appOrder(q.Apps)
	slices.SortFunc(lines, func(a, b Line) int {
		return cmp.Or(cmp.Compare(order[a.App], order[b.App]), a.Start.Compare(b.Start), cmp.Compare(b.Sent, a.Sent), cmp.Compare(b.Calls, a.Calls), compareSeries(a.Series, b.Series))
	})
	return lines, err
}

// Refusals returns what was refused in a range, the most frequent first. Only range and accounts of q count.
func (r *Recorder) Refusals(ctx context.Context, q Query) ([]Refusal, error) {
	q.Step = Total
	type key struct {
		app string
		Series
	}
	sums := make(map[key]sum)
	err := r.each(ctx, q, func(app string, _ int64, s sum) {
		if s.Outcome.Kind == Refused {
			k := key{app, s.Series}
			sums[k] = sums[k].add(s)
		}
	})
	zone := r.zone.Load()
	refusals := make([]Refusal, 0, len(sums))
	for k, s := range sums {
		refusals = append(refusals, Refusal{
			App: k.app, Rule: k.Rule, Caller: k.Caller, Reason: k.Outcome.Reason,
			First: time.Unix(s.first, 0).In(zone), Last: time.Unix(s.last, 0).In(zone), Count: s.count,
		})
	}
	order := appOrder(q.Apps)
	slices.SortFunc(refusals, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(order[a.App], order[b.App]), cmp.Compare(b.Count, a.Count),
			cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Caller, b.Caller), cmp.Compare(a.Reason, b.Reason))
	})
	return refusals, err
}

// Callers returns how many requests of each rule went to WeChat for each caller today.
func (r *Recorder) Callers(ctx context.Context, apps []string) (map[string]map[string]map[string]int64, error) {
	now := r.o.Now()
	callers := make(map[string]map[string]map[string]int64)
	err := r.each(ctx, Query{Apps: apps, From: dayStart(now.In(r.zone.Load()), 0), To: now, Step: Total}, func(app string, _ int64, s sum) {
		if !s.Outcome.Sent() {
			return
		}
		if callers[app] == nil {
			callers[app] = make(map[string]map[string]int64)
		}
		if callers[app][s.Rule] == nil {
			callers[app][s.Rule] = make(map[string]int64)
		}
		callers[app][s.Rule][s.Caller] += s.count
	})
	return callers, err
}

// Zone returns the zone of days and hours.
func (r *Recorder) Zone() *time.Location { return r.zone.Load() }

// HoursSince returns since when each hour is known.
func (r *Recorder) HoursSince() time.Time { return dayStart(r.o.Now().In(r.zone.Load()), -HoursKept) }

// DaysSince returns since when days are known.
func (r *Recorder) DaysSince() time.Time { return dayStart(r.o.Now().In(r.zone.Load()), -DaysKept) }

// readApps is how many accounts' days are in memory at once.
const readApps = 50

// each calls visit with the sums of a range and the start of the step that they belong to.
func (r *Recorder) each(ctx context.Context, q Query, visit func(app string, start int64, s sum)) error {
	zone := r.zone.Load()
	from, to := q.From.In(zone), q.To.In(zone)
	var days []string
	for t, n := dayStart(from, 0), 1; t.Before(to); t, n = dayStart(from, n), n+1 {
		days = append(days, dayOf(t))
	}
	for apps := range slices.Chunk(q.Apps, readApps) {
		for some := range slices.Chunk(days, 1+DaysKept/len(apps)) {
			if err := r.eachDay(ctx, q, apps, some, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

// eachDay does the same for some accounts and days.
func (r *Recorder) eachDay(ctx context.Context, q Query, apps, days []string, visit func(app string, start int64, s sum)) error {
	own := make(map[Day][]Part) // before the store is read, which then has no less
	var wholes, rest []Day
	for _, app := range apps {
		for _, p := range r.own(app).Hours {
			own[Day{app, p.Day}] = append(own[Day{app, p.Day}], p.Part)
		}
	}
	for _, app := range apps {
		for _, day := range days {
			if d := (Day{app, day}); own[d] == nil && r.whole(q, day) {
				wholes = append(wholes, d)
			} else {
				rest = append(rest, d)
			}
		}
	}
	stored, err := r.o.Store.Days(ctx, wholes)
	if err != nil {
		return err
	}
	for i, d := range wholes {
		if stored[i] == nil {
			rest = append(rest, d) // not rolled up yet, or never used
			continue
		}
		start := r.startOf(q, parseDay(d.Day, r.zone.Load()).Unix())
		_ = unpack(dayBase(d.Day), stored[i], func(s sum) { visit(d.App, start, s) }) // a damaged day is left out
	}
	oldest := dayOf(r.HoursSince())
	rest = slices.DeleteFunc(rest, func(d Day) bool { return d.Day < oldest })
	hours, err := r.o.Store.Hours(ctx, rest)
	if err != nil {
		return err
	}
	for i, d := range rest {
		for _, p := range overlay(hours[i], own[d], func(p Part) string { return p.Name }) {
			if p.Hour+3600 <= q.From.Unix() || p.Hour >= q.To.Unix() {
				continue
			}
			start := r.startOf(q, p.Hour)
			_ = unpack(p.Hour, p.Sums, func(s sum) { visit(d.App, start, s) }) // a damaged part is left out
		}
	}
	return nil
}

// whole reports whether the sums of a day will do: it is over, and lies in the range or is known as a whole
// only.
func (r *Recorder) whole(q Query, day string) bool {
	start := parseDay(day, r.zone.Load())
	end := dayStart(start, 1)
	if q.Step == ByHour || end.After(r.o.Now()) {
		return false
	}
	return day < dayOf(r.HoursSince()) || !start.Before(q.From) && !end.After(q.To)
}

// startOf returns the start of the step in which an hour lies.
func (r *Recorder) startOf(q Query, hour int64) int64 {
	switch q.Step {
	case ByHour:
		return hour
	case ByDay:
		return dayStart(time.Unix(hour, 0).In(r.zone.Load()), 0).Unix()
	}
	return q.From.Unix()
}

func appOrder(apps []string) map[string]int {
	order := make(map[string]int, len(apps))
	for i, app := range apps {
		order[app] = i
	}
	return order
}

func compareSeries(a, b Series) int {
	return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Caller, b.Caller), cmp.Compare(a.Outcome.String(), b.Outcome.String()))
}
