package main

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"wxproxy/config"
	"wxproxy/store"
)

func validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:        "validate",
		SuggestFor: []string{"检查", "check", "test"},
		Short:      "Check the configuration: every fault at once, with file, line and column",
		Args:       wantArgs(0, 0),
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
			if user := redisUser(c.Store); user != "" {
				fmt.Fprintf(out, "store: Redis must allow its user %s at least:\n  %s\n", user, redisACL(user, c.Store.Prefix))
			}
			return nil
		},
	}
}

// redisACL is the command that makes a user of Redis, for the keys that start with a prefix.
func redisACL(user, prefix string) string {
	return strings.NewReplacer("SETUSER wxproxy", "SETUSER "+user, "~wxp:*", "~"+prefix+":*").Replace(store.ACL)
}

// redisUser returns the user that a store's URL names, as long as it is not the default user, which is
// everybody's: "" if there is none or the store is a file. One without a password does nothing, and may be the
// password itself. The URL has been checked.
func redisUser(s config.Store) string {
	_, rest, _ := strings.Cut(s.URL, "://")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	i := strings.LastIndexByte(rest, '@')
	if i < 0 {
		return ""
	}
	user, password, _ := strings.Cut(rest[:i], ":")
	if password == "" && s.Password == "" {
		return ""
	}
	if user, err := url.PathUnescape(user); err == nil && user != "default" {
		return user
	}
	return ""
}
