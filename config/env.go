package config

import (
	"errors"
	"reflect"
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

// variable is the place of a variable; a doc of nil is one of its own.
func variable(name, text string, doc *document) value {
	if doc == nil {
		doc = &document{name: environment}
	}
	return value{doc: doc, key: name, node: &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}}
}

// envApp returns the app that WX_APPID, WX_SECRET and WX_PROFILE name, or nil, in a list of one, and the
// document that stands for them. An empty variable is one that is not set.
func (l *loader) envApp() ([]App, *document) {
	doc := &document{name: environment, places: l.main.places}
	apps := make([]App, 1)
	a := &apps[0]
	setDefaults(reflect.ValueOf(a).Elem())
	read := func(name string, field any, kind, other string) {
		text, _ := l.env(name)
		v := variable(name, text, doc)
		doc.places[a] = v
		switch otherText, _ := l.env(other); {
		case text != "":
			v.decode(reflect.ValueOf(field).Elem(), reflect.StructTag(`read:"`+kind+`"`))
		case otherText != "":
			v.fault("not set, but %s is: want both or none", other)
		}
	}
	read("WX_SECRET", &a.Secrets, "", "WX_APPID")
	read("WX_APPID", &a.AppID, "appid", "WX_SECRET")
	if a.AppID != "" {
		read("WX_PROFILE", &a.Profile, "name", "")
		doc.places[a] = doc.places[&a.AppID]
	}
	if a.AppID == "" || len(doc.faults) > 0 {
		return nil, doc
	}
	return apps, doc
}
