package limits

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"
)

// fate is what becomes of one attempt of a request.
type fate uint8

const (
	arrives fate = iota
	requestLost
	replyLost
	late
	doubled
	slow
	fates
)

func (f fate) String() string {
	return [...]string{"arrives", "request lost", "reply lost", "late", "doubled", "slow"}[f]
}

const (
	attemptTime   = 100 * time.Millisecond
	modelPatience = 250 * time.Millisecond
)

// errModelLost is the error of a request without an answer.
var errModelLost = errors.New("no answer")

// modelHandle is one gateway's way to the store. Its fields belong to the world's mutex.
type modelHandle struct {
	s        *modelStore
	id       string
	rtt      time.Duration
	q        int64
	requests int    // with a counter
	fates    []fate // of the next attempts
	delay    time.Duration
	dead     bool
	newest   map[modelKey]int64       // the last request about a counter of a life
	beats    []sample                 // answers of Heartbeat
	trouble  time.Time                // when a request last had no proper answer
	answers  map[modelKey]modelAnswer // the last answers
	lives    map[string]modelLife     // of each app and counter's meter, in the last request
	asked    map[string][]time.Time   // when there were requests about an app and counter that was not called
	busy     map[modelKey]bool        // requests under way, by app and counter
	probes   map[string]int           // turns that were won and not used yet
	probing  int                      // turns that are asked for now
}

// modelAnswer is the last answer of the store about a counter.
type modelAnswer struct {
	at         time.Time
	generation int64
	used       int64
	granted    time.Time // when calls were granted last
	known      bool      // it was written before
	vague      bool      // its gateway may have forgotten it
	local      int64     // what the gateway has by it
	block      int64
	latch      Latch
	latchedAt  time.Time
}

// modelLife is the life of a meter, and when its first request was sent.
type modelLife struct {
	id    string
	began time.Time
}

// handle returns the way of a gateway with an id to the store.
func (s *modelStore) handle(id string, rtt time.Duration) *modelHandle {
	return &modelHandle{
		s: s, id: id, rtt: rtt, answers: make(map[modelKey]modelAnswer), lives: make(map[string]modelLife), newest: make(map[modelKey]int64),
		asked: make(map[string][]time.Time), busy: make(map[modelKey]bool), probes: make(map[string]int),
	}
}

// Patience implements [Counters].
func (h *modelHandle) Patience() time.Duration { return modelPatience }

// wait lets time pass, and reports false when the context ends first.
func (h *modelHandle) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// fails notes trouble on the way and returns its error. The world's mutex is held, and is not on
// return.
func (h *modelHandle) fails(ctx context.Context, wait time.Duration, err error) error {
	h.trouble = time.Now()
	h.s.w.mu.Unlock()
	h.wait(ctx, wait)
	h.s.w.mu.Lock()
	h.trouble = time.Now()
	h.s.w.mu.Unlock()
	return err
}

// send makes one attempt to run something in the store, and waits for the reply.
func (h *modelHandle) send(ctx context.Context, f fate, run func()) error {
	w, s := h.s.w, h.s
	if !h.wait(ctx, h.rtt/2) {
		w.mu.Lock()
		return h.fails(ctx, 0, ctx.Err())
	}
	w.mu.Lock()
	switch {
	case h.dead:
		return h.fails(ctx, 0, errModelLost)
	case s.state == storeDown:
		return h.fails(ctx, 0, errModelLost)
	case s.state == storeRefusing:
		return h.fails(ctx, 0, &StoreError{Text: "OOM command not allowed"})
	case s.state == storeFrozen:
		s.frozen = append(s.frozen, run)
		return h.fails(ctx, attemptTime, errModelLost)
	}
	w.occurs("message " + f.String())
	switch f {
	case requestLost:
		return h.fails(ctx, attemptTime, errModelLost)
	case late:
		h.later(h.delay, run)
		return h.fails(ctx, attemptTime, errModelLost)
	}
	run()
	switch f {
	case replyLost:
		return h.fails(ctx, attemptTime, errModelLost)
	case doubled:
		run() // at once: a refusal leaves no trace, and TCP doubles nothing
	case slow:
		h.trouble = time.Now()
		w.mu.Unlock()
		if !h.wait(ctx, attemptTime*4/5) {
			return ctx.Err()
		}
		w.mu.Lock()
		h.trouble = time.Now()
	}
	w.mu.Unlock()
	if !h.wait(ctx, h.rtt/2) {
		w.mu.Lock()
		return h.fails(ctx, 0, ctx.Err())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if h.dead {
		return errModelLost
	}
	return nil
}

// later runs something in the store after a while. The world's mutex is held.
func (h *modelHandle) later(after time.Duration, run func()) {
	w := h.s.w
	w.inFlight.Go(func() {
		time.Sleep(after)
		w.mu.Lock()
		defer w.mu.Unlock()
		switch h.s.state {
		case storeUp:
			run()
		case storeFrozen:
			h.s.frozen = append(h.s.frozen, run)
		case storeDown, storeRefusing:
		}
	})
}

// nextFate returns what becomes of the next attempt.
func (h *modelHandle) nextFate() fate {
	if len(h.fates) == 0 {
		return arrives
	}
	f := h.fates[0]
	h.fates = h.fates[1:]
	return f
}

// Exchange makes two attempts, as the Redis store does.
func (h *modelHandle) Exchange(ctx context.Context, r *Request) (*Answer, error) {
	w := h.s.w
	w.mu.Lock()
	w.requested(h, r)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, c := range r.Counters {
			delete(h.busy, modelKey{r.App + r.Life, r.Windows[c.Window].Name, c.Name})
		}
	}()
	copied := *r
	copied.Windows, copied.Counters = slices.Clone(r.Windows), slices.Clone(r.Counters)
	retried := false
	for {
		w.mu.Lock()
		h.q++
		q, f, sent := h.q, h.nextFate(), time.Now()
		for _, c := range r.Counters {
			h.newest[modelKey{r.App + r.Life, r.Windows[c.Window].Name, c.Name}] = q
		}
		w.mu.Unlock()
		var a *Answer
		err := h.send(ctx, f, func() {
			answer := h.s.apply(h, &copied, q, sent)
			if a == nil {
				a = answer
			}
		})
		var answered *StoreError
		switch {
		case err == nil:
			w.mu.Lock()
			defer w.mu.Unlock()
			if a.Status == Stale {
				w.broke("%s: its request %d was stale: %+v", h.id, q, copied)
				return nil, errModelLost
			}
			reply := *a
			reply.Retried = retried
			w.answered(h, &copied, &reply, sent)
			return &reply, nil
		case retried || ctx.Err() != nil || errors.As(err, &answered):
			w.mu.Lock()
			w.note("%s: no answer about %v: %v", h.id, copied.App, err)
			w.mu.Unlock()
			return nil, err
		}
		retried = true
	}
}

// ask runs something in the store and returns its answer. What a frozen store runs late answers nothing.
func ask[T any](ctx context.Context, h *modelHandle, run func() T) (answer T, err error) {
	var found T
	if err = h.send(ctx, arrives, func() { found = run() }); err == nil {
		h.s.w.mu.Lock()
		defer h.s.w.mu.Unlock()
		answer = found
	}
	return answer, err
}

// Heartbeat implements [Counters].
func (h *modelHandle) Heartbeat(ctx context.Context) (n int64, err error) {
	n, err = ask(ctx, h, func() int64 {
		now := h.s.now()
		h.s.fleet[h.id] = now
		maps.DeleteFunc(h.s.fleet, func(_ string, at time.Time) bool { return now.Sub(at) > 10*time.Minute })
		return int64(len(h.s.fleet))
	})
	if err != nil {
		return 0, err
	}
	h.s.w.mu.Lock()
	defer h.s.w.mu.Unlock()
	h.beats = append(h.beats, sample{at: time.Now(), used: n})
	if len(h.beats) > 1000 {
		h.beats = slices.Clone(h.beats[500:])
	}
	return n, nil
}

// Read implements [Counters].
func (h *modelHandle) Read(ctx context.Context, queries []Query) (found []map[string]CounterState, err error) {
	return ask(ctx, h, func() (found []map[string]CounterState) {
		h.s.expire()
		for _, q := range queries {
			in := make(map[string]CounterState)
			if w := h.s.data[modelWindowKey{q.App, q.Window.Name}]; w != nil {
				for name, c := range w.records {
					if len(q.Names) > 0 && !slices.Contains(q.Names, name) {
						continue
					}
					if c.Generation < w.generation {
						c = record{CounterState: CounterState{Generation: w.generation, Grant: c.Grant}}
					}
					in[name] = c.CounterState
				}
			}
			found = append(found, in)
		}
		return found
	})
}

// Probe implements [Counters].
func (h *modelHandle) Probe(ctx context.Context, app, counter string, gap time.Duration) (won bool, err error) {
	h.s.w.mu.Lock()
	h.probing++
	h.s.w.mu.Unlock()
	won, err = ask(ctx, h, func() bool {
		key := app + " " + counter
		now := h.s.now()
		won := !now.Before(h.s.turns[key])
		if won {
			h.s.turns[key] = now.Add(gap)
		}
		return won
	})
	h.s.w.mu.Lock()
	defer h.s.w.mu.Unlock()
	if h.probing--; err == nil && won {
		h.probes[app+" "+counter]++
		h.s.w.occurs("probe")
	}
	return won && err == nil, err
}

// Pace implements [Counters].
func (h *modelHandle) Pace(context.Context, string, string, Pace, int) (time.Duration, error) {
	return 0, nil
}
