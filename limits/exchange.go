package limits

import (
	"context"
	"time"
)

// Counters is where the counters live. Redis and Bolt implement it; both pass the same tests.
//
// A gateway never says "add" or "take off". It states what it holds of each counter, and the store
// moves its sum by the difference and then grants. So a lost reply, a late or doubled request, a
// call given back and calls sent while the store was away are all the same sentence with other
// figures, and every repetition is harmless.
type Counters interface {
	// Exchange states and asks in one atomic step. Requests for one counter must not overlap: the
	// store tells late ones from new ones by their order. An error means that nobody knows whether
	// the statement was heard; nothing was granted.
	Exchange(ctx context.Context, r *Request) (*Answer, error)

	// Patience is how long a call may wait for the store before it is refused.
	Patience() time.Duration

	// Gateways says that this gateway lives, and returns how many have said so in the last ten
	// minutes: a rolling restart does not make anybody's share larger. 0 means that the store
	// serves one process only.
	Gateways(ctx context.Context) (int64, error)

	// Read returns what each of the windows holds of an app, by counter: of some, or of all if none is
	// named.
	Read(ctx context.Context, app string, windows []Window, counters ...string) ([]map[string]Heard, error)

	// Probe takes the fleet's turn to send one call to a latched counter, once in each gap. It
	// reports false when another has taken it.
	Probe(ctx context.Context, app, counter string, gap time.Duration) (bool, error)

	// Pace takes one call of a rule's pace. It returns 0 when the call may go, else how long to
	// wait.
	Pace(ctx context.Context, app, rule string, p Pace) (time.Duration, error)
}

// noLimit is stated as the limit of a counter without a figure.
const noLimit = 100 * MaxLimit

// Request is one statement with an optional wish. The counters of a call are granted all or none.
type Request struct {
	App      string
	Want     int64 // calls wished for; 0 only states
	Block    int64 // calls wished for ahead of need
	Windows  []WindowState
	Counters []State
}

// WindowState is a window with the generation that the gateway knows of it.
type WindowState struct {
	Window
	Generation int64
}

// State is what a gateway states of one counter. A generation is 0, or the store's time in
// milliseconds just before a clear was sent: figures of different generations never mix, and the
// larger generation wins on both sides.
type State struct {
	Window     int // index into Request.Windows
	Name       string
	Limit      int64 // by this gateway's own table
	Generation int64
	Version    int64 // of the counter as last heard
	Others     int64 // its count less our own part, as last heard
	Confirmed  int64 // our own part as the store last confirmed it
	Held       int64 // calls this gateway holds: executed, in flight, and unspent of its block
	Latch      int64 // milliseconds since 1970 until which WeChat has said no; 0: nothing known
	Raise      int64 // a count learned from WeChat; 0: none
}

// Status says how the store took a request. In every one of them but Stale the statement was heard.
type Status int64

// The statuses.
const (
	OK      Status = iota
	Full           // no room in the counter Answer.Which
	Latched        // WeChat itself has said no to the counter Answer.Which
	Outside        // the store's clock is outside of a window
	Again          // a generation of the request is older than the store's
	Stale          // a later request of this gateway was heard before
)

// Answer is the store's reply.
type Answer struct {
	Status      Status
	Granted     int64 // 0 to Request.Want
	Block       int64
	Which       int   // index of the tightest counter
	Now         int64 // the store's clock, milliseconds since 1970
	Retried     bool  // an earlier attempt of the same request had no answer, and may be heard yet
	Lost        bool  // the store was older than what the gateway had heard: it has lost writes
	Generations []int64
	Counters    []Heard
}

// Heard is a counter as the store has it.
type Heard struct {
	Generation int64
	Used       int64
	Version    int64
	Latch      int64
	Grant      int64 // calls that an operator has added to the limit
}
