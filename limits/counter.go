package limits

import "time"

// counter is what this gateway knows of one counter in one window, by where it is known from. All
// fields belong to the meter's mutex.
type counter struct {
	window     *Window
	end        int64 // of window, milliseconds since 1970
	name       string
	limit      int64 // by the table in force
	generation int64 // figures of another generation mean nothing in this one

	own        ownCalls
	acked      int64         // own.local, as the store last confirmed it
	remote     CounterState  // the last answer of the store, in this generation
	latch      Latch         // the latest that this gateway or the store knows
	latchSince time.Duration // when this gateway learned of latch, as moment.since
	wish       *grantWish    // a grant that an operator sets with the next report
	raise      int64         // a count learned from WeChat that the store has not confirmed yet

	unacked  bool // a request had no answer, and may be applied until a later one is
	restate  bool // the store may have lost what it confirmed
	announce bool // it is reported though nothing was counted: the store may not know of the generation
	urgent   bool // what has to be reported is reported at once

	repeatAt      time.Duration // when to report once more, for requests that a frozen store applies late
	closedUntil   time.Duration // refused from memory until then, while the limit is closedLimit
	closedLimit   int64
	closedLatched bool // because it is latched in the store
	opened        int  // how often it may have got room since

	fallback      int64 // calls left of this gateway's share while the store is unavailable
	fallbackKnown bool
	fallbackKept  int64 // of a reserve's counter: calls left of this gateway's share of the reserve

	seeded      bool // WeChat was asked for its own count, or need not be
	seedUnknown bool // it did not answer
}

// ownCalls is what this gateway counts itself.
type ownCalls struct {
	local    int64 // calls of this gateway: finished, in flight, reserved in blocks
	inFlight int64
	reserved int64 // counted ahead in blocks, and not used yet
	ended    history
}

// count counts one call that is about to be sent without asking the store.
func (c *counter) count() {
	c.own.local++
	c.own.inFlight++
}

// giveBack takes n calls off that were counted and did not run.
func (c *counter) giveBack(n int64) {
	c.own.local = max(0, c.own.local-n)
	c.urgent = true
	c.open()
}

// known is the count as far as this gateway knows it: the store's, and what it does not know yet,
// without calls that are only reserved.
func (c *counter) known() int64 { return c.remote.Used + c.own.local - c.acked - c.own.reserved }

// free is how many calls are left by that at a moment of the store's clock.
func (c *counter) free(store int64) int64 { return max(0, c.limit+c.remote.Grant.at(store)-c.known()) }

// unused is what is left by that of a reserve of so many calls.
func (c *counter) unused(reserve int64) int64 { return max(0, reserve-c.known()) }

// latched reports whether WeChat answers 45009 for the counter at a moment of the store's clock.
func (c *counter) latched(store int64) bool { return store < c.latch.Until }

// closed reports whether the store has answered within the last second that the counter has no room, for
// the limit that still holds.
func (c *counter) closed(now moment) bool {
	return now.since < c.closedUntil && c.closedLimit == c.limit && now.store < c.end
}

// close has the counter refuse from memory for a second, for a limit that the store had no room under.
func (c *counter) close(latched bool, limit int64, now moment) {
	c.closedUntil, c.closedLimit, c.closedLatched = now.since+fullTTL, limit, latched
}

// open has the next call ask the store again, after a change that may have made room.
func (c *counter) open() {
	c.closedUntil = 0
	c.opened++
}

// dirty reports whether there is something to report to the store.
func (c *counter) dirty() bool {
	return c.own.local != c.acked || c.announce || c.unacked || c.restate || c.raise > 0 || c.latch != c.remote.Latch || c.wish != nil
}

// clean reports whether the counter means nothing to this gateway but what the store knows.
func (c *counter) clean() bool {
	return !c.dirty() && c.own.inFlight == 0 && c.own.reserved == 0 && c.repeatAt == 0
}

// empty reports whether nothing is counted in the counter by any gateway.
func (c *counter) empty() bool {
	return c.clean() && c.own.local == 0 && c.remote.Used == 0 && c.latch == Latch{} && c.remote.Grant == Grant{}
}

// expired reports whether the store cannot keep the counter any more: it drops a window a day after
// its end.
func (c *counter) expired(store int64) bool {
	return store >= c.end+windowGrace.Milliseconds()
}

// tooRecent reports whether WeChat's own count of a moment may still be about the time before the
// window's start or the last clear: WeChat's midnight and its clears are not ours to the second.
func (c *counter) tooRecent(store int64) bool {
	return store-max(c.window.Start.UnixMilli(), c.generation) < settlingTime.Milliseconds()
}

// requestLost records that it is unknown whether the store has applied a request. What this gateway has
// is reported again soon, and once more later.
func (c *counter) requestLost(now moment) {
	c.unacked, c.repeatAt = true, now.since+lateTTL
}

// adopt moves to a newer generation: its count begins with what may have run after the clear, which was
// sent at a time of the store's clock. The store's figures mean nothing any more, nor does WeChat's
// earlier refusal.
func (c *counter) adopt(generation, at int64, now moment) {
	c.generation = generation
	age := time.Duration(now.store-at) * time.Millisecond
	if age < -now.margin-clearMargin { // the store's clock was set back, so the generation is not the time of the clear
		age = noticeTime
	}
	ended := c.own.ended.after(now.since - max(0, age) - now.margin - clearMargin)
	ended = max(0, min(ended, c.own.local-c.own.reserved-c.own.inFlight)) // those before an earlier clear are no part of it
	c.own.local, c.own.reserved = c.own.inFlight+ended, 0
	c.acked, c.raise = 0, 0
	c.remote = CounterState{Generation: generation, Grant: c.remote.Grant}
	c.latch = Latch{}
	c.seeded, c.seedUnknown = true, false // a new generation begins with what is known
	c.open()
	c.urgent = true
}

// apply applies the i-th counter of an answer; a new block is of so many calls. What this
// gateway knows may have moved since the request was made.
func (c *counter) apply(r *Request, a *Answer, i int, block int64, now moment) {
	asked, state := &r.Counters[i], &a.Counters[i]
	was, granted, ahead := c.remote.Grant, a.Granted, a.Block
	if asked.Reserve > 0 {
		granted, ahead, block = 0, 0, 0
	}
	switch {
	case state.Generation > c.generation: // cleared through another gateway, and nothing was granted
		c.adopt(state.Generation, state.Generation, now)
	case c.generation != asked.Generation: // cleared since: what was granted runs after the clear
		c.own.local += granted
	case state.Generation == asked.Generation:
		c.acked = asked.Local + granted + ahead
		c.own.local += granted + block
		c.own.reserved += block
		c.remote = *state
		if c.raise <= state.Used {
			c.raise = 0
		}
		c.restate, c.announce, c.fallbackKnown = false, false, false
		// A refusal is not written down, so it does not make a lost request stale.
		c.unacked = (c.unacked || a.Retried) && r.Want > 0 && granted == 0
	}
	if c.wish != nil && c.wish.grant == asked.Grant {
		c.wish = nil // the answer shows whether it is in force
	}
	if c.remote.Grant = was.merge(state.Grant); c.remote.Grant != was {
		c.open()
	}
	if latch := c.latch.merge(state.Latch); state.Generation == c.generation && latch != c.latch {
		c.latch, c.latchSince = latch, now.since
	}
	c.urgent = c.urgent && c.dirty()
}

// history returns how many calls ended after a moment, never too few. Old spans are merged, so it
// stays short: a span is at most half as long as it is ago.
type history []span

// span is n calls that ended from first to last, by moment.since.
type span struct {
	first, last time.Duration
	n           int64
}

const (
	spanLength = 10 * time.Millisecond // of the newest span
	maxSpans   = 24
)

// clearMargin is how much of what ended before a clear is taken to have run after it, beside what the
// clocks may be wrong by. Generations are whole milliseconds.
const clearMargin = 5 * time.Millisecond

// add adds a call that ended at now.
func (h *history) add(now time.Duration) {
	spans := *h
	if n := len(spans); n > 0 && now-spans[n-1].first < spanLength {
		spans[n-1].n++
		spans[n-1].last = now
		return
	}
	for i := 0; i+1 < len(spans); i++ {
		if spans[i+1].last-spans[i].first <= (now-spans[i+1].last)/2 || i == 0 && len(spans) == maxSpans {
			spans[i+1].first, spans[i+1].n = spans[i].first, spans[i+1].n+spans[i].n
			spans = append(spans[:i], spans[i+1:]...)
			break
		}
	}
	*h = append(spans, span{now, now, 1})
}

// after returns how many calls ended after a time.
func (h history) after(since time.Duration) (n int64) {
	for _, s := range h {
		if s.last > since {
			n += s.n
		}
	}
	return n
}

// compact merges everything into one span.
func (h *history) compact() {
	if len(*h) < 2 {
		return
	}
	all := span{first: (*h)[0].first}
	for _, s := range *h {
		all.last, all.n = s.last, all.n+s.n
	}
	*h = history{all}
}
