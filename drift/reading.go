package drift

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"wxproxy/limits"
)

// Reading is what WeChat said of a counter, beside what we had.
type Reading struct {
	At      time.Time // when WeChat was asked
	Limit   int64     // WeChat's figure a day, the smallest of the counter's paths; 0: it tells none
	Used    int64     // the calls of the day that WeChat has counted, of all paths of the counter
	Counted int64     // those that were counted here when WeChat was asked, without what was raised
	Raised  int64     // by how much the count was raised to WeChat's in this window and generation
	Drift   int64     // Used less Counted: calls around the gateway; WeChat's figures may be off by 1 %
}

// errTurned is of a reading that began before a midnight, or a clear, and ended after it: nobody
// knows which of both it is about. It is thrown away.
var errTurned = errors.New("the day ended, or was cleared, while WeChat was asked")

// measured is one reading under way: what WeChat said, and our count before and after that.
type measured struct {
	before, after limits.Usage
	began         time.Time
	limit, used   int64
}

// measure asks WeChat about the paths of a counter. before is its line of just now. Nothing is
// changed.
func (a *Auditor) measure(ctx context.Context, app string, before limits.Usage, paths []string) (measured, error) {
	m := measured{before: before, began: a.o.Now()}
	for _, path := range paths {
		limit, used, err := a.ask(ctx, app, path)
		if err != nil {
			return m, err
		}
		if m.used += used; m.used > limits.MaxLimit {
			return m, &Error{Path: path, Fault: fmt.Sprintf("more than %d calls of the rule in all", int64(limits.MaxLimit))}
		}
		if limit > 0 && (m.limit == 0 || limit < m.limit) {
			m.limit = limit
		}
	}
	var err error
	if m.after, err = a.day(ctx, app, before.Counter); err != nil {
		return m, err
	}
	if !m.after.Reset.Equal(before.Reset) || m.after.Generation != before.Generation {
		return m, errTurned
	}
	return m, nil
}

// ask asks WeChat about one path.
func (a *Auditor) ask(ctx context.Context, app, path string) (limit, used int64, err error) {
	body, err := json.Marshal(map[string]string{"cgi_path": path})
	if err != nil {
		return 0, 0, err
	}
	asking, cancel := context.WithTimeout(ctx, questionLife)
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

// settle records what was measured, raises our count where WeChat's is higher, and takes WeChat's
// figure over where that is wanted. It is recorded first: a raise that then fails is seen by the
// count, and one that nobody recorded could not be told from calls.
func (a *Auditor) settle(ctx context.Context, app string, match limits.Match, m measured) error {
	raise, err := a.keep(ctx, app, m)
	if err != nil {
		return err
	}
	if raise > 0 || m.after.StartUnknown { // which it is no more, though there is nothing to raise
		err = a.o.Limiter.Raise(ctx, app, match, m.used, m.began)
		if err != nil && !errors.Is(err, limits.ErrTooEarly) {
			return fmt.Errorf("raise %s of %s: %w", match.Counter, app, err)
		}
	}
	return a.adopt(ctx, app, match, m.limit)
}

// read asks about a counter and settles what WeChat says. before is the counter's line of just now.
func (a *Auditor) read(ctx context.Context, app string, match limits.Match, before limits.Usage, paths []string) error {
	a.spend(app, len(paths))
	m, err := a.measure(ctx, app, before, paths)
	if err == nil {
		err = a.settle(ctx, app, match, m)
	}
	if err != nil {
		a.failed(app, match.Counter, err)
		return err
	}
	a.succeeded(app, match.Counter)
	return nil
}

// spend puts off the questions that nobody waits for by those that are asked now.
func (a *Auditor) spend(app string, questions int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.state(app)
	if next := a.o.Now().Add(time.Duration(questions) * questionGap); next.After(s.next) {
		s.next = next
	}
}

// Read asks WeChat about each counter of an app that was used today or has a figure, one after the
// other. What WeChat does not tell of a path is left out; other failures end it. It returns all of
// them, joined; those of WeChat's are an *Error. Many may call it at once, and share the answers.
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
				continue // whoever began it has gone away
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
	for _, line := range days {
		if line.Used == 0 && (line.Counter != line.Rule.Name || dayFigure(line.Rule) == 0) {
			continue
		}
		match, paths := a.match(app, line.Counter)
		if len(paths) == 0 {
			continue // a reload has taken the rule away
		}
		if line, err = a.day(ctx, app, line.Counter); err != nil {
			return errors.Join(append(errs, err)...)
		}
		if err := a.read(ctx, app, match, line, paths); err != nil {
			errs = append(errs, err)
			if !ofPath(err) {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// Readings returns what WeChat said last of each counter of an app, to whatever gateway, in the
// windows and generations of now.
func (a *Auditor) Readings(ctx context.Context, app string) (map[string]Reading, error) {
	rec, _, err := a.load(ctx, app)
	if err != nil {
		return nil, err
	}
	days, err := a.days(ctx, app)
	if err != nil {
		return nil, err
	}
	readings := make(map[string]Reading)
	for _, line := range days {
		if e, ok := rec.Counters[line.Counter]; ok && e.of(line) {
			readings[line.Counter] = e.reading()
		}
	}
	return readings, nil
}
