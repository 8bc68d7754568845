package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"wxproxy/admin"
)

func clearCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:        "clear APPID [RULE]",
		SuggestFor: []string{"清零", "reset"},
		Short:      "Have WeChat start the day's counts of an app over, or those of one rule",
		Long: `clear sends WeChat's own clear through the running gateway: clear_quota for a whole app, of
which WeChat grants 10 a month with those of its console, or with RULE one
openapi/quota/clear for each path of that rule, of which it grants 50 a month.

It shows what would start over and what is left of the month, and asks first. --yes does it
without asking.`,
		Example: `  wxproxy clear shop
  wxproxy clear wx0123456789abcdef menu.create --yes`,
		Args: wantArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"app": {args[0]}}
			if len(args) > 1 {
				query.Set("rule", args[1])
			}
			var plan admin.ClearPlan
			if err := operate(cmd, http.MethodGet, "/api/v1/clear", query, &plan); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			printClearPlan(out, &plan)
			if left, known := clearsLeft(plan.Clears); known && left < int64(plan.Cost) {
				return fmt.Errorf("not cleared: it takes %s, and %d of this month's %d are left", clears(plan.Cost), left, plan.Clears.Limit)
			}
			if err := confirm(cmd, "Clear?"); err != nil {
				return err
			}
			var answer admin.ClearAnswer
			if err := operate(cmd, http.MethodPost, "/api/v1/clear", query, &answer); err != nil {
				return err
			}
			return printCleared(out, &plan, &answer)
		},
	}
	addAccess(cmd)
	addYes(cmd)
	return cmd
}

func clears(n int) string {
	if n == 1 {
		return "1 clear"
	}
	return fmt.Sprintf("%d clears", n)
}

// clearsLeft is what is left of the month's clears, if the table has a figure for them.
func clearsLeft(row *admin.Row) (left int64, known bool) {
	if row == nil || row.Limit == 0 {
		return 0, false
	}
	return row.Remaining, true
}

func printClearPlan(w io.Writer, plan *admin.ClearPlan) {
	fmt.Fprintf(w, "%s  %s  profile %s\n", plan.App, plan.AppID, plan.Profile)
	of, granted := "the whole app", 10
	if plan.Rule != "" {
		of, granted = "rule "+plan.Rule+": "+strings.Join(plan.Paths, ", "), 50
	}
	fmt.Fprintf(w, "To clear: %s\n\n", of)
	if len(plan.Rows) == 0 {
		fmt.Fprintln(w, "Nothing was counted of it today.")
	} else {
		rows := [][]string{consoleHead}
		for _, r := range plan.Rows {
			rows = append(rows, consoleRow(r))
		}
		fit(rows, 1)
		printTable(w, rows)
	}
	fmt.Fprintf(w, "\nIt takes %s", clears(plan.Cost))
	if plan.Cost > 1 {
		fmt.Fprint(w, ", one for each path")
	}
	if left, known := clearsLeft(plan.Clears); known {
		fmt.Fprintf(w, "; %d of this month's %d are left.\n", left, plan.Clears.Limit)
	} else {
		fmt.Fprintf(w, "; how many are left this month is not known here. WeChat grants %d.\n", granted)
	}
}

// printCleared prints what WeChat said. What was not cleared is the error.
func printCleared(w io.Writer, plan *admin.ClearPlan, answer *admin.ClearAnswer) error {
	var failed []error
	for _, call := range answer.Calls {
		text := call.Statement
		if call.Path != "" {
			text = call.Path + ": " + text
		}
		if call.Done {
			fmt.Fprintln(w, text)
		} else {
			failed = append(failed, errors.New(text))
		}
	}
	if n := plan.Cost - len(answer.Calls); n > 0 {
		failed = append(failed, fmt.Errorf("%d of %d paths were left alone", n, plan.Cost))
	}
	if left, known := clearsLeft(answer.Clears); known {
		fmt.Fprintf(w, "%d of this month's %d clears are left.\n", left, answer.Clears.Limit)
	}
	if !answer.Done && len(failed) == 0 {
		failed = append(failed, errors.New("not cleared"))
	}
	return errors.Join(failed...)
}
