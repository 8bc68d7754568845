package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"wxproxy/config"
	"wxproxy/internal/words"
	"wxproxy/store"
)

func validateCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "validate",
		SuggestFor: []string{"检查", "check", "test"},
		Short:      l.Text(words.ValidateShort),
		Long:       l.Text(words.ValidateLong),
		Args:       wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			if err := checkStart(c); err != nil {
				return err
			}
			connect, err := cmd.Flags().GetBool("connect")
			if err != nil {
				return err
			}
			var found []string
			if connect {
				if found, err = checkStore(cmd.Context(), storeOptions(c)); err != nil {
					return err
				}
			}
			out := cmd.OutOrStdout()
			for _, w := range slices.Concat(c.Warnings, found) {
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
	cmd.Flags().Bool("connect", false, l.Text(words.ValidateConnect))
	return cmd
}

// checkStart returns what serve would find wrong outside the files of the configuration.
func checkStart(c *config.Config) error {
	_, err := loadCertificate(c.TLS)
	errs := []error{store.Check(storeOptions(c)), err}
	if file := c.AccessLog.File; file != "" {
		if err := checkWritable(file); err != nil {
			errs = append(errs, config.FileError("access_log.file", file, err))
		}
	}
	return errors.Join(errs...)
}

// checkWritable returns why a file cannot be written to, or made with the folders that it lacks. It makes none.
func checkWritable(file string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0) //nolint:gosec // the operator names the file
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	folder := filepath.Dir(file)
	for _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) && folder != filepath.Dir(folder); _, err = os.Stat(folder) {
		folder = filepath.Dir(folder)
	}
	if f, err = os.CreateTemp(folder, ".wxproxy-*"); err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// checkStore opens a store and returns what it lacks.
func checkStore(ctx context.Context, o store.Options) ([]string, error) {
	if path, ok := strings.CutPrefix(o.URL, "file:"); ok {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) { // opening makes it
			return nil, checkWritable(path)
		}
	}
	s, err := store.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	lacks, err := s.Lacks(ctx)
	return append(s.Warnings(), lacks...), errors.Join(err, s.Close())
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
