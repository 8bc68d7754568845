package admin

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"wxproxy/limits"
)

// Limits is the answer of /api/v1/limits: the figures of an app as the program ships them, as they
// are configured, and as WeChat states them.
type Limits struct {
	Time         time.Time  `json:"time"`
	App          string     `json:"app"`
	AppID        string     `json:"appid"`
	Profile      string     `json:"profile"`
	Rows         []LimitRow `json:"rows"`
	ReadingError string     `json:"reading_error,omitempty"` // why WeChat was not read, or not to the end
}

// LimitRow is one rule, or one path inside a /* for which WeChat has stated a figure.
type LimitRow struct {
	Rule             string    `json:"rule"`
	Title            string    `json:"title"`
	Path             string    `json:"path,omitempty"`
	Shipped          string    `json:"shipped,omitempty"` // "": the program ships no such rule
	ShippedSource    string    `json:"shipped_source,omitempty"`
	Configured       string    `json:"configured"`
	ConfiguredFrom   string    `json:"configured_from,omitempty"` // the profile that has the figure, wxproxy.yaml or limits.auto.yaml with the app's own, or WeChat
	ConfiguredSource string    `json:"configured_source,omitempty"`
	Own              bool      `json:"own,omitempty"`          // the figure is from the app's quotas in wxproxy.yaml
	WechatLimit      int64     `json:"wechat_limit,omitempty"` // a day; 0: not read, or WeChat states none
	ReadAt           time.Time `json:"read_at,omitzero"`
	Differs          bool      `json:"differs,omitempty"` // the three are not the same
	Write            string    `json:"write,omitempty"`   // what in the app's quotas would make WeChat's figure ours
}

func (a *Admin) limits(w http.ResponseWriter, r *http.Request) {
	if a.o.Tables == nil {
		notOffered(w, "limits")
		return
	}
	live, ok := a.live(w, r)
	if !ok {
		return
	}
	app, ok := a.app(w, r.URL.Query().Get("app"))
	if !ok {
		return
	}
	f := a.liveFigures(r.Context(), app, live) // first: WeChat's figures may be adopted at once
	rules := a.o.Limiter.Rules(app.AppID)
	if rules == nil { // between two reloads
		a.unknownApp(w, app.AppID)
		return
	}
	shipped, table := a.o.Tables(app.AppID)
	answer := Limits{Time: time.Now(), App: app.Name, AppID: app.AppID, Profile: rules.Profile, Rows: []LimitRow{}}
	readings := f.readings[0]
	switch {
	case f.unread != nil:
		answer.ReadingError = f.unread.Error()
	case f.err != nil:
		answer.ReadingError = storeProblem(f.err)
	}
	for _, rule := range rules.Rules {
		answer.Rows = append(answer.Rows, limitRow(rule, find(shipped, rule.Name), find(table, rule.Name), readings[rule.Name]))
		answer.Rows = append(answer.Rows, pathRows(rule, readings)...)
	}
	for i := range answer.Rows {
		if at := &answer.Rows[i].ReadAt; !at.IsZero() {
			*at = at.In(rules.Zone)
		}
	}
	reply(w, http.StatusOK, answer)
}

func find(rules *limits.Ruleset, name string) *limits.Rule {
	if rules == nil {
		return nil
	}
	return rules.Rule(name)
}

// limitRow compares one rule with itself in the other tables, which may be nil.
func limitRow(rule, shipped, table *limits.Rule, reading Reading) LimitRow {
	row := LimitRow{
		Rule: rule.Name, Title: rule.Title, Configured: rule.Budget.String(), ConfiguredFrom: rule.From, ConfiguredSource: rule.Source,
		WechatLimit: reading.limit(), ReadAt: reading.At,
	}
	if shipped != nil {
		row.Shipped, row.ShippedSource = shipped.Budget.String(), shipped.Source
		row.Differs = row.Shipped != row.Configured
	}
	if table != nil && table.Budget.String() != row.Configured {
		row.Own, row.ConfiguredSource = true, ""
	}
	if row.WechatLimit > 0 {
		if row.Write = override(rule.Budget, row.WechatLimit); row.Write != "" {
			row.Differs = true
		}
	}
	return row
}

// override is the budget with WeChat's figure for the day, or "" where that changes nothing, or
// nothing that is WeChat's to say: a month's figure and what the account lacks.
func override(b limits.Budget, perDay int64) string {
	day := limits.Quota{Limit: perDay, Period: limits.Day}
	switch b.Kind {
	case limits.Denied:
		return ""
	case limits.Limited:
		i := slices.IndexFunc(b.Quotas, func(q limits.Quota) bool { return q.Period == limits.Day })
		if i < 0 || b.Quotas[i] == day {
			return ""
		}
		b.Quotas = slices.Clone(b.Quotas)
		b.Quotas[i] = day
		return b.String()
	default:
		return day.String()
	}
}

// pathRows are the paths inside a rule's /* for which WeChat has stated a figure.
func pathRows(rule *limits.Rule, readings map[string]Reading) []LimitRow {
	var rows []LimitRow
	for counter, reading := range readings {
		if path, ok := strings.CutPrefix(counter, rule.Name+":"); ok && reading.limit() > 0 {
			rows = append(rows, LimitRow{
				Rule: rule.Name, Title: rule.Title, Path: path, Configured: rule.Budget.String(), ConfiguredFrom: rule.From, ConfiguredSource: rule.Source,
				WechatLimit: reading.limit(), ReadAt: reading.At, Differs: override(rule.Budget, reading.limit()) != "",
			})
		}
	}
	slices.SortFunc(rows, func(a, b LimitRow) int { return strings.Compare(a.Path, b.Path) })
	return rows
}
