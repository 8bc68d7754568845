package history

import (
	"context"
	"time"
)

// Rates is how fast one account is called: by all gateways in the last ten minutes, and at the same hours of
// the last days.
type Rates struct {
	Span    time.Duration // of the last ten minutes, as whole minutes of the clock give it
	pairs   map[[2]string]int64
	rules   map[string]int64
	profile *profile
}

// Calls returns the calls of a rule that were sent in the last ten minutes.
func (r *Rates) Calls(rule string) int64 { return r.rules[rule] }

// CallsOf returns those of one caller.
func (r *Rates) CallsOf(rule, caller string) int64 { return r.pairs[[2]string{rule, caller}] }

// Usual returns the calls of a rule in each hour of the day on average of the last days, nil if that is not
// known.
func (r *Rates) Usual(rule string) *[24]float64 {
	if r.profile == nil {
		return nil
	}
	return r.profile.hours[rule]
}

// Rates returns the rates of each account. It reads of the store the last ten minutes only.
func (r *Recorder) Rates(ctx context.Context, apps []string) ([]*Rates, error) {
	now := r.o.Now()
	first := now.Unix()/60 - slotMinutes + 1 // the present minute is the last of ten
	slots := []int64{slotOf(first), slotOf(first + slotMinutes - 1)}
	if slots[0] == slots[1] {
		slots = slots[:1]
	}
	own := make([]Parts, len(apps)) // before the store is read, which then has no less
	for i, app := range apps {
		own[i] = r.own(app)
	}
	stored, err := r.o.Store.Minutes(ctx, apps, slots)
	if err != nil {
		return nil, err
	}
	all := make([]*Rates, len(apps))
	for i, app := range apps {
		rates := &Rates{
			Span:  now.Sub(time.Unix(first*60, 0)),
			pairs: make(map[[2]string]int64), rules: make(map[string]int64), profile: r.reviews.of(app),
		}
		for _, m := range overlay(stored[i], own[i].Minutes, func(m Minutes) string { return m.Name }) {
			rates.add(m, first)
		}
		all[i] = rates
	}
	return all, nil
}

// add adds the calls since a minute.
func (r *Rates) add(m Minutes, first int64) {
	_ = unpackMinutes(m.Packed, func(p minutes) { // damaged ones are left out
		var calls int64
		for i, n := range p.calls {
			if minute := m.Slot*slotMinutes + int64(i); minute >= first && minute < first+slotMinutes {
				calls += int64(n)
			}
		}
		if calls > 0 {
			r.pairs[[2]string{p.rule, p.caller}] += calls
			r.rules[p.rule] += calls
		}
	})
}

// own returns what is in memory of an account.
func (r *Recorder) own(app string) Parts {
	r.mu.RLock()
	defer r.mu.RUnlock()
	a := r.accounts[app]
	if a == nil {
		return Parts{App: app}
	}
	return a.all()
}

// overlay puts what is in memory in place of what the store has of it.
func overlay[T any](stored, own []T, name func(T) string) []T {
	mine := make(map[string]bool, len(own))
	for _, o := range own {
		mine[name(o)] = true
	}
	all := append([]T{}, own...)
	for _, s := range stored {
		if !mine[name(s)] {
			all = append(all, s)
		}
	}
	return all
}
