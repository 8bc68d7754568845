package limits

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/time/rate"
)

// Bolt keeps counters in a bbolt file, for one process. Counts live in memory; the file holds a
// ceiling for each, raised before the count passes it. After a crash the count is the ceiling: at
// most a thousandth too high for a quota over 1000, by the calls in flight for a smaller one, and
// never too low. The process's wall clock decides which window it is; a clock that goes back finds
// yesterday's counts where they were.
//
// A counter whose value in the file is damaged begins at zero: nothing else is known of it, and to
// refuse its calls would close a month's quota until a person repairs the file. The answer reports it,
// and WeChat's own count, where it can be asked, raises it again.
type Bolt struct {
	file *boltFile
	now  func() time.Time

	mu      sync.Mutex
	windows map[windowKey]*boltWindow
	pruned  time.Time // when windows was last searched for old ones
	q       int64
	paces   map[string]*rate.Limiter
	probes  map[string]time.Time // until when the turn is taken
}

type windowKey struct{ app, name string }

// boltWindow is one app's counters in one window. All fields are covered by Bolt.mu.
type boltWindow struct {
	windowKey
	end        time.Time
	generation int64
	onFile     int64 // the generation in the file; -1: damaged
	damaged    string
	counters   map[string]*boltCounter
}

// boltCounter is a counter with the part of the only gateway. Of its lives in this process only the
// latest can still report.
type boltCounter struct {
	record
	life   string
	part   part
	onFile CounterState // what the file has, Used being the ceiling
	text   string       // in the file, of a damaged counter
}

// NewBolt returns counters in db. Close it before db. now is the clock, time.Now when nil.
func NewBolt(db *bbolt.DB, prefix string, now func() time.Time) *Bolt {
	if now == nil {
		now = time.Now
	}
	s := &Bolt{
		now:     now,
		windows: make(map[windowKey]*boltWindow),
		paces:   make(map[string]*rate.Limiter),
		probes:  make(map[string]time.Time),
	}
	s.file = newBoltFile(db, prefix, now, &s.mu)
	return s
}

// Patience is two seconds. A disk that is busy, with bodies that this very process spools for
// example, is not a store that is down: there is no other gateway to go to, and to refuse would
// turn away calls whose budget is there. Clients of WeChat wait five seconds.
func (*Bolt) Patience() time.Duration { return 2 * time.Second }

// Exchange applies the rule of the ledger, and returns when the file has what a crash must not lose.
// An error of the file is a *StoreError. What could not be written is written with the next request.
func (s *Bolt) Exchange(ctx context.Context, r *Request) (*Answer, error) {
	a, write, err := s.exchange(r)
	if err == nil {
		err = write.wait(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("counters of %s: %w", r.App, err)
	}
	return a, nil
}

func (s *Bolt) exchange(r *Request) (*Answer, *boltWrite, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	windows, counters, err := s.findLocked(r)
	if err != nil {
		return nil, nil, err
	}
	l := ledger{share: 1000}
	for _, w := range windows {
		l.generations = append(l.generations, w.generation)
	}
	for _, c := range counters {
		l.records = append(l.records, &c.record)
		l.parts = append(l.parts, &c.part)
	}
	s.q++
	a, _ := l.apply(r, s.q, s.now().UnixMilli())
	return a, s.commitLocked(r, a, windows, counters), nil
}

// findLocked returns the windows and the counters of a request, new ones where it has none.
func (s *Bolt) findLocked(r *Request) ([]*boltWindow, []*boltCounter, error) {
	windows := make([]*boltWindow, len(r.Windows))
	for i, asked := range r.Windows {
		var err error
		if windows[i], err = s.windowLocked(r.App, asked.Window); err != nil {
			return nil, nil, err
		}
	}
	counters := make([]*boltCounter, len(r.Counters))
	for i, asked := range r.Counters {
		w := windows[asked.Window]
		c := w.counters[asked.Name]
		if c == nil {
			c = &boltCounter{}
			w.counters[asked.Name] = c
		}
		if c.life != r.Life {
			c.life, c.part = r.Life, part{}
		}
		counters[i] = c
	}
	return windows, counters, nil
}

// commitLocked hands to the writer what the file has to hold before the answer may be used.
func (s *Bolt) commitLocked(r *Request, a *Answer, windows []*boltWindow, counters []*boltCounter) *boltWrite {
	write := newBoltWrite()
	for i, w := range windows {
		w.generation = a.Generations[i]
		if w.generation != w.onFile {
			write.addGeneration(w)
		}
	}
	for i, c := range counters {
		asked := r.Counters[i]
		if f := c.onFile; c.Used <= f.Used && c.Generation == f.Generation && c.Latch == f.Latch && c.Grant == f.Grant {
			continue
		}
		// A block is part of the thousandth that a crash may cost.
		ceiling := max(c.Used, min(c.Used-a.Block+step(asked)-1, asked.Limit+c.Grant.at(a.Now)))
		write.addCounter(windows[asked.Window], asked.Name, c, ceiling)
	}
	s.file.sendLocked(write)
	return write
}

// step is how far the ceiling is raised above a count: a thousandth of the limit, so that a crash
// costs no more. A counter without a figure loses nothing by 16, but a caller with a reserve would.
func step(asked Report) int64 {
	switch {
	case asked.Limit < noLimit:
		return max(1, asked.Limit/1000)
	case strings.Contains(asked.Name, "@"):
		return 1
	default:
		return 16
	}
}

// windowLocked returns a window's counters, read from the file at first use.
func (s *Bolt) windowLocked(app string, asked Window) (*boltWindow, error) {
	key := windowKey{app, asked.Name}
	if w := s.windows[key]; w != nil {
		return w, nil
	}
	w, err := s.file.read(key, asked)
	if err != nil {
		return nil, err
	}
	if now := s.now(); now.Sub(s.pruned).Abs() > time.Hour {
		s.pruned = now
		for other, old := range s.windows { // after a day, as in the file
			if now.After(old.end.AddDate(0, 0, 1)) {
				delete(s.windows, other)
			}
		}
	}
	s.windows[key] = w
	return w, nil
}

// Heartbeat returns 0: a file has one process, which cannot go on without it. After a write that
// failed it writes something small, to find out whether the file can be written again.
func (s *Bolt) Heartbeat(ctx context.Context) (int64, error) {
	s.mu.Lock()
	write := newBoltWrite()
	if s.file.failed {
		write.addTry(s.now())
	}
	s.file.sendLocked(write)
	s.mu.Unlock()
	if err := write.wait(ctx); err != nil {
		return 0, fmt.Errorf("heartbeat: %w", err)
	}
	return 0, nil
}

// Read returns the counters in memory, and those of other windows from the file.
func (s *Bolt) Read(ctx context.Context, queries []Query) ([]map[string]CounterState, error) {
	found := make([]map[string]CounterState, len(queries))
	var errs []error
	for i, query := range queries {
		if err := ctx.Err(); err != nil {
			return found, errors.Join(append(errs, err)...)
		}
		counters, damaged, err := s.readOne(query)
		if err != nil {
			return found, errors.Join(append(errs, fmt.Errorf("counters of %s: %w", query.App, err))...)
		}
		found[i] = counters
		errs = append(errs, damaged[:min(len(damaged), maxReadErrors-len(errs))]...)
	}
	return found, errors.Join(errs...)
}

func (s *Bolt) readOne(query Query) (counters map[string]CounterState, damaged []error, err error) {
	key := windowKey{query.App, query.Window.Name}
	s.mu.Lock()
	w := s.windows[key]
	s.mu.Unlock()
	if w == nil {
		if w, err = s.file.read(key, query.Window); err != nil {
			return nil, nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	place := query.App + " " + query.Window.Name + " in " + s.file.db.Path()
	if w.onFile < 0 {
		damaged = append(damaged, &DamagedError{place, generationField, w.damaged})
	}
	counters = make(map[string]CounterState, len(w.counters))
	for name, c := range w.counters {
		switch {
		case len(query.Names) > 0 && !slices.Contains(query.Names, name):
		case c.Damaged:
			damaged = append(damaged, &DamagedError{place, name, c.text})
		case c.Generation < w.generation:
			counters[name] = CounterState{Generation: w.generation, Grant: c.Grant}
		default:
			counters[name] = c.CounterState
		}
	}
	return counters, damaged, nil
}

// Probe keeps the turns in memory.
func (s *Bolt) Probe(_ context.Context, app, counter string, gap time.Duration) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, now := app+" "+counter, s.now()
	if now.Before(s.probes[key]) {
		return false, nil
	}
	s.probes[key] = now.Add(gap)
	return true, nil
}

// Pace keeps a token bucket for each app and rule in memory.
func (s *Bolt) Pace(_ context.Context, app, rule string, p Pace, calls int) (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.Join([]string{app, rule, p.String()}, " ")
	l := s.paces[key]
	if l == nil {
		l = rate.NewLimiter(rate.Every(p.Per/time.Duration(p.Rate)), p.Burst)
		s.paces[key] = l
	}
	now := s.now()
	r := l.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 || calls == 0 {
		r.CancelAt(now)
	}
	return wait, nil
}

// Close writes the exact counts in place of the ceilings and ends the writer. Later requests return an
// error. It leaves the file open.
func (s *Bolt) Close() error {
	s.mu.Lock()
	last := newBoltWrite()
	for _, w := range s.windows {
		for name, c := range w.counters {
			if c.Used != c.onFile.Used {
				last.addCounter(w, name, c, c.Used)
			}
		}
	}
	s.file.sendLocked(last)
	s.file.closeLocked()
	s.mu.Unlock()
	<-s.file.done
	if err := last.wait(context.Background()); err != nil && !errors.Is(err, errClosed) {
		return fmt.Errorf("counters: %w", err)
	}
	return nil
}
