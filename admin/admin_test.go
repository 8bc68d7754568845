package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wxproxy/limits"
)

// fakeLimiter is a table of three rules, the first of which is used up.
type fakeLimiter struct {
	rules   *limits.Ruleset
	err     error // of Usage
	store   error // of the last request
	refuses bool  // every rule, while there is one
}

func newFakeLimiter(t *testing.T) *fakeLimiter {
	t.Helper()
	quota := limits.Budget{Kind: limits.Limited, Quotas: []limits.Quota{{Limit: 2, Period: limits.Day}}}
	table := limits.Table{Zone: time.UTC, Profiles: map[string]*limits.Profile{"p": {Name: "p", Rules: []*limits.Rule{
		{Name: "menu.create", Title: "自定义菜单创建", Category: "自定义菜单", Source: "seeds", Paths: []string{"/cgi-bin/menu/create"}, Budget: quota},
		{Name: "card", Title: "微信卡包", Paths: []string{"/card/create"}, Budget: limits.Budget{Kind: limits.Denied}},
		{Name: "other", Title: "其他接口", Paths: []string{"/cgi-bin/*"}},
	}}}}
	rules, err := table.Rules("p", nil)
	if err != nil {
		t.Fatal(err)
	}
	return &fakeLimiter{rules: rules}
}

func (f *fakeLimiter) Rules(appid string) *limits.Ruleset {
	if appid != "wx1" {
		return nil
	}
	return f.rules
}

func (f *fakeLimiter) Usage(context.Context, string) ([]limits.Usage, error) {
	reset := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	return []limits.Usage{
		{Rule: f.rules.Rules[0], Counter: "menu.create", Limit: 2, Used: 2, Reset: reset},
		{Rule: f.rules.Rules[1], Counter: "card", Reset: reset},
		{Rule: f.rules.Rules[2], Counter: "other:/cgi-bin/a", Used: 3, Reset: reset},
		{Rule: f.rules.Rules[2], Counter: "other:/cgi-bin/b", Used: 4, Reset: reset},
	}, f.err
}

func (f *fakeLimiter) UsageAll(ctx context.Context, appids []string, usedOnly bool) ([][]limits.Usage, error) {
	return usageAll(ctx, f, appids, usedOnly)
}

// usageAll makes UsageAll out of a fake's Usage.
func usageAll(ctx context.Context, l Limiter, appids []string, usedOnly bool) ([][]limits.Usage, error) {
	all := make([][]limits.Usage, len(appids))
	for i, appid := range appids {
		lines, err := l.Usage(ctx, appid)
		if err != nil {
			return all, err
		}
		if l.Rules(appid) == nil {
			continue
		}
		all[i] = []limits.Usage{}
		for _, u := range lines {
			if !usedOnly || u.Used > 0 || u.Latched {
				all[i] = append(all[i], u)
			}
		}
	}
	return all, nil
}

func (f *fakeLimiter) Store() limits.StoreState { return storeState(f.store) }

func storeState(err error) limits.StoreState {
	_, answered := errors.AsType[*limits.StoreError](err)
	return limits.StoreState{Answers: err == nil || answered, Err: err}
}

func (f *fakeLimiter) FailsOpen() bool { return !f.refuses }

type stand struct {
	asked    Question // the last one
	fate     Fate     // what becomes of the call that it is about; the zero value: it passes
	explain  error
	metrics  *Metrics
	limiter  *fakeLimiter
	reload   error
	stopping bool
	server   *httptest.Server
}

// newStand serves an Admin, with further options.
func newStand(t *testing.T, more ...func(*Options)) *stand {
	t.Helper()
	s := &stand{limiter: newFakeLimiter(t)}
	metrics := NewMetrics(Build{Version: "test"})
	s.metrics = metrics
	apps := func() []App { return []App{{Name: "shop", AppID: "wx1"}} }
	metrics.Call(Call{App: "shop", Rule: "menu.create", Decision: "pass", Outcome: "errcode", Errcode: 40007, Sent: 2, Duration: time.Millisecond})
	metrics.Call(Call{App: "shop", Rule: "menu.create", Decision: "refused-quota", Reason: "quota-used-up", Errcode: 45009})
	o := Options{
		Token: "correct", Apps: apps, Limiter: s.limiter, Metrics: metrics,
		Stop:     func() bool { return s.stopping },
		Reload:   func(context.Context) error { return s.reload },
		Reloaded: func() (time.Time, error) { return time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC), s.reload },
		Explain: func(_ context.Context, q Question) (Fate, error) {
			s.asked = q
			if s.fate.Decision == "" {
				return Fate{Path: q.Target, Match: s.limiter.rules.Match(q.Target), Decision: "pass"}, s.explain
			}
			return s.fate, s.explain
		},
	}
	for _, set := range more {
		set(&o)
	}
	s.server = httptest.NewServer(New(o))
	t.Cleanup(s.server.Close)
	return s
}

func (s *stand) do(t *testing.T, method, target string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.server.URL+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := s.server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestWhoMayAsk(t *testing.T) {
	s := newStand(t)
	token := []string{"Authorization", "Bearer correct"}
	tests := []struct {
		name, method, target string
		header               []string
		want                 int
	}{
		{"healthy", "GET", "/-/healthy", nil, 200},
		{"ready", "GET", "/-/ready", nil, 200},
		{"metrics from this machine", "GET", "/metrics", nil, 200},
		{"usage without a token", "GET", "/api/v1/usage", nil, 401},
		{"usage with a wrong token", "GET", "/api/v1/usage", []string{"Authorization", "Bearer wrong"}, 401},
		{"usage with an empty token", "GET", "/api/v1/usage", []string{"Authorization", "Bearer "}, 401},
		{"usage with another scheme", "GET", "/api/v1/usage", []string{"Authorization", "correct"}, 401},
		{"usage", "GET", "/api/v1/usage", token, 200},
		{"usage of an unknown app", "GET", "/api/v1/usage?app=wx2", token, 404},
		{"explain without a token", "GET", "/api/v1/explain?app=shop&path=/cgi-bin/a", nil, 401},
		{"reload without a token", "POST", "/-/reload", nil, 401},
		{"how the last reload ended, without a token", "GET", "/-/reload", nil, 401},
		{"how the last reload ended", "GET", "/-/reload", token, 200},
		{"reload by PUT", "PUT", "/-/reload", token, 405},
		{"reload", "POST", "/-/reload", token, 200},
		{"elsewhere", "GET", "/elsewhere", token, 404},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, body := s.do(t, tt.method, tt.target, tt.header...); got != tt.want {
				t.Errorf("%s %s = %d %s, want %d", tt.method, tt.target, got, body, tt.want)
			}
		})
	}
}

func TestNoTokenMeansNobodyMayAsk(t *testing.T) {
	a := New(Options{Metrics: NewMetrics(Build{Version: "test"}), Hosts: []string{"example.com"}}) // as httptest.NewRequest asks for
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/api/v1/usage", nil)
	r.Header.Set("Authorization", "Bearer ")
	a.ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("with no token configured: %d, want 401", w.Code)
	}
	w, r = httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil) // from 192.0.2.1
	a.ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("metrics from another machine without a token: %d, want 401", w.Code)
	}
}

func TestReady(t *testing.T) {
	s := newStand(t)
	away := errors.New("dial tcp 10.0.0.7:6379: connection refused")
	refuses := fmt.Errorf("counters of wx1: %w", &limits.StoreError{Text: "NOPERM this user has no permissions"})
	for _, tt := range []struct {
		store             error
		refuses, stopping bool
		status            int
		body              string
	}{
		{nil, false, false, 200, `{"status":"ready","store":"ok"}`},
		{nil, true, false, 200, `{"status":"ready","store":"ok"}`},
		{away, false, false, 200, `{"status":"ready","store":"unreachable"}`},
		{away, true, false, 503, `{"status":"refusing","store":"unreachable"}`},
		{refuses, false, false, 200, `{"status":"ready","store":"refuses: NOPERM this user has no permissions"}`},
		{refuses, true, false, 503, `{"status":"refusing","store":"refuses: NOPERM this user has no permissions"}`},
		{nil, false, true, 503, `{"status":"stopping","store":"ok"}`},
	} {
		s.limiter.store, s.limiter.refuses, s.stopping = tt.store, tt.refuses, tt.stopping
		if status, body := s.do(t, "GET", "/-/ready"); status != tt.status || strings.TrimSpace(body) != tt.body {
			t.Errorf("ready = %d %s, want %d %s", status, body, tt.status, tt.body)
		}
	}
}

func TestReloadTellsWhatIsWrong(t *testing.T) {
	s := newStand(t)
	s.reload = errors.New("wxproxy.yaml:3:1: lisen: unknown key")
	if status, body := s.do(t, "POST", "/-/reload", "Authorization", "Bearer correct"); status != 422 || !strings.Contains(body, "wxproxy.yaml:3:1") {
		t.Errorf("reload = %d %s, want 422 with the fault", status, body)
	}
	for _, tt := range []struct {
		fault error
		want  string
	}{
		{s.reload, `{"status":"fault","time":"2026-11-24T00:00:00Z","error":"wxproxy.yaml:3:1: lisen: unknown key"}`},
		{nil, `{"status":"reloaded","time":"2026-11-24T00:00:00Z"}`},
	} {
		s.reload = tt.fault
		if status, body := s.do(t, "GET", "/-/reload", "Authorization", "Bearer correct"); status != 200 || strings.TrimSpace(body) != tt.want {
			t.Errorf("the last reload = %d %s, want 200 %s", status, body, tt.want)
		}
	}
}

func TestUsage(t *testing.T) {
	s := newStand(t)
	status, body := s.do(t, "GET", "/api/v1/usage?app=shop", "Authorization", "Bearer correct")
	var got Usage
	if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 {
		t.Fatalf("usage = %d %s: %v", status, body, err)
	}
	reset := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	want := []AppUsage{{App: "shop", AppID: "wx1", Profile: "p", Rows: []Row{
		{Category: "自定义菜单", Title: "自定义菜单创建", Rule: "menu.create", Period: "day", Quota: "2/day", Limit: 2, Used: 2, Reset: reset, State: "full"},
		{Title: "微信卡包", Rule: "card", Period: "day", Quota: "denied", Reset: reset, State: "denied"},
		{Title: "其他接口", Rule: "other", Path: "/cgi-bin/a", Period: "day", Quota: "unknown", Used: 3, Reset: reset, State: "open"},
		{Title: "其他接口", Rule: "other", Path: "/cgi-bin/b", Period: "day", Quota: "unknown", Used: 4, Reset: reset, State: "open"},
	}}}
	if diff := cmp.Diff(want, got.Apps); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
}

// An error of the store is told in words: what the store has answered, and no address of it.
func TestErrorsOfTheStore(t *testing.T) {
	s := newStand(t)
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errors.New("dial tcp 10.0.0.7:6379: connection refused"), `"error":"the store does not answer"`},
		{fmt.Errorf("10.0.0.7: %w", &limits.StoreError{Text: "OOM command not allowed"}), `"error":"the store answered: OOM command not allowed"`},
	} {
		s.limiter.err = tt.err
		for _, target := range []string{"/api/v1/usage", "/api/v1/usage?app=shop", "/api/v1/explain?app=shop&path=/cgi-bin/a"} {
			if _, body := s.do(t, "GET", target, "Authorization", "Bearer correct"); strings.Contains(body, "10.0.0.7") || !strings.Contains(body, tt.want) {
				t.Errorf("%s = %s, want %s and no internals", target, body, tt.want)
			}
		}
	}
}

// TestErrcodesAreCounted: WeChat's errcodes have up to nine digits, and an upstream that makes them up makes
// no more than so many series.
func TestErrcodesAreCounted(t *testing.T) {
	s := newStand(t)
	for _, code := range []int{-1, 268546011, -604102, 9001001} {
		s.metrics.Call(Call{App: "shop", Rule: "menu.create", Decision: "pass", Outcome: "errcode", Errcode: code, Sent: 1})
	}
	for code := range 3 * maxErrcodes {
		s.metrics.Call(Call{App: "shop", Rule: "menu.create", Decision: "pass", Outcome: "errcode", Errcode: 1_000_000 + code, Sent: 1})
		s.metrics.Token("shop", strconv.Itoa(5_000_000+code))
	}
	_, body := s.do(t, "GET", "/metrics")
	for _, want := range []string{"-1", "268546011", "-604102", "9001001", "other"} {
		if !strings.Contains(body, `wxproxy_upstream_errcode_total{app="shop",errcode="`+want+`"}`) {
			t.Errorf("metrics lack errcode %s", want)
		}
	}
	if n := strings.Count(body, "wxproxy_upstream_errcode_total{"); n > maxErrcodes+1 {
		t.Errorf("%d errcodes, want at most %d and other", n, maxErrcodes)
	}
	if n := strings.Count(body, "wxproxy_token_refresh_total{"); n > maxErrcodes+1 {
		t.Errorf("%d results of token fetches, want at most %d and other", n, maxErrcodes)
	}
}

func TestMetrics(t *testing.T) {
	s := newStand(t)
	_, body := s.do(t, "GET", "/metrics")
	for _, want := range []string{
		`wxproxy_requests_total{app="shop",caller="",decision="pass",reason="",rule="menu.create"} 1`,
		`wxproxy_requests_total{app="shop",caller="",decision="refused-quota",reason="quota-used-up",rule="menu.create"} 1`,
		`wxproxy_upstream_requests_total{app="shop",outcome="errcode",rule="menu.create"} 2`,
		`wxproxy_upstream_errcode_total{app="shop",errcode="40007"} 1`,
		`wxproxy_quota_limit{app="shop",period="day",rule="menu.create"} 2`,
		`wxproxy_quota_remaining{app="shop",period="day",rule="menu.create"} 0`,
		`wxproxy_quota_used{app="shop",period="day",rule="other"} 7`,
		`wxproxy_quota_reset_timestamp_seconds{app="shop",period="day"} 1.7954784e+09`,
		`wxproxy_quota_scrape_complete 1`,
		`wxproxy_store_counting 1`,
		`wxproxy_store_up 1`,
		`wxproxy_build_info{goversion="` + runtime.Version() + `",revision="",version="test"} 1`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(body, `errcode="45009"`) || strings.Contains(body, "/cgi-bin/") {
		t.Error("metrics count our own 45009 as WeChat's, or have a path as a label")
	}
}
