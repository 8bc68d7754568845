package alert

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// alertmanager posts alerts to Alertmanager's own API. Three gateways that post the same labels are one alert.
type alertmanager struct {
	Sink
	client *http.Client
}

// amAlert is one alert of Alertmanager's API.
type amAlert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

// amLasts is when an alert ends of which no end is known. An event that is over ends it before.
const amLasts = 24 * time.Hour

func (s alertmanager) send(ctx context.Context, m outgoing) *SendError {
	alerts := make([]amAlert, len(m.events))
	for i, e := range m.events {
		alerts[i] = amAlertOf(e)
		alerts[i].Annotations["summary"] = m.headOf(e)
		alerts[i].Annotations["description"] = m.textOf(e)
		alerts[i].GeneratorURL = m.config.link([]Event{e})
	}
	status, _, got, failed := post(ctx, s.client, strings.TrimSuffix(s.URL, "/")+"/api/v2/alerts", encode(alerts), http.Header{})
	switch {
	case failed != nil:
		return failed
	case status == http.StatusBadRequest:
		e := httpError(status, got)
		e.Refused = true
		return e
	case status < 200 || status >= 300:
		return httpError(status, got)
	}
	return nil
}

// amAlertOf gives an event the labels by which Alertmanager knows it again: no figure is one.
func amAlertOf(e Event) amAlert {
	a := amAlert{
		Labels:      map[string]string{"alertname": "wxproxy_" + string(e.Kind), "severity": severity(e)},
		Annotations: make(map[string]string),
		StartsAt:    e.At, EndsAt: e.At.Add(amLasts),
	}
	for name, value := range map[string]string{"app": e.App, "appid": e.AppID, "rule": e.Rule, "path": e.Path, "period": e.Period, "caller": e.Caller} {
		if value != "" {
			a.Labels[name] = value
		}
	}
	if e.Threshold > 0 && e.Kind != Forecast {
		a.Labels["threshold"] = fmt.Sprint(e.Threshold)
	}
	if !e.Since.IsZero() {
		a.StartsAt = e.Since
	}
	switch {
	case e.Over:
		a.EndsAt = e.At
	case e.Kind == Test:
		a.EndsAt = e.At.Add(5 * time.Minute)
	case !e.Reset.IsZero():
		a.EndsAt = e.Reset
	case !e.Until.IsZero() && e.Kind != TokenRefused:
		a.EndsAt = e.Until
	}
	return a
}

// severity is a label that routes of Alertmanager often go by. It is the same for an event and its end.
func severity(e Event) string {
	switch e.Kind {
	case Latched, TokenRefused, StoreDown:
		return "critical"
	case Used:
		if e.Threshold >= 100 {
			return "critical"
		}
	case Test, Digest:
		return "info"
	}
	return "warning"
}
