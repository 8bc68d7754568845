package config

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// errReference never quotes the text, which may be a secret.
var errReference = errors.New("a ${ that is no ${NAME} and no ${NAME:-default}: a literal $ is written $$")

// expand replaces ${NAME} by the variable, ${NAME:-default} by the default when the variable is
// unset or empty, and $$ by $. A $ before anything else stays. It returns the names of the
// variables that are not set and have no default; they are replaced by nothing.
func expand(text string, env func(string) (string, bool)) (replaced string, unset []string, err error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "$")
		b.WriteString(before)
		switch {
		case !found:
			return b.String(), unset, nil
		case strings.HasPrefix(rest, "$"):
			b.WriteByte('$')
			text = rest[1:]
			continue
		case !strings.HasPrefix(rest, "{"):
			b.WriteByte('$')
			text = rest
			continue
		}
		inside, after, closed := strings.Cut(rest[1:], "}")
		name, fallback, hasFallback := strings.Cut(inside, ":-")
		if !closed || !envName.MatchString(name) {
			return "", nil, errReference
		}
		got, ok := env(name)
		switch {
		case got == "" && hasFallback:
			got = fallback
		case !ok && !slices.Contains(unset, name):
			unset = append(unset, name)
		}
		b.WriteString(got)
		text = after
	}
}

// environment stands in place of a file's name in the faults of variables.
const environment = "environment"

// envApp returns the app that WX_APPID, WX_SECRET and WX_PROFILE name, or nil. An empty variable
// is one that is not set.
func (l *loader) envApp() (*appEntry, Faults) {
	doc := &document{name: environment}
	variable := func(name string) value {
		text, _ := l.env(name)
		return value{doc: doc, key: name, node: &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}}
	}
	id, secret, profile := variable("WX_APPID"), variable("WX_SECRET"), variable("WX_PROFILE")
	switch {
	case id.node.Value == "" && secret.node.Value == "":
		return nil, nil
	case id.node.Value == "":
		id.fault("not set, but WX_SECRET is: want both or none")
	case secret.node.Value == "":
		secret.fault("not set, but WX_APPID is: want both or none")
	}
	a := &appEntry{at: id, name: id, appID: id, profile: profile}
	a.Profile = DefaultProfile
	if id.node.Value != "" {
		a.AppID = id.appID()
		a.Name = a.AppID
	}
	if secret.node.Value != "" {
		a.Secrets = secret.secrets()
	}
	if profile.node.Value != "" {
		a.Profile = profile.name()
	}
	if len(doc.faults) > 0 {
		return nil, doc.faults
	}
	return a, nil
}
