package alert

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// watcher looks for what the usage of the accounts makes due. It belongs to the goroutine of Run.
type watcher struct {
	polled time.Time
	known  map[string]claim // by appid and key: what need not be looked up in the store
	best   map[string]Event // by appid: the counter with the highest part of its limit used

	cleared []Event // of the last reading: the ends that clears put to latches
}

// maxTop is how many counters a digest names.
const maxTop = 10

// due reads the usage when it is time, and returns the thresholds that were passed and are not claimed.
func (w *watcher) due(ctx context.Context, a *Alerts, now time.Time) []crossing {
	if a.o.Usage == nil || now.Sub(w.polled) < a.t.poll {
		return nil
	}
	if w.known == nil {
		w.known, w.best = make(map[string]claim), make(map[string]Event)
	}
	w.polled = now
	reading, cancel := context.WithTimeout(ctx, a.t.lease/2)
	defer cancel()
	lines, _ := a.o.Usage(reading) // what was not read now is read the next time; the store's faults are events
	conf, _ := a.settings()
	maps.DeleteFunc(w.known, func(_ string, c claim) bool { return c.Reset <= now.UnixMilli() })
	maps.DeleteFunc(w.best, func(_ string, e Event) bool { return !e.Reset.After(now) })
	var found []crossing
	w.cleared = nil
	stored := make(map[string]claims)
	for _, l := range lines {
		w.note(l, now)
		if l.Generation > 0 {
			w.cleared = append(w.cleared, Event{
				Kind: Latched, Over: true, At: time.UnixMilli(l.Generation), AppID: l.AppID, App: l.App, Rule: l.Rule, Title: l.Title, Path: l.Path,
			})
		}
		for _, x := range conf.crossings(l, now) {
			if !w.known[l.AppID+"|"+x.key].covers(x.claim) && !w.claimed(reading, a, stored, x) {
				found = append(found, x)
			}
		}
	}
	if a.o.Detail != nil {
		for i := range found {
			a.o.Detail(reading, &found[i].event)
		}
	}
	return found
}

// claimed reports whether the store has a claim of a crossing. An app whose claims cannot be read waits.
func (w *watcher) claimed(ctx context.Context, a *Alerts, stored map[string]claims, x crossing) bool {
	app := x.event.AppID
	if _, read := stored[app]; !read {
		raw, err := a.o.Store.Get(ctx, app, claimsKey)
		if err != nil {
			return true
		}
		stored[app] = parseClaims(raw)
	}
	has := stored[app][x.key]
	if !has.covers(x.claim) {
		return false
	}
	w.known[app+"|"+x.key] = has
	return true
}

// claim records that crossings are queued. If the process ends before, another gateway queues them again under the same
// ids, which changes nothing.
func (w *watcher) claim(ctx context.Context, a *Alerts, found []crossing) {
	byApp := make(map[string][]crossing)
	for _, x := range found {
		byApp[x.event.AppID] = append(byApp[x.event.AppID], x)
	}
	for app, crossings := range byApp {
		raw, err := a.o.Store.Get(ctx, app, claimsKey)
		if err != nil {
			continue
		}
		now := time.Now()
		err = a.o.Store.Update(ctx, app, claimsKey, raw, func(present []byte) ([]byte, time.Duration, error) {
			c := parseClaims(present)
			c.trim(now)
			for _, x := range crossings {
				c[x.key] = x.claim
			}
			next, err := json.Marshal(c)
			return next, c.expiry(now), err
		})
		if err != nil {
			continue
		}
		for _, x := range crossings {
			w.known[app+"|"+x.key] = x.claim
		}
	}
}

// note remembers the counter of an account with the highest part of its limit used.
func (w *watcher) note(l Line, now time.Time) {
	if l.Limit <= 0 || l.Used <= 0 {
		return
	}
	e := Event{
		Kind: Used, At: now, AppID: l.AppID, App: l.App, Rule: l.Rule, Title: l.Title, Path: l.Path,
		Period: l.Period, Used: l.Used, Limit: l.Limit, Reset: l.Reset,
	}
	if best, ok := w.best[l.AppID]; !ok || best.condition() == e.condition() || best.share() < e.share() {
		w.best[l.AppID] = e
	}
}

// share is the part of the limit that is used.
func (e Event) share() float64 { return float64(e.Used) / float64(max(1, e.Limit)) }

// digestMinute is after the full hour, when robots are busy with everybody's.
const digestMinute = 3

// digestDay returns the day whose digest is due, or "". A fleet that starts an hour later sends none that day.
func (c Config) digestDay(now time.Time) string {
	now = now.In(c.Zone)
	if c.Digest < 0 || now.Hour() != c.Digest || now.Minute() < digestMinute {
		return ""
	}
	return now.Format(time.DateOnly)
}

// digest is the event of the day: what is used most, and what holds.
func (w *watcher) digest(r *record, now time.Time) Event {
	e := Event{Kind: Digest, At: now}
	e.Top = slices.SortedFunc(maps.Values(w.best), func(a, b Event) int {
		return cmp.Or(cmp.Compare(b.share(), a.share()), cmp.Compare(a.condition(), b.condition()))
	})
	e.Top = e.Top[:min(len(e.Top), maxTop)]
	for _, key := range slices.Sorted(maps.Keys(r.Holding)) {
		if len(e.Holding) < maxTop {
			e.Holding = append(e.Holding, r.Holding[key].Event)
		}
	}
	return e
}
