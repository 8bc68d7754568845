//go:build !linux

package doctor

import "errors"

// diskOf knows nothing of this system's disks.
func diskOf(string) (disk, error) { return disk{}, errors.ErrUnsupported }

// locked cannot look at a lock here. Opening the file fails when another process has it.
func locked(string) bool { return false }

// descriptorLimit is not known here.
func descriptorLimit() int64 { return 0 }
