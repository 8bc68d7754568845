package main

import (
	"go.uber.org/zap"

	"wxproxy/config"
	"wxproxy/history"
	"wxproxy/limits"
	"wxproxy/proxy"
)

// newRecorder composes the history of calls. It is in the store, beside the counters.
func newRecorder(g *gateway, c *config.Config) *history.Recorder {
	var kept history.Store
	if db := g.store.Bolt(); db != nil {
		kept = history.NewBolt(db, g.store.Prefix())
	} else {
		kept = history.NewRedis(g.store.Redis(), g.store.Prefix(), g.id)
	}
	return history.New(history.Options{
		Store: kept, Gateway: g.id, Zone: c.Table.Zone,
		Apps: func() []string {
			apps := g.allApps()
			ids := make([]string, len(apps))
			for i, app := range apps {
				ids[i] = app.AppID
			}
			return ids
		},
		Observe: func(err error) {
			if err != nil {
				g.log.Warn("the history of calls was not stored: it is kept in memory until the store answers", zap.Error(err))
				return
			}
			g.log.Info("the history of calls is stored again")
		},
	})
}

// remember adds a call to the history: what became of it, and the sendings before, which are those that met a dead token.
func (g *gateway) remember(r *proxy.Record) {
	e := eventOf(r)
	g.history.Add(e)
	before := r.Attempts
	if e.Outcome.Sent() {
		before--
	}
	e.Outcome = history.Outcome{Kind: history.TokenDied}
	for range before {
		g.history.Add(e)
	}
}

// eventOf returns what the history counts of a call, at the time of its end. An account is in it only if its
// name is known, so that made-up appids are those of none.
func eventOf(r *proxy.Record) history.Event {
	e := history.Event{Rule: r.Rule, Caller: r.Caller, Outcome: outcomeOf(r), At: r.Time.Add(r.Duration)}
	if r.App != "" {
		e.App = r.AppID
	}
	return e
}

func outcomeOf(r *proxy.Record) history.Outcome {
	switch {
	case r.Reason != "":
		return history.Outcome{Kind: history.Refused, Reason: string(r.Reason)}
	case r.Attempts == 0:
		return history.Outcome{Kind: history.Local}
	case r.Decision == limits.Shadow.String():
		return history.Outcome{Kind: history.Shadow}
	}
	switch outcome(r) {
	case "transport_error":
		return history.Outcome{Kind: history.TransportError}
	case "http_error":
		return history.Outcome{Kind: history.HTTPError}
	case "errcode":
		return history.Outcome{Kind: history.Rejected, Errcode: r.ErrCode}
	}
	return history.Outcome{Kind: history.Passed}
}
