package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"wxproxy/admin"
	"wxproxy/internal/redistest"
	"wxproxy/sandbox"
)

// A service sees its own budget with its own key at either gateway, and an operator what happens just now: each call is in
// the stream of the gateway that it went through. The other daily questions are those of TestDailyQuestions and
// TestQuestionsOfStatus.
func TestQuestionsOfAServiceAndOfNow(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	name, _ := noon()
	config := write(t, wechat, redistest.Start(t).URL(), strings.Replace(table("8/day", "150/day"), "Asia/Shanghai", name, 1), historyCallers)
	gateways := []*process{start(t, config, wechat), start(t, config, wechat)}
	const calls = 20
	for _, p := range gateways { // what happens just now?
		stream := p.watch(t, "app=a&rule=user.info")
		for range calls {
			askUser(t, p.url, keyCRM, canaryOpenID)
		}
		askUser(t, p.url, keyOncall, "undefined")
		for n := range calls + 1 {
			var line struct {
				Caller  string `json:"caller"`
				ErrCode int    `json:"errcode"`
			}
			if err := json.Unmarshal([]byte(nextLine(t, stream)), &line); err != nil {
				t.Fatal(err)
			}
			if last := n == calls; (line.Caller == "oncall") != last || (line.ErrCode == 40003) != last {
				t.Errorf("line %d: %+v, want the failed call of oncall last", n, line)
			}
		}
	}
	executed := wechat.Executed(appA, "/cgi-bin/user/info")
	if executed != 2*calls+2 {
		t.Fatalf("WeChat executed %d, want %d", executed, 2*calls+2)
	}
	for i, p := range gateways { // what is left for me?
		var a answer
		var row admin.Row
		waitFor(t, "forecast with the calls of both gateways", func() bool { // what the other has counted comes after some seconds
			var u admin.CallerUsage
			a, u = askOwn(t, p.url, "", "X-Wxproxy-Key", keyCRM)
			if len(u.Apps) != 1 || len(u.Apps[0].Rows) != 1 {
				return false
			}
			row = u.Apps[0].Rows[0]
			return row.Forecast != nil && !row.Forecast.RunsOut.IsZero()
		})
		if row.Rule != "user.info" || row.Used != executed || row.Remaining != 150-executed || row.Forecast.RunsOut.After(row.Reset) || row.Reset.Before(time.Now()) {
			t.Errorf("gateway %d: %+v, forecast %+v, want %d used of 150", i, row, row.Forecast, executed)
		}
		if strings.Contains(a.body, "callers") || strings.Contains(a.body, "oncall") {
			t.Errorf("gateway %d: crm sees other callers: %s", i, a.body)
		}
	}
}
