package admin

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// sampleAlerts has a value in each field.
func sampleAlerts() Alerts {
	return Alerts{
		Time: midnight,
		Sinks: []AlertSink{
			{Sink: "oncall", Type: "wecom", State: "silenced", Error: "93000: the robot is gone or its URL is wrong", Taken: midnight, Tried: midnight, Next: midnight, Waiting: 2},
			{Sink: "mail", Type: "mail", State: "unused"},
		},
		Alerts: []Alert{
			{
				Time: midnight, Event: "used", State: "began", App: "shop", AppID: "wx0000000000000001", Rule: "other", Title: "其他", Path: "/cgi-bin/a",
				Period: "day", Used: 812, Limit: 1000, Threshold: 80, Forecast: midnight, Wechat: 900, Errcode: 45009, IP: "203.0.113.9", Caller: "crm", Gateway: "gw-1", Reason: "why",
				Sinks: []AlertResult{{Sink: "mail", Result: "waiting"}, {Sink: "oncall", Result: "refused", Error: "93000: gone", Time: midnight}},
			},
			{Time: midnight, Event: "digest", State: "began", Sinks: []AlertResult{}},
		},
	}
}

// The list is answered also while the store is down, and says so; a gateway without alerts says that.
func TestAlertsList(t *testing.T) {
	down := error(nil)
	o := newOperated(t, func(o *Options) {
		o.Alerts = func(context.Context) (Alerts, error) { return sampleAlerts(), down }
	})
	for _, tt := range []struct {
		down error
		want string
	}{{nil, ""}, {errors.New("get record of _alerts: redis.example.com refused"), "the store does not answer"}} {
		down = tt.down
		var got Alerts
		if status := o.ask(t, "GET", "/api/v1/alerts", &got); status != 200 || got.Error != tt.want || len(got.Alerts) != 2 || len(got.Sinks) != 2 {
			t.Errorf("with %v: %d %+v, want two alerts and the error %q", tt.down, status, got, tt.want)
		}
	}
	o = newOperated(t)
	var p problem
	if status := o.ask(t, "GET", "/api/v1/alerts", &p); status != 501 || !strings.Contains(p.Error, "alerts") {
		t.Errorf("without alerts: %d %+v, want 501", status, p)
	}
	if status, _ := o.do(t, "GET", "/api/v1/alerts"); status != 401 {
		t.Errorf("without a token: %d, want 401", status)
	}
}
