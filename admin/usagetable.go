package admin

import (
	"cmp"
	"strconv"
	"strings"
)

// usageColumns are those of usage as a table. New ones are added at the end, error excepted.
var usageColumns = []string{
	"app", "appid", "profile", "category", "title", "rule", "path", "caller", "period", "quota", "limit", "used", "remaining", "percent", "reset", "state",
	"wechat_used", "wechat_limit", "drift", "read_at", "grant", "grant_until", "reserve", "kept", "runs_out", "left", "callers", "error",
}

// usageTable is the answer as rows of cells.
func usageTable(answer *Usage) [][]string {
	rows := [][]string{append([]string{}, usageColumns...)}
	for _, app := range answer.Apps {
		if app.Error != "" {
			row := make([]string, len(usageColumns))
			row[0], row[1], row[2], row[len(row)-1] = app.App, app.AppID, app.Profile, app.Error
			rows = append(rows, row)
		}
		for _, r := range app.Rows {
			rows = append(rows, append([]string{app.App, app.AppID, app.Profile}, append(r.cells(), app.ReadingError)...))
		}
	}
	return rows
}

// cells are those of a row between the account and the error.
func (r *Row) cells() []string {
	limit, left, part := "", "", 0.0
	if r.Limit > 0 {
		limit, left, part = figure(r.Limit), figure(r.Remaining), 100*float64(r.Used)/float64(r.Limit)
	}
	var wechat, drift string
	if r.WechatUsed != nil {
		wechat = figure(*r.WechatUsed)
	}
	if r.Drift != nil {
		drift = figure(*r.Drift)
	}
	runsOut, callsLeft := r.Forecast.cells()
	return []string{
		r.Category, r.Title, r.Rule, r.Path, r.Caller, r.Period, r.Quota, limit, figure(r.Used), left, percentage(part, r.Limit), moment(r.Reset), r.State,
		wechat, some(r.WechatLimit), drift, moment(r.ReadAt),
		some(r.Grant), moment(r.GrantUntil), some(r.Reserve), some(r.Kept), runsOut, callsLeft, callersCell(r.Callers),
	}
}

// cells are when it runs out and how many calls are left; both "" without a forecast.
func (f *Forecast) cells() (runsOut, left string) {
	if f == nil {
		return "", ""
	}
	return moment(f.RunsOut), some(f.Left)
}

// some is a number in a cell, "" for 0.
func some(n int64) string {
	if n == 0 {
		return ""
	}
	return figure(n)
}

// callersCell is who used how much in one cell: crm=40 oncall=13. Calls without a key are those of (none).
func callersCell(callers []CallerUse) string {
	texts := make([]string, len(callers))
	for i, c := range callers {
		texts[i] = cmp.Or(c.Caller, "(none)") + "=" + strconv.FormatInt(c.Sent, 10)
	}
	return strings.Join(texts, " ")
}
