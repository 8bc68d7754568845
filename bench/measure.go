package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticks is USER_HZ, the unit of the kernel's figures in /proc on every Linux that Go runs on.
const ticks = 100

// process is a line of /proc/PID/stat, as far as it is needed.
type process struct {
	pid, parent int
	cpu         time.Duration // of its own threads, user and system
	reaped      time.Duration // of children that ended
	rssBytes    int64
}

func readProcess(pid int) (process, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	_, rest, ok := bytes.Cut(data, []byte(") ")) // the name before it may hold blanks
	f := strings.Fields(string(rest))
	if !ok || len(f) < 22 {
		return process{}, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(f))
	}
	figure := func(i int) int64 {
		n, _ := strconv.ParseInt(f[i], 10, 64) // the kernel wrote it
		return n
	}
	span := func(i int) time.Duration { return time.Duration(figure(i)+figure(i+1)) * time.Second / ticks }
	return process{pid: pid, parent: int(figure(1)), cpu: span(11), reaped: span(13), rssBytes: figure(21) * int64(os.Getpagesize())}, nil
}

// processes are all that the machine shows.
func processes() []process {
	entries, _ := filepath.Glob("/proc/[0-9]*") // the pattern is right
	all := make([]process, 0, len(entries))
	for _, entry := range entries {
		pid, err := strconv.Atoi(filepath.Base(entry))
		if err != nil {
			continue
		}
		if p, err := readProcess(pid); err == nil { // else it has just ended
			all = append(all, p)
		}
	}
	return all
}

// family is a process and all below it: nginx works in a child. No process has the id 0.
func family(all []process, root int) (found []process) {
	for _, p := range all {
		switch {
		case p.pid == root:
			found = append(found, p)
		case root != 0 && p.parent == root:
			found = append(found, family(all, p.pid)...)
		}
	}
	return found
}

// exact is the time that the threads of processes have run, to the nanosecond. It leaves out threads
// that have ended, of which the contenders have none.
func exact(processes []process) (spent time.Duration) {
	for _, p := range processes {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.pid)) // the pattern is right
		for _, thread := range threads {
			data, err := os.ReadFile(thread) //nolint:gosec // G304: the kernel's
			if err != nil {
				continue // it has just ended
			}
			run, _, _ := strings.Cut(string(data), " ")
			n, _ := strconv.ParseInt(run, 10, 64) // the kernel wrote it
			spent += time.Duration(n)
		}
	}
	return spent
}

// rssMB is the memory of processes.
func rssMB(processes []process) float64 {
	var sum int64
	for _, p := range processes {
		sum += p.rssBytes
	}
	return float64(sum) / (1 << 20)
}

// busy is the time that all processors of the machine have been at work, and the time that a
// hypervisor gave to others.
func busy() (worked, stolen time.Duration, err error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	f := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal guest guest_nice
	if len(f) < 9 {
		return 0, 0, fmt.Errorf("/proc/stat: %q", line)
	}
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/stat: %w", err)
		}
		d := time.Duration(n) * time.Second / ticks
		if i == 8 {
			stolen = d
			continue
		}
		worked += d
	}
	return worked, stolen, nil
}

// usage is what the machine has done up to a moment.
type usage struct {
	at     time.Time
	others time.Duration // all processes but this one and those below it, and what was stolen
	rest   time.Duration // what all processors have done and this one and those below it have not
}

// foreign is how much of one core others have used since before. Either figure can miss some of it:
// processes that end leave no trace if nobody waits for them, and the kernel's sum is taken by samples.
func (u usage) foreign(before usage) float64 {
	return float64(max(u.others-before.others, u.rest-before.rest)) / float64(u.at.Sub(before.at))
}

// readUsage reads the figures of a moment. What a child of ours that ended has used is in its
// parent's figures.
func readUsage() (usage, error) {
	all := processes()
	u := usage{at: time.Now()}
	var mine time.Duration
	for _, p := range family(all, os.Getpid()) {
		mine += p.cpu + p.reaped
	}
	for _, p := range all {
		u.others += p.cpu + p.reaped
	}
	worked, stolen, err := busy()
	u.others += stolen - mine
	u.rest = worked + stolen - mine
	return u, err
}
