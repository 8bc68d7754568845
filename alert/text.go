package alert

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// Language is that of messages.
type Language string

// The languages.
const (
	English Language = "en"
	Chinese Language = "zh"
)

// manyEvents is how many events of a message have a text each. More are a list of their first lines.
const manyEvents = 5

// compose makes a message of events.
func (c Config) compose(id string, now time.Time, events []Event) outgoing {
	m := outgoing{id: id, now: now, events: events, config: c}
	first := ""
	var lines []string
	if len(events) > manyEvents {
		first = c.say(phraseMany, "count", fmt.Sprint(len(events)))
		for _, e := range events {
			lines = append(lines, "• "+c.head(e, now))
		}
	} else {
		for i, e := range events {
			switch {
			case i > 0:
				lines = append(lines, "", c.head(e, now))
			default:
				first = c.head(e, now)
			}
			lines = append(lines, c.body(e, now)...)
		}
	}
	m.head = "wxproxy " + first
	var last []string
	if link := c.link(events); link != "" {
		last = []string{link}
	}
	m.lines, m.last = append([]string{m.head}, lines...), last
	return m
}

// link is the page that shows what events are about: the account that they have in common and its rule, or the gateway. It is
// "" without a page.
func (c Config) link(events []Event) string {
	if c.Page == "" || len(events) == 0 || strings.Contains(c.Page, "#") {
		return c.Page
	}
	app, rule := events[0].AppID, events[0].Rule
	for _, e := range events[1:] {
		if e.AppID != app {
			return c.Page
		}
		if e.Rule != rule {
			rule = ""
		}
	}
	switch {
	case app == "" && events[0].Kind == Digest:
		return c.Page
	case app == "":
		return c.Page + "#/gateway"
	case rule == "":
		return c.Page + "#/app/" + url.PathEscape(cmp.Or(events[0].App, app))
	}
	return c.Page + "#/app/" + url.PathEscape(cmp.Or(events[0].App, app)) + "?rule=" + url.QueryEscape(rule)
}

// text returns the message in at most maxBytes bytes, and not more than lines that fit whole. The first line and
// the link are kept.
func (m outgoing) text(maxBytes int) string {
	left := maxBytes
	var end string
	if len(m.last) > 0 {
		end = "\n" + strings.Join(m.last, "\n")
	}
	whole := strings.Join(m.lines, "\n")
	if len(whole)+len(end) <= maxBytes {
		return whole + end
	}
	more := func(n int) string { return "\n" + m.config.say(phraseMore, "count", fmt.Sprint(n)) }
	left -= len(end) + len(more(len(m.lines)))
	if left < len(m.lines[0]) {
		return cut(m.lines[0], maxBytes)
	}
	kept := 0
	for n := 0; kept < len(m.lines); kept++ {
		if n += len(m.lines[kept]) + 1; n > left+1 {
			break
		}
	}
	return strings.Join(m.lines[:kept], "\n") + more(len(m.lines)-kept) + end
}

// cut returns text in at most maxBytes bytes and whole runes.
func cut(text string, maxBytes int) string {
	const end = "…"
	if len(text) <= maxBytes {
		return text
	}
	n := max(0, maxBytes-len(end))
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + end
}

// headOf and textOf are the texts of one event.
func (m outgoing) headOf(e Event) string { return m.config.head(e, m.now) }

func (m outgoing) textOf(e Event) string {
	return strings.Join(m.config.body(e, m.now), "\n")
}

// head is the first line of an event: what has happened, where.
func (c Config) head(e Event, now time.Time) string {
	p := heads[e.Kind]
	switch {
	case e.Over:
		p = overHeads[e.Kind]
	case e.Kind == Used && e.Used >= e.Limit:
		p = phraseFull
	case e.Kind == ClearsUsed && e.Used >= e.Limit:
		p = phraseCleared
	case e.Kind == TokenRefused && e.ErrCode == errcodeAddress:
		p = phraseAddress
	}
	text := c.say(p, c.values(e, now)...)
	if e.Again {
		text = c.say(phraseAgain, "text", text)
	}
	return text
}

// body is what follows the first line: figures, and what to do.
func (c Config) body(e Event, now time.Time) []string {
	values := c.values(e, now)
	var lines []string
	add := func(p phrase, when bool) {
		if when {
			lines = append(lines, c.say(p, values...))
		}
	}
	add(phraseSince, e.Over || e.Again)
	if e.Over {
		return lines
	}
	add(phraseMonth, e.Period == "month" && e.Limit > 0)
	add(phraseDay, e.Period == "day" && e.Limit > 0)
	add(phraseWechat, e.Wechat > 0)
	add(phraseForecast, !e.Forecast.IsZero() && e.Kind == Used)
	add(phraseCallers, len(e.Callers) > 0)
	add(phraseUntil, !e.Until.IsZero() && e.Kind == Latched)
	add(phraseNoToken, e.Kind == TokenRefused)
	add(phraseNext, !e.Until.IsZero() && e.Kind == TokenRefused)
	add(phraseExpires, !e.Expires.IsZero())
	add(phraseReason, e.Reason != "")
	for i, top := range e.Top {
		if i == 0 {
			lines = append(lines, c.say(phraseTop))
		}
		lines = append(lines, "• "+c.say(phraseTopLine, c.values(top, now)...))
	}
	add(phraseNothing, e.Kind == Digest && len(e.Top) == 0)
	for i, h := range e.Holding {
		if i == 0 {
			lines = append(lines, c.say(phraseHolding))
		}
		lines = append(lines, "• "+c.head(h, now))
	}
	p, ok := advices[e.Kind]
	switch {
	case e.Kind == Used && e.Used >= e.Limit && e.Period == "month":
		p = adviceMonth
	case e.Kind == Used && e.Used >= e.Limit:
		p = adviceFull
	case e.Kind == ClearsUsed && e.Used >= e.Limit:
		p = adviceCleared
	case e.Kind == TokenRefused && e.ErrCode == errcodeAddress:
		p = adviceAddress
	case e.Kind == TokenRefused && (e.ErrCode == 40001 || e.ErrCode == 40125 || e.ErrCode == 41004):
		p = adviceSecret
	}
	add(p, ok)
	return lines
}

// errcodeAddress is WeChat's for an address that is not in the whitelist.
const errcodeAddress = 40164

// values are the parameters of phrases.
func (c Config) values(e Event, now time.Time) []string {
	api := e.Rule
	if e.Title != "" {
		api = fmt.Sprintf("%s (%s)", e.Title, e.Rule)
	}
	if e.Path != "" {
		api += " " + e.Path
	}
	callers := make([]string, len(e.Callers))
	for i, caller := range e.Callers {
		callers[i] = fmt.Sprintf("%s %d", cmp.Or(caller.Name, c.say(phraseNoKey)), caller.Calls)
	}
	return []string{
		"app", e.App, "api", api, "rule", e.Rule, "used", fmt.Sprint(e.Used), "limit", fmt.Sprint(e.Limit), "percent", fmt.Sprint(e.percent()),
		"threshold", fmt.Sprint(e.Threshold), "reset", c.clock(e.Reset, now), "forecast", c.clock(e.Forecast, now), "until", c.clock(e.Until, now),
		"expires", c.clock(e.Expires, now), "since", c.clock(e.Since, now), "callers", strings.Join(callers, c.say(phraseComma)),
		"errcode", fmt.Sprint(e.ErrCode), "ip", e.IP, "host", e.Host, "caller", cmp.Or(e.Caller, c.say(phraseNoKey)), "dropped", fmt.Sprint(e.Dropped), "reason", e.Reason,
		"wechat", fmt.Sprint(e.Wechat), "drift", fmt.Sprint(e.Wechat - e.Used), "day", now.In(c.Zone).Format(time.DateOnly),
	}
}

// clock writes a time in the zone of the table: the hour, and the date of another day. Midnight is the end of a day.
func (c Config) clock(at, now time.Time) string {
	if at.IsZero() {
		return ""
	}
	at, now = at.In(c.Zone), now.In(c.Zone)
	if midnight := at.Truncate(time.Minute); midnight.Hour() == 0 && midnight.Minute() == 0 {
		if before := at.Add(-time.Minute); before.Format(time.DateOnly) == now.Format(time.DateOnly) {
			return "24:00"
		}
	}
	if at.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return at.Format("15:04")
	}
	return at.Format("01-02 15:04")
}

func (c Config) say(p phrase, values ...string) string {
	text := p.zh
	if c.Language == English {
		text = p.en
	}
	pairs := make([]string, len(values))
	for i, value := range values {
		if i%2 == 0 {
			value = "{" + value + "}"
		}
		pairs[i] = value
	}
	return strings.NewReplacer(pairs...).Replace(text)
}
