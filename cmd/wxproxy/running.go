package main

import (
	"context"
	"net/url"
	"strings"
	"time"

	"wxproxy/admin"
	"wxproxy/config"
	"wxproxy/limits"
	"wxproxy/token"
)

// What the gateway knows of itself, for /api/v1/status.

func (g *gateway) running() admin.Running {
	c := g.config.Load()
	r := admin.Running{ID: g.id, Started: g.started, StoreKind: storeKind(c), Config: inForce(c)}
	if g.certificate != nil {
		r.Certificate = g.certificate.end()
	}
	return r
}

func storeKind(c *config.Config) string {
	scheme, _, _ := strings.Cut(c.Store.URL, ":")
	return scheme
}

// inForce is what operators look up in a configuration. It names each value that it shows, so that no secret gets in:
// secrets, keys and tokens are only counted.
func inForce(c *config.Config) map[string]any {
	secrets := 0
	for _, app := range c.Apps {
		secrets += len(app.Secrets)
	}
	callers := make([]string, 0, len(c.Callers))
	for _, caller := range c.Callers {
		callers = append(callers, caller.Name)
	}
	proxies := make([]string, 0, len(c.TrustedProxies))
	for _, p := range c.TrustedProxies {
		proxies = append(proxies, p.String())
	}
	sinks := make([]string, 0, len(c.Alerts.Sinks))
	for _, s := range c.Alerts.Sinks {
		sinks = append(sinks, s.Name+" ("+s.Type+")")
	}
	log := "stdout"
	if c.AccessLog.File != "" {
		log = c.AccessLog.File
	}
	return map[string]any{
		"files":           c.Paths,
		"warnings":        len(c.Warnings),
		"needs_restart":   c.Restart, // keys that the files have changed and only a restart changes
		"listen":          c.Listen,
		"admin.listen":    c.Admin.Listen,
		"admin.hosts":     append([]string{}, c.Admin.Hosts...),
		"alerts.sinks":    sinks,
		"alerts.digest":   c.Alerts.Digest,
		"fuse":            c.Fuse.String(),
		"tls":             c.TLS.CertFile != "",
		"trusted_proxies": proxies,
		"upstream.url":    c.Upstream.URL.Redacted(),
		"timeout":         c.Upstream.Timeout.String(),
		"store.url":       storeAddress(c.Store.URL),
		"store.prefix":    c.Store.Prefix,
		"token.endpoint":  c.Token.Endpoint,
		"drift.every":     c.Drift.Every.String(),
		"drift.per_day":   c.Drift.PerDay,
		"timezone":        c.Table.Zone.String(),
		"apps":            len(c.Apps),
		"secrets":         secrets,
		"callers":         callers,
		"anonymous":       c.Anonymous.String(),
		"learn":           c.Learn.String(),
		"access_log":      log,
		"max_body":        c.MaxBody,
		"max_in_flight":   c.MaxInFlight,
		"shutdown_delay":  c.ShutdownDelay.String(),
	}
}

// storeAddress is the address in a store.url without user, password and parameters.
func storeAddress(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return storeKind(&config.Config{Store: config.Store{URL: text}})
	}
	return (&url.URL{Scheme: u.Scheme, Opaque: u.Opaque, Host: u.Host, Path: u.Path}).String()
}

// gatewaysOf returns what lists the gateways of the fleet; nil for the embedded store, which has but one.
func gatewaysOf(counters limits.Counters) func(context.Context) (map[string]time.Time, error) {
	if shared, ok := counters.(*limits.Redis); ok {
		return shared.Gateways
	}
	return nil
}

// tokenStates returns what is known of the tokens of apps.
func (g *gateway) tokenStates(ctx context.Context, appids []string, fleet bool) ([]*token.State, error) {
	if !fleet {
		return g.tokens.States(ctx, nil, appids)
	}
	return g.tokens.States(ctx, g.store, appids)
}
