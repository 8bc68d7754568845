package admin

import (
	"errors"
	"net/http"
	"strings"
	"time"
)

// Alerts is the answer of /api/v1/alerts. It holds no address and no secret of a sink.
type Alerts struct {
	Time   time.Time   `json:"time"`
	Sinks  []AlertSink `json:"sinks"`           // in the order of the configuration
	Alerts []Alert     `json:"alerts"`          // of the fleet, newest first
	Error  string      `json:"error,omitempty"` // why they are only what this gateway has seen last
}

// AlertSink is one sink, and whether it takes messages.
type AlertSink struct {
	Sink    string    `json:"sink"`
	Type    string    `json:"type"`
	State   string    `json:"state" enum:"unused,good,failing,silenced"`
	Error   string    `json:"error,omitempty"`       // failing, silenced: what it answered
	Taken   time.Time `json:"taken,omitzero"`        // the last message
	Tried   time.Time `json:"tried,omitzero"`        // failing, silenced: the last attempt
	Next    time.Time `json:"next_attempt,omitzero"` // failing
	Waiting int       `json:"waiting,omitempty"`     // alerts that it has not been sent
}

// Alert is one event, and what became of it.
type Alert struct {
	Time  time.Time `json:"time"`
	Event string    `json:"event"`
	State string    `json:"state" enum:"began,over,still"` // over: a condition has ended; still: a reminder
	App   string    `json:"app,omitempty"`
	AppID string    `json:"appid,omitempty"`
	Rule  string    `json:"rule,omitempty"`
	Title string    `json:"title,omitempty"`
	Path  string    `json:"path,omitempty"` // inside a /*

	Period    string    `json:"period,omitempty"`
	Used      int64     `json:"used,omitempty"`
	Limit     int64     `json:"limit,omitempty"`
	Threshold int       `json:"threshold,omitempty"` // percent
	Forecast  time.Time `json:"forecast,omitzero"`   // when the limit will be reached
	Wechat    int64     `json:"wechat_used,omitempty"`
	Errcode   int       `json:"errcode,omitempty"`
	IP        string    `json:"ip,omitempty"`     // the address that WeChat saw
	Caller    string    `json:"caller,omitempty"` // whose calls fail in a loop
	Gateway   string    `json:"gateway,omitempty"`
	Reason    string    `json:"reason,omitempty"`

	Sinks []AlertResult `json:"sinks"` // those that take such an event
}

// AlertResult is what became of an alert at one sink.
type AlertResult struct {
	Sink   string    `json:"sink"`
	Result string    `json:"result" enum:"waiting,sent,refused,failed,dropped"` // failed: it is tried again
	Error  string    `json:"error,omitempty"`                                   // what the sink answered, or why nothing was sent
	Time   time.Time `json:"time,omitzero"`
}

// alerts answers with the last alerts and the state of each sink.
func (a *Admin) alerts(w http.ResponseWriter, r *http.Request) {
	if a.o.Alerts == nil {
		notOffered(w, "alerts")
		return
	}
	answer, err := a.o.Alerts(r.Context())
	if err != nil {
		answer.Error = storeProblem(err)
	}
	reply(w, http.StatusOK, answer)
}

// ErrUnknownSink is the error of Options.TestAlerts for a name that no sink has.
var ErrUnknownSink = errors.New("no such sink")

// AlertTests is the answer of /api/v1/alerts/test.
type AlertTests struct {
	Results []AlertTest `json:"results"`
}

// AlertTest is what came of a test message to one sink.
type AlertTest struct {
	Sink  string `json:"sink"`
	Type  string `json:"type"`
	Error string `json:"error,omitempty"` // "": it has the message
}

// testAlerts sends a test message to the sink that ?sink= names, or to all.
func (a *Admin) testAlerts(w http.ResponseWriter, r *http.Request) {
	if a.o.TestAlerts == nil {
		notOffered(w, "alerts")
		return
	}
	name := r.URL.Query().Get("sink")
	results, err := a.o.TestAlerts(r.Context(), name)
	switch {
	case errors.Is(err, ErrUnknownSink) && name == "":
		reply(w, http.StatusConflict, problem{Error: "no sink is configured: want one at least under alerts.sinks"})
		return
	case errors.Is(err, ErrUnknownSink):
		p := problem{Error: "sink " + strings.ToValidUTF8(name, "?") + ": no such sink", Seen: name}
		for _, r := range results {
			p.Known = append(p.Known, r.Sink)
		}
		reply(w, http.StatusNotFound, p)
		return
	}
	failed := 0
	for _, r := range results {
		if r.Error != "" {
			failed++
		}
	}
	action := Action{Name: "alert test", Outcome: done}
	if failed > 0 {
		action.Outcome = "not taken by every sink"
	}
	a.acted(r, action)
	reply(w, http.StatusOK, AlertTests{Results: results})
}
