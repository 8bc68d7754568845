package limits

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// memory is a store in memory: the ledger, and maps around it. It is what the script and the models
// are compared with. Gateways reach it by [memory.gateway].
type memory struct {
	now func() time.Time

	mu          sync.Mutex
	share       int64            // a block is at most this part of the rest: 1000 in the real stores
	generations map[string]int64 // by app and window
	records     map[string]*record
	parts       map[string]*part // by counter, gateway and life
	gateways    map[string]time.Time
	probes      map[string]time.Time // until when the turn is taken
	paces       map[string]time.Time // theoretical arrival times
}

func newMemory(now func() time.Time) *memory {
	s := &memory{now: now, share: 1000}
	s.flush()
	return s
}

// flush loses everything, as FLUSHALL does.
func (s *memory) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generations, s.records, s.parts = map[string]int64{}, map[string]*record{}, map[string]*part{}
	s.gateways, s.probes, s.paces = map[string]time.Time{}, map[string]time.Time{}, map[string]time.Time{}
}

// used returns the count of a counter, as far as the store knows; 0 when it does not know it.
func (s *memory) used(app, window, counter string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.records[memoryKey(app, window, counter)]; c != nil {
		return c.Used
	}
	return 0
}

func memoryKey(names ...string) string { return strings.Join(names, " ") }

// exchange applies request number q of a gateway.
func (s *memory) exchange(gateway string, q int64, r *Request) *Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Life != "" {
		gateway += "." + r.Life
	}
	l := ledger{share: s.share}
	for _, w := range r.Windows {
		l.generations = append(l.generations, s.generations[memoryKey(r.App, w.Name)])
	}
	var keys []string
	for _, x := range r.Counters {
		key := memoryKey(r.App, r.Windows[x.Window].Name, x.Name)
		c, p := record{}, part{}
		if known := s.records[key]; known != nil {
			c = *known
		}
		if known := s.parts[key+"|"+gateway]; known != nil {
			p = *known
		}
		keys, l.records, l.parts = append(keys, key), append(l.records, &c), append(l.parts, &p)
	}
	a, changed := l.apply(r, q, s.now().UnixMilli())
	for i, g := range a.Generations {
		s.generations[memoryKey(r.App, r.Windows[i].Name)] = g
	}
	for i, key := range keys {
		if a.Status != Stale && changed[i] {
			s.records[key], s.parts[key+"|"+gateway] = l.records[i], l.parts[i]
		}
	}
	return a
}

// damage makes the field of a counter one that cannot be read. Like the script, it keeps what the parts
// have.
func (s *memory) damage(app, window, counter string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := memoryKey(app, window, counter)
	c := &record{Damaged: true, CounterState: CounterState{Grant: s.records[key].Grant}}
	for of, p := range s.parts {
		if strings.HasPrefix(of, key+"|") {
			if p.generation > c.Generation {
				c.Generation, c.Used = p.generation, 0
			}
			if p.generation == c.Generation {
				c.Used += p.local
			}
		}
	}
	s.records[key] = c
}

// gateway returns one gateway's access to the store. It loses nothing.
func (s *memory) gateway(id string) *memoryGateway { return &memoryGateway{store: s, id: id} }

// memoryGateway implements [Counters].
type memoryGateway struct {
	store *memory
	id    string

	mu sync.Mutex
	q  int64 // number of the last request
}

var _ Counters = (*memoryGateway)(nil)

// number returns the number of the next request.
func (g *memoryGateway) number() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.q++
	return g.q
}

func (g *memoryGateway) Exchange(ctx context.Context, r *Request) (*Answer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return g.store.exchange(g.id, g.number(), r), nil
}

func (*memoryGateway) Patience() time.Duration { return patience }

func (g *memoryGateway) Heartbeat(ctx context.Context) (n int64, err error) {
	s := g.store
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.gateways[g.id] = now
	for _, at := range s.gateways {
		if now.Sub(at) < 10*time.Minute {
			n++
		}
	}
	return n, ctx.Err()
}

func (g *memoryGateway) Read(ctx context.Context, queries []Query) ([]map[string]CounterState, error) {
	s := g.store
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make([]map[string]CounterState, len(queries))
	var errs []error
	for i, query := range queries {
		found[i] = map[string]CounterState{}
		window := memoryKey(query.App, query.Window.Name)
		for key, c := range s.records {
			name, of := strings.CutPrefix(key, window+" ")
			switch {
			case !of || len(query.Names) > 0 && !slices.Contains(query.Names, name):
			case c.Damaged:
				errs = append(errs, &DamagedError{window, name, ""})
			case c.Generation < s.generations[window]:
				found[i][name] = CounterState{Generation: s.generations[window], Grant: c.Grant}
			default:
				found[i][name] = c.CounterState
			}
		}
	}
	return found, errors.Join(append(errs, ctx.Err())...)
}

func (g *memoryGateway) Probe(ctx context.Context, app, counter string, gap time.Duration) (bool, error) {
	s := g.store
	s.mu.Lock()
	defer s.mu.Unlock()
	key := memoryKey(app, counter)
	if s.now().Before(s.probes[key]) {
		return false, ctx.Err()
	}
	s.probes[key] = s.now().Add(gap)
	return true, ctx.Err()
}

func (g *memoryGateway) Pace(ctx context.Context, app, rule string, p Pace, calls int) (time.Duration, error) {
	s := g.store
	s.mu.Lock()
	defer s.mu.Unlock()
	key, now, gap := memoryKey(app, rule), s.now(), p.Per/time.Duration(p.Rate)
	next := s.paces[key]
	if next.Before(now) {
		next = now
	}
	if wait := next.Add(gap).Sub(now) - gap*time.Duration(p.Burst); wait > 0 {
		return wait, ctx.Err()
	}
	s.paces[key] = next.Add(gap * time.Duration(calls))
	return 0, ctx.Err()
}
