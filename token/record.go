package token

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"
)

// recordKey is where the store keeps an app's record, and its lease.
const recordKey = "token"

// longest is how long any token may be good for. A time further ahead than that comes from a clock that
// is wrong.
const longest = 24 * time.Hour

// record is what the gateways of a fleet know of an app's token, as JSON in the store.
// Times are Unix milliseconds.
type record struct {
	Token   string  `json:"token,omitempty"`
	Fetched int64   `json:"fetched_ms,omitempty"`
	Ends    int64   `json:"ends_ms,omitempty"`
	By      string  `json:"by,omitempty"`        // the gateway that fetched it; "" before 2026-12
	Dead    string  `json:"dead,omitempty"`      // digest of the token that WeChat refused last
	Forced  []int64 `json:"forced_ms,omitempty"` // when a new token was asked for because of that
	Block   *block  `json:"block,omitempty"`     // the breaker; nil after a token
}

// block is the breaker: no gateway asks WeChat before Until.
type block struct {
	ErrCode  int    `json:"errcode"`
	Answer   []byte `json:"answer"`
	IP       string `json:"ip,omitempty"`
	Until    int64  `json:"until_ms"`
	Step     int    `json:"step"`             // refusals in a row that were no quota's
	By       string `json:"by"`               // the gateway that was refused
	SecretID string `json:"secret,omitempty"` // a check of the secret that was refused
}

// put replaces the token by one that a gateway has fetched. Each one counts as fetched later than the one before,
// whatever the clocks say.
func (r *record) put(l *live, gateway string) {
	r.Token, r.Ends, r.By = l.token, l.ends.UnixMilli(), gateway
	r.Fetched = max(l.fetched.UnixMilli(), r.Fetched+1)
	r.Block = nil
}

// merge implements value. The token that was fetched later counts, or of two that were fetched at once one
// that is not dead, or else either, but the same one everywhere.
func (r record) merge(o record, now time.Time) record {
	if o.Fetched > now.Add(longest).UnixMilli() {
		return r
	}
	dead := func(token string) bool { return token == "" || digest(token) == r.Dead || digest(token) == o.Dead }
	first := o.Fetched > r.Fetched
	if o.Fetched == r.Fetched {
		if first = dead(r.Token); first == dead(o.Token) {
			first = cmp.Or(cmp.Compare(o.Token, r.Token), cmp.Compare(o.Ends, r.Ends)) > 0
		}
	}
	if first {
		r, o = o, r
	}
	r.Forced = slices.Concat(r.Forced, o.Forced)
	slices.Sort(r.Forced)
	r.Forced = slices.Compact(r.Forced)
	if r.Fetched > o.Fetched {
		return r // it knows of nothing that came later
	}
	if mine := digest(r.Token); r.Dead != mine && (o.Dead == mine || o.Dead > r.Dead) {
		r.Dead = o.Dead
	}
	if o.Block != nil && (r.Block == nil || o.Block.Until > r.Block.Until) {
		r.Block = o.Block
	}
	return r
}

// keep implements value. A refusal is kept for longer than it blocks, because the next one blocks for longer. That
// of a configured app operators see until there is a token; a learned app may be made up.
func (r record) keep(now time.Time) time.Duration {
	keep := time.Second
	if r.Block != nil {
		after := longest
		if r.Block.SecretID == "" {
			after = maxBackOff
		}
		keep = max(keep, time.UnixMilli(r.Block.Until).Sub(now)+after)
	}
	if r.Dead != "" {
		keep = max(keep, longest)
	}
	if n := len(r.Forced); n > 0 {
		keep = max(keep, time.UnixMilli(r.Forced[n-1]).Sub(now)+stableAllowance.window)
	}
	return min(max(keep, time.UnixMilli(r.Ends).Sub(now)), 2*longest)
}

// present is the record's token, whether it is good or not.
func (r *record) present() *live {
	return &live{token: r.Token, fetched: time.UnixMilli(r.Fetched), ends: time.UnixMilli(r.Ends)}
}

// live returns the record's token if it is good at now and has not been refused, or nil.
func (r *record) live(now time.Time) *live {
	l := r.present()
	if !validToken(l.token) || digest(l.token) == r.Dead || !now.Before(l.ends) || l.ends.Sub(now) > longest {
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

// asker is who asks WeChat for a token.
type asker struct {
	appid    string
	secretID string // tells the secrets of an app apart; "" for one that is learned
	gateway  string // id of the Source or Learned
}

// blocked returns the refusal that forbids to ask WeChat at now, or nil.
func (r *record) blocked(now time.Time, who asker) *Rejected {
	b := r.Block
	if b == nil || b.SecretID != who.secretID {
		return nil
	}
	e := b.rejected(who)
	if left := e.Until.Sub(now); left <= 0 || left > maxBackOff+headStart {
		return nil
	}
	return e
}

// refuse adds that WeChat has refused at now, and returns e with the time that it is for.
func (r *record) refuse(now time.Time, who asker, e *Rejected) *Rejected {
	step := 0
	if b := r.Block; b != nil && b.SecretID == who.secretID {
		step = min(max(b.Step, 0), 10) // whatever the store has, and 10 is as good as more
	}
	backOff := quotaBackOff
	if e.ErrCode != 45009 && e.ErrCode != 45011 {
		step++
		backOff = min(firstBackOff<<min(step-1, 5), maxBackOff)
	}
	r.Block = &block{
		ErrCode: e.ErrCode, Answer: e.answer, IP: e.IP,
		Until: now.Add(backOff).UnixMilli(), Step: step, By: who.gateway, SecretID: who.secretID,
	}
	return r.Block.rejected(who)
}

// rejected is what the block means to who.
func (b *block) rejected(who asker) *Rejected {
	e := &Rejected{AppID: who.appid, ErrCode: b.ErrCode, IP: b.IP, Until: time.UnixMilli(b.Until), answer: b.Answer}
	if b.By == who.gateway && addressRefused(b.ErrCode) {
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

// add returns past with one more at now. No two are the same, so that those of two gateways can be merged.
func (w allowance) add(now time.Time, past []int64) []int64 {
	past, at := w.recent(now, past), now.UnixMilli()
	if n := len(past); n > 0 {
		at = max(at, past[n-1]+1)
	}
	return append(past, at)
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
