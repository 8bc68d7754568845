package sandbox

import (
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"
)

// DefaultAppID and DefaultSecret are the account that a Sandbox knows when Options name none.
const (
	DefaultAppID  = "wx5a4db05a4db00001"
	DefaultSecret = "5a4db05a4db05a4db05a4db05a4db001" //nolint:gosec // the made-up secret of a made-up account
)

// maxBodyBytes is the largest request body that is read: more than WeChat's largest upload, a video.
const maxBodyBytes = 64 << 20

// maxPaths is how many different paths are counted per app before the rest is counted as "*".
const maxPaths = 10000

// Options of New. The zero value is useful: one app, DefaultAppID with DefaultSecret, no quotas,
// the wall clock.
type Options struct {
	Apps   []App            // accounts the sandbox knows; none: the default one
	Quotas map[string]int64 // path -> calls a day of each app; a path that is absent is not limited
	Now    func() time.Time // default time.Now; Advance and SetOffset move on top of it
	Zone   *time.Location   // whose midnight ends a day; default Asia/Shanghai (facts 3)
	Keep   int              // how many requests Requests returns; 0: 1000, negative: none
}

// App is one account.
type App struct {
	AppID  string           // default DefaultAppID
	Secret string           // default DefaultSecret
	Quotas map[string]int64 // path -> calls a day; overrides Options.Quotas, negative: not limited
}

// Sandbox answers like api.weixin.qq.com. All of its methods may be called at once from anywhere.
type Sandbox struct {
	options Options
	now     func() time.Time
	zone    *time.Location
	apis    map[string]*api // by path; not changed after New

	closing chan struct{} // closed by Server.Close: held and delayed calls go on at once

	mu       sync.Mutex // covers everything below, and every app and token
	offset   time.Duration
	apps     map[string]*app
	quotas   map[string]int64
	tokens   map[string]*token // every token handed out, until a day after its end
	rids     map[string]failed // errors that were answered, by their rid
	stray    counts            // calls that name no app of ours
	fetches  int64             // token requests that name no app of ours
	codes    map[string]bool   // web-authorisation codes that were exchanged
	media    mediaStore
	requests ring
	active   []*Ordered // faults that can still fire, in the order they were ordered
	ordered  []*Ordered // every fault ordered
	serial   int64      // the last number given to a message, a tag, a rid...
}

// app is what WeChat knows of one account. It is covered by Sandbox.mu.
type app struct {
	id, secret string
	quotas     map[string]int64

	classic    *token // the latest of /cgi-bin/token
	stable     *token // the latest of /cgi-bin/stable_token
	authorizer *token // the latest that a third-party platform got
	refresh    string // what the platform renews it with

	forced time.Time // when stable_token was last forced

	day    int              // the day that used and forces belong to
	forces int              // forced refreshes of stable_token
	used   map[string]int64 // calls of that day by path, as WeChat's quotas see them

	perMinute  map[string]int64 // limits of a clock minute by path, see SetMinuteLimit
	minute     int64            // the clock minute that usedMinute belongs to, since 1970
	usedMinute map[string]int64 // executed calls of that minute by path

	month    int // the month that the clears belong to
	clears   int // clear_quota, its v2 and the console
	singles  int // openapi/quota/clear
	calls    counts
	executed counts
	fetches  int64

	tickets map[string]ticket
	menu    []byte
}

// counts holds calls by path.
type counts map[string]int64

func (n counts) add(path string) {
	if _, known := n[path]; !known && len(n) >= maxPaths {
		path = "*"
	}
	n[path]++
}

// call is one request on its way through the sandbox.
type call struct {
	s     *Sandbox
	r     *http.Request
	path  string // canonical
	api   *api   // nil: no such path
	query url.Values
	body  []byte

	app   *app   // who calls, nil until known; set by identify, then again by the API's prover
	token *token // the token shown, if it is one of ours
	now   time.Time
}

// New returns a Sandbox. It holds no resources and need not be closed.
func New(o Options) *Sandbox {
	s := &Sandbox{
		options: o,
		now:     o.Now,
		zone:    o.Zone,
		apis:    make(map[string]*api),
		closing: make(chan struct{}),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.zone == nil {
		s.zone = shanghai()
	}
	for _, a := range apis() {
		s.apis[a.path] = &a
	}
	s.reset()
	return s
}

// shanghai is +8h by hand where no time zone database is installed or built in: China has had no
// summer time since 1991.
func shanghai() *time.Location {
	if zone, err := time.LoadLocation("Asia/Shanghai"); err == nil {
		return zone
	}
	return time.FixedZone("CST", 8*60*60)
}

// Reset brings the sandbox back to what New made of its Options: the quotas, the clock, no tokens,
// no counts, no media, no requests. Faults are cancelled.
func (s *Sandbox) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.ordered {
		o.end()
	}
	s.reset()
}

// reset needs s.mu, except in New.
func (s *Sandbox) reset() {
	s.offset = 0
	s.apps = make(map[string]*app)
	s.quotas = canonicalQuotas(s.options.Quotas)
	s.tokens = make(map[string]*token)
	s.rids = make(map[string]failed)
	s.stray = make(counts)
	s.fetches = 0
	s.codes = make(map[string]bool)
	s.media = mediaStore{byID: make(map[string]*medium)}
	s.requests = newRing(s.options.Keep)
	s.active, s.ordered = nil, nil
	accounts := s.options.Apps
	if len(accounts) == 0 {
		accounts = []App{{}}
	}
	for _, a := range accounts {
		if a.AppID == "" {
			a.AppID = DefaultAppID
		}
		if a.Secret == "" {
			a.Secret = DefaultSecret
		}
		s.apps[a.AppID] = &app{
			id:         a.AppID,
			secret:     a.Secret,
			quotas:     canonicalQuotas(a.Quotas),
			used:       make(map[string]int64),
			perMinute:  make(map[string]int64),
			usedMinute: make(map[string]int64),
			calls:      make(counts),
			executed:   make(counts),
			tickets:    make(map[string]ticket),
		}
	}
}

// Advance moves the sandbox's clock by d, which may be negative. Timers do not follow it: a Delay
// lasts as long as it says.
func (s *Sandbox) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset += d
}

// SetOffset sets how far the sandbox's clock is ahead of Options.Now.
func (s *Sandbox) SetOffset(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset = d
}

// Time returns the sandbox's time, in its zone.
func (s *Sandbox) Time() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock()
}

// clock needs s.mu.
func (s *Sandbox) clock() time.Time { return s.now().Add(s.offset).In(s.zone) }

// next returns a number that was not given before. It needs s.mu.
func (s *Sandbox) next() int64 {
	s.serial++
	return s.serial
}

// each returns the app of that id, or every app for "". An unknown one is a mistake in the test
// that asks, and would make it pass for no reason. It needs s.mu.
func (s *Sandbox) each(appid string) []*app {
	if appid != "" {
		a, ok := s.apps[appid]
		if !ok {
			panic("sandbox: no app " + appid)
		}
		return []*app{a}
	}
	all := make([]*app, 0, len(s.apps))
	for _, a := range s.apps {
		all = append(all, a)
	}
	return all
}

// canonical is the path by which a request is matched and counted: decoded, without dot segments
// and doubled or trailing slashes, in lower case. How much of this WeChat does is not published;
// doing all of it means that no spelling gets past a quota.
func canonical(p string) string {
	return strings.ToLower(path.Clean("/" + p))
}

func canonicalQuotas(quotas map[string]int64) map[string]int64 {
	m := make(map[string]int64, len(quotas))
	for p, n := range quotas {
		m[canonical(p)] = n
	}
	return m
}

// ServeHTTP answers one request as WeChat would, or as an ordered fault specifies.
func (s *Sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if name, ok := strings.CutPrefix(r.URL.Path, controlPrefix); ok {
		s.control(w, r, name)
		return
	}
	c := &call{s: s, r: r, path: canonical(r.URL.Path), query: r.URL.Query()}
	c.api = s.apis[c.path]
	if r.ContentLength < 0 {
		// WeChat takes no body without a length (facts 4).
		s.arrive(c, false)
		s.write(w, reply{status: http.StatusPreconditionFailed})
		return
	}
	if r.ContentLength > maxBodyBytes {
		s.arrive(c, false)
		s.write(w, page(http.StatusRequestEntityTooLarge))
		return
	}
	body, err := io.ReadAll(r.Body)
	c.body = body
	if err != nil {
		s.arrive(c, false) // it arrived, but not in full: not executed
		panic(http.ErrAbortHandler)
	}
	fault := s.arrive(c, true)
	if fault != nil {
		s.play(w, c, fault)
		return
	}
	s.write(w, s.execute(c))
}

// arrive counts and records a request, and finds the fault that was ordered for it.
func (s *Sandbox) arrive(c *call, whole bool) *Ordered {
	var seen *Request
	if s.options.Keep >= 0 {
		seen = record(c)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.now = s.clock()
	c.identify()
	calls, fetches := s.stray, &s.fetches
	if c.app != nil {
		calls, fetches = c.app.calls, &c.app.fetches
	}
	calls.add(c.path)
	if isTokenPath(c.path) {
		*fetches++
	}
	if seen != nil {
		seen.Time = c.now
		if c.app != nil {
			seen.AppID = c.app.id
		}
		s.requests.add(seen)
	}
	if !whole {
		return nil
	}
	return s.pick(c)
}

// execute decides a call and answers it. All of it is one critical section, so a quota never
// lets through more than it holds.
func (s *Sandbox) execute(c *call) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.now = s.clock() // again: a fault may have held the call
	if c.api == nil {
		return c.fail(40066)
	}
	if c.api.shapeFirst {
		if code := c.shape(); code != 0 {
			return c.fail(code)
		}
	}
	if code := c.api.prove(c); code != 0 {
		return c.fail(code)
	}
	if code := c.take(); code != 0 {
		return c.fail(code)
	}
	if !c.api.shapeFirst {
		if code := c.shape(); code != 0 {
			return c.fail(code)
		}
	}
	return c.api.answer(c)
}

// Executed returns how many calls of an app to a path were executed: those that met neither a
// token error, nor 45009, nor a fault that came before execution. An empty path means all but the
// two token endpoints, an empty appid every app.
func (s *Sandbox) Executed(appid, path string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int64
	for id, a := range s.apps {
		if appid == "" || appid == id {
			n += a.executed.sum(path, false)
		}
	}
	return n
}

// Calls returns how many requests of an app to a path arrived, executed or not. An empty path
// means all, the token endpoints too; an empty appid every app and the requests that named none
// that is known.
func (s *Sandbox) Calls(appid, path string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int64
	if appid == "" {
		n = s.stray.sum(path, true)
	}
	for id, a := range s.apps {
		if appid == "" || appid == id {
			n += a.calls.sum(path, true)
		}
	}
	return n
}

// sum is the count of one path, or of all for "", then with or without the token endpoints.
func (n counts) sum(path string, withTokens bool) int64 {
	if path != "" {
		return n[canonical(path)]
	}
	var total int64
	for p, calls := range n {
		if withTokens || !isTokenPath(p) {
			total += calls
		}
	}
	return total
}

// TokenFetches returns how many requests for a token of an app arrived at both token endpoints,
// whatever they were answered. An empty appid means every app and the requests that named none
// that is known.
func (s *Sandbox) TokenFetches(appid string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int64
	if appid == "" {
		n = s.fetches
	}
	for id, a := range s.apps {
		if appid == "" || appid == id {
			n += a.fetches
		}
	}
	return n
}
