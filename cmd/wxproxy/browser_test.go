package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"wxproxy/sandbox"
)

// page makes every kind of request that a page may make anywhere without asking first, to each of
// targets, each with a path of its own, .../KIND/INDEX. It sends no Referer, which would show that it is one.
const page = `<!doctype html><meta name="referrer" content="no-referrer"><title>elsewhere</title><body>
<script>
(async () => {
  const simple = { mode: "no-cors", method: "POST", headers: { "Content-Type": "text/plain" }, body: "{}" };
  const to = (kind, i) => TARGETS[i] + "/cgi-bin/menu/delete/" + kind + "/" + i;
  const add = (name, fields) => document.body.appendChild(Object.assign(document.createElement(name), fields));
  for (const i in TARGETS) {
    add("img", { src: to("img", i) });
    add("script", { src: to("script", i) });
    add("iframe", { src: to("iframe", i) });
    add("iframe", { name: "post" + i });
    add("iframe", { name: "get" + i });
    const post = add("form", { method: "post", target: "post" + i, enctype: "text/plain", action: to("form-post", i) });
    post.appendChild(Object.assign(document.createElement("input"), { name: "a", value: "b" }));
    post.submit();
    add("form", { target: "get" + i, action: to("form-get", i) }).submit();
    window.open(to("navigation", i), "_blank", "noopener,noreferrer");
    fetch(to("fetch-get", i), { mode: "no-cors" });
    fetch(to("fetch-post", i), simple);
    fetch(to("fetch-credentials", i), { mode: "no-cors", credentials: "include" });
    const x = new XMLHttpRequest(); x.open("POST", to("xhr", i)); x.send("{}");
    navigator.sendBeacon(to("beacon", i), "{}");
  }
})();
</script>`

// pageKinds are the kinds of requests of page.
var pageKinds = []string{"img", "script", "iframe", "form-post", "form-get", "navigation", "fetch-get", "fetch-post", "fetch-credentials", "xhr", "beacon"}

// pageHosts are the names by which a page may try to reach a gateway on 127.0.0.1.
var pageHosts = []string{
	"127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "localhost.", "x.localhost",
	"[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0",
	// Names that lead here by DNS or by the hosts file of this machine.
	"rebound.example", "api.weixin.qq.com", "api.weixin.qq.com.",
}

// A page of any site that is open in a browser on the gateway's machine is not its operator.
func TestAPageInABrowserIsNotAllowed(t *testing.T) {
	t.Parallel()
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
	before := len(wechat.Requests())

	targets := make([]string, len(pageHosts))
	missing := make(map[string]bool)
	for i, host := range pageHosts {
		targets[i] = "http://" + host + ":" + p.url[strings.LastIndexByte(p.url, ':')+1:]
		for _, kind := range pageKinds {
			missing[fmt.Sprintf("/cgi-bin/menu/delete/%s/%d", kind, i)] = true
		}
	}
	list, err := json.Marshal(targets)
	if err != nil {
		t.Fatal(err)
	}
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, strings.ReplaceAll(page, "TARGETS", string(list)))
	}))
	defer site.Close()
	cmd := exec.CommandContext(t.Context(), browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-popup-blocking",
		"--host-resolver-rules=MAP *.example 127.0.0.1, MAP *.weixin.qq.com 127.0.0.1, MAP *.weixin.qq.com. 127.0.0.1", "--user-data-dir="+t.TempDir(),
		strings.Replace(site.URL, "127.0.0.1", "elsewhere.example", 1))
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // that it was killed
	}()
	for end := time.Now().Add(60 * time.Second); len(missing) > 0 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		for _, line := range p.stdout.lines(t) {
			delete(missing, fmt.Sprint(line["path"]))
		}
	}
	if len(missing) > 0 {
		t.Errorf("of the page's requests these did not reach the gateway, so nothing is known of them: %v", slices.Sorted(maps.Keys(missing)))
	}
	for _, line := range p.stdout.lines(t)[1:] {
		if line["reason"] != "browser" && line["path"] != "/favicon.ico" {
			t.Errorf("a request of the page: %v, want it refused as a browser's", line)
		}
	}
	for _, seen := range wechat.Requests()[before:] {
		t.Errorf("WeChat received %s %s of a page, with %v", seen.Method, seen.Target, seen.Header)
	}
}
