package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const oneApp = "apps: [{appid: wx0123456789abcdef, secret: canary-secret-0123456789}]\n"

// A reload of files that changed as rows say, in folder; fault is "" where it is taken.
func TestReload(t *testing.T) {
	shipped := shippedYAML(t)
	appEnv := []string{"WX_APPID", "wx0123456789abcdef", "WX_SECRET", "canary-secret-0123456789"}
	remove := func(name string) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	text := func(name, text string) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	instead := func(name string, is func(string) error) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			if err := errors.Join(os.RemoveAll(name), is(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	fifo := func(name string) error { return syscall.Mkfifo(name, 0o600) }
	folder := func(name string) error { return os.Mkdir(name, 0o700) }
	device := func(name string) error { return os.Symlink("/dev/zero", name) }
	huge := func(name string) error { return errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, 1<<40)) }

	withFiles := "apps: [{appid: wx0123456789abcdef, secret_file: app.secret}]\ncallers: [{name: crm, key_file: crm.key, apps: [wx0123456789abcdef]}]\nstore: {url: 'redis://r/0', password_file: redis.password}\n"
	for _, tt := range []struct {
		name   string
		before string // wxproxy.yaml
		env    []string
		change func(*testing.T)
		fault  string
		keys   string // that need a restart
	}{
		{"nothing", oneApp, nil, func(*testing.T) {}, "", ""},
		{"a key", oneApp, nil, text("wxproxy.yaml", oneApp+"max_in_flight: 5\n"), "", ""},
		{
			"what needs a restart", oneApp, nil,
			text("wxproxy.yaml", oneApp+"listen: 127.0.0.1:1\nadmin: {hosts: [a.example]}\nupstream: {timeout: 1s}\nstore: {prefix: x}\ntoken: {endpoint: token}\ndrift: {every: 1h}\naccess_log: {file: a}\ntls: {cert_file: a, key_file: b}\n"),
			"", "listen tls admin upstream store token access_log drift",
		},

		{
			"a listener that closes only at a restart, and is opened", "listen: 0.0.0.0:8080\n" + oneApp, nil,
			text("wxproxy.yaml", "listen: 127.0.0.1:8080\nanonymous: true\n"+oneApp), "wxproxy.yaml:2:12: anonymous: true while others can reach listen 0.0.0.0:8080 (the running one, until a restart)", "",
		},
		{
			"the same for learn", "listen: 0.0.0.0:8080\n" + oneApp, nil,
			text("wxproxy.yaml", "listen: 127.0.0.1:8080\nlearn: true\n"+oneApp), "wxproxy.yaml:2:8: learn: true while others can reach listen 0.0.0.0:8080 (the running one, until a restart)", "",
		},
		{
			"a listener that opens only at a restart", oneApp, nil,
			text("wxproxy.yaml", "listen: 0.0.0.0:8080\nanonymous: true\n"+oneApp), "", "listen",
		},
		{
			"an upstream that would be the listener", "listen: 127.0.0.1:9000\n" + oneApp, nil,
			text("wxproxy.yaml", "listen: 127.0.0.1:8080\nupstream: {url: 'http://127.0.0.1:9000'}\n"+oneApp), "", "listen upstream",
		},

		{"wxproxy.yaml removed", oneApp, nil, remove("wxproxy.yaml"), "wxproxy.yaml: gone: ", ""},
		{"wxproxy.yaml removed, an app in the environment", "anonymous: false\n", appEnv, remove("wxproxy.yaml"), "wxproxy.yaml: gone: ", ""},
		{"wxproxy.yaml emptied", oneApp, nil, text("wxproxy.yaml", ""), "wxproxy.yaml: empty: ", ""},
		{"only comments left", oneApp, nil, text("wxproxy.yaml", "# "+oneApp), "wxproxy.yaml: empty: ", ""},
		{"wxproxy.yaml emptied, an app in the environment", "anonymous: false\n", appEnv, text("wxproxy.yaml", "\n"), "wxproxy.yaml: empty: ", ""},
		{"wxproxy.yaml that was empty", "# nothing\n", appEnv, text("wxproxy.yaml", "# still nothing\n"), "", ""},
		{"half of wxproxy.yaml", "max_in_flight: 5\n" + oneApp, nil, text("wxproxy.yaml", "max_in_flight: 5\n"), "wxproxy.yaml: no app is left, and the running gateway has 1", ""},
		{"half of a list", oneApp, nil, text("wxproxy.yaml", oneApp[:len(oneApp)-5]), "wxproxy.yaml:1: not YAML", ""},
		{"no apps", oneApp, nil, text("wxproxy.yaml", "apps: []\n"), "wxproxy.yaml: no app is left", ""},
		{"no apps, and learn", oneApp, nil, text("wxproxy.yaml", "learn: true\n"), "wxproxy.yaml: no app is left", ""},
		{"limits.yaml removed", oneApp, nil, remove("limits.yaml"), "limits.yaml: gone: ", ""},
		{"limits.yaml emptied", oneApp, nil, text("limits.yaml", ""), "limits.yaml:1:1: ", ""},
		{"a secret emptied", withFiles, nil, text("app.secret", ""), "secret_file: \"app.secret\": empty", ""},

		{"wxproxy.yaml is a pipe", oneApp, nil, instead("wxproxy.yaml", fifo), "wxproxy.yaml: not a regular file", ""},
		{"wxproxy.yaml is a folder", oneApp, nil, instead("wxproxy.yaml", folder), "wxproxy.yaml: is a directory", ""},
		{"wxproxy.yaml is a device", oneApp, nil, instead("wxproxy.yaml", device), "wxproxy.yaml: not a regular file", ""},
		{"wxproxy.yaml is huge", oneApp, nil, instead("wxproxy.yaml", huge), "wxproxy.yaml: larger than 1048576 bytes", ""},
		{"limits.yaml is a pipe", oneApp, nil, instead("limits.yaml", fifo), "limits.yaml: not a regular file", ""},
		{"limits.yaml is huge", oneApp, nil, instead("limits.yaml", huge), "limits.yaml: larger than 1048576 bytes", ""},
		{"a secret is a pipe", withFiles, nil, instead("app.secret", fifo), "secret_file: \"app.secret\": not a regular file", ""},
		{"a key is a folder", withFiles, nil, instead("crm.key", folder), "key_file: \"crm.key\": is a directory", ""},
		{"a password is a device", withFiles, nil, instead("redis.password", device), "password_file: \"redis.password\": not a regular file", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			for name, content := range map[string]string{
				"wxproxy.yaml": tt.before, "limits.yaml": string(shipped),
				"app.secret": "canary-secret-0123456789", "crm.key": "canary-key-0123456789", "redis.password": "canary-password",
			} {
				text(name, content)(t)
			}
			load := LoadOptions{Shipped: shipped, Env: env(tt.env...)}
			running, err := Load(load)
			if err != nil {
				t.Fatal(err)
			}
			tt.change(t)
			load.Running = running
			begun := time.Now()
			c, err := Load(load)
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("Load took %s", took)
			}
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Fatalf("Load = %v, want %q", err, tt.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(c.Restart, " "); got != tt.keys {
				t.Errorf("needs a restart: %q, want %q", got, tt.keys)
			}
			kept := func(c *Config) []any {
				return []any{c.Listen, c.TLS, c.Admin, c.Upstream.URL.String(), c.Upstream.Timeout, c.Store, c.Token, c.AccessLog, c.Drift}
			}
			if diff := cmp.Diff(kept(running), kept(c)); diff != "" {
				t.Errorf("what only a restart changes (-running +reloaded):\n%s", diff)
			}
		})
	}
}

// A file that turns into a pipe between the look at it and its opening holds up nobody.
func TestReadFileNeverWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limits.yaml")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 500 {
			_ = os.WriteFile(path+".file", []byte("x"), 0o600)
			_ = os.Rename(path+".file", path)
			_ = syscall.Mkfifo(path+".pipe", 0o600)
			_ = os.Rename(path+".pipe", path)
		}
	}()
	for {
		data, _, err := ReadFile(path)
		switch {
		case err == nil && string(data) != "x" && len(data) > 0:
			t.Fatalf("ReadFile = %q", data)
		case err != nil && !errors.Is(err, fs.ErrNotExist) && !strings.Contains(err.Error(), "not a regular file"):
			t.Fatalf("ReadFile: %v", err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

// systemd lets a service read its credentials by an ACL, which is not for other users.
func TestCredentialOfSystemd(t *testing.T) {
	folder := files(t, "shop.secret", "canary-secret-0123456789")
	if err := os.Chmod(filepath.Join(folder, "shop.secret"), 0o440); err != nil {
		t.Fatal(err)
	}
	main := files(t, "wxproxy.yaml", "apps: [{appid: wx0123456789abcdef, secret_file: \"${CREDENTIALS_DIRECTORY:-"+folder+"}/shop.secret\"}]\n")
	for _, tt := range []struct {
		env      []string
		warnings int
	}{
		{[]string{"CREDENTIALS_DIRECTORY", folder}, 0},
		{[]string{"CREDENTIALS_DIRECTORY", ""}, 1},
		{nil, 1},
	} {
		c, err := Load(LoadOptions{Dir: main, Shipped: shippedYAML(t), Env: env(tt.env...)})
		if err != nil {
			t.Fatal(err)
		}
		if len(about(c, "mode")) != tt.warnings {
			t.Errorf("with %q: warnings %q, want %d", tt.env, c.Warnings, tt.warnings)
		}
	}
}
