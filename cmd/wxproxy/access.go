package main

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"wxproxy/config"
	"wxproxy/internal/words"
)

// adminAccess is where a command asks a gateway, and with which token.
type adminAccess struct {
	address   string // host:port, unix:/path or a URL
	token     string
	tokenFrom any // where the token was found: a path, a name or words
}

// addAdmin gives a command the flag that adminAddress looks at.
func addAdmin(cmd *cobra.Command, l words.Language) {
	cmd.Flags().String("admin", "", l.Text(words.FlagAdmin))
}

// addAccess gives a command the flags that accessOf looks at.
func addAccess(cmd *cobra.Command, l words.Language) {
	addAdmin(cmd, l)
	cmd.Flags().String("token-file", "", l.Text(words.FlagTokenFile))
}

// accessOf finds the admin listener of a command and its token: by flags, else in the configuration, of
// which it reads nothing else, in the environment, or in the file that a running gateway has written.
func accessOf(cmd *cobra.Command) (*adminAccess, error) {
	access, c, err := adminAddress(cmd)
	if err != nil {
		return nil, err
	}
	file, err := cmd.Flags().GetString("token-file")
	switch {
	case err != nil:
		return nil, err
	case file != "":
		access.tokenFrom = words.New(words.TokenFromFlag, "file", file)
		access.token, err = readTokenFile(file)
		if err != nil {
			return nil, words.New(words.TokenFileFailed, "file", file, "error", plainFileError(err))
		}
	case c.Token != "" && c.TokenEnv:
		access.token, access.tokenFrom = c.Token, "WXPROXY_ADMIN_TOKEN"
	case c.Token != "":
		access.token, access.tokenFrom = c.Token, words.New(words.TokenFromConfig, "file", c.File)
	default:
		err = access.useStateFile(c)
	}
	return access, err
}

// adminAddress finds the admin listener alone. The configuration is not read where the flags name both.
func adminAddress(cmd *cobra.Command) (*adminAccess, config.AdminAccess, error) {
	var c config.AdminAccess
	flags := cmd.Flags()
	address, err := flags.GetString("admin")
	if err != nil {
		return nil, c, err
	}
	if address != "" && !strings.HasPrefix(address, "unix:") {
		if !strings.Contains(address, "://") {
			address = "http://" + address
		}
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return nil, c, usageError{words.New(words.AdminWantURL)}
		}
		address = strings.TrimSuffix(u.String(), "/")
	}
	if address != "" && (flags.Lookup("token-file") == nil || flags.Changed("token-file")) {
		return &adminAccess{address: address}, c, nil
	}
	path, err := flags.GetString("config")
	if err != nil {
		return nil, c, err
	}
	c, err = config.LoadAdminAccess(loadOptions(path))
	if address != "" {
		c.Listen = strings.TrimPrefix(strings.TrimPrefix(address, "http://"), "https://")
	} else {
		address = c.Listen
	}
	return &adminAccess{address: address}, c, err
}

// useStateFile reads the random token of a running gateway.
func (a *adminAccess) useStateFile(c config.AdminAccess) error {
	path, err := adminTokenPath(c.Listen, c.StoreURL)
	if err != nil {
		return err
	}
	a.tokenFrom = path
	if a.token, err = readTokenFile(path); err == nil {
		return nil
	}
	configured := words.New(words.TokenFromConfig, "file", c.File)
	var tried words.List
	switch {
	case len(c.Unset) > 0:
		tried = append(tried, words.New(words.TokenVariable, "source", configured, "variables", strings.Join(c.Unset, ", ")))
	case c.File != "":
		tried = append(tried, words.New(words.TokenNotSet, "source", configured))
	}
	tried = append(tried, words.New(words.TokenNotSet, "source", "WXPROXY_ADMIN_TOKEN"), words.New(words.TokenNotRead, "source", path, "error", plainFileError(err)))
	return words.New(words.TokenMissing, "tried", tried)
}

func readTokenFile(path string) (string, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the path is the operator's
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsAny(token, "\r\n") {
		return "", words.New(words.TokenOneLine)
	}
	return token, nil
}

// plainFileError is an error of a file without its path.
func plainFileError(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return words.New(words.NoSuchFile)
	}
	if of, ok := errors.AsType[*fs.PathError](err); ok {
		return of.Err
	}
	return err
}
