package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wxproxy/admin"
	"wxproxy/config"
	"wxproxy/internal/words"
	"wxproxy/limits"
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
	rows := [][]string{{" ", l.Text(words.HeadRule), l.Text(words.LimitsShipped), l.Text(words.LimitsConfigured), l.Text(words.LimitsFrom), l.Text(words.LimitsWeChat), ""}}
	if l == words.Chinese {
		rows[0][6] = l.Text(words.HeadTitle)
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
		rows = append(rows, []string{mark, r.Rule, figure(l, r.Shipped), figure(l, r.Configured), r.ConfiguredFrom, wechatFigure(l, r), title})
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
	source := l.Text(words.LimitsProfile, "profile", r.ConfiguredFrom)
	switch {
	case r.ConfiguredFrom == config.MainFile:
		source = l.Text(words.LimitsOfApp)
	case r.Own:
		source = r.ConfiguredFrom
	case r.ConfiguredSource != "":
		source += ": " + r.ConfiguredSource
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

// writeQuotas writes WeChat's figures that differ into limits.auto.yaml. Those of rules that wxproxy.yaml has
// figures of are only printed.
func writeQuotas(cmd *cobra.Command, l words.Language, answer *admin.Limits) error {
	out := cmd.OutOrStdout()
	if !slices.ContainsFunc(answer.Rows, func(r admin.LimitRow) bool { return r.Write != "" }) {
		fmt.Fprintf(out, "\n%s\n", l.Text(words.LimitsNone))
		return nil
	}
	c, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(c.Apps, func(app config.App) bool { return app.AppID == answer.AppID })
	if i < 0 {
		return words.New(words.LimitsNotInFile, "app", answer.App)
	}
	app := c.Apps[i]
	if app.AutoQuotas {
		return words.New(words.LimitsAuto, "app", answer.App)
	}
	figures := make(map[string]limits.Budget)
	var text, byHand strings.Builder
	for _, r := range answer.Rows {
		if r.Write == "" {
			continue
		}
		rule := app.Rules.Rule(r.Rule)
		figure, err := limits.ParseBudget(strings.Split(r.Write, ", ")...)
		switch {
		case rule == nil || err != nil:
			return errors.Join(words.New(words.LimitsNoRule, "rule", r.Rule, "profile", app.Profile), err)
		case rule.Budget.String() == r.Write: // and the gateway has not reloaded
		case rule.From == config.MainFile:
			fmt.Fprintf(&byHand, "      %s: %s\n", r.Rule, quotaText(r.Write))
		default:
			figures[r.Rule] = figure
			if rule.From == config.AutoFile {
				fmt.Fprintf(&text, "- %s: %s\n", r.Rule, quotaText(rule.Budget.String()))
			}
			fmt.Fprintf(&text, "+ %s: %s\n", r.Rule, quotaText(r.Write))
		}
	}
	if byHand.Len() > 0 {
		fmt.Fprintf(out, "\n%s\n\n    quotas:\n%s", l.Text(words.LimitsByHand, "file", config.MainFile), &byHand)
	}
	if len(figures) == 0 {
		fmt.Fprintf(out, "\n%s\n", l.Text(words.LimitsSame, "file", c.AutoFile))
		return nil
	}
	fmt.Fprintf(out, "\n%s\n%s", l.Text(words.LimitsDifference, "file", c.AutoFile, "app", answer.App), &text)
	if err := confirm(cmd, l, words.LimitsConfirm); err != nil {
		return err
	}
	if err := config.WriteAuto(c.AutoFile, answer.AppID, figures); err != nil {
		return words.New(words.LimitsNotWritten, "file", c.AutoFile, "error", err)
	}
	_, err = fmt.Fprintln(out, l.Text(words.LimitsWritten, "file", c.AutoFile))
	return err
}

// quotaText is a budget as a file has it.
func quotaText(budget string) string {
	if strings.Contains(budget, ", ") {
		return "[" + budget + "]"
	}
	return budget
}
