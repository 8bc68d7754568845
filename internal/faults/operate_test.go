package faults

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"wxproxy/admin"
)

const (
	clearPath    = "/cgi-bin/clear_quota"         // POST: the whole app
	clearOnePath = "/cgi-bin/openapi/quota/clear" // POST: one path
)

// slack is what a busy machine may add to a time that is promised.
const slack = 2 * time.Second

// within polls until something is so, and returns how long that took. It fails the test after limit
// and the slack, and returns false.
func within(t *testing.T, limit time.Duration, what string, is func() bool) bool {
	t.Helper()
	begun := time.Now()
	for !is() {
		if took := time.Since(begun); took > limit+slack {
			t.Errorf("%s: not after %s, want within %s", what, took.Round(time.Millisecond), limit)
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("%s: after %s", what, time.Since(begun).Round(time.Millisecond))
	return true
}

// admin asks the admin listener for JSON and reads it into answer.
func (f *fleet) admin(t *testing.T, p *process, method, path string, answer any) {
	t.Helper()
	status, text := f.ask(t, p, method, path)
	if status != http.StatusOK {
		t.Fatalf("%s %s is answered %d %s", method, path, status, text)
	}
	if err := json.Unmarshal([]byte(text), answer); err != nil {
		t.Fatalf("%s %s is answered %q: %v", method, path, text, err)
	}
}

// rows returns the lines of an account in /api/v1/usage.
func (f *fleet) rows(t *testing.T, p *process, app int) []admin.Row {
	t.Helper()
	var usage admin.Usage
	f.admin(t, p, http.MethodGet, "/api/v1/usage?app="+appid(app), &usage)
	if len(usage.Apps) != 1 || usage.Apps[0].Error != "" {
		t.Fatalf("usage of %s: %+v", appid(app), usage.Apps)
	}
	return usage.Apps[0].Rows
}

// row returns the line of a rule, or of one path inside its /*. One that was never called has none,
// or one without a count.
func (f *fleet) row(t *testing.T, p *process, app int, rule, path, period string) admin.Row {
	t.Helper()
	for _, r := range f.rows(t, p, app) {
		if r.Rule == rule && r.Path == path && r.Period == period && r.Caller == "" {
			return r
		}
	}
	return admin.Row{}
}

// used is the day's count of a rule in /api/v1/usage.
func (f *fleet) used(t *testing.T, p *process, app int, rule string) int64 {
	t.Helper()
	return f.row(t, p, app, rule, "", "day").Used
}

// explains is the verdict in words that explain gives of a POST to a path.
func (f *fleet) explains(t *testing.T, p *process, app int, path string) string {
	t.Helper()
	var e admin.Explanation
	query := url.Values{"app": {appid(app)}, "method": {http.MethodPost}, "path": {path}}
	f.admin(t, p, http.MethodGet, "/api/v1/explain?"+query.Encode(), &e)
	return e.Statement
}

// clear makes a clear of a whole account through a gateway. WeChat must grant it.
func (f *fleet) clear(t *testing.T, p *process, app int) {
	t.Helper()
	body := fmt.Sprintf(`{"appid":%q}`, appid(app))
	if said := f.hear(t.Context(), p, call{app: app, path: clearPath, body: body}); said != passed {
		t.Fatalf("a clear is answered %s", said)
	}
}

// retryAfter is the header of an answer.
func retryAfter(t *testing.T, header http.Header) time.Duration {
	t.Helper()
	seconds, err := strconv.Atoi(header.Get("Retry-After"))
	if err != nil {
		t.Errorf("Retry-After %q: %v", header.Get("Retry-After"), err)
	}
	return time.Duration(seconds) * time.Second
}

// metric returns the value of a line of /metrics, and whether there is one. The name has its labels.
func metric(text, name string) (value float64, ok bool) {
	_, rest, found := strings.Cut(text, "\n"+name+" ")
	figure, _, _ := strings.Cut(rest, "\n")
	value, err := strconv.ParseFloat(figure, 64)
	return value, found && err == nil
}

// metrics returns /metrics of a gateway.
func (f *fleet) metrics(t *testing.T, p *process) string {
	t.Helper()
	status, text := f.ask(t, p, http.MethodGet, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("/metrics is answered %d %s", status, text)
	}
	return text
}

// change writes another table and has all gateways take it over.
func (f *fleet) change(t *testing.T, rules ...rule) {
	t.Helper()
	writeFile(t, f.folder+"/limits.yaml", table(f.zone, rules...))
	f.reload(t, f.gateways...)
}
