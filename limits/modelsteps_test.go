package limits

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// step makes one event happen. Its numbers choose what exactly.
func (w *world) step(x modelStep) {
	g := w.alive(x.g)
	w.mu.Lock()
	w.note("%s of %s, %d, %d", x.kind, g.name, x.a, x.b)
	switch x.kind {
	case messages:
		f, n := fate(1+x.a%(int(fates)-1)), 1+x.b%4
		g.h.delay = [...]time.Duration{120 * time.Millisecond, 900 * time.Millisecond, 4 * time.Second, 9 * time.Second}[x.b/4%4]
		for range n {
			g.h.fates = append(g.h.fates, f)
		}
	case freezes:
		w.away(storeFrozen)
	case breaks:
		w.away(storeDown)
	case refuses:
		w.away(storeRefusing)
	case ends:
		w.heal()
	case flushes:
		if x.b%4 == 3 {
			w.mu.Unlock()
			w.lateOverLoss(g, x)
			return
		}
		w.store.replace(make(map[modelWindowKey]*modelWindow))
	case failsOver:
		w.store.failOver(x.a % 3)
	case clockSteps:
		if x.b%4 == 3 {
			w.mu.Unlock()
			w.clearTwice(g)
			return
		}
		d := [...]time.Duration{300 * time.Millisecond, -300 * time.Millisecond, 1500 * time.Millisecond, -1500 * time.Millisecond}[x.a%4]
		w.store.offset += d
		w.stepped += d.Abs()
		w.trouble()
	case clearsConsole:
		w.wechat.clear(modelApp, "")
	case goesAround:
		base := [...]string{"small", "large", "free"}[x.a%3]
		n := int64(1 + x.b%3)
		w.wechat.tally(modelApp, base).around += n
		w.around[modelKey{modelApp, w.window(Day, w.store.now()).Name, base}] += n
	case jumps:
		w.jumpBy([...]time.Duration{30 * time.Second, 310 * time.Second, 11 * time.Minute, time.Hour}[x.a%4], false)
	case suspends:
		w.jumpBy([...]time.Duration{20 * time.Second, 11 * time.Minute, time.Hour}[x.a%3], true)
	default:
		w.mu.Unlock()
		w.longStep(g, x)
		return
	}
	w.mu.Unlock()
}

// longStep makes an event happen that lasts, or that calls the limiters. The world's mutex is not held.
func (w *world) longStep(g *modelGateway, x modelStep) {
	switch x.kind {
	case takes:
		w.takes(g, x)
	case rests:
		w.rest()
	case reloads:
		w.reload(g, x)
	case clears:
		w.spawn(func() { w.clearQuota(g, x) })
	case asks:
		w.spawn(func() { w.ask(g, [...]string{"small", "large", "free"}[x.a%3], x.b, 0) })
	case kills:
		w.kill(g)
		w.replaceGateway(g)
	case probes:
		w.longLatch(x)
	case takesApart:
		w.takeApart(g, x)
	case forgetsAll:
		w.forgetAll(x)
	case floods:
		w.flood(g)
	case idles:
		w.idle(x)
	case restarts:
		w.restart(g)
	case forgetsOne:
		w.forgetOne(g)
	case midnights:
		w.toMidnight(x)
	case grants:
		w.spawn(func() { w.grant(g, x) })
	}
}

// lateOverLoss has requests of a call arrive late, after the store has lost what would make them stale.
func (w *world) lateOverLoss(g *modelGateway, x modelStep) {
	w.mu.Lock()
	g.h.delay, g.h.fates = 4*time.Second, []fate{late, late}[x.a%2:]
	w.mu.Unlock()
	w.call(g, modelApp, modelPaths[x.a%4], "", modelOutcome{})
	time.Sleep(2 * time.Second)
	w.mu.Lock()
	w.store.replace(make(map[modelWindowKey]*modelWindow))
	w.mu.Unlock()
}

// clearTwice has WeChat clear the account before and after the store's clock is set back.
func (w *world) clearTwice(g *modelGateway) {
	w.clearQuota(g, modelStep{})
	w.mu.Lock()
	w.store.offset -= 8 * time.Second
	w.stepped += 8 * time.Second
	w.trouble()
	w.mu.Unlock()
	time.Sleep(troubleTime)
	w.clearQuota(g, modelStep{})
}

// away takes the store away, if it is there. The world's mutex is held, here and in the next functions.
func (w *world) away(state storeState) {
	if w.store.state == storeUp {
		w.store.state, w.outage = state, time.Now()
		w.trouble()
	}
}

// heal brings the store back.
func (w *world) heal() {
	if w.store.state != storeUp {
		w.store.state = storeUp
		w.trouble()
		w.store.thaw()
	}
}

// trouble notes that no gateway's requests are in order now.
func (w *world) trouble() {
	for _, g := range w.gateways {
		g.h.trouble = time.Now()
	}
}

// jumpBy sets all clocks forward; with suspend, the hosts stood still meanwhile.
func (w *world) jumpBy(d time.Duration, suspend bool) {
	for slices.ContainsFunc(w.gateways, func(g *modelGateway) bool { return len(g.h.busy) > 0 }) {
		w.mu.Unlock()
		time.Sleep(7 * time.Millisecond) // gateways learn the store's clock from how long an answer takes
		w.mu.Lock()
	}
	if suspend {
		w.suspended.Add(int64(d))
	} else {
		w.jump.Add(int64(d))
	}
	for _, g := range w.gateways {
		clear(g.latched)
		g.lost = time.Time{}
	}
	w.trouble()
}

// takes makes some calls.
func (w *world) takes(g *modelGateway, x modelStep) {
	path := modelPaths[x.a%len(modelPaths)]
	if path[len(path)-1] == '/' {
		path = fmt.Sprint(path, x.b%3)
	}
	app, caller := modelApp, ""
	if x.a == 99 {
		app = otherApp
	}
	if x.b/21%2 == 1 {
		caller = "crm"
	}
	if path == "/cgi-bin/kept" {
		caller = [...]string{"", "oncall", "crm", "oncall"}[x.b/21%4]
	}
	end := [...]ending{endsWell, endsWell, endsBack, endsOther, endsUnknownPath, endsNone}[x.a/17]
	gap := [...]time.Duration{0, 7 * time.Millisecond, 160 * time.Millisecond}[x.b/7%3]
	way := [...]time.Duration{2 * time.Millisecond, 45 * time.Millisecond, 400 * time.Millisecond, 1700 * time.Millisecond}[x.b%4]
	for i := range 1 + x.b%7 {
		w.spawn(func() {
			time.Sleep(time.Duration(i)*gap + time.Duration(i)*11*time.Microsecond)
			o := modelOutcome{end: end, asks: i == 0 && x.b%2 == 1, dial: time.Duration(x.b%3) * 15 * time.Millisecond, way: way}
			if end != endsWell && i%2 == 1 {
				o.end = endsWell
			}
			w.call(g, app, path, caller, o)
		})
	}
}

// modelPaths are the paths that are called, some more often.
var modelPaths = []string{
	"/cgi-bin/small", "/cgi-bin/large", "/cgi-bin/both", "/cgi-bin/shared", "/cgi-bin/free", "/cgi-bin/each/", "/cgi-bin/other/",
	"/cgi-bin/small", "/cgi-bin/large", "/cgi-bin/large", "/cgi-bin/kept", "/cgi-bin/kept",
}

// reload gives one gateway, or all, another quota of a rule.
func (w *world) reload(g *modelGateway, x modelStep) {
	texts := [...]struct {
		rule  string
		texts []string
	}{
		{"small", []string{"2/day", "9/day", "unlimited", "5/day"}},
		{"large", []string{"12/day", "60/day", "unknown", "30/day"}},
		{"both", []string{"unlimited", "4/day 6/month", "8/day", "3/day 20/month"}},
		{"shared", []string{"3/day", "12/day", "unknown"}},
		{"each", []string{"unlimited", "1/day", "4/day"}},
		{"kept", []string{"6/day", "14/day", "9/day"}},
		{"reserve", []string{"0", "5", "1", "3"}},
	}[x.a%7]
	text := texts.texts[x.b%len(texts.texts)]
	for _, other := range w.gateways {
		if other == g || x.b%3 != 0 {
			other.texts[texts.rule] = text
			other.configure(w, true)
		}
	}
	if x.b%3 != 0 {
		w.texts[texts.rule] = text
	}
}

// replaceGateway starts a process in another one's place.
func (w *world) replaceGateway(old *modelGateway) {
	g := w.start(old.skew)
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.gateways {
		if w.gateways[i] == old {
			w.gateways[i] = g
		}
	}
}

// restart ends a gateway as a deployment does, and starts another one.
func (w *world) restart(g *modelGateway) {
	w.settle()
	err := g.l.Close(context.Background())
	w.mu.Lock()
	if err != nil && !w.troubled(g, troubleTime) {
		w.broke("%s: %v", g.name, err)
	}
	g.ended = err == nil && !w.troubled(g, 15*time.Second)
	g.dead, g.h.dead = true, true
	for _, calls := range w.calls {
		for _, c := range calls {
			c.maybe = c.maybe || c.g == g && !g.ended && (!c.stored || c.back)
		}
	}
	w.dead = append(w.dead, g)
	w.mu.Unlock()
	w.replaceGateway(g)
}

// takeApart takes the app out of the configuration for a while.
func (w *world) takeApart(g *modelGateway, x modelStep) {
	for _, with := range []bool{false, true} {
		for _, other := range w.gateways {
			if other == g || x.a%2 == 1 {
				other.configure(w, with)
				w.mu.Lock()
				other.dropped[modelApp] = time.Now()
				clear(other.h.lives)
				clear(other.latched)
				for key, h := range other.h.answers { // what is reported may be forgotten
					if key.app == modelApp {
						h.vague, h.latch = true, Latch{}
						other.h.answers[key] = h
					}
				}
				w.mu.Unlock()
			}
		}
		time.Sleep([...]time.Duration{0, time.Second, 3 * time.Second}[x.b%3])
	}
}

// lose notes that a gateway loses what it knows of the app.
func (w *world) lose(g *modelGateway) {
	g.dropped[modelApp] = time.Now()
	clear(g.h.lives)
	clear(g.latched)
	w.forgot[g.name+modelApp] = append(w.forgot[g.name+modelApp], time.Now())
	for key := range g.h.answers {
		if key.app == modelApp {
			delete(g.h.answers, key)
		}
	}
	for _, calls := range w.calls {
		for _, c := range calls {
			if c.g == g && c.app == modelApp && (!c.stored || !c.over || c.back) {
				c.maybe = true
			}
		}
	}
}

// forgetOne has one gateway forget the app, which stays in its configuration.
func (w *world) forgetOne(g *modelGateway) {
	w.mu.Lock()
	w.lose(g)
	w.mu.Unlock()
	g.l.Forget(modelApp)
	w.mu.Lock()
	w.lose(g)
	w.mu.Unlock()
}

// forgetAll takes the app out of every gateway's configuration and erases it. No gateway writes it back.
func (w *world) forgetAll(x modelStep) {
	w.mu.Lock()
	w.heal()
	for _, g := range w.gateways {
		g.h.fates = nil
	}
	w.mu.Unlock()
	w.settle()
	for _, g := range w.gateways {
		g.configure(w, false)
	}
	time.Sleep(3 * time.Second)
	if x.a%2 == 0 {
		w.gateways[0].l.Forget(modelApp)
	}
	w.mu.Lock()
	for _, g := range w.gateways {
		w.lose(g)
	}
	w.store.forget(modelApp)
	w.epoch[modelApp] = time.Now()
	delete(w.issued, modelApp)
	for key := range w.latches {
		delete(w.latches, key)
	}
	clear(w.extra)
	clear(w.full)
	switch x.b % 3 {
	case 0:
		w.away(storeDown)
	case 1:
		w.store.replace(make(map[modelWindowKey]*modelWindow))
	}
	w.mu.Unlock()
	time.Sleep(3 * time.Second)
	w.mu.Lock()
	w.heal()
	w.mu.Unlock()
	time.Sleep(12 * time.Second)
	w.mu.Lock()
	for key, data := range w.store.data {
		if key.app == modelApp && len(data.records) > 0 {
			w.broke("%s was forgotten, and its counters are written back: %v", modelApp, data.records)
		}
	}
	w.mu.Unlock()
	for _, g := range w.gateways {
		g.configure(w, true)
	}
}

// flood calls more made-up paths than there are places, and none of the calls leaves.
func (w *world) flood(g *modelGateway) {
	set := g.l.Rules(modelApp)
	if set == nil {
		return
	}
	var holds []Hold
	for i := range maxPaths + 20 {
		match := set.Match(fmt.Sprintf("/cgi-bin/other/made-up-%d", i))
		w.mu.Lock()
		g.touch(modelApp, match.Counter)
		g.touch(modelApp, "other:*")
		w.mu.Unlock()
		_, hold := g.l.Take(context.Background(), Call{App: modelApp, Match: match})
		holds = append(holds, hold)
	}
	time.Sleep(30 * time.Millisecond)
	for i := range holds {
		holds[i].GiveBack()
	}
	time.Sleep(2500 * time.Millisecond)
}

// idle lets days pass, and has the store lose something then.
func (w *world) idle(x modelStep) {
	w.rest()
	w.mu.Lock()
	w.jumpBy(73*time.Hour, false)
	w.mu.Unlock()
	time.Sleep(3 * time.Second)
	w.mu.Lock()
	switch x.a % 3 {
	case 0:
		w.store.replace(make(map[modelWindowKey]*modelWindow))
	case 1:
		w.away(storeDown)
	default:
		w.away(storeFrozen)
	}
	w.mu.Unlock()
	time.Sleep(3 * time.Second)
	w.mu.Lock()
	w.heal()
	w.mu.Unlock()
	w.call(w.gateways[0], modelApp, "/cgi-bin/small", "", modelOutcome{})
	time.Sleep(10 * time.Second)
}

// toMidnight lets time pass until shortly before a midnight.
func (w *world) toMidnight(x modelStep) {
	w.mu.Lock()
	left := w.window(Day, w.store.now()).End.Sub(w.store.now()) - [...]time.Duration{1200 * time.Millisecond, 60 * time.Millisecond, 9 * time.Second}[x.a%3]
	if left > 20*time.Second {
		w.jumpBy(left-10*time.Second, x.b%4 == 3)
		left = 10 * time.Second
	}
	w.mu.Unlock()
	time.Sleep(left)
}

// longLatch has WeChat refuse a rule until it is closed for the day, and take calls again then.
func (w *world) longLatch(x modelStep) {
	w.rest()
	w.mu.Lock()
	before := w.wechat.quota["large"]
	w.wechat.quota["large"] = 1
	w.jumpBy(11*time.Minute, false) // a day that is younger is not closed
	w.mu.Unlock()
	for i, pause := range []time.Duration{0, 3 * time.Second, 65 * time.Second, 125 * time.Second, 245 * time.Second, 310 * time.Second, 310 * time.Second} {
		w.mu.Lock()
		w.jumpBy(pause, false)
		if i == 5 {
			w.wechat.quota["large"] = before
			w.wechat.clear(modelApp, "")
		}
		w.mu.Unlock()
		time.Sleep(4 * time.Second)
		for j := range 2 {
			w.call(w.alive(x.g+(i+j)*(x.a%3)), modelApp, "/cgi-bin/large", "", modelOutcome{way: 20 * time.Millisecond})
			time.Sleep(time.Duration(x.b%3) * 600 * time.Millisecond)
		}
	}
}
