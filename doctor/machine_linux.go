package doctor

import (
	"errors"
	"os"
	"syscall"
)

// networkDisks are the file systems of the network, by the numbers of statfs(2).
var networkDisks = map[int64]string{
	0x6969: "NFS", 0xff534d42: "CIFS", 0xfe534d42: "SMB2", 0x517b: "SMB", 0x01021997: "9P",
	0x00c36400: "Ceph", 0x0bd00bd0: "Lustre", 0x01161970: "GFS2", 0x5346414f: "AFS", 0x47504653: "GPFS",
}

// tmpfsDisk is the number of a file system in memory.
const tmpfsDisk = 0x01021994

// diskOf looks at the file system of a folder.
func diskOf(folder string) (disk, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(folder, &s); err != nil {
		return disk{}, err
	}
	kind := int64(uint32(s.Type))                                                                                    // its width depends on the processor
	return disk{free: int64(s.Bavail) * int64(s.Bsize), network: networkDisks[kind], memory: kind == tmpfsDisk}, nil //nolint:unconvert // on other processors Bsize has another width
}

// locked reports whether another process has the lock of a store file.
func locked(path string) bool {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return false
	}
	defer f.Close() // the lock of this look ends with it
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// descriptorLimit is how many file descriptors a process that is started here may have; 0: not known. Go raises the
// soft limit to the hard one.
func descriptorLimit() int64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return int64(min(limit.Max, 1<<62))
}
