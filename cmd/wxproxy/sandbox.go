package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"wxproxy/config"
	"wxproxy/internal/words"
	"wxproxy/limits"
	"wxproxy/sandbox"
)

func sandboxCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "sandbox",
		SuggestFor: []string{"沙箱", "mock"},
		Short:      l.Text(words.SandboxShort),
		Long:       l.Text(words.SandboxLong),
		Args:       wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			flags := cmd.Flags()
			address, err := flags.GetString("listen")
			if err != nil {
				return err
			}
			profile, err := flags.GetString("profile")
			if err != nil {
				return err
			}
			app := sandbox.App{}
			if app.AppID, err = flags.GetString("appid"); err != nil {
				return err
			}
			if app.Secret, err = flags.GetString("secret"); err != nil {
				return err
			}
			quotas, err := sandboxQuotas(profile)
			if err != nil {
				return err
			}
			return runSandbox(cmd, l, address, sandbox.Options{Apps: []sandbox.App{app}, Quotas: quotas})
		},
	}
	cmd.Flags().String("listen", "127.0.0.1:9000", l.Text(words.SandboxListen))
	cmd.Flags().String("profile", "production", l.Text(words.SandboxProfile))
	cmd.Flags().String("appid", sandbox.DefaultAppID, l.Text(words.SandboxAppID))
	cmd.Flags().String("secret", sandbox.DefaultSecret, l.Text(words.SandboxSecret))
	return cmd
}

func runSandbox(cmd *cobra.Command, l words.Language, address string, o sandbox.Options) error {
	s, err := sandbox.Listen(address, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s\nWX_APPID=%s WX_SECRET=%s\n", l.Text(words.SandboxStarted, "url", s.URL), o.Apps[0].AppID, o.Apps[0].Secret)
	<-cmd.Context().Done()
	return s.Close()
}

// sandboxQuotas are the daily figures of a shipped profile, by path.
func sandboxQuotas(profile string) (map[string]int64, error) {
	table, err := config.ParseTable("limits.yaml", loadOptions("").Shipped, nil)
	if err != nil {
		return nil, err
	}
	return dayQuotas(table, profile)
}

// dayQuotas are the daily figures of a profile, by path.
func dayQuotas(table *limits.Table, profile string) (map[string]int64, error) {
	rules, err := table.Rules(profile, nil)
	if err != nil {
		return nil, err
	}
	quotas := make(map[string]int64)
	for _, r := range rules.Rules {
		for _, q := range r.Budget.Quotas {
			if q.Period != limits.Day {
				continue
			}
			for _, path := range r.Paths {
				quotas[path] = q.Limit
			}
		}
	}
	return quotas, nil
}
