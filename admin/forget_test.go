package admin

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestForget(t *testing.T) {
	o := newOperated(t)
	for _, method := range []string{"GET", "POST"} {
		for _, want := range []Forgotten{{AppID: "wx0000000000000003", Seen: true, Erased: held}, {AppID: "wx0123456789abcdef", Erased: held}} {
			var got Forgotten
			status := o.ask(t, method, "/api/v1/forget?app="+want.AppID, &got)
			if diff := cmp.Diff(want, got); status != 200 || diff != "" {
				t.Errorf("%s %s = %d (-want +got):\n%s", method, want.AppID, status, diff)
			}
		}
		if method == "GET" && len(o.forgotten) > 0 {
			t.Errorf("GET has erased %v", o.forgotten)
		}
	}
	if diff := cmp.Diff([]string{"wx0000000000000003", "wx0123456789abcdef"}, o.forgotten); diff != "" {
		t.Errorf("erased (-want +got):\n%s", diff)
	}
}

func TestForgetRefuses(t *testing.T) {
	o := newOperated(t)
	const first = " is configured, and its next call would store it again: remove it from wxproxy.yaml first"
	for _, tt := range []struct {
		app    string
		status int
		want   string
	}{
		{"shop", 409, "app shop (wx0000000000000001)" + first},
		{"wx0000000000000001", 409, "app shop (wx0000000000000001)" + first},
		{"wx0000000000000002", 409, "app wx0000000000000002" + first},
		{"", 400, "app : want its appid, as in wx0123456789abcdef: an app that is not configured has no name"},
		{"sh", 400, "app sh: want its appid, as in wx0123456789abcdef: an app that is not configured has no name"},
		{"wx01%7D%3A*", 400, "app wx01}:*: want its appid, as in wx0123456789abcdef: an app that is not configured has no name"},
		{"learned", 400, "learned is no appid: the store keeps there which app each learned token is of, and each of these entries expires with its token. To erase a learned app, want its appid, as in wx0123456789abcdef"},
	} {
		for _, method := range []string{"GET", "POST"} {
			var p problem
			if status := o.ask(t, method, "/api/v1/forget?app="+tt.app, &p); status != tt.status || p.Error != tt.want {
				t.Errorf("%s %s = %d %q, want %d %q", method, tt.app, status, p.Error, tt.status, tt.want)
			}
		}
	}
	if len(o.forgotten) > 0 {
		t.Errorf("erased %v", o.forgotten)
	}
	var p problem
	o.unforgot = fmt.Errorf("%w since", ErrConfigured) // a reload came in between
	if status := o.ask(t, "POST", "/api/v1/forget?app=wx0000000000000003", &p); status != 409 || p.Error != "app wx0000000000000003"+first {
		t.Errorf("an app that has been configured since = %d %q", status, p.Error)
	}
	o.unforgot = errors.New("dial tcp 10.0.0.7:6379: connection refused")
	if status := o.ask(t, "POST", "/api/v1/forget?app=wx0000000000000003", &p); status != 503 || p.Error != "the store does not answer: some of wx0000000000000003 may be erased, and some not" {
		t.Errorf("without a store = %d %q", status, p.Error)
	}
}
