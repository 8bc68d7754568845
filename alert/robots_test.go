package alert

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// Canaries: parts of URLs and secrets that may turn up in no log, error or metric.
const (
	canaryKey    = "CANARY-693a91f6-7xxx-4bc4-97a0"
	canarySecret = "SECcanary0secret0of0a0robot"
)

// robot is a stand-in of a chat robot, a webhook or Alertmanager: it refuses what the real one refuses, in its words.
type robot struct {
	kind string

	mu       sync.Mutex
	got      []string // texts that were delivered
	ids      []string // of webhooks, each attempt
	times    []time.Time
	silentTo time.Time
	limited  int                       // requests past a rate
	problems []string                  // what no real one should get
	answer   func(n int) (int, string) // of the nth request, from 1, in place of the usual one; 0 means the usual
	asked    int
	alerts   []amAlert
}

func (r *robot) complain(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

func (r *robot) texts() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// ServeHTTP implements http.Handler.
func (r *robot) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return // the client has gone
	}
	r.asked++
	if r.kind == Webhook {
		r.ids = append(r.ids, q.Header.Get("Webhook-Id"))
	}
	if r.answer != nil {
		if status, text := r.answer(r.asked); status != 0 {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
			return
		}
	}
	now := time.Now()
	if !utf8.Valid(body) {
		r.complain("a body that is not UTF-8")
	}
	minute := 0
	for _, at := range r.times {
		if now.Sub(at) < time.Minute {
			minute++
		}
	}
	r.times = append(r.times, now)
	status, text := http.StatusOK, ""
	switch r.kind {
	case WeCom:
		text = r.wecom(q, body, minute)
	case DingTalk:
		text = r.dingtalk(q, body, minute, now)
	case Lark:
		status, text = r.lark(body, minute, now)
	case Webhook:
		status = r.webhook(q, body)
	case Alertmanager:
		status = r.alertmanager(q, body)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

type textBody struct {
	Msgtype string `json:"msgtype"`
	Text    struct {
		Content string `json:"content"`
	} `json:"text"`
}

func (r *robot) wecom(q *http.Request, body []byte, minute int) string {
	var b textBody
	if json.Unmarshal(body, &b) != nil || b.Msgtype != "text" {
		return `{"errcode":40008,"errmsg":"invalid message type"}`
	}
	switch {
	case q.URL.Path != "/cgi-bin/webhook/send" || q.URL.Query().Get("key") != canaryKey:
		return `{"errcode":93000,"errmsg":"invalid webhook url, hint: [1700000000], from ip: 127.0.0.1, more info at https://open.work.weixin.qq.com/devtool/query?e=93000"}`
	case b.Text.Content == "":
		return `{"errcode":44004,"errmsg":"empty content"}`
	case len(b.Text.Content) > 2048:
		return `{"errcode":40058,"errmsg":"text.content exceed max length 2048. invalid Request Parameter"}`
	case minute >= 20:
		r.limited++
		return `{"errcode":45009,"errmsg":"api freq out of limit"}`
	}
	r.got = append(r.got, b.Text.Content)
	return `{"errcode":0,"errmsg":"ok"}`
}

func (r *robot) dingtalk(q *http.Request, body []byte, minute int, now time.Time) string {
	ms := q.URL.Query().Get("timestamp")
	n, _ := strconv.ParseInt(ms, 10, 64)
	mac := hmac.New(sha256.New, []byte(canarySecret))
	fmt.Fprintf(mac, "%s\n%s", ms, canarySecret)
	var b textBody
	switch {
	case q.URL.Query().Get("access_token") != canaryKey:
		return `{"errcode":300001,"errmsg":"token is not exist"}`
	case now.Before(r.silentTo):
		r.limited++
		return `{"errcode":130101,"errmsg":"send too fast, exceed 20 times per minute"}`
	case minute >= 20:
		r.limited++
		r.silentTo = now.Add(10 * time.Minute)
		return `{"errcode":130101,"errmsg":"send too fast, exceed 20 times per minute"}`
	case now.Sub(time.UnixMilli(n)).Abs() > time.Hour:
		return `{"errcode":310000,"errmsg":"invalid timestamp, more: [https://ding-doc.dingtalk.com/doc#/serverapi2/qf2nxq]"}`
	case q.URL.Query().Get("sign") != base64.StdEncoding.EncodeToString(mac.Sum(nil)):
		return `{"errcode":310000,"errmsg":"sign not match, more: [https://ding-doc.dingtalk.com/doc#/serverapi2/qf2nxq]"}`
	case json.Unmarshal(body, &b) != nil || b.Msgtype != "text":
		return `{"errcode":40035,"errmsg":"invalid parameter"}`
	case len(b.Text.Content) > 4096:
		r.complain("%d bytes for DingTalk", len(b.Text.Content))
	case !strings.Contains(b.Text.Content, "wxproxy"):
		return `{"errcode":310000,"errmsg":"keywords not in content, more: [https://ding-doc.dingtalk.com/doc#/serverapi2/qf2nxq]"}`
	}
	r.got = append(r.got, b.Text.Content)
	return `{"errcode":0,"errmsg":"ok"}`
}

func (r *robot) lark(body []byte, minute int, now time.Time) (int, string) {
	var b struct {
		Timestamp, Sign string
		MsgType         string `json:"msg_type"`
		Content         struct{ Text string }
	}
	if len(body) > 20<<10 || json.Unmarshal(body, &b) != nil || b.MsgType != "text" || b.Content.Text == "" {
		return 400, `{"code":9499,"msg":"Bad Request","data":{}}`
	}
	n, _ := strconv.ParseInt(b.Timestamp, 10, 64)
	mac := hmac.New(sha256.New, []byte(b.Timestamp+"\n"+canarySecret))
	second := 0
	for _, at := range r.times {
		if now.Sub(at) < time.Second {
			second++
		}
	}
	switch {
	case now.Sub(time.Unix(n, 0)).Abs() > time.Hour || b.Sign != base64.StdEncoding.EncodeToString(mac.Sum(nil)):
		return 200, `{"code":19021,"msg":"sign match fail or timestamp is not within one hour from current time","data":{}}`
	case minute >= 100 || second > 5 || now.Minute()%30 == 0 && now.Second() < 10:
		r.limited++
		return 200, `{"code":11232,"msg":"frequency limited psm[lark.oapi.app_platform_runtime]appID[1500]","data":{}}`
	}
	r.got = append(r.got, b.Content.Text)
	return 200, `{"StatusCode":0,"StatusMessage":"success","code":0,"data":{},"msg":"success"}`
}

// webhookSecret is whsec_ and 32 bytes.
var webhookSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("CANARY-secret-of-a-webhook-32byt"))

func (r *robot) webhook(q *http.Request, body []byte) int {
	if len(body) > 20<<10 {
		r.complain("%d bytes for a webhook", len(body))
	}
	seconds, _ := strconv.ParseInt(q.Header.Get("Webhook-Timestamp"), 10, 64)
	mac := hmac.New(sha256.New, []byte("CANARY-secret-of-a-webhook-32byt"))
	fmt.Fprintf(mac, "%s.%d.%s", q.Header.Get("Webhook-Id"), seconds, body)
	if !slices.Contains(strings.Fields(q.Header.Get("Webhook-Signature")), "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil))) ||
		time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return http.StatusUnauthorized
	}
	var b webhookBody
	if json.Unmarshal(body, &b) != nil {
		return http.StatusBadRequest
	}
	r.got = append(r.got, b.Data.Text)
	return http.StatusNoContent
}

func (r *robot) alertmanager(q *http.Request, body []byte) int {
	var alerts []amAlert
	if q.URL.Path != "/api/v2/alerts" || json.Unmarshal(body, &alerts) != nil {
		return http.StatusBadRequest
	}
	for _, a := range alerts {
		if a.Labels["alertname"] == "" || a.StartsAt.IsZero() || a.EndsAt.Before(a.StartsAt) {
			return http.StatusBadRequest // as Alertmanager: start time must be before end time
		}
		r.alerts = append(r.alerts, a)
		r.got = append(r.got, a.Annotations["summary"])
	}
	return http.StatusOK
}

// sinkFor returns a sink for a stand-in at base.
func (r *robot) sinkFor(base string) Sink {
	s := Sink{Name: r.kind, Type: r.kind}
	switch r.kind {
	case WeCom:
		s.URL = base + "/cgi-bin/webhook/send?key=" + canaryKey
	case DingTalk:
		s.URL, s.Secrets = base+"/robot/send?access_token="+canaryKey, []string{canarySecret}
	case Lark:
		s.URL, s.Secrets = base+"/open-apis/bot/v2/hook/"+canaryKey, []string{canarySecret}
	case Webhook:
		s.URL, s.Secrets = base+"/hook/"+canaryKey, []string{webhookSecret}
	case Alertmanager:
		s.URL = base
	}
	return s
}

// serve runs a stand-in on a socket.
func serve(t *testing.T, r *robot) Sink {
	t.Helper()
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	t.Cleanup(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, p := range r.problems {
			t.Errorf("%s: %s", r.kind, p)
		}
	})
	return r.sinkFor(server.URL)
}

// smtpServer is a stand-in of a mail server. It takes what user "ops" sends with the password canarySecret.
type smtpServer struct {
	mu     sync.Mutex
	mails  []string
	refuse string // in place of 235, 250 or 354 to the command before: "535 ..."
	at     string // the command that refuse answers

	security string // starttls, implicit or none
	tls      *tls.Config
}

func (s *smtpServer) start(t *testing.T) Sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	s.tls = &tls.Config{Certificates: web.TLS.Certificates}
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				if s.security == "implicit" {
					conn = tls.Server(conn, s.tls)
				}
				s.talk(conn, true)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	port := l.Addr().(*net.TCPAddr).Port
	sink := Sink{Name: "mail", Type: Mail, Mail: MailServer{
		Host: "127.0.0.1", Port: port, TLS: s.security, From: "wxproxy@example.com", To: []string{"ops@example.com"}, roots: roots,
	}}
	if s.security != "none" {
		sink.Secrets, sink.Mail.Username = []string{canarySecret}, "ops"
	}
	return sink
}

// talk is one connection, and after STARTTLS the rest of it.
func (s *smtpServer) talk(conn net.Conn, greet bool) {
	in := textproto.NewReader(bufio.NewReader(conn))
	say := func(line string) { fmt.Fprintf(conn, "%s\r\n", line) }
	if greet {
		say("220 mail.example.com ESMTP")
	}
	for {
		line, err := in.ReadLine()
		if err != nil {
			return
		}
		command, rest, _ := strings.Cut(line, " ")
		command = strings.ToUpper(command)
		s.mu.Lock()
		refuse := s.refuse
		if command != s.at {
			refuse = ""
		}
		s.mu.Unlock()
		switch {
		case refuse != "":
			say(refuse)
		case command == "EHLO":
			fmt.Fprint(conn, "250-mail.example.com\r\n250-STARTTLS\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n")
		case command == "STARTTLS":
			say("220 go on")
			s.talk(tls.Server(conn, s.tls), false)
			return
		case command == "AUTH":
			proof := strings.TrimPrefix(rest, "PLAIN ")
			if text, err := base64.StdEncoding.DecodeString(proof); err != nil || string(text) != "\x00ops\x00"+canarySecret {
				say("535 5.7.8 authentication failed for " + canarySecret)
				continue
			}
			say("235 2.7.0 accepted")
		case command == "DATA":
			say("354 go on")
			text, err := in.ReadDotBytes()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.mails = append(s.mails, string(text))
			s.mu.Unlock()
			say("250 2.0.0 queued")
		case command == "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}
