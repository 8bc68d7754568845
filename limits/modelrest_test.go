package limits

import (
	"slices"
	"strings"
	"time"
)

// ruleCounter is the counter of a rule or path that a share is part of.
func ruleCounter(name string) string {
	base, _, _ := strings.Cut(name, "@")
	return base
}

// requested checks the rate of requests about counters that are not called, and that requests for one
// counter do not overlap.
func (w *world) requested(h *modelHandle, r *Request) {
	g := w.of(h)
	if g == nil {
		return
	}
	if len(r.Counters) > 0 {
		h.requests++
	}
	for _, c := range r.Counters {
		key := r.App + " " + c.Name
		in := modelKey{r.App + r.Life, r.Windows[c.Window].Name, c.Name}
		if h.busy[in] {
			w.broke("%s: requests about %s overlap", h.id, c.Name)
		}
		h.busy[in] = true
		if h.lives[key].id != r.Life {
			h.lives[key] = modelLife{r.Life, time.Now()}
		}
		base := ruleCounter(c.Name)
		now := time.Now()
		if now.Sub(g.active[r.App+" "+base]) < 1100*time.Millisecond {
			continue
		}
		asked := slices.DeleteFunc(h.asked[key], func(at time.Time) bool { return now.Sub(at) > 10*time.Second })
		if h.asked[key] = append(asked, now); len(h.asked[key]) > 15 {
			w.broke("%s: %d requests in 10 s about %s, which is not called", h.id, len(h.asked[key]), c.Name)
		}
	}
}

// of returns the gateway of a handle, or nil when it is not running.
func (w *world) of(h *modelHandle) *modelGateway {
	for _, g := range w.gateways {
		if g.h == h && !g.dead {
			return g
		}
	}
	return nil
}

// answered takes in an answer that a gateway gets.
func (w *world) answered(h *modelHandle, r *Request, a *Answer, sent time.Time) {
	now := time.Now()
	g := w.of(h)
	// What a meter asked that was forgotten then, or that still works for a batch, the gateway does not know.
	forgotten := g != nil && sent.Sub(g.dropped[r.App]) < time.Second
	if a.Status == Outside {
		h.trouble = now
	}
	if a.Lost {
		w.occurs("lost writes")
		if g != nil {
			g.lossSeen, g.losses = now, append(g.losses, now)
		}
	}
	for i, c := range r.Counters {
		key := modelKey{r.App, r.Windows[c.Window].Name, c.Name}
		known, state := h.answers[key], a.Counters[i]
		if known.vague {
			known = modelAnswer{}
		}
		x := modelAnswer{at: now, generation: max(state.Generation, a.Generations[c.Window]), used: state.Used, block: a.Block, local: c.Local, latch: state.Latch, latchedAt: now}
		x.known = c.Generation == x.generation && state.Version > 0 || known.known && known.generation == x.generation
		if x.granted = known.granted; a.Granted+a.Block > 0 && c.Reserve == 0 {
			x.granted = now
			x.local += a.Granted + a.Block
		}
		if x.generation < known.generation {
			x.generation, x.latch = known.generation, Latch{}
		}
		if forgotten {
			x.vague, x.known, x.latch = true, false, Latch{}
		}
		if g != nil && x.generation > known.generation {
			delete(g.latched, key.app+" "+key.name) // the latch was one of the generation before
		}
		if x.latch == known.latch {
			x.latchedAt = known.latchedAt
		}
		h.answers[key] = x
	}
}

// reported notes that the store knows of the calls that a gateway had when it sent a request.
func (w *world) reported(h *modelHandle, key modelKey, sent time.Time) {
	calls := w.calls[key.app+" "+key.name]
	for _, c := range calls {
		if c.g.h == h && !c.taken.After(sent) && (c.day == key.window || c.month == key.window) {
			c.stored = !c.back || c.endedIn.After(sent)
		}
	}
	for _, c := range calls {
		if c.g.h == h && c.stored && c.back {
			w.swap(c)
		}
	}
}

// keptTime is how long after its end a window is reported.
const keptTime = windowGrace - time.Hour

// watch checks the laws about what does not happen: it is called between events.
func (w *world) watch() {
	for _, g := range w.gateways {
		switch state, down := g.l.Store(), w.store.state != storeUp; {
		case down && state.Err == nil && time.Since(w.outage) > 3200*time.Millisecond && time.Since(g.born) > 3200*time.Millisecond:
			w.broke("%s: the store is away for %s, and the gateway does not know", g.name, time.Since(w.outage))
		case !w.troubled(g, troubleTime) && state.Err != nil:
			w.broke("%s: the store is back, and the gateway does not know: %v", g.name, state.Err)
		}
	}
	for key, parts := range w.store.lost {
		for life, p := range parts {
			for _, g := range w.gateways {
				current, ok := g.h.lives[key.app+" "+key.name]
				if ok && !g.restates(p.at) && life == g.h.id+current.id && g.lossSeen.After(p.at) && time.Since(g.lossSeen) > 2500*time.Millisecond &&
					!w.troubled(g, troubleTime) && current.began.After(g.dropped[key.app]) && g.l.Rules(key.app) != nil && w.keeps(key.window) &&
					p.generation >= w.generation(key.app, key.window, ruleCounter(key.name)) {
					w.broke("%s: saw lost writes %s ago, and has not reported its %d calls of %s", g.name, time.Since(g.lossSeen), p.calls, key.name)
				}
			}
		}
	}
	for _, calls := range w.calls {
		for _, c := range calls {
			if c.stored || c.maybe || c.back || c.g.dead || time.Since(c.taken) < 1500*time.Millisecond ||
				c.knew < c.g.knows(c.app, c.day, c.base) || w.store.now().Sub(c.dayEnd) > keptTime || w.troubled(c.g, troubleTime) {
				continue
			}
			if c.stored = w.covered(c); !c.stored {
				w.broke("%s: a call of %s is not reported after %s", c.g.name, c.base, time.Since(c.taken))
			}
		}
	}
}

// restates reports whether a gateway restated at a time what it had lost before: a second loss is
// noticed then with the next call only.
func (g *modelGateway) restates(at time.Time) bool {
	return slices.ContainsFunc(g.losses, func(saw time.Time) bool { return at.Sub(saw) > -modelPatience && at.Sub(saw) < 3*time.Second })
}

// keeps reports whether a window is one of now: gateways drop others.
func (w *world) keeps(window string) bool {
	now := w.store.now()
	return window == w.window(Day, now).Name || window == w.window(Month, now).Name
}

// covered reports whether the store has as many calls of a call's gateway as there are: a block that was
// void may have been taken for calls that need none.
func (w *world) covered(c *modelCall) bool {
	data := w.store.data[modelWindowKey{c.app, c.day}]
	if data == nil {
		return false
	}
	generation := max(data.generation, data.records[c.base].Generation)
	var stored int64
	for field, p := range data.parts {
		if strings.HasPrefix(field, c.base+"|"+c.g.h.id) && p.generation == generation {
			stored += p.local
		}
	}
	return stored >= w.count(c.app, c.base, func(o *modelCall) bool {
		return o.g == c.g && !o.back && o.day == c.day && o.knew >= generation && !o.taken.After(c.taken)
	})
}

// atRest checks what the store has counted against the calls there were, while no call is in flight and
// nothing is on its way.
func (w *world) atRest() {
	w.occurs("rest")
	w.store.expire()
	today := w.window(Day, w.store.now()).Name
	for _, e := range w.issued[modelApp] {
		if e.counter == "" && e.window == today && !e.by.dead && e.sent.After(e.by.dropped[modelApp]) && len(w.store.losses) == 0 &&
			w.storeGeneration(today, "") < e.generation {
			w.broke("at rest: %s was granted a clear, and the store does not know of it", e.by.name)
		}
	}
	for in, data := range w.store.data {
		if w.store.now().Sub(data.End) > keptTime {
			continue
		}
		for name := range data.records {
			w.counted(in, data, name)
		}
	}
	for key, calls := range w.calls {
		app, name, _ := strings.Cut(key, " ")
		for _, c := range calls {
			for _, window := range []string{c.day, c.month} {
				data := w.store.data[modelWindowKey{app, window}]
				day := slices.ContainsFunc(figuresOf(c.rule, c.base, c.caller), func(f figure) bool { return f.counter == name && f.period == Day })
				if day && (data == nil || data.records[name] == record{}) && window == w.window(Day, w.store.now()).Name {
					w.counted(modelWindowKey{app, window}, &modelWindow{}, name)
				}
			}
		}
	}
}

// counted checks one counter at rest.
func (w *world) counted(in modelWindowKey, data *modelWindow, name string) {
	rec := data.records[name]
	generation := max(data.generation, rec.Generation)
	if rec.Generation < generation {
		rec = record{CounterState: CounterState{Generation: generation}}
	}
	key := modelKey{in.app, in.window, name}
	base := ruleCounter(name)
	month := strings.HasPrefix(in.window, "m")
	if month {
		generation = 0
	}
	var last int64
	for _, e := range w.issued[in.app] { // a generation is that of a clear, or one more than one that was known
		if e.window == in.window {
			last = max(last, e.generation)
		}
	}
	if generation > last+int64(len(w.issued[in.app])) || generation > 0 && w.generation(in.app, in.window, base) == 0 {
		w.broke("%s has the generation %d, and no clear has begun it: the last one is %d", name, generation, last)
	}
	if in.app == otherApp && (rec.Generation != 0 || rec.Latch != Latch{}) {
		w.broke("%s of another app has the generation %d and the latch %v", name, rec.Generation, rec.Latch)
	}
	steps := w.stepped.Milliseconds()
	var low, high int64
	for _, g := range slices.Concat(w.gateways, w.dead) {
		var least, most int64
		since := w.carries(g, in.app, name, generation) - carryTime.Milliseconds() - steps - w.suspended.Load()/1e6
		for _, c := range w.calls[in.app+" "+name] {
			if c.g != g || c.taken.Before(w.epoch[in.app]) || !c.edge && c.day != in.window && c.month != in.window {
				continue
			}
			from, to := int64(1), int64(1)
			if c.back {
				from, to = 0, 0
			}
			// Whether it belongs to the generation. Its gateway may not know that yet, or know of a later one.
			if known := g.knows(in.app, in.window, name); !month && (known < generation || c.over && c.endedAt < max(known, w.generation(in.app, in.window, base))+steps) {
				from = 0
			}
			if c.over && c.endedAt < since {
				from, to = 0, 0
			}
			if !month && c.knew < generation && c.taken.Before(g.dropped[in.app]) {
				from = 0 // its gateway has forgotten what it could carry
			}
			if c.maybe || c.edge || w.losesFigure(c, month) {
				from = 0
			}
			if c.maybe && c.back {
				to = 1
			}
			least, most = least+from, most+to
		}
		// A part that its gateway does not report any more may be too large: that of a dead process, of a
		// former life of a meter that a fail-over has brought back, or one that was not reported since.
		old := g.dead && !g.ended || len(w.forgot[g.name+in.app]) > 0 || w.store.hasLost(key) && !g.h.answers[key].at.After(w.store.losses[key])
		prefix, current := in.app+" "+in.window+" "+name+"|"+g.h.id, g.h.lives[in.app+" "+name].id
		var all, former int64
		for peak, n := range w.store.peaks {
			if strings.HasPrefix(peak, prefix) {
				if all += n; peak != prefix+current {
					former += n
				}
			}
		}
		switch {
		case old:
			most = max(most, all)
		case w.store.hasLost(key):
			most += former
		}
		low, high = low+least, high+most
	}
	low -= w.store.missing(key, "")
	high += w.around[key]
	if x := w.extra[key]; x.generation > 0 && x.generation <= generation {
		high += x.calls
		if x.stored && x.generation == generation && !w.store.hasLost(key) {
			low += x.calls
		}
	}
	high += rec.Lost                             // restored from a gateway's memory, and perhaps given back since
	for _, c := range w.calls[in.app+" "+name] { // WeChat has them in its count of this day
		if (w.around[key] > 0 || w.extra[key].generation > 0 || w.asked[key]) && c.ranDay == in.window && (c.day != in.window || c.taken.Before(w.epoch[in.app])) {
			high++
		}
	}
	if w.store.hasLost(key) && (w.asked[key] || w.around[key] > 0) {
		high *= 2 // WeChat's count raised what was lost, and the gateways reported their parts of it after that
	}
	high = max(high, w.full[key])
	if rec.Used < low || rec.Used > high {
		w.broke("at rest: %s in %s, generation %d: counted %d, want %d to %d", name, in.window, generation, rec.Used, low, high)
	}
}

// carryTime is how long before a clear a call may have ended that is carried over it.
const carryTime = clockError

// carries returns since when a gateway may carry calls into a generation. It is that generation, but the
// gateway may have merged what it knows of calls before and after, back to the generation before.
func (w *world) carries(g *modelGateway, app, name string, generation int64) (since int64) {
	late := w.count(app, name, func(c *modelCall) bool {
		return c.g == g && c.knew < generation && c.over && c.endedAt >= generation-(carryTime+w.stepped).Milliseconds()-w.suspended.Load()/1e6
	})
	if late == 0 {
		return generation
	}
	for _, c := range w.calls[app+" "+name] {
		if c.g == g && c.knew < generation {
			since = max(since, c.knew)
		}
	}
	return since
}

// losesFigure reports whether a call may not be counted for the month: its rule had no figure, and its
// gateway had not counted the month before.
func (w *world) losesFigure(c *modelCall, month bool) bool {
	return month && !c.months && !slices.ContainsFunc(c.rule.Budget.Quotas, func(q Quota) bool { return q.Period == Month })
}
