package limits

import "time"

// Verdict is whether a call may be sent, and if not, why.
type Verdict uint8

// The verdicts. The first three are sent.
const (
	Pass            Verdict = iota
	Degraded                // sent while the store was unavailable
	Shadow                  // would have been refused, but its rule is only a shadow
	RefusedQuota            // a quota of the rule is used up
	RefusedLatched          // WeChat itself answered 45009
	RefusedPace             // over the rule's pace
	RefusedShare            // the caller's part of the quota is used up
	RefusedReserved         // what is left of a quota is kept back for other callers
	RefusedDenied           // the account lacks the API
	RefusedStore            // the store is unavailable
	verdicts
)

var verdictTexts = [verdicts]string{
	"pass", "degraded", "shadow", "refused-quota", "refused-latched", "refused-pace", "refused-share", "refused-reserved", "refused-denied", "refused-store",
}

func (v Verdict) String() string { return verdictTexts[v] }

// Sent reports whether the call may go to WeChat.
func (v Verdict) Sent() bool { return v <= Shadow }

// Decision is the answer to one call: may it be sent, and what its tightest quota looks like
// after it.
type Decision struct {
	Verdict Verdict
	Rule    *Rule
	Counter string // the rule's name, or that of one path inside a /*

	Quota     int64         // the tightest figure; 0 when the rule has none
	Used      int64         // calls counted in its window, this one included
	Remaining int64         // what is left of it, never under 0
	Reset     time.Duration // until its window ends, by the store's clock

	// Deadline is the moment past which a granted call must not be sent any more, because the
	// window it was counted in has ended; see [Past]. The zero time is none.
	Deadline time.Time

	// RetryAfter is how long a refused caller should wait, at least a second. It is 0 where
	// waiting does not help.
	RetryAfter time.Duration

	// Counted is the store's clock when the call was counted, in milliseconds since 1970. When
	// the call is a clear that WeChat grants, [Limiter.Clear] takes it.
	Counted int64
}

// Past reports whether a deadline is over at now, by the monotonic clock or by the wall clock: the
// monotonic clock stands still while a host is suspended, and the wall clock may be set back. The zero
// time is no deadline.
func Past(now, deadline time.Time) bool {
	return !deadline.IsZero() && (!now.Before(deadline) || !now.Round(0).Before(deadline.Round(0)))
}

// Hold is the place that a granted call has in its counters, until the call ends. The zero value
// holds nothing. It is for one goroutine.
type Hold struct {
	limiter    *Limiter
	meter      *meter
	group      *group
	generation int64         // of the group's first counter, when the call was counted
	since      time.Duration // when it was counted, as moment.since
	probe      bool          // sent although the counter is latched
	end        func(Ending, int)
}

// Ending is how a call ended.
type Ending uint8

// The endings.
const (
	Finished Ending = iota // sent: it stays counted
	Returned               // it provably never left: it is not counted
	UsedUp                 // WeChat answered that the quota is used up: returned, and the counter is full
)

// NewHold returns a handle that reports its end to end, for tests that stand in for a Limiter.
func NewHold(end func(ending Ending, errcode int)) Hold { return Hold{end: end} }

// Done ends a call that was answered or whose fate is unknown: it stays counted. errcode is
// WeChat's: 0 for an answer without one, -1 when no answer was seen. 45009 latches the call's counter
// on every gateway. A call of a path inside a /* that WeChat does not know (40066) is returned, so
// that guessed paths take no places.
func (h *Hold) Done(errcode int) { h.finish(Finished, errcode) }

// GiveBack ends a call that provably never left: it is not counted.
func (h *Hold) GiveBack() { h.finish(Returned, 0) }

// Exhausted ends a call that WeChat refused because the quota is used up: every counter of the call
// is full from now on, and the call itself is not counted.
func (h *Hold) Exhausted() { h.finish(UsedUp, 0) }

// finish ends the call, the first time.
func (h *Hold) finish(ending Ending, errcode int) {
	switch {
	case h.end != nil:
		h.end(ending, errcode)
	case h.meter != nil:
		h.limiter.finish(h, ending, errcode)
	}
	*h = Hold{}
}
