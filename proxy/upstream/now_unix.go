//go:build unix

package upstream

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// readNow reads from a descriptor, which does not block, as Go's do not. That nothing has come is a timeout.
func readNow(fd uintptr, p []byte) (int, error) {
	n, err := syscall.Read(int(fd), p)
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return 0, os.ErrDeadlineExceeded
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}
