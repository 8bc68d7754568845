package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"wxproxy/admin"
	"wxproxy/internal/redistest"
)

// Of 10,000 accounts in Redis the one nearest to its limit is found, and each is on one page; no answer takes an operator's
// patience.
func TestPagesOfManyAccounts(t *testing.T) {
	const accounts, page = 10_000, 1000
	server := redistest.Start(t)
	f := newFleet(t, setup{gateways: 1, apps: accounts, redis: server, rules: []rule{{"r00", "/cgi-bin/r00", "1000/day", ""}, {"r01", "/cgi-bin/r01", "1000/day", ""}}})
	gateway := f.gateways[0]
	if said := f.hear(t.Context(), gateway, call{path: "/cgi-bin/r00", get: true}); !strings.HasPrefix(said, "pass ") {
		t.Fatalf("a call is answered %s", said)
	}
	key := f.dayKey(t, 0)
	pipe := f.direct.Pipeline()
	for i := range accounts {
		pipe.HSet(t.Context(), strings.Replace(key, appid(0), appid(i), 1), "r01", fmt.Sprintf("0 %d 100", i*7919%997))
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	timed := func(what string, value any, path string) {
		t.Helper()
		begun := time.Now()
		f.admin(t, gateway, "GET", path, value)
		took := time.Since(begun)
		t.Logf("%s took %s", what, took.Round(time.Millisecond))
		if took > 10*time.Second+slack { // 0.2 s on an idle machine
			t.Errorf("%s takes %s", what, took)
		}
	}
	seen, last, path := make(map[string]bool), 101.0, fmt.Sprintf("/api/v1/accounts?limit=%d", page)
	for n := 1; path != ""; n++ {
		var got admin.Accounts
		timed(fmt.Sprintf("page %d of %d accounts", n, accounts), &got, path)
		for _, row := range got.Accounts {
			percent := 0.0
			if row.Nearest != nil {
				percent = row.Nearest.Percent
			}
			if seen[row.AppID] || percent > last || row.Error != "" {
				t.Fatalf("page %d: %+v after %v %%, seen before: %t", n, row, last, seen[row.AppID])
			}
			seen[row.AppID], last = true, percent
		}
		path = ""
		if got.Next != "" {
			path = fmt.Sprintf("/api/v1/accounts?limit=%d&cursor=%s", page, got.Next)
		}
	}
	if len(seen) != accounts {
		t.Errorf("%d accounts on all pages, want %d", len(seen), accounts)
	}
	var status admin.Status
	timed("the status", &status, "/api/v1/status")
	if status.Totals.Accounts != accounts || len(status.Accounts) != 0 || status.AccountsError != "" {
		t.Errorf("status: %+v, %d accounts, %s", status.Totals, len(status.Accounts), status.AccountsError)
	}
	var top admin.Usage
	timed("the ten nearest to their limits", &top, "/api/v1/usage?top=10")
	if len(top.Apps) != 10 || top.Apps[0].Rows[0].Used != 996 {
		t.Errorf("top: %d accounts", len(top.Apps))
	}
}
