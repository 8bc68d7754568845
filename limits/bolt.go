package limits

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
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
type Bolt struct {
	db     *bbolt.DB
	prefix string
	now    func() time.Time

	mu      sync.Mutex
	windows map[string]*boltWindow // by app and window name
	paces   map[string]*rate.Limiter
	probes  map[string]time.Time // until when the turn is taken
	pending []*boltWrite
	closed  bool

	wake chan struct{} // of one; tells the writer of pending writes
	done chan struct{} // closed when the writer has ended
}

// boltWindow is one app's counters in one window. All fields belong to Bolt.mu.
type boltWindow struct {
	app        string
	name       string
	end        time.Time
	generation int64
	counters   map[string]*boltCounter
}

type boltCounter struct {
	generation, used, latch, grant int64

	part    int64 // what this process holds of used
	ceiling int64 // what the file says, once its write has ended
}

// boltWrite is a change of the file that somebody waits for.
type boltWrite struct {
	window  *boltWindow
	counter string // "": the window's generation
	text    string
	done    chan error // shared by the writes of one request; has room for its one error
	last    bool       // the request's last write answers
}

// countersBucket holds a bucket for each prefix, app and window. In a window's bucket a name with
// a | is ours: |end is the window's end and |g its generation.
const (
	countersBucket = "counters"
	endKey         = "|end"
	generationKey  = "|g"
)

// NewBolt returns counters in db. Close it before db. now is the clock, time.Now when nil.
func NewBolt(db *bbolt.DB, prefix string, now func() time.Time) *Bolt {
	if now == nil {
		now = time.Now
	}
	s := &Bolt{
		db:      db,
		prefix:  prefix,
		now:     now,
		windows: make(map[string]*boltWindow),
		paces:   make(map[string]*rate.Limiter),
		probes:  make(map[string]time.Time),
		wake:    make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
	go s.write()
	return s
}

// step is how far the ceiling is raised above a count: a thousandth of the limit, so that a crash
// costs no more. A counter without a figure loses nothing by 16.
func step(limit int64) int64 {
	if limit >= noLimit {
		return 16
	}
	return max(1, limit/1000)
}

// Patience is two seconds. A disk that is busy, with bodies that this very process spools for
// example, is not a store that is down: there is no other gateway to go to, and to refuse would
// turn away calls whose budget is there. Clients of WeChat wait five seconds.
func (*Bolt) Patience() time.Duration { return 2 * time.Second }

// Exchange follows the script of Redis with a single part: in one process no request is late or
// lost, so there are no versions.
func (s *Bolt) Exchange(ctx context.Context, r *Request) (*Answer, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, fmt.Errorf("counters of %s: %w", r.App, errClosed)
	}
	now := s.now()
	a := &Answer{Now: now.UnixMilli(), Generations: make([]int64, len(r.Windows)), Counters: make([]Heard, len(r.Counters))}
	write := &boltRequest{done: make(chan error, 1)}

	windows := make([]*boltWindow, len(r.Windows))
	for i, asked := range r.Windows {
		w, err := s.window(r.App, asked.Window)
		if err != nil {
			s.mu.Unlock()
			return nil, fmt.Errorf("counters of %s: %w", r.App, err)
		}
		if asked.Generation > w.generation {
			w.generation = asked.Generation
			write.add(w, "", strconv.FormatInt(w.generation, 10))
		}
		if now.Before(asked.Start) || !now.Before(asked.End) {
			a.Status = Outside
		}
		windows[i], a.Generations[i] = w, w.generation
	}

	counters := make([]*boltCounter, len(r.Counters))
	changed := make([]bool, len(r.Counters))
	var room int64
	for i := range r.Counters {
		asked := r.Counters[i]
		w := windows[asked.Window]
		c := w.counters[asked.Name]
		if c == nil {
			c = &boltCounter{}
			w.counters[asked.Name] = c
		}
		counters[i] = c
		if e := max(c.generation, w.generation, asked.Generation); e > c.generation {
			*c = boltCounter{generation: e, grant: c.grant}
			changed[i] = true
		}
		if asked.Generation != c.generation {
			asked.Held, asked.Latch, asked.Raise = 0, 0, 0
			if a.Status == OK {
				a.Status = Again
			}
		}
		c.used += asked.Held - c.part
		c.part = asked.Held
		if asked.Latch > c.latch {
			c.latch, changed[i] = asked.Latch, true
		}
		c.used = max(c.used, asked.Raise)
		left := asked.Limit + c.grant - c.used
		if a.Now < c.latch {
			left = 0
		}
		if i == 0 || left < room {
			room, a.Which = left, i
		}
	}

	if a.Status == OK && r.Want > 0 {
		a.Granted = max(0, min(r.Want, room))
		if a.Granted < r.Want {
			a.Status = Full
			if a.Now < counters[a.Which].latch {
				a.Status = Latched
			}
		} else {
			a.Block = max(0, min(r.Block, (room-a.Granted-1)/1000))
		}
	}
	for i, c := range counters {
		c.used += a.Granted + a.Block
		c.part += a.Granted + a.Block
		a.Counters[i] = Heard{Generation: c.generation, Used: c.used, Latch: c.latch, Grant: c.grant}
		if c.used > c.ceiling || changed[i] {
			limit := r.Counters[i].Limit
			// A block is part of the thousandth that a crash may cost.
			ceiling := max(c.used, min(c.used-a.Block+step(limit)-1, limit+c.grant))
			write.addCounter(windows[r.Counters[i].Window], r.Counters[i].Name, c, ceiling)
		}
	}
	s.send(write)
	s.mu.Unlock()

	if err := write.wait(ctx); err != nil {
		s.mu.Lock()
		for i, c := range counters {
			if c.generation == a.Counters[i].Generation {
				c.used -= a.Granted + a.Block
				c.part -= a.Granted + a.Block
			}
		}
		s.mu.Unlock()
		return nil, fmt.Errorf("counters of %s: %w", r.App, err)
	}
	return a, nil
}

var errClosed = errors.New("the store is closed")

// boltRequest gathers the writes of one Exchange.
type boltRequest struct {
	writes []*boltWrite
	done   chan error
}

func (r *boltRequest) add(w *boltWindow, counter, text string) {
	r.writes = append(r.writes, &boltWrite{window: w, counter: counter, text: text, done: r.done})
}

func (r *boltRequest) addCounter(w *boltWindow, name string, c *boltCounter, ceiling int64) {
	r.add(w, name, fmt.Sprintf("%d %d %d %d", c.generation, ceiling, c.latch, c.grant))
}

func (r *boltRequest) wait(ctx context.Context) error {
	if len(r.writes) == 0 {
		return nil
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send hands the writes of a request to the writer. Bolt.mu is held.
func (s *Bolt) send(r *boltRequest) {
	if len(r.writes) == 0 {
		return
	}
	r.writes[len(r.writes)-1].last = true
	s.pending = append(s.pending, r.writes...)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// write commits pending writes, all that have gathered in one transaction, until Close.
func (s *Bolt) write() {
	defer close(s.done)
	for range s.wake {
		for {
			s.mu.Lock()
			batch := s.pending
			s.pending = nil
			s.mu.Unlock()
			if len(batch) == 0 {
				break
			}
			err := s.commit(batch)
			for _, w := range batch {
				if w.last {
					w.done <- err
				}
			}
		}
	}
}

func (s *Bolt) commit(batch []*boltWrite) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		for _, w := range batch {
			b, err := s.bucket(tx, w.window)
			if err != nil {
				return err
			}
			name := w.counter
			if name == "" {
				name = generationKey
			}
			if err := b.Put([]byte(name), []byte(w.text)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range batch {
		if w.counter == "" {
			continue
		}
		c := w.window.counters[w.counter]
		if on, err := parseBoltCounter(w.text); err == nil && c != nil && on.generation == c.generation {
			c.ceiling = on.ceiling
		}
	}
	return nil
}

// bucket returns the bucket of a window, made with its end where it is new. When it is new, the
// app's windows that ended more than a day ago are dropped.
func (s *Bolt) bucket(tx *bbolt.Tx, w *boltWindow) (*bbolt.Bucket, error) {
	b, err := tx.CreateBucketIfNotExists([]byte(countersBucket))
	if err != nil {
		return nil, err
	}
	if b, err = b.CreateBucketIfNotExists([]byte(s.prefix)); err != nil {
		return nil, err
	}
	if b, err = b.CreateBucketIfNotExists([]byte(w.app)); err != nil {
		return nil, err
	}
	if old := b.Bucket([]byte(w.name)); old != nil {
		return old, nil
	}
	if err := dropOld(b, s.now()); err != nil {
		return nil, err
	}
	if b, err = b.CreateBucket([]byte(w.name)); err != nil {
		return nil, err
	}
	return b, b.Put([]byte(endKey), []byte(strconv.FormatInt(w.end.UnixMilli(), 10)))
}

func dropOld(app *bbolt.Bucket, now time.Time) error {
	var old [][]byte
	err := app.ForEachBucket(func(name []byte) error {
		end, err := strconv.ParseInt(string(app.Bucket(name).Get([]byte(endKey))), 10, 64)
		if err == nil && now.After(time.UnixMilli(end).AddDate(0, 0, 1)) {
			old = append(old, append([]byte(nil), name...))
		}
		return nil
	})
	for _, name := range old {
		err = errors.Join(err, app.DeleteBucket(name))
	}
	return err
}

func parseBoltCounter(text string) (*boltCounter, error) {
	c := &boltCounter{}
	if _, err := fmt.Sscanf(text, "%d %d %d %d", &c.generation, &c.ceiling, &c.latch, &c.grant); err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	c.used = c.ceiling
	return c, nil
}

// window returns a window's counters, read from the file at first sight. Bolt.mu is held.
func (s *Bolt) window(app string, asked Window) (*boltWindow, error) {
	key := app + " " + asked.Name
	if w := s.windows[key]; w != nil {
		return w, nil
	}
	w := &boltWindow{app: app, name: asked.Name, end: asked.End, counters: make(map[string]*boltCounter)}
	err := s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(countersBucket))
		for _, name := range []string{s.prefix, app, asked.Name} {
			if b == nil {
				return nil
			}
			b = b.Bucket([]byte(name))
		}
		if b == nil {
			return nil
		}
		return b.ForEach(func(name, text []byte) error {
			switch string(name) {
			case endKey:
			case generationKey:
				g, err := strconv.ParseInt(string(text), 10, 64)
				w.generation = g
				return err
			default:
				c, err := parseBoltCounter(string(text))
				if err != nil {
					return fmt.Errorf("%s: %s: %w", asked.Name, name, err)
				}
				w.counters[string(name)] = c
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	for other, old := range s.windows { // a day's grace, as in the file
		if s.now().After(old.end.AddDate(0, 0, 1)) {
			delete(s.windows, other)
		}
	}
	s.windows[key] = w
	return w, nil
}

// Gateways returns 0: a file has one process, which has nothing to go on by when it cannot write.
func (*Bolt) Gateways(context.Context) (int64, error) { return 0, nil }

// Read returns what each of the windows holds of an app.
func (s *Bolt) Read(_ context.Context, app string, windows []Window, counters ...string) ([]map[string]Heard, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make([]map[string]Heard, len(windows))
	for i, asked := range windows {
		w, err := s.window(app, asked)
		if err != nil {
			return nil, fmt.Errorf("counters of %s: %w", app, err)
		}
		found[i] = make(map[string]Heard, len(w.counters))
		for name, c := range w.counters {
			if len(counters) > 0 && !slices.Contains(counters, name) {
				continue
			}
			h := Heard{Generation: c.generation, Used: c.used, Latch: c.latch, Grant: c.grant}
			if c.generation < w.generation {
				h = Heard{Generation: w.generation, Grant: c.grant}
			}
			found[i][name] = h
		}
	}
	return found, nil
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
func (s *Bolt) Pace(_ context.Context, app, rule string, p Pace) (time.Duration, error) {
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
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return wait, nil
	}
	return 0, nil
}

// Close writes the exact counts in place of the ceilings and ends the writer. Nothing may be
// exchanged any more. It leaves the file open.
func (s *Bolt) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	last := &boltRequest{done: make(chan error, 1)}
	for _, w := range s.windows {
		for name, c := range w.counters {
			if c.used != c.ceiling {
				last.addCounter(w, name, c, c.used)
			}
		}
	}
	s.send(last)
	s.closed = true
	s.mu.Unlock()
	err := last.wait(context.Background())
	close(s.wake)
	<-s.done
	if err != nil {
		return fmt.Errorf("counters: %w", err)
	}
	return nil
}
