package drift

import (
	"context"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// Times and bounds of Run.
const (
	tick           = time.Second
	ticksPerMinute = 60
	jobTimeout     = time.Minute      // of a job, with all questions about one counter
	maxJobs        = 100              // of one app
	maxNames       = maxEntries + 100 // of one job
	maxWorkers     = 8                // apps that have a job running
)

// job is something that Run does for an app: either run, or ask WeChat about each of the counters
// names. Questions of several jobs take turns.
type job struct {
	jobKey
	run    func(context.Context) error
	ask    func(context.Context, *counter) error
	names  []string
	asks   bool // it waits for nextQuestion, and is dropped during a pause
	urgent bool // it goes before all other jobs
}

// jobKey makes a job unique: what is queued with the same key is added to its names.
type jobKey struct {
	kind   string
	number int64     // a figure, or the time of a clear
	due    time.Time // the job does not run before
}

// pushLocked queues a job, except what is queued, runs, or is too much. Auditor.mu is held.
func (s *appState) pushLocked(j job) {
	if r := s.running; r != nil && r.jobKey == j.jobKey {
		j.names = slices.DeleteFunc(j.names, func(name string) bool { return name == r.names[0] })
		if len(j.names) == 0 {
			return
		}
	}
	i := slices.IndexFunc(s.jobs, func(o job) bool { return o.jobKey == j.jobKey })
	switch {
	case i < 0 && j.urgent:
		s.jobs = slices.Insert(s.jobs, 0, j)
	case i < 0 && len(s.jobs) < maxJobs:
		s.jobs = append(s.jobs, j)
	case i >= 0:
		queued := &s.jobs[i]
		for _, name := range j.names {
			if len(queued.names) < maxNames && !slices.Contains(queued.names, name) {
				queued.names = append(queued.names, name)
			}
		}
	}
}

func (a *Auditor) push(app string, j job) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stateLocked(app).pushLocked(j)
}

// urgentLocked reports whether an urgent job is queued. Auditor.mu is held.
func (s *appState) urgentLocked() bool { return len(s.jobs) > 0 && s.jobs[0].urgent }

// Run does the jobs: sweeps at the interval, what Seed has left, what LostClear and Rejected have asked
// for, and reading the figures that other gateways have adopted. It returns when ctx is done and no job
// runs.
func (a *Auditor) Run(ctx context.Context) {
	var workers errgroup.Group
	workers.SetLimit(maxWorkers)
	defer func() { _ = workers.Wait() }()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for n := 0; ; n++ {
		if n%ticksPerMinute == 0 {
			a.everyMinute()
		}
		for _, app := range a.dueApps() {
			if !workers.TryGo(func() error { a.work(ctx, app); return nil }) {
				break // the others at the next tick
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// everyMinute queues the jobs of the configured apps, and drops the state of apps without any.
func (a *Auditor) everyMinute() {
	apps, now := a.o.Apps(), a.o.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.apps, func(_ string, s *appState) bool {
		maps.DeleteFunc(s.failures, func(_ string, f failure) bool { return now.Sub(f.at) >= failureTTL })
		return s.running == nil && len(s.jobs) == 0 && len(s.failures) == 0 && len(s.seeds) == 0 &&
			now.After(s.nextQuestion) && now.After(s.pausedUntil)
	})
	for _, app := range apps {
		add := func(kind string, asks bool, run func(context.Context, string) error) {
			a.stateLocked(app.AppID).pushLocked(job{
				jobKey: jobKey{kind: kind}, asks: asks, run: func(ctx context.Context) error { return run(ctx, app.AppID) },
			})
		}
		if app.Auto {
			add("poll figures", false, a.poll)
		}
		if a.o.Every > 0 {
			add("start sweep", true, a.startSweep)
		}
	}
}

// dueApps returns the apps with a due job and no worker: those with an urgent one, then the others, in
// the random order of a map, so that each gets its turn.
func (a *Auditor) dueApps() []string {
	now := a.o.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	var urgent, apps []string
	for app, s := range a.apps {
		switch {
		case s.running != nil || s.dueLocked(now) < 0:
		case s.urgentLocked():
			urgent = append(urgent, app)
		default:
			apps = append(apps, app)
		}
	}
	return append(urgent, apps...)
}

// dueLocked returns the index of the first due job, or -1. Auditor.mu is held.
func (s *appState) dueLocked(now time.Time) int {
	return slices.IndexFunc(s.jobs, func(j job) bool {
		return !now.Before(j.due) && (!j.asks || !now.Before(s.nextQuestion))
	})
}

// work runs the due jobs of an app, at most one that asks WeChat.
func (a *Auditor) work(ctx context.Context, app string) {
	for j := a.nextJob(app, nil); j != nil && ctx.Err() == nil; j = a.nextJob(app, j) {
		name, run := "", j.run
		if j.ask != nil {
			name = j.names[0]
			run = func(ctx context.Context) error {
				c, err := a.counter(ctx, app, name)
				if err != nil || c == nil {
					return err
				}
				return j.ask(ctx, c)
			}
		}
		running, cancel := context.WithTimeout(ctx, jobTimeout)
		if err := run(running); err != nil {
			a.failed(app, name, err)
		}
		cancel()
	}
}

// nextJob takes the next due job of an app for its first name. last is the job that the worker has run;
// nil is returned to a second worker, and when nothing is due. During a pause it drops what asks WeChat.
func (a *Auditor) nextJob(app string, last *job) *job {
	now := a.o.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.stateLocked(app)
	if s.running != last {
		return nil
	}
	s.running = nil
	for i := s.dueLocked(now); i >= 0; i = s.dueLocked(now) {
		j := s.jobs[i]
		s.jobs = slices.Delete(s.jobs, i, i+1)
		if j.asks && now.Before(s.pausedUntil) {
			continue
		}
		if len(j.names) > 1 {
			rest := j
			rest.names = j.names[1:]
			s.pushLocked(rest)
		}
		s.running = &j
		break
	}
	return s.running
}
