package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"syscall"
)

// A reload never opens the gateway or empties it: what only a restart changes is that of the running process
// before anything is checked against it, and files that are gone, empty or without an app are faults.

// keepRunning puts back what only a restart changes. Half of it must not change alone: an account's token would
// go to an upstream that it was not fetched from.
func (l *loader) keepRunning() {
	c, r := l.config, l.running
	if r == nil {
		return
	}
	keep(c, "listen", &c.Listen, r.Listen)
	keep(c, "listen_mode", &c.ListenMode, r.ListenMode)
	keep(c, "tls", &c.TLS, r.TLS)
	keep(c, "admin", &c.Admin, r.Admin)
	keep(c, "upstream", &c.Upstream, r.Upstream)
	keep(c, "store", &c.Store, r.Store)
	keep(c, "token", &c.Token, r.Token)
	keep(c, "access_log", &c.AccessLog, r.AccessLog)
	keep(c, "drift", &c.Drift, r.Drift)
}

func keep[T any](c *Config, key string, at *T, running T) {
	if !reflect.DeepEqual(*at, running) {
		c.Restart = append(c.Restart, key)
	}
	*at = running
}

// wasRead reports whether the running configuration has read a file.
func (l *loader) wasRead(path string) bool {
	return l.running != nil && slices.Contains(l.running.Paths, path)
}

// errGone is why a file that may be absent at a start may not vanish.
var errGone = errors.New("gone: the running gateway has read it: put it back, or restart to do without it")

// checkEmptied notes what would leave a running gateway without what it serves.
func (l *loader) checkEmptied(path string) Faults {
	switch {
	case l.running == nil:
		return nil
	case l.config.bare && !l.running.bare && l.wasRead(path):
		return Faults{{File: path, Text: "empty: the running gateway was configured by it: restore it, or restart the gateway to run with defaults"}}
	case len(l.config.Apps) == 0 && len(l.running.Apps) > 0:
		return Faults{{File: path, Text: fmt.Sprintf("no app is left, and the running gateway has %d: want one at least, or a restart", len(l.running.Apps))}}
	}
	return nil
}

// ReadFile returns the content and the mode of a file that the configuration names. What is not a regular
// file, and may never end, is an error, as is what is larger than 1 MiB; ReadFile waits for neither.
func ReadFile(path string) ([]byte, fs.FileMode, error) {
	info, err := os.Stat(path) // to open some devices does something
	if err != nil {
		return nil, 0, err
	}
	if err := checkRegular(info); err != nil {
		return nil, 0, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	if info, err = f.Stat(); err == nil {
		err = checkRegular(info) // it may be another one since
	}
	if err != nil {
		return nil, 0, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, 0, err
	}
	if len(data) > maxFile {
		return nil, 0, fmt.Errorf("larger than %d bytes", maxFile)
	}
	return data, info.Mode().Perm(), nil
}

func checkRegular(info fs.FileInfo) error {
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		return errors.New("is a directory")
	default:
		return errors.New("not a regular file")
	}
}
