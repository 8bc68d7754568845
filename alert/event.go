package alert

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// Kind is what an event is about. It is a label of metrics and a name in the configuration.
type Kind string

// The kinds of events. Those marked "condition" begin, and end with an event of the same kind that is Over;
// the others happen.
const (
	Used         Kind = "used"          // a threshold of a counter was passed
	ClearsUsed   Kind = "clears_used"   // most of the month's clears are used
	Forecast     Kind = "forecast"      // a counter will be used up before its window ends
	Latched      Kind = "latched"       // condition: WeChat answers 45009 until the window ends
	Fuse         Kind = "fuse"          // condition: a caller's calls of a rule fail in a loop
	TokenRefused Kind = "token_refused" // condition: WeChat issues no access_token
	TokenEnding  Kind = "token_ending"  // condition: an access_token is about to end and was not renewed
	StoreDown    Kind = "store_down"    // condition: the store is unavailable to a gateway
	ReloadFailed Kind = "reload_failed" // condition: the files of the configuration have faults
	LogDropped   Kind = "log_dropped"   // condition: lines of the access log are dropped
	Drift        Kind = "drift"         // WeChat has counted more than the gateways
	Digest       Kind = "digest"        // once a day
	Test         Kind = "test"          // asked for by an operator
)

// Kinds are all kinds that a sink can be limited to.
func Kinds() []Kind {
	return []Kind{Used, ClearsUsed, Forecast, Latched, Fuse, TokenRefused, TokenEnding, StoreDown, ReloadFailed, LogDropped, Drift, Digest}
}

// isCondition reports whether events of a kind begin and end something.
func (k Kind) isCondition() bool {
	switch k {
	case Latched, Fuse, TokenRefused, TokenEnding, StoreDown, ReloadFailed, LogDropped:
		return true
	}
	return false
}

// ofGateway reports whether a kind concerns the gateway that noticed it, and no account.
func (k Kind) ofGateway() bool { return k == StoreDown || k == ReloadFailed || k == LogDropped }

// Event is something that people should know. It holds no secret, token, key or openid.
type Event struct {
	Kind  Kind      `json:"kind"`
	Over  bool      `json:"over,omitempty"`  // the condition has ended
	Again bool      `json:"again,omitempty"` // a reminder: the condition still holds
	At    time.Time `json:"at"`
	Since time.Time `json:"since,omitzero"` // Over, Again: when the condition began

	AppID string `json:"appid,omitempty"` // the account
	App   string `json:"app,omitempty"`   // its alias
	Rule  string `json:"rule,omitempty"`
	Title string `json:"title,omitempty"` // of the rule: WeChat's name of the API
	Path  string `json:"path,omitempty"`  // inside a /*

	Period    string    `json:"period,omitempty"` // day or month
	Used      int64     `json:"used,omitempty"`
	Limit     int64     `json:"limit,omitempty"`
	Threshold int       `json:"threshold,omitempty"` // percent
	Reset     time.Time `json:"reset,omitzero"`      // when the window ends
	Forecast  time.Time `json:"forecast,omitzero"`   // when the limit will be reached; zero: not known, or not before Reset
	Callers   []Caller  `json:"callers,omitempty"`   // those with the most calls, largest first
	Wechat    int64     `json:"wechat_used,omitempty"`

	Until   time.Time `json:"until,omitzero"` // Latched: when it ends by itself. Fuse: until when it is known, if no gateway ends it. TokenRefused: the next attempt
	Expires time.Time `json:"expires,omitzero"`
	ErrCode int       `json:"errcode,omitempty"`
	IP      string    `json:"ip,omitempty"`      // TokenRefused: the address that WeChat saw
	Caller  string    `json:"caller,omitempty"`  // Fuse
	Host    string    `json:"host,omitempty"`    // the gateway that noticed it
	Dropped int64     `json:"dropped,omitempty"` // LogDropped: lines
	Reason  string    `json:"reason,omitempty"`  // in words

	Top     []Event `json:"top,omitempty"`     // Digest: the counters with the highest part of their limit used
	Holding []Event `json:"holding,omitempty"` // Digest: the conditions that hold
}

// Caller is how many calls one caller has made.
type Caller struct {
	Name  string `json:"name"`
	Calls int64  `json:"calls"`
}

// counter names the counter that an event is about, "" for none.
func (e Event) counter() string {
	if e.Path != "" {
		return e.Rule + ":" + e.Path
	}
	return e.Rule
}

// condition names what holds: two events with the same one are about the same thing.
func (e Event) condition() string {
	return fmt.Sprintf("%s|%s|%s|%s", e.Kind, e.AppID, e.counter(), e.Caller)
}

// id is the same for an event that two gateways notice, or one notices twice.
func (e Event) id(generation int64) string {
	text := fmt.Sprintf("%s|%s|%d|%d|%d|%d", e.condition(), e.Period, e.Reset.UnixMilli(), generation, e.Limit, e.Threshold)
	if e.Kind.isCondition() || e.Kind == Digest {
		text += fmt.Sprintf("|%d|%t|%t", e.At.UnixMilli(), e.Over, e.Again)
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// percent is how much of the limit is used, rounded down.
func (e Event) percent() int64 {
	if e.Limit <= 0 {
		return 0
	}
	return e.Used * 100 / e.Limit
}
