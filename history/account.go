package history

import (
	"slices"
	"sync"
)

// account is what this gateway has counted of one account in the present hour, and what of hours before it the
// store does not have yet. Its methods need Recorder.mu for reading.
type account struct {
	r   *Recorder
	app string

	mu      sync.Mutex // covers what follows
	hour    *hour      // of cells
	name    string     // of the part of that hour
	series  map[uint64]int32
	cells   []cell
	slot    int64 // of calls
	slotted string
	pairs   map[uint64]int32
	calls   []pair
	changed int64     // events so far
	written int64     // changed when the last write that succeeded was made
	kept    []DayPart // of hours that are over, not written yet
	minutes []Minutes // of slots that are over, likewise
}

// cell is the count of a series in the hour. first and last are seconds of the hour.
type cell struct {
	key         uint64
	count       uint32
	first, last uint16
	pair        int32 // in calls of the slot; -1: none, or not looked up yet
}

// pair is the calls that were sent of one rule and caller, by the minute of the slot.
type pair struct {
	key   uint64
	calls [slotMinutes]uint32
}

const (
	// straggle is how far behind the present hour an event may be and still be counted in it: calls that
	// end at its beginning are recorded in any order.
	straggle = 60
	// maxKept is how many parts of past hours wait for a store that does not answer. The oldest are dropped.
	maxKept = 48
	// maxKeptMinutes is the same for slots. Older ones are of no use.
	maxKeptMinutes = 2
	// idBits is how long an id in a key is, see maxNames.
	idBits = 20
	idMask = 1<<idBits - 1
	// otherID is the id of Other, which New names first.
	otherID = 1
)

func keyOf(rule, caller, outcome uint32) uint64 {
	return uint64(rule)<<(2*idBits) | uint64(caller)<<idBits | uint64(outcome)
}

func (a *account) add(h *hour, at int64, key uint64, sent bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if h != a.hour && (a.hour == nil || h.start > a.hour.start || at < a.hour.start-straggle || h.zone != a.hour.zone) {
		a.begin(h)
	}
	minute := at / 60
	if slot := slotOf(minute); slot > a.slot || at < a.slot*slotMinutes*60-straggle {
		a.beginSlot(slot)
	}
	a.changed++
	c := a.cell(key)
	second := uint16(min(max(at-a.hour.start, 0), 3599))
	if c.count == 0 {
		c.first = second
	}
	c.last = max(c.last, second)
	c.count++
	if sent {
		if c.pair < 0 {
			c.pair = a.pair(c.key &^ idMask)
		}
		a.calls[c.pair].calls[max(minute, a.slot*slotMinutes)%slotMinutes]++
	}
}

// begin begins an hour. What is not written of the one before it is kept.
func (a *account) begin(h *hour) {
	if a.changed != a.written && len(a.cells) > 0 {
		a.kept = append(a.kept, a.partLocked())
		a.kept = slices.Delete(a.kept, 0, max(0, len(a.kept)-maxKept))
	}
	clear(a.series)
	a.cells = a.cells[:0]
	a.hour, a.name = h, a.r.partName()
}

// beginSlot does the same with a slot.
func (a *account) beginSlot(slot int64) {
	if a.changed != a.written && len(a.calls) > 0 {
		a.minutes = append(a.minutes, a.minutesLocked())
		a.minutes = slices.Delete(a.minutes, 0, max(0, len(a.minutes)-maxKeptMinutes))
	}
	clear(a.pairs)
	a.calls = a.calls[:0]
	for i := range a.cells {
		a.cells[i].pair = -1
	}
	a.slot, a.slotted = slot, a.r.partName()
}

// cell returns that of a series, new if need be.
func (a *account) cell(key uint64) *cell {
	i, known := a.series[key]
	if !known && len(a.cells) >= maxSeries {
		key = keyOf(otherID, otherID, uint32(key&idMask))
		i, known = a.series[key]
	}
	if !known {
		if a.series == nil {
			a.series = make(map[uint64]int32)
		}
		i = int32(len(a.cells))
		a.series[key] = i
		a.cells = append(a.cells, cell{key: key, pair: -1})
	}
	return &a.cells[i]
}

// pair returns the index of a pair in calls, new if need be.
func (a *account) pair(key uint64) int32 {
	i, known := a.pairs[key]
	if !known {
		if a.pairs == nil {
			a.pairs = make(map[uint64]int32)
		}
		i = int32(len(a.calls))
		a.pairs[key] = i
		a.calls = append(a.calls, pair{key: key})
	}
	return i
}

// partLocked packs the hour.
func (a *account) partLocked() DayPart {
	sums := make([]sum, len(a.cells))
	for i, c := range a.cells {
		sums[i] = sum{
			Series: Series{a.r.names[c.key>>(2*idBits)], a.r.names[c.key>>idBits&idMask], a.r.results[c.key&idMask]},
			count:  int64(c.count), first: a.hour.start + int64(c.first), last: a.hour.start + int64(c.last),
		}
	}
	return DayPart{Part: Part{Hour: a.hour.start, Name: a.name, Sums: pack(a.hour.start, sums)}, Day: a.hour.day}
}

// minutesLocked packs the slot.
func (a *account) minutesLocked() Minutes {
	all := make([]minutes, len(a.calls))
	for i, p := range a.calls {
		all[i] = minutes{a.r.names[p.key>>(2*idBits)], a.r.names[p.key>>idBits&idMask], p.calls}
	}
	return Minutes{Slot: a.slot, Name: a.slotted, Packed: packMinutes(all)}
}

// all returns everything that is in memory, written or not.
func (a *account) all() Parts {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.allLocked()
}

func (a *account) allLocked() Parts {
	p := Parts{App: a.app, Hours: slices.Clone(a.kept), Minutes: slices.Clone(a.minutes)}
	if len(a.cells) > 0 {
		p.Hours = append(p.Hours, a.partLocked())
	}
	if len(a.calls) > 0 {
		p.Minutes = append(p.Minutes, a.minutesLocked())
	}
	return p
}

// pending returns what the store does not have yet, and the state of now for done. ok is false if there is
// nothing.
func (a *account) pending() (p Parts, changed int64, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.changed == a.written {
		return p, 0, false
	}
	return a.allLocked(), a.changed, true
}

// done records that p, which pending returned with changed, is written.
func (a *account) done(p Parts, changed int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.written = changed
	a.kept = slices.DeleteFunc(a.kept, func(k DayPart) bool {
		return slices.ContainsFunc(p.Hours, func(h DayPart) bool { return h.Name == k.Name && string(h.Sums) == string(k.Sums) })
	})
	a.minutes = slices.DeleteFunc(a.minutes, func(k Minutes) bool {
		return slices.ContainsFunc(p.Minutes, func(m Minutes) bool { return m.Name == k.Name && string(m.Packed) == string(k.Packed) })
	})
}

// idle reports whether nothing of the account needs to stay in memory at now, in Unix seconds.
func (a *account) idle(now int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed == a.written && (a.hour == nil || now >= a.hour.end+straggle && slotOf(now/60) > a.slot+1)
}
