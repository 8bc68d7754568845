// Package config turns wxproxy.yaml, limits.yaml and the environment into checked values. It
// reports everything that is wrong at once, each fault with its file, line and column, and never
// quotes a secret.
//
// What wxproxy.yaml may hold is in the tags of Config and of the structs in it, which decode.go explains.
// check.go checks what two keys or two files say of each other.
package config

import (
	"io/fs"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

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
// many at once. A default is that of a file which leaves the key out.
type Config struct {
	// Listen is the address of the main listener: host:port, or unix:/path. Default 127.0.0.1:8080.
	Listen string `yaml:"listen" read:"address" default:"127.0.0.1:8080"`
	// ListenMode is the mode of a unix socket of Listen, written in octal. Default 0: as the umask has it.
	ListenMode fs.FileMode `yaml:"listen_mode,omitempty" read:"mode"`
	// AllowOpen lets Anonymous and Learn be Yes on a listener that others can reach. Default false.
	AllowOpen bool `yaml:"allow_open" read:"flag"`
	// TLS is the certificate of the main listener. Default none: plain HTTP.
	TLS TLS `yaml:"tls,flow"`
	// TrustedProxies are the peers whose X-Forwarded-For is believed. Default none.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies,flow" read:"prefix"`
	// Admin is the operators' listener.
	Admin Admin `yaml:"admin"`
	// Upstream is where calls are sent.
	Upstream Upstream `yaml:"upstream"`
	// Store is where counters and tokens live.
	Store Store `yaml:"store"`
	// LimitsFile is the file that Table comes from, "" when only from the binary. Default: limits.yaml
	// beside wxproxy.yaml, if it is there.
	LimitsFile string `yaml:"limits" read:"text"`
	// Token says how access_tokens are fetched.
	Token Token `yaml:"token"`
	// Drift says how often WeChat is asked what it has counted itself.
	Drift Drift `yaml:"drift,flow"`
	// Apps are the accounts. Default: the one of WX_APPID, or none.
	Apps []App `yaml:"apps"`
	// Callers are the services that have keys. Default none.
	Callers []Caller `yaml:"callers"`
	// Anonymous says whether a call without proof may be sent. Default Auto: programs of this machine only.
	Anonymous Tri `yaml:"anonymous" read:"tri"`
	// Learn says whether an app that is not configured is learned. Default Auto: if none is configured and
	// nobody else can reach a listener.
	Learn Tri `yaml:"learn" read:"tri"`
	// Shadow has every rule send what its budget would refuse, and count it. Default false.
	Shadow bool `yaml:"shadow,omitempty" read:"flag"`
	// Alerts says what is told to whom. Default nothing.
	Alerts Alerts `yaml:"alerts"`
	// AccessLog is where the access log goes. Default stdout.
	AccessLog AccessLog `yaml:"access_log" word:"stdout or {file: access.log}"`
	// MaxBody bounds a request body, in bytes. Default 32 MiB.
	MaxBody int64 `yaml:"max_body" read:"size" default:"32MiB"`
	// MaxInFlight is how many calls may run at once. Default 2000.
	MaxInFlight int `yaml:"max_in_flight" read:"1..1000000" default:"2000"`
	// Fuse is what becomes of callers whose calls fail in a loop, for rules that do not say it. Default watch.
	Fuse limits.Fuse `yaml:"fuse" read:"fuse" default:"watch"`
	// ShutdownDelay is how long new calls are still taken after SIGTERM, while /-/ready is 503 already.
	// Default 0.
	ShutdownDelay time.Duration `yaml:"shutdown_delay" read:"delay"`

	// Table holds all profiles, the shipped ones and the user's.
	Table *limits.Table
	// Warnings are worth an operator's look but stop nothing, as a secret file that others can read.
	Warnings []string
	// Restart are the keys that the files have changed and that only a restart changes: on a reload Config
	// has the running process's values of them.
	Restart []string
	// Paths are the files that were read, the two named ones first.
	Paths []string
	// AutoFile is the path of limits.auto.yaml, which need not be there.
	AutoFile string
	// Revision is the day that the table in the binary is of, as in 2026-11-29.
	Revision string
	// Digest changes when the name or the content of a file of Paths does.
	Digest string

	bare bool // wxproxy.yaml is there and has no key
}

// TLS is the certificate of a listener: both files or none. They are looked for beside wxproxy.yaml.
type TLS struct {
	CertFile string `yaml:"cert_file" read:"file"`
	KeyFile  string `yaml:"key_file" read:"file"`
}

// Admin is the operators' listener.
type Admin struct {
	// Listen is its address, as Config.Listen. Default 127.0.0.1:8081.
	Listen string `yaml:"listen" read:"address" default:"127.0.0.1:8081"`
	// Hosts are further names and addresses by which it may be reached, without a port. Default none.
	Hosts []string `yaml:"hosts,omitempty" read:"host"`
	// Token lets an operator in. Default ${WXPROXY_ADMIN_TOKEN}; "" means that a random one is made.
	Token string `yaml:"token" read:"token"`
}

// Upstream is where calls are sent.
type Upstream struct {
	// URL has a scheme and a host, nothing else. Default https://api.weixin.qq.com.
	URL *url.URL `yaml:"url" read:"upstream" default:"https://api.weixin.qq.com"`
	// Fallbacks are not built yet.
	Fallbacks NotBuilt `yaml:"fallbacks,flow"`
	// Timeout is how long WeChat may take to move a call on by one step. Default 30 s.
	Timeout time.Duration `yaml:"timeout" read:"timeout" default:"30s"`
}

// Store is where counters and tokens live.
type Store struct {
	// URL names it; its scheme is known, the rest is for package store to read. Default file:wxproxy.db.
	URL string `yaml:"url" read:"store" default:"file:wxproxy.db"`
	// PasswordFile holds Password. Default none.
	PasswordFile string `yaml:"password_file" read:"text"`
	// Prefix begins every key. Default wxp.
	Prefix string `yaml:"prefix" read:"key prefix" default:"wxp"`

	Password string // of PasswordFile; "" when there is none
}

// Token says how access_tokens are fetched.
type Token struct {
	// Endpoint is that of WeChat's which is asked: stable_token or token. Default stable_token.
	Endpoint string `yaml:"endpoint" read:"stable_token|token" default:"stable_token"`
}

// Drift says how often WeChat is asked what it has counted itself.
type Drift struct {
	// Every is how often for each rule that was used. Default 0: at first sight and by command only.
	Every time.Duration `yaml:"every" read:"interval"`
	// PerDay is how many such questions a day there may be for an app. Default 500.
	PerDay int `yaml:"per_day" read:"1..100000" default:"500"`
}

// App is one WeChat account.
type App struct {
	// Name is its alias in logs and metrics. Default the appid.
	Name string `yaml:"name" read:"name"`
	// AppID is what WeChat calls it.
	AppID string `yaml:"appid" read:"appid" need:"one, as in wx0123456789abcdef"`
	// Secrets are its AppSecrets, the newest first; one or two, from the file itself or from SecretFile.
	Secrets    Secrets `yaml:"secret"`
	SecretFile string  `yaml:"secret_file" read:"text"`
	// Profile is that of Config.Table whose rules it has. Default production.
	Profile string `yaml:"profile" read:"name" default:"production"`
	// Quotas are the account's own figures, by rule name. Default none.
	Quotas map[string]limits.Budget `yaml:"quotas" word:"auto, or figures by rule name, as in {user.info: 500000/day}"`

	// AutoQuotas says that the figures are what WeChat says they are; Quotas is empty then. See
	// [Config.RulesWith].
	AutoQuotas bool
	Rules      *limits.Ruleset // the profile with Quotas in it
}

// Caller is a service that sends calls.
type Caller struct {
	// Name is what logs, metrics and shares call it.
	Name string `yaml:"name" read:"caller" need:"one"`
	// Keys prove that it calls, the newest first; one or two, from the file itself or from KeyFile.
	Keys    Secrets `yaml:"key"`
	KeyFile string  `yaml:"key_file" read:"text"`
	// Apps are the appids that it may call for; names stand for them in the file, and * for all.
	Apps []string `yaml:"apps,flow" read:"text" need:"the names or appids that it may call for" filled:"no app: want the name or appid of one at least"`
	// ThirdParty says that it is a third-party platform (第三方平台): it may call for itself, and for the accounts
	// that grant it a token. Default false.
	ThirdParty bool `yaml:"third_party,omitempty" read:"flag"`
	// Rules are the names of the only rules that it may call; a * stands for any letters. Default all.
	Rules []string `yaml:"rules,omitempty,flow" read:"glob" filled:"no rule: want the name of one at least, as in message.*, or no rules at all"`
	// From are the only addresses that it may call from. Default anywhere.
	From []netip.Prefix `yaml:"from,omitempty,flow" read:"prefix" filled:"no address: want a range at least, as in 10.0.0.0/8, or no from at all"`
	// Expires is the last day on which its keys are good, in the zone of Config.Table. Default none.
	Expires string `yaml:"expires,omitempty" read:"date"`

	ExpiresAt time.Time // the end of Expires; zero: never
}

// AccessLog is where the access log goes: to stdout where File is "", or to a file that is rotated.
type AccessLog struct {
	// File is its path, from the folder that the process runs in.
	File string `yaml:"file" read:"log file" need:"stdout or {file: access.log}"`
	// MaxSizeMB is how large the file is when it is rotated, in megabytes. Default 100.
	MaxSizeMB int `yaml:"max_size_mb" read:"1..100000" default:"100"`
	// Keep is how many rotated files are kept. Default 7.
	Keep int `yaml:"keep" read:"1..1000" default:"7"`
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
	rules, err := c.Table.Rules(app.Profile, quotas)
	if err != nil {
		return nil, err
	}
	for rule := range quotas {
		rules.Rule(rule).From = "WeChat"
	}
	return rules, nil
}

// dayFigure reports whether a budget has a figure for the day.
func dayFigure(b limits.Budget) bool {
	return b.Kind == limits.Limited && len(b.Quotas) > 0 && b.Quotas[0].Period == limits.Day
}
