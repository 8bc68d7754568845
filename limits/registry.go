package limits

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"wxproxy/wechat"
)

// maxPaths is how many paths inside /* are counted one by one, for each app.
const maxPaths = 512

// registry finds the meters of each app.
type registry struct {
	mu       sync.RWMutex
	accounts map[string]*account // by appid
	drops    int64               // meters that were forgotten
}

// account is the meters of one app. All fields but appid belong to the registry's mutex.
type account struct {
	appid  string
	meters map[string]*meter // by counter name
	places int               // meters of paths inside /*
	warned []string          // rules without a figure that NoFigure was observed for
}

func (r *registry) init() { r.accounts = make(map[string]*account) }

// all returns the meters of all apps.
func (r *registry) all() []*meter {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var meters []*meter
	for _, a := range r.accounts {
		for _, m := range a.meters {
			meters = append(meters, m)
		}
	}
	return meters
}

// of returns the meters of an app.
func (r *registry) of(app string) []*meter {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if a := r.accounts[app]; a != nil {
		return slices.Collect(maps.Values(a.meters))
	}
	return nil
}

// find returns a meter, or nil.
func (r *registry) find(app, counter string) *meter {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if a := r.accounts[app]; a != nil {
		return a.meters[counter]
	}
	return nil
}

// counterOf returns the counter of a match, and whether it takes a place of its own for a path. Past
// maxPaths paths, the rest of a rule share one. It needs the registry's mutex.
func (a *account) counterOf(match *Match) (name string, path bool) {
	path = match.Counter != match.Rule.Name
	if path && a.meters[match.Counter] == nil && a.places >= maxPaths {
		return match.Rule.Name + ":*", false
	}
	return match.Counter, path
}

// counterOf returns the counter that a call of an app would be counted by.
func (r *registry) counterOf(app string, match *Match) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if a := r.accounts[app]; a != nil {
		name, _ := a.counterOf(match)
		return name
	}
	return match.Counter
}

// make returns the meter of a match, new if need be. It reports whether this is the first of a rule without a figure.
func (r *registry) make(app string, match *Match) (m *meter, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.accounts[app]
	if a == nil {
		a = &account{appid: app, meters: make(map[string]*meter)}
		r.accounts[app] = a
	}
	name, path := a.counterOf(match)
	if m := a.meters[name]; m != nil {
		return m, false
	}
	if match.Rule.Budget.Kind == Unknown && !slices.Contains(a.warned, match.Rule.Name) {
		a.warned, first = append(a.warned, match.Rule.Name), true
	}
	m = &meter{account: a, name: name, life: r.drops, path: path, shared: isShared(name)}
	if path {
		a.places++
		if spelled := strings.TrimSuffix(match.Path, "/"); !strings.HasSuffix(name, spelled) {
			m.spelled = strings.Clone(spelled) // it is a part of a URL with a token in it
		}
	}
	a.meters[name] = m
	return m, first
}

// Spelling returns the path that a counter inside a /* counts, as it is spelled in WeChat's own pages or
// by the first caller of this gateway: the counter's name has it in lower case.
func (l *Limiter) Spelling(app, counter string) string {
	_, path, _ := strings.Cut(counter, ":")
	if m := l.registry.find(app, counter); m != nil && m.spelled != "" {
		path = m.spelled
	}
	return wechat.Spelling(path)
}

// dropLocked removes a meter and frees its place. It needs both mutexes.
func (r *registry) dropLocked(m *meter) {
	r.drops++
	m.gone = true
	if m.path {
		m.account.places--
	}
	if delete(m.account.meters, m.name); len(m.account.meters) == 0 {
		delete(r.accounts, m.account.appid)
	}
}

// meterOf returns the meter of a match, with its mutex held.
func (l *Limiter) meterOf(app string, match *Match) *meter {
	for {
		m := l.registry.find(app, match.Counter)
		if m == nil {
			var first bool
			if m, first = l.registry.make(app, match); first {
				l.observe(Event{Kind: NoFigure, App: app, Rule: match.Rule.Name})
			}
		}
		m.mu.Lock()
		if !m.gone {
			return m
		}
		m.mu.Unlock()
	}
}

// drop removes a meter that is no longer needed.
func (l *Limiter) drop(m *meter) {
	l.registry.mu.Lock()
	defer l.registry.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.gone && m.droppable() {
		l.registry.dropLocked(m)
	}
}

// Forget drops what this gateway knows of an app. Calls of it in flight are not counted any more.
func (l *Limiter) Forget(app string) {
	l.clears.forget(app)
	l.registry.mu.Lock()
	defer l.registry.mu.Unlock()
	a := l.registry.accounts[app]
	if a == nil {
		return
	}
	for _, m := range a.meters {
		m.mu.Lock()
		l.registry.dropLocked(m)
		m.mu.Unlock()
	}
}

// Seen returns the appids that this gateway has counted calls for, those that are not configured
// among them, in alphabetical order.
func (l *Limiter) Seen() []string {
	l.registry.mu.RLock()
	defer l.registry.mu.RUnlock()
	return slices.Sorted(maps.Keys(l.registry.accounts))
}
