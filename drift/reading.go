package drift

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"wxproxy/limits"
)

// Reading is WeChat's count of a counter, compared with ours.
type Reading struct {
	At      time.Time // when WeChat was asked
	Limit   int64     // WeChat's figure a day, the smallest of the counter's paths; 0: it has none
	Used    int64     // the calls of the day that WeChat has counted, of all paths of the counter
	Counted int64     // the calls that the gateways had counted when WeChat was asked, without what was raised
	Raised  int64     // by how much the count was raised to WeChat's in this window and generation
	Drift   int64     // Used less Counted: calls that did not pass a gateway; WeChat's figures may be off by 1 %
}

// errWindowChanged reports that a midnight or a clear fell into a reading, which is thrown away: it is
// not known whether WeChat's count is from before or after it.
var errWindowChanged = errors.New("the day ended, or was cleared, while WeChat was asked")

// answer is WeChat's answer about a counter, and our count after it.
type answer struct {
	counter
	after       limits.Usage
	began       time.Time // just before the first question
	limit, used int64
	usedUp      bool // a path has no calls left today
}

// measure asks WeChat about the paths of a counter, one after the other. It changes no count. Beside an
// error the answer is what was learned before it.
func (a *Auditor) measure(ctx context.Context, c *counter) (*answer, error) {
	m := &answer{counter: *c, after: c.line, began: a.o.Now()}
	a.mu.Lock()
	a.stateLocked(c.app).delayLocked(m.began, len(c.paths))
	a.mu.Unlock()
	for _, path := range c.paths {
		limit, used, err := a.ask(ctx, c.app, path)
		if err != nil {
			return m, err
		}
		if m.used += used; m.used > limits.MaxLimit {
			return m, &Error{Path: path, Fault: fmt.Sprintf("more than %d calls of the rule in all", int64(limits.MaxLimit))}
		}
		if limit > 0 && (m.limit == 0 || limit < m.limit) {
			m.limit = limit
		}
		m.usedUp = m.usedUp || limit > 0 && used >= limit
	}
	if m.used <= c.line.Used {
		return m, nil // there is nothing to raise, whatever was counted since
	}
	var err error
	m.after, err = a.o.Limiter.Today(ctx, c.app, c.match.Counter)
	if err == nil && (!m.after.Reset.Equal(c.line.Reset) || m.after.Generation != c.line.Generation) {
		err = errWindowChanged
	}
	return m, err
}

// delayLocked makes the jobs of an app wait for questions that are asked at now. Auditor.mu is held.
func (s *appState) delayLocked(now time.Time, questions int) {
	if next := now.Add(time.Duration(questions) * questionInterval); next.After(s.nextQuestion) {
		s.nextQuestion = next
	}
}

// ask asks WeChat about one path.
func (a *Auditor) ask(ctx context.Context, app, path string) (limit, used int64, err error) {
	body, err := json.Marshal(map[string]string{"cgi_path": path})
	if err != nil {
		return 0, 0, err
	}
	asking, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	answer, err := a.o.Post(asking, app, quotaPath, body)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return 0, 0, ctx.Err()
	case err != nil: // its text may hold anything, as a URL with a token in it
		return 0, 0, &Error{Path: path, Fault: noAnswer}
	}
	return parseAnswer(path, answer)
}

// read asks about a counter and settles the answer. rec is the app's record, read or not.
func (a *Auditor) read(ctx context.Context, c *counter, rec *stored[record]) error {
	m, err := a.measure(ctx, c)
	if err != nil {
		return err
	}
	return a.settle(ctx, m, rec)
}

// settle records an answer, raises our count where WeChat's is higher, and adopts WeChat's figure
// where that is configured. It records first: a raise that then fails shows in the count, and a
// raise without a record would look like calls.
func (a *Auditor) settle(ctx context.Context, m *answer, rec *stored[record]) error {
	raise, err := a.save(ctx, m, rec)
	if err != nil {
		return err
	}
	if raise > 0 || m.after.StartUnknown { // the start is known now, also if there is nothing to raise
		err = a.o.Limiter.Raise(ctx, m.app, m.match, m.used, m.began)
		if err != nil && !errors.Is(err, limits.ErrTooEarly) {
			return fmt.Errorf("raise %s of %s: %w", m.match.Counter, m.app, err)
		}
	}
	if err = a.adopt(ctx, m); err == nil {
		a.succeeded(m.app, m.match.Counter)
	}
	return err
}

// Read asks WeChat about each counter of an app that was used today or has a figure, one after the
// other. A path that WeChat refuses is left out; another failure ends it. It returns all failures,
// joined; those of WeChat are an *Error. Concurrent calls share the answers.
func (a *Auditor) Read(ctx context.Context, app string) error {
	if _, known := a.o.App(app); !known {
		return fmt.Errorf("app %s: not configured", app)
	}
	for {
		result := a.reads.DoChan(app, func() (any, error) { return nil, a.readAll(ctx, app) })
		select {
		case <-ctx.Done():
			return fmt.Errorf("reading %s: %w", app, ctx.Err())
		case r := <-result:
			if errors.Is(r.Err, context.Canceled) && ctx.Err() == nil {
				continue // the caller that started it has gone away
			}
			return r.Err
		}
	}
}

func (a *Auditor) readAll(ctx context.Context, app string) error {
	days, err := a.days(ctx, app)
	if err != nil {
		return err
	}
	var errs []error
	var rec stored[record]
	for _, line := range days {
		if line.Used == 0 && (line.Counter != line.Rule.Name || dayFigure(line.Rule) == 0) {
			continue
		}
		c, err := a.counter(ctx, app, line.Counter)
		if err == nil && c != nil {
			err = a.read(ctx, c, &rec)
		}
		if err != nil {
			a.failed(app, line.Counter, err)
			errs = append(errs, err)
			if !pathRefused(err) {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// Readings returns the last reading of each counter of each app, by any gateway, in the windows and
// generations of its lines. An app without lines has none. It reads the store in a round trip for several
// hundred apps.
func (a *Auditor) Readings(ctx context.Context, apps []string, lines [][]limits.Usage) ([]map[string]Reading, error) {
	var used []string
	for i, app := range apps {
		if len(lines[i]) > 0 {
			used = append(used, app)
		}
	}
	records, err := a.o.Store.GetAll(ctx, used, recordKey)
	if err != nil {
		return nil, fmt.Errorf("readings: %w", err)
	}
	readings := make([]map[string]Reading, len(apps))
	for i := range apps {
		if len(lines[i]) == 0 {
			continue
		}
		rec := parseRecord(records[0])
		records, readings[i] = records[1:], make(map[string]Reading)
		for _, line := range lines[i] {
			if e, ok := rec.Counters[line.Counter]; ok && line.Period == limits.Day && e.matches(line) {
				readings[i][line.Counter] = Reading{time.UnixMilli(e.At), e.Limit, e.Used, e.Counted, e.Raised, e.Used - e.Counted}
			}
		}
	}
	return readings, nil
}
