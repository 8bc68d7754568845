package proxy

import (
	"bytes"
	"html"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.uber.org/zap"
)

// leading are the fields of an answer that name where to go next, or that a client keeps and shows again.
// What they hold is often taken from the request, and so may be the account's token or secret.
var leading = [...]string{"Location", "Content-Location", "Refresh", "Link", "Set-Cookie"}

// maxRedirect bounds what is read of the body of a redirect, in bytes. One that is longer is not passed on.
const maxRedirect = 64 << 10

// redact takes out of an answer's header the leading fields that hold one of the secrets, and reports
// whether it did. Secrets that are "" are none.
func redact(header http.Header, secrets ...string) (found bool) {
	for _, name := range leading {
		for _, value := range header[name] {
			if holds(value, secrets...) {
				delete(header, name)
				found = true
				break
			}
		}
	}
	return found
}

// redact takes out of WeChat's answer what would hand out the account's token or secret: the leading fields
// of its header that hold one, and a redirect's body, unless it is short, plain and free of them. A redirect
// is nothing that WeChat's APIs answer with, and what makes one repeats the URL that was called.
func (c *call) redact(res *http.Response) {
	secrets := [2]string{c.token}
	if c.secretName != "" {
		secrets[1] = c.h.tokens.Secret(c.app.AppID)
	}
	found := redact(res.Header, secrets[:]...)
	if res.StatusCode < 300 || res.StatusCode > 399 || secrets == [2]string{} {
		return
	}
	if !found && res.Header.Get("Content-Encoding") == "" {
		text, err := io.ReadAll(io.LimitReader(res.Body, maxRedirect+1))
		c.rec.BytesOut -= int64(len(text)) // counted as they were read; they are read again
		if err == nil && len(text) <= maxRedirect && !holds(string(text), secrets[:]...) {
			res.Body = &reread{Reader: bytes.NewReader(text), c: c, left: len(text), Closer: res.Body}
			return
		}
	}
	c.answer.discard()
	res.Body, res.ContentLength = http.NoBody, 0
	for _, name := range []string{"Content-Length", "Content-Type", "Content-Encoding"} {
		delete(res.Header, name)
	}
}

// maxEscapes is how often a text may be escaped, one way over another. More is taken for a secret: no honest
// redirect does it.
const maxEscapes = 8

// holds reports whether a text holds one of the secrets, as it is or in any of the forms that unescape
// reads, one over another.
func holds(text string, secrets ...string) bool {
	for range maxEscapes {
		plain := unescape(text)
		for _, secret := range secrets {
			// A secret may itself look escaped, and then is read too far in an escaped text.
			if secret != "" && (strings.Contains(text, secret) || plain == text && strings.Contains(text, unescapeAll(secret))) {
				return true
			}
		}
		if plain == text {
			return false
		}
		text = plain
	}
	return true
}

func unescapeAll(text string) string {
	for plain := unescape(text); plain != text; plain = unescape(text) {
		text = plain
	}
	return text
}

// escaped is a byte or character as a URL (%41, %u0041), JSON and JavaScript (\u0041, \u{41}, \x41, \/) and
// HTML (&#65;, &#x41;, &amp;) write it.
var escaped = regexp.MustCompile(`%u[0-9A-Fa-f]{4}|%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\u\{[0-9A-Fa-f]{1,6}\}|\\x[0-9A-Fa-f]{2}|\\/|&#?[0-9A-Za-z]+;?`)

// unescape takes one escape off each place of a text that has one. It returns the text itself if there is
// none.
func unescape(text string) string {
	if !strings.ContainsAny(text, `%\&`) {
		return text
	}
	return escaped.ReplaceAllStringFunc(text, func(at string) string {
		switch {
		case at == `\/`:
			return "/"
		case at[0] == '&':
			return html.UnescapeString(at)
		}
		n, err := strconv.ParseUint(strings.Trim(at, `%ux\{}`), 16, 32)
		switch {
		case err != nil:
			return at
		case n < utf8.RuneSelf || at[1] == 'x' || at[0] == '%' && at[1] != 'u':
			return string([]byte{byte(n)})
		}
		return string(rune(n))
	})
}

// secretForm is what WeChat's AppSecrets look like.
var secretForm = regexp.MustCompile(`^[0-9A-Fa-f]{32}$`)

// brokenOff is the log of ReverseProxy, which reports an answer whose body breaks off. The text is left
// out: it quotes what net/http could not read, which may hold anything.
type brokenOff struct{ log *zap.Logger }

func (b brokenOff) Write(text []byte) (int, error) {
	b.log.Warn("an answer of WeChat's broke off")
	return len(text), nil
}
