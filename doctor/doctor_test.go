package doctor

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wxproxy"
	"wxproxy/config"
	"wxproxy/internal/words"
	"wxproxy/store"
)

// Run reports in the order of the checks, whatever the order that they end in; one that waits for another has its
// findings; one that hangs is left behind.
func TestRun(t *testing.T) {
	text := func(s string) []Finding { return []Finding{ok(words.New(words.DoctorWant, "text", s))} }
	release, first := make(chan struct{}), false
	checks := []Check{
		{Name: "late", Limit: time.Minute, Look: func(context.Context) []Finding { <-release; first = true; return text("late") }},
		{Name: "early", Limit: time.Minute, Look: func(context.Context) []Finding { close(release); return text("early") }},
		{Name: "after", After: []string{"late"}, Limit: time.Minute, Look: func(context.Context) []Finding { return text(fmt.Sprint(first)) }},
		{Name: "hangs", Limit: 10 * time.Millisecond, Look: func(context.Context) []Finding { select {} }},
		{Name: "ends", Limit: 10 * time.Millisecond, Look: func(ctx context.Context) []Finding { <-ctx.Done(); return text("partly") }},
	}
	var got []string
	Run(t.Context(), checks, func(r Result) {
		got = append(got, fmt.Sprintf("%s: %s %s", r.Name, r.Worst(), r.Findings[0].Seen))
	})
	want := []string{"late: ok late", "early: ok early", "after: ok true", "hangs: fault this check did not end within 10ms", "ends: ok partly"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// All checks together end within half a minute, also when each one takes all the time that it has.
func TestLimits(t *testing.T) {
	ends := make(map[string]time.Duration)
	for _, c := range Checks(Options{}) {
		for _, name := range c.After {
			if ends[name] == 0 {
				t.Errorf("%s waits for %s, which is no earlier check", c.Name, name)
			}
			ends[c.Name] = max(ends[c.Name], ends[name])
		}
		if ends[c.Name] += c.Limit + grace; ends[c.Name] > 28*time.Second {
			t.Errorf("%s may end after %s, want 28s at most", c.Name, ends[c.Name])
		}
	}
}

// load returns the options of a configuration, as the command composes them.
func load(t *testing.T, yaml string) Options {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wxproxy.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{Version: "1.2.3", User: "default", Getenv: func(string) string { return "" }}
	o.Client = func(listen string) (*http.Client, string) {
		return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "http://" + listen
	}
	c, err := config.Load(config.LoadOptions{Path: path, Shipped: wxproxy.LimitsYAML})
	if err != nil {
		o.ConfigErr = err
		return o
	}
	o.Config = c
	o.Store = store.Options{URL: c.Store.URL, Password: c.Store.Password, Prefix: c.Store.Prefix, Upstream: c.Upstream.URL.String()}
	o.Admin = Admin{Address: c.Admin.Listen, Token: c.Admin.Token}
	return o
}

// lines are findings as they are printed, without the names of their checks.
func lines(l words.Language, findings []Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%s: %s\n", f.Level, l.Error(f.Seen))
		if f.Mend != nil {
			fmt.Fprintf(&b, "-> %s\n", l.Error(f.Mend))
		}
	}
	return b.String()
}

// wantLines compares findings with texts in English and, unless that is "", in Chinese.
func wantLines(t *testing.T, findings []Finding, en, zh string) {
	t.Helper()
	if got := lines(words.English, findings); got != en {
		t.Errorf("got\n%swant\n%s", got, en)
	}
	if zh == "" {
		return
	}
	if got := lines(words.Chinese, findings); got != zh {
		t.Errorf("got\n%swant\n%s", got, zh)
	}
}

func TestConfiguration(t *testing.T) {
	o := load(t, "listen: 127.0.0.1:70000\nmax_body: 1\napps: [{appid: wx0123456789abcdef, secret: \"${NO_SUCH_VARIABLE}\"}]\n")
	d := &doctor{Options: o}
	path := o.ConfigErr.Error()[:strings.Index(o.ConfigErr.Error(), ":1:")]
	got := strings.ReplaceAll(lines(words.English, d.lookAtConfiguration(t.Context())), path, "wxproxy.yaml")
	if want := "fault: wxproxy.yaml:1:9: listen: \"127.0.0.1:70000\"\n-> want "; !strings.HasPrefix(got, want) || !strings.Contains(got, "fault: wxproxy.yaml:3:") {
		t.Errorf("got\n%swant faults of line 1 and 3 with a mend", got)
	}
	for _, c := range Checks(o) {
		if c.Name == "configuration" || c.Name == "gateway" {
			continue
		}
		wantLines(t, c.Look(t.Context()), "skipped: not looked at: the configuration has faults\n", "skipped: 未检查：配置有错\n")
	}
	fine := &doctor{Options: load(t, "apps: [{name: shop, appid: wx0123456789abcdef, secret: 5a4db05a4db05a4db05a4db05a4db001}]\n")}
	if got := lines(words.English, fine.lookAtConfiguration(t.Context())); !strings.HasPrefix(got, "ok: ") || !strings.Contains(got, "accounts 1, callers 0, built-in table of 20") {
		t.Errorf("got %s", got)
	}
	none := &doctor{Options: load(t, "max_in_flight: 100\n")}
	wantLines(t, none.lookAtConfiguration(t.Context()),
		"fault: no account is configured, and none is learned\n-> add one under apps in wxproxy.yaml, or set WX_APPID and WX_SECRET\n",
		"fault: 没有配置帐号，也不自动识别\n-> 在 wxproxy.yaml 的 apps 下写一个，或设置 WX_APPID 和 WX_SECRET\n")
}

func TestKind(t *testing.T) {
	for key, want := range map[string]string{"DoctorNoAOF": "no-aof", "DoctorDNSSlow": "dns-slow", "DoctorAOFFails": "aof-fails", "DoctorPolicy": "policy", "DoctorWrongAppID": "wrong-app-id", "DoctorNoTLS": "no-tls"} {
		if got := kind(key); got != want {
			t.Errorf("kind(%s) = %s, want %s", key, got, want)
		}
	}
}
