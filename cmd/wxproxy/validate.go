package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"wxproxy/config"
	"wxproxy/internal/words"
	"wxproxy/store"
)

func validateCommand(l words.Language) *cobra.Command {
	return &cobra.Command{
		Use:        "validate",
		SuggestFor: []string{"检查", "check", "test"},
		Short:      l.Text(words.ValidateShort),
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
				fmt.Fprintln(out, l.Text(words.ValidateWarning, "text", errors.New(w)))
			}
			if len(c.Paths) == 0 {
				fmt.Fprintln(out, l.Text(words.ValidateNoFile))
			}
			for _, path := range c.Paths {
				fmt.Fprintln(out, l.Text(words.ValidateFile, "file", path))
			}
			for _, app := range c.Apps {
				fmt.Fprintln(out, l.Text(words.ValidateApp, "app", app.Name, "appid", app.AppID, "profile", app.Profile, "count", len(app.Rules.Rules)))
			}
			switch {
			case len(c.Apps) == 0 && learns(c):
				fmt.Fprintln(out, l.Text(words.ValidateLearns))
			case len(c.Apps) == 0:
				fmt.Fprintln(out, l.Text(words.ValidateWarning, "text", words.ValidateNoApp))
			}
			if user := redisUser(c.Store); user != "" {
				fmt.Fprintln(out, l.Text(words.ValidateRedisACL, "user", user, "acl", redisACL(user, c.Store.Prefix)))
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
