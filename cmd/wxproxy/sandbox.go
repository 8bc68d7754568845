package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"wxproxy/config"
	"wxproxy/limits"
	"wxproxy/sandbox"
)

func sandboxCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:        "sandbox",
		SuggestFor: []string{"沙箱", "mock"},
		Short:      "Run a local stand-in of api.weixin.qq.com",
		Long: `sandbox answers like api.weixin.qq.com: tokens, quotas with WeChat's own 45009, media, errors.
It knows one account, printed at start, and the daily quotas of a profile of limits.yaml. Faults
are ordered at /-/sandbox/; GET /-/sandbox/state tells what it executed.`,
		Args: wantArgs(0, 0),
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
			return runSandbox(cmd, address, sandbox.Options{Apps: []sandbox.App{app}, Quotas: quotas}, cmd.OutOrStdout())
		},
	}
	cmd.Flags().String("listen", "127.0.0.1:9000", "address to listen on")
	cmd.Flags().String("profile", "production", "profile of the shipped limits.yaml whose daily quotas hold")
	cmd.Flags().String("appid", sandbox.DefaultAppID, "the account it knows")
	cmd.Flags().String("secret", sandbox.DefaultSecret, "the account's AppSecret")
	return cmd
}

func runSandbox(cmd *cobra.Command, address string, o sandbox.Options, out io.Writer) error {
	s, err := sandbox.Listen(address, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "a stand-in of api.weixin.qq.com at %s\nWX_APPID=%s WX_SECRET=%s\n", s.URL, o.Apps[0].AppID, o.Apps[0].Secret)
	<-cmd.Context().Done()
	return s.Close()
}

// sandboxQuotas are the daily figures of a shipped profile, by path.
func sandboxQuotas(profile string) (map[string]int64, error) {
	table, err := config.ParseTable("limits.yaml", loadOptions("").Shipped, nil)
	if err != nil {
		return nil, err
	}
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
