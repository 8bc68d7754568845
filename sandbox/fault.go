package sandbox

import (
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// slowPieces is the most pieces that SlowBody cuts an answer into.
const slowPieces = 64

// Fault is what goes wrong with which calls. What it does is done in the order of the fields
// below: waiting first, then a connection that breaks before execution, then an answer in place of
// execution, then what happens to the answer. They combine: Delay with ErrCode is a slow error,
// Status with TruncateBody half a page. A Fault that does nothing is a probe: it only counts.
type Fault struct {
	AppID string `json:"appid,omitempty"` // whose calls; "": anybody's
	// Path names the calls, in any spelling; "" is any path, the token endpoints and paths that do
	// not exist too. One that ends in "*" stands for all that begin so.
	Path  string `json:"path,omitempty"`
	After int    `json:"after,omitempty"` // so many matching calls go by first
	Times int    `json:"times,omitempty"` // how often it fires; 0: once, negative: for ever

	// DeadToken kills the token of the call, which must be an account's and good: it answers 40001
	// from now on. Unlike after KillTokens, stable_token continues to return it until somebody
	// forces a refresh.
	DeadToken bool `json:"dead_token,omitempty"`

	Delay time.Duration `json:"-"`              // waits so long before anything else, in real time; in JSON "delay":"200ms"
	Hold  bool          `json:"hold,omitempty"` // then waits for Ordered.Release

	// ResetBefore tears the connection: the call is not executed and nothing is answered. The client
	// sees a RST, or with FIN an end.
	ResetBefore bool `json:"reset_before,omitempty"`
	FIN         bool `json:"fin,omitempty"`

	// These answer in place of executing. Status alone is an HTML page (an empty body for 412);
	// ErrCode a JSON error at Status or 200, with WeChat's text and a rid unless ErrMsg is given;
	// Body, of ContentType or else JSON's, anything else.
	Status      int    `json:"status,omitempty"`
	ErrCode     int    `json:"errcode,omitempty"`
	ErrMsg      string `json:"errmsg,omitempty"`
	Body        string `json:"body,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	// Execute executes the call all the same, as counted, before it is answered so.
	Execute bool `json:"execute,omitempty"`

	DelayAnswer time.Duration `json:"-"`                     // waits so long after execution; in JSON "delay_answer"
	HoldAnswer  bool          `json:"hold_answer,omitempty"` // waits for Ordered.Release after execution

	// ResetAfter executes the call and tears the connection in place of the answer. With FIN as above.
	ResetAfter bool `json:"reset_after,omitempty"`

	Header       http.Header   `json:"header,omitempty"`        // more headers of the answer, spelled as they are sent
	SlowBody     time.Duration `json:"-"`                       // waits so long before each byte of the answer, or each 64th part of a longer one; in JSON "slow_body"
	TruncateBody bool          `json:"truncate_body,omitempty"` // sends half of Content-Length, then closes
}

// Ordered is a fault that was ordered. Its methods may be called at once from anywhere.
type Ordered struct {
	s     *Sandbox
	id    int
	fault Fault
	path  string // canonical, without the star
	stem  bool   // path is the beginning of the paths meant

	begun chan struct{} // closed when it fires first
	freed chan struct{} // closed when nothing is held any more

	// Covered by s.mu.
	seen  int // matching calls that went by
	fired int
}

// Order orders a fault. Each call meets at most one: the first ordered that matches and still has
// to fire.
func (s *Sandbox) Order(f Fault) *Ordered {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &Ordered{s: s, id: len(s.ordered) + 1, fault: f, begun: make(chan struct{}), freed: make(chan struct{})}
	if stem, star := strings.CutSuffix(f.Path, "*"); star {
		o.path, o.stem = strings.ToLower(stem), true
	} else if f.Path != "" {
		o.path = canonical(f.Path)
	}
	s.ordered = append(s.ordered, o)
	s.active = append(s.active, o)
	return o
}

// Fired returns how often the fault has fired: it counts when the call was picked, before what the
// fault does to it has ended.
func (o *Ordered) Fired() int {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	return o.fired
}

// Begun returns a channel that is closed when the fault fires for the first time.
func (o *Ordered) Begun() <-chan struct{} { return o.begun }

// Release lets the calls go that the fault holds, and holds no more.
func (o *Ordered) Release() {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	o.release()
}

// Cancel ends the fault: it fires no more, and holds no more.
func (o *Ordered) Cancel() {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	o.end()
}

// release needs s.mu.
func (o *Ordered) release() {
	select {
	case <-o.freed:
	default:
		close(o.freed)
	}
}

// end needs s.mu.
func (o *Ordered) end() {
	o.release()
	if i := slices.Index(o.s.active, o); i >= 0 {
		o.s.active = slices.Delete(o.s.active, i, i+1)
	}
}

// pick finds the fault for a call and counts it as fired. It needs s.mu.
func (s *Sandbox) pick(c *call) *Ordered {
	for i, o := range s.active {
		if !o.matches(c) {
			continue
		}
		if o.seen < o.fault.After {
			o.seen++
			continue
		}
		o.fired++
		if o.fired == 1 {
			close(o.begun)
		}
		if o.fault.Times >= 0 && o.fired >= max(1, o.fault.Times) {
			s.active = slices.Delete(s.active, i, i+1)
		}
		if o.fault.DeadToken {
			c.token.dead = true
		}
		return o
	}
	return nil
}

func (o *Ordered) matches(c *call) bool {
	f := o.fault
	if f.AppID != "" && (c.app == nil || c.app.id != f.AppID) {
		return false
	}
	if f.DeadToken && (c.token == nil || c.token.kind != accountToken || c.token.fault(c.now) != 0) {
		return false
	}
	if o.stem {
		return strings.HasPrefix(c.path, o.path)
	}
	return f.Path == "" || c.path == o.path
}

// play applies a fault to a call.
func (s *Sandbox) play(w http.ResponseWriter, c *call, o *Ordered) {
	f := o.fault
	s.pause(f.Delay)
	o.hold(f.Hold)
	if f.ResetBefore {
		tear(w, f.FIN)
		return
	}
	rep, instead := f.reply(c)
	if !instead || f.Execute || f.ResetAfter {
		if real := s.execute(c); !instead {
			rep = real
		}
	}
	s.pause(f.DelayAnswer)
	o.hold(f.HoldAnswer)
	if f.ResetAfter {
		tear(w, f.FIN)
		return
	}
	if len(f.Header) > 0 {
		header := rep.header.Clone()
		if header == nil {
			header = make(http.Header)
		}
		maps.Copy(header, f.Header)
		rep.header = header
	}
	if f.SlowBody == 0 && !f.TruncateBody {
		s.write(w, rep)
		return
	}
	s.trickle(w, rep, f)
}

// reply is what the fault answers in place of executing, if it does.
func (f Fault) reply(c *call) (rep reply, instead bool) {
	switch {
	case f.Body != "":
		rep = reply{status: f.Status, contentType: f.ContentType, body: []byte(f.Body)}
		if rep.contentType == "" {
			rep.contentType = c.textual()
		}
	case f.ErrCode != 0:
		message := f.ErrMsg
		if message == "" {
			message = c.message(f.ErrCode)
		}
		rep = c.json(status{Code: f.ErrCode, Message: message})
		rep.status = f.Status
		if f.ContentType != "" {
			rep.contentType = f.ContentType
		}
	case f.Status != 0:
		rep = page(f.Status)
	default:
		return reply{}, false
	}
	return rep, true
}

// trickle sends an answer slowly, or half of it.
func (s *Sandbox) trickle(w http.ResponseWriter, rep reply, f Fault) {
	flush := http.NewResponseController(w)
	body := rep.body
	if f.TruncateBody {
		if len(body) == 0 {
			rep.body = []byte("?") // so that there is something to leave out
		}
		body = body[:len(body)/2]
	}
	s.head(w, rep)
	_ = flush.Flush() // a writer that cannot flush sends it later
	piece := max(1, (len(body)+slowPieces-1)/slowPieces)
	for part := range slices.Chunk(body, piece) {
		s.pause(f.SlowBody)
		if _, err := w.Write(part); err != nil {
			return // the client is gone
		}
		_ = flush.Flush() // as above
	}
	if f.TruncateBody {
		panic(http.ErrAbortHandler)
	}
}

// pause waits in real time, or until the server closes.
func (s *Sandbox) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.closing:
	}
}

// hold waits for Release, or until the server closes.
func (o *Ordered) hold(wanted bool) {
	if !wanted {
		return
	}
	select {
	case <-o.freed:
	case <-o.s.closing:
	}
}

// tear ends the connection without an answer: by RST, or by FIN.
func tear(w http.ResponseWriter, fin bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // no connection to take: the server closes it
	}
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = secure.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok && !fin {
		_ = tcp.SetLinger(0) // it can only fail on a connection that is gone
	}
	_ = conn.Close()
}
