package faults

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxBulkBytes bounds one string of a command or a reply.
const maxBulkBytes = 64 << 20

// Command is one command of a client: its name and its arguments.
type Command []string

// Is reports whether the command has that name, in any case.
func (c Command) Is(name string) bool { return len(c) > 0 && strings.EqualFold(c[0], name) }

var errProtocol = errors.New("not RESP as a client speaks it")

// readCommand reads one command, as its arguments and as it came.
func readCommand(from *bufio.Reader) (Command, []byte, error) {
	var raw bytes.Buffer
	line, err := readLine(from, &raw)
	if err != nil {
		return nil, nil, err
	}
	if line[0] != '*' { // an inline command, which no client library sends
		return nil, nil, fmt.Errorf("%w: %q", errProtocol, line)
	}
	n, err := strconv.Atoi(line[1:])
	if err != nil || n < 1 || n > 1<<20 {
		return nil, nil, fmt.Errorf("%w: %q", errProtocol, line)
	}
	c := make(Command, n)
	for i := range c {
		if line, err = readLine(from, &raw); err != nil {
			return nil, nil, err
		}
		if line[0] != '$' {
			return nil, nil, fmt.Errorf("%w: %q", errProtocol, line)
		}
		if c[i], err = readBulk(from, &raw, line); err != nil {
			return nil, nil, err
		}
	}
	return c, raw.Bytes(), nil
}

// readReply reads one reply as it came, with what RESP3 pushes in front of it.
func readReply(from *bufio.Reader) ([]byte, error) {
	var raw bytes.Buffer
	for left := 1; left > 0; left-- {
		line, err := readLine(from, &raw)
		if err != nil {
			return nil, err
		}
		each := 1
		switch line[0] {
		case '+', '-', ':', '_', ',', '#', '(':
			continue
		case '$', '=', '!':
			if _, err := readBulk(from, &raw, line); err != nil {
				return nil, err
			}
			continue
		case '%':
			each = 2
		case '|': // attributes: the reply itself comes after them
			each, left = 2, left+1
		case '>':
			left++
		case '*', '~':
		default:
			return nil, fmt.Errorf("%w: %q", errProtocol, line)
		}
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < -1 || n > 1<<20 {
			return nil, fmt.Errorf("%w: %q", errProtocol, line)
		}
		left += each * max(n, 0)
	}
	return raw.Bytes(), nil
}

// readLine reads up to CRLF, which is not returned. The line is not empty.
func readLine(from *bufio.Reader, raw *bytes.Buffer) (string, error) {
	line, err := from.ReadString('\n')
	if err != nil {
		return "", err
	}
	raw.WriteString(line)
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok || text == "" {
		return "", fmt.Errorf("%w: %q", errProtocol, line)
	}
	return text, nil
}

// readBulk reads the string that a line has announced.
func readBulk(from *bufio.Reader, raw *bytes.Buffer, line string) (string, error) {
	n, err := strconv.Atoi(line[1:])
	if err != nil || n < -1 || n > maxBulkBytes {
		return "", fmt.Errorf("%w: %q", errProtocol, line)
	}
	if n == -1 {
		return "", nil
	}
	text := make([]byte, n+2)
	if _, err := io.ReadFull(from, text); err != nil {
		return "", err
	}
	raw.Write(text)
	return string(text[:n]), nil
}
