package main

import (
	"net/http"
	"testing"
	"time"

	"wxproxy/admin"
)

func grantAnswer(calls, version int64, reason string) admin.Grants {
	row := admin.Row{Rule: "mass", Period: "day", Limit: 100 + calls, Used: 100, Remaining: calls, Grant: calls}
	return admin.Grants{App: "shop", AppID: appA, Profile: "production", Grants: []admin.GrantRow{{
		Rule: "mass", Calls: calls, Version: version, Reason: reason, Until: time.Date(2026, 11, 23, 18, 0, 0, 0, time.Local), Rows: []admin.Row{row},
	}}}
}

// The command adds to what is in force, and names what it has read.
func TestGrantCommand(t *testing.T) {
	t.Parallel()
	s := newAdminStand(t, shopApps)
	const get = "GET /api/v1/grant?app=shop&rule=mass"
	const post = "POST /api/v1/grant?app=shop&calls=70&reason=the+launch&rule=mass&until=18%3A00&version=5"
	s.answers[get] = grantAnswer(20, 5, "before")
	s.answers[post] = grantAnswer(70, 9, "the launch")
	args := []string{"grant", "shop", "mass", "+50", "--until", "18:00", "--reason", "the launch"}
	stdout, _, err := s.run(t, nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	s.wantAsked(t, get, post)
	wantText(t, "grant", stdout, `
shop  `+appA+`  profile production
granted  until        used/limit today  rule  reason
+70      11-23 18:00  100/170           mass  the launch
`)

	// An answer that was lost: the grant is there, so that is no error; or it is not.
	s.answers[post] = wrong{http.StatusServiceUnavailable, map[string]any{"error": "rule mass: the store has not answered: whether it was set is not known; look, and repeat it"}}
	if _, _, err = s.run(t, nil, args...); err == nil {
		t.Error("a grant that was not set, and no error")
	}
	s.wantAsked(t, get, post, get)

	if _, _, err = s.run(t, nil, "grant", "shop", "mass", "50", "--reason", "x"); err == nil {
		t.Error("grant of 50 without a sign: no error")
	}
	if _, _, err = s.run(t, nil, "grant", "shop", "mass", "+50"); err == nil {
		t.Error("a grant without a reason: no error")
	}
	s.answers["POST /api/v1/grant?app=shop&calls=0&reason=&rule=mass&until=&version=5"] = grantAnswer(0, 9, "")
	if stdout, _, err = s.run(t, nil, "grant", "shop", "mass", "0"); err != nil {
		t.Fatal(err)
	}
	wantText(t, "the end of a grant", stdout, "shop  "+appA+"  profile production\nNo grant is in force.\n")
}
