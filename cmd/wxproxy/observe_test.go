package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"wxproxy/admin"
	"wxproxy/internal/redistest"
)

// promtool returns the path of Prometheus's tool. Without it a test is skipped, or fails where CI is set.
func promtool(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if unpacked, failed := filepath.Abs("../../.cache/deps/usr/bin/promtool"); err != nil && failed == nil {
		path, err = exec.LookPath(unpacked)
	}
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatal("no promtool, and CI is set: make deps unpacks it")
	default:
		t.Skip("SKIPPED: no promtool on PATH, so nobody looked at the metrics, alerts and dashboard: make deps unpacks it")
	}
	return path
}

// fullScrape is a scrape of a gateway after calls of every kind, so that it has every metric.
func fullScrape(t *testing.T) string {
	t.Helper()
	wechat := noonWechat(t, map[string]int64{createPath: 1000, "/cgi-bin/user/info": 1000, "/cgi-bin/tags/get": 1000, "/cgi-bin/menu/get": 1000})
	folder := t.TempDir()
	cert, key := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	selfSigned(t, cert, key, 1)
	limits := noonTable("10/day", "5/day") +
		"      - {name: tags, title: 标签, paths: [/cgi-bin/tags/get], quota: 1/day, shadow: true}\n" +
		"      - {name: menu.get, title: 菜单查询, paths: [/cgi-bin/menu/get], quota: 200/day}\n"
	p := start(t, write(t, wechat, redistest.Start(t).URL(), limits, fmt.Sprintf("tls: {cert_file: %q, key_file: %q}\n", cert, key)), wechat)
	secure := strings.Replace(p.url, "http:", "https:", 1) + "/" + appA
	call := func(method, target string, times int) {
		t.Helper()
		for range times {
			if status := doSecure(t, method, secure+target); status != 200 {
				t.Errorf("%s %s = %d", method, target, status)
			}
		}
	}
	call("POST", "/cgi-bin/clear_quota", 1)
	call("POST", createPath, 12)
	call("GET", "/cgi-bin/tags/get", 3)
	call("GET", "/cgi-bin/menu/get", 150) // at this rate it runs out within minutes
	if status := p.askAdmin(t, "POST", "/api/v1/grant?app="+appA+"&rule=menu.get&calls=1&reason=test", &admin.Grants{}); status != 200 {
		t.Errorf("a grant: %d", status)
	}
	call("GET", "/cgi-bin/user/info?openid="+canaryOpenID, 1)
	wechat.AddUsed(appA, "/cgi-bin/user/info", 1000) // around the gateway, so that the next call is answered 45009
	call("GET", "/cgi-bin/user/info?openid="+canaryOpenID, 1)
	row(t, p, "menu.create", true)
	var scrape string
	waitFor(t, "the latch", func() bool {
		scrape = do(t, "GET", p.admin+"/metrics", nil).body
		return strings.Contains(scrape, "\nwxproxy_latched{")
	})
	return scrape
}

// The manual's table has every metric of a real scrape, with the type, labels and words that Prometheus is told, and none
// that there is not. promtool finds nothing to say about the scrape; the alerts fire and are quiet as they should; and
// they and the dashboard ask for names and labels that there are.
func TestMetricsAlertsAndDashboard(t *testing.T) {
	t.Parallel()
	tool := promtool(t)
	scrape := fullScrape(t)
	series := parseScrape(scrape)
	t.Run("check metrics", func(t *testing.T) {
		cmd := exec.CommandContext(t.Context(), tool, "check", "metrics")
		cmd.Stdin = strings.NewReader(scrape)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("promtool check metrics: %v\n%s", err, out)
		}
	})
	t.Run("manual", func(t *testing.T) { checkManual(t, series) })
	t.Run("alerts", func(t *testing.T) {
		if out, err := exec.CommandContext(t.Context(), tool, "test", "rules", "../../deploy/prometheus/alerts_test.yml").CombinedOutput(); err != nil {
			t.Errorf("promtool test rules: %v\n%s", err, out)
		}
		checkAlerts(t, series)
	})
	t.Run("dashboard", func(t *testing.T) { checkDashboard(t, tool, series) })
}

// metricSeries is what a scrape has of one metric.
type metricSeries struct {
	kind, help string
	labels     map[string]bool
}

var sampleLine = regexp.MustCompile(`^([a-z_]+?)(_bucket|_sum|_count)?(?:\{(.*)\})? [^ ]+$`)

func parseScrape(scrape string) map[string]*metricSeries {
	found := make(map[string]*metricSeries)
	var last *metricSeries
	for line := range strings.Lines(scrape) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, help, _ := strings.Cut(rest, " ")
			last = &metricSeries{help: help, labels: make(map[string]bool)}
			found[name] = last
		} else if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			_, last.kind, _ = strings.Cut(rest, " ")
		} else if m := sampleLine.FindStringSubmatch(line); m != nil {
			for _, label := range labelName.FindAllStringSubmatch(m[3], -1) {
				if label[1] != "le" {
					last.labels[label[1]] = true
				}
			}
		}
	}
	return found
}

var labelName = regexp.MustCompile(`([a-z_]+)="`)

func checkManual(t *testing.T, series map[string]*metricSeries) {
	t.Helper()
	rows := metricRows(t, "../../docs/metrics.md")
	for name, row := range rows {
		s := series[name]
		if s == nil {
			s = counterOf(t, name)
		}
		if s == nil {
			t.Errorf("%s is in the manual, and not in the scrape", name)
			continue
		}
		labels := strings.Join(slices.Sorted(maps.Keys(s.labels)), ", ")
		if want := []string{s.kind, labels, s.help}; !slices.Equal(row[:3], want) {
			t.Errorf("%s in the manual: %q, want %q", name, row[:3], want)
		}
	}
	for name := range series {
		if strings.HasPrefix(name, "wxproxy_") && rows[name] == nil {
			t.Errorf("%s is in the scrape, and not in the manual", name)
		}
	}
	// What the code can export has a row, whether the scrape above has it or not.
	files, err := filepath.Glob("../../admin/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, name := range regexp.MustCompile(`"(wxproxy_[a-z_]+)"`).FindAllStringSubmatch(readFile(t, file), -1) {
			if rows[name[1]] == nil {
				t.Errorf("%s exports %s, which is not in the manual", file, name[1])
			}
		}
	}
	for name, row := range metricRows(t, "../../docs/metrics.zh-CN.md") {
		if en := rows[name]; en == nil || !slices.Equal(en[:2], row[:2]) || !han.MatchString(row[2]) {
			t.Errorf("%s: the Chinese manual has %q, the English one %q", name, row, en)
		}
	}
	if zh := metricRows(t, "../../docs/metrics.zh-CN.md"); len(zh) != len(rows) {
		t.Errorf("%d metrics in the Chinese manual, %d in the English one", len(zh), len(rows))
	}
}

// counterOf is a counter as the source declares it: those of loops and alerts take minutes to have a series. It is nil for
// any other name.
func counterOf(t *testing.T, name string) *metricSeries {
	t.Helper()
	m := regexp.MustCompile(`newCounters\("` + name + `", "([^"]+)", (.*)\),\n`).FindStringSubmatch(readFile(t, "../../admin/metrics.go"))
	if m == nil {
		return nil
	}
	s := &metricSeries{kind: "counter", help: m[1], labels: make(map[string]bool)}
	for _, label := range regexp.MustCompile(`"([a-z]+)"`).FindAllStringSubmatch(m[2], -1) {
		s.labels[label[1]] = true
	}
	return s
}

// metricRows are the cells of a manual's table by the name of the metric: type, labels, meaning, when to look at it.
func metricRows(t *testing.T, path string) map[string][]string {
	t.Helper()
	rows := make(map[string][]string)
	for line := range strings.Lines(readFile(t, path)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 5 || !strings.Contains(cells[0], "`wxproxy_") {
			continue
		}
		for i := range cells {
			cells[i] = strings.ReplaceAll(strings.TrimSpace(cells[i]), "`", "")
		}
		rows[cells[0]] = cells[1:]
	}
	return rows
}

// Names and labels that expressions may have beside those of a scrape: what Prometheus adds, and what the dashboard fills in.
var (
	askedName  = regexp.MustCompile(`\b(wxproxy_[a-z_]+)\b(?:\{([^}]*)\})?`)
	grouping   = regexp.MustCompile(`\b(?:by|on) \(([^)]*)\)`)
	addedNames = []string{"instance", "job", "le"}
)

// checkExpression reports names and labels that no scrape has.
func checkExpression(t *testing.T, series map[string]*metricSeries, where, expr string) {
	t.Helper()
	known := make(map[string]bool)
	for _, label := range addedNames {
		known[label] = true
	}
	for _, asked := range askedName.FindAllStringSubmatch(expr, -1) {
		s := series[asked[1]]
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			if name, ok := strings.CutSuffix(asked[1], suffix); ok && s == nil && series[name] != nil && series[name].kind == "histogram" {
				s = series[name]
			}
		}
		if s == nil {
			t.Errorf("%s asks for %s, which no scrape has", where, asked[1])
			continue
		}
		maps.Copy(known, s.labels)
		for _, label := range regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`).FindAllStringSubmatch(asked[2], -1) {
			if !s.labels[label[1]] && !slices.Contains(addedNames, label[1]) {
				t.Errorf("%s asks for the label %s of %s, which has %v", where, label[1], asked[1], slices.Sorted(maps.Keys(s.labels)))
			}
		}
	}
	for _, group := range grouping.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(group[1], ",") {
			if label = strings.TrimSpace(label); label != "" && !known[label] {
				t.Errorf("%s groups by %s, which none of its metrics has", where, label)
			}
		}
	}
}

func checkAlerts(t *testing.T, series map[string]*metricSeries) {
	t.Helper()
	var names []string
	text := readFile(t, "../../deploy/prometheus/alerts.yml")
	tests := readFile(t, "../../deploy/prometheus/alerts_test.yml")
	for _, alert := range regexp.MustCompile(`(?s)- alert: (\w+)\n\s+expr: ([^\n]+)\n.*?labels: \{severity: (\w+)\}.*?runbook_url: (\S+)`).FindAllStringSubmatch(text, -1) {
		name, expr, severity, url := alert[1], alert[2], alert[3], alert[4]
		names = append(names, name)
		checkExpression(t, series, name, expr)
		if !slices.Contains([]string{"critical", "warning"}, severity) || !strings.HasSuffix(url, "#"+strings.ToLower(name)) {
			t.Errorf("%s: severity %s, runbook %s", name, severity, url)
		}
		for _, manual := range []string{"../../docs/runbook.md", "../../docs/runbook.zh-CN.md"} {
			if !strings.Contains(readFile(t, manual), "\n## "+name+"\n") {
				t.Errorf("%s has no section %s", manual, name)
			}
		}
		for _, kind := range []string{" fires\n", " does not\n"} {
			if !strings.Contains(tests, "name: "+name+kind) {
				t.Errorf("alerts_test.yml lacks %s%s", name, strings.TrimSuffix(kind, "\n"))
			}
		}
	}
	if len(names) != strings.Count(text, "- alert:") || len(names) < 15 {
		t.Errorf("alerts %v: want all of the file", names)
	}
}

func checkDashboard(t *testing.T, tool string, series map[string]*metricSeries) {
	t.Helper()
	var d struct {
		Templating struct {
			List []struct{ Name, Type, Definition string }
		}
		Panels []struct {
			Title, Description string
			FieldConfig        struct{ Defaults struct{ Unit string } }
			Links              []struct{ URL string }
			Datasource         struct{ UID string }
			Targets            []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(readFile(t, "../../deploy/grafana/wxproxy.json")), &d); err != nil {
		t.Fatal(err)
	}
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
		checkExpression(t, series, "variable "+v.Name, v.Definition)
	}
	if !slices.Equal(variables, []string{"datasource", "app", "rule"}) {
		t.Errorf("variables %v", variables)
	}
	rules := "groups:\n  - name: dashboard\n    rules:\n"
	asked := 0
	for _, p := range d.Panels {
		if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Links) == 0 || !strings.Contains(p.Links[0].URL, "runbook") || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("panel %s: %+v: want a description, a unit, a link to the runbook and the data source of the variable", p.Title, p)
		}
		for _, target := range p.Targets {
			asked++
			checkExpression(t, series, p.Title, target.Expr)
			expr := strings.NewReplacer("$__rate_interval", "5m", "$app", ".*", "$rule", ".*").Replace(target.Expr)
			rules += fmt.Sprintf("      - record: panel:%d\n        expr: %q\n", asked, expr)
		}
	}
	path := filepath.Join(t.TempDir(), "rules.yml")
	writeFile(t, path, rules)
	if out, err := exec.CommandContext(t.Context(), tool, "check", "rules", "--lint=none", path).CombinedOutput(); err != nil || asked < 20 {
		t.Errorf("%d expressions: promtool check rules: %v\n%s", asked, err, out)
	}
}

// doSecure makes a call over TLS by WeChat's name, and returns the status.
func doSecure(t *testing.T, method, url string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(`{"appid":"`+appA+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "api.weixin.qq.com"
	response, err := insecure.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}
