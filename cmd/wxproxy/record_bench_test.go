package main

import (
	"io"
	"testing"
	"time"

	"go.uber.org/zap"

	"wxproxy/admin"
	"wxproxy/history"
	"wxproxy/proxy"
	"wxproxy/store"
)

// What the history adds to what follows each call: record with it, and without.
func BenchmarkRecord(b *testing.B) {
	s, err := store.Open(b.Context(), store.Options{URL: "file:" + b.TempDir() + "/wxproxy.db"})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	g := &gateway{metrics: admin.NewMetrics(admin.Build{Version: "bench"}), access: proxy.NewAccessLog(io.Discard, func(error, int64) {}), log: zap.NewNop()}
	defer g.access.Close()
	recorder := history.New(history.Options{Store: history.NewBolt(s.Bolt(), s.Prefix()), Gateway: "gw000001"})
	now := time.Now()
	record := &proxy.Record{
		Time: now, RequestID: "NBKVLMGZNREFIGJ4W4X2VSBERL", ClientIP: "127.0.0.1", Caller: "crm", App: "a", AppID: appA, Method: "GET", Path: "/cgi-bin/user/info",
		Rule: "user.info", Decision: "pass", Quota: 1000, Used: 3, Remaining: 997, Status: 200, Duration: time.Millisecond, Upstream: time.Millisecond, Attempts: 1,
	}
	b.Run("whole", func(b *testing.B) {
		g.history = recorder
		b.ReportAllocs()
		for b.Loop() {
			g.record(record)
		}
	})
	b.Run("history", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			recorder.Add(eventOf(record))
		}
	})
}
