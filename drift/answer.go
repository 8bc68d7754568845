package drift

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"wxproxy/limits"
)

// Error is an answer of quota/get without figures, or none. It holds nothing of the answer but the
// errcode.
type Error struct {
	Path    string // that was asked about
	ErrCode int    // WeChat's; 0 where Fault has the reason
	Fault   string
}

func (e *Error) Error() string { return "quota/get of " + e.Path + ": " + e.reason() }

// reason is the same for errors of which only the first is reported.
func (e *Error) reason() string {
	if e.ErrCode != 0 {
		return fmt.Sprintf("errcode %d: want 0", e.ErrCode)
	}
	return e.Fault
}

// pathRefused reports whether an error is about one path only: one that is malformed (76001 to 76003),
// unknown (76021) or not the account's (76022).
func pathRefused(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		switch e.ErrCode {
		case 76001, 76002, 76003, 76021, 76022:
			return true
		}
	}
	return false
}

// errcodeExhausted means that quota/get's own quota is used up.
const errcodeExhausted = 44993

const noAnswer = "no answer"

// maxAnswer bounds what is read of an answer, in bytes. A real one has about 300.
const maxAnswer = 64 << 10

// parseAnswer reads the answer to a question about path. limit is 0 where WeChat has no figure.
func parseAnswer(path string, body []byte) (limit, used int64, err error) {
	invalid := func(format string, args ...any) (int64, int64, error) {
		return 0, 0, &Error{Path: path, Fault: fmt.Sprintf(format, args...)}
	}
	if len(body) > maxAnswer {
		return invalid("an answer of more than %d bytes: want errcode and quota", maxAnswer)
	}
	var answer, quota map[string]json.RawMessage // a map matches names exactly, a struct would not
	if json.Unmarshal(body, &answer) != nil || answer == nil {
		return invalid("no JSON object: want errcode and quota")
	}
	code, ok := parseInt(answer["errcode"])
	switch {
	case !ok || int64(int32(code)) != code:
		return invalid("no errcode: want 0")
	case code != 0:
		return 0, 0, &Error{Path: path, ErrCode: int(code)}
	}
	if json.Unmarshal(answer["quota"], &quota) != nil {
		return invalid("no quota: want daily_limit and used")
	}
	for i, n := range []*int64{&limit, &used} {
		name := [...]string{"daily_limit", "used"}[i]
		if *n, ok = parseInt(quota[name]); !ok || *n < 0 || *n > limits.MaxLimit {
			return invalid("no quota.%s: want a whole number from 0 to %d", name, int64(limits.MaxLimit))
		}
	}
	return limit, used, nil
}

// parseInt reads a whole number, or a string of one.
func parseInt(raw json.RawMessage) (int64, bool) {
	text := string(raw)
	if len(text) > 0 && text[0] == '"' {
		if json.Unmarshal(raw, &text) != nil {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == text // no +1, no 01, no -0
}
