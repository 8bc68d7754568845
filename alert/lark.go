package alert

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// lark is a 飞书 or Lark robot (自定义机器人), signed when there is a secret.
// https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot
type lark struct {
	Sink
	client *http.Client
}

// larkText is how many bytes a text has at most. The whole body may have 20 KB, and JSON makes two bytes of some.
const larkText = 8000

func (s lark) send(ctx context.Context, m outgoing) *SendError {
	message := map[string]any{"msg_type": "text", "content": map[string]string{"text": m.text(larkText)}}
	if len(s.Secrets) > 0 {
		seconds := strconv.FormatInt(m.now.Unix(), 10)
		message["timestamp"], message["sign"] = seconds, larkSign(s.Secrets[0], seconds)
	}
	status, answer, header, failed := post(ctx, s.client, s.URL, encode(message), http.Header{})
	if failed != nil {
		return failed
	}
	code, failed := robotAnswer(status, answer, header, "code", "StatusCode")
	if failed != nil || code == 0 {
		return failed
	}
	e := &SendError{Code: strconv.Itoa(code)}
	switch {
	case code == 19021:
		e.Text, e.Silence = "the signature is wrong: the secret, or a clock that is an hour off", true
	case code == 19022:
		e.Text, e.Silence = "the robot takes no messages from this address", true
	case code == 19024:
		e.Text, e.Silence = "the message lacks the robot's keyword: want wxproxy as keyword", true
	case code >= 19000 && code < 19100:
		e.Text, e.Silence = "the robot is gone or its URL is wrong", true
	case code == 9499:
		e.Text, e.Silence = "the message is not as the robot wants it", true
	case code == 11232:
		e.Text, e.Wait = "too many messages at once", 3*time.Second+rand.N(7*time.Second) //nolint:gosec // jitter
	default:
		e.Text = "the robot has refused the message"
	}
	return e
}

// larkSign signs a time in seconds: the key has it, and the message is empty.
func larkSign(secret, seconds string) string {
	mac := hmac.New(sha256.New, []byte(seconds+"\n"+secret))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
