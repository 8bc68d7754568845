package limits

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"
)

// modelGrant is a grant that an operator has asked a gateway for.
type modelGrant struct {
	calls    int64
	until    int64 // the store's clock
	at       int64 // Grant.At; 0: not known
	began    time.Time
	known    time.Time // when it was confirmed; zero: it was not, and may be in force or not
	by       *modelGateway
	replaced bool // surely by a later one
}

// grant has an operator set or end a grant, as the command does: the figure that is in force is read, and the
// sum is set in its place. Where no answer comes the same is sent again.
func (w *world) grant(g *modelGateway, x modelStep) {
	base := [...]string{"small", "large", "kept", "both", "small"}[x.a%5]
	set := g.l.Rules(modelApp)
	w.mu.Lock()
	edge := w.window(Day, w.store.now().Add(-5*time.Second)).Name != w.window(Day, w.store.now().Add(5*time.Second)).Name
	dead := g.dead
	w.mu.Unlock()
	if set == nil || dead || edge {
		return
	}
	match := set.Match("/cgi-bin/" + base)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	lines, err := g.l.Usage(ctx, modelApp)
	if err != nil {
		return
	}
	var over, calls int64
	for _, u := range lines {
		if u.Counter == base {
			over, calls = max(over, u.Grant.At), max(calls, u.Grant.Calls)
		}
	}
	calls += int64(1 + x.b%4)
	if x.b%5 == 4 {
		over = 0 // as a command that has read before another set one
	}
	if x.a/5%4 == 3 {
		calls = 0
	}
	var until time.Time
	if d := [...]time.Duration{0, 3 * time.Second, 25 * time.Second}[x.b/4%3]; d > 0 {
		w.mu.Lock()
		until = w.store.now().Add(d).Truncate(time.Millisecond)
		w.mu.Unlock()
	}
	for try := range 2 {
		if w.setGrant(g, match, calls, until, over) {
			return
		}
		time.Sleep([...]time.Duration{30 * time.Millisecond, 2 * time.Second}[x.b%2])
		w.mu.Lock()
		if try == 0 {
			w.occurs("grant repeated")
		}
		w.mu.Unlock()
	}
}

// setGrant asks a gateway for a grant, and reports whether it has answered.
func (w *world) setGrant(g *modelGateway, match Match, calls int64, until time.Time, over int64) bool {
	w.mu.Lock()
	now := w.store.now()
	asked := make(map[modelKey]*modelGrant)
	for _, q := range match.Rule.Budget.Quotas {
		end := w.window(match.Rule.Budget.Quotas[0].Period, now).End
		if !until.IsZero() {
			end = until
		}
		key := modelKey{modelApp, w.window(q.Period, now).Name, match.Counter}
		asked[key] = &modelGrant{calls: calls, until: end.UnixMilli(), began: time.Now(), by: g}
		w.grants[key] = append(w.grants[key], asked[key])
	}
	g.touch(modelApp, match.Counter)
	w.note("%s: grant of %d for %s until %s over %d", g.name, calls, match.Counter, until, over)
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	grant, err := g.l.SetGrant(ctx, modelApp, match, calls, until, over)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("%s: granted %v: %v", g.name, grant, err)
	g.touch(modelApp, match.Counter)
	switch {
	case errors.Is(err, ErrNoQuota), errors.Is(err, ErrGrantTime):
	case errors.Is(err, ErrGrantChanged):
		w.occurs("grant that another has changed")
	case err != nil:
		w.occurs("grant without an answer")
		return false
	default:
		w.occurs(map[bool]string{true: "grant set", false: "grant ended"}[calls > 0])
		if grant.Calls != calls {
			w.broke("%s: a grant of %d calls, and the answer is %d", g.name, calls, grant.Calls)
		}
		for key, m := range asked {
			m.at, m.known = grant.At, time.Now()
			for _, other := range w.grants[key] {
				if other != m && other.at < m.at && other.began.Before(m.began) && !w.store.hasLost(key) {
					other.replaced = true
				}
			}
		}
	}
	return true
}

// mostGranted is the most that operators may have added to a counter, at any time of its window.
func (w *world) mostGranted(key modelKey) (most int64) {
	for _, m := range w.grants[key] {
		most = max(most, m.calls)
	}
	return most
}

// sureGrant is what was surely added to a counter for the last seconds, on every gateway.
func (w *world) sureGrant(key modelKey) int64 {
	all := w.grants[key]
	if len(all) == 0 || w.store.hasLost(key) || w.stepped > 0 {
		return 0
	}
	last := all[len(all)-1]
	for _, m := range all {
		if m != last && !m.replaced {
			return 0
		}
	}
	quiet := time.Second + slackTime
	if last.known.IsZero() || time.Since(last.known) < quiet || w.store.now().Add(clockError).UnixMilli() > last.until || !last.known.After(w.epoch[key.app]) {
		return 0
	}
	return last.calls
}

// grantInForce is what the store adds to a counter now, and whether that holds for a minute or two.
func (w *world) grantInForce(key modelKey) (calls int64, lasting bool) {
	data := w.store.data[modelWindowKey{key.app, key.window}]
	if data == nil {
		return 0, true
	}
	grant, now := data.records[key.name].Grant, w.store.now()
	for _, g := range w.gateways { // a store that has lost it learns of it with the next call
		for _, m := range w.grants[key] {
			if m.by == g && m.at > grant.At {
				return 0, false
			}
		}
	}
	calls = grant.at(now.UnixMilli())
	return calls, calls == grant.at(now.Add(3*time.Minute).UnixMilli()) && w.window(Day, now).Name == w.window(Day, now.Add(3*time.Minute)).Name
}

// grantsAreRestored checks at the end that every grant is in the store which its gateway has had confirmed and
// still knows, or a later one: a clear, a lost write and a reload change nothing in it.
func (w *world) grantsAreRestored() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, all := range w.grants {
		data := w.store.data[modelWindowKey{key.app, key.window}]
		for _, m := range all {
			if m.known.IsZero() || m.by.dead || !m.known.After(w.epoch[key.app]) || !m.known.After(m.by.dropped[key.app]) || !w.keeps(key.window) || data == nil {
				continue
			}
			rule := m.by.l.Rules(modelApp).Rule(ruleOf(key.name))
			month := strings.HasPrefix(key.window, "m")
			if rule == nil || !slices.ContainsFunc(rule.Budget.Quotas, func(q Quota) bool { return (q.Period == Month) == month }) {
				continue
			}
			if got := data.records[key.name].Grant; got.At < m.at {
				w.broke("at the end: %s in %s has the grant %v, and %s had set one of %d calls at %d", key.name, key.window, got, m.by.name, m.calls, m.at)
			} else if w.store.hasLost(key) && w.store.losses[key].After(m.known) {
				w.occurs("grant restored")
			}
		}
	}
}

// roomHolds checks what a store grants: no more than the limit and the grants of now, and of a rule with reserves
// none of what is unused of those of others.
func (w *world) roomHolds(h *modelHandle, r *Request, a *Answer, records []record, sent time.Time) {
	g := w.of(h)
	if a.Granted == 0 || g == nil {
		return
	}
	now := w.store.now().UnixMilli()
	for i, c := range r.Counters {
		if c.Reserve > 0 {
			continue
		}
		key := modelKey{r.App, r.Windows[c.Window].Name, c.Name}
		var added int64
		for _, m := range w.grants[key] {
			if !m.replaced && now < m.until {
				added = max(added, m.calls)
			}
		}
		var kept int64
		if strings.HasSuffix(r.Windows[c.Window].Name, w.window(Day, w.store.now()).Name) && !strings.Contains(c.Name, "@") {
			kept = w.leastKept(g, r, c.Name, sent)
		}
		if used := records[i].Used; used > c.Limit+added-kept {
			w.broke("%s: %d+%d calls of %s are granted, and make %d: the limit is %d, %d are granted, %d are kept for others", g.name, a.Granted, a.Block, c.Name, used, c.Limit, added, kept)
		}
	}
}

// leastKept is what is unused of the reserves of others than the caller of a request, by the tables that its
// gateway had when it was sent.
func (w *world) leastKept(g *modelGateway, r *Request, base string, sent time.Time) (least int64) {
	day := w.window(Day, w.store.now()).Name
	least = noLimit
	for i, t := range g.tables {
		if t.set == nil || i+1 < len(g.tables) && sent.Sub(g.tables[i+1].at) > 2*time.Second {
			continue
		}
		var kept int64
		if rule := t.set.Rule(ruleOf(base)); rule != nil {
			for caller, n := range rule.Reserve {
				counted := slices.ContainsFunc(r.Counters, func(c Report) bool { return c.Name == base+"@"+caller && c.Reserve == 0 })
				if used, sure := w.storeUsed(r.App, day, base+"@"+caller); !counted && sure {
					kept += max(0, n-used)
				}
			}
		}
		least = min(least, kept)
	}
	return least % noLimit
}

// storeUsed is what the store has counted; it is not sure while a request is being applied that changes it.
func (w *world) storeUsed(app, window, name string) (used int64, sure bool) {
	data := w.store.data[modelWindowKey{app, window}]
	if data == nil {
		return 0, false
	}
	c := data.records[name]
	return c.Used, c.Generation >= data.generation && c.Generation == data.records[ruleCounter(name)].Generation
}

// mostKept is the most that may have been kept back for others since a time.
func (w *world) mostKept(c *modelCall, window string, since time.Time) (kept int64) {
	for _, t := range c.g.tables {
		if t.set == nil {
			continue
		}
		var sum int64
		for caller, n := range t.set.Rule(c.rule.Name).Reserve {
			if caller != c.caller {
				sum += max(0, n-w.store.least(modelKey{c.app, window, c.base + "@" + caller}, since))
			}
		}
		kept = max(kept, sum)
	}
	return kept
}

// least returns the smallest count that a counter had since a moment.
func (s *modelStore) least(key modelKey, since time.Time) int64 {
	samples := s.rooms[key]
	least := int64(noLimit)
	for i, x := range samples {
		if i+1 == len(samples) || samples[i+1].at.After(since) {
			least = min(least, x.used)
		}
	}
	data := s.data[modelWindowKey{key.app, key.window}]
	if len(samples) == 0 || samples[0].at.After(since) || data == nil || data.records[key.name] == (record{}) { // or it was forgotten
		return 0
	}
	return least
}

// reserveHolds checks that a caller is not refused while its reserve has room, where nothing but calls through
// the gateways and clears has changed a count.
func (w *world) reserveHolds(c *modelCall, d Decision, day string, since time.Time, edge bool) {
	n := c.rule.Reserve[c.caller]
	key := modelKey{c.app, day, c.base}
	if n == 0 || edge || d.Verdict == RefusedShare || w.around[key] > 0 || w.asked[key] || w.store.hasLost(key) || w.store.hasLost(modelKey{c.app, day, c.base + "@" + c.caller}) || len(w.grants[key]) > 0 || w.full[key] > 0 {
		return
	}
	for _, g := range slices.Concat(w.gateways, w.dead) {
		for _, t := range g.tables {
			if t.set == nil {
				return
			}
			rule := t.set.Rule(c.rule.Name)
			if rule.Budget.String() != c.rule.Budget.String() || !maps.Equal(rule.Reserve, c.rule.Reserve) { // a reserve of others that grew takes what was room
				return
			}
		}
	}
	if len(w.issued[c.app]) > 0 { // what runs over a clear is counted in both
		return
	}
	// A gateway without its store knows only what it heard last, and a forgotten one takes no late grant back.
	if slices.ContainsFunc(w.calls[c.app+" "+c.base], func(o *modelCall) bool { return o.verdict == Degraded && o.in(Day, day) }) {
		return
	}
	for _, g := range slices.Concat(w.gateways, w.dead) {
		if len(w.forgot[g.name+c.app]) > 0 {
			return
		}
	}
	if used := w.store.most(modelKey{c.app, day, c.base + "@" + c.caller}, since); used < n {
		w.broke("%s: %s of %s for %s, whose reserve of %d has %d left", c.g.name, d.Verdict, c.base, c.caller, n, n-used)
	}
}

// othersExecuted checks that WeChat never executes more calls of callers without a reserve than the quota less
// all reserves: what a caller uses of its reserve is no room for others either.
func (w *world) othersExecuted(c *modelCall, t *tally, window string, most int64) {
	if len(c.rule.Reserve) == 0 || c.rule.Reserve[c.caller] > 0 || window != c.ranDay {
		return
	}
	least := int64(noLimit)
	for _, g := range slices.Concat(w.gateways, w.dead) {
		for i, table := range g.tables {
			if table.set == nil || i+1 < len(g.tables) && g.tables[i+1].at.Add(2*time.Second).Before(t.cleared) {
				continue
			}
			var sum int64
			for _, n := range table.set.Rule(c.rule.Name).Reserve {
				sum += n
			}
			least = min(least, sum)
		}
	}
	generation := w.generation(c.app, c.ranDay, c.base)
	var n, excused int64
	for _, o := range w.calls[c.app+" "+c.base] {
		if !o.ran || o.ranDay != window || o.clears != c.clears || o.path != c.path || c.rule.Reserve[o.caller] > 0 {
			continue
		}
		n++
		if !o.in(Day, window) || o.knew < generation || o.verdict == Degraded || o.edge && w.stepped > 0 || o.taken.Before(w.epoch[c.app]) || o.rule.Reserve[o.caller] > 0 {
			excused++
		}
	}
	slack := excused + w.store.slack[modelKey{c.app, window, c.base}]
	if n > most-least+slack {
		w.broke("WeChat executed %d calls of %s of callers without a reserve: the limit is %d, %d are kept, and %d more may be", n, c.base, most, least, slack)
	}
}

// localReserveHolds checks that a gateway without its store sends none of what was unused of reserves for others.
func (w *world) localReserveHolds(c *modelCall, window string, room, gateways int64, since time.Time) {
	if len(c.rule.Reserve) == 0 || c.rule.Reserve[c.caller] > 0 || len(c.g.tables) > 1 {
		return
	}
	g := c.g
	for caller, n := range c.rule.Reserve {
		key := modelKey{c.app, window, c.base + "@" + caller}
		used := w.count(c.app, key.name, func(o *modelCall) bool { return o.g == g && o.in(Day, window) && o.taken.After(since) })
		if h := g.h.answers[key]; !h.vague {
			used += h.used
		}
		room -= max(0, n-used)
	}
	n := w.count(c.app, c.base, func(o *modelCall) bool {
		return o.g == g && o.verdict == Degraded && o.in(Day, window) && o.taken.After(since) && c.rule.Reserve[o.caller] == 0
	})
	if share := max(0, room) / gateways; n > share {
		w.broke("%s: %d calls of %s of callers without a reserve, without the store: the share is %d", g.name, n, c.base, share)
	}
}

// remainderKept uses what is left of the rule with reserves: first what is left for those without one, then
// each reserve.
func (w *world) remainderKept() {
	for _, caller := range []string{"", "oncall", "crm"} {
		w.mu.Lock()
		now := w.store.now()
		day := w.window(Day, now)
		key := modelKey{modelApp, day.Name, "kept"}
		set := w.gateways[0].l.Rules(modelApp)
		grant, lasting := w.grantInForce(key)
		data := w.store.data[modelWindowKey{modelApp, day.Name}]
		ready := set != nil && lasting && data != nil && day.End.Sub(now) > 2*time.Minute && now.UnixMilli() >= data.records["kept"].Latch.Until
		var left int64
		if ready {
			rule := set.Rule("kept")
			limit, _ := rule.Budget.Smallest()
			used := func(name string) int64 {
				c := data.records[name]
				ready = ready && (c == record{} || c.Generation >= data.generation)
				return c.Used
			}
			left = limit + grant - used("kept")
			ready = ready && used("kept") > 0
			for other, n := range rule.Reserve {
				if unused := max(0, n-used("kept@"+other)); other != caller {
					left -= unused
				}
			}
			left = max(0, left)
		}
		for _, g := range w.gateways {
			if ready {
				for _, name := range []string{"kept", "kept@oncall", "kept@crm"} {
					c := data.records[name]
					ready = ready && (c == record{} || c.Generation == data.records["kept"].Generation) && g.knows(modelApp, day.Name, "kept") >= c.Generation
				}
			}
			ready = ready && g.l.Rules(modelApp) != nil && g.texts["kept"] == w.gateways[0].texts["kept"] && g.texts["reserve"] == w.gateways[0].texts["reserve"]
		}
		before := w.count(modelApp, "kept", func(c *modelCall) bool { return c.ran })
		w.mu.Unlock()
		if !ready {
			return
		}
		for i := range left + 1 {
			w.call(w.gateways[int(i)%len(w.gateways)], modelApp, "/cgi-bin/kept", caller, modelOutcome{})
			time.Sleep(1200 * time.Millisecond)
		}
		w.mu.Lock()
		w.occurs("remainder of a reserve")
		if n := w.count(modelApp, "kept", func(c *modelCall) bool { return c.ran }) - before; n != left {
			w.broke("%d calls of kept were left for %q, and %d were executed", left, caller, n)
		}
		w.mu.Unlock()
	}
}
