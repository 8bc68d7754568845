package config

import (
	"fmt"
	"io/fs"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"wxproxy/limits"
)

// mask stands for a secret. It is one itself, so that a configuration that is written out loads.
const mask = "***"

// dump writes a configuration as a wxproxy.yaml, defaults and variables filled in and each secret masked. It
// goes by the tags, so it has a key as soon as the configuration has.
func dump(tb testing.TB, c *Config) string {
	tb.Helper()
	out, err := yaml.Marshal(node(tb, reflect.ValueOf(*c), ""))
	if err != nil {
		tb.Fatal(err)
	}
	return string(out)
}

func node(tb testing.TB, v reflect.Value, options string) *yaml.Node {
	tb.Helper()
	n := new(yaml.Node)
	encode := func(x any) *yaml.Node {
		if text, ok := x.(string); ok {
			x = strings.ReplaceAll(text, "$", "$$") // not the beginning of a ${NAME}
		}
		if err := n.Encode(x); err != nil {
			tb.Fatal(err)
		}
		return n
	}
	switch x := v.Interface().(type) {
	case *url.URL:
		return encode(x.String())
	case Tri:
		return encode(x.String())
	case fs.FileMode:
		return encode(fmt.Sprintf("%04o", x))
	case limits.Budget:
		return encode(budgetText(x))
	case fmt.Stringer:
		return encode(x.String())
	case AccessLog:
		if x.File == "" {
			return encode("stdout")
		}
	}
	if v.Kind() == reflect.Slice {
		n.Kind = yaml.SequenceNode
		for i := range v.Len() {
			n.Content = append(n.Content, node(tb, v.Index(i), ""))
		}
	} else if v.Kind() == reflect.Map {
		n.Kind = yaml.MappingNode
		for _, key := range sortedKeys(v.Interface().(map[string]limits.Budget)) {
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, node(tb, v.MapIndex(reflect.ValueOf(key)), ""))
		}
	} else if v.Kind() == reflect.Struct {
		n.Kind = yaml.MappingNode
		for i := range v.NumField() {
			key, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			if val := field(tb, v, i, key, options); val != nil {
				n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, val)
			}
		}
	} else {
		return encode(v.Interface())
	}
	if strings.Contains(options, "flow") || len(n.Content) == 0 {
		n.Style = yaml.FlowStyle
	}
	return n
}

// field writes a field of a struct; nil is one that is left out.
func field(tb testing.TB, v reflect.Value, i int, key, options string) *yaml.Node {
	tb.Helper()
	text := func(s string) *yaml.Node { return node(tb, reflect.ValueOf(s), "") }
	f := v.Field(i)
	switch x := v.Interface().(type) {
	case App:
		switch {
		case x.AutoQuotas && key == "quotas":
			return text("auto")
		case key == "name" && x.Name == x.AppID:
			return nil
		}
	case Store:
		if key == "url" {
			return text(maskedURL(x.URL))
		}
	case Caller:
		switch key {
		case "key":
			return text(mask + x.Name) // each another: two callers with one key are a fault
		case "key_file":
			return nil
		}
	case AlertSink:
		switch {
		case key == "url" && len(x.URL) > 0:
			return text("https://masked.example/" + mask)
		case key == "url", key == "url_file", key == "secret" && len(x.Secret) == 0:
			return nil
		case key == "secret" && x.Type == "webhook":
			return text("whsec_" + strings.Repeat("MASK", 8))
		}
	case AlertRule:
		if key == "app" && x.App == "" || key == "rule" && x.Rule == "" {
			return nil
		}
	case Admin:
		if key == "token" && x.Token != "" {
			return text(mask)
		}
	}
	switch {
	case f.Type() == reflect.TypeFor[Secrets]():
		return text(mask)
	case key == "" || key == "secret_file" || key == "password_file",
		strings.Contains(options, "omitempty") && f.IsZero(), f.Kind() == reflect.Map && f.Len() == 0:
		return nil
	}
	return node(tb, f, options)
}

var passwords = regexp.MustCompile(`//[^/]*@|([?&][^=&]*pass[^=&]*=)[^&#]*`)

// maskedURL hides what proves something in a store's URL.
func maskedURL(text string) string {
	return passwords.ReplaceAllStringFunc(text, func(s string) string {
		if name, _, ok := strings.Cut(s, "="); ok {
			return name + "=" + mask
		}
		return "//" + mask + "@"
	})
}
