package report

import (
	"cmp"
	"slices"
	"time"

	"wxproxy/limits"
	"wxproxy/wechat"
)

// WhatIf is the table that a log is replayed against.
type WhatIf struct {
	Rules func(appid string) *limits.Ruleset // of each app; called once for each
}

// Errcodes of WeChat's that mean something to a counter.
const (
	errcodeInvalidURL = int64(wechat.InvalidURL)
	errcodeClearsUsed = int64(wechat.ClearsUsed)
)

// replay decides the calls of a log anew. A call that was refused by the table in force is taken to be sent; what
// WeChat would have answered to it is not known.
type replay struct {
	o        *WhatIf
	names    *texts // of the report
	paths    *texts
	appids   *texts
	zone     *time.Location // of what is printed
	order    order
	now      int64 // of the last call, milliseconds since 1970
	windows  windows
	begin    int64 // the first call
	rules    map[uint32]*limits.Ruleset
	targets  map[targetKey]target
	meters   map[meterKey]*meter
	paces    map[meterKey]*pace
	outcomes map[outcomeKey]*Outcome
	untold   map[string]int64
	skipped  map[string]int64
	out      Replay // the sums
}

// targetKey is what a call is matched by: its path, or the rule of the line where that is not known.
type targetKey struct{ app, path, rule uint32 }

// target is what a call counts against.
type target struct {
	*meter // nil: that cannot be told
	clears clears
}

// meterKey is a counter of an app, or a rule of it.
type meterKey struct {
	app  uint32
	name string
}

type outcomeKey struct {
	app, caller uint32
	rule        string
	decision    string // of the new table; of the log when the call would have passed
	passes      bool
}

// clears is what a call of a path clears.
type clears uint8

const (
	clearsNothing clears = iota
	clearsDay
	clearsPath
)

func newReplay(o *WhatIf, names *texts, zone *time.Location) *replay {
	return &replay{
		o: o, names: names, paths: newTexts(), appids: newTexts(), zone: zone,
		rules: make(map[uint32]*limits.Ruleset), targets: make(map[targetKey]target), meters: make(map[meterKey]*meter),
		paces: make(map[meterKey]*pace), outcomes: make(map[outcomeKey]*Outcome),
		untold: make(map[string]int64), skipped: make(map[string]int64),
	}
}

// add takes in one line. keep says whether the report is about it: others are counted, and not told.
func (r *replay) add(of *key, l *Line, keep bool) {
	c := call{at: l.Time, of: *of, appid: r.appids.number(l.AppID), status: l.Status, errcode: l.ErrCode, attempts: l.Attempts, keep: keep}
	if !r.decides(l, &c) {
		if keep {
			r.skipped[string(l.Decision)]++
		}
		return
	}
	if len(l.Path) < maxPath {
		c.path = r.paths.number(l.Path)
	}
	r.order.add(&c, r.apply)
}

// maxPath is the length at which the gateway cuts a path that the table does not name, in bytes.
const maxPath = 200

// decides reports whether a call is one that a table decides: it was sent, or its own table refused it.
func (r *replay) decides(l *Line, c *call) bool {
	switch string(l.Decision) {
	case "pass", "degraded", "shadow":
		return l.Attempts > 0 // else it was given back
	case "refused-quota", "refused-share", "refused-reserved", "refused-pace", "refused-denied":
		c.refused = true
		return true
	}
	return false
}

func (r *replay) finish() { r.order.finish(r.apply) }

// apply decides one call.
func (r *replay) apply(c *call) {
	r.now = max(r.now, c.at)
	if r.begin == 0 {
		r.begin = c.at
	}
	t := r.target(c)
	if t.meter == nil {
		if c.keep {
			r.untold[r.names.of[c.of[Rule]]]++
		}
		return
	}
	caller := r.names.of[c.of[Caller]]
	share := t.share(c.of[Caller], caller)
	returned := !c.refused && (t.path && c.errcode == errcodeInvalidURL || t.clears != clearsNothing && c.status == 200 && c.errcode != 0)
	sendings := max(c.attempts, 1)
	if c.refused {
		sendings = c.attempts + 1 // the last one was refused
	}
	verdict := limits.Pass
	for range sendings {
		if verdict = t.take(&r.windows, caller, share, r.now, returned); !verdict.Sent() {
			break
		}
	}
	if !c.refused && verdict.Sent() && c.status == 200 {
		r.clear(c, t)
	}
	if c.keep {
		r.tell(c, t.rule.Name, verdict)
	}
}

// clear starts counts over when WeChat has granted a clear.
func (r *replay) clear(c *call, t target) {
	switch {
	case t.clears == clearsNothing:
	case c.errcode == errcodeClearsUsed: // whatever was counted, WeChat grants no more
		for i := range t.quotas {
			t.quotas[i].used = max(t.quotas[i].used, t.quotas[i].Limit)
		}
	case c.errcode != 0:
	case t.clears == clearsPath:
		r.out.PathClears++
	default:
		r.out.Clears++
		for _, m := range r.meters {
			if m.app == c.appid {
				m.clear()
			}
		}
	}
}

// target finds what a call counts against, and brings the windows of its zone up to now.
func (r *replay) target(c *call) target {
	rules, known := r.rules[c.appid]
	if !known {
		rules = r.o.Rules(r.appids.of[c.appid])
		r.rules[c.appid] = rules
	}
	if w := &r.windows[limits.Day]; r.now >= w.End.UnixMilli() || w.Start.IsZero() {
		for p := range r.windows {
			r.windows[p] = limits.Period(p).Window(time.UnixMilli(r.now), rules.Zone)
		}
	}
	k := targetKey{app: c.appid, path: c.path, rule: c.of[Rule]}
	t, known := r.targets[k]
	if !known {
		t = r.find(rules, c)
		if len(r.targets) < maxTexts {
			r.targets[k] = t
		}
	}
	return t
}

// find matches a call. A path that is not in the log, or only in part, is one that the table in force does not
// name: then the rule of the line has to do, unless it counts each of its paths by itself.
func (r *replay) find(rules *limits.Ruleset, c *call) target {
	path := r.paths.of[c.path]
	match := limits.Match{}
	if clean, err := limits.Canonical(path); err == nil && clean == path {
		match = rules.Match(path)
	} else if rule := rules.Rule(r.names.of[c.of[Rule]]); rule != nil && !slices.ContainsFunc(rule.Paths, wholeFolder) {
		match = limits.Match{Rule: rule, Counter: rule.Name}
	}
	if match.Rule == nil {
		return target{}
	}
	t := target{meter: r.meter(c.appid, &match)}
	switch {
	case wechat.SamePath(path, wechat.ClearPath), wechat.SamePath(path, wechat.ClearV2Path):
		t.clears = clearsDay
	case wechat.SamePath(path, wechat.ClearOnePath):
		t.clears = clearsPath
	}
	return t
}

// wholeFolder reports whether a path of a rule ends in /*.
func wholeFolder(path string) bool { return len(path) > 1 && path[len(path)-1] == '*' }

// meter returns the meter of a counter, or nil when there are too many.
func (r *replay) meter(app uint32, match *limits.Match) *meter {
	k := meterKey{app, match.Counter}
	m := r.meters[k]
	if m != nil || len(r.meters) >= maxGroups {
		return m
	}
	m = &meter{app: app, rule: match.Rule, path: match.Counter != match.Rule.Name, quotas: newCounters(match.Rule.Budget)}
	for caller := range match.Rule.Reserve {
		if m.used == nil {
			m.used = make(map[string][]counter)
		}
		m.used[caller] = newCounters(match.Rule.Budget)
	}
	if match.Rule.Pace.Rate > 0 {
		rule := meterKey{app, match.Rule.Name}
		if r.paces[rule] == nil {
			r.paces[rule] = newPace(match.Rule.Pace)
		}
		m.pace = r.paces[rule]
	}
	r.meters[k] = m
	return m
}

// tell adds a verdict to what is told.
func (r *replay) tell(c *call, rule string, verdict limits.Verdict) {
	r.out.Calls++
	sent := verdict.Sent()
	switch {
	case c.refused && sent:
		r.out.Refused++
		r.out.Passing++
	case c.refused:
		r.out.Refused++
		r.out.RefusedNow++
	case !sent:
		r.out.RefusedNow++
		r.out.New++
	}
	k := outcomeKey{app: c.of[App], caller: c.of[Caller], rule: rule, decision: verdict.String()}
	if c.refused && sent {
		k.decision, k.passes = r.names.of[c.of[Decision]], true
	} else if verdict == limits.Pass {
		return
	}
	o := r.outcomes[k]
	if o == nil {
		if len(r.outcomes) >= maxGroups {
			k = outcomeKey{rule: Rest, decision: Rest, passes: k.passes}
		}
		if o = r.outcomes[k]; o == nil {
			o = &Outcome{App: r.names.of[k.app], Rule: k.rule, Caller: r.names.of[k.caller], Decision: k.decision}
			r.outcomes[k] = o
		}
	}
	o.add(c)
}

// Outcome is what becomes of calls of one app, rule and caller.
type Outcome struct {
	App      string `json:"app"`
	Rule     string `json:"rule"` // of the new table
	Caller   string `json:"caller"`
	Decision string `json:"decision"` // of the new table; among those that would pass: of the log
	Calls    int64  `json:"calls"`
	New      int64  `json:"new"`   // of them, that were sent
	First    string `json:"first"` // RFC 3339
	Last     string `json:"last"`

	first, last int64
}

func (o *Outcome) add(c *call) {
	o.Calls++
	if !c.refused {
		o.New++
	}
	if o.first == 0 || c.at < o.first {
		o.first = c.at
	}
	o.last = max(o.last, c.at)
}

// Replay is what another table would have decided.
type Replay struct {
	Calls      int64 `json:"calls"`       // that a table decides
	Refused    int64 `json:"refused"`     // of them, by the table in force
	RefusedNow int64 `json:"refused_now"` // by the other one
	New        int64 `json:"new"`         // of these, that were sent
	Passing    int64 `json:"passing"`     // refused by the table in force, and not by the other one
	Clears     int64 `json:"clears"`      // granted clears of an app, each of which starts its day over
	PathClears int64 `json:"path_clears"` // granted clears of one path, which the log does not name: not replayed

	Refusals []Outcome `json:"refusals"` // and what a rule with shadow would refuse; the first refusal first
	Passes   []Outcome `json:"passes"`   // what was refused and would pass
	More     int       `json:"more"`     // outcomes that are left out of both

	From    string           `json:"from"`    // the first call, where counting begins; RFC 3339
	Untold  map[string]int64 `json:"untold"`  // calls whose counter the log does not tell, by the rule of the line
	Skipped map[string]int64 `json:"skipped"` // calls that no table decides, by decision
}

// result returns what was told, with the top rows of each list; 0 is all.
func (r *replay) result(top int) *Replay {
	out := r.out
	out.Refusals, out.Passes = []Outcome{}, []Outcome{}
	out.From, out.Untold, out.Skipped = timeText(r.begin, r.zone), r.untold, r.skipped
	for k, o := range r.outcomes {
		o.First, o.Last = timeText(o.first, r.zone), timeText(o.last, r.zone)
		if k.passes {
			out.Passes = append(out.Passes, *o)
		} else {
			out.Refusals = append(out.Refusals, *o)
		}
	}
	for _, list := range []*[]Outcome{&out.Refusals, &out.Passes} {
		slices.SortFunc(*list, func(a, b Outcome) int {
			return cmp.Or(cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.first, b.first), cmp.Compare(a.App+" "+a.Rule+" "+a.Caller, b.App+" "+b.Rule+" "+b.Caller))
		})
		if top > 0 && len(*list) > top {
			out.More += len(*list) - top
			*list = (*list)[:top]
		}
	}
	return &out
}
