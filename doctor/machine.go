package doctor

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"wxproxy/internal/words"
)

// disk is what is known of a file system.
type disk struct {
	free    int64  // bytes that a user may still write
	network string // its name, if it is one of the network
	memory  bool   // it is gone with the machine's next start
}

// What a gateway takes beside its bodies, and for each call under way.
const (
	baseMemory    = 96 << 20
	memoryOfACall = 64 << 10
	collectorAims = 1 << 30 // the limit that the program sets for its collector
)

// lookAtMachine compares the machine with what the configuration lets the gateway take.
func (d *doctor) lookAtMachine(context.Context) []Finding {
	var findings []Finding
	findings = append(findings, d.lookAtLogDisk()...)
	descriptors, f := d.lookAtDescriptors()
	findings = append(findings, f...)
	findings = append(findings, d.lookAtMemory()...)
	findings = append(findings, d.lookAtBacklog()...)
	return orOK(findings, words.New(words.DoctorMachineFine, "descriptors", descriptors))
}

// lookAtLogDisk compares what the access log may still take with what is free.
func (d *doctor) lookAtLogDisk() []Finding {
	log := d.Config.AccessLog
	if log.File == "" {
		return nil
	}
	folder := filepath.Dir(log.File)
	disk, err := diskOf(folder)
	if err != nil {
		return nil // it may not be there yet; the configuration's check has tried to write
	}
	stem := strings.TrimSuffix(log.File, filepath.Ext(log.File))
	files, _ := filepath.Glob(stem + "*")
	needs := int64(log.MaxSizeMB) * int64(log.Keep+1) << 20
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			needs -= info.Size()
		}
	}
	switch {
	case disk.free < noSpace:
		return []Finding{fault(words.New(words.DoctorDiskFull, "folder", folder, "free", size(disk.free)), words.New(words.DoctorDiskMend))}
	case disk.free < needs:
		return []Finding{warning(words.New(words.DoctorLogDisk, "folder", folder, "free", size(disk.free), "needs", size(needs)), words.New(words.DoctorLogDiskMend))}
	}
	return nil
}

// lookAtDescriptors compares the file descriptors that the gateway may have with what its calls take: two each.
func (d *doctor) lookAtDescriptors() (limit int64, findings []Finding) {
	const others = 128 // of the store, the log, the listeners
	needs := 2*int64(d.Config.MaxInFlight) + others
	of := words.DoctorOfThisShell
	limit = descriptorLimit()
	if gateway := d.gateway.Load(); gateway != nil {
		if m := gateway.metrics["process_max_fds{}"]; m.value > 0 {
			limit, of = int64(m.value), words.DoctorOfGateway
		}
	}
	if limit == 0 || limit >= needs {
		return limit, nil
	}
	return limit, []Finding{warning(words.New(words.DoctorDescriptors, "limit", limit, "of", of, "calls", d.Config.MaxInFlight, "needs", needs), words.New(words.DoctorDescriptorsMend))}
}

// lookAtMemory compares a limit of the memory, as containers and systemd set it, with what the gateway may take.
func (d *doctor) lookAtMemory() []Finding {
	limit := memoryLimit(cmp.Or(d.Cgroups, "/sys/fs/cgroup"))
	if limit == 0 {
		return nil
	}
	needs := int64(baseMemory) + int64(d.Config.MaxInFlight)*memoryOfACall
	if limit < needs {
		return []Finding{warning(words.New(words.DoctorMemoryLimit, "limit", size(limit), "calls", d.Config.MaxInFlight, "needs", size(needs)), words.New(words.DoctorMemoryLimitMend))}
	}
	if limit < collectorAims && d.Getenv("GOMEMLIMIT") == "" {
		return []Finding{note(words.New(words.DoctorCollector, "limit", size(limit)), words.New(words.DoctorCollectorMend, "setting", fmt.Sprintf("%dMiB", limit/10*9>>20)))}
	}
	return nil
}

// memoryLimit returns the memory limit of this process's cgroup, of either version; 0: none.
func memoryLimit(root string) int64 {
	own, _ := os.ReadFile("/proc/self/cgroup")
	folders := []string{root}
	for text := range strings.Lines(string(own)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(text), "0::"); ok {
			folders = append(folders, filepath.Join(root, path))
		}
	}
	const none = 1 << 60 // version 1 writes about 2^63
	least := int64(0)
	for _, file := range append(inEach(folders, "memory.max"), filepath.Join(root, "memory/memory.limit_in_bytes")) {
		if n := readNumber(file); n > 0 && n < none && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}

func inEach(folders []string, name string) []string {
	files := make([]string, len(folders))
	for i, folder := range folders {
		files[i] = filepath.Join(folder, name)
	}
	return files
}

// readNumber reads a file of the kernel's; 0 if it holds no number.
func readNumber(file string) int64 {
	text, err := os.ReadFile(file) //nolint:gosec // a file of the kernel's
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64) // 0: max, for example
	return n
}

// leastBacklog is how many connections a listener should let wait to be accepted.
const leastBacklog = 512

func (d *doctor) lookAtBacklog() []Finding {
	n := readNumber("/proc/sys/net/core/somaxconn")
	if n == 0 || n >= leastBacklog || n >= int64(d.Config.MaxInFlight) {
		return nil
	}
	return []Finding{note(words.New(words.DoctorBacklog, "limit", n), words.New(words.DoctorRun, "command", "sysctl -w net.core.somaxconn=4096"))}
}

// size is a number of bytes as people read it.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	value, unit := float64(n), 0
	for value >= 1024 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	if value >= 10 || unit == 0 {
		return fmt.Sprintf("%.0f %s", value, units[unit])
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}

// short is a duration with two digits or so.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}
