package admin

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"wxproxy/history"
)

// Recorder is what admin asks of the history. *history.Recorder is the one in use.
type Recorder interface {
	History(ctx context.Context, q history.Query) ([]history.Line, error)
	Refusals(ctx context.Context, q history.Query) ([]history.Refusal, error)
	Callers(ctx context.Context, appids []string) (map[string]map[string]map[string]int64, error)
	Rates(ctx context.Context, appids []string) ([]*history.Rates, error)
	Zone() *time.Location
	HoursSince() time.Time
	DaysSince() time.Time
}

// History is the answer of /api/v1/history: the calls of a range.
type History struct {
	From time.Time    `json:"from"`
	To   time.Time    `json:"to"`
	Step string       `json:"step"` // total, day or hour
	By   []string     `json:"by"`   // rule, caller, outcome: what is kept apart
	Rows []HistoryRow `json:"rows"`
}

// HistoryRow is the calls of one account in one step. Rule, Caller and Outcome are empty where they are added up;
// a call may also have no rule or no caller.
type HistoryRow struct {
	Start   time.Time `json:"start"` // of the step; of the range where that is total
	App     string    `json:"app"`   // "-": calls that were refused before an account was known
	AppID   string    `json:"appid"`
	Rule    string    `json:"rule,omitempty"`
	Caller  string    `json:"caller,omitempty"`
	Outcome string    `json:"outcome,omitempty"` // passed, shadow, refused:REASON, errcode:N, transport-error, http-error, local or token-died
	Calls   int64     `json:"calls"`
	Sent    int64     `json:"sent"`    // requests to WeChat: of a call whose token had died two
	Refused int64     `json:"refused"` // by the gateway
	Shadow  int64     `json:"shadow"`  // sent, and would have been refused
}

// Refusals is the answer of /api/v1/refusals: what was refused in a range, the most frequent first.
type Refusals struct {
	From time.Time    `json:"from"`
	To   time.Time    `json:"to"`
	Rows []RefusalRow `json:"rows"`
}

// RefusalRow is what was refused of one rule to one caller for one reason.
type RefusalRow struct {
	App    string    `json:"app"`
	AppID  string    `json:"appid"`
	Rule   string    `json:"rule"`
	Caller string    `json:"caller"`
	Reason string    `json:"reason"` // as in X-Wxproxy-Reason
	First  time.Time `json:"first"`  // of the range
	Last   time.Time `json:"last"`
	Count  int64     `json:"count"`
}

// historyRequest is what both requests ask for.
type historyRequest struct {
	history.Query
	names map[string]string // of the accounts, by appid
	csv   bool
}

// historyQuery reads what is asked for. When ok is false it has answered.
func (a *Admin) historyQuery(w http.ResponseWriter, r *http.Request) (q historyRequest, ok bool) {
	if a.o.History == nil {
		notOffered(w, "history")
		return q, false
	}
	q.csv = wantsCSV(r)
	noApp := App{Name: history.NoApp, AppID: history.NoApp}
	apps := append(a.o.Apps(), noApp)
	if name := r.URL.Query().Get("app"); name == history.NoApp {
		apps = []App{noApp}
	} else if name != "" {
		app, ok := a.app(w, name)
		if !ok {
			return q, false
		}
		apps = []App{app}
	}
	q.names = make(map[string]string, len(apps))
	for _, app := range apps {
		q.Apps = append(q.Apps, app.AppID)
		q.names[app.AppID] = app.Name
	}
	var err error
	if q.From, q.To, err = period(r, time.Now().In(a.o.History.Zone())); err == nil {
		err = a.historySteps(r, &q.Query)
	}
	if err != nil {
		reply(w, http.StatusBadRequest, problem{Error: err.Error()})
	}
	return q, err == nil
}

// historySteps reads ?step= and ?by=.
func (a *Admin) historySteps(r *http.Request, q *history.Query) error {
	q.Step = history.Step(cmp.Or(r.URL.Query().Get("step"), string(history.Total)))
	if since := a.o.History.HoursSince(); q.Step == history.ByHour && q.From.Before(since) {
		return errors.New("from " + q.From.Format(time.DateOnly) + " with step hour: want from " + since.Format(time.DateOnly) +
			" on, for hours are kept " + strconv.Itoa(history.HoursKept) + " days, or step day")
	}
	if since := a.o.History.DaysSince(); q.From.Before(since) {
		q.From = since
	}
	by := r.URL.Query().Get("by")
	if by == "" {
		by = "rule,caller,outcome"
	}
	for name := range strings.SplitSeq(by, ",") {
		switch name {
		case "rule":
			q.Rule = true
		case "caller":
			q.Caller = true
		case "outcome":
			q.Outcome = true
		case "none":
		default:
			return errors.New("by " + strings.ToValidUTF8(by, "?") + ": want some of rule, caller and outcome with commas between them, or none")
		}
	}
	return nil
}

func (a *Admin) history(w http.ResponseWriter, r *http.Request) {
	q, ok := a.historyQuery(w, r)
	if !ok {
		return
	}
	lines, err := a.o.History.History(r.Context(), q.Query)
	if err != nil {
		historyProblem(w, err)
		return
	}
	answer := History{From: q.From, To: q.To, Step: string(q.Step), By: []string{}, Rows: make([]HistoryRow, 0, len(lines))}
	for _, by := range []struct {
		name string
		is   bool
	}{{"rule", q.Rule}, {"caller", q.Caller}, {"outcome", q.Outcome}} {
		if by.is {
			answer.By = append(answer.By, by.name)
		}
	}
	for _, l := range lines {
		answer.Rows = append(answer.Rows, HistoryRow{
			Start: l.Start, App: q.names[l.App], AppID: l.App, Rule: l.Series.Rule, Caller: l.Series.Caller, Outcome: l.Series.Outcome.String(),
			Calls: l.Calls, Sent: l.Sent, Refused: l.Refused, Shadow: l.Shadow,
		})
	}
	if !q.csv {
		reply(w, http.StatusOK, answer)
		return
	}
	rows := [][]string{{"start", "app", "appid", "rule", "caller", "outcome", "calls", "sent", "refused", "shadow"}}
	for _, l := range answer.Rows {
		rows = append(rows, []string{
			l.Start.Format(time.RFC3339), l.App, l.AppID, l.Rule, l.Caller, l.Outcome, figure(l.Calls), figure(l.Sent), figure(l.Refused), figure(l.Shadow),
		})
	}
	replyCSV(w, "history", rows)
}

func (a *Admin) refusals(w http.ResponseWriter, r *http.Request) {
	q, ok := a.historyQuery(w, r)
	if !ok {
		return
	}
	refusals, err := a.o.History.Refusals(r.Context(), q.Query)
	if err != nil {
		historyProblem(w, err)
		return
	}
	answer := Refusals{From: q.From, To: q.To, Rows: make([]RefusalRow, 0, len(refusals))}
	for _, f := range refusals {
		answer.Rows = append(answer.Rows, RefusalRow{
			App: q.names[f.App], AppID: f.App, Rule: f.Rule, Caller: f.Caller, Reason: f.Reason, First: f.First, Last: f.Last, Count: f.Count,
		})
	}
	if !q.csv {
		reply(w, http.StatusOK, answer)
		return
	}
	rows := [][]string{{"app", "appid", "rule", "caller", "reason", "first", "last", "count"}}
	for _, f := range answer.Rows {
		rows = append(rows, []string{f.App, f.AppID, f.Rule, f.Caller, f.Reason, f.First.Format(time.RFC3339), f.Last.Format(time.RFC3339), figure(f.Count)})
	}
	replyCSV(w, "refusals", rows)
}

// historyProblem answers with an error of the history.
func historyProblem(w http.ResponseWriter, err error) {
	if errors.Is(err, history.ErrTooMany) {
		reply(w, http.StatusBadRequest, problem{Error: "more than " + strconv.Itoa(history.MaxLines) + " rows: want one app, a shorter range, a longer step or less in by"})
		return
	}
	reply(w, http.StatusServiceUnavailable, problem{Error: storeProblem(err)})
}
