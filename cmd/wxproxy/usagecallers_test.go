package main

import (
	"strings"
	"testing"

	"wxproxy/admin"
	"wxproxy/internal/words"
)

// Who has used what stands below the rules of its account, those of a /* with them.
func TestUsageCallers(t *testing.T) {
	t.Parallel()
	u := &admin.Usage{Apps: []admin.AppUsage{{
		App: "shop", AppID: appA, Profile: "p",
		Rows: []admin.Row{
			{Rule: "menu.create", Period: "day", Limit: 10, Used: 4, Reset: readAt, State: "open", Callers: []admin.CallerUse{{Caller: "crm", Sent: 3}, {Sent: 1}}},
			{Rule: "other", Path: "/cgi-bin/a", Period: "day", Used: 2, Reset: readAt, State: "open"},
		},
		Callers: map[string][]admin.CallerUse{"other": {{Caller: "oncall", Sent: 2}}},
	}}}
	for lang, want := range map[words.Language]string{
		words.English: "\n\nrule         caller    sent  %\nmenu.create  crm       3     75%\nmenu.create  (no key)  1     25%\nother        oncall    2     100%\n",
		words.Chinese: "\n\n规则         调用方      发出  %\nmenu.create  crm         3     75%\nmenu.create  （无密钥）  1     25%\nother        oncall      2     100%\n",
	} {
		var with, without strings.Builder
		printUsage(&with, lang, u, false, true)
		printUsage(&without, lang, u, false, false)
		if !strings.HasSuffix(with.String(), want) {
			t.Errorf("%s:\n%s\nwant at its end:\n%s", lang, with.String(), want)
		}
		if strings.Contains(without.String(), "crm") {
			t.Errorf("%s: callers that were not asked for:\n%s", lang, without.String())
		}
	}
}
