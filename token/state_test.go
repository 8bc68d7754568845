package token_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wxproxy/token"
)

// A gateway without a call of an app knows from the store what the others know of its token: until when it is good, who
// has fetched it, and why WeChat issues none.
func TestStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, st := newWeChat(), file(t)
		a := newStand(t, token.Options{Store: st, Transport: w, Gateway: "gw-a"})
		b := newStand(t, token.Options{Store: st, Transport: w, Gateway: "gw-b"})
		state := func(s *stand, from token.Reader) *token.State {
			t.Helper()
			states, err := s.States(t.Context(), from, []string{"wx9", appid})
			if err != nil || len(states) != 2 || states[0] != nil || states[1] == nil {
				t.Fatalf("States = %+v, %v: want one of the app that is configured", states, err)
			}
			if text := fmt.Sprintf("%+v %#v", *states[1], *states[1]); strings.Contains(text, "c4n4ry") || strings.Contains(text, "canary") {
				t.Errorf("a state tells a secret or a token: %s", text)
			}
			return states[1]
		}
		if s := state(a, st); s.Good(time.Now()) || !s.Expires.IsZero() || s.Rejected != nil || s.Err != nil {
			t.Errorf("before the first call: %+v", s)
		}
		a.want(t, nth(1))
		want := time.Now().Add(2 * time.Hour).Truncate(time.Millisecond)
		for name, s := range map[string]*token.State{"own memory": state(a, nil), "the store": state(b, st)} {
			if !s.Good(time.Now()) || !s.Expires.Equal(want) || s.By != "gw-a" {
				t.Errorf("%s: %+v, want a token of gw-a until %s", name, s, want)
			}
		}
		if s := state(b, nil); s.By != "" || s.Good(time.Now()) {
			t.Errorf("without the store the other one knows %+v", s)
		}

		time.Sleep(2 * time.Hour)
		w.set(func(w *wechat) {
			w.answer = `{"errcode":40164,"errmsg":"invalid ip 203.0.113.9 ipv6 ::ffff:203.0.113.9, not in whitelist rid: 1"}`
		})
		if _, err := a.Token(t.Context(), appid); err == nil {
			t.Fatal("a token from a WeChat that refuses")
		}
		s := state(b, st)
		if s.Good(time.Now()) || s.Rejected == nil || s.Rejected.ErrCode != 40164 || s.Rejected.IP != "203.0.113.9" || !s.Rejected.Until.After(time.Now()) {
			t.Errorf("refused: %+v", s)
		}

		time.Sleep(20 * time.Minute) // nobody asks again: it is the last that is known, on both
		for _, s := range []*token.State{state(a, st), state(b, st)} {
			if s.Rejected == nil || s.Rejected.ErrCode != 40164 || s.Rejected.Until.After(time.Now()) {
				t.Errorf("long after the refusal: %+v", s)
			}
		}
		w.set(func(w *wechat) { w.answer = `{"errcode":-1,"errmsg":"system error"}` })
		if _, err := a.Token(t.Context(), appid); err == nil {
			t.Fatal("a token from a WeChat that is busy")
		}
		if s := state(a, st); s.Rejected != nil || !errors.Is(s.Err, token.ErrUnavailable) || !s.Retry.After(time.Now()) {
			t.Errorf("busy: %+v", s)
		}
	})
}
