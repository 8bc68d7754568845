package main

import (
	"context"

	"wxproxy/admin"
	"wxproxy/proxy"
)

// callerUsage answers callers about their own accounts, in the words of the operators' usage.
func callerUsage(limiter admin.Limiter, history admin.Recorder) proxy.Usage {
	usages := admin.NewCallerUsages(limiter, history)
	return func(ctx context.Context, q proxy.UsageQuestion) ([]byte, error) {
		asked := admin.CallerQuestion{Caller: q.Caller, Apps: make([]admin.App, len(q.Apps)), All: q.All, May: q.May}
		for i, app := range q.Apps {
			asked.Apps[i] = admin.App{Name: app.Name, AppID: app.AppID}
		}
		if q.Only != nil {
			asked.Only = q.Only.AppID
		}
		return usages.Answer(ctx, asked)
	}
}
