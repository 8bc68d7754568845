package alert

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"
)

// The list of the last events is part of the record: what became of an event is written by the change that ends its
// way to a sink, so that no gateway can be killed between the two. It is bounded, because the sender reads the record
// every two seconds.

const (
	maxListed  = 100
	maxReason  = 200 // bytes of a reason that are listed
	maxCallers = 3
)

// listed is an event that was queued, and what became of it.
type listed struct {
	ID    string           `json:"id"`
	Event Event            `json:"event"`
	At    int64            `json:"at_ms"`
	Sinks map[string]*fate `json:"sinks"` // by name; one that has not been tried is not here
}

// fate is what became of an event at a sink. It holds no URL and no secret.
type fate struct {
	Result Result `json:"result"`
	Code   string `json:"code,omitempty"`
	Text   string `json:"text,omitempty"`
	At     int64  `json:"at_ms"`
}

// Why events are dropped.
var (
	errSilenced  = &SendError{Text: "the sink is silenced: it has refused a message for good"}
	errQueueFull = &SendError{Text: "too many alerts wait"}
	errUnknown   = &SendError{Text: "it may have been delivered: the gateway that sent it has ended", Unknown: true}
)

func newFate(now time.Time, result Result, err *SendError) *fate {
	f := &fate{Result: result, At: now.UnixMilli()}
	if err != nil {
		f.Code, f.Text = err.Code, err.Text
	}
	return f
}

// list adds an event to the list, without what only its message needs. It returns the entry.
func (r *record) list(c *change, id string, e Event) *listed {
	e.Top, e.Holding = nil, nil
	e.Callers = e.Callers[:min(len(e.Callers), maxCallers)]
	e.Reason = cut(e.Reason, maxReason)
	l := &listed{ID: id, Event: e, At: c.now.UnixMilli(), Sinks: make(map[string]*fate)}
	r.List = append(r.List, l)
	if n := len(r.List) - maxListed; n > 0 {
		r.List = slices.Clone(r.List[n:])
	}
	return l
}

// became counts and lists what became of an event at a sink.
func (r *record) became(c *change, q *queued, sink string, result Result, err *SendError) {
	c.count(q.Event.Kind, sink, result)
	for _, l := range slices.Backward(r.List) {
		if l.ID == q.ID {
			l.Sinks[sink] = newFate(c.now, result, err)
			return
		}
	}
}

// tried notes how an attempt ended; err is nil when the sink has the message.
func (p *progress) tried(c *change, s sink, err *SendError) {
	if p.Tried != s.print {
		p.Taken, p.Tried = 0, s.print
	}
	p.Fault = nil
	if err != nil {
		p.Fault = newFate(c.now, Failed, err)
	} else {
		p.Taken = c.now.UnixMilli()
	}
}

// List is the last events and the state of each sink.
type List struct {
	Alerts []Listed    // newest first
	Sinks  []SinkState // in the order of the configuration
	Err    error       // of the store: the list is what this gateway has seen last
}

// Listed is an event that was to be sent, and what became of it at each sink that takes it.
type Listed struct {
	Event Event
	At    time.Time // when it was queued
	Sinks []Fate    // by name
}

// Fate is what became of an event at a sink.
type Fate struct {
	Sink   string
	Result Result    // Sent, Refused, Dropped; Failed: it is tried again; Waiting
	Why    string    // what the sink answered, or why nothing was sent
	At     time.Time // zero: it waits
}

// Waiting is the result of an event that a sink has not been sent yet.
const Waiting Result = "waiting"

// SinkState is how far a sink is.
type SinkState struct {
	Sink, Type string
	State      State
	Why        string    // Faulty, Off: what it answered
	Taken      time.Time // the last message; zero: none with this configuration
	Tried      time.Time // Faulty, Off: the last attempt
	Next       time.Time // no attempt before; zero: at once
	Waiting    int       // events
}

// State is the state of a sink.
type State string

// The states.
const (
	Unused State = "unused" // nothing was sent with this configuration
	Good   State = "good"
	Faulty State = "failing"  // the last attempt failed
	Off    State = "silenced" // it has refused for good: nothing is sent to it
)

// List returns the last events of the fleet. While the store is unavailable it is what this gateway has seen last, and
// what it has sent by itself since.
func (a *Alerts) List(ctx context.Context) List {
	raw, err := a.o.Store.Get(ctx, fleet, recordKey)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		a.last = parseRecord(raw)
	} else if a.last != nil {
		raw, _ = json.Marshal(a.last) // it was read from JSON
	}
	r, c := parseRecord(raw), &change{now: time.Now(), sinks: a.sinks}
	for _, p := range a.local {
		r.listDirect(c, p)
	}
	l := r.view(a.sinks)
	l.Err = err
	return l
}

// Forget removes what the record of the fleet holds of an app. The app's own values have its claims.
func (a *Alerts) Forget(ctx context.Context, appid string) error {
	if raw, err := a.o.Store.Get(ctx, fleet, recordKey); err != nil || len(raw) == 0 {
		return err
	}
	return a.update(ctx, func(r *record, c *change) { r.retain(c, func(other string) bool { return other != appid }) })
}

// listDirect lists an event that its gateway has sent, or has tried to, without the store.
func (r *record) listDirect(c *change, p pending) {
	if len(p.fates) == 0 {
		return
	}
	l := r.list(c, p.event.id(0), p.event)
	for name, f := range p.fates {
		l.At = max(l.At, f.At)
		if l.Sinks[name] = f; f.Result == Failed && p.told { // another sink has it, so it is not tried again
			l.Sinks[name] = &fate{Dropped, f.Code, f.Text, f.At}
		}
	}
	for _, s := range c.sinks {
		f := p.fates[s.Name]
		if f == nil {
			continue
		}
		if r.Sinks[s.Name] == nil {
			r.Sinks[s.Name] = new(progress)
		}
		at := &change{now: time.UnixMilli(f.At)}
		switch f.Result {
		case Dropped: // nothing was sent
		case Sent:
			r.Sinks[s.Name].tried(at, s, nil)
		default:
			r.Sinks[s.Name].tried(at, s, &SendError{Code: f.Code, Text: f.Text})
		}
	}
}

// view is the record as it is shown.
func (r *record) view(sinks []sink) List {
	var v List
	for _, l := range slices.Backward(r.List) {
		shown := Listed{Event: l.Event, At: time.UnixMilli(l.At)}
		for name, f := range l.Sinks {
			if f != nil {
				shown.Sinks = append(shown.Sinks, Fate{name, f.Result, f.why(), time.UnixMilli(f.At)})
			}
		}
		for _, q := range r.Queue {
			for _, name := range q.Left {
				if q.ID == l.ID && l.Sinks[name] == nil {
					shown.Sinks = append(shown.Sinks, Fate{Sink: name, Result: Waiting})
				}
			}
		}
		slices.SortFunc(shown.Sinks, func(a, b Fate) int { return cmp.Compare(a.Sink, b.Sink) })
		v.Alerts = append(v.Alerts, shown)
	}
	slices.SortStableFunc(v.Alerts, func(a, b Listed) int { return b.At.Compare(a.At) })
	for _, s := range sinks {
		v.Sinks = append(v.Sinks, r.stateOf(s))
	}
	return v
}

func (f *fate) why() string { return (&SendError{Code: f.Code, Text: f.Text}).Error() }

func (r *record) stateOf(s sink) SinkState {
	v := SinkState{Sink: s.Name, Type: s.Type, State: Unused}
	for _, q := range r.Queue {
		if slices.Contains(q.Left, s.Name) {
			v.Waiting++
		}
	}
	p := r.Sinks[s.Name]
	if p == nil || p.Tried != s.print {
		return v
	}
	if p.Taken > 0 {
		v.State, v.Taken = Good, time.UnixMilli(p.Taken)
	}
	if p.Fault != nil {
		v.State, v.Why, v.Tried = Faulty, p.Fault.why(), time.UnixMilli(p.Fault.At)
		if r.silenced(s) {
			v.State = Off
		} else if p.Message != nil && p.Message.Next > 0 {
			v.Next = time.UnixMilli(p.Message.Next)
		}
	}
	return v
}
