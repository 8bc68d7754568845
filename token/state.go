package token

import (
	"context"
	"errors"
	"time"
)

// State is what is known of the access_token of an app, for operators. It holds neither token nor secret.
type State struct {
	Fetched time.Time // when the token was fetched; zero: there is none
	Expires time.Time // zero: there is none
	By      string    // the gateway that fetched it; "" when that is not known
	Dead    bool      // WeChat has called it invalid, and no other is known

	Rejected *Rejected // WeChat has refused to issue one, and is asked again when a call needs it after Rejected.Until; nil: it has not
	Err      error     // why the last fetch of this gateway failed otherwise; nil: it did not
	Retry    time.Time // when a call may have it tried again after Err
}

// Good reports whether there is a token at now that WeChat has not called invalid.
func (s *State) Good(now time.Time) bool { return now.Before(s.Expires) && !s.Dead }

// Reader reads the values of many apps at once, as store.Store does.
type Reader interface {
	GetAll(ctx context.Context, apps []string, key string) ([][]byte, error)
}

// States returns the state of each app, in the order of appids: nil for one that is not configured. It knows what
// this process knows and, with a reader, what the fleet has in the store. Beside an error of the store it returns the
// former alone.
func (s *Source) States(ctx context.Context, from Reader, appids []string) ([]*State, error) {
	apps, now := *s.apps.Load(), s.now()
	states := make([]*State, len(appids))
	stored := make([][]byte, len(appids))
	var err error
	if from != nil {
		if read, failed := from.GetAll(ctx, appids, recordKey); failed == nil {
			stored = read
		} else {
			err = failed
		}
	}
	for i, appid := range appids {
		if a := apps[appid]; a != nil {
			states[i] = a.state(stored[i], now)
		}
	}
	return states, err
}

// state is the state of an app. stored is its record in the store, nil when that was not read or there is none.
func (a *app) state(stored []byte, now time.Time) *State {
	a.mu.Lock()
	known, p := a.known, a.pause
	a.mu.Unlock()
	known = known.merge(parse[record](stored), now)
	state := &State{Rejected: known.blocked(now, a.asker)}
	if known.Token != "" {
		state.Fetched, state.Expires, state.By = time.UnixMilli(known.Fetched), time.UnixMilli(known.Ends), known.By
		state.Dead = digest(known.Token) == known.Dead
	}
	switch b := known.Block; {
	case state.Rejected != nil:
	case now.Before(p.until) && errors.Is(p.err, ErrUnavailable):
		state.Err, state.Retry = p.err, p.until
	case b != nil && b.SecretID == a.asker.secretID: // it keeps nobody from asking any more, and nobody has
		state.Rejected = b.rejected(a.asker)
	}
	return state
}
