// Package proxy takes one call from a service to WeChat and the answer back: who calls, which rule,
// may it be sent, send it, answer, log.
//
// To follow a call read serve in call.go, and then the files that it names in this order:
// credentials.go, rule.go, body.go, send.go, answer.go, own.go, accesslog.go.
package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log"
	"net"
	"net/http"
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
	"wxproxy/proxy/fuse"
	"wxproxy/proxy/upstream"
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
	// Peek returns what Take would decide now, and counts nothing.
	Peek(ctx context.Context, call limits.Call) (limits.Decision, error)
	// Clear starts the day's counters of an app over, or those of a path, after WeChat has granted a
	// clear that was counted at that time of the store.
	Clear(appid string, at int64, path string)
}

// Tokens knows the live access_token of each app. Its methods are called by many goroutines at once.
type Tokens interface {
	// Token returns the access_token of an app. When WeChat would not issue one, errors.As finds a
	// wechat.Answer in the error: the body that WeChat answered with.
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
	LoopbackListener bool              // only this machine can reach the listener; a unix socket counts as such
	TrustedProxies   []netip.Prefix    // peers whose X-Forwarded-For is believed
	Identity         Identity          // nil: nobody has a key, and no proxy tokens are issued
	Bounds           map[string]Bounds // of callers, by name
	Learn            bool              // apps that are not configured are learned
	LearnOpenly      bool              // from everybody who can reach the listener, not only where calls without proof are allowed
	MaxBody          int64             // bytes of a request body; default 32 MiB
	MaxInFlight      int               // calls at once; default 2000
	Fuse             limits.Fuse       // what becomes of loops, for rules that do not say it; default watch
	Timeout          time.Duration     // how long WeChat may take to move a call on by one step; default 30 s
}

// Options of New.
type Options struct {
	Config
	Limiter   Limiter
	Tokens    Tokens
	Learned   Learned                            // nil: no tokens but our own are known
	Tickets   Tickets                            // nil: tickets are not cached
	Transport http.RoundTripper                  // default an *upstream.Client; with any other every call that fails stays counted
	Own       func(remote, local net.Addr) bool  // reports whether a connection leads back to the gateway's own listener; may be nil
	TempDir   string                             // for large bodies; default os.TempDir()
	Usage     Usage                              // answers callers at /-/usage; nil: it is not there
	Looping   func(Loop)                         // told when a caller begins to fail in a loop, and when that ends; may be nil
	LoopTime  time.Duration                      // how long a loop lasts before it is one, and between two probes; default fuse.Period
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
	upstream  *upstream.Client // transport, unless it is of another type
	tempDir   string
	record    func(*Record)
	lostClear func(appid, path string, at int64)
	usage     Usage
	looping   func(Loop)
	fuse      *fuse.Fuse
	prints    maphash.Seed // of call.print
	log       *zap.Logger
	outages   *zap.Logger // log, thinned out: an outage must not fill the disk
	quiet     *log.Logger // outages, for ReverseProxy
	settings  atomic.Pointer[settings]

	inFlight    atomic.Int64 // places of MaxInFlight that are taken
	tokenBodies atomic.Int64 // places of tokenPlaces that are taken
	pieces      sync.Pool    // *piece
	room        atomic.Int64 // bytes that large bodies may still take in memory
	spooled     atomic.Int64 // bytes of bodies in temporary files
	copies      copyBuffers
	granted     grantedApps
	wecom       sync.Once
	relayed     sync.Once
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
		usage:     o.Usage,
		looping:   o.Looping,
		fuse:      fuse.New(cmp.Or(o.LoopTime, fuse.Period)),
		prints:    maphash.MakeSeed(),
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
		h.transport = upstream.New(upstream.Options{DialTimeout: h.settings.Load().Timeout, Own: o.Own})
	}
	h.upstream, _ = h.transport.(*upstream.Client)
	h.pieces.New = func() any { return new(piece) }
	h.room.Store(roomBytes)
	h.quiet = log.New(brokenOff{h.outages}, "", 0)
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
	if s.Identity == nil {
		s.Identity = noIdentity{}
	}
	if s.MaxBody <= 0 {
		s.MaxBody = 32 << 20
	}
	if s.MaxInFlight <= 0 {
		s.MaxInFlight = 2000
	}
	if s.Fuse == limits.FuseDefault {
		s.Fuse = limits.FuseWatch
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

// InFlight returns how many of the places of MaxInFlight are taken. It is safe for concurrent use.
func (h *Handler) InFlight() int { return int(h.inFlight.Load()) }

// Spooled returns how many bytes of bodies are in temporary files. It is safe for concurrent use.
func (h *Handler) Spooled() int64 { return h.spooled.Load() }

// Close closes the idle connections to WeChat. Calls under way go on.
func (h *Handler) Close() {
	if t, ok := h.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}
