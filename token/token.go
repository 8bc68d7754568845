// Package token holds the live access_token of each app, renewed once per fleet.
//
// WeChat gives an app one access_token at a time, good for two hours. A Source hands it out from
// memory. Before it ends, or when WeChat calls it dead, one goroutine of one gateway fetches the next, and
// all others that share the Store read it there:
//
//	Token, Renew  -> account.go: which token will do, when to fetch, force or wait
//	 cell         -> one flight per app and process, one lease per app and fleet, one write
//	  fetch       -> one request to WeChat, never repeated by net/http
//	   record     -> what the fleet knows
//	States        -> state.go: the same for operators
//
// Without the store a Source goes on with what is in its memory, and fetches for itself what is
// not. What fails never replaces a token that is still good.
package token

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"wxproxy/wechat"
)

// Errors of Token and Renew, besides *Rejected and those of contexts.
var (
	// ErrUnknownApp means that the app is not configured.
	ErrUnknownApp = errors.New("app is not configured")

	// ErrStillDead means that WeChat gives out the very token that it refuses, and that no
	// new one may be forced now: the caller should pass on WeChat's own answer.
	ErrStillDead = errors.New("WeChat still gives out the token that it refused")

	// ErrUnavailable means that WeChat did not answer, or with nothing that can be used.
	// It is worth another try a second later.
	ErrUnavailable = errors.New("token endpoint unavailable")

	// ErrClosed means that the Source is closed.
	ErrClosed = errors.New("token source is closed")
)

// Rejected is the error of Token and Renew while WeChat refuses to give a token: a wrong secret,
// an IP address that is not in the account's whitelist, and the like. No gateway asks WeChat again
// before Until.
//
//nolint:errname // token.Rejected says it; token.RejectedError would say it twice
type Rejected struct {
	AppID   string
	ErrCode int
	IP      string    // the address that WeChat saw, if it told: errcode 40164
	Until   time.Time // when WeChat is asked again

	answer []byte
}

// Unwrap returns WeChat's own body, at most 4 KiB, as a wechat.Answer, for the caller who waits for one.
func (r *Rejected) Unwrap() error { return wechat.Answer(r.answer) }

func (r *Rejected) Error() string {
	return fmt.Sprintf("token of %s: WeChat refuses it with errcode %d", r.AppID, r.ErrCode)
}

// A Store is shared by the gateways of a fleet. Its methods are those of store.Store, with the
// same promises; Get returns nil for a key that is not there.
type Store interface {
	Get(ctx context.Context, app, key string) ([]byte, error)
	Update(ctx context.Context, app, key string, was []byte, change func(present []byte) (next []byte, expiry time.Duration, err error)) error
	Lease(ctx context.Context, app, key, holder string, expiry time.Duration) (bool, error)
	Release(ctx context.Context, app, key, holder string) error
}

// App is one WeChat account. However it is printed, its secret is not.
type App struct {
	AppID  string
	Secret string // the current AppSecret
}

// Format implements fmt.Formatter.
func (a App) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "{%s}", a.AppID) }

// Paths of the endpoints, as they are counted.
const (
	stablePath  = "/cgi-bin/stable_token"
	classicPath = "/cgi-bin/token"
)

// Options configure a Source.
type Options struct {
	// Store is shared with the other gateways. Without one every gateway is on its own.
	Store Store

	// Transport sends the requests to WeChat. It should keep no connections, for a request
	// that meets a dead one fails here. The default does not, nor does it use a proxy.
	Transport http.RoundTripper

	// Upstream is WeChat's base URL; the default is https://api.weixin.qq.com.
	Upstream string

	// Endpoint is "stable_token", the default, or "token". A token of the first does not end
	// that of the second, nor the other way round; each fetch of the second ends the one before.
	Endpoint string

	// Gateway is the id of this process among those that share the store; the default is random.
	Gateway string

	// Count is called once before every request to WeChat, with the path that it goes to.
	Count func(ctx context.Context, appid, path string)

	// Observe is called with each event, by the goroutine that it happens to: it must be quick,
	// and safe for concurrent use.
	Observe func(Event)

	// Now is the wall clock; the default is time.Now.
	Now func() time.Time
}

// How long things take. A fetch fits into a lease with the commands to the store around it; before a second
// one the lease is taken anew.
const (
	// early is how long before its end a token is renewed. stable_token never answers less than
	// 300 s (developers.weixin.qq.com, getStableAccessToken) and gives the same token again
	// before that, so it must stay under 300 s.
	early = 240 * time.Second

	leaseExpiry   = 10 * time.Second
	fetchTimeout  = 5 * time.Second
	flightTimeout = 30 * time.Second // waiting for another gateway's lease included
	retryAfter    = time.Second      // after what may be over in a moment
)

// Source hands out tokens. Its methods are safe for concurrent use.
type Source struct {
	endpoint
	fleet fleet
	id    string // of this Source among those that share the store

	configuring sync.Mutex                      // covers changes of apps
	apps        atomic.Pointer[map[string]*app] // replaced as a whole by Configure
}

// app is one configuration of an app. A new secret makes a new one.
type app struct {
	App
	asker asker
	live  atomic.Pointer[live] // what Token hands out; stored by the flight and by Configure

	cell[record] // its mutex covers what follows, too
	pause        pause
	refused      bool // WeChat's last word was a refusal
}

// live is a token that is good until ends, as far as we know.
type live struct {
	token   string
	fetched time.Time
	ends    time.Time
}

// renewAt is when the next one should be fetched: margin before the end. A token that is short-lived from
// the start, as none of WeChat's is, is used for half of its time.
func (l *live) renewAt(margin time.Duration) time.Time {
	return l.ends.Add(-min(margin, max(0, l.ends.Sub(l.fetched))/2))
}

// New returns a Source without apps.
func New(o Options) *Source {
	s := &Source{endpoint: newEndpoint(o), id: cmp.Or(o.Gateway, rand.Text()[:8])}
	s.fleet = fleet{
		store: o.Store, now: s.now, patience: flightTimeout, lease: leaseExpiry,
		down: func(app string, err error) { s.observe(Event{Kind: StoreFailed, AppID: app, Err: err}) },
	}
	s.apps.Store(&map[string]*app{})
	return s
}

// Configure replaces the apps, at the start and at each reload. An app whose secret has changed
// keeps its token, which goes on working, but not WeChat's refusals of the old secret.
func (s *Source) Configure(apps []App) {
	s.configuring.Lock()
	defer s.configuring.Unlock()
	old := *s.apps.Load()
	next := make(map[string]*app, len(apps))
	for _, c := range apps {
		was := old[c.AppID]
		if was != nil && was.Secret == c.Secret {
			next[c.AppID] = was
			continue
		}
		a := &app{App: c, asker: asker{c.AppID, secretID(c), s.id}}
		a.fleet, a.app, a.key, a.holder = &s.fleet, c.AppID, recordKey, rand.Text()[:8]
		if was != nil {
			a.live.Store(was.live.Load())
			a.known = was.value()
		}
		next[c.AppID] = a
	}
	s.apps.Store(&next)
}

// Secret returns the AppSecret of an app, "" if it is not configured: some calls carry it in the
// place of a token.
func (s *Source) Secret(appid string) string {
	if a := (*s.apps.Load())[appid]; a != nil {
		return a.Secret
	}
	return ""
}

// Token returns the app's token, from memory unless there is none or it has ended: then it waits
// until one is fetched. It starts a fetch in the background when the token is about to end.
func (s *Source) Token(ctx context.Context, appid string) (string, error) {
	a := (*s.apps.Load())[appid]
	if a == nil {
		return "", fmt.Errorf("token of %s: %w", appid, ErrUnknownApp)
	}
	if l := a.live.Load(); l != nil {
		now := s.now()
		if now.Before(l.renewAt(early)) {
			return l.token, nil
		}
		if now.Before(l.ends) {
			s.renewInBackground(ctx, a)
			return l.token, nil
		}
	}
	return s.await(ctx, a, "")
}

// Renew returns a token other than failed, which WeChat has refused with 40001, 40014 or 42001:
// the one that another gateway has fetched since, or a new one. Its error wraps ErrStillDead if
// WeChat has no other.
func (s *Source) Renew(ctx context.Context, appid, failed string) (string, error) {
	a := (*s.apps.Load())[appid]
	if a == nil {
		return "", fmt.Errorf("token of %s: %w", appid, ErrUnknownApp)
	}
	if l := a.live.Load(); l != nil && l.token != failed && s.now().Before(l.ends) {
		return l.token, nil
	}
	return s.await(ctx, a, failed)
}

// Close ends the fetches that are under way and waits for them. Token goes on with what is in
// memory.
func (s *Source) Close() { s.fleet.close() }
