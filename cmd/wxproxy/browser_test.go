package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wxproxy/sandbox"
)

// page fires every kind of request that a page may send anywhere without asking first.
const page = `<!doctype html><title>elsewhere</title>
<img src="%[1]s/cgi-bin/menu/delete?from=img">
<iframe name="frame" src="%[1]s/cgi-bin/menu/delete?from=iframe"></iframe>
<form id="form" method="post" target="frame" enctype="text/plain" action="%[1]s/cgi-bin/menu/create?from=form"><input name="a" value="b"></form>
<script>
(async () => {
  const simple = { mode: "no-cors", method: "POST", headers: { "Content-Type": "text/plain" }, body: "{}" };
  await Promise.allSettled([
    fetch("%[1]s/cgi-bin/menu/create?from=fetch", simple),
    fetch("%[1]s/%[2]s/cgi-bin/menu/get?from=get", { mode: "no-cors" }),
    fetch("%[1]s/cgi-bin/menu/get?from=credentials", { mode: "no-cors", credentials: "include" }),
    new Promise((done) => { const x = new XMLHttpRequest(); x.onloadend = done; x.open("POST", "%[1]s/cgi-bin/menu/create?from=xhr"); x.send("{}"); }),
  ]);
  navigator.sendBeacon("%[1]s/cgi-bin/menu/create?from=beacon", "{}");
  document.getElementById("form").submit();
  await new Promise((done) => setTimeout(done, 500));
  await fetch("/done", { method: "POST" });
})();
</script>`

// A page of any site that is open in a browser on the gateway's machine is not its operator.
func TestAPageInABrowserIsNotAllowed(t *testing.T) {
	browser := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil && browser == "" {
			browser = path
		}
	}
	if browser == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("no chromium on PATH: make deps installs it")
		}
		t.Skip("SKIPPED: no chromium on PATH, so nobody looked whether a web page can use the gateway: make deps installs it")
	}
	wechat := newWechat(t, sandbox.Options{})
	text := fmt.Sprintf("listen: 127.0.0.1:0\nadmin: {listen: \"127.0.0.1:0\", token: \"${CANARY_ADMIN}\"}\nupstream: {url: %q}\nstore: {url: %q}\napps:\n  - {name: a, appid: %s, secret: \"${CANARY_SECRET}\"}\n",
		wechat.URL, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), appA)
	config := filepath.Join(t.TempDir(), "wxproxy.yaml")
	writeFile(t, config, text)
	p := start(t, config, wechat)

	// The very calls are allowed to a program on this machine.
	if a := do(t, "GET", p.url+"/cgi-bin/get_api_domain_ip", nil); a.decision != "pass" {
		t.Fatalf("a program's call: %v, want pass", a)
	}
	before := wechat.Calls(appA, "")

	done := make(chan struct{}, 1)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/done" {
			select {
			case done <- struct{}{}:
			default:
			}
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprintf(w, page, p.url, appA)
	}))
	defer site.Close()
	cmd := exec.CommandContext(t.Context(), browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+t.TempDir(), site.URL)
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // that it was killed
	}()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		t.Fatalf("the page did not run to its end; the gateway has seen:\n%s", p.stdout)
	}
	waitFor(t, "lines of at least six of the page's calls", func() bool { return len(p.stdout.lines(t)) >= 1+6 })
	for _, line := range p.stdout.lines(t)[1:] {
		if method := line["method"]; line["decision"] != "refused-auth" && method != "OPTIONS" || method == "OPTIONS" && line["status"] != 405.0 {
			t.Errorf("a page's call: %v, want refused-auth", line)
		}
		if errcode := line["errcode"]; line["method"] != "OPTIONS" && errcode != 48001.0 {
			t.Errorf("a page's call was answered %v, want 48001", errcode)
		}
		if !strings.Contains(fmt.Sprint(line["user_agent"]), "Chrome") {
			t.Errorf("a call of somebody else: %v", line)
		}
	}
	if n := wechat.Calls(appA, "") - before; n != 0 {
		t.Errorf("WeChat saw %d calls of a page, want none", n)
	}
}
