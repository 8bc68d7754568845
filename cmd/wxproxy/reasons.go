package main

import (
	"context"
	"encoding/json"
	"time"

	"wxproxy/limits"
)

// reasonsKey is the value of an app that has the reasons of its grants.
const reasonsKey = "grants"

// reasonsLife is how long reasons are kept after the last grant: longer than any grant lasts.
const reasonsLife = 32 * 24 * time.Hour

// grantReason is why an operator has set a grant, which is the one that was set at a time of the store's clock.
type grantReason struct {
	At     int64  `json:"at"`
	Until  int64  `json:"until"`
	Reason string `json:"reason"`
}

// keepReason keeps the reason of a grant beside it.
func (g *gateway) keepReason(ctx context.Context, appid, counter string, grant limits.Grant, reason string) error {
	was, err := g.store.Get(ctx, appid, reasonsKey)
	if err != nil {
		return err
	}
	return g.store.Update(ctx, appid, reasonsKey, was, func(present []byte) ([]byte, time.Duration, error) {
		reasons := make(map[string]grantReason)
		_ = json.Unmarshal(present, &reasons) // what cannot be read is written anew
		for name, r := range reasons {
			if r.Until < grant.At { // it has ended
				delete(reasons, name)
			}
		}
		if delete(reasons, counter); grant.Calls > 0 {
			reasons[counter] = grantReason{grant.At, grant.Until, reason}
		}
		next, err := json.Marshal(reasons)
		return next, reasonsLife, err
	})
}

// grantReasons returns the reasons of grants in force, by counter.
func (g *gateway) grantReasons(ctx context.Context, appid string, grants map[string]limits.Grant) (map[string]string, error) {
	value, err := g.store.Get(ctx, appid, reasonsKey)
	if err != nil {
		return nil, err
	}
	kept := make(map[string]grantReason)
	if len(value) > 0 {
		if err := json.Unmarshal(value, &kept); err != nil {
			return nil, err
		}
	}
	found := make(map[string]string)
	for counter, grant := range grants {
		if r := kept[counter]; r.At == grant.At {
			found[counter] = r.Reason
		}
	}
	return found, nil
}
