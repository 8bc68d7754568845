package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wxproxy/admin"
)

func usageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:        "usage [APPID]",
		SuggestFor: []string{"用量", "quota", "stats"},
		Short:      "Print today's table of a running gateway, in the columns of WeChat's own console",
		Long: `usage prints what each app has used, in the columns of WeChat's own console. It asks the
admin listener of the running gateway. Rules that have no figure and were not called are left
out; --all prints them too.

Where WeChat was asked for its own count of the day, a second table has that: 偏差 is WeChat's
count less ours, so calls around the gateway are above 0, and 起点未知 says that WeChat did not
tell what it had counted before our first call of the day. --live asks WeChat now, rule by rule,
which may take a minute for an app.`,
		Args: wantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			u, err := askUsage(cmd, args)
			if err != nil {
				return err
			}
			if asJSON, err := cmd.Flags().GetBool("json"); err != nil || asJSON {
				return errors.Join(encode(cmd.OutOrStdout(), u, err), notRead(u))
			}
			all, err := cmd.Flags().GetBool("all")
			if err != nil {
				return err
			}
			printUsage(cmd.OutOrStdout(), u, all)
			return notRead(u)
		},
	}
	cmd.Flags().Bool("json", false, "print JSON")
	cmd.Flags().Bool("all", false, "print rules without a figure that were not called, too")
	addAccess(cmd)
	addLive(cmd)
	return cmd
}

// addLive gives a command the flag that liveQuery looks at.
func addLive(cmd *cobra.Command) {
	cmd.Flags().Bool("live", false, "ask WeChat first, rule by rule")
}

// liveQuery is what to ask a gateway about an app. It says on stderr if that will take its time.
func liveQuery(cmd *cobra.Command, app string) (url.Values, error) {
	query := url.Values{"app": {app}}
	live, err := cmd.Flags().GetBool("live")
	if live {
		query.Set("live", "1")
		fmt.Fprintf(cmd.ErrOrStderr(), "asking WeChat about %s, rule by rule: this may take a minute\n", app)
	}
	return query, err
}

// askUsage asks about all apps at once, or about one. With --live apps are asked about one by one,
// because each takes its time.
func askUsage(cmd *cobra.Command, args []string) (*admin.Usage, error) {
	live, err := cmd.Flags().GetBool("live")
	if err != nil {
		return nil, err
	}
	u := &admin.Usage{}
	if len(args) == 0 {
		if err := operate(cmd, http.MethodGet, "/api/v1/usage", nil, u); err != nil || !live {
			return u, err
		}
		for _, app := range u.Apps {
			args = append(args, app.AppID)
		}
		u.Apps = u.Apps[:0]
	}
	for _, app := range args {
		query, err := liveQuery(cmd, app)
		if err != nil {
			return nil, err
		}
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
	var apps []string
	for _, app := range u.Apps {
		if app.Error != "" {
			apps = append(apps, app.App)
		}
	}
	if len(apps) == 0 {
		return nil
	}
	const most = 5
	text := strings.Join(apps[:min(len(apps), most)], ", ")
	if len(apps) > most {
		text += ", …"
	}
	return fmt.Errorf("usage of %d of %d apps was not read: %s", len(apps), len(u.Apps), text)
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

func printUsage(w io.Writer, u *admin.Usage, all bool) {
	for i, app := range u.Apps {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s  %s  profile %s\n", app.App, app.AppID, app.Profile)
		if app.Error != "" {
			fmt.Fprintf(w, "%s\n", app.Error)
			continue
		}
		rows, read := [][]string{consoleHead}, [][]string{readHead}
		for _, r := range app.Rows {
			if !all && r.Limit == 0 && r.Used == 0 && r.State != "latched" && (r.WechatUsed == nil || *r.WechatUsed == 0) {
				continue
			}
			rows = append(rows, consoleRow(r))
			if r.WechatUsed != nil || r.Start != "" {
				read = append(read, readRow(r))
			}
		}
		fit(rows, 1)
		printTable(w, rows)
		if len(read) > 1 {
			fmt.Fprintln(w)
			fit(read, 0)
			printTable(w, read)
		}
		if app.ReadingError != "" {
			fmt.Fprintf(w, "\nWeChat was not asked to the end:\n%s\n", app.ReadingError)
		}
	}
}

// The columns of WeChat's console, and those of its own count of the day.
var (
	consoleHead = []string{"类目", "接口", "每日实时调用量/上限", "接口状态", "规则"}
	readHead    = []string{"接口", "微信用量/上限", "偏差", "读取", "规则"}
)

func consoleRow(r admin.Row) []string {
	return []string{r.Category, r.Title, amount(r), state(r), counter(r)}
}

func readRow(r admin.Row) []string {
	var wechat, drift, at string
	if r.Start != "" {
		drift = "起点未知"
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
	return []string{r.Title, wechat, drift, at, counter(r)}
}

// width is how many columns a table should keep to.
const width = 100

// fit cuts the texts of one column, so that the table keeps to its width. Paths are left whole: they
// stand in the last column, where they widen no other line.
func fit(rows [][]string, column int) {
	const least = 12
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			if !hasPath(cell) {
				widths[i] = max(widths[i], cells(cell))
			}
		}
	}
	room := width - 2*(len(widths)-1)
	for i, n := range widths {
		if i != column {
			room -= n
		}
	}
	room = max(room, least)
	for _, row := range rows[1:] {
		if cells(row[column]) > room && !hasPath(row[column]) {
			row[column] = cut(row[column], room)
		}
	}
}

func hasPath(cell string) bool { return strings.HasPrefix(cell, "/") || strings.Contains(cell, ":/") }

// cut shortens a text to so many columns of a terminal.
func cut(text string, room int) string {
	end := 0
	for i, r := range text {
		if cells(text[:i])+cells(string(r))+1 > room {
			break
		}
		end = i + len(string(r))
	}
	return text[:end] + "…"
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

// amount is the console's "0/2000"; 无上限 and 未公布 are in its words what has no figure.
func amount(r admin.Row) string {
	text := strconv.FormatInt(r.Used, 10)
	switch {
	case r.State == "denied":
		return ""
	case r.Limit > 0:
		text += "/" + strconv.FormatInt(r.Limit, 10)
	case r.Quota == "unlimited":
		text += "/无上限"
	default:
		text += "/未公布"
	}
	if r.Period == "month" {
		text += " 每月"
	}
	return text
}

func state(r admin.Row) string {
	switch r.State {
	case "denied":
		return "未获得"
	case "full":
		return "已用完"
	case "latched":
		return "微信已拒绝"
	}
	return "已获得"
}

// printTable prints rows in columns. Chinese characters are two cells wide, so text/tabwriter
// would not line them up.
func printTable(w io.Writer, rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], cells(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-cells(cell)+2))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// cells is how many columns of a terminal a text takes.
func cells(text string) int {
	n := 0
	for _, r := range text {
		n++
		if r >= 0x1100 && r <= 0x115f || r >= 0x2e80 && r <= 0xffe6 && (r < 0xff61 || r > 0xffdf) {
			n++
		}
	}
	return n
}

func explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:        "explain APPID METHOD PATH",
		SuggestFor: []string{"解释", "why"},
		Short:      "Tell which rule a path has on a running gateway, its quotas, what is used and left",
		Example: `  wxproxy explain shop POST /cgi-bin/menu/create
  wxproxy explain wx0123456789abcdef GET /cgi-bin/user/info`,
		Args: wantArgs(3, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			var e admin.Explanation
			query := url.Values{"app": {args[0]}, "method": {args[1]}, "path": {args[2]}}
			if err := operate(cmd, http.MethodGet, "/api/v1/explain", query, &e); err != nil {
				return err
			}
			if asJSON, err := cmd.Flags().GetBool("json"); err != nil || asJSON {
				return encode(cmd.OutOrStdout(), e, err)
			}
			printExplanation(cmd.OutOrStdout(), &e)
			return nil
		},
	}
	addAccess(cmd)
	cmd.Flags().Bool("json", false, "print JSON")
	return cmd
}

func printExplanation(w io.Writer, e *admin.Explanation) {
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(w, "%-9s %s\n", label, text)
		}
	}
	line("app", e.App+"  "+e.AppID)
	line("profile", e.Profile)
	line("call", e.Method+" "+e.Path)
	rule := e.Rule
	if e.Title != "" {
		rule += "  " + e.Title
	}
	line("rule", rule)
	line("source", e.Source)
	line("quota", e.Quota)
	line("pace", e.Pace)
	line("inject", e.Inject)
	if e.Shadow {
		line("shadow", "yes: counts, and sends what it would refuse")
	}
	for _, r := range e.Rows {
		text := fmt.Sprintf("%d used", r.Used)
		if r.Limit > 0 {
			text = fmt.Sprintf("%d of %d used, %d left", r.Used, r.Limit, r.Remaining)
		}
		line(r.Period, text+", until "+r.Reset.Format(time.RFC3339))
	}
	line("a call", e.Statement)
}
