package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"wxproxy/store"
)

func validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check the configuration: every fault at once, with file, line and column",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			if err := store.Check(storeOptions(c)); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			for _, w := range c.Warnings {
				fmt.Fprintf(out, "warning: %s\n", w)
			}
			if len(c.Paths) == 0 {
				fmt.Fprintln(out, "no file: the defaults hold")
			}
			for _, path := range c.Paths {
				fmt.Fprintf(out, "%s: ok\n", path)
			}
			for _, app := range c.Apps {
				fmt.Fprintf(out, "app %s: %s, profile %s, %d rules\n", app.Name, app.AppID, app.Profile, len(app.Rules.Rules))
			}
			switch {
			case len(c.Apps) == 0 && learns(c):
				fmt.Fprintln(out, "no app is configured: apps are learned from their own token requests")
			case len(c.Apps) == 0:
				fmt.Fprintln(out, "warning: no app is configured, so serve will not start")
			}
			return nil
		},
	}
}
