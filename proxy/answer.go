package proxy

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"wxproxy/limits"
)

// The decisions that are not a verdict of the limiter's.
const (
	decidedLocal    = "local"
	refusedAuth     = "refused-auth"
	refusedOverload = "refused-overload"
	refusedRequest  = "refused-request"
)

// Errcodes of WeChat's.
const (
	codeSystemError       = -1
	codeInvalidCredential = 40001
	codeInvalidGrant      = 40002
	codeInvalidAppID      = 40013
	codeInvalidToken      = 40014
	codeInvalidParameter  = 40035
	codeInvalidURL        = 40066
	codeInvalidSecret     = 40125
	codeNoAppID           = 41002
	codeNoSecret          = 41004
	codeTokenExpired      = 42001
	codeRequirePost       = 43002
	codeQuota             = 45009
	codePace              = 45011
	codeUnauthorized      = 48001
	codeClearsUsed        = 48006
)

const systemError = `{"errcode":-1,"errmsg":"system error"}`

// answerText returns the body of our answer with an errcode, in WeChat's own words.
func answerText(errcode int) string {
	switch errcode {
	case codeInvalidGrant:
		return `{"errcode":40002,"errmsg":"invalid grant_type"}`
	case codeInvalidAppID:
		return `{"errcode":40013,"errmsg":"invalid appid"}`
	case codeInvalidParameter:
		return `{"errcode":40035,"errmsg":"invalid parameter"}`
	case codeInvalidURL:
		return `{"errcode":40066,"errmsg":"invalid url"}`
	case codeInvalidSecret:
		return `{"errcode":40125,"errmsg":"invalid appsecret"}`
	case codeNoAppID:
		return `{"errcode":41002,"errmsg":"appid missing"}`
	case codeNoSecret:
		return `{"errcode":41004,"errmsg":"appsecret missing"}`
	case codeTokenExpired:
		return `{"errcode":42001,"errmsg":"access_token expired"}`
	case codeRequirePost:
		return `{"errcode":43002,"errmsg":"require POST method"}`
	case codeQuota:
		return `{"errcode":45009,"errmsg":"api freq out of limit"}`
	case codePace:
		return `{"errcode":45011,"errmsg":"api minute-quota reach limit, must slower, retry next minute"}`
	case codeClearsUsed:
		return `{"errcode":48006,"errmsg":"forbid to clear quota because of reaching the limit"}`
	case codeUnauthorized:
		return `{"errcode":48001,"errmsg":"api unauthorized"}`
	}
	return systemError
}

// The Content-Types of our own answers. That of JSON is the one that every SDK takes for it; it is
// what WeChat itself sends.
var (
	jsonType = []string{"application/json; encoding=utf-8"}
	textType = []string{"text/plain; charset=utf-8"}
)

// statusClientGone is logged for a call whose client went away before it had an answer. It is
// never sent.
const statusClientGone = 499

// refuse answers the call with an errcode. It returns false, for use as the result of a step.
func (c *call) refuse(decision string, errcode int) bool {
	c.rec.Decision = decision
	var wait time.Duration
	if decision == refusedOverload {
		wait = time.Second
	}
	c.reply(http.StatusOK, errcode, answerText(errcode), wait)
	return false
}

// refuseWith answers the call with a body of WeChat's own.
func (c *call) refuseWith(decision string, text []byte) bool {
	c.rec.Decision = decision
	errcode, _ := peekErrcode(text, true)
	c.rec.RID = peekRID(text)
	c.reply(http.StatusOK, errcode, string(text), time.Second)
	return false
}

// refuseUnknown answers a call of a path that no app's table could name: not WeChat's at all.
func (c *call) refuseUnknown() bool {
	c.rec.Decision = refusedRequest
	c.reply(http.StatusNotFound, codeInvalidURL, answerText(codeInvalidURL), 0)
	return false
}

// refuseDecision answers a call that the limiter refused.
func (c *call) refuseDecision() {
	errcode := codeSystemError
	switch c.decision.Verdict {
	case limits.RefusedQuota, limits.RefusedLatched, limits.RefusedShare:
		errcode = codeQuota
		if isClear(c.path) {
			errcode = codeClearsUsed
		}
	case limits.RefusedPace:
		errcode = codePace
	case limits.RefusedDenied:
		errcode = codeUnauthorized
	}
	c.reply(http.StatusOK, errcode, answerText(errcode), c.decision.RetryAfter)
}

func (c *call) refuseMethod() {
	c.rec.Decision = refusedRequest
	h := c.w.Header()
	h["Allow"] = []string{"GET, HEAD, POST"}
	c.write(http.StatusMethodNotAllowed, textType, "method not allowed", 0)
}

func (c *call) healthy() {
	c.rec.Decision = decidedLocal
	c.write(http.StatusOK, textType, "ok", 0)
}

// reply sends an answer of ours. wait is for Retry-After; there is none for 0.
func (c *call) reply(status, errcode int, text string, wait time.Duration) {
	c.rec.ErrCode = errcode
	c.write(status, jsonType, text, wait)
}

// write sends a body as it is: one SDK cannot read JSON with a newline behind it.
func (c *call) write(status int, kind []string, text string, wait time.Duration) {
	h := c.w.Header()
	c.setOurs(h, wait)
	h["Content-Type"] = kind
	if c.r.Method == http.MethodHead { // else net/http works it out
		h["Content-Length"] = []string{strconv.Itoa(len(text))}
	}
	c.rec.Status = status
	c.w.WriteHeader(status)
	if c.r.Method != http.MethodHead {
		n, _ := io.WriteString(c.w, text) // a client that is gone needs no answer
		c.rec.BytesOut = int64(n)
	}
}

// ownLength is up to where net/http's server works out the length of an answer by itself. Left to it,
// most answers have eight fields, which a Go map holds without a table.
const ownLength = 2048

// modifyResponse puts our headers on WeChat's answer. The body is the call's answer already.
func (c *call) modifyResponse(res *http.Response) error {
	c.rec.Status = res.StatusCode
	c.learn(res)
	if c.secretName != "" || c.token != "" && strings.Contains(res.Header.Get("Location"), c.token) {
		delete(res.Header, "Location") // a redirect of the call we sent would hand out the account's token or secret
	}
	header := c.w.Header()
	header["Content-Type"] = nil // unless WeChat has one: keeps the server from guessing
	takeOver(header, res.Header)
	if n := res.ContentLength; n >= 0 && n <= ownLength && c.r.Method != http.MethodHead {
		delete(header, "Content-Length") // net/http works it out
	}
	c.setOurs(header, 0)
	res.Header = nil  // ReverseProxy would copy them one by one
	res.Trailer = nil // nothing follows the body, least of all a header that is ours; see answer.Close
	return nil
}

// headBytes is how much of an answer is looked at. An errmsg with its rid takes under 300.
const headBytes = 512

// answer is the body of WeChat's answer, of which the first bytes were peeked at. It belongs to
// the call's goroutine.
type answer struct {
	c    *call
	res  *http.Response
	body io.ReadCloser
	buf  [headBytes]byte
	head []byte // peeked and not yet read
	err  error  // what ended the peeking, if the body did

	state   peeked
	errcode int
	rid     string
}

// begin takes the place of res's body and peeks at it if it may be JSON. It returns an error if
// the body breaks off in the bytes that are peeked at.
func (a *answer) begin(c *call, res *http.Response) error {
	a.c, a.res, a.body = c, res, res.Body
	a.head, a.err, a.state, a.errcode, a.rid = nil, nil, absent, 0, ""
	res.Body = a
	kind := res.Header.Get("Content-Type")
	if kind != "" && !strings.HasPrefix(kind, "application/json") && !strings.HasPrefix(kind, "text/") {
		return nil
	}
	switch packing := res.Header.Get("Content-Encoding"); {
	case packing == "":
		a.peek(false)
	case strings.EqualFold(packing, "gzip"):
		a.peek(true)
	}
	if a.err != nil && !errors.Is(a.err, io.EOF) {
		return a.err
	}
	return nil
}

// peek reads the first bytes: until it is clear that there is no errcode to be found, and to the
// end of an answer that says what is wrong. Of a packed answer it looks at those that fit whole;
// what only says an errcode does.
func (a *answer) peek(packed bool) {
	n := 0
	for n < len(a.buf) && a.err == nil {
		var read int
		read, a.err = a.body.Read(a.buf[n:])
		n += read
		if packed {
			continue
		}
		a.errcode, a.state = peekErrcode(a.buf[:n], a.err != nil)
		if a.state == absent || a.state == present && a.errcode == 0 {
			break
		}
	}
	a.head = a.buf[:n]
	text := a.head
	if packed && errors.Is(a.err, io.EOF) {
		text = unpack(a.head)
		a.errcode, a.state = peekErrcode(text, true)
	}
	if a.errcode != 0 {
		a.rid = peekRID(text)
	}
}

// verdict returns the errcode to tell the limiter: 0 also for an answer that says none, as long as
// it does not look like a failure.
func (a *answer) verdict(status int) int {
	if a.state == present || status < 300 {
		return a.errcode
	}
	return unknownErrcode
}

func (a *answer) Read(p []byte) (n int, err error) {
	if len(a.head) > 0 {
		n = copy(p, a.head)
		a.head = a.head[n:]
		if len(a.head) == 0 {
			err = a.err
		}
	} else if err = a.err; err == nil {
		began := time.Now()
		a.c.dog.start(began)
		n, err = a.body.Read(p)
		a.c.dog.rest()
		a.c.upstream += time.Since(began)
	}
	a.c.rec.BytesOut += int64(n)
	return n, err
}

func (a *answer) Close() error {
	err := a.body.Close()
	a.res.Trailer = nil // set at the body's end
	return err
}

// discard reads the little that may be left of the answer, so that its connection can be used
// again, and closes it.
func (a *answer) discard() {
	if a.err == nil {
		_, _ = io.CopyN(io.Discard, a.body, 4<<10) // if more is left the connection is closed, no harm
	}
	a.body.Close()
}

// copyBuffers are the buffers that ReverseProxy copies answers with.
type copyBuffers struct{ pool sync.Pool }

const copyBytes = 32 << 10

func (b *copyBuffers) Get() []byte {
	if p, ok := b.pool.Get().(*[copyBytes]byte); ok {
		return p[:]
	}
	return make([]byte, copyBytes)
}

func (b *copyBuffers) Put(p []byte) {
	if cap(p) == copyBytes {
		b.pool.Put((*[copyBytes]byte)(p[:copyBytes]))
	}
}
