package config

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"wxproxy/limits"
)

// mainFile is what of wxproxy.yaml can only be checked once all files are read, with its places.
type mainFile struct {
	unreadable bool // not YAML: nothing is known of it
	badToken   bool // admin.token has a fault of its own

	listen, adminListen, upstream, limits, anonymous, learn value // doc is nil where the key is left out

	apps    []*appEntry
	callers []*callerEntry
}

// appEntry is an element of apps. A place whose key is left out is that of the element.
type appEntry struct {
	App
	at, name, appID, profile value
	quotas                   []quotaEntry
}

type quotaEntry struct {
	rule   string
	at     value
	budget limits.Budget
}

// callerEntry is an element of callers.
type callerEntry struct {
	Caller
	at, name, key value
	apps          []appReference
}

type appReference struct {
	name string
	at   value
}

var storePrefix = regexp.MustCompile(`^[A-Za-z0-9._-]{1,32}$`)

// mainFile walks wxproxy.yaml.
func (l *loader) mainFile(top value) *mainFile {
	c, m := l.config, &mainFile{}
	top.mapping(map[string]func(value){
		"listen": func(v value) {
			m.listen = v
			if a := v.address(); a != "" {
				c.Listen = a
			}
		},
		"allow_open": func(v value) { c.AllowOpen = v.flag() },
		"tls":        func(v value) { c.TLS = l.tls(v) },
		"trusted_proxies": func(v value) {
			v.list(func(v value) { c.TrustedProxies = append(c.TrustedProxies, v.prefix()) })
		},
		"admin": func(v value) {
			v.mapping(map[string]func(value){
				"listen": func(v value) {
					m.adminListen = v
					if a := v.address(); a != "" {
						c.Admin.Listen = a
					}
				},
				"hosts": func(v value) {
					v.list(func(v value) { c.Admin.Hosts = append(c.Admin.Hosts, v.host()) })
				},
				"token": func(v value) {
					c.Admin.Token, m.badToken = adminToken(v)
				},
			})
		},
		"upstream": func(v value) {
			v.mapping(map[string]func(value){
				"url": func(v value) { m.upstream, c.Upstream.URL = v, v.upstream() },
				"fallbacks": func(v value) {
					v.list(func(v value) { c.Upstream.Fallbacks = append(c.Upstream.Fallbacks, v.upstream()) })
					if len(c.Upstream.Fallbacks) > 0 {
						v.notYet("fallbacks")
					}
				},
				"timeout": func(v value) { c.Upstream.Timeout = v.duration() },
			})
		},
		"store":  func(v value) { l.store(v) },
		"limits": func(v value) { m.limits = v },
		"token": func(v value) {
			v.mapping(map[string]func(value){
				"endpoint": func(v value) { c.TokenEndpoint = v.oneOf("stable_token", "token") },
			})
		},
		"drift": func(v value) {
			v.mapping(map[string]func(value){
				"every":   func(v value) { c.Drift.Every = v.interval() },
				"per_day": func(v value) { c.Drift.PerDay = int(v.number(100_000)) },
			})
		},
		"apps": func(v value) {
			v.list(func(v value) { m.apps = append(m.apps, l.app(v)) })
		},
		"callers": func(v value) {
			v.list(func(v value) { m.callers = append(m.callers, l.caller(v)) })
		},
		"anonymous": func(v value) { m.anonymous, c.Anonymous = v, v.tri() },
		"learn": func(v value) {
			m.learn, c.Learn = v, v.tri()
		},
		"access_log":     func(v value) { c.AccessLog = accessLog(v, c.AccessLog) },
		"max_body":       func(v value) { c.MaxBody = v.size() },
		"max_in_flight":  func(v value) { c.MaxInFlight = int(v.number(1_000_000)) },
		"shutdown_delay": func(v value) { c.ShutdownDelay = v.delay() },
	})
	return m
}

func (l *loader) tls(v value) TLS {
	var t TLS
	file := func(to *string) func(value) {
		return func(v value) {
			name, _ := v.text()
			if pem.MatchString(name) {
				v.fault("%s: want the path of the file that holds it", outline(name))
			}
			if name != "" {
				*to = l.beside(name)
			}
		}
	}
	v.mapping(map[string]func(value){"cert_file": file(&t.CertFile), "key_file": file(&t.KeyFile)})
	switch {
	case t.CertFile == "" && t.KeyFile != "":
		v.fault("key_file without cert_file: want both or none")
	case t.CertFile != "" && t.KeyFile == "":
		v.fault("cert_file without key_file: want both or none")
	}
	return t
}

// adminToken reads the token. A variable that is not set means the same as no token at all: a
// random one is made, and without one nothing reachable is started.
func adminToken(v value) (token string, bad bool) {
	v.secret, v.unsetOK = true, true
	token, ok := v.text()
	if !ok || token == "" {
		return "", !ok
	}
	if fault := checkSecret(token); fault != "" {
		v.fault("%s: want the token itself", fault)
		return "", true
	}
	if !strings.Contains(v.node.Value, "${") {
		v.doc.literal = true
	}
	return token, false
}

func (l *loader) store(v value) {
	s := &l.config.Store
	v.mapping(map[string]func(value){
		"url": func(v value) {
			s.URL = v.storeURL()
			if _, rest, _ := strings.Cut(s.URL, "://"); strings.Contains(rest, "@") && !strings.Contains(v.node.Value, "${") {
				v.doc.literal = true
			}
		},
		"password_file": func(v value) {
			if name, ok := v.text(); !ok || name == "" {
				return
			}
			lines := l.secretFile(v)
			if len(lines) > 1 {
				v.fault("%d lines: want one password", len(lines))
			} else if len(lines) == 1 {
				s.Password = lines[0]
			}
		},
		"prefix": func(v value) {
			text, ok := v.text()
			if ok && !storePrefix.MatchString(text) {
				v.wrong(text, "1 to 32 of [A-Za-z0-9._-]")
			}
			s.Prefix = text
		},
	})
	if s.Password != "" && strings.HasPrefix(s.URL, "file:") {
		v.fault("password_file with a file: store, which has no password")
	}
}

func accessLog(v value, log AccessLog) AccessLog {
	if v.kind() != "a mapping" {
		if text, ok := v.text(); ok && text != "stdout" {
			v.wrong(text, "stdout or {file: access.log}")
		}
		return log
	}
	log.Stdout = false
	has := v.mapping(map[string]func(value){
		"file": func(v value) {
			text, ok := v.text()
			if ok && (text == "" || strings.HasSuffix(text, "/")) {
				v.wrong(text, "the path of a file")
			}
			log.File = text
		},
		"max_size_mb": func(v value) { log.MaxSizeMB = int(v.number(100_000)) },
		"keep":        func(v value) { log.Keep = int(v.number(1000)) },
	})
	if !has["file"] {
		v.fault("no file: want stdout or {file: access.log}")
	}
	return log
}

// app walks one element of apps.
func (l *loader) app(v value) *appEntry {
	a := &appEntry{at: v, name: v, appID: v, profile: v}
	a.Profile = DefaultProfile
	has := v.mapping(map[string]func(value){
		"name":        func(v value) { a.name, a.Name = v, v.name() },
		"appid":       func(v value) { a.appID, a.AppID = v, v.appID() },
		"secret":      func(v value) { a.Secrets = v.secrets() },
		"secret_file": func(v value) { a.Secrets = l.secretFile(v) },
		"profile":     func(v value) { a.profile, a.Profile = v, v.name() },
		"quotas":      func(v value) { a.readQuotas(v) },
	})
	if v.kind() != "a mapping" {
		return a
	}
	if !has["appid"] {
		v.fault("no appid: want one, as in wx0123456789abcdef")
	}
	oneOfTwo(v, has, "secret", "secret_file")
	if !has["name"] {
		a.Name = a.AppID
	}
	return a
}

// oneOfTwo checks that a secret is given in one of its two forms.
func oneOfTwo(v value, has map[string]bool, text, file string) {
	switch {
	case has[text] && has[file]:
		v.fault("both %s and %s: want one of them", text, file)
	case !has[text] && !has[file]:
		v.fault("no %s: want %s or %s", text, text, file)
	}
}

func (a *appEntry) readQuotas(v value) {
	if v.kind() == "a single value" && !v.null() {
		if text, ok := v.text(); ok && text == "auto" {
			a.AutoQuotas = true
		} else if ok {
			v.wrong(text, "auto, or figures by rule name, as in {user.info: 500000/day}")
		}
		return
	}
	v.entries(func(rule string, name, val value) {
		b, _ := val.budget()
		a.quotas = append(a.quotas, quotaEntry{rule: rule, at: name, budget: b})
	})
}

// caller walks one element of callers.
func (l *loader) caller(v value) *callerEntry {
	c := &callerEntry{at: v, name: v, key: v}
	has := v.mapping(map[string]func(value){
		"name": func(v value) {
			c.name = v
			v.secret = true // it may be the key, which can be anything
			c.Name = v.name()
		},
		"key":      func(v value) { c.key, c.Keys = v, v.secrets() },
		"key_file": func(v value) { c.key, c.Keys = v, l.secretFile(v) },

		"third_party": func(v value) { c.ThirdParty = v.flag() },
		"apps": func(v value) {
			v.list(func(v value) {
				if text, ok := v.text(); ok {
					c.apps = append(c.apps, appReference{name: text, at: v})
				}
			})
			if len(c.apps) == 0 {
				v.fault("no app: want the name or appid of one at least")
			}
		},
	})
	if v.kind() != "a mapping" {
		return c
	}
	if !has["name"] {
		v.fault("no name: want one")
	}
	oneOfTwo(v, has, "key", "key_file")
	if !has["apps"] {
		v.fault("no apps: want the names or appids that it may call for")
	}
	return c
}

// apps checks the apps of the file or names the one of the environment, and gives each its rules.
// table is nil when nothing of it could be read; when it is only part of the user's, rules are not
// looked up in it. Faults of variables come back, those of the file are noted in it.
func (l *loader) apps(m *mainFile, table *limits.Table, partial bool) Faults {
	env, faults := l.envApp()
	if len(m.apps) == 0 && !m.unreadable {
		if env == nil {
			return faults
		}
		m.apps = []*appEntry{env}
	} else {
		faults = nil
		if env != nil && !slices.ContainsFunc(m.apps, func(a *appEntry) bool { return a.AppID == env.AppID }) {
			l.warn("WX_APPID names %s, which is none of the apps of the file: it is not used", quote(env.AppID))
		}
	}
	taken := make(map[string]int) // app by name and by appid
	plain := make(map[string]*limits.Ruleset)
	claim := func(id string, at value, i int) {
		if j, ok := taken[id]; ok && id != "" {
			at.fault("%s: already the name or appid of apps[%d]", at.quoted(id), j)
			return
		}
		taken[id] = i
	}
	for i, a := range m.apps {
		claim(a.AppID, a.appID, i)
		if a.Name != a.AppID {
			claim(a.Name, a.name, i)
		}
		if table != nil && a.Profile != "" {
			a.rules(table, partial, plain)
		}
		l.config.Apps = append(l.config.Apps, a.App)
	}
	if env != nil {
		faults = env.at.doc.faults
	}
	return faults
}

// rules gives an app its ruleset. Apps without quotas of their own share that of their profile.
func (a *appEntry) rules(table *limits.Table, partial bool, plain map[string]*limits.Ruleset) {
	profile := table.Profiles[a.Profile]
	if profile == nil {
		a.profile.fault("%s: no such profile: %s", a.profile.quoted(a.Profile), suggest(a.Profile, sortedKeys(table.Profiles)))
		return
	}
	if partial {
		return
	}
	var names []string
	for _, r := range profile.Rules {
		names = append(names, r.Name)
	}
	for _, q := range a.quotas {
		if !slices.Contains(names, q.rule) {
			q.at.fault("no such rule in profile %s: %s", a.Profile, suggest(q.rule, names))
			continue
		}
		if a.Quotas == nil {
			a.Quotas = make(map[string]limits.Budget)
		}
		a.Quotas[q.rule] = q.budget
	}
	if a.Quotas == nil && plain[a.Profile] != nil {
		a.Rules = plain[a.Profile]
		return
	}
	rules, err := table.Rules(a.Profile, a.Quotas)
	if err != nil {
		a.profile.fault("%s", err)
		return
	}
	a.Rules = rules
	if a.Quotas == nil {
		plain[a.Profile] = rules
	}
}

// interval reads how often something is done; 0 is never.
func (v value) interval() time.Duration {
	text, ok := v.text()
	if !ok {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d != 0 && (d < time.Minute || d > 24*time.Hour) {
		v.wrong(text, "0s, or a duration from 1m to 24h, as in 30m")
		return 0
	}
	return d
}

// callers checks names and keys, and turns the apps of callers into appids.
func (l *loader) callers(m *mainFile) {
	ids := make(map[string]string)
	for _, a := range m.apps {
		ids[a.Name], ids[a.AppID] = a.AppID, a.AppID
	}
	delete(ids, "") // of an app with a fault
	names := make(map[string]int)
	keys := make(map[string]int)
	for i, c := range m.callers {
		if j, ok := names[c.Name]; ok && c.Name != "" {
			c.name.fault("%s: already the name of callers[%d]", c.name.quoted(c.Name), j)
		}
		names[c.Name] = i
		for _, key := range c.Keys {
			if j, ok := keys[key]; ok && j != i {
				c.key.fault("the same key as that of callers[%d]", j)
			}
			keys[key] = i
			for _, a := range m.apps {
				if slices.Contains(a.Secrets, key) {
					c.key.fault("the same as an AppSecret: want a key of the caller's own")
				}
			}
		}
		for _, ref := range c.apps {
			id, ok := ids[ref.name]
			if !ok {
				ref.at.fault("%s: no such app: %s", ref.at.quoted(ref.name), suggest(ref.name, sortedKeys(ids)))
				continue
			}
			c.Apps = append(c.Apps, id)
		}
		l.config.Callers = append(l.config.Callers, c.Caller)
	}
}
