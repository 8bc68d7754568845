package alert

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// The record of a fleet is changed by pure functions here: each change may be computed several times before the
// store takes it. Times are Unix milliseconds.

const (
	// fleet stands in the place of an appid, which begins with a letter.
	fleet     = "_alerts"
	recordKey = "record"
	senderKey = "sender" // of the lease
	claimsKey = "alerts" // of an app's claims

	recordExpiry = 30 * 24 * time.Hour

	maxQueue   = 200  // events that no sink has yet
	maxHolding = 1000 // conditions
	maxKnown   = 500  // ids
	knownFor   = 10 * time.Minute
	endedFor   = time.Hour

	perMinute   = 15 // messages of a sink: WeCom and DingTalk take 20, and DingTalk is silent for ten minutes after more
	maxAttempts = 6
	maxUnknown  = 2 // attempts that may have been delivered
)

// retryAfter is how long to wait after the first, second, ... failed attempt.
var retryAfter = []time.Duration{5 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour}

// record is what the gateways of a fleet share.
type record struct {
	Holding map[string]*holding  `json:"holding"`         // by condition
	Ended   map[string]int64     `json:"ended,omitempty"` // conditions that ended within endedFor
	Queue   []*queued            `json:"queue,omitempty"` // oldest first
	Known   []knownID            `json:"known,omitempty"` // of events that were queued within knownFor
	Sinks   map[string]*progress `json:"sinks"`
	Day     string               `json:"day,omitempty"`  // of the last digest
	List    []*listed            `json:"list,omitempty"` // the last events, oldest first
}

// holding is a condition that holds.
type holding struct {
	Event    Event `json:"event"`
	Messaged int64 `json:"messaged_ms"`    // when an event about it was queued last
	Calm     bool  `json:"calm,omitempty"` // no event was queued, because the last one ended a moment ago
}

// queued is an event that some sinks do not have yet.
type queued struct {
	ID    string   `json:"id"`
	Event Event    `json:"event"`
	At    int64    `json:"at_ms"`
	Left  []string `json:"left"` // names of sinks
}

type knownID struct {
	ID string `json:"id"`
	At int64  `json:"at_ms"`
}

// progress is how far a sink is.
type progress struct {
	Message  *message `json:"message,omitempty"`  // being sent
	Starts   []int64  `json:"starts,omitempty"`   // of the attempts of the last minute
	After    int64    `json:"after_ms,omitempty"` // no attempt before: the sink asked for it
	Silenced string   `json:"silenced,omitempty"` // the fingerprint of the configuration that was refused for good
	Code     string   `json:"code,omitempty"`     // of that refusal
	Taken    int64    `json:"taken_ms,omitempty"` // when the sink took a message last
	Fault    *fate    `json:"fault,omitempty"`    // of the last attempt, if it failed
	Tried    string   `json:"tried,omitempty"`    // the fingerprint of the configuration that Taken and Fault are about
}

// message is what one attempt sends to one sink. Another attempt sends the same under the same id.
type message struct {
	ID       string   `json:"id"`
	Events   []string `json:"events"` // ids in the queue
	Attempts int      `json:"attempts"`
	Unknown  int      `json:"unknown,omitempty"` // attempts of which it is not known whether they were delivered
	Holder   string   `json:"holder,omitempty"`  // who sends it now
	Until    int64    `json:"until_ms,omitempty"`
	Next     int64    `json:"next_ms,omitempty"` // no attempt before
}

func parseRecord(raw []byte) *record {
	r := new(record)
	if json.Unmarshal(raw, r) != nil {
		*r = record{}
	}
	if r.Holding == nil {
		r.Holding = make(map[string]*holding)
	}
	if r.Ended == nil {
		r.Ended = make(map[string]int64)
	}
	if r.Sinks == nil {
		r.Sinks = make(map[string]*progress)
	}
	r.Queue = slices.DeleteFunc(r.Queue, func(q *queued) bool { return q == nil })
	r.List = slices.DeleteFunc(r.List, func(l *listed) bool { return l == nil })
	maps.DeleteFunc(r.Holding, func(_ string, h *holding) bool { return h == nil })
	maps.DeleteFunc(r.Sinks, func(_ string, p *progress) bool { return p == nil })
	return r
}

// outcome is what became of an event at a sink.
type outcome struct {
	kind   Kind
	sink   string
	result Result
}

// change is one change of a record: its time, the sinks of the gateway that makes it, and what is to be counted
// once the store has taken it.
type change struct {
	now      time.Time
	sinks    []sink
	outcomes []outcome
}

func (c *change) count(kind Kind, sink string, r Result) {
	c.outcomes = append(c.outcomes, outcome{kind, sink, r})
}

// enqueue adds an event for each sink that takes it. One that was queued within knownFor is not queued again.
func (r *record) enqueue(c *change, id string, e Event) {
	if slices.ContainsFunc(r.Known, func(k knownID) bool { return k.ID == id }) {
		return
	}
	r.Known = append(r.Known, knownID{id, c.now.UnixMilli()})
	q := &queued{ID: id, Event: e, At: c.now.UnixMilli()}
	r.list(c, id, e)
	for _, s := range c.sinks {
		switch {
		case !s.takes(e.Kind):
		case r.silenced(s):
			r.became(c, q, s.Name, Dropped, errSilenced)
		default:
			q.Left = append(q.Left, s.Name)
		}
	}
	if len(q.Left) > 0 {
		r.Queue = append(r.Queue, q)
	}
	for len(r.Queue) > maxQueue {
		r.drop(c, r.Queue[0])
	}
}

// drop removes an event that some sinks did not get.
func (r *record) drop(c *change, q *queued) {
	for _, name := range q.Left {
		r.became(c, q, name, Dropped, errQueueFull)
	}
	q.Left = nil
	r.sweep()
}

// sweep removes events that every sink has, and messages without any event.
func (r *record) sweep() {
	r.Queue = slices.DeleteFunc(r.Queue, func(q *queued) bool { return len(q.Left) == 0 })
	for name, p := range r.Sinks {
		if p.Message != nil && len(r.events(name, p.Message)) == 0 {
			p.Message = nil
		}
	}
}

// events returns those of a message that its sink does not have yet.
func (r *record) events(sink string, m *message) []*queued {
	var found []*queued
	for _, q := range r.Queue {
		if slices.Contains(m.Events, q.ID) && slices.Contains(q.Left, sink) {
			found = append(found, q)
		}
	}
	return found
}

func (r *record) silenced(s sink) bool {
	p := r.Sinks[s.Name]
	return p != nil && p.Silenced == s.print
}

// notice takes an event of a gateway: it begins or ends a condition, or happened. told means that its gateway has sent
// it by itself.
func (r *record) notice(c *change, e Event, told bool, calm time.Duration) {
	if !e.Kind.isCondition() {
		if !told {
			r.enqueue(c, e.id(0), e)
		}
		return
	}
	now, key := c.now.UnixMilli(), e.condition()
	h := r.Holding[key]
	switch {
	case e.Over && h == nil:
	case e.Over:
		delete(r.Holding, key)
		r.Ended[key] = e.At.UnixMilli()
		if !h.Calm && !told {
			e.Since = h.Event.At
			e = e.within(h.Event)
			r.enqueue(c, e.id(0), e)
		}
	case h != nil:
		h.Event.Until = later(h.Event.Until, e.Until)
	case r.Ended[key] >= e.At.UnixMilli() || len(r.Holding) >= maxHolding:
	case !told && c.now.Sub(time.UnixMilli(r.Ended[key])) < calm:
		r.Holding[key] = &holding{Event: e, Messaged: now, Calm: true}
	default:
		r.Holding[key] = &holding{Event: e, Messaged: now}
		if !told {
			r.enqueue(c, e.id(0), e)
		}
	}
}

// within fills in what an event that ends a condition leaves out.
func (e Event) within(began Event) Event {
	e.App, e.Title = cmp.Or(e.App, began.App), cmp.Or(e.Title, began.Title)
	e.Host, e.ErrCode, e.IP = cmp.Or(e.Host, began.Host), cmp.Or(e.ErrCode, began.ErrCode), cmp.Or(e.IP, began.IP)
	return e
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// remind queues what is due of the conditions that hold: those that returned too soon to be messaged, and
// reminders; 0 is none. Conditions that have ended by themselves are removed.
func (r *record) remind(c *change, calm, remind time.Duration) {
	for _, key := range slices.Sorted(maps.Keys(r.Holding)) {
		h := r.Holding[key]
		waited := c.now.Sub(time.UnixMilli(h.Messaged))
		switch {
		case h.Event.Kind != TokenRefused && !h.Event.Until.IsZero() && !c.now.Before(h.Event.Until):
			delete(r.Holding, key)
			continue
		case h.Calm && waited >= calm:
			h.Calm = false
			r.enqueue(c, h.Event.id(0), h.Event)
		case !h.Calm && remind > 0 && waited >= remind:
			e := h.Event
			e.Again, e.Since, e.At = true, h.Event.At, c.now
			r.enqueue(c, e.id(0), e)
		default:
			continue
		}
		h.Messaged = c.now.UnixMilli()
	}
}

// retain drops the conditions of apps that are not served any more, since nothing would end them, and what waits and is
// listed of such apps.
func (r *record) retain(c *change, serves func(appid string) bool) {
	gone := func(e Event) bool { return e.AppID != "" && !serves(e.AppID) }
	maps.DeleteFunc(r.Holding, func(_ string, h *holding) bool { return gone(h.Event) })
	r.List = slices.DeleteFunc(r.List, func(l *listed) bool { return gone(l.Event) })
	for _, q := range slices.Clone(r.Queue) {
		if gone(q.Event) {
			r.drop(c, q)
		}
	}
}

// tidy removes what is too old to be of use, and sinks that are not configured any more.
func (r *record) tidy(c *change) {
	now := c.now.UnixMilli()
	maps.DeleteFunc(r.Ended, func(_ string, at int64) bool { return now-at >= endedFor.Milliseconds() })
	r.Known = slices.DeleteFunc(r.Known, func(k knownID) bool { return now-k.At >= knownFor.Milliseconds() })
	if n := len(r.Known) - maxKnown; n > 0 {
		r.Known = slices.Clone(r.Known[n:])
	}
	configured := func(name string) bool {
		return slices.ContainsFunc(c.sinks, func(s sink) bool { return s.Name == name })
	}
	for _, q := range r.Queue {
		q.Left = slices.DeleteFunc(q.Left, func(name string) bool { return !configured(name) })
	}
	maps.DeleteFunc(r.Sinks, func(name string, p *progress) bool { return !configured(name) && len(p.Starts) == 0 })
	for _, p := range r.Sinks {
		p.Starts = slices.DeleteFunc(p.Starts, func(at int64) bool { return now-at >= time.Minute.Milliseconds() })
	}
	r.sweep()
}

// delivery is one attempt that was begun.
type delivery struct {
	sink   sink
	id     string
	events []Event
}

// begin begins an attempt for a sink that has something to get and may get it now.
func (r *record) begin(c *change, s sink, holder string, t timing) (d delivery, ok bool) {
	now := c.now.UnixMilli()
	p := r.Sinks[s.Name]
	if p == nil {
		p = new(progress)
	}
	if r.silenced(s) || now < p.After || s.avoids(c.now) {
		return d, false
	}
	if p.Message != nil && p.Message.Holder != "" && now >= p.Message.Until {
		p.Message.Holder = "" // its gateway was killed
		if p.Message.Unknown++; p.Message.Unknown >= maxUnknown {
			r.give(c, s.Name, p, Dropped, errUnknown)
		}
	}
	if p.Message == nil {
		p.Message = r.gather(c, s.Name, t)
	}
	if m := p.Message; m == nil || m.Holder != "" || now < m.Next || !p.mayStart(now, t) {
		if p.Message != nil && p.Message.Attempts == 0 {
			p.Message = nil // gathered for the next time
		}
		return d, false
	}
	r.Sinks[s.Name] = p
	p.start(now)
	m := p.Message
	m.Attempts++
	m.Holder, m.Until = holder, now+(t.attempt+t.lease).Milliseconds()
	d = delivery{sink: s, id: m.ID}
	for _, q := range r.events(s.Name, m) {
		d.events = append(d.events, q.Event)
	}
	return d, true
}

// mayStart reports whether the sink's own limits leave room for an attempt.
func (p *progress) mayStart(now int64, t timing) bool {
	last, n := int64(0), 0
	for _, at := range p.Starts {
		if last = max(last, at); now-at < time.Minute.Milliseconds() {
			n++
		}
	}
	return n < perMinute && now-last >= t.merge.Milliseconds()
}

func (p *progress) start(now int64) { p.Starts = append(p.Starts, now) }

// gather makes the next message of a sink, or returns nil.
func (r *record) gather(c *change, sink string, t timing) *message {
	m := &message{}
	ready := false
	for _, q := range r.Queue {
		if slices.Contains(q.Left, sink) {
			m.Events = append(m.Events, q.ID)
			ready = ready || c.now.UnixMilli()-q.At >= t.hold.Milliseconds()
		}
	}
	if !ready {
		return nil
	}
	m.ID = messageID(sink + "|" + strings.Join(m.Events, "|"))
	return m
}

// messageID makes an id of what a message is about.
func messageID(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "msg_" + hex.EncodeToString(sum[:16])
}

// end takes what became of an attempt; err is nil when the sink has the message.
func (r *record) end(c *change, d delivery, err *SendError) {
	p := r.Sinks[d.sink.Name]
	if p == nil || p.Message == nil || p.Message.ID != d.id {
		return // another gateway has taken it over
	}
	m := p.Message
	m.Holder, m.Until = "", 0
	p.tried(c, d.sink, err)
	switch {
	case err == nil:
		r.give(c, d.sink.Name, p, Sent, nil)
		return
	case err.Silence:
		p.Silenced, p.Code = d.sink.print, err.Code
		r.give(c, d.sink.Name, p, Refused, err)
		for _, q := range r.Queue {
			if i := slices.Index(q.Left, d.sink.Name); i >= 0 {
				q.Left = slices.Delete(q.Left, i, i+1)
				r.became(c, q, d.sink.Name, Dropped, errSilenced)
			}
		}
		r.sweep()
		return
	case err.Refused:
		r.give(c, d.sink.Name, p, Refused, err)
		return
	}
	for _, q := range r.events(d.sink.Name, m) {
		r.became(c, q, d.sink.Name, Failed, err)
	}
	if err.Unknown {
		m.Unknown++
	}
	if m.Attempts >= maxAttempts || m.Unknown >= maxUnknown {
		r.give(c, d.sink.Name, p, Dropped, err)
		return
	}
	m.Next = c.now.Add(retryAfter[min(m.Attempts, len(retryAfter))-1]).UnixMilli()
	if err.Wait > 0 {
		p.After = c.now.Add(err.Wait).UnixMilli()
		m.Next = p.After
	}
}

// give ends the message of a sink: its events are counted, and need not go there any more. err is why, nil for Sent.
func (r *record) give(c *change, sink string, p *progress, result Result, err *SendError) {
	for _, q := range r.events(sink, p.Message) {
		r.became(c, q, sink, result, err)
		q.Left = slices.DeleteFunc(q.Left, func(name string) bool { return name == sink })
	}
	p.Message = nil
	r.sweep()
}
