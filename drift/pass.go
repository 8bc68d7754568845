package drift

import (
	"context"
	"fmt"
	"slices"
	"time"

	"wxproxy/limits"
)

// beginPass lines up a question about every rule of an app that was used today, where it is time for
// that and no other gateway of the fleet does it.
func (a *Auditor) beginPass(ctx context.Context, app string) error {
	now := a.o.Now()
	a.mu.Lock()
	s := a.state(app)
	wait := now.Before(s.quiet) || slices.ContainsFunc(s.jobs, func(j job) bool { return j.kind == ofPass })
	a.mu.Unlock()
	if wait {
		return nil
	}
	if mine, err := a.lease(ctx, app); !mine {
		return err
	}
	rec, _, err := a.load(ctx, app)
	if err != nil || now.Sub(time.UnixMilli(rec.Passed)) < a.o.Every-intervalLag {
		return err
	}
	days, err := a.days(ctx, app)
	if err != nil {
		return err
	}
	err = a.update(ctx, app, func(r *record) error {
		r.Passed = now.UnixMilli()
		return nil
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, line := range days {
		if line.Used > 0 && !s.refuses(line.Counter, now) {
			s.push(job{kind: ofPass, counter: line.Counter})
		}
	}
	return nil
}

// mayPass reports whether the questions about a counter may be asked in a pass: whether the pass
// still is ours, and the day has as many questions left. Otherwise the pass ends.
func (a *Auditor) mayPass(ctx context.Context, app string, line limits.Usage, questions int) (bool, error) {
	mine, err := a.lease(ctx, app)
	left := false
	if mine {
		left, err = a.reserve(ctx, app, questions, line.Reset)
	}
	if mine && left {
		return true, nil
	}
	a.endPass(app)
	if err == nil && mine {
		a.mu.Lock()
		s := a.state(app)
		told := s.spent.Equal(line.Reset)
		s.spent = line.Reset
		a.mu.Unlock()
		if !told {
			a.o.Observe(Event{Kind: Spent, App: app})
		}
	}
	return false, err
}

// endPass drops the questions that are left of a pass.
func (a *Auditor) endPass(app string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.state(app)
	s.jobs = slices.DeleteFunc(s.jobs, func(j job) bool { return j.kind == ofPass })
}

// lease reports whether this process is the one that asks at the interval about an app.
func (a *Auditor) lease(ctx context.Context, app string) (bool, error) {
	mine, err := a.o.Store.Lease(ctx, app, recordKey, a.o.Holder, leaseLife)
	if err != nil {
		return false, fmt.Errorf("turn to ask about %s: %w", app, err)
	}
	return mine, nil
}
