package alert

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// errWebhookSecret is what is wrong with a secret of a webhook.
var errWebhookSecret = errors.New("no secret of a webhook: want whsec_ and base64 of 24 to 64 bytes")

// ErrUnknownSink is the error of Test for a name that no sink has.
var ErrUnknownSink = errors.New("no such sink")

// update changes the record of the fleet, and counts what came of it once the store has taken it.
func (a *Alerts) update(ctx context.Context, do func(r *record, c *change)) error {
	_, sinks := a.settings()
	was, err := a.o.Store.Get(ctx, fleet, recordKey)
	if err != nil {
		return err
	}
	var c *change
	var r *record
	err = a.o.Store.Update(ctx, fleet, recordKey, was, func(present []byte) ([]byte, time.Duration, error) {
		c = &change{now: time.Now(), sinks: sinks}
		r = parseRecord(present)
		do(r, c)
		r.tidy(c)
		next, err := json.Marshal(r)
		return next, recordExpiry, err
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.last = r
	a.mu.Unlock()
	for _, o := range c.outcomes {
		a.o.Count(o.kind, o.sink, o.result)
	}
	return nil
}

// send queues crossings, and what is due of the conditions that hold and of the digest, and begins an attempt for each
// sink that has something to get.
func (a *Alerts) send(ctx context.Context, found []crossing) error {
	conf, sinks := a.settings()
	var begun []delivery
	err := a.update(ctx, func(r *record, c *change) {
		begun = nil
		for _, x := range found {
			r.enqueue(c, x.event.id(x.claim.Generation), x.event)
		}
		for _, e := range a.watch.cleared {
			if h := r.Holding[e.condition()]; h != nil && h.Event.At.Before(e.At) { // the limiter knows no latch of the count before
				r.notice(c, e, false, a.t.calm)
			}
		}
		r.retain(c, a.o.Serves)
		r.remind(c, a.t.calm, conf.Remind)
		if day := conf.digestDay(c.now); day != "" && day != r.Day {
			r.Day = day
			e := a.watch.digest(r, c.now)
			r.enqueue(c, e.id(0), e)
		}
		for _, s := range sinks {
			if d, ok := r.begin(c, s, a.o.Holder, a.t); ok {
				begun = append(begun, d)
			}
		}
	})
	if err != nil {
		return err
	}
	for _, d := range begun {
		a.work.Go(func() { a.deliver(ctx, conf, d) })
	}
	return nil
}

// deliver makes an attempt that was begun, and records what came of it. While the process stops, an attempt has
// another second.
func (a *Alerts) deliver(ctx context.Context, conf Config, d delivery) {
	err := a.attempt(ctx, conf, d)
	a.report(d.sink.Name, err)
	for range 3 {
		recorded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		failed := a.update(recorded, func(r *record, c *change) { r.end(c, d, err) })
		cancel()
		if failed == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// attempt sends a message to a sink, once.
func (a *Alerts) attempt(ctx context.Context, conf Config, d delivery) *SendError {
	trying, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.t.attempt)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, cancel) })
	defer stop()
	return d.sink.sender.send(trying, conf.compose(d.id, time.Now(), d.events))
}

// report logs when a sink begins to fail, recovers, or refuses for good.
func (a *Alerts) report(name string, err *SendError) {
	a.mu.Lock()
	was := a.failing[name]
	a.failing[name] = err != nil
	a.mu.Unlock()
	switch {
	case err == nil && was:
		a.o.Observe(Report{Kind: Recovered, Sink: name})
	case err == nil:
	case err.Silence:
		a.o.Observe(Report{Kind: Silenced, Sink: name, Err: err})
	case !was:
		a.o.Observe(Report{Kind: Failing, Sink: name, Err: err})
	}
}

// flush leaves what was noticed here in the store. What it cannot leave there for a while is sent by this gateway.
func (a *Alerts) flush(ctx context.Context) {
	now := time.Now()
	a.mu.Lock()
	var ready []pending
	for _, p := range a.local {
		if !p.at.After(now) {
			ready = append(ready, p)
		}
	}
	a.mu.Unlock()
	if len(ready) == 0 {
		return
	}
	err := a.update(ctx, func(r *record, c *change) {
		for _, p := range ready {
			r.notice(c, p.event, p.told, a.t.calm)
			if p.told {
				r.listDirect(c, p)
			}
		}
	})
	switch {
	case err == nil:
		a.mu.Lock()
		a.unstored, a.turn = false, time.Time{}
		a.local = without(a.local, ready)
		a.mu.Unlock()
	case ctx.Err() == nil:
		a.mu.Lock()
		first := !a.unstored
		a.unstored = true
		a.mu.Unlock()
		if first {
			a.o.Observe(Report{Kind: StoreFailed, Err: err})
		}
		a.direct(ctx, ready, now)
	}
}

// without returns the elements of all that are not among gone.
func without(all, gone []pending) []pending {
	n := make(map[uint64]bool, len(gone))
	for _, p := range gone {
		n[p.number] = true
	}
	var left []pending
	for _, p := range all {
		if !n[p.number] {
			left = append(left, p)
		}
	}
	return left
}

// direct sends what has waited for the store too long, as one message to each sink.
func (a *Alerts) direct(ctx context.Context, ready []pending, now time.Time) {
	var events []Event
	var sent []pending
	old := false
	for _, p := range ready {
		if !p.told {
			events, sent = append(events, p.event), append(sent, p)
			old = old || now.Sub(p.at) >= a.t.direct || p.event.Kind == StoreDown
		}
	}
	a.mu.Lock()
	busy := a.directing || !a.directAt.IsZero() && now.Sub(a.directAt) < a.t.directEvery
	if !busy && old && a.turn.IsZero() {
		a.turn = nextTurn(a.o.Holder, a.o.Fleet(), now)
	}
	if busy || !old || now.Before(a.turn) {
		a.mu.Unlock()
		return
	}
	a.directing, a.directAt, a.turn = true, now, time.Time{}
	conf, sinks := a.conf, a.sinks
	a.mu.Unlock()
	a.work.Go(func() {
		fates := a.directAll(ctx, conf, sinks, events)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.directing = false
		for i := range a.local {
			p := &a.local[i]
			if !slices.ContainsFunc(sent, func(s pending) bool { return s.number == p.number }) {
				continue
			}
			p.fates = make(map[string]*fate)
			for _, s := range sinks {
				if f := fates[s.Name]; f != nil && s.takes(p.event.Kind) {
					p.fates[s.Name], p.told = f, p.told || f.Result == Sent
				}
			}
		}
	})
}

// Without the store the gateways of a fleet cannot agree who sends. More than directAtOnce of them take turns by the clock:
// each has its own moment in a period of directGap for each. So a robot gets about five messages a minute, of the 20 that it
// takes.
const (
	directAtOnce = 5
	directGap    = 12 * time.Second
)

// nextTurn returns when a gateway of a fleet may send.
func nextTurn(holder string, gateways int, now time.Time) time.Time {
	if gateways <= directAtOnce {
		return now
	}
	sum := sha256.Sum256([]byte(holder))
	period := time.Duration(gateways) * directGap
	own := time.Duration(binary.BigEndian.Uint64(sum[:]) % uint64(period))
	return now.Add((own - time.Duration(now.UnixNano())%period + period) % period)
}

// silenced reports whether a sink has refused for good, as far as this gateway knows without the store.
func (a *Alerts) silenced(s sink) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refused[s.Name] == s.print || a.last != nil && a.last.silenced(s)
}

// directAll sends events to each sink, one after another, and returns what became of them at each.
func (a *Alerts) directAll(ctx context.Context, conf Config, sinks []sink, events []Event) map[string]*fate {
	fates := make(map[string]*fate)
	for _, s := range sinks {
		d := delivery{sink: s}
		ids := []string{s.Name}
		for _, e := range events {
			if s.takes(e.Kind) {
				d.events = append(d.events, e)
				ids = append(ids, e.id(0))
			}
		}
		if len(d.events) == 0 {
			continue
		}
		result, err := Dropped, errSilenced
		if !a.silenced(s) {
			d.id = messageID(strings.Join(ids, "|"))
			result, err = a.sendDirect(ctx, conf, d)
		}
		fates[s.Name] = newFate(time.Now(), result, err)
		for _, e := range d.events {
			a.o.Count(e.Kind, s.Name, result)
		}
	}
	return fates
}

// sendDirect makes one attempt, when its sink takes messages.
func (a *Alerts) sendDirect(ctx context.Context, conf Config, d delivery) (Result, *SendError) {
	for d.sink.avoids(time.Now()) && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	err := a.attempt(ctx, conf, d)
	a.report(d.sink.Name, err)
	switch {
	case err == nil:
		return Sent, nil
	case err.Silence:
		a.mu.Lock()
		a.refused[d.sink.Name] = d.sink.print
		a.mu.Unlock()
		return Refused, err
	}
	return Failed, err
}

// Tested is what came of a test of one sink.
type Tested struct {
	Sink, Type string
	Err        error // nil: it has the message
}

// Test sends a message to one sink, or to all if name is "", and returns what each answered. A sink that was silenced
// gets messages again when it takes this one. Each message counts among those that a sink may get in a minute.
func (a *Alerts) Test(ctx context.Context, name string) ([]Tested, error) {
	conf, sinks := a.settings()
	var results []Tested
	for _, s := range sinks {
		if name == "" || s.Name == name {
			results = append(results, Tested{s.Name, s.Type, a.test(ctx, conf, s)})
		}
	}
	if len(results) == 0 {
		return nil, ErrUnknownSink
	}
	return results, nil
}

// errTooMany keeps tests from meeting a robot's own limit.
var errTooMany = errors.New("15 messages in the last minute: try again in a minute")

func (a *Alerts) test(ctx context.Context, conf Config, s sink) error {
	full := false
	storeErr := a.update(ctx, func(r *record, c *change) {
		p := r.Sinks[s.Name]
		if p == nil {
			p = new(progress)
			r.Sinks[s.Name] = p
		}
		if full = !p.mayStart(c.now.UnixMilli(), timing{}); !full {
			p.start(c.now.UnixMilli())
		}
	})
	if full && storeErr == nil {
		return errTooMany
	}
	e := Event{Kind: Test, At: time.Now(), Host: a.o.Host}
	d := delivery{sink: s, id: messageID(s.Name + "|" + e.At.String() + a.o.Holder), events: []Event{e}}
	failed := a.attempt(ctx, conf, d)
	if storeErr == nil {
		_ = a.update(ctx, func(r *record, c *change) { // without the store nothing is silenced or listed
			p, result := r.Sinks[s.Name], Sent
			if p == nil {
				return // the sink was removed meanwhile
			}
			if p.tried(c, s, failed); failed != nil {
				result = Refused // it is not tried again
			} else {
				p.Silenced, p.Code = "", ""
			}
			r.list(c, d.id, e).Sinks[s.Name] = newFate(c.now, result, failed)
		})
	}
	if failed != nil {
		return failed
	}
	a.mu.Lock()
	delete(a.refused, s.Name)
	a.mu.Unlock()
	a.report(s.Name, nil)
	return nil
}
