package config

import (
	"strings"
	"testing"
)

func TestLoadReserve(t *testing.T) {
	const main = `
apps: [{name: shop, appid: wx0123456789abcdef, secret: x, profile: shop%s}]
callers: [{name: oncall, apps: [shop], key: 0123456789abcdef0123456789abcdef}, {name: crm, apps: [shop], key: 0123456789abcdef0123456789abcdee}]
`
	const table = `version: 1
profiles:
  base:
    rules: [{name: a, paths: [/cgi-bin/a], quota: [100/day, 1000/month], reserve: {oncall: 20}}]
  shop:
    extends: base
    rules:
`
	for _, tt := range []struct{ name, own, rule, fault string }{
		{"good", "", "{name: a, reserve: {oncall: 60, crm: 40}, shares: {crm: 40/day}}", ""},
		{"inherited", "", "{name: a, quota: 20/day}", ""},
		{"more than the quota", "", "{name: a, reserve: {oncall: 60, crm: 41}}", "limits.yaml:8:28: profiles.shop.rules[0].reserve: 101 calls are kept back in all, of a quota of 100/day, 1000/month: want 100 at most"},
		{"a smaller quota", "", "{name: a, quota: 19/day}", "limits.yaml:8:26: profiles.shop.rules[0].quota: 20 calls are kept back in all, of a quota of 19/day: want 19 at most"},
		{"no figure", "", "{name: a, quota: unknown}", "limits.yaml:8:26: profiles.shop.rules[0].quota: a reserve of a quota that is unknown: want a quota of N/day or N/month to keep calls back of"},
		{"more than the share", "", "{name: a, reserve: {crm: 4}, shares: {crm: 3/day}}", "limits.yaml:8:28: profiles.shop.rules[0].reserve: crm: 4 calls are kept back, and its share is 3/day: want no more than the share"},
		{"unknown caller", "", "{name: a, reserve: {onkall: 4}}", `limits.yaml:8:29: profiles.shop.rules[0].reserve.onkall: "onkall": no such caller: did you mean oncall?`},
		{"no number", "", "{name: a, reserve: {crm: 0}}", `limits.yaml:8:34: profiles.shop.rules[0].reserve.crm: "0": want a whole number from 1 to 1000000000000`},
		{"own quota", ", quotas: {a: 10/day}", "{name: a, title: b}", "wxproxy.yaml:2:86: apps[0].quotas.a: 10/day: of it 20 calls are kept back by the table's reserve: want a quota of no less"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := files(t, "wxproxy.yaml", strings.Replace(main, "%s", tt.own, 1), "limits.yaml", table+"      - "+tt.rule+"\n")
			c, err := Load(LoadOptions{Dir: dir, Shipped: shippedYAML(t)})
			switch {
			case tt.fault == "" && err == nil && len(c.Apps) == 1:
			case tt.fault == "":
				t.Errorf("Load: %v", err)
			case tt.fault != "" && (err == nil || !strings.Contains(err.Error(), tt.fault) || strings.Count(err.Error(), "\n") > 0):
				t.Errorf("Load: %v, want %s", err, tt.fault)
			}
		})
	}
}

func TestLoadShadow(t *testing.T) {
	c := load(t, LoadOptions{Dir: files(t, "wxproxy.yaml", "apps: []\nshadow: true\n")})
	if !c.Shadow || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "wxproxy.yaml:2:9: shadow: nothing is refused") {
		t.Errorf("Shadow = %t, warnings %q", c.Shadow, c.Warnings)
	}
}
