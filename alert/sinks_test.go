package alert

import (
	"context"
	"encoding/base64"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func testConfig(sinks ...Sink) Config {
	return Config{
		Language: Chinese, Zone: time.FixedZone("CST", 8*3600), Thresholds: []int{50, 80, 95, 100}, Digest: -1,
		DriftBound: 5, Page: "https://gateway.example.com/", Sinks: sinks,
	}
}

func sampleEvents(n int) []Event {
	now := time.Now()
	events := make([]Event, n)
	for i := range events {
		events[i] = Event{
			Kind: Used, At: now, AppID: fmt.Sprintf("wx%016x", i), App: fmt.Sprintf("帐号%d", i), Rule: "menu.create", Title: "自定义菜单创建",
			Period: "day", Used: 800, Limit: 1000, Threshold: 80, Reset: now.Add(time.Hour),
			Callers: []Caller{{"crm", 512}, {"web", 200}}, Forecast: now.Add(30 * time.Minute),
		}
	}
	return events
}

// sendTo sends events to a sink, once.
func sendTo(t *testing.T, s Sink, events []Event) *SendError {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return s.sender(http.DefaultClient).send(ctx, testConfig().compose("msg_1", time.Now(), events))
}

var robotKinds = []string{WeCom, DingTalk, Lark, Webhook, Alertmanager}

// Each sink's message is taken by a stand-in that enforces the size and the signature: of one event, and of so many that
// not all fit.
func TestSinksDeliver(t *testing.T) {
	for _, kind := range robotKinds {
		for _, n := range []int{1, 5, 6, 200, 1000} {
			t.Run(fmt.Sprintf("%s/%d", kind, n), func(t *testing.T) {
				r := &robot{kind: kind}
				s := serve(t, r)
				if err := sendTo(t, s, sampleEvents(n)); err != nil {
					t.Fatalf("not sent: %v", err)
				}
				got := strings.Join(r.texts(), "\n")
				for _, want := range []string{"帐号0", "自定义菜单创建"} {
					if !strings.Contains(got, want) {
						t.Errorf("%q is not in %q", want, got)
					}
				}
				if kind == Alertmanager {
					if len(r.alerts) != n {
						t.Errorf("%d alerts, want %d", len(r.alerts), n)
					}
				} else if !strings.HasPrefix(got, "wxproxy ") || !strings.HasPrefix(got[strings.LastIndexByte(got, '\n')+1:], "https://gateway.example.com/") {
					t.Errorf("want wxproxy in front and the link behind, also of what is cut: %q", got)
				}
				if kind == WeCom && n == 200 && !strings.Contains(got, "……还有 ") {
					t.Errorf("what is cut does not say so: %q", got)
				}
			})
		}
	}
}

// Mail goes by STARTTLS with a password, by TLS from the start, and without either.
func TestMail(t *testing.T) {
	for _, security := range []string{"starttls", "implicit", "none"} {
		t.Run(security, func(t *testing.T) {
			server := &smtpServer{security: security}
			if err := sendTo(t, server.start(t), sampleEvents(1)); err != nil {
				t.Fatal(err)
			}
			if len(server.mails) != 1 {
				t.Fatalf("%d mails, want 1", len(server.mails))
			}
			checkMail(t, server.mails[0])
		})
	}
}

func checkMail(t *testing.T, text string) {
	t.Helper()
	header, body, _ := strings.Cut(text, "\n\n")
	subject := ""
	for line := range strings.Lines(strings.ReplaceAll(header, "\n ", " ")) {
		if text, ok := strings.CutPrefix(line, "Subject: "); ok {
			var err error
			if subject, err = new(mime.WordDecoder).DecodeHeader(strings.TrimSpace(text)); err != nil {
				t.Error(err)
			}
		}
	}
	if want := "wxproxy 【已用 80%】帐号0 自定义菜单创建 (menu.create)：800 / 1000"; subject != want {
		t.Errorf("subject %q, want %q", subject, want)
	}
	if !strings.Contains(header, "Message-ID: <msg_1@wxproxy>") || body == "" {
		t.Errorf("want the message's own id and a body:\n%s", text)
	}
}

// What a mail server refuses for good, and for now.
func TestMailRefused(t *testing.T) {
	server := &smtpServer{security: "starttls"}
	s := server.start(t)
	for _, tt := range []struct {
		at, refuse string
		want       SendError
	}{
		{"AUTH", "535 5.7.8 authentication failed for " + canarySecret, SendError{Code: "SMTP 535", Silence: true}},
		{"RCPT", "550 5.1.1 no such user <ops@example.com>", SendError{Code: "SMTP 550", Silence: true}},
		{"MAIL", "451 4.7.1 greylisted, try again", SendError{Code: "SMTP 451"}},
		{"DATA", "452 4.2.2 over quota", SendError{Code: "SMTP 452"}},
	} {
		server.mu.Lock()
		server.at, server.refuse = tt.at, tt.refuse
		server.mu.Unlock()
		wantError(t, tt.refuse, sendTo(t, s, sampleEvents(1)), tt.want)
	}
}

// wantError compares all but the text, which may hold no canary.
func wantError(t *testing.T, what string, got *SendError, want SendError) {
	t.Helper()
	if got == nil {
		t.Errorf("%s: sent, want %+v", what, want)
		return
	}
	text := got.Error()
	for _, canary := range []string{canaryKey, canarySecret, "CANARY", "example.com"} {
		if strings.Contains(text, canary) {
			t.Errorf("%s: the error holds %q: %s", what, canary, text)
		}
	}
	if want.Wait < 0 && got.Wait > 0 {
		want.Wait = got.Wait
	}
	want.Text = got.Text
	if *got != want || got.Text == "" {
		t.Errorf("%s: %+v, want %+v", what, *got, want)
	}
}

// The bodies with which real ones refuse, most of them with HTTP 200.
func TestRefusals(t *testing.T) {
	const some = -1
	for _, tt := range []struct {
		kind   string
		status int
		body   string
		want   SendError
	}{
		{WeCom, 200, `{"errcode":93000,"errmsg":"invalid webhook url, hint: [1], from ip: 1.2.3.4"}`, SendError{Code: "93000", Silence: true}},
		{WeCom, 200, `{"errcode":40058,"errmsg":"markdown.content exceed max length 4096. invalid Request Parameter"}`, SendError{Code: "40058", Silence: true}},
		{WeCom, 200, `{"errcode":44004,"errmsg":"empty content"}`, SendError{Code: "44004", Silence: true}},
		{WeCom, 200, `{"errcode":45009,"errmsg":"api freq out of limit"}`, SendError{Code: "45009", Wait: time.Minute}},
		{WeCom, 200, `{"errcode":-1,"errmsg":"system error"}`, SendError{Code: "-1"}},
		{WeCom, 502, `<html>bad gateway</html>`, SendError{Code: "HTTP 502"}},
		{WeCom, 200, `<html>a portal's sign-in</html>`, SendError{Code: "HTTP 200"}},
		{WeCom, 302, ``, SendError{Code: "HTTP 302"}},
		{DingTalk, 200, `{"errcode":310000,"errmsg":"sign not match"}`, SendError{Code: "310000", Silence: true}},
		{DingTalk, 200, `{"errcode":310000,"errmsg":"机器人发送签名不匹配"}`, SendError{Code: "310000", Silence: true}},
		{DingTalk, 200, `{"errcode":310000,"errmsg":"keywords not in content"}`, SendError{Code: "310000", Silence: true}},
		{DingTalk, 200, `{"errcode":300001,"errmsg":"token is not exist"}`, SendError{Code: "300001", Silence: true}},
		{DingTalk, 200, `{"errcode":130101,"errmsg":"send too fast, exceed 20 times per minute"}`, SendError{Code: "130101", Wait: 10 * time.Minute}},
		{DingTalk, 200, `{"errcode":-1,"errmsg":"系统繁忙"}`, SendError{Code: "-1"}},
		{Lark, 200, `{"code":19001,"msg":"param invalid: incoming webhook access token invalid","data":{}}`, SendError{Code: "19001", Silence: true}},
		{Lark, 200, `{"code":19021,"msg":"sign match fail or timestamp is not within one hour from current time"}`, SendError{Code: "19021", Silence: true}},
		{Lark, 200, `{"code":19022,"msg":"Ip Not Allowed"}`, SendError{Code: "19022", Silence: true}},
		{Lark, 200, `{"code":19024,"msg":"Key Words Not Found"}`, SendError{Code: "19024", Silence: true}},
		{Lark, 400, `{"code":9499,"msg":"Bad Request","data":{}}`, SendError{Code: "9499", Silence: true}},
		{Lark, 200, `{"code":11232,"msg":"frequency limited"}`, SendError{Code: "11232", Wait: some}},
		{Webhook, 410, ``, SendError{Code: "HTTP 410", Silence: true}},
		{Webhook, 429, ``, SendError{Code: "HTTP 429", Wait: time.Minute}},
		{Webhook, 500, ``, SendError{Code: "HTTP 500"}},
		{Webhook, 404, ``, SendError{Code: "HTTP 404"}},
		{Webhook, 302, ``, SendError{Code: "HTTP 302"}},
		{Alertmanager, 400, `"start time must be before end time"`, SendError{Code: "HTTP 400", Refused: true}},
		{Alertmanager, 503, ``, SendError{Code: "HTTP 503"}},
	} {
		t.Run(fmt.Sprintf("%s/%d/%.30s", tt.kind, tt.status, tt.body), func(t *testing.T) {
			r := &robot{kind: tt.kind, answer: func(int) (int, string) { return tt.status, tt.body }}
			wantError(t, tt.body, sendTo(t, serve(t, r), sampleEvents(1)), tt.want)
		})
	}
}

// A message is signed with each secret while one replaces the other.
func TestWebhookRotation(t *testing.T) {
	r := &robot{kind: Webhook}
	s := serve(t, r)
	other := "whsec_" + base64.StdEncoding.EncodeToString([]byte("another secret of 32 bytes......"))
	s.Secrets = []string{other, webhookSecret}
	if err := sendTo(t, s, sampleEvents(1)); err != nil {
		t.Errorf("signed with the new and the old secret: %v", err)
	}
	s.Secrets = []string{other}
	if err := sendTo(t, s, sampleEvents(1)); err == nil || err.Code != "HTTP 401" {
		t.Errorf("signed with another secret: %v, want HTTP 401", err)
	}
}

// A server that is not there, and one that does not answer: only the second may have the message.
func TestUnknown(t *testing.T) {
	r := &robot{kind: WeCom}
	s := serve(t, r)
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	r.answer = func(int) (int, string) { cancel(); <-release; return 0, "" }
	err := s.sender(http.DefaultClient).send(ctx, testConfig().compose("msg_1", time.Now(), sampleEvents(1)))
	wantError(t, "no answer", err, SendError{Unknown: true})
	s.URL = "http://127.0.0.1:1/cgi-bin/webhook/send?key=" + canaryKey
	wantError(t, "no server", sendTo(t, s, sampleEvents(1)), SendError{})
}

func TestCut(t *testing.T) {
	m := testConfig().compose("msg_1", time.Now(), sampleEvents(40))
	for limit := 40; limit < 5000; limit += 7 {
		text := m.text(limit)
		if len(text) > limit || !utf8.ValidString(text) {
			t.Fatalf("%d bytes for %d: %q", len(text), limit, text)
		}
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			if limit > 200 && strings.HasPrefix(line, "•") && !strings.HasSuffix(line, "800 / 1000") {
				t.Fatalf("%d bytes: a line is cut: %q", limit, line)
			}
		}
	}
}
