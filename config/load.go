package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"wxproxy/limits"
)

// LoadOptions say where the configuration is.
type LoadOptions struct {
	Path    string                      // --config; "" means wxproxy.yaml in Dir, if it is there
	Shipped []byte                      // the limits.yaml of the binary
	Env     func(string) (string, bool) // default os.LookupEnv
	Dir     string                      // where wxproxy.yaml and limits.yaml are looked for; default "."
	Listen  string                      // --listen, in place of the file's listen; "" leaves that
	Running *Config                     // on a reload: what runs

	// Read reads a file; default [ReadFile].
	Read func(path string) ([]byte, fs.FileMode, error)
}

// Load reads the configuration. What is wrong with it comes back as Faults, all at once.
//
// With no Path, wxproxy.yaml is read from Dir if it is there; else the defaults hold and Apps is empty. Files
// that it names, and limits.yaml and limits.auto.yaml if they are there, are looked for beside it.
//
// WX_APPID, WX_SECRET and WX_PROFILE name the one app where the file names none. A file with apps
// of its own wins: then they name no app, and may still be used in it as ${WX_APPID}.
// WXPROXY_ADMIN_TOKEN is the admin token where the file has no admin.token. An empty variable is
// one that is not set.
//
// To reload, call Load with Running. What only a restart changes is then the running process's, before
// anything is checked against it. A file that Running has read and that is gone or empty is a fault, and so is
// it when no app would be left.
func Load(o LoadOptions) (*Config, error) {
	l := newLoader(o)
	data, mode, err := l.read(l.main.name)
	missing := o.Path == "" && errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return nil, Faults{{File: l.main.name, Text: reason(err)}}
	}
	if missing && l.wasRead(l.main.name) {
		return nil, Faults{{File: l.main.name, Text: errGone.Error()}}
	}
	if faults := misnamed(l.main.name); missing && len(faults) > 0 {
		return nil, faults
	}
	top, ok := l.main.parse(data)
	if ok {
		l.config.bare = !missing && len(top.node.Content) == 0
		top.decode(reflect.ValueOf(l.config).Elem(), "")
	}
	if l.main.literal && mode&0o077 != 0 && runtime.GOOS != "windows" {
		l.warn("%s: mode %04o and secrets in it: other users may read them: want 0600, or ${NAME}", l.main.name, mode)
	}
	flag := &document{name: "--listen"}
	if o.Listen != "" {
		if a, ok := (value{doc: flag, node: &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: o.Listen}}).scalar("address"); ok {
			l.config.Listen = a.(string)
		}
	}
	faults := l.main.faults
	if ok {
		l.keepRunning()
		if faults, err = l.check(o); err != nil {
			return nil, err
		}
	}
	if faults = slices.Concat(flag.faults, faults); len(faults) == 0 {
		faults = l.checkEmptied(l.main.name)
	}
	if len(faults) > 0 {
		return nil, faults
	}
	l.config.Digest = hex.EncodeToString(l.digest.Sum(nil))
	return l.config, nil
}

// Suggest returns the end of an error about a name that is not known: the name that was probably
// meant, or else those that there are.
func Suggest(name string, known []string) string { return suggest(name, known) }

// loader is one Load under way.
type loader struct {
	env      func(string) (string, bool)
	readFile func(string) ([]byte, fs.FileMode, error)
	running  *Config   // nil at a start
	main     *document // wxproxy.yaml
	config   *Config
	digest   hash.Hash
	tables   *tableParser // the user's limits.yaml; nil: there is none
}

func newLoader(o LoadOptions) *loader {
	if o.Path == "" {
		o.Path = filepath.Join(o.Dir, MainFile)
	}
	if o.Env == nil {
		o.Env = os.LookupEnv
	}
	if o.Read == nil {
		o.Read = ReadFile
	}
	l := &loader{env: o.Env, readFile: o.Read, running: o.Running, config: new(Config), digest: sha256.New()}
	l.main = &document{name: o.Path, env: o.Env, places: make(map[any]value)}
	setDefaults(reflect.ValueOf(l.config).Elem())
	l.config.Admin.Token, _ = o.Env("WXPROXY_ADMIN_TOKEN")
	l.config.AutoFile = l.beside(AutoFile)
	return l
}

// warnAt warns of what stands at a place, in the form of a fault.
func (l *loader) warnAt(at value, format string, args ...any) {
	l.warn("%s", at.at(format, args...))
}

func (l *loader) warn(format string, args ...any) {
	l.config.Warnings = append(l.config.Warnings, fmt.Sprintf(format, args...))
}

// read returns a file's content and mode, and notes that it was read.
func (l *loader) read(path string) ([]byte, fs.FileMode, error) {
	data, mode, err := l.readFile(path)
	if err != nil {
		return nil, 0, err
	}
	l.config.Paths = append(l.config.Paths, path)
	fmt.Fprintf(l.digest, "%d %s %d ", len(path), path, len(data))
	l.digest.Write(data)
	return data, mode, nil
}

// beside returns the path of a file that wxproxy.yaml names.
func (l *loader) beside(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(l.main.name), path)
}

// isCredential reports whether systemd has put a file there for this service. It lets the service's user read it by
// an ACL, which shows as a mode of 0440.
func (l *loader) isCredential(path string) bool {
	folder, _ := l.env("CREDENTIALS_DIRECTORY")
	return folder != "" && filepath.Dir(path) == filepath.Clean(folder)
}

// misnamed returns a fault for a file that was probably meant to be the one at path, which is not there.
func misnamed(path string) Faults {
	for _, name := range []string{strings.TrimSuffix(path, ".yaml") + ".yml", path + ".txt"} {
		if _, err := os.Stat(name); err == nil {
			return Faults{{File: name, Text: fmt.Sprintf("not read, for it is not called %s: rename it", filepath.Base(path))}}
		}
	}
	return nil
}

// secretFile reads the lines of a file of secrets that v names: one, or the new one and the old one.
func (l *loader) secretFile(v value, name string) []string {
	if name == "" {
		if !v.faulty() {
			v.fault("empty: want the path of a file")
		}
		return nil
	}
	path, shown := l.beside(name), v.shown(name)
	data, mode, err := l.read(path)
	if err != nil {
		if name == v.node.Value && !surelyPath(name) {
			v.fault("%s: %s: want the path of a file that holds the secret, and not the secret itself", outline(name), reason(err))
		} else {
			v.fault("%s: %s", shown, reason(err))
		}
		return nil
	}
	if mode&0o077 != 0 && runtime.GOOS != "windows" && !l.isCredential(path) {
		l.warn("%s: mode %04o: other users may read the secret: want 0600", path, mode)
	}
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(data), "\r\n", "\n")), "\n")
	if len(lines) > 2 {
		v.fault("%s: %d lines: want one secret, or the new one and the old one", shown, len(lines))
		return nil
	}
	for _, line := range lines {
		if fault := checkSecret(line); fault != "" {
			v.fault("%s: %s: want the secret and nothing else", shown, fault)
			return nil
		}
	}
	return lines
}

// table reads limits.yaml, or returns the shipped table when there is none. Of a file with faults
// it returns what could be read, or nil when that is nothing.
func (l *loader) table(shipped *tableParser) (*limits.Table, Faults) {
	l.config.Revision = shipped.file.Revision
	named := l.main.at(&l.config.LimitsFile)
	name := l.config.LimitsFile
	switch {
	case named.doc != nil && named.faulty():
		return nil, nil
	case named.doc == nil:
		name = LimitsFile
	case name == "":
		return shipped.table, nil
	}
	path := l.beside(name)
	l.config.LimitsFile = ""
	data, _, err := l.read(path)
	switch {
	case err != nil && named.doc != nil:
		named.fault("%s: %s", named.shown(name), reason(err))
		return nil, nil
	case errors.Is(err, fs.ErrNotExist) && l.wasRead(path):
		return nil, Faults{{File: path, Text: errGone.Error()}}
	case errors.Is(err, fs.ErrNotExist):
		return shipped.table, misnamed(path)
	case err != nil:
		return nil, Faults{{File: path, Text: reason(err)}}
	}
	l.config.LimitsFile = path
	p, faults := readTable(path, data, shipped.table)
	if p == nil {
		return nil, faults
	}
	if len(faults) == 0 {
		for _, w := range slices.Concat(p.replaced(shipped.file.Revision), p.alone()) {
			l.warn("%s", w)
		}
	}
	l.tables = p
	return p.table, faults
}
