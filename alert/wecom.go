package alert

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// wecom is a robot of a 企业微信 group (消息推送). The key in its URL is all that it asks for.
// https://developer.work.weixin.qq.com/document/path/99110 (updated 2025-08-07)
type wecom struct {
	Sink
	client *http.Client
}

// wecomText is how many bytes a text may have.
const wecomText = 2048

func (s wecom) send(ctx context.Context, m outgoing) *SendError {
	body := encode(map[string]any{"msgtype": "text", "text": map[string]string{"content": m.text(wecomText)}})
	status, answer, header, failed := post(ctx, s.client, s.URL, body, http.Header{})
	if failed != nil {
		return failed
	}
	code, failed := robotAnswer(status, answer, header, "errcode")
	if failed != nil || code == 0 {
		return failed
	}
	e := &SendError{Code: strconv.Itoa(code)}
	switch code {
	case 93000:
		e.Text, e.Silence = "the robot is gone or its URL is wrong", true
	case 40058:
		e.Text, e.Silence = "the message is too long or not as the robot wants it", true
	case 44004:
		e.Text, e.Silence = "the message is empty", true
	case 45009:
		e.Text, e.Wait = "too many messages to this robot in a minute", time.Minute
	default:
		e.Text = "the robot has refused the message"
	}
	return e
}
