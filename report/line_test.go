package report

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wxproxy/proxy"
)

// written is what the gateway writes of calls.
func written(tb testing.TB, records ...proxy.Record) []byte {
	tb.Helper()
	var text bytes.Buffer
	log := proxy.NewAccessLog(&text, nil)
	for i := range records {
		log.Write(&records[i])
	}
	if err := log.Close(); err != nil {
		tb.Fatal(err)
	}
	return text.Bytes()
}

var sample = proxy.Record{
	Time: time.Date(2026, 11, 29, 15, 4, 5, 67_000_000, time.FixedZone("", 8*3600)), RequestID: "6f1c", ClientIP: "10.0.0.7", Caller: "crm",
	App: "shop", AppID: "wx0123456789abcdef", Method: "POST", Path: "/cgi-bin/menu/create", Rule: "menu.create", Decision: "refused-quota",
	Reason: proxy.QuotaUsedUp, Quota: 1000, Used: 1000, Reset: time.Hour, Status: 200, ErrCode: 45009, Duration: 1234567 * time.Nanosecond,
	Upstream: time.Second, Attempts: 1, BytesIn: 12, BytesOut: 34, UserAgent: "curl/8",
}

// What package proxy writes today is read by the scanner, without encoding/json. When the form changes, so must
// the scanner: else a report takes ten times as long.
func TestScanReadsWhatTheGatewayWrites(t *testing.T) {
	utc, minus := sample, sample
	utc.Time, minus.Time = utc.Time.UTC(), minus.Time.In(time.FixedZone("", -(9*3600+1800)))
	passed, negative := sample, sample
	passed.Reason, passed.Decision = "", "pass"
	negative.ErrCode, negative.Caller, negative.Path = -1, "", "/cgi-bin/*/x"
	for line := range bytes.Lines(written(t, sample, utc, minus, passed, negative, proxy.Record{Time: sample.Time, Path: "-"})) {
		var fast, slow Line
		line = bytes.TrimSuffix(line, []byte("\n"))
		if !new(Parser).scan(line, &fast) {
			t.Errorf("not read: %s", line)
		}
		if !parseJSON(line, &slow) {
			t.Errorf("encoding/json does not read: %s", line)
		}
		if d := cmp.Diff(texted(slow), texted(fast)); d != "" {
			t.Errorf("%s: %s", line, d)
		}
	}
}

// texted is a line with texts that cmp shows, and none for what is empty.
func texted(l Line) map[string]any {
	return map[string]any{
		"time": l.Time, "app": string(l.App), "appid": string(l.AppID), "caller": string(l.Caller), "path": string(l.Path), "rule": string(l.Rule),
		"decision": string(l.Decision), "reason": string(l.Reason), "status": l.Status, "errcode": l.ErrCode, "attempts": l.Attempts,
	}
}

func TestParse(t *testing.T) {
	ours := strings.TrimSpace(string(written(t, sample)))
	for _, tt := range []struct {
		name, old, new string
		want           bool
	}{
		{"as it is", "", "", true},
		{"a version without reason", `"reason":"quota-used-up",`, "", true},
		{"another order", `"rule":"menu.create","decision":"refused-quota"`, `"decision":"refused-quota","rule":"menu.create"`, true},
		{"a field more", `"quota":1000`, `"new":[1],"quota":1000`, true},
		{"an escape", "shop", `s\u0068op`, true},
		{"blanks", `,"status":`, ` , "status" : `, true},
		{"no decision", `"decision":"refused-quota",`, "", false},
		{"a name with a blank", "shop", "sh op", false},
		{"an escaped terminal sequence", "shop", `\u001b[31m`, false},
		{"a name that is too long", "crm", strings.Repeat("a", 65), false},
		{"no date", "2026-11-29", "2026-02-30", false},
		{"no time", "15:04:05", "15:04:60", false},
		{"two values", "}", "}{}", false},
		{"cut off", `,"user_agent":"curl/8"}`, "", false},
		{"a number with a 0 in front", `"status":200`, `"status":0200`, false},
		{"a number that is too large", `"status":200`, `"status":99999999999999999999`, false},
	} {
		var l Line
		line := strings.Replace(ours, tt.old, tt.new, 1)
		got := new(Parser).Parse([]byte(line), &l)
		if got != tt.want {
			t.Errorf("%s: read is %t, want %t: %s", tt.name, got, tt.want, line)
		}
		if got && (string(l.App) != "shop" || l.ErrCode != 45009 || l.Time != sample.Time.UnixMilli()) {
			t.Errorf("%s: %v, want app shop, errcode 45009 and the time %d", tt.name, texted(l), sample.Time.UnixMilli())
		}
	}
}

// What the scanner reads, encoding/json reads the same.
func FuzzScan(f *testing.F) {
	ours := strings.TrimSpace(string(written(f, sample)))
	f.Add([]byte(ours))
	f.Add([]byte(strings.Replace(ours, "+08:00", "Z", 1)))
	f.Add([]byte(strings.Replace(ours, `"reason":"quota-used-up",`, "", 1)))
	f.Add([]byte(strings.Replace(ours, `"status":200`, `"status":-0`, 1)))
	f.Add([]byte(strings.Replace(ours, "2026-11-29T15", "2024-02-29T23", 1)))
	f.Fuzz(func(t *testing.T, line []byte) {
		var fast, slow Line
		if !new(Parser).scan(line, &fast) {
			return
		}
		if !parseJSON(line, &slow) {
			t.Fatalf("encoding/json does not read %q", line)
		}
		if d := cmp.Diff(texted(slow), texted(fast)); d != "" {
			t.Error(d)
		}
	})
}
