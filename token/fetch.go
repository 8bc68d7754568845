package token

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"wxproxy/internal/reason"
	"wxproxy/wechat"
)

const (
	maxBody   = 64 << 10
	maxErrMsg = 512 // bytes, so that an answer has 4 KiB at most with all of them escaped
	maxToken  = 2048
)

// endpoint is where tokens are fetched.
type endpoint struct {
	transport http.RoundTripper
	upstream  string
	stable    bool
	path      string
	count     func(ctx context.Context, appid, path string)
	observe   func(Event)
	now       func() time.Time
}

func newEndpoint(o Options) endpoint {
	e := endpoint{
		transport: o.Transport,
		upstream:  strings.TrimRight(cmp.Or(o.Upstream, "https://api.weixin.qq.com"), "/"),
		stable:    o.Endpoint != "token",
		path:      stablePath,
		count:     o.Count,
		observe:   o.Observe,
		now:       o.Now,
	}
	if !e.stable {
		e.path = classicPath
	}
	if e.transport == nil {
		e.transport = newTransport()
	}
	if e.count == nil {
		e.count = func(context.Context, string, string) {}
	}
	if e.observe == nil {
		e.observe = func(Event) {}
	}
	if e.now == nil {
		e.now = time.Now
	}
	return e
}

// name is the last part of the path, as Options.Endpoint has it.
func (e *endpoint) name() string { return strings.TrimPrefix(e.path, "/cgi-bin/") }

// newTransport returns a transport to WeChat that keeps no connection.
func newTransport() *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: fetchTimeout}).DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: fetchTimeout,
		DisableKeepAlives:   true,
	}
}

// fetch asks WeChat for a token. Its error is a *Rejected without Until, or wraps ErrUnavailable,
// and holds nothing of the request or of the answer but errcode and address.
func (e *endpoint) fetch(ctx context.Context, a App, force bool) (*live, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	began := e.now().Round(0) // wall time: a token ages while the machine sleeps
	token, lifetime, err := e.ask(ctx, a, force)
	event := Event{Kind: Failed, AppID: a.AppID, Took: e.now().Sub(began)}
	if err == nil {
		l := &live{token: token, fetched: began, ends: began.Add(lifetime)}
		event.Kind, event.Expires = Fetched, l.ends
		e.observe(event)
		return l, nil
	}
	if r, ok := errors.AsType[*Rejected](err); ok {
		event.ErrCode, event.IP = r.ErrCode, r.IP
	} else {
		err = fmt.Errorf("token of %s: %w: %w", a.AppID, ErrUnavailable, err)
	}
	event.Err = err
	e.observe(event)
	return nil, err
}

// Fetch fetches an access_token of an app from WeChat, past everything that is kept, and returns it with its
// lifetime. Its error is a *Rejected without Until, or wraps ErrUnavailable; when WeChat is busy it wraps
// [wechat.SystemError] too. At stable_token it invalidates nothing. At the old endpoint it voids the token that is in use.
func Fetch(ctx context.Context, o Options, a App) (token string, lifetime time.Duration, err error) {
	e := newEndpoint(o)
	l, err := e.fetch(ctx, a, false)
	if err != nil {
		return "", 0, err
	}
	return l.token, l.ends.Sub(l.fetched), nil
}

// ask sends one request and follows no redirect. No error of net/http gets out as it is: its text may
// quote the URL, which may hold the secret, or a line of the answer, which may hold the token.
func (e *endpoint) ask(ctx context.Context, a App, force bool) (token string, lifetime time.Duration, err error) {
	req, err := e.request(ctx, a, force)
	if err != nil {
		return "", 0, errors.New("no request can be made for upstream.url")
	}
	e.count(ctx, a.AppID, e.path)
	resp, err := e.transport.RoundTrip(req)
	if err != nil {
		return "", 0, errors.New(reason.Of(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return "", 0, fmt.Errorf("the answer broke off: %s", reason.Of(err))
	}
	if resp.StatusCode != http.StatusOK {
		return "", 0, fmt.Errorf("HTTP status %d: want 200", resp.StatusCode)
	}
	return parseAnswer(a, body)
}

// request makes one that net/http sends at most once: it repeats what has a GetBody or no body at
// all when a connection turns out to be dead. A GET is given a body it cannot look into, which is
// empty and leaves no trace on the wire. A POST must have a length: WeChat refuses chunks.
func (e *endpoint) request(ctx context.Context, a App, force bool) (*http.Request, error) {
	if !e.stable {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.upstream+e.path, nil)
		if err != nil {
			return nil, err
		}
		req.URL.RawQuery = url.Values{
			"grant_type": {"client_credential"}, "appid": {a.AppID}, "secret": {a.Secret},
		}.Encode()
		req.Body = io.NopCloser(strings.NewReader(""))
		return req, nil
	}
	body, err := json.Marshal(map[string]any{
		"grant_type": "client_credential", "appid": a.AppID, "secret": a.Secret, "force_refresh": force,
	})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.upstream+e.path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.GetBody = nil
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

// number is a JSON number that may be written as a string.
type number int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	v, err := strconv.ParseInt(string(bytes.Trim(b, `"`)), 10, 64)
	if err != nil {
		return errors.New("not a number")
	}
	*n = number(v)
	return nil
}

// parseAnswer reads WeChat's answer. Only a *Rejected quotes it, and of it the errmsg.
func parseAnswer(a App, body []byte) (token string, lifetime time.Duration, err error) {
	if len(body) > maxBody {
		return "", 0, fmt.Errorf("the answer is longer than %d bytes", maxBody)
	}
	var answer struct {
		Token   string `json:"access_token"`
		Expires number `json:"expires_in"`
		ErrCode number `json:"errcode"`
		ErrMsg  string `json:"errmsg"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return "", 0, errors.New("the answer is not the JSON object that was expected")
	}
	switch {
	case answer.ErrCode == -1:
		return "", 0, fmt.Errorf("%w, WeChat is busy", wechat.SystemError)
	case answer.ErrCode != 0:
		return "", 0, &Rejected{
			AppID: a.AppID, ErrCode: int(answer.ErrCode), answer: quote(a, int(answer.ErrCode), answer.ErrMsg),
			IP: addressIn(int(answer.ErrCode), answer.ErrMsg),
		}
	case !validToken(answer.Token):
		return "", 0, fmt.Errorf("access_token of %d bytes: want 1 to %d of A-Z a-z 0-9 - . _ ~ =", len(answer.Token), maxToken)
	case answer.Expires <= 0:
		return "", 0, fmt.Errorf("expires_in %d: want more than 0", answer.Expires)
	}
	return answer.Token, min(time.Duration(min(answer.Expires, 1<<30))*time.Second, longest), nil
}

// quote returns what a caller may see of a refusal: errcode and errmsg, unless that is longer than any of
// WeChat's or repeats the secret. Whatever else the answer holds is left out.
func quote(a App, errcode int, errmsg string) []byte {
	if len(errmsg) > maxErrMsg || a.Secret != "" && strings.Contains(errmsg, a.Secret) {
		errmsg = "refused"
	}
	text, err := json.Marshal(errmsg)
	if err != nil {
		panic("token: " + err.Error()) // a string
	}
	return fmt.Appendf(nil, `{"errcode":%d,"errmsg":%s}`, errcode, text)
}

// 40164: invalid ip 203.0.113.9 ipv6 ::ffff:203.0.113.9, not in whitelist rid: ...
var addressPattern = regexp.MustCompile(`\bip ([0-9A-Fa-f.:]+)`)

// addressIn returns the address that WeChat has seen and does not like, if it says so.
func addressIn(errcode int, errmsg string) string {
	if errcode != 40164 {
		return ""
	}
	m := addressPattern.FindStringSubmatch(errmsg)
	if m == nil {
		return ""
	}
	ip, err := netip.ParseAddr(strings.TrimRight(m[1], ".:"))
	if err != nil {
		return ""
	}
	return ip.String()
}

// validToken reports whether a token can go into a query as it is: RFC 3986's unreserved
// characters, and the padding of base64.
func validToken(token string) bool {
	if token == "" || len(token) > maxToken {
		return false
	}
	for _, c := range []byte(token) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '.', c == '_', c == '~', c == '=':
		default:
			return false
		}
	}
	return true
}
