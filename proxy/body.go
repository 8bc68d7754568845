package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"wxproxy/wechat"
)

// How much of a body is held in memory. Most calls carry under 1 KiB of JSON; what is larger is media on
// its way up, which goes into a file when it is too large or there is no room.
const (
	pieceBytes  = 64 << 10 // a body up to this has memory of its own
	memoryBytes = 4 << 20  // one body at most
	roomBytes   = 16 << 20 // all bodies over pieceBytes together
)

type piece = [pieceBytes]byte

// body is a request body that was read to its end. So its length is known, which it must be since
// WeChat answers 412 to a chunked body, and it can be sent again. And nothing of it is left for the
// server to close while the answer is on its way, which breaks off small calls with large answers.
type body struct {
	memory []byte // never written again, so the transport may read it for as long as it likes
	media  *media // nil unless it is over pieceBytes
	size   int64
	whole  bool // it was read to its end
}

// The time that a client has to send a body, so that one that stops does not keep its place.
const (
	pieceTime = 30 * time.Second // for each 64 KiB of it
	tokenTime = 10 * time.Second // for all of a token request's
)

// A token request is read before anybody is authenticated, so it may not take much.
const (
	tokenBytes      = 64 << 10
	tokenSmallBytes = 4 << 10 // up to this a body needs no place: it takes no more than its connection does
	tokenPlaces     = 64      // larger ones at once
)

// readBy bounds how long the server waits for more of the request from now on; 0 is for ever.
func (c *call) readBy(d time.Duration) {
	var by time.Time
	if d > 0 {
		by = time.Now().Add(d)
	}
	_ = http.NewResponseController(c.w).SetReadDeadline(by) // not with a writer that has no connection
}

// empty reports whether the client sends no body.
func (c *call) empty() bool {
	return c.r.ContentLength == 0 || c.r.Body == nil || c.r.Body == http.NoBody
}

// readTokenBody reads the body of a token request.
func (c *call) readTokenBody() *ownAnswer {
	if c.empty() {
		return nil
	}
	if c.r.ContentLength > tokenBytes {
		return refuse(BodyTooLarge, wechat.InvalidParameter)
	}
	c.readBy(tokenTime)
	text := make([]byte, tokenSmallBytes)
	n, err := fill(c.r.Body, text)
	if err == nil {
		defer c.h.tokenBodies.Add(-1)
		if c.h.tokenBodies.Add(1) > tokenPlaces {
			return refuse(TooManyCalls, wechat.SystemError)
		}
		text = append(text, make([]byte, tokenBytes+1-n)...)
		var more int
		more, err = fill(c.r.Body, text[n:])
		n += more
	}
	c.rec.BytesIn = int64(n)
	switch {
	case err == nil:
		return refuse(BodyTooLarge, wechat.InvalidParameter)
	case !errors.Is(err, io.EOF):
		c.abandonBody(err)
	}
	c.readBy(0)
	c.body = body{memory: text[:n], size: int64(n), whole: true}
	return nil
}

// readBody reads the client's body to its end, before anything is counted. A body that breaks off
// ends the client's connection: there is nobody to answer.
//
// A body over max_body gets 40035: WeChat's own texts for too large a body (45001 and others) speak
// of media, and this may be any call.
func (c *call) readBody() *ownAnswer {
	if c.empty() {
		return nil
	}
	if c.r.ContentLength > c.s.MaxBody {
		return refuse(BodyTooLarge, wechat.InvalidParameter)
	}
	if n := c.r.ContentLength; n > 0 && n <= pieceBytes {
		c.readBy(pieceTime)
		memory := make([]byte, n)
		read, err := fill(c.r.Body, memory)
		c.rec.BytesIn = int64(read)
		if read < len(memory) {
			c.abandonBody(err)
		}
		c.readBy(0)
		c.body.memory, c.body.size, c.body.whole = memory, n, true
		return nil
	}
	for !c.body.whole {
		if own := c.readPiece(); own != nil {
			return own
		}
	}
	c.readBy(0)
	return nil
}

// readPiece reads on in a body that is large or of unknown length.
func (c *call) readPiece() *ownAnswer {
	c.readBy(pieceTime)
	p := c.h.pieces.Get().(*piece)
	n, err := fill(c.r.Body, p[:])
	c.rec.BytesIn += int64(n)
	c.body.size = c.rec.BytesIn
	whole := errors.Is(err, io.EOF)
	if err != nil && !whole {
		c.abandonBody(err)
	}
	if c.body.size > c.s.MaxBody {
		return refuse(BodyTooLarge, wechat.InvalidParameter)
	}
	if whole && c.body.media == nil {
		c.body.memory, c.body.whole = bytes.Clone(p[:n]), true
		c.h.pieces.Put(p)
		return nil
	}
	if c.body.media == nil {
		c.body.media = &media{h: c.h, toFile: c.r.ContentLength > memoryBytes}
	}
	if fault := c.body.media.add(p, n); fault != nil {
		c.h.outages.Error("temporary file for a request body", zap.Error(fault))
		return refuse(BodyNotKept, wechat.SystemError)
	}
	c.body.whole = whole
	return nil
}

// fill reads until p is full or r ends. Unlike io.ReadFull it says io.EOF for the end of r however
// much came before, and io.ErrUnexpectedEOF only when r said so: a client that went away.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var read int
		read, err = r.Read(p[n:])
		n += read
	}
	return n, err
}

// abandonBody ends a call whose body never came to its end.
func (c *call) abandonBody(err error) {
	c.h.log.Debug("request body broke off", zap.String("request_id", c.rec.RequestID), zap.Error(err))
	c.abandon(ClientGone)
}

// close frees what the body takes.
func (b *body) close() {
	if b.media != nil {
		b.media.close()
	}
}

// media is a body over pieceBytes: in memory as long as there is room for it, else in a temporary file
// that nobody else can open.
type media struct {
	h      *Handler
	toFile bool // it does not fit into memory

	mu     sync.Mutex // covers what follows: a transport may read on after the call is over
	pieces []*piece   // all full but the last
	file   *os.File
	size   int64  // of the file
	remove string // the file's name where it could not be removed at once
	closed bool
}

// add takes over the next n bytes, which fill p unless they are the last.
func (m *media) add(p *piece, n int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.toFile && len(m.pieces) < memoryBytes/pieceBytes && m.h.takeRoom() {
		m.pieces = append(m.pieces, p)
		return nil
	}
	if m.file == nil {
		if err := m.create(); err != nil {
			return err
		}
	}
	for _, q := range m.pieces {
		if err := m.write(q[:]); err != nil {
			return err
		}
	}
	m.free()
	m.toFile = true
	err := m.write(p[:n])
	m.h.pieces.Put(p)
	return err
}

// write appends to the file.
func (m *media) write(b []byte) error {
	n, err := m.file.Write(b)
	m.size += int64(n)
	m.h.spooled.Add(int64(n))
	return err
}

func (m *media) create() error {
	f, err := os.CreateTemp(m.h.tempDir, "wxproxy-body-*")
	if err != nil {
		return err
	}
	m.file = f
	if err := os.Remove(f.Name()); err != nil {
		m.remove = f.Name() // Windows keeps the name of an open file
	}
	return nil
}

// free gives the pieces back.
func (m *media) free() {
	for _, p := range m.pieces {
		m.h.pieces.Put(p)
	}
	m.h.room.Add(int64(len(m.pieces)) * pieceBytes)
	m.pieces = nil
}

// ReadAt implements io.ReaderAt. After close it returns os.ErrClosed.
func (m *media) ReadAt(b []byte, at int64) (n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return 0, os.ErrClosed
	case m.file != nil:
		return m.file.ReadAt(b, at)
	}
	for n < len(b) {
		i := at / pieceBytes
		if i >= int64(len(m.pieces)) {
			return n, io.EOF
		}
		read := copy(b[n:], m.pieces[i][at%pieceBytes:])
		n += read
		at += int64(read)
	}
	return n, nil
}

func (m *media) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.free()
	if m.file == nil {
		return
	}
	m.file.Close()
	m.h.spooled.Add(-m.size)
	m.size = 0
	if m.remove != "" {
		os.Remove(m.remove)
	}
}

// takeRoom takes room for a piece, if there is any.
func (h *Handler) takeRoom() bool {
	if h.room.Add(-pieceBytes) >= 0 {
		return true
	}
	h.room.Add(pieceBytes)
	return false
}

// attach makes this body, from its beginning, that of a request.
func (b *body) attach(out *http.Request) {
	out.ContentLength, out.TransferEncoding = b.size, nil
	switch {
	case b.media != nil:
		out.Body = io.NopCloser(io.NewSectionReader(b.media, 0, b.size))
	case b.size > 0:
		out.Body = io.NopCloser(bytes.NewReader(b.memory))
	default:
		out.Body = nil
	}
}
