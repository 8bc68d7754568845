package limits

import (
	"sync"
	"time"
)

const (
	reportTick    = 100 * time.Millisecond
	reportsAtOnce = 64 // they go to Redis together
	trimInterval  = time.Minute
)

// reporter knows which meters have something to report, and when. One goroutine looks at them at
// every tick, and at once when it is woken.
type reporter struct {
	mu       sync.Mutex
	due      map[*meter]time.Duration // by moment.since
	observed time.Time                // when a loss of writes was last observed
	restated time.Time                // when all meters were last marked for it
	again    bool                     // they have to be marked again
	wake     chan struct{}
}

func (r *reporter) init() { r.due, r.wake = make(map[*meter]time.Duration), make(chan struct{}, 1) }

// add has a meter report at a time, or sooner if it was to.
func (r *reporter) add(m *meter, at time.Duration) {
	r.mu.Lock()
	if known, ok := r.due[m]; !ok || at < known {
		r.due[m] = at
	}
	r.mu.Unlock()
}

func (r *reporter) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// take takes out the meters that are due.
func (r *reporter) take(now time.Duration) (meters []*meter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for m, at := range r.due {
		if now >= at {
			meters = append(meters, m)
			delete(r.due, m)
		}
	}
	return meters
}

// lost reports whether a loss is to be observed, and whether everything has to be reported again
// now: each once a second, and what comes in between later.
func (r *reporter) lost(now time.Time, known bool) (first, restate bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if first = now.Sub(r.observed) >= time.Second; first {
		r.observed = now
	}
	r.again = r.again || !known
	return first, r.restateLocked(now)
}

// restateAgain reports whether everything has to be reported again now.
func (r *reporter) restateAgain(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.restateLocked(now)
}

func (r *reporter) restateLocked(now time.Time) bool {
	if !r.again || now.Sub(r.restated) < time.Second {
		return false
	}
	r.again, r.restated = false, now
	return true
}

// scheduleLocked schedules the next report of a meter whose state has changed. It needs the meter's mutex.
func (l *Limiter) scheduleLocked(m *meter, now moment) {
	at := m.nextReport(now)
	if at == 0 || m.scheduled != 0 && at >= m.scheduled {
		return
	}
	m.scheduled = at
	l.reporter.add(m, at)
	if at <= now.since {
		l.reporter.wakeUp()
	}
}

// unlock unlocks a meter whose state may have changed.
func (l *Limiter) unlock(m *meter, now moment) {
	l.scheduleLocked(m, now)
	m.mu.Unlock()
}
