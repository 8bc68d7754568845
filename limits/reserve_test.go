package limits

import (
	"errors"
	"testing"
	"time"
)

// What is left of a reserve goes to its caller only, however the calls come, and the rest to everybody.
func TestReserve(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			r := rule("a", "/cgi-bin/a", "10/day", "12/month")
			r.Reserve = map[string]int64{"oncall": 3, "night": 2}
			l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": rules(t, r)})
			send := func(caller string, want Verdict) {
				t.Helper()
				peeked, err := l.Peek(t.Context(), Call{App: "wx1", Caller: caller, Match: l.Rules("wx1").Match("/cgi-bin/a")})
				if err != nil || peeked.Verdict != want {
					t.Errorf("Peek for %s = %s, %v, want %s", caller, peeked.Verdict, err, want)
				}
				d := takeAs(t, l, "wx1", caller, "/cgi-bin/a")
				if d.Verdict != want {
					t.Fatalf("a call of %s: %s, want %s", caller, d.Verdict, want)
				}
				if want == Pass {
					d.Done(0)
				} else if d.Remaining != 0 || d.RetryAfter < time.Second {
					t.Errorf("refused with %d left, retry after %s", d.Remaining, d.RetryAfter)
				}
			}
			send("oncall", Pass)
			for range 5 { // 4 of the reserves are left
				send("web", Pass)
			}
			for range 3 {
				send("web", RefusedReserved)
				send("", RefusedReserved)
			}
			for _, want := range []Usage{
				{Counter: "a", Used: 6, Limit: 10, Remaining: 4, Reserve: 5, Kept: 4},
				{Counter: "a@oncall", Used: 1, Reserve: 3, Kept: 2},
				{Counter: "a@night", Reserve: 2, Kept: 2},
			} {
				got := usage(t, l, "wx1", want.Counter, Day)
				if got.Used != want.Used || got.Limit != want.Limit || got.Remaining != want.Remaining || got.Reserve != want.Reserve || got.Kept != want.Kept {
					t.Errorf("usage of %s = %+v, want %+v", want.Counter, got, want)
				}
			}
			for range 2 {
				send("oncall", Pass)
			}
			send("oncall", RefusedReserved)
			for range 2 {
				send("night", Pass)
			}
			send("night", RefusedQuota)
			send("web", RefusedQuota)
		})
	}
}

// A caller with a share and a reserve has at least the one and at most the other.
func TestReserveWithinShare(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			r := rule("a", "/cgi-bin/a", "10/day")
			r.Reserve = map[string]int64{"oncall": 3}
			r.Shares = map[string]Budget{"oncall": aDay(4), "web": aDay(6)}
			l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": rules(t, r)})
			for _, step := range []struct {
				caller string
				sent   int
				then   Verdict
			}{{"web", 6, RefusedShare}, {"crm", 1, RefusedReserved}, {"oncall", 3, RefusedQuota}} {
				for i := range step.sent + 2 {
					want := Pass
					if i >= step.sent {
						want = step.then
					}
					d := takeAs(t, l, "wx1", step.caller, "/cgi-bin/a")
					if d.Verdict != want {
						t.Fatalf("call %d of %s: %s, want %s", i+1, step.caller, d.Verdict, want)
					}
					d.Done(0)
				}
			}
		})
	}
}

// A grant adds to every quota of its rule, on every gateway, and ends by itself.
func TestGrant(t *testing.T) {
	t.Parallel()
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			r := rule("a", "/cgi-bin/a", "2/day", "3/month")
			free := rule("free", "/cgi-bin/free", "unknown")
			store := s.open(t)
			l := gateway(t, store, map[string]*Ruleset{"wx1": rules(t, r, free)})
			other := l
			if s.fleet {
				other = gateway(t, s.open(t), map[string]*Ruleset{"wx1": rules(t, r, free)})
			}
			match := l.Rules("wx1").Match("/cgi-bin/a")
			sends := func(l *Limiter, n int) {
				t.Helper()
				time.Sleep(1100 * time.Millisecond) // what another gateway has changed is known
				for i := range n + 1 {
					want := Pass
					if i == n {
						want = RefusedQuota
					}
					d := takeAs(t, l, "wx1", "", "/cgi-bin/a")
					if d.Verdict != want {
						t.Fatalf("call %d of %d: %s, want %s", i+1, n, d.Verdict, want)
					}
					d.Done(0)
				}
			}
			sends(l, 2)
			if _, err := l.SetGrant(t.Context(), "wx1", l.Rules("wx1").Match("/cgi-bin/free"), 1, time.Time{}, 0); !errors.Is(err, ErrNoQuota) {
				t.Errorf("a grant for a rule without a quota: %v", err)
			}
			if _, err := l.SetGrant(t.Context(), "wx1", match, 1, time.Now().Add(-time.Second), 0); !errors.Is(err, ErrGrantTime) {
				t.Errorf("a grant that has ended: %v", err)
			}
			first, err := l.SetGrant(t.Context(), "wx1", match, 2, time.Time{}, 0)
			if err != nil || first.Calls != 2 {
				t.Fatalf("SetGrant = %v, %v", first, err)
			}
			if u := usage(t, other, "wx1", "a", Day); u.Limit != 4 || u.Grant != first || u.Remaining != 2 {
				t.Errorf("usage with a grant = %+v", u)
			}
			if now, err := other.SetGrant(t.Context(), "wx1", match, 9, time.Time{}, 0); !errors.Is(err, ErrGrantChanged) || now != first {
				t.Errorf("a grant over one that is not known = %v, %v, want %v", now, err, first)
			}
			sends(other, 2)
			until := time.Now().Add(2 * time.Second)
			second, err := other.SetGrant(t.Context(), "wx1", match, 4, until, first.At)
			if err != nil || second.At <= first.At {
				t.Fatalf("SetGrant over the first = %v, %v", second, err)
			}
			sends(l, 2)
			time.Sleep(time.Until(until) + 1100*time.Millisecond)
			sends(l, 0)
			if u := usage(t, other, "wx1", "a", Month); u.Limit != 3 || u.Grant != (Grant{}) || u.Used != 6 {
				t.Errorf("usage after the grant = %+v", u)
			}
			third, err := l.SetGrant(t.Context(), "wx1", match, 5, time.Time{}, second.At)
			if err != nil {
				t.Fatal(err)
			}
			sends(l, 1)
			if _, err := l.SetGrant(t.Context(), "wx1", match, 0, time.Time{}, third.At); err != nil {
				t.Fatal(err)
			}
			sends(other, 0)
		})
	}
}

func aDay(n int64) Budget { return Budget{Kind: Limited, Quotas: []Quota{{Limit: n, Period: Day}}} }

// As a shadow the whole gateway refuses nothing by a budget, and tells what it would have.
func TestShadowOfAll(t *testing.T) {
	for _, s := range stands(t) {
		t.Run(s.name, func(t *testing.T) {
			r := rule("a", "/cgi-bin/a", "3/day")
			r.Reserve = map[string]int64{"oncall": 2}
			l := gateway(t, s.open(t), map[string]*Ruleset{"wx1": rules(t, r, rule("denied", "/cgi-bin/denied", "denied"))})
			send := func(path string, want Verdict) {
				t.Helper()
				d := takeAs(t, l, "wx1", "web", path)
				if d.Verdict != want {
					t.Fatalf("a call of %s: %s, want %s", path, d.Verdict, want)
				}
				if d.Verdict.Sent() {
					d.Done(0)
				}
			}
			send("/cgi-bin/a", Pass)
			send("/cgi-bin/a", RefusedReserved)
			l.SetShadow(true)
			for range 3 {
				send("/cgi-bin/a", Shadow)
			}
			send("/cgi-bin/denied", RefusedDenied)
			if got := used(t, l, "wx1", "a"); got != 4 {
				t.Errorf("counted %d, want 4: what is sent is counted", got)
			}
			l.SetShadow(false)
			send("/cgi-bin/a", RefusedReserved)
		})
	}
}
