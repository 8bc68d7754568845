// Package config turns wxproxy.yaml, limits.yaml and the environment into checked values. It
// reports everything that is wrong at once, each fault with its file, line and column, and never
// quotes a secret.
package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"wxproxy/limits"
)

// The names of the files that are read from LoadOptions.Dir when no other is named.
const (
	MainFile   = "wxproxy.yaml"
	LimitsFile = "limits.yaml"
)

// DefaultProfile is the profile of an app that names none.
const DefaultProfile = "production"

// Config is the whole configuration, checked. It is not changed after Load and may be read by
// many at once.
type Config struct {
	Listen         string // host:port or unix:/path
	AllowOpen      bool   // anonymous and learn may be true on a listener that others can reach
	TLS            TLS
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed
	Admin          Admin
	Upstream       Upstream
	Store          Store
	TokenEndpoint  string // "stable_token" or "token"
	Drift          Drift
	Apps           []App // none: nobody has said yet what to serve
	Callers        []Caller
	Anonymous      Tri // may a call without proof be sent?
	Learn          Tri // is an app that is not configured learned?
	AccessLog      AccessLog
	MaxBody        int64         // bytes
	MaxInFlight    int           // calls at once
	ShutdownDelay  time.Duration // after SIGTERM: not ready any more, and still accepting

	Table      *limits.Table // all profiles, the shipped ones and the user's
	LimitsFile string        // the file that Table comes from; "" when only from the binary

	// Warnings are worth an operator's look but stop nothing, as a secret file that others can read.
	Warnings []string
	// Restart are the keys that the files have changed and that only a restart changes: on a reload Config
	// has the running process's values of them.
	Restart []string
	// Paths are the files that were read, the two named ones first.
	Paths []string
	// Digest changes when the name or the content of a file of Paths does.
	Digest string

	bare bool // wxproxy.yaml is there and has no key
}

// TLS is the certificate of the listener. No file means plain HTTP.
type TLS struct {
	CertFile, KeyFile string
}

// Admin is the operators' listener.
type Admin struct {
	Listen string
	Hosts  []string // further names and addresses by which it may be reached, without a port
	Token  string   // "" means that a random one is made
}

// Upstream is where calls are sent. The URLs have a scheme and a host, nothing else.
type Upstream struct {
	URL       *url.URL
	Fallbacks []*url.URL
	Timeout   time.Duration
}

// Store is where counters and tokens live.
type Store struct {
	URL      string // its scheme is known, the rest is for package store to read
	Password string // of password_file; "" when there is none
	Prefix   string // of every key
}

// Drift says how often WeChat is asked what it has counted itself.
type Drift struct {
	Every  time.Duration // for each rule that was used; 0: only at first sight and when somebody asks
	PerDay int           // how many such questions a day for an app
}

// App is one WeChat account.
type App struct {
	Name    string // its alias in logs; the appid when none is given
	AppID   string
	Secrets []string // the newest first; one or two
	Profile string
	Quotas  map[string]limits.Budget // the account's own figures, by rule name
	Rules   *limits.Ruleset          // the profile with Quotas in it

	// AutoQuotas says that the figures are what WeChat says they are; Quotas is empty then. See
	// [Config.RulesWith].
	AutoQuotas bool
}

// RulesWith returns the rules of an app with the day's figures that WeChat has given for it, by rule
// name. They replace the figure of an N/day rule and make a figure of an unknown one; a month's
// figure stays that of the table. Figures of other rules, and of those that the table no longer
// has, are ignored.
func (c *Config) RulesWith(app App, figures map[string]limits.Budget) (*limits.Ruleset, error) {
	quotas := maps.Clone(app.Quotas)
	for _, rule := range app.Rules.Rules {
		figure := figures[rule.Name]
		if !dayFigure(figure) || !dayFigure(rule.Budget) && rule.Budget.Kind != limits.Unknown {
			continue
		}
		if !slices.ContainsFunc(rule.Paths, func(p string) bool { return !strings.HasSuffix(p, "/*") }) {
			continue // a figure is of one path, and this rule counts each of its paths
		}
		budget := limits.Budget{Kind: limits.Limited, Quotas: figure.Quotas[:1:1]}
		for _, q := range rule.Budget.Quotas {
			if q.Period == limits.Month {
				budget.Quotas = append(budget.Quotas, q)
			}
		}
		if quotas == nil {
			quotas = make(map[string]limits.Budget)
		}
		quotas[rule.Name] = budget
	}
	if len(quotas) == 0 {
		return app.Rules, nil
	}
	return c.Table.Rules(app.Profile, quotas)
}

// dayFigure reports whether a budget has a figure for the day.
func dayFigure(b limits.Budget) bool {
	return b.Kind == limits.Limited && len(b.Quotas) > 0 && b.Quotas[0].Period == limits.Day
}

// Caller is a service that sends calls.
type Caller struct {
	Name string
	Keys []string // the newest first; one or two
	Apps []string // the appids that it may call for

	ThirdParty bool // a third-party platform (第三方平台): may call for itself, and for accounts that grant it a token
}

// AccessLog is where the access log goes: to stdout, or to a file that is rotated.
type AccessLog struct {
	Stdout    bool
	File      string
	MaxSizeMB int // the file is rotated when it is that large
	Keep      int // rotated files that are kept
}

// LoadOptions say where the configuration is.
type LoadOptions struct {
	Path    string                      // --config; "" means wxproxy.yaml in Dir, if it is there
	Shipped []byte                      // the limits.yaml of the binary
	Env     func(string) (string, bool) // default os.LookupEnv
	Dir     string                      // where wxproxy.yaml and limits.yaml are looked for; default "."
	Listen  string                      // --listen, in place of the file's listen; "" leaves that
	Running *Config                     // on a reload: what runs

	// Read reads a file; default [ReadFile].
	Read func(path string) ([]byte, fs.FileMode, error)
}

// Load reads the configuration. What is wrong with it comes back as Faults, all at once.
//
// With no Path, wxproxy.yaml and limits.yaml are read from Dir, each if it is there; with none of
// them the defaults hold and Apps is empty. With a Path and no limits key the shipped table is
// used. Files that are named in wxproxy.yaml and read here are looked for beside it.
//
// WX_APPID, WX_SECRET and WX_PROFILE name the one app where the file names none. A file with apps
// of its own wins: then they name no app, and may still be used in it as ${WX_APPID}.
// WXPROXY_ADMIN_TOKEN is the admin token where the file has no admin.token. An empty variable is
// one that is not set.
//
// To reload, call Load with Running. What only a restart changes is then the running process's, before
// anything is checked against it. A file that Running has read and that is gone or empty is a fault, and so is
// it when no app would be left.
func Load(o LoadOptions) (*Config, error) {
	path, optional := o.mainPath()
	l := newLoader(o, path)
	doc := &document{name: path, env: l.env}
	var m *mainFile
	data, mode, err := l.read(path)
	switch {
	case err == nil:
		if top, ok := doc.parse(data); ok {
			m = l.mainFile(top)
			l.config.bare = len(top.node.Content) == 0
		}
		if doc.literal && mode&0o077 != 0 && runtime.GOOS != "windows" {
			l.warn("%s: mode %04o and secrets in it: other users may read them: want 0600, or ${NAME}", path, mode)
		}
	case !optional || !errors.Is(err, fs.ErrNotExist):
		return nil, Faults{{File: path, Text: reason(err)}}
	case l.wasRead(path):
		return nil, Faults{{File: path, Text: errGone.Error()}}
	default:
		m = &mainFile{}
	}
	if m == nil {
		m = &mainFile{unreadable: true}
	}
	flag := &document{name: "--listen"}
	if o.Listen != "" {
		if a := (value{doc: flag, node: &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: o.Listen}}).address(); a != "" {
			l.config.Listen = a
		}
	}
	l.keepRunning()

	faults, err := l.check(doc, m, optional)
	if err != nil {
		return nil, err
	}
	if faults = slices.Concat(flag.faults, faults); len(faults) == 0 {
		faults = l.checkEmptied(path)
	}
	if len(faults) > 0 {
		return nil, faults
	}
	l.checkShares()
	l.config.Digest = hex.EncodeToString(l.digest.Sum(nil))
	return l.config, nil
}

// mainPath is where wxproxy.yaml is looked for, and whether it may be absent.
func (o LoadOptions) mainPath() (path string, optional bool) {
	if o.Path == "" {
		return filepath.Join(o.Dir, MainFile), true
	}
	return o.Path, false
}

func newLoader(o LoadOptions, path string) *loader {
	if o.Env == nil {
		o.Env = os.LookupEnv
	}
	if o.Read == nil {
		o.Read = ReadFile
	}
	return &loader{env: o.Env, readFile: o.Read, running: o.Running, config: defaults(o.Env), digest: sha256.New(), shipped: o.Shipped, folder: filepath.Dir(path)}
}

// check checks what was read of the main file, and reads the table that goes with it.
func (l *loader) check(doc *document, m *mainFile, optional bool) (Faults, error) {
	shipped, err := ParseTable("the built-in "+LimitsFile, l.shipped, nil)
	if err != nil {
		return nil, err
	}
	table, limitFaults := l.table(m, shipped, optional)
	envFaults := l.apps(m, table, len(limitFaults) > 0)
	l.callers(m)
	l.checkOpen(m)
	l.checkUpstream(m)
	l.config.Table = table
	doc.faults.sort()
	return slices.Concat(envFaults, doc.faults, limitFaults), nil
}

// defaults is what holds for everything that is left out.
func defaults(env func(string) (string, bool)) *Config {
	token, ok := env("WXPROXY_ADMIN_TOKEN")
	if !ok {
		token = ""
	}
	return &Config{
		Listen:        "127.0.0.1:8080",
		Admin:         Admin{Listen: "127.0.0.1:8081", Token: token},
		Upstream:      Upstream{URL: &url.URL{Scheme: "https", Host: "api.weixin.qq.com"}, Timeout: 30 * time.Second},
		Store:         Store{URL: "file:wxproxy.db", Prefix: "wxp"},
		TokenEndpoint: "stable_token",
		Drift:         Drift{PerDay: 500},
		AccessLog:     AccessLog{Stdout: true, MaxSizeMB: 100, Keep: 7},
		MaxBody:       32 << 20,
		MaxInFlight:   2000,
	}
}

// loader is one Load under way.
type loader struct {
	env      func(string) (string, bool)
	readFile func(string) ([]byte, fs.FileMode, error)
	running  *Config // nil at a start
	folder   string  // of wxproxy.yaml
	config   *Config
	digest   hash.Hash

	shipped []byte // the limits.yaml of the binary
}

func (l *loader) warn(format string, args ...any) {
	l.config.Warnings = append(l.config.Warnings, fmt.Sprintf(format, args...))
}

// read returns a file's content and mode, and notes that it was read.
func (l *loader) read(path string) ([]byte, fs.FileMode, error) {
	data, mode, err := l.readFile(path)
	if err != nil {
		return nil, 0, err
	}
	l.config.Paths = append(l.config.Paths, path)
	fmt.Fprintf(l.digest, "%d %s %d ", len(path), path, len(data))
	l.digest.Write(data)
	return data, mode, nil
}

// beside returns the path of a file that wxproxy.yaml names.
func (l *loader) beside(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(l.folder, path)
}

// isCredential reports whether systemd has put a file there for this service. It lets the service's user read it by
// an ACL, which shows as a mode of 0440.
func (l *loader) isCredential(path string) bool {
	folder, _ := l.env("CREDENTIALS_DIRECTORY")
	return folder != "" && filepath.Dir(path) == filepath.Clean(folder)
}

// secretFile reads the lines of a file of secrets: one, or the new one and the old one.
func (l *loader) secretFile(v value) []string {
	name, ok := v.text()
	if !ok {
		return nil
	}
	if name == "" {
		v.fault("empty: want the path of a file")
		return nil
	}
	path, shown := l.beside(name), v.quoted(name)
	data, mode, err := l.read(path)
	if err != nil {
		if name == v.node.Value && !surelyPath(name) {
			v.fault("%s: %s: want the path of a file that holds the secret, and not the secret itself", outline(name), reason(err))
		} else {
			v.fault("%s: %s", shown, reason(err))
		}
		return nil
	}
	if mode&0o077 != 0 && runtime.GOOS != "windows" && !l.isCredential(path) {
		l.warn("%s: mode %04o: other users may read the secret: want 0600", path, mode)
	}
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(data), "\r\n", "\n")), "\n")
	if len(lines) > 2 {
		v.fault("%s: %d lines: want one secret, or the new one and the old one", shown, len(lines))
		return nil
	}
	for _, line := range lines {
		if fault := checkSecret(line); fault != "" {
			v.fault("%s: %s: want the secret and nothing else", shown, fault)
			return nil
		}
	}
	return lines
}

// table reads limits.yaml, or returns the shipped table when there is none. Of a file with faults
// it returns what could be read, or nil when that is nothing.
func (l *loader) table(m *mainFile, shipped *limits.Table, optional bool) (*limits.Table, Faults) {
	var path, shown string
	switch {
	case m.limits.doc != nil:
		name, ok := m.limits.text()
		if !ok {
			return nil, nil
		}
		if name == "" {
			return shipped, nil
		}
		path, shown = l.beside(name), m.limits.quoted(name)
	case optional && !m.unreadable:
		path = filepath.Join(l.folder, LimitsFile)
	default:
		return shipped, nil
	}
	data, _, err := l.read(path)
	switch {
	case err != nil && m.limits.doc != nil:
		m.limits.fault("%s: %s", shown, reason(err))
		return nil, nil
	case errors.Is(err, fs.ErrNotExist) && l.wasRead(path):
		return nil, Faults{{File: path, Text: errGone.Error()}}
	case errors.Is(err, fs.ErrNotExist):
		return shipped, nil
	case err != nil:
		return nil, Faults{{File: path, Text: reason(err)}}
	}
	l.config.LimitsFile = path
	return l.userTable(path, data, shipped)
}

// checkShares warns of parts of a quota that nobody can use: the table may be shared by several
// deployments, so a caller that this one lacks is no fault.
func (l *loader) checkShares() {
	known := make(map[string]bool)
	for _, c := range l.config.Callers {
		known[c.Name] = true
	}
	for _, app := range l.config.Apps {
		for _, rule := range app.Rules.Rules {
			for _, caller := range sortedKeys(rule.Shares) {
				if !known[caller] {
					l.warn("app %s: rule %s: shares: %s: no such caller", app.Name, rule.Name, caller)
				}
			}
		}
	}
}

// checkUpstream refuses an upstream that is a listener of this gateway, as far as the addresses show it:
// each call would come in again.
func (l *loader) checkUpstream(m *mainFile) {
	u := l.config.Upstream.URL
	if u == nil || m.upstream.doc == nil {
		return
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	for _, own := range []struct{ key, address string }{{"listen", l.config.Listen}, {"admin.listen", l.config.Admin.Listen}} {
		host, p, err := net.SplitHostPort(own.address)
		if err == nil && p == port && sameHost(host, u.Hostname()) {
			m.upstream.fault("%s: this is %s, the gateway itself: want the address of WeChat or of what stands for it", own.address, own.key)
		}
	}
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
func (l *loader) checkOpen(m *mainFile) {
	c := l.config
	shown := c.Listen
	if slices.Contains(c.Restart, "listen") {
		shown += " (the running one, until a restart)"
	}
	if Reachable(c.Listen) && !c.AllowOpen {
		for _, s := range []struct {
			at  value
			tri Tri
		}{{m.anonymous, c.Anonymous}, {m.learn, c.Learn}} {
			if s.tri == Yes {
				s.at.fault("true while others can reach listen %s: want auto or false, or listen on 127.0.0.1, or allow_open: true", shown)
			}
		}
	}
	if Reachable(c.Admin.Listen) && c.Admin.Token == "" && m.adminListen.doc != nil && !m.badToken {
		m.adminListen.fault("others can reach %s and admin.token is not set: set it, or listen on 127.0.0.1", c.Admin.Listen)
	}
	if l.config.Listen == c.Admin.Listen && !strings.HasSuffix(c.Listen, ":0") {
		at := m.adminListen
		if at.doc == nil {
			at = m.listen
		}
		if at.doc != nil {
			at.fault("%s is both listen and admin.listen: want two addresses", c.Listen)
		}
	}
}
