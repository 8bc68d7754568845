package config

import (
	"cmp"
	"maps"
	"reflect"
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
	p, faults := readTable(name, data, shipped)
	if len(faults) > 0 {
		return nil, faults
	}
	return p.table, nil
}

// tableFile is a limits.yaml.
type tableFile struct {
	Version  string         `yaml:"version" read:"version" need:"version: 1"`
	Revision string         `yaml:"revision" read:"date"` // the day that it is of; "" is none
	Zone     *time.Location `yaml:"timezone" read:"zone"` // default that of the shipped table, or DefaultZone
	Profiles profileEntries `yaml:"profiles"`
}

// profileEntry is a profile as it is written.
type profileEntry struct {
	Title   string       `yaml:"title" read:"text"` // default the name
	Source  string       `yaml:"source" read:"text"`
	Extends string       `yaml:"extends" read:"name"`
	Rules   []*ruleEntry `yaml:"rules"`

	name   string
	at     value           // of the name
	built  *limits.Profile // nil as long as it is not
	begun  bool            // built, or being built: to find profiles that extend each other in a circle
	broken bool            // its parent is; what it lacks may have stood there
}

// profileEntries are profiles in the order of the file.
type profileEntries []*profileEntry

func (p *profileEntries) read(v value) {
	v.entries(func(name string, val value) {
		e := &profileEntry{name: name, at: val.atName()}
		if !isName(name) {
			e.at.wrong(name, wantName)
		}
		val.decode(reflect.ValueOf(e).Elem(), "")
		if !v.doc.has(&e.Extends) && !v.doc.has(&e.Rules) {
			e.at.fault("no rules: want rules, or extends with the name of another profile")
		}
		*p = append(*p, e)
	})
}

// ruleEntry is a rule as it is written. A field has the name of that of limits.Rule which it sets.
type ruleEntry struct {
	Name     string                   `yaml:"name" read:"text" need:"one, as in menu.create"`
	Title    string                   `yaml:"title" read:"text"` // default the name
	Category string                   `yaml:"category" read:"text"`
	Source   string                   `yaml:"source" read:"text"`
	Paths    []string                 `yaml:"paths" read:"path" filled:"no path: want one at least"`
	Budget   limits.Budget            `yaml:"quota"`
	Pace     limits.Pace              `yaml:"pace" read:"pace"`
	Inject   limits.Inject            `yaml:"inject" read:"inject"`
	OnError  limits.OnStoreError      `yaml:"on_store_error" read:"on_store_error"`
	Fuse     limits.Fuse              `yaml:"fuse" read:"fuse"`
	Shadow   bool                     `yaml:"shadow" read:"flag"`
	Shares   map[string]limits.Budget `yaml:"shares"`
	Reserve  reserves                 `yaml:"reserve"`
}

// readTable is ParseTable with what only the file itself says. It returns what could be read even when there
// are faults; nil is nothing.
func readTable(name string, data []byte, shipped *limits.Table) (*tableParser, Faults) {
	doc := &document{name: name, places: make(map[any]value)}
	top, ok := doc.parse(data)
	if !ok {
		return nil, doc.faults
	}
	p := &tableParser{
		doc:     doc,
		table:   &limits.Table{Profiles: make(map[string]*limits.Profile)},
		shipped: make(map[string]*limits.Profile),
		entries: make(map[string]*profileEntry),
	}
	if shipped != nil {
		p.file.Zone, p.shipped = shipped.Zone, shipped.Profiles
		maps.Copy(p.table.Profiles, shipped.Profiles)
	}
	top.decode(reflect.ValueOf(&p.file).Elem(), "")
	if p.file.Zone == nil && !doc.has(&p.file.Zone) {
		zone, err := time.LoadLocation(DefaultZone)
		if err != nil {
			top.fault("no timezone, and %s: %s", DefaultZone, err)
		}
		p.file.Zone = zone
	}
	p.table.Zone = p.file.Zone
	for _, e := range p.file.Profiles {
		p.entries[e.name] = e
		e.Rules = slices.DeleteFunc(e.Rules, func(r *ruleEntry) bool { return r == nil || r.Name == "" })
	}
	for _, e := range p.file.Profiles {
		p.build(e)
	}
	doc.faults.sort()
	return p, doc.faults
}

// tableParser is one readTable under way, or what it has read.
type tableParser struct {
	doc     *document
	file    tableFile
	table   *limits.Table
	shipped map[string]*limits.Profile
	entries map[string]*profileEntry // those of the file
}

// build works out the rules of a profile, those of its parent first.
func (p *tableParser) build(e *profileEntry) {
	if e.begun {
		return
	}
	e.begun = true
	inherited := p.inherited(e)
	p.checkRules(e, inherited)
	e.built = &limits.Profile{Name: e.name, Title: cmp.Or(e.Title, e.name), Source: e.Source, Rules: p.merge(inherited, e)}
	p.checkReserves(e)
	p.setShipped(e)
	p.table.Profiles[e.name] = e.built
	if len(p.doc.faults) == 0 { // what was checked is all that Rules checks
		if _, err := p.table.Rules(e.name, nil); err != nil {
			e.at.fault("%s", err)
		}
	}
}

// setShipped says which built-in profile a profile stands for, or extends over others.
func (p *tableParser) setShipped(e *profileEntry) {
	switch parent := p.entries[e.Extends]; {
	case p.shipped[e.name] != nil:
		e.built.Shipped = e.name
	case parent != nil && parent.built != nil:
		e.built.Shipped = parent.built.Shipped
	case p.shipped[e.Extends] != nil:
		e.built.Shipped = e.Extends
	}
}

// inherited returns the rules of e's parent.
func (p *tableParser) inherited(e *profileEntry) []*limits.Rule {
	extends := p.doc.at(&e.Extends)
	if extends.doc == nil {
		return nil
	}
	parent, ours := p.entries[e.Extends], e.Extends != e.name
	switch {
	case e.Extends == "": // noted
	case ours && parent != nil && parent.begun && parent.built == nil:
		extends.fault("%s: a circle: %s", quote(e.Extends), p.circle(e))
	case ours && parent != nil:
		p.build(parent)
		e.broken = parent.broken
		return parent.built.Rules
	case p.shipped[e.Extends] != nil:
		return p.shipped[e.Extends].Rules
	case !ours:
		extends.fault("%s: the profile itself, and none of that name is built in", quote(e.Extends))
	default:
		known := slices.Concat(sortedKeys(p.entries), sortedKeys(p.shipped))
		slices.Sort(known)
		extends.fault("%s: no such profile: %s", quote(e.Extends), suggest(e.Extends, slices.Compact(known)))
	}
	e.broken = true
	return nil
}

// circle spells out how e comes back to itself.
func (p *tableParser) circle(e *profileEntry) string {
	var parts []string
	for at := p.entries[e.Extends]; ; at = p.entries[at.Extends] {
		parts = append(parts, at.name+" extends "+at.Extends)
		if at == e {
			return strings.Join(parts, ", ")
		}
	}
}

// checkRules notes what is wrong between the rules of a profile.
func (p *tableParser) checkRules(e *profileEntry, inherited []*limits.Rule) {
	parents := make(map[string]*limits.Rule, len(inherited))
	for _, r := range inherited {
		parents[r.Name] = r
	}
	hint := func(r *ruleEntry) string {
		if m := meant(r.Name, inherited); m != "" {
			return ": " + m
		}
		return ""
	}
	line := func(r *ruleEntry) int { return p.doc.at(&r.Name).node.Line }
	names := make(map[string]*ruleEntry)
	owners := make(map[string]*ruleEntry) // by folded path
	for _, r := range e.Rules {
		if first := names[r.Name]; first != nil {
			p.doc.at(&r.Name).fault("%s: named twice: it stands in line %d already", quote(r.Name), line(first))
			continue
		}
		names[r.Name] = r
		if at := p.doc.at(&r.Name); !isName(r.Name) {
			at.fault("%s: want %s%s", at.shown(r.Name), wantName, hint(r))
			continue
		}
		for i, path := range r.Paths {
			at := p.doc.at(&r.Paths[i])
			if path == "" { // noted
				continue
			}
			if owner := owners[foldPath(path)]; owner == r {
				at.fault("%s: twice in this rule", quote(path))
			} else if owner != nil {
				at.fault("%s: already in rule %s in line %d", quote(path), owner.Name, line(owner))
			}
			owners[foldPath(path)] = r
		}
		if parents[r.Name] == nil && !e.broken {
			if !p.doc.has(&r.Paths) {
				p.doc.at(r).fault("rule %s has no paths: want one at least%s", r.Name, hint(r))
			}
			if !p.doc.has(&r.Budget) {
				p.doc.at(r).fault("rule %s has no quota: want %s%s", r.Name, wantBudget, hint(r))
			}
		}
		p.checkShares(r)
	}
	for _, r := range e.Rules {
		parent := parents[r.Name]
		if parent == nil || p.doc.has(&r.Paths) || names[r.Name] != r {
			continue
		}
		if !slices.ContainsFunc(parent.Paths, func(path string) bool { return owners[foldPath(path)] == nil }) {
			p.doc.at(r).fault("rule %s has no path left: each is in another rule of this profile", r.Name)
		}
	}
}

func (p *tableParser) checkShares(r *ruleEntry) {
	for _, caller := range sortedKeys(r.Shares) {
		at := p.doc.at(&r.Shares).entry(caller)
		if !isName(caller) {
			at.atName().fault("want the name of a caller")
		} else if b := r.Shares[caller]; b.Kind != limits.Limited && !at.faulty() {
			at.fault("%s: want N/day, N/month or a list of them", b)
		}
	}
}

// foldPath is the form that paths are compared in. CheckPath has taken care of the rest.
func foldPath(path string) string { return strings.ToLower(path) }

// merge lays the rules of a profile over those of its parent.
func (p *tableParser) merge(inherited []*limits.Rule, e *profileEntry) []*limits.Rule {
	byName := make(map[string]*ruleEntry, len(e.Rules))
	taken := make(map[string]bool)
	for _, r := range e.Rules {
		byName[r.Name] = r
		for _, path := range r.Paths {
			taken[foldPath(path)] = true
		}
	}
	var rules []*limits.Rule
	for _, parent := range inherited {
		merged := *parent
		entry := byName[parent.Name]
		if entry == nil || !p.doc.has(&entry.Paths) {
			merged.Paths = slices.DeleteFunc(slices.Clone(parent.Paths), func(path string) bool { return taken[foldPath(path)] })
		}
		if entry != nil {
			p.over(&merged, entry, e.name)
			delete(byName, parent.Name)
		}
		if len(merged.Paths) > 0 {
			rules = append(rules, &merged)
		}
	}
	for _, r := range e.Rules {
		if byName[r.Name] == r {
			added := new(limits.Rule)
			p.over(added, r, e.name)
			added.Title = cmp.Or(added.Title, added.Name)
			rules = append(rules, added)
		}
	}
	return rules
}

// over writes what the file says of a rule over its parent's. A source belongs to a figure: a rule with a
// figure of its own does not keep the parent's.
func (p *tableParser) over(rule *limits.Rule, r *ruleEntry, profile string) {
	if p.doc.has(&r.Budget) {
		rule.Source, rule.From = "", profile
	}
	from, to := reflect.ValueOf(r).Elem(), reflect.ValueOf(rule).Elem()
	for i := range from.NumField() {
		field := to.FieldByName(from.Type().Field(i).Name)
		if field.IsValid() && p.doc.has(from.Field(i).Addr().Interface()) {
			field.Set(from.Field(i))
		}
	}
}
