package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wxproxy/admin"
	"wxproxy/internal/words"
)

func statusCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "status [APPID]",
		SuggestFor: []string{"状态", "info", "state"},
		Short:      l.Text(words.StatusShort),
		Long:       l.Text(words.StatusLong),
		Args:       wantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := make(url.Values)
			if len(args) > 0 {
				query.Set("app", args[0])
			}
			var s admin.Status
			if err := operate(cmd, http.MethodGet, "/api/v1/status", query, &s); err != nil {
				return err
			}
			if asJSON, err := cmd.Flags().GetBool("json"); err != nil || asJSON {
				return encode(cmd.OutOrStdout(), s, err)
			}
			printStatus(cmd.OutOrStdout(), l, &s)
			return nil
		},
	}
	cmd.Flags().Bool("json", false, l.Text(words.FlagJSON))
	addAccess(cmd, l)
	return cmd
}

func printStatus(w io.Writer, l words.Language, s *admin.Status) {
	rows := [][]string{
		{l.Text(words.StatusGateway), l.Text(words.StatusRuns, "id", s.Gateway, "version", s.Version, "uptime", span(time.Duration(s.UptimeSeconds)*time.Second))},
		{l.Text(words.StatusStore), storeLine(l, s)},
		{l.Text(words.StatusFleet), fleetLine(l, s)},
		{l.Text(words.StatusReload), reloadLine(l, s)},
	}
	if !s.Certificate.IsZero() {
		rows = append(rows, []string{l.Text(words.StatusCertificate), l.Text(words.StatusUntil, "time", s.Certificate.Local().Format(time.DateTime))})
	}
	totals := l.Text(words.StatusTotals, "configured", s.Totals.Accounts, "learned", s.Totals.Learned, "tokens", s.Totals.Tokens,
		"refused", s.Totals.Refused, "latched", s.Totals.Latched, "used", s.Totals.UsedUp)
	if s.AccountsError != "" {
		totals = l.Text(words.StatusUnknown, "error", errors.New(s.AccountsError))
	}
	rows = append(rows, []string{l.Text(words.StatusAccounts), totals})
	bad := map[int]bool{1: !s.Store.Counting, 3: s.Reload.Error != "", len(rows) - 1: s.AccountsError != ""}
	printPainted(w, rows, func(row int) colour {
		if bad[row] {
			return red
		}
		return uncoloured
	})
	fmt.Fprintln(w)
	if len(s.Accounts) == 0 && s.Totals.Accounts > 0 {
		fmt.Fprintln(w, l.Text(words.StatusNoProblem))
		return
	}
	printAccounts(w, l, s)
}

func storeLine(l words.Language, s *admin.Status) string {
	since := s.Store.Since.Local().Format(time.DateTime)
	if s.Store.Counting {
		return l.Text(words.StatusStoreGood, "kind", s.Store.Kind, "time", since)
	}
	return l.Text(words.StatusStoreBad, "kind", s.Store.Kind, "time", since, "error", errors.New(s.Store.Error))
}

func fleetLine(l words.Language, s *admin.Status) string {
	if s.GatewaysError != "" {
		return l.Text(words.StatusUnknown, "error", errors.New(s.GatewaysError))
	}
	texts := make([]string, len(s.Gateways))
	for i, g := range s.Gateways {
		if texts[i] = l.Text(words.StatusThis, "id", g.ID); !g.This {
			texts[i] = l.Text(words.StatusOther, "id", g.ID, "ago", span(s.Time.Sub(g.LastHeartbeat)))
		}
	}
	return strings.Join(texts, l.Text(words.Separator))
}

func reloadLine(l words.Language, s *admin.Status) string {
	at := s.Reload.Time.Local().Format(time.DateTime)
	if s.Reload.Error == "" {
		return at
	}
	return at + " " + l.Translate(strings.ReplaceAll(s.Reload.Error, "\n", "; "))
}

// printAccounts prints a row for each account, and below them what is to be done.
func printAccounts(w io.Writer, l words.Language, s *admin.Status) {
	rows := [][]string{{l.Text(words.StatusAccounts), l.Text(words.StatusTokenUntil), l.Text(words.StatusFetchedBy), l.Text(words.StatusClears), l.Text(words.StatusProblem)}}
	var below []string
	for _, a := range s.Accounts {
		until, by := tokenCell(l, s.Time, a.Token)
		rows = append(rows, []string{a.App, until, by, clearsCell(a.Clears), problemCell(l, &a)})
		if t := a.Token; t != nil && t.Error != "" {
			below = append(below, l.Text(words.StatusMend, "app", a.App, "error", errors.New(t.Error), "mend", errors.New(t.Mend)))
			if !t.NextAttempt.IsZero() {
				below = append(below, l.Text(words.StatusNext, "app", a.App, "time", t.NextAttempt.Local().Format(time.TimeOnly)))
			}
		}
	}
	printPainted(w, rows, func(row int) colour {
		if row > 0 && s.Accounts[row-1].Problem {
			return red
		}
		return uncoloured
	})
	if len(below) > 0 {
		fmt.Fprintf(w, "\n%s\n", strings.Join(below, "\n"))
	}
	if s.LeftOut > 0 {
		fmt.Fprintln(w, l.Text(words.StatusLeftOut, "count", s.LeftOut))
	}
}

// tokenCell is until when a token is good, how long that is, and who has fetched it.
func tokenCell(l words.Language, now time.Time, t *admin.TokenState) (until, by string) {
	switch {
	case t == nil:
		return "-", "-"
	case t.State == "none":
		return l.Text(words.StatusTokenNone), "-"
	case t.Expires.IsZero():
		return "-", "-"
	case !now.Before(t.Expires):
		return l.Text(words.StatusTokenOver), t.FetchedBy
	}
	return fmt.Sprintf("%s (%s)", t.Expires.Local().Format("15:04"), span(t.Expires.Sub(now))), t.FetchedBy
}

func clearsCell(clears []admin.Clears) string {
	texts := make([]string, len(clears))
	for i, c := range clears {
		texts[i] = fmt.Sprintf("%d/%d", c.Remaining, c.Limit)
	}
	return strings.Join(texts, " ")
}

// problemCell names the rules that are refused, and an error of the counters.
func problemCell(l words.Language, a *admin.AccountStatus) string {
	var texts []string
	if t := a.Token; t != nil && t.ErrCode != 0 {
		texts = append(texts, fmt.Sprintf("errcode %d", t.ErrCode))
	}
	if len(a.Latched) > 0 {
		texts = append(texts, l.Text(words.StatusLatched, "rules", strings.Join(a.Latched, " ")))
	}
	if len(a.UsedUp) > 0 {
		texts = append(texts, l.Text(words.StatusUsedUp, "rules", strings.Join(a.UsedUp, " ")))
	}
	if a.Error != "" {
		texts = append(texts, l.Translate(a.Error))
	}
	return strings.Join(texts, l.Text(words.Separator))
}

// span is a duration as people read it: 3d4h, 1h52m, 40s.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", max(0, d/time.Second))
}
