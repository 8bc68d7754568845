package proxy

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"wxproxy/wechat"
)

// modifyResponse puts our headers on WeChat's answer. The body is the call's answer already.
func (c *call) modifyResponse(res *http.Response) error {
	c.rec.Status = res.StatusCode
	if err := c.learn(res); err != nil {
		return err
	}
	c.redact(res)
	header := c.w.Header()
	header["Content-Type"] = nil // unless WeChat has one: keeps the server from guessing
	takeOver(header, res.Header)
	c.setOurs(header, 0)
	res.Header = nil  // ReverseProxy would copy them one by one
	res.Trailer = nil // nothing follows the body, least of all a header that is ours; see answer.Close
	return nil
}

// headBytes is how much of an answer is looked at. An errmsg with its rid takes under 300.
const headBytes = 512

// answer is the body of WeChat's answer, of which the first bytes were peeked at. It belongs to
// the call's goroutine.
type answer struct {
	c    *call
	res  *http.Response
	body io.ReadCloser
	buf  [headBytes]byte
	head []byte // peeked and not yet read
	text []byte // peeked and unpacked
	err  error  // what ended the peeking, if the body did

	state   peeked
	errcode wechat.Errcode
	rid     string
}

// begin takes the place of res's body and peeks at it if it may be JSON. It returns an error if
// the body breaks off in the bytes that are peeked at.
func (a *answer) begin(c *call, res *http.Response) error {
	a.c, a.res, a.body = c, res, res.Body
	a.head, a.text, a.err, a.state, a.errcode, a.rid = nil, nil, nil, absent, 0, ""
	res.Body = a
	kind := res.Header.Get("Content-Type")
	if kind != "" && !strings.HasPrefix(kind, "application/json") && !strings.HasPrefix(kind, "text/") {
		return nil
	}
	switch packing := res.Header.Get("Content-Encoding"); {
	case packing == "":
		a.peek(false)
	case strings.EqualFold(packing, "gzip"):
		a.peek(true)
	}
	if a.err != nil && !errors.Is(a.err, io.EOF) {
		return a.err
	}
	return nil
}

// peek reads the first bytes: until it is clear that there is no errcode to be found, and to the
// end of an answer that says what is wrong. Of a packed answer it looks at those that fit whole;
// what only says an errcode does.
func (a *answer) peek(packed bool) {
	n := 0
	for n < len(a.buf) && a.err == nil {
		var read int
		read, a.err = a.body.Read(a.buf[n:])
		n += read
		if packed {
			continue
		}
		a.errcode, a.state = peekErrcode(a.buf[:n], a.err != nil)
		if a.state == absent || a.state == present && a.errcode == 0 {
			break
		}
	}
	a.head = a.buf[:n]
	a.text = a.head
	if packed && errors.Is(a.err, io.EOF) {
		a.text = unpack(a.head)
		a.errcode, a.state = peekErrcode(a.text, true)
	}
	if a.errcode != 0 {
		a.rid = peekRID(a.text)
	}
}

// verdict returns the errcode to tell the limiter: 0 also for an answer that says none, as long as
// it does not look like a failure.
func (a *answer) verdict(status int) wechat.Errcode {
	if a.state == present || status < 300 {
		return a.errcode
	}
	return unknownErrcode
}

// Read implements io.Reader.
func (a *answer) Read(p []byte) (n int, err error) {
	if len(a.head) > 0 {
		n = copy(p, a.head)
		a.head = a.head[n:]
		if len(a.head) == 0 {
			err = a.err
		}
	} else if err = a.err; err == nil {
		began := time.Now()
		n, err = a.body.Read(p)
		a.c.upstream += time.Since(began)
	}
	a.c.rec.BytesOut += int64(n)
	return n, err
}

func (a *answer) Close() error {
	err := a.body.Close()
	a.res.Trailer = nil // set at the body's end
	return err
}

// discard reads the little that may be left of the answer, so that its connection can be used
// again, and closes it.
func (a *answer) discard() {
	if a.err == nil {
		_, _ = io.CopyN(io.Discard, a.body, 4<<10) // if more is left the connection is closed, no harm
	}
	a.body.Close()
}

// copyBuffers are the buffers that ReverseProxy copies answers with.
type copyBuffers struct{ pool sync.Pool }

const copyBytes = 32 << 10

func (b *copyBuffers) Get() []byte {
	if p, ok := b.pool.Get().(*[copyBytes]byte); ok {
		return p[:]
	}
	return make([]byte, copyBytes)
}

func (b *copyBuffers) Put(p []byte) {
	if cap(p) == copyBytes {
		b.pool.Put((*[copyBytes]byte)(p[:copyBytes]))
	}
}
