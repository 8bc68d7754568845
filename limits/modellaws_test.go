package limits

import (
	"slices"
	"strings"
	"time"
)

// Times of the laws: those of the protocol and what a message and a tick take.
const (
	slackTime   = 350 * time.Millisecond // messages, ticks of 100 ms
	troubleTime = 3500 * time.Millisecond
	clockError  = 300 * time.Millisecond // by how much a gateway may be wrong about the store's clock
)

// troubled reports whether a gateway's way to the store was not in order within the last time.
func (w *world) troubled(g *modelGateway, d time.Duration) bool {
	return w.store.state != storeUp || !g.h.trouble.IsZero() && time.Since(g.h.trouble) < d
}

// generation returns the last generation that a clear has begun in a day for a counter.
func (w *world) generation(app, day, base string) (last int64) {
	for _, e := range w.issued[app] {
		if e.window == day && (e.counter == "" || e.counter == base) {
			last = max(last, e.generation)
		}
	}
	return last
}

// took takes in what became of a call.
func (w *world) took(c *modelCall, d Decision) {
	g, store := c.g, w.store.now()
	c.verdict, c.base = d.Verdict, d.Counter
	w.occurs("verdict " + d.Verdict.String())
	w.note("%s: take %s %s: %s, used %d of %d", g.name, c.base, c.caller, d.Verdict, d.Used, d.Quota)
	if took := c.taken.Sub(c.began); took > modelPatience+700*time.Millisecond || took > modelPatience+20*time.Millisecond && !w.seed {
		w.broke("%s: Take of %s took %s", g.name, c.base, took)
	}
	figures := figuresOf(c.rule, c.base, c.caller)
	if !d.Verdict.Sent() {
		w.refused(c, d, figures, store)
		return
	}
	counted := time.UnixMilli(d.Counted)
	c.day, c.month = w.window(Day, counted).Name, w.window(Month, counted).Name
	c.dayEnd = w.window(Day, counted).End
	margin := clockError + w.stepped
	c.edge = w.window(Day, counted.Add(-margin)).Name != w.window(Day, counted.Add(margin)).Name
	c.knew = g.knows(c.app, c.day, c.base)
	h, counts := g.h.answers[modelKey{c.app, c.month, c.base}]
	c.months = counts && !h.vague
	if turn := c.app + " " + c.base; d.Verdict == Pass && g.h.probes[turn] > 0 {
		g.h.probes[turn]--
		c.probe = true
	}
	c.stored = d.Verdict == Pass && limited(figures) && !c.probe
	c.maybe = g.dead || slices.ContainsFunc(w.forgot[g.name+c.app], func(at time.Time) bool { return !at.Before(c.began) })
	w.places(c)
	w.latchHolds(c, store)
	if !g.dead {
		w.deadlineHolds(c, d, figures, store)
		w.grantHolds(c, figures)
	}
	for _, f := range figures {
		if key := c.app + " " + f.counter; f.period == Day || !slices.Contains(w.calls[key], c) {
			w.calls[key] = append(w.calls[key], c)
		}
	}
	for _, o := range w.calls[c.app+" "+c.base] {
		if o.g == g && o.stored && o.back { // the store does not know yet that it was given back
			w.swap(o)
		}
	}
	if d.Verdict == Degraded && limited(figures) {
		w.localHolds(c, figures)
	}
}

// in reports whether a call is counted in a window of a period.
func (c *modelCall) in(p Period, window string) bool {
	if p == Month {
		return c.month == window
	}
	return c.day == window
}

// window is the window of a period that a call was counted in.
func (c *modelCall) window(p Period) string {
	if p == Month {
		return c.month
	}
	return c.day
}

// executed checks the first law: WeChat never executes more calls than the highest limit in force,
// but for the calls that section 7 of the protocol allows.
func (w *world) executed(c *modelCall, t *tally) {
	for _, f := range figuresOf(c.rule, c.base, c.caller) {
		if f.limit >= noLimit {
			continue
		}
		window, since := c.ranDay, t.cleared
		if f.period == Month {
			window, since = c.ranMonth, time.Time{}
		}
		most := w.highest(c, f, since)
		generation := w.generation(c.app, c.ranDay, c.base)
		var n, excused int64
		for _, o := range w.calls[c.app+" "+f.counter] {
			if !o.ran || f.period == Day && (o.ranDay != window || o.clears != c.clears || o.path != c.path) || f.period == Month && o.ranMonth != window {
				continue
			}
			n++
			switch {
			case !o.in(f.period, window): // it crossed midnight on the wire
				excused++
			case f.period == Day && o.knew < generation: // its gateway did not know of the clear
				excused++
			case o.verdict == Degraded, o.edge && w.stepped > 0, o.taken.Before(w.epoch[c.app]):
				excused++
			}
		}
		most += w.mostGranted(modelKey{c.app, window, f.counter})
		if f.counter == c.base {
			w.othersExecuted(c, t, window, most)
		}
		if slack := excused + w.store.slack[modelKey{c.app, window, f.counter}]; n > most+slack {
			w.broke("WeChat executed %d calls of %s in %s, clear %d: the limit is %d, and %d more may be", n, f.counter, window, c.clears, most, slack)
		}
	}
}

// highest returns the highest limit that a figure of a call had in any gateway's table since a time.
func (w *world) highest(c *modelCall, f figure, since time.Time) (most int64) {
	for _, g := range slices.Concat(w.gateways, w.dead) {
		for i, table := range g.tables {
			if table.set == nil || i+1 < len(g.tables) && g.tables[i+1].at.Add(2*time.Second).Before(since) {
				continue
			}
			limit := int64(noLimit)
			for _, x := range figuresOf(table.set.Rule(c.rule.Name), c.base, c.caller) {
				if x.counter == f.counter && x.period == f.period {
					limit = x.limit
				}
			}
			most = max(most, limit)
		}
	}
	return most
}

// grantHolds checks that no call is granted over the limit of its gateway's own table, by the calls
// that surely were counted when it was asked for.
func (w *world) grantHolds(c *modelCall, figures []figure) {
	if c.verdict != Pass || c.probe || !limited(figures) || c.edge {
		return
	}
	now := c.ruleNow()
	for _, f := range figures {
		limit := f.limit
		if now == nil {
			continue
		}
		for _, x := range figuresOf(now, c.base, c.caller) {
			if x.counter == f.counter && x.period == f.period {
				limit = max(limit, x.limit)
			}
		}
		window := c.window(f.period)
		limit += w.mostGranted(modelKey{c.app, window, f.counter})
		var generation int64
		if f.period == Day {
			generation = w.generation(c.app, window, c.base)
		}
		granted := c.began // or before, for a block
		if at := c.g.h.answers[modelKey{c.app, window, f.counter}].granted; at.Before(granted) {
			granted = at
		}
		n := w.count(c.app, f.counter, func(o *modelCall) bool {
			return o.in(f.period, window) && !o.edge && o.stored && !o.back && !o.maybe && o.taken.Before(granted) && o.taken.After(w.epoch[c.app]) &&
				(f.period == Day || len(o.rule.Budget.Quotas) > 1 || o.rule.Name == "clear") && // a month is counted while the rule has one
				(generation == 0 || o.knew >= generation)
		})
		if slack := w.store.slack[modelKey{c.app, window, f.counter}]; n >= limit+slack {
			w.broke("%s: %s was granted with %d calls counted before: the limit is %d, and %d more may be", c.g.name, f.counter, n, limit, slack)
		}
	}
}

// deadlineHolds checks that a call is never granted beyond the end of its window.
func (w *world) deadlineHolds(c *modelCall, d Decision, figures []figure, store time.Time) {
	if d.Deadline.IsZero() || w.stepped > 0 {
		return
	}
	now := w.hostNow(c.g.skew)
	left := min(d.Deadline.Sub(now), d.Deadline.Round(0).Sub(now.Round(0)))
	if left < -slackTime {
		w.broke("%s: %s is granted %s after its deadline", c.g.name, c.base, -left)
	}
	first := Month
	for _, f := range figures {
		first = min(first, f.period)
	}
	if end := w.window(first, store).End; store.Add(left).After(end.Add(2 * time.Millisecond)) {
		w.broke("%s: %s may be sent until %s: its day ends at %s", c.g.name, c.base, store.Add(left), end)
	}
}

// localHolds checks that a gateway that goes on without its store sends no more than its share.
func (w *world) localHolds(c *modelCall, figures []figure) {
	g := c.g
	for _, f := range figures {
		window := c.window(f.period)
		h := g.h.answers[modelKey{c.app, window, f.counter}]
		if h.vague {
			continue
		}
		if !h.known && f.limit >= noLimit {
			continue // a reserve: what is left of its quota bounds it
		}
		if !h.known {
			margin := clockError + w.stepped
			if len(g.h.answers) == 0 { // it knows nothing of the store's clock yet
				margin += w.hostNow(g.skew).Sub(w.store.now()).Abs()
			}
			if start := c.dayEnd.AddDate(0, 0, -1); g.bornAt.Add(-margin).After(start) {
				w.broke("%s: %s goes on in %s, a window that its gateway knows nothing of", g.name, f.counter, c.day)
			}
			continue
		}
		gateways := int64(1)
		for _, b := range g.h.beats {
			if b.at.Before(h.at) && h.at.Sub(b.at) < 9*time.Minute && time.Since(h.at) < 50*time.Second && w.jump.Load()+w.suspended.Load() == 0 {
				gateways = max(gateways, b.used)
			}
		}
		n := w.count(c.app, f.counter, func(o *modelCall) bool {
			return o.g == g && o.verdict == Degraded && o.in(f.period, window) && o.taken.After(h.at)
		})
		own := w.count(c.app, f.counter, func(o *modelCall) bool {
			return o.g == g && o.verdict != Degraded && !o.back && o.in(f.period, window) && (f.period == Month || o.knew >= h.generation)
		})
		unused := max(0, h.local-own) // a block that is not used, and what was given back
		room := max(0, w.highest(c, f, h.at)+w.mostGranted(modelKey{c.app, window, f.counter})-h.used+unused)
		if f.counter == c.base {
			w.localReserveHolds(c, window, room, gateways, h.at)
		}
		if share := room / gateways; n > share {
			w.broke("%s: %d calls of %s without the store: the share is %d", g.name, n, f.counter, share)
		}
	}
}

// latchHolds checks that no call passes a latch that its gateway knows of.
func (w *world) latchHolds(c *modelCall, store time.Time) {
	g, key := c.g, modelKey{c.app, c.day, c.base}
	if c.probe {
		return
	}
	h := g.h.answers[key]
	if store.Add(clockError+w.stepped).UnixMilli() < h.latch.Until && c.began.After(h.latchedAt) {
		w.broke("%s: %s passes a latch that ends at %s", g.name, c.base, time.UnixMilli(h.latch.Until).In(w.zone))
	}
	if at, ok := g.latched[c.app+" "+c.base]; ok && c.began.After(at) && c.began.Sub(at) < 900*time.Millisecond && !c.edge &&
		w.window(Day, store.Add(-time.Second-w.stepped)).Name == c.day {
		w.broke("%s: %s passes just after a 45009", g.name, c.base)
	}
}

// refused checks that a call is refused only while there is a reason for it.
func (w *world) refused(c *modelCall, d Decision, figures []figure, store time.Time) {
	g := c.g
	if d.RetryAfter < time.Second {
		w.broke("%s: %s is refused with RetryAfter %s", g.name, c.base, d.RetryAfter)
	}
	if g.dead {
		return
	}
	if d.Verdict == RefusedStore {
		w.refusedByStore(c, store)
		return
	}
	if w.troubled(g, troubleTime) || c.taken.Sub(c.began) > time.Second {
		return
	}
	// A refusal from memory rests on an answer of the last second.
	var last time.Time
	for key, h := range g.h.answers {
		for _, f := range figures {
			if key.app == c.app && key.name == f.counter && h.at.After(last) {
				last = h.at
			}
		}
	}
	if at := g.quota[c.app+" "+c.base]; at.After(last) {
		last = at
	}
	if age := c.began.Sub(last); age > time.Second+slackTime/3 {
		w.broke("%s: %s of %s by an answer that is %s old", g.name, d.Verdict, c.base, age)
	}
	since := c.began.Add(-time.Second - slackTime)
	edge := len(g.h.answers) == 0 || // its gateway knows nothing of the store's clock yet
		w.window(Day, store.Add(-2*time.Second-w.stepped)).Name != w.window(Day, store.Add(clockError+w.stepped)).Name
	day, month := w.window(Day, store).Name, w.window(Month, store).Name
	switch d.Verdict {
	case RefusedQuota, RefusedShare, RefusedReserved:
		reason := edge
		for _, f := range figures {
			window := day
			if f.period == Month {
				window = month
			}
			key := modelKey{c.app, window, f.counter}
			used := w.store.most(key, since)
			if f.counter == c.base && d.Verdict == RefusedReserved {
				used += w.mostKept(c, window, since)
			}
			reason = reason || used >= f.limit+w.sureGrant(key)
		}
		w.reserveHolds(c, d, day, since, edge)
		if !reason {
			w.broke("%s: %s of %s, and there was room for a second", g.name, d.Verdict, c.base)
		}
	case RefusedLatched:
		key := modelKey{c.app, day, c.base}
		l := w.latches[key]
		switch {
		case edge:
		case l == nil:
			w.broke("%s: %s is latched, and WeChat never refused it today", g.name, c.base)
		case store.Add(-clockError-w.stepped).UnixMilli() > l.until:
			w.broke("%s: %s is still latched: the latch %d had to end at %s", g.name, c.base, l.times, time.UnixMilli(l.until).In(w.zone))
		case store.Add(d.RetryAfter-time.Second-clockError-w.stepped).UnixMilli() > l.until:
			w.broke("%s: %s is latched with RetryAfter %s: the latch ends at %s", g.name, c.base, d.RetryAfter, time.UnixMilli(l.until).In(w.zone))
		case !w.store.hasLost(key) && !w.store.wasLatched(key, since) && c.began.Sub(g.quota[c.app+" "+c.base]) > time.Second+slackTime:
			w.broke("%s: %s is latched, and the latch was lifted or cleared a second ago", g.name, c.base)
		case w.probeIsDue(c, l, store):
			w.broke("%s: %s is latched since %s, and no call goes to see whether WeChat takes it", g.name, c.base, time.UnixMilli(l.since).In(w.zone))
		}
	default:
		w.broke("%s: %s of %s", g.name, d.Verdict, c.base)
	}
}

// probeIsDue reports whether a refused call should have gone through: five minutes are over, and no
// gateway has the turn.
func (w *world) probeIsDue(c *modelCall, l *modelLatch, store time.Time) bool {
	turn := w.store.turns[c.app+" "+c.base]
	return c.g.h.probing == 0 && store.Sub(turn) > 40*time.Second && store.UnixMilli()-l.since > 345_000 && w.stepped+time.Duration(w.suspended.Load()) == 0 &&
		!w.troubled(c.g, troubleTime) && time.Since(c.g.born) > troubleTime && w.hasRoom(c, store)
}

// refusedByStore checks a refusal for want of a store.
func (w *world) refusedByStore(c *modelCall, store time.Time) {
	g := c.g
	if !w.troubled(g, troubleTime) {
		w.broke("%s: %s is refused for want of a store that has answered for %s", g.name, c.base, time.Since(g.h.trouble))
	}
	// A rule that fails open does so within 3 s.
	if c.rule.Name != "large" || len(c.rule.Budget.Quotas) == 0 || c.began.Sub(w.outage) < 3200*time.Millisecond ||
		w.store.state == storeUp || w.window(Day, store.Add(-2*time.Second)).Name != w.window(Day, store.Add(2*time.Second)).Name {
		return
	}
	key := modelKey{c.app, w.window(Day, store).Name, c.base}
	h := g.h.answers[key]
	if !h.known || h.vague || len(g.h.beats) == 0 || g.h.beats[0].at.Add(25*time.Second).After(w.outage) || h.generation != w.generation(c.app, key.window, c.base) {
		return
	}
	if l := w.latches[key]; l != nil && store.Add(-clockError).UnixMilli() <= l.until {
		return
	}
	var degraded, others int64
	for _, o := range w.calls[c.app+" "+c.base] {
		switch {
		case o.g != g || !o.taken.After(h.at):
		case o.verdict == Degraded: // its place in the share is used, even if it was given back
			degraded++
		case !o.back:
			others++
		}
	}
	var most int64
	for _, b := range g.h.beats {
		most = max(most, b.used)
	}
	limit := c.rule.Budget.Quotas[0].Limit
	for _, t := range g.tables {
		if t.at.After(h.at) {
			return // the share may have been worked out under another table
		}
	}
	if share := (limit - h.used - others - h.block) / most; degraded < share {
		w.broke("%s: %s is refused in an outage with %d of a share of %d sent", g.name, c.base, degraded, share)
	}
}

// places checks that a path inside a /* has a counter of its own while there are places.
func (w *world) places(c *modelCall) {
	if !isShared(c.base) {
		return
	}
	w.occurs("shared counter")
	used := make(map[string]bool)
	for key, calls := range w.calls {
		for _, o := range calls {
			if o.g == c.g && o.app == c.app && strings.Contains(o.base, ":/") && (!o.over || !o.back) {
				used[key] = true
			}
		}
	}
	if len(used) < maxPaths && !w.troubled(c.g, 15*time.Second) {
		w.broke("%s: %s shares a counter, and only %d paths are called", c.g.name, c.path, len(used))
	}
}

// latched takes in a 45009 that is about to end a call.
func (w *world) latched(c *modelCall) {
	store := w.store.now()
	day := w.window(Day, store)
	c.g.quota[c.app+" "+c.base] = time.Now()
	margin := clockError + w.stepped
	midnight := w.window(Day, store.Add(-margin)).Name != w.window(Day, store.Add(margin)).Name
	if day.Name != c.day && len(c.g.h.answers) > 0 && !midnight || isShared(c.base) {
		return
	}
	key := modelKey{c.app, c.day, c.base}
	generation := w.generation(c.app, c.day, c.base)
	l := w.latches[key]
	if l == nil {
		l = &modelLatch{}
		w.latches[key] = l
	}
	if h := c.g.h.answers[key]; len(c.g.h.answers) > 0 && !w.forgotten(c) && h.latch.At == 0 && l.times == 0 && c.knew == c.g.knows(c.app, c.day, c.base) {
		c.g.latched[c.app+" "+c.base] = time.Now()
	}
	if l.times < l.before && (c.g.h.answers[key].at.Before(l.settled) || w.store.hasLost(key)) { // its gateway may not know that
		l.times = l.before
	}
	if h := c.g.h.answers[key].latch; l.times == 1 && !c.taken.After(l.set) && h.Until > h.At {
		l.times = 2 // its gateway knows an earlier one than that of another gateway just now
	}
	if l.times == 0 || c.taken.After(l.set) {
		l.times++
		l.set = time.Now()
	}
	l.since = store.UnixMilli()
	until := store.Add([...]time.Duration{61 * time.Second, 2 * time.Minute, 4 * time.Minute, 0}[min(l.times-1, 3)])
	if l.times > 3 {
		until = day.End
	}
	if young := store.Add(-settlingTime + clockError + w.stepped); young.Before(day.Start) || young.UnixMilli() < generation && c.knew >= generation {
		until = store.Add(61 * time.Second)
	}
	if len(c.g.h.answers) == 0 { // its gateway knows nothing of the store's clock yet
		until = until.Add(w.hostNow(c.g.skew).Sub(store).Abs())
	}
	l.until = max(l.until, until.UnixMilli())
}
