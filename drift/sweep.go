package drift

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

const (
	intervalSlack = 2 * time.Second  // an interval may be shorter by this: ticks are not exact
	leaseTTL      = 75 * time.Second // a little longer than the minute between two startSweep
)

// Why a sweep does not start, or stops. None is a failure.
var (
	errNotDue          = errors.New("the interval is not over")
	errSweepLost       = errors.New("another gateway asks about this app")
	errBudgetExhausted = errors.New("the day's questions are used up")
)

// startSweep queues a question about every rule of an app that was used today, when the interval is
// over and no other gateway of the fleet does it.
func (a *Auditor) startSweep(ctx context.Context, app string) error {
	now := a.o.Now()
	if won, err := a.leaseSweep(ctx, app); !won {
		return err
	}
	err := a.update(ctx, app, new(stored[record]), func(r *record) error {
		if now.Sub(time.UnixMilli(r.Swept)) < a.o.Every-intervalSlack {
			return errNotDue
		}
		r.Swept = now.UnixMilli()
		return nil
	})
	if err != nil {
		return err
	}
	days, err := a.days(ctx, app)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.stateLocked(app)
	j := job{jobKey: jobKey{kind: "sweep"}, asks: true, ask: a.sweep}
	for _, line := range days {
		if line.Used > 0 && !s.refusedLocked(line.Counter, now) {
			j.names = append(j.names, line.Counter)
		}
	}
	if len(j.names) > 0 {
		s.pushLocked(j)
	}
	return nil
}

// sweep asks about one counter. It stops the sweep when WeChat does not answer, when another gateway
// has the lease, or when the day's questions are used up.
func (a *Auditor) sweep(ctx context.Context, c *counter) error {
	if tooRecent(c.line, a.o.Now()) {
		return nil
	}
	var rec stored[record]
	err := a.reserveSlot(ctx, c, &rec)
	if err == nil {
		err = a.read(ctx, c, &rec)
	}
	if err == nil || pathRefused(err) {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.stateLocked(c.app)
	s.jobs = slices.DeleteFunc(s.jobs, func(j job) bool { return j.kind == "sweep" })
	return err
}

// reserveSlot takes the questions about a counter from those of the day. It returns errSweepLost or
// errBudgetExhausted when the sweep has to stop.
func (a *Auditor) reserveSlot(ctx context.Context, c *counter, rec *stored[record]) error {
	if won, err := a.leaseSweep(ctx, c.app); err != nil || !won {
		return cmp.Or(err, errSweepLost)
	}
	exhausted := false
	err := a.update(ctx, c.app, rec, func(r *record) error {
		if day := c.line.Reset.UnixMilli(); r.Day != day {
			r.Day, r.Asked = day, 0
		}
		if r.Asked > int64(a.o.PerDay) {
			return errBudgetExhausted
		}
		r.Asked += int64(len(c.paths))
		exhausted = r.Asked > int64(a.o.PerDay) // recorded, so that one gateway of the fleet reports it
		return nil
	})
	if err == nil && exhausted {
		a.o.Observe(Event{Kind: BudgetExhausted, App: c.app})
		err = errBudgetExhausted
	}
	return err
}

// leaseSweep reports whether this process is the one that sweeps an app.
func (a *Auditor) leaseSweep(ctx context.Context, app string) (bool, error) {
	return a.o.Store.Lease(ctx, app, recordKey, a.o.Holder, leaseTTL)
}
