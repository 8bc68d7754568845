package proxy

import (
	"encoding/json"
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"time"

	"wxproxy/limits"
	"wxproxy/proxy/fuse"
	"wxproxy/wechat"
)

// Loop is a caller whose calls begin to fail in a loop, or whose loop has ended.
type Loop struct {
	App     string // its name
	AppID   string
	Rule    string
	Caller  string // "" for calls that name none
	Errcode int    // of the loop
	Ended   bool   // a probe did not fail as the others had
	Refuses bool   // the calls are refused; else they are sent
}

// fuse returns what is to be done about loops of the call's rule. A rule that is only a shadow refuses nothing, and
// the gateway's own calls are never in a loop.
func (c *call) fuse() limits.Fuse {
	if _, own := c.w.(*postWriter); own {
		return limits.FuseOff
	}
	mode := c.match.Rule.Fuse
	if mode == limits.FuseDefault {
		mode = c.s.Fuse
	}
	if mode == limits.FuseOn && c.match.Rule.Shadow {
		mode = limits.FuseWatch
	}
	return mode
}

func (c *call) fuseKey() fuse.Key {
	return fuse.Key{App: c.app.AppID, Counter: c.match.Counter, Caller: c.caller}
}

// checkLoop refuses a call that goes on with a loop. It comes after the token, because a call that is not sent for
// want of one must not be the probe, and before the limiter, because what it refuses is not counted.
func (c *call) checkLoop() *ownAnswer {
	mode := c.fuse()
	if mode == limits.FuseOff {
		return nil
	}
	c.run = c.h.fuse.Find(c.fuseKey())
	if c.run == nil || !c.run.Tripped() {
		return nil
	}
	verdict := c.run.Ask(c.print(), time.Now())
	c.probe = verdict.Probe
	if !verdict.Refused || mode != limits.FuseOn {
		return nil
	}
	return refuseLoop(verdict)
}

// explainLoop is checkLoop for a call that is not made: it is taken to be one of the loop.
func (c *call) explainLoop() *ownAnswer {
	if c.fuse() != limits.FuseOn {
		return nil
	}
	if run := c.h.fuse.Find(c.fuseKey()); run != nil {
		if verdict := run.Peek(time.Now()); verdict.Refused {
			return refuseLoop(verdict)
		}
	}
	return nil
}

func refuseLoop(verdict fuse.Verdict) *ownAnswer {
	own := refuse(Looping, wechat.Errcode(verdict.Errcode))
	own.body, own.retryAfter = verdict.Answer, verdict.Wait
	return own
}

// learnLoop adds the call's outcome, once it is over, to the run of its caller. A call that was not sent, or that was
// refused before it was sent once more, says nothing.
func (c *call) learnLoop() {
	code := c.answer.errcode
	if c.rec.Attempts == 0 || c.run == nil && code == wechat.OK { // nearly all
		return
	}
	lasts, always := code.Lasting()
	if c.run == nil && !lasts || c.failed != nil && c.failed.status == 0 || c.fuse() == limits.FuseOff {
		return
	}
	change := fuse.Unchanged
	if lasts && c.failed == nil {
		failure := fuse.Failure{Errcode: int(code), Always: always, Print: c.print(), Probe: c.probe}
		change = c.h.fuse.Failed(c.fuseKey(), failure, time.Now(), c.answer.again)
	} else if c.run != nil {
		change = c.run.Other(c.failed == nil && c.answer.verdict(c.rec.Status) == wechat.OK, c.probe)
	}
	if change != fuse.Unchanged && c.h.looping != nil {
		c.h.looping(Loop{
			App: c.app.Name, AppID: c.app.AppID, Rule: c.match.Rule.Name, Caller: c.caller, Errcode: int(code),
			Ended: change == fuse.Closed, Refuses: c.fuse() == limits.FuseOn,
		})
	}
}

// print is the same for calls that are the same but for their tokens. A large body is never taken for one that was
// sent before.
func (c *call) print() uint64 {
	if c.body.media != nil {
		return rand.Uint64() //nolint:gosec // G404: not a secret
	}
	var h maphash.Hash
	h.SetSeed(c.h.prints)
	_, _ = h.WriteString(c.r.Method) // it never fails
	_, _ = h.WriteString(c.path)
	for parameter := range strings.SplitSeq(c.r.URL.RawQuery, "&") {
		if !names(parameter, tokenParameter) && !names(parameter, wechat.PlatformParameter) {
			_ = h.WriteByte('&')
			_, _ = h.WriteString(parameter)
		}
	}
	_ = h.WriteByte('\n')
	_, _ = h.Write(c.body.memory)
	return h.Sum64()
}

// again returns WeChat's answer as it may be given to other calls: its errcode and errmsg, without what is of this
// call alone.
func (a *answer) again() string {
	var said struct {
		ErrMsg string `json:"errmsg"`
		Base   struct {
			ErrMsg string `json:"errmsg"`
		} `json:"base_resp"`
	}
	_ = json.Unmarshal(a.text, &said) // a text that is cut off has no errmsg
	text := said.ErrMsg + said.Base.ErrMsg
	for _, own := range []string{" rid:", " hint:", "rid:", "hint:"} {
		text, _, _ = strings.Cut(text, own)
	}
	words := strings.Fields(scrub(text))
	for i, word := range words {
		if len(word) >= secretBytes { // an openid without a digit
			words[i] = "*"
		}
	}
	body, _ := json.Marshal(struct { // two plain fields always can
		ErrCode wechat.Errcode `json:"errcode"`
		ErrMsg  string         `json:"errmsg"`
	}{a.errcode, strings.Join(words, " ")})
	return string(body)
}
