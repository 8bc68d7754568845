package token

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"
)

const (
	// recordKey is where the store keeps an app's record, and its lease.
	recordKey = "token"

	// recordExpiry keeps a record until its last force_refresh no longer counts.
	recordExpiry = 48 * time.Hour

	// longest is how long any token may be good for. A time further ahead than that comes from
	// a clock that is wrong.
	longest = 24 * time.Hour
)

// record is what the gateways of a fleet know of an app's token, as JSON in the store.
// Times are Unix milliseconds.
type record struct {
	Token   string  `json:"token,omitempty"`
	Fetched int64   `json:"fetched_ms,omitempty"`
	Ends    int64   `json:"ends_ms,omitempty"`
	Dead    string  `json:"dead,omitempty"`      // digest of the token that WeChat refused last
	Forced  []int64 `json:"forced_ms,omitempty"` // when a new token was asked for because of that
	Block   *block  `json:"block,omitempty"`     // the breaker; nil after a token
}

// block is the breaker: nobody asks WeChat until Until.
type block struct {
	ErrCode  int    `json:"errcode"`
	Answer   []byte `json:"answer"`
	IP       string `json:"ip,omitempty"`
	Until    int64  `json:"until_ms"`
	Step     int    `json:"step"`             // refusals in a row that were no quota's
	By       string `json:"by"`               // the Source that was refused
	SecretID string `json:"secret,omitempty"` // a check of the secret that was refused
}

// parseRecord reads a record. One that is not ours is like none.
func parseRecord(raw []byte) record {
	var r record
	if err := json.Unmarshal(raw, &r); err != nil || r.Token != "" && !validToken(r.Token) {
		return record{}
	}
	return r
}

func (r *record) put(l *live) {
	r.Token, r.Fetched, r.Ends = l.token, l.fetched.UnixMilli(), l.ends.UnixMilli()
}

// live returns the record's token if it is good at now and has not been refused, or nil.
func (r *record) live(now time.Time) *live {
	l := &live{token: r.Token, fetched: time.UnixMilli(r.Fetched), ends: time.UnixMilli(r.Ends)}
	if l.token == "" || digest(l.token) == r.Dead || !now.Before(l.ends) || l.ends.Sub(now) > longest {
		return nil
	}
	return l
}

// Back-off after a refusal of WeChat: 10 s, 20 s, 40 s, ... 5 min. A quota of calls is not used
// up because of us, and comes back by itself: 1 min.
const (
	firstBackOff = 10 * time.Second
	maxBackOff   = 5 * time.Minute
	quotaBackOff = time.Minute
)

// headStart is how long a gateway whose address WeChat refuses leaves the next attempt to the
// others, whose addresses may do.
const headStart = 500 * time.Millisecond

// blocked returns the refusal that forbids this Source to ask WeChat at now, or nil.
func (r *record) blocked(now time.Time, a *app, id string) *Rejected {
	b := r.Block
	if b == nil || b.SecretID != a.secretID {
		return nil
	}
	e := b.rejected(a, id)
	if left := e.Until.Sub(now); left <= 0 || left > maxBackOff+headStart {
		return nil
	}
	return e
}

// refuse notes that WeChat has refused at now, and returns e with the time that it is for.
func (r *record) refuse(now time.Time, a *app, id string, e *Rejected) *Rejected {
	step := 0
	if b := r.Block; b != nil && b.SecretID == a.secretID {
		step = min(max(b.Step, 0), 10) // the store's word for it, and 10 is as good as more
	}
	backOff := quotaBackOff
	if e.ErrCode != 45009 && e.ErrCode != 45011 {
		step++
		backOff = min(firstBackOff<<min(step-1, 5), maxBackOff)
	}
	r.Block = &block{
		ErrCode: e.ErrCode, Answer: e.answer, IP: e.IP,
		Until: now.Add(backOff).UnixMilli(), Step: step, By: id, SecretID: a.secretID,
	}
	return r.Block.rejected(a, id)
}

// rejected is what the block means to the Source id.
func (b *block) rejected(a *app, id string) *Rejected {
	e := &Rejected{AppID: a.AppID, ErrCode: b.ErrCode, IP: b.IP, Until: time.UnixMilli(b.Until), answer: b.Answer}
	if b.By == id && addressRefused(b.ErrCode) {
		e.Until = e.Until.Add(headStart)
	}
	return e
}

// addressRefused reports whether an errcode is about the address that the request came from:
// not in the whitelist, or waiting for the administrator's consent.
func addressRefused(errcode int) bool {
	switch errcode {
	case 40164, 89501, 89503, 89506, 89507:
		return true
	}
	return false
}

// How often a new token may be asked for because WeChat refuses the one that it has given.
type allowance struct {
	gap    time.Duration // between two of them
	most   int           // in any window
	window time.Duration
}

var (
	// WeChat allows force_refresh 20 times a day, at least 30 s apart. Any 24 hours are stricter
	// than a day, wherever it begins.
	stableAllowance = allowance{gap: 30 * time.Second, most: 20, window: 24 * time.Hour}

	// A token of the classic endpoint goes on for 5 minutes after the next was fetched, so it
	// cannot rightly die more often. An API that always says 40001 must not use up the 2000
	// fetches of a day.
	classicAllowance = allowance{most: 5, window: 25 * time.Minute}
)

// next returns when one more is allowed, given when there were some: not after now if at once.
func (w allowance) next(now time.Time, past []int64) time.Time {
	past = w.recent(now, past)
	at := now
	if n := len(past); n > 0 && w.gap > 0 {
		at = time.UnixMilli(past[n-1]).Add(w.gap)
	}
	if n := len(past); n >= w.most {
		if end := time.UnixMilli(past[n-w.most]).Add(w.window); end.After(at) {
			at = end
		}
	}
	return at
}

// recent returns those of past that still count, in order.
func (w allowance) recent(now time.Time, past []int64) []int64 {
	from, to := now.Add(-w.window).UnixMilli(), now.Add(w.window).UnixMilli()
	past = slices.DeleteFunc(slices.Clone(past), func(t int64) bool { return t <= from || t > to })
	slices.Sort(past)
	return past
}

func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:16])
}

// secretID tells an app's secrets apart, and nothing else of them: 32 bits of a hash.
func secretID(a App) string {
	sum := sha256.Sum256([]byte(a.AppID + "\x00" + a.Secret))
	return hex.EncodeToString(sum[:4])
}
