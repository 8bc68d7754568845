package alert

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// webhook posts JSON by the rules of Standard Webhooks: signed when there is a secret, with one signature for each
// of two secrets while one replaces the other. https://github.com/standard-webhooks/standard-webhooks
type webhook struct {
	Sink
	client *http.Client
}

// maxWebhook is how many bytes a body has at most.
const maxWebhook = 20_000

// webhookBody is what a webhook gets.
type webhookBody struct {
	Type      string      `json:"type"`
	Timestamp time.Time   `json:"timestamp"`
	Data      webhookData `json:"data"`
}

type webhookData struct {
	Text   string  `json:"text"`
	Events []Event `json:"events"`
	More   int     `json:"more,omitempty"` // events that did not fit
}

func (s webhook) send(ctx context.Context, m outgoing) *SendError {
	body := webhookJSON(m)
	seconds := strconv.FormatInt(m.now.Unix(), 10)
	header := http.Header{"Webhook-Id": {m.id}, "Webhook-Timestamp": {seconds}}
	if len(s.Secrets) > 0 {
		signatures := make([]string, len(s.Secrets))
		for i, secret := range s.Secrets {
			key, err := WebhookKey(secret)
			if err != nil {
				return &SendError{Text: err.Error(), Silence: true}
			}
			mac := hmac.New(sha256.New, key)
			mac.Write([]byte(m.id + "." + seconds + "." + string(body)))
			signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
		}
		header.Set("Webhook-Signature", strings.Join(signatures, " "))
	}
	status, _, got, failed := post(ctx, s.client, s.URL, body, header)
	if failed != nil {
		return failed
	}
	if status < 200 || status >= 300 {
		return httpError(status, got)
	}
	return nil
}

// webhookJSON is the body, with as many of the events as fit.
func webhookJSON(m outgoing) []byte {
	b := webhookBody{Type: "wxproxy.alert", Timestamp: m.now, Data: webhookData{Text: m.text(larkText), Events: m.events}}
	for {
		body := encode(b)
		n := len(b.Data.Events)
		if len(body) <= maxWebhook || n == 0 {
			return body
		}
		b.Data.Events = b.Data.Events[:n-1-n/8]
		b.Data.More = len(m.events) - len(b.Data.Events)
	}
}

// WebhookKey returns the key that a secret of a webhook stands for: whsec_ and base64 of 24 to 64 bytes.
func WebhookKey(secret string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || !strings.HasPrefix(secret, "whsec_") || len(key) < 24 || len(key) > 64 {
		return nil, errWebhookSecret
	}
	return key, nil
}
