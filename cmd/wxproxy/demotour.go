package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"wxproxy/internal/words"
)

// tour shows a call being sent, the token being injected, and a call being refused.
type tour struct {
	l               words.Language
	gateway, wechat string
	out             io.Writer
}

// stop is one call of the tour.
type stop struct {
	title words.Message
	body  string // of a POST; "" is a GET
	url   string
	want  string // what its answer contains
}

func (t *tour) stops() []stop {
	menu := `{"button":[{"type":"click","name":"demo","key":"demo"}]}`
	return []stop{
		{words.DemoDirect, "", t.wechat + "/cgi-bin/get_api_domain_ip", `"errcode":41001`},
		{words.DemoInjected, "", t.gateway + "/cgi-bin/get_api_domain_ip", `"ip_list"`},
		{words.DemoFirst, menu, t.gateway + "/cgi-bin/menu/create", `"errcode":0`},
		{words.DemoSecond, menu, t.gateway + "/cgi-bin/menu/create?access_token=SOME_OLD_TOKEN", `"errcode":0`},
		{words.DemoRefused, menu, t.gateway + "/cgi-bin/menu/create", `{"errcode":45009,"errmsg":"api freq out of limit"}`},
		{words.DemoExecuted, "", t.wechat + "/-/sandbox/state", `"/cgi-bin/menu/create":2`},
	}
}

func (s stop) curl() string {
	if s.body == "" {
		return fmt.Sprintf("curl -i '%s'", s.url)
	}
	return fmt.Sprintf("curl -i '%s' -d '%s'", s.url, s.body)
}

// walk makes the calls, prints them with their answers, and returns an error for the first answer
// that is not what it should be.
func (t *tour) walk(ctx context.Context) error {
	for _, s := range t.stops() {
		fmt.Fprintf(t.out, "\n# %s\n%s\n", t.l.Text(s.title), s.curl())
		method, body := http.MethodGet, io.Reader(nil)
		if s.body != "" {
			method, body = http.MethodPost, strings.NewReader(s.body)
		}
		r, err := http.NewRequestWithContext(ctx, method, s.url, body)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		answer, err := io.ReadAll(response.Body)
		if err = errors.Join(err, response.Body.Close()); err != nil {
			return err
		}
		fmt.Fprintf(t.out, "%s %s\n", response.Proto, response.Status)
		for _, name := range []string{"Content-Type", "X-Wxproxy-Decision", "X-Wxproxy-Reason", "X-Wxproxy-Rule", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After"} {
			if value := response.Header.Get(name); value != "" {
				fmt.Fprintf(t.out, "%s: %s\n", name, value)
			}
		}
		fmt.Fprintf(t.out, "\n%s\n", answer)
		if !strings.Contains(compact(answer), s.want) {
			return words.New(words.DemoUnexpected, "url", s.url, "want", s.want)
		}
	}
	return nil
}

// compact takes the blanks out of an answer.
func compact(answer []byte) string {
	return string(bytes.Join(bytes.Fields(bytes.ReplaceAll(answer, []byte(`": `), []byte(`":`))), []byte(" ")))
}
