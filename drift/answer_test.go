package drift

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"wxproxy/limits"
)

// badAnswers are answers to quota/get that say no figures, and what is wrong with each.
var badAnswers = []struct{ name, body, want string }{
	{"nothing", "", "no JSON object: want errcode and quota"},
	{"HTML", "<html>canary 502</html>", "no JSON object: want errcode and quota"},
	{"cut off", `{"errcode":0,"quota":{"daily_limit":1,"used":1`, "no JSON object: want errcode and quota"},
	{"more than one", `{"errcode":0,"quota":{"daily_limit":1,"used":1}}{}`, "no JSON object: want errcode and quota"},
	{"a list", `["canary"]`, "no JSON object: want errcode and quota"},
	{"null", `null`, "no JSON object: want errcode and quota"},
	{"too long", `{"canary":"` + strings.Repeat("x", 64<<10) + `"}`, "an answer of more than 65536 bytes: want errcode and quota"},
	{"other JSON", `{"canary":1}`, "no errcode: want 0"},
	{"no errcode", `{"quota":{"daily_limit":1,"used":1}}`, "no errcode: want 0"},
	{"another case", `{"ErrCode":0,"Quota":{"Daily_Limit":1,"Used":1}}`, "no errcode: want 0"},
	{"an errcode that is none", `{"errcode":"canary","quota":{"daily_limit":1,"used":1}}`, "no errcode: want 0"},
	{"an errcode too large", `{"errcode":4294967296,"quota":{"daily_limit":1,"used":1}}`, "no errcode: want 0"},
	{"its own quota", `{"errcode":44993,"errmsg":"reach max api canary"}`, "errcode 44993: want 0"},
	{"no such path", `{"errcode":76021,"errmsg":"cgi_path not found canary"}`, "errcode 76021: want 0"},
	{"refused with figures", `{"errcode":-1,"quota":{"daily_limit":1,"used":1}}`, "errcode -1: want 0"},
	{"refused in a string", `{"errcode":"40001"}`, "errcode 40001: want 0"},
	{"no quota", `{"errcode":0,"errmsg":"ok"}`, "no quota: want daily_limit and used"},
	{"quota is a number", `{"errcode":0,"quota":7}`, "no quota: want daily_limit and used"},
	{"quota is null", `{"errcode":0,"quota":null}`, "no quota.daily_limit: want a whole number from 0 to 1000000000000"},
	{"no limit", `{"errcode":0,"quota":{"used":1}}`, "no quota.daily_limit: want a whole number from 0 to 1000000000000"},
	{"no used", `{"errcode":0,"quota":{"daily_limit":1}}`, "no quota.used: want a whole number from 0 to 1000000000000"},
	{"used is null", `{"errcode":0,"quota":{"daily_limit":1,"used":null}}`, "no quota.used: want a whole number from 0 to 1000000000000"},
	{"used is a float", `{"errcode":0,"quota":{"daily_limit":1,"used":1.0}}`, "no quota.used: want a whole number from 0 to 1000000000000"},
	{"used has an exponent", `{"errcode":0,"quota":{"daily_limit":1,"used":1e3}}`, "no quota.used: want a whole number from 0 to 1000000000000"},
	{"used is negative", `{"errcode":0,"quota":{"daily_limit":1,"used":-1}}`, "no quota.used: want a whole number from 0 to 1000000000000"},
	{"used is less than nothing", `{"errcode":0,"quota":{"daily_limit":1,"used":-0}}`, "no quota.used: want a whole number from 0 to 1000000000000"},
	{"used is too large", `{"errcode":0,"quota":{"daily_limit":1,"used":1000000000001}}`, "no quota.used: want a whole number from 0 to 1000000000000"},
	{"used is beyond a number", `{"errcode":0,"quota":{"daily_limit":1,"used":99999999999999999999}}`, "no quota.used: want a whole number from 0 to 1000000000000"},
	{"used is a text", `{"errcode":0,"quota":{"daily_limit":1,"used":"canary"}}`, "no quota.used: want a whole number from 0 to 1000000000000"},
	{"used is blank", `{"errcode":0,"quota":{"daily_limit":1,"used":""}}`, "no quota.used: want a whole number from 0 to 1000000000000"},
	{"used is a negative string", `{"errcode":0,"quota":{"daily_limit":1,"used":"-5"}}`, "no quota.used: want a whole number from 0 to 1000000000000"},
	{"used is a float in a string", `{"errcode":0,"quota":{"daily_limit":1,"used":"5.5"}}`, "no quota.used: want a whole number from 0 to 1000000000000"},
	{"used has a zero before it", `{"errcode":0,"quota":{"daily_limit":1,"used":"007"}}`, "no quota.used: want a whole number from 0 to 1000000000000"},
	{"used is a list", `{"errcode":0,"quota":{"daily_limit":1,"used":[1]}}`, "no quota.used: want a whole number from 0 to 1000000000000"},
	{"used is true", `{"errcode":0,"quota":{"daily_limit":1,"used":true}}`, "no quota.used: want a whole number from 0 to 1000000000000"},
	{"a limit that is negative", `{"errcode":0,"quota":{"daily_limit":-1,"used":1}}`, "no quota.daily_limit: want a whole number from 0 to 1000000000000"},
	{"a limit that is a string too large", `{"errcode":0,"quota":{"daily_limit":"1000000000001","used":1}}`, "no quota.daily_limit: want a whole number from 0 to 1000000000000"},
}

func TestParseAnswer(t *testing.T) {
	good := []struct {
		body        string
		limit, used int64
	}{
		{`{"errcode":0,"errmsg":"ok","quota":{"daily_limit":500000,"used":17,"remain":499983},"rate_limit":{"call_count":0,"refresh_second":0}}`, 500000, 17},
		{`{"errcode":0,"quota":{"daily_limit":0,"used":0}}`, 0, 0},
		{`{"errcode":"0","quota":{"daily_limit":"1000000000000","used":"1000000000000"}}`, limits.MaxLimit, limits.MaxLimit},
		{" {\n\"quota\" : {\"used\" : 2 , \"daily_limit\" : 1}, \"errcode\" : 0 } ", 1, 2},
	}
	for _, tt := range good {
		if limit, used, err := parseAnswer(send, []byte(tt.body)); limit != tt.limit || used != tt.used || err != nil {
			t.Errorf("parseAnswer(%s) = %d, %d, %v, want %d, %d", tt.body, limit, used, err, tt.limit, tt.used)
		}
	}
	for _, tt := range badAnswers {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := parseAnswer(send, []byte(tt.body))
			if want := "quota/get of " + send + ": " + tt.want; err == nil || err.Error() != want {
				t.Errorf("parseAnswer = %v, want %s", err, want)
			}
		})
	}
}

// TestBadAnswersChangeNothing reads, seeds and lets Run ask, and gets the same bad answer each time.
func TestBadAnswersChangeNothing(t *testing.T) {
	failures := badAnswers
	failures = append(failures, struct{ name, body, want string }{"no answer", "", "no answer"})
	for _, tt := range failures {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.call(send, 100)
				w.around(send, 50)
				a := w.auditor("a", func(o *Options) { o.Every = time.Minute })
				if err := a.Read(t.Context(), shop); err != nil {
					t.Fatal(err)
				}
				w.around(send, 50)
				record, used := string(w.values[recordKey]), w.used("send")
				w.answer = func(context.Context, string) ([]byte, error) {
					if tt.name == "no answer" {
						return nil, errors.New("Post https://canary/?access_token=canary: EOF")
					}
					return []byte(tt.body), nil
				}
				for range 3 {
					err := a.Read(t.Context(), shop)
					if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "canary") {
						t.Errorf("Read = %v, want %s", err, tt.want)
					}
				}
				rest(10 * time.Second)
				if n, ok := a.Seed(t.Context(), shop, w.rules.Match(send)); ok {
					t.Errorf("Seed = %d, want nothing", n)
				}
				if got := w.used("send"); got != used {
					t.Errorf("our count is %d, want %d as before", got, used)
				}
				if diff := cmp.Diff(record, string(w.values[recordKey])); diff != "" {
					t.Errorf("the record has changed (-before +after):\n%s", diff)
				}
				want := []string{"failed quota/get of " + send + ": " + tt.want}
				if diff := cmp.Diff(want, w.happened()); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}

				w.answer = nil
				if err := a.Read(t.Context(), shop); err != nil {
					t.Fatal(err)
				}
				w.answer = func(context.Context, string) ([]byte, error) { return []byte("<canary>"), nil }
				if err := a.Read(t.Context(), shop); err == nil {
					t.Error("Read of HTML: no error")
				}
				if got := w.happened(); len(got) != 1 || strings.Contains(got[0], "canary") {
					t.Errorf("events after a reading that succeeded: %q, want one", got)
				}
			})
		})
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(`{"errcode":0,"errmsg":"ok","quota":{"daily_limit":500000,"used":17,"remain":499983}}`))
	for _, tt := range badAnswers {
		f.Add([]byte(tt.body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		limit, used, err := parseAnswer(send, body)
		if err == nil {
			if limit < 0 || limit > limits.MaxLimit || used < 0 || used > limits.MaxLimit {
				t.Errorf("parseAnswer = %d, %d", limit, used)
			}
			return
		}
		answer, ok := errors.AsType[*Error](err)
		if !ok || limit != 0 && answer.Fault == "" || (answer.ErrCode == 0) == (answer.Fault == "") {
			t.Fatalf("parseAnswer = %#v", err)
		}
		if len(err.Error()) > 200 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	})
}
