package token

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"wxproxy/wechat"
)

// LearnedApp is where the store keeps what was learned and belongs to no single app: an appid that WeChat
// never gives out. Shared tokens are kept under their own app.
const LearnedApp = "learned"

const (
	hmacKeyKey  = "hmac-key" // 32 random bytes
	sharePrefix = "learned:" // + endpoint + ":" + HMAC of the secret -> record; also its lease
)

const (
	// classicMargin is how much of a token of /cgi-bin/token must be left to share it. Each fetch
	// there ends the token before it 5 minutes later, for services that count on it for longer, so
	// it should be shared for as long as can be. But expires_in has to stay over 1500: silenceper
	// takes that much off and then cannot keep the token, so it would fail until the token ends.
	// Without a gateway every service's fetch ends the token of all the others; here at most one
	// in an hour and a half does, and those who answer 40001 by fetching find the new one at once.
	//
	// A token of stable_token is shared until early: WeChat gives out the same one until then.
	classicMargin = 30 * time.Minute

	// worthwhile is how much must be left of a token to give it out where there is no other: some
	// SDKs refuse one of 60 s.
	worthwhile = 61 * time.Second

	maxShares    = 1_000            // shared tokens in memory
	learnTimeout = 10 * time.Second // of a Fetch, waiting for another gateway included
	maxSecret    = 128              // bytes; WeChat's have 32
)

// What Fetch answers by itself, in WeChat's words.
const (
	answerNoAppID     = `{"errcode":41002,"errmsg":"appid missing"}`
	answerNoSecret    = `{"errcode":41004,"errmsg":"appsecret missing"}` //nolint:gosec // an answer, no credential
	answerBadAppID    = `{"errcode":40013,"errmsg":"invalid appid"}`
	answerBadSecret   = `{"errcode":40125,"errmsg":"invalid appsecret"}` //nolint:gosec // an answer, no credential
	answerTooManyAsks = `{"errcode":45011,"errmsg":"api minute-quota reach limit, must slower, retry next minute"}`
)

// goodAppID is what the store takes for an app.
var goodAppID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// LearnedOptions configure a Learned. The fields mean what they mean in Options.
type LearnedOptions struct {
	Store     Store
	Transport http.RoundTripper
	Upstream  string

	// Count is called once for every request to WeChat for an app that is known by then.
	Count   func(ctx context.Context, appid, path string)
	Observe func(Event)
	Now     func() time.Time
}

// Learned knows apps by tokens of WeChat's that the fleet has seen being issued, and shares one
// token of an app that is not configured among all who show the same AppSecret. In the store a
// token is a hash, unless it is shared, and a secret is an HMAC, by a key that the fleet makes up.
// Its methods are safe for concurrent use.
type Learned struct {
	endpoints map[string]*endpoint
	fleet     fleet
	id        string // of this Learned among those that share the store
	local     []byte // a key like the fleet's, for what is in memory only
	count     func(ctx context.Context, appid, path string)
	issued    *issued
	budget    budget

	mu     sync.Mutex                                       // covers what follows
	shares *simplelru.LRU[[sha256.Size]byte, *cell[record]] // one for each endpoint, app and secret
	key    []byte                                           // the fleet's, as last seen
}

// NewLearned returns a Learned that knows what its store knows.
func NewLearned(o LearnedOptions) *Learned {
	l := &Learned{
		endpoints: map[string]*endpoint{},
		id:        rand.Text()[:8],
		local:     randomKey(),
		count:     o.Count,
		shares:    newLRU[[sha256.Size]byte, *cell[record]](maxShares),
	}
	for _, name := range []string{"token", "stable_token"} {
		e := newEndpoint(Options{
			Transport: o.Transport, Upstream: o.Upstream, Endpoint: name, Observe: o.Observe, Now: o.Now,
		})
		l.endpoints[name] = &e
	}
	if l.count == nil {
		l.count = func(context.Context, string, string) {}
	}
	e := l.endpoints["token"]
	l.fleet = fleet{
		store: o.Store, now: e.now, patience: learnTimeout, lease: leaseExpiry,
		down: func(app string, err error) { e.observe(Event{Kind: StoreFailed, AppID: app, Err: err}) },
	}
	l.issued = newIssued(o.Store, e.now)
	l.budget = budget{store: o.Store, now: e.now, slot: make(chan struct{}, 1)}
	return l
}

// Close ends the fetches that are under way and waits for them.
func (l *Learned) Close() { l.fleet.close() }

// Format implements fmt.Formatter: no token is printed.
func (l *Learned) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "{learned %s}", l.id) }

// Remember adds that WeChat has issued a token of an app, to be good for life. This gateway knows
// it at once, even if there is an error: then the others do not.
func (l *Learned) Remember(ctx context.Context, accessToken, appid string, life time.Duration) error {
	switch {
	case !validToken(accessToken):
		return fmt.Errorf("learned token of %d bytes: want 1 to %d of A-Z a-z 0-9 - . _ ~ =", len(accessToken), maxToken)
	case !goodAppID.MatchString(appid) || appid == LearnedApp:
		return fmt.Errorf("learned token: an appid of %d bytes: want 1 to 64 of A-Z a-z 0-9 _ -", len(appid))
	case life <= 0:
		return fmt.Errorf("learned token of %s: life %s: want more than 0", appid, life)
	}
	ends := l.fleet.now().Add(min(life, longest))
	return l.issued.remember(ctx, accessToken, newIssue(appid, "", ends.UnixMilli()))
}

// App returns the app that a token was issued to, if the fleet has seen that and the token has not
// ended. A token that WeChat calls dead goes on naming its app: its owner should get WeChat's own answer,
// which makes an SDK fetch the next. While the store does not answer App knows what is in memory.
func (l *Learned) App(ctx context.Context, shown string) (appid string, ok bool) {
	i, ok := l.issued.find(ctx, shown)
	return i.App, ok
}

// Dead notes that WeChat has answered 40001, 40014 or 42001 to a token. If it is one that Fetch
// shares, the next Fetch of any gateway asks WeChat for another.
func (l *Learned) Dead(ctx context.Context, shown string) {
	ctx = context.WithoutCancel(ctx) // the others should know, even if the client has gone
	i, ok := l.issued.find(ctx, shown)
	if !ok {
		return
	}
	dead := digest(shown)
	l.mu.Lock()
	for _, c := range l.shares.Values() {
		c.mu.Lock()
		if c.known.Token == shown {
			c.known.Dead = dead
		}
		c.mu.Unlock()
	}
	l.mu.Unlock()
	if i.Share == "" {
		return
	}
	raw, err := l.fleet.store.Get(ctx, i.App, i.Share)
	if err != nil {
		return // this gateway knows it, and tells the others when it fetches
	}
	_ = l.fleet.store.Update(ctx, i.App, i.Share, raw, func(present []byte) ([]byte, time.Duration, error) {
		r := parse[record](present)
		if r.Token != shown || r.Dead == dead {
			return nil, 0, nil
		}
		r.Dead = dead
		return encode(r, l.fleet.now())
	})
}

// Fetch answers a token request for an app that is not configured: endpoint is "token" or
// "stable_token". The answer is a token that is shared by all who show this secret, with the
// seconds that are left of it, or WeChat's refusal, or errcode 45011 when too many have been
// fetched within a minute. A refusal is repeated for ten seconds, one that is about a quota for a
// minute, without asking WeChat again. The error wraps ErrUnavailable, or is that of ctx.
//
// known reports whether WeChat has issued a token for this appid and secret. Anybody can make an appid up:
// one that is not known must leave nothing behind that stays, such as a counter.
func (l *Learned) Fetch(ctx context.Context, endpoint, appid, secret string) (answer []byte, known bool, err error) {
	e := l.endpoints[endpoint]
	switch {
	case e == nil:
		return nil, false, fmt.Errorf("endpoint %.32q: want token or stable_token", endpoint)
	case appid == "":
		return []byte(answerNoAppID), false, nil
	case secret == "":
		return []byte(answerNoSecret), false, nil
	case !goodAppID.MatchString(appid) || appid == LearnedApp:
		return []byte(answerBadAppID), false, nil
	case len(secret) > maxSecret:
		return []byte(answerBadSecret), false, nil
	}
	q := &request{Learned: l, endpoint: e, app: App{appid, secret}, who: asker{appid: appid, gateway: l.id}}
	q.cell = l.share(q)
	f := q.cell.join(ctx, q.renew)
	if err := f.wait(ctx); err != nil {
		return nil, false, fmt.Errorf("token of %s: %w", appid, err)
	}
	answer, err = q.answer(f.value, f.err)
	return answer, f.value.Token != "", err
}

// share returns the cell of what is asked for.
func (l *Learned) share(q *request) *cell[record] {
	id := [sha256.Size]byte(q.mac(l.local))
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.shares.Get(id)
	if !ok {
		c = &cell[record]{fleet: &l.fleet, app: q.app.AppID, holder: rand.Text()[:8]}
		l.shares.Add(id, c)
	}
	return c
}

// request is one Fetch.
type request struct {
	*Learned
	endpoint *endpoint
	app      App
	who      asker // without a secretID: a secret is kept as an HMAC only
	cell     *cell[record]
}

// renew finds the shared token or fetches it.
func (q *request) renew(ctx context.Context) (r record, err error) {
	c := q.cell
	if c.store == nil {
		r, err = c.alone(ctx, q.settled, q.next)
	} else if key, failed := q.fleetKey(ctx); failed != nil {
		c.down(c.app, failed)
		r, err = c.alone(ctx, q.settled, q.next)
	} else {
		c.key = sharePrefix + q.endpoint.name() + ":" + hex.EncodeToString(q.mac(key)[:16])
		if q.budget.spentAll() { // read, and do not write a lease for each appid that is made up
			r, _, err = c.read(ctx)
			if err == nil && !q.settled(r) {
				return r, wechat.Answer(answerTooManyAsks)
			}
		}
		r, err = c.renew(ctx, q.settled, q.next)
	}
	if l := r.live(c.now()); l != nil {
		q.issued.learn(hashOf(l.token), newIssue(c.app, c.key, r.Ends), knownFor)
	}
	return r, err
}

// settled reports whether WeChat need not be asked: there is a token that lasts, or a refusal that still
// counts.
func (q *request) settled(r record) bool {
	now, margin := q.cell.now(), classicMargin
	if q.endpoint.stable {
		margin = early
	}
	l := r.live(now)
	return l != nil && now.Before(l.renewAt(margin)) || r.blocked(now, q.who) != nil
}

// answer is the token of a record, or what there is in its place: the token that ends soon, if it is
// worthwhile, or else a refusal, or an error.
func (q *request) answer(r record, err error) ([]byte, error) {
	now := q.cell.now()
	if refused := r.blocked(now, q.who); refused != nil && err == nil {
		err = refused
	}
	if l := r.live(now); l != nil && (err == nil || l.ends.Sub(now) >= worthwhile) {
		return fmt.Appendf(nil, `{"access_token":"%s","expires_in":%d}`, l.token, (r.Ends-now.UnixMilli())/1000), nil
	}
	if theirs, ok := errors.AsType[wechat.Answer](err); ok {
		return theirs, nil
	}
	if err == nil { // it has just ended
		err = fmt.Errorf("token of %s: %w", q.app.AppID, ErrUnavailable)
	}
	return nil, err
}

// next fetches the token after r.
func (q *request) next(ctx context.Context, r record, lead *lead[record]) (record, error) {
	now := q.cell.now
	if !q.endpoint.stable && r.Token != "" && r.Dead == digest(r.Token) {
		// WeChat calls a token dead for some API. If it does so of every token, as where a user's
		// is wanted, a service can ask for ever; a fetch here ends what the others have.
		if classicAllowance.next(now(), r.Forced).After(now()) {
			return r, wechat.Answer(answerTooManyAsks)
		}
		r.Forced = classicAllowance.add(now(), r.Forced)
	}
	if !q.budget.spend(ctx, q.app.AppID, lead.alone) {
		return r, wechat.Answer(answerTooManyAsks)
	}
	e, known := *q.endpoint, r.Token != ""
	e.observe = func(event Event) {
		known = known || event.Kind == Fetched
		event.Unknown = !known
		q.endpoint.observe(event)
	}
	l, err := e.fetch(ctx, q.app, false)
	if known {
		q.count(ctx, q.app.AppID, e.path)
	}
	if rejected, ok := errors.AsType[*Rejected](err); ok {
		r.Block = nil // a service that is set right should not wait for longer each time
		_ = r.refuse(now(), q.who, rejected)
		return r, nil
	}
	if err != nil {
		return r, err
	}
	r.put(l, q.who.gateway)
	if r.Dead == digest(l.token) {
		r.Dead = "" // stable_token has given a dead one again: WeChat's word against its own
	}
	if err := q.issued.remember(ctx, l.token, newIssue(q.app.AppID, q.cell.key, r.Ends)); err != nil && !lead.alone {
		q.cell.down(q.app.AppID, err)
	}
	return r, nil
}

// mac tells what is asked for apart from all else without the secret.
func (q *request) mac(key []byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, field := range []string{q.endpoint.name(), q.app.AppID, q.app.Secret} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(field))))
		h.Write([]byte(field))
	}
	return h.Sum(nil)
}

// fleetKey returns the key of the HMACs of secrets. A store that was emptied gets the old one back.
func (l *Learned) fleetKey(ctx context.Context) ([]byte, error) {
	l.mu.Lock()
	key := l.key
	l.mu.Unlock()
	if key == nil {
		key = randomKey()
	}
	stored, err := l.fleet.store.Get(ctx, LearnedApp, hmacKeyKey)
	if err == nil && stored == nil {
		err = l.fleet.store.Update(ctx, LearnedApp, hmacKeyKey, nil, func(present []byte) ([]byte, time.Duration, error) {
			if stored = present; present != nil {
				return nil, 0, nil
			}
			stored = key
			return key, 0, nil
		})
	}
	if err != nil {
		return nil, err
	}
	if len(stored) < sha256.Size {
		return nil, fmt.Errorf("store %s of %s: %d bytes: want %d", hmacKeyKey, LearnedApp, len(stored), sha256.Size)
	}
	l.mu.Lock()
	l.key = stored
	l.mu.Unlock()
	return stored, nil
}

func randomKey() []byte {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // it never fails
	return key
}
