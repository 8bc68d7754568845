package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"wxproxy/admin"
	"wxproxy/internal/words"
)

func grantCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "grant APPID [RULE +N]",
		SuggestFor: []string{"加额", "raise", "add"},
		Short:      l.Text(words.GrantShort),
		Long:       l.Text(words.GrantLong),
		Example: `  wxproxy grant shop
  wxproxy grant shop message.mass.send +50 --until 18:00 --reason "the launch"
  wxproxy grant shop message.mass.send 0`,
		Args: wantArgs(1, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			var now admin.Grants
			query := url.Values{"app": {args[0]}}
			if len(args) > 1 {
				query.Set("rule", args[1])
			}
			if err := operate(cmd, http.MethodGet, "/api/v1/grant", query, &now); err != nil {
				return err
			}
			if len(args) == 3 {
				if err := changeGrant(cmd, l, query, args[2], &now); err != nil {
					return err
				}
			}
			if asJSON, err := cmd.Flags().GetBool("json"); err != nil || asJSON {
				return encode(cmd.OutOrStdout(), now, err)
			}
			printGrants(cmd.OutOrStdout(), l, &now)
			return nil
		},
	}
	addAccess(cmd, l)
	cmd.Flags().Bool("json", false, l.Text(words.FlagJSON))
	cmd.Flags().String("until", "", l.Text(words.GrantUntilFlag))
	cmd.Flags().String("reason", "", l.Text(words.GrantReasonFlag))
	return cmd
}

// changeGrant adds calls to the grant that was read, or ends it. Where no answer comes it looks whether that was
// done, so that nothing is added twice.
func changeGrant(cmd *cobra.Command, l words.Language, query url.Values, amount string, now *admin.Grants) error {
	row := now.Grants[0]
	calls, err := strconv.ParseInt(strings.TrimPrefix(amount, "+"), 10, 64)
	if err != nil || calls < 0 || calls > 0 != strings.HasPrefix(amount, "+") {
		return words.New(words.GrantAmount, "seen", strconv.Quote(amount))
	}
	if calls > 0 {
		calls += row.Calls
	}
	until, err := cmd.Flags().GetString("until")
	if err != nil {
		return err
	}
	reason := ""
	if calls > 0 {
		if reason, err = reasonOf(cmd, l); err != nil {
			return err
		}
	}
	query.Set("calls", strconv.FormatInt(calls, 10))
	query.Set("until", until)
	query.Set("reason", reason)
	query.Set("version", strconv.FormatInt(row.Version, 10))
	var answer admin.Grants
	err = operate(cmd, http.MethodPost, "/api/v1/grant", query, &answer)
	if err != nil {
		look := operate(cmd, http.MethodGet, "/api/v1/grant", url.Values{"app": query["app"], "rule": query["rule"]}, &answer)
		if look != nil || answer.Grants[0].Version <= row.Version || answer.Grants[0].Calls != calls || answer.Grants[0].Reason != reason {
			return err
		}
	}
	*now = answer
	return nil
}

// reasonOf is the reason of a grant, which is asked for on a terminal.
func reasonOf(cmd *cobra.Command, l words.Language) (string, error) {
	reason, err := cmd.Flags().GetString("reason")
	if err != nil || reason != "" {
		return reason, err
	}
	in := cmd.InOrStdin()
	if !isTerminal(in) {
		return "", words.New(words.GrantNoReason)
	}
	fmt.Fprint(cmd.ErrOrStderr(), l.Text(words.GrantAsk))
	text, _ := bufio.NewReader(in).ReadString('\n')
	if text = strings.TrimSpace(text); text == "" {
		return "", words.New(words.GrantNoReason)
	}
	return text, nil
}

func printGrants(w io.Writer, l words.Language, g *admin.Grants) {
	fmt.Fprintln(w, l.Text(words.AppLine, "app", g.App, "appid", g.AppID, "profile", g.Profile))
	rows := [][]string{{l.Text(words.HeadGranted), l.Text(words.HeadUntil), l.Text(words.HeadUsed), l.Text(words.HeadRule), l.Text(words.HeadReason)}}
	for _, grant := range g.Grants {
		if grant.Calls == 0 {
			continue
		}
		for _, r := range grant.Rows {
			rows = append(rows, []string{"+" + strconv.FormatInt(grant.Calls, 10), grant.Until.Format("01-02 15:04"), used(l, r), grant.Rule, grant.Reason})
		}
	}
	if len(rows) == 1 {
		fmt.Fprintln(w, l.Text(words.GrantNone))
		return
	}
	printTable(w, rows)
}

// granted is a count with what an operator has added and what is kept back of it.
func granted(l words.Language, r admin.Row, amount string) string {
	if r.Grant > 0 {
		amount = l.Text(words.AmountGranted, "amount", amount, "calls", r.Grant, "until", r.GrantUntil.Format("15:04"))
	}
	if r.Reserve > 0 {
		amount = l.Text(words.AmountKept, "amount", amount, "kept", r.Kept, "reserve", r.Reserve)
	}
	return amount
}
