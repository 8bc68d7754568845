package config

import (
	"cmp"
	"maps"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"wxproxy/limits"
)

// check checks what was read of the main file, and reads the table that goes with it.
func (l *loader) check(o LoadOptions) (Faults, error) {
	shipped, faults := readTable("the built-in "+LimitsFile, o.Shipped, nil)
	if len(faults) > 0 {
		return nil, faults
	}
	table, limitFaults := l.table(shipped)
	l.config.Table = table
	auto, autoFaults := l.readAuto()
	envFaults := l.checkApps(table, len(limitFaults) > 0, auto)
	l.checkCallers()
	l.checkAlerts()
	l.checkStore()
	l.checkTLS()
	l.checkOpen()
	l.checkListenMode()
	l.checkUpstream()
	limitFaults = append(limitFaults, l.checkReservedFor(l.tables)...)
	l.warnOfShares()
	l.warnOfShadow()
	l.warnOfValues()
	l.main.faults.sort()
	return slices.Concat(envFaults, l.main.faults, limitFaults, autoFaults), nil
}

// checkSecrets checks that a secret is given in one of its two forms, and reads the file of the second. A place
// that is not in the files, or holds no mapping, is that of a fault noted already.
func (l *loader) checkSecrets(at value, texts *Secrets, file *string, key string) {
	has, hasFile := l.main.has(texts), l.main.has(file)
	switch {
	case at.doc == nil || at.kind() != "a mapping":
	case has && hasFile:
		at.fault("both %s and %s_file: want one of them", key, key)
	case hasFile:
		*texts = l.secretFile(l.main.at(file), *file)
	case !has:
		at.fault("no %s: want %s or %s_file", key, key, key)
	}
}

// checkApps checks the apps of the file or names the one of the environment, and gives each its rules.
// table is nil when nothing of it could be read; when it is only part of the user's, rules are not
// looked up in it. auto are the quotas of limits.auto.yaml. Faults of variables come back, those of the file are
// noted in it.
func (l *loader) checkApps(table *limits.Table, partial bool, auto map[string]map[string]limits.Budget) Faults {
	c := l.config
	env, environment := l.envApp()
	var used *document
	switch {
	case len(c.Apps) == 0 && env != nil:
		c.Apps, used = env, environment
	case len(c.Apps) == 0:
		return environment.faults
	case env != nil && !slices.ContainsFunc(c.Apps, func(a App) bool { return a.AppID == env[0].AppID }):
		l.warn("WX_APPID names %s, which is none of the apps of the file: it is not used", quote(env[0].AppID))
	}
	taken := make(map[string]int) // app by name and by appid
	plain := make(map[string]*limits.Ruleset)
	claim := func(id string, at value, i int) {
		if j, ok := taken[id]; ok && id != "" {
			at.fault("%s: already the name or appid of apps[%d]", at.shown(id), j)
			return
		}
		taken[id] = i
	}
	for i := range c.Apps {
		a := &c.Apps[i]
		if used == nil {
			l.checkSecrets(l.main.at(a), &a.Secrets, &a.SecretFile, "secret")
		}
		if !l.main.has(&a.Name) {
			a.Name = a.AppID
		}
		if a.AppID != "" {
			claim(a.AppID, l.main.at(&a.AppID, a), i)
		}
		if a.Name != a.AppID {
			claim(a.Name, l.main.at(&a.Name, a), i)
		}
		if quotas := l.main.at(&a.Quotas); quotas.doc != nil {
			a.AutoQuotas = quotas.node.Value == "auto"
		}
		if profile := l.main.at(&a.Profile, a); table != nil && a.Profile != "" && profile.doc != nil && !profile.faulty() {
			l.setRules(a, profile, table, partial, auto[a.AppID], plain)
		}
	}
	if used != nil {
		return used.faults
	}
	return nil
}

// setRules gives an app its ruleset. Apps without quotas of their own share that of their profile.
func (l *loader) setRules(a *App, at value, table *limits.Table, partial bool, auto map[string]limits.Budget, plain map[string]*limits.Ruleset) {
	profile := table.Profiles[a.Profile]
	if profile == nil {
		at.fault("%s: no such profile: %s", at.shown(a.Profile), suggest(a.Profile, sortedKeys(table.Profiles)))
		return
	}
	if partial {
		return
	}
	names := make(map[string]bool)
	for _, r := range profile.Rules {
		names[r.Name] = true
	}
	written := sortedKeys(a.Quotas)
	for _, rule := range written {
		if !names[rule] {
			l.main.at(&a.Quotas).entry(rule).atName().fault("no such rule in profile %s: %s", a.Profile, cmp.Or(meant(rule, profile.Rules), suggest(rule, sortedKeys(names))))
			delete(a.Quotas, rule)
		}
	}
	l.addAuto(a, auto, names)
	if len(a.Quotas) == 0 {
		a.Quotas = nil
		if a.Rules = plain[a.Profile]; a.Rules != nil {
			return
		}
	}
	rules, err := table.Rules(a.Profile, a.Quotas)
	if err != nil {
		at.fault("%s", err)
		return
	}
	l.checkOwnReserves(a, rules, written)
	for name := range a.Quotas {
		rule := rules.Rule(name) // of this ruleset alone
		if rule.From, rule.Source = AutoFile, ""; slices.Contains(written, name) {
			rule.From = MainFile
		}
	}
	a.Rules = rules
	if a.Quotas == nil {
		plain[a.Profile] = rules
	}
}

// checkCallers checks names and keys, and turns the apps of callers into appids.
func (l *loader) checkCallers() {
	c := l.config
	ids := make(map[string]string)
	for _, a := range c.Apps {
		ids[a.Name], ids[a.AppID] = a.AppID, a.AppID
	}
	delete(ids, "") // of an app with a fault
	names := make(map[string]int)
	keys := make(map[string]int)
	for i := range c.Callers {
		caller := &c.Callers[i]
		l.checkSecrets(l.main.at(caller), &caller.Keys, &caller.KeyFile, "key")
		if j, ok := names[caller.Name]; ok && caller.Name != "" {
			at := l.main.at(&caller.Name)
			at.fault("%s: already the name of callers[%d]", at.shown(caller.Name), j)
		}
		names[caller.Name] = i
		for _, key := range caller.Keys {
			at := l.main.at(&caller.Keys, &caller.KeyFile)
			if j, ok := keys[key]; ok && j != i {
				at.fault("the same key as that of callers[%d]", j)
			}
			keys[key] = i
			for _, a := range c.Apps {
				if slices.Contains(a.Secrets, key) {
					at.fault("the same as an AppSecret: want a key of the caller's own")
				}
			}
		}
		l.checkExpiry(caller)
		for j, name := range caller.Apps {
			at := l.main.at(&caller.Apps[j])
			if name == "*" {
				caller.Apps = slices.Compact(slices.Sorted(maps.Values(ids)))
				break
			}
			id, ok := ids[name]
			if !ok && at.doc != nil && !at.faulty() {
				at.fault("%s: no such app: %s", at.shown(name), suggest(name, sortedKeys(ids)))
			}
			caller.Apps[j] = id
		}
		l.checkRules(caller)
	}
}

// checkExpiry works out when a caller's keys end.
func (l *loader) checkExpiry(c *Caller) {
	if c.Expires == "" || l.config.Table == nil || l.config.Table.Zone == nil {
		return
	}
	day, err := time.ParseInLocation(time.DateOnly, c.Expires, l.config.Table.Zone)
	at := l.main.at(&c.Expires)
	if err != nil {
		at.fault("%s", err)
		return
	}
	if c.ExpiresAt = day.AddDate(0, 0, 1); !time.Now().Before(c.ExpiresAt) {
		l.warnAt(at, "%s: over: calls of %s are refused", quote(c.Expires), c.Name)
	}
}

// checkRules refuses names of rules that none of a caller's apps has: they would keep it from everything.
func (l *loader) checkRules(c *Caller) {
	known := make(map[string]bool)
	for _, app := range l.config.Apps {
		if !slices.Contains(c.Apps, app.AppID) {
			continue
		}
		if app.Rules == nil {
			return // with a fault
		}
		for _, r := range app.Rules.Rules {
			known[r.Name] = true
		}
	}
	names := sortedKeys(known)
	for i, glob := range c.Rules {
		if len(names) == 0 || slices.ContainsFunc(names, func(name string) bool { ok, _ := path.Match(glob, name); return ok }) {
			continue
		}
		if at := l.main.at(&c.Rules[i]); at.doc != nil && !at.faulty() {
			at.fault("%s: no rule of its apps: %s", at.shown(glob), suggest(glob, names))
		}
	}
}

func (l *loader) checkListenMode() {
	if at := l.main.at(&l.config.ListenMode); at.doc != nil && !strings.HasPrefix(l.config.Listen, "unix:") {
		at.fault("listen is %s: want it for a unix: socket only", l.config.Listen)
	}
}

func (l *loader) checkStore() {
	s := &l.config.Store
	at := l.main.at(&s.PasswordFile)
	if s.PasswordFile == "" {
		return
	}
	lines := l.secretFile(at, s.PasswordFile)
	switch {
	case len(lines) > 1:
		at.fault("%d lines: want one password", len(lines))
	case len(lines) == 1:
		s.Password = lines[0]
	}
	if s.Password != "" && strings.HasPrefix(s.URL, "file:") {
		l.main.at(s).fault("password_file with a file: store, which has no password")
	}
}

func (l *loader) checkTLS() {
	t := &l.config.TLS
	at := l.main.at(t)
	switch {
	case t.CertFile == "" && t.KeyFile != "" && !l.faulty(&t.CertFile):
		at.fault("key_file without cert_file: want both or none")
	case t.CertFile != "" && t.KeyFile == "" && !l.faulty(&t.KeyFile):
		at.fault("cert_file without key_file: want both or none")
	}
	for _, file := range []*string{&t.CertFile, &t.KeyFile} {
		if *file != "" {
			*file = l.beside(*file)
		}
	}
}

// faulty reports whether a fault was noted at a field.
func (l *loader) faulty(field any) bool {
	at := l.main.at(field)
	return at.doc != nil && at.faulty()
}

// checkUpstream refuses an upstream that is a listener of this gateway, as far as the addresses show it:
// each call would come in again.
func (l *loader) checkUpstream() {
	u, at := l.config.Upstream.URL, l.main.at(&l.config.Upstream.URL)
	if at.doc == nil || at.faulty() {
		return
	}
	if u.Scheme == "http" && isPublic(u.Hostname()) {
		at.fault("http to %s, which is public: AppSecrets and tokens could be read on the way: want https", quote(u.Hostname()))
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	for _, own := range []struct{ key, address string }{{"listen", l.config.Listen}, {"admin.listen", l.config.Admin.Listen}} {
		host, p, err := net.SplitHostPort(own.address)
		if err == nil && p == port && sameHost(host, u.Hostname()) {
			at.fault("%s: this is %s, the gateway itself: want the address of WeChat or of what stands for it", own.address, own.key)
		}
	}
}

// isPublic reports whether a host is reached through the internet, as far as its name or address shows it.
func isPublic(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		shared := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10) // of carriers, and of clouds within
		return ip.IsGlobalUnicast() && !ip.IsPrivate() && !shared.Contains(ip)
	}
	private := []string{".internal", ".local", ".localhost", ".lan", ".intranet", ".corp", ".home.arpa", ".svc", ".test", ".example", ".invalid"}
	host = "." + strings.ToLower(host)
	return strings.Count(host, ".") > 1 && !slices.ContainsFunc(private, func(suffix string) bool { return strings.HasSuffix(host, suffix) })
}

// sameHost reports whether a listener on host is reached by name. An empty host is every address.
func sameHost(host, name string) bool {
	loopback := func(s string) netip.Addr {
		if strings.EqualFold(s, "localhost") {
			s = "127.0.0.1"
		}
		ip, _ := netip.ParseAddr(s) // not valid for a name
		return ip.Unmap()
	}
	on, to := loopback(host), loopback(name)
	switch {
	case host == "" || on.IsUnspecified():
		return to.IsLoopback() || to.IsUnspecified()
	case on.IsValid():
		return on == to
	default:
		return strings.EqualFold(host, name)
	}
}

// checkOpen refuses what would let strangers in.
func (l *loader) checkOpen() {
	c := l.config
	shown := c.Listen
	if slices.Contains(c.Restart, "listen") {
		shown += " (the running one, until a restart)"
	}
	if Reachable(c.Listen) && !c.AllowOpen {
		for _, tri := range []*Tri{&c.Anonymous, &c.Learn} {
			if *tri == Yes {
				l.main.at(tri).fault("true while others can reach listen %s: want auto or false, or listen on 127.0.0.1, or allow_open: true", shown)
			}
		}
	}
	admin := l.main.at(&c.Admin.Listen)
	if admin.doc != nil && Reachable(c.Admin.Listen) && c.Admin.Token == "" && !l.faulty(&c.Admin.Token) {
		admin.fault("others can reach %s and admin.token is not set: set it, or listen on 127.0.0.1", c.Admin.Listen)
	}
	if at := l.main.at(&c.Admin.Listen, &c.Listen); at.doc != nil && c.Listen == c.Admin.Listen && !strings.HasSuffix(c.Listen, ":0") {
		at.fault("%s is both listen and admin.listen: want two addresses", c.Listen)
	}
}
