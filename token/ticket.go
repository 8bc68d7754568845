package token

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// ticketMargin is how much of a ticket must be left to share it. WeChat's end after 7200 s, and
	// a new one does not end the old. silenceper takes 1500 s off expires_in, as it does for a
	// token, and then cannot keep what is left.
	ticketMargin = 30 * time.Minute

	// ticketWorthwhile is how much must be left of a ticket to give it out where no new one is to
	// be had.
	ticketWorthwhile = time.Minute

	ticketLease = 5 * time.Second  // how long one call has to fetch a ticket
	ticketWait  = 3 * time.Second  // how long others wait for it: SDKs give up after 5 s
	ticketRetry = 10 * time.Second // after none was to be had, while the old one will do

	maxTickets     = 10_000 // in memory
	maxTicketBytes = 1024
)

// ticketPrefix + kind is where the store keeps an app's ticket, and the lease for fetching it.
const ticketPrefix = "ticket:"

// Tickets shares the tickets of /cgi-bin/ticket/getticket among all services and gateways. It
// fetches none: a caller that has the lead does, and hands in what WeChat answered. A ticket in
// memory costs no round trip. The store is an optimisation too: while it does not answer,
// every gateway keeps its own. The kinds are "jsapi" and "wx_card"; no other is shared. Its
// methods are safe for concurrent use.
type Tickets struct {
	fleet fleet
	id    string

	mu    sync.Mutex // covers what follows
	cells *simplelru.LRU[ticketID, *ticketCell]
}

type ticketID struct{ appid, kind string }

// ticketCell is one kind of ticket of an app.
type ticketCell struct {
	cell[ticket]           // its mutex covers lead and retry, too
	lead         *fetching // by the call that has the lead
	retry        time.Time // until then the ticket will do for as long as it is good

	offer chan struct{} // a flight gives the lead to one of the calls that wait for it
}

// fetching is a fetch by a call.
type fetching struct {
	began time.Time
	got   chan *ticket // receives once; nil if no ticket was to be had
}

// ticket is what the store holds, as JSON. Times are Unix milliseconds.
type ticket struct {
	Text string `json:"ticket"`
	Got  int64  `json:"got_ms"`
	Ends int64  `json:"ends_ms"`
}

// errNoTicket means that the call with the lead got no ticket.
var errNoTicket = errors.New("no ticket was to be had")

// NewTickets returns a Tickets that knows what the store knows. Without a store it is on its own;
// now is time.Now if it is nil.
func NewTickets(store Store, now func() time.Time) *Tickets {
	if now == nil {
		now = time.Now
	}
	return &Tickets{
		fleet: fleet{store: store, now: now, patience: ticketWait + ticketLease, lease: ticketLease, down: func(string, error) {}},
		id:    rand.Text()[:8],
		cells: newLRU[ticketID, *ticketCell](maxTickets),
	}
}

// Close ends what waits for a ticket. No ticket is shared any more.
func (t *Tickets) Close() { t.fleet.close() }

// Format implements fmt.Formatter: no ticket is printed.
func (t *Tickets) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "{tickets %s}", t.id) }

// Lead returns the answer with an app's ticket and the seconds that are left of it, if it is not about to
// end. Else it waits at most 3 s for the call or the gateway that is fetching one. If there is none, the
// caller has the lead: it sends its call, and then calls Save or Abandon, for others wait for that. With
// neither an answer nor the lead it sends its call, and no other waits for it: there is no ticket to be had,
// or the call that fetches it is slow.
func (t *Tickets) Lead(ctx context.Context, appid, kind string) (answer []byte, lead bool) {
	c := t.cell(appid, kind)
	if c == nil {
		return nil, false
	}
	now := t.fleet.now()
	c.mu.Lock()
	k, retry := c.known, c.retry
	c.mu.Unlock()
	if k.fresh(now) || now.Before(retry) && k.worthwhile(now) {
		return k.answer(now), false
	}
	ctx, cancel := context.WithTimeout(ctx, ticketWait)
	defer cancel()
	f := c.join(ctx, func(ctx context.Context) (ticket, error) {
		return c.renew(ctx, func(k ticket) bool { return k.fresh(t.fleet.now()) }, c.fetch)
	})
	select {
	case <-c.offer:
		return nil, true
	case <-f.done:
		if f.err == nil {
			return f.value.answer(t.fleet.now()), false
		}
	case <-ctx.Done():
	}
	if k, now := c.value(), t.fleet.now(); k.worthwhile(now) {
		return k.answer(now), false
	}
	return nil, false
}

// Get returns the answer that Lead would have at once, and gives nobody the lead.
func (t *Tickets) Get(ctx context.Context, appid, kind string) (answer []byte, ok bool) {
	c := t.cell(appid, kind)
	if c == nil {
		return nil, false
	}
	k := c.value()
	if !k.fresh(t.fleet.now()) && t.fleet.store != nil {
		if stored, _, err := c.read(ctx); err == nil {
			k = stored
		}
	}
	if now := t.fleet.now(); k.fresh(now) {
		return k.answer(now), true
	}
	return nil, false
}

// fetch gives the lead to a call, and waits for what comes of it.
func (c *ticketCell) fetch(ctx context.Context, _ ticket, _ *lead[ticket]) (ticket, error) {
	l := &fetching{began: c.now().Round(0), got: make(chan *ticket, 1)} // wall time: a ticket ages while the machine sleeps
	c.setLead(l)
	var got *ticket
	select {
	case c.offer <- struct{}{}:
		select {
		case got = <-l.got:
		case <-time.After(ticketLease):
		case <-ctx.Done():
		}
	case <-ctx.Done(): // no call waits any longer
	}
	c.setLead(nil)
	if got == nil && len(l.got) > 0 {
		got = <-l.got // at the last moment
	}
	if got == nil {
		return ticket{}, errNoTicket
	}
	return *got, nil
}

func (c *ticketCell) setLead(l *fetching) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lead = l
}

// Save keeps the ticket in what WeChat answered and hands it to those who wait. An answer without
// one is as good as Abandon.
func (t *Tickets) Save(ctx context.Context, appid, kind string, answer []byte) {
	if c := t.cell(appid, kind); c != nil {
		c.end(ctx, answer)
	}
}

// Abandon ends a lead without a ticket. Those who wait are left to themselves, or to what is left of
// the last ticket.
func (t *Tickets) Abandon(ctx context.Context, appid, kind string) { t.Save(ctx, appid, kind, nil) }

// end ends the lead by what WeChat answered.
func (c *ticketCell) end(ctx context.Context, answer []byte) {
	now := c.now().Round(0)
	began := now
	c.mu.Lock()
	l, f := c.lead, c.flight
	if l != nil {
		began = l.began
	}
	got := parseTicket(answer, began)
	if got != nil && !got.good(now) {
		got = nil
	}
	if got == nil {
		c.retry = now.Add(ticketRetry)
	} else {
		c.retry = time.Time{}
	}
	if c.lead = nil; l != nil {
		l.got <- got
	}
	c.mu.Unlock()
	ctx = context.WithoutCancel(ctx)
	switch {
	case l != nil:
		_ = f.wait(ctx)
	case got == nil:
	case c.store == nil:
		c.learn(*got)
	default: // the lead was over
		_, _ = c.write(ctx, nil, *got, nil)
	}
}

// cell returns the cell of an app's ticket, or nil if that is not shared, or of an app that the store
// cannot name.
func (t *Tickets) cell(appid, kind string) *ticketCell {
	if kind != "jsapi" && kind != "wx_card" || !goodAppID.MatchString(appid) {
		return nil
	}
	id := ticketID{appid, kind}
	t.mu.Lock()
	defer t.mu.Unlock()
	c, ok := t.cells.Get(id)
	if !ok {
		c = &ticketCell{offer: make(chan struct{})}
		c.fleet, c.app, c.key, c.holder = &t.fleet, appid, ticketPrefix+kind, rand.Text()[:8]
		t.cells.Add(id, c)
	}
	return c
}

// merge implements value: the ticket that lasts longer, for a new one does not end the old. WeChat may give
// the same one again.
func (k ticket) merge(o ticket, now time.Time) ticket {
	d := cmp.Compare(o.Ends, k.Ends)
	if o.Text == k.Text {
		d = cmp.Compare(o.Got, k.Got)
	}
	if o.good(now) && (!k.good(now) || cmp.Or(d, cmp.Compare(o.Ends, k.Ends), cmp.Compare(o.Text, k.Text)) > 0) {
		return o
	}
	return k
}

// keep implements value.
func (k ticket) keep(now time.Time) time.Duration {
	return max(time.Second, time.UnixMilli(k.Ends).Sub(now))
}

// good reports whether a ticket has a second left to live. One that ends later than any does comes
// from a clock that is wrong.
func (k ticket) good(now time.Time) bool {
	left := time.UnixMilli(k.Ends).Sub(now)
	return left >= time.Second && left <= longest && validTicket(k.Text)
}

// fresh reports whether a ticket is far from its end: WeChat may give the same one again until
// then, so one that had little left from the start is used for half of that.
func (k ticket) fresh(now time.Time) bool {
	margin := min(ticketMargin, time.Duration(k.Ends-k.Got)*time.Millisecond/2)
	return k.good(now) && time.UnixMilli(k.Ends).Sub(now) > margin
}

func (k ticket) worthwhile(now time.Time) bool {
	return k.good(now) && time.UnixMilli(k.Ends).Sub(now) > ticketWorthwhile
}

// answer is as WeChat writes it.
func (k ticket) answer(now time.Time) []byte {
	return fmt.Appendf(nil, `{"errcode":0,"errmsg":"ok","ticket":"%s","expires_in":%d}`,
		k.Text, (k.Ends-now.UnixMilli())/1000)
}

// parseTicket reads what WeChat has answered to a request that began at a time, nil if there is no
// ticket in it.
func parseTicket(answer []byte, began time.Time) *ticket {
	var a struct {
		ErrCode number `json:"errcode"`
		Ticket  string `json:"ticket"`
		Expires number `json:"expires_in"`
	}
	if len(answer) > maxBody || json.Unmarshal(answer, &a) != nil || a.ErrCode != 0 || a.Expires <= 0 {
		return nil
	}
	life := min(time.Duration(min(a.Expires, 1<<30))*time.Second, longest)
	return &ticket{Text: a.Ticket, Got: began.UnixMilli(), Ends: began.Add(life).UnixMilli()}
}

// validTicket reports whether a ticket can go into JSON as it is.
func validTicket(text string) bool {
	if text == "" || len(text) > maxTicketBytes {
		return false
	}
	for _, c := range []byte(text) {
		if c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
