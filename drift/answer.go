package drift

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"wxproxy/limits"
)

// Error is a question that WeChat did not answer with figures. It holds nothing of what it said but
// the errcode.
type Error struct {
	Path    string // that was asked about
	ErrCode int    // WeChat's; 0 where Fault says what is wrong
	Fault   string
}

func (e *Error) Error() string {
	if e.ErrCode != 0 {
		return fmt.Sprintf("quota/get of %s: errcode %d: want 0", e.Path, e.ErrCode)
	}
	return fmt.Sprintf("quota/get of %s: %s", e.Path, e.Fault)
}

// kind is the same for errors that an operator need not hear of twice.
func (e *Error) kind() string {
	if e.ErrCode != 0 {
		return "errcode " + strconv.Itoa(e.ErrCode)
	}
	return e.Fault
}

// refused reports whether WeChat does not tell the figures of this path, and may well tell those of
// others: the path is malformed (76001 to 76003), not known (76021) or none of the account's (76022).
func (e *Error) refused() bool {
	switch e.ErrCode {
	case 76001, 76002, 76003, 76021, 76022:
		return true
	}
	return false
}

// ofPath reports whether an error is about one path only.
func ofPath(err error) bool {
	answer, ok := errors.AsType[*Error](err)
	return ok && answer.refused()
}

// errcodeSpent is quota/get's own quota.
const errcodeSpent = 44993

const noAnswer = "no answer"

// maxAnswer bounds what is read of an answer, in bytes. A real one has about 300.
const maxAnswer = 64 << 10

// parseAnswer reads the answer to a question about path. limit is 0 where WeChat tells no figure.
func parseAnswer(path string, body []byte) (limit, used int64, err error) {
	wrong := func(format string, args ...any) (int64, int64, error) {
		return 0, 0, &Error{Path: path, Fault: fmt.Sprintf(format, args...)}
	}
	if len(body) > maxAnswer {
		return wrong("an answer of more than %d bytes: want errcode and quota", maxAnswer)
	}
	var answer, quota map[string]json.RawMessage // its names are exact, as those of a struct are not
	if json.Unmarshal(body, &answer) != nil || answer == nil {
		return wrong("no JSON object: want errcode and quota")
	}
	code, ok := whole(answer["errcode"])
	switch {
	case !ok || int64(int32(code)) != code:
		return wrong("no errcode: want 0")
	case code != 0:
		return 0, 0, &Error{Path: path, ErrCode: int(code)}
	}
	if json.Unmarshal(answer["quota"], &quota) != nil {
		return wrong("no quota: want daily_limit and used")
	}
	const want = "no quota.%s: want a whole number from 0 to %d"
	if limit, ok = whole(quota["daily_limit"]); !ok || limit < 0 || limit > limits.MaxLimit {
		return wrong(want, "daily_limit", int64(limits.MaxLimit))
	}
	if used, ok = whole(quota["used"]); !ok || used < 0 || used > limits.MaxLimit {
		return wrong(want, "used", int64(limits.MaxLimit))
	}
	return limit, used, nil
}

// whole reads a whole number, or a string of one.
func whole(raw json.RawMessage) (int64, bool) {
	text := string(raw)
	if len(text) > 0 && text[0] == '"' {
		if json.Unmarshal(raw, &text) != nil {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == text // no +1, no 01, no -0
}
