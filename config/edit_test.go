package config

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"
)

func TestSetQuotas(t *testing.T) {
	two := map[string]string{"menu.create": "20/day", "user.info": "8/day"}
	tests := []struct {
		name, file string
		quotas     map[string]string
		want       string
	}{
		{"none, an app in lines", `apps:
  - name: shop            # the shop
    appid: wx0123456789abcdef
    secret: "${WX_SECRET}"  # in the environment
    # the end of it
  - {name: other, appid: wx0123456789abcdee, secret: abc}
`, two, `apps:
  - name: shop            # the shop
    appid: wx0123456789abcdef
    secret: "${WX_SECRET}"  # in the environment
    quotas:
      menu.create: 20/day
      user.info: 8/day
    # the end of it
  - {name: other, appid: wx0123456789abcdee, secret: abc}
`},
		{"none, the last value over several lines", `apps:
- appid: wx0123456789abcdef
  name: shop
  secret:
    - new
    - old
`, two, `apps:
- appid: wx0123456789abcdef
  name: shop
  quotas:
    menu.create: 20/day
    user.info: 8/day
  secret:
    - new
    - old
`},
		{"none, an app in braces", `apps:
  - {name: shop, appid: wx0123456789abcdef, secret: "a}b, c: '"} # one line
`, two, `apps:
  - {name: shop, appid: wx0123456789abcdef, secret: "a}b, c: '", quotas: {menu.create: 20/day, user.info: 8/day}} # one line
`},
		{"none, braces over several lines", `apps: [
  {
    name: shop,
    appid: wx0123456789abcdef,
    secret: [new, 'o''ld'], # two
  }, # one
]
`, two, `apps: [
  {
    name: shop,
    appid: wx0123456789abcdef,
    secret: [new, 'o''ld'], quotas: {menu.create: 20/day, user.info: 8/day}, # two
  }, # one
]
`},
		{"all commented out", `apps:
  - name: shop
    appid: wx0123456789abcdef
    quotas: # mine
      # user.info: 5/day
    secret: abc
`, two, `apps:
  - name: shop
    appid: wx0123456789abcdef
    quotas: {menu.create: 20/day, user.info: 8/day} # mine
      # user.info: 5/day
    secret: abc
`},
		{
			"null", "apps:\n  - {name: shop, appid: wx0123456789abcdef, quotas: ~, secret: abc}\n", two,
			"apps:\n  - {name: shop, appid: wx0123456789abcdef, quotas: {menu.create: 20/day, user.info: 8/day}, secret: abc}\n",
		},
		{
			"empty", "apps:\n  - {name: shop, appid: wx0123456789abcdef, quotas: {}, secret: abc}\n", two,
			"apps:\n  - {name: shop, appid: wx0123456789abcdef, quotas: {menu.create: 20/day, user.info: 8/day}, secret: abc}\n",
		},
		{"in lines", `apps:
  - appid: wx0123456789abcdef
    name: shop
    quotas:
      # from the console
      user.info:   5/day     # in May
      message.mass.send: [4/month, "100/day"]
      # the end
    secret: abc
`, map[string]string{"menu.create": "20/day", "user.info": "8/day", "message.mass.send": "200/day, 4/month"}, `apps:
  - appid: wx0123456789abcdef
    name: shop
    quotas:
      # from the console
      user.info:   8/day     # in May
      message.mass.send: [4/month, "200/day"]
      menu.create: 20/day
      # the end
    secret: abc
`},
		{"lists in lines", `apps:
  - appid: wx0123456789abcdef
    name: shop
    quotas:
      message.mass.send:
        - 100/day  # a
        - 4/month  # b
    secret: abc
`, map[string]string{"message.mass.send": "200/day, 4/month"}, `apps:
  - appid: wx0123456789abcdef
    name: shop
    quotas:
      message.mass.send:
        - 200/day  # a
        - 4/month  # b
    secret: abc
`},
		{
			"in braces", `apps:
  - appid: wx0123456789abcdef
    name: shop
    secret: abc
    quotas: {user.info: "5/day", 'message.mass.send': [100/day, 4/month],} # mine`,
			map[string]string{"menu.create": "20/day", "user.info": "8/day", "message.mass.send": "200/day"},
			`apps:
  - appid: wx0123456789abcdef
    name: shop
    secret: abc
    quotas: {user.info: "8/day", 'message.mass.send': 200/day, menu.create: 20/day,} # mine`,
		},
		{
			"nothing to change", "apps:\n  - {name: shop, appid: wx0123456789abcdef, quotas: {user.info: 8/day}, secret: abc}\n",
			map[string]string{"user.info": "8/day"},
			"apps:\n  - {name: shop, appid: wx0123456789abcdef, quotas: {user.info: 8/day}, secret: abc}\n",
		},
		{"no figure", "apps:\n  - {name: shop}", nil, "apps:\n  - {name: shop}"},
		{
			"no line break at the end", "apps:\n  - name: shop\n    appid: wx0123456789abcdef",
			map[string]string{"user.info": "8/day"},
			"apps:\n  - name: shop\n    appid: wx0123456789abcdef\n    quotas:\n      user.info: 8/day",
		},
		{
			"line breaks of Windows and a mark", "\ufeffapps:\r\n  - name: shop # 店\r\n    appid: wx0123456789abcdef\r\n",
			map[string]string{"user.info": "8/day"},
			"\ufeffapps:\r\n  - name: shop # 店\r\n    appid: wx0123456789abcdef\r\n    quotas:\r\n      user.info: 8/day\r\n",
		},
		{
			"characters of several bytes before it", `{"listen": "地址", apps: [{name: shop, quotas: {user.info: 5/day}}]}`,
			map[string]string{"user.info": "8/day"},
			`{"listen": "地址", apps: [{name: shop, quotas: {user.info: 8/day}}]}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := SetQuotas([]byte(tt.file), "shop", tt.quotas)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("SetQuotas (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSetQuotasRefuses(t *testing.T) {
	for _, tt := range []struct{ name, file, rule, budget, want string }{
		{"auto", "apps:\n  - {name: shop, quotas: auto}", "user.info", "8/day", "app shop: line 2: quotas is auto: WeChat's own figures are taken over, so there is nothing to write"},
		{"a word", "apps:\n  - {name: shop, quotas: many}", "user.info", "8/day", `quotas is "many": want figures by rule name there, or nothing`},
		{"a list", "apps:\n  - {name: shop, quotas: [5/day]}", "user.info", "8/day", "quotas is no mapping"},
		{"a variable", `apps: [{name: shop, quotas: {user.info: "${N}/day"}}]`, "user.info", "8/day", "rule user.info: line 1: the figure comes from a variable"},
		{"a list of other figures", "apps:\n  - name: shop\n    quotas:\n      user.info:\n        - 5/month\n", "user.info", "8/day", "a list of other figures"},
		{"a list that gets shorter", "apps:\n  - name: shop\n    quotas:\n      user.info:\n        - 5/month\n        - 1/day\n", "user.info", "8/day", "a list or mapping over several lines"},
		{"a comment in a list", "apps:\n  - name: shop\n    quotas:\n      user.info: [5/month, # five\n        1/day]\n", "user.info", "8/day", "a comment inside a list of figures"},
		{"an anchor", "apps:\n  - name: shop\n    quotas: {user.info: &a 5/day}", "user.info", "8/day", "an alias, an anchor or a tag"},
		{"an app written twice", "apps:\n  - &a {name: shop}\n  - *a", "user.info", "8/day", "app shop: line 2: an anchor"},
		{"another app", "apps:\n  - {name: shops, appid: wx0123456789abcdef}", "user.info", "8/day", "app shop: not in the file: did you mean shops?"},
		{"no app", "listen: 127.0.0.1:8080", "user.info", "8/day", "app shop: not in the file: there is none"},
		{"an empty file", "", "user.info", "8/day", "app shop: not in the file"},
		{"no YAML", "apps: [", "user.info", "8/day", "yaml: "},
		{"two documents", "apps: []\n---\napps: []", "user.info", "8/day", "a second document"},
		{"no figure", "apps: []", "user.info", "many", `rule user.info: quota "many": want`},
		{"no rule", "apps: []", "user info", "8/day", `name "user info": want 1 to 64 of`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := SetQuotas([]byte(tt.file), "shop", map[string]string{tt.rule: tt.budget})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("SetQuotas = %q, %v, want an error with %q", got, err, tt.want)
			}
		})
	}
}

// An app may be named by what a variable holds.
func TestSetQuotasOfAVariable(t *testing.T) {
	t.Setenv("SHOP_APPID", "wx0123456789abcdef")
	got, err := SetQuotas([]byte("apps:\n  - appid: ${SHOP_APPID}\n"), "wx0123456789abcdef", map[string]string{"user.info": "8/day"})
	if want := "apps:\n  - appid: ${SHOP_APPID}\n    quotas:\n      user.info: 8/day\n"; err != nil || string(got) != want {
		t.Errorf("SetQuotas = %q, %v, want %q", got, err, want)
	}
}

// fileDraft draws a wxproxy.yaml in all the forms that it may have.
type fileDraft struct {
	t        *rapid.T
	out      strings.Builder
	comments int
}

func (d *fileDraft) pick(label string, texts ...string) string {
	return rapid.SampledFrom(texts).Draw(d.t, label)
}

// comment is a comment with a number of its own, or nothing.
func (d *fileDraft) comment() string {
	if !rapid.Bool().Draw(d.t, "comment") {
		return ""
	}
	d.comments++
	return fmt.Sprintf("%s# c%d {[\"' 注: x,", d.pick("blanks", " ", "   "), d.comments)
}

func (d *fileDraft) line(indent int, text string) {
	if c := d.comment(); rapid.Bool().Draw(d.t, "above") && c != "" {
		d.out.WriteString(strings.Repeat(" ", indent) + strings.TrimLeft(c, " ") + "\n")
	} else {
		text += c
	}
	d.out.WriteString(strings.Repeat(" ", indent) + text + "\n")
}

var draftRules = []string{"menu.create", "user.info", "message.mass.send", "token", "1.5"}

func (d *fileDraft) figure() string {
	n := rapid.IntRange(1, 99).Draw(d.t, "figure")
	return strings.ReplaceAll(d.pick("form", "N/day", `"N/day"`, "'N/day'", "[N/day, 4/month]", `[4/month, "N/day"]`), "N", fmt.Sprint(n))
}

func (d *fileDraft) rules() []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(draftRules), 0, 3, rapid.ID).Draw(d.t, "rules")
}

// flowQuotas is a mapping in braces, on one line.
func (d *fileDraft) flowQuotas() string {
	var parts []string
	for _, rule := range d.rules() {
		parts = append(parts, rule+": "+d.figure())
	}
	return "{" + d.pick("pad", "", " ") + strings.Join(parts, d.pick("comma", ", ", ",")) + "}"
}

func (d *fileDraft) app(i int, secret string) {
	keys := rapid.Permutation([]string{"appid", "name", "secret", "profile", "quotas"}).Draw(d.t, "keys")
	keys = slices.DeleteFunc(keys, func(key string) bool { return key == "profile" && rapid.Bool().Draw(d.t, "no profile") })
	quotas := d.pick("quotas", "none", "null", "~", "flow", "block", "block")
	if quotas == "none" {
		keys = slices.DeleteFunc(keys, func(key string) bool { return key == "quotas" })
	}
	values := map[string]string{
		"appid": fmt.Sprintf("wx%016d", i), "name": fmt.Sprintf("app%d", i), "profile": `"production"`, "secret": secret,
		"quotas": map[string]string{"flow": d.flowQuotas(), "~": "~", "null": "null"}[quotas],
	}
	if rapid.Bool().Draw(d.t, "braces") {
		if quotas == "block" {
			values["quotas"] = d.flowQuotas()
		}
		var parts []string
		for _, key := range keys {
			parts = append(parts, key+": "+values[key])
		}
		if rapid.Bool().Draw(d.t, "lines") {
			d.line(2, "- {")
			for _, part := range parts {
				d.line(6, part+",")
			}
			d.line(4, "}")
			return
		}
		d.line(2, "- {"+strings.Join(parts, ", ")+"}")
		return
	}
	dash := "- "
	for _, key := range keys {
		if key == "quotas" && quotas == "block" {
			rules := d.rules()
			d.line(4-len(dash), dash+"quotas:")
			for _, rule := range rules {
				d.line(8, rule+": "+d.figure())
			}
		} else {
			d.line(4-len(dash), strings.TrimRight(dash+key+": "+values[key], " "))
		}
		dash = ""
	}
}

func draftFile(t *rapid.T) (file []byte, comments int) {
	d := &fileDraft{t: t}
	d.line(0, "listen: 127.0.0.1:8080")
	d.line(0, "apps:")
	for i := range 3 {
		d.app(i, d.pick("secret", "abc", `"a\"}, #b"`, "'it''s'", "[new, old]", `"${A:-b}"`, "a'b"))
	}
	d.line(0, d.pick("rest", "learn: auto", "callers: []", "store: {url: \"file:x.db\"}"))
	text := d.out.String()
	if rapid.Bool().Draw(t, "windows") {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	if rapid.Bool().Draw(t, "cut") {
		text = strings.TrimRight(text, "\r\n")
	}
	return []byte(text), d.comments
}

// content is what a file says, its quotas apart: texts as they are written.
func content(t *rapid.T, file []byte, app string) (rest string, quotas map[string]string) {
	top, err := topOf(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	if quotas, err = takeQuotas(top, app); err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	var plain any
	if err := top.Decode(&plain); err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), quotas
}

var draftComment = regexp.MustCompile(`# c[0-9]+ [^\r\n]*`)

// Whatever the form of the file, the edited one is the same document but for the figures of the
// app, and keeps each comment and each line that has no figure of the app.
func TestSetQuotasLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		file, comments := draftFile(t)
		app := rapid.SampledFrom([]string{"app0", "app1", "app2", "wx0000000000000001"}).Draw(t, "app")
		quotas := make(map[string]string)
		for _, rule := range rapid.SliceOfNDistinct(rapid.SampledFrom(draftRules), 1, 3, rapid.ID).Draw(t, "set") {
			quotas[rule] = rapid.SampledFrom([]string{"1000/day", "2000/day, 4/month", "unlimited"}).Draw(t, "budget")
		}
		edited, err := SetQuotas(file, app, quotas)
		if err != nil {
			t.Fatalf("%v\n%s", err, file)
		}
		rest, want := content(t, file, app)
		editedRest, got := content(t, edited, app)
		maps.Copy(want, quotas)
		if editedRest != rest || !maps.Equal(got, want) {
			t.Errorf("after %v of %s the file\n%sis\n%swith %v, want %v", quotas, app, file, edited, got, want)
		}
		before, after := draftComment.FindAllString(string(file), -1), draftComment.FindAllString(string(edited), -1)
		if len(before) != comments || !slices.Equal(after, before) {
			t.Errorf("the comments of\n%sare\n%s", file, edited)
		}
		at := 0 // each line without a figure is still there, and in its place
		for line := range bytes.Lines(file) {
			if bytes.Contains(line, []byte("/day")) || bytes.Contains(line, []byte("quotas")) || bytes.Contains(line, []byte("- {")) {
				continue
			}
			line, _, _ = bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(",")) // quotas may follow in braces
			i := bytes.Index(edited[at:], line)
			if i < 0 {
				t.Fatalf("line %q is not in its place:\n%s", line, edited)
			}
			at += i + len(line)
		}
		again, err := SetQuotas(edited, app, quotas)
		if err != nil || !bytes.Equal(again, edited) {
			t.Errorf("a second time: %v\n%swant\n%s", err, again, edited)
		}
	})
}

func TestCheckText(t *testing.T) {
	const good = "apps:\n  - {appid: wx0123456789abcdef, secret: abc, quotas: {own: 8/day}}\n"
	dir := files(t, "limits.yaml", "version: 1\nprofiles:\n  production:\n    extends: production\n    rules: [{name: own, paths: [/cgi-bin/own], quota: 5/day}]\n", "wxproxy.yaml", "x")
	o := LoadOptions{Dir: dir, Shipped: shippedYAML(t), Env: env()}
	if err := CheckText(o, []byte(good)); err != nil { // with the limits.yaml beside it
		t.Errorf("CheckText of a good file: %v", err)
	}
	path := filepath.Join(dir, "wxproxy.yaml")
	o.Path = path
	want := path + ":2:55: apps[0].quotas.own: no such rule in profile production: "
	if err := CheckText(o, []byte(good)); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("CheckText of a file that names no table: %v, want %q", err, want)
	}
	if err := CheckText(o, []byte("apps: [")); err == nil || !strings.HasPrefix(err.Error(), path+":1: not YAML") {
		t.Errorf("CheckText of no YAML: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "x" {
		t.Errorf("the file itself is %q, %v, want it as it was", text, err)
	}
}
