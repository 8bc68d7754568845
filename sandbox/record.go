package sandbox

import (
	"crypto/sha256"
	"net/http"
	"strings"
	"time"
)

// keptBodyBytes is how much of a body a Request holds.
const keptBodyBytes = 64 << 10

// defaultKeep is how many requests are kept when Options.Keep is 0.
const defaultKeep = 1000

// Request is one request as it was seen on the wire.
type Request struct {
	Time             time.Time // of the sandbox's clock, when the body had been read
	AppID            string    // whose it was taken for; "" if that was no app of the sandbox's
	Method           string
	Proto            string
	Host             string
	Target           string      // the request line's, as spelled
	Path             string      // Target's part before the query, as spelled
	RawQuery         string      // as spelled
	Header           http.Header // without Host
	ContentLength    int64       // -1: none was given
	TransferEncoding []string
	RemoteAddr       string
	Body             []byte   // the first 64 KiB
	BodyBytes        int64    // how long it really was; a chunked body is not read
	BodySHA256       [32]byte // of the whole body
}

// record notes a request. It needs no lock.
func record(c *call) *Request {
	r := c.r
	path, query, _ := strings.Cut(r.RequestURI, "?")
	seen := &Request{
		Method:           r.Method,
		Proto:            r.Proto,
		Host:             r.Host,
		Target:           r.RequestURI,
		Path:             path,
		RawQuery:         query,
		Header:           r.Header.Clone(),
		ContentLength:    r.ContentLength,
		TransferEncoding: r.TransferEncoding,
		RemoteAddr:       r.RemoteAddr,
		Body:             c.body,
		BodyBytes:        int64(len(c.body)),
		BodySHA256:       sha256.Sum256(c.body),
	}
	if len(c.body) > keptBodyBytes {
		// A copy, so that the rest can be freed.
		seen.Body = append([]byte(nil), c.body[:keptBodyBytes]...)
	}
	return seen
}

// ring keeps the last requests. It is covered by Sandbox.mu.
type ring struct {
	kept []*Request
	size int
	next int // where the next one goes once kept is full: the oldest is there
}

func newRing(keep int) ring {
	if keep == 0 {
		keep = defaultKeep
	}
	return ring{size: max(0, keep)}
}

func (r *ring) add(x *Request) {
	if len(r.kept) < r.size {
		r.kept = append(r.kept, x)
		return
	}
	r.kept[r.next] = x
	r.next = (r.next + 1) % r.size
}

// Requests returns the last requests, the oldest first, executed or not: Options.Keep of them. What
// they point to is shared and must not be changed.
func (s *Sandbox) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Request, 0, len(s.requests.kept))
	for i := range s.requests.kept {
		all = append(all, *s.requests.kept[(s.requests.next+i)%len(s.requests.kept)])
	}
	return all
}
