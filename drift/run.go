package drift

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// Times of Run.
const (
	beat        = time.Second
	minute      = 60               // beats between looks at what others have done
	intervalLag = 2 * time.Second  // how much too early an interval may be over: beats are not exact
	leaseLife   = 75 * time.Second // a little longer than a minute
	jobLife     = time.Minute      // how long a job may take, with all its questions
	maxJobs     = maxEntries + 100 // of one app
	maxWorkers  = 8                // apps that are asked about at once
)

// jobKind says what is to be done.
type jobKind uint8

const (
	pollFigures jobKind = iota // hear of figures that other gateways have adopted
	beginPass                  // ask about every used rule, if it is our turn
	ofPass                     // one of them
	firstSight                 // a look that came too soon after another
	takeFigure                 // the figure that a look was told
	lostClear                  // find what a clear may have cleared
	ofLostClear                // one of it
)

// asks reports whether a job of this kind asks WeChat.
func (k jobKind) asks() bool { return k == ofPass || k == firstSight || k == ofLostClear }

// job is something that Run does for an app, in its turn and not before due.
type job struct {
	kind    jobKind
	due     time.Time
	counter string // of one counter
	path    string // lostClear: "" is every path
	at      int64  // lostClear, ofLostClear: the clear's generation
	figure  int64  // takeFigure
}

// push adds a job, unless it is there already or there are too many. Auditor.mu is held.
func (s *appState) push(j job) {
	if len(s.jobs) < maxJobs && !slices.Contains(s.jobs, j) {
		s.jobs = append(s.jobs, j)
	}
}

func (a *Auditor) push(app string, j job) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state(app).push(j)
}

// Run asks what nobody waits for: at the interval, what looks have left, and after lost clears. It
// also hears of the figures that other gateways adopt. It ends, with all that it has begun, when ctx
// is done.
func (a *Auditor) Run(ctx context.Context) {
	var workers sync.WaitGroup
	defer workers.Wait()
	free := make(chan struct{}, maxWorkers)
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for n := 0; ; n++ {
		if n%minute == 0 {
			a.everyMinute()
		}
		for _, app := range a.ready() {
			select {
			case free <- struct{}{}:
				workers.Go(func() {
					defer func() { <-free }()
					a.work(ctx, app)
				})
			default:
				a.idle(app) // at the next beat
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// everyMinute gives the configured apps their jobs, and forgets those of which there is nothing to
// remember.
func (a *Auditor) everyMinute() {
	apps, now := a.o.Apps(), a.o.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.apps, func(_ string, s *appState) bool {
		maps.DeleteFunc(s.failing, func(_ string, f failure) bool { return now.Sub(f.at) >= refusalLife })
		return !s.busy && len(s.jobs) == 0 && len(s.failing) == 0 && now.After(s.next) && now.After(s.quiet) && now.After(s.spent)
	})
	for _, app := range apps {
		s := a.state(app.AppID)
		s.push(job{kind: pollFigures})
		if a.o.Every > 0 {
			s.push(job{kind: beginPass})
		}
	}
}

// ready takes the apps with a job to do now, in order. Each is to be worked on, or made idle.
func (a *Auditor) ready() []string {
	now := a.o.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	var apps []string
	for app, s := range a.apps {
		if !s.busy && s.ripe(now) >= 0 {
			s.busy = true
			apps = append(apps, app)
		}
	}
	slices.Sort(apps)
	return apps
}

// idle gives an app back.
func (a *Auditor) idle(app string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state(app).busy = false
}

// ripe returns the first job to do now, or -1. Auditor.mu is held.
func (s *appState) ripe(now time.Time) int {
	return slices.IndexFunc(s.jobs, func(j job) bool {
		return !now.Before(j.due) && (!j.kind.asks() || !now.Before(s.next))
	})
}

// work does the jobs of an app that are due, with one question at most.
func (a *Auditor) work(ctx context.Context, app string) {
	defer a.idle(app)
	for ctx.Err() == nil {
		now := a.o.Now()
		a.mu.Lock()
		s := a.state(app)
		i := s.ripe(now)
		if i < 0 {
			a.mu.Unlock()
			return
		}
		j := s.jobs[i]
		s.jobs = slices.Delete(s.jobs, i, i+1)
		quiet := j.kind.asks() && now.Before(s.quiet)
		a.mu.Unlock()
		if quiet {
			continue
		}
		if err := a.do(ctx, app, j); err != nil {
			a.failed(app, j.counter, err)
		}
	}
}

// do does one job. What it returns went wrong in the store; what went wrong in a reading is said
// there.
func (a *Auditor) do(ctx context.Context, app string, j job) error {
	ctx, cancel := context.WithTimeout(ctx, jobLife)
	defer cancel()
	switch j.kind {
	case pollFigures:
		return a.poll(ctx, app)
	case beginPass:
		return a.beginPass(ctx, app)
	case takeFigure:
		match, _ := a.match(app, j.counter)
		return a.adopt(ctx, app, match, j.figure)
	case lostClear:
		return a.findCleared(ctx, app, j)
	}
	match, paths := a.match(app, j.counter)
	if len(paths) == 0 {
		return nil // a reload has taken the rule away
	}
	line, err := a.day(ctx, app, j.counter)
	if err != nil {
		return err
	}
	if j.kind == ofLostClear {
		return a.verify(ctx, app, j, match, line, paths)
	}
	if young(line, a.o.Now()) {
		return nil
	}
	if j.kind == firstSight {
		if seen, err := a.seen(ctx, app, match, line); seen || err != nil {
			return err
		}
	}
	if j.kind == ofPass {
		if mine, err := a.mayPass(ctx, app, line, len(paths)); !mine {
			return err
		}
	}
	if err = a.read(ctx, app, match, line, paths); err != nil && j.kind == ofPass && !ofPath(err) {
		a.endPass(app)
	}
	return nil // said where it was read
}
