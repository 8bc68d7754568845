package limits

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"
)

// granter grants everything, and keeps nothing.
type granter struct{ *memoryGateway }

func (granter) Exchange(_ context.Context, r *Request) (*Answer, error) {
	a := &Answer{Granted: r.Want, Now: time.Now().UnixMilli(), Generations: make([]int64, len(r.Windows)), Counters: make([]CounterState, len(r.Counters))}
	for i, c := range r.Counters {
		a.Counters[i] = CounterState{Used: c.Local + r.Want, Version: c.Version + 1}
	}
	return a, nil
}

// A counter that is not called at the moment takes at most 600 bytes.
func TestMemoryOfCounters(t *testing.T) {
	const apps, paths = 500, 20
	var rs []*Rule
	for i := range paths {
		rs = append(rs, rule(fmt.Sprintf("rule%d", i), fmt.Sprintf("/cgi-bin/rule%d", i), "100000/day"))
	}
	set := rules(t, rs...)
	l := gateway(t, granter{newMemory(time.Now).gateway("gateway0")}, nil)
	l.Configure(nil, set)
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for app := range apps {
		for _, r := range rs {
			for range 3 {
				take(t, l, fmt.Sprintf("wx%016d", app), r.Paths[0]).Done(0)
			}
		}
	}
	busy := heap()
	now := l.now()
	now.at, now.since, now.store = now.at.Add(2*idleGroup), now.since+2*idleGroup, now.store+2*idleGroup.Milliseconds()
	l.trim(now)
	rest := heap()
	t.Logf("a counter takes %d bytes just after it was called, %d at rest", (busy-before)/(apps*paths), (rest-before)/(apps*paths))
	if bytes := (rest - before) / (apps * paths); bytes > 600 {
		t.Errorf("a counter at rest takes %d bytes, want at most 600", bytes)
	}
	runtime.KeepAlive(l)
}
