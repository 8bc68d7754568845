package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wxproxy/limits"
)

// manyAccounts is a limiter of many accounts with the same rules, of which the first are used.
type manyAccounts struct {
	rules      []*limits.Rule
	set        *limits.Ruleset
	used       int
	unread     int  // accounts at the end that a read does not come to
	asked      int  // reads
	usedOnly   bool // of the last read
	fetched    int  // accounts of it
	readings   int  // reads of readings
	unreadings int  // accounts at the end that a read of readings does not come to
}

func newManyAccounts(rules, used int) *manyAccounts {
	m := &manyAccounts{used: used}
	for i := range rules {
		name := fmt.Sprintf("rule.number%d", i)
		m.rules = append(m.rules, &limits.Rule{Name: name, Paths: []string{"/cgi-bin/" + name}, Budget: limited("1000/day")})
	}
	table := limits.Table{Zone: time.UTC, Profiles: map[string]*limits.Profile{"p": {Name: "p", Rules: m.rules}}}
	var err error
	if m.set, err = table.Rules("p", nil); err != nil {
		panic(err)
	}
	return m
}

func (m *manyAccounts) Rules(string) *limits.Ruleset                        { return m.set }
func (*manyAccounts) Usage(context.Context, string) ([]limits.Usage, error) { panic("one by one") }
func (*manyAccounts) FailsOpen() bool                                       { return true }

func (m *manyAccounts) Store() limits.StoreState { return limits.StoreState{Answers: true} }

func (m *manyAccounts) UsageAll(_ context.Context, appids []string, usedOnly bool) ([][]limits.Usage, error) {
	m.asked++
	m.fetched, m.usedOnly = len(appids), usedOnly
	var lines []limits.Usage
	for i, rule := range m.rules {
		u := limits.Usage{Rule: rule, Counter: rule.Name, Limit: 1000, Remaining: 1000, Reset: midnight}
		if i < m.used {
			u.Used, u.Remaining = 7, 993
		} else if usedOnly {
			continue
		}
		lines = append(lines, u)
	}
	all := slices.Repeat([][]limits.Usage{lines}, len(appids))
	if m.unread > 0 {
		clear(all[len(all)-m.unread:])
		return all, context.DeadlineExceeded
	}
	return all, nil
}

func (m *manyAccounts) readingsOf(_ context.Context, appids []string, lines [][]limits.Usage) ([]map[string]Reading, error) {
	m.readings++
	if len(lines) != len(appids) {
		return nil, fmt.Errorf("%d lines for %d apps", len(lines), len(appids))
	}
	all := slices.Repeat([]map[string]Reading{{m.rules[0].Name: {Used: 9, Drift: 2}}}, len(appids))
	if m.unreadings > 0 {
		clear(all[len(all)-m.unreadings:])
		return all, errors.New("the store did not answer in time")
	}
	return all, nil
}

// admin returns the handler of that many configured accounts and a learned one.
func (m *manyAccounts) admin(accounts int) *Admin {
	apps := make([]App, accounts, accounts+1)
	for i := range apps {
		apps[i] = App{Name: fmt.Sprintf("shop-%04d", i), AppID: fmt.Sprintf("wx%016d", i)}
	}
	apps = append(apps, App{Name: "wx9", AppID: "wx9", Learned: true})
	return New(Options{
		Token: "correct", Apps: func() []App { return slices.Clone(apps) }, Limiter: m, Metrics: NewMetrics(Build{Version: "test"}), Stop: func() bool { return false },
		Readings: m.readingsOf, ReadLive: func(context.Context, string) error { panic("a scrape asks WeChat") },
	})
}

// get returns the answer to a request from this machine with the token.
func get(a *Admin, target string) *httptest.ResponseRecorder {
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, target, nil)
	r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
	r.Header.Set("Authorization", "Bearer correct")
	a.ServeHTTP(w, r)
	return w
}

// All accounts are read at once, however many there are. Of very many only the rules that are used
// are exported, and what could not be read is said.
func TestScrapeOfManyAccounts(t *testing.T) {
	const rules, used = 10, 2
	tests := []struct {
		name                         string
		accounts, unread, unreadings int
		usedOnly                     bool
		limits, readings             int // series
		complete                     string
	}{
		{"a thousand", 1000, 0, 0, false, 1000 * rules, 1000, "1"},
		{"more than a thousand", 3000, 0, 0, true, 3000 * used, 3000, "1"},
		{"time was up", 3000, 1857, 0, true, 1143 * used, 3000, "0"},
		{"readings not read to the end", 3000, 0, 1, true, 3000 * used, 2999, "0"},
		{"the store is away", 2, 2, 2, false, 0, 0, "0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newManyAccounts(rules, used)
			m.unread, m.unreadings = tt.unread, tt.unreadings
			w := get(m.admin(tt.accounts), "/metrics")
			body := w.Body.String()
			if w.Code != http.StatusOK || m.asked != 1 || m.readings != 1 || m.fetched != tt.accounts || m.usedOnly != tt.usedOnly {
				t.Errorf("status %d; %d reads of the counters of %d apps, used only: %t; %d reads of readings", w.Code, m.asked, m.fetched, m.usedOnly, m.readings)
			}
			for name, want := range map[string]int{"limit": tt.limits, "used": tt.limits, "remaining": tt.limits, "wechat_used": tt.readings, "drift": tt.readings} {
				if got := strings.Count(body, "\nwxproxy_quota_"+name+"{"); got != want {
					t.Errorf("%d series of %s, want %d", got, name, want)
				}
			}
			if want := "\nwxproxy_quota_scrape_complete " + tt.complete + "\n"; !strings.Contains(body, want) {
				t.Errorf("metrics lack %q", want)
			}
		})
	}
}

func TestUsageOfManyAccounts(t *testing.T) {
	m := newManyAccounts(3, 1)
	m.unread, m.unreadings = 1000, 2000
	body := get(m.admin(3000), "/api/v1/usage").Body.String()
	if m.asked != 1 || m.fetched != 3001 || m.usedOnly || m.readings != 1 {
		t.Errorf("%d reads of the counters of %d apps, used only: %t; %d reads of readings", m.asked, m.fetched, m.usedOnly, m.readings)
	}
	for text, want := range map[string]int{
		`"app":"`: 3001, `"rule":"`: 2001 * 3, `"error":"the store does not answer"`: 1000,
		`"wechat_used":9`: 1001, `"reading_error":"the store did not answer in time"`: 1000,
	} {
		if got := strings.Count(body, text); got != want {
			t.Errorf("%d of %s, want %d", got, text, want)
		}
	}
}

// wxproxy_store_up is whether there is an answer, wxproxy_store_counting whether it is a good one.
func TestMetricsOfTheStore(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, "1 1"},
		{fmt.Errorf("counters: %w", &limits.StoreError{Text: "READONLY You can't write against a read only replica."}), "1 0"},
		{errors.New("i/o timeout"), "0 0"},
	} {
		s := newStand(t)
		s.limiter.store = tt.err
		_, body := s.do(t, "GET", "/metrics")
		up, counting, _ := strings.Cut(tt.want, " ")
		if !strings.Contains(body, "\nwxproxy_store_up "+up+"\n") || !strings.Contains(body, "\nwxproxy_store_counting "+counting+"\n") {
			t.Errorf("%v: want wxproxy_store_up %s and wxproxy_store_counting %s", tt.err, up, counting)
		}
	}
}

// Calls count while others begin new series and a scrape reads them. No count is lost.
func TestCallsAtOnce(t *testing.T) {
	m := newManyAccounts(1, 1)
	a := m.admin(1)
	metrics := a.o.Metrics
	const workers, calls = 8, 500
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range calls {
				metrics.Call(Call{App: fmt.Sprint("app", i%50), Rule: "r", Decision: "pass", Outcome: "ok", Sent: 2, Errcode: 40001})
				metrics.Call(Call{App: "all", Rule: "r", Decision: "refused-quota", Outcome: "ok"})
			}
		})
	}
	for range 20 {
		get(a, "/metrics")
	}
	wg.Wait()
	body := get(a, "/metrics").Body.String()
	for i := range 50 {
		for _, want := range []string{
			fmt.Sprintf(`wxproxy_requests_total{app="app%d",caller="",decision="pass",reason="",rule="r"} %d`, i, workers*calls/50),
			fmt.Sprintf(`wxproxy_upstream_requests_total{app="app%d",outcome="ok",rule="r"} %d`, i, 2*workers*calls/50),
			fmt.Sprintf(`wxproxy_upstream_errcode_total{app="app%d",errcode="40001"} %d`, i, workers*calls/50),
		} {
			if !strings.Contains(body, want+"\n") {
				t.Errorf("metrics lack %s", want)
			}
		}
	}
	for _, want := range []string{
		fmt.Sprintf(`wxproxy_requests_total{app="all",caller="",decision="refused-quota",reason="",rule="r"} %d`, workers*calls),
		fmt.Sprintf(`wxproxy_request_duration_seconds_count{decision="pass"} %d`, workers*calls),
		fmt.Sprintf(`wxproxy_upstream_duration_seconds_count{rule="r"} %d`, workers*calls),
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(body, `outcome=""`) {
		t.Error("a call that was not sent counts as one to WeChat")
	}
}

// A label that is not UTF-8 must not cost the whole scrape.
func TestScrapeOfOddNames(t *testing.T) {
	m := newManyAccounts(1, 1)
	m.rules[0].Name = "a\xffb"
	a := m.admin(1)
	a.o.Metrics.Call(Call{App: "\xc3(", Rule: "\"\n\\", Decision: "pass"})
	w := get(a, "/metrics")
	for _, want := range []string{`wxproxy_quota_used{app="shop-0000",period="day",rule="a�b"} 7`, `{app="�(",caller="",decision="pass",reason="",rule="\"\n\\"} 1`} {
		if !strings.Contains(w.Body.String(), want+"\n") {
			t.Errorf("status %d, and the metrics lack %s", w.Code, want)
		}
	}
}

// callEach calls each of 20 rules of that many apps once.
func callEach(m *Metrics, apps int) {
	names, rules := make([]string, apps), make([]string, 20)
	for i := range names {
		names[i] = fmt.Sprintf("shop-%05d", i)
	}
	for i := range rules {
		rules[i] = fmt.Sprintf("rule.number%d", i)
	}
	for _, app := range names {
		for _, rule := range rules {
			m.Call(Call{App: app, Rule: rule, Decision: "pass", Outcome: "ok", Sent: 1, Duration: time.Millisecond, Upstream: time.Millisecond})
		}
	}
}

// The series of a rule of an app are many: what is kept for them is bounded.
func TestMemoryOfSeries(t *testing.T) {
	const apps, most = 2000, 200 // bytes for the two series of a rule that is called
	m := NewMetrics(Build{Version: "test"})
	heap := func() uint64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := heap()
	callEach(m, apps)
	if each := (int64(heap()) - int64(before)) / (20 * apps); each > most {
		t.Errorf("%d bytes for the series of a rule of an app, want %d at most", each, most)
	}
	runtime.KeepAlive(m)
}

func BenchmarkCall(b *testing.B) {
	for _, used := range []int64{1, 900} {
		b.Run(fmt.Sprintf("used=%d", used), func(b *testing.B) { benchmarkCall(b, used) })
	}
}

func benchmarkCall(b *testing.B, used int64) {
	b.Helper()
	m := NewMetrics(Build{Version: "test"})
	c := Call{Quota: 1000, Used: used, App: "shop", Rule: "menu.create", Decision: "pass", Outcome: "ok", Sent: 1, Duration: time.Millisecond, Upstream: time.Millisecond}
	b.ReportAllocs()
	for b.Loop() {
		m.Call(c)
	}
}

func BenchmarkStore(b *testing.B) {
	m := NewMetrics(Build{Version: "test"})
	b.ReportAllocs()
	for b.Loop() {
		m.Store("count", "ok", time.Millisecond)
	}
}

// BenchmarkScrape is a scrape of 3000 accounts that use some of 100 rules.
func BenchmarkScrape(b *testing.B) {
	for _, used := range []int{0, 20, 100} {
		b.Run(fmt.Sprintf("used=%d", used), func(b *testing.B) {
			a := newManyAccounts(100, used).admin(3000)
			r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
			r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
			b.ReportAllocs()
			for b.Loop() {
				a.ServeHTTP(discard{}, r)
			}
		})
	}
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}
