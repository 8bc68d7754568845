package sandbox

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const sendPath = "/cgi-bin/message/custom/send"

// message sends a customer message and returns the errcode.
func message(t *testing.T, s *Server, token string) int {
	t.Helper()
	return callJSON(t, s, "POST", sendPath+"?access_token="+token, "{}", nil)
}

func TestDayEndsAtMidnightInShanghai(t *testing.T) {
	now := time.Date(2026, time.March, 31, 15, 59, 59, 0, time.UTC) // 23:59:59 there
	s := start(t, Options{Now: func() time.Time { return now }, Quotas: map[string]int64{sendPath: 1}})
	token := fetch(t, s, DefaultAppID)
	wantCode(t, "first of the day", message(t, s, token), 0)
	wantCode(t, "second of the day", message(t, s, token), 45009)
	s.Advance(time.Second)
	if got := s.Used(DefaultAppID, sendPath); got != 0 {
		t.Errorf("Used after midnight = %d, want 0", got)
	}
	wantCode(t, "first of the next day", message(t, s, token), 0)
	wantCode(t, "second of the next day", message(t, s, token), 45009)
	if got := s.Executed(DefaultAppID, sendPath); got != 2 {
		t.Errorf("Executed = %d, want 2", got)
	}
	s.SetOffset(0)
	if got, want := s.Time(), now; !got.Equal(want) {
		t.Errorf("Time = %s, want %s", got, want)
	}
}

func TestDayEndsInTheZoneGiven(t *testing.T) {
	now := time.Date(2026, time.March, 31, 15, 59, 59, 0, time.UTC)
	s := start(t, Options{Now: func() time.Time { return now }, Zone: time.UTC, Quotas: map[string]int64{sendPath: 1}})
	token := fetch(t, s, DefaultAppID)
	wantCode(t, "first of the day", message(t, s, token), 0)
	s.Advance(time.Second)
	wantCode(t, "second of the day", message(t, s, token), 45009)
}

func TestWhichQuotaCounts(t *testing.T) {
	const other, free = "wx00000000000000aa", "wx00000000000000bb"
	s := start(t, Options{
		Apps: []App{
			{},
			{AppID: other, Quotas: map[string]int64{"/CGI-BIN/message/custom/send/": 2}},
			{AppID: free, Quotas: map[string]int64{sendPath: -1}},
		},
		Quotas: map[string]int64{sendPath: 1},
	})
	for appid, want := range map[string][]int{
		DefaultAppID: {0, 45009, 45009},
		other:        {0, 0, 45009},
		free:         {0, 0, 0},
	} {
		token := fetch(t, s, appid)
		for i, code := range want {
			wantCode(t, fmt.Sprintf("%s, call %d", appid, i), message(t, s, token), code)
		}
	}
	s.SetQuota(DefaultAppID, sendPath, 2)
	token := fetch(t, s, DefaultAppID)
	wantCode(t, "raised", message(t, s, token), 0)
	wantCode(t, "raised, spent", message(t, s, token), 45009)
	s.SetQuota(DefaultAppID, sendPath, 0)
	s.Advance(24 * time.Hour)
	token = fetch(t, s, DefaultAppID)
	wantCode(t, "nothing allowed", message(t, s, token), 45009)
	s.SetQuota("", "/cgi-bin/menu/get", 0)
	wantCode(t, "nothing allowed to anybody", callJSON(t, s, "GET", "/cgi-bin/menu/get?access_token="+token, "", nil), 45009)
}

// TestMinuteLimit: past the limit of a clock minute WeChat answers in the words of the day's, executes
// nothing and counts nothing of the day.
func TestMinuteLimit(t *testing.T) {
	const other = "wx00000000000000aa"
	now := time.Date(2026, time.March, 31, 4, 0, 40, 0, time.UTC)
	s := start(t, Options{
		Apps: []App{{}, {AppID: other}}, Quotas: map[string]int64{sendPath: 6}, Now: func() time.Time { return now },
	})
	s.SetMinuteLimit(DefaultAppID, "/CGI-BIN/message/custom/send/", 2)
	token := fetch(t, s, DefaultAppID)
	count := func(when string, used, executed int64) {
		t.Helper()
		if u, e := s.Used(DefaultAppID, sendPath), s.Executed(DefaultAppID, sendPath); u != used || e != executed {
			t.Errorf("%s: Used, Executed = %d, %d; want %d, %d", when, u, e, used, executed)
		}
	}
	refused := func(when string) {
		t.Helper()
		var got struct {
			Message string `json:"errmsg"`
		}
		wantCode(t, when, callJSON(t, s, "POST", sendPath+"?access_token="+token, "{}", &got), 45009)
		if want := "reach max api daily quota limit"; !strings.HasPrefix(got.Message, want) {
			t.Errorf("%s: errmsg %q, want %q, as of a day", when, got.Message, want)
		}
	}
	wantCode(t, "first of the minute", message(t, s, token), 0)
	wantCode(t, "second of the minute", message(t, s, token), 0)
	refused("third of the minute")
	count("after the third", 2, 2)
	wantCode(t, "another app", message(t, s, fetch(t, s, other)), 0)
	if !s.ClearQuota(DefaultAppID) {
		t.Error("the console did not clear")
	}
	refused("after a clear, in the same minute")
	s.Advance(19 * time.Second) // 12:00:59 there
	refused("a second before the next minute")
	count("before the next minute", 0, 2)

	s.Advance(time.Second)
	wantCode(t, "first of the next minute", message(t, s, token), 0)
	var got quotaAnswer
	ask := `{"cgi_path":"` + sendPath + `"}`
	wantCode(t, "quota/get", callJSON(t, s, "POST", pathQuotaGet+"?access_token="+token, ask, &got), 0)
	if got.Rate == nil || got.Rate.Calls != 2 || got.Rate.Refresh != 60 || got.Quota.Limit != 6 || got.Quota.Used != 1 {
		t.Errorf("quota/get = %+v, rate_limit %+v; want 1 used of 6, and 2 calls in 60 s", got.Quota, got.Rate)
	}

	s.AddUsed(DefaultAppID, sendPath, 4)
	wantCode(t, "last of the day", message(t, s, token), 0)
	s.Advance(time.Minute)
	refused("a new minute of a day that is used up")
	s.AddUsed(DefaultAppID, sendPath, -6)
	s.SetMinuteLimit("", sendPath, 0)
	refused("nothing allowed in a minute")
	s.SetMinuteLimit("", sendPath, -1)
	for range 3 {
		wantCode(t, "no limit of the minute", message(t, s, token), 0)
	}
	wantCode(t, "quota/get", callJSON(t, s, "POST", pathQuotaGet+"?access_token="+token, ask, &got), 0)
	if got.Rate.Calls != 0 || got.Rate.Refresh != 0 {
		t.Errorf("rate_limit of a path without one: %+v, want zeros", got.Rate)
	}
}

func TestAddUsed(t *testing.T) {
	s := start(t, Options{Quotas: map[string]int64{sendPath: 10}})
	token := fetch(t, s, DefaultAppID)
	s.AddUsed(DefaultAppID, sendPath, 9)
	wantCode(t, "tenth", message(t, s, token), 0)
	wantCode(t, "eleventh", message(t, s, token), 45009)
	if used, executed := s.Used(DefaultAppID, sendPath), s.Executed(DefaultAppID, sendPath); used != 10 || executed != 1 {
		t.Errorf("Used, Executed = %d, %d; want 10, 1", used, executed)
	}
}

func TestClearQuota(t *testing.T) {
	s := start(t, Options{Quotas: map[string]int64{sendPath: 1}})
	token := fetch(t, s, DefaultAppID)
	clearV1 := func() int {
		return callJSON(t, s, "POST", "/cgi-bin/clear_quota?access_token="+token, `{"appid":"`+DefaultAppID+`"}`, nil)
	}
	clearV2 := func() int {
		return callJSON(t, s, "POST", "/cgi-bin/clear_quota/v2?appid="+DefaultAppID+"&appsecret="+DefaultSecret, "", nil)
	}
	clearV2Body := func() int {
		return callJSON(t, s, "POST", "/cgi-bin/clear_quota/v2", `{"appid":"`+DefaultAppID+`","appsecret":"`+DefaultSecret+`"}`, nil)
	}
	wantCode(t, "another app's", callJSON(t, s, "POST", "/cgi-bin/clear_quota?access_token="+token, `{"appid":"wxother"}`, nil), 40013)
	wantCode(t, "no body", callJSON(t, s, "POST", "/cgi-bin/clear_quota?access_token="+token, ``, nil), 44002)
	wantCode(t, "v2, GET", callJSON(t, s, "GET", "/cgi-bin/clear_quota/v2?appid="+DefaultAppID+"&appsecret="+DefaultSecret, "", nil), 43002)
	wantCode(t, "v2, no appid", callJSON(t, s, "POST", "/cgi-bin/clear_quota/v2", "", nil), 41002)
	wantCode(t, "v2, no secret", callJSON(t, s, "POST", "/cgi-bin/clear_quota/v2?appid="+DefaultAppID, "", nil), 41004)
	wantCode(t, "v2, wrong secret", callJSON(t, s, "POST", "/cgi-bin/clear_quota/v2?appid="+DefaultAppID+"&appsecret=x", "", nil), 40125)

	var executed int64
	for i, clear := range []func() int{clearV1, clearV2, clearV2Body} {
		wantCode(t, "call", message(t, s, token), 0)
		wantCode(t, "spent", message(t, s, token), 45009)
		wantCode(t, "clear", clear(), 0)
		executed++
		if got := s.Used(DefaultAppID, sendPath); got != 0 {
			t.Errorf("clear %d: Used = %d, want 0", i, got)
		}
	}
	if got := s.Executed(DefaultAppID, sendPath); got != executed {
		t.Errorf("Executed = %d, want %d", got, executed)
	}
	for i := 3; i < clearsPerMonth; i++ {
		if !s.ClearQuota(DefaultAppID) {
			t.Errorf("clear %d of the month was not granted", i+1)
		}
	}
	wantCode(t, "call", message(t, s, token), 0)
	wantCode(t, "v1, eleventh", clearV1(), 48006)
	wantCode(t, "v2, eleventh", clearV2(), 48006)
	if s.ClearQuota(DefaultAppID) {
		t.Error("the console cleared an eleventh time")
	}
	wantCode(t, "still spent", message(t, s, token), 45009)
	s.Advance(31 * 24 * time.Hour)
	token = fetch(t, s, DefaultAppID)
	wantCode(t, "next month", clearV1(), 0)
}

type quotaAnswer struct {
	Quota struct {
		Limit  int64 `json:"daily_limit"`
		Used   int64 `json:"used"`
		Remain int64 `json:"remain"`
	} `json:"quota"`
	Rate *struct {
		Calls   int64 `json:"call_count"`
		Refresh int64 `json:"refresh_second"`
	} `json:"rate_limit"`
	Component *struct{} `json:"component_rate_limit"`
}

func TestOpenAPI(t *testing.T) {
	s := start(t, Options{Quotas: map[string]int64{sendPath: 5, pathQuotaGet: 9}})
	token := fetch(t, s, DefaultAppID)
	ask := func(cgiPath string, v any) int {
		t.Helper()
		return callJSON(t, s, "POST", pathQuotaGet+"?access_token="+token, `{"cgi_path":"`+cgiPath+`"}`, v)
	}
	s.AddUsed(DefaultAppID, sendPath, 2)
	var got quotaAnswer
	wantCode(t, "quota/get", ask(sendPath, &got), 0)
	if want := [3]int64{5, 2, 3}; [3]int64{got.Quota.Limit, got.Quota.Used, got.Quota.Remain} != want || got.Rate == nil || got.Component == nil {
		t.Errorf("quota = %+v, want %v and both rates", got, want)
	}
	s.AddUsed(DefaultAppID, sendPath, 9)
	wantCode(t, "quota/get", ask(sendPath, &got), 0)
	if got.Quota.Remain != 0 {
		t.Errorf("remain = %d, want 0", got.Quota.Remain)
	}
	wantCode(t, "no quota", ask("/cgi-bin/menu/get", &got), 0)
	if diff := cmp.Diff([]int64{0, 0, 0}, []int64{got.Quota.Limit, got.Quota.Used, got.Quota.Remain}); diff != "" {
		t.Errorf("quota of a path without one (-want +got):\n%s", diff)
	}
	wantCode(t, "no slash", ask("cgi-bin/menu/get", nil), 76003)
	wantCode(t, "a host", ask("https://api.weixin.qq.com/cgi-bin/menu/get", nil), 76003)
	wantCode(t, "a host without scheme", ask("//api.weixin.qq.com/cgi-bin/menu/get", nil), 76003)
	wantCode(t, "a query", ask("/cgi-bin/menu/get?a=b", nil), 76003)
	wantCode(t, "unknown", ask("/cgi-bin/nothing", nil), 76021)
	wantCode(t, "sns", ask("/sns/userinfo", nil), 76022)
	wantCode(t, "its own quota", ask(sendPath, nil), 44993)

	clearOne := func(cgiPath string) int {
		t.Helper()
		return callJSON(t, s, "POST", "/cgi-bin/openapi/quota/clear?access_token="+token, `{"cgi_path":"`+cgiPath+`"}`, nil)
	}
	s.AddUsed(DefaultAppID, "/cgi-bin/menu/get", 7)
	wantCode(t, "spent", message(t, s, token), 45009)
	wantCode(t, "clear of nothing", clearOne("/cgi-bin/nothing"), 76021)
	wantCode(t, "clear", clearOne(sendPath), 0)
	wantCode(t, "cleared", message(t, s, token), 0)
	if got := s.Used(DefaultAppID, "/cgi-bin/menu/get"); got != 7 {
		t.Errorf("Used of another path = %d, want 7", got)
	}
	for i := 1; i < singlesPerMonth; i++ {
		wantCode(t, fmt.Sprint("clear ", i+1), clearOne(sendPath), 0)
	}
	wantCode(t, "clear 51", clearOne(sendPath), 48006)
	wantCode(t, "the other allowance", callJSON(t, s, "POST", "/cgi-bin/clear_quota?access_token="+token, `{"appid":"`+DefaultAppID+`"}`, nil), 0)
	wantCode(t, "rid/get", callJSON(t, s, "POST", "/cgi-bin/openapi/rid/get?access_token="+token, `{"rid":"x"}`, nil), 76001)
}
