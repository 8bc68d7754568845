package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"wxproxy/config"
	"wxproxy/internal/redistest"
	"wxproxy/limits"
	"wxproxy/sandbox"
	"wxproxy/store"
)

var paints = flag.Int("paint", 0, "open each page so often, and measure how long it takes until its rows are painted")

// watchPaint notes when the rows at %[1]q are in the page, and when the frame with them is painted: a task that a frame
// begins with runs before it is painted, and one that such a task posts runs after.
const watchPaint = `(() => {
  const seen = new MutationObserver(() => {
    if (document.querySelectorAll(%[1]q).length < %[2]d) return;
    seen.disconnect();
    const rows = performance.now();
    requestAnimationFrame(() => {
      const after = new MessageChannel();
      after.port1.onmessage = () => { window.painted = { rows, painted: performance.now() }; };
      after.port2.postMessage(0);
    });
  });
  seen.observe(document, { childList: true, subtree: true });
})();`

// measured is one opening of a page, in milliseconds since the navigation began.
type measured struct {
	Rows, Painted, First float64               // the rows are there; they are painted; anything was painted
	Document, Loaded     float64               // the page is there; all modules are
	Answers              map[string][2]float64 // when each was asked for and complete
	Bytes, Nodes         int
	gateway, browser     time.Duration // CPU time of each
}

const readPaint = `JSON.stringify({
  rows: window.painted.rows, painted: window.painted.painted,
  first: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0,
  answers: Object.fromEntries(performance.getEntriesByType("resource").filter((r) => r.name.includes("/api/")).map((r) => [new URL(r.name).pathname, [r.requestStart, r.responseEnd]])),
  loaded: Math.max(...performance.getEntriesByType("resource").filter((r) => /\.m?js$/.test(r.name) && !r.name.includes("uPlot")).map((r) => r.responseEnd)),
  document: performance.getEntriesByType("navigation")[0].responseEnd,
  bytes: performance.getEntriesByType("resource").reduce((sum, r) => sum + r.transferSize, performance.getEntriesByType("navigation")[0].transferSize),
  nodes: document.querySelectorAll("*").length,
})`

const (
	mostForRules    = 200 * time.Millisecond // an account of 200 rules
	mostForAccounts = 500 * time.Millisecond // 10,000 accounts
	inWindow        = 20                     // rows, more than there is room for
	mostTransferred = 150_000                // bytes
)

// An account of 200 rules, and 10,000 accounts, are painted soon after the page is opened in a browser that has nothing
// of it. The figures hold on two cores that do nothing else, so they are only measured where -paint says so.
func TestFirstPaint(t *testing.T) {
	if *paints == 0 {
		t.Skip("measures time, which means something only on a machine that does nothing else: go test ./cmd/wxproxy -run TestFirstPaint -paint 15 -v")
	}
	const rules = 200
	for _, tt := range []struct {
		name     string
		accounts int
		at       string
		rows     string
		n        int
		most     time.Duration
	}{
		{"200 rules", 1, "#/app/a00000", ".console tbody tr", inWindow, mostForRules},
		{"10,000 accounts", 10_000, "#/", ".accounts tbody tr", inWindow, mostForAccounts},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gateway := paintStand(t, tt.accounts, rules)
			p := openTab(t, gateway.admin)
			p.do(t, chromedp.Navigate(signedInAddress(t, gateway)))
			p.await(t, "signed in", `sessionStorage.getItem("wxproxy.token")`)
			p.call(t, func(ctx context.Context) error {
				_, err := chromedp.Call(ctx, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: fmt.Sprintf(watchPaint, tt.rows, tt.n)})
				return err
			})
			p.call(t, func(ctx context.Context) error { // what it tells of each request takes the browser's time
				_, err := chromedp.Call(ctx, network.Disable, cdp.Empty{})
				return err
			})
			var all []measured
			for range *paints {
				all = append(all, p.measure(t, gateway, tt.at))
			}
			p.forgive("/favicon.ico") // which a browser wants for a picture that is opened by itself
			slices.SortFunc(all, func(a, b measured) int { return int(a.Painted - b.Painted) })
			m := all[len(all)/2]
			load, _ := os.ReadFile("/proc/loadavg")
			t.Logf("of %d: painted after %.0f ms (%.0f to %.0f), the page after %.0f, the modules after %.0f, rows after %.0f, anything after %.0f; answers %s; %d bytes, %d elements; CPU of the gateway %s, of the browser %s; load %s",
				len(all), m.Painted, all[0].Painted, all[len(all)-1].Painted, m.Document, m.Loaded, m.Rows, m.First, answersText(m.Answers), m.Bytes, m.Nodes, m.gateway.Round(time.Millisecond), m.browser.Round(time.Millisecond), load)
			if took := time.Duration(m.Painted * float64(time.Millisecond)); took > tt.most {
				t.Errorf("painted after %s, want at most %s", took.Round(time.Millisecond), tt.most)
			}
			if m.Bytes > mostTransferred {
				t.Errorf("%d bytes transferred, want at most %d", m.Bytes, mostTransferred)
			}
		})
	}
}

func answersText(answers map[string][2]float64) string {
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(answers)) {
		fmt.Fprintf(&b, "%s %.0f-%.0f ", strings.TrimPrefix(path, "/api/v1/"), answers[path][0], answers[path][1])
	}
	return b.String()
}

func (p *tab) call(t *testing.T, do func(context.Context) error) {
	t.Helper()
	p.do(t, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error { return do(ctx) }))
}

// measure opens a page in a browser that has kept nothing but the sign-in.
func (p *tab) measure(t *testing.T, gateway *process, at string) (m measured) {
	t.Helper()
	p.script(t, `location.href = document.querySelector("link[rel=icon]")?.href ?? location.href`) // of the same site: the tab keeps its process
	p.await(t, "the icon", `location.pathname.endsWith(".svg") && document.readyState === "complete"`)
	p.call(t, func(ctx context.Context) error {
		_, err := chromedp.Call(ctx, network.ClearBrowserCache, cdp.Empty{})
		return err
	})
	time.Sleep(300 * time.Millisecond) // what the page before has asked for ends
	before, browser := cpuTime(t, "wxproxy"), cpuTime(t, "chrom")
	p.script(t, fmt.Sprintf("location.href = %q", "/"+at))
	p.await(t, "the rows", "window.painted")
	m.gateway, m.browser = cpuTime(t, "wxproxy")-before, cpuTime(t, "chrom")-browser
	text, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](readPaint))
	if err == nil {
		err = json.Unmarshal([]byte(text), &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// cpuTime is what the processes of this test whose name begins so have used of the processors.
func cpuTime(t *testing.T, name string) (sum time.Duration) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		t.Skip("the CPU time of processes is read from /proc")
	}
	parents, names := make(map[string]string), make(map[string]string)
	for _, path := range stats {
		text, _ := os.ReadFile(path) // it may have ended
		if before, after, ok := strings.Cut(string(text), ") "); ok {
			pid, process, _ := strings.Cut(before, " (")
			parents[pid], names[pid] = strings.Fields(after)[1], process
		}
	}
	for pid := range parents {
		ours := strings.HasPrefix(names[pid], name)
		for of := pid; ours && of != strconv.Itoa(os.Getpid()); of = parents[of] {
			ours = of != ""
		}
		if !ours {
			continue
		}
		threads, _ := filepath.Glob("/proc/" + pid + "/task/*/schedstat")
		for _, thread := range threads {
			var nanoseconds int64
			text, _ := os.ReadFile(thread)
			_, _ = fmt.Sscan(string(text), &nanoseconds)
			sum += time.Duration(nanoseconds)
		}
	}
	return sum
}

// paintStand is a gateway whose accounts have used each of some rules today; of many accounts five each.
func paintStand(t *testing.T, accounts, rules int) *process {
	t.Helper()
	const used = 5
	wechat := sandbox.NewServer(sandbox.Options{})
	t.Cleanup(func() { _ = wechat.Close() })
	folder := t.TempDir()
	var table, apps strings.Builder
	table.WriteString("version: 1\nprofiles:\n  wide:\n    title: wide\n    rules:\n")
	for i := range rules {
		fmt.Fprintf(&table, "      - {name: rule.%03d, title: 接口%d, category: 分类%d, paths: [/cgi-bin/rule/r%03d], quota: %d/day}\n", i, i, i/10, i, 1000+i)
	}
	writeFile(t, filepath.Join(folder, "limits.yaml"), table.String())
	for i := range accounts {
		fmt.Fprintf(&apps, "  - {name: a%05d, appid: wx%016x, secret: \"${CANARY_SECRET}\", profile: wide}\n", i, i)
	}
	path := filepath.Join(folder, "wxproxy.yaml")
	writeFile(t, path, fmt.Sprintf("listen: 127.0.0.1:0\nadmin: {listen: \"127.0.0.1:0\", token: \"${CANARY_ADMIN}\"}\nupstream: {url: %q}\nstore: {url: %q}\nlimits: limits.yaml\napps:\n%s", wechat.URL, redistest.Start(t).URL(), &apps))
	t.Setenv("CANARY_ADMIN", canaryAdmin)
	t.Setenv("CANARY_SECRET", canarySecret)
	c, err := config.Load(loadOptions(path))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := store.Open(t.Context(), storeOptions(c))
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	l := limits.New(limits.Options{Counters: limits.NewRedis(opened.Redis(), opened.Prefix(), "earlier0")})
	of := make(map[string]*limits.Ruleset, accounts)
	for _, app := range c.Apps {
		of[app.AppID] = app.Rules
	}
	l.Configure(of, nil)
	for i, app := range c.Apps {
		for rule := range rules {
			if accounts > 1 && rule%(rules/used) != i%(rules/used) {
				continue
			}
			for range 1 + (i+rule*7)%90 {
				l.Count(app.AppID, fmt.Sprintf("/cgi-bin/rule/r%03d", rule))
			}
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return start(t, path, wechat)
}
