package proxy

import (
	"errors"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"go.uber.org/zap"

	"wxproxy/internal/reason"
	"wxproxy/limits"
	"wxproxy/proxy/upstream"
	"wxproxy/wechat"
)

// maxTries bounds how often a call that provably never left is tried.
const maxTries = 3

// unknownErrcode is told to the limiter for a call that left but whose answer was not seen.
const unknownErrcode = wechat.SystemError //nolint:errname // it is told, not returned

var (
	errRefused = errors.New("refused")                     // by the limiter, after the first sending
	errLate    = errors.New("the call's window has ended") // before it left
)

// unsentError wraps the error of a call that provably never left.
type unsentError struct{ err error }

func (e *unsentError) Error() string { return "not sent: " + e.err.Error() }
func (e *unsentError) Unwrap() error { return e.err }

// forward has ReverseProxy send the granted call, without the client's body, which was read, and write
// the answer. The hooks of ReverseProxy are the methods rewrite, RoundTrip, modifyResponse and
// handleError, in this order.
//
// An answer that breaks off makes ReverseProxy panic, so that the client's connection is closed. What there
// is of it is flushed before: to a client whose kept-alive connection closes without a byte it looks as
// if the call had not been executed, and curl and Java's HttpURLConnection send it again.
func (c *call) forward() *ownAnswer {
	theirs := c.r.Header
	c.r.Header = nil // ReverseProxy would copy it value by value
	defer func() {
		c.r.Header = theirs
		if broken := recover(); broken != nil {
			if broken == http.ErrAbortHandler && !c.clientGone() { //nolint:errorlint // panicked with as it is
				_ = http.NewResponseController(c.w).Flush() // there may be nobody left to see it
			}
			panic(broken)
		}
	}()
	c.r.Body, c.r.ContentLength = http.NoBody, 0
	reverse := httputil.ReverseProxy{
		Rewrite:        func(p *httputil.ProxyRequest) { c.rewrite(p.Out, theirs) },
		Transport:      c,
		ModifyResponse: c.modifyResponse,
		ErrorHandler:   c.handleError,
		BufferPool:     &c.h.copies,
		ErrorLog:       c.h.quiet,
	}
	reverse.ServeHTTP(c.w, c.r)
	return c.failed
}

// rewrite makes the request to WeChat out of a copy of the client's and of the client's header, but for what
// each attempt sets itself. Neither the Host nor the authority of the client's target reaches WeChat.
func (c *call) rewrite(out *http.Request, theirs http.Header) {
	out.Host = ""
	out.Trailer = nil
	out.Header = c.s.requestHeader(theirs)
	if c.reads() {
		delete(out.Header, "Accept-Encoding")
	}
}

// target is where the call goes: the path and the query that were matched, with the account's token
// or secret.
func (c *call) target() *url.URL {
	to, query := c.s.Upstream, c.r.URL.RawQuery
	switch {
	case c.secretName != "":
		query = withParameter(query, c.secretName, c.h.tokens.Secret(c.app.AppID))
	case c.inject:
		query = withToken(query, c.token)
	}
	return &url.URL{Scheme: to.Scheme, Host: to.Host, Path: c.s.base + c.path, RawQuery: query, ForceQuery: c.r.URL.ForceQuery}
}

// RoundTrip sends the granted call. If WeChat says the token is dead it renews the token once, counts
// again and sends once more. Nothing else is ever repeated: the call may have been executed.
func (c *call) RoundTrip(out *http.Request) (*http.Response, error) {
	res, err := c.send(out)
	if err != nil || !c.tokenDied() {
		return res, err
	}
	fresh, err := c.h.tokens.Renew(c.r.Context(), c.app.AppID, c.token)
	if err != nil || fresh == "" || fresh == c.token {
		c.h.outages.Warn("access_token not renewed", zap.String("app", c.app.Name), zap.Error(err))
		return res, nil // WeChat's own answer
	}
	c.answer.discard()
	c.token = fresh
	if c.failed = c.take(); c.failed != nil {
		return nil, errRefused
	}
	return c.send(out)
}

// tokenDied reports whether WeChat's answer says that the token we put in is dead.
func (c *call) tokenDied() bool {
	switch c.answer.errcode {
	case wechat.InvalidCredential, wechat.InvalidToken, wechat.TokenExpired:
		if c.ownToken != "" {
			c.h.learned.Dead(c.r.Context(), c.ownToken) // its owner fetches another
		}
		return c.inject
	}
	return false
}

// send sends the granted call, once. It tries again only while the call provably never left: its
// window ended first, in which case it is counted anew, or a kept-alive connection turned out to
// be dead. On return the grant is ended: the call is done or given back.
func (c *call) send(out *http.Request) (*http.Response, error) {
	for try := 1; ; try++ {
		res, fate, err := c.attempt(out)
		if fate == left {
			c.rec.Attempts++
			c.settle(res, err)
			return res, err
		}
		if fate == unsent || try == maxTries || c.r.Context().Err() != nil {
			c.giveBack()
			return nil, &unsentError{err}
		}
		if fate == late {
			c.giveBack()
			if c.failed = c.take(); c.failed != nil {
				return nil, errRefused
			}
		}
	}
}

// settle ends the grant of a call that left.
func (c *call) settle(res *http.Response, err error) {
	if err == nil {
		c.rec.ErrCode, c.rec.RID = int(c.answer.errcode), c.answer.rid
	}
	switch {
	case err != nil, isClear(c.path) && res.StatusCode != http.StatusOK:
		c.clearLost()
		c.done(unknownErrcode)
	case isClear(c.path):
		c.cleared()
	default:
		c.done(c.answer.verdict(res.StatusCode))
	}
}

// fate is what became of an attempt to send a call.
type fate uint8

const (
	left   fate = iota // it may have been executed
	unsent             // it never left, and another attempt would fare no better
	dead               // it never left: the kept-alive connection turned out to be dead
	late               // it never left: the window that it was counted in has ended
)

// attempt tries to send out, with the token and the body, and reads the first bytes of the answer.
func (c *call) attempt(out *http.Request) (*http.Response, fate, error) {
	began := time.Now()
	defer func() { c.upstream += time.Since(began) }()
	out.URL = c.target()
	c.body.attach(out)
	if c.h.upstream == nil {
		if limits.Past(began, c.decision.Deadline) {
			return nil, late, errLate
		}
		res, err := c.h.transport.RoundTrip(out)
		return c.begin(res, err)
	}
	conn, err := c.h.upstream.Conn(c.r.Context(), out.URL)
	if err != nil {
		return nil, unsent, err
	}
	if conn.Fresh() { // to make it took time
		began = time.Now()
	}
	if limits.Past(began, c.decision.Deadline) {
		conn.Release()
		return nil, late, errLate
	}
	res, err := conn.Do(out, c.s.Timeout)
	switch {
	case err == nil || conn.Left():
		return c.begin(res, err)
	case conn.Fresh():
		return nil, unsent, err
	}
	return nil, dead, err
}

// begin takes in the first bytes of the answer to a call that left. An answer that breaks off this early
// was not seen by the client, which is better served by a 502 than by a connection that breaks.
func (c *call) begin(res *http.Response, err error) (*http.Response, fate, error) {
	if err != nil {
		return nil, left, err
	}
	if err = c.answer.begin(c, res); err != nil {
		res.Body.Close()
		return nil, left, err
	}
	return res, left, nil
}

// handleError makes the answer to a call that has none of WeChat's.
func (c *call) handleError(_ http.ResponseWriter, _ *http.Request, err error) {
	if errors.Is(err, errRefused) {
		return // failed is the refusal
	}
	if c.clientGone() {
		c.abandon("")
	}
	if _, ok := errors.AsType[*unsentError](err); ok {
		// Nothing left, so the caller may repeat the call: -1 is what SDKs repeat on.
		c.decision = limits.Decision{Rule: c.decision.Rule}
		c.h.outages.Warn("WeChat cannot be reached", zap.String("reason", describe(err)))
		c.failed = refuse(Unreachable, wechat.SystemError)
		return
	}
	// The one answer below a family that is not HTTP 200. WeChat may have executed the call,
	// and some SDKs repeat it on errcode -1 by themselves; none reads an errcode at another
	// status, so this one reaches the service as the transport failure that it is.
	c.h.outages.Warn("no answer from WeChat", zap.String("reason", describe(err)))
	c.failed = &ownAnswer{decision: c.rec.Decision, status: http.StatusBadGateway, errcode: wechat.SystemError}
	if errors.Is(err, upstream.ErrTimeout) || c.stopping() {
		c.failed.status, c.failed.close = http.StatusGatewayTimeout, c.stopping()
	}
}

// describe says for the log why a call has no answer, without quoting anything of it.
func describe(err error) string {
	for _, known := range []error{errLate, upstream.ErrTimeout, upstream.ErrSwitching, upstream.ErrOwn, upstream.ErrClosed, upstream.ErrProtocol, upstream.ErrHeader, ErrStopping} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return reason.Of(err)
}
