package proxy

import (
	"bytes"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"wxproxy/wechat"
)

// A caller's key is known by its value, so it can be kept from WeChat and from the log where it was put into
// a wrong place, however short it is. Where a call would carry it to WeChat the call is refused. A header is
// left out instead: it is nothing that WeChat reads.

// misplaced refuses a call for a key in a wrong place.
func misplaced() *ownAnswer { return refuse(MisplacedKey, wechat.Unauthorized) }

// isKey reports whether a text is a caller's key.
func (s *settings) isKey(text string) bool {
	_, ok := s.Identity.Caller(text)
	return ok
}

// holdsKey reports whether a segment of a path is a caller's key.
func (c *call) holdsKey(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if c.s.isKey(segment) {
			return true
		}
	}
	return false
}

// scrub makes a client's text fit for the log, with * for every word that is a caller's key.
func (s *settings) scrub(text string) string {
	if s.isKey(text) {
		return "*"
	}
	for _, between := range [...]string{" ", "/"} {
		for word := range strings.SplitSeq(text, between) {
			if s.isKey(word) {
				text = strings.ReplaceAll(text, word, "*")
			}
		}
	}
	return scrub(text)
}

// showsKey reports whether a header's value is a caller's key, be it behind a scheme.
func (s *settings) showsKey(values []string) bool {
	for _, value := range values {
		if s.isKey(value) || s.isKey(value[strings.LastIndexByte(value, ' ')+1:]) {
			return true
		}
	}
	return false
}

// checkParameter refuses a parameter of the query whose name or value is a caller's key, in any part of it: keys may
// hold an equals sign.
func (c *call) checkParameter(parameter string) *ownAnswer {
	name, value, _ := strings.Cut(parameter, "=")
	_, behind, _ := strings.Cut(value, "=") // as in access_token=n=TOKEN
	for _, text := range [...]string{parameter, name, value, behind} {
		if c.s.isKey(text) {
			return misplaced()
		}
		if strings.ContainsAny(text, "%+") {
			if plain, _ := url.QueryUnescape(text); c.s.isKey(plain) { // queryParses has read it
				return misplaced()
			}
		}
	}
	return nil
}

// checkBody refuses a key in the body of a call that carries a secret there: a body is never changed, so the
// key would reach WeChat. A wrong secret of clear_quota/v2 is not sent either.
func (c *call) checkBody() *ownAnswer {
	if c.body.size == 0 || secretParameter(c.path) == "" && c.takes != wechat.PlatformToken {
		return nil
	}
	if c.body.media != nil { // no secret is that long
		return refuse(BodyTooLarge, wechat.InvalidParameter)
	}
	if slices.ContainsFunc(texts(c.body.memory), c.s.isKey) {
		return misplaced()
	}
	var ask struct {
		AppID  string `json:"appid"`
		Secret string `json:"appsecret"`
	}
	if !wechat.SamePath(c.path, wechat.ClearV2Path) || json.Unmarshal(c.body.memory, &ask) != nil || ask.Secret == "" || c.s.byID[ask.AppID] == nil {
		return nil
	}
	switch _, _, err := c.s.Identity.Issue(ask.AppID, ask.Secret, c.began); {
	case err != nil:
		return denied(err)
	case ask.AppID != c.app.AppID:
		return refuse(Contradiction, wechat.Unauthorized)
	}
	return nil
}

// texts returns the strings in a body of JSON, up to where it is none, and the values of one of a form.
func texts(body []byte) (found []string) {
	for decoder := json.NewDecoder(bytes.NewReader(body)); ; {
		token, err := decoder.Token()
		if err != nil {
			break
		}
		if text, ok := token.(string); ok {
			found = append(found, text)
		}
	}
	form, _ := url.ParseQuery(string(body)) // what can be read of it
	for _, values := range form {
		found = append(found, values...)
	}
	return found
}
