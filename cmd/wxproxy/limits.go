package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wxproxy/admin"
	"wxproxy/config"
	"wxproxy/internal/words"
)

func limitsCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "limits APPID",
		SuggestFor: []string{"额度", "限额"},
		Short:      l.Text(words.LimitsShort),
		Long:       l.Text(words.LimitsLong),
		Example: `  wxproxy limits shop --live
  wxproxy limits shop --live --write`,
		Args: wantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := cmd.Flags().GetBool("json")
			if err != nil {
				return err
			}
			write, err := cmd.Flags().GetBool("write")
			if err != nil {
				return err
			}
			if asJSON && write {
				return usageError{words.New(words.LimitsOneOf)}
			}
			query, err := liveQuery(cmd, l, args[0])
			if err != nil {
				return err
			}
			var got admin.Limits
			if err := operate(cmd, http.MethodGet, "/api/v1/limits", query, &got); err != nil {
				return err
			}
			if asJSON {
				return encode(cmd.OutOrStdout(), got, nil)
			}
			printLimits(cmd.OutOrStdout(), l, &got)
			if write {
				return writeQuotas(cmd, l, &got)
			}
			return nil
		},
	}
	addAccess(cmd, l)
	addLive(cmd, l)
	addYes(cmd, l)
	cmd.Flags().Bool("write", false, l.Text(words.LimitsWrite))
	cmd.Flags().Bool("json", false, l.Text(words.FlagJSON))
	return cmd
}

func printLimits(w io.Writer, l words.Language, answer *admin.Limits) {
	fmt.Fprintln(w, l.Text(words.AppLine, "app", answer.App, "appid", answer.AppID, "profile", answer.Profile))
	rows := [][]string{{" ", l.Text(words.HeadRule), l.Text(words.LimitsShipped), l.Text(words.LimitsConfigured), l.Text(words.LimitsWeChat), ""}}
	if l == words.Chinese {
		rows[0][5] = l.Text(words.HeadTitle)
	}
	read := false
	for _, r := range answer.Rows {
		mark := " "
		if r.Differs {
			mark = "*"
		}
		title := r.Path
		if title == "" && l == words.Chinese {
			title = r.Title
		}
		rows = append(rows, []string{mark, r.Rule, figure(l, r.Shipped), figure(l, r.Configured), wechatFigure(l, r), title})
		read = read || !r.ReadAt.IsZero()
	}
	fit(rows, len(rows[0])-1)
	printTable(w, rows)
	for _, r := range answer.Rows {
		if r.Differs {
			printDifference(w, l, r)
		}
	}
	if answer.ReadingError != "" {
		fmt.Fprintf(w, "\n%s\n%s\n", l.Text(words.ReadingFailed), l.Translate(answer.ReadingError))
	} else if !read {
		fmt.Fprintf(w, "\n%s\n", l.Text(words.LimitsNotAsked))
	}
}

// figure is a budget for readers.
func figure(l words.Language, budget string) string {
	switch budget {
	case "unknown":
		return l.Text(words.LimitsNoFigure)
	case "unlimited":
		return l.Text(words.Unlimited)
	case "denied":
		return l.Text(words.StateDenied)
	}
	return budget
}

func wechatFigure(l words.Language, r admin.LimitRow) string {
	switch {
	case r.WechatLimit > 0:
		return strconv.FormatInt(r.WechatLimit, 10) + "/day"
	case !r.ReadAt.IsZero():
		return l.Text(words.LimitsNoFigure)
	}
	return ""
}

// printDifference shows where the figures of a rule come from.
func printDifference(w io.Writer, l words.Language, r admin.LimitRow) {
	program := l.Text(words.LimitsProgram)
	name := r.Rule
	if r.Path != "" {
		name += "  " + r.Path
	}
	fmt.Fprintf(w, "\n* %s\n", name)
	var rows [][]string
	if r.Shipped != "" {
		rows = append(rows, []string{"   ", l.Text(words.LimitsShipped), figure(l, r.Shipped), cmp.Or(r.ShippedSource, program)})
	}
	source := r.ConfiguredSource
	switch {
	case r.Own:
		source = l.Text(words.LimitsOfApp)
	case source == "" && (r.Shipped == r.Configured || r.Path != ""):
		source = program
	case source == "":
		source = config.LimitsFile
	}
	rows = append(rows, []string{"   ", l.Text(words.LimitsConfigured), figure(l, r.Configured), source})
	if r.WechatLimit > 0 {
		rows = append(rows, []string{"   ", l.Text(words.LimitsWeChat), wechatFigure(l, r), l.Text(words.LimitsReadAt, "time", r.ReadAt.Format(time.DateTime))})
	}
	printTable(w, rows)
	if r.Path != "" {
		fmt.Fprintln(w, "     "+l.Text(words.LimitsWildcard))
	}
}

// writeQuotas writes WeChat's figures that differ into wxproxy.yaml.
func writeQuotas(cmd *cobra.Command, l words.Language, answer *admin.Limits) error {
	out := cmd.OutOrStdout()
	quotas := make(map[string]string)
	for _, r := range answer.Rows {
		if r.Write != "" {
			quotas[r.Rule] = r.Write
		}
	}
	if len(quotas) == 0 {
		fmt.Fprintf(out, "\n%s\n", l.Text(words.LimitsNone))
		return nil
	}
	c, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(c.Apps, func(app config.App) bool { return app.AppID == answer.AppID })
	if i >= 0 && c.Apps[i].AutoQuotas {
		return words.New(words.LimitsAuto, "app", answer.App)
	}
	path, err := cmd.Flags().GetString("config")
	if err != nil {
		return err
	}
	load := loadOptions(path)
	if path == "" {
		path = config.MainFile
	}
	before, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return notWritten(out, l, path, quotas, err)
	}
	if i < 0 {
		return notWritten(out, l, path, quotas, words.New(words.LimitsNotInFile))
	}
	after, err := config.SetQuotas(before, answer.AppID, quotas)
	if err == nil {
		err = config.CheckText(load, after)
	}
	if err != nil {
		return notWritten(out, l, path, quotas, err)
	}
	if bytes.Equal(before, after) {
		fmt.Fprintf(out, "\n%s\n", l.Text(words.LimitsSame, "file", path))
		return nil
	}
	fmt.Fprintf(out, "\n%s\n", l.Text(words.LimitsDifference, "file", path, "app", answer.App))
	for _, rule := range slices.Sorted(maps.Keys(quotas)) {
		was, own := c.Apps[i].Quotas[rule]
		if own && was.String() == quotas[rule] {
			continue
		}
		if own {
			fmt.Fprintf(out, "- %s: %s\n", rule, quotaText(was.String()))
		}
		fmt.Fprintf(out, "+ %s: %s\n", rule, quotaText(quotas[rule]))
	}
	if err := confirm(cmd, l, words.LimitsConfirm); err != nil {
		return err
	}
	if err := replaceFile(path, before, after); err != nil {
		return notWritten(out, l, path, quotas, err)
	}
	_, err = fmt.Fprintln(out, l.Text(words.LimitsWritten, "file", path))
	return err
}

// quotaText is a budget as wxproxy.yaml has it.
func quotaText(budget string) string {
	if strings.Contains(budget, ", ") {
		return "[" + budget + "]"
	}
	return budget
}

// notWritten prints what to write by hand, and returns why nothing else was done.
func notWritten(w io.Writer, l words.Language, path string, quotas map[string]string, err error) error {
	fmt.Fprintf(w, "\n%s\n\n    quotas:\n", l.Text(words.LimitsByHand, "file", path))
	for _, rule := range slices.Sorted(maps.Keys(quotas)) {
		fmt.Fprintf(w, "      %s: %s\n", rule, quotaText(quotas[rule]))
	}
	return words.New(words.LimitsNotWritten, "file", path, "error", err)
}
