package admin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wxproxy/history"
)

// fakeHistory answers what it is told, and keeps the last query.
type fakeHistory struct {
	zone  *time.Location
	asked history.Query
	lines []history.Line
	err   error
}

func (f *fakeHistory) History(_ context.Context, q history.Query) ([]history.Line, error) {
	f.asked = q
	return f.lines, f.err
}

func (f *fakeHistory) Refusals(_ context.Context, q history.Query) ([]history.Refusal, error) {
	f.asked = q
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, f.zone)
	return []history.Refusal{{App: "wx1", Rule: "menu.create", Caller: "crm", Reason: "quota-used-up", First: at, Last: at.Add(time.Hour), Count: 3}}, f.err
}

func (f *fakeHistory) Callers(context.Context, []string) (map[string]map[string]map[string]int64, error) {
	return map[string]map[string]map[string]int64{"wx1": {"menu.create": {"crm": 1, "oncall": 4}}}, f.err
}

func (f *fakeHistory) Rates(_ context.Context, appids []string) ([]*history.Rates, error) {
	return make([]*history.Rates, len(appids)), f.err
}

func (f *fakeHistory) Zone() *time.Location { return f.zone }

func (f *fakeHistory) HoursSince() time.Time {
	return startOfDay(time.Now().In(f.zone), -history.HoursKept)
}

func (f *fakeHistory) DaysSince() time.Time {
	return startOfDay(time.Now().In(f.zone), -history.DaysKept)
}

func TestHistoryRequests(t *testing.T) {
	f := &fakeHistory{zone: time.FixedZone("CST", 8*3600)}
	s := newStand(t, func(o *Options) { o.History = f })
	today := startOfDay(time.Now().In(f.zone), 0)
	for _, tt := range []struct {
		query string
		want  history.Query // From and To, if they are exact
		err   string
	}{
		{"", history.Query{Apps: []string{"wx1", "-"}, From: today, Step: history.Total, Rule: true, Caller: true, Outcome: true}, ""},
		{"?app=shop&from=7d&to=yesterday&step=day&by=caller", history.Query{Apps: []string{"wx1"}, From: startOfDay(today, -7), To: today, Step: history.ByDay, Caller: true}, ""},
		{"?app=-&from=2026-11-23&to=2026-11-24&by=none", history.Query{Apps: []string{"-"}, From: time.Date(2026, 11, 23, 0, 0, 0, 0, f.zone), To: time.Date(2026, 11, 25, 0, 0, 0, 0, f.zone), Step: history.Total}, ""},
		{"?from=2026-11-23T15:04&to=2026-11-23T16:00:00Z&by=rule,outcome", history.Query{Apps: []string{"wx1", "-"}, From: time.Date(2026, 11, 23, 15, 4, 0, 0, f.zone), To: time.Date(2026, 11, 24, 0, 0, 0, 0, f.zone), Step: history.Total, Rule: true, Outcome: true}, ""},
		{"?from=1999-01-01", history.Query{Apps: []string{"wx1", "-"}, From: f.DaysSince(), Step: history.Total, Rule: true, Caller: true, Outcome: true}, ""},
		{"?from=3x", history.Query{}, "from 3x: want a time as"},
		{"?to=x", history.Query{}, "to x: want a time as"},
		{"?from=-5d", history.Query{}, "from -5d: want a time as"},
		{"?from=today&to=yesterday", history.Query{}, "want from before to"},
		{"?from=9d&step=hour", history.Query{}, "for hours are kept 8 days"},
		{"?step=week", history.Query{}, "step week: not known"},
		{"?by=rule,color", history.Query{}, "by rule,color: want some of rule, caller and outcome"},
		{"?format=xml", history.Query{}, "format xml: not known"},
		{"?app=shpo", history.Query{}, "app shpo: not configured"},
	} {
		f.asked = history.Query{}
		answer := s.get(t, "/api/v1/history"+tt.query)
		if tt.err != "" {
			if answer.status != http.StatusBadRequest && answer.status != http.StatusNotFound || !strings.Contains(answer.body, tt.err) {
				t.Errorf("%s: %d %s, want %q", tt.query, answer.status, answer.body, tt.err)
			}
			continue
		}
		if answer.status != http.StatusOK {
			t.Errorf("%s: %d %s", tt.query, answer.status, answer.body)
		}
		got := f.asked
		if tt.want.To.IsZero() {
			if age := time.Since(got.To); age < 0 || age > time.Minute {
				t.Errorf("%s: to %s, want now", tt.query, got.To)
			}
			got.To = time.Time{}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.query, diff)
		}
	}
}

func TestHistoryAsCSV(t *testing.T) {
	f := &fakeHistory{zone: time.FixedZone("CST", 8*3600), lines: []history.Line{{
		App: "wx1", Start: time.Date(2026, 11, 23, 0, 0, 0, 0, time.FixedZone("CST", 8*3600)),
		Series: history.Series{Rule: "menu.create", Caller: "客服, 一组", Outcome: history.Outcome{Kind: history.Passed}}, Calls: 12, Sent: 12,
	}}}
	s := newStand(t, func(o *Options) { o.History = f })
	answer := s.get(t, "/api/v1/history?format=csv")
	if want := "\ufeffstart,app,appid,rule,caller,outcome,calls,sent,refused,shadow\r\n2026-11-23T00:00:00+08:00,shop,wx1,menu.create,\"客服, 一组\",passed,12,12,0,0\r\n"; answer.body != want || answer.contentType != "text/csv; charset=utf-8" {
		t.Errorf("%s %q, want %q", answer.contentType, answer.body, want)
	}
	answer = s.get(t, "/api/v1/refusals?format=csv")
	if want := "\ufeffapp,appid,rule,caller,reason,first,last,count\r\nshop,wx1,menu.create,crm,quota-used-up,2026-11-23T09:00:00+08:00,2026-11-23T10:00:00+08:00,3\r\n"; answer.body != want {
		t.Errorf("%q, want %q", answer.body, want)
	}
}

func TestHistoryWithoutTheStore(t *testing.T) {
	f := &fakeHistory{zone: time.UTC, err: context.DeadlineExceeded}
	s := newStand(t, func(o *Options) { o.History = f })
	for _, path := range []string{"/api/v1/history", "/api/v1/refusals"} {
		if answer := s.get(t, path); answer.status != http.StatusServiceUnavailable || !strings.Contains(answer.body, "the store does not answer") {
			t.Errorf("%s: %d %s", path, answer.status, answer.body)
		}
	}
	if answer := s.get(t, "/api/v1/usage?app=shop"); answer.status != http.StatusOK || !strings.Contains(answer.body, `"forecast":null`) {
		t.Errorf("usage: %d %s, want it without forecasts", answer.status, answer.body)
	}
	f.err = history.ErrTooMany
	if answer := s.get(t, "/api/v1/history"); answer.status != http.StatusBadRequest || !strings.Contains(answer.body, "more than 200000 rows") {
		t.Errorf("%d %s", answer.status, answer.body)
	}
	if answer := newStand(t).get(t, "/api/v1/history"); answer.status != http.StatusNotImplemented {
		t.Errorf("without a history: %d, want 501", answer.status)
	}
}

func TestUsageWithCallers(t *testing.T) {
	f := &fakeHistory{zone: time.UTC}
	s := newStand(t, func(o *Options) { o.History = f })
	const want = `"callers":[{"caller":"oncall","sent":4},{"caller":"crm","sent":1}]`
	for path, is := range map[string]bool{"/api/v1/usage": false, "/api/v1/usage?callers=1": true, "/api/v1/usage?app=shop": true} {
		if answer := s.get(t, path); strings.Count(answer.body, want) != map[bool]int{true: 1}[is] || strings.Contains(answer.body, `"callers":[]`) {
			t.Errorf("%s: %s, want callers %v", path, answer.body, is)
		}
	}
}

type told struct {
	status      int
	contentType string
	body        string
}

// get asks with the token.
func (s *stand) get(t *testing.T, path string) told {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, s.server.URL+path, nil)
	r.Header.Set("Authorization", "Bearer correct")
	w := httptest.NewRecorder()
	s.server.Config.Handler.ServeHTTP(w, r)
	return told{w.Code, w.Header().Get("Content-Type"), w.Body.String()}
}
