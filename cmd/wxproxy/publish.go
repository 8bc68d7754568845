package main

import (
	"wxproxy/proxy"
	"wxproxy/tail"
)

// publish gives a line of the access log to those who watch.
func (g *gateway) publish(r *proxy.Record, line []byte) {
	if !g.tail.Watched() {
		return
	}
	g.tail.Publish(&tail.Call{
		AppID: r.AppID, Rule: r.Rule, Caller: r.Caller, Decision: r.Decision, Reason: string(r.Reason), Errcode: r.ErrCode,
	}, line)
}
