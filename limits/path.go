package limits

import (
	"errors"
	"strings"
)

// Faults of a request path. None of them can be sent: WeChat and the table might read it
// differently.
var (
	errPathEmpty   = errors.New("path: want one that starts with /")
	errPathByte    = errors.New("path: want only [A-Za-z0-9._~/-] and escapes of these")
	errPathSegment = errors.New("path: contains a . or .. segment")
)

// Canonical returns the one spelling of an escaped request path that is matched, counted and sent:
// duplicate slashes are collapsed and escapes of unreserved bytes are decoded. It refuses any other
// escape, a . or .. segment however spelled, and every byte outside [A-Za-z0-9._~/-]. Letter case
// and a trailing slash stay as they are; Match folds them. A clean path is returned as it is,
// without an allocation.
func Canonical(escaped string) (string, error) {
	if escaped == "" || escaped[0] != '/' {
		return "", errPathEmpty
	}
	clean := true
	for i := 0; i < len(escaped); i++ {
		c := escaped[i]
		switch {
		case unreserved(c):
			if c == '.' && dotSegment(escaped, i) {
				return "", errPathSegment
			}
		case c == '/':
			if i > 0 && escaped[i-1] == '/' {
				clean = false
			}
		case c == '%':
			clean = false
		default:
			return "", errPathByte
		}
	}
	if clean {
		return escaped, nil
	}
	b := make([]byte, 0, len(escaped))
	for i := 0; i < len(escaped); i++ {
		c := escaped[i]
		if c == '%' {
			if i+2 >= len(escaped) {
				return "", errPathByte
			}
			hi, lo := unhex(escaped[i+1]), unhex(escaped[i+2])
			if hi < 0 || lo < 0 || !unreserved(byte(hi<<4|lo)) {
				return "", errPathByte
			}
			c = byte(hi<<4 | lo)
			i += 2
		}
		if c == '/' && len(b) > 0 && b[len(b)-1] == '/' {
			continue
		}
		b = append(b, c)
	}
	path := string(b)
	for i := range len(path) {
		if path[i] == '.' && dotSegment(path, i) {
			return "", errPathSegment
		}
	}
	return path, nil
}

// dotSegment reports whether the dot at i begins a segment that is . or ..
func dotSegment(path string, i int) bool {
	if i > 0 && path[i-1] != '/' {
		return false
	}
	rest := strings.TrimPrefix(path[i+1:], ".")
	return rest == "" || rest[0] == '/'
}

func unreserved(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '-' || c == '.' || c == '_' || c == '~'
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

// fold returns the form of a canonical path that paths of the table are compared in: lower case and
// without a trailing slash. It allocates only where something changes.
func fold(path string) string {
	if len(path) > 1 && path[len(path)-1] == '/' {
		path = path[:len(path)-1]
	}
	return strings.ToLower(path) // returns path itself when it is lower case
}

// family returns the first segment of a folded path, as in /cgi-bin.
func family(folded string) string {
	if i := strings.IndexByte(folded[1:], '/'); i >= 0 {
		return folded[:i+1]
	}
	return folded
}
