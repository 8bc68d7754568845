package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wxproxy/sandbox"
)

// chromium returns the path of the browser. A test that lacks it is skipped, or fails where CI is set.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("no chromium on PATH: make deps installs it")
	}
	t.Skip("SKIPPED: no chromium on PATH, so it is not known what the pages do, and whether a web page can use the admin listener: make deps installs it")
	return ""
}

// visit opens a page in a browser that finds every name of example on this machine. It is closed with the test.
func visit(t *testing.T, address string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), chromium(t), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP *.example 127.0.0.1",
		"--user-data-dir="+t.TempDir(), address)
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // that it was killed
	})
}

// adminPage asks the admin listener at %[1]q for everything that a page can use, with the token %[2]q, and posts what
// came of it.
const adminPage = `<!doctype html><meta charset="utf-8"><title>page</title>
<iframe name="frame"></iframe>
<form id="form" method="post" target="frame" action="%[1]s/-/reload?from=form"></form>
<script>
(async () => {
  const got = {};
  const ask = async (name, path, options) => {
    try {
      const answer = await fetch("%[1]s" + path, options);
      got[name] = answer.type === "opaque" ? "opaque" : answer.status + (/wxproxy_build_info/.test(await answer.text()) ? " with metrics" : "");
    } catch { got[name] = "blocked"; }
  };
  const token = { Authorization: "Bearer %[2]s" };
  await ask("metrics", "/metrics");
  await ask("usage", "/api/v1/usage", { headers: token });
  await ask("pages", "/");
  await ask("session", "/api/v1/session", { method: "POST", body: '{"code":"X"}' });
  await ask("reload", "/-/reload?from=fetch", { method: "POST", headers: token });
  await ask("reload, simple", "/-/reload?from=simple", { method: "POST", mode: "no-cors", body: "{}" });
  document.getElementById("form").submit();
  await new Promise((done) => setTimeout(done, 500));
  await fetch("/done", { method: "POST", body: JSON.stringify(got) });
})();
</script>`

// What a page gets of the admin listener: one of ours everything, with the token; one whose name was rebound to
// this machine, and one of another site, nothing.
func TestAPageAndTheAdminListener(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	folder := t.TempDir()
	config := filepath.Join(folder, "wxproxy.yaml")
	writeFile(t, config, fmt.Sprintf("listen: 127.0.0.1:0\nadmin: {listen: \"127.0.0.1:0\", hosts: [ours.example], token: \"${CANARY_ADMIN}\"}\nupstream: {url: %q}\nstore: {url: %q}\napps:\n  - {name: a, appid: %s, secret: \"${CANARY_SECRET}\"}\n",
		wechat.URL, "file:"+filepath.Join(folder, "wxproxy.db"), appA))
	p := start(t, config, wechat)
	target, err := url.Parse(p.admin)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		page string // the name of the page
		asks string // the name by which it asks the admin listener; "" is its own
		want map[string]string
	}{
		{"ours", "ours.example", "", map[string]string{
			"metrics": "401", // not by a loopback name, and without the token
			"usage":   "200", "pages": "200", "session": "403", "reload": "200", "reload, simple": "401",
		}},
		{"rebound", "rebound.example", "", map[string]string{"metrics": "421", "usage": "421", "pages": "421", "session": "421", "reload": "421", "reload, simple": "421"}},
		{"another site", "elsewhere.example", "http://127.0.0.1", map[string]string{"metrics": "blocked", "usage": "blocked", "pages": "blocked", "session": "blocked", "reload": "blocked", "reload, simple": "opaque"}},
		{"another port", "127.0.0.1", "http://127.0.0.1", map[string]string{"metrics": "blocked", "usage": "blocked", "pages": "blocked", "session": "blocked", "reload": "blocked", "reload, simple": "opaque"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := strings.Count(p.stderr.String(), `"admin: reload"`)
			done := make(chan map[string]string, 1)
			asks := tt.asks
			if asks != "" {
				asks = target.String()
			}
			// What a rebound name leads to: first the page, then the admin listener.
			relay := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				r.Out.Host = r.In.Host
			}}
			site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/page":
					w.Header().Set("Content-Type", "text/html; charset=utf-8")
					_, _ = fmt.Fprintf(w, adminPage, asks, canaryAdmin)
				case "/done":
					got := make(map[string]string)
					if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
						t.Error(err)
					}
					select {
					case done <- got:
					default:
					}
				default:
					relay.ServeHTTP(w, r)
				}
			}))
			defer site.Close()
			visit(t, strings.Replace(site.URL, "127.0.0.1", tt.page, 1)+"/page")
			var got map[string]string
			select {
			case got = <-done:
			case <-time.After(60 * time.Second):
				t.Fatalf("the page did not run to its end; the gateway's log:\n%s", p.stderr)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("the page got (-want +got):\n%s", diff)
			}
			want := 0
			if tt.want["reload"] == "200" {
				want = 1
			}
			if n := strings.Count(p.stderr.String(), `"admin: reload"`) - before; n != want {
				t.Errorf("the page reloaded the gateway %d times, want %d", n, want)
			}
		})
	}
}
