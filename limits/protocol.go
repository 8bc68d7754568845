package limits

import (
	"context"
	"fmt"
	"time"
)

// Counters is where the counters live. [Redis] and [Bolt] implement it; both pass the same tests.
//
// A gateway never sends increments. It reports its own total for each counter, and the store
// applies the difference to the shared sum. So a lost reply, a late or duplicate request, a
// returned call and calls counted during an outage are all the same request with other numbers,
// and repeating a report is harmless.
type Counters interface {
	// Exchange reports and asks for calls in one atomic step. Requests for one counter must not
	// overlap: the store distinguishes late requests from new ones by their order. After an error it is
	// unknown whether the report was applied; nothing was granted.
	Exchange(ctx context.Context, r *Request) (*Answer, error)

	// Patience is how long a call may wait for the store before it is refused.
	Patience() time.Duration

	// Heartbeat registers this gateway and returns how many have registered in the last ten
	// minutes; 0 means that the store serves one process only. It fails when the store cannot
	// count at the moment.
	Heartbeat(ctx context.Context) (gateways int64, err error)

	// Read returns the counters of each query, by name, in the order of the queries. It takes one
	// round trip for a few hundred of them. Beside an error it returns what it has read: nil for a
	// query without an answer, and a map without the counters that a [*DamagedError] names.
	Read(ctx context.Context, queries []Query) ([]map[string]CounterState, error)

	// Probe takes the fleet's turn to send one call to a latched counter, once in each gap. It
	// reports false when another gateway has taken it.
	Probe(ctx context.Context, app, counter string, gap time.Duration) (bool, error)

	// Pace takes calls of a rule's pace: one, or none to learn whether one could be taken. It returns
	// 0 when a call may go, else how long to wait.
	Pace(ctx context.Context, app, rule string, p Pace, calls int) (time.Duration, error)
}

// Query names what Read reads: one window of one app, all its counters or only those of Names.
type Query struct {
	App    string
	Window Window
	Names  []string
}

// StoreError is an error that the store itself has answered, as NOPERM or OOM: the store is
// reachable, and refuses.
type StoreError struct{ Text string }

func (e *StoreError) Error() string { return "the store answered: " + e.Text }

// DamagedError reports a field of the store that [Counters.Read] could not read and has left out. The
// next request for the counter writes it anew, see [Answer].
type DamagedError struct {
	Key   string // of the window that the field belongs to
	Field string // the counter, or the field of the window's generation
	Value string
}

func (e *DamagedError) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("%s: field %s was not what a gateway writes: it is written anew, from what this gateway knows", e.Key, e.Field)
	}
	return fmt.Sprintf("%s: field %s is %.60q, which is not what a gateway writes: it is left out, and written anew by the next call", e.Key, e.Field, e.Value)
}

// noLimit is sent as the limit of a counter without a figure.
const noLimit = 100 * MaxLimit

// Request is one report, with an optional demand. The counters of a call are granted all or none.
type Request struct {
	App      string
	Life     string // keeps the parts of a counter's lives in this process apart; see [meter]
	Want     int64  // calls asked for; 0 only reports
	Block    int64  // calls asked for ahead of need
	Windows  []WindowReport
	Counters []Report

	restates bool // it repeats what the store may have lost
	unsure   bool // an earlier one had no answer, so the store's part may be another one than was acknowledged
}

// WindowReport is a window with the generation that the gateway knows of it.
type WindowReport struct {
	Window
	Generation int64
}

// Report is what a gateway reports of one counter. A generation is 0, or the store's time in
// milliseconds just before a clear was sent: figures of different generations never mix, and the
// larger generation wins on both sides.
type Report struct {
	Window     int // index into Request.Windows
	Name       string
	Limit      int64 // by this gateway's own table
	Generation int64
	Version    int64 // of the counter, in the last answer
	Others     int64 // its count less our own part, in the last answer
	Acked      int64 // our own part, as the store last confirmed it
	Local      int64 // calls this gateway has counted: finished, in flight, reserved in blocks
	Latch      Latch
	Raise      int64 // a count learned from WeChat; 0: none. A new generation begins with it
	Grant      Grant
	Over       int64 // Grant takes the place of one that was set by then, and of no later one

	// Reserve is how many calls are kept back for the caller that this counter counts, out of the
	// first counter of the window in the request: what is not used of them is not granted. The counter itself is reported
	// and counts nothing. 0: it is one of the call's.
	Reserve int64
}

// Grant is how many calls an operator has added to the limit of a counter. The grant with the later At
// wins; a clear changes nothing in it. Times are milliseconds since 1970 by the store's clock.
type Grant struct {
	Calls int64 // 0: ended at At
	Until int64
	At    int64 // when it was set or ended; 0: never
}

// at returns the calls that a grant adds at a moment of the store's clock.
func (g Grant) at(store int64) int64 {
	if store < g.Until {
		return g.Calls
	}
	return 0
}

// merge returns the grant after both were seen, in whatever order.
func (g Grant) merge(other Grant) Grant {
	if other.At > g.At || other.At == g.At && (other.Calls > g.Calls || other.Calls == g.Calls && other.Until > g.Until) {
		return other
	}
	return g
}

// Latch is until when WeChat answers 45009 for a counter. The latch with the later At wins; a
// later latch never ends before an earlier one that is not lifted. Of two that were set at the same
// time, the one that ends later wins. Times are milliseconds since 1970 by the store's clock.
type Latch struct {
	Until int64 // 0: lifted at At
	At    int64 // when it was set or lifted; 0: never
}

// merge returns the latch after both were seen, in whatever order.
func (l Latch) merge(other Latch) Latch {
	switch {
	case other.At < l.At:
		return l
	case other.At == l.At, other.Until > 0:
		other.Until = max(other.Until, l.Until)
	}
	return other
}

// Status is what the store did with a request. In all of them but Stale the report was applied.
type Status int64

// The statuses.
const (
	OK      Status = iota
	Full           // no room in the counter Answer.Which
	Latched        // the counter Answer.Which is latched
	Outside        // the store's clock is outside of a window
	Again          // a generation of the request is older than the store's
	Stale          // a later request of this gateway was applied before
)

// Answer is the store's reply.
type Answer struct {
	Status      Status
	Granted     int64 // 0 to Request.Want
	Block       int64
	Which       int    // index of the tightest counter
	Now         int64  // the store's clock, milliseconds since 1970
	Retried     bool   // an earlier attempt of the same request had no answer, and may be applied yet
	Lost        bool   // the store was older than the report, or has lost this gateway's part
	Damaged     int    // 1 + the index of a counter whose field could not be read, and was written anew; 0: none
	Key         string // of the store, where the damaged field is
	Generations []int64
	Counters    []CounterState
}

// CounterState is a counter as the store has it.
type CounterState struct {
	Generation int64
	Used       int64
	Version    int64
	Latch      Latch
	Grant      Grant
}
