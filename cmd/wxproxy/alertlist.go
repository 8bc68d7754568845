package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"wxproxy/admin"
	"wxproxy/alert"
	"wxproxy/internal/words"
)

func alertListCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: l.Text(words.AlertListShort),
		Long:  l.Text(words.AlertListLong),
		Args:  wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list admin.Alerts
			if err := operate(cmd, http.MethodGet, "/api/v1/alerts", nil, &list); err != nil {
				return err
			}
			if asJSON, err := cmd.Flags().GetBool("json"); err != nil || asJSON {
				return encode(cmd.OutOrStdout(), list, err)
			}
			printAlerts(cmd.OutOrStdout(), l, &list)
			return nil
		},
	}
	cmd.Flags().Bool("json", false, l.Text(words.FlagJSON))
	addAccess(cmd, l)
	return cmd
}

// alertTime is how a list shows a time.
const alertTime = "01-02 15:04"

func printAlerts(w io.Writer, l words.Language, list *admin.Alerts) {
	if list.Error != "" {
		fmt.Fprintln(w, l.Text(words.AlertListOld))
	}
	if len(list.Sinks) == 0 {
		fmt.Fprintln(w, l.Text(words.PageAlertsNoSink))
	} else {
		rows := [][]string{{l.Text(words.HeadAlertSink), l.Text(words.HeadAlertType), l.Text(words.HeadSinkState)}}
		for _, s := range list.Sinks {
			rows = append(rows, []string{s.Sink, s.Type, sinkState(l, s)})
		}
		printPainted(w, rows, func(row int) colour {
			if row > 0 && list.Sinks[row-1].Error != "" {
				return red
			}
			return uncoloured
		})
	}
	fmt.Fprintln(w)
	if len(list.Alerts) == 0 {
		fmt.Fprintln(w, l.Text(words.AlertListNone))
		return
	}
	rows := [][]string{{l.Text(words.HeadAlertTime), l.Text(words.ExplainApp), l.Text(words.HeadEvent), l.Text(words.HeadRule), l.Text(words.HeadDelivery)}}
	for _, a := range list.Alerts {
		results := make([]string, len(a.Sinks))
		for i, r := range a.Sinks {
			results[i] = l.Text(words.AlertAtSink, "sink", r.Sink, "result", alertResult(l, r))
		}
		rule := a.Rule
		if a.Path != "" {
			rule += ":" + a.Path
		}
		rows = append(rows, []string{a.Time.Format(alertTime), cmp.Or(a.App, a.AppID), alertText(l, a), rule, strings.Join(results, l.Text(words.Separator))})
	}
	printTable(w, rows)
}

func sinkState(l words.Language, s admin.AlertSink) string {
	var text string
	switch alert.State(s.State) {
	case alert.Good:
		text = l.Text(words.SinkGood, "time", s.Taken.Format(alertTime))
	case alert.Faulty:
		text = l.Text(words.SinkFailing, "time", s.Tried.Format(alertTime))
	case alert.Off:
		text = l.Text(words.SinkSilenced, "time", s.Tried.Format(alertTime))
	default:
		text = l.Text(words.SinkUnused)
	}
	if s.Error != "" {
		text = l.Text(words.AlertWhy, "result", text, "reason", errors.New(s.Error))
	}
	if s.Waiting > 0 {
		text += l.Text(words.Separator) + l.Text(words.SinkWaiting, "count", s.Waiting)
	}
	return text
}

func alertResult(l words.Language, r admin.AlertResult) string {
	var text string
	switch alert.Result(r.Result) {
	case alert.Sent:
		text = l.Text(words.AlertResultSent)
	case alert.Refused:
		text = l.Text(words.AlertResultRefused)
	case alert.Failed:
		text = l.Text(words.AlertResultFailed)
	case alert.Dropped:
		text = l.Text(words.AlertResultDropped)
	default:
		text = l.Text(words.AlertResultWaiting)
	}
	if r.Error != "" {
		text = l.Text(words.AlertWhy, "result", text, "reason", errors.New(r.Error))
	}
	return text
}

// alertText is an alert in a few words. The pages have the same in views/alerts.js.
func alertText(l words.Language, a admin.Alert) string {
	text := alertEvent(l, a)
	switch a.State {
	case "over":
		return l.Text(words.AlertOver, "event", text)
	case "still":
		return l.Text(words.AlertStill, "event", text)
	}
	return text
}

func alertEvent(l words.Language, a admin.Alert) string {
	switch alert.Kind(a.Event) {
	case alert.Used:
		return l.Text(words.AlertUsed, "percent", a.Used*100/max(1, a.Limit), "used", a.Used, "limit", a.Limit)
	case alert.ClearsUsed:
		return l.Text(words.AlertClearsUsed, "used", a.Used, "limit", a.Limit)
	case alert.Forecast:
		return l.Text(words.AlertForecast, "time", a.Forecast.Format(alertTime), "used", a.Used, "limit", a.Limit)
	case alert.Latched:
		return l.Text(words.AlertLatched)
	case alert.Fuse:
		return l.Text(words.AlertFuse, "caller", cmp.Or(a.Caller, l.Text(words.AlertNoKey)), "errcode", a.Errcode)
	case alert.TokenRefused:
		if a.IP != "" {
			return l.Text(words.AlertTokenAddress, "ip", a.IP)
		}
		return l.Text(words.AlertTokenRefused, "errcode", a.Errcode)
	case alert.TokenEnding:
		return l.Text(words.AlertTokenEnding)
	case alert.StoreDown:
		return l.Text(words.AlertStoreDown, "gateway", a.Gateway)
	case alert.ReloadFailed:
		return l.Text(words.AlertReloadFailed, "gateway", a.Gateway)
	case alert.LogDropped:
		return l.Text(words.AlertLogDropped, "gateway", a.Gateway)
	case alert.Drift:
		return l.Text(words.AlertDrift, "calls", a.Wechat-a.Used)
	case alert.Digest:
		return l.Text(words.AlertDigest)
	case alert.Test:
		return l.Text(words.AlertTestMessage)
	}
	return a.Event
}
