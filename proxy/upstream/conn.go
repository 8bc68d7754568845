package upstream

import (
	"io"
	"net/http"
	"time"
)

const (
	smallBody  = 64 << 10              // up to it a body is written before the answer is read
	maxInterim = 5                     // 1xx answers before the answer
	lateTime   = 50 * time.Millisecond // for an answer to a request that could not be written, and the end of the writing of one that is answered; net/http's figure
	drainBytes = 4 << 10               // of an answer that was closed before its end
)

// Conn is a connection for one call. It is of no use after that, and may be used by one goroutine at a time.
type Conn struct {
	pool  *pool
	wire  *wire // nil once the call is over
	fresh bool
	left  bool
	keep  bool // the connection may serve another call once the answer is read
	body  body
}

// Fresh reports whether the connection was dialled for this call.
func (c *Conn) Fresh() bool { return c.fresh }

// Left reports, after Do has failed, whether any byte of the request may have left. It is what the
// connection's Write has returned.
func (c *Conn) Left() bool { return c.left }

// Release gives the connection back. It does nothing once Do was called.
func (c *Conn) Release() {
	if c.wire != nil {
		c.over(true)
	}
}

// over ends the call: keep says that the connection may serve another one.
func (c *Conn) over(keep bool) {
	w := c.wire
	c.wire = nil
	// More than the answer has come: whatever it is, it is not for the next call.
	keep = keep && w.br.Buffered() == 0
	c.pool.put(w, keep)
}

// Do sends r and reads the header of the answer. The answer's body is
// read from the connection, which serves another call when it has come to its end; it must be closed, and
// belongs to one goroutine at a time. What follows the answer is dropped together with the connection. 1xx
// answers are skipped.
//
// timeout, by default 30 s, is the longest time without progress: without a byte read or written. It runs
// while Do or a Read of the body waits for upstream, and may be exceeded by 1/32. The end of r.Context()
// ends the call within about 100 ms, also while the body is read.
//
// r.Body must be as long as r.ContentLength. It is closed, and is not read any more once Do has returned. One
// over 64 KiB is written by another goroutine, so that an answer that comes before its end is read, and ends the
// writing. Do waits for a Read of r.Body that is under way.
//
// After an error the connection is closed: ErrTimeout, ErrClosed, ErrProtocol, ErrHeader, ErrSwitching,
// ErrUsed, ErrLength, ErrRequest, the cause of the context's end, or an error of r or its body. Errors of the answer's
// body are the same.
func (c *Conn) Do(r *http.Request, timeout time.Duration) (*http.Response, error) {
	w := c.wire
	if w == nil {
		closeBody(r)
		return nil, ErrUsed
	}
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	w.reset()
	w.begin(r.Context(), timeout)
	res, sent, err := c.exchange(r)
	if err != nil {
		c.left = w.left
		c.over(false)
		return nil, err
	}
	c.keep = sent && !r.Close && !res.Close && !unexpectedBody(res)
	if res.Body == http.NoBody {
		c.over(c.keep)
		return res, nil
	}
	c.body = body{c: c, from: res.Body, r: r}
	res.Body = &c.body
	return res, nil
}

// exchange sends r and reads the header of the answer. It reports whether all of r was sent.
func (c *Conn) exchange(r *http.Request) (res *http.Response, sent bool, err error) {
	ctx, w := r.Context(), c.wire
	switch {
	case ctx.Err() != nil:
		err = failure(ctx, ctx.Err())
	case r.ContentLength < 0, len(r.TransferEncoding) > 0, (r.Body != nil && r.Body != http.NoBody) != (r.ContentLength > 0):
		err = ErrLength
	}
	if err != nil {
		closeBody(r)
		return nil, false, err
	}
	if r.ContentLength > smallBody {
		return w.exchangeLarge(r)
	}
	sendErr := w.send(r)
	if sendErr != nil && (!w.left || w.writeErr == nil) {
		return nil, false, sendErr
	}
	res, err = w.receive(r)
	if err != nil && sendErr != nil {
		err = sendErr
	}
	return res, sendErr == nil, err
}

// exchangeLarge is exchange with a goroutine that sends. It ends before exchangeLarge returns.
func (w *wire) exchangeLarge(r *http.Request) (res *http.Response, sent bool, err error) {
	var sendErr error
	done := make(chan struct{})
	go func() {
		sendErr = w.send(r)
		close(done)
	}()
	res, err = w.receive(r)
	if err != nil {
		select {
		case <-done:
			if sendErr != nil {
				err = sendErr // the reading was ended because of it
			}
		default:
			w.close()
			<-done
		}
		return nil, false, err
	}
	late := time.NewTimer(lateTime)
	defer late.Stop()
	select {
	case <-done:
		return res, sendErr == nil, nil
	case <-late.C:
		w.stop()
		<-done
		return res, false, nil
	}
}

// send writes r. After an error little time is left for reading.
func (w *wire) send(r *http.Request) error {
	err := w.write(r)
	if err == nil {
		err = w.bw.Flush()
	}
	if err == nil {
		return nil
	}
	w.hurry()
	if w.writeErr != nil {
		err = failure(r.Context(), w.writeErr)
	}
	return err
}

// receive reads the header of the answer to r.
func (w *wire) receive(r *http.Request) (*http.Response, error) {
	for range maxInterim + 1 {
		res, err := http.ReadResponse(w.br, r)
		switch {
		case err != nil:
			return nil, failure(r.Context(), err)
		case res.StatusCode == http.StatusSwitchingProtocols:
			return nil, ErrSwitching
		case res.StatusCode < 100 || res.ProtoMajor != 1:
			return nil, ErrProtocol
		case res.StatusCode >= 200:
			w.unlimited()
			return res, nil
		}
	}
	return nil, ErrProtocol
}

// unexpectedBody reports whether an answer that has no body is said to have one: that to a HEAD, a 204 or a
// 304. Some servers send it all the same, and nobody can tell when.
func unexpectedBody(res *http.Response) bool {
	length := res.Header.Get("Content-Length")
	return res.Body == http.NoBody && (length != "" && length != "0" || len(res.TransferEncoding) > 0)
}

// body is the body of an answer.
type body struct {
	c    *Conn
	from io.ReadCloser
	r    *http.Request
	err  error // what ended it
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.from.Read(p)
	if err == io.EOF { //nolint:errorlint // io.Reader's contract
		b.end(err, b.c.keep)
	} else if err != nil {
		err = failure(b.r.Context(), err)
		b.end(err, false)
	}
	return n, err
}

// Close implements io.Closer. It keeps the connection if the little that is left of the body has come already.
func (b *body) Close() error {
	if b.err == nil {
		keep := b.c.keep
		if keep {
			w := b.c.wire
			w.now = true
			_, err := io.CopyN(io.Discard, b.from, drainBytes)
			w.now = false
			keep = err == io.EOF //nolint:errorlint // io.Reader's contract
		}
		b.end(http.ErrBodyReadAfterClose, keep)
	}
	b.err = http.ErrBodyReadAfterClose
	return nil
}

func (b *body) end(err error, keep bool) {
	b.err = err
	b.c.over(keep)
}
