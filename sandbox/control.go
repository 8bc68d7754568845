package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// controlPrefix is where the sandbox itself is spoken to; the package comment lists what there is.
const controlPrefix = "/-/sandbox/"

// control answers one request to the sandbox itself.
func (s *Sandbox) control(w http.ResponseWriter, r *http.Request, name string) {
	want := http.MethodPost
	if name == "state" {
		want = http.MethodGet
	}
	if r.Method != want {
		controlReply(w, http.StatusMethodNotAllowed, map[string]string{"error": "want " + want})
		return
	}
	out, err := s.command(name, r.URL.Query(), http.MaxBytesReader(w, r.Body, 1<<20))
	switch {
	case errors.Is(err, errNoCommand):
		controlReply(w, http.StatusNotFound, map[string]string{"error": err.Error()})
	case err != nil:
		controlReply(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
	default:
		controlReply(w, http.StatusOK, out)
	}
}

func controlReply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // the client is gone
}

var (
	errNoCommand = errors.New("no such command")
	errNoApp     = errors.New("no such appid")
	errNoFault   = errors.New("no such fault")
)

// command does what a control request asks and returns what to answer.
func (s *Sandbox) command(name string, q url.Values, body io.Reader) (any, error) {
	appid := q.Get("appid")
	if appid != "" && !s.knows(appid) {
		return nil, errNoApp
	}
	done := map[string]bool{"ok": true}
	switch name {
	case "state":
		return s.state(), nil
	case "fault":
		var f faultJSON
		d := json.NewDecoder(body)
		d.DisallowUnknownFields()
		if err := d.Decode(&f); err != nil {
			return nil, fmt.Errorf("fault: %w", err)
		}
		if f.Status != 0 && (f.Status < 200 || f.Status > 599) {
			return nil, fmt.Errorf("fault: status %d: want 200 to 599", f.Status)
		}
		return map[string]int{"id": s.Order(f.fault()).id}, nil
	case "release", "cancel":
		o := s.orderedFault(q.Get("fault"))
		if o == nil {
			return nil, errNoFault
		}
		if name == "cancel" {
			o.Cancel()
		} else {
			o.Release()
		}
		return done, nil
	case "advance":
		d, err := time.ParseDuration(q.Get("by"))
		if err != nil {
			return nil, fmt.Errorf("by: %w", err)
		}
		s.Advance(d)
		return map[string]time.Time{"now": s.Time()}, nil
	case "kill_tokens":
		s.KillTokens(appid)
		return done, nil
	case "quota":
		n, err := pathAndNumber(q, "per_day")
		if err != nil {
			return nil, err
		}
		s.SetQuota(appid, q.Get("path"), n)
		return done, nil
	case "minute_limit":
		n, err := pathAndNumber(q, "per_minute")
		if err != nil {
			return nil, err
		}
		s.SetMinuteLimit(appid, q.Get("path"), n)
		return done, nil
	case "used":
		n, err := pathAndNumber(q, "n")
		if err != nil {
			return nil, err
		}
		s.AddUsed(appid, q.Get("path"), n)
		return done, nil
	case "clear":
		return map[string]bool{"ok": s.ClearQuota(appid)}, nil
	case "reset":
		s.Reset()
		return done, nil
	}
	return nil, errNoCommand
}

func pathAndNumber(q url.Values, name string) (int64, error) {
	if q.Get("path") == "" {
		return 0, errors.New("path: want one")
	}
	n, err := strconv.ParseInt(q.Get(name), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return n, nil
}

func (s *Sandbox) knows(appid string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.apps[appid] != nil
}

func (s *Sandbox) orderedFault(id string) *Ordered {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := strconv.Atoi(id)
	if err != nil || n < 1 || n > len(s.ordered) {
		return nil
	}
	return s.ordered[n-1]
}

// faultJSON is a Fault whose durations are texts.
type faultJSON struct {
	Fault

	Delay       duration `json:"delay,omitzero"`
	DelayAnswer duration `json:"delay_answer,omitzero"`
	SlowBody    duration `json:"slow_body,omitzero"`
}

func (f faultJSON) fault() Fault {
	f.Fault.Delay = time.Duration(f.Delay)
	f.Fault.DelayAnswer = time.Duration(f.DelayAnswer)
	f.Fault.SlowBody = time.Duration(f.SlowBody)
	return f.Fault
}

// duration is a time.Duration that JSON spells "200ms".
type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = duration(parsed)
	return err
}

// state is the answer of the state command.
type state struct {
	Now    time.Time    `json:"now"`
	Apps   []appState   `json:"apps"`
	Faults []faultState `json:"faults"`
}

type appState struct {
	AppID        string           `json:"appid"`
	Calls        map[string]int64 `json:"calls"`
	Executed     map[string]int64 `json:"executed"`
	UsedToday    map[string]int64 `json:"used_today"`
	Quotas       map[string]int64 `json:"quotas"`
	MinuteLimits map[string]int64 `json:"minute_limits"`
	TokenFetches int64            `json:"token_fetches"`
	ClearsLeft   int              `json:"clears_left"`
}

type faultState struct {
	ID    int       `json:"id"`
	Fired int       `json:"fired"`
	Fault faultJSON `json:"fault"`
}

func (s *Sandbox) state() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := state{Now: s.clock(), Apps: []appState{}, Faults: []faultState{}}
	for _, id := range slices.Sorted(maps.Keys(s.apps)) {
		a := s.apps[id]
		a.roll(out.Now)
		quotas := maps.Clone(s.quotas)
		maps.Copy(quotas, a.quotas)
		maps.DeleteFunc(quotas, func(_ string, n int64) bool { return n < 0 })
		out.Apps = append(out.Apps, appState{
			AppID:        id,
			Calls:        maps.Clone(a.calls),
			Executed:     maps.Clone(a.executed),
			UsedToday:    maps.Clone(a.used),
			Quotas:       quotas,
			MinuteLimits: maps.Clone(a.perMinute),
			TokenFetches: a.fetches,
			ClearsLeft:   clearsPerMonth - a.clears,
		})
	}
	for _, o := range s.ordered {
		f := faultJSON{
			Fault: o.fault, Delay: duration(o.fault.Delay),
			DelayAnswer: duration(o.fault.DelayAnswer), SlowBody: duration(o.fault.SlowBody),
		}
		out.Faults = append(out.Faults, faultState{ID: o.id, Fired: o.fired, Fault: f})
	}
	return out
}
