package limits

import "time"

// blockSpan is how much use a block is for: a hot counter makes five requests a second to the store.
const blockSpan = 200 * time.Millisecond

// block is calls that were counted ahead for a group and are not used yet: counted once, in one
// request to the store, and then spent from memory.
type block struct {
	left        int64
	generations []int64 // of the group's counters, when the block was granted
	deadline    time.Time
	until       time.Duration // deadline, by moment.since. A day that ended while the host was suspended has another group
	used        time.Duration // when the block was last used, by moment.since
}

// idleAt is when a block that is not used any more goes back.
func (b *block) idleAt() time.Duration { return min(b.used+quietTime, b.until) }

// recent is the use of a group in spans of blockSpan.
type recent struct {
	bucket time.Time // the span of calls begins here
	calls  int64
	before int64 // calls of the span before
}

// arrive counts a call.
func (d *recent) arrive(now time.Time) {
	if since := now.Sub(d.bucket); since >= blockSpan {
		d.before = d.calls
		if since >= 2*blockSpan {
			d.before = 0
		}
		d.bucket, d.calls = now, 0
	}
	d.calls++
}

// wish is the block to ask for: the use of the last span. The store grants at most a thousandth of
// what is left.
func (d *recent) wish() int64 { return max(d.before, d.calls) }

// keepBlock keeps the block that came with an answer.
func (m *meter) keepBlock(g *group, n int64, deadline time.Time, now moment) {
	m.releaseBlock(g)
	g.block = block{
		left: n, generations: make([]int64, len(g.counters)), used: now.since,
		deadline: deadline, until: now.since + deadline.Sub(now.at),
	}
	for i, c := range g.counters {
		g.block.generations[i] = c.generation
	}
}

// releaseBlock gives back what is left of a block, to the counters that were not cleared since.
func (m *meter) releaseBlock(g *group) {
	if g.block.left == 0 {
		return
	}
	for i, c := range g.counters {
		if c.generation == g.block.generations[i] {
			c.own.local -= g.block.left
			c.own.reserved -= g.block.left
			c.urgent = true
		}
	}
	g.block.left = 0
}

// releaseCleared returns the blocks that a new generation has made invalid.
func (m *meter) releaseCleared() {
	for _, g := range m.groups {
		for i, c := range g.counters {
			if g.block.left > 0 && c.generation != g.block.generations[i] {
				m.releaseBlock(g)
			}
		}
	}
}

// releaseIdle gives back the blocks that were not used for a second, or all.
func (m *meter) releaseIdle(now moment, all bool) {
	for _, g := range m.groups {
		if all || now.since >= g.block.idleAt() {
			m.releaseBlock(g)
		}
	}
}
