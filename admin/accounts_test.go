package admin

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wxproxy/history"
	"wxproxy/limits"
	"wxproxy/token"
)

// fleetOf is a limiter of accounts with one rule of 100 a day each, and how much of it is used.
type fleetOf struct {
	*manyAccounts
	used  map[string]int64
	asked int
}

func newFleetOf(used map[string]int64) *fleetOf {
	return &fleetOf{manyAccounts: newManyAccounts(1, 1), used: used}
}

func (f *fleetOf) UsageAll(_ context.Context, appids []string, usedOnly bool) ([][]limits.Usage, error) {
	f.asked += len(appids)
	all := make([][]limits.Usage, len(appids))
	for i, appid := range appids {
		all[i] = []limits.Usage{}
		if n := f.used[appid]; n > 0 || !usedOnly {
			all[i] = append(all[i], limits.Usage{Rule: f.rules[0], Counter: f.rules[0].Name, Limit: 100, Used: n, Remaining: max(0, 100-n), Reset: midnight})
		}
	}
	return all, nil
}

func (f *fleetOf) admin(apps []App) *Admin {
	return New(Options{
		Token: "correct", Apps: func() []App { return slices.Clone(apps) }, Limiter: f, Metrics: NewMetrics(Build{Version: "test"}), Stop: func() bool { return false },
		Reloaded: func() (time.Time, error) { return midnight, nil },
	})
}

func appsOf(n int) ([]App, map[string]int64) {
	apps, used := make([]App, n), make(map[string]int64, n)
	for i := range apps {
		apps[i] = App{Name: fmt.Sprintf("shop-%05d", i), AppID: fmt.Sprintf("wx%016d", i)}
		used[apps[i].AppID] = int64(i*7919%101) + 0
	}
	return apps, used
}

func getInto(t *testing.T, a *Admin, target string, value any) int {
	t.Helper()
	w := get(a, target)
	if err := json.Unmarshal(w.Body.Bytes(), value); err != nil {
		t.Fatalf("%s = %d %.200s: %v", target, w.Code, w.Body, err)
	}
	return w.Code
}

// The figures of accounts change between two pages: each account is on one page, once, in the order of the
// first page, and with the figures of its own page. Further pages read only the accounts that they have.
func TestAccountsArePagedWhileFiguresMove(t *testing.T) {
	const accounts, limit = 2500, 400
	apps, used := appsOf(accounts)
	f := newFleetOf(used)
	a := f.admin(apps)
	seen, last, target := make(map[string]bool), 101.0, fmt.Sprintf("/api/v1/accounts?limit=%d", limit)
	before := maps.Clone(used)
	for pages := 0; target != ""; pages++ {
		f.asked = 0
		var page Accounts
		if status := getInto(t, a, target, &page); status != http.StatusOK || page.Total != accounts || pages > accounts/limit {
			t.Fatalf("%s = %d, %d accounts in all, page %d", target, status, page.Total, pages)
		}
		if want := len(page.Accounts); pages > 0 && f.asked != want {
			t.Errorf("page %d: %d accounts read, want %d", pages, f.asked, want)
		}
		for _, row := range page.Accounts {
			if seen[row.AppID] {
				t.Errorf("%s is on two pages", row.AppID)
			}
			seen[row.AppID] = true
			was := float64(before[row.AppID])
			if was > last {
				t.Errorf("%s of %v %% follows one of %v %%", row.AppID, was, last)
			}
			last = was
			if now := used[row.AppID]; now > 0 && (row.Nearest == nil || row.Nearest.Used != now || row.Nearest.Percent != float64(now) || row.UsedToday != now) {
				t.Errorf("%s: %+v, want %d used", row.AppID, row.Nearest, now)
			}
		}
		for appid := range used { // all are called, the last ones most
			used[appid] = 100 - before[appid]
		}
		target = ""
		if page.Next != "" {
			target = fmt.Sprintf("/api/v1/accounts?limit=%d&cursor=%s", limit, page.Next)
		}
	}
	if len(seen) != accounts {
		t.Errorf("%d of %d accounts on all pages", len(seen), accounts)
	}
}

func TestAccountsAreFound(t *testing.T) {
	apps := []App{{Name: "b", AppID: "wx2"}, {Name: "Shop", AppID: "wx1"}, {Name: "a", AppID: "wx3"}, {Name: "wx9", AppID: "wx9", Learned: true}}
	f := newFleetOf(map[string]int64{"wx1": 40, "wx2": 90, "wx3": 90})
	a := f.admin(apps)
	names := func(target string) (names []string) {
		var page Accounts
		getInto(t, a, target, &page)
		for _, row := range page.Accounts {
			names = append(names, row.App)
		}
		return names
	}
	for target, want := range map[string][]string{
		"/api/v1/accounts":           {"a", "b", "Shop", "wx9"},
		"/api/v1/accounts?sort=name": {"Shop", "a", "b", "wx9"},
		"/api/v1/accounts?q=sho":     {"Shop"},
		"/api/v1/accounts?q=wx3":     {"a"},
		"/api/v1/accounts?q=none":    nil,
	} {
		if diff := cmp.Diff(want, names(target)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", target, diff)
		}
	}
	for target, want := range map[string]int{
		"/api/v1/accounts?limit=0": 400, "/api/v1/accounts?limit=x": 400, "/api/v1/accounts?sort=nonsense": 400,
		"/api/v1/accounts?cursor=x.1": 410, "/api/v1/accounts?aap=x": 400, "/api/v1/usage?cursor=wx7": 410, "/api/v1/usage?top=3&limit=2": 400,
	} {
		var p problem
		if status := getInto(t, a, target, &p); status != want || p.Error == "" {
			t.Errorf("%s = %d %q, want %d in words", target, status, p.Error, want)
		}
	}
}

// The number of listings that are kept is bounded.
func TestListingsAreBounded(t *testing.T) {
	apps, _ := appsOf(3)
	var l listings
	first := l.begin(apps, 2)
	if p, ok := l.page(first.next, 2); !ok || len(p.apps) != 1 || p.next != "" {
		t.Errorf("the second page: %v, %t", p, ok)
	}
	for range maxListings {
		l.begin(apps, 2)
	}
	if _, ok := l.page(first.next, 2); ok || len(l.all) != maxListings {
		t.Errorf("%d listings are kept, the first among them: %t", len(l.all), ok)
	}
}

// An account of four, with what is known of its token, its latch and its refusals.
func TestAccountRow(t *testing.T) {
	expires := time.Now().Add(time.Hour).Truncate(time.Second)
	o := newOperated(t, func(o *Options) {
		o.Tokens = func(_ context.Context, appids []string, fleet bool) ([]*token.State, error) {
			if !fleet {
				t.Error("want what the fleet knows")
			}
			states := make([]*token.State, len(appids))
			for i, appid := range appids {
				if appid == "wx0000000000000001" {
					states[i] = &token.State{Expires: expires, Fetched: expires.Add(-2 * time.Hour), By: "gw000001"}
				}
			}
			return states, errors.New("the store does not answer")
		}
		o.History = &fakeHistory{zone: time.UTC, lines: []history.Line{{App: "wx0000000000000001", Refused: 5}}}
	})
	o.lines[2].Latched = true // of mass
	var page Accounts
	if status := o.ask(t, "GET", "/api/v1/accounts?q=shop", &page); status != 200 || len(page.Accounts) != 1 {
		t.Fatalf("%d %+v", status, page)
	}
	refused := int64(5)
	want := Account{
		App: "shop", AppID: "wx0000000000000001", Profile: "p", UsedToday: 100 + 3 + 2, RefusedToday: &refused, Latched: []string{"mass"},
		Nearest: &Nearest{Rule: "menu.create", Title: "自定义菜单创建", Period: "day", Limit: 100, Used: 100, Percent: 100, Reset: midnight, State: "full"},
		Token:   &TokenState{State: "good", Expires: expires, Fetched: expires.Add(-2 * time.Hour), FetchedBy: "gw000001"},
	}
	if diff := cmp.Diff(want, page.Accounts[0], cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); diff != "" {
		t.Errorf("account (-want +got):\n%s", diff)
	}
}

func TestUsageOptions(t *testing.T) {
	apps, used := appsOf(5)
	a := newFleetOf(used).admin(apps)
	var all []string
	for target := "/api/v1/usage?limit=2"; target != ""; {
		var u Usage
		getInto(t, a, target, &u)
		for _, app := range u.Apps {
			all = append(all, app.App)
		}
		target = ""
		if u.Next != "" {
			target = "/api/v1/usage?limit=2&cursor=" + u.Next
		}
	}
	if diff := cmp.Diff([]string{"shop-00000", "shop-00001", "shop-00002", "shop-00003", "shop-00004"}, all); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
	rows := func(target string) (rows []string) {
		o := newOperated(t)
		o.lines[2].Latched = true
		var u Usage
		if status := o.ask(t, "GET", target, &u); status != 200 {
			t.Fatalf("%s = %d", target, status)
		}
		for _, app := range u.Apps {
			for _, r := range app.Rows {
				rows = append(rows, strings.Join(strings.Fields(app.App+" "+r.Rule+r.Path+" "+r.Caller+" "+r.Period), " "))
			}
		}
		return rows
	}
	for target, want := range map[string][]string{
		"/api/v1/usage?app=shop&sort=percent&used=1": {
			"shop menu.create day", "shop menu.create crm day", "shop mass day", "shop mass month", "shop clear_quota month", "shop quota.clear month", "shop other/cgi-bin/a day",
		},
		"/api/v1/usage?app=shop&sort=used&used=1": {
			"shop menu.create day", "shop menu.create crm day", "shop mass day", "shop mass month", "shop clear_quota month", "shop other/cgi-bin/a day", "shop quota.clear month",
		},
		"/api/v1/usage?app=shop&sort=rule": {
			"shop card day", "shop clear_quota month", "shop mass day", "shop mass month", "shop menu.create day", "shop menu.create crm day", "shop oauth day", "shop other/cgi-bin/a day", "shop quota.clear month",
		},
		"/api/v1/usage?app=shop&top=2": {"shop menu.create day", "shop menu.create crm day"},
	} {
		if diff := cmp.Diff(want, rows(target)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", target, diff)
		}
	}
	// The first rows of all accounts, those of one account together.
	var u Usage
	getInto(t, a, "/api/v1/usage?top=3", &u)
	var got []string
	for _, app := range u.Apps {
		got = append(got, fmt.Sprint(app.App, " ", app.Rows[0].Used))
	}
	slices.SortFunc(apps, func(x, y App) int { return int(used[y.AppID] - used[x.AppID]) })
	var want []string
	for _, app := range apps[:3] {
		want = append(want, fmt.Sprint(app.Name, " ", used[app.AppID]))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("top (-want +got):\n%s", diff)
	}
}

// A table opens in a spreadsheet: UTF-8 with its mark, lines as RFC 4180 has them, and no cell is a formula.
func TestCSV(t *testing.T) {
	o := newOperated(t)
	o.apps[0].Name = `=HYPERLINK("http://evil.example","x")`
	o.readings = map[string]Reading{"mass": {At: midnight, Used: 1, Drift: -2}}
	for target, want := range map[string][]string{
		"/api/v1/usage?format=csv":    {`'=HYPERLINK("http://evil.example","x")`, "自定义菜单创建", "-2"},
		"/api/v1/accounts?format=csv": {`'=HYPERLINK("http://evil.example","x")`, "自定义菜单创建", "100.0"},
	} {
		status, body := o.do(t, "GET", target, "Authorization", "Bearer correct")
		text, marked := strings.CutPrefix(body, "\uFEFF")
		if status != 200 || !marked || strings.Count(text, "\n") != strings.Count(text, "\r\n") || !strings.HasSuffix(text, "\r\n") {
			t.Errorf("%s = %d %.100q: want a mark and CRLF", target, status, body)
		}
		rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
		if err != nil || len(rows) < 4 {
			t.Fatalf("%s: %d rows, %v", target, len(rows), err)
		}
		cells := slices.Concat(rows...)
		for _, cell := range want {
			if !slices.Contains(cells, cell) {
				t.Errorf("%s lacks the cell %q", target, cell)
			}
		}
	}
	for cell, want := range map[string]string{
		"": "", "a=b": "a=b", "=1+1": "'=1+1", "+x": "'+x", "-x": "'-x", "@x": "'@x", "\tx": "'\tx", "\r=1": "'\r=1", "-12": "-12", "+1.5": "+1.5", "-1-1": "'-1-1",
	} {
		if got := defused(cell); got != want {
			t.Errorf("defused(%q) = %q, want %q", cell, got, want)
		}
	}
}
