//go:build unix

package store

import (
	"net"
	"syscall"
)

// readNow reads what has arrived, whatever the deadline. It returns 0 if there is nothing.
func readNow(conn net.Conn, p []byte) (n int) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0
	}
	err = raw.Control(func(fd uintptr) { n, _ = syscall.Read(int(fd), p) }) // it does not block
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// SyscallConn lets go-redis see whether an idle connection was closed from the other side.
func (c *punctual) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, syscall.ENOTSUP
}
