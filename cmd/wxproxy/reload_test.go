package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"wxproxy/sandbox"
)

// reloadStand is a gateway of the built program with every kind of file that it reads.
type reloadStand struct {
	*process
	folder string
}

const reloadYAML = `listen: 0.0.0.0:0
admin: {listen: "127.0.0.1:0", token: "${CANARY_ADMIN}"}
tls: {cert_file: cert.pem, key_file: key.pem}
upstream: {url: %q}
store: {url: %q}
limits: limits.yaml
apps:
  - {name: a, appid: %s, secret_file: app.secret}
callers:
  - {name: crm, key_file: crm.key, apps: [a]}
`

func newReloadStand(t *testing.T) *reloadStand {
	t.Helper()
	wechat := newWechat(t, sandbox.Options{})
	folder := t.TempDir()
	selfSigned(t, filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem"), 1)
	writeFile(t, filepath.Join(folder, "limits.yaml"), table("10/day", "7/day"))
	writeFile(t, filepath.Join(folder, "app.secret"), canarySecret)
	writeFile(t, filepath.Join(folder, "crm.key"), canaryCRMNew)
	writeFile(t, filepath.Join(folder, "wxproxy.yaml"), fmt.Sprintf(reloadYAML, wechat.URL, "file:"+filepath.Join(folder, "wxproxy.db"), appA))
	return &reloadStand{start(t, filepath.Join(folder, "wxproxy.yaml"), wechat), folder}
}

// decision is that of a call, with the caller's key or without any.
func (s *reloadStand) decision(t *testing.T, key string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.Replace(s.url, "http://[::]", "https://127.0.0.1", 1)+"/cgi-bin/get_api_domain_ip", nil)
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		r.SetBasicAuth("a", key)
	}
	response, err := insecure.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.Header.Get("X-Wxproxy-Decision")
}

// metric returns the line of a metric.
func (s *reloadStand) metric(t *testing.T, name string) string {
	t.Helper()
	for line := range strings.Lines(do(t, "GET", s.admin+"/metrics", nil).body) {
		if strings.HasPrefix(line, name+" ") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// What goes wrong with a file of a running gateway changes nothing, is logged with its cause, and holds up neither the
// next reload nor the end.
func TestReloadNeverOpensOrEmpties(t *testing.T) {
	replace := func(name string, is func(path string) error) func(string) error {
		return func(folder string) error {
			path := filepath.Join(folder, name)
			return errors.Join(os.Rename(path, path+".aside"), is(path))
		}
	}
	text := func(text string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
	}
	edit := func(old, fresh string) func(string) error {
		return func(path string) error {
			was, err := os.ReadFile(path + ".aside")
			if !strings.Contains(string(was), old) {
				err = fmt.Errorf("no %q in %s", old, was)
			}
			return errors.Join(err, os.WriteFile(path, []byte(strings.Replace(string(was), old, fresh, 1)), 0o600))
		}
	}
	gone := func(string) error { return nil }
	pipe := func(path string) error { return syscall.Mkfifo(path, 0o600) }
	folder := func(path string) error { return os.Mkdir(path, 0o700) }
	device := func(path string) error { return os.Symlink("/dev/zero", path) }
	huge := func(path string) error {
		return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40))
	}
	for _, tt := range []struct {
		name  string
		file  string
		is    func(path string) error
		fault string // in the log
	}{
		{"opened, with a listener that only a restart closes", "wxproxy.yaml", edit("listen: 0.0.0.0:0\n", "listen: 127.0.0.1:0\nanonymous: true\n"), "true while others can reach listen 0.0.0.0:0 (the running one, until a restart)"},
		{"emptied", "wxproxy.yaml", text(""), "wxproxy.yaml: empty: the running gateway was configured by it"},
		{"removed", "wxproxy.yaml", gone, "no such file"},
		{"half written", "wxproxy.yaml", text("listen: 0.0.0.0:0\nadmin: {listen: \"127.0.0.1:0\", token: \"${CANARY_ADMIN}\"}\n"), "no app is left, and the running gateway has 1"},
		{"a pipe", "wxproxy.yaml", pipe, "not a regular file"},
		{"a folder", "wxproxy.yaml", folder, "is a directory"},
		{"limits removed", "limits.yaml", gone, "no such file"},
		{"limits half written", "limits.yaml", text(table("10/day", "7/day")[:200]), "limits.yaml:"},
		{"limits a pipe", "limits.yaml", pipe, "not a regular file"},
		{"limits a device", "limits.yaml", device, "not a regular file"},
		{"limits huge", "limits.yaml", huge, "larger than 1048576 bytes"},
		{"secret a pipe", "app.secret", pipe, "secret_file: \"app.secret\": not a regular file"},
		{"key emptied", "crm.key", text(""), "key_file: \"crm.key\": empty"},
		{"certificate a pipe", "cert.pem", pipe, "tls.cert_file: "},
		{"certificate's key a folder", "key.pem", folder, "tls.key_file: "},
		{"certificate without its key", "cert.pem", func(path string) error {
			selfSigned(t, path, filepath.Join(t.TempDir(), "key.pem"), 2)
			return nil
		}, "private key does not match public key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newReloadStand(t)
			check := func(when, success string) {
				t.Helper()
				if d := s.decision(t, canaryCRMNew); d != "pass" {
					t.Errorf("%s: a call with a key is %s, want pass", when, d)
				}
				if d := s.decision(t, ""); d != "refused-auth" {
					t.Errorf("%s: a call without proof is %s, want refused-auth", when, d)
				}
				const name = "wxproxy_config_last_reload_successful"
				if got := s.metric(t, name); got != name+" "+success {
					t.Errorf("%s: %s, want %s", when, got, success)
				}
			}
			check("at first", "1")
			if err := replace(tt.file, tt.is)(s.folder); err != nil {
				t.Fatal(err)
			}
			line := s.stderr.await(t, "line that a reload failed", message("keeping the previous"))
			if text := fmt.Sprint(line["error"]); !strings.Contains(text, tt.fault) {
				t.Errorf("the log says %q, want %q", text, tt.fault)
			}
			check("with the fault", "0")
			var last struct{ Status, Error string }
			if s.askAdmin(t, "GET", "/-/reload", &last); last.Status != "fault" || !strings.Contains(last.Error, tt.fault) {
				t.Errorf("the last reload is %+v, want a fault with %q", last, tt.fault)
			}
			if status := s.askAdmin(t, "POST", "/-/reload", nil); status != http.StatusUnprocessableEntity {
				t.Errorf("another reload: %d, want 422", status)
			}

			// Put right, it is taken by itself.
			path := filepath.Join(s.folder, tt.file)
			if err := errors.Join(os.RemoveAll(path), os.Rename(path+".aside", path)); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "a reload that succeeds", func() bool {
				s.askAdmin(t, "GET", "/-/reload", &last)
				return last.Status == "reloaded"
			})
			check("put right", "1")

			if err := replace(tt.file, tt.is)(s.folder); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			s.stop(t)
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("the end took %s", took)
			}
		})
	}
}

// A change is taken when two readings agree: a file that is written in pieces is not taken in between.
func TestReloadWaitsForTheRest(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	path := write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), table("2/day", "7/day"))
	limits := filepath.Join(filepath.Dir(path), "limits.yaml")
	p := start(t, path, wechat)
	for i := range 100 { // for two seconds, never twice the same
		writeFile(t, limits, table(fmt.Sprint(i+10, "/day"), "7/day"))
		time.Sleep(20 * time.Millisecond)
	}
	writeFile(t, limits, table("4/day", "7/day"))
	p.stderr.await(t, "line of the reload", message("configuration reloaded"))
	if n := strings.Count(p.stderr.String(), "configuration reloaded"); n != 1 {
		t.Errorf("reloaded %d times, want once, with the last:\n%s", n, p.stderr)
	}
	fire(t, []*process{p}, 4, 10, "POST", "/"+appA+"/cgi-bin/menu/create", menu)
	if n := wechat.Executed(appA, "/cgi-bin/menu/create"); n != 4 {
		t.Errorf("WeChat executed %d, want 4", n)
	}
}

// Who acts on the admin listener is logged, and who is refused there.
func TestAdminIsLogged(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	p := start(t, write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), ""), wechat)
	ask := func(method, target, host, token string) int {
		r, err := http.NewRequestWithContext(t.Context(), method, p.admin+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		r.Header.Set("Authorization", "Bearer "+token)
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	for _, tt := range []struct {
		method, target, host, token string
		status                      int
		want                        map[string]any
	}{
		{"POST", "/-/reload", "", canaryAdmin, 200, map[string]any{"msg": "admin: reload", "outcome": "done", "token": "admin.token"}},
		{"POST", "/api/v1/clear?app=a", "", canaryAdmin, 200, map[string]any{"msg": "admin: clear", "app": "a", "outcome": "done", "token": "admin.token"}},
		{"POST", "/api/v1/forget?app=wx0000000000000000", "", canaryAdmin, 200, map[string]any{"msg": "admin: forget", "app": "wx0000000000000000", "outcome": "done", "token": "admin.token"}},
		{"GET", "/api/v1/usage", "", "wrong-token-of-a-client", 401, map[string]any{"level": "warn", "msg": "admin: request refused: wrong-token"}},
		{"GET", "/metrics", "evil.example", canaryAdmin, 421, map[string]any{"level": "warn", "msg": "admin: request refused: wrong-host", "host": "evil.example"}},
	} {
		if status := ask(tt.method, tt.target, tt.host, tt.token); status != tt.status {
			t.Errorf("%s %s = %d, want %d", tt.method, tt.target, status, tt.status)
		}
		line := p.stderr.await(t, "line of it", message(tt.want["msg"].(string)))
		tt.want["client"] = "127.0.0.1"
		for key, want := range tt.want {
			if line[key] != want {
				t.Errorf("%s %s is logged with %s %v, want %v", tt.method, tt.target, key, line[key], want)
			}
		}
	}
	if strings.Contains(p.stderr.String(), "wrong-token-of-a-client") {
		t.Error("a wrong token is in the log")
	}
}
