package drift

import (
	"context"
	"fmt"
	"time"

	"wxproxy/limits"
)

// lostClearDelays are when WeChat is asked whether a clear without an answer was carried out: soon,
// and later in case it was, or shows, late.
var lostClearDelays = [...]time.Duration{2 * time.Second, 30 * time.Second, 5 * time.Minute}

// LostClear reports that a clear was sent, at the store's time at in milliseconds since 1970, and that
// its answer was lost. path is the path that was to be cleared; "" is all of the app. Run asks WeChat:
// a count well under ours means that the clear was carried out, and then ours starts over with
// WeChat's.
func (a *Auditor) LostClear(app string, at int64, path string) {
	rules := a.o.Limiter.Rules(app)
	if _, known := a.o.App(app); !known || rules == nil {
		return
	}
	only := ""
	if path != "" {
		if only = rules.Match(path).Counter; only == "" {
			return
		}
	}
	now := a.o.Now()
	for _, delay := range lostClearDelays {
		key := jobKey{kind: "lost clear of " + only, number: at, due: now.Add(delay)}
		a.push(app, job{jobKey: key, run: func(ctx context.Context) error { return a.findCleared(ctx, app, at, only) }})
	}
}

// findCleared queues a question about each counter that a lost clear may have cleared: all of an app, or
// only one.
func (a *Auditor) findCleared(ctx context.Context, app string, at int64, only string) error {
	j := job{jobKey: jobKey{kind: "verify clear", number: at}, asks: true}
	j.ask = func(ctx context.Context, c *counter) error { return a.verify(ctx, c, at) }
	days, err := a.days(ctx, app)
	for _, line := range days {
		if (only == "" || line.Counter == only) && clearable(line, at) {
			j.names = append(j.names, line.Counter)
		}
	}
	if len(j.names) > 0 {
		a.push(app, j)
	}
	return err
}

// clearable reports whether a counter has calls that a clear sent at a moment may have cleared.
func clearable(line limits.Usage, at int64) bool {
	return line.Used > 0 && line.Generation < at && at >= line.Reset.AddDate(0, 0, -1).UnixMilli()
}

// verify asks about one counter whether a lost clear has cleared it.
func (a *Auditor) verify(ctx context.Context, c *counter, at int64) error {
	if !clearable(c.line, at) {
		return nil
	}
	m, err := a.measure(ctx, c)
	if err != nil {
		return err
	}
	if m.used*2 >= c.line.Used {
		return a.settle(ctx, m, new(stored[record]))
	}
	app, name := c.app, c.match.Counter
	if err := a.o.Limiter.ClearTo(ctx, app, c.match, m.began, m.used); err != nil {
		return fmt.Errorf("clear %s of %s: %w", name, app, err)
	}
	a.succeeded(app, name)
	a.o.Observe(Event{Kind: Cleared, App: app, Rule: c.match.Rule.Name, Counter: name, Old: c.line.Used, New: m.used})
	return nil
}
