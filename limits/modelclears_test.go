package limits

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// clearQuota has a gateway ask WeChat for a clear.
func (w *world) clearQuota(g *modelGateway, x modelStep) {
	c, d, hold, sent := w.take(g, modelApp, "/cgi-bin/clear_quota", "")
	if !sent {
		return
	}
	path, base := "", ""
	if x.b%4 == 3 {
		path, base = "/cgi-bin/small", "small"
		w.mu.Lock()
		w.occurs("clear of a path")
		w.mu.Unlock()
	}
	way := [...]time.Duration{3 * time.Millisecond, 150 * time.Millisecond, 900 * time.Millisecond}[x.b%3]
	kind := [...]string{"granted", "granted", "refused", "lost", "not carried out"}[x.a%5]
	time.Sleep(way)
	w.mu.Lock()
	w.occurs("clear " + kind)
	if c.sent = !g.dead; !c.sent {
		w.mu.Unlock()
		return
	}
	if kind == "granted" || kind == "lost" {
		w.wechat.run(c, modelOutcome{})
		w.wechat.clear(modelApp, base)
	}
	w.note("WeChat's clear: %s", kind)
	w.mu.Unlock()
	time.Sleep(way)
	code := 0
	if kind == "lost" || kind == "not carried out" {
		code = errcodeNone
	}
	if !w.ended(c, kind == "refused", code) {
		return
	}
	switch kind {
	case "refused":
		w.mu.Lock()
		key := modelKey{modelApp, c.month, "clear"}
		w.full[key] = max(w.full[key], figuresOf(c.rule, "clear", "")[0].limit+w.store.missing(key, ""))
		w.mu.Unlock()
		hold.Exhausted()
	case "granted":
		w.mu.Lock()
		if c.taken.Before(w.epoch[modelApp]) || g.l.Rules(modelApp) == nil {
			w.mu.Unlock()
			hold.Done(0)
			return
		}
		day := w.window(Day, time.UnixMilli(d.Counted)).Name
		before, known := w.storeGeneration(day, base), w.knownGeneration(g, day, base)
		latest := w.issue(g, base, day, d.Counted, 0, c.taken)
		if now := w.store.now().UnixMilli(); d.Counted <= before && (before < now+clockError.Milliseconds() || known < before) {
			latest = false // the clock was set back: and has come up again since, or behind what the gateway knows
		}
		w.mu.Unlock()
		g.l.Clear(modelApp, d.Counted, path)
		hold.Done(0)
		w.mu.Lock()
		if d.Counted <= before && w.storeGeneration(day, base) == before+1 { // the store's clock was set back
			for i, e := range w.issued[modelApp] {
				if e.generation == d.Counted && e.counter == base {
					w.issued[modelApp][i].generation = before + 1
				}
			}
			w.begins(g, base, day, before+1)
		}
		w.mu.Unlock()
		if latest { // and not one that was answered after a later one
			w.clearIsKnown(g, base, day, before)
		}
	default:
		hold.Done(errcodeNone)
		time.Sleep(2 * time.Second)
		for _, base := range []string{"small", "large"} {
			if path == "" || base == "small" {
				w.ask(g, base, x.b, d.Counted)
			}
		}
	}
}

// storeGeneration is the generation of a counter in the store, or that of the whole day.
func (w *world) storeGeneration(day, base string) int64 {
	data := w.store.data[modelWindowKey{modelApp, day}]
	if data == nil {
		return 0
	}
	return max(data.generation, data.records[base].Generation)
}

// knownGeneration is the last generation of a counter that a gateway knows, or of any for a whole account.
func (w *world) knownGeneration(g *modelGateway, day, base string) (last int64) {
	for key := range g.h.answers {
		if key.app == modelApp && key.window == day && (base == "" || key.name == base) {
			last = max(last, g.knows(modelApp, day, key.name))
		}
	}
	return last
}

// issue notes that a gateway begins a new generation by a clear that was sent at a running time. It
// reports whether that is the last one that was sent.
func (w *world) issue(g *modelGateway, base, day string, at, calls int64, sent time.Time) (latest bool) {
	latest = true
	for _, e := range w.issued[modelApp] {
		latest = latest && e.sent.Add(50*time.Millisecond).Before(sent)
	}
	w.issued[modelApp] = append(w.issued[modelApp], issued{base, day, at, calls, sent, false, g})
	w.begins(g, base, day, at)
	return latest
}

// begins notes that a gateway knows of a new generation, in which it has no answer yet.
func (w *world) begins(g *modelGateway, base, day string, generation int64) {
	for key, h := range g.h.answers {
		if key.app == modelApp && key.window == day && (base == "" || base == key.name) && h.generation < generation {
			g.h.answers[key] = modelAnswer{at: h.at, generation: generation}
			delete(g.latched, modelApp+" "+key.name)
		}
	}
}

// clearIsKnown checks that the store has a new generation within a second of a granted clear.
func (w *world) clearIsKnown(g *modelGateway, base, day string, before int64) {
	w.mu.Lock()
	since, epoch := time.Now(), w.epoch[modelApp]
	w.mu.Unlock()
	time.Sleep(time.Second + slackTime)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.troubled(g, troubleTime) || g.dead || w.epoch[modelApp] != epoch || len(w.store.losses) > 0 || len(w.forgot[g.name+modelApp]) > 0 || g.l.Rules(modelApp) == nil {
		return
	}
	if w.storeGeneration(day, base) <= before && day == w.window(Day, w.store.now()).Name {
		w.broke("%s: the store does not know of a clear of %q after %s", g.name, base, time.Since(since))
	}
}

// ask asks WeChat for its own count of a path, and does with it what package drift does. With lost, a
// clear was sent then whose answer was lost.
func (w *world) ask(g *modelGateway, base string, how int, lost int64) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	set := g.l.Rules(modelApp)
	if set == nil {
		return
	}
	match := set.Match("/cgi-bin/" + base)
	before, err := g.l.Today(ctx, modelApp, base)
	if err != nil {
		return
	}
	began, asked := w.hostNow(g.skew), time.Now()
	w.mu.Lock()
	atStore := w.store.now().UnixMilli()
	w.mu.Unlock()
	wait := [...]time.Duration{20 * time.Millisecond, 300 * time.Millisecond, 1500 * time.Millisecond}
	time.Sleep(wait[how%3])
	w.mu.Lock()
	used := w.wechat.asked(modelApp, base)
	quota := w.wechat.quota[base]
	w.mu.Unlock()
	time.Sleep(wait[how/3%3])
	after, err := g.l.Today(ctx, modelApp, base)
	if err != nil || after.Generation != before.Generation || !after.Reset.Equal(before.Reset) {
		return
	}
	w.mu.Lock()
	store := w.store.now()
	key := modelKey{modelApp, w.window(Day, store).Name, base}
	gone := g.dead || g.l.Rules(modelApp) == nil
	l := w.latches[key]
	switch {
	case gone:
		w.mu.Unlock()
	case lost > 0 && used*2 < after.Used && lost > after.Generation:
		w.occurs("ClearTo")
		key.window = w.window(Day, time.UnixMilli(atStore)).Name
		w.issue(g, base, key.window, atStore, used, asked)
		w.extra[key] = issued{base, key.window, atStore - clockError.Milliseconds(), used, asked, false, g}
		w.note("%s: ClearTo %s %d", g.name, base, used)
		w.mu.Unlock()
		err := g.l.ClearTo(ctx, modelApp, match, began, used)
		w.mu.Lock()
		stored := w.storeGeneration(key.window, base)
		if off := max(stored-atStore, atStore-stored); err == nil && off < (clockError+w.stepped).Milliseconds() {
			w.extra[key] = issued{base, key.window, stored, used, asked, true, g}
			w.adopt(key, stored, atStore)
		}
		w.mu.Unlock()
	case l != nil && l.times > 0 && w.generation(modelApp, key.window, base) == after.Generation:
		usedUp := quota > 0 && used >= quota
		w.occurs(fmt.Sprintf("SettleLatch %t", usedUp))
		if usedUp && after.Latched {
			l.until, l.times = w.window(Day, store).End.UnixMilli(), 4
			l.set, l.since = time.Now(), store.UnixMilli()
		}
		w.note("%s: SettleLatch %s %t", g.name, base, usedUp)
		w.mu.Unlock()
		err := g.l.SettleLatch(ctx, modelApp, match, began, usedUp)
		w.mu.Lock()
		if data := w.store.data[modelWindowKey{modelApp, key.window}]; err == nil && data != nil {
			if latch := data.records[base].Latch; latch.Until > 0 && latch.At == latch.Until {
				l.settled, l.before, l.times = time.Now(), max(l.times, l.before), 0 // the next one is the first again
			}
		}
		w.mu.Unlock()
	default:
		w.occurs("Raise")
		w.note("%s: Raise %s %d", g.name, base, used)
		w.mu.Unlock()
		if errors.Is(g.l.Raise(ctx, modelApp, match, used, began), ErrTooEarly) {
			w.mu.Lock()
			w.occurs("raise too early")
			w.mu.Unlock()
		}
	}
}

// adopt notes the generation that a ClearTo has begun, by its gateway's clock.
func (w *world) adopt(key modelKey, generation, about int64) {
	for i, e := range w.issued[modelApp] {
		if e.counter == key.name && e.window == key.window && e.generation == about && generation != about &&
			max(generation-about, about-generation) < clockError.Milliseconds()+w.stepped.Milliseconds() {
			w.issued[modelApp][i].generation = generation
		}
	}
}
