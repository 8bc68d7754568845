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

// withToken returns raw with exactly one access_token.
func withToken(raw, token string) string { return withParameter(raw, tokenParameter, token) }

// withParameter returns raw with exactly one parameter of a name: it stands where the first one
// stood, or at the end, and every other spelling of it is gone. All other parameters keep their
// bytes and order.
func withParameter(raw, name, value string) string {
	value = url.QueryEscape(value) // returns value itself when there is nothing to escape
	start, end := nextParameter(raw, name, 0)
	if start < 0 {
		if raw == "" {
			return name + "=" + value
		}
		return raw + "&" + name + "=" + value
	}
	again, againEnd := nextParameter(raw, name, end+1)
	if again < 0 {
		return raw[:start] + name + "=" + value + raw[end:]
	}
	var b strings.Builder
	b.Grow(len(raw) + len(value))
	b.WriteString(raw[:start])
	b.WriteString(name)
	b.WriteByte('=')
	b.WriteString(value)
	for again >= 0 {
		b.WriteString(raw[end : again-1]) // without the & before it
		end = againEnd
		again, againEnd = nextParameter(raw, name, end+1)
	}
	b.WriteString(raw[end:])
	return b.String()
}

// nextParameter returns the bounds of the first parameter of a name that begins at from or later,
// or -1. from is where a parameter begins, or past the end.
func nextParameter(raw, name string, from int) (start, end int) {
	for start = from; start < len(raw); start = end + 1 {
		end = len(raw)
		if i := strings.IndexByte(raw[start:], '&'); i >= 0 {
			end = start + i
		}
		if names(raw[start:end], name) {
			return start, end
		}
	}
	return -1, -1
}

// names reports whether a parameter's name, unescaped and in lower case, is name.
func names(parameter, name string) bool {
	at := 0 // in name
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
		if at == len(name) || c != name[at] {
			return false
		}
		at++
	}
	return at == len(name)
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
