package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"wxproxy/limits"
)

// maxTries bounds how often a call that provably never left is tried.
const maxTries = 3

// unknownErrcode is told to the limiter for a call that left but whose answer was not seen.
const unknownErrcode = codeSystemError

var (
	errRefused         = errors.New("refused")                     // by the limiter, after the first sending
	errLate            = errors.New("the call's window has ended") // before it left
	errUpstreamTimeout = errors.New("upstream: no progress")       // the watchdog's
	errSwitching       = errors.New("upstream switches protocols") // nobody asked for it
)

// unsentError is of a call that provably never left.
type unsentError struct{ err error }

func (e *unsentError) Error() string { return "not sent: " + e.err.Error() }
func (e *unsentError) Unwrap() error { return e.err }

// forward has ReverseProxy send the granted call, without the client's body, which was read, and write
// the answer.
func (c *call) forward() {
	c.dog = &watchdog{timeout: c.s.Timeout, base: c.began}
	c.r.Body, c.r.ContentLength = http.NoBody, 0
	c.reverse.ServeHTTP(c.w, c.r)
}

// rewrite makes the request to WeChat out of a copy of the client's, but for what each attempt
// sets itself. Neither the Host nor the authority of the client's target reaches WeChat.
func (c *call) rewrite(p *httputil.ProxyRequest) {
	p.Out.Host = ""
	p.Out.Trailer = nil
	stripRequest(p.Out.Header)
	if c.reads() {
		delete(p.Out.Header, "Accept-Encoding")
	}
}

// target is where the call goes: the path and the query that were matched, with the account's token
// or secret.
func (c *call) target() *url.URL {
	to, query := c.s.Upstream, c.r.URL.RawQuery
	switch {
	case c.secretName != "":
		query = withParameter(query, c.secretName, c.h.tokens.Secret(c.app.AppID))
	case c.injects():
		query = withToken(query, c.token)
	}
	return &url.URL{Scheme: to.Scheme, Host: to.Host, Path: c.s.base + c.path, RawQuery: query, ForceQuery: c.r.URL.ForceQuery}
}

// roundTripper makes a function an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// roundTrip sends a granted call. If WeChat says the token is dead it renews the token once, counts
// again and sends once more. Nothing else is ever repeated: the call may have been executed.
func (c *call) roundTrip(out *http.Request) (*http.Response, error) {
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
	if !c.take() {
		return nil, errRefused
	}
	return c.send(out)
}

// tokenDied reports whether WeChat's answer says that the token we put in is dead.
func (c *call) tokenDied() bool {
	switch c.answer.errcode {
	case codeInvalidCredential, codeInvalidToken, codeTokenExpired:
		if c.ownToken != "" {
			c.h.learned.Dead(c.r.Context(), c.ownToken) // its owner fetches another
		}
		return c.injects()
	}
	return false
}

// send sends the granted call, once. It tries again only while the call provably never left: its
// window ended first, in which case it is counted anew, or a kept-alive connection turned out to
// be dead. On return the grant is ended: the call is done or given back.
func (c *call) send(out *http.Request) (*http.Response, error) {
	for try := 1; ; try++ {
		a := &c.attempt
		*a = attempt{traced: c.h.traced, dog: c.dog, deadline: c.decision.Deadline}
		res, err := a.do(c, out)
		if err == nil {
			c.rec.Attempts++
			c.rec.ErrCode, c.rec.RID = c.answer.errcode, c.answer.rid
			switch {
			case !isClear(c.path):
				c.done(c.answer.verdict(res.StatusCode))
			case res.StatusCode == http.StatusOK:
				c.cleared()
			default:
				c.clearLost()
				c.done(unknownErrcode)
			}
			return res, nil
		}
		if a.left() {
			c.rec.Attempts++
			c.clearLost()
			c.done(unknownErrcode)
			return nil, err
		}
		again := c.r.Context().Err() == nil && !c.dog.barked.Load() && try < maxTries
		switch {
		case again && a.late:
			c.giveBack()
			if !c.take() {
				return nil, errRefused
			}
		case again && a.got:
		default:
			c.giveBack()
			return nil, &unsentError{err}
		}
	}
}

// attempt is one try at sending a call. All but the connection belongs to the call's goroutine:
// the transport calls GotConn there.
type attempt struct {
	traced   bool // GotConn is called for every connection
	dog      *watchdog
	deadline time.Time // past which the call must not be sent
	began    time.Time // when it was tried
	begun    bool      // the transport has the call
	got      bool      // a connection was had
	late     bool      // the deadline was past
	wire     *wire     // the connection, nil if it is not one of NewTransport's
	mark     int64     // of wire, before the call
}

// do sends out, with the token and the body, and reads the first bytes of the answer.
func (a *attempt) do(c *call, out *http.Request) (*http.Response, error) {
	a.began = time.Now()
	if limits.Past(a.began, a.deadline) {
		a.late = true
		return nil, errLate
	}
	// The context is the client's, not out's, so that ReverseProxy's own trace is not in it: it
	// would pass on 1xx answers, which WeChat does not send and old clients do not expect.
	ctx := httptrace.WithClientTrace(c.r.Context(), c.trace)
	req := out.WithContext(ctx)
	req.URL = c.target()
	media := c.body.attach(req, c.dog)

	a.begun = true
	c.dog.start(a.began)
	res, err := c.h.transport.RoundTrip(req)
	media.answered()
	if err == nil && res.StatusCode == http.StatusSwitchingProtocols {
		res.Body.Close()
		err = errSwitching
	}
	if err == nil {
		// An answer that breaks off this early was not seen by the client, which is better served
		// by a 502 than by a connection that breaks: some HTTP libraries repeat after that.
		if err = c.answer.begin(c, res); err != nil {
			res.Body.Close()
		}
	}
	c.dog.rest()
	c.upstream += time.Since(a.began)
	return res, err
}

// gotConn is called when the transport has a connection and is about to write. The time it took to
// make one may have taken the call past its deadline.
func (a *attempt) gotConn(info httptrace.GotConnInfo) {
	a.got = true
	a.wire, _ = info.Conn.(*wire)
	if a.wire == nil {
		return
	}
	a.mark = a.wire.begun.Load()
	now := a.began
	if !info.WasIdle {
		now = time.Now()
	}
	a.dog.guard(a.wire, now)
	if limits.Past(now, a.deadline) {
		a.late = true
		a.wire.seal(a.mark)
	}
}

// left reports whether a failed attempt may have reached WeChat. From here on it cannot any more.
func (a *attempt) left() bool {
	if !a.traced {
		return a.begun
	}
	if !a.got {
		return false
	}
	return a.wire == nil || !a.wire.seal(a.mark)
}

// watchdog ends a call that WeChat does not move on: no byte of the body taken, no byte of the answer
// come for its timeout. A large answer may take as long as it likes as long as it comes, and a slow
// client is not WeChat's fault. It cuts the call's connection, if that is one of NewTransport's; the
// making of one has a timeout of its own.
//
// The timer is the connection's, and goes on from call to call: a timer, or a context to end, for each
// call would cost every one of them more than half a microsecond.
type watchdog struct {
	timeout time.Duration
	base    time.Time
	due     atomic.Int64 // since base, when it barks; 0: it rests
	barked  atomic.Bool
	wire    atomic.Pointer[wire]
}

// start begins the timeout anew.
func (d *watchdog) start(now time.Time) {
	d.due.Store(int64(now.Sub(d.base) + d.timeout))
	if w := d.wire.Load(); w != nil {
		w.watch(d.timeout)
	}
}

// rest stops the timeout.
func (d *watchdog) rest() { d.due.Store(0) }

// left returns how long until it barks. It reports false if it rests, or is nil.
func (d *watchdog) left(now time.Time) (time.Duration, bool) {
	if d == nil {
		return 0, false
	}
	due := d.due.Load()
	return time.Duration(due) - now.Sub(d.base), due != 0
}

// guard has the watchdog cut w from now on.
func (d *watchdog) guard(w *wire, now time.Time) {
	w.serve(d)
	d.wire.Store(w)
	if left, on := d.left(now); on {
		w.watch(left)
	}
}

func (d *watchdog) end() {
	d.rest()
	if w := d.wire.Load(); w != nil {
		w.leave(d)
	}
}

// handleError answers a call that has no answer of WeChat's.
func (c *call) handleError(_ http.ResponseWriter, _ *http.Request, err error) {
	var unsent *unsentError
	switch {
	case errors.Is(err, errRefused):
		c.refuseDecision()
	case c.r.Context().Err() != nil:
		c.giveBack()
		c.abandon(c.rec.Decision)
	case errors.As(err, &unsent), c.granted:
		// Nothing left, so the caller may repeat the call: -1 is what SDKs repeat on. See
		// fetchToken for the decision. c.granted is of a request that ReverseProxy would not send.
		c.giveBack()
		c.decision = limits.Decision{Rule: c.decision.Rule}
		c.h.outages.Warn("WeChat cannot be reached", zap.String("reason", reason(c.cause(err))))
		c.refuse(refusedOverload, codeSystemError)
	default:
		// The one answer below a family that is not HTTP 200. WeChat may have executed the call,
		// and some SDKs repeat it on errcode -1 by themselves; none reads an errcode at another
		// status, so this one reaches the service as the transport failure that it is.
		err = c.cause(err)
		c.h.outages.Warn("no answer from WeChat", zap.String("reason", reason(err)))
		status := http.StatusBadGateway
		if errors.Is(err, errUpstreamTimeout) {
			status = http.StatusGatewayTimeout
		}
		c.reply(status, codeSystemError, systemError, 0)
	}
}

// cause returns why a call was ended from our side, or err if it was not.
func (c *call) cause(err error) error {
	if c.dog.barked.Load() {
		return errUpstreamTimeout
	}
	if cause := context.Cause(c.r.Context()); cause != nil {
		return cause
	}
	return err
}

// reason describes a transport's error for the log. The texts of most errors quote what the other
// side sent, so only those that cannot are used.
func reason(err error) string {
	var (
		unsent  *unsentError
		op      *net.OpError
		dns     *net.DNSError
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		alert   tls.AlertError
	)
	if errors.As(err, &unsent) {
		err = unsent.err
	}
	switch {
	case errors.Is(err, errUpstreamTimeout), errors.Is(err, errLate), errors.Is(err, errSwitching), errors.Is(err, errSealed):
		return err.Error()
	case errors.As(err, &dns):
		return dns.Error()
	case errors.As(err, &host):
		return "the certificate is for another name"
	case errors.As(err, &unknown):
		return "the certificate's issuer is unknown"
	case errors.As(err, &invalid):
		return "the certificate is not valid"
	case errors.As(err, &alert):
		return alert.Error()
	case errors.As(err, &op):
		return op.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed before an answer"
	}
	return "no HTTP, or a connection that broke"
}
