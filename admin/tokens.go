package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"wxproxy/token"
)

// TokenState is what is known of the access_token of an account.
type TokenState struct {
	// good; none: no call has needed one yet; expired: no call has needed one since; dead: WeChat calls it invalid;
	// refused: WeChat issues none; failing: WeChat does not answer, or with nothing that can be used. Of a token that
	// is refused or failing the old one may be good still: see expires.
	State       string    `json:"state" enum:"good,none,expired,dead,refused,failing"`
	Expires     time.Time `json:"expires,omitzero"`
	Fetched     time.Time `json:"fetched,omitzero"`
	FetchedBy   string    `json:"fetched_by,omitempty"`  // the gateway
	Error       string    `json:"error,omitempty"`       // why there is no newer one, in words
	ErrCode     int       `json:"errcode,omitempty"`     // WeChat's
	IP          string    `json:"ip,omitempty"`          // the address that WeChat saw
	Mend        string    `json:"mend,omitempty"`        // what to do about it
	NextAttempt time.Time `json:"next_attempt,omitzero"` // when WeChat is asked again, if a call needs it
}

// wrong reports whether something is to be done about a token.
func (t *TokenState) wrong() bool {
	return t != nil && (t.State == "refused" || t.State == "failing" || t.State == "dead")
}

// refusal is what an errcode of the token endpoint means, and what to do about it.
type refusal struct{ words, mend string }

const confirmAddress = "have an administrator of the account confirm the message that WeChat has sent"

// refusals are by errcode; docs/reasons.md has the same.
var refusals = map[int]refusal{
	40001: {"the AppSecret is wrong", "copy the AppSecret of the account from WeChat's console into wxproxy.yaml"},
	40013: {"WeChat does not know the appid", "correct the appid in wxproxy.yaml"},
	40125: {"the AppSecret is wrong", "copy the AppSecret of the account from WeChat's console into wxproxy.yaml"},
	40164: {"the address {ip} is not on the IP whitelist of the account", "add {ip} to the IP whitelist in WeChat's console"},
	40243: {"the AppSecret is frozen", "unfreeze it in WeChat's console"},
	45009: {"the quota of token requests is used up", "nothing: WeChat is asked again every minute; look for another program that fetches tokens of this account"},
	45011: {"tokens were asked for too often this minute", "nothing: WeChat is asked again every minute; look for another program that fetches tokens of this account"},
	50004: {"WeChat has blocked the account", "look at the notices in WeChat's console"},
	50007: {"WeChat has blocked the account", "look at the notices in WeChat's console"},
	89501: {"an administrator must confirm the address of the gateway", confirmAddress},
	89503: {"an administrator must confirm the address of the gateway", confirmAddress},
	89506: {"an administrator has refused the address of the gateway for a day", confirmAddress},
	89507: {"an administrator has refused the address of the gateway for an hour", confirmAddress},
}

// tokenStateOf puts a state in words.
func tokenStateOf(s *token.State, now time.Time) *TokenState {
	t := &TokenState{State: "good", Expires: s.Expires, Fetched: s.Fetched, FetchedBy: s.By}
	switch {
	case s.Expires.IsZero():
		t.State = "none"
	case !now.Before(s.Expires):
		t.State = "expired"
	case s.Dead:
		t.State, t.Error, t.Mend = "dead", "WeChat calls the access_token invalid", "nothing: the next call has it renewed; look for another program that fetches tokens of this account"
	}
	if s.Err != nil {
		t.State, t.NextAttempt = "failing", s.Retry
		t.Error, t.Mend = "no usable answer from the token endpoint", "see the log of the gateway that has asked; wxproxy doctor tests the way to WeChat"
		if errors.Is(s.Err, token.ErrUnavailable) {
			if _, why, ok := strings.Cut(s.Err.Error(), token.ErrUnavailable.Error()+": "); ok {
				t.Error += ": " + why
			}
		}
	}
	if r := s.Rejected; r != nil {
		t.State, t.ErrCode, t.IP, t.NextAttempt = "refused", r.ErrCode, r.IP, r.Until
		known, ok := refusals[r.ErrCode]
		if !ok {
			known = refusal{"WeChat issues no access_token", "look the errcode up in WeChat's documentation"}
		}
		address := r.IP
		if address == "" {
			address = "of the gateway"
		}
		t.Error = fmt.Sprintf("errcode %d: %s", r.ErrCode, strings.ReplaceAll(known.words, "{ip}", address))
		t.Mend = strings.ReplaceAll(known.mend, "{ip}", address)
	}
	return t
}

// tokenStates returns what the fleet knows of the tokens of apps, in their order: nil for one that is not configured.
func (a *Admin) tokenStates(ctx context.Context, apps []App) []*TokenState {
	states := make([]*TokenState, len(apps))
	if a.o.Tokens == nil {
		return states
	}
	now := time.Now()
	known, _ := a.o.Tokens(ctx, appids(apps), true) // without the store it is what this gateway knows; its state is told elsewhere
	for i := range known {
		if known[i] != nil {
			states[i] = tokenStateOf(known[i], now)
		}
	}
	return states
}

// appids are those of apps, in their order.
func appids(apps []App) []string {
	ids := make([]string, len(apps))
	for i, app := range apps {
		ids[i] = app.AppID
	}
	return ids
}
