package alert

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"wxproxy/internal/reason"
)

// The types of sinks.
const (
	WeCom        = "wecom"
	DingTalk     = "dingtalk"
	Lark         = "lark" // 飞书 too
	Webhook      = "webhook"
	Alertmanager = "alertmanager"
	Mail         = "mail"
)

// Sink is where messages go. URL and Secrets are secrets.
type Sink struct {
	Name    string
	Type    string
	URL     string   // of all but Mail
	Secrets []string // the newest first: DingTalk, Lark, Webhook; Mail: the password
	Events  []Kind   // the only ones that it gets; empty: all
	Mail    MailServer
}

// MailServer is where and how mail goes.
type MailServer struct {
	Host     string
	Port     int
	TLS      string // starttls, implicit or none
	Username string // "" without a password
	From     string
	To       []string

	roots *x509.CertPool // of tests; nil: the machine's
}

// takes reports whether the sink gets events of a kind. Alertmanager has no use for a digest.
func (s Sink) takes(k Kind) bool {
	if s.Type == Alertmanager && k == Digest {
		return false
	}
	return len(s.Events) == 0 || slices.Contains(s.Events, k)
}

// avoids reports whether the sink should get nothing at a time: Lark asks not to send on the hour and the half hour,
// when all others do.
func (s Sink) avoids(now time.Time) bool {
	return s.Type == Lark && now.Minute()%30 == 0 && now.Second() < 15
}

// fingerprint changes with what the sink was refused for.
func (s Sink) fingerprint() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", []any{s.Type, s.URL, s.Secrets, s.Mail}))
	return hex.EncodeToString(sum[:8])
}

// sender sends a message. Its error is nil or a *SendError.
type sender interface {
	send(ctx context.Context, m outgoing) *SendError
}

// sink is a Sink with what sends to it.
type sink struct {
	Sink
	print  string
	sender sender
}

// outgoing is a message on its way.
type outgoing struct {
	id     string // the same for each attempt
	now    time.Time
	events []Event
	config Config
	head   string   // the first of lines
	lines  []string // that may be cut
	last   []string // that are kept
}

func (s Sink) sender(client *http.Client) sender {
	switch s.Type {
	case WeCom:
		return wecom{s, client}
	case DingTalk:
		return dingtalk{s, client}
	case Lark:
		return lark{s, client}
	case Webhook:
		return webhook{s, client}
	case Alertmanager:
		return alertmanager{s, client}
	case Mail:
		return mailer{s}
	}
	panic("alert: sink of type " + s.Type)
}

// SendError is why a sink did not take a message. It holds no URL, no secret and no text of an answer.
type SendError struct {
	Code    string        // WeCom's 93000, HTTP 502; "" when there was no answer
	Text    string        // what it means
	Silence bool          // no message will do: the sink is gone, or its configuration is wrong
	Refused bool          // this message will not do
	Unknown bool          // it may have been delivered
	Wait    time.Duration // nothing before
}

// Error implements error.
func (e *SendError) Error() string { return strings.TrimPrefix(e.Code+": "+e.Text, ": ") }

// maxAnswer is how much of an answer is read.
const maxAnswer = 64 << 10

// post sends a body and returns the answer of the last server that got it.
func post(ctx context.Context, client *http.Client, url string, body []byte, header http.Header) (status int, answer []byte, got http.Header, failed *SendError) {
	var written atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders: func() { written.Store(true) },
	})
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, &SendError{Text: "no web address", Silence: true}
	}
	r.Header = header
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("User-Agent", "wxproxy")
	response, err := client.Do(r)
	if err != nil {
		return 0, nil, nil, &SendError{Text: reason.Of(err), Unknown: written.Load()}
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return 0, nil, nil, &SendError{Text: reason.Of(err), Unknown: true}
	}
	return response.StatusCode, answer, response.Header, nil
}

// httpError is the error of a status that is no success.
func httpError(status int, header http.Header) *SendError {
	e := &SendError{Code: fmt.Sprintf("HTTP %d", status), Text: strings.ToLower(http.StatusText(status))}
	switch status {
	case http.StatusGone:
		e.Silence = true
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		e.Wait = retryAfterOf(header)
		if e.Wait == 0 && status == http.StatusTooManyRequests {
			e.Wait = time.Minute
		}
	}
	return e
}

// maxWait bounds what a server may ask for.
const maxWait = time.Hour

// retryAfterOf reads Retry-After, 0 if there is none.
func retryAfterOf(header http.Header) time.Duration {
	text := header.Get("Retry-After")
	if text == "" {
		return 0
	}
	if d, err := time.ParseDuration(text + "s"); err == nil {
		return max(0, min(d, maxWait))
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, min(time.Until(at), maxWait))
	}
	return 0
}

// robotAnswer reads the errcode of a robot's answer, which has HTTP 200 also when it is a refusal.
func robotAnswer(status int, answer []byte, header http.Header, fields ...string) (code int, failed *SendError) {
	var got map[string]any
	if err := json.Unmarshal(answer, &got); err != nil {
		if status >= 200 && status < 300 {
			return 0, &SendError{Code: fmt.Sprintf("HTTP %d", status), Text: "an answer that is not a robot's: is the URL that of the robot?"}
		}
		return 0, httpError(status, header)
	}
	for _, field := range fields {
		if n, ok := got[field].(float64); ok {
			return int(n), nil
		}
	}
	if status < 200 || status >= 300 {
		return 0, httpError(status, header)
	}
	return 0, &SendError{Code: fmt.Sprintf("HTTP %d", status), Text: "an answer that is not a robot's: is the URL that of the robot?"}
}

// encode writes JSON as it is, without escapes for web pages: they would count as bytes.
func encode(value any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		panic("alert: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
