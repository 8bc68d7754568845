package alert

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// dingtalk is a 钉钉 robot (自定义机器人). With a secret it is signed (加签); a robot that asks for a keyword
// instead finds "wxproxy" in every message.
type dingtalk struct {
	Sink
	client *http.Client
}

// dingtalkText is how many bytes a text has at most. DingTalk states no figure; others have seen 4 KB pass.
const dingtalkText = 4000

// dingtalkSilence is how long a robot is silent after more than 20 messages in a minute.
const dingtalkSilence = 10 * time.Minute

func (s dingtalk) send(ctx context.Context, m outgoing) *SendError {
	address := s.URL
	if len(s.Secrets) > 0 {
		u, err := url.Parse(address)
		if err != nil {
			return &SendError{Text: "no web address", Silence: true}
		}
		q := u.Query()
		ms := strconv.FormatInt(m.now.UnixMilli(), 10)
		q.Set("timestamp", ms)
		q.Set("sign", dingtalkSign(s.Secrets[0], ms))
		u.RawQuery = q.Encode()
		address = u.String()
	}
	body := encode(map[string]any{"msgtype": "text", "text": map[string]string{"content": m.text(dingtalkText)}})
	status, answer, header, failed := post(ctx, s.client, address, body, http.Header{})
	if failed != nil {
		return failed
	}
	code, failed := robotAnswer(status, answer, header, "errcode")
	if failed != nil || code == 0 {
		return failed
	}
	e := &SendError{Code: strconv.Itoa(code)}
	switch code {
	case 310000:
		e.Text, e.Silence = "the robot's security settings refuse the message: secret (加签), clock, keyword or address", true
	case 300001:
		e.Text, e.Silence = "the robot is gone or its URL is wrong", true
	case 130101:
		e.Text, e.Wait = "too many messages to this robot in a minute", dingtalkSilence
	default:
		e.Text = "the robot has refused the message"
	}
	return e
}

// dingtalkSign signs a time in milliseconds.
func dingtalkSign(secret, ms string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(ms + "\n" + secret))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
