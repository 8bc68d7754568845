package history

import (
	"compress/flate"
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// rollDays is how many days before today are looked at for parts that are not rolled up yet. It is less
	// than HoursKept, so that no hour of such a day is gone.
	rollDays = 7
	// rollDelay is how long after a day's end that begins: other gateways still write its last seconds.
	rollDelay = 5 * time.Minute
	// reviewBatch is how many accounts are looked at in one step.
	reviewBatch = 20
	// reviewPause is how long the store is left alone after an error.
	reviewPause = time.Minute
)

// reviews is what is known of past days of each account.
type reviews struct {
	mu       sync.Mutex // covers what follows
	profiles map[string]*profile
	queue    []string  // accounts to look at; refilled when it is empty
	day      string    // on which the queue was filled last
	pause    time.Time // until when nothing is looked at, after an error
}

// profile is the calls of the last days of one account, as the forecast needs them.
type profile struct {
	day   string                  // on which it was made; "": it has to be made anew
	hours map[string]*[24]float64 // by rule: calls sent in each hour of the day, on average
}

func (v *reviews) forget(app string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.profiles, app)
}

// again has an account looked at once more: a part of a day that is over was written.
func (v *reviews) again(app string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.profiles, app)
	v.day = ""
}

// of returns what is known of an account's last days, nil for nothing.
func (v *reviews) of(app string) *profile {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.profiles[app]
}

// due takes the next accounts that have not been looked at on that day.
func (v *reviews) due(now time.Time, apps func() []string) []string {
	day := dayOf(now)
	v.mu.Lock()
	defer v.mu.Unlock()
	if now.Before(v.pause) {
		return nil
	}
	if len(v.queue) == 0 && v.day != day {
		v.queue, v.day = slices.DeleteFunc(apps(), func(app string) bool {
			return v.profiles[app] != nil && v.profiles[app].day == day
		}), day
	}
	n := min(len(v.queue), reviewBatch)
	due := v.queue[:n:n]
	v.queue = v.queue[n:]
	return due
}

// review looks at the last days of the next accounts: it rolls up those that are not, and makes profiles. On
// an error the accounts are looked at later.
func (r *Recorder) review(ctx context.Context) {
	now := r.o.Now().Add(-rollDelay).In(r.zone.Load())
	apps := r.reviews.due(now, r.known)
	if len(apps) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, writePatience)
	defer cancel()
	var days []Day
	for _, app := range apps {
		for n := -rollDays; n < 0; n++ {
			days = append(days, Day{app, dayOf(dayStart(now, n))})
		}
	}
	hours, err := r.o.Store.Hours(ctx, days)
	if err == nil {
		err = r.roll(ctx, days, hours)
	}
	r.reviews.mu.Lock()
	defer r.reviews.mu.Unlock()
	if err != nil {
		r.reviews.queue, r.reviews.day, r.reviews.pause = nil, "", now.Add(reviewPause)
		return
	}
	for i, app := range apps {
		p := profileOf(hours[i*rollDays:(i+1)*rollDays], now.Location())
		p.day = dayOf(now)
		r.reviews.profiles[app] = p
	}
}

// known returns the accounts to look after.
func (r *Recorder) known() []string {
	apps := append(r.o.Apps(), NoApp)
	r.mu.RLock()
	for app := range r.accounts {
		apps = append(apps, app)
	}
	r.mu.RUnlock()
	slices.Sort(apps)
	return slices.Compact(apps)
}

// roll rolls up the days that have parts and no sums yet.
func (r *Recorder) roll(ctx context.Context, days []Day, hours [][]Part) error {
	rolled, err := r.o.Store.Days(ctx, days)
	if err != nil {
		return err
	}
	for i, day := range days {
		if rolled[i] != nil || len(hours[i]) == 0 {
			continue
		}
		if err := r.o.Store.Roll(ctx, day, func(parts []Part) []byte { return r.sumsOf(day.Day, parts) }); err != nil {
			return err
		}
	}
	return nil
}

// sumsOf adds up the parts of a day, nil for none.
func (r *Recorder) sumsOf(day string, parts []Part) []byte {
	if len(parts) == 0 {
		return nil
	}
	total := make(map[Series]sum)
	for _, p := range parts {
		_ = unpack(p.Hour, p.Sums, func(s sum) { total[s.Series] = total[s.Series].add(s) }) // a damaged part is left out
	}
	sums := make([]sum, 0, len(total))
	for _, s := range total {
		sums = append(sums, s)
	}
	return newCompressor(flate.BestCompression).compress(pack(dayBase(day), sums))
}

// dayBase is what the seconds in the sums of a day are counted from: some time before it, in any zone.
func dayBase(day string) int64 { return parseDay(day, time.UTC).Unix() - 86400 }

// profileOf averages the hours of some days, in which there were calls of the account.
func profileOf(days [][]Part, zone *time.Location) *profile {
	p := &profile{hours: make(map[string]*[24]float64)}
	used := 0.0
	for _, parts := range days {
		if len(parts) > 0 {
			used++
		}
		for _, part := range parts {
			hour := time.Unix(part.Hour, 0).In(zone).Hour()
			_ = unpack(part.Hour, part.Sums, func(s sum) { // a damaged part is left out
				if !s.Outcome.Sent() {
					return
				}
				if p.hours[s.Rule] == nil {
					p.hours[s.Rule] = new([24]float64)
				}
				p.hours[s.Rule][hour] += float64(s.count)
			})
		}
	}
	for _, hours := range p.hours {
		for i := range hours {
			hours[i] /= used
		}
	}
	return p
}
