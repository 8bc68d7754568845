package main

import (
	"go.uber.org/zap"

	"wxproxy/proxy"
)

// loopChanged logs, counts and alerts of a caller that begins to fail in a loop, and logs when that has ended.
func (g *gateway) loopChanged(l proxy.Loop) {
	g.alerts.loop(l)
	fields := []zap.Field{zap.String("app", l.App), zap.String("rule", l.Rule), zap.String("caller", l.Caller)}
	if l.Ended {
		g.seldom.Info("fuse: a loop of failing calls has ended", fields...)
		return
	}
	g.metrics.Loop(l.App, l.Rule)
	what := "fuse: calls fail in a loop and are sent all the same; fuse: on refuses them"
	if l.Refuses {
		what = "fuse: calls fail in a loop and are refused, but for one a minute"
	}
	g.seldom.Warn(what, append(fields, zap.Int("errcode", l.Errcode))...)
}
