package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"wxproxy/internal/words"
	"wxproxy/store"
)

// lookAtStore looks at what store.url names.
func (d *doctor) lookAtStore(ctx context.Context) []Finding {
	if path, ok := strings.CutPrefix(d.Config.Store.URL, "file:"); ok {
		return d.lookAtFile(ctx, strings.TrimPrefix(path, "//"))
	}
	return d.lookAtRedis(ctx)
}

// How much of a disk is free for a store file: it grows by a few megabytes for a thousand accounts.
const (
	littleSpace = 512 << 20
	noSpace     = 16 << 20
)

// lookAtFile looks at the embedded store. It opens the file only when nobody else has.
func (d *doctor) lookAtFile(ctx context.Context, path string) []Finding {
	findings := storeDisk(path)
	info, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return append(findings, fault(words.New(words.DoctorFileUnreadable, "file", path, "error", fileError(err)), words.New(words.DoctorFileMend)))
	}
	if err != nil {
		if err := makesFile(filepath.Dir(path)); err != nil {
			return append(findings, fault(words.New(words.DoctorFileUnreadable, "file", path, "error", fileError(err)), words.New(words.DoctorFileMend)))
		}
		return orOK(findings, words.New(words.DoctorFileAbsent, "file", path))
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		findings = append(findings, warning(words.New(words.DoctorFileMode, "file", path, "mode", mode.String()), words.New(words.DoctorFileModeMend, "file", path)))
	}
	gateway := d.gateway.Load()
	if locked(path) {
		if gateway == nil {
			return append(findings, warning(words.New(words.DoctorFileLocked, "file", path, "address", d.Admin.Address), words.New(words.DoctorFileLockedMend)))
		}
		// Its state is among the findings of the gateway.
		return orOK(findings, words.New(words.DoctorFileOfGateway, "file", path, "size", size(info.Size()), "state", gateway.store))
	}
	if gateway != nil {
		findings = append(findings, warning(words.New(words.DoctorFileNotGateways, "file", path), words.New(words.DoctorFileNotGatewaysMend)))
		return findings
	}
	opened, err := store.Open(ctx, d.Store)
	if err != nil {
		return append(findings, fault(words.New(words.DoctorStoreFault, "error", err), mendFile(err)))
	}
	if err := opened.Close(); err != nil {
		findings = append(findings, fault(words.New(words.DoctorStoreFault, "error", err), words.New(words.DoctorFileMend)))
	}
	return orOK(findings, words.New(words.DoctorFileFine, "file", path, "size", size(info.Size())))
}

// mendFile says what to do about a store file that cannot be opened. The error of a damaged one says it itself.
func mendFile(err error) *words.Error {
	if strings.Contains(err.Error(), "Move the file away") {
		return nil
	}
	return words.New(words.DoctorFileMend)
}

// storeDisk looks at the disk that a store file is on, or will be.
func storeDisk(path string) []Finding {
	folder := filepath.Dir(path)
	disk, err := diskOf(folder)
	if err != nil {
		return nil // opening the file says more
	}
	var findings []Finding
	switch {
	case disk.free < noSpace:
		findings = append(findings, fault(words.New(words.DoctorDiskFull, "folder", folder, "free", size(disk.free)), words.New(words.DoctorDiskMend)))
	case disk.free < littleSpace:
		findings = append(findings, warning(words.New(words.DoctorDiskLow, "folder", folder, "free", size(disk.free)), words.New(words.DoctorDiskMend)))
	}
	switch {
	case disk.network != "":
		findings = append(findings, warning(words.New(words.DoctorNetworkDisk, "folder", folder, "type", disk.network), words.New(words.DoctorNetworkDiskMend)))
	case disk.memory:
		findings = append(findings, warning(words.New(words.DoctorMemoryDisk, "folder", folder), words.New(words.DoctorMemoryDiskMend)))
	}
	return findings
}

// makesFile returns why no file can be made in a folder. None is left there.
func makesFile(folder string) error {
	f, err := os.CreateTemp(folder, ".wxproxy-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// fileError is an error of a file without its path.
func fileError(err error) error {
	if of, ok := errors.AsType[*fs.PathError](err); ok {
		return of.Err
	}
	return err
}
