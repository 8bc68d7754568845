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
	"wxproxy/internal/words"
)

func clearCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "clear APPID [RULE]",
		SuggestFor: []string{"清零", "reset"},
		Short:      l.Text(words.ClearShort),
		Long:       l.Text(words.ClearLong),
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
			printClearPlan(out, l, &plan)
			if left, known := clearsLeft(plan.Clears); known && left < int64(plan.Cost) {
				return words.New(words.ClearTooFew, "cost", clears(plan.Cost), "left", left, "limit", plan.Clears.Limit)
			}
			if err := confirm(cmd, l, words.ClearConfirm); err != nil {
				return err
			}
			var answer admin.ClearAnswer
			if err := operate(cmd, http.MethodPost, "/api/v1/clear", query, &answer); err != nil {
				return err
			}
			return printCleared(out, l, &plan, &answer)
		},
	}
	addAccess(cmd, l)
	addYes(cmd, l)
	return cmd
}

// clears is a number of clears.
func clears(n int) error {
	if n == 1 {
		return words.New(words.ClearOne)
	}
	return words.New(words.ClearMany, "count", n)
}

// clearsLeft is what is left of the month's clears, if the table has a figure for them.
func clearsLeft(row *admin.Row) (left int64, known bool) {
	if row == nil || row.Limit == 0 {
		return 0, false
	}
	return row.Remaining, true
}

func printClearPlan(w io.Writer, l words.Language, plan *admin.ClearPlan) {
	fmt.Fprintln(w, l.Text(words.AppLine, "app", plan.App, "appid", plan.AppID, "profile", plan.Profile))
	what, granted := words.New(words.ClearWhole), 10
	if plan.Rule != "" {
		what, granted = words.New(words.ClearRule, "rule", plan.Rule, "paths", strings.Join(plan.Paths, ", ")), 50
	}
	fmt.Fprintf(w, "%s\n\n", l.Text(words.ClearWhat, "what", what))
	if len(plan.Rows) == 0 {
		fmt.Fprintln(w, l.Text(words.ClearNothing))
	} else {
		printConsole(w, l, plan.Rows)
	}
	takes := words.ClearTakes
	if plan.Cost > 1 {
		takes = words.ClearEachPath
	}
	cost := words.New(takes, "cost", clears(plan.Cost))
	if left, known := clearsLeft(plan.Clears); known {
		fmt.Fprintf(w, "\n%s\n", l.Text(words.ClearLeft, "takes", cost, "left", left, "limit", plan.Clears.Limit))
	} else {
		fmt.Fprintf(w, "\n%s\n", l.Text(words.ClearLeftUnknown, "takes", cost, "limit", granted))
	}
}

// printCleared prints what WeChat has answered. What was not cleared is the error.
func printCleared(w io.Writer, l words.Language, plan *admin.ClearPlan, answer *admin.ClearAnswer) error {
	var failed []error
	for _, call := range answer.Calls {
		result := errors.New(call.Statement)
		if call.Path != "" {
			result = words.New(words.ClearOfPath, "path", call.Path, "result", result)
		}
		if call.Done {
			fmt.Fprintln(w, l.Error(result))
		} else {
			failed = append(failed, result)
		}
	}
	if n := plan.Cost - len(answer.Calls); n > 0 {
		failed = append(failed, words.New(words.ClearNotTried, "count", n, "total", plan.Cost))
	}
	if left, known := clearsLeft(answer.Clears); known {
		fmt.Fprintln(w, l.Text(words.ClearsLeft, "left", left, "limit", answer.Clears.Limit))
	}
	if !answer.Done && len(failed) == 0 {
		failed = append(failed, words.New(words.ClearFailed))
	}
	return errors.Join(failed...)
}
