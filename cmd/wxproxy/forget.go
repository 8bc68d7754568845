package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"wxproxy/admin"
)

func forgetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:        "forget APPID",
		SuggestFor: []string{"删除", "delete", "erase"},
		Short:      "Erase everything that the store holds of an app that is not configured any more",
		Long: `forget erases everything that the store holds of an app, for all gateways that share it:
counters, tokens, tickets and what WeChat was asked. Take the app out of wxproxy.yaml on
each of them first: the next call of an app that is configured writes it anew.

It asks the running gateway, because nothing else may open its store, and asks you first.
--yes does it without asking.`,
		Example: "  wxproxy forget wx0123456789abcdef",
		Args:    wantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"app": {args[0]}}
			var plan admin.Forgotten
			if err := operate(cmd, http.MethodGet, "/api/v1/forget", query, &plan); errors.Is(err, errNoGateway) {
				return fmt.Errorf("%w Only a gateway may open its store: start one with this configuration, as in: wxproxy serve", err)
			} else if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "To erase of %s, for all gateways of this store: %s.\n", plan.AppID, strings.Join(plan.Erased, ", "))
			if plan.Seen {
				fmt.Fprintln(out, "This gateway has counted calls of it since it started. The next call with a token of it writes it anew.")
			} else {
				fmt.Fprintln(out, "This gateway has counted no call of it since it started: make sure of the appid.")
			}
			if err := confirm(cmd, "Erase?"); err != nil {
				return err
			}
			var done admin.Forgotten
			if err := operate(cmd, http.MethodPost, "/api/v1/forget", query, &done); err != nil {
				return err
			}
			_, err := fmt.Fprintf(out, "%s is erased: %s.\n", done.AppID, strings.Join(done.Erased, ", "))
			return err
		},
	}
	addAccess(cmd)
	addYes(cmd)
	return cmd
}
