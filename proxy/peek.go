package proxy

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"

	"wxproxy/wechat"
)

// What peekErrcode can say.
type peeked uint8

const (
	absent  peeked = iota // no errcode where one would stand
	present               // the errcode was read
	cut                   // the bytes end before it can be told
)

// peekErrcode finds the errcode of a WeChat answer in its first bytes: {"errcode":N, after another
// plain value as in {"errmsg":"ok","errcode":N, or either of these inside {"base_resp":{ . N may
// be a number or a string. whole says that b is the whole answer. The rest is never looked at:
// answers hold users' names, which have been seen to break JSON.
func peekErrcode(b []byte, whole bool) (wechat.Errcode, peeked) {
	s := scanner{b: b, short: cut}
	if whole {
		s.short = absent
	}
	return s.object(true)
}

// scanner reads just enough JSON for peekErrcode. All methods report what is to be said if they
// cannot go on, and present if they can.
type scanner struct {
	b     []byte
	at    int
	short peeked // what running out of bytes means
}

// object reads the start of an object.
func (s *scanner) object(outermost bool) (wechat.Errcode, peeked) {
	if p := s.expect('{'); p != present {
		return 0, p
	}
	for key := range 2 {
		if key > 0 {
			if p := s.expect(','); p != present {
				return 0, p
			}
		}
		name, p := s.text()
		if p != present {
			return 0, p
		}
		if p := s.expect(':'); p != present {
			return 0, p
		}
		switch {
		case string(name) == "errcode":
			return s.number()
		case outermost && key == 0 && string(name) == "base_resp":
			return s.object(false)
		}
		if p := s.skip(); p != present {
			return 0, p
		}
	}
	return 0, absent
}

// next returns the next byte that is not blank, without taking it.
func (s *scanner) next() (byte, peeked) {
	for ; s.at < len(s.b); s.at++ {
		switch c := s.b[s.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c, present
		}
	}
	return 0, s.short
}

func (s *scanner) expect(want byte) peeked {
	c, p := s.next()
	if p != present {
		return p
	}
	if c != want {
		return absent
	}
	s.at++
	return present
}

// text reads a string and returns what stands between its quotes.
func (s *scanner) text() ([]byte, peeked) {
	if p := s.expect('"'); p != present {
		return nil, p
	}
	start := s.at
	for ; s.at < len(s.b); s.at++ {
		switch s.b[s.at] {
		case '\\':
			s.at++
		case '"':
			s.at++
			return s.b[start : s.at-1], present
		}
	}
	return nil, s.short
}

// skip reads a string, a number or a word.
func (s *scanner) skip() peeked {
	c, p := s.next()
	if p != present {
		return p
	}
	if c == '"' {
		_, p = s.text()
		return p
	}
	for start := s.at; s.at < len(s.b); s.at++ {
		switch c := s.b[s.at]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', c == '-', c == '+', c == '.', c == 'E':
		case s.at == start:
			return absent
		default:
			return present
		}
	}
	return s.short
}

// number reads an errcode: a whole number of at most 18 digits, perhaps in quotes.
func (s *scanner) number() (wechat.Errcode, peeked) {
	c, p := s.next()
	if p != present {
		return 0, p
	}
	quoted := c == '"'
	if quoted {
		s.at++
	}
	negative := s.at < len(s.b) && s.b[s.at] == '-'
	if negative {
		s.at++
	}
	n, digits := int64(0), 0
	for ; s.at < len(s.b) && '0' <= s.b[s.at] && s.b[s.at] <= '9'; s.at++ {
		n, digits = n*10+int64(s.b[s.at]-'0'), digits+1
		if digits > 18 {
			return 0, absent
		}
	}
	if s.at == len(s.b) {
		return 0, s.short // more digits may follow
	}
	switch c := s.b[s.at]; {
	case digits == 0, quoted && c != '"', int64(int(n)) != n:
		return 0, absent
	case !quoted && c != ',' && c != '}' && c != ' ' && c != '\t' && c != '\r' && c != '\n':
		return 0, absent
	}
	if negative {
		n = -n
	}
	return wechat.Errcode(n), present
}

// peekRID returns WeChat's own id of a call from the first bytes of its answer, where it stands at
// the end of errmsg as in "... rid: 617682e0-09059ac5-34a8e2ea". It returns "" if there is none.
func peekRID(b []byte) string {
	_, b, ok := bytes.Cut(b, []byte("rid: "))
	if !ok {
		return ""
	}
	for i, c := range b {
		switch {
		case unhex(c) >= 0, c == '-':
			if i == 40 {
				return ""
			}
		case i < 8:
			return ""
		default:
			return string(b[:i])
		}
	}
	return "" // cut off
}

// unpack returns the first bytes of a gzipped answer, or nil.
func unpack(b []byte) []byte {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil
	}
	head := make([]byte, headBytes)
	n, err := io.ReadFull(z, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return head[:n]
}
