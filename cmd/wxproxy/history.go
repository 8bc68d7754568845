package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"wxproxy/admin"
	"wxproxy/internal/words"
)

func historyCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "history [APPID]",
		SuggestFor: []string{"历史", "refusals", "log"},
		Short:      l.Text(words.HistoryShort),
		Long:       l.Text(words.HistoryLong),
		Example: `  wxproxy history shop
  wxproxy history shop --from 7d --step day --by caller
  wxproxy history --from yesterday --refused
  wxproxy history --from 2026-11-01 --to 2026-11-30 --csv > november.csv`,
		Args: wantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			asCSV, _ := cmd.Flags().GetBool("csv") // the flags are those of below
			asJSON, _ := cmd.Flags().GetBool("json")
			refused, _ := cmd.Flags().GetBool("refused")
			if asCSV && asJSON {
				return usageError{words.New(words.HistoryOneOf)}
			}
			query := url.Values{}
			if len(args) > 0 {
				query.Set("app", args[0])
			}
			names := []string{"from", "to", "step", "by"}
			if refused {
				names = names[:2]
			}
			for _, name := range names {
				if value, _ := cmd.Flags().GetString(name); value != "" {
					query.Set(name, value)
				}
			}
			out := cmd.OutOrStdout()
			if asCSV {
				query.Set("format", "csv")
				return copyAnswer(cmd, historyPath(refused), query)
			}
			if refused {
				var r admin.Refusals
				return show(cmd, query, refused, &r, asJSON, func() { printRefusals(out, l, &r, len(args) == 0) })
			}
			var h admin.History
			return show(cmd, query, refused, &h, asJSON, func() { printHistory(out, l, &h, len(args) == 0) })
		},
	}
	cmd.Flags().String("from", "", l.Text(words.HistoryFrom))
	cmd.Flags().String("to", "", l.Text(words.HistoryTo))
	cmd.Flags().String("step", "total", l.Text(words.HistoryStep))
	cmd.Flags().String("by", "rule,caller", l.Text(words.HistoryBy))
	cmd.Flags().Bool("refused", false, l.Text(words.HistoryRefused))
	cmd.Flags().Bool("json", false, l.Text(words.FlagJSON))
	cmd.Flags().Bool("csv", false, l.Text(words.FlagCSV))
	addAccess(cmd, l)
	return cmd
}

func historyPath(refused bool) string {
	if refused {
		return "/api/v1/refusals"
	}
	return "/api/v1/history"
}

// show asks for what was counted, and prints it as JSON or by print.
func show(cmd *cobra.Command, query url.Values, refused bool, answer any, asJSON bool, print func()) error {
	if err := operate(cmd, http.MethodGet, historyPath(refused), query, answer); err != nil {
		return err
	}
	if asJSON {
		return encode(cmd.OutOrStdout(), answer, nil)
	}
	print()
	return nil
}

// column is one column of a table: its head, whether it is shown, and the cell of a row.
type column[T any] struct {
	head words.Message
	is   bool
	cell func(T) string
}

// printColumns prints the columns that are shown.
func printColumns[T any](w io.Writer, l words.Language, all []column[T], rows []T) {
	all = slices.DeleteFunc(all, func(c column[T]) bool { return !c.is })
	table := make([][]string, 1+len(rows))
	for _, c := range all {
		table[0] = append(table[0], l.Text(c.head))
		for i, row := range rows {
			table[i+1] = append(table[i+1], c.cell(row))
		}
	}
	printTable(w, table)
}

func printHistory(w io.Writer, l words.Language, h *admin.History, apps bool) {
	printRange(w, l, h.From, h.To)
	if len(h.Rows) == 0 {
		fmt.Fprintln(w, l.Text(words.HistoryNone))
		return
	}
	by := func(name string) bool { return slices.Contains(h.By, name) }
	layout := "2006-01-02 15:04"
	if h.Step == "day" {
		layout = time.DateOnly
	}
	outcome := by("outcome")
	shadow := slices.ContainsFunc(h.Rows, func(r admin.HistoryRow) bool { return r.Shadow > 0 })
	printColumns(w, l, []column[admin.HistoryRow]{
		{words.HeadStart, h.Step != "total", func(r admin.HistoryRow) string { return r.Start.Format(layout) }},
		{words.HeadApp, apps, func(r admin.HistoryRow) string { return r.App }},
		{words.HeadRule, by("rule"), func(r admin.HistoryRow) string { return orDash(r.Rule) }},
		{words.HeadCaller, by("caller"), func(r admin.HistoryRow) string { return callerName(l, r.Caller) }},
		{words.HeadOutcome, outcome, func(r admin.HistoryRow) string { return r.Outcome }},
		{words.HeadCalls, outcome, func(r admin.HistoryRow) string { return strconv.FormatInt(r.Calls, 10) }},
		{words.HeadSent, !outcome, func(r admin.HistoryRow) string { return strconv.FormatInt(r.Sent, 10) }},
		{words.HeadRefused, !outcome, func(r admin.HistoryRow) string { return strconv.FormatInt(r.Refused, 10) }},
		{words.HeadShadow, !outcome && shadow, func(r admin.HistoryRow) string { return strconv.FormatInt(r.Shadow, 10) }},
	}, h.Rows)
}

func printRefusals(w io.Writer, l words.Language, r *admin.Refusals, apps bool) {
	printRange(w, l, r.From, r.To)
	if len(r.Rows) == 0 {
		fmt.Fprintln(w, l.Text(words.RefusedNone))
		return
	}
	printColumns(w, l, []column[admin.RefusalRow]{
		{words.HeadApp, apps, func(r admin.RefusalRow) string { return r.App }},
		{words.HeadRule, true, func(r admin.RefusalRow) string { return orDash(r.Rule) }},
		{words.HeadCaller, true, func(r admin.RefusalRow) string { return callerName(l, r.Caller) }},
		{words.HeadReason, true, func(r admin.RefusalRow) string { return r.Reason }},
		{words.HeadFirst, true, func(r admin.RefusalRow) string { return r.First.Format(time.DateTime) }},
		{words.HeadLast, true, func(r admin.RefusalRow) string { return r.Last.Format(time.DateTime) }},
		{words.HeadCount, true, func(r admin.RefusalRow) string { return strconv.FormatInt(r.Count, 10) }},
	}, r.Rows)
}

func printRange(w io.Writer, l words.Language, from, to time.Time) {
	const layout = "2006-01-02 15:04"
	fmt.Fprintln(w, l.Text(words.HistoryRange, "from", from.Format(layout), "to", to.Format(layout)))
}

func callerName(l words.Language, name string) string {
	if name == "" {
		return l.Text(words.NoCaller)
	}
	return name
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// runsOut is the forecast of a counter, in words.
func runsOut(l words.Language, r admin.Row) string {
	switch f := r.Forecast; {
	case f == nil:
		return ""
	case f.Left > 0:
		return l.Text(words.CallsLeft, "count", f.Left)
	case r.Period == "month":
		return f.RunsOut.Format("01-02 15:04")
	default:
		return f.RunsOut.Format("15:04")
	}
}
