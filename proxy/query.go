package proxy

import (
	"net/url"
	"strings"
)

const tokenParameter = "access_token"

// maxParameters is how many parameters a query may have. WeChat's own calls have under ten.
const maxParameters = 1000

// queryParses reports whether everybody reads the raw query alike: no semicolon, every % the start
// of an escape, at most maxParameters parameters.
func queryParses(raw string) bool {
	parameters := 1
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case ';':
			return false
		case '&':
			parameters++
		case '%':
			if i+2 >= len(raw) || unhex(raw[i+1]) < 0 || unhex(raw[i+2]) < 0 {
				return false
			}
			i += 2
		}
	}
	return parameters <= maxParameters
}

// withToken returns raw with exactly one access_token: it stands where the first one stood, or at
// the end, and every other spelling of it is gone. All other parameters keep their bytes and order.
func withToken(raw, token string) string {
	token = url.QueryEscape(token) // returns token itself when there is nothing to escape
	start, end := nextToken(raw, 0)
	if start < 0 {
		if raw == "" {
			return tokenParameter + "=" + token
		}
		return raw + "&" + tokenParameter + "=" + token
	}
	again, againEnd := nextToken(raw, end+1)
	if again < 0 {
		return raw[:start] + tokenParameter + "=" + token + raw[end:]
	}
	var b strings.Builder
	b.Grow(len(raw) + len(token))
	b.WriteString(raw[:start])
	b.WriteString(tokenParameter)
	b.WriteByte('=')
	b.WriteString(token)
	for again >= 0 {
		b.WriteString(raw[end : again-1]) // without the & before it
		end = againEnd
		again, againEnd = nextToken(raw, end+1)
	}
	b.WriteString(raw[end:])
	return b.String()
}

// nextToken returns the bounds of the first access_token parameter that begins at from or later,
// or -1. from is where a parameter begins, or past the end.
func nextToken(raw string, from int) (start, end int) {
	for start = from; start < len(raw); start = end + 1 {
		end = len(raw)
		if i := strings.IndexByte(raw[start:], '&'); i >= 0 {
			end = start + i
		}
		if namesToken(raw[start:end]) {
			return start, end
		}
	}
	return -1, -1
}

// namesToken reports whether a parameter's name, unescaped and in lower case, is access_token.
func namesToken(parameter string) bool {
	at := 0 // in tokenParameter
	for i := 0; i < len(parameter); i++ {
		c := parameter[i]
		if c == '=' {
			break
		}
		if c == '%' && i+2 < len(parameter) {
			hi, lo := unhex(parameter[i+1]), unhex(parameter[i+2])
			if hi < 0 || lo < 0 {
				return false
			}
			c = byte(hi<<4 | lo)
			i += 2
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if at == len(tokenParameter) || c != tokenParameter[at] {
			return false
		}
		at++
	}
	return at == len(tokenParameter)
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
