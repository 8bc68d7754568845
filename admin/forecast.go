package admin

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"wxproxy/history"
	"wxproxy/limits"
)

// Forecast says when a counter will be used up. One of the two is set, or both: of a small quota the calls that are
// left say more than a time.
type Forecast struct {
	RunsOut time.Time `json:"runs_out,omitzero"` // before the window ends
	Left    int64     `json:"left,omitempty"`    // of a quota up to 100 that is in use
}

// CallerUse is what one caller has sent of a rule today.
type CallerUse struct {
	Caller string `json:"caller"` // "": calls that showed no key
	Sent   int64  `json:"sent"`
}

// Rates returns how fast accounts are called, by appid: of those with a counter that can run out. lines are the
// counters of each. Without rates, as after an error, forecasts have no time. h may be nil.
func Rates(ctx context.Context, h Recorder, apps []App, lines [][]limits.Usage) map[string]*history.Rates {
	if h == nil {
		return nil
	}
	var ids []string
	for i, app := range apps {
		if slices.ContainsFunc(lines[i], func(u limits.Usage) bool { return u.Limit > 0 && u.Used > 0 && u.Remaining > 0 }) {
			ids = append(ids, app.AppID)
		}
	}
	read, err := h.Rates(ctx, ids)
	if err != nil {
		return nil
	}
	rates := make(map[string]*history.Rates, len(read))
	for i, r := range read {
		rates[ids[i]] = r
	}
	return rates
}

// forecast is that of one counter. Of rules with a /* the calls of each path are not known.
func forecast(now time.Time, u limits.Usage, rates *history.Rates) history.Forecast {
	c := history.Counter{Limit: u.Limit, Used: u.Used, Reset: u.Reset, Closed: u.Latched || u.Rule.Budget.Kind == limits.Denied}
	wildcard := slices.ContainsFunc(u.Rule.Paths, func(p string) bool { return strings.HasSuffix(p, "*") })
	if rates != nil && !wildcard {
		c.Span = rates.Span
		if _, caller, isShare := strings.Cut(u.Counter, "@"); isShare {
			c.Calls = rates.CallsOf(u.Rule.Name, caller)
		} else {
			c.Calls, c.Usual = rates.Calls(u.Rule.Name), rates.Usual(u.Rule.Name)
		}
	}
	return history.Predict(now, c)
}

// past is what the history tells of the accounts of an answer.
type past struct {
	now     time.Time
	rates   map[string]*history.Rates         // by appid
	callers map[string]map[string][]CallerUse // by appid and rule; nil: not asked for
}

// past reads it. What cannot be read is left out.
func (a *Admin) past(ctx context.Context, apps []App, f figures, callers bool) past {
	p := past{now: time.Now(), rates: Rates(ctx, a.o.History, apps, f.lines)}
	if callers {
		p.callers = Callers(ctx, a.o.History, apps)
	}
	return p
}

// recall puts the forecast of a counter into its row, and who has used it.
func (r *Row) recall(p past, appid string, u limits.Usage) {
	if u.Period == limits.Day && u.Counter == u.Rule.Name {
		r.Callers = p.callers[appid][u.Rule.Name]
	}
	r.Forecast = ForecastOf(p.now, u, p.rates[appid])
}

// ForecastOf returns what is said of a counter at now, with the rates of its account; nil is nothing.
func ForecastOf(now time.Time, u limits.Usage, rates *history.Rates) *Forecast {
	f := forecast(now, u, rates)
	if f == (history.Forecast{}) {
		return nil
	}
	answer := &Forecast{Left: f.Left}
	if !f.RunsOut.IsZero() {
		answer.RunsOut = f.RunsOut.In(u.Reset.Location()).Truncate(time.Second)
	}
	return answer
}

// Callers returns what each caller has sent of each rule today, by appid and rule, the largest first; nil if it cannot be
// read. h may be nil.
func Callers(ctx context.Context, h Recorder, apps []App) map[string]map[string][]CallerUse {
	if h == nil {
		return nil
	}
	read, err := h.Callers(ctx, appids(apps))
	if err != nil {
		return nil
	}
	all := make(map[string]map[string][]CallerUse, len(read))
	for app, rules := range read {
		all[app] = make(map[string][]CallerUse, len(rules))
		for rule, callers := range rules {
			for caller, sent := range callers {
				all[app][rule] = append(all[app][rule], CallerUse{caller, sent})
			}
			slices.SortFunc(all[app][rule], func(x, y CallerUse) int {
				return cmp.Or(cmp.Compare(y.Sent, x.Sent), cmp.Compare(x.Caller, y.Caller))
			})
		}
	}
	return all
}
