package admin

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"wxproxy/history"
	"wxproxy/limits"
)

// Accounts is a page of the answer of /api/v1/accounts: one row for each account.
type Accounts struct {
	Time     time.Time `json:"time"`
	Total    int       `json:"total"` // accounts of the listing, on all its pages
	Accounts []Account `json:"accounts"`
	Next     string    `json:"next,omitempty"` // the cursor of the next page
}

// Account is one row of it.
type Account struct {
	App          string      `json:"app"`
	AppID        string      `json:"appid"`
	Profile      string      `json:"profile,omitempty"`
	Learned      bool        `json:"learned,omitempty"` // not configured
	Nearest      *Nearest    `json:"nearest,omitempty"` // the counter that is nearest to its limit; none: nothing with a limit was used
	UsedToday    int64       `json:"used_today"`        // calls counted by day, of all rules
	RefusedToday *int64      `json:"refused_today"`     // null: the history was not read
	Latched      []string    `json:"latched,omitempty"` // rules that WeChat itself answers 45009 for
	Token        *TokenState `json:"token,omitempty"`   // none: learned, or this gateway cannot know
	Error        string      `json:"error,omitempty"`   // why the counters were not read
}

// Nearest is a counter with the part of its limit that is used.
type Nearest struct {
	Rule      string    `json:"rule"`
	Title     string    `json:"title"`
	Path      string    `json:"path,omitempty"`
	Period    string    `json:"period" enum:"day,month"`
	Limit     int64     `json:"limit"`
	Used      int64     `json:"used"`
	Remaining int64     `json:"remaining"`
	Percent   float64   `json:"percent"`
	Reset     time.Time `json:"reset"`
	State     string    `json:"state" enum:"open,full,latched"`
	Forecast  *Forecast `json:"forecast"` // null: it does not run out before Reset, or that is not known
}

// How many accounts a page has.
const (
	usualPage = 100
	mostOfAll = 1000
)

func (a *Admin) accounts(w http.ResponseWriter, r *http.Request) {
	limit, ok := number(w, r, "limit", usualPage, mostOfAll)
	if !ok {
		return
	}
	query := r.URL.Query()
	answer := Accounts{Time: time.Now(), Accounts: []Account{}}
	var page []App
	var f figures
	if cursor := query.Get("cursor"); cursor != "" {
		p, ok := a.listings.page(cursor, limit)
		if !ok {
			reply(w, http.StatusGone, problem{Error: "cursor: its listing is over: a listing is kept for " + listingLife.String() + "; ask again without a cursor"})
			return
		}
		page, answer.Total, answer.Next = p.apps, p.total, p.next
		f = a.counted(r.Context(), page, true)
	} else {
		apps := matching(a.o.Apps(), query.Get("q"))
		f = a.counted(r.Context(), apps, true)
		order := orderOf(apps, f, query.Get("sort"))
		apps, f = arrange(apps, f, order)
		p := a.listings.begin(apps, limit)
		page, answer.Total, answer.Next = p.apps, p.total, p.next
	}
	states, refused := a.tokenStates(r.Context(), page), a.refusedToday(r.Context(), page)
	rates := Rates(r.Context(), a.o.History, page, f.lines)
	for i, app := range page {
		row := a.account(app, f, i, rates[app.AppID])
		row.Token, row.RefusedToday = states[i], refused[app.AppID]
		answer.Accounts = append(answer.Accounts, row)
	}
	if wantsCSV(r) {
		replyCSV(w, "accounts", accountsTable(&answer))
		return
	}
	reply(w, http.StatusOK, answer)
}

// refusedToday returns how many calls of each app the gateways have refused today, by appid; nil where that is not
// known.
func (a *Admin) refusedToday(ctx context.Context, apps []App) map[string]*int64 {
	if a.o.History == nil {
		return nil
	}
	now := time.Now().In(a.o.History.Zone())
	lines, err := a.o.History.History(ctx, history.Query{Apps: appids(apps), From: startOfDay(now, 0), To: now, Step: history.Total})
	if err != nil {
		return nil
	}
	counts := make(map[string]*int64, len(apps))
	for _, app := range apps {
		counts[app.AppID] = new(int64)
	}
	for _, l := range lines {
		*counts[l.App] += l.Refused
	}
	return counts
}

// matching returns the apps with text in their name or appid, letter case aside.
func matching(apps []App, text string) []App {
	text = strings.ToLower(text)
	found := make([]App, 0, len(apps))
	for _, app := range apps {
		if strings.Contains(strings.ToLower(app.Name), text) || strings.Contains(app.AppID, text) {
			found = append(found, app)
		}
	}
	return found
}

// orderOf returns the indexes of apps by name, or those nearest to a limit first.
func orderOf(apps []App, f figures, sort string) []int {
	order, near := make([]int, len(apps)), make([]float64, len(apps))
	for i := range apps {
		order[i] = i
		if u, ok := nearest(f.lines[i]); ok {
			near[i] = closeness(u)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int {
		byName := cmp.Or(strings.Compare(apps[i].Name, apps[j].Name), strings.Compare(apps[i].AppID, apps[j].AppID))
		if sort == "name" {
			return byName
		}
		return cmp.Or(cmp.Compare(near[j], near[i]), byName)
	})
	return order
}

// arrange returns the apps at the indexes of order, with what was read of them.
func arrange(apps []App, f figures, order []int) ([]App, figures) {
	arranged := make([]App, len(order))
	g := figures{lines: make([][]limits.Usage, len(order)), readings: make([]map[string]Reading, len(order)), err: f.err, unread: f.unread}
	for to, from := range order {
		arranged[to], g.lines[to], g.readings[to] = apps[from], f.lines[from], f.readings[from]
	}
	return arranged, g
}

// nearest returns the line that is nearest to its limit. A share is of one caller, so it is none of the account's.
func nearest(lines []limits.Usage) (found limits.Usage, ok bool) {
	for _, u := range lines {
		if (u.Limit > 0 || u.Latched) && !strings.Contains(u.Counter, "@") && (!ok || closeness(u) > closeness(found)) {
			found, ok = u, true
		}
	}
	return found, ok
}

// closeness is how near a counter is to its limit, in percent of it. One that WeChat itself refuses is there.
func closeness(u limits.Usage) float64 {
	p := percent(u)
	if u.Latched {
		p = max(p, 100)
	}
	return p
}

// percent is the part of its limit that a counter has used; 0 without a limit.
func percent(u limits.Usage) float64 {
	if u.Limit <= 0 {
		return 0
	}
	return 100 * float64(u.Used) / float64(u.Limit)
}

// account is the row of an app, the i-th of f.
func (a *Admin) account(app App, f figures, i int, rates *history.Rates) Account {
	row := Account{App: app.Name, AppID: app.AppID, Learned: app.Learned}
	rules := a.o.Limiter.Rules(app.AppID)
	switch {
	case rules == nil: // between two reloads
		row.Error = "not configured"
		return row
	case f.lines[i] == nil && f.err != nil:
		row.Error = storeProblem(f.err)
	}
	row.Profile = rules.Profile
	for _, u := range f.lines[i] {
		if u.Period == limits.Day && !strings.Contains(u.Counter, "@") {
			row.UsedToday += u.Used
		}
	}
	row.Latched = latched(f.lines[i])
	if u, ok := nearest(f.lines[i]); ok {
		r := rowOf(u)
		row.Nearest = &Nearest{
			Rule: r.Rule, Title: r.Title, Path: r.Path, Period: r.Period, Limit: r.Limit, Used: r.Used, Remaining: r.Remaining,
			Percent: percent(u), Reset: r.Reset, State: r.State, Forecast: ForecastOf(time.Now(), u, rates),
		}
	}
	return row
}

// latched returns the rules that WeChat answers 45009 for.
func latched(lines []limits.Usage) []string {
	var rules []string
	for _, u := range lines {
		if u.Latched && !slices.Contains(rules, u.Rule.Name) {
			rules = append(rules, u.Rule.Name)
		}
	}
	return rules
}

// accountsTable is the answer as rows of cells.
func accountsTable(answer *Accounts) [][]string {
	rows := [][]string{{
		"app", "appid", "profile", "rule", "title", "path", "period", "limit", "used", "remaining", "percent", "reset", "state",
		"used_today", "refused_today", "latched", "token", "token_expires", "runs_out", "left", "error",
	}}
	for _, a := range answer.Accounts {
		var n Nearest
		var token TokenState
		if a.Nearest != nil {
			n = *a.Nearest
		}
		if a.Token != nil {
			token = *a.Token
		}
		limit, used, left, refused := "", "", "", ""
		runsOut, callsLeft := n.Forecast.cells()
		if a.RefusedToday != nil {
			refused = figure(*a.RefusedToday)
		}
		if n.Limit > 0 {
			limit, used, left = figure(n.Limit), figure(n.Used), figure(n.Remaining)
		}
		rows = append(rows, []string{
			a.App, a.AppID, a.Profile, n.Rule, n.Title, n.Path, n.Period, limit, used, left, percentage(n.Percent, n.Limit), moment(n.Reset), n.State,
			figure(a.UsedToday), refused, strings.Join(a.Latched, " "), token.State, moment(token.Expires), runsOut, callsLeft, a.Error,
		})
	}
	return rows
}
