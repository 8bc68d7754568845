package faults

import (
	"bufio"
	"context"
	"crypto/sha1" //nolint:gosec // the name that Redis gives a script
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Action is what a fault does to one command.
type Action uint8

// The actions. After Lose and Cut the client's connection is of no more use; every other command
// on it would be answered with the wrong reply, so none is answered.
const (
	LoseRequest Action = iota // it does not reach the server; the client waits until its timeout
	LoseReply                 // it is executed; the client waits in vain
	LateRequest               // it reaches the server after Wait or Release, whether or not the client still waits
	LateReply                 // it is executed at once and answered after Wait or Release
	CutBefore                 // the connection breaks before it reaches the server
	CutAfter                  // it is executed, and the connection breaks in place of the reply
	Double                    // it is executed twice, the second time after Wait; the first reply is passed on
)

// Fault is which commands it applies to and what happens to them.
type Fault struct {
	Match func(Command) bool // the commands meant; nil: all
	Each  bool               // they are counted on each connection by itself
	After int                // so many go by first
	Every int                // then it fires on the first of each Every; 0: each
	Times int                // how often it fires; 0: once, negative: until Cancel

	Do   Action
	Wait time.Duration
	Hold bool // a late request or reply waits for Release in place of Wait
}

// Ordered is a fault that was ordered. Its methods may be called at once from anywhere.
type Ordered struct {
	relay *Relay
	fault Fault
	begun chan struct{} // closed when it fires first
	freed chan struct{} // closed when nothing is held any more

	// Covered by relay.mu.
	seen    map[*link]int // by connection, or under nil
	fired   int
	over    bool
	replies []string
}

// Fired returns how often the fault has fired. It counts when a command was picked, before what is
// done to it has ended.
func (o *Ordered) Fired() int {
	o.relay.mu.Lock()
	defer o.relay.mu.Unlock()
	return o.fired
}

// Begun returns a channel that is closed when the fault fires for the first time.
func (o *Ordered) Begun() <-chan struct{} { return o.begun }

// Replies returns what the server has answered to the commands that the fault was done to: a fault
// that comes before execution has none, one that doubles has two each.
func (o *Ordered) Replies() []string {
	o.relay.mu.Lock()
	defer o.relay.mu.Unlock()
	return slices.Clone(o.replies)
}

// Release lets go what the fault holds. It holds no more.
func (o *Ordered) Release() {
	o.relay.mu.Lock()
	defer o.relay.mu.Unlock()
	select {
	case <-o.freed:
	default:
		close(o.freed)
	}
}

// Cancel ends the fault: it fires no more. What it holds it holds.
func (o *Ordered) Cancel() {
	o.relay.mu.Lock()
	defer o.relay.mu.Unlock()
	o.over = true
}

// due counts a command and reports whether it is the fault's turn. It needs relay.mu.
func (o *Ordered) due(on *link, c Command) bool {
	if o.over || o.fault.Match != nil && !o.fault.Match(c) {
		return false
	}
	if !o.fault.Each {
		on = nil
	}
	past := o.seen[on] - o.fault.After
	o.seen[on]++
	return past >= 0 && past%max(1, o.fault.Every) == 0
}

// answered keeps a reply as a proof that the command was executed.
func (o *Ordered) answered(reply []byte) {
	o.relay.mu.Lock()
	defer o.relay.mu.Unlock()
	o.replies = append(o.replies, string(reply))
}

// wait waits as long as the fault specifies, or until the relay closes.
func (o *Ordered) wait() {
	if o.fault.Hold {
		select {
		case <-o.freed:
		case <-o.relay.closing:
		}
		return
	}
	timer := time.NewTimer(o.fault.Wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-o.relay.closing:
	}
}

// Relay stands between clients and one Redis server. It understands commands and replies, passes
// them on one by one, and does to chosen ones what was ordered. It is not made for subscriptions
// and blocking commands.
type Relay struct {
	server   string
	listener net.Listener
	closing  chan struct{}
	work     sync.WaitGroup
	followed atomic.Int64

	mu      sync.Mutex // covers what follows and the counts of Ordered
	closed  bool
	ordered []*Ordered
	open    map[net.Conn]bool
}

// NewRelay listens on a free loopback port in front of the server at a host:port. The caller closes
// it.
func NewRelay(ctx context.Context, server string) (*Relay, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	r := &Relay{server: server, listener: listener, closing: make(chan struct{}), open: make(map[net.Conn]bool)}
	r.work.Go(r.accept)
	return r, nil
}

// Addr returns the host:port that clients connect to.
func (r *Relay) Addr() string { return r.listener.Addr().String() }

// Followed returns how many commands came with another one right behind them.
func (r *Relay) Followed() int64 { return r.followed.Load() }

// Order orders a fault. Every fault counts the commands that it matches; where several are due, the
// one that was ordered first is done.
func (r *Relay) Order(f Fault) *Ordered {
	o := &Ordered{relay: r, fault: f, begun: make(chan struct{}), freed: make(chan struct{}), seen: make(map[*link]int)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ordered = append(r.ordered, o)
	return o
}

// Close breaks every connection and returns when nothing runs any more. What waits goes on at once.
func (r *Relay) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	close(r.closing)
	err := r.listener.Close()
	for c := range r.open {
		_ = c.Close() // no longer used
	}
	r.mu.Unlock()
	r.work.Wait()
	return err
}

// pick finds the fault for a command, nil for none, and counts it as fired.
func (r *Relay) pick(on *link, c Command) *Ordered {
	r.mu.Lock()
	defer r.mu.Unlock()
	var picked *Ordered
	for _, o := range r.ordered {
		if o.due(on, c) && picked == nil {
			picked = o
		}
	}
	if picked == nil {
		return nil
	}
	if picked.fired++; picked.fired == 1 {
		close(picked.begun)
	}
	if picked.fault.Times >= 0 && picked.fired >= max(1, picked.fault.Times) {
		picked.over = true
	}
	return picked
}

// keep remembers a connection for Close, and reports false if that has come already.
func (r *Relay) keep(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		_ = c.Close() // not used
		return false
	}
	r.open[c] = true
	return true
}

func (r *Relay) end(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
	_ = c.Close() // it may be broken already
}

func (r *Relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		if r.keep(client) {
			r.work.Go(func() { r.serve(client) })
		}
	}
}

// dial connects to the server. A relay that closes has no connection to give.
func (r *Relay) dial() (net.Conn, bool) {
	dialer := net.Dialer{Timeout: time.Second}
	server, err := dialer.DialContext(context.Background(), "tcp", r.server)
	if err != nil {
		return nil, false
	}
	return server, r.keep(server)
}

// link is one client's connection, and the one to the server that belongs to it.
type link struct {
	relay   *Relay
	client  net.Conn
	server  net.Conn
	replies chan []byte   // closed when the server's connection has ended
	gone    chan struct{} // closed when the client is served no more
}

func (r *Relay) serve(client net.Conn) {
	defer r.end(client)
	server, ok := r.dial()
	if !ok {
		return
	}
	defer r.end(server)
	l := &link{relay: r, client: client, server: server, replies: make(chan []byte), gone: make(chan struct{})}
	defer close(l.gone)
	r.work.Go(l.listen)
	commands := bufio.NewReader(client)
	for {
		c, raw, err := readCommand(commands)
		if commands.Buffered() > 0 {
			r.followed.Add(1)
		}
		if err != nil || !l.relayOne(c, raw, commands) {
			return
		}
	}
}

// listen reads the server's replies. Where the server's connection ends, so does the client's, as
// it would without a relay.
func (l *link) listen() {
	defer close(l.replies)
	from := bufio.NewReader(l.server)
	for {
		reply, err := readReply(from)
		if err != nil {
			_ = l.client.Close() // it may be broken already
			return
		}
		select {
		case l.replies <- reply:
		case <-l.gone:
			return
		}
	}
}

// relayOne takes one command to its end. It reports whether the connection is still good.
func (l *link) relayOne(c Command, raw []byte, commands io.Reader) bool {
	o := l.relay.pick(l, c)
	if o == nil {
		reply, ok := l.ask(raw)
		return ok && l.answer(reply)
	}
	switch o.fault.Do {
	case LoseRequest:
		_, _ = io.Copy(io.Discard, commands) // until the client has had enough
		return false
	case CutBefore:
		return false
	case LateRequest:
		o.wait()
	}
	reply, ok := l.ask(raw)
	if !ok {
		return false
	}
	o.answered(reply)
	switch o.fault.Do {
	case LoseReply:
		_, _ = io.Copy(io.Discard, commands)
		return false
	case CutAfter:
		return false
	case LateReply:
		o.wait()
	case Double:
		if o.fault.Wait > 0 || o.fault.Hold {
			l.relay.work.Go(func() { l.relay.again(raw, o) })
		} else if reply, ok := l.ask(raw); ok {
			o.answered(reply)
		}
	}
	return l.answer(reply)
}

// ask has the server execute a command.
func (l *link) ask(raw []byte) ([]byte, bool) {
	if _, err := l.server.Write(raw); err != nil {
		return nil, false
	}
	reply, ok := <-l.replies
	return reply, ok
}

func (l *link) answer(reply []byte) bool {
	_, err := l.client.Write(reply)
	return err == nil
}

// again has the server execute a command once more, later and over another connection.
func (r *Relay) again(raw []byte, o *Ordered) {
	o.wait()
	server, ok := r.dial()
	if !ok {
		return
	}
	defer r.end(server)
	if _, err := server.Write(raw); err != nil {
		return
	}
	if reply, err := readReply(bufio.NewReader(server)); err == nil {
		o.answered(reply)
	}
}

// Runs returns a match for the commands that run a Lua script of that text, by its name or as a
// whole.
func Runs(script string) func(Command) bool {
	sum := sha1.Sum([]byte(script)) //nolint:gosec // as above
	name := hex.EncodeToString(sum[:])
	return func(c Command) bool {
		return len(c) > 1 && (c.Is("EVALSHA") && c[1] == name || c.Is("EVAL") && c[1] == script)
	}
}
