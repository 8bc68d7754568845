package admin

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wxproxy/limits"
	"wxproxy/token"
)

// What is wrong with a token is told in words, with what to do about it and when WeChat is asked again.
func TestTokenStates(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	until, ends := now.Add(time.Minute), now.Add(time.Hour)
	for name, tt := range map[string]struct {
		state token.State
		want  TokenState
	}{
		"good":    {token.State{Expires: ends, Fetched: now, By: "gw1"}, TokenState{State: "good", Expires: ends, Fetched: now, FetchedBy: "gw1"}},
		"none":    {token.State{}, TokenState{State: "none"}},
		"expired": {token.State{Expires: now, Fetched: now}, TokenState{State: "expired", Expires: now, Fetched: now}},
		"an address": {
			token.State{Expires: ends, Rejected: &token.Rejected{ErrCode: 40164, IP: "203.0.113.9", Until: until}},
			TokenState{
				State: "refused", Expires: ends, ErrCode: 40164, IP: "203.0.113.9", NextAttempt: until,
				Error: "errcode 40164: the address 203.0.113.9 is not on the IP whitelist of the account", Mend: "add 203.0.113.9 to the IP whitelist in WeChat's console",
			},
		},
		"an errcode that is not listed": {
			token.State{Rejected: &token.Rejected{ErrCode: 99999, Until: until}},
			TokenState{State: "refused", ErrCode: 99999, NextAttempt: until, Error: "errcode 99999: WeChat issues no access_token", Mend: "look the errcode up in WeChat's documentation"},
		},
		"no answer": {
			token.State{Err: fmt.Errorf("token of wx1: %w: %w", token.ErrUnavailable, errors.New("connection refused")), Retry: until},
			TokenState{
				State: "failing", NextAttempt: until, Error: "no usable answer from the token endpoint: connection refused",
				Mend: "see the log of the gateway that has asked; wxproxy doctor tests the way to WeChat",
			},
		},
	} {
		if diff := cmp.Diff(tt.want, *tokenStateOf(&tt.state, now)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestStatus(t *testing.T) {
	beat := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	o := newOperated(t, func(o *Options) {
		o.Build = Build{Version: "v1", Revision: "abc"}
		o.Reloaded = func() (time.Time, error) { return midnight, errors.New("wxproxy.yaml:3:1: lisen: unknown key") }
		o.Running = func() Running {
			return Running{ID: "gw1", Started: time.Now().Add(-61 * time.Minute), StoreKind: "redis", Config: map[string]any{"listen": "127.0.0.1:8080"}}
		}
		o.Gateways = func(context.Context) (map[string]time.Time, error) {
			return map[string]time.Time{"gw1": beat, "gw2": beat.Add(time.Second)}, nil
		}
		o.Tokens = func(_ context.Context, appids []string, _ bool) ([]*token.State, error) {
			states := make([]*token.State, len(appids))
			states[0] = &token.State{Rejected: &token.Rejected{ErrCode: 40125, Until: midnight}}
			return states, nil
		}
	})
	o.lines[2].Latched = true
	for _, target := range []string{"/api/v1/status", "/api/v1/status?app=shop"} {
		var s Status
		if status := o.ask(t, "GET", target, &s); status != 200 {
			t.Fatalf("%s = %d", target, status)
		}
		if s.Version != "v1" || s.Revision != "abc" || s.Gateway != "gw1" || s.UptimeSeconds < 3600 || s.Reload.Status != "fault" || s.Config["listen"] != "127.0.0.1:8080" {
			t.Errorf("%s: %+v", target, s)
		}
		if s.Store.Kind != "redis" || !s.Store.Answers || !s.Store.Counting {
			t.Errorf("%s: store %+v", target, s.Store)
		}
		wantGateways := []Gateway{{ID: "gw2", LastHeartbeat: beat.Add(time.Second)}, {ID: "gw1", LastHeartbeat: beat, This: true}}
		if diff := cmp.Diff(wantGateways, s.Gateways); diff != "" {
			t.Errorf("%s: gateways (-want +got):\n%s", target, diff)
		}
		want := AccountStatus{
			App: "shop", AppID: "wx0000000000000001", Profile: "p", Problem: true, Latched: []string{"mass"}, UsedUp: []string{"menu.create"},
			Token:  &TokenState{State: "refused", ErrCode: 40125, NextAttempt: midnight, Error: "errcode 40125: the AppSecret is wrong", Mend: "copy the AppSecret of the account from WeChat's console into wxproxy.yaml"},
			Clears: []Clears{{Kind: "app", Limit: 10, Remaining: 7, Reset: midnight}, {Kind: "rule", Limit: 50, Remaining: 49, Reset: midnight}},
		}
		if diff := cmp.Diff(want, s.Accounts[0]); diff != "" {
			t.Errorf("%s: account (-want +got):\n%s", target, diff)
		}
	}
	o.down = &limits.StoreError{Text: "OOM"}
	var s Status
	if status := o.ask(t, "GET", "/api/v1/status", &s); status != 200 || s.Store.Counting || s.Store.Error != "the store answered: OOM" || s.AccountsError == "" || s.Accounts[0].Error == "" {
		t.Errorf("with a store that refuses: %d %+v %+v", status, s.Store, s.Accounts)
	}
}

// Of very many accounts those with a problem are shown, and how many more there are.
func TestStatusOfManyAccounts(t *testing.T) {
	apps, _ := appsOf(10_000)
	used := make(map[string]int64)
	for i := range 300 {
		used[apps[i*33].AppID] = 100
	}
	a := newFleetOf(used).admin(apps)
	var s Status
	getInto(t, a, "/api/v1/status", &s)
	if len(s.Accounts) != mostProblems || s.LeftOut != 300-mostProblems || s.Totals.Accounts != 10_000 || s.Totals.UsedUp != 300 {
		t.Errorf("%d accounts, %d left out, %+v", len(s.Accounts), s.LeftOut, s.Totals)
	}
	for _, account := range s.Accounts {
		if !account.Problem {
			t.Errorf("%s has no problem", account.App)
		}
	}
}
