package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"wxproxy/admin"
	"wxproxy/internal/words"
)

func forgetCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "forget APPID",
		SuggestFor: []string{"删除", "delete", "erase"},
		Short:      l.Text(words.ForgetShort),
		Long:       l.Text(words.ForgetLong),
		Example:    "  wxproxy forget wx0123456789abcdef",
		Args:       wantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"app": {args[0]}}
			var plan admin.Forgotten
			if err := operate(cmd, http.MethodGet, "/api/v1/forget", query, &plan); err != nil {
				if e, ok := errors.AsType[*words.Error](err); ok && e.Message == words.NoGateway {
					return words.New(words.ForgetNoGateway, "error", err)
				}
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintln(out, l.Text(words.ForgetWhat, "app", plan.AppID, "kinds", kinds(plan.Erased)))
			if plan.Seen {
				fmt.Fprintln(out, l.Text(words.ForgetSeen))
			} else {
				fmt.Fprintln(out, l.Text(words.ForgetNotSeen))
			}
			if err := confirm(cmd, l, words.ForgetConfirm); err != nil {
				return err
			}
			var done admin.Forgotten
			if err := operate(cmd, http.MethodPost, "/api/v1/forget", query, &done); err != nil {
				return err
			}
			_, err := fmt.Fprintln(out, l.Text(words.ForgetDone, "app", done.AppID, "kinds", kinds(done.Erased)))
			return err
		},
	}
	addAccess(cmd, l)
	addYes(cmd, l)
	return cmd
}

// kinds are those of a store's data, as the gateway names them.
func kinds(names []string) words.List {
	var list words.List
	for _, name := range names {
		list = append(list, errors.New(name))
	}
	return list
}
