package upstream

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// write writes r into bw, and closes its body. It writes what [http.Request.Write] does, but refuses what that
// mends in silence, and does not sort the header: 7 allocations and a third of the time less, 4.7 against 3.0 us
// with the making of the request (BenchmarkWrite).
func (w *wire) write(r *http.Request) error {
	defer closeBody(r)
	host, target := r.Host, r.URL.RequestURI()
	if host == "" {
		host = r.URL.Host
	}
	host = withoutZone(host)
	if !visible(r.Method) || !visible(host) || !visible(target) {
		return ErrRequest
	}
	w.put(r.Method, " ", target, " HTTP/1.1\r\nHost: ", host, "\r\n")
	if _, ok := r.Header["User-Agent"]; !ok {
		w.put("User-Agent: Go-http-client/1.1\r\n")
	}
	if r.ContentLength > 0 || r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch {
		w.put("Content-Length: ")
		_, _ = w.bw.Write(strconv.AppendInt(w.bw.AvailableBuffer(), r.ContentLength, 10))
		w.put("\r\n")
	}
	if r.Close {
		w.put("Connection: close\r\n")
	}
	for name, values := range r.Header {
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer":
			continue
		}
		for _, value := range values {
			if value == "" && name == "User-Agent" {
				continue
			}
			if !visible(name) || strings.IndexByte(name, ':') >= 0 || !printable(value) {
				return ErrRequest
			}
			w.put(name, ": ", value, "\r\n")
		}
	}
	w.put("\r\n")
	return w.writeBody(r)
}

// put adds texts to bw, which keeps an error until it is flushed.
func (w *wire) put(texts ...string) {
	for _, text := range texts {
		_, _ = w.bw.WriteString(text)
	}
}

// writeBody writes exactly r.ContentLength bytes.
func (w *wire) writeBody(r *http.Request) error {
	if r.ContentLength == 0 {
		return nil
	}
	n, err := io.Copy(w.bw, io.LimitReader(r.Body, r.ContentLength))
	if err != nil {
		return err
	}
	if n < r.ContentLength {
		return fmt.Errorf("%w: it ends after %d bytes, ContentLength is %d", ErrLength, n, r.ContentLength)
	}
	if _, err = io.ReadFull(r.Body, w.stray[:]); err == nil {
		return fmt.Errorf("%w: it is longer than its ContentLength of %d", ErrLength, r.ContentLength)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// withoutZone takes the zone out of an IPv6 address: it means something on this machine only.
func withoutZone(host string) string {
	if before, rest, ok := strings.Cut(host, "%"); ok {
		if _, after, ok := strings.Cut(rest, "]"); ok {
			return before + "]" + after
		}
	}
	return host
}

// visible reports whether a text may stand where a space or a line's end would begin something else.
func visible(text string) bool {
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c == 0x7f {
			return false
		}
	}
	return text != ""
}

// printable reports whether a text may stand in a header's value.
func printable(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
