package limits

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"wxproxy/wechat"
)

// Inject is whether the account's access_token goes into a rule's calls.
type Inject uint8

const (
	// InjectByPath goes by what WeChat documents for each path, see [wechat.CredentialOf].
	InjectByPath Inject = iota
	// InjectAccount replaces every access_token of the query by the account's own.
	InjectAccount
	// InjectNone leaves the query alone: the call carries a token of another kind, or a secret.
	InjectNone
)

func (i Inject) String() string { return [...]string{"by path", "account", "none"}[i] }

// OnStoreError is what becomes of a rule's calls while the store cannot be reached.
type OnStoreError uint8

const (
	// StoreErrorDefault refuses rules of at most 1000 calls and lets the others go on locally.
	StoreErrorDefault OnStoreError = iota
	// StoreErrorRefuse answers -1 "system error".
	StoreErrorRefuse
	// StoreErrorLocal sends this gateway's share of what was left when the store last answered.
	StoreErrorLocal
)

// Fuse is what becomes of a caller whose calls fail in a loop.
type Fuse uint8

const (
	// FuseDefault is what the configuration says for all rules.
	FuseDefault Fuse = iota
	// FuseOff looks for no loops.
	FuseOff
	// FuseWatch reports a loop and sends its calls.
	FuseWatch
	// FuseOn refuses them.
	FuseOn
)

func (f Fuse) String() string { return [...]string{"", "off", "watch", "on"}[f] }

// Rule is one row of the table: some paths, one counter, its quotas.
type Rule struct {
	Name     string // as in menu.create; unique in a profile
	Title    string // the row's title in WeChat's own table
	Category string
	Source   string // where the figure comes from
	From     string // what gave it the figure: a profile, or in place of that a file with the app's own quotas
	Paths    []string
	Budget   Budget
	Pace     Pace
	Inject   Inject
	OnError  OnStoreError
	Fuse     Fuse
	Shadow   bool              // would refuse, but sends
	Shares   map[string]Budget // callers' parts of the quota, at most
	Reserve  map[string]int64  // calls of each of the quotas that are kept back for a caller
}

// injects reports whether the account's access_token goes into a call of r to a path.
func (r *Rule) injects(path string) bool {
	if r.Inject != InjectByPath {
		return r.Inject == InjectAccount
	}
	credential := wechat.CredentialOf(path)
	return credential == wechat.AccountToken || credential == wechat.EitherToken
}

var ruleName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// CheckRuleName returns what is wrong with the name of a rule or a profile: names become part of the
// store's keys and of metric labels.
func CheckRuleName(name string) error {
	if !ruleName.MatchString(name) {
		return fmt.Errorf("name %q: want 1 to 64 of [a-z0-9._-], the first a letter or digit", name)
	}
	return nil
}

// CheckPath returns what is wrong with a path of a rule: it must be canonical and may end in /* .
func CheckPath(path string) error {
	plain := strings.TrimSuffix(path, "/*")
	if plain == "" {
		return fmt.Errorf("path %q: want a family before the *, as in /cgi-bin/*", path)
	}
	if strings.Contains(plain, "*") {
		return fmt.Errorf("path %q: a * may only stand at the end, as in /cgi-bin/*", path)
	}
	if strings.Contains(plain, "?") {
		return fmt.Errorf("path %q: want a path without a query: the query never chooses a rule", path)
	}
	if got, err := Canonical(plain); err != nil {
		return fmt.Errorf("path %q: want one that starts with / and has only [A-Za-z0-9._~/-]", path)
	} else if got != plain || strings.HasSuffix(plain, "/") {
		return fmt.Errorf("path %q: want %q", path, strings.TrimSuffix(got, "/"))
	}
	return nil
}

// Profile is a whole quota table for one type of account. Its rules stand in the order of the file.
type Profile struct {
	Name   string
	Title  string
	Source string
	// Shipped is the profile of the program's own table that it takes the place of, or that it extends, if
	// need be over others; "" is none.
	Shipped string
	Rules   []*Rule
}

// Table is the content of limits.yaml: the profiles and the zone whose midnight begins a day.
type Table struct {
	Zone     *time.Location
	Profiles map[string]*Profile
}

// Ruleset is the rules of one app: its profile with the app's own quotas. It is immutable and may
// be shared by apps that have no quotas of their own.
type Ruleset struct {
	Profile  string
	Zone     *time.Location
	Rules    []*Rule
	exact    map[string]exactPath // by folded path
	under    map[string]*Rule     // by folded path before its /*
	byName   map[string]*Rule
	rest     *Rule // of the paths that no rule names
	families map[string]bool
}

// exactPath is a path that a rule names.
type exactPath struct {
	rule    *Rule
	injects bool
}

// restName is the rule that counts the paths that no rule names. A profile without one gets it, without
// a figure.
const restName = "other"

// Rules returns the rules of one app: those of the named profile, with the figures of quotas in
// place of the profile's. It returns an error for a profile or rule that the table lacks.
func (t *Table) Rules(profile string, quotas map[string]Budget) (*Ruleset, error) {
	p, ok := t.Profiles[profile]
	if !ok {
		return nil, fmt.Errorf("profile %q: want one of %s", profile, strings.Join(slices.Sorted(maps.Keys(t.Profiles)), ", "))
	}
	s := &Ruleset{
		Profile:  p.Name,
		Zone:     t.Zone,
		exact:    make(map[string]exactPath),
		under:    make(map[string]*Rule),
		byName:   make(map[string]*Rule, len(p.Rules)),
		families: make(map[string]bool),
	}
	for _, r := range p.Rules {
		if own, ok := quotas[r.Name]; ok {
			changed := *r
			changed.Budget = own
			r = &changed
		}
		if s.byName[r.Name] != nil {
			return nil, fmt.Errorf("profile %q: rule %q: named twice", profile, r.Name)
		}
		s.byName[r.Name] = r
		s.Rules = append(s.Rules, r)
		for _, path := range r.Paths {
			if err := CheckPath(path); err != nil {
				return nil, fmt.Errorf("profile %q: rule %q: %w", profile, r.Name, err)
			}
			key, whole := strings.CutSuffix(fold(path), "/*")
			other := s.exact[key].rule
			if whole {
				other = s.under[key]
			}
			if other != nil {
				return nil, fmt.Errorf("profile %q: rule %q: path %q: already in rule %q", profile, r.Name, path, other.Name)
			}
			if whole {
				s.under[key] = r
			} else {
				s.exact[key] = exactPath{r, r.injects(key)}
			}
			s.families[family(key)] = true
		}
	}
	if s.rest = s.byName[restName]; s.rest == nil {
		s.rest = &Rule{Name: restName, Title: "其他接口"}
		s.byName[restName] = s.rest
		s.Rules = append(s.Rules, s.rest)
	}
	for name := range quotas {
		if s.byName[name] == nil {
			return nil, fmt.Errorf("quotas: rule %q: not in profile %q", name, profile)
		}
	}
	return s, nil
}

// Rule returns the rule of that name, or nil.
func (s *Ruleset) Rule(name string) *Rule { return s.byName[name] }

// Match is what a path was matched to.
type Match struct {
	Rule    *Rule
	Counter string // the rule's name; for a path that the rule does not name the path's own counter, as in other:/cgi-bin/x
	Path    string // as it was spelled
	Family  bool   // the path lies in a family of the table
	Injects bool   // the account's token goes into the call; outside of the table's families only in place of one of ours
}

// Match finds the rule of a canonical path. The most exact path wins; letter case and a trailing
// slash make no difference. A path that no rule names belongs to the rule other.
func (s *Ruleset) Match(path string) Match {
	folded := fold(path)
	if exact, ok := s.exact[folded]; ok {
		return Match{Rule: exact.rule, Counter: exact.rule.Name, Path: path, Family: true, Injects: exact.injects}
	}
	rule, known := s.rest, false
	for end := strings.LastIndexByte(folded, '/'); end > 0 && !known; end = strings.LastIndexByte(folded[:end], '/') {
		if r := s.under[folded[:end]]; r != nil {
			rule, known = r, true
		}
	}
	return Match{
		Rule: rule, Counter: rule.Name + ":" + folded, Path: path,
		Family: known || s.families[family(folded)], Injects: rule.injects(folded),
	}
}
