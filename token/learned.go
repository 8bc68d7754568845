package token

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"time"
)

// Where the store keeps what was learned: what belongs to no single app under an appid that
// WeChat never gives out, and the shared tokens under their own app.
const (
	learnedApp  = "learned"
	hashPrefix  = "token:"   // + hex SHA-256 of a token -> mapping
	hmacKeyKey  = "hmac-key" // 32 random bytes
	fetchesKey  = "fetches"  // []spent of the last minute
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

	// mappingGrace is how long a token names its app beyond its end, for clocks that differ. It is
	// short, because a token that proves nothing to WeChat should prove nothing here.
	mappingGrace = time.Minute

	// Upstream fetches of a minute and a fleet: of one app, and in total, because whoever may learn
	// can show any number of appids. Sixty fill a fleet of sixty learned apps in its first minute.
	maxFetchesOfApp = 10
	maxFetches      = 60
	fetchWindow     = time.Minute

	// How long memory is believed before the store is asked again.
	knownFor   = time.Minute
	unknownFor = time.Second

	maxKnown   = 10_000 // tokens in memory, and as many that are unknown
	maxShares  = 1_000  // shared tokens in memory
	maxLookups = 1_000  // a second, of tokens that are not in memory: beyond it nobody knows them

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
	Count     func(ctx context.Context, appid, path string)
	Observe   func(Event)
	Now       func() time.Time
}

// Learned knows apps by tokens of WeChat's that the fleet has seen being issued, and shares one
// token of an app that is not configured among all who show the same AppSecret. In the store a
// token is a hash, unless it is shared, and a secret is an HMAC, by a key that the fleet makes up.
// Its methods are safe for concurrent use. It starts no goroutine.
type Learned struct {
	store   Store
	sources map[string]*Source // by endpoint; they only fetch
	observe func(Event)
	now     func() time.Time
	id      string            // of this Learned among those that share the store
	local   []byte            // a key like the fleet's, for what is in memory only
	slot    chan struct{}     // held while spending from the fleet's budget
	tokens  *rememberedHashes // has a mutex of its own

	mu     sync.Mutex // covers what follows
	shares map[[sha256.Size]byte]*share
	spent  []spent // while the store does not answer
	key    []byte  // the fleet's, as last seen
}

// share is one endpoint's token of an app for those who show one secret. Learned.mu covers it.
type share struct {
	record record // as last known; the store knows better
	flight *learnFlight
}

// learnFlight is a Fetch that everybody in this process waits for who wants the same.
type learnFlight struct {
	done   chan struct{} // closed when what follows is set
	answer []byte
	err    error
}

// mapping is what the store holds of a token, as JSON.
type mapping struct {
	App   string `json:"app"`
	Share string `json:"share,omitempty"` // the key of the record that shares it
	Ends  int64  `json:"ends_ms"`
}

// spent is one upstream fetch.
type spent struct {
	App string `json:"app"`
	At  int64  `json:"ms"`
}

// NewLearned returns a Learned that knows what its store knows.
func NewLearned(o LearnedOptions) *Learned {
	l := &Learned{
		store:   o.Store,
		sources: map[string]*Source{},
		observe: o.Observe,
		now:     o.Now,
		id:      rand.Text()[:8],
		local:   randomKey(),
		slot:    make(chan struct{}, 1),
		tokens:  &rememberedHashes{},
		shares:  map[[sha256.Size]byte]*share{},
	}
	for _, endpoint := range []string{"token", "stable_token"} {
		l.sources[endpoint] = New(Options{
			Transport: o.Transport, Upstream: o.Upstream, Endpoint: endpoint,
			Count: o.Count, Observe: o.Observe, Now: o.Now,
		})
	}
	if l.observe == nil {
		l.observe = func(Event) {}
	}
	if l.now == nil {
		l.now = time.Now
	}
	return l
}

// Format implements fmt.Formatter: no token is printed.
func (l *Learned) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "{learned %s}", l.id) }

// Remember notes that WeChat has issued a token of an app, to be good for life. This gateway knows
// it at once, even if there is an error: then the others do not.
func (l *Learned) Remember(ctx context.Context, accessToken, appid string, life time.Duration) error {
	switch {
	case !validToken(accessToken):
		return fmt.Errorf("learned token of %d bytes: want 1 to %d of A-Z a-z 0-9 - . _ ~ =", len(accessToken), maxToken)
	case !goodAppID.MatchString(appid) || appid == learnedApp:
		return fmt.Errorf("learned token: an appid of %d bytes: want 1 to 64 of A-Z a-z 0-9 _ -", len(appid))
	case life <= 0:
		return fmt.Errorf("learned token of %s: life %s: want more than 0", appid, life)
	}
	return l.remember(ctx, accessToken, mapping{App: appid, Ends: l.now().Add(min(life, longest)).UnixMilli()})
}

// App returns the app that a token was issued to, if the fleet has seen that and the token has not
// ended. A token that WeChat calls dead goes on naming its app: who shows it is to hear of its
// death from WeChat, in words that make an SDK fetch the next. While the store does not answer
// App knows what is in memory.
func (l *Learned) App(ctx context.Context, shown string) (appid string, ok bool) {
	m, ok := l.lookup(ctx, shown)
	return m.App, ok
}

// Fetch answers a token request for an app that is not configured: endpoint is "token" or
// "stable_token". The answer is a token that is shared by all who show this secret, with the
// seconds that are left of it, or WeChat's refusal, or errcode 45011 when too many have been
// fetched within a minute. A refusal is repeated for ten seconds, one that is about a quota for a
// minute, without asking WeChat again. The error wraps ErrUnavailable, or is that of ctx.
func (l *Learned) Fetch(ctx context.Context, endpoint, appid, secret string) (answer []byte, err error) {
	source := l.sources[endpoint]
	switch {
	case source == nil:
		return nil, fmt.Errorf("endpoint %.32q: want token or stable_token", endpoint)
	case appid == "":
		return []byte(answerNoAppID), nil
	case secret == "":
		return []byte(answerNoSecret), nil
	case !goodAppID.MatchString(appid) || appid == learnedApp:
		return []byte(answerBadAppID), nil
	case len(secret) > maxSecret:
		return []byte(answerBadSecret), nil
	}
	w := &wanted{l: l, source: source, endpoint: endpoint, app: &app{App: App{AppID: appid, Secret: secret}}}

	s, f, lead := l.board(w)
	if !lead {
		select {
		case <-f.done:
			return f.answer, f.err
		case <-ctx.Done():
			return nil, fmt.Errorf("token of %s: %w", appid, context.Cause(ctx))
		}
	}
	f.err = fmt.Errorf("token of %s: %w", appid, ErrUnavailable) // for those who wait, if this panics
	defer l.land(w, s, f)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), learnTimeout)
	defer cancel()
	f.answer, f.err = w.fetch(ctx)
	return f.answer, f.err
}

// Dead notes that WeChat has answered 40001, 40014 or 42001 to a token. If it is one that Fetch
// shares, the next Fetch of any gateway asks WeChat for another.
func (l *Learned) Dead(ctx context.Context, shown string) {
	ctx = context.WithoutCancel(ctx) // the others should know, even if the client has gone
	m, ok := l.lookup(ctx, shown)
	if !ok {
		return
	}
	dead := digest(shown)
	l.mu.Lock()
	for _, s := range l.shares {
		if s.record.Token == shown {
			s.record.Dead = dead
		}
	}
	l.mu.Unlock()
	if m.Share == "" {
		return
	}
	for range 3 {
		raw, err := l.get(ctx, m.App, m.Share)
		r := parseRecord(raw)
		if err != nil || r.Token != shown || r.Dead == dead {
			return // this gateway knows it, and tells the others when it fetches
		}
		r.Dead = dead
		if done, err := l.swap(ctx, m.App, m.Share, raw, r, r.keep(l.now())); done || err != nil {
			return
		}
	}
}

// wanted is one Fetch on its way.
type wanted struct {
	l        *Learned
	source   *Source
	endpoint string
	app      *app   // without a secretID: a secret is kept as an HMAC only
	known    record // what this process knew, and what is known at the end
	key      string // where the store has the record
}

// board returns the flight to wait for, or lead and the one to make.
func (l *Learned) board(w *wanted) (s *share, f *learnFlight, lead bool) {
	id := [sha256.Size]byte(w.mac(l.local))
	l.mu.Lock()
	defer l.mu.Unlock()
	s = l.shares[id]
	if s == nil {
		makeRoom(l.shares, maxShares, func(s *share) bool { return s.flight == nil })
		s = &share{}
		l.shares[id] = s
	}
	if s.flight != nil {
		return s, s.flight, false
	}
	w.known = s.record
	s.flight = &learnFlight{done: make(chan struct{})}
	return s, s.flight, true
}

func (l *Learned) land(w *wanted, s *share, f *learnFlight) {
	l.mu.Lock()
	s.record, s.flight = w.known, nil
	l.mu.Unlock()
	close(f.done)
}

// makeRoom drops entries that may go until one more fits.
func makeRoom[K comparable, V any](m map[K]V, size int, mayGo func(V) bool) {
	for k, v := range m {
		if len(m) < size {
			return
		}
		if mayGo(v) {
			delete(m, k)
		}
	}
}

// fetch finds the shared token or fetches it.
func (w *wanted) fetch(ctx context.Context) ([]byte, error) {
	answer, err := w.together(ctx)
	if down, ok := errors.AsType[storeError](err); ok {
		if ctx.Err() == nil {
			w.l.observe(Event{Kind: StoreFailed, AppID: w.app.AppID, Err: down.error})
		}
		return w.alone(ctx)
	}
	return answer, err
}

// alone does without the store.
func (w *wanted) alone(ctx context.Context) ([]byte, error) {
	if answer := w.settled(); answer != nil {
		return answer, nil
	}
	return w.next(ctx, nil, false)
}

// together does it with the fleet. Its error is a storeError if the store fails before WeChat is
// asked.
func (w *wanted) together(ctx context.Context) ([]byte, error) {
	if w.l.store == nil {
		return w.alone(ctx)
	}
	key, err := w.l.fleetKey(ctx)
	if err != nil {
		return nil, storeError{err}
	}
	w.key = sharePrefix + w.endpoint + ":" + hex.EncodeToString(w.mac(key)[:16])
	for {
		if _, answer, err := w.look(ctx); answer != nil || err != nil {
			return answer, err
		}
		switch held, err := w.lease(ctx); {
		case err != nil:
			return nil, storeError{err}
		case held:
			return w.leased(ctx)
		}
		select {
		case <-time.After(pollEvery + mathrand.N(pollEvery)): //nolint:gosec // spreads the looks, hides nothing
		case <-ctx.Done():
			return w.instead(nil, fmt.Errorf("token of %s: %w: waiting for the store: %w", w.app.AppID, ErrUnavailable, ctx.Err()))
		}
	}
}

// leased does what only one gateway at a time may do.
func (w *wanted) leased(ctx context.Context) ([]byte, error) {
	defer w.release(ctx)
	raw, answer, err := w.look(ctx)
	if answer != nil || err != nil {
		return answer, err
	}
	return w.next(ctx, raw, true)
}

// look reads the record, and returns the answer that it holds, if any.
func (w *wanted) look(ctx context.Context) (raw, answer []byte, err error) {
	raw, err = w.l.get(ctx, w.app.AppID, w.key)
	if err != nil {
		return nil, nil, storeError{err}
	}
	switch r := parseRecord(raw); {
	case w.known.Fetched > r.Fetched && w.known.live(w.l.now()) != nil:
		err = w.restore(ctx, raw)
	case w.known.Dead != "" && digest(r.Token) == w.known.Dead:
		r.Dead = w.known.Dead // the store has missed it
		w.known = r
	default:
		w.known = r
	}
	if err != nil {
		return nil, nil, storeError{err}
	}
	return raw, w.settled(), nil
}

// restore gives the store what it lacks: it was down when the token was fetched, or was emptied
// since. If somebody else changes the record meanwhile, so be it.
func (w *wanted) restore(ctx context.Context, raw []byte) error {
	m := mapping{App: w.app.AppID, Share: w.key, Ends: w.known.Ends}
	err := w.l.remember(ctx, w.known.Token, m)
	if err == nil {
		_, err = w.l.swap(ctx, w.app.AppID, w.key, raw, w.known, w.known.keep(w.l.now()))
	}
	return err
}

// settled returns the answer that is known without asking WeChat, or nil.
func (w *wanted) settled() []byte {
	r, now := &w.known, w.l.now()
	if l := r.live(now); l != nil && now.Before(l.ends.Add(-min(w.margin(), l.ends.Sub(l.fetched)/2))) {
		return tokenAnswer(l, now)
	}
	if refused := r.blocked(now, w.app, w.l.id); refused != nil {
		answer, _ := w.instead(refused.answer, nil)
		return answer
	}
	return nil
}

func (w *wanted) margin() time.Duration {
	if w.source.stable {
		return early
	}
	return classicMargin
}

// instead returns what there is in the place of a new token: the one that ends soon, if it is
// worthwhile, or else answer and err.
func (w *wanted) instead(answer []byte, err error) ([]byte, error) {
	now := w.l.now()
	if l := w.known.live(now); l != nil && l.ends.Sub(now) >= worthwhile {
		return tokenAnswer(l, now), nil
	}
	return answer, err
}

// next fetches a token. raw is the record as the store has it; shared says that the store answers
// and that we hold the lease.
func (w *wanted) next(ctx context.Context, raw []byte, shared bool) ([]byte, error) {
	r := w.known
	if now := w.l.now(); !w.source.stable && r.Token != "" && r.Dead == digest(r.Token) {
		// WeChat calls a token dead for some API. If it does so of every token, as where a user's
		// is wanted, a service can ask for ever; a fetch here ends what the others have.
		if classicAllowance.next(now, r.Forced).After(now) {
			return []byte(answerTooManyAsks), nil
		}
		r.Forced = append(classicAllowance.recent(now, r.Forced), now.UnixMilli())
	}
	if !w.l.spend(ctx, w.app.AppID, shared) {
		return w.instead([]byte(answerTooManyAsks), nil)
	}
	fetched, err := w.source.fetch(ctx, w.app, false)
	rejected, _ := errors.AsType[*Rejected](err)
	switch {
	case err == nil:
		m := mapping{App: w.app.AppID, Share: w.key, Ends: fetched.ends.UnixMilli()}
		if err := w.l.remember(ctx, fetched.token, m); err != nil && shared {
			w.l.observe(Event{Kind: StoreFailed, AppID: w.app.AppID, Err: err})
		}
		r.put(fetched)
		r.Block, r.Dead = nil, "" // stable_token may have given a dead one again: WeChat's word against its own
		w.save(ctx, raw, r, shared)
		return tokenAnswer(fetched, w.l.now()), nil
	case rejected != nil:
		r.Block = nil // a service that is set right should not wait for longer each time
		rejected = r.refuse(w.l.now(), w.app, w.l.id, rejected)
		w.save(ctx, raw, r, shared)
		return w.instead(rejected.answer, nil)
	}
	return w.instead(nil, err)
}

// save writes the record down. If it has changed, a gateway has noted that the old token is dead,
// or has fetched after us because our lease was over.
func (w *wanted) save(ctx context.Context, raw []byte, r record, shared bool) {
	w.known = r
	if !shared {
		return
	}
	ctx = context.WithoutCancel(ctx)
	for range 3 {
		done, err := w.l.swap(ctx, w.app.AppID, w.key, raw, r, r.keep(w.l.now()))
		if err == nil && !done {
			raw, err = w.l.get(ctx, w.app.AppID, w.key)
		}
		if err != nil {
			w.l.observe(Event{Kind: StoreFailed, AppID: w.app.AppID, Err: err})
		}
		if err != nil || done || parseRecord(raw).Fetched > r.Fetched {
			return
		}
	}
}

// keep is how long the store has to keep a record that is shared.
func (r *record) keep(now time.Time) time.Duration {
	var keep time.Duration
	if r.Block != nil {
		keep = time.UnixMilli(r.Block.Until).Sub(now)
	}
	if r.Token != "" {
		keep = max(keep, time.UnixMilli(r.Ends).Sub(now), classicAllowance.window)
	}
	return max(keep, time.Second)
}

// mac tells what is wanted apart from all else without telling the secret.
func (w *wanted) mac(key []byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, field := range []string{w.endpoint, w.app.AppID, w.app.Secret} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(field))))
		h.Write([]byte(field))
	}
	return h.Sum(nil)
}

func tokenAnswer(l *live, now time.Time) []byte {
	return fmt.Appendf(nil, `{"access_token":"%s","expires_in":%d}`, l.token, l.ends.Sub(now)/time.Second)
}

// spend notes one upstream fetch of an app, unless there have been too many within a minute: of
// the fleet while the store answers, of this gateway otherwise.
func (l *Learned) spend(ctx context.Context, appid string, shared bool) bool {
	if shared {
		select {
		case l.slot <- struct{}{}:
			defer func() { <-l.slot }()
		case <-ctx.Done():
			return false
		}
		for range maxFetches + 1 { // each time somebody else has spent
			raw, err := l.get(ctx, learnedApp, fetchesKey)
			if err != nil {
				break
			}
			var past []spent
			_ = json.Unmarshal(raw, &past) // what is not ours is like none
			now := l.now()
			past, ok := spendOne(past, appid, now)
			if !ok {
				return false
			}
			if done, err := l.swap(ctx, learnedApp, fetchesKey, raw, past, fetchWindow); err != nil {
				break
			} else if done {
				return true
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	past, ok := spendOne(l.spent, appid, l.now())
	l.spent = past
	return ok
}

// spendOne adds a fetch to those of the last minute, if there is room for it. A time further ahead
// than the window comes from a clock that is wrong.
func spendOne(past []spent, appid string, now time.Time) (left []spent, ok bool) {
	from, to := now.Add(-fetchWindow).UnixMilli(), now.Add(fetchWindow).UnixMilli()
	past = slices.DeleteFunc(past, func(s spent) bool { return s.At <= from || s.At > to })
	ofApp := 0
	for _, s := range past {
		if s.App == appid {
			ofApp++
		}
	}
	if ofApp >= maxFetchesOfApp || len(past) >= maxFetches {
		return past, false
	}
	return append(past, spent{App: appid, At: now.UnixMilli()}), true
}

// fleetKey returns the key of the HMACs of secrets. A store that was emptied gets the old one back.
func (l *Learned) fleetKey(ctx context.Context) ([]byte, error) {
	l.mu.Lock()
	key := l.key
	l.mu.Unlock()
	if key == nil {
		key = randomKey()
	}
	stored, err := l.get(ctx, learnedApp, hmacKeyKey)
	if err == nil && stored == nil {
		var done bool
		storeCtx, cancel := context.WithTimeout(ctx, storeTimeout)
		done, err = l.store.CompareAndSet(storeCtx, learnedApp, hmacKeyKey, nil, key, 0)
		cancel()
		if stored = key; err == nil && !done {
			stored, err = l.get(ctx, learnedApp, hmacKeyKey)
		}
	}
	if err != nil {
		return nil, err
	}
	if len(stored) < sha256.Size {
		return nil, fmt.Errorf("store %s of %s: %d bytes: want %d", hmacKeyKey, learnedApp, len(stored), sha256.Size)
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

// remember notes what a token is for, in memory and for the fleet.
func (l *Learned) remember(ctx context.Context, accessToken string, m mapping) error {
	now := l.now()
	m.Ends += mappingGrace.Milliseconds()
	hash := sha256.Sum256([]byte(accessToken))
	l.tokens.learn(hash, m, now)
	if l.store == nil {
		return nil
	}
	key := hashPrefix + hex.EncodeToString(hash[:])
	var raw []byte
	for range 3 {
		done, err := l.swap(context.WithoutCancel(ctx), learnedApp, key, raw, m, time.UnixMilli(m.Ends).Sub(now))
		if err == nil && !done {
			raw, err = l.get(context.WithoutCancel(ctx), learnedApp, key)
		}
		if err != nil {
			return fmt.Errorf("learned token of %s: %w", m.App, err)
		}
		if done {
			return nil
		}
	}
	return fmt.Errorf("learned token of %s: others keep changing it", m.App)
}

// lookup returns what is known of a token.
func (l *Learned) lookup(ctx context.Context, shown string) (mapping, bool) {
	if !validToken(shown) {
		return mapping{}, false
	}
	hash := sha256.Sum256([]byte(shown))
	now := l.now()
	known, ask := l.tokens.find(hash, now)
	if !ask || l.store == nil {
		return known, known.App != ""
	}
	key := hashPrefix + hex.EncodeToString(hash[:])
	raw, err := l.get(ctx, learnedApp, key)
	if err != nil {
		return known, known.App != ""
	}
	if m := parseMapping(raw); m.App != "" && now.UnixMilli() < m.Ends {
		l.tokens.learn(hash, m, now)
		return m, true
	}
	if known.App == "" {
		l.tokens.miss(hash, now)
		return mapping{}, false
	}
	// The store was emptied. If it fails to take this back, it will be tried again.
	_, _ = l.swap(ctx, learnedApp, key, raw, known, time.UnixMilli(known.Ends).Sub(now))
	l.tokens.learn(hash, known, now)
	return known, true
}

// parseMapping reads a mapping. One that is not ours is like none.
func parseMapping(raw []byte) mapping {
	var m mapping
	if err := json.Unmarshal(raw, &m); err != nil || !goodAppID.MatchString(m.App) {
		return mapping{}
	}
	return m
}

// The words with the store, each of which has its own time.

func (l *Learned) get(ctx context.Context, appid, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return l.store.Get(ctx, appid, key)
}

func (l *Learned) swap(ctx context.Context, appid, key string, was []byte, value any, expiry time.Duration) (bool, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return false, err
	}
	if bytes.Equal(raw, was) {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return l.store.CompareAndSet(ctx, appid, key, was, raw, expiry)
}

func (w *wanted) lease(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return w.l.store.Lease(ctx, w.app.AppID, w.key, w.l.id, leaseExpiry)
}

// release leaves the lease to itself if the store does not answer: it runs out.
func (w *wanted) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	_ = w.l.store.Release(ctx, w.app.AppID, w.key, w.l.id)
}

// rememberedHashes keeps what the store has said of tokens, so that a token in use costs a round
// trip a minute, and one that nobody knows a round trip a second. What is unknown has a place of
// its own: however much garbage is shown, it cannot push out what is known. The zero value is
// empty. It is safe for concurrent use.
type rememberedHashes struct {
	mu      sync.Mutex // covers all
	known   generations[rememberedHash]
	unknown generations[time.Time] // until when the store need not be asked
	second  int64                  // the Unix second that lookups is of
	lookups int
}

type rememberedHash struct {
	mapping
	fresh time.Time // until when the store need not be asked
}

// find returns what is known of a token, and whether to ask the store. Of those who come when it
// is time to ask again only the first is told to.
func (c *rememberedHashes) find(hash [sha256.Size]byte, now time.Time) (m mapping, ask bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.known.get(hash); ok && now.UnixMilli() < e.Ends {
		if ask = !now.Before(e.fresh); ask {
			e.fresh = now.Add(unknownFor)
			c.known.set(hash, e)
		}
		return e.mapping, ask
	}
	if until, ok := c.unknown.get(hash); ok && now.Before(until) {
		return mapping{}, false
	}
	if second := now.Unix(); second != c.second {
		c.second, c.lookups = second, 0
	}
	c.lookups++
	return mapping{}, c.lookups <= maxLookups
}

func (c *rememberedHashes) learn(hash [sha256.Size]byte, m mapping, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known.set(hash, rememberedHash{mapping: m, fresh: now.Add(knownFor)})
}

func (c *rememberedHashes) miss(hash [sha256.Size]byte, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unknown.set(hash, now.Add(unknownFor))
}

// generations is a map of at most maxKnown entries that forgets those which were not used for
// longest, more or less: when half as many are young they become the old ones, and the old ones go.
type generations[V any] struct {
	young, old map[[sha256.Size]byte]V
}

func (g *generations[V]) get(hash [sha256.Size]byte) (v V, ok bool) {
	if v, ok = g.young[hash]; ok {
		return v, true
	}
	if v, ok = g.old[hash]; ok {
		g.set(hash, v)
	}
	return v, ok
}

func (g *generations[V]) set(hash [sha256.Size]byte, v V) {
	if _, there := g.young[hash]; g.young == nil || !there && len(g.young) >= maxKnown/2 {
		g.old, g.young = g.young, make(map[[sha256.Size]byte]V)
	}
	g.young[hash] = v
	delete(g.old, hash)
}
