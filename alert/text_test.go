package alert

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Every kind has a head, and every condition one for its end, in both languages and with parameters that exist.
func TestPhrases(t *testing.T) {
	now := time.Date(2026, 11, 29, 14, 0, 0, 0, time.UTC)
	for _, kind := range append(Kinds(), Test) {
		if heads[kind].en == "" || heads[kind].zh == "" {
			t.Errorf("%s: no head", kind)
		}
		if kind.isCondition() && (overHeads[kind].en == "" || overHeads[kind].zh == "") {
			t.Errorf("%s: no head of its end", kind)
		}
		for _, l := range []Language{English, Chinese} {
			c := testConfig()
			c.Language = l
			for _, e := range goldenEvents(now) {
				if text := c.compose("m", now, []Event{e}).text(1 << 20); strings.ContainsAny(text, "{}") {
					t.Errorf("%s: a parameter that nothing fills in: %s", e.Kind, text)
				}
			}
		}
	}
}

// goldenEvents is one event of each kind, as they arrive.
func goldenEvents(now time.Time) []Event {
	zone := time.FixedZone("CST", 8*3600)
	midnight := time.Date(2026, 11, 30, 0, 0, 0, 0, zone)
	base := Event{At: now, AppID: "wx0123456789abcdef", App: "shop", Rule: "menu.create", Title: "自定义菜单创建", Period: "day", Limit: 1000, Reset: midnight}
	with := func(change func(*Event)) Event {
		e := base
		change(&e)
		return e
	}
	return []Event{
		with(func(e *Event) {
			e.Kind, e.Used, e.Threshold, e.Forecast, e.Callers = Used, 812, 80, now.Add(40*time.Minute), []Caller{{"crm", 600}, {"web", 212}}
		}),
		with(func(e *Event) { e.Kind, e.Used, e.Threshold = Used, 1000, 100 }),
		with(func(e *Event) {
			e.Kind, e.Rule, e.Title, e.Used, e.Limit, e.Threshold, e.Period, e.Reset = ClearsUsed, "clear_quota", "接口调用次数清零", 8, 10, 80, "month", midnight.AddDate(0, 0, 1)
		}),
		with(func(e *Event) {
			e.Kind, e.Used, e.Limit, e.Threshold, e.Period, e.Reset = Used, 4, 4, 100, "month", midnight.AddDate(0, 0, 1)
		}),
		with(func(e *Event) {
			e.Kind, e.Rule, e.Title, e.Used, e.Limit, e.Threshold, e.Period, e.Reset = ClearsUsed, "clear_quota", "接口调用次数清零", 10, 10, 100, "month", midnight.AddDate(0, 0, 1)
		}),
		with(func(e *Event) { e.Kind, e.Used, e.Forecast = Forecast, 612, now.Add(90*time.Minute) }),
		with(func(e *Event) { e.Kind, e.Until, e.Period = Latched, midnight, "" }),
		with(func(e *Event) { e.Kind, e.Over, e.Since, e.At = Latched, true, now.Add(-time.Hour), now }),
		with(func(e *Event) {
			e.Kind, e.Caller, e.ErrCode, e.Until, e.Period = Fuse, "crm", 40003, now.Add(24*time.Hour), ""
		}),
		{Kind: TokenRefused, At: now, App: "shop", AppID: base.AppID, ErrCode: 40164, IP: "203.0.113.9", Until: now.Add(time.Minute)},
		{Kind: TokenRefused, At: now, App: "shop", AppID: base.AppID, ErrCode: 40125, Until: now.Add(time.Minute)},
		{Kind: TokenRefused, At: now, App: "shop", AppID: base.AppID, Over: true, Since: now.Add(-10 * time.Minute)},
		{Kind: TokenEnding, At: now, App: "shop", AppID: base.AppID, Expires: now.Add(2 * time.Minute), Reason: "no answer in time"},
		{Kind: StoreDown, At: now, Host: "gw-1", Reason: "no answer in time"},
		{Kind: StoreDown, At: now, Host: "gw-1", Again: true, Since: now.Add(-4 * time.Hour)},
		{Kind: ReloadFailed, At: now, Host: "gw-1", Reason: "wxproxy.yaml:3:7: unknown key: did you mean listen?"},
		{Kind: LogDropped, At: now, Host: "gw-1"},
		with(func(e *Event) { e.Kind, e.Used, e.Wechat, e.Threshold = Drift, 400, 520, 5 }),
		{Kind: Digest, At: now, Top: []Event{with(func(e *Event) { e.Kind, e.Used = Used, 812 })}, Holding: []Event{{Kind: TokenRefused, App: "mini", ErrCode: 40125}}},
		{Kind: Test, At: now, Host: "gw-1"},
	}
}

// The link leads to what a message is about.
func TestLink(t *testing.T) {
	on := func(app, rule string) Event { return Event{Kind: Used, AppID: "id of " + app, App: app, Rule: rule} }
	gateway := Event{Kind: StoreDown}
	for _, tt := range []struct {
		page   string
		events []Event
		want   string
	}{
		{"https://gw/", []Event{on("商城", "menu.create")}, "https://gw/#/app/%E5%95%86%E5%9F%8E?rule=menu.create"},
		{"https://gw/", []Event{on("a", "r1"), on("a", "r2")}, "https://gw/#/app/a"},
		{"https://gw/", []Event{on("a", ""), on("a", "")}, "https://gw/#/app/a"},
		{"https://gw/", []Event{on("a", "r1"), on("b", "r1")}, "https://gw/"},
		{"https://gw/", []Event{on("a", "r1"), gateway}, "https://gw/"},
		{"https://gw/", []Event{gateway}, "https://gw/#/gateway"},
		{"https://gw/", []Event{{Kind: Digest}}, "https://gw/"},
		{"https://wiki/#on-call", []Event{gateway}, "https://wiki/#on-call"},
		{"", []Event{gateway}, ""},
	} {
		if got := (Config{Page: tt.page}).link(tt.events); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.events, got, tt.want)
		}
	}
}

// The texts as they arrive; docs/alerts.md shows some of them. -update rewrites them.
func TestTexts(t *testing.T) {
	now := time.Date(2026, 11, 29, 14, 0, 0, 0, time.FixedZone("CST", 8*3600))
	for _, l := range []Language{English, Chinese} {
		c := testConfig()
		c.Language = l
		var texts []string
		events := goldenEvents(now)
		for _, e := range events {
			texts = append(texts, c.compose("m", now, []Event{e}).text(2048))
		}
		texts = append(texts, c.compose("m", now, events).text(wecomText))
		got := strings.Join(texts, "\n\n----\n\n") + "\n"
		path := "testdata/texts." + string(l) + ".txt"
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs; go test ./alert -run TestTexts -update rewrites it. Got:\n%s", path, got)
		}
	}
}
