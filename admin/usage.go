package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"wxproxy/limits"
)

// Usage is the answer of /api/v1/usage: what each app has used today and this month.
type Usage struct {
	Time time.Time  `json:"time"`
	Apps []AppUsage `json:"apps"`
	Next string     `json:"next,omitempty"` // the cursor of the next page, where limit has cut the answer off
}

// AppUsage is one app's part of it. Error stands in place of the rows when the store has not
// answered.
type AppUsage struct {
	App     string `json:"app"`
	AppID   string `json:"appid"`
	Profile string `json:"profile"`
	Rows    []Row  `json:"rows"`
	Error   string `json:"error,omitempty"`

	// Saved are the calls by rule that this gateway has refused since it started because they went on with a loop:
	// each would have been counted.
	Saved map[string]uint64 `json:"fuse_saved,omitempty"`

	// Callers has who used today what of a rule whose paths are counted one by one, by rule. Of the other rules it is in
	// their rows.
	Callers map[string][]CallerUse `json:"callers,omitempty"`

	ReadingError string `json:"reading_error,omitempty"` // why WeChat was not read, or not to the end
}

// Row is one counter, in the words of WeChat's own console.
type Row struct {
	Category  string    `json:"category"`
	Title     string    `json:"title"`
	Rule      string    `json:"rule"`
	Path      string    `json:"path,omitempty"`   // of a path inside a /* that is counted by itself
	Caller    string    `json:"caller,omitempty"` // whose share of the quota it is; "" is the quota itself
	Period    string    `json:"period" enum:"day,month"`
	Quota     string    `json:"quota"` // N, unlimited, unknown or denied
	Limit     int64     `json:"limit"` // 0 where there is no figure
	Used      int64     `json:"used"`
	Remaining int64     `json:"remaining"`
	Reset     time.Time `json:"reset"`
	State     string    `json:"state" enum:"open,full,latched,denied"`

	Grant       int64     `json:"grant,omitempty"` // calls that an operator has added; they are in limit
	GrantUntil  time.Time `json:"grant_until,omitzero"`
	GrantReason string    `json:"grant_reason,omitempty"`
	Reserve     int64     `json:"reserve,omitempty"` // calls kept back for the caller; of a quota, for all callers
	Kept        int64     `json:"kept,omitempty"`    // of them what is not used yet, and nobody else's; it is in remaining

	// WeChat's own count of a day's counter when it was last read, if it was.
	WechatUsed  *int64    `json:"wechat_used,omitempty"`
	WechatLimit int64     `json:"wechat_limit,omitempty"` // 0: it states none
	Drift       *int64    `json:"drift,omitempty"`        // WeChat's count less ours: calls that did not pass a gateway
	ReadAt      time.Time `json:"read_at,omitzero"`
	Start       string    `json:"start,omitempty"` // unknown: WeChat did not state what it had counted before our first call of the day

	Forecast *Forecast   `json:"forecast"`          // null: it does not run out before Reset, or that is not known
	Callers  []CallerUse `json:"callers,omitempty"` // of a rule's day, the largest first: with ?app= or ?callers=1
}

func rowOf(u limits.Usage) Row {
	r := Row{
		Category: u.Rule.Category, Title: u.Rule.Title, Rule: u.Rule.Name,
		Period: u.Period.String(), Limit: u.Limit, Used: u.Used, Remaining: u.Remaining, Reset: u.Reset,
		Quota: u.Rule.Budget.String(), State: "open",
	}
	counter, caller, _ := strings.Cut(u.Counter, "@")
	r.Path, r.Caller = strings.TrimPrefix(strings.TrimPrefix(counter, u.Rule.Name), ":"), caller
	if r.Reserve, r.Kept = u.Reserve, u.Kept; u.Grant.Calls > 0 {
		r.Grant, r.GrantUntil = u.Grant.Calls, time.UnixMilli(u.Grant.Until).In(u.Reset.Location())
	}
	if u.StartUnknown {
		r.Start = "unknown"
	}
	switch {
	case u.Rule.Budget.Kind == limits.Denied:
		r.State = "denied"
	case u.Latched:
		r.State = "latched"
	case u.Limit > 0 && u.Remaining == 0:
		r.State = "full"
	}
	return r
}

func (a *Admin) usage(w http.ResponseWriter, r *http.Request) {
	q, ok := a.usageQuery(w, r)
	if !ok {
		return
	}
	var f figures
	apps, next := q.apps, ""
	if q.live {
		f = a.liveFigures(r.Context(), apps[0], true)
	} else {
		apps, next = q.page()
		f = a.figures(r.Context(), apps, q.used || q.top > 0)
	}
	f.sortLines(q.sort)
	if q.top > 0 {
		apps, f = f.top(apps, q.top, q.sort)
	}
	past := a.past(r.Context(), apps, f, q.callers)
	answer := Usage{Time: time.Now(), Apps: []AppUsage{}, Next: next}
	for i, app := range apps {
		answer.Apps = append(answer.Apps, a.appUsage(r.Context(), app, f, i, q, past))
	}
	if wantsCSV(r) {
		replyCSV(w, "usage", usageTable(&answer))
		return
	}
	reply(w, http.StatusOK, answer)
}

// usageQuery is what a request for usage asks for.
type usageQuery struct {
	apps       []App // of all pages
	live, used bool
	callers    bool // who used it
	sort       string
	top        int // 0: all rows
	limit      int // 0: all apps
	after      int // apps of the pages before
}

// usageQuery reads it. When it returns false it has answered.
func (a *Admin) usageQuery(w http.ResponseWriter, r *http.Request) (q usageQuery, ok bool) {
	query := r.URL.Query()
	q.sort = query.Get("sort")
	if q.live, ok = a.live(w, r); !ok {
		return q, false
	}
	if q.used, ok = flag(w, r, "used"); !ok {
		return q, false
	}
	if q.top, ok = number(w, r, "top", 0, 100_000); !ok {
		return q, false
	}
	if q.limit, ok = number(w, r, "limit", 0, 100_000); !ok {
		return q, false
	}
	if q.top > 0 && q.sort == "" {
		q.sort = "percent"
	}
	if q.top > 0 && (q.limit > 0 || query.Get("cursor") != "") {
		reply(w, http.StatusBadRequest, problem{Error: "top with limit or cursor: want one of them: the first rows of all accounts are one page"})
		return q, false
	}
	if q.callers, ok = flag(w, r, "callers"); !ok {
		return q, false
	}
	if name := query.Get("app"); name != "" {
		q.callers = true
		app, ok := a.app(w, name)
		q.apps = []App{app}
		return q, ok
	}
	q.apps = a.o.Apps()
	if cursor := query.Get("cursor"); cursor != "" {
		at := slices.IndexFunc(q.apps, func(app App) bool { return app.AppID == cursor })
		if at < 0 {
			reply(w, http.StatusGone, problem{Error: "cursor: the account that the page before has ended with is gone; ask again without a cursor"})
			return q, false
		}
		q.after = at + 1
	}
	return q, true
}

// page returns the apps of this page, which stand in the order of the configuration, and the cursor of the next.
func (q *usageQuery) page() (apps []App, next string) {
	apps = q.apps[q.after:]
	if q.limit > 0 && len(apps) > q.limit {
		apps = apps[:q.limit]
		next = apps[q.limit-1].AppID
	}
	return apps, next
}

// appUsage is the part of an app, the i-th of f.
func (a *Admin) appUsage(ctx context.Context, app App, f figures, i int, q usageQuery, past past) AppUsage {
	one := AppUsage{App: app.Name, AppID: app.AppID, Rows: make([]Row, 0, len(f.lines[i])), Saved: a.o.Metrics.Saved(app.Name)}
	rules := a.o.Limiter.Rules(app.AppID)
	switch {
	case rules == nil: // between two reloads
		one.Error = "not configured"
	case f.lines[i] == nil && f.err != nil:
		one.Profile, one.Error = rules.Profile, storeProblem(f.err)
	default:
		one.Profile = rules.Profile
		if f.unread != nil && (q.live || f.readings[i] == nil) {
			one.ReadingError = f.unread.Error()
		}
	}
	reasons := a.reasons(ctx, app.AppID, f.lines[i])
	for _, u := range f.lines[i] {
		if q.used && u.Used == 0 && !u.Latched { // of an app that was read live
			continue
		}
		row := rowOf(u)
		row.read(f.readings[i], u)
		row.GrantReason = reasons[u.Counter]
		row.recall(past, app.AppID, u)
		if callers := past.callers[app.AppID][row.Rule]; row.Path != "" && len(callers) > 0 {
			if one.Callers == nil {
				one.Callers = make(map[string][]CallerUse)
			}
			one.Callers[row.Rule] = callers
		}
		one.Rows = append(one.Rows, row)
	}
	return one
}

// storeProblem returns what of an error of the store an operator may see: what the store answered,
// as NOPERM or OOM, but no address of it.
func storeProblem(err error) string {
	if answered, ok := errors.AsType[*limits.StoreError](err); ok {
		return answered.Error()
	}
	return "the store does not answer"
}
