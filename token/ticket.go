package token

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"
)

const (
	// ticketMargin is how much of a ticket must be left to share it. WeChat's end after 7200 s, and
	// a new one does not end the old. silenceper takes 1500 s off expires_in, as it does for a
	// token, and then cannot keep what is left.
	ticketMargin = 30 * time.Minute

	// ticketWorthwhile is how much must be left of a ticket to give it out where no new one is to
	// be had.
	ticketWorthwhile = time.Minute

	ticketLease = 5 * time.Second  // how long one call is left to fetch a ticket
	ticketWait  = 3 * time.Second  // how long others wait for it: SDKs give up after 5 s
	ticketRetry = 10 * time.Second // after none was to be had, while the old one will do

	maxTickets     = 10_000 // in memory
	maxTicketBytes = 1024
)

// ticketPrefix + kind is where the store keeps an app's ticket, and the lease for fetching it.
const ticketPrefix = "ticket:"

// Tickets shares the tickets of /cgi-bin/ticket/getticket among all services and gateways. It
// fetches none: a caller that has the lead does, and says what WeChat answered. A ticket in
// memory costs no word with the store. The store is an optimisation too: while it does not answer,
// every gateway keeps its own. The kinds are "jsapi" and "wx_card"; no other is shared. Its
// methods are safe for concurrent use. It starts no goroutine.
type Tickets struct {
	store Store
	now   func() time.Time
	id    string // of this Tickets among those that share the store

	mu    sync.Mutex // covers what follows
	kept  map[ticketID]*keptTicket
	leads map[ticketID]*lead
}

type ticketID struct{ appid, kind string }

// ticket is what the store holds, as JSON. Times are Unix milliseconds.
type ticket struct {
	Text string `json:"ticket"`
	Got  int64  `json:"got_ms"`
	Ends int64  `json:"ends_ms"`
}

// keptTicket is one in memory, the best we know.
type keptTicket struct {
	ticket
	retry time.Time // until then it will do for as long as it is good
}

// lead is a fetch that everybody in this process waits for who wants the same.
type lead struct {
	began  time.Time
	done   chan struct{} // closed when what follows is set
	ticket *ticket       // nil if none was to be had
}

// NewTickets returns a Tickets that knows what the store knows. Without a store it is on its own;
// now is time.Now if it is nil.
func NewTickets(store Store, now func() time.Time) *Tickets {
	if now == nil {
		now = time.Now
	}
	return &Tickets{
		store: store, now: now, id: rand.Text()[:8],
		kept: map[ticketID]*keptTicket{}, leads: map[ticketID]*lead{},
	}
}

// Format implements fmt.Formatter: no ticket is printed.
func (t *Tickets) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "{tickets %s}", t.id) }

// Get returns the answer with an app's ticket and the seconds that are left of it, from memory or
// from the store, if it is not about to end.
func (t *Tickets) Get(ctx context.Context, appid, kind string) (answer []byte, ok bool) {
	id := ticketID{appid, kind}
	if !id.shared() {
		return nil, false
	}
	if answer := t.cached(id); answer != nil {
		return answer, true
	}
	if k, err := t.look(ctx, id); err == nil && k != nil {
		return k.answer(t.now()), true
	}
	return nil, false
}

// Lead returns the answer that Get would, or waits at most 3 s for the call or the gateway that is
// fetching it. If nobody is, the caller has the lead: it sends its call, and then calls Save or
// Abandon, for others wait for that. With neither an answer nor the lead it sends its call and
// nobody waits for it: there is no ticket to be had, or the one who fetches it is slow.
func (t *Tickets) Lead(ctx context.Context, appid, kind string) (answer []byte, lead bool) {
	id := ticketID{appid, kind}
	if !id.shared() {
		return nil, false
	}
	if answer := t.cached(id); answer != nil {
		return answer, false
	}
	l, first := t.join(id)
	if first {
		// Others wait for what comes of this, so it goes on without the client.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ticketWait)
		defer cancel()
		return t.win(ctx, id, l)
	}
	ctx, cancel := context.WithTimeout(ctx, ticketWait)
	defer cancel()
	select {
	case <-l.done:
		if l.ticket != nil {
			return l.ticket.answer(t.now()), false
		}
	case <-ctx.Done():
	}
	return t.instead(id), false
}

// Save keeps the ticket in what WeChat answered and hands it to those who wait. An answer without
// one is as good as Abandon.
func (t *Tickets) Save(ctx context.Context, appid, kind string, answer []byte) {
	id := ticketID{appid, kind}
	if !id.shared() {
		return
	}
	now := t.now().Round(0) // wall time: a ticket ages while the machine sleeps
	began := now
	t.mu.Lock()
	if l := t.leads[id]; l != nil {
		began = l.began.Round(0)
	}
	t.mu.Unlock()
	got := parseTicket(answer, began)
	if got == nil || !got.good(now) {
		t.Abandon(ctx, appid, kind)
		return
	}
	got = t.keep(id, got)
	t.end(id, nil, got)
	if t.store != nil {
		t.publish(context.WithoutCancel(ctx), id, got)
		t.release(ctx, id)
	}
}

// Abandon says that the caller with the lead got no ticket. Those who wait are left to themselves,
// or to what is left of the last ticket.
func (t *Tickets) Abandon(ctx context.Context, appid, kind string) {
	id := ticketID{appid, kind}
	if !id.shared() {
		return
	}
	t.mu.Lock()
	if k := t.kept[id]; k != nil {
		t.kept[id] = &keptTicket{ticket: k.ticket, retry: t.now().Add(ticketRetry)}
	}
	t.mu.Unlock()
	t.end(id, nil, nil)
	if t.store != nil {
		t.release(ctx, id)
	}
}

// shared reports whether tickets of the kind are shared, for an app that the store can name.
func (id ticketID) shared() bool {
	return (id.kind == "jsapi" || id.kind == "wx_card") && goodAppID.MatchString(id.appid)
}

// join returns the lead of this process to wait for, or the one to try and win for the fleet. One
// that has taken too long is forgotten.
func (t *Tickets) join(id ticketID) (l *lead, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if l = t.leads[id]; l != nil && now.Sub(l.began) < ticketLease {
		return l, false
	}
	l = &lead{began: now, done: make(chan struct{})}
	t.leads[id] = l
	return l, true
}

// win gets the lead, or the ticket of the gateway that has it.
func (t *Tickets) win(ctx context.Context, id ticketID, l *lead) (answer []byte, lead bool) {
	if t.store == nil {
		return nil, true
	}
	for {
		k, err := t.look(ctx, id)
		if err == nil && k == nil {
			var held bool
			if held, err = t.lease(ctx, id); held {
				// It may have been saved between the two.
				if k, err = t.look(ctx, id); k != nil {
					t.release(ctx, id)
				} else {
					return nil, true
				}
			}
		}
		if k != nil {
			t.end(id, l, &k.ticket)
			return k.answer(t.now()), false
		}
		if err != nil && ctx.Err() == nil {
			return nil, true // among the calls of this gateway
		}
		select {
		case <-time.After(pollEvery + mathrand.N(pollEvery)): //nolint:gosec // spreads the looks, hides nothing
		case <-ctx.Done():
			t.end(id, l, nil)
			return t.instead(id), false
		}
	}
}

// end lets those go on who wait for the lead that is under way, if it is l or l is nil.
func (t *Tickets) end(id ticketID, l *lead, got *ticket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	present := t.leads[id]
	if present == nil || l != nil && l != present {
		return
	}
	delete(t.leads, id)
	present.ticket = got
	close(present.done)
}

// cached returns the answer with the ticket in memory, if that is fresh or has to do, or nil.
func (t *Tickets) cached(id ticketID) []byte {
	t.mu.Lock()
	k := t.kept[id]
	t.mu.Unlock()
	now := t.now()
	if k != nil && (k.fresh(now) || now.Before(k.retry) && k.worthwhile(now)) {
		return k.answer(now)
	}
	return nil
}

// instead returns the answer with a ticket that is about to end, if there is one, or nil.
func (t *Tickets) instead(id ticketID) []byte {
	t.mu.Lock()
	k := t.kept[id]
	t.mu.Unlock()
	if now := t.now(); k != nil && k.worthwhile(now) {
		return k.answer(now)
	}
	return nil
}

// keep keeps a ticket in memory, unless one is there that lasts longer, and returns that which is.
func (t *Tickets) keep(id ticketID, got *ticket) *ticket {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k := t.kept[id]; k != nil && k.Ends > got.Ends && k.good(t.now()) {
		return &k.ticket
	}
	makeRoom(t.kept, maxTickets, func(*keptTicket) bool { return true })
	t.kept[id] = &keptTicket{ticket: *got}
	return got
}

// look takes the ticket from the store, if it is fresh there.
func (t *Tickets) look(ctx context.Context, id ticketID) (*keptTicket, error) {
	if t.store == nil {
		return nil, nil
	}
	raw, err := t.read(ctx, id)
	if err != nil {
		return nil, err
	}
	got := parseStoredTicket(raw)
	if got == nil || !got.good(t.now()) {
		return nil, nil
	}
	got = t.keep(id, got)
	if !got.fresh(t.now()) {
		return nil, nil
	}
	return &keptTicket{ticket: *got}, nil
}

// publish writes a ticket for the other gateways, unless they have one that lasts longer.
func (t *Tickets) publish(ctx context.Context, id ticketID, got *ticket) {
	value, err := json.Marshal(got)
	if err != nil {
		return
	}
	for range 3 {
		raw, err := t.read(ctx, id)
		if err != nil {
			return
		}
		now := t.now()
		if theirs := parseStoredTicket(raw); theirs != nil && theirs.good(now) && theirs.Ends >= got.Ends {
			return
		}
		if done, err := t.swap(ctx, id, raw, value, time.UnixMilli(got.Ends).Sub(now)); done || err != nil {
			return
		}
	}
}

// good reports whether a ticket has a second left to live. One that ends later than any does comes
// from a clock that is wrong.
func (k *ticket) good(now time.Time) bool {
	left := time.UnixMilli(k.Ends).Sub(now)
	return left >= time.Second && left <= longest
}

// fresh reports whether a ticket is far from its end: WeChat may give the same one again until
// then, so one that had little left from the start is used for half of that.
func (k *ticket) fresh(now time.Time) bool {
	margin := min(ticketMargin, time.Duration(k.Ends-k.Got)*time.Millisecond/2)
	return k.good(now) && time.UnixMilli(k.Ends).Sub(now) > margin
}

func (k *ticket) worthwhile(now time.Time) bool {
	return k.good(now) && time.UnixMilli(k.Ends).Sub(now) > ticketWorthwhile
}

// answer is what WeChat would say.
func (k *ticket) answer(now time.Time) []byte {
	return fmt.Appendf(nil, `{"errcode":0,"errmsg":"ok","ticket":"%s","expires_in":%d}`,
		k.Text, time.UnixMilli(k.Ends).Sub(now)/time.Second)
}

// parseTicket reads what WeChat has answered to a request that began at a time, nil if there is no
// ticket in it.
func parseTicket(answer []byte, began time.Time) *ticket {
	var a struct {
		ErrCode number `json:"errcode"`
		Ticket  string `json:"ticket"`
		Expires number `json:"expires_in"`
	}
	if len(answer) > maxBody || json.Unmarshal(answer, &a) != nil || a.ErrCode != 0 || a.Expires <= 0 || !validTicket(a.Ticket) {
		return nil
	}
	life := min(time.Duration(min(a.Expires, 1<<30))*time.Second, longest)
	return &ticket{Text: a.Ticket, Got: began.UnixMilli(), Ends: began.Add(life).UnixMilli()}
}

// parseStoredTicket reads what the store has. What is not ours is like nothing.
func parseStoredTicket(raw []byte) *ticket {
	var k ticket
	if json.Unmarshal(raw, &k) != nil || !validTicket(k.Text) {
		return nil
	}
	return &k
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

// The words with the store, each of which has its own time.

func (t *Tickets) read(ctx context.Context, id ticketID) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return t.store.Get(ctx, id.appid, ticketPrefix+id.kind)
}

func (t *Tickets) swap(ctx context.Context, id ticketID, was, value []byte, expiry time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return t.store.CompareAndSet(ctx, id.appid, ticketPrefix+id.kind, was, value, expiry)
}

func (t *Tickets) lease(ctx context.Context, id ticketID) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return t.store.Lease(ctx, id.appid, ticketPrefix+id.kind, t.id, ticketLease)
}

// release leaves the lease to itself if the store does not answer: it runs out.
func (t *Tickets) release(ctx context.Context, id ticketID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	_ = t.store.Release(ctx, id.appid, ticketPrefix+id.kind, t.id)
}
