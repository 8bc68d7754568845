package limits

import "time"

// Verdict says what becomes of a call.
type Verdict uint8

// The verdicts. The first three are sent.
const (
	Pass           Verdict = iota
	Degraded               // sent while the store was down
	Shadow                 // would have been refused, but its rule is only a shadow
	RefusedQuota           // a quota of the rule is used up
	RefusedLatched         // WeChat itself said 45009
	RefusedPace            // over the rule's pace
	RefusedShare           // the caller's part of the quota is used up
	RefusedDenied          // the account lacks the API
	RefusedStore           // the store cannot be reached
	verdicts
)

var verdictTexts = [verdicts]string{
	"pass", "degraded", "shadow", "refused-quota", "refused-latched", "refused-pace", "refused-share", "refused-denied", "refused-store",
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
	// window it was counted in has ended. The zero time is none.
	Deadline time.Time

	// RetryAfter is how long a refused caller should wait, at least a second. It is 0 where
	// waiting does not help.
	RetryAfter time.Duration

	// Counted is the store's clock when the call was counted, in milliseconds. It is the generation
	// of a clear that the call is.
	Counted int64

	meter *meter
	held  []*counter // the counters that the call was counted in

	generation int64 // of held[0] then
	probe      bool  // sent although the counter is latched
}
