package config

import (
	"fmt"
	"strings"
	"testing"
)

// leaks are secrets that people write in the wrong place. Each is a canary.
var leaks = map[string]string{
	"AppSecret":         "c0ffee00beef0123456789abcdef0042",
	"AppSecret, letter": "f0c0ffee00beef0123456789abcdef00",
	"AppSecret, digits": "00112233445566778899001122334455",
	"base64url":         "Zm9v-YmFyYmF6X3F1eA_0Zm9vYmFyYmF6cXV4",
	"random text":       "XK7Q2M5PZL4WBN3VTR6YHS8D",
	"PEM":               "-----BEGIN EC PRIVATE KEY----- MHcCAQEEIIGlXcAnArY",
	"URL":               "redis://:hunter2hunter@10.0.0.1:6379",
}

// TestNoFaultQuotesASecret writes secrets in the place of everything else.
func TestNoFaultQuotesASecret(t *testing.T) {
	const app = "apps: [{name: shop, appid: wx0123456789abcdef, secret: s}]\n"
	places := map[string]string{
		"swapped":           "apps: [{appid: '%s', secret: wx0123456789abcdef}]",
		"appid":             "apps: [{appid: '%s', secret: s}]",
		"name":              "apps: [{name: '%s', appid: wx0123456789abcdef, secret: s}]",
		"profile":           "apps: [{appid: wx0123456789abcdef, secret: s, profile: '%s'}]",
		"quotas":            "apps: [{appid: wx0123456789abcdef, secret: s, quotas: '%s'}]",
		"a rule":            "apps: [{appid: wx0123456789abcdef, secret: s, quotas: {'%s': 1/day}}]",
		"a quota":           "apps: [{appid: wx0123456789abcdef, secret: s, quotas: {user.info: '%s'}}]",
		"quotas in a list":  "apps: [{appid: wx0123456789abcdef, secret: s, quotas: {user.info: ['%s']}}]",
		"secret_file":       "apps: [{appid: wx0123456789abcdef, secret_file: '%s'}]",
		"variable":          "apps: [{appid: wx0123456789abcdef, secret: '${%s}'}]",
		"a default":         "max_in_flight: '${NONE:-%s}'\n" + app,
		"variable of more":  "max_in_flight: '${NONE}${%s}'\n" + app,
		"a key":             "apps: [{appid: wx0123456789abcdef, secret: s, '%s': }]",
		"a key, no blank":   "apps: [{appid: wx0123456789abcdef, 'secret:%s': }]",
		"a key of the top":  "'%s': 1\n" + app,
		"caller's name":     app + "callers: [{name: '%s', key: k, apps: [shop]}]",
		"caller's key_file": app + "callers: [{name: crm, key_file: '%s', apps: [shop]}]",
		"caller's app":      app + "callers: [{name: crm, key: k, apps: ['%s']}]",
		"caller's key":      app + "callers: [{name: crm, key: ['%[1]s', '%[1]s'], apps: [shop]}]",
		"caller's rules":    app + "callers: [{name: crm, key: k, apps: [shop], rules: ['%s']}]",
		"caller's from":     app + "callers: [{name: crm, key: k, apps: [shop], from: ['%s']}]",
		"caller's expires":  app + "callers: [{name: crm, key: k, apps: [shop], expires: '%s'}]",
		"third_party":       app + "callers: [{name: crm, key: k, apps: [shop], third_party: '%s'}]",
		"admin.hosts":       app + "admin: {hosts: ['%s']}",
		"listen_mode":       app + "listen_mode: '%s'",
		"full-width quotes": "apps: [{appid: wx0123456789abcdef, secret: “%s”}]",
		"full-width colon":  "apps: [{appid: wx0123456789abcdef}]\nsecret：%s",
		"admin.token":       app + "admin: {token: ['%s']}",
		"admin.listen":      app + "admin: {listen: '%s'}",
		"listen":            app + "listen: '%s'",
		"listen, a port":    app + "listen: '127.0.0.1:%s'",
		"upstream":          app + "upstream: {url: '%s'}",
		"upstream's port":   app + "upstream: {url: 'https://a:%s'}",
		"timeout":           app + "upstream: {timeout: '%s'}",
		"endpoint":          app + "token: {endpoint: '%s'}",
		"store.url":         app + "store: {url: 'x%s'}",
		"password_file":     app + "store: {url: 'redis://localhost', password_file: '%s'}",
		"prefix":            app + "store: {prefix: '{%s}'}",
		"limits":            app + "limits: '%s'",
		"tls.key_file":      app + "tls: {key_file: '%s'}",
		"trusted_proxies":   app + "trusted_proxies: ['%s']",
		"access_log":        app + "access_log: '%s'",
		"anonymous":         app + "anonymous: '%s'",
		"allow_open":        app + "allow_open: '%s'",
		"drift":             app + "drift: {every: '%s'}",
		"max_body":          app + "max_body: '%s'",
		"max_in_flight":     app + "max_in_flight: '%s'",
		"an alias":          "apps: [{appid: wx0123456789abcdef, secret: *%s}]",
		"no YAML":           "apps: [{appid: wx0123456789abcdef, secret: '%s'",
	}
	tables := map[string]string{
		"version":    "version: '%s'",
		"timezone":   "version: 1\ntimezone: '%s'",
		"revision":   "version: 1\nrevision: '%s'",
		"a key":      "version: 1\n'%s': 1",
		"a profile":  "version: 1\nprofiles: {'%s': {}}",
		"extends":    "version: 1\nprofiles: {shop: {extends: '%s'}}",
		"extends it": "version: 1\nprofiles: {'%[1]s': {extends: '%[1]s'}}",
		"a name":     "version: 1\nprofiles: {shop: {rules: [{name: '%s'}]}}",
		"a path":     "version: 1\nprofiles: {shop: {rules: [{name: r, quota: 1/day, paths: ['%s']}]}}",
		"a quota":    "version: 1\nprofiles: {shop: {rules: [{name: r, quota: '%s', paths: [/a]}]}}",
		"quotas":     "version: 1\nprofiles: {shop: {rules: [{name: r, quota: [1/day, '%s'], paths: [/a]}]}}",
		"a pace":     "version: 1\nprofiles: {shop: {rules: [{name: r, quota: 1/day, pace: '%s', paths: [/a]}]}}",
		"inject":     "version: 1\nprofiles: {shop: {rules: [{name: r, quota: 1/day, inject: '%s', paths: [/a]}]}}",
		"a share":    "version: 1\nprofiles: {shop: {rules: [{name: r, quota: 1/day, shares: {'%s': 1/day}, paths: [/a]}]}}",
	}
	check := func(t *testing.T, kind, secret string, o LoadOptions) {
		t.Helper()
		o.Shipped = []byte("version: 1\ntimezone: Asia/Shanghai\nprofiles: {production: {rules: [{name: user.info, quota: 1/day, paths: [/a]}]}}")
		if o.Env == nil {
			o.Env = env()
		}
		c, err := Load(o)
		if err == nil && strings.HasPrefix(kind, "AppSecret") {
			t.Fatalf("Load: no fault\n%s", dump(t, c))
		}
		said := fmt.Sprint(err)
		if err == nil { // it is an appid, or a variable's default, as far as anybody can see
			said = strings.Join(c.Warnings, "\n")
		}
		for _, part := range []string{secret, "hunter2", "MHcCAQ"} {
			if strings.Contains(secret, part) && strings.Contains(strings.ToLower(said), strings.ToLower(part)) {
				t.Errorf("Load says %s: it quotes a secret", said)
			}
		}
	}
	for kind, secret := range leaks {
		for place, text := range places {
			t.Run(kind+" as "+place, func(t *testing.T) {
				if place == "listen, a port" && strings.Contains(secret, ":") {
					t.Skip("no address at all, and one of the other cases")
				}
				check(t, kind, secret, LoadOptions{Dir: files(t, "wxproxy.yaml", fmt.Sprintf(text, secret))})
			})
		}
		for place, text := range tables {
			t.Run(kind+" in limits.yaml as "+place, func(t *testing.T) {
				check(t, kind, secret, LoadOptions{Dir: files(t, "wxproxy.yaml", app, "limits.yaml", fmt.Sprintf(text, secret))})
			})
		}
		for _, name := range []string{"WX_APPID", "WX_PROFILE"} {
			t.Run(kind+" as "+name, func(t *testing.T) {
				pairs := []string{name, secret, "WX_SECRET", "s", "WX_APPID", "wx0123456789abcdef"}
				check(t, kind, secret, LoadOptions{Dir: t.TempDir(), Env: env(pairs...)})
			})
		}
	}
	// Where a secret of any form may stand, and is not to be told by its looks.
	for place, text := range map[string]string{
		"secret_file":   "apps: [{appid: wx0123456789abcdef, secret_file: 'hunter2'}]",
		"key_file":      app + "callers: [{name: crm, key_file: 'hunter2/x', apps: [shop]}]",
		"password_file": app + "store: {url: 'redis://localhost', password_file: 'hunter2'}",
		"variable":      "apps: [{appid: wx0123456789abcdef, secret: '${hunter2}'}]",
		"caller's name": app + "callers: [{name: 'hunter2!', key: crm, apps: [shop]}]",
	} {
		t.Run("a password as "+place, func(t *testing.T) {
			check(t, "a password", "hunter2", LoadOptions{Dir: files(t, "wxproxy.yaml", text)})
		})
	}
}

// What a fault says in place of the secret.
func TestFaultsDescribeSecrets(t *testing.T) {
	const hex = "c0ffee00beef0123456789abcdef0042"
	for text, want := range map[string]string{
		"apps: [{appid: " + hex + ", secret: s}]":                               `wxproxy.yaml:1:16: apps[0].appid: 32 hex digits, as an AppSecret has: want 6 to 64 of [A-Za-z0-9_-], the first a letter, as in wx0123456789abcdef: is it swapped with the secret?`,
		"apps: [{appid: wx0123456789abcdef, secret_file: " + hex + "}]":         `wxproxy.yaml:1:49: apps[0].secret_file: 32 hex digits, as an AppSecret has: no such file or directory: want the path of a file that holds the secret, and not the secret itself`,
		"apps: [{appid: wx0123456789abcdef, secret_file: hunter2}]":             `wxproxy.yaml:1:49: apps[0].secret_file: 7 characters (letters, digits): no such file or directory: want the path of a file that holds the secret, and not the secret itself`,
		"apps: [{appid: wx0123456789abcdef, secret_file: /no/such/hunter2}]":    `wxproxy.yaml:1:49: apps[0].secret_file: "/no/such/hunter2": no such file or directory`,
		"apps: [{appid: wx0123456789abcdef, secret: \"${" + "a" + hex + "}\"}]": `wxproxy.yaml:1:44: apps[0].secret: a ${ } around 33 characters (letters, digits), which names no variable that is set: want the name of one, or the value itself without ${ }`,
		"apps: [{appid: wx0123456789abcdef, secret: s, " + hex + ": 1}]":        `wxproxy.yaml:1:47: apps[0].…: unknown key: want one of appid, name, profile, quotas, secret, secret_file`,
		"tls: {cert_file: c, key_file: '" + leaks["PEM"] + "'}":                 `wxproxy.yaml:1:31: tls.key_file: a PEM block: want the path of the file that holds it`,
	} {
		_, err := Load(LoadOptions{Dir: files(t, "wxproxy.yaml", text), Shipped: shippedYAML(t), Env: env()})
		if first, _, _ := strings.Cut(fmt.Sprint(err), "\n"); !strings.HasSuffix(first, want) {
			t.Errorf("Load of %s\n= %v\nwant %s", text, err, want)
		}
	}
}
