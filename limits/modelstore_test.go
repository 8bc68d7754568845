package limits

import (
	"maps"
	"slices"
	"time"
)

// modelStore is the store of a model run: the rule of ledger.go over maps, with every fault that a
// network and a Redis can have. Its fields belong to the world's mutex.
type modelStore struct {
	w      *world
	share  int64
	offset time.Duration // its clock less the true one
	state  storeState
	frozen []func() // requests that a thaw runs
	data   map[modelWindowKey]*modelWindow
	past   []map[modelWindowKey]*modelWindow // copies of data, the newest last
	turns  map[string]time.Time              // when a counter may be probed again
	fleet  map[string]time.Time              // when a gateway registered last
	rooms  map[modelKey][]sample             // the counts of the last seconds
	lost   map[modelKey]map[string]modelLoss
	slack  map[modelKey]int64     // calls that were granted while a part was lost, at most
	losses map[modelKey]time.Time // when writes of the counter were lost last, running time
	peaks  map[string]int64       // the largest part of a life, by app, window, counter and life
}

// modelWindowKey names a window of an app.
type modelWindowKey struct{ app, window string }

// modelKey names a counter in one window.
type modelKey struct{ app, window, name string }

// modelWindow is what the store has of one app and window.
type modelWindow struct {
	Window
	generation int64
	records    map[string]record
	parts      map[string]part // by counter, | and the gateway's life
}

// sample is a count from a moment on.
type sample struct {
	at    time.Time
	used  int64
	latch int64 // it is latched until then
}

// modelLoss is a part that the store has lost and its gateway has not reported again.
type modelLoss struct {
	at         time.Time
	calls      int64
	local      int64 // the part before
	generation int64
}

// storeState is how the store takes requests.
type storeState uint8

const (
	storeUp storeState = iota
	storeDown
	storeRefusing // it answers an error
	storeFrozen
)

func newModelStore(w *world, share int64, offset time.Duration) *modelStore {
	return &modelStore{
		w: w, share: share, offset: offset,
		data: make(map[modelWindowKey]*modelWindow), turns: make(map[string]time.Time), fleet: make(map[string]time.Time),
		rooms: make(map[modelKey][]sample), lost: make(map[modelKey]map[string]modelLoss), slack: make(map[modelKey]int64),
		losses: make(map[modelKey]time.Time), peaks: make(map[string]int64),
	}
}

// now is the store's clock.
func (s *modelStore) now() time.Time { return s.w.now().Add(s.offset) }

// window returns the data of a window, new if need be.
func (s *modelStore) window(app string, w Window) *modelWindow {
	key := modelWindowKey{app, w.Name}
	if s.data[key] == nil {
		s.data[key] = &modelWindow{Window: w, records: make(map[string]record), parts: make(map[string]part)}
	}
	return s.data[key]
}

// expire drops the windows that ended a day ago.
func (s *modelStore) expire() {
	maps.DeleteFunc(s.data, func(_ modelWindowKey, w *modelWindow) bool { return !s.now().Before(w.End.Add(24 * time.Hour)) })
}

// apply applies request number q of a handle, which was sent at a time.
func (s *modelStore) apply(h *modelHandle, r *Request, q int64, sent time.Time) *Answer {
	s.expire()
	l := ledger{share: s.share}
	records, parts := make([]record, len(r.Counters)), make([]part, len(r.Counters))
	for _, w := range r.Windows {
		l.generations = append(l.generations, s.window(r.App, w.Window).generation)
	}
	life := h.id + r.Life
	for i, c := range r.Counters {
		w := s.window(r.App, r.Windows[c.Window].Window)
		records[i], parts[i] = w.records[c.Name], w.parts[c.Name+"|"+life]
		l.records, l.parts = append(l.records, &records[i]), append(l.parts, &parts[i])
	}
	a, changed := l.apply(r, q, s.now().UnixMilli())
	s.traceApply(h, r, a)
	if a.Status == Stale {
		return a
	}
	for i, w := range r.Windows {
		s.window(r.App, w.Window).generation = a.Generations[i]
	}
	a.Generations = slices.Clone(a.Generations)
	for i, c := range r.Counters {
		key := modelKey{r.App, r.Windows[c.Window].Name, c.Name}
		if changed[i] {
			w := s.window(r.App, r.Windows[c.Window].Window)
			w.records[c.Name], w.parts[c.Name+"|"+life] = records[i], parts[i]
			s.sample(key)
			peak := key.app + " " + key.window + " " + c.Name + "|" + life
			s.peaks[peak] = max(s.peaks[peak], parts[i].local)
		}
		lost := s.lost[key][life]
		full := sent.After(lost.at) || c.Local >= lost.local && c.Generation >= lost.generation || h.newest[modelKey{r.App + r.Life, key.window, c.Name}] == q
		s.reported(key, life, full, a.Granted+a.Block > 0)
		if a.Block > 0 {
			s.w.occurs("block")
		}
		if c.Generation == records[i].Generation {
			s.w.reported(h, key, sent)
		}
	}
	s.w.roomHolds(h, r, a, records, sent)
	s.expire()
	return a
}

// traceApply notes what was asked and answered.
func (s *modelStore) traceApply(h *modelHandle, r *Request, a *Answer) {
	answer := *a
	for i, c := range r.Counters {
		if a.Status == Stale {
			s.w.note("store: %s: %s, want %d+%d, local %d: stale", h.id, c.Name, r.Want, r.Block, c.Local)
			continue
		}
		state := a.Counters[i]
		s.w.note("store: %s: %s in %s, want %d+%d, local %d, e %d: status %d, %d+%d, used %d, e %d, latch %v", h.id, c.Name, r.Windows[c.Window].Name,
			r.Want, r.Block, c.Local, c.Generation, answer.Status, answer.Granted, answer.Block, state.Used, state.Generation, state.Latch)
	}
}

// sample notes the count of a counter.
func (s *modelStore) sample(key modelKey) {
	now := time.Now()
	x := sample{at: now}
	if w := s.data[modelWindowKey{key.app, key.window}]; w != nil {
		if c := w.records[key.name]; c.Generation >= w.generation {
			x.used, x.latch = c.Used, c.Latch.Until
		}
	}
	samples := append(s.rooms[key], x)
	for len(samples) > 1 && now.Sub(samples[1].at) > 3*time.Second {
		samples = samples[1:]
	}
	s.rooms[key] = samples
}

// most returns the largest count that a counter had since a moment.
func (s *modelStore) most(key modelKey, since time.Time) (most int64) {
	samples := s.rooms[key]
	for i, x := range samples {
		if i+1 == len(samples) || samples[i+1].at.After(since) {
			most = max(most, x.used)
		}
	}
	return most
}

// wasLatched reports whether a counter was latched at some moment since a time.
func (s *modelStore) wasLatched(key modelKey, since time.Time) bool {
	samples := s.rooms[key]
	for i, x := range samples {
		from, to := x.at, time.Now()
		if i+1 < len(samples) {
			to = samples[i+1].at
		}
		if from = later(from, since); to.After(since) && s.now().Add(-time.Since(from)).UnixMilli() < x.latch {
			return true
		}
	}
	return false
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// reported notes that a gateway's part is in the store again, and what others still miss when calls
// are granted.
func (s *modelStore) reported(key modelKey, life string, full, granted bool) {
	lost := s.lost[key]
	if full {
		delete(lost, life)
	}
	if granted && len(lost) > 0 {
		s.slack[key] = max(s.slack[key], s.missing(key, life))
	}
}

// hasLost reports whether writes of a counter were ever lost.
func (s *modelStore) hasLost(key modelKey) bool { return !s.losses[key].IsZero() }

// missing returns how many calls the store has lost that no gateway has reported again, but for one
// life.
func (s *modelStore) missing(key modelKey, but string) (n int64) {
	for life, p := range s.lost[key] {
		if life != but {
			n += p.calls
		}
	}
	return n
}

// replace puts other data in place of the store's, and notes which parts are lost by it.
func (s *modelStore) replace(data map[modelWindowKey]*modelWindow) {
	now := time.Now()
	for key, w := range s.data {
		for field, p := range w.parts {
			name, life := cutLast(field)
			counter := modelKey{key.app, key.window, name}
			var kept int64
			if other := data[key]; other != nil && other.parts[field].generation == p.generation {
				kept = other.parts[field].local
			}
			if s.lost[counter] == nil {
				s.lost[counter] = make(map[string]modelLoss)
			}
			s.losses[counter] = now
			if calls := max(0, p.local-kept) + s.lost[counter][life].calls; calls > 0 {
				s.lost[counter][life] = modelLoss{now, calls, p.local, p.generation}
			}
		}
	}
	s.data = data
	for key := range s.rooms {
		s.sample(key)
	}
}

// cutLast splits the field of a part into its counter and life.
func cutLast(field string) (name, life string) {
	for i := len(field) - 1; i >= 0; i-- {
		if field[i] == '|' {
			return field[:i], field[i+1:]
		}
	}
	return field, ""
}

// snapshot keeps a copy of the data for a fail-over.
func (s *modelStore) snapshot() {
	copied := make(map[modelWindowKey]*modelWindow, len(s.data))
	for key, w := range s.data {
		copied[key] = &modelWindow{w.Window, w.generation, maps.Clone(w.records), maps.Clone(w.parts)}
	}
	if s.past = append(s.past, copied); len(s.past) > 4 {
		s.past = s.past[1:]
	}
}

// failOver puts a replica in the store's place that is some steps behind.
func (s *modelStore) failOver(steps int) {
	if len(s.past) == 0 {
		return
	}
	i := max(0, len(s.past)-1-steps)
	data := s.past[i]
	s.past = s.past[:i]
	s.replace(data)
}

// forget drops all of an app.
func (s *modelStore) forget(app string) {
	maps.DeleteFunc(s.data, func(key modelWindowKey, _ *modelWindow) bool { return key.app == app })
	maps.DeleteFunc(s.lost, func(key modelKey, _ map[string]modelLoss) bool { return key.app == app })
	for _, past := range s.past {
		maps.DeleteFunc(past, func(key modelWindowKey, _ *modelWindow) bool { return key.app == app })
	}
}

// thaw runs the requests that came while the store was frozen.
func (s *modelStore) thaw() {
	for _, run := range s.frozen {
		run()
	}
	s.frozen = nil
}
