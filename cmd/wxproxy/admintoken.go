package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"wxproxy/config"
)

// prepareAdminToken returns the admin token: the configured one, or a random one that is written
// where the commands on this machine find it.
func prepareAdminToken(c *config.Config) (string, error) {
	if c.Admin.Token != "" {
		return c.Admin.Token, nil
	}
	path, err := adminTokenPath(c.Admin.Listen, c.Store.URL)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	token := rand.Text()
	// Written to a new file and renamed: no reader sees half a token, and the mode of an old file is not kept.
	fresh, err := os.CreateTemp(filepath.Dir(path), ".admin-token-*") // mode 0600
	if err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	_, err = fresh.WriteString(token + "\n")
	if err = errors.Join(err, fresh.Close()); err == nil {
		err = os.Rename(fresh.Name(), path)
	}
	if err != nil {
		_ = os.Remove(fresh.Name()) // the first error is returned
		return "", fmt.Errorf("admin token: %w", err)
	}
	return token, nil
}

// adminTokenName says in the log which token was shown.
func adminTokenName(c *config.Config) string {
	if c.Admin.Token != "" {
		return "admin.token"
	}
	return "generated"
}

// adminTokenPath is where a random admin token is kept: beside the embedded store, else in the
// state folder. The admin address is part of the name, because several gateways may share a folder.
func adminTokenPath(listen, storeURL string) (string, error) {
	name := "admin-" + strings.Map(func(r rune) rune {
		if r == '/' || r == ':' || r == '[' || r == ']' {
			return '-'
		}
		return r
	}, listen) + ".token"
	if file, ok := strings.CutPrefix(storeURL, "file:"); ok {
		return filepath.Join(filepath.Dir(file), name), nil
	}
	if folder := os.Getenv("STATE_DIRECTORY"); folder != "" { // set by systemd
		return filepath.Join(folder, name), nil
	}
	if folder := os.Getenv("XDG_STATE_HOME"); folder != "" {
		return filepath.Join(folder, "wxproxy", name), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("admin token: %w: set admin.token, or HOME to a folder that can be written", err)
	}
	return filepath.Join(home, ".local", "state", "wxproxy", name), nil
}
