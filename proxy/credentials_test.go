package proxy

import (
	"net/http"
	"testing"
)

func TestWho(t *testing.T) {
	const second = "wxfedcba9876543210"
	one := []App{{Name: "shop", AppID: testAppID}}
	two := []App{{Name: "shop", AppID: testAppID}, {Name: "crm", AppID: second}}
	const (
		unauthorized = `{"errcode":48001,"errmsg":"api unauthorized"}`
		invalidAppID = `{"errcode":40013,"errmsg":"invalid appid"}`
	)
	tests := []struct {
		name    string
		apps    []App
		path    string
		headers []string
		want    string // the app that is called, or the answer
	}{
		{"the only app", one, "/cgi-bin/user/info", nil, testAppID},
		{"two apps, none selected", two, "/cgi-bin/user/info", nil, unauthorized},
		{"by path", two, "/" + second + "/cgi-bin/user/info", nil, second},
		{"by escaped path", two, "/%77xfedcba9876543210//cgi-bin/user/info", nil, second},
		{"by name", two, "/cgi-bin/user/info", []string{"X-Wxproxy-App: crm"}, second},
		{"by appid", two, "/cgi-bin/user/info", []string{"X-Wxproxy-App: " + second}, second},
		{"by path and name, agreed", two, "/" + second + "/cgi-bin/user/info", []string{"X-Wxproxy-App: crm"}, second},
		{"by path and name, disagreed", two, "/" + second + "/cgi-bin/user/info", []string{"X-Wxproxy-App: shop"}, unauthorized},
		{"two names, agreed", two, "/cgi-bin/user/info", []string{"X-Wxproxy-App: crm", "X-Wxproxy-App: " + second}, second},
		{"two names, disagreed", two, "/cgi-bin/user/info", []string{"X-Wxproxy-App: crm", "X-Wxproxy-App: shop"}, unauthorized},
		{"unknown name", one, "/cgi-bin/user/info", []string{"X-Wxproxy-App: nobody"}, unauthorized},
		{"empty name", one, "/cgi-bin/user/info", []string{"X-Wxproxy-App: "}, unauthorized},
		{"unknown appid by path", one, "/wx0000000000000000/cgi-bin/user/info", nil, invalidAppID},
		{"a name is not for the path", one, "/shop/cgi-bin/user/info", nil, `{"errcode":40066,"errmsg":"invalid url"}`},
		{"Basic", one, "/cgi-bin/user/info", []string{"Authorization: Basic c2hvcDprZXk="}, unauthorized},
		{"basic, another case", one, "/cgi-bin/user/info", []string{"Authorization: bASIC c2hvcDprZXk="}, unauthorized},
		{"key", one, "/cgi-bin/user/info", []string{"X-Wxproxy-Key: k"}, unauthorized},
		{"empty key", one, "/cgi-bin/user/info", []string{"X-Wxproxy-Key: "}, unauthorized},
		{"another Authorization", one, "/cgi-bin/user/info", []string{"Authorization: Bearer x"}, testAppID},
		{"a token of whoever", one, "/cgi-bin/user/info?access_token=whatever", nil, testAppID},
	}
	u := newUpstream(t, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGateway(t, u.URL, func(o *Options) { o.Apps = tt.apps })
			g.limiter.rules[second] = g.limiter.rules[testAppID]
			before := u.count()
			_, text := g.do(t, "GET", tt.path, "", tt.headers...)
			rec := g.nextRecord(t)
			if text == okText {
				if rec.AppID != tt.want {
					t.Errorf("app = %q, want %q", rec.AppID, tt.want)
				}
				if got := u.last(t); got.Target != "/cgi-bin/user/info?access_token="+testToken {
					t.Errorf("sent %s", got.Target)
				}
				return
			}
			if text != tt.want {
				t.Errorf("answer = %s, want %s", text, tt.want)
			}
			if u.count() != before || g.limiter.counted(t) != 0 {
				t.Errorf("a refused call was sent or counted")
			}
			want := refusedAuth
			if rec.Status == http.StatusNotFound {
				want = refusedRequest
			}
			if rec.Decision != want {
				t.Errorf("decision = %s, want %s", rec.Decision, want)
			}
		})
	}
}
