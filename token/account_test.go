package token_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wxproxy/internal/redistest"
	"wxproxy/store"
	"wxproxy/token"
)

// fleet is n gateways with one WeChat. With one store each they share what lies behind the URL.
func fleet(t *testing.T, n int, o token.Options, stores ...token.Store) []*stand {
	t.Helper()
	gateways := make([]*stand, n)
	for i := range gateways {
		o.Store = stores[i%len(stores)]
		gateways[i] = newStand(t, o)
	}
	return gateways
}

// 500 callers on each of 3 gateways find their token dead, and WeChat is asked
// once.
func TestOneFetchForAFleet(t *testing.T) {
	for _, endpoint := range []string{"stable_token", "token"} {
		t.Run(endpoint, func(t *testing.T) {
			url := redistest.Start(t).URL()
			w := newWeChat()
			gateways := fleet(t, 3, token.Options{Upstream: server(t, w), Endpoint: endpoint},
				openStore(t, url), openStore(t, url), openStore(t, url))

			all := func(call func(s *stand) (string, error), want string) {
				t.Helper()
				var wg sync.WaitGroup
				for i := range 1500 {
					wg.Go(func() {
						if got, err := call(gateways[i%3]); got != want || err != nil {
							t.Errorf("gateway %d: %.12q, %v, want %.12q", i%3, got, err, want)
						}
					})
				}
				wg.Wait()
			}
			requests := func(want int) {
				t.Helper()
				if failed := slices.ContainsFunc(gateways, func(s *stand) bool { return s.storeFailed() }); failed && len(w.seen()) != want {
					t.Skip("Redis has not answered in time on this busy machine, so each gateway fetches for itself")
				}
				wantRequests(t, w, want)
			}
			all(func(s *stand) (string, error) { return s.Token(t.Context(), appid) }, nth(1))
			requests(1)

			w.set(func(w *wechat) { w.latency = 50 * time.Millisecond })
			if endpoint == "stable_token" {
				w.kick()
			}
			all(func(s *stand) (string, error) { return s.Renew(t.Context(), appid, nth(1)) }, nth(2))
			requests(2)
			all(func(s *stand) (string, error) { return s.Renew(t.Context(), appid, nth(1)) }, nth(2)) // latecomers
			all(func(s *stand) (string, error) { return s.Token(t.Context(), appid) }, nth(2))
			requests(2)
		})
	}
}

// The holder of the lease is gone. The old token is served meanwhile, and where
// there is none another gateway takes over within 10 s.
func TestHolderDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeChat()
		st := file(t)
		s := newStand(t, token.Options{Store: st, Transport: w})
		s.want(t, nth(1))

		time.Sleep(2*time.Hour - 3*time.Minute)
		lease(t, st)
		began := time.Now()
		s.want(t, nth(1))
		if took := time.Since(began); took > 0 {
			t.Errorf("Token with an old token that is good waited %s", took)
		}
		time.Sleep(10*time.Second + 50*time.Millisecond)
		synctest.Wait()
		s.want(t, nth(2))

		lease(t, st)
		w.kick()
		began = time.Now()
		s.wantRenewed(t, nth(2), nth(3))
		if took := time.Since(began); took < 9*time.Second || took > 10*time.Second+50*time.Millisecond {
			t.Errorf("took over after %s, want when the lease has run out, after 10 s", took)
		}
	})
}

// lease takes the lease as a gateway does that dies before it can release it.
func lease(t *testing.T, st *store.Store) {
	t.Helper()
	if held, err := st.Lease(t.Context(), appid, "token", "dead", 10*time.Second); !held || err != nil {
		t.Fatalf("Lease = %v, %v, want true", held, err)
	}
}

// A holder that comes back to life after its lease has run out does not overwrite what others
// have fetched since.
func TestHolderComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeChat()
		st := file(t)
		a := newStand(t, token.Options{Store: st, Transport: w, Endpoint: "token"})
		b := newStand(t, token.Options{Store: st, Transport: w, Endpoint: "token"})
		w.set(func(w *wechat) {
			w.hook = func() { // while a waits for its answer
				time.Sleep(time.Millisecond)
				if err := st.Forget(t.Context(), appid); err != nil {
					t.Error(err)
				}
				b.want(t, nth(1))
			}
		})
		a.want(t, nth(1)) // and not its own, which is nth(2)
		wantRequests(t, w, 2)
		b.want(t, nth(1))
	})
}

// late is a store whose lease comes only after before has run, once.
type late struct {
	token.Store
	before func()
}

func (l *late) Lease(ctx context.Context, app, key, holder string, expiry time.Duration) (bool, error) {
	if before := l.before; before != nil {
		l.before = nil
		before()
	}
	return l.Store.Lease(ctx, app, key, holder, expiry)
}

// Between a look into the store and the lease another gateway may have done it all.
func TestLooksAgainWithTheLease(t *testing.T) {
	w := newWeChat()
	st := file(t)
	up := server(t, w)
	a := newStand(t, token.Options{Store: st, Upstream: up})
	b := newStand(t, token.Options{Store: &late{Store: st, before: func() { a.want(t, nth(1)) }}, Upstream: up})
	b.want(t, nth(1))
	wantRequests(t, w, 1)
}

// WeChat hands back the very token that it has just refused: only force_refresh gets another, and
// that is allowed 20 times a day and every 30 s.
func TestForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeChat()
		st := file(t)
		gateways := fleet(t, 2, token.Options{Transport: w}, st)
		a, b := gateways[0], gateways[1]
		a.want(t, nth(1))
		b.want(t, nth(1))

		a.wantRenewed(t, nth(1), nth(2))
		b.wantRenewed(t, nth(1), nth(2))
		if got := forces(w); got != 1 {
			t.Fatalf("%d requests forced a token, want 1", got)
		}
		if got := a.kinds(); got != "fetched fetched forced fetched" {
			t.Errorf("events %s", got)
		}

		// Dead again too soon: nothing is forced, by nobody, and nobody asks all the time.
		for range 100 {
			for _, s := range gateways {
				if _, err := s.Renew(t.Context(), appid, nth(2)); !errors.Is(err, token.ErrStillDead) {
					t.Fatalf("Renew = %v, want ErrStillDead", err)
				}
				s.want(t, nth(2)) // there is no better one
			}
			time.Sleep(100 * time.Millisecond)
		}
		wantRequests(t, w, 3+2)
		if got := a.kinds(); strings.Contains(got, "opened") {
			t.Errorf("events %s: want that nothing is blocked", got)
		}
		time.Sleep(20 * time.Second)
		b.wantRenewed(t, nth(2), nth(3))
		a.wantRenewed(t, nth(2), nth(3))

		// A service that gets 40001 whatever the token does not use up more than 20 a day.
		pause := 10 * time.Second
		for began := time.Now(); time.Since(began) < 23*time.Hour; time.Sleep(pause) {
			if time.Since(began) > time.Hour {
				pause = 10 * time.Minute
			}
			for _, s := range gateways {
				current, err := s.Token(t.Context(), appid)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.Renew(t.Context(), appid, current); err != nil && !errors.Is(err, token.ErrStillDead) {
					t.Fatalf("Renew = %v, want ErrStillDead", err)
				}
			}
		}
		if got := forces(w); got != 20 {
			t.Errorf("%d requests forced a token in a day, want 20", got)
		}
		var last time.Time
		for _, r := range w.seen() {
			if r.force {
				if gap := r.at.Sub(last); gap < 30*time.Second {
					t.Errorf("two forced within %s", gap)
				}
				last = r.at
			}
		}
		time.Sleep(2 * time.Hour)
		if current, err := a.Token(t.Context(), appid); err != nil {
			t.Error(err)
		} else if _, err := a.Renew(t.Context(), appid, current); err != nil {
			t.Errorf("Renew a day later: %v", err)
		}
	})
}

func forces(w *wechat) (n int) {
	for _, r := range w.seen() {
		if r.force {
			n++
		}
	}
	return n
}

// A gateway that starts with nothing better serves what WeChat gives, even if it was refused.
func TestStartWithADeadToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeChat()
		st := file(t)
		a := newStand(t, token.Options{Store: st, Transport: w})
		a.want(t, nth(1))
		a.wantRenewed(t, nth(1), nth(2))
		if _, err := a.Renew(t.Context(), appid, nth(2)); !errors.Is(err, token.ErrStillDead) {
			t.Errorf("Renew = %v, want ErrStillDead", err)
		}
		b := newStand(t, token.Options{Store: st, Transport: w})
		b.want(t, nth(2))
		if got := forces(w); got != 1 {
			t.Errorf("%d requests forced a token, want 1", got)
		}
	})
}

// The classic endpoint always gives a new token, so a service that always gets 40001 could use up
// its 2000 calls a day.
func TestClassicTokenIsNotBurnt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeChat()
		s := newStand(t, token.Options{Store: file(t), Transport: w, Endpoint: "token"})
		s.want(t, nth(1))
		current := nth(1)
		for i := range 5 { // in a row, for somebody may really have kicked it
			s.wantRenewed(t, current, nth(i+2))
			current = nth(i + 2)
		}
		if _, err := s.Renew(t.Context(), appid, current); !errors.Is(err, token.ErrStillDead) {
			t.Errorf("Renew = %v, want ErrStillDead", err)
		}
		s.want(t, current)
		for began := time.Now(); time.Since(began) < 24*time.Hour; time.Sleep(time.Minute) {
			if next, err := s.Renew(t.Context(), appid, current); err == nil {
				current = next
			}
		}
		if got := len(w.seen()); got < 280 || got > 320 {
			t.Errorf("%d fetches in a day, want one every 5 minutes", got)
		}
	})
}

// flaky is a store that can be made to fail.
type flaky struct {
	token.Store
	down atomic.Bool
}

var errDown = errors.New("the store is down")

func (f *flaky) Get(ctx context.Context, app, key string) ([]byte, error) {
	if f.down.Load() {
		return nil, errDown
	}
	return f.Store.Get(ctx, app, key)
}

func (f *flaky) Update(ctx context.Context, app, key string, was []byte, change func([]byte) ([]byte, time.Duration, error)) error {
	if f.down.Load() {
		return errDown
	}
	return f.Store.Update(ctx, app, key, was, change)
}

func (f *flaky) Lease(ctx context.Context, app, key, holder string, expiry time.Duration) (bool, error) {
	if f.down.Load() {
		return false, errDown
	}
	return f.Store.Lease(ctx, app, key, holder, expiry)
}

func (f *flaky) Release(ctx context.Context, app, key, holder string) error {
	if f.down.Load() {
		return errDown
	}
	return f.Store.Release(ctx, app, key, holder)
}

func TestStoreDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeChat()
		st := &flaky{Store: file(t)}
		s := newStand(t, token.Options{Store: st, Transport: w})
		s.want(t, nth(1))
		st.down.Store(true)

		time.Sleep(2*time.Hour - 3*time.Minute)
		for range 100 { // about to end: what is in memory will do, and WeChat is left in peace
			s.want(t, nth(1))
			synctest.Wait()
		}
		wantRequests(t, w, 1)
		if got := s.kinds(); got != "fetched store_failed" {
			t.Errorf("events %s, want one failure of the store a second", got)
		}
		time.Sleep(3 * time.Minute)
		s.want(t, nth(2)) // has ended: fetched by every gateway for itself
		wantRequests(t, w, 2)
		w.kick()
		s.wantRenewed(t, nth(2), nth(3))

		st.down.Store(false)
		w.kick()
		s.wantRenewed(t, nth(3), nth(4))
		other := newStand(t, token.Options{Store: st})
		other.want(t, nth(4))
	})
}

// Without a store a gateway is on its own from the start.
func TestNoStore(t *testing.T) {
	w := newWeChat()
	s := newStand(t, token.Options{Upstream: server(t, w)})
	s.want(t, nth(1))
	s.wantRenewed(t, nth(1), nth(2))
	if got := s.kinds(); got != "fetched fetched forced fetched" {
		t.Errorf("events %s", got)
	}
}

// A store that hangs keeps nobody waiting who has a token, and
// nobody for long who has none.
func TestFrozenRedis(t *testing.T) {
	r := redistest.Start(t)
	w := newWeChat()
	up := server(t, w)
	st := openStore(t, r.URL())
	s := newStand(t, token.Options{Store: st, Upstream: up})
	s.want(t, nth(1))
	r.Freeze()
	began := time.Now()
	s.want(t, nth(1))
	if took := time.Since(began); took > 200*time.Millisecond {
		t.Errorf("Token from memory took %s", took)
	}
	w.kick()
	s.wantRenewed(t, nth(1), nth(2))
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("Renew took %s, want the store's 250 ms and the fetch", took)
	}
	r.Thaw()
	eventually(t, "Redis", func() bool {
		_, err := st.Get(t.Context(), appid, "token")
		return err == nil
	})
	w.kick()
	s.wantRenewed(t, nth(2), nth(3))
	newStand(t, token.Options{Store: openStore(t, r.URL()), Upstream: "http://127.0.0.1:1"}).want(t, nth(3))
}

// What WeChat refuses is not asked again before the back-off has passed, by any
// gateway, and those who wait for a token get WeChat's words.
func TestBreaker(t *testing.T) {
	const tick = 100 * time.Millisecond
	doubling := []time.Duration{0, 10 * time.Second, 30 * time.Second, 70 * time.Second, 150 * time.Second, 310 * time.Second, 610 * time.Second, 910 * time.Second}
	minutes := []time.Duration{0, 1 * time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute, 5 * time.Minute}
	tests := []struct {
		errcode int
		at      []time.Duration // the first attempts
	}{
		{40164, doubling},
		{40125, doubling},
		{40243, doubling},
		{40013, doubling},
		{89501, doubling},
		{89503, doubling},
		{89506, doubling},
		{89507, doubling},
		{50002, doubling}, // one that nobody has thought of
		{45009, minutes},
		{45011, minutes},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.errcode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWeChat()
				answer := fmt.Sprintf(`{"errcode":%d,"errmsg":"invalid ip 203.0.113.9 ipv6 ::ffff:203.0.113.9, not in whitelist rid: 1"}`, tt.errcode)
				w.answer = answer
				gateways := fleet(t, 3, token.Options{Transport: w}, file(t))
				began := time.Now()
				last := tt.at[len(tt.at)-1]
				for time.Since(began) <= last+tick {
					for _, s := range gateways {
						before := time.Now()
						_, err := s.Token(t.Context(), appid)
						var rejected *token.Rejected
						if !errors.As(err, &rejected) {
							t.Fatalf("Token = %v, want a *Rejected", err)
						}
						if rejected.ErrCode != tt.errcode || answerOf(rejected) != answer {
							t.Fatalf("errcode %d, answer %s", rejected.ErrCode, answerOf(rejected))
						}
						if took := time.Since(before); took > 0 {
							t.Fatalf("Token waited %s to say no", took)
						}
						if !rejected.Until.After(time.Now()) {
							t.Fatalf("refused until %s, want a time to come", rejected.Until)
						}
					}
					time.Sleep(tick)
					synctest.Wait()
				}
				seen := w.seen()
				if len(seen) != len(tt.at) {
					t.Errorf("%d attempts, want %d", len(seen), len(tt.at))
				}
				for i, r := range seen {
					if got, late := r.at.Sub(began), r.at.Sub(began)-tt.at[min(i, len(tt.at)-1)]; late < 0 || late > time.Duration(i+1)*tick {
						t.Errorf("attempt %d after %s, want after %s", i+1, got, tt.at[min(i, len(tt.at)-1)])
					}
				}

				w.set(func(w *wechat) { w.answer = "" })
				time.Sleep(5*time.Minute + time.Second)
				for _, s := range gateways {
					s.want(t, nth(1))
					kinds := map[token.Kind]int{}
					for _, e := range s.events {
						kinds[e.Kind]++
						wantIP := ""
						if tt.errcode == 40164 && (e.Kind == token.Failed || e.Kind == token.Opened) {
							wantIP = "203.0.113.9"
						}
						if e.IP != wantIP {
							t.Errorf("event %+v: want IP %q", e, wantIP)
						}
					}
					if kinds[token.Opened] != 1 || kinds[token.Closed] != 1 {
						t.Errorf("%d opened, %d closed, want 1 each", kinds[token.Opened], kinds[token.Closed])
					}
				}
			})
		})
	}
}

// A token that is still good goes on while WeChat refuses the next.
func TestBreakerServesWhatIsGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeChat()
		s := newStand(t, token.Options{Store: file(t), Transport: w})
		s.want(t, nth(1))
		time.Sleep(2*time.Hour - 4*time.Minute)
		w.set(func(w *wechat) { w.answer = `{"errcode":40164,"errmsg":"invalid ip"}` })
		for range 239 {
			s.want(t, nth(1))
			time.Sleep(time.Second)
		}
		var rejected *token.Rejected
		if _, err := s.Renew(t.Context(), appid, nth(1)); !errors.As(err, &rejected) {
			t.Errorf("Renew = %v, want a *Rejected", err)
		}
		time.Sleep(time.Second)
		if _, err := s.Token(t.Context(), appid); !errors.As(err, &rejected) {
			t.Errorf("Token = %v, want a *Rejected", err)
		}
		if got := len(w.seen()); got > 6 {
			t.Errorf("%d requests, want at most 6", got)
		}
	})
}

// One gateway whose address is not in the whitelist must not keep the others from renewing.
func TestOneAddressRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad, good := newWeChat(), newWeChat()
		bad.answer = `{"errcode":40164,"errmsg":"invalid ip 203.0.113.9, not in whitelist"}`
		st := file(t)
		a := newStand(t, token.Options{Store: st, Transport: bad})
		b := newStand(t, token.Options{Store: st, Transport: good})
		for range 120 { // 12 s: one step of the back-off, and a little
			_, _ = a.Token(t.Context(), appid)
			_, _ = b.Token(t.Context(), appid)
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		a.want(t, nth(1))
		b.want(t, nth(1))
		if got := len(bad.seen()); got != 1 {
			t.Errorf("the bad address was tried %d times, want 1", got)
		}
	})
}

func TestNewSecretClosesTheBreaker(t *testing.T) {
	w := newWeChat()
	w.secret = "new"
	st := file(t)
	gateways := fleet(t, 2, token.Options{Upstream: server(t, w)}, st)
	a, b := gateways[0], gateways[1]
	var rejected *token.Rejected
	for _, s := range gateways {
		if _, err := s.Token(t.Context(), appid); !errors.As(err, &rejected) || rejected.ErrCode != 40125 {
			t.Fatalf("Token = %v, want 40125", err)
		}
	}
	wantRequests(t, w, 1)
	a.Configure([]token.App{{AppID: appid, Secret: secret}}) // nothing new
	if _, err := a.Token(t.Context(), appid); !errors.As(err, &rejected) {
		t.Fatalf("Token = %v, want 40125", err)
	}
	wantRequests(t, w, 1)
	a.Configure([]token.App{{AppID: appid, Secret: "new"}})
	a.want(t, nth(1))
	eventually(t, "the other gateway to hear of it", func() bool {
		got, err := b.Token(t.Context(), appid)
		return got == nth(1) && err == nil
	})
	wantRequests(t, w, 2)
}
