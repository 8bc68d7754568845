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

func alertCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "alert",
		SuggestFor: []string{"告警", "提醒", "notify"},
		Short:      l.Text(words.AlertShort),
		Args:       wantCommand,
		RunE:       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(alertListCommand(l), alertTestCommand(l))
	return cmd
}

func alertTestCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "test [SINK]",
		Short:   l.Text(words.AlertTestShort),
		Long:    l.Text(words.AlertTestLong),
		Example: "  wxproxy alert test\n  wxproxy alert test oncall",
		Args:    wantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{}
			if len(args) > 0 {
				query.Set("sink", args[0])
			}
			var tests admin.AlertTests
			if err := operate(cmd, http.MethodPost, "/api/v1/alerts/test", query, &tests); err != nil {
				return err
			}
			failed := 0
			for _, r := range tests.Results {
				line := l.Text(words.AlertSent, "sink", r.Sink, "type", r.Type)
				if r.Error != "" {
					failed++
					line = l.Text(words.AlertNotSent, "sink", r.Sink, "type", r.Type, "error", errors.New(r.Error))
				}
				fmt.Fprintln(cmd.OutOrStdout(), line)
			}
			if failed > 0 {
				return words.New(words.AlertTestFailed, "count", failed, "total", len(tests.Results))
			}
			return nil
		},
	}
	addAccess(cmd, l)
	return cmd
}
