package limits

import "slices"

// record is one counter as a store holds it.
type record struct {
	CounterState
	Lost    int64 // the part of Used that was restored from a gateway's memory and belongs to no part
	Damaged bool  // the stored text could not be read: this is what is known without it
}

// part is what one life of one gateway has of a record.
type part struct {
	generation int64
	q          int64 // number of the last request that was applied
	local      int64
}

// ledger is the counters of one request, with this gateway's parts of them. Its rule is what every
// store does with a request: the embedded store and the model of the tests run this function,
// Redis runs the same rule as redis.lua.
type ledger struct {
	generations []int64   // of each window
	records     []*record // of each counter
	parts       []*part
	share       int64 // a block is at most this part of the rest: 1000
	unsure      bool  // as Request.unsure
}

// apply applies request number q at now, in milliseconds since 1970. It changes the records and parts
// in place, and returns the answer and which records have to be written.
func (l *ledger) apply(r *Request, q, now int64) (a *Answer, changed []bool) {
	for _, p := range l.parts {
		if p.q >= q {
			return &Answer{Status: Stale, Now: now}, nil
		}
	}
	l.unsure = r.unsure
	a = &Answer{Now: now, Generations: l.generations, Counters: make([]CounterState, len(l.records))}
	for i, w := range r.Windows {
		l.generations[i] = max(l.generations[i], w.Generation)
		if now < w.Start.UnixMilli() || now >= w.End.UnixMilli() {
			a.Status = Outside
		}
	}
	changed = make([]bool, len(l.records))
	for i, x := range r.Counters { // x is a copy
		c, p := l.records[i], l.parts[i]
		damaged := c.Damaged
		if damaged {
			c.Damaged, a.Damaged = false, i+1
		}
		changed[i] = l.take(a, x, c, p) || damaged
	}
	var room int64
	room, a.Which = l.room(r, now)
	if a.Status == OK && r.Want > 0 && len(r.Counters) > 0 {
		a.Granted = max(0, min(r.Want, room))
		switch {
		case a.Granted == r.Want:
			a.Block = max(0, min(r.Block, (room-a.Granted-1)/l.share))
		case now < l.records[a.Which].Latch.Until:
			a.Status = Latched
		default:
			a.Status = Full
		}
	}
	for i, c := range l.records {
		counted := a.Granted + a.Block
		if r.Counters[i].Reserve > 0 {
			counted = 0
		}
		if changed[i] || counted > 0 || r.Want == 0 {
			changed[i] = true
			c.Used += counted
			l.parts[i].local += counted
			l.parts[i].q = q
			c.Version++
		}
		a.Counters[i] = c.CounterState
	}
	return a, changed
}

// room returns how many calls all counters of a request have room for, and which has the least.
func (l *ledger) room(r *Request, now int64) (room int64, which int) {
	for i, x := range r.Counters {
		if x.Reserve > 0 {
			continue
		}
		c := l.records[i]
		left := x.Limit + c.Grant.at(now) - c.Used
		switch {
		case now < c.Latch.Until:
			left = 0
		case !slices.ContainsFunc(r.Counters[:i], func(other Report) bool { return other.Window == x.Window && other.Reserve == 0 }):
			left -= l.kept(r, x.Window)
		}
		if i == 0 || left < room {
			room, which = left, i
		}
	}
	return room, which
}

// kept returns how many calls of a window are kept back for callers other than the one that calls.
func (l *ledger) kept(r *Request, window int) (n int64) {
	for i, x := range r.Counters {
		if x.Reserve > 0 && x.Window == window {
			n += max(0, x.Reserve-l.records[i].Used)
		}
	}
	return n
}

// take takes in what is reported of one counter, and reports whether that changed its record.
func (l *ledger) take(a *Answer, x Report, c *record, p *part) (changed bool) {
	if e := max(c.Generation, l.generations[x.Window], x.Generation); c.Generation < e {
		*c = record{CounterState: CounterState{Generation: e, Grant: c.Grant}}
		if x.Generation == e {
			c.Used = x.Raise // the count that WeChat began the generation with belongs to no gateway
		}
		changed = true
	}
	if p.generation != c.Generation {
		p.generation, p.local = c.Generation, 0
	}
	if x.Generation != c.Generation { // figures of an older generation mean nothing in this one
		x.Acked, x.Local, x.Version, x.Others, x.Latch, x.Raise = 0, 0, 0, 0, Latch{}, 0
		if a.Status == OK {
			a.Status = Again
		}
	}
	if x.Acked > p.local { // the owner's part is lost: it claims what another gateway has restored of it
		a.Lost = a.Lost || !l.unsure
		claimed := min(x.Acked-p.local, c.Lost)
		c.Lost -= claimed
		c.Used -= claimed
		changed = changed || claimed > 0
	}
	if x.Local != p.local {
		c.Used += x.Local - p.local
		p.local = x.Local
		changed = true
	}
	if c.Version < x.Version { // older than the report: the writes of others are lost
		if missing := x.Others - (c.Used - p.local); missing > 0 {
			c.Used += missing
			c.Lost += missing
		}
		c.Version = x.Version
		a.Lost, changed = true, true
	}
	if latch := c.Latch.merge(x.Latch); latch != c.Latch {
		c.Latch, changed = latch, true
	}
	if x.Raise > c.Used {
		c.Used, changed = x.Raise, true
	}
	if grant := c.Grant.merge(x.Grant); c.Grant.At <= x.Over && grant != c.Grant {
		c.Grant, changed = grant, true
	}
	return changed
}
