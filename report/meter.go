package report

import (
	"time"

	"wxproxy/limits"
)

// meter counts the calls of one rule of one app, or of one path inside a /*, against the table of a replay.
type meter struct {
	app    uint32
	rule   *limits.Rule
	path   bool // it counts one path inside a /*
	quotas []counter
	shares map[uint32][]counter // by caller
	used   map[string][]counter // by callers with a reserve: what each has used of it, as quotas
	pace   *pace                // shared by the rule's meters; nil: there is none
}

// counter is one quota in the window of now.
type counter struct {
	limits.Quota
	start int64 // of the window, milliseconds since 1970
	used  int64
}

func newCounters(b limits.Budget) []counter {
	counters := make([]counter, len(b.Quotas))
	for i, q := range b.Quotas {
		counters[i].Quota = q
	}
	return counters
}

// windows are the day and the month of now.
type windows [2]limits.Window

// room reports whether each counter has room for a call. In a new window it begins at 0.
func (w *windows) room(counters []counter) bool {
	free := true
	for i := range counters {
		c := &counters[i]
		if start := w[c.Period].Start.UnixMilli(); c.start != start {
			c.start, c.used = start, 0
		}
		free = free && c.used < c.Limit
	}
	return free
}

// share returns the counters of a caller's share; there may be none.
func (m *meter) share(caller uint32, name string) []counter {
	budget, ok := m.rule.Shares[name]
	if !ok || name == "" {
		return nil
	}
	counters, ok := m.shares[caller]
	if !ok {
		counters = newCounters(budget)
		if m.shares == nil {
			m.shares = make(map[uint32][]counter)
		}
		m.shares[caller] = counters
	}
	return counters
}

// keptBack reports whether what is left of a quota is kept back for other callers.
func (m *meter) keptBack(w *windows, caller string) bool {
	for i := range m.quotas {
		free := m.quotas[i].Limit - m.quotas[i].used
		for other, used := range m.used {
			w.room(used) // in a new window it begins at 0
			if other != caller {
				free -= max(0, m.rule.Reserve[other]-used[i].used)
			}
		}
		if free <= 0 {
			return true
		}
	}
	return false
}

// take decides one call, as the limiter does: the pace, then the rule's quotas, what is kept back of them, and
// the caller's share, all or none. A call that is returned, because WeChat does not count it, is decided only.
func (m *meter) take(w *windows, caller string, share []counter, at int64, returned bool) limits.Verdict {
	verdict := limits.Pass
	quotas, shares := w.room(m.quotas), w.room(share)
	kept := m.keptBack(w, caller)
	switch {
	case m.rule.Budget.Kind == limits.Denied:
		verdict = limits.RefusedDenied
	case m.pace != nil && !m.pace.take(time.Duration(at)*time.Millisecond):
		verdict = limits.RefusedPace
	case !quotas:
		verdict = limits.RefusedQuota
	case kept:
		verdict = limits.RefusedReserved
	case !shares:
		verdict = limits.RefusedShare
	}
	if m.rule.Shadow && !verdict.Sent() {
		verdict = limits.Shadow
	}
	if verdict.Sent() && !returned {
		for _, counters := range [][]counter{m.quotas, m.used[caller], share} {
			for i := range counters {
				counters[i].used++
			}
		}
	}
	return verdict
}

// clear starts the day over.
func (m *meter) clear() {
	for i := range m.quotas {
		m.quotas[i].clear()
	}
	for _, counters := range m.shares {
		for i := range counters {
			counters[i].clear()
		}
	}
	for _, counters := range m.used {
		for i := range counters {
			counters[i].clear()
		}
	}
}

func (c *counter) clear() {
	if c.Period == limits.Day {
		c.used = 0
	}
}
