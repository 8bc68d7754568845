// Package proxy takes one call from a service to WeChat and the answer back: who calls, which rule,
// may it be sent, send it, answer, log.
//
// To follow a call read ServeHTTP, then who.go, body.go, send.go, answer.go and accesslog.go in
// this order. Nothing calls back up except ReverseProxy's hooks.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"wxproxy/limits"
)

// Limiter decides which calls may be sent. *limits.Limiter is the one in use. Its methods are
// called by many goroutines at once.
type Limiter interface {
	// Rules returns the rules of an app, or nil when the limiter does not know it.
	Rules(appid string) *limits.Ruleset
	// Family reports whether a canonical path lies in a family of any app's table.
	Family(path string) bool
	// Take counts one call, or refuses it. The Hold of a call that may be sent must be ended once.
	Take(ctx context.Context, call limits.Call) (limits.Decision, limits.Hold)
	// Clear starts the day's counters of an app over, or those of a path, after WeChat has granted a
	// clear that was counted at that time of the store.
	Clear(appid string, at int64, path string)
}

// Tokens knows the live access_token of each app. Its methods are called by many goroutines at once.
type Tokens interface {
	// Token returns the access_token of an app. When WeChat would not issue one, errors.As finds
	// an interface{ Answer() []byte } in the error: the body WeChat answered with.
	Token(ctx context.Context, appid string) (string, error)
	// Secret returns the AppSecret of an app.
	Secret(appid string) string
	// Renew returns another token than failed, which WeChat called dead.
	Renew(ctx context.Context, appid, failed string) (string, error)
}

// App is one WeChat account.
type App struct {
	Name  string // its alias in logs and metrics
	AppID string
}

// Config is the part of Options that a reload may change.
type Config struct {
	Apps             []App
	Upstream         *url.URL // http or https, a host and perhaps a path before every call's own
	Anonymous        Anonymous
	LoopbackListener bool           // only this machine can reach the listener; a unix socket counts as such
	TrustedProxies   []netip.Prefix // peers whose X-Forwarded-For is believed
	Identity         Identity       // nil: nobody has a key, and no proxy tokens are issued
	Learn            bool           // apps that are not configured are learned
	LearnOpenly      bool           // from everybody who can reach the listener, not only where calls without proof are allowed
	MaxBody          int64          // bytes of a request body; default 32 MiB
	MaxInFlight      int            // calls at once; default 2000
	Timeout          time.Duration  // how long WeChat may take to move a call on by one step; default 30 s
}

// Options of New.
type Options struct {
	Config
	Limiter   Limiter
	Tokens    Tokens
	Learned   Learned                            // nil: no tokens but our own are known
	Tickets   Tickets                            // nil: tickets are not cached
	Transport http.RoundTripper                  // default NewTransport(Timeout); with any but an *http.Transport every failed call stays counted
	TempDir   string                             // for large bodies; default os.TempDir()
	LostClear func(appid, path string, at int64) // told of a clear that was sent, at that time of the store's in milliseconds, and whose answer never came; "" is of all paths; may be nil
	Record    func(*Record)                      // told of each call when it is over; must not keep the Record
	Log       *zap.Logger                        // the program's own log; default none
}

// Handler is the gateway's http.Handler. It is safe for concurrent use.
type Handler struct {
	limiter   Limiter
	tokens    Tokens
	learned   Learned
	tickets   Tickets
	transport http.RoundTripper
	traced    bool // transport tells through httptrace what became of a call
	tempDir   string
	record    func(*Record)
	lostClear func(appid, path string, at int64)
	log       *zap.Logger
	outages   *zap.Logger // log, thinned out: an outage must not fill the disk
	quiet     *log.Logger // outages, for ReverseProxy
	settings  atomic.Pointer[settings]
	inFlight  atomic.Int64
	calls     sync.Pool    // *call
	pieces    sync.Pool    // *piece
	room      atomic.Int64 // bytes that large bodies may still take in memory
	copies    copyBuffers
	keyShown  sync.Once
	wecom     sync.Once
}

// settings is a Config made ready for calls. A call keeps the one it began with.
type settings struct {
	Config
	byID   map[string]*App
	byName map[string]*App
	only   *App   // the app, if there is but one
	base   string // Upstream's path without its trailing slash
}

// New returns a handler. It returns an error that names each fault of o.
func New(o Options) (*Handler, error) {
	var faults []error
	if o.Limiter == nil {
		faults = append(faults, errors.New("proxy: Limiter is missing"))
	}
	if o.Tokens == nil {
		faults = append(faults, errors.New("proxy: Tokens is missing"))
	}
	h := &Handler{
		limiter:   o.Limiter,
		tokens:    o.Tokens,
		learned:   o.Learned,
		tickets:   o.Tickets,
		transport: o.Transport,
		tempDir:   o.TempDir,
		record:    o.Record,
		lostClear: o.LostClear,
		log:       o.Log,
	}
	if err := h.Configure(o.Config); err != nil {
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if h.log == nil {
		h.log = zap.NewNop()
	}
	h.outages = h.log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, 10*time.Second, 1, 0)
	}))
	if h.tempDir == "" {
		h.tempDir = os.TempDir()
	}
	if h.transport == nil {
		h.transport = NewTransport(h.settings.Load().Timeout)
	}
	_, h.traced = h.transport.(*http.Transport)
	h.calls.New = h.newCall
	h.pieces.New = func() any { return new(piece) }
	h.room.Store(roomBytes)
	var err error
	if h.quiet, err = zap.NewStdLogAt(h.outages, zap.WarnLevel); err != nil {
		h.quiet = log.Default()
	}
	return h, nil
}

// Configure changes the settings of all calls that come from now on. It returns an error that names
// each fault of c, and then changes nothing.
func (h *Handler) Configure(c Config) error {
	c.Apps = slices.Clone(c.Apps)
	s := &settings{Config: c, byID: make(map[string]*App, len(c.Apps)), byName: make(map[string]*App, len(c.Apps))}
	var faults []error
	switch u := c.Upstream; {
	case u == nil:
		faults = append(faults, errors.New("upstream: missing"))
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.Opaque != "":
		faults = append(faults, fmt.Errorf("upstream %q: want http://host or https://host", u.Redacted()))
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		faults = append(faults, fmt.Errorf("upstream %q: want no user, query or fragment", u.Redacted()))
	default:
		s.base = strings.TrimRight(u.Path, "/")
	}
	for i := range c.Apps {
		app := &c.Apps[i]
		if app.AppID == "" {
			faults = append(faults, fmt.Errorf("app %q: appid: missing", app.Name))
			continue
		}
		if s.byID[app.AppID] != nil {
			faults = append(faults, fmt.Errorf("app %q: appid %q: configured twice", app.Name, app.AppID))
		}
		if app.Name != "" && s.byName[app.Name] != nil {
			faults = append(faults, fmt.Errorf("app %q: name: used twice", app.Name))
		}
		s.byID[app.AppID], s.byName[app.Name] = app, app
	}
	delete(s.byName, "")
	if len(c.Apps) == 1 {
		s.only = &c.Apps[0]
	}
	if s.MaxBody <= 0 {
		s.MaxBody = 32 << 20
	}
	if s.MaxInFlight <= 0 {
		s.MaxInFlight = 2000
	}
	if s.Timeout <= 0 {
		s.Timeout = 30 * time.Second
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	h.settings.Store(s)
	return nil
}

// Close closes the idle connections to WeChat. Calls under way go on.
func (h *Handler) Close() {
	if t, ok := h.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// call is one HTTP request of a client. It belongs to the goroutine of ServeHTTP, and is used again
// for another one after it. So nothing of it may be looked at by what can outlive ServeHTTP: the
// transport, which finds no more than a pointer to it in the request's context, and the connection,
// which has a watchdog of this call alone.
type call struct {
	hooks
	h     *Handler
	s     *settings
	w     http.ResponseWriter
	r     *http.Request
	peer  netip.Addr // the zero Addr on a unix socket
	began time.Time

	app   *App
	path  string // canonical, without an appid before it: matched, counted and sent
	match limits.Match
	body  body
	token string // the account's, that goes into the call

	secretName string // the query's parameter in which the AppSecret takes the place of a caller's key

	mine     *ownWriter // of a call of the gateway's own
	ownToken string     // a learned one that the call shows and keeps
	leads    string     // the kind of ticket that others wait for this call to get

	decision limits.Decision
	hold     limits.Hold // what decision has granted
	granted  bool        // hold is not ended

	dog      *watchdog // nil until the call goes to ReverseProxy
	attempt  attempt
	upstream time.Duration // spent on waiting for WeChat
	answer   answer
	rec      Record
}

// hooks lead from ReverseProxy and the transport back to the call. They stay the same for all its uses.
type hooks struct {
	reverse *httputil.ReverseProxy
	trace   *httptrace.ClientTrace
}

// newCall returns a call without anything of a request.
func (h *Handler) newCall() any {
	c := new(call)
	c.reverse = &httputil.ReverseProxy{
		Rewrite:        c.rewrite,
		Transport:      roundTripper(c.roundTrip),
		ModifyResponse: c.modifyResponse,
		ErrorHandler:   c.handleError,
		BufferPool:     &h.copies,
		ErrorLog:       h.quiet,
	}
	c.trace = &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { c.attempt.gotConn(info) }}
	return c
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := h.calls.Get().(*call)
	c.h, c.s, c.w, c.r = h, h.settings.Load(), w, r
	c.peer, c.began = peerAddr(r.RemoteAddr), time.Now()
	c.rec.Time = c.began
	c.rec.RequestID = requestID(r.Header)
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost {
		defer c.end()
		h.inFlight.Add(1)
		c.refuseMethod()
		return
	}
	if r.URL.Path == "/-/healthy" && r.Method != http.MethodPost {
		c.healthy() // no call: it is neither logged nor held up by an overload
		return
	}
	defer c.end()
	if h.inFlight.Add(1) > int64(c.s.MaxInFlight) {
		c.refuse(refusedOverload, codeSystemError)
		return
	}
	if !c.route() || c.local() || !c.who() || !c.choose() || c.ticket() || !c.readBody() || !c.bodySecret() || !c.fetchToken() {
		return // answered
	}
	if !c.take() {
		c.refuseDecision()
		return
	}
	c.forward()
}

// route works out the one path of the call, takes an appid off its front, and refuses what no app's
// table could name. Nobody need say who they are for that.
func (c *call) route() bool {
	escaped := c.r.URL.EscapedPath()
	if !strings.HasPrefix(escaped, "/") { // "" of an absolute-form target, or *
		c.rec.Path = noPath
		return c.refuseUnknown()
	}
	path, err := limits.Canonical(escaped)
	if err != nil {
		c.rec.Path = noPath // any bytes at all, a secret among them
		return c.refuse(refusedRequest, codeInvalidURL)
	}
	c.path = path
	first, rest := path[1:], ""
	if i := strings.IndexByte(first, '/'); i >= 0 {
		first, rest = first[:i], first[i:]
	}
	configured := c.s.byID[first]
	if configured != nil || looksLikeAppID(first) {
		c.path = rest
	}
	c.rec.Path = scrub(c.path)
	if c.path == "" || !c.h.limiter.Family(c.path) {
		return c.refuseUnknown()
	}
	if c.path != path {
		if configured == nil {
			return c.refuse(refusedAuth, codeInvalidAppID)
		}
		c.app = configured
	}
	if !queryParses(c.r.URL.RawQuery) {
		return c.refuse(refusedRequest, codeInvalidParameter)
	}
	return true
}

// choose finds the rule that the call is counted by.
func (c *call) choose() bool {
	if rules := c.h.limiter.Rules(c.app.AppID); rules != nil {
		c.match = rules.Match(c.path)
	}
	rule := c.match.Rule
	if rule == nil {
		return c.refuse(refusedRequest, codeInvalidURL)
	}
	c.rec.Rule = rule.Name
	if c.match.Counter == rule.Name {
		c.rec.Path = c.path // the table names it, so it holds nothing of a stranger's
	}
	return true
}

// injects reports whether the account's token goes into the call.
func (c *call) injects() bool { return c.ownToken == "" && c.match.Rule.Injects(c.path) }

// fetchToken gets the account's token before the call is counted, so that a call without one never
// is. Of the fixed list of decisions refused-overload fits best: we cannot serve now, nothing was
// sent or counted, and the same call may work in a while. The caller did nothing wrong.
func (c *call) fetchToken() bool {
	if !c.injects() {
		return true
	}
	token, err := c.h.tokens.Token(c.r.Context(), c.app.AppID)
	if err == nil && token != "" {
		c.token = token
		return true
	}
	if c.r.Context().Err() != nil {
		c.abandon(refusedOverload)
	}
	c.h.outages.Warn("no access_token", zap.String("app", c.app.Name), zap.Error(err))
	var own interface{ Answer() []byte }
	if errors.As(err, &own) && len(own.Answer()) > 0 {
		return c.refuseWith(refusedOverload, own.Answer())
	}
	return c.refuse(refusedOverload, codeSystemError)
}

// take asks the limiter and reports whether the call may be sent.
func (c *call) take() bool {
	c.decision, c.hold = c.h.limiter.Take(c.r.Context(), limits.Call{App: c.app.AppID, Caller: c.rec.Caller, Match: c.match})
	c.granted = c.decision.Verdict.Sent()
	c.rec.Decision = c.decision.Verdict.String()
	return c.granted
}

// done ends a granted call that stays counted. errcode is what WeChat answered, or unknownErrcode
// for a call whose fate is not known.
func (c *call) done(errcode int) {
	c.granted = false
	c.hold.Done(errcode)
}

// giveBack ends a granted call that provably never left.
func (c *call) giveBack() {
	c.granted = false
	c.hold.GiveBack()
}

// exhausted ends a granted call to which WeChat answered that its rule is used up.
func (c *call) exhausted() {
	c.granted = false
	c.hold.Exhausted()
}

// abandon ends a call that has nobody left to answer: it closes the client's connection.
func (c *call) abandon(decision string) {
	c.rec.Decision, c.rec.Status = decision, statusClientGone
	panic(http.ErrAbortHandler)
}

// end runs when the call is over, after a panic too.
func (c *call) end() {
	c.done(unknownErrcode) // nothing to do unless a panic came between
	c.endLead()
	if c.dog != nil {
		c.dog.end()
	}
	c.body.close()
	if c.mine != nil {
		c.mine.sent = c.rec.Attempts > 0
	}
	c.h.inFlight.Add(-1)
	if c.h.record != nil {
		c.fill()
		c.h.record(&c.rec)
	}
	if c.dog != nil && !c.h.traced {
		return // who knows how long another transport than net/http's tells the trace
	}
	calls := &c.h.calls
	*c = call{hooks: c.hooks}
	calls.Put(c)
}
