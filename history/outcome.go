package history

import (
	"strconv"
	"strings"
)

// Kind says what became of a call.
type Kind uint8

// The kinds. All but Refused and Local were sent to WeChat. TokenDied is no call: it is the first sending of one, which
// WeChat rejected because the access_token had died. What then became of the call is an outcome beside it.
const (
	Passed         Kind = iota + 1 // WeChat answered without an errcode, or with 0
	Shadow                         // sent although it would have been refused
	Refused                        // by the gateway, see Outcome.Reason
	Rejected                       // WeChat answered with an errcode, see Outcome.Errcode
	TransportError                 // no whole answer of WeChat's
	HTTPError                      // WeChat answered with a status of 400 or more
	Local                          // answered by the gateway itself, as a token request is
	TokenDied                      // a sending that WeChat rejected for its token; the call is counted beside it
)

// kinds are the texts of the kinds.
var kinds = [...]string{Passed: "passed", Shadow: "shadow", Refused: "refused", Rejected: "errcode", TransportError: "transport-error", HTTPError: "http-error", Local: "local", TokenDied: "token-died"}

// Outcome is what became of a call. The zero value is none.
type Outcome struct {
	Kind    Kind
	Reason  string // of Refused: one of a fixed list
	Errcode int    // of Rejected; otherErrcode stands for those beyond maxErrcodes
}

const (
	otherErrcode = 0   // WeChat rejects with no errcode 0
	maxErrcodes  = 200 // different ones that a gateway keeps apart
)

// String returns passed, refused:quota-used-up, errcode:40003 and the like.
func (o Outcome) String() string {
	switch {
	case int(o.Kind) >= len(kinds) || o.Kind == 0:
		return ""
	case o.Kind == Refused:
		return kinds[Refused] + ":" + o.Reason
	case o.Kind == Rejected && o.Errcode == otherErrcode:
		return kinds[Rejected] + ":other"
	case o.Kind == Rejected:
		return kinds[Rejected] + ":" + strconv.Itoa(o.Errcode)
	}
	return kinds[o.Kind]
}

// Sent reports whether a request went to WeChat, so that it counts against a quota.
func (o Outcome) Sent() bool { return o.Kind != Refused && o.Kind != Local && o.Kind != 0 }

// parseOutcome reads what String wrote. A text that it did not write is the zero value.
func parseOutcome(text string) Outcome {
	name, rest, _ := strings.Cut(text, ":")
	for k, known := range kinds {
		if known == "" || known != name {
			continue
		}
		o := Outcome{Kind: Kind(k)}
		switch o.Kind {
		case Refused:
			o.Reason = rest
		case Rejected:
			o.Errcode, _ = strconv.Atoi(rest) // other is none
		}
		return o
	}
	return Outcome{}
}
