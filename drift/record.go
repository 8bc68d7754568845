package drift

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"wxproxy/limits"
)

const (
	// recordKey is where the store keeps an app's record, and the lease of who asks at the interval.
	recordKey    = "drift"
	recordExpiry = 48 * time.Hour

	// maxEntries bounds a record: at most 512 paths inside /*, and the rules.
	maxEntries = 600

	// maxWrites is how often a change is tried while others change the same value.
	maxWrites = 8
)

// record is what the gateways of a fleet have read of an app, as JSON in the store. Times are Unix
// milliseconds.
type record struct {
	Counters map[string]entry `json:"counters"`
	Passed   int64            `json:"passed_ms"` // when the used rules were last asked about
	Day      int64            `json:"day_ms"`    // the end of the day of Asked
	Asked    int64            `json:"asked"`     // questions of the interval
}

// entry is the last reading of one counter. It counts in its window and generation only.
type entry struct {
	Reset      int64 `json:"reset_ms"`
	Generation int64 `json:"generation,omitempty"`
	At         int64 `json:"at_ms"`
	Limit      int64 `json:"limit"`
	Used       int64 `json:"used"`
	Counted    int64 `json:"counted"`

	Raised int64 `json:"raised,omitempty"` // in all
	Last   int64 `json:"last,omitempty"`   // of it, by the last raise
	To     int64 `json:"to,omitempty"`     // the count that the last raise was to make
}

func (e entry) of(line limits.Usage) bool {
	return e.Reset == line.Reset.UnixMilli() && e.Generation == line.Generation
}

func (e entry) reading() Reading {
	return Reading{
		At: time.UnixMilli(e.At), Limit: e.Limit, Used: e.Used,
		Counted: e.Counted, Raised: e.Raised, Drift: e.Used - e.Counted,
	}
}

// raisedIn returns how much of a count of ours was raised. A last raise that the count is not half
// way to has not come about: it failed, or has yet to reach the store.
func (e entry) raisedIn(count int64) int64 {
	raised := e.Raised
	if count < e.To-e.Last/2 {
		raised -= e.Last
	}
	return max(0, min(raised, count))
}

// next returns the entry after e, which may be of another window or generation, or none, and by how
// much our count is to be raised.
func (e entry) next(m measured) (n entry, raise int64) {
	n = entry{
		Reset: m.before.Reset.UnixMilli(), Generation: m.before.Generation,
		At: m.began.UnixMilli(), Limit: m.limit, Used: m.used,
	}
	if e.of(m.before) {
		n.Raised, n.Last, n.To = e.Raised, e.Last, e.To
	}
	n.Counted = m.before.Used - n.raisedIn(m.before.Used)
	if in := n.raisedIn(m.after.Used); in != n.Raised {
		n.Raised, n.Last, n.To = in, 0, 0
	}
	if raise = m.used - m.after.Used; raise <= 0 || young(m.before, m.began) {
		return n, 0
	}
	n.Raised, n.Last, n.To = n.Raised+raise, raise, m.used
	return n, raise
}

// keep writes down what was measured, and returns by how much our count is to be raised.
func (a *Auditor) keep(ctx context.Context, app string, m measured) (raise int64, err error) {
	err = a.update(ctx, app, func(r *record) error {
		was := r.Counters[m.before.Counter]
		reset := m.before.Reset.UnixMilli()
		if was.Reset > reset || was.Reset == reset && was.Generation > m.before.Generation {
			return errTurned // another gateway is past it
		}
		r.Counters[m.before.Counter], raise = was.next(m)
		r.trim(reset)
		return nil
	})
	return raise, err
}

// trim drops what is of an earlier day, and then the oldest of too many.
func (r *record) trim(reset int64) {
	maps.DeleteFunc(r.Counters, func(_ string, e entry) bool { return e.Reset < reset })
	if extra := len(r.Counters) - maxEntries; extra > 0 {
		names := slices.SortedFunc(maps.Keys(r.Counters), func(x, y string) int {
			return cmp.Compare(r.Counters[x].At, r.Counters[y].At)
		})
		for _, name := range names[:extra] {
			delete(r.Counters, name)
		}
	}
}

// reserve counts questions of the interval against those of the day. It reports false, and counts
// nothing, where they would be too many.
func (a *Auditor) reserve(ctx context.Context, app string, questions int, reset time.Time) (bool, error) {
	err := a.update(ctx, app, func(r *record) error {
		if day := reset.UnixMilli(); r.Day != day {
			r.Day, r.Asked = day, 0
		}
		if r.Asked+int64(questions) > int64(a.o.PerDay) {
			return errSpent
		}
		r.Asked += int64(questions)
		return nil
	})
	if errors.Is(err, errSpent) {
		return false, nil
	}
	return err == nil, err
}

var errSpent = errors.New("the day's questions are used up")

// load reads an app's record, and how it is written. One that is not ours is like none.
func (a *Auditor) load(ctx context.Context, app string) (record, []byte, error) {
	raw, err := a.o.Store.Get(ctx, app, recordKey)
	if err != nil {
		return record{}, nil, fmt.Errorf("readings of %s: %w", app, err)
	}
	var r record
	if json.Unmarshal(raw, &r) != nil {
		r = record{}
	}
	if r.Counters == nil {
		r.Counters = make(map[string]entry)
	}
	return r, raw, nil
}

// update changes an app's record, unless change returns an error.
func (a *Auditor) update(ctx context.Context, app string, change func(*record) error) error {
	for range maxWrites {
		r, was, err := a.load(ctx, app)
		if err != nil {
			return err
		}
		if err := change(&r); err != nil {
			return err
		}
		value, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if done, err := a.o.Store.CompareAndSet(ctx, app, recordKey, was, value, recordExpiry); done || err != nil {
			if err != nil {
				return fmt.Errorf("readings of %s: %w", app, err)
			}
			return nil
		}
	}
	return fmt.Errorf("readings of %s: changed by others %d times", app, maxWrites)
}
