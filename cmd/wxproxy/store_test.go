package main

import (
	"net/http"
	"strings"
	"testing"

	"wxproxy/admin"
	"wxproxy/internal/redistest"
	"wxproxy/sandbox"
)

// A Redis that answers errors is not unreachable: the log, readiness, the metrics and the admin API show
// what it answers, and the gateway counts again when Redis does.
func TestTheStoreAnswersErrors(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	redis := server.Client(t)
	wechat := newWechat(t, sandbox.Options{})
	config := write(t, wechat, server.URL(), table("5/day", "7/day"))
	p := start(t, config, wechat)
	target := "/" + appA + "/cgi-bin/menu/create"
	fire(t, []*process{p}, 1, 2, "POST", target, menu)
	set := func(args ...any) {
		t.Helper()
		if err := redis.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	metrics := func() string { return do(t, "GET", p.admin+"/metrics", nil).body }
	ready := func() (store string) {
		var answer map[string]string
		p.askAdmin(t, "GET", "/-/ready", &answer)
		return answer["store"]
	}

	set("config", "set", "maxmemory", "1")
	if got := do(t, "POST", p.url+target, strings.NewReader(menu)); got.decision != "refused-store" {
		t.Errorf("without memory: %v, want refused-store", got)
	}
	line := p.stderr.await(t, "line that the store answers errors", message("it answers with errors"))
	if text, ok := line["error"].(string); !ok || !strings.Contains(text, "OOM") || line["level"] != "error" {
		t.Errorf("the log says %v, want what Redis has answered", line)
	}
	if got := ready(); !strings.HasPrefix(got, "refuses: OOM ") {
		t.Errorf("ready: store %q, want what Redis has answered", got)
	}
	if body := metrics(); !strings.Contains(body, "\nwxproxy_store_up 1\n") || !strings.Contains(body, "\nwxproxy_store_counting 0\n") {
		t.Error("metrics: want wxproxy_store_up 1 and wxproxy_store_counting 0")
	}
	set("config", "set", "maxmemory", "0")
	waitFor(t, "the rest of the quota", func() bool {
		fire(t, []*process{p}, 1, 4, "POST", target, menu)
		return wechat.Executed(appA, "/cgi-bin/menu/create") == 5
	})
	if got := ready(); got != "ok" {
		t.Errorf("ready: store %q, want ok", got)
	}

	set("acl", "setuser", "default", "-hgetall")
	const denied = "the store answered: NOPERM"
	var usage admin.Usage
	if status := p.askAdmin(t, "GET", "/api/v1/usage", &usage); status != http.StatusOK || len(usage.Apps) == 0 || !strings.HasPrefix(usage.Apps[0].Error, denied) {
		t.Errorf("usage = %d %+v, want %q", status, usage, denied)
	}
	var problem struct{ Error string }
	if status := p.askAdmin(t, "GET", "/api/v1/explain?app="+appA+"&method=POST&path=/cgi-bin/menu/create", &problem); status != http.StatusServiceUnavailable || !strings.HasPrefix(problem.Error, denied) {
		t.Errorf("explain = %d %+v, want %q", status, problem, denied)
	}
	if body := metrics(); !strings.Contains(body, "\nwxproxy_quota_scrape_complete 0\n") {
		t.Error("metrics: want wxproxy_quota_scrape_complete 0")
	}
}
