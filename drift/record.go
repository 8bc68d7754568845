package drift

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"wxproxy/limits"
)

const (
	// recordKey is the key of an app's record in the store, and of the lease of its sweep.
	recordKey    = "drift"
	recordExpiry = 48 * time.Hour

	// maxEntries bounds a record: at most 512 paths inside /*, and the rules.
	maxEntries = 600
)

// record is the readings of an app by all gateways of a fleet, as JSON in the store. Times are Unix
// milliseconds.
type record struct {
	Counters map[string]entry `json:"counters"`
	Swept    int64            `json:"passed_ms"` // when the last sweep was started
	Day      int64            `json:"day_ms"`    // the end of the day of Asked
	Asked    int64            `json:"asked"`     // questions of sweeps; more than Options.PerDay: used up
}

// entry is the last reading of one counter. It is valid in its window and generation only.
type entry struct {
	Reset      int64 `json:"reset_ms"`
	Generation int64 `json:"generation,omitempty"`
	At         int64 `json:"at_ms"`
	Limit      int64 `json:"limit"`
	Used       int64 `json:"used"`
	Counted    int64 `json:"counted"`

	Raised int64 `json:"raised,omitempty"` // by all raises
	Last   int64 `json:"last,omitempty"`   // by the last raise
	To     int64 `json:"to,omitempty"`     // the count that the last raise was to make
}

func (e entry) matches(line limits.Usage) bool {
	return e.Reset == line.Reset.UnixMilli() && e.Generation == line.Generation
}

// raisedIn returns how much of a count of ours was raised. When the count is not half way to the last
// raise, that one was not carried out: it failed, or has not reached the store yet.
func (e entry) raisedIn(count int64) int64 {
	raised := e.Raised
	if count < e.To-e.Last/2 {
		raised -= e.Last
	}
	return max(0, min(raised, count))
}

// next returns the entry after e, which may be of another window or generation, or none, and by how
// much our count is to be raised.
func (e entry) next(m *answer) (n entry, raise int64) {
	n = entry{
		Reset: m.line.Reset.UnixMilli(), Generation: m.line.Generation,
		At: m.began.UnixMilli(), Limit: m.limit, Used: m.used,
	}
	if e.matches(m.line) {
		n.Raised, n.Last, n.To = e.Raised, e.Last, e.To
	}
	n.Counted = m.line.Used - n.raisedIn(m.line.Used)
	if e.matches(m.line) {
		// Calls that were counted while WeChat was asked are in its answer or not. The former drift stays if it
		// may: with two gateways that seed at once, calls of the other one showed as drift.
		most := m.after.Used - n.raisedIn(m.after.Used)
		n.Counted = max(n.Counted, min(most, m.used-(e.Used-e.Counted)))
	}
	if in := n.raisedIn(m.after.Used); in != n.Raised {
		n.Raised, n.Last, n.To = in, 0, 0
	}
	if raise = m.used - m.after.Used; raise <= 0 || tooRecent(m.line, m.began) {
		return n, 0
	}
	n.Raised, n.Last, n.To = n.Raised+raise, raise, m.used
	return n, raise
}

// save records an answer, and returns by how much our count is to be raised.
func (a *Auditor) save(ctx context.Context, m *answer, rec *stored[record]) (raise int64, err error) {
	err = a.update(ctx, m.app, rec, func(r *record) error {
		last := r.Counters[m.match.Counter]
		reset := m.line.Reset.UnixMilli()
		if last.Reset > reset || last.Reset == reset && last.Generation > m.line.Generation {
			return errWindowChanged // another gateway has a reading of the next one
		}
		r.Counters[m.match.Counter], raise = last.next(m)
		r.trim(reset)
		return nil
	})
	return raise, err
}

// trim drops the entries of earlier days, and then the oldest of too many.
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

// parseRecord returns an empty record for text that is none.
func parseRecord(raw []byte) record {
	var r record
	if json.Unmarshal(raw, &r) != nil {
		r = record{}
	}
	if r.Counters == nil {
		r.Counters = make(map[string]entry)
	}
	return r
}

func (a *Auditor) load(ctx context.Context, app string) (stored[record], error) {
	return load(ctx, a.o.Store, app, recordKey, parseRecord)
}

func (a *Auditor) update(ctx context.Context, app string, rec *stored[record], change func(*record) error) error {
	return update(ctx, a.o.Store, app, recordKey, recordExpiry, rec, parseRecord, change)
}

// stored is a value of the store with the bytes that it was parsed from.
type stored[T any] struct {
	value T
	raw   []byte
	read  bool // value is the last one known; in the zero value it has yet to be read
}

func load[T any](ctx context.Context, s Store, app, key string, parse func([]byte) T) (stored[T], error) {
	raw, err := s.Get(ctx, app, key)
	return stored[T]{value: parse(raw), raw: raw, read: err == nil}, err
}

// update changes a value in the store and in v. It reads it only when v was not read, or is out of
// date. change returns an error, and changes nothing, to leave the value as it is.
func update[T any](
	ctx context.Context, s Store, app, key string, expiry time.Duration,
	v *stored[T], parse func([]byte) T, change func(*T) error,
) (err error) {
	if !v.read {
		if *v, err = load(ctx, s, app, key, parse); err != nil {
			return err
		}
	}
	var next []byte
	err = s.Update(ctx, app, key, v.raw, func(present []byte) ([]byte, time.Duration, error) {
		if !bytes.Equal(present, v.raw) {
			*v = stored[T]{value: parse(present), raw: present, read: true}
		}
		if err := change(&v.value); err != nil {
			return nil, 0, err
		}
		next, err = json.Marshal(v.value)
		return next, expiry, err
	})
	if v.read = err == nil; v.read {
		v.raw = next
	}
	return err
}
