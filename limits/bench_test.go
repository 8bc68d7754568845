package limits

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.etcd.io/bbolt"

	"wxproxy/internal/redistest"
)

func benchRules(b *testing.B) *Ruleset {
	b.Helper()
	table := &Table{Zone: time.UTC, Profiles: map[string]*Profile{"p": {Name: "p", Rules: []*Rule{
		rule("user.info", "/cgi-bin/user/info", "1000000000/day"),
		rule("menu.create", "/cgi-bin/menu/create", "1/day"),
		rule("other", "/cgi-bin/*", "unknown"),
	}}}}
	set, err := table.Rules("p", nil)
	if err != nil {
		b.Fatal(err)
	}
	return set
}

func BenchmarkCanonicalAndMatch(b *testing.B) {
	set := benchRules(b)
	b.ReportAllocs()
	for b.Loop() {
		path, err := Canonical("/cgi-bin/user/info")
		if err != nil || set.Match(path).Rule == nil {
			b.Fatal(path, err)
		}
	}
}

// BenchmarkTake is one call after another, and many at once, of a rule that is counted one by one,
// of one that is full, and of one without a figure.
func BenchmarkTake(b *testing.B) {
	set := benchRules(b)
	stores := map[string]func(b *testing.B) Counters{
		"redis": func(b *testing.B) Counters {
			b.Helper()
			client := redis.NewClient(&redis.Options{Addr: redistest.Start(b).Addr, MaxRetries: -1, ContextTimeoutEnabled: true})
			b.Cleanup(func() { _ = client.Close() })
			return NewRedis(client, "wxp:", "bench001")
		},
		"bolt": func(b *testing.B) Counters {
			b.Helper()
			db, err := bbolt.Open(filepath.Join(b.TempDir(), "wxproxy.db"), 0o600, nil)
			if err != nil {
				b.Fatal(err)
			}
			s := NewBolt(db, "wxp", nil)
			b.Cleanup(func() { _ = s.Close(); _ = db.Close() })
			return s
		},
	}
	for name, open := range stores {
		b.Run(name, func(b *testing.B) {
			for _, path := range []string{"/cgi-bin/user/info", "/cgi-bin/menu/create", "/cgi-bin/x"} {
				l := New(Options{Counters: open(b)})
				old(l) // blocks are for processes that have run for a second
				l.Configure(map[string]*Ruleset{"wx1": set}, nil)
				b.Cleanup(func() { _ = l.Close(b.Context()) })
				call := Call{App: "wx1", Match: set.Match(path)}
				take := func() {
					_, hold := l.Take(b.Context(), call)
					hold.Done(0)
				}
				what := map[string]string{"/cgi-bin/user/info": "counted", "/cgi-bin/menu/create": "full", "/cgi-bin/x": "no figure"}[path]
				b.Run(what+"/alone", func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						take()
					}
				})
				b.Run(what+"/at once", func(b *testing.B) {
					b.ReportAllocs()
					b.SetParallelism(32)
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							take()
						}
					})
				})
			}
		})
	}
}
