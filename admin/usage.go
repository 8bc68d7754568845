package admin

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"wxproxy/limits"
)

// Usage is the answer of /api/v1/usage: what each app has used today and this month.
type Usage struct {
	Time time.Time  `json:"time"`
	Apps []AppUsage `json:"apps"`
}

// AppUsage is one app's part of it. Error stands in place of the rows when the store has not
// answered.
type AppUsage struct {
	App     string `json:"app"`
	AppID   string `json:"appid"`
	Profile string `json:"profile"`
	Rows    []Row  `json:"rows"`
	Error   string `json:"error,omitempty"`

	ReadingError string `json:"reading_error,omitempty"` // why WeChat was not read, or not to the end
}

// Row is one counter, in the words of WeChat's own console.
type Row struct {
	Category  string    `json:"category"`
	Title     string    `json:"title"`
	Rule      string    `json:"rule"`
	Path      string    `json:"path,omitempty"`   // of a path inside a /* that is counted by itself
	Caller    string    `json:"caller,omitempty"` // whose share of the quota it is; "" is the quota itself
	Period    string    `json:"period"`
	Quota     string    `json:"quota"` // N, unlimited, unknown or denied
	Limit     int64     `json:"limit"` // 0 where there is no figure
	Used      int64     `json:"used"`
	Remaining int64     `json:"remaining"`
	Reset     time.Time `json:"reset"`
	State     string    `json:"state"` // open, full, latched or denied

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
		r.Grant, r.GrantUntil = u.Grant.Calls, time.UnixMilli(u.Grant.Until)
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
	live, ok := a.live(w, r)
	if !ok {
		return
	}
	var apps []App
	var f figures
	if name := r.URL.Query().Get("app"); name != "" {
		app, ok := a.app(w, name)
		if !ok {
			return
		}
		apps, f = []App{app}, a.liveFigures(r.Context(), app, live)
	} else {
		apps = a.o.Apps()
		f = a.figures(r.Context(), apps, false)
	}
	answer := Usage{Time: time.Now(), Apps: []AppUsage{}}
	for i, app := range apps {
		one := AppUsage{App: app.Name, AppID: app.AppID, Rows: make([]Row, 0, len(f.lines[i]))}
		rules := a.o.Limiter.Rules(app.AppID)
		switch {
		case rules == nil: // between two reloads
			one.Error = "not configured"
		case f.lines[i] == nil && f.err != nil:
			one.Profile, one.Error = rules.Profile, storeProblem(f.err)
		default:
			one.Profile = rules.Profile
			if f.unread != nil && (live || f.readings[i] == nil) {
				one.ReadingError = f.unread.Error()
			}
		}
		reasons := a.reasons(r.Context(), app.AppID, f.lines[i])
		for _, u := range f.lines[i] {
			row := rowOf(u)
			row.GrantReason = reasons[u.Counter]
			row.read(f.readings[i], u)
			one.Rows = append(one.Rows, row)
		}
		answer.Apps = append(answer.Apps, one)
	}
	reply(w, http.StatusOK, answer)
}

// storeProblem returns what of an error of the store an operator may see: what the store answered,
// as NOPERM or OOM, but no address of it.
func storeProblem(err error) string {
	if answered, ok := errors.AsType[*limits.StoreError](err); ok {
		return answered.Error()
	}
	return "the store does not answer"
}
