package upstream

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// FuzzConn has an upstream answer three calls with any bytes, in pieces, and close or not. In what it says to call
// n the byte mark+n stands for the byte 0xff of the input, and no other byte above mark is said: none but its own may
// be found in a call's answer. A call ends with an answer or an error, in time, and no error quotes a mark.
func FuzzConn(f *testing.F) {
	const mark, calls = 0xf0, 3
	good := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xff"
	for _, answer := range []string{
		good, good + good, good + "\xff", "", "\xff\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\xff\xff\r\n0\r\nX: \xff\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\xff\xff\r\n0\r\n\r\n" + good,
		"HTTP/1.1 100 Continue\r\n\r\n" + good,
		"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n\xff\xff",
		"HTTP/1.1 304 Not Modified\r\nX: \xff\r\n\r\n\xff",
		"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n\xff\xff",
		"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\xff",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\xff",
		"HTTP/1.1 101 Switching Protocols\r\n\r\n\xff",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n\xff\xff",
	} {
		for _, how := range []uint8{0, 1, 7, 0x5a, 0xff} {
			f.Add([]byte(answer), []byte(good), how, uint16(5))
		}
	}

	// The upstream: for each request the script of the test that runs.
	type script struct {
		answers [calls][]byte
		split   int
		end     uint8 // bits: close after the answer to call n
		call    atomic.Int64
		said    chan bool
	}
	var now atomic.Pointer[script]
	u := listen(f, false, func(_ int, conn net.Conn, _ <-chan struct{}) {
		from := bufio.NewReader(conn)
		for {
			r, err := http.ReadRequest(from)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			sc := now.Load()
			n := sc.call.Load()
			for piece := sc.answers[n]; len(piece) > 0; {
				k := min(len(piece), sc.split)
				_, _ = conn.Write(piece[:k])
				piece = piece[k:]
			}
			end := sc.end&(1<<n) != 0
			if end {
				conn.Close()
			}
			sc.said <- true
			if end {
				return
			}
		}
	})

	f.Fuzz(func(t *testing.T, first, second []byte, how uint8, split uint16) {
		sc := &script{split: int(split)%4096 + 1, end: how & 7, said: make(chan bool, calls)}
		for n := range sc.answers {
			from := first
			if n == 1 {
				from = second
			}
			for _, b := range from {
				switch {
				case b == 0xff:
					b = byte(mark + n)
				case b >= mark:
					b = 'x'
				}
				sc.answers[n] = append(sc.answers[n], b)
			}
			if pieces := len(sc.answers[n]) / 64; sc.split < pieces {
				sc.split = pieces // not too many writes
			}
		}
		now.Store(sc)
		s := &server{TB: t, url: u.url}
		foreign := func(n int, text []byte) bool {
			return strings.ContainsFunc(latin(text), func(r rune) bool { return r >= mark && r != rune(mark+n) })
		}
		c := New(Options{})
		defer c.CloseIdleConnections()
		for n := range calls {
			sc.call.Store(int64(n))
			method, body := "GET", ""
			switch how >> 3 & 3 {
			case 1:
				method = "HEAD"
			case 2:
				method, body = "POST", "x"
			case 3:
				method, body = "POST", strings.Repeat("x", smallBody+1)
			}
			conn := s.conn(c)
			began := time.Now()
			res, err := conn.Do(s.request(t.Context(), method, body), 20*time.Millisecond)
			if err == nil {
				var text []byte
				if how>>5&1 == 0 {
					text, err = io.ReadAll(res.Body)
				} else {
					text = make([]byte, 1)
					_, err = io.ReadFull(res.Body, text)
				}
				res.Body.Close()
				if header := fmt.Append(nil, res.Status, res.Header, res.Trailer); foreign(n, text) || foreign(n, header) {
					t.Errorf("call %d: the answer to another one: %q %q", n, header, text)
				}
			}
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("call %d took %v", n, took)
			}
			if err != nil && foreign(-1, []byte(err.Error())) {
				t.Errorf("call %d: the error quotes the answer: %q", n, err)
			}
			// What is said after the answer has come before the next call. Later it could not be told from an answer.
			<-sc.said
		}
		if busy, _ := c.pool.count(); busy != 0 {
			t.Errorf("%d connections in use", busy)
		}
	})
}

// latin has a rune for each byte.
func latin(b []byte) string {
	runes := make([]rune, len(b))
	for i, c := range b {
		runes[i] = rune(c)
	}
	return string(runes)
}
