package limits

import "time"

// blockSpan is how much use a block is for: a hot counter makes ten requests a second to the store.
const blockSpan = 200 * time.Millisecond

// set is the counters of one call, which are granted all or none: those of a rule, or of a rule and
// a caller's share of it. It holds the block of calls that were counted ahead for them. All fields
// belong to the meter's mutex.
type set struct {
	rule *Rule // the block and full are of; a reload makes another

	counters    []*counter
	generations []int64 // of counters, when the block was lent
	left        int64   // unspent calls of the block
	deadline    time.Time
	spent       time.Time // when the block was last spent of

	full *counter // the counter that the store had no room in

	bucket time.Time // the use of one span is counted from here
	calls  int64
	before int64 // the use of the span before
}

// set returns the set of a caller. m.mu is held.
func (m *meter) set(caller string) *set {
	s := m.sets[caller]
	if s == nil {
		s = &set{}
		m.sets[caller] = s
	}
	return s
}

// arrive counts the use of the set.
func (s *set) arrive(now time.Time) {
	if since := now.Sub(s.bucket); since >= blockSpan {
		s.before = s.calls
		if since >= 2*blockSpan {
			s.before = 0
		}
		s.bucket, s.calls = now, 0
	}
	s.calls++
}

// refuses reports whether the store has just said that there is no room, for the figures that the
// rule still has.
func (s *set) refuses(rule *Rule, now, storeNow time.Time) bool {
	c := s.full
	return c != nil && s.rule == rule && now.Before(c.fullUntil) && c.fullLimit == c.limit && storeNow.Before(c.window.End)
}

// spends reports whether the block has a call for the rule.
func (s *set) spends(rule *Rule, now time.Time) bool {
	return s.left > 0 && s.rule == rule && now.Before(s.deadline)
}

// spend takes one call of the block. m.mu is held.
func (l *Limiter) spend(d *Decision, m *meter, s *set, now time.Time) {
	s.left--
	s.spent = now
	for _, c := range s.counters {
		c.lent--
		c.inFlight++
		c.takenSince++
	}
	d.Verdict, d.meter, d.held, d.Deadline, d.Counted = Pass, m, s.counters, s.deadline, l.atStore(now).UnixMilli()
	d.generation = s.counters[0].generation
	l.figures(d, s.counters, now)
}

// lend keeps the block that came with an answer, and serves calls of the set that wait for a
// flight of their own. m.mu is held.
func (l *Limiter) lend(m *meter, caller string, rule *Rule, counters []*counter, n int64, deadline, now time.Time) {
	s := m.set(caller)
	m.void(s)
	s.rule, s.counters, s.left, s.deadline, s.spent, s.full = rule, counters, n, deadline, now, nil
	s.generations = make([]int64, len(counters))
	for i, c := range counters {
		s.generations[i] = c.generation
	}
	rest := m.queue[:0]
	for _, w := range m.queue {
		if w.caller == caller && w.decision.Rule == rule && s.spends(rule, now) {
			l.spend(&w.decision, m, s, now)
			w.signal <- false
		} else {
			rest = append(rest, w)
		}
	}
	clear(m.queue[len(rest):])
	m.queue = rest
}

// void gives what is left of a block back: to the counters whose generation it is of. m.mu is held.
func (m *meter) void(s *set) {
	if s.left == 0 {
		return
	}
	for i, c := range s.counters {
		if c.generation == s.generations[i] {
			c.held -= s.left
			c.lent -= s.left
			c.dirty = true
		}
	}
	s.left = 0
}

// voidCleared gives back the blocks that a new generation has made void. m.mu is held.
func (m *meter) voidCleared() {
	for _, s := range m.sets {
		for i, c := range s.counters {
			if s.left > 0 && c.generation != s.generations[i] {
				m.void(s)
			}
		}
	}
}

// voidIdle gives back the blocks that nobody has spent of for a second, or all. It returns when the
// next of the others may be idle; 0: there are none. m.mu is held.
func (m *meter) voidIdle(now time.Time, all bool) (next time.Duration) {
	for _, s := range m.sets {
		idle := min(quietLife-now.Sub(s.spent), s.deadline.Sub(now))
		if all || idle <= 0 {
			m.void(s)
		}
		if s.left > 0 && (next == 0 || idle < next) {
			next = idle
		}
	}
	return next
}
