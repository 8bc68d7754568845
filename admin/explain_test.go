package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wxproxy/limits"
)

func TestExplain(t *testing.T) {
	s := newStand(t)
	match := s.limiter.rules.Match
	for _, tt := range []struct {
		query     string
		asked     Question
		fate      Fate
		rule      string
		rows      int
		statement string
	}{
		{
			"method=post&path=//cgi-bin/Menu/create/",
			Question{"wx1", "", "POST", "//cgi-bin/Menu/create/"},
			Fate{Path: "/cgi-bin/Menu/create/", Match: match("/cgi-bin/Menu/create/"), Injects: true, Decision: "refused-quota", Status: 200, Errcode: 45009},
			"menu.create", 1, "refused-quota: errcode 45009, the quota is used up",
		},
		{
			"path=/card/create&caller=crm",
			Question{"wx1", "crm", "GET", "/card/create"},
			Fate{Path: "/card/create", Match: match("/card/create"), Decision: "refused-denied", Status: 200, Errcode: 48001},
			"card", 1, "refused-denied: errcode 48001, the account lacks the API",
		},
		{
			"path=/cgi-bin/a%3Fx=1",
			Question{"wx1", "", "GET", "/cgi-bin/a?x=1"},
			Fate{Path: "/cgi-bin/a", Match: match("/cgi-bin/a"), Decision: "pass"},
			"other", 1, "pass: counted and never refused, because no figure is published",
		},
		{
			"path=/new/family",
			Question{"wx1", "", "GET", "/new/family"},
			Fate{Path: "/new/family", Match: match("/new/family"), Decision: "pass"},
			"other", 0, "pass: counted by the rule other and sent; no rule names its family, so an access_token is put in only in place of one of the gateway's own",
		},
		{
			"path=/favicon.ico",
			Question{"wx1", "", "GET", "/favicon.ico"},
			Fate{Path: "/favicon.ico", Decision: "refused-request", Status: 404, Errcode: 40066},
			"", 0, "refused-request: HTTP 404, not a path of WeChat's",
		},
		{
			"path=/cgi-bin/../x",
			Question{"wx1", "", "GET", "/cgi-bin/../x"},
			Fate{Decision: "refused-request", Status: 200, Errcode: 40066},
			"", 0, "refused-request: errcode 40066, a path that cannot be sent as it is",
		},
		{
			"method=PUT&path=/cgi-bin/a",
			Question{"wx1", "", "PUT", "/cgi-bin/a"},
			Fate{Decision: "refused-request", Status: 405},
			"", 0, "refused-request: HTTP 405, only GET, HEAD and POST are sent",
		},
		{
			"path=/cgi-bin/token",
			Question{"wx1", "", "GET", "/cgi-bin/token"},
			Fate{Path: "/cgi-bin/token", Match: match("/cgi-bin/token"), Decision: "local", Status: 200},
			"other", 0, "local: answered here with a token of the gateway's own, and not counted",
		},
		{
			"path=/cgi-bin/gettoken",
			Question{"wx1", "", "GET", "/cgi-bin/gettoken"},
			Fate{Path: "/cgi-bin/gettoken", Decision: "refused-request", Status: 200, Errcode: 40066},
			"", 0, "refused-request: errcode 40066, a path of WeCom (qyapi.weixin.qq.com), which is not served here",
		},
		{
			"path=/cgi-bin/ticket/getticket",
			Question{"wx1", "", "GET", "/cgi-bin/ticket/getticket"},
			Fate{Path: "/cgi-bin/ticket/getticket", Match: match("/cgi-bin/ticket/getticket"), Decision: "local", Status: 200},
			"other", 0, "local: answered from the shared cache of tickets, and not counted",
		},
		{
			"path=/cgi-bin/a",
			Question{"wx1", "", "GET", "/cgi-bin/a"},
			Fate{Path: "/cgi-bin/a", Match: match("/cgi-bin/a"), Decision: "refused-share", Status: 200, Errcode: 45009},
			"other", 1, "refused-share: errcode 45009, the caller's share of the quota is used up",
		},
		{
			"path=/cgi-bin/a",
			Question{"wx1", "", "GET", "/cgi-bin/a"},
			Fate{Path: "/cgi-bin/a", Match: match("/cgi-bin/a"), Decision: "refused-overload", Status: 200, Errcode: 40164},
			"other", 1, "refused-overload: errcode 40164, WeChat gives the account no access_token",
		},
	} {
		s.fate = tt.fate
		_, body := s.do(t, "GET", "/api/v1/explain?app=shop&"+tt.query, "Authorization", "Bearer correct")
		var got Explanation
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.asked, s.asked); diff != "" {
			t.Errorf("explain %s asked (-want +got):\n%s", tt.query, diff)
		}
		if got.Rule != tt.rule || len(got.Rows) != tt.rows || got.Statement != tt.statement || got.Decision != tt.fate.Decision || got.Errcode != tt.fate.Errcode {
			t.Errorf("explain %s = %q, %d rows, %q, want %q, %d, %q", tt.query, got.Rule, len(got.Rows), got.Statement, tt.rule, tt.rows, tt.statement)
		}
	}
}

func TestExplainFails(t *testing.T) {
	s := newStand(t)
	for _, tt := range []struct {
		query, want string
		err         error
	}{
		{"app=wx2&path=/cgi-bin/a", `app wx2: not configured`, nil},
		{"app=wx1&path=a", `"path: want a path as in /cgi-bin/user/info, or a whole URL"`, ErrTarget},
		{"app=wx1&path=/cgi-bin/a&caller=nobody", `"caller nobody: not configured"`, ErrUnknownCaller},
		{"app=wx1&path=/cgi-bin/a", `the store does not answer`, errors.New("10.0.0.7")},
		{"app=wx1&path=/cgi-bin/a", `OOM command`, fmt.Errorf("x: %w", &limits.StoreError{Text: "OOM command"})},
	} {
		s.explain = tt.err
		if status, body := s.do(t, "GET", "/api/v1/explain?"+tt.query, "Authorization", "Bearer correct"); status < 400 || !strings.Contains(body, tt.want) {
			t.Errorf("explain %s = %d %s, want %s", tt.query, status, body, tt.want)
		}
	}
}
