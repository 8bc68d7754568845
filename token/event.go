package token

import "time"

// Kind says what an Event is about.
type Kind string

// The kinds of events. Each gateway has Opened and Closed, by what WeChat has answered to any of them; the
// others are of the gateway that did it.
const (
	Fetched     Kind = "fetched"      // WeChat gave a token
	Adopted     Kind = "adopted"      // another gateway's token was taken from the store
	Failed      Kind = "failed"       // WeChat gave none: ErrCode, IP, Err
	Forced      Kind = "forced"       // force_refresh is about to be sent
	Opened      Kind = "opened"       // WeChat refuses, and is not asked until Until
	Closed      Kind = "closed"       // there is a token again after Opened
	StoreFailed Kind = "store_failed" // this gateway goes on alone: Err
)

// Event is something that happened to an app's token. It holds neither token nor secret.
type Event struct {
	Kind    Kind
	AppID   string
	ErrCode int           // Failed, Opened: WeChat's, or 0 if it did not answer
	IP      string        // Failed, Opened: the address that WeChat saw, if it told
	Until   time.Time     // Opened
	Expires time.Time     // Fetched, Adopted
	Took    time.Duration // Fetched, Failed: the request to WeChat
	Err     error         // Failed, StoreFailed
	Unknown bool          // Failed: WeChat has never issued a token for AppID, which may be made up
}
