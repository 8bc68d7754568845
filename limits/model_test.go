package limits

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// drawCases sets how many cases the next rapid.Check draws; with -short, a fifth of them.
func drawCases(t *testing.T, cases string) {
	t.Helper()
	before := flag.Lookup("rapid.checks").Value.String()
	if err := flag.Set("rapid.checks", cases); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = flag.Set("rapid.checks", before) })
}

// TestModel drives one to three real limiters over a store in memory and a WeChat with its own count,
// with every event that can change a count. Its laws are those of the protocol's section 7: that WeChat
// never executes more calls than a limit, that at rest the store has counted exactly the calls there
// were, that no call is refused without a reason, and that nothing is asked for nothing. They stand in
// modellaws_test.go and modelrest_test.go, and go by what WeChat executed and the store holds.
//
// WXPROXY_MODEL_CASES is the number of runs; 500 by default. Every kind of event must have
// occurred in them.
func TestModel(t *testing.T) {
	cases := "500"
	if n := os.Getenv("WXPROXY_MODEL_CASES"); n != "" {
		cases = n
	}
	drawCases(t, cases)
	procs := runtime.GOMAXPROCS(1) // goroutines that wake at one moment run in one order: a failure can be made smaller
	t.Cleanup(func() { runtime.GOMAXPROCS(procs) })
	occurred := make(map[string]int)
	rapid.Check(t, func(rt *rapid.T) {
		s := scenario{
			gateways: rapid.IntRange(1, 3).Draw(rt, "gateways"),
			share:    rapid.SampledFrom([]int64{1000, 2, 5}).Draw(rt, "share"),
			start:    rapid.IntRange(0, len(modelStarts)-1).Draw(rt, "start"),
			offset:   rapid.SampledFrom([]int{0, 700, -900, 5000, -40_000}).Draw(rt, "offset"),
			skew:     rapid.SampledFrom([]int{0, 400, -3000, 60_000}).Draw(rt, "skew"),
			rtt:      rapid.SampledFrom([]int{1, 5, 30}).Draw(rt, "rtt"),
			seed:     rapid.SampledFrom([]bool{false, false, true}).Draw(rt, "seed"),
			small:    rapid.IntRange(1, 8).Draw(rt, "small"),
			large:    rapid.IntRange(10, 40).Draw(rt, "large"),
			quota:    rapid.SampledFrom([]int{0, 0, 3}).Draw(rt, "WeChat's quota"),
			minute:   rapid.SampledFrom([]int{0, 0, 2, 6}).Draw(rt, "WeChat's minute"),
		}
		for range 3 { // a slice has six elements on average
			s.steps = append(s.steps, rapid.SliceOfN(drawModelStep, 0, 40).Draw(rt, "steps")...)
		}
		var w *world
		synctest.Test(t, func(*testing.T) { w = s.run() })
		for event, n := range w.occurred {
			occurred[event] += n
		}
		if w.broken != "" {
			var trace strings.Builder
			for _, line := range w.trace {
				trace.WriteString("\n\t" + line())
			}
			rt.Fatalf("%s%s", w.broken, trace.String())
		}
	})
	if n, err := fmt.Sscan(cases, new(int)); err != nil || n != 1 || t.Failed() {
		return
	}
	var kinds []string
	for k := range steps {
		kinds = append(kinds, k.String())
	}
	for f := range fates {
		kinds = append(kinds, "message "+f.String())
	}
	kinds = append(kinds, modelEvents...)
	var missing []string
	for _, event := range kinds {
		if occurred[event] == 0 {
			missing = append(missing, event)
		}
	}
	if len(missing) > 0 && !testing.Short() {
		t.Errorf("%s runs without: %s", cases, strings.Join(missing, ", "))
	}
	t.Logf("%v", occurred)
}

// modelEvents are what every run of the model must have seen, beside the steps and what becomes of
// messages.
var modelEvents = []string{
	"verdict pass", "verdict degraded", "verdict refused-quota", "verdict refused-share", "verdict refused-reserved", "verdict refused-latched", "verdict refused-store",
	"block", "rest", "seed", "probe", "lost writes", "given back", "errcode 40066", "45009 of a day", "45009 of a minute",
	"clear granted", "clear refused", "clear lost", "clear not carried out", "clear of a path", "ClearTo", "SettleLatch true", "SettleLatch false", "Raise", "raise too early",
	"event store down", "event store up", "event store lost writes", "event latched", "event unlatched", "event no figure",
	"midnight", "month's end", "remainder", "remainder of a reserve",
	"grant set", "grant ended", "grant without an answer", "grant repeated", "grant that another has changed", "grant restored",
}

// modelStarts are where a run begins: in the morning, before a midnight, before a month's end, and just
// after a midnight.
var modelStarts = []string{"2026-11-23 10:00:20", "2026-11-23 23:59:20", "2026-11-30 23:59:10", "2026-11-24 00:00:10"}

// scenario is one run.
type scenario struct {
	gateways, start, offset, skew, rtt int
	share                              int64
	seed                               bool
	small, large, quota, minute        int
	steps                              []modelStep
}

// modelStep is one event, and the pause before it.
type modelStep struct {
	kind  modelStepKind
	g     int // the gateway
	a, b  int // what it needs
	pause time.Duration
}

// GoString is how a failure prints a step.
func (s modelStep) GoString() string {
	return fmt.Sprintf("\n\t{%s, g %d, a %d, b %d, after %s}", s.kind, s.g, s.a, s.b, s.pause)
}

// modelStepKind is the kind of an event.
type modelStepKind uint8

const (
	takes modelStepKind = iota
	messages
	rests
	reloads
	clears
	asks
	kills
	freezes
	ends // of an outage
	breaks
	refuses
	flushes
	failsOver
	clockSteps
	clearsConsole
	goesAround
	probes
	jumps
	suspends
	takesApart
	forgetsAll
	floods
	idles
	restarts
	forgetsOne
	midnights
	grants
	steps
)

var modelStepNames = [...]string{
	"take", "messages", "rest", "reload", "clear", "ask", "kill", "freeze", "end of an outage", "store down", "store refuses", "flush", "fail-over",
	"clock step", "console clear", "around", "long latch", "jump", "suspended", "app taken out", "forget everywhere", "made-up paths", "idle", "restart",
	"forget on one", "to midnight", "grant",
}

func (k modelStepKind) String() string { return modelStepNames[k] }

// weights is how often each step is drawn.
var weights = [steps]int{
	takes: 60, messages: 14, rests: 6, reloads: 8, clears: 9, asks: 7, kills: 4, freezes: 4, ends: 7, breaks: 4, refuses: 1, flushes: 4, failsOver: 4,
	clockSteps: 2, clearsConsole: 2, goesAround: 3, probes: 3, jumps: 2, suspends: 1, takesApart: 2, forgetsAll: 1, floods: 1, idles: 1, restarts: 2,
	forgetsOne: 1, midnights: 3, grants: 8,
}

// weighted has each kind as often as it is drawn.
var weighted = func() (kinds []modelStepKind) {
	for k, n := range weights {
		for range n {
			kinds = append(kinds, modelStepKind(k))
		}
	}
	return kinds
}()

// pauses are the times between events.
var pauses = []time.Duration{0, 3 * time.Millisecond, 30 * time.Millisecond, 120 * time.Millisecond, 400 * time.Millisecond, 1100 * time.Millisecond, 2500 * time.Millisecond, 6 * time.Second, 61 * time.Second}

// drawModelStep draws one event.
var drawModelStep = rapid.Custom(func(t *rapid.T) modelStep {
	return modelStep{
		kind:  rapid.SampledFrom(weighted).Draw(t, "kind"),
		g:     rapid.IntRange(0, 2).Draw(t, "g"),
		a:     rapid.IntRange(0, 99).Draw(t, "a"),
		b:     rapid.IntRange(0, 99).Draw(t, "b"),
		pause: rapid.SampledFrom(pauses).Draw(t, "pause"),
	}
})

// run runs the scenario in a bubble. It ends with the world healed: at rest, the counts are right, no
// gateway has anything to report, and what is left of each quota can be used to the last call.
func (s scenario) run() *world {
	zone, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		panic(err)
	}
	start, err := time.ParseInLocation(time.DateTime, modelStarts[s.start], zone)
	if err != nil {
		panic(err)
	}
	time.Sleep(time.Until(start) - time.Duration(s.offset)*time.Millisecond)
	w := &world{
		zone: zone, calls: make(map[string][]*modelCall), issued: make(map[string][]issued), latches: make(map[modelKey]*modelLatch),
		extra: make(map[modelKey]issued), around: make(map[modelKey]int64), full: make(map[modelKey]int64), asked: make(map[modelKey]bool),
		grants: make(map[modelKey][]*modelGrant),
		epoch:  make(map[string]time.Time), forgot: make(map[string][]time.Time), occurred: make(map[string]int),
	}
	w.store = newModelStore(w, s.share, time.Duration(s.offset)*time.Millisecond)
	w.wechat = &modelWeChat{w: w, quota: map[string]int64{"small": int64(s.quota), "large": int64(3 * s.quota)}, minute: map[string]int64{"large": int64(s.minute), "free": int64(s.minute)}, tallies: make(map[string]*tally)}
	w.texts = map[string]string{
		"small": fmt.Sprintf("%d/day", s.small), "large": fmt.Sprintf("%d/day", s.large), "both": "4/day 6/month", "shared": "6/day", "share": "2/day", "kept": "9/day", "reserve": "3",
		"free": "unknown", "each": "2/day", "other": "unknown", "clear": "4/month",
	}
	w.seed, w.rtt, w.skew = s.seed, time.Duration(s.rtt)*time.Millisecond+time.Microsecond, time.Duration(s.skew)*time.Millisecond
	for i := range s.gateways {
		w.gateways = append(w.gateways, w.start(w.skew*time.Duration(i)))
	}
	time.Sleep(25*time.Second + 337*time.Microsecond) // every gateway knows the others
	for i, x := range s.steps {
		time.Sleep(x.pause + time.Duration(7*i+1)*time.Microsecond)
		w.mu.Lock()
		w.watch()
		w.calendar()
		w.store.snapshot()
		stop := w.broken != ""
		w.occurs(x.kind.String())
		w.mu.Unlock()
		if stop {
			break
		}
		w.step(x)
	}
	if w.broken == "" {
		w.finish()
	}
	w.stop()
	return w
}

// calendar notes when a day or a month has ended since the last step.
func (w *world) calendar() {
	now := w.store.now()
	day, month := w.window(Day, now).Name, w.window(Month, now).Name
	if w.day != "" && day > w.day {
		w.occurs("midnight")
	}
	if w.month != "" && month > w.month {
		w.occurs("month's end")
	}
	w.day, w.month = day, month
}

// finish heals everything and checks the laws of a world at rest.
func (w *world) finish() {
	w.rest()
	for _, g := range w.gateways { // what a gateway still knows of lost writes, it reports with its next call
		for _, row := range modelTable {
			for i := range 3 {
				if path, star := strings.CutSuffix(row.path, "*"); star {
					w.call(g, modelApp, fmt.Sprint(path, i), "", modelOutcome{end: endsBack})
				} else if i < 2 {
					w.call(g, [...]string{modelApp, otherApp}[i], path, "crm", modelOutcome{end: endsBack})
				}
			}
		}
	}
	w.rest()
	w.grantsAreRestored()
	w.remainder()
	w.remainderKept()
	w.rest()
	requests := func() (n int) {
		for _, g := range w.gateways {
			n += g.h.requests
		}
		return n
	}
	before := requests()
	time.Sleep(time.Minute)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watch()
	if n := requests() - before; n > 0 {
		w.broke("%d requests in an idle minute", n)
	}
}

// rest ends all faults, lets everything come to rest, and checks the counts.
func (w *world) rest() {
	w.mu.Lock()
	w.heal()
	for _, g := range w.gateways {
		g.h.fates = nil
	}
	w.mu.Unlock()
	w.settle()
	time.Sleep(12 * time.Second)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watch()
	w.atRest()
}

// remainder uses what is left of each quota: exactly that many calls go.
func (w *world) remainder() {
	w.mu.Lock()
	w.wechat.quota, w.wechat.minute = nil, nil
	w.mu.Unlock()
	for _, row := range modelTable[:4] {
		w.mu.Lock()
		day, month := w.window(Day, w.store.now()), w.window(Month, w.store.now())
		set := w.gateways[0].l.Rules(modelApp)
		same := time.Until(time.Now().Add(day.End.Sub(w.store.now()))) > time.Minute
		left := int64(noLimit)
		if set != nil && same {
			for _, f := range figuresOf(set.Rule(row.rule), row.rule, "crm") {
				window := day.Name
				if f.period == Month {
					window = month.Name
				}
				var used int64
				if data := w.store.data[modelWindowKey{modelApp, window}]; data != nil {
					if c := data.records[f.counter]; c.Generation >= data.generation {
						used = c.Used
						if w.store.now().UnixMilli() < c.Latch.Until {
							set = nil
						}
					}
				}
				switch {
				case w.seed && used == 0: // WeChat is asked first
					set = nil
				case f.limit < noLimit:
					grant, lasting := w.grantInForce(modelKey{modelApp, window, f.counter})
					if left = min(left, max(0, f.limit+grant-used)); !lasting {
						set = nil
					}
				}
			}
		}
		for _, g := range w.gateways {
			if data := w.store.data[modelWindowKey{modelApp, day.Name}]; data != nil &&
				g.knows(modelApp, day.Name, row.rule) < max(data.generation, data.records[row.rule].Generation) {
				left = noLimit // it will carry calls
			}
			if set == nil || g.l.Rules(modelApp) == nil || g.texts[row.rule] != w.gateways[0].texts[row.rule] {
				left = noLimit
			}
		}
		before := w.count(modelApp, row.rule, func(c *modelCall) bool { return c.ran })
		w.mu.Unlock()
		if left == noLimit {
			continue
		}
		for i := range left + 1 {
			w.call(w.gateways[int(i)%len(w.gateways)], modelApp, row.path, "crm", modelOutcome{})
			time.Sleep(1200 * time.Millisecond) // blocks of others go back
		}
		w.mu.Lock()
		w.occurs("remainder")
		if n := w.count(modelApp, row.rule, func(c *modelCall) bool { return c.ran }) - before; n != left {
			w.broke("%d calls of %s were left, and %d were executed", left, row.rule, n)
		}
		w.mu.Unlock()
	}
}

// stop ends all goroutines of the bubble.
func (w *world) stop() {
	w.mu.Lock()
	w.heal()
	w.mu.Unlock()
	w.settle()
	for _, g := range w.gateways {
		if err := g.l.Close(context.Background()); err != nil && w.broken == "" && !errors.Is(err, errModelLost) {
			w.broken = fmt.Sprintf("%s: %v", g.h.id, err)
		}
	}
}

// settle waits for all that is under way.
func (w *world) settle() { w.inFlight.Wait() }
