package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wxproxy/limits"
)

// Where an app's figure comes from: a profile, through extends, or a file with the app's own.
func TestFiguresComeFrom(t *testing.T) {
	const table = `
version: 1
profiles:
  shop: {extends: mid, rules: [{name: menu.create, quota: 5/day}, {name: own, paths: [/cgi-bin/own], quota: 1/day}]}
  mid: {extends: current, rules: [{name: menu.get, quota: 6/day}, {name: user.get, pace: 1/second}]}
  alone: {rules: [{name: menu.get, paths: [/cgi-bin/menu/get], quota: 6/day}]}
`
	dir := files(t, "limits.yaml", table, "wxproxy.yaml", `
apps:
  - {name: shop, appid: wx000000000000000a, secret: x, profile: shop, quotas: {user.info: 7/day}}
  - {name: plain, appid: wx000000000000000b, secret: x}
`, AutoFile, `
quotas:
  wx000000000000000a: {user.info: 9/day, menu.delete: [8/day, 40/month], gone: 1/day}
  wx00000000000000ff: {user.info: 9/day}
`)
	c := load(t, LoadOptions{Dir: dir})
	for _, want := range []struct{ app, rule, figure, from string }{
		{"shop", "user.info", "7/day", "wxproxy.yaml"}, // in place of the written one
		{"shop", "menu.delete", "8/day, 40/month", "limits.auto.yaml"},
		{"shop", "menu.create", "5/day", "shop"},
		{"shop", "own", "1/day", "shop"},
		{"shop", "menu.get", "6/day", "mid"},
		{"shop", "user.get", "500/day", "production"}, // a pace is no figure
		{"shop", "media.upload", "100000/day", "current"},
		{"plain", "user.info", "5000000/day", "production"},
	} {
		for _, app := range c.Apps {
			if app.Name != want.app {
				continue
			}
			if r := app.Rules.Rule(want.rule); r == nil || r.Budget.String() != want.figure || r.From != want.from {
				t.Errorf("%s: %s is %s, want %s from %s", want.app, want.rule, describe(r), want.figure, want.from)
			}
		}
	}
	for profile, want := range map[string]string{"shop": "current", "mid": "current", "alone": "", "production": ""} {
		if got := c.Table.Profiles[profile].Shipped; got != want {
			t.Errorf("profile %s: shipped as %q, want %q", profile, got, want)
		}
	}
	if w := strings.Join(c.Warnings, "\n"); !strings.Contains(w, `limits.auto.yaml: quotas.wx000000000000000a."gone": no such rule in profile shop: it is not used`) {
		t.Errorf("Warnings = %s, want one of the rule that is gone", w)
	}
}

func TestWriteAuto(t *testing.T) {
	path := filepath.Join(t.TempDir(), AutoFile)
	day := func(text ...string) limits.Budget {
		b, err := limits.ParseBudget(text...)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, write := range []struct {
		app     string
		figures map[string]limits.Budget
	}{
		{"wx000000000000000b", map[string]limits.Budget{"b": day("1/day"), "a": day("2/day", "3/month")}},
		{"wx000000000000000a", map[string]limits.Budget{"a": day("9/day")}},
		{"wx000000000000000b", map[string]limits.Budget{"b": day("4/day")}},
	} {
		if err := WriteAuto(path, write.app, write.figures); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if want := autoHeader + `quotas:
    wx000000000000000a:
        a: 9/day
    wx000000000000000b:
        a:
            - 2/day
            - 3/month
        b: 4/day
`; err != nil || string(got) != want {
		t.Errorf("%v, the file is\n%s\nwant\n%s", err, got, want)
	}
	if err := WriteAuto(filepath.Join(path, "no", AutoFile), "a", nil); err == nil {
		t.Error("a folder that is none: no error")
	}
}

// A file that may come is read each time, so that a reload sees it.
func TestLoadLooksForFiles(t *testing.T) {
	dir := t.TempDir()
	read := make(map[string]bool)
	load(t, LoadOptions{Dir: dir, Read: func(path string) ([]byte, fs.FileMode, error) {
		read[path] = true
		return ReadFile(path)
	}})
	for _, name := range []string{MainFile, LimitsFile, AutoFile} {
		if !read[filepath.Join(dir, name)] {
			t.Errorf("read were %v, want %s among them", read, name)
		}
	}
}
