package report

import (
	"time"

	"wxproxy/limits"
)

// pace is one rule's pace for one app: GCRA, as redis_rate has it, in whole nanoseconds.
type pace struct {
	interval time.Duration // between calls
	burst    time.Duration // how far the next call's time may lie ahead of now
	next     time.Duration // when the next call would come if all came at the rate; since 1970
}

func newPace(p limits.Pace) *pace {
	interval := p.Per / time.Duration(p.Rate)
	return &pace{interval: interval, burst: interval * time.Duration(p.Burst)}
}

// take takes one call at a time since 1970, or refuses it, which changes nothing.
func (p *pace) take(now time.Duration) bool {
	next := max(p.next, now) + p.interval
	if next-p.burst > now {
		return false
	}
	p.next = next
	return true
}
