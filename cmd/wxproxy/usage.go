package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"wxproxy/admin"
	"wxproxy/internal/words"
)

func usageCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "usage [APPID]",
		SuggestFor: []string{"用量", "quota", "stats"},
		Short:      l.Text(words.UsageShort),
		Long:       l.Text(words.UsageLong),
		Args:       wantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf(cmd, "json", "csv", "watch"); err != nil {
				return err
			}
			if asCSV, err := cmd.Flags().GetBool("csv"); err != nil || asCSV {
				return errors.Join(err, csvUsage(cmd, l, args))
			}
			if asJSON, err := cmd.Flags().GetBool("json"); err != nil || asJSON {
				u, failed := askUsage(cmd, l, args)
				if err = errors.Join(err, failed); err != nil {
					return err
				}
				return errors.Join(encode(cmd.OutOrStdout(), u, nil), notRead(u))
			}
			all, err := cmd.Flags().GetBool("all")
			if err != nil {
				return err
			}
			callers, err := cmd.Flags().GetBool("callers")
			if err != nil {
				return err
			}
			return repeat(cmd, l, func() error {
				u, err := askUsage(cmd, l, args)
				if err != nil {
					return err
				}
				printUsage(cmd.OutOrStdout(), l, u, all, callers)
				return notRead(u)
			})
		},
	}
	cmd.Flags().Bool("json", false, l.Text(words.FlagJSON))
	cmd.Flags().Bool("csv", false, l.Text(words.UsageCSV))
	cmd.Flags().Bool("all", false, l.Text(words.UsageAll))
	cmd.Flags().Bool("used", false, l.Text(words.UsageUsed))
	cmd.Flags().String("sort", "", l.Text(words.UsageSort))
	cmd.Flags().Bool("callers", false, l.Text(words.UsageCallers))
	cmd.Flags().String("top", "", l.Text(words.UsageTop))
	addWatch(cmd, l)
	addAccess(cmd, l)
	addLive(cmd, l)
	return cmd
}

// oneOf refuses a command line with more than one of some flags.
func oneOf(cmd *cobra.Command, names ...string) error {
	var given words.List
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			given = append(given, "--"+name)
		}
	}
	if len(given) > 1 {
		return usageError{words.New(words.UsageOneOf, "command", cmd.CommandPath(), "names", given)}
	}
	return nil
}

// usageOptions are what the flags of usage ask of a gateway. It checks the values.
func usageOptions(cmd *cobra.Command) (url.Values, error) {
	query := make(url.Values)
	for _, name := range []string{"sort", "top"} {
		value, err := cmd.Flags().GetString(name)
		if err != nil {
			return nil, err
		}
		if value != "" {
			query.Set(name, value)
		}
	}
	for _, name := range []string{"used", "callers"} {
		asked, err := cmd.Flags().GetBool(name)
		if err != nil {
			return nil, err
		}
		if asked {
			query.Set(name, "1")
		}
	}
	return query, nil
}

// csvUsage prints usage as the gateway makes a table of it.
func csvUsage(cmd *cobra.Command, l words.Language, args []string) error {
	query, err := usageOptions(cmd)
	if err != nil {
		return err
	}
	if len(args) > 0 {
		live, err := liveQuery(cmd, l, args[0])
		if err != nil {
			return err
		}
		maps.Copy(query, live)
	} else if live, err := cmd.Flags().GetBool("live"); err != nil || live {
		query.Set("live", "1") // the gateway says that it wants an app
	}
	query.Set("format", "csv")
	return copyAnswer(cmd, "/api/v1/usage", query)
}

// addLive gives a command the flag that liveQuery looks at.
func addLive(cmd *cobra.Command, l words.Language) {
	cmd.Flags().Bool("live", false, l.Text(words.FlagLive))
}

// liveQuery is what to ask a gateway about an app. It prints on stderr if that may take a minute.
func liveQuery(cmd *cobra.Command, l words.Language, app string) (url.Values, error) {
	query := url.Values{"app": {app}}
	live, err := cmd.Flags().GetBool("live")
	if live {
		query.Set("live", "1")
		fmt.Fprintln(cmd.ErrOrStderr(), l.Text(words.AskingWeChat, "app", app))
	}
	return query, err
}

// askUsage asks about all apps at once, or about one. With --live apps are asked about one by one,
// because each takes its time.
func askUsage(cmd *cobra.Command, l words.Language, args []string) (*admin.Usage, error) {
	live, err := cmd.Flags().GetBool("live")
	if err != nil {
		return nil, err
	}
	options, err := usageOptions(cmd)
	if err != nil {
		return nil, err
	}
	u := &admin.Usage{}
	if len(args) == 0 {
		if err := operate(cmd, http.MethodGet, "/api/v1/usage", options, u); err != nil || !live {
			return u, err
		}
		for _, app := range u.Apps {
			args = append(args, app.AppID)
		}
		u.Apps = u.Apps[:0]
	}
	for _, app := range args {
		query, err := liveQuery(cmd, l, app)
		if err != nil {
			return nil, err
		}
		maps.Copy(query, options)
		var one admin.Usage
		if err := operate(cmd, http.MethodGet, "/api/v1/usage", query, &one); err != nil {
			return nil, err
		}
		u.Time, u.Apps = one.Time, append(u.Apps, one.Apps...)
	}
	return u, nil
}

// notRead is an error if the store has not answered about some app.
func notRead(u *admin.Usage) error {
	const most = 5
	var apps words.List
	count := 0
	for _, app := range u.Apps {
		if app.Error == "" {
			continue
		}
		if count++; count <= most {
			apps = append(apps, app.App)
		}
	}
	if count == 0 {
		return nil
	}
	if count > most {
		apps = append(apps, "…")
	}
	return words.New(words.UsageNotRead, "count", count, "total", len(u.Apps), "apps", apps)
}

func encode(w io.Writer, value any, err error) error {
	if err != nil {
		return err
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(value)
}

func printUsage(w io.Writer, l words.Language, u *admin.Usage, all, callers bool) {
	for i, app := range u.Apps {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w, appLine(l, &app))
		if app.Error != "" {
			fmt.Fprintln(w, l.Translate(app.Error))
			continue
		}
		used, read := app.Rows[:0:0], app.Rows[:0:0]
		for _, r := range app.Rows {
			if !all && r.Limit == 0 && r.Used == 0 && r.State != "latched" && (r.WechatUsed == nil || *r.WechatUsed == 0) {
				continue
			}
			used = append(used, r)
			if r.WechatUsed != nil || r.Start != "" {
				read = append(read, r)
			}
		}
		printConsole(w, l, used)
		if callers {
			printCallers(w, l, &app)
		}
		if len(read) > 0 {
			fmt.Fprintln(w)
			printReadings(w, l, read)
		}
		for _, rule := range slices.Sorted(maps.Keys(app.Saved)) {
			fmt.Fprintln(w, l.Text(words.UsageSaved, "rule", rule, "count", app.Saved[rule]))
		}
		if app.ReadingError != "" {
			fmt.Fprintf(w, "\n%s\n%s\n", l.Text(words.ReadingFailed), l.Translate(app.ReadingError))
		}
	}
}

// appLine heads the tables of an app, with the times at which its counters start over.
func appLine(l words.Language, app *admin.AppUsage) string {
	line := l.Text(words.AppLine, "app", app.App, "appid", app.AppID, "profile", app.Profile)
	resets := make(map[string]string)
	for _, r := range app.Rows {
		resets[r.Period] = r.Reset.Format("01-02 15:04")
	}
	at := resets["day"]
	if month := resets["month"]; month != "" {
		at = l.Text(words.ResetMonth, "day", at, "month", month)
	}
	if len(resets) == 0 {
		return line
	}
	return l.Text(words.ResetLine, "line", line, "time", at)
}

// printConsole prints counters in the columns of WeChat's console, with the part that is used. The titles of its
// APIs are Chinese: in English the rule stands for them.
func printConsole(w io.Writer, l words.Language, counters []admin.Row) {
	rows := [][]string{{l.Text(words.HeadUsed), l.Text(words.HeadPercent), l.Text(words.HeadState), l.Text(words.HeadRunsOut), l.Text(words.HeadRule)}}
	for _, r := range counters {
		rows = append(rows, []string{amount(l, r), percent(r), l.Text(state(r)), runsOut(l, r), counter(r)})
	}
	if !slices.ContainsFunc(counters, func(r admin.Row) bool { return r.Forecast != nil }) {
		for i, row := range rows {
			rows[i] = slices.Delete(row, 3, 4)
		}
	}
	if l == words.Chinese {
		titled := [][]string{append([]string{l.Text(words.HeadCategory), l.Text(words.HeadTitle)}, rows[0]...)}
		for i, r := range counters {
			titled = append(titled, append([]string{r.Category, r.Title}, rows[i+1]...))
		}
		rows = titled
		fit(rows, 1)
	}
	printPainted(w, rows, func(row int) colour {
		if row == 0 {
			return uncoloured
		}
		return colourOf(counters[row-1])
	})
}

// percent is the part of its limit that a counter has used, rounded down: 100 is used up.
func percent(r admin.Row) string {
	if r.Limit <= 0 || r.State == "denied" {
		return ""
	}
	return strconv.FormatInt(r.Used*100/r.Limit, 10) + "%"
}

// nearPercent is from where a counter is shown as near its limit.
const nearPercent = 80

func colourOf(r admin.Row) colour {
	switch {
	case r.State == "full" || r.State == "latched":
		return red
	case r.Limit > 0 && r.Used*100 >= r.Limit*nearPercent:
		return yellow
	}
	return uncoloured
}

// printReadings prints WeChat's own counts of the day.
func printReadings(w io.Writer, l words.Language, counters []admin.Row) {
	rows := [][]string{{l.Text(words.HeadWeChat), l.Text(words.HeadDrift), l.Text(words.HeadReadAt), l.Text(words.HeadRule)}}
	for _, r := range counters {
		rows = append(rows, readRow(l, r))
	}
	if l == words.Chinese {
		rows[0] = append([]string{l.Text(words.HeadTitle)}, rows[0]...)
		for i, r := range counters {
			rows[i+1] = append([]string{r.Title}, rows[i+1]...)
		}
		fit(rows, 0)
	}
	printTable(w, rows)
}

func readRow(l words.Language, r admin.Row) []string {
	var wechat, drift, at string
	if r.Start != "" {
		drift = l.Text(words.StartUnknown)
	}
	if r.WechatUsed != nil {
		wechat = strconv.FormatInt(*r.WechatUsed, 10)
		if r.WechatLimit > 0 {
			wechat += "/" + strconv.FormatInt(r.WechatLimit, 10)
		}
		at = r.ReadAt.Format("15:04")
	}
	if r.Drift != nil {
		drift = strconv.FormatInt(*r.Drift, 10)
		if *r.Drift > 0 {
			drift = "+" + drift
		}
	}
	return []string{wechat, drift, at, counter(r)}
}

// counter is a rule with the path inside its /*, or the caller whose share it is.
func counter(r admin.Row) string {
	text := r.Rule
	if r.Path != "" {
		text += ":" + r.Path
	}
	if r.Caller != "" {
		text += "@" + r.Caller
	}
	return text
}

// amount is the console's "0/2000", with words in place of a limit where there is no figure.
func amount(l words.Language, r admin.Row) string { return granted(l, r, used(l, r)) }

func used(l words.Language, r admin.Row) string {
	if r.State == "denied" {
		return ""
	}
	limit := l.Text(words.NotPublished)
	switch {
	case r.Limit > 0:
		limit = strconv.FormatInt(r.Limit, 10)
	case r.Quota == "unlimited":
		limit = l.Text(words.Unlimited)
	}
	text := fmt.Sprintf("%d/%s", r.Used, limit)
	if r.Caller != "" && r.Limit == 0 { // a reserve, and no share
		text = strconv.FormatInt(r.Used, 10)
	}
	if r.Period == "month" {
		text = l.Text(words.PerMonth, "amount", text)
	}
	return text
}

func state(r admin.Row) words.Message {
	switch r.State {
	case "denied":
		return words.StateDenied
	case "full":
		return words.StateFull
	case "latched":
		return words.StateLatched
	}
	return words.StateOpen
}

func explainCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "explain APPID METHOD PATH",
		SuggestFor: []string{"解释", "why"},
		Short:      l.Text(words.ExplainShort),
		Example: `  wxproxy explain shop POST /cgi-bin/menu/create
  wxproxy explain shop GET "https://api.weixin.qq.com/cgi-bin/user/info?openid=x" --caller crm`,
		Args: wantArgs(3, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			var e admin.Explanation
			caller, err := cmd.Flags().GetString("caller")
			if err != nil {
				return err
			}
			query := url.Values{"app": {args[0]}, "method": {args[1]}, "path": {args[2]}, "caller": {caller}}
			if err := operate(cmd, http.MethodGet, "/api/v1/explain", query, &e); err != nil {
				return err
			}
			if asJSON, err := cmd.Flags().GetBool("json"); err != nil || asJSON {
				return encode(cmd.OutOrStdout(), e, err)
			}
			printExplanation(cmd.OutOrStdout(), l, &e)
			return nil
		},
	}
	addAccess(cmd, l)
	cmd.Flags().Bool("json", false, l.Text(words.FlagJSON))
	cmd.Flags().String("caller", "", l.Text(words.ExplainCallerFlag))
	return cmd
}

func printExplanation(w io.Writer, l words.Language, e *admin.Explanation) {
	var rows [][]string
	line := func(label words.Message, text string) {
		if text != "" {
			rows = append(rows, []string{l.Text(label), text})
		}
	}
	line(words.ExplainApp, e.App+"  "+e.AppID)
	line(words.ExplainCaller, e.Caller)
	line(words.ExplainProfile, e.Profile)
	line(words.ExplainCall, e.Method+" "+e.Path)
	rule := e.Rule
	if e.Title != "" && l == words.Chinese {
		rule += "  " + e.Title
	}
	line(words.ExplainRule, rule)
	line(words.ExplainSource, e.Source)
	line(words.ExplainQuota, e.Quota)
	line(words.ExplainPace, e.Pace)
	line(words.ExplainInject, e.Inject)
	if e.Shadow {
		line(words.ExplainShadow, l.Text(words.ExplainShadows))
	}
	for _, r := range e.Rows {
		label := words.ExplainDay
		if r.Period == "month" {
			label = words.ExplainMonth
		}
		until := r.Reset.Format(time.RFC3339)
		amount := l.Text(words.ExplainUsed, "used", r.Used, "reset", until)
		if r.Limit > 0 {
			amount = l.Text(words.ExplainLeft, "used", r.Used, "limit", r.Limit, "left", r.Remaining, "reset", until)
		}
		amount = granted(l, r, amount)
		if r.Caller != "" {
			amount = l.Text(words.ExplainShare, "caller", r.Caller, "amount", amount)
		}
		line(label, amount)
	}
	line(words.ExplainResult, l.Translate(e.Statement))
	printTable(w, rows)
}
