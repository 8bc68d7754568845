package main

import (
	"context"
	"sync"
	"time"
)

// refusals are how many calls of each configured app this gateway has refused today.
type refusals struct {
	zone func() *time.Location // whose midnight begins a day

	mu  sync.Mutex       // covers what follows
	end time.Time        // of the day
	n   map[string]int64 // by appid
}

func newRefusals(zone func() *time.Location) *refusals {
	return &refusals{zone: zone, n: make(map[string]int64)}
}

// todayLocked drops the counts of a day that is over.
func (r *refusals) todayLocked() {
	if now := time.Now(); !now.Before(r.end) {
		year, month, day := now.In(r.zone()).Date()
		r.end = time.Date(year, month, day+1, 0, 0, 0, 0, r.zone())
		clear(r.n)
	}
}

// add counts one refused call of a configured app.
func (r *refusals) add(appid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.todayLocked()
	r.n[appid]++
}

// of returns the counts of apps. They are not the fleet's.
func (r *refusals) of(_ context.Context, appids []string) (counts []int64, fleet bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.todayLocked()
	counts = make([]int64, len(appids))
	for i, appid := range appids {
		counts[i] = r.n[appid]
	}
	return counts, false
}
