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
}

// readBody reads the client's body to its end, before anything is counted. A body that breaks off
// ends the client's connection: there is nobody to answer.
//
// A body over max_body gets 40035: WeChat's own texts for too large a body (45001 and others) speak
// of media, and this may be any call.
func (c *call) readBody() bool {
	r := c.r
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return true
	}
	if r.ContentLength > c.s.MaxBody {
		return c.refuse(refusedRequest, codeInvalidParameter)
	}
	if n := r.ContentLength; n > 0 && n <= pieceBytes {
		memory := make([]byte, n)
		read, err := fill(r.Body, memory)
		c.rec.BytesIn = int64(read)
		if read < len(memory) {
			c.abandonBody(err)
		}
		c.body.memory, c.body.size = memory, n
		return true
	}

	for {
		p := c.h.pieces.Get().(*piece)
		n, err := fill(r.Body, p[:])
		c.rec.BytesIn += int64(n)
		c.body.size = c.rec.BytesIn
		whole := errors.Is(err, io.EOF)
		if err != nil && !whole {
			c.abandonBody(err)
		}
		if c.body.size > c.s.MaxBody {
			return c.refuse(refusedRequest, codeInvalidParameter)
		}
		if whole && c.body.media == nil {
			c.body.memory = bytes.Clone(p[:n])
			c.h.pieces.Put(p)
			return true
		}
		if c.body.media == nil {
			c.body.media = &media{h: c.h, toFile: r.ContentLength > memoryBytes}
		}
		if fault := c.body.media.add(p, n); fault != nil {
			c.h.outages.Error("temporary file for a request body", zap.Error(fault))
			return c.refuse(refusedOverload, codeSystemError)
		}
		if whole {
			return true
		}
	}
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
	c.abandon(refusedRequest)
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
		if _, err := m.file.Write(q[:]); err != nil {
			return err
		}
	}
	m.free()
	m.toFile = true
	_, err := m.file.Write(p[:n])
	m.h.pieces.Put(p)
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

// attach gives out this body, from its beginning, with its length. It leaves out everything that
// would let net/http send the call a second time by itself: there is no GetBody, and a GET or HEAD
// without a body gets one that net/http does not recognise as none. With neither, net/http takes a
// call whose kept-alive connection was closed after WeChat executed it for one to be sent again.
func (b *body) attach(out *http.Request, dog *watchdog) *mediaReader {
	out.GetBody = nil
	out.TransferEncoding = nil
	out.ContentLength = b.size
	switch {
	case b.media != nil:
		m := &mediaReader{from: io.NewSectionReader(b.media, 0, b.size), dog: dog}
		out.Body = m
		return m
	case b.size > 0:
		// net/http knows this type and writes header and body in one go.
		out.Body = io.NopCloser(bytes.NewReader(b.memory))
	case out.Method == http.MethodPost:
		out.Body = nil // with an opaque body it would lose its Content-Length: 0
	default:
		// For a body of unknown length net/http would start a goroutine that reads its first byte;
		// identity tells it to write what there is, which is nothing.
		out.Body = emptyBody{}
		out.TransferEncoding = asItIs
	}
	return nil
}

var asItIs = []string{"identity"}

// emptyBody is a body of no bytes that net/http does not recognise as none.
type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error)         { return 0, io.EOF }
func (emptyBody) WriteTo(io.Writer) (int64, error) { return 0, nil }
func (emptyBody) Close() error                     { return nil }

// mediaReader reads a large body. Each read moves the call on by a step. The transport
// reads it in a goroutine of its own.
type mediaReader struct {
	from *io.SectionReader

	mu  sync.Mutex // covers dog
	dog *watchdog  // nil once WeChat answers
}

func (m *mediaReader) Read(p []byte) (int, error) {
	m.mu.Lock()
	if m.dog != nil {
		m.dog.start(time.Now())
	}
	m.mu.Unlock()
	return m.from.Read(p)
}

func (m *mediaReader) Close() error { return nil }

// answered takes the reader's hands off the watchdog: WeChat has begun to answer.
func (m *mediaReader) answered() {
	if m == nil {
		return
	}
	m.mu.Lock()
	m.dog = nil
	m.mu.Unlock()
}
