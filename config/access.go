package config

import (
	"errors"
	"io/fs"
	"os"

	"gopkg.in/yaml.v3"
)

// AdminAccess is what a configuration says of how its gateway is asked by commands.
type AdminAccess struct {
	File     string   // wxproxy.yaml as it was named; "" when there is none
	Listen   string   // admin.listen
	Token    string   // admin.token, or WXPROXY_ADMIN_TOKEN where the file has none; "" when neither has
	TokenEnv bool     // Token is that of WXPROXY_ADMIN_TOKEN
	Unset    []string // variables that admin.token names and that are not set here
	StoreURL string   // store.url: a random token is kept beside an embedded store
}

// LoadAdminAccess reads these values and no others, so that a command needs none of the secrets of the
// file, and none of its other values to be valid. Variables that are not set are replaced by nothing.
// Only a file that cannot be read or is not YAML is an error.
func LoadAdminAccess(o LoadOptions) (AdminAccess, error) {
	l := newLoader(o)
	c, path, env := l.config, l.main.name, l.env
	a := AdminAccess{Listen: c.Admin.Listen, Token: c.Admin.Token, TokenEnv: c.Admin.Token != "", StoreURL: c.Store.URL}
	data, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if o.Path == "" && errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return a, Faults{{File: path, Text: reason(err)}}
	}
	a.File = path
	first, _, err := parseYAML(data)
	if err != nil {
		return a, Faults{syntaxFault(path, data, err)}
	}
	if first == nil || len(first.Content) == 0 {
		return a, nil
	}
	top := first.Content[0]
	if text, _, _ := textAt(top, env, "admin", "listen"); text != "" {
		a.Listen = text
	}
	if text, _, _ := textAt(top, env, "store", "url"); text != "" {
		a.StoreURL = text
	}
	if text, unset, ok := textAt(top, env, "admin", "token"); ok {
		a.Token, a.TokenEnv, a.Unset = text, false, unset
	}
	return a, nil
}

// textAt returns the single value under keys with its variables replaced, and the names of those that are
// not set. It returns false when there is no such value.
func textAt(n *yaml.Node, env func(string) (string, bool), keys ...string) (text string, unset []string, ok bool) {
	for _, key := range keys {
		if n = under(n, key); n == nil {
			return "", nil, false
		}
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		return "", nil, false
	}
	text, unset, err := expand(n.Value, env)
	return text, unset, err == nil
}

// under returns what a mapping has under a key, or nil.
func under(n *yaml.Node, key string) *yaml.Node {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
