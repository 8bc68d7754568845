package config

import (
	"maps"
	"slices"
	"strings"
	"time"

	"wxproxy/limits"
)

// DefaultZone is the time zone of a table that names none. WeChat publishes no hour at which its
// quotas begin anew; midnight in China is an assumption.
const DefaultZone = "Asia/Shanghai"

// ParseTable reads a limits.yaml; name stands for it in faults. The profiles of shipped, which may
// be nil, are there beside those of data, which replace them by name. What is wrong comes back as
// Faults, all at once.
//
// A profile that extends another begins with the rules of that one. Its rule of the same name
// takes the place of the parent's; what it leaves out stays as it is there. Its other rules are
// added at the end. A path that it names is taken away from the parent's other rules, and a rule
// of the parent without a path left goes. A parent is looked for in data first; a profile that
// extends its own name means the shipped one that it replaces. Shipped profiles always extend
// shipped ones.
func ParseTable(name string, data []byte, shipped *limits.Table) (*limits.Table, error) {
	t, faults := parseTable(name, data, shipped)
	if len(faults) > 0 {
		return nil, faults
	}
	return t, nil
}

// parseTable returns what could be read of a table even when there are faults; nil is nothing.
func parseTable(name string, data []byte, shipped *limits.Table) (*limits.Table, Faults) {
	p, faults := readTable(name, data, shipped)
	if p == nil {
		return nil, faults
	}
	return p.table, faults
}

// readTable is parseTable with what only the file itself tells.
func readTable(name string, data []byte, shipped *limits.Table) (*tableParser, Faults) {
	doc := &document{name: name}
	top, ok := doc.parse(data)
	if !ok {
		return nil, doc.faults
	}
	p := &tableParser{
		table:   &limits.Table{Profiles: make(map[string]*limits.Profile)},
		shipped: make(map[string]*limits.Profile),
		entries: make(map[string]*profileEntry),
	}
	if shipped != nil {
		p.table.Zone = shipped.Zone
		p.shipped = shipped.Profiles
		maps.Copy(p.table.Profiles, shipped.Profiles)
	}
	p.read(top)
	for _, e := range p.order {
		p.build(e)
	}
	doc.faults.sort()
	return p, doc.faults
}

// tableParser is one readTable under way, or what it has read.
type tableParser struct {
	table    *limits.Table
	revision string // the date that the file says it is of, as in 2026-11-23; "" is none
	shipped  map[string]*limits.Profile
	entries  map[string]*profileEntry // those of the file
	order    []*profileEntry          // in the order of the file
}

// profileEntry is a profile as it is written.
type profileEntry struct {
	limits.Profile
	at      value // its name
	parent  string
	extends value
	rows    []*rowEntry

	state  buildState
	broken bool // its parent is; what it lacks may have stood there
}

// buildState tells how far a profile has come, to find those that extend each other in a circle.
type buildState uint8

const (
	unbuilt buildState = iota
	building
	built
)

// rowEntry is a rule as it is written.
type rowEntry struct {
	limits.Rule
	at, name value
	has      map[string]bool
	paths    []value // the place of each of Paths
}

func (p *tableParser) read(top value) {
	has := top.mapping(map[string]func(value){
		"version": func(v value) {
			if text, ok := v.text(); ok && text != "1" {
				v.wrong(text, "1")
			}
		},
		"revision": func(v value) { p.revision = v.date() },
		"timezone": func(v value) {
			if text, ok := v.text(); ok {
				p.table.Zone = v.zone(text)
			}
		},
		"profiles": func(v value) {
			v.entries(func(name string, at, val value) {
				e := readProfile(name, at, val)
				p.entries[name] = e
				p.order = append(p.order, e)
			})
		},
	})
	if !has["version"] {
		top.fault("no version: want version: 1")
	}
	if p.table.Zone == nil && !has["timezone"] {
		zone, err := time.LoadLocation(DefaultZone)
		if err != nil {
			top.fault("no timezone, and %s: %s", DefaultZone, err)
		}
		p.table.Zone = zone
	}
}

// date reads a day. Dates of this form sort as texts.
func (v value) date() string {
	text, ok := v.text()
	if !ok {
		return ""
	}
	if _, err := time.Parse(time.DateOnly, text); err != nil {
		v.wrong(text, "a date, as in 2026-11-23")
		return ""
	}
	return text
}

// zone loads a time zone by its name in the IANA database. "" and Local would depend on the host.
func (v value) zone(text string) *time.Location {
	zone, err := time.LoadLocation(text)
	if err != nil || text == "" || text == "Local" {
		v.wrong(text, "a time zone by its name, as in "+DefaultZone)
		return nil
	}
	return zone
}

func readProfile(name string, at, val value) *profileEntry {
	e := &profileEntry{at: at}
	e.Name = name
	if !isName(name) {
		at.wrong(name, "1 to 64 of [a-z0-9._-], the first a letter or digit")
	}
	e.Title = name
	has := val.mapping(map[string]func(value){
		"title":   func(v value) { e.Title, _ = v.text() },
		"source":  func(v value) { e.Source, _ = v.text() },
		"extends": func(v value) { e.extends, e.parent = v, v.name() },
		"rules": func(v value) {
			v.list(func(v value) {
				if row := readRow(v); row != nil {
					e.rows = append(e.rows, row)
				}
			})
		},
	})
	if !has["extends"] && !has["rules"] {
		at.fault("no rules: want rules, or extends with the name of another profile")
	}
	return e
}

func readRow(v value) *rowEntry {
	r := &rowEntry{at: v, name: v}
	r.has = v.mapping(map[string]func(value){
		"name":     func(v value) { r.name, r.Name = v, v.name() },
		"title":    func(v value) { r.Title, _ = v.text() },
		"category": func(v value) { r.Category, _ = v.text() },
		"source":   func(v value) { r.Source, _ = v.text() },
		"paths":    r.readPaths,
		"quota":    func(v value) { r.Budget, _ = v.budget() },
		"pace":     r.readPace,
		"inject": func(v value) {
			switch v.oneOf("account", "none") {
			case "none":
				r.Inject = limits.InjectNone
			default:
				r.Inject = limits.InjectAccount
			}
		},
		"on_store_error": func(v value) {
			switch v.oneOf("refuse", "local") {
			case "refuse":
				r.OnError = limits.StoreErrorRefuse
			case "local":
				r.OnError = limits.StoreErrorLocal
			}
		},
		"shadow":  func(v value) { r.Shadow = v.flag() },
		"shares":  r.readShares,
		"reserve": r.readReserve,
	})
	if v.kind() != "a mapping" {
		return nil
	}
	if !r.has["name"] {
		v.fault("no name: want one, as in menu.create")
	}
	if r.Name == "" {
		return nil
	}
	return r
}

func (r *rowEntry) readPaths(v value) {
	v.list(func(v value) {
		text, ok := v.text()
		if !ok {
			return
		}
		if err := limits.CheckPath(text); err != nil {
			v.wrongBy(err, "path", text, "a path, as in /cgi-bin/menu/create or /cgi-bin/*")
			return
		}
		r.Paths = append(r.Paths, text)
		r.paths = append(r.paths, v)
	})
	if v.kind() == "a list" && len(v.node.Content) == 0 || v.null() {
		v.fault("no path: want one at least")
	}
}

func (r *rowEntry) readPace(v value) {
	text, ok := v.text()
	if !ok || text == "none" { // none takes a parent's pace away
		return
	}
	p, err := limits.ParsePace(text)
	if err != nil {
		v.wrongBy(err, "pace", text, "N/second or N/minute, optionally followed by burst N, or none")
	}
	r.Pace = p
}

func (r *rowEntry) readShares(v value) {
	r.Shares = make(map[string]limits.Budget)
	v.entries(func(caller string, name, val value) {
		if !isName(caller) {
			name.fault("want the name of a caller")
		}
		b, ok := val.budget()
		if ok && b.Kind != limits.Limited {
			val.fault("%s: want N/day, N/month or a list of them", b)
		}
		r.Shares[caller] = b
	})
}

func (r *rowEntry) readReserve(v value) {
	some := false
	v.entries(func(caller string, name, val value) {
		if !isName(caller) {
			name.fault("want the name of a caller")
		}
		val.number(limits.MaxLimit)
		some = true
	})
	if some {
		v.notYet("reserve")
	}
}

// build works out the rules of a profile, those of its parent first.
func (p *tableParser) build(e *profileEntry) {
	if e.state == built {
		return
	}
	e.state = building
	inherited := p.inherited(e)
	p.checkRows(e, inherited)
	e.Rules = merge(inherited, e.rows)
	e.state = built
	p.table.Profiles[e.Name] = &e.Profile
	if len(e.at.doc.faults) == 0 { // what was checked is all that Rules checks
		if _, err := p.table.Rules(e.Name, nil); err != nil {
			e.at.fault("%s", err)
		}
	}
}

// inherited returns the rules of e's parent.
func (p *tableParser) inherited(e *profileEntry) []*limits.Rule {
	if e.extends.doc == nil {
		return nil
	}
	parent, ours := p.entries[e.parent], e.parent != e.Name
	switch {
	case e.parent == "": // noted by name
	case ours && parent != nil && parent.state == building:
		e.extends.fault("%s: a circle: %s", quote(e.parent), p.circle(e))
	case ours && parent != nil:
		p.build(parent)
		e.broken = parent.broken
		return parent.Rules
	case p.shipped[e.parent] != nil:
		return p.shipped[e.parent].Rules
	case !ours:
		e.extends.fault("%s: the profile itself, and none of that name is built in", quote(e.parent))
	default:
		known := slices.Concat(sortedKeys(p.entries), sortedKeys(p.shipped))
		slices.Sort(known)
		e.extends.fault("%s: no such profile: %s", quote(e.parent), suggest(e.parent, slices.Compact(known)))
	}
	e.broken = true
	return nil
}

// circle spells out how e comes back to itself.
func (p *tableParser) circle(e *profileEntry) string {
	var parts []string
	for at := p.entries[e.parent]; ; at = p.entries[at.parent] {
		parts = append(parts, at.Name+" extends "+at.parent)
		if at == e {
			return strings.Join(parts, ", ")
		}
	}
}

// checkRows notes what is wrong between the rows of a profile.
func (p *tableParser) checkRows(e *profileEntry, inherited []*limits.Rule) {
	parents := make(map[string]*limits.Rule, len(inherited))
	for _, r := range inherited {
		parents[r.Name] = r
	}
	names := make(map[string]*rowEntry)
	owners := make(map[string]*rowEntry) // by folded path
	for _, r := range e.rows {
		if first := names[r.Name]; first != nil {
			r.name.fault("%s: named twice: it stands in line %d already", quote(r.Name), first.name.node.Line)
			continue
		}
		names[r.Name] = r
		for i, path := range r.Paths {
			if owner := owners[foldPath(path)]; owner == r {
				r.paths[i].fault("%s: twice in this rule", quote(path))
			} else if owner != nil {
				r.paths[i].fault("%s: already in rule %s in line %d", quote(path), owner.Name, owner.name.node.Line)
			}
			owners[foldPath(path)] = r
		}
		if parents[r.Name] == nil && !e.broken {
			if !r.has["paths"] {
				r.at.fault("rule %s has no paths: want one at least", r.Name)
			}
			if !r.has["quota"] {
				r.at.fault("rule %s has no quota: want %s", r.Name, wantBudget)
			}
		}
	}
	for _, r := range e.rows {
		parent := parents[r.Name]
		if parent == nil || r.has["paths"] || names[r.Name] != r {
			continue
		}
		if !slices.ContainsFunc(parent.Paths, func(path string) bool { return owners[foldPath(path)] == nil }) {
			r.at.fault("rule %s has no path left: each is in another rule of this profile", r.Name)
		}
	}
}

// foldPath is the form that paths are compared in. CheckPath has taken care of the rest.
func foldPath(path string) string { return strings.ToLower(path) }

// merge lays the rows of a profile over the rules of its parent.
func merge(inherited []*limits.Rule, rows []*rowEntry) []*limits.Rule {
	byName := make(map[string]*rowEntry, len(rows))
	taken := make(map[string]bool)
	for _, r := range rows {
		byName[r.Name] = r
		for _, path := range r.Paths {
			taken[foldPath(path)] = true
		}
	}
	var rules []*limits.Rule
	for _, parent := range inherited {
		merged := *parent
		row := byName[parent.Name]
		if row == nil || !row.has["paths"] {
			merged.Paths = slices.DeleteFunc(slices.Clone(parent.Paths), func(path string) bool { return taken[foldPath(path)] })
		}
		if row != nil {
			row.over(&merged)
			delete(byName, parent.Name)
		}
		if len(merged.Paths) > 0 {
			rules = append(rules, &merged)
		}
	}
	for _, r := range rows {
		if byName[r.Name] == r {
			added := r.Rule
			if added.Title == "" {
				added.Title = added.Name
			}
			rules = append(rules, &added)
		}
	}
	return rules
}

// over writes what the row says over its parent's rule. A source belongs to a figure: a row with a
// figure of its own does not keep the parent's.
func (r *rowEntry) over(rule *limits.Rule) {
	set := func(key string, do func()) {
		if r.has[key] {
			do()
		}
	}
	set("title", func() { rule.Title = r.Title })
	set("category", func() { rule.Category = r.Category })
	set("quota", func() { rule.Budget, rule.Source = r.Budget, "" })
	set("source", func() { rule.Source = r.Source })
	set("paths", func() { rule.Paths = r.Paths })
	set("pace", func() { rule.Pace = r.Pace })
	set("inject", func() { rule.Inject = r.Inject })
	set("on_store_error", func() { rule.OnError = r.OnError })
	set("shadow", func() { rule.Shadow = r.Shadow })
	set("shares", func() { rule.Shares = r.Shares })
}
