package admin

import (
	"errors"
	"net/http"
	"strings"
)

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
