package token_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"wxproxy/internal/redistest"
	"wxproxy/store"
	"wxproxy/token"
)

const (
	appid  = "wx0123456789abcdef"
	secret = "s3cr3t0000000000000000000canary0"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// wechat is the two token endpoints of api.weixin.qq.com.
type wechat struct {
	mu       sync.Mutex
	secret   string
	lifetime time.Duration // of a new token
	latency  time.Duration
	made     int
	current  string // the stable token
	ends     time.Time
	forcedAt time.Time
	answer   string // if not "", every answer
	status   int    // if not 0, of every answer
	hook     func() // if not nil, called during a request, without mu
	requests []request
}

type request struct {
	at     time.Time
	method string
	uri    string
	length int64
	chunks bool
	kind   string
	body   string
	force  bool
}

func newWeChat() *wechat {
	return &wechat{secret: secret, lifetime: 2 * time.Hour}
}

func (w *wechat) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var q struct {
		Secret string `json:"secret"`
		Force  bool   `json:"force_refresh"`
	}
	_ = json.Unmarshal(body, &q) // a GET has none
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests = append(w.requests, request{
		at: time.Now(), method: r.Method, uri: r.RequestURI, length: r.ContentLength,
		chunks: len(r.TransferEncoding) > 0, kind: r.Header.Get("Content-Type"), body: string(body), force: q.Force,
	})
	if hook, wait := w.hook, w.latency; hook != nil || wait > 0 {
		w.hook = nil
		w.mu.Unlock()
		time.Sleep(wait)
		if hook != nil {
			hook()
		}
		w.mu.Lock()
	}
	rw.Header().Set("Content-Type", "application/json; encoding=utf-8")
	if w.status != 0 {
		rw.Header().Set("Location", "/elsewhere")
		rw.WriteHeader(w.status)
	}
	switch {
	case w.answer != "":
		fmt.Fprint(rw, w.answer)
	case r.URL.Path == "/cgi-bin/token" && r.URL.Query().Get("secret") != w.secret,
		r.URL.Path == "/cgi-bin/stable_token" && q.Secret != w.secret:
		fmt.Fprint(rw, `{"errcode":40125,"errmsg":"invalid appsecret rid: 1-2-3"}`)
	case r.URL.Path == "/cgi-bin/token":
		w.next()
		fmt.Fprintf(rw, `{"access_token":%q,"expires_in":%d}`, w.current, w.lifetime/time.Second)
	default:
		forced := q.Force && time.Since(w.forcedAt) >= 30*time.Second
		if forced {
			w.forcedAt = time.Now()
		}
		if forced || w.current == "" || time.Until(w.ends) < min(5*time.Minute, w.lifetime) {
			w.next()
		}
		fmt.Fprintf(rw, `{"access_token":%q,"expires_in":%d}`, w.current, time.Until(w.ends)/time.Second)
	}
}

// next makes another token current. Caller holds mu.
func (w *wechat) next() {
	w.made++
	w.current = fmt.Sprintf("c4n4ry-%d_%s", w.made, strings.Repeat("x", 120))
	w.ends = time.Now().Add(w.lifetime)
}

// kick makes another token current, as somebody who goes around the gateways would.
func (w *wechat) kick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next()
}

func (w *wechat) set(change func(*wechat)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

func (w *wechat) seen() []request {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.requests)
}

// token is the n-th that was made.
func nth(n int) string { return fmt.Sprintf("c4n4ry-%d_%s", n, strings.Repeat("x", 120)) }

// RoundTrip is the same without a network, for tests whose clock must not wait for one.
func (w *wechat) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	if in.Body == nil {
		in.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, in)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return rec.Result(), nil
}

// stand is one gateway's Source and what it was seen to do.
type stand struct {
	*token.Source
	mu     sync.Mutex
	counts []string
	events []token.Event
}

func (s *stand) kinds() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var kinds []string
	for _, e := range s.events {
		kinds = append(kinds, string(e.Kind))
	}
	return strings.Join(kinds, " ")
}

// expires is when the token that was fetched or adopted last ends.
func (s *stand) expires() (last time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if !e.Expires.IsZero() {
			last = e.Expires
		}
	}
	return last
}

func newStand(t *testing.T, o token.Options) *stand {
	t.Helper()
	s := &stand{}
	o.Count = func(_ context.Context, appid, path string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.counts = append(s.counts, appid+" "+path)
	}
	o.Observe = func(e token.Event) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.events = append(s.events, e)
		for _, text := range []string{fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e)} {
			if strings.Contains(text, "canary") || strings.Contains(text, "c4n4ry") {
				t.Errorf("event %s tells a secret or a token", text)
			}
		}
	}
	s.Source = token.New(o)
	s.Configure([]token.App{{AppID: appid, Secret: secret}})
	t.Cleanup(s.Close)
	return s
}

// storeFailed reports whether the source has gone on without its store.
func (s *stand) storeFailed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.events, func(e token.Event) bool { return e.Kind == token.StoreFailed })
}

// server serves WeChat on a port of its own.
func server(t *testing.T, w *wechat) string {
	t.Helper()
	srv := httptest.NewServer(w)
	t.Cleanup(srv.Close)
	return srv.URL
}

// file opens an embedded store, which works under a clock of synctest's too.
func file(t *testing.T) *store.Store {
	t.Helper()
	s := openStore(t, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"))
	s.Bolt().NoSync = true // what a disk keeps is package store's
	return s
}

func openStore(t *testing.T, url string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *stand) want(t *testing.T, want string) {
	t.Helper()
	if got, err := s.Token(t.Context(), appid); got != want || err != nil {
		t.Errorf("Token = %.12q, %v, want %.12q", got, err, want)
	}
}

func (s *stand) wantRenewed(t *testing.T, failed, want string) {
	t.Helper()
	if got, err := s.Renew(t.Context(), appid, failed); got != want || err != nil {
		t.Errorf("Renew(%.12q) = %.12q, %v, want %.12q", failed, got, err, want)
	}
}

func wantRequests(t *testing.T, w *wechat, want int) {
	t.Helper()
	if got := len(w.seen()); got != want {
		t.Fatalf("WeChat saw %d requests, want %d", got, want)
	}
}

func TestRequests(t *testing.T) {
	tests := []struct {
		endpoint string
		want     []request
	}{
		{"", []request{{
			method: "POST", uri: "/cgi-bin/stable_token", length: 133, kind: "application/json",
			body: `{"appid":"wx0123456789abcdef","force_refresh":false,"grant_type":"client_credential","secret":"` + secret + `"}`,
		}}},
		{"token", []request{{
			method: "GET", uri: "/cgi-bin/token?appid=wx0123456789abcdef&grant_type=client_credential&secret=" + secret,
		}}},
	}
	for _, tt := range tests {
		t.Run("endpoint "+tt.endpoint, func(t *testing.T) {
			w := newWeChat()
			s := newStand(t, token.Options{Store: file(t), Upstream: server(t, w) + "/", Endpoint: tt.endpoint})
			for range 3 {
				s.want(t, nth(1))
			}
			got := w.seen()
			for i := range got {
				got[i].at = time.Time{}
			}
			tt.want[0].length = int64(len(tt.want[0].body))
			if !slices.Equal(got, tt.want) {
				t.Errorf("requests\n%+v, want\n%+v", got, tt.want)
			}
			path, _, _ := strings.Cut(tt.want[0].uri, "?")
			if want := []string{appid + " " + path}; !slices.Equal(s.counts, want) {
				t.Errorf("counted %q, want %q", s.counts, want)
			}
			if got := s.kinds(); got != "fetched" {
				t.Errorf("events %s, want fetched", got)
			}
		})
	}
}

func TestUnknownApp(t *testing.T) {
	s := newStand(t, token.Options{})
	if _, err := s.Token(t.Context(), "wxother"); !errors.Is(err, token.ErrUnknownApp) {
		t.Errorf("Token = %v, want ErrUnknownApp", err)
	}
	if _, err := s.Renew(t.Context(), "wxother", "x"); !errors.Is(err, token.ErrUnknownApp) {
		t.Errorf("Renew = %v, want ErrUnknownApp", err)
	}
}

// A token is renewed before its end by the first call that comes late enough, which does not wait.
func TestRenewedBeforeItsEnd(t *testing.T) {
	tests := []struct {
		name     string
		lifetime time.Duration
		early    time.Duration // before its end
	}{
		{"two hours", 2 * time.Hour, 240 * time.Second},
		{"what is left of one", 345 * time.Second, 345 * time.Second / 2},
		{"short", 10 * time.Second, 5 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWeChat()
				w.lifetime = tt.lifetime
				s := newStand(t, token.Options{Store: file(t), Transport: w, Endpoint: "token"})
				s.want(t, nth(1))
				began := time.Now()
				time.Sleep(tt.lifetime - tt.early - time.Millisecond)
				s.want(t, nth(1))
				synctest.Wait()
				wantRequests(t, w, 1)

				time.Sleep(time.Millisecond)
				w.set(func(w *wechat) { w.latency = time.Second })
				for range 5 {
					s.want(t, nth(1)) // at once, and one fetch for all
				}
				if got := time.Since(began); got != tt.lifetime-tt.early {
					t.Errorf("Token waited: it is %s, want %s", got, tt.lifetime-tt.early)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				s.want(t, nth(2))
				wantRequests(t, w, 2)
				if got, want := s.expires(), began.Add(tt.lifetime-tt.early+tt.lifetime); !got.Equal(want) {
					t.Errorf("fetched until %s, want %s", got, want)
				}

				time.Sleep(tt.lifetime) // nobody calls until it has ended
				s.want(t, nth(3))
				wantRequests(t, w, 3)
			})
		})
	}
}

// stable_token gives the same token until five minutes before its end, and must not be asked again
// and again meanwhile.
func TestStableTokenIsAskedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeChat()
		s := newStand(t, token.Options{Store: file(t), Transport: w})
		for began := time.Now(); time.Since(began) < 24*time.Hour; time.Sleep(time.Second) {
			if _, err := s.Token(t.Context(), appid); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(w.seen()); got > 13 {
			t.Errorf("%d requests in 24 hours of calls, want at most 13", got)
		}
	})
}

// A caller that goes away does not take the fetch with it that others wait for.
func TestCallersLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeChat()
		w.latency = 3 * time.Second
		s := newStand(t, token.Options{Store: file(t), Transport: w})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() {
			time.Sleep(500 * time.Millisecond)
			s.want(t, nth(1))
		}()
		if _, err := s.Token(ctx, appid); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Token = %v, want the caller's own deadline", err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		s.want(t, nth(1))
		wantRequests(t, w, 1)
	})
}

func TestConfigure(t *testing.T) {
	w := newWeChat()
	s := newStand(t, token.Options{Store: file(t), Upstream: server(t, w)})
	s.want(t, nth(1))
	s.Configure([]token.App{{AppID: appid, Secret: "another"}, {AppID: "wx2", Secret: secret}})
	s.want(t, nth(1)) // goes on
	if _, err := s.Token(t.Context(), "wx2"); err != nil {
		t.Errorf("Token of a new app: %v", err)
	}
	s.Configure(nil)
	if _, err := s.Token(t.Context(), appid); !errors.Is(err, token.ErrUnknownApp) {
		t.Errorf("Token of an app that is gone = %v, want ErrUnknownApp", err)
	}
}

func TestClose(t *testing.T) {
	w := newWeChat()
	w.latency = 50 * time.Millisecond
	s := newStand(t, token.Options{Store: file(t), Upstream: server(t, w)})
	failed := make(chan error)
	go func() {
		_, err := s.Token(t.Context(), appid)
		failed <- err
	}()
	eventually(t, "a request", func() bool { return len(w.seen()) == 1 })
	s.Close()
	if err := <-failed; !errors.Is(err, token.ErrUnavailable) {
		t.Errorf("Token during Close = %v, want ErrUnavailable", err)
	}
	if _, err := s.Renew(t.Context(), appid, ""); !errors.Is(err, token.ErrClosed) && !errors.Is(err, token.ErrUnavailable) {
		t.Errorf("Renew after Close = %v, want ErrClosed", err)
	}
}

// What the store has is taken from there: by another gateway, after a restart.
func TestAdopted(t *testing.T) {
	w := newWeChat()
	st := openStore(t, redistest.Start(t).URL())
	a := newStand(t, token.Options{Store: st, Upstream: server(t, w)})
	a.want(t, nth(1))
	b := newStand(t, token.Options{Store: st, Upstream: "http://127.0.0.1:1"})
	b.want(t, nth(1))
	if got := b.kinds(); got != "adopted" {
		t.Errorf("events %s, want adopted", got)
	}

	w.kick()
	a.wantRenewed(t, nth(1), nth(2))
	wantRequests(t, w, 2)
	b.wantRenewed(t, nth(1), nth(2)) // hears of it later
	b.wantRenewed(t, nth(1), nth(2))
	if got, want := b.expires(), a.expires(); !got.Equal(want.Truncate(time.Millisecond)) {
		t.Errorf("adopted until %s, want that of the one who fetched, %s", got, want)
	}
	wantRequests(t, w, 2)
}

// The first to hear that a token is dead says so in the store before it asks for another.
func TestDeadTokenIsNotAdopted(t *testing.T) {
	w := newWeChat()
	st := file(t)
	up := server(t, w)
	a := newStand(t, token.Options{Store: st, Upstream: up})
	a.want(t, nth(1))
	w.kick()
	w.set(func(w *wechat) { w.status = http.StatusBadGateway })
	if _, err := a.Renew(t.Context(), appid, nth(1)); !errors.Is(err, token.ErrUnavailable) {
		t.Errorf("Renew = %v, want ErrUnavailable", err)
	}
	w.set(func(w *wechat) { w.status = 0 })
	b := newStand(t, token.Options{Store: st, Upstream: up})
	b.want(t, nth(2))
	if got := b.kinds(); got != "fetched" {
		t.Errorf("events %s, want fetched", got)
	}
}

// A record that somebody else has broken is no worse than none.
func TestForeignRecord(t *testing.T) {
	for _, raw := range []string{"x", "null", `{"token":"a b","ends_ms":99999999999999}`, `{"token":"old","ends_ms":1}`, `{"token":"never ends","ends_ms":9223372036854775807}`} {
		w := newWeChat()
		st := file(t)
		if err := st.Update(t.Context(), appid, "token", nil, func([]byte) ([]byte, time.Duration, error) {
			return []byte(raw), 0, nil
		}); err != nil {
			t.Fatal(err)
		}
		newStand(t, token.Options{Store: st, Upstream: server(t, w)}).want(t, nth(1))
		newStand(t, token.Options{Store: st, Upstream: "http://127.0.0.1:1"}).want(t, nth(1))
	}
}

// The hot path: every call of every client.
func TestTokenDoesNotAllocate(t *testing.T) {
	w := newWeChat()
	s := newStand(t, token.Options{Store: file(t), Upstream: server(t, w)})
	s.want(t, nth(1))
	ctx := t.Context()
	if got := testing.AllocsPerRun(1000, func() { _, _ = s.Token(ctx, appid) }); got > 0 {
		t.Errorf("Token allocates %v times, want 0", got)
	}
}

func BenchmarkToken(b *testing.B) {
	w := newWeChat()
	s := token.New(token.Options{Transport: w})
	s.Configure([]token.App{{AppID: appid, Secret: secret}})
	defer s.Close()
	ctx := b.Context()
	if _, err := s.Token(ctx, appid); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, _ = s.Token(ctx, appid)
		}
	})
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
