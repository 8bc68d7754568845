// Package fuse finds callers whose calls fail in a loop: WeChat answers the same errcode again and again, and
// would answer it for ever. It decides and does nothing else: no I/O, no goroutine, and the time is passed in.
//
// A run is the failures of one caller's calls, counted by one counter, with one errcode. It trips the fuse after 200 of
// them within ten minutes, the first of them a minute ago at least, if one of two things holds:
//
//   - The calls repeat each other: each different one was sent 20 times on average. A send to many users never
//     does that, in whatever order it is, and with whatever retries.
//   - The errcode is one that WeChat gives whatever the call holds and whomever it is for, as that of a template
//     which does not exist.
//
// Anything else in between takes 100 off the run, so that a run of 99.5 % trips and one of 99 % does not. A success among
// calls that differ ends it.
//
// A tripped fuse refuses calls for a minute, then lets one through as a probe, and so on. Only the outcome of a
// probe changes it: with the same errcode it stays, with any other it closes. Where calls repeat each other it refuses
// those calls alone; a call of the same caller that did not fail passes.
package fuse

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// Period is how long a run must last, and how long a tripped fuse refuses before each probe.
const Period = time.Minute

const (
	runCalls  = 200 // failures that trip a fuse
	repeats   = 20  // of each different call, on average
	maxCalls  = 256 // different calls beyond which they do not count as repeating
	penalty   = 100 // what any other outcome takes off a run
	runLength = 10  // periods after which a run that has not tripped begins anew
)

// How many runs are known at most: 4096 in all. The one that has not grown for longest makes room.
const (
	shards   = 64
	perShard = 64
)

// Key is whose calls a run is of.
type Key struct {
	App     string // appid
	Counter string // of the rule, or of a path inside a /*
	Caller  string // "" for calls that name none
}

// Failure is a call that WeChat answered with an errcode that repeats for ever.
type Failure struct {
	Errcode int
	Always  bool   // whatever the call holds
	Print   uint64 // the same for calls that are the same
	Probe   bool   // see Verdict
}

// Fuse knows the runs of all callers. It is safe for concurrent use, and allocates nothing for calls of callers that
// have no run.
type Fuse struct {
	known  atomic.Bool // some run
	seed   maphash.Seed
	shards [shards]shard
}

type shard struct {
	period time.Duration
	known  atomic.Int32    // len(runs), so that no lock is taken where there is none
	mu     sync.Mutex      // covers runs, and all of them but tripped
	runs   map[uint64]*Run // by the hash of the key
}

// Run is the run of one key.
type Run struct {
	shard   *shard
	key     Key
	tripped atomic.Bool

	errcode int
	score   int // failures, less what other outcomes took off
	since   time.Time
	last    time.Time             // the last failure
	prints  [maxCalls / 16]uint64 // a bit for each different call, 1024 in all
	calls   int                   // bits that are set
	any     bool                  // tripped: refuses whatever call
	until   time.Time             // tripped: when the next probe may go
	answer  string
}

// New returns a Fuse. period is Period outside of tests.
func New(period time.Duration) *Fuse {
	f := &Fuse{seed: maphash.MakeSeed()}
	for i := range f.shards {
		f.shards[i].period = period
	}
	return f
}

// Find returns the run of a key, or nil.
func (f *Fuse) Find(k Key) *Run {
	if !f.known.Load() {
		return nil
	}
	s, hash := f.shardOf(k)
	if s.known.Load() == 0 {
		return nil
	}
	s.mu.Lock()
	r := s.runs[hash]
	s.mu.Unlock()
	if r == nil || r.key != k {
		return nil
	}
	return r
}

func (f *Fuse) shardOf(k Key) (s *shard, hash uint64) {
	hash = maphash.Comparable(f.seed, k)
	return &f.shards[hash%shards], hash
}

// Change is what an outcome has changed.
type Change uint8

// The changes.
const (
	Unchanged Change = iota
	Tripped          // the fuse refuses calls from now on
	Closed           // it refuses none any more
)

// Failed adds a failure to the run of a key. answer makes the answer that refused calls get; it is called when the
// fuse trips.
func (f *Fuse) Failed(k Key, failure Failure, now time.Time, answer func() string) Change {
	s, hash := f.shardOf(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.runs[hash]
	if r == nil || r.key != k {
		r = s.addLocked(k, hash, now)
		f.known.Store(true)
	}
	if r.tripped.Load() {
		if !failure.Probe || failure.Errcode == r.errcode {
			return Unchanged
		}
		r.beginLocked(failure.Errcode, now)
		return Closed
	}
	if failure.Errcode != r.errcode {
		r.otherLocked(false)
	}
	if r.score <= 0 || now.Sub(r.since) > runLength*s.period {
		r.beginLocked(failure.Errcode, now)
	}
	if failure.Errcode != r.errcode {
		return Unchanged
	}
	r.score++
	r.last = now
	r.markLocked(failure.Print)
	repeating := r.repeatsLocked()
	if r.score < runCalls || now.Sub(r.since) < s.period || !repeating && !failure.Always {
		return Unchanged
	}
	r.any, r.until, r.answer = !repeating, now.Add(s.period), answer()
	r.tripped.Store(true)
	return Tripped
}

// addLocked adds a run. If there is no room, it takes the place of the one that has not grown for longest.
func (s *shard) addLocked(k Key, hash uint64, now time.Time) *Run {
	if s.runs == nil {
		s.runs = make(map[uint64]*Run)
	}
	if len(s.runs) >= perShard {
		var oldest *Run
		var at uint64
		for hash, r := range s.runs {
			if oldest == nil || r.last.Before(oldest.last) {
				oldest, at = r, hash
			}
		}
		delete(s.runs, at)
	}
	r := &Run{shard: s, key: k, last: now}
	s.runs[hash] = r
	s.known.Store(int32(len(s.runs)))
	return r
}

// beginLocked begins a run with an errcode.
func (r *Run) beginLocked(errcode int, now time.Time) {
	r.errcode, r.score, r.since, r.last = errcode, 0, now, now
	r.prints, r.calls = [len(r.prints)]uint64{}, 0
	r.tripped.Store(false)
	r.any, r.until, r.answer = false, time.Time{}, ""
}

// markLocked notes a call. Several calls may share a bit, so that there may be more different ones than bits.
func (r *Run) markLocked(print uint64) {
	word, bit := r.bitOf(print)
	if r.prints[word]&bit == 0 {
		r.prints[word] |= bit
		r.calls++
	}
}

func (r *Run) bitOf(print uint64) (word int, bit uint64) {
	n := print % uint64(64*len(r.prints))
	return int(n / 64), 1 << (n % 64)
}

// repeatsLocked reports whether the calls of the run repeat each other.
func (r *Run) repeatsLocked() bool {
	return r.calls > 0 && r.calls <= maxCalls && r.score >= repeats*r.calls
}

// otherLocked takes an outcome that is not a failure of the run off it.
func (r *Run) otherLocked(success bool) {
	if r.score -= penalty; success && !r.repeatsLocked() {
		r.score = 0
	}
	r.score = max(r.score, 0)
}

// Other adds a call with any other outcome to the run: a success, or a failure that says nothing of the next
// call.
func (r *Run) Other(success, probe bool) Change {
	r.shard.mu.Lock()
	defer r.shard.mu.Unlock()
	if !r.tripped.Load() {
		r.otherLocked(success)
		return Unchanged
	}
	if !probe {
		return Unchanged
	}
	r.beginLocked(0, r.last)
	return Closed
}

// Tripped reports whether the fuse refuses calls, or waits for a probe.
func (r *Run) Tripped() bool { return r.tripped.Load() }

// Verdict is what a tripped fuse says to a call.
type Verdict struct {
	Refused bool
	Probe   bool          // it passes, and its outcome is to be given to Failed or Other as that of a probe
	Wait    time.Duration // until the next probe
	Errcode int           // of the run
	Answer  string        // to a refused call
}

// Ask returns what becomes of a call. One that passes as a probe is the only one for a period, whatever becomes of
// it.
func (r *Run) Ask(print uint64, now time.Time) Verdict {
	r.shard.mu.Lock()
	defer r.shard.mu.Unlock()
	word, bit := r.bitOf(print)
	if !r.tripped.Load() || !r.any && r.prints[word]&bit == 0 {
		return Verdict{}
	}
	r.last = now
	if !now.Before(r.until) {
		r.until = now.Add(r.shard.period)
		return Verdict{Probe: true}
	}
	return r.refusalLocked(now)
}

// Peek returns what becomes of a call that repeats one of the run. It is no probe.
func (r *Run) Peek(now time.Time) Verdict {
	r.shard.mu.Lock()
	defer r.shard.mu.Unlock()
	if !r.tripped.Load() || !now.Before(r.until) {
		return Verdict{}
	}
	return r.refusalLocked(now)
}

func (r *Run) refusalLocked(now time.Time) Verdict {
	return Verdict{Refused: true, Wait: r.until.Sub(now), Errcode: r.errcode, Answer: r.answer}
}
