package main

import (
	"bytes"
	"errors"
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
)

func limitsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:        "limits APPID",
		SuggestFor: []string{"额度", "限额"},
		Short:      "Print the quotas of an app as shipped, as configured and as WeChat says they are",
		Long: `limits prints the figures of an app side by side: those of its profile as this program ships
them, those that the running gateway goes by, and those that WeChat itself has told. A * marks
a rule whose figures differ.

WeChat is asked only with --live, rule by rule, which may take a minute. --write writes its
figures of the rules that differ into wxproxy.yaml, as quotas of the app, and asks first; --yes
does it without asking. Comments and all else in the file stay as they are.`,
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
				return usageError{errors.New("wxproxy limits: want --json or --write, not both")}
			}
			query, err := liveQuery(cmd, args[0])
			if err != nil {
				return err
			}
			var l admin.Limits
			if err := operate(cmd, http.MethodGet, "/api/v1/limits", query, &l); err != nil {
				return err
			}
			if asJSON {
				return encode(cmd.OutOrStdout(), l, nil)
			}
			printLimits(cmd.OutOrStdout(), &l)
			if write {
				return writeQuotas(cmd, &l)
			}
			return nil
		},
	}
	addAccess(cmd)
	addLive(cmd)
	addYes(cmd)
	cmd.Flags().Bool("write", false, "write WeChat's figures that differ into wxproxy.yaml")
	cmd.Flags().Bool("json", false, "print JSON")
	return cmd
}

func printLimits(w io.Writer, l *admin.Limits) {
	fmt.Fprintf(w, "%s  %s  profile %s\n", l.App, l.AppID, l.Profile)
	rows := [][]string{{" ", "rule", "shipped", "configured", "WeChat", "title"}}
	read := false
	for _, r := range l.Rows {
		mark := " "
		if r.Differs {
			mark = "*"
		}
		title := r.Title
		if r.Path != "" {
			title = r.Path
		}
		rows = append(rows, []string{mark, r.Rule, figure(r.Shipped), figure(r.Configured), wechatFigure(r), title})
		read = read || !r.ReadAt.IsZero()
	}
	fit(rows, len(rows[0])-1)
	printTable(w, rows)
	for _, r := range l.Rows {
		if r.Differs {
			printDifference(w, r)
		}
	}
	if l.ReadingError != "" {
		fmt.Fprintf(w, "\nWeChat was not asked to the end:\n%s\n", l.ReadingError)
	} else if !read {
		fmt.Fprintln(w, "\nWeChat's own figures are not known yet: --live asks for them.")
	}
}

// figure is a budget for readers.
func figure(budget string) string {
	if budget == "unknown" {
		return "no figure"
	}
	return budget
}

func wechatFigure(r admin.LimitRow) string {
	switch {
	case r.WechatLimit > 0:
		return strconv.FormatInt(r.WechatLimit, 10) + "/day"
	case !r.ReadAt.IsZero():
		return "no figure"
	}
	return ""
}

// printDifference tells where the figures of a rule come from.
func printDifference(w io.Writer, r admin.LimitRow) {
	const program = "the program's table"
	name := r.Rule
	if r.Path != "" {
		name += "  " + r.Path
	}
	fmt.Fprintf(w, "\n* %s\n", name)
	var rows [][]string
	if r.Shipped != "" {
		source := r.ShippedSource
		if source == "" {
			source = program
		}
		rows = append(rows, []string{"   ", "shipped", figure(r.Shipped), source})
	}
	source := r.ConfiguredSource
	switch {
	case r.Own:
		source = "quotas of the app in wxproxy.yaml"
	case source == "" && (r.Shipped == r.Configured || r.Path != ""):
		source = program
	case source == "":
		source = "limits.yaml"
	}
	rows = append(rows, []string{"   ", "configured", figure(r.Configured), source})
	if r.WechatLimit > 0 {
		rows = append(rows, []string{"   ", "WeChat", wechatFigure(r), "asked at " + r.ReadAt.Format(time.DateTime)})
	}
	printTable(w, rows)
	if r.Path != "" {
		fmt.Fprintln(w, "     --write leaves it: the rule is of many paths. Give this one a rule of its own in limits.yaml.")
	}
}

// writeQuotas writes WeChat's figures that differ into wxproxy.yaml.
func writeQuotas(cmd *cobra.Command, l *admin.Limits) error {
	out := cmd.OutOrStdout()
	quotas := make(map[string]string)
	for _, r := range l.Rows {
		if r.Write != "" {
			quotas[r.Rule] = r.Write
		}
	}
	if len(quotas) == 0 {
		fmt.Fprintln(out, "\nNothing to write: no figure of WeChat's is known that differs from the configured one.")
		return nil
	}
	c, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(c.Apps, func(app config.App) bool { return app.AppID == l.AppID })
	if i >= 0 && c.Apps[i].AutoQuotas {
		return fmt.Errorf("nothing to write: app %s has quotas: auto, which takes WeChat's figures over by itself", l.App)
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
		return notWritten(out, path, quotas, err)
	}
	if i < 0 {
		return notWritten(out, path, quotas, errors.New("the app is not in it"))
	}
	after, err := config.SetQuotas(before, l.AppID, quotas)
	if err == nil {
		err = config.CheckText(load, after)
	}
	if err != nil {
		return notWritten(out, path, quotas, err)
	}
	if bytes.Equal(before, after) {
		fmt.Fprintf(out, "\nNothing to write: %s has these figures already, and the gateway has not taken them over.\n", path)
		return nil
	}
	fmt.Fprintf(out, "\n%s: quotas of %s:\n", path, l.App)
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
	if err := confirm(cmd, "Write?"); err != nil {
		return err
	}
	if err := replaceFile(path, before, after); err != nil {
		return notWritten(out, path, quotas, err)
	}
	_, err = fmt.Fprintf(out, "%s is written. The running gateway takes it over within seconds.\n", path)
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
func notWritten(w io.Writer, path string, quotas map[string]string, err error) error {
	fmt.Fprintf(w, "\nTo be written into %s by hand, below the app:\n\n    quotas:\n", path)
	for _, rule := range slices.Sorted(maps.Keys(quotas)) {
		fmt.Fprintf(w, "      %s: %s\n", rule, quotaText(quotas[rule]))
	}
	return fmt.Errorf("%s was not changed: %w", path, err)
}
