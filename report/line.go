package report

import (
	"encoding/json"
	"time"
)

// Line is what a report needs of one line of the access log. Its texts are parts of the line as it was
// read: they hold until the next one is.
type Line struct {
	Time     int64 // when the call came, milliseconds since 1970
	App      []byte
	AppID    []byte
	Caller   []byte
	Path     []byte
	Rule     []byte
	Decision []byte
	Reason   []byte // also empty in lines of versions that did not log it
	Status   int64
	ErrCode  int64
	Attempts int64
}

// Parser reads lines of the access log. It is for one goroutine.
type Parser struct {
	day      [10]byte // the last date, and when it began in UTC
	dayBegan int64
}

// Parse reads one line, without the end of it. It reports false for a line that is none of the access log:
// one that is not JSON, that lacks a field, or in which a name is none. The form in which the gateway writes a
// line is read directly; another order of the fields, more of them or an escape goes through encoding/json,
// with the same result.
func (p *Parser) Parse(line []byte, to *Line) bool {
	return p.scan(line, to) || parseJSON(line, to)
}

// scan reads a line in exactly the form that package proxy writes.
func (p *Parser) scan(line []byte, to *Line) bool {
	c := cursor{rest: line}
	to.Time = p.time(&c, `{"time":"`)
	c.text(`,"request_id":"`)
	c.text(`,"client_ip":"`)
	to.Caller = c.name(`,"caller":"`)
	to.App = c.name(`,"app":"`)
	to.AppID = c.name(`,"appid":"`)
	c.text(`,"method":"`)
	to.Path = c.text(`,"path":"`)
	to.Rule = c.name(`,"rule":"`)
	to.Decision = c.name(`,"decision":"`)
	to.Reason = nil
	if c.has(`,"reason":"`) {
		to.Reason = c.name(`,"reason":"`)
	}
	c.integer(`,"quota":`)
	c.integer(`,"used":`)
	c.integer(`,"remaining":`)
	c.integer(`,"reset_s":`)
	to.Status = c.integer(`,"status":`)
	to.ErrCode = c.integer(`,"errcode":`)
	c.text(`,"rid":"`)
	c.decimal(`,"duration_ms":`)
	c.decimal(`,"upstream_ms":`)
	to.Attempts = c.integer(`,"attempts":`)
	c.integer(`,"bytes_in":`)
	c.integer(`,"bytes_out":`)
	c.text(`,"user_agent":"`)
	return string(c.rest) == "}"
}

// cursor is what is left of a line. From the first fault on nothing is.
type cursor struct{ rest []byte }

func (c *cursor) has(key string) bool {
	return len(c.rest) >= len(key) && string(c.rest[:len(key)]) == key
}

// skip passes over a key and the opening quote of its value, if there is one.
func (c *cursor) skip(key string) {
	if c.has(key) {
		c.rest = c.rest[len(key):]
	} else {
		c.rest = nil
	}
}

// take returns the next n bytes and passes over one more, the closing quote.
func (c *cursor) take(n int) []byte {
	text := c.rest[:n]
	c.rest = c.rest[n+1:]
	return text
}

// text reads a string of ASCII without escapes.
func (c *cursor) text(key string) []byte {
	c.skip(key)
	for i, b := range c.rest {
		if textBytes[b] {
			continue
		}
		if b != '"' {
			break
		}
		return c.take(i)
	}
	c.rest = nil
	return nil
}

// name reads a string that has only what names, appids, decisions and reasons have.
func (c *cursor) name(key string) []byte {
	c.skip(key)
	for i, b := range c.rest {
		if nameBytes[b] {
			continue
		}
		if b != '"' || i > maxName {
			break
		}
		return c.take(i)
	}
	c.rest = nil
	return nil
}

// integer reads a whole number of at most 18 digits.
func (c *cursor) integer(key string) int64 {
	c.skip(key)
	negative := len(c.rest) > 0 && c.rest[0] == '-'
	if negative {
		c.rest = c.rest[1:]
	}
	var n int64
	digits := 0
	for ; digits < len(c.rest) && c.rest[digits]-'0' <= 9; digits++ {
		n = n*10 + int64(c.rest[digits]-'0')
	}
	if digits == 0 || digits > 18 || digits > 1 && c.rest[0] == '0' {
		c.rest = nil
		return 0
	}
	c.rest = c.rest[digits:]
	if negative {
		return -n
	}
	return n
}

// decimal passes over a number that may have digits after the point.
func (c *cursor) decimal(key string) {
	c.integer(key)
	if len(c.rest) == 0 || c.rest[0] != '.' {
		return
	}
	digits := 1
	for digits < len(c.rest) && c.rest[digits]-'0' <= 9 {
		digits++
	}
	if digits == 1 {
		c.rest = nil
		return
	}
	c.rest = c.rest[digits:]
}

// time reads 2006-01-02T15:04:05.000+08:00 or ...Z. Lines of the same date share what is worked out of it.
func (p *Parser) time(c *cursor, key string) int64 {
	c.skip(key)
	text := c.text("")
	const milli = len("2006-01-02T15:04:05.000")
	if len(text) <= milli || text[10] != 'T' || text[13] != ':' || text[16] != ':' || text[19] != '.' {
		c.rest = nil
		return 0
	}
	if string(text[:10]) != string(p.day[:]) && !p.setDay(text[:10]) {
		c.rest = nil
		return 0
	}
	hour, minute, second := twoDigits(text[11:]), twoDigits(text[14:]), twoDigits(text[17:])
	hundredths, last := twoDigits(text[20:]), int64(text[22])-'0'
	offset, ok := zoneOffset(text[milli:])
	if !ok || hour > 23 || minute > 59 || second > 59 || hundredths > 99 || last < 0 || last > 9 {
		c.rest = nil
		return 0
	}
	return p.dayBegan + ((hour*60+minute-offset)*60+second)*1000 + hundredths*10 + last
}

// setDay works out when a date begins.
func (p *Parser) setDay(text []byte) bool {
	day, err := time.Parse(time.DateOnly, string(text))
	if err != nil {
		return false
	}
	copy(p.day[:], text)
	p.dayBegan = day.UnixMilli()
	return true
}

// zoneOffset reads Z or +08:00, in minutes.
func zoneOffset(text []byte) (int64, bool) {
	if len(text) == 1 && text[0] == 'Z' {
		return 0, true
	}
	if len(text) != len("+08:00") || text[0] != '+' && text[0] != '-' || text[3] != ':' {
		return 0, false
	}
	hour, minute := twoDigits(text[1:]), twoDigits(text[4:])
	if hour > 23 || minute > 59 {
		return 0, false
	}
	offset := hour*60 + minute
	if text[0] == '-' {
		offset = -offset
	}
	return offset, true
}

// twoDigits returns the number that the first two bytes are, and one above 99 if they are none.
func twoDigits(text []byte) int64 {
	high, low := text[0]-'0', text[1]-'0'
	if high > 9 || low > 9 {
		return 100
	}
	return int64(high)*10 + int64(low)
}

// maxName is how long a name, an appid, a decision or a reason may be, in bytes.
const maxName = 64

// textBytes are those that stand for themselves in a JSON string; nameBytes those of names.
var textBytes, nameBytes = func() (text, name [256]bool) {
	for b := range 256 {
		c := byte(b)
		text[b] = c >= ' ' && c < 0x7f && c != '"' && c != '\\'
		name[b] = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
	}
	return text, name
}()

// jsonLine is a line as encoding/json reads it. What each version has written must be there.
type jsonLine struct {
	Time      *string  `json:"time"`
	RequestID *string  `json:"request_id"`
	ClientIP  *string  `json:"client_ip"`
	Caller    *string  `json:"caller"`
	App       *string  `json:"app"`
	AppID     *string  `json:"appid"`
	Method    *string  `json:"method"`
	Path      *string  `json:"path"`
	Rule      *string  `json:"rule"`
	Decision  *string  `json:"decision"`
	Reason    string   `json:"reason"`
	Status    *int64   `json:"status"`
	ErrCode   *int64   `json:"errcode"`
	Duration  *float64 `json:"duration_ms"`
	Attempts  *int64   `json:"attempts"`
}

func parseJSON(line []byte, to *Line) bool {
	var l jsonLine
	if json.Unmarshal(line, &l) != nil || l.Time == nil || l.RequestID == nil || l.ClientIP == nil || l.Caller == nil || l.App == nil ||
		l.AppID == nil || l.Method == nil || l.Path == nil || l.Rule == nil || l.Decision == nil || l.Status == nil || l.ErrCode == nil ||
		l.Duration == nil || l.Attempts == nil {
		return false
	}
	at, err := time.Parse(time.RFC3339, *l.Time)
	if err != nil {
		return false
	}
	for _, name := range []string{*l.Caller, *l.App, *l.AppID, *l.Rule, *l.Decision, l.Reason} {
		if !isName(name) {
			return false
		}
	}
	*to = Line{
		Time: at.UnixMilli(), App: []byte(*l.App), AppID: []byte(*l.AppID), Caller: []byte(*l.Caller), Path: []byte(*l.Path),
		Rule: []byte(*l.Rule), Decision: []byte(*l.Decision), Reason: []byte(l.Reason),
		Status: *l.Status, ErrCode: *l.ErrCode, Attempts: *l.Attempts,
	}
	return true
}

// isName reports whether a text may be printed as a name; "" is that of none.
func isName(text string) bool {
	for i := range len(text) {
		if !nameBytes[text[i]] {
			return false
		}
	}
	return len(text) <= maxName
}
