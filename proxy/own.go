package proxy

import (
	"io"
	"net/http"
	"strconv"
	"time"

	"wxproxy/wechat"
)

// statusClientGone is logged for a call whose client went away before it had an answer. It is
// never sent.
const statusClientGone = 499

// ownAnswer is an answer that the gateway gives itself: a refusal, or what it knows without WeChat.
type ownAnswer struct {
	decision   string
	reason     Reason // "" unless it is a refusal
	status     int    // 0: 200
	errcode    wechat.Errcode
	body       string        // JSON; "" is that of errcode in WeChat's words
	plain      string        // text in place of a body of JSON
	rid        string        // WeChat's, in body
	retryAfter time.Duration // 0: there is no such header
	close      bool          // the connection is closed after it
}

// notFound answers a call of a path that no app's table could name: not WeChat's at all.
var notFound = &ownAnswer{decision: refusedRequest, reason: BadPath, status: http.StatusNotFound, errcode: wechat.InvalidURL}

// refuse returns the refusal for a reason, with an errcode.
func refuse(reason Reason, errcode wechat.Errcode) *ownAnswer {
	return (&ownAnswer{errcode: errcode}).refused(reason)
}

// refused makes the answer one that refuses the call for a reason.
func (own *ownAnswer) refused(reason Reason) *ownAnswer {
	own.decision, own.reason = decisions[reason], reason
	switch own.decision {
	case refusedToken, refusedUpstream, refusedOverload:
		own.retryAfter = time.Second // the same call may work in a while
	}
	return own
}

// passOn returns an answer with a body of WeChat's.
func passOn(text []byte) *ownAnswer {
	errcode, _ := peekErrcode(text, true)
	return &ownAnswer{decision: decidedLocal, errcode: errcode, body: string(text), rid: peekRID(text)}
}

// The Content-Types of the gateway's own answers. That of JSON is the one that every SDK takes for it;
// it is what WeChat itself sends.
var (
	jsonType = []string{"application/json; encoding=utf-8"}
	textType = []string{"text/plain; charset=utf-8"}
)

// restTime is how long the server may wait for the rest of a request body that was not read: it reads
// some of it before it answers, so that the client gets to see the answer.
const restTime = 5 * time.Second

// write sends an answer of the gateway's own, as it is: one SDK cannot read JSON with a newline behind it.
func (c *call) write(own *ownAnswer) {
	text, kind := own.body, jsonType
	switch {
	case own.plain != "":
		text, kind = own.plain, textType
	case text == "":
		text = own.errcode.Body()
	}
	status := own.status
	if status == 0 {
		status = http.StatusOK
	}
	c.rec.Decision, c.rec.Reason, c.rec.ErrCode, c.rec.Status = own.decision, own.reason, int(own.errcode), status
	if own.rid != "" {
		c.rec.RID = own.rid
	}
	if c.r.ContentLength != 0 && c.r.Body != http.NoBody && !c.body.whole {
		c.readBy(restTime)
	}
	h := c.w.Header()
	c.setOurs(h, own.retryAfter)
	h["Content-Type"] = kind
	if status == http.StatusMethodNotAllowed {
		h["Allow"] = []string{"GET, HEAD, POST"}
	}
	if own.close {
		h["Connection"] = []string{"close"}
	}
	if c.r.Method == http.MethodHead { // else net/http works it out
		h["Content-Length"] = []string{strconv.Itoa(len(text))}
	}
	c.w.WriteHeader(status)
	if c.r.Method != http.MethodHead {
		n, _ := io.WriteString(c.w, text) // a client that is gone needs no answer
		c.rec.BytesOut = int64(n)
	}
}
