//go:build unix

package upstream

import (
	"net"
	"syscall"
)

// peeker returns a function that reports whether a connection is open and has nothing to read.
func peeker(conn net.Conn) func() bool {
	var control syscall.RawConn
	if c, ok := conn.(syscall.Conn); ok {
		control, _ = c.SyscallConn()
	}
	if control == nil {
		return func() bool { return true }
	}
	var quiet bool
	var b [1]byte
	look := func(fd uintptr) {
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = n <= 0 && (err == syscall.EAGAIN || err == syscall.EWOULDBLOCK)
	}
	return func() bool {
		// Not RawConn.Read, which would not look past an expired deadline.
		return control.Control(look) == nil && quiet
	}
}
