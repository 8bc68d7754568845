package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"wxproxy/limits"
)

// maxReason bounds the reason of a grant, in bytes.
const maxReason = 200

// Grants is the answer of /api/v1/grant: the grants that are in force, or that of the rule which was asked for.
type Grants struct {
	App     string     `json:"app"`
	AppID   string     `json:"appid"`
	Profile string     `json:"profile"`
	Grants  []GrantRow `json:"grants"`
}

// GrantRow is calls that an operator has added to the quotas of a rule, or none.
type GrantRow struct {
	Rule    string    `json:"rule"` // with the path, as in other:/cgi-bin/x, where each path is counted by itself
	Calls   int64     `json:"calls"`
	Until   time.Time `json:"until,omitzero"`
	Reason  string    `json:"reason,omitempty"`
	Version int64     `json:"version"` // what a change that takes its place names; 0: there was none
	Rows    []Row     `json:"rows"`    // the rule's quotas with it
}

// listGrants answers which grants are in force.
func (a *Admin) listGrants(w http.ResponseWriter, r *http.Request) {
	g, match, ok := a.grantsOf(w, r)
	if !ok {
		return
	}
	if err := a.fillGrants(r.Context(), g, match); err != nil {
		reply(w, http.StatusServiceUnavailable, problem{Error: storeProblem(err)})
		return
	}
	reply(w, http.StatusOK, g)
}

// setGrant puts a grant in the place of the one that the request names by its version: calls are all that are
// added then, 0 ends it. To repeat a request changes nothing.
func (a *Admin) setGrant(w http.ResponseWriter, r *http.Request) {
	g, match, ok := a.grantsOf(w, r)
	if !ok {
		return
	}
	if match == nil {
		reply(w, http.StatusBadRequest, problem{Error: "no rule: want &rule= with the name of one"})
		return
	}
	query := r.URL.Query()
	calls, until, version, fault := a.readGrant(query.Get("calls"), query.Get("until"), query.Get("version"), g.AppID)
	reason := query.Get("reason")
	if fault == "" {
		fault = reasonFault(reason, calls)
	}
	if fault != "" {
		reply(w, http.StatusBadRequest, problem{Error: fault})
		return
	}
	if version < 0 { // whatever there is
		if err := a.fillGrants(r.Context(), g, match); err != nil {
			reply(w, http.StatusServiceUnavailable, problem{Error: storeProblem(err)})
			return
		}
		version = g.Grants[0].Version
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 5*time.Second)
	defer cancel()
	grant, err := a.o.Grant(ctx, g.AppID, *match, calls, until, version)
	action := Action{Name: "grant", App: g.App, Rule: match.Counter, Outcome: done, Calls: calls, Until: time.UnixMilli(grant.Until), Reason: reason}
	if err != nil {
		action.Outcome, action.Until = err.Error(), until
		a.acted(r, action)
		replyGrantError(w, match.Counter, err)
		return
	}
	if err := a.o.KeepReason(ctx, g.AppID, match.Counter, grant, reason); err != nil {
		action.Outcome += ", and the reason was not kept"
	}
	a.acted(r, action)
	if err := a.fillGrants(ctx, g, match); err != nil {
		g.Grants = []GrantRow{{Rule: match.Counter, Calls: grant.Calls, Until: time.UnixMilli(grant.Until), Reason: reason, Version: grant.At, Rows: []Row{}}}
	}
	reply(w, http.StatusOK, g)
}

func replyGrantError(w http.ResponseWriter, rule string, err error) {
	status := http.StatusServiceUnavailable
	words := "the store has not answered: whether it was set is not known; look, and repeat it"
	switch {
	case errors.Is(err, limits.ErrGrantChanged):
		status, words = http.StatusConflict, "another grant was set meanwhile: look at it first"
	case errors.Is(err, limits.ErrNoQuota):
		status, words = http.StatusUnprocessableEntity, "it has no quota to add calls to"
	case errors.Is(err, limits.ErrGrantTime):
		status, words = http.StatusUnprocessableEntity, "want an end that is to come and lies within the window of its quota"
	}
	reply(w, status, problem{Error: "rule " + rule + ": " + words})
}

// readGrant reads the figures of a request; fault says what is wrong with one. version is -1 where none is given.
func (a *Admin) readGrant(callsText, untilText, versionText, appid string) (calls int64, until time.Time, version int64, fault string) {
	calls, err := strconv.ParseInt(callsText, 10, 64)
	if err != nil || calls < 0 || calls > limits.MaxLimit {
		return 0, until, 0, fmt.Sprintf("calls %.40q: want a whole number from 0 to %d; 0 ends the grant", callsText, int64(limits.MaxLimit))
	}
	version = -1
	if versionText != "" {
		if version, err = strconv.ParseInt(versionText, 10, 64); err != nil || version < 0 {
			return 0, until, 0, fmt.Sprintf("version %.40q: want the version of the grant that is to be replaced", versionText)
		}
	}
	if until, err = readUntil(untilText, time.Now(), a.o.Limiter.Rules(appid).Zone); err != nil {
		return 0, until, 0, fmt.Sprintf("until %.40q: want a time of today as in 18:00, or one as in 2026-11-23T18:00:00+08:00", untilText)
	}
	return calls, until, version, ""
}

// readUntil reads 18:00, of today in a zone, or a time of RFC 3339; "" and 24:00 are the zero time.
func readUntil(text string, now time.Time, zone *time.Location) (time.Time, error) {
	if text == "" || text == "24:00" {
		return time.Time{}, nil
	}
	if clock, err := time.Parse("15:04", text); err == nil {
		year, month, day := now.In(zone).Date()
		return time.Date(year, month, day, clock.Hour(), clock.Minute(), 0, 0, zone), nil
	}
	return time.Parse(time.RFC3339, text)
}

// reasonFault says what is wrong with the reason of a grant; "" is nothing.
func reasonFault(reason string, calls int64) string {
	switch {
	case calls > 0 && strings.TrimSpace(reason) == "":
		return "no reason: want &reason= with why, for those who look at the figure later"
	case len(reason) > maxReason:
		return fmt.Sprintf("a reason of %d bytes: want %d at most", len(reason), maxReason)
	case !utf8.ValidString(reason) || strings.ContainsFunc(reason, isControl):
		return "the reason has a control character: want one line of text"
	}
	return ""
}

// isControl reports whether a character would change how the text around it is shown.
func isControl(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }

// grantsOf finds the app and the rule of a request; match is nil where it names no rule. When it returns false
// it has answered.
func (a *Admin) grantsOf(w http.ResponseWriter, r *http.Request) (g *Grants, match *limits.Match, ok bool) {
	if a.o.Grant == nil {
		notOffered(w, "grant")
		return nil, nil, false
	}
	app, ok := a.app(w, r.URL.Query().Get("app"))
	if !ok {
		return nil, nil, false
	}
	rules := a.o.Limiter.Rules(app.AppID)
	if rules == nil { // between two reloads
		a.unknownApp(w, app.AppID)
		return nil, nil, false
	}
	g = &Grants{App: app.Name, AppID: app.AppID, Profile: rules.Profile, Grants: []GrantRow{}}
	name, path, hasPath := strings.Cut(r.URL.Query().Get("rule"), ":")
	if name == "" {
		return g, nil, true
	}
	plan := ClearPlan{Rule: name}
	if rules.Rule(name) == nil {
		return nil, nil, plan.ofRule(w, rules)
	}
	found := limits.Match{Rule: rules.Rule(name), Counter: name, Family: true}
	if hasPath {
		found = rules.Match(path)
	}
	plain := false
	for _, p := range rules.Rule(name).Paths {
		plain = plain || !strings.HasSuffix(p, "/*")
	}
	if hasPath && (found.Rule.Name != name || found.Counter == name) || !hasPath && !plain {
		reply(w, http.StatusUnprocessableEntity, problem{Error: "rule " + name + ": want a path of its own counter after it, as in " + name + ":/cgi-bin/x, where each path is counted by itself"})
		return nil, nil, false
	}
	return g, &found, true
}

// fillGrants reads the grants in force from the store, or that of one counter.
func (a *Admin) fillGrants(ctx context.Context, g *Grants, match *limits.Match) error {
	lines, err := a.o.Limiter.Usage(ctx, g.AppID)
	if err != nil {
		return err
	}
	reasons := a.reasons(ctx, g.AppID, lines)
	g.Grants = []GrantRow{}
	if match != nil {
		g.Grants = append(g.Grants, GrantRow{Rule: match.Counter, Rows: []Row{}})
	}
	for _, u := range lines {
		if strings.Contains(u.Counter, "@") || match != nil && u.Counter != match.Counter || match == nil && u.Grant.Calls == 0 {
			continue
		}
		if n := len(g.Grants); n == 0 || g.Grants[n-1].Rule != u.Counter {
			g.Grants = append(g.Grants, GrantRow{Rule: u.Counter})
		}
		row := &g.Grants[len(g.Grants)-1]
		if row.Rows = append(row.Rows, rowOf(u)); u.Grant.Calls > 0 {
			row.Calls, row.Until, row.Version = u.Grant.Calls, time.UnixMilli(u.Grant.Until).In(u.Reset.Location()), u.Grant.At
			row.Reason = reasons[u.Counter]
		}
	}
	return nil
}

// reasons returns the reasons of the grants in force of an app, by counter, as far as they can be read.
func (a *Admin) reasons(ctx context.Context, appid string, lines []limits.Usage) map[string]string {
	grants := make(map[string]limits.Grant)
	for _, u := range lines {
		if u.Grant.Calls > 0 {
			grants[u.Counter] = u.Grant
		}
	}
	if len(grants) == 0 || a.o.GrantReasons == nil {
		return nil
	}
	reasons, _ := a.o.GrantReasons(ctx, appid, grants) // the figures are complete without
	return reasons
}
