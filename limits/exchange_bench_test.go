package limits

import (
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"wxproxy/internal/redistest"
)

// BenchmarkExchange is one request after another, and many at once, of one counter, of two in a day and
// a month, and of one that is full. script-µs is what Redis spends on a script.
func BenchmarkExchange(b *testing.B) {
	day := windowAt(Day, time.Now(), time.UTC)
	month := windowAt(Month, time.Now(), time.UTC)
	for _, tt := range []struct {
		name     string
		windows  []WindowReport
		counters []Report
	}{
		{"one", []WindowReport{{Window: day}}, []Report{{Name: "message.custom.send", Limit: noLimit}}},
		{"two", []WindowReport{{Window: day}, {Window: month}}, []Report{{Name: "message.custom.send", Limit: noLimit}, {Window: 1, Name: "message.custom.send", Limit: noLimit}}},
		{"full", []WindowReport{{Window: day}}, []Report{{Name: "message.custom.send", Limit: 0}}},
	} {
		client := redis.NewClient(&redis.Options{Addr: redistest.Start(b).Addr, MaxRetries: -1, ContextTimeoutEnabled: true})
		b.Cleanup(func() { _ = client.Close() })
		s := NewRedis(client, "wxp:12345678:", "bench001")
		s.client.attempt = 5 * time.Second
		var apps atomic.Int64
		// Each goroutine has an app alone: of two requests at once for one, Redis may apply the later first
		// and then refuses the other.
		run := func(b *testing.B, each func(exchange func(app int64))) {
			b.Helper()
			client.ConfigResetStat(b.Context())
			each(func(app int64) {
				counters := append([]Report(nil), tt.counters...)
				r := &Request{App: "wx" + strconv.FormatInt(app, 10), Want: 1, Windows: tt.windows, Counters: counters}
				if _, err := s.Exchange(b.Context(), r); err != nil {
					b.Fatal(err)
				}
			})
			for line := range strings.Lines(client.Info(b.Context(), "commandstats").Val()) {
				if rest, ok := strings.CutPrefix(line, "cmdstat_evalsha:"); ok {
					_, rest, _ = strings.Cut(rest, "usec_per_call=")
					rest, _, _ = strings.Cut(rest, ",")
					us, _ := strconv.ParseFloat(rest, 64)
					b.ReportMetric(us, "script-µs")
				}
			}
		}
		b.Run(tt.name+"/alone", func(b *testing.B) {
			run(b, func(exchange func(app int64)) {
				for app := int64(0); b.Loop(); app++ {
					exchange(app % 64)
				}
			})
		})
		b.Run(tt.name+"/at once", func(b *testing.B) {
			run(b, func(exchange func(app int64)) {
				b.SetParallelism(32)
				b.RunParallel(func(pb *testing.PB) {
					for app := apps.Add(1); pb.Next(); {
						exchange(app)
					}
				})
			})
		})
	}
}
