package report

import "wxproxy/limits"

// pace is one rule's pace for one app, as redis_rate keeps it: GCRA in seconds, in floating point like its script.
type pace struct {
	interval float64 // between calls
	burst    float64 // how far ahead of now the theoretical time may lie
	next     float64 // theoretical time of arrival of the next call
}

func newPace(p limits.Pace) *pace {
	interval := p.Per.Seconds() / float64(p.Rate)
	return &pace{interval: interval, burst: interval * float64(p.Burst)}
}

// paceEpoch is 2017-01-01, from which the script of redis_rate counts to keep its figures exact.
const paceEpoch = 1_483_228_800_000

// take takes one call at a time in milliseconds since 1970, or refuses it, which changes nothing.
func (p *pace) take(at int64) bool {
	now := float64(at-paceEpoch) / 1000
	next := max(p.next, now) + p.interval
	if now-(next-p.burst) < 0 {
		return false
	}
	p.next = next
	return true
}
