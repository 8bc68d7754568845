package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"

	"wxproxy/limits"
	"wxproxy/wechat"
)

// Tickets is the shared cache of jsapi and card tickets. *token.Tickets is the one in use. Its
// methods are called by many goroutines at once.
type Tickets interface {
	// Get returns the cached answer.
	Get(ctx context.Context, appid, kind string) (answer []byte, ok bool)
	// Lead returns the cached answer with its true remaining life, waiting for another call or
	// gateway that fetches it. Else the caller may lead: it fetches, and then calls Save or
	// Abandon. With neither an answer nor the lead it fetches for itself.
	Lead(ctx context.Context, appid, kind string) (answer []byte, lead bool)
	// Save keeps what WeChat answered.
	Save(ctx context.Context, appid, kind string, answer []byte)
	// Abandon ends a lead without a ticket.
	Abandon(ctx context.Context, appid, kind string)
}

const (
	maxLearnedBytes = 64 << 10
)

// ticketKind returns the kind of ticket that the call asks for, or "" if it asks for none that is shared.
func (c *call) ticketKind() string {
	if c.h.tickets == nil || c.r.Method == http.MethodPost || !wechat.SamePath(c.path, wechat.TicketPath) {
		return ""
	}
	query, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return ""
	}
	kind := query.Get("type")
	if kind != "jsapi" && kind != "wx_card" {
		return ""
	}
	return kind
}

// ticket returns the answer to getticket from the shared cache, if it is there. A cached ticket is
// not a call of WeChat's, so it is not counted.
func (c *call) ticket() *ownAnswer {
	kind := c.ticketKind()
	if kind == "" {
		return nil
	}
	text, lead := c.h.tickets.Lead(c.r.Context(), c.app.AppID, kind)
	if lead {
		c.leads = kind
		return nil
	}
	if len(text) == 0 {
		return nil
	}
	return &ownAnswer{decision: decidedLocal, body: string(text)}
}

// endLead lets others fetch a ticket that this call did not get.
func (c *call) endLead() {
	if c.leads != "" {
		c.h.tickets.Abandon(context.WithoutCancel(c.r.Context()), c.app.AppID, c.leads)
		c.leads = ""
	}
}

// reads reports whether the answer of a call is read: it must then not be packed.
func (c *call) reads() bool {
	return c.leads != "" || c.h.learned != nil && issuesPlatformTokens(c.path)
}

// learn takes in what an answer teaches: a ticket, or whom a token was issued for. Its error is of an
// answer that breaks off.
func (c *call) learn(res *http.Response) error {
	if !c.reads() || c.answer.errcode != 0 || res.StatusCode != http.StatusOK {
		return nil //nolint:nilerr // WeChat's errcode is for the client
	}
	head, err := io.ReadAll(io.LimitReader(res.Body, maxLearnedBytes+1))
	c.rec.BytesOut -= int64(len(head)) // counted as they were read; they are read again
	res.Body = &reread{Reader: io.MultiReader(bytes.NewReader(head), res.Body), c: c, left: len(head), Closer: res.Body}
	if err != nil {
		return err // the client has seen nothing of it yet
	}
	if len(head) > maxLearnedBytes {
		return nil
	}
	ctx := context.WithoutCancel(c.r.Context())
	if c.leads != "" {
		c.h.tickets.Save(ctx, c.app.AppID, c.leads, head)
		c.leads = ""
		return nil
	}
	c.learnPlatformToken(ctx, head)
	return nil
}

// reread counts the bytes of an answer that were read ahead as they are passed on.
type reread struct {
	io.Reader
	io.Closer
	c    *call
	left int
}

func (r *reread) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if ahead := min(n, r.left); ahead > 0 {
		r.left -= ahead
		r.c.rec.BytesOut += int64(ahead)
	}
	return n, err
}

// clears reports whether a call clears counts, and of which path; "" is all.
func (c *call) clears() (path string, ok bool) {
	switch {
	case wechat.SamePath(c.path, wechat.ClearPath), wechat.SamePath(c.path, wechat.ClearV2Path):
		return "", c.names(c.app.AppID)
	case wechat.SamePath(c.path, wechat.ClearOnePath):
		var ask struct {
			Path string `json:"cgi_path"`
		}
		if json.Unmarshal(c.body.memory, &ask) != nil {
			return "", false
		}
		path, err := limits.Canonical(ask.Path)
		return path, err == nil
	}
	return "", false
}

// names reports whether a clear names the app that it is called for, if any.
func (c *call) names(appid string) bool {
	var ask struct {
		AppID string `json:"appid"`
	}
	if len(c.body.memory) > 0 && json.Unmarshal(c.body.memory, &ask) != nil {
		return false
	}
	if ask.AppID == "" {
		query, err := url.ParseQuery(c.r.URL.RawQuery)
		if err != nil {
			return false
		}
		ask.AppID = query.Get("appid")
	}
	return ask.AppID == appid
}

// isClear reports whether a rule is one of clears: past its quota WeChat says 48006.
func isClear(path string) bool {
	return wechat.SamePath(path, wechat.ClearPath) || wechat.SamePath(path, wechat.ClearV2Path) || wechat.SamePath(path, wechat.ClearOnePath)
}

// cleared ends a granted clear by what WeChat said to it: granted, our counts start over, and only
// then; refused, it did not cost one of the month's; without an answer it did, as far as we know.
func (c *call) cleared() {
	switch {
	case c.answer.state != present:
		c.clearLost()
		c.done(0)
	case c.answer.errcode == 0:
		if path, ok := c.clears(); ok {
			c.h.limiter.Clear(c.app.AppID, c.decision.Counted, path)
		}
		c.done(0)
	case c.answer.errcode == wechat.ClearsUsed:
		c.exhausted()
	default:
		c.giveBack()
	}
}

// clearLost reports a clear that was sent and whose answer was lost.
func (c *call) clearLost() {
	if c.h.lostClear == nil || !isClear(c.path) {
		return
	}
	if path, ok := c.clears(); ok {
		c.h.lostClear(c.app.AppID, path, c.decision.Counted)
	}
}
