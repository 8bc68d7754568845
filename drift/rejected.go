package drift

import (
	"context"
	"errors"
	"fmt"
)

// Rejected reports that WeChat answered 45009 for a counter, which may mean the day's limit or a
// minute's: the answers are the same. Run asks quota/get once, before other jobs, and reports to the limiter
// whether the day is used up. Rejected does not block, and does not call the limiter.
func (a *Auditor) Rejected(app, name string) {
	if _, known := a.o.App(app); !known {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.stateLocked(app); !s.refusedLocked(name, a.o.Now()) {
		s.pushLocked(job{jobKey: jobKey{kind: "rejected"}, asks: true, urgent: true, ask: a.checkRejected, names: []string{name}})
	}
}

// checkRejected asks whether the day of a rejected counter is used up.
func (a *Auditor) checkRejected(ctx context.Context, c *counter) error {
	if tooRecent(c.line, a.o.Now()) {
		return nil
	}
	m, err := a.measure(ctx, c)
	if (err == nil || m.usedUp) && !errors.Is(err, errWindowChanged) {
		if err := a.o.Limiter.SettleLatch(ctx, c.app, c.match, m.began, m.usedUp); err != nil {
			return fmt.Errorf("latch of %s of %s: %w", c.match.Counter, c.app, err)
		}
	}
	if err != nil {
		return err
	}
	return a.settle(ctx, m, new(stored[record]))
}
