package drift

import (
	"context"
	"fmt"
	"time"

	"wxproxy/limits"
)

// lostClearAfter is when WeChat is asked what became of a clear whose answer was lost: at once, and
// later in case that it runs, or shows, late.
var lostClearAfter = [...]time.Duration{2 * time.Second, 30 * time.Second, 5 * time.Minute}

// LostClear tells that a clear was sent, at the store's time at in milliseconds since 1970, and that
// its answer never came. path is the one that was to be cleared; "" is all of the app. Run finds out:
// a count of WeChat's that is well under ours means that the clear was carried out, and ours starts
// over as the generation at.
func (a *Auditor) LostClear(app string, at int64, path string) {
	if _, known := a.o.App(app); !known {
		return
	}
	now := a.o.Now()
	for _, after := range lostClearAfter {
		a.push(app, job{kind: lostClear, due: now.Add(after), at: at, path: path})
	}
}

// findCleared lines up a question about each counter that a lost clear may have cleared, and that is
// not known to be.
func (a *Auditor) findCleared(ctx context.Context, app string, j job) error {
	only := ""
	if j.path != "" {
		rules := a.o.Limiter.Rules(app)
		if rules == nil {
			return nil
		}
		match := rules.Match(j.path)
		if match.Rule == nil {
			return nil
		}
		only = match.Counter
	}
	days, err := a.days(ctx, app)
	if err != nil {
		return err
	}
	for _, line := range days {
		if (only == "" || line.Counter == only) && clearable(line, j.at) {
			a.push(app, job{kind: ofLostClear, counter: line.Counter, at: j.at})
		}
	}
	return nil
}

// clearable reports whether a counter has calls that a clear at a moment of today may have cleared.
func clearable(line limits.Usage, at int64) bool {
	return line.Used > 0 && line.Generation < at && at >= line.Reset.AddDate(0, 0, -1).UnixMilli()
}

// verify asks about one counter whether a lost clear has cleared it.
func (a *Auditor) verify(ctx context.Context, app string, j job, match limits.Match, line limits.Usage, paths []string) error {
	if !clearable(line, j.at) {
		return nil
	}
	a.spend(app, len(paths))
	m, err := a.measure(ctx, app, line, paths)
	if err != nil {
		return err
	}
	a.succeeded(app, j.counter)
	if m.used*2 >= line.Used {
		return a.settle(ctx, app, match, m)
	}
	if err := a.o.Limiter.ClearTo(ctx, app, match, j.at, m.used); err != nil {
		return fmt.Errorf("clear %s of %s: %w", j.counter, app, err)
	}
	a.o.Observe(Event{Kind: Cleared, App: app, Rule: match.Rule.Name, Counter: j.counter, Old: line.Used, New: m.used})
	return nil
}
