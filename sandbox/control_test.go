package sandbox

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// operate makes one control request.
func operate(t *testing.T, s *Server, method, target, body string, v any) int {
	t.Helper()
	res, got := send(t, s, method, "/-/sandbox/"+target, body)
	if v != nil {
		decode(t, got, v)
	}
	return res.StatusCode
}

func TestControl(t *testing.T) {
	s := start(t, Options{Quotas: map[string]int64{sendPath: 3, "/cgi-bin/menu/get": 7}})
	token := fetch(t, s, DefaultAppID)
	for _, tt := range []struct{ method, target, body string }{
		{"POST", "quota?appid=" + DefaultAppID + "&path=" + sendPath + "&per_day=2", ""},
		{"POST", "quota?appid=" + DefaultAppID + "&path=/cgi-bin/menu/get&per_day=-1", ""},
		{"POST", "minute_limit?appid=" + DefaultAppID + "&path=/CGI-BIN/menu/get/&per_minute=4", ""},
		{"POST", "minute_limit?path=" + sendPath + "&per_minute=0", ""},
		{"POST", "minute_limit?path=" + sendPath + "&per_minute=-1", ""},
		{"POST", "used?appid=" + DefaultAppID + "&path=" + sendPath + "&n=1", ""},
		{"POST", "fault", `{"path":"` + sendPath + `","errcode":-1,"delay":"1ms","delay_answer":"0s","slow_body":"1us","header":{"X-A":["b"]}}`},
		{"POST", "fault", `{"path":"/cgi-bin/menu/get","hold":true}`},
		{"POST", "release?fault=2", ""},
		{"POST", "cancel?fault=2", ""},
		{"POST", "advance?by=5m", ""},
	} {
		if got := operate(t, s, tt.method, tt.target, tt.body, nil); got != http.StatusOK {
			t.Errorf("%s %s: status %d, want 200", tt.method, tt.target, got)
		}
	}
	wantCode(t, "faulty", message(t, s, token), -1)
	wantCode(t, "good", message(t, s, token), 0)
	wantCode(t, "spent", message(t, s, token), 45009)

	var got state
	operate(t, s, "GET", "state", "", &got)
	want := state{
		Now: noon.Add(5 * time.Minute),
		Apps: []appState{{
			AppID:        DefaultAppID,
			Calls:        map[string]int64{pathToken: 1, sendPath: 3},
			Executed:     map[string]int64{pathToken: 1, sendPath: 1},
			UsedToday:    map[string]int64{pathToken: 1, sendPath: 2},
			Quotas:       map[string]int64{sendPath: 2},
			MinuteLimits: map[string]int64{"/cgi-bin/menu/get": 4},
			TokenFetches: 1,
			ClearsLeft:   10,
		}},
		Faults: []faultState{
			{ID: 1, Fired: 1, Fault: faultJSON{
				Fault: Fault{Path: sendPath, ErrCode: -1, Header: http.Header{"X-A": {"b"}}},
				Delay: duration(time.Millisecond), SlowBody: duration(time.Microsecond),
			}},
			{ID: 2, Fault: faultJSON{Fault: Fault{Path: "/cgi-bin/menu/get", Hold: true}}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}

	operate(t, s, "POST", "clear?appid="+DefaultAppID, "", nil)
	wantCode(t, "cleared", message(t, s, token), 0)
	operate(t, s, "POST", "kill_tokens?appid="+DefaultAppID, "", nil)
	wantCode(t, "killed", message(t, s, token), 40001)
	operate(t, s, "POST", "reset", "", nil)
	wantCode(t, "reset", message(t, s, token), 40014)
	if got := len(s.Requests()); got != 1 {
		t.Errorf("%d requests after a reset, want 1: those of control are not recorded", got)
	}
}

func TestControlErrors(t *testing.T) {
	s := start(t, Options{})
	for _, tt := range []struct {
		method, target, body string
		status               int
	}{
		{"POST", "state", "", 405},
		{"GET", "reset", "", 405},
		{"POST", "nothing", "", 404},
		{"POST", "fault", `{"pth":"x"}`, 400},
		{"POST", "fault", `{"delay":5}`, 400},
		{"POST", "fault", `{"delay":"soon"}`, 400},
		{"POST", "fault", `{"status":7}`, 400},
		{"POST", "release", "", 400},
		{"POST", "cancel?fault=1", "", 400},
		{"POST", "advance?by=tomorrow", "", 400},
		{"POST", "kill_tokens?appid=wxnobody", "", 400},
		{"POST", "quota?per_day=1", "", 400},
		{"POST", "quota?path=/x&per_day=many", "", 400},
		{"POST", "used?path=/x", "", 400},
		{"POST", "minute_limit?per_minute=1", "", 400},
		{"POST", "minute_limit?path=/x", "", 400},
	} {
		var got struct {
			Error string `json:"error"`
		}
		if status := operate(t, s, tt.method, tt.target, tt.body, &got); status != tt.status || got.Error == "" {
			t.Errorf("%s %s %s: status %d, error %q; want %d and a reason", tt.method, tt.target, tt.body, status, got.Error, tt.status)
		}
	}
}

// TestFaultJSON: a fault survives its JSON, whatever is in it.
func TestFaultJSON(t *testing.T) {
	want := Fault{
		AppID: "a", Path: "/p", After: 1, Times: 2, DeadToken: true, Delay: time.Second, Hold: true, ResetBefore: true,
		FIN: true, Status: 502, ErrCode: -1, ErrMsg: "m", Body: "b", ContentType: "c", Execute: true, DelayAnswer: time.Minute,
		HoldAnswer: true, ResetAfter: true, Header: http.Header{"H": {"v"}}, SlowBody: time.Hour, TruncateBody: true,
	}
	text, err := json.Marshal(faultJSON{want, duration(want.Delay), duration(want.DelayAnswer), duration(want.SlowBody)})
	if err != nil {
		t.Fatal(err)
	}
	var got faultJSON
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.fault()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", text, diff)
	}
}
