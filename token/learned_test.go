package token_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wxproxy/internal/redistest"
	"wxproxy/token"
)

// memoryStore is a Store that can be looked into, counted and taken down.
type memoryStore struct {
	down  atomic.Bool
	words atomic.Int64 // calls of its methods
	last  int64        // if not 0, it goes down after so many words
	lossy bool         // it does what it is told when it is down, and says that it did not

	mu     sync.Mutex
	values map[string]memoryValue // app + " " + key; leases have " lease:" for the space
}

type memoryValue struct {
	value []byte
	ends  time.Time // zero: never
}

func newMemoryStore() *memoryStore { return &memoryStore{values: map[string]memoryValue{}} }

var errMemoryDown = errors.New("the store is down")

// change replaces a value if change says so. Both are nil if there is none.
func (m *memoryStore) change(ctx context.Context, id string, expiry time.Duration, change func(present []byte) (next []byte, ok bool)) (bool, error) {
	words := m.words.Add(1)
	if err := ctx.Err(); err != nil {
		return false, err
	}
	down := m.down.Load() || m.last > 0 && words > m.last
	if down && !m.lossy {
		return false, errMemoryDown
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.values[id]
	if !v.ends.IsZero() && !time.Now().Before(v.ends) {
		v = memoryValue{}
	}
	next, ok := change(v.value)
	if !ok {
		return false, nil
	}
	v = memoryValue{value: slices.Clone(next)}
	if expiry > 0 {
		v.ends = time.Now().Add(expiry)
	}
	if m.values[id] = v; next == nil {
		delete(m.values, id)
	}
	if down {
		return false, errMemoryDown
	}
	return true, nil
}

func (m *memoryStore) Get(ctx context.Context, app, key string) (value []byte, err error) {
	_, err = m.change(ctx, app+" "+key, 0, func(present []byte) ([]byte, bool) {
		value = slices.Clone(present)
		return nil, false
	})
	return value, err
}

func (m *memoryStore) Update(ctx context.Context, app, key string, was []byte, change func([]byte) ([]byte, time.Duration, error)) error {
	for {
		next, expiry, err := change(was)
		if err != nil || len(next) == 0 || bytes.Equal(next, was) {
			return err
		}
		taken := false
		if _, err = m.change(ctx, app+" "+key, expiry, func(present []byte) ([]byte, bool) {
			if taken = !bytes.Equal(present, was); taken {
				was = slices.Clone(present)
			}
			return next, !taken
		}); err != nil || !taken {
			return err
		}
	}
}

func (m *memoryStore) Lease(ctx context.Context, app, key, holder string, expiry time.Duration) (bool, error) {
	return m.change(ctx, app+" lease:"+key, expiry, func(present []byte) ([]byte, bool) {
		return []byte(holder), present == nil || string(present) == holder
	})
}

func (m *memoryStore) Release(ctx context.Context, app, key, holder string) error {
	_, err := m.change(ctx, app+" lease:"+key, 0, func(present []byte) ([]byte, bool) { return nil, string(present) == holder })
	return err
}

func (m *memoryStore) put(app, key, value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[app+" "+key] = memoryValue{value: []byte(value)}
}

func (m *memoryStore) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.values)
}

// dump is all that is in it.
func (m *memoryStore) dump() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var text string
	for _, id := range slices.Sorted(maps.Keys(m.values)) {
		text += fmt.Sprintf("%s = %s\n", id, m.values[id].value)
	}
	return text
}

// left is the keys of what has not expired.
func (m *memoryStore) left() (ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, v := range m.values {
		if v.ends.IsZero() || time.Now().Before(v.ends) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// between is a store in which something happens before a lease is asked for.
type between struct {
	*memoryStore
	happens func()
}

func (b *between) Lease(ctx context.Context, app, key, holder string, expiry time.Duration) (bool, error) {
	b.happens()
	return b.memoryStore.Lease(ctx, app, key, holder, expiry)
}

// platform is the token endpoints of many apps, as a transport. An app's secret is "canary-" and
// its appid.
type platform struct {
	mu      sync.Mutex
	latency time.Duration
	answer  string // if not "", every answer
	status  int    // if not 0, of every answer
	made    int
	stable  map[string]issued // by appid
	asked   []string          // path, appid
}

type issued struct {
	token string
	ends  time.Time
}

func newPlatform() *platform { return &platform{stable: map[string]issued{}} }

func secretOf(appid string) string { return "canary-" + appid }

func (p *platform) RoundTrip(r *http.Request) (*http.Response, error) {
	var ask struct {
		Grant  string `json:"grant_type"`
		AppID  string `json:"appid"`
		Secret string `json:"secret"`
		Force  bool   `json:"force_refresh"`
	}
	q := r.URL.Query()
	ask.Grant, ask.AppID, ask.Secret = q.Get("grant_type"), q.Get("appid"), q.Get("secret")
	if r.Method == http.MethodPost {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(body, &ask); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	latency := p.latency
	p.asked = append(p.asked, r.URL.Path+" "+ask.AppID)
	p.mu.Unlock()
	select {
	case <-time.After(latency):
	case <-r.Context().Done():
		return nil, fmt.Errorf("no answer to %s: %w", r.URL.RawQuery, r.Context().Err())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	text := p.answer
	switch {
	case text != "":
	case ask.Grant != "client_credential" || ask.Force:
		text = `{"errcode":40002,"errmsg":"invalid grant_type"}`
	case ask.Secret != secretOf(ask.AppID):
		text = `{"errcode":40125,"errmsg":"invalid appsecret rid: 1-2-3"}`
	default:
		t := p.stable[ask.AppID]
		if r.URL.Path == "/cgi-bin/token" || time.Until(t.ends) < 5*time.Minute {
			p.made++
			t = issued{fmt.Sprintf("c4n4ry-%s-%d", ask.AppID, p.made), time.Now().Add(2 * time.Hour)}
		}
		if r.URL.Path == "/cgi-bin/stable_token" {
			p.stable[ask.AppID] = t
		}
		text = fmt.Sprintf(`{"access_token":%q,"expires_in":%d}`, t.token, time.Until(t.ends)/time.Second)
	}
	status := http.StatusOK
	if p.status != 0 {
		status = p.status
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
}

func (p *platform) set(change func(*platform)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *platform) want(t *testing.T, asked int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.asked) != asked {
		t.Fatalf("WeChat was asked %d times, want %d", len(p.asked), asked)
	}
}

// learner is one gateway's Learned and what it was seen to do.
type learner struct {
	*token.Learned
	mu     sync.Mutex
	counts []string
	events []token.Event
}

func newLearner(t *testing.T, st token.Store, p http.RoundTripper) *learner {
	t.Helper()
	l := &learner{}
	l.Learned = token.NewLearned(token.LearnedOptions{
		Store: st, Transport: p,
		Count: func(_ context.Context, appid, path string) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.counts = append(l.counts, path+" "+appid)
		},
		Observe: func(e token.Event) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.events = append(l.events, e)
			wantSecretless(t, fmt.Sprintf("%+v %#v", e, e))
		},
	})
	t.Cleanup(l.Close)
	return l
}

func (l *learner) seen(kind token.Kind) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func wantSecretless(t *testing.T, text string) {
	t.Helper()
	for _, bad := range []string{"canary", "c4n4ry", "http://", "https://"} {
		if strings.Contains(text, bad) {
			t.Errorf("%s tells %s", text, bad)
		}
	}
}

// fetch returns the token that a Fetch with the right secret gets, "" if none.
func (l *learner) fetch(t *testing.T, endpoint, appid string) (accessToken string, expiresSeconds int) {
	t.Helper()
	answer, _, err := l.Fetch(t.Context(), endpoint, appid, secretOf(appid))
	if err != nil {
		t.Fatalf("Fetch: %v", err)
	}
	var a struct {
		Token   string `json:"access_token"`
		Expires int    `json:"expires_in"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		t.Fatalf("Fetch = %s: %v", answer, err)
	}
	return a.Token, a.Expires
}

func (l *learner) wantFetch(t *testing.T, endpoint, want string, expiresSeconds int) {
	t.Helper()
	got, _, err := l.Fetch(t.Context(), endpoint, appid, secretOf(appid))
	if full := fmt.Sprintf(`{"access_token":"c4n4ry-%s-%s","expires_in":%d}`, appid, want, expiresSeconds); string(got) != full || err != nil {
		t.Errorf("Fetch = %s, %v, want %s", got, err, full)
	}
}

// wantAnswer checks an answer that is no token.
func (l *learner) wantAnswer(t *testing.T, endpoint, appid, secret, want string) {
	t.Helper()
	if got, _, err := l.Fetch(t.Context(), endpoint, appid, secret); string(got) != want || err != nil {
		t.Errorf("Fetch = %s, %v, want %s", got, err, want)
	}
}

func (l *learner) wantApp(t *testing.T, shown, want string) {
	t.Helper()
	if got, ok := l.App(t.Context(), shown); got != want || ok != (want != "") {
		t.Errorf("App(%s) = %q, %v, want %q", shown, got, ok, want)
	}
}

const tooManyAsks = `{"errcode":45011,"errmsg":"api minute-quota reach limit, must slower, retry next minute"}`

func TestLearnedFetch(t *testing.T) {
	for _, endpoint := range []string{"token", "stable_token"} {
		t.Run(endpoint, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st, p := newMemoryStore(), newPlatform()
				a, b := newLearner(t, st, p), newLearner(t, st, p)
				a.wantFetch(t, endpoint, "1", 7200)
				p.want(t, 1)
				time.Sleep(10 * time.Minute)
				a.wantFetch(t, endpoint, "1", 6600)
				b.wantFetch(t, endpoint, "1", 6600)
				p.want(t, 1)
				for _, l := range []*learner{a, b, newLearner(t, st, p)} {
					l.wantApp(t, "c4n4ry-"+appid+"-1", appid)
				}
				path := "/cgi-bin/" + endpoint + " "
				if want := []string{path + appid}; !slices.Equal(a.counts, want) || len(b.counts) > 0 {
					t.Errorf("counted %q and %q, want %q once", a.counts, b.counts, want)
				}
				if a.seen(token.Fetched) != 1 || len(a.events) != 1 {
					t.Errorf("events %+v, want one fetch", a.events)
				}

				// An app of its own, and the other endpoint's token is another.
				if got, _ := b.fetch(t, endpoint, "wx2"); got != "c4n4ry-wx2-2" {
					t.Errorf("Fetch for another app = %s", got)
				}
				other := map[string]string{"token": "stable_token", "stable_token": "token"}[endpoint]
				b.wantFetch(t, other, "3", 7200)
				p.want(t, 3)
			})
		})
	}
}

// A token is shared until so little is left that an SDK could not keep it, where a new one can be
// had by asking; stable_token gives no other before its last five minutes.
func TestLearnedFetchAgain(t *testing.T) {
	for _, tt := range []struct {
		endpoint string
		left     time.Duration
	}{{"token", 30 * time.Minute}, {"stable_token", 4 * time.Minute}} {
		t.Run(tt.endpoint, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st, p := newMemoryStore(), newPlatform()
				a, b := newLearner(t, st, p), newLearner(t, st, p)
				a.wantFetch(t, tt.endpoint, "1", 7200)
				time.Sleep(2*time.Hour - tt.left - time.Second)
				b.wantFetch(t, tt.endpoint, "1", int(tt.left/time.Second)+1)
				time.Sleep(time.Second)
				b.wantFetch(t, tt.endpoint, "2", 7200)
				a.wantFetch(t, tt.endpoint, "2", 7200)
				p.want(t, 2)
				a.wantApp(t, "c4n4ry-"+appid+"-1", appid) // has not ended
				a.wantApp(t, "c4n4ry-"+appid+"-2", appid)
				time.Sleep(tt.left + time.Minute)
				a.wantApp(t, "c4n4ry-"+appid+"-1", "")
				b.wantApp(t, "c4n4ry-"+appid+"-1", "")
			})
		})
	}
}

// 300 callers on each of 3 gateways ask, and WeChat is asked once.
func TestLearnedOnceForAFleet(t *testing.T) {
	url := redistest.Start(t).URL()
	for _, endpoint := range []string{"token", "stable_token"} {
		p := newPlatform()
		p.latency = 50 * time.Millisecond
		var gateways []*learner
		for range 3 {
			gateways = append(gateways, newLearner(t, openStore(t, url), p))
		}
		var wg sync.WaitGroup
		for i := range 900 {
			wg.Go(func() {
				if got, _ := gateways[i%3].fetch(t, endpoint, appid); got != "c4n4ry-"+appid+"-1" {
					t.Errorf("gateway %d: Fetch = %s", i%3, got)
				}
			})
		}
		wg.Wait()
		p.want(t, 1)
		for _, l := range gateways {
			l.wantApp(t, "c4n4ry-"+appid+"-1", appid)
		}
	}
}

// WeChat's own words come back, and a loop of a service with a wrong secret does not reach it.
func TestLearnedRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, p := newMemoryStore(), newPlatform()
		a, b := newLearner(t, st, p), newLearner(t, st, p)
		const refusal = `{"errcode":40125,"errmsg":"invalid appsecret rid: 1-2-3"}`
		for range 50 {
			a.wantAnswer(t, "token", appid, "canary-wrong", refusal)
			b.wantAnswer(t, "token", appid, "canary-wrong", refusal)
		}
		p.want(t, 1)
		a.wantFetch(t, "token", "1", 7200) // the right one is another matter
		b.wantAnswer(t, "token", appid, "canary-wrong", refusal)
		p.want(t, 2)
		time.Sleep(10 * time.Second)
		b.wantAnswer(t, "token", appid, "canary-wrong", refusal)
		p.want(t, 3)
		began := time.Now()
		for ; time.Since(began) < 10*time.Minute; time.Sleep(100 * time.Millisecond) {
			a.wantAnswer(t, "token", appid, "canary-wrong", refusal)
		}
		p.want(t, 3+59)

		p.set(func(p *platform) { p.answer = `{"errcode":45009,"errmsg":"reach max api daily quota limit"}` })
		time.Sleep(10 * time.Second)
		for ; time.Since(began) < 20*time.Minute; time.Sleep(time.Second) {
			a.wantAnswer(t, "stable_token", appid, secretOf(appid), p.answer)
		}
		p.want(t, 62+10) // once a minute
	})
}

// What repeats the secret, or is no answer of WeChat's, is not handed on.
func TestLearnedRefusalIsQuoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		p.answer = `{"errcode":40125,"errmsg":"` + secretOf(appid) + ` is wrong"}`
		st := newMemoryStore()
		newLearner(t, st, p).wantAnswer(t, "token", appid, secretOf(appid), `{"errcode":40125,"errmsg":"refused"}`)
		wantSecretless(t, st.dump())
	})
}

func TestLearnedAnswersItself(t *testing.T) {
	p := newPlatform()
	l := newLearner(t, newMemoryStore(), p)
	for _, tt := range []struct{ appid, secret, want string }{
		{"", "s", `{"errcode":41002,"errmsg":"appid missing"}`},
		{appid, "", `{"errcode":41004,"errmsg":"appsecret missing"}`},
		{"wx 1", "s", `{"errcode":40013,"errmsg":"invalid appid"}`},
		{"wx:1", "s", `{"errcode":40013,"errmsg":"invalid appid"}`},
		{strings.Repeat("a", 65), "s", `{"errcode":40013,"errmsg":"invalid appid"}`},
		{"learned", "s", `{"errcode":40013,"errmsg":"invalid appid"}`},
		{appid, strings.Repeat("s", 129), `{"errcode":40125,"errmsg":"invalid appsecret"}`},
	} {
		l.wantAnswer(t, "token", tt.appid, tt.secret, tt.want)
	}
	if _, _, err := l.Fetch(t.Context(), "gettoken", appid, "s"); err == nil {
		t.Error("Fetch from an endpoint that does not exist has no error")
	}
	p.want(t, 0)
}

// An app is known once WeChat has issued a token for it: before that, anybody may have made its appid up.
// What is in the store of either ends.
func TestLearnedMadeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, p := newMemoryStore(), newPlatform()
		l := newLearner(t, st, p)
		fetch := func(secret string, wantKnown bool) {
			t.Helper()
			if answer, known, err := l.Fetch(t.Context(), "stable_token", appid, secret); known != wantKnown || err != nil {
				t.Errorf("Fetch = %s, known %v, %v, want known %v", answer, known, err, wantKnown)
			}
		}
		wantUnknown := func(want int) {
			t.Helper()
			unknown := 0
			for _, e := range l.events {
				if e.Unknown {
					unknown++
				}
			}
			if unknown != want {
				t.Errorf("%d events of unknown apps, want %d", unknown, want)
			}
		}
		fetch("made up", false)
		wantUnknown(1)
		if len(l.counts) > 0 {
			t.Errorf("counted %q for an app that may be made up", l.counts)
		}
		fetch(secretOf(appid), true)
		fetch(secretOf(appid), true)
		if len(l.counts) != 1 {
			t.Errorf("counted %q, want the one fetch", l.counts)
		}
		l.Dead(t.Context(), "c4n4ry-"+appid+"-1")
		p.set(func(p *platform) { p.answer = `{"errcode":40125,"errmsg":"invalid appsecret"}` })
		fetch(secretOf(appid), true) // refused, and known all the same
		if len(l.counts) != 2 {
			t.Errorf("counted %q, want the refused fetch of a known app too", l.counts)
		}
		wantUnknown(1)

		for i := range 100 {
			_, _, _ = l.Fetch(t.Context(), "token", fmt.Sprint("wxmadeup", i), "made up")
		}
		st.last = st.words.Load() + 100*2 // what is past the budget reads the fleet's key and its record, and writes nothing
		for i := range 100 {
			_, _, _ = l.Fetch(t.Context(), "token", fmt.Sprint("wxmadeup", 100+i), "made up")
		}
		if got := l.seen(token.StoreFailed); got > 0 || st.words.Load() != st.last {
			t.Errorf("100 made-up appids past the budget cost %d operations of the store more than 200", st.words.Load()-st.last)
		}
		st.last = 0
		time.Sleep(10 * time.Minute)
		if left := st.left(); len(left) > 4 {
			t.Errorf("10 minutes later the store has %q, want what is of the app that exists", left)
		}
		time.Sleep(24 * time.Hour)
		if left := st.left(); !slices.Equal(left, []string{"learned hmac-key"}) {
			t.Errorf("a day later the store has %q, want the fleet's key only", left)
		}
	})
}

// However many ask for whatever, WeChat is asked at most 10 times a minute for an app and 60 times
// in total, by all gateways together.
func TestLearnedBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, p := newMemoryStore(), newPlatform()
		gateways := []*learner{newLearner(t, st, p), newLearner(t, st, p), newLearner(t, st, p)}
		refused := 0
		for i := range 60 {
			answer, _, err := gateways[i%3].Fetch(t.Context(), "token", appid, fmt.Sprint("wrong", i))
			if err != nil {
				t.Fatal(err)
			}
			if string(answer) == tooManyAsks {
				refused++
			}
			time.Sleep(500 * time.Millisecond)
		}
		p.want(t, 10)
		if refused != 50 {
			t.Errorf("%d were refused by us, want 50", refused)
		}
		gateways[0].wantAnswer(t, "stable_token", appid, secretOf(appid), tooManyAsks)
		gateways[0].fetch(t, "stable_token", "wx2")
		p.want(t, 11)
		time.Sleep(30*time.Second - time.Nanosecond) // the first is one minute old, but for that
		gateways[1].wantAnswer(t, "stable_token", appid, secretOf(appid), tooManyAsks)
		time.Sleep(time.Nanosecond)
		gateways[1].wantFetch(t, "stable_token", "2", 7200)
		p.want(t, 12)
		time.Sleep(time.Minute)

		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				id := fmt.Sprintf("wxmany%d", i)
				_, _, _ = gateways[i%3].Fetch(t.Context(), "token", id, secretOf(id))
			})
		}
		wg.Wait()
		p.want(t, 12+60)
		gateways[2].wantFetch(t, "stable_token", "2", 7200-60) // what is shared costs nothing
	})
}

// A token that WeChat calls dead is not shared any longer, by no gateway, but names its app: those
// who still have it are to hear of it from WeChat.
func TestLearnedDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, p := newMemoryStore(), newPlatform()
		a, b := newLearner(t, st, p), newLearner(t, st, p)
		a.wantFetch(t, "token", "1", 7200)
		b.wantFetch(t, "token", "1", 7200)
		first := "c4n4ry-" + appid + "-1"
		b.Dead(t.Context(), first)
		a.wantApp(t, first, appid)
		b.wantApp(t, first, appid)
		a.wantFetch(t, "token", "2", 7200)
		b.wantFetch(t, "token", "2", 7200)
		p.want(t, 2)
		for range 20 { // a call that was under way, a stranger's token, a third party's, nonsense
			a.Dead(t.Context(), first)
			b.Dead(t.Context(), "57_nobodys")
			b.Dead(t.Context(), "")
		}
		if err := a.Remember(t.Context(), "57_theirs", appid, time.Hour); err != nil {
			t.Fatal(err)
		}
		b.Dead(t.Context(), "57_theirs")
		b.wantApp(t, "57_theirs", appid)
		b.wantFetch(t, "token", "2", 7200)
		p.want(t, 2)
	})
}

// stable_token gives out a token that is dead to somebody for as long as it is young enough. That
// is WeChat's word, and good until somebody says once more that it is dead.
func TestLearnedDeadAndGivenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		l := newLearner(t, newMemoryStore(), p)
		for i := range 3 {
			for range 3 {
				l.wantFetch(t, "stable_token", "1", 7200)
			}
			p.want(t, i+1)
			l.Dead(t.Context(), "c4n4ry-"+appid+"-1")
		}
	})
}

// A gateway that finds the lease free may be a moment late: somebody else has just fetched.
func TestLearnedFetchedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, p := newMemoryStore(), newPlatform()
		a := newLearner(t, st, p)
		b := newLearner(t, &between{st, func() { a.wantFetch(t, "token", "1", 7200) }}, p)
		b.wantFetch(t, "token", "1", 7200)
		p.want(t, 1)
	})
}

// An API that calls every token dead must not make us end those of the others over and over: five
// times in 25 minutes, as for an app that is configured.
func TestLearnedDeadAllTheTime(t *testing.T) {
	// Of stable_token WeChat allows 10,000 a minute, and none ends another.
	for endpoint, want := range map[string]int{"token": 24 * 12, "stable_token": 24 * 60 * 6} {
		t.Run(endpoint, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlatform()
				l := newLearner(t, newMemoryStore(), p)
				for began := time.Now(); time.Since(began) < 24*time.Hour; time.Sleep(10 * time.Second) {
					answer, _, err := l.Fetch(t.Context(), endpoint, appid, secretOf(appid))
					if err != nil {
						t.Fatal(err)
					}
					var a struct {
						Token string `json:"access_token"`
					}
					if _ = json.Unmarshal(answer, &a); a.Token != "" {
						l.Dead(t.Context(), a.Token)
					} else if string(answer) != tooManyAsks {
						t.Fatalf("Fetch = %s", answer)
					}
				}
				if got := len(p.asked); got < want-10 || got > want+10 {
					t.Errorf("WeChat was asked %d times in a day, want about %d", got, want)
				}
			})
		})
	}
}

// What is no token is not shared, and never takes the place of one that is good.
func TestLearnedUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, p := newMemoryStore(), newPlatform()
		l := newLearner(t, st, p)
		for _, change := range []func(*platform){
			func(p *platform) { p.status = 502 },
			func(p *platform) { p.answer = `{"errcode":-1,"errmsg":"system error"}` },
			func(p *platform) { p.answer = `<html>c4n4ry</html>` },
			func(p *platform) { p.latency = time.Minute },
		} {
			for _, endpoint := range []string{"token", "stable_token"} {
				p.set(change)
				answer, _, err := l.Fetch(t.Context(), endpoint, appid, secretOf(appid))
				if !errors.Is(err, token.ErrUnavailable) || answer != nil {
					t.Errorf("Fetch = %s, %v, want ErrUnavailable", answer, err)
				}
				wantSecretless(t, fmt.Sprintf("%s %+v %#v", err, err, err))
				p.set(func(p *platform) { p.status, p.answer, p.latency = 0, "", 0 })
			}
		}
		p.want(t, 8)
		l.wantFetch(t, "token", "3", 7200)
		time.Sleep(100 * time.Minute)
		for _, answer := range []string{`<html>`, `{"errcode":45009,"errmsg":"reach max api daily quota limit"}`} {
			p.set(func(p *platform) { p.answer = answer })
			l.wantFetch(t, "token", "3", 1200)
			l.wantFetch(t, "token", "3", 1200)
		}
		time.Sleep(20*time.Minute - 30*time.Second) // with 30 s left it is good for nothing
		l.wantAnswer(t, "token", appid, secretOf(appid), p.answer)
	})
}

// A caller that goes away does not take the fetch with it that others wait for.
func TestLearnedCallersLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		p.latency = 3 * time.Second
		l := newLearner(t, newMemoryStore(), p)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { _, _, _ = l.Fetch(ctx, "token", appid, secretOf(appid)) }) // makes the fetch
		synctest.Wait()
		wg.Go(func() { l.wantFetch(t, "token", "1", 7197) })
		wg.Go(func() {
			if _, _, err := l.Fetch(ctx, "token", appid, secretOf(appid)); !errors.Is(err, context.DeadlineExceeded) || time.Now().Nanosecond() != 0 {
				t.Errorf("Fetch = %v, want the caller's own deadline", err)
			}
		})
		wg.Wait()
		p.want(t, 1)
	})
}

// A gateway that dies while it fetches keeps the others waiting for its lease, and no longer.
func TestLearnedHolderDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, p := newMemoryStore(), newPlatform()
		a, b := newLearner(t, st, p), newLearner(t, st, p)
		a.wantFetch(t, "token", "1", 7200)
		var share string
		for line := range strings.Lines(st.dump()) {
			if key, _, ok := strings.Cut(line, " = "); ok && strings.HasPrefix(key, appid+" learned:token:") {
				share = strings.TrimPrefix(key, appid+" ")
			}
		}
		a.Dead(t.Context(), "c4n4ry-"+appid+"-1")
		if held, err := st.Lease(t.Context(), appid, share, "another", 8*time.Second); !held || err != nil {
			t.Fatal(held, err)
		}
		began := time.Now()
		b.wantFetch(t, "token", "2", 7200)
		if took := time.Since(began); took < 8*time.Second || took > 9*time.Second {
			t.Errorf("it took %s, want 8s", took)
		}
		b.Dead(t.Context(), "c4n4ry-"+appid+"-2")
		if held, err := st.Lease(t.Context(), appid, share, "another", time.Hour); !held || err != nil {
			t.Fatal(held, err)
		}
		if _, _, err := b.Fetch(t.Context(), "token", appid, secretOf(appid)); !errors.Is(err, token.ErrUnavailable) {
			t.Errorf("Fetch = %v, want ErrUnavailable", err)
		}
	})
}

// The store holds no secret, and no token but the one that is shared.
func TestLearnedStoreHoldsNoSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, p := newMemoryStore(), newPlatform()
		l := newLearner(t, st, p)
		l.wantFetch(t, "token", "1", 7200)
		l.wantAnswer(t, "token", appid, "canary-wrong", `{"errcode":40125,"errmsg":"invalid appsecret rid: 1-2-3"}`)
		if err := l.Remember(t.Context(), "c4n4ry-authorizer", "wx2", time.Hour); err != nil {
			t.Fatal(err)
		}
		text := st.dump()
		if shared := "c4n4ry-" + appid + "-1"; strings.Count(text, shared) != 1 {
			t.Errorf("the shared token is in the store %d times, want 1:\n%s", strings.Count(text, shared), text)
		} else {
			text = strings.ReplaceAll(text, shared, "")
		}
		wantSecretless(t, text)
		for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
			wantSecretless(t, fmt.Sprintf(format, l.Learned))
		}
	})
}

// Two fleets that share nothing have different HMACs of one secret, and so has a fleet whose store
// holds something that is no key.
func TestLearnedFleetKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var keys []string
		for range 2 {
			st, p := newMemoryStore(), newPlatform()
			a, b := newLearner(t, st, p), newLearner(t, st, p)
			a.wantFetch(t, "token", "1", 7200)
			key, err := st.Get(t.Context(), "learned", "hmac-key")
			if err != nil || len(key) != 32 {
				t.Fatalf("the key is %x, %v, want 32 bytes", key, err)
			}
			keys = append(keys, string(key))

			st.clear()                         // and the token, which a still has
			a.wantFetch(t, "token", "1", 7200) // gives back both
			b.wantFetch(t, "token", "1", 7200)
			b.wantApp(t, "c4n4ry-"+appid+"-1", appid)
			if again, _ := st.Get(t.Context(), "learned", "hmac-key"); !bytes.Equal(again, key) {
				t.Error("the fleet has another key after its store was emptied")
			}
			p.want(t, 1)

			st.put("learned", "hmac-key", "short")
			b.wantFetch(t, "token", "1", 7200) // by itself
			if b.seen(token.StoreFailed) != 1 {
				t.Errorf("events %+v, want one failure of the store", b.events)
			}
		}
		if keys[0] == keys[1] {
			t.Error("two fleets have the same key")
		}
	})
}

// Without the store a gateway shares with itself, within a budget of its own, and gives the store
// what it has when that is back.
func TestLearnedStoreDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, p := newMemoryStore(), newPlatform()
		a, b := newLearner(t, st, p), newLearner(t, st, p)
		st.down.Store(true)
		for range 3 {
			a.wantFetch(t, "token", "1", 7200)
		}
		p.want(t, 1)
		first := "c4n4ry-" + appid + "-1"
		a.wantApp(t, first, appid)
		a.Dead(t.Context(), first)
		a.wantFetch(t, "token", "2", 7200)
		p.want(t, 2)
		for i := range 20 {
			_, _, _ = a.Fetch(t.Context(), "token", appid, fmt.Sprint("wrong", i))
		}
		p.want(t, 10)
		if err := a.Remember(t.Context(), "57_theirs", "wx2", time.Hour); err == nil {
			t.Error("Remember has no error")
		} else {
			wantSecretless(t, err.Error())
		}
		a.wantApp(t, "57_theirs", "wx2")
		b.wantApp(t, "57_theirs", "")
		time.Sleep(30 * time.Minute)
		a.wantApp(t, "57_theirs", "wx2") // time to ask the store again, but it does not answer
		if a.seen(token.StoreFailed) == 0 {
			t.Error("nobody was told that the store is down")
		}

		st.down.Store(false)
		a.wantApp(t, "57_theirs", "wx2")
		time.Sleep(2 * time.Second)
		a.wantApp(t, "57_theirs", "wx2") // asks the store, and tells it
		b.wantApp(t, "57_theirs", "wx2")
		a.wantFetch(t, "token", "2", 7200-30*60-2)
		b.wantFetch(t, "token", "2", 7200-30*60-2)
		b.wantApp(t, "c4n4ry-"+appid+"-2", appid)
		p.want(t, 10)

		st.down.Store(true)
		a.Dead(t.Context(), "c4n4ry-"+appid+"-2")
		st.down.Store(false)
		a.wantFetch(t, "token", "3", 7200)
		b.wantFetch(t, "token", "3", 7200)
	})
}

// Whenever the store fails there is a token, WeChat is asked no more often than must be, and
// afterwards the fleet has the token in common.
func TestLearnedStoreFails(t *testing.T) {
	for _, lossy := range []bool{false, true} {
		for last := range int64(12) {
			t.Run(fmt.Sprintf("after %d words, lossy %v", last, lossy), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					st, p := newMemoryStore(), newPlatform()
					st.last, st.lossy = last, lossy
					a, b := newLearner(t, st, p), newLearner(t, st, p)
					a.wantFetch(t, "token", "1", 7200)
					a.wantApp(t, "c4n4ry-"+appid+"-1", appid)
					st.last = 0
					time.Sleep(10 * time.Second) // what is left of a lease
					a.wantFetch(t, "token", "1", 7190)
					b.wantFetch(t, "token", "1", 7190)
					b.wantApp(t, "c4n4ry-"+appid+"-1", appid)
					p.want(t, 1)
					b.Dead(t.Context(), "c4n4ry-"+appid+"-1")
					a.wantFetch(t, "token", "2", 7200)
					b.wantFetch(t, "token", "2", 7200)
					p.want(t, 2)
				})
			})
		}
	}
}

// Secrets without end do not fill the memory.
func TestLearnedManySecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		l := newLearner(t, newMemoryStore(), p)
		l.wantFetch(t, "token", "1", 7200)
		for i := range 1100 {
			_, _, _ = l.Fetch(t.Context(), "token", appid, fmt.Sprint("wrong", i))
		}
		l.wantFetch(t, "token", "1", 7200)
		p.want(t, 10)
	})
}

func TestLearnedNoStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		l := newLearner(t, nil, p)
		l.wantFetch(t, "stable_token", "1", 7200)
		l.wantFetch(t, "stable_token", "1", 7200)
		p.want(t, 1)
		if err := l.Remember(t.Context(), "57_theirs", "wx2", time.Hour); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		l.wantApp(t, "57_theirs", "wx2")
		l.wantApp(t, "57_nobodys", "")
		time.Sleep(time.Minute)
		l.wantApp(t, "57_theirs", "")
		l.wantApp(t, "c4n4ry-"+appid+"-1", appid)
		l.Dead(t.Context(), "c4n4ry-"+appid+"-1")
		p.set(func(p *platform) { delete(p.stable, appid) })
		l.wantFetch(t, "stable_token", "2", 7200)
		p.want(t, 2)
		for range 30 * 60 {
			l.wantAnswer(t, "token", appid, "canary-wrong", `{"errcode":40125,"errmsg":"invalid appsecret rid: 1-2-3"}`)
			time.Sleep(time.Second)
		}
		p.want(t, 2+30*6)
	})
}

func TestLearnedRemember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemoryStore()
		a, b := newLearner(t, st, nil), newLearner(t, st, nil)
		b.wantApp(t, "57_x", "") // which b remembers for a second
		for range 2 {
			if err := a.Remember(t.Context(), "57_x", appid, 2*time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		a.wantApp(t, "57_x", appid)
		time.Sleep(time.Second)
		b.wantApp(t, "57_x", appid)
		if err := b.Remember(t.Context(), "57_x", "wx2", 2*time.Hour); err != nil { // WeChat knows best
			t.Fatal(err)
		}
		b.wantApp(t, "57_x", "wx2")
		time.Sleep(time.Minute)
		a.wantApp(t, "57_x", "wx2")
		time.Sleep(2 * time.Hour)
		a.wantApp(t, "57_x", "")

		for _, tt := range []struct {
			token, appid string
			life         time.Duration
		}{
			{"", appid, time.Hour},
			{"canary canary", appid, time.Hour},
			{strings.Repeat("canary", 400), appid, time.Hour},
			{"canary", "", time.Hour},
			{"canary", "wx 1", time.Hour},
			{"canary", "learned", time.Hour},
			{"canary", appid, 0},
		} {
			if err := a.Remember(t.Context(), tt.token, tt.appid, tt.life); err == nil {
				t.Errorf("Remember(%.10q, %q, %s) has no error", tt.token, tt.appid, tt.life)
			} else {
				wantSecretless(t, err.Error())
			}
			a.wantApp(t, tt.token, "")
		}
	})
}

// A token in use costs a word with the store a minute, one that nobody knows one a second, and
// however many of those there are they cost at most a thousand a second and push nothing out.
func TestLearnedLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemoryStore()
		a, b := newLearner(t, st, nil), newLearner(t, st, nil)
		if err := a.Remember(t.Context(), "57_x", appid, 2*time.Hour); err != nil {
			t.Fatal(err)
		}
		cost := func(want int64, do func()) {
			t.Helper()
			before := st.words.Load()
			do()
			if got := st.words.Load() - before; got != want {
				t.Errorf("%d words with the store, want %d", got, want)
			}
		}
		cost(0, func() { a.wantApp(t, "57_x", appid) })
		cost(1, func() {
			for range 100 {
				b.wantApp(t, "57_x", appid)
				b.wantApp(t, "not a token", "")
			}
		})
		time.Sleep(time.Minute - time.Nanosecond)
		cost(0, func() { b.wantApp(t, "57_x", appid) })
		time.Sleep(time.Nanosecond)
		cost(1, func() {
			for range 100 {
				b.wantApp(t, "57_x", appid)
			}
		})
		time.Sleep(time.Minute)
		st.down.Store(true)
		cost(1, func() {
			for range 100 {
				b.wantApp(t, "57_x", appid)
			}
		})
		st.down.Store(false)
		time.Sleep(time.Second)
		b.wantApp(t, "57_x", appid)
		cost(1, func() {
			for range 100 {
				b.wantApp(t, "57_nobodys", "")
			}
		})
		time.Sleep(time.Second)
		cost(1, func() { b.wantApp(t, "57_nobodys", "") })

		time.Sleep(time.Second)
		cost(1000, func() {
			for i := range 30_000 {
				b.wantApp(t, fmt.Sprint("57_garbage", i), "")
			}
		})
		cost(0, func() { b.wantApp(t, "57_x", appid) })
		time.Sleep(time.Second)
		cost(1000, func() {
			for i := range 30_000 {
				b.wantApp(t, fmt.Sprint("57_garbage", i), "")
				b.wantApp(t, "57_x", appid)
			}
		})
	})
}

// Of more tokens than fit into memory those in use stay.
func TestLearnedManyTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemoryStore()
		l := newLearner(t, st, nil)
		for i := range 40_000 {
			if err := l.Remember(t.Context(), fmt.Sprint("57_", i), fmt.Sprint("wx", i), 2*time.Hour); err != nil {
				t.Fatal(err)
			}
			l.wantApp(t, "57_0", "wx0")
		}
		if got := st.words.Load(); got != 40_000 {
			t.Errorf("%d words with the store, want one for each token", got)
		}
		st.down.Store(true)
		time.Sleep(time.Second)
		known := 0
		for i := range 40_000 {
			if _, ok := l.App(t.Context(), fmt.Sprint("57_", i)); ok {
				known++
			}
		}
		if known < 5_000 || known > 10_000 {
			t.Errorf("%d tokens are in memory, want 5,000 to 10,000", known)
		}
		l.wantApp(t, "57_0", "wx0")
		l.wantApp(t, "57_39999", "wx39999")
	})
}

// Records that somebody else has broken are no worse than none.
func TestLearnedForeignRecords(t *testing.T) {
	for _, raw := range []string{"x", "null", "{}", `{"app":"a b","ends_ms":99999999999999}`, `{"app":"wx1","ends_ms":1}`, `[{"app":1}]`} {
		synctest.Test(t, func(t *testing.T) {
			st, p := newMemoryStore(), newPlatform()
			st.put("learned", "fetches", raw)
			l := newLearner(t, st, p)
			l.wantFetch(t, "token", "1", 7200)
			var hash, share string
			for line := range strings.Lines(st.dump()) {
				if key, _, _ := strings.Cut(line, " = "); strings.HasPrefix(key, "learned token:") {
					hash = key
				} else if strings.HasPrefix(key, appid+" learned:") {
					share = key
				}
			}
			st.put("learned", strings.TrimPrefix(hash, "learned "), raw)
			st.put(appid, strings.TrimPrefix(share, appid+" "), raw)
			b := newLearner(t, st, p)
			b.wantApp(t, "c4n4ry-"+appid+"-1", "")
			b.wantFetch(t, "token", "2", 7200)
			b.wantApp(t, "c4n4ry-"+appid+"-2", appid)
			p.want(t, 2)
		})
	}
}

// On the file that one gateway keeps, as on the stores of the other tests.
func TestLearnedOnAFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		st := file(t)
		newLearner(t, st, p).wantFetch(t, "stable_token", "1", 7200)
		again := newLearner(t, st, p)
		again.wantFetch(t, "stable_token", "1", 7200)
		again.wantApp(t, "c4n4ry-"+appid+"-1", appid)
		again.Dead(t.Context(), "c4n4ry-"+appid+"-1")
		p.set(func(p *platform) { delete(p.stable, appid) })
		newLearner(t, st, p).wantFetch(t, "stable_token", "2", 7200)
		p.want(t, 2)
	})
}

func BenchmarkLearnedApp(b *testing.B) {
	l := token.NewLearned(token.LearnedOptions{Store: newMemoryStore()})
	shown := "57_" + strings.Repeat("x", 133)
	if err := l.Remember(b.Context(), shown, appid, time.Hour); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := l.App(b.Context(), shown); !ok {
			b.Fatal("it is not known")
		}
	}
}
