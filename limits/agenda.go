package limits

import (
	"container/heap"
	"slices"
	"time"
)

// agenda says when each meter is to be stated. It belongs to the limiter's mutex.
type agenda struct {
	times map[*meter][]time.Time
	queue appointments // of times, and some that were dropped
}

type appointment struct {
	at time.Time
	m  *meter
}

// add enters a meter at a time, unless it has one within the second before. It reports whether that
// is sooner than all others.
func (a *agenda) add(m *meter, at time.Time) (sooner bool) {
	times := a.times[m]
	if slices.ContainsFunc(times, func(t time.Time) bool { return !t.After(at) && t.After(at.Add(-quietLife)) }) {
		return false
	}
	a.times[m] = append(times, at)
	heap.Push(&a.queue, appointment{at, m})
	return a.queue[0].at.Equal(at)
}

// ripe takes out the meters whose time has come, perhaps one of them twice, and tells how long until
// the next one's.
func (a *agenda) ripe(now time.Time) (meters []*meter, next time.Duration) {
	for len(a.queue) > 0 {
		at, m := a.queue[0].at, a.queue[0].m
		if at.After(now) {
			return meters, at.Sub(now)
		}
		heap.Pop(&a.queue)
		i := slices.IndexFunc(a.times[m], at.Equal)
		if i < 0 {
			continue // dropped
		}
		if a.times[m] = slices.Delete(a.times[m], i, i+1); len(a.times[m]) == 0 {
			delete(a.times, m)
		}
		meters = append(meters, m)
	}
	return meters, time.Hour
}

// drop takes a meter out.
func (a *agenda) drop(m *meter) { delete(a.times, m) }

// appointments is a heap: the soonest comes first.
type appointments []appointment

func (q appointments) Len() int           { return len(q) }
func (q appointments) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q appointments) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *appointments) Push(x any)        { *q = append(*q, x.(appointment)) }

func (q *appointments) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = appointment{}
	*q = old[:len(old)-1]
	return last
}
