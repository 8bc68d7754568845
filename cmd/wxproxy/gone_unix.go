//go:build unix

package main

import (
	"errors"
	"syscall"
)

const canPeek = true

// clientGone reports whether the other side has closed the connection, or this one has. Bytes that came are left
// where they are: they are the next request's.
func clientGone(raw syscall.RawConn) (gone bool) {
	err := raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		gone = n == 0 && err == nil || err != nil && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR)
	})
	return gone || err != nil
}
