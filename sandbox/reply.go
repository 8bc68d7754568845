package sandbox

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The types of WeChat's answers (facts 4): "encoding" is its own word, and /sns has no charset.
const (
	jsonType = "application/json; encoding=utf-8"
	textType = "text/plain"
	htmlType = "text/html"
)

// reply is one answer, ready to be sent.
type reply struct {
	status      int // 0: 200
	contentType string
	header      http.Header // more headers, spelled as they are sent
	body        []byte
}

// write sends a reply with its length.
func (s *Sandbox) write(w http.ResponseWriter, rep reply) {
	s.head(w, rep)
	w.Write(rep.body)
}

// head sends all of a reply but its body.
func (s *Sandbox) head(w http.ResponseWriter, rep reply) {
	h := w.Header()
	if rep.contentType != "" {
		h.Set("Content-Type", rep.contentType)
	}
	h.Set("Content-Length", strconv.Itoa(len(rep.body)))
	h.Set("Date", s.Time().UTC().Format(http.TimeFormat)) // WeChat's clock, not ours
	maps.Copy(h, rep.header)
	if rep.status == 0 {
		rep.status = http.StatusOK
	}
	w.WriteHeader(rep.status)
}

// json answers with v. There is no newline after it.
func (c *call) json(v any) reply {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("sandbox: answer of " + c.path + ": " + err.Error())
	}
	return reply{contentType: c.textual(), body: bytes.TrimSuffix(b.Bytes(), []byte("\n"))}
}

// textual is the type of a JSON answer to this path.
func (c *call) textual() string {
	if strings.HasPrefix(c.path, "/sns/") {
		return textType
	}
	return jsonType
}

// status is what every answer without content of its own is, and every error.
type status struct {
	Code    int    `json:"errcode"`
	Message string `json:"errmsg"`
}

// ok answers that it is done.
func ok(c *call) reply { return c.json(status{Message: "ok"}) }

// says answers with a fixed JSON text.
func says(body string) answer {
	return func(c *call) reply { return reply{contentType: c.textual(), body: []byte(body)} }
}

// fail answers with an errcode, in WeChat's present words. It needs s.mu.
func (c *call) fail(code int) reply {
	message := c.message(code)
	rep := c.json(status{Code: code, Message: message})
	c.remember(message, string(rep.body))
	return rep
}

// message is the errmsg of a code. Today's messages end in a rid (facts 2c).
func (c *call) message(code int) string {
	text := texts(code)
	switch {
	case code == 45009 && c.path == pathToken:
		text = "reach max api daily quota limit, could get access_token by getStableAccessToken, " +
			"more details at https://mmbizurl.cn/s/JtxxFh33r"
	case code == -1:
		return text
	}
	return text + " rid: " + rid(c.now)
}

// rid names a request. Its first eight digits are the Unix time (facts 3).
func rid(now time.Time) string {
	var b [8]byte
	rand.Read(b[:])
	return fmt.Sprintf("%08x-%08x-%08x", now.Unix(), binary.BigEndian.Uint32(b[:]), binary.BigEndian.Uint32(b[4:]))
}

// page is what the web server before WeChat's APIs answers by itself. It answers 412 without a body
// (facts 4).
func page(code int) reply {
	if code == http.StatusPreconditionFailed {
		return reply{status: code}
	}
	title := strconv.Itoa(code) + " " + http.StatusText(code)
	return reply{status: code, contentType: htmlType, body: []byte("<html>\r\n<head><title>" + title +
		"</title></head>\r\n<body>\r\n<center><h1>" + title + "</h1></center>\r\n</body>\r\n</html>\r\n")}
}

// texts is the errmsg of a code without its rid (facts 2c).
func texts(code int) string {
	switch code {
	case -1:
		return "system error"
	case 40001:
		return "invalid credential, access_token is invalid or not latest, could get access_token by " +
			"getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"
	case 40002:
		return "invalid grant_type"
	case 40003:
		return "invalid openid"
	case 40004:
		return "invalid media type"
	case 40007:
		return "invalid media_id"
	case 40013:
		return "invalid appid"
	case 40014:
		return "invalid access_token"
	case 40029:
		return "invalid code"
	case 40030:
		return "invalid refresh_token"
	case 40032:
		return "invalid openid list size"
	case 40066:
		return "invalid url"
	case 40125:
		return "invalid appsecret, view more at http://t.cn/RAEkdVq"
	case 40163:
		return "code been used"
	case 40164:
		return "invalid ip 1.2.3.4 ipv6 ::ffff:1.2.3.4, not in whitelist"
	case 40243:
		return "AppSecret frozen"
	case 41001:
		return "access_token missing"
	case 41002:
		return "appid missing"
	case 41004:
		return "appsecret missing"
	case 41005:
		return "media data missing"
	case 41008:
		return "missing code"
	case 41009:
		return "missing openid"
	case 42001:
		return "access_token expired"
	case 42007:
		return "access_token and refresh_token exception"
	case 43001:
		return "require GET method"
	case 43002:
		return "require POST method"
	case 43003:
		return "require https"
	case 43104:
		return "this appid does not have permission"
	case 44002:
		return "empty post data"
	case 44993:
		return "reach max api day frequence limit" //nolint:misspell // WeChat's own spelling
	case 45009:
		return "reach max api daily quota limit"
	case 45011:
		return "api minute-quota reach limit, must slower, retry next minute"
	case 45028:
		return "has no masssend quota"
	case 47001:
		return "data format error"
	case 48001:
		return "api unauthorized,"
	case 48004:
		return "api forbidden for irregularities"
	case 48006:
		return "forbid to clear quota because of reaching the limit"
	case 50002:
		return "user limited"
	case 61007:
		return "api is unauthorized to component"
	case 61010:
		return "code is expired"
	case 61023:
		return "refresh_token is invalid"
	case 76001:
		return "rid not found"
	case 76002:
		return "rid is error"
	case 76003:
		return "no permission to this rid, or cgi_path is malformed"
	case 76021:
		return "cgi_path not found, please check"
	case 76022:
		return "could not use this cgi_path, no permission"
	case 89501:
		return "pending confirmation by the admin"
	case 89503:
		return "this call needs the admin's confirmation"
	case 89506:
		return "ip refused by the admin for 24 hours"
	case 89507:
		return "ip refused by the admin for 1 hour"
	default:
		return "error"
	}
}
