package config

import (
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"

	"wxproxy/limits"
)

// mask stands for a secret. It is one itself, so that a masked configuration loads.
const mask = "***"

// The keys of wxproxy.yaml, in the order in which Masked writes them.
type (
	maskedConfig struct {
		Listen         string         `yaml:"listen"`
		AllowOpen      bool           `yaml:"allow_open"`
		TLS            maskedTLS      `yaml:"tls,flow"`
		TrustedProxies []string       `yaml:"trusted_proxies,flow"`
		Admin          maskedAdmin    `yaml:"admin"`
		Upstream       maskedUpstream `yaml:"upstream"`
		Store          maskedStore    `yaml:"store"`
		Limits         string         `yaml:"limits"`
		Token          maskedToken    `yaml:"token"`
		Drift          maskedDrift    `yaml:"drift,flow"`
		Apps           []maskedApp    `yaml:"apps"`
		Callers        []maskedCaller `yaml:"callers"`
		Anonymous      string         `yaml:"anonymous"`
		Learn          string         `yaml:"learn"`
		AccessLog      any            `yaml:"access_log"`
		MaxBody        int64          `yaml:"max_body"`
		MaxInFlight    int            `yaml:"max_in_flight"`
		ShutdownDelay  string         `yaml:"shutdown_delay"`
	}
	maskedTLS struct {
		CertFile string `yaml:"cert_file"`
		KeyFile  string `yaml:"key_file"`
	}
	maskedAdmin struct {
		Listen string   `yaml:"listen"`
		Hosts  []string `yaml:"hosts,omitempty"`
		Token  string   `yaml:"token"`
	}
	maskedUpstream struct {
		URL       string   `yaml:"url"`
		Fallbacks []string `yaml:"fallbacks,flow"`
		Timeout   string   `yaml:"timeout"`
	}
	maskedStore struct {
		URL    string `yaml:"url"`
		Prefix string `yaml:"prefix"`
	}
	maskedToken struct {
		Endpoint string `yaml:"endpoint"`
	}
	maskedDrift struct {
		Every  string `yaml:"every"`
		PerDay int    `yaml:"per_day"`
	}
	maskedApp struct {
		Name    string `yaml:"name,omitempty"`
		AppID   string `yaml:"appid"`
		Secret  string `yaml:"secret"`
		Profile string `yaml:"profile"`
		Quotas  any    `yaml:"quotas,omitempty"`
	}
	maskedCaller struct {
		Name string   `yaml:"name"`
		Key  string   `yaml:"key"`
		Apps []string `yaml:"apps,flow"`
	}
	maskedFile struct {
		File      string `yaml:"file"`
		MaxSizeMB int    `yaml:"max_size_mb"`
		Keep      int    `yaml:"keep"`
	}
)

// Masked returns the effective configuration as a wxproxy.yaml, defaults and variables filled in
// and each secret, key, token and password as ***.
func (c *Config) Masked() []byte {
	m := maskedConfig{
		Listen:        literal(c.Listen),
		AllowOpen:     c.AllowOpen,
		TLS:           maskedTLS{literal(c.TLS.CertFile), literal(c.TLS.KeyFile)},
		Admin:         maskedAdmin{Listen: literal(c.Admin.Listen), Hosts: c.Admin.Hosts},
		Upstream:      maskedUpstream{URL: literal(c.Upstream.URL.String()), Timeout: c.Upstream.Timeout.String()},
		Store:         maskedStore{literal(maskedURL(c.Store.URL)), c.Store.Prefix},
		Limits:        literal(c.LimitsFile),
		Token:         maskedToken{c.TokenEndpoint},
		Drift:         maskedDrift{c.Drift.Every.String(), c.Drift.PerDay},
		Apps:          []maskedApp{},
		Callers:       []maskedCaller{},
		Anonymous:     c.Anonymous.String(),
		Learn:         c.Learn.String(),
		AccessLog:     "stdout",
		MaxBody:       c.MaxBody,
		MaxInFlight:   c.MaxInFlight,
		ShutdownDelay: c.ShutdownDelay.String(),
	}
	if c.Admin.Token != "" {
		m.Admin.Token = mask
	}
	for _, p := range c.TrustedProxies {
		m.TrustedProxies = append(m.TrustedProxies, p.String())
	}
	for _, u := range c.Upstream.Fallbacks {
		m.Upstream.Fallbacks = append(m.Upstream.Fallbacks, literal(u.String()))
	}
	for _, a := range c.Apps {
		app := maskedApp{Name: a.Name, AppID: a.AppID, Secret: mask, Profile: a.Profile}
		if a.Name == a.AppID {
			app.Name = ""
		}
		app.Quotas = quotasText(a)
		m.Apps = append(m.Apps, app)
	}
	for _, caller := range c.Callers {
		// Each a mask of its own: two callers with one key are a fault.
		m.Callers = append(m.Callers, maskedCaller{caller.Name, mask + caller.Name, caller.Apps})
	}
	if !c.AccessLog.Stdout {
		m.AccessLog = maskedFile{literal(c.AccessLog.File), c.AccessLog.MaxSizeMB, c.AccessLog.Keep}
	}
	out, err := yaml.Marshal(m)
	if err != nil {
		panic("config: " + err.Error()) // strings and numbers only
	}
	return out
}

// literal keeps a $ of text from being read as the beginning of a ${NAME}.
func literal(text string) string { return strings.ReplaceAll(text, "$", "$$") }

// quotasText writes an app's quotas as the file does; nil is none.
func quotasText(a App) any {
	if a.AutoQuotas {
		return "auto"
	}
	if len(a.Quotas) == 0 {
		return nil
	}
	quotas := make(map[string]any, len(a.Quotas))
	for rule, b := range a.Quotas {
		quotas[rule] = budgetText(b)
	}
	return quotas
}

// budgetText writes a budget as the files do.
func budgetText(b limits.Budget) any {
	if len(b.Quotas) < 2 {
		return b.String()
	}
	var texts []string
	for _, q := range b.Quotas {
		texts = append(texts, q.String())
	}
	return texts
}

// passwordParam is a password in the query of a store's URL, as of a sentinel.
var passwordParam = regexp.MustCompile(`(?i)([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&#]*`)

// maskedURL hides what proves something in a store's URL. It is cut by hand: url.Parse refuses the
// several hosts of a cluster.
func maskedURL(text string) string {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return text
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 || strings.Contains(rest[end:], "@") {
		end = len(rest) // a password may hold any byte
	}
	if i := strings.LastIndexByte(rest[:end], '@'); i >= 0 {
		rest = mask + rest[i:]
	}
	return scheme + "://" + passwordParam.ReplaceAllString(rest, "${1}"+mask)
}
