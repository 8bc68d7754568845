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

// scratchBytes is how much of a body is held in memory. Most calls carry under 1 KiB of JSON; what
// is larger is media on its way up.
const scratchBytes = 64 << 10

// body is a request body that was read to its end. So its length is known, which it must be since
// WeChat answers 412 to a chunked body, and it can be sent again. And nothing of it is left for the
// server to close while the answer is on its way, which breaks off small calls with large answers.
type body struct {
	memory []byte // never written again, so the transport may read it for as long as it likes
	file   *os.File
	remove string // the file's name where it could not be removed at once
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
	if n := r.ContentLength; n > 0 && n <= scratchBytes {
		memory := make([]byte, n)
		read, err := fill(r.Body, memory)
		c.rec.BytesIn = int64(read)
		if read < len(memory) {
			c.abandonBody(err)
		}
		c.body.memory, c.body.size = memory, n
		return true
	}

	scratch := c.h.scratch.Get().(*[scratchBytes]byte)
	defer c.h.scratch.Put(scratch)
	for {
		n, err := fill(r.Body, scratch[:])
		c.rec.BytesIn += int64(n)
		c.body.size = c.rec.BytesIn
		whole := errors.Is(err, io.EOF)
		if err != nil && !whole {
			c.abandonBody(err)
		}
		if c.body.size > c.s.MaxBody {
			return c.refuse(refusedRequest, codeInvalidParameter)
		}
		if whole && c.body.file == nil {
			c.body.memory = bytes.Clone(scratch[:n])
			return true
		}
		if fault := c.spill(scratch[:n]); fault != nil {
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

// spill appends b to the body's temporary file, which nobody else can open.
func (c *call) spill(b []byte) error {
	if c.body.file == nil {
		f, err := os.CreateTemp(c.h.tempDir, "wxproxy-body-*")
		if err != nil {
			return err
		}
		c.body.file = f
		if err := os.Remove(f.Name()); err != nil {
			c.body.remove = f.Name() // Windows keeps the name of an open file
		}
	}
	_, err := c.body.file.Write(b)
	return err
}

// close frees the temporary file. A transport that still reads it gets os.ErrClosed.
func (b *body) close() {
	if b.file == nil {
		return
	}
	b.file.Close()
	if b.remove != "" {
		os.Remove(b.remove)
	}
}

// attach gives out this body, from its beginning, with its length. It leaves out everything that
// would let net/http send the call a second time by itself: there is no GetBody, and a GET or HEAD
// without a body gets one that net/http does not recognise as none. With neither, net/http takes a
// call whose kept-alive connection was closed after WeChat executed it for one to be sent again.
func (b *body) attach(out *http.Request, dog *watchdog) *fileReader {
	out.GetBody = nil
	out.TransferEncoding = nil
	out.ContentLength = b.size
	switch {
	case b.file != nil:
		f := &fileReader{from: io.NewSectionReader(b.file, 0, b.size), dog: dog}
		out.Body = f
		return f
	case b.size > 0:
		// net/http knows this type and writes header and body in one go.
		out.Body = io.NopCloser(bytes.NewReader(b.memory))
	case out.Method == http.MethodPost:
		out.Body = nil // with an opaque body it would lose its Content-Length: 0
	default:
		// For a body of unknown length net/http would start a goroutine that reads its first byte;
		// identity tells it to write what there is, which is nothing.
		out.Body = emptyBody{}
		out.TransferEncoding = []string{"identity"}
	}
	return nil
}

// emptyBody is a body of no bytes that net/http does not recognise as none.
type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error)         { return 0, io.EOF }
func (emptyBody) WriteTo(io.Writer) (int64, error) { return 0, nil }
func (emptyBody) Close() error                     { return nil }

// fileReader reads a body from its file. Each read moves the call on by a step. The transport
// reads it in a goroutine of its own.
type fileReader struct {
	from *io.SectionReader

	mu  sync.Mutex // covers dog
	dog *watchdog  // nil once WeChat answers
}

func (f *fileReader) Read(p []byte) (int, error) {
	f.mu.Lock()
	if f.dog != nil {
		f.dog.start(time.Now())
	}
	f.mu.Unlock()
	return f.from.Read(p)
}

func (f *fileReader) Close() error { return nil }

// answered takes the reader's hands off the watchdog: WeChat has begun to answer.
func (f *fileReader) answered() {
	if f == nil {
		return
	}
	f.mu.Lock()
	f.dog = nil
	f.mu.Unlock()
}
