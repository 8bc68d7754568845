package admin

import (
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Each column has what its row has, under its own name.
func TestUsageTable(t *testing.T) {
	at := time.Date(2026, 11, 23, 15, 4, 5, 0, time.UTC)
	used, drift := int64(15), int64(3)
	rows := usageTable(&Usage{Apps: []AppUsage{
		{App: "shop", AppID: "wx1", Profile: "p", Rows: []Row{
			{
				Rule: "menu.create", Period: "day", Quota: "10/day", Limit: 15, Used: 12, Remaining: 3, Reset: at, State: "open",
				Grant: 5, GrantUntil: at, Reserve: 4, Kept: 2, WechatUsed: &used, WechatLimit: 10, Drift: &drift, ReadAt: at,
				Forecast: &Forecast{RunsOut: at, Left: 3}, Callers: []CallerUse{{Caller: "crm", Sent: 9}, {Sent: 3}},
			},
			{Rule: "card", Period: "day", Quota: "unknown", Used: 1, State: "open"},
		}},
		{App: "mall", AppID: "wx2", Error: "the store does not answer"},
	}})
	text := at.Format(time.RFC3339)
	want := []map[string]string{
		{
			"app": "shop", "appid": "wx1", "profile": "p", "rule": "menu.create", "period": "day", "quota": "10/day", "limit": "15", "used": "12", "remaining": "3",
			"percent": "80.0", "reset": text, "state": "open", "wechat_used": "15", "wechat_limit": "10", "drift": "3", "read_at": text,
			"grant": "5", "grant_until": text, "reserve": "4", "kept": "2", "runs_out": text, "left": "3", "callers": "crm=9 (none)=3",
		},
		{"app": "shop", "appid": "wx1", "profile": "p", "rule": "card", "period": "day", "quota": "unknown", "used": "1", "state": "open"},
		{"app": "mall", "appid": "wx2", "error": "the store does not answer"},
	}
	var got []map[string]string
	for _, row := range rows[1:] {
		cells := make(map[string]string)
		for i, name := range rows[0] {
			cells[name] = row[i]
		}
		maps.DeleteFunc(cells, func(_, cell string) bool { return cell == "" })
		got = append(got, cells)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("usage as a table (-want +got):\n%s", diff)
	}
}

func TestAccountsTable(t *testing.T) {
	at := time.Date(2026, 11, 23, 15, 4, 5, 0, time.UTC)
	rows := accountsTable(&Accounts{Accounts: []Account{{App: "shop", Nearest: &Nearest{Rule: "menu.create", Limit: 9, Forecast: &Forecast{RunsOut: at}}}, {App: "mall"}}})
	for i, want := range []string{"runs_out", at.Format(time.RFC3339), ""} {
		if got := rows[i][len(rows[i])-3]; got != want || len(rows[i]) != len(rows[0]) {
			t.Errorf("row %d of %d cells: %q, want %q", i, len(rows[i]), got, want)
		}
	}
}
