package report

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Input is one thing to read.
type Input struct {
	Name string // its path; - is the standard input
	Size int64  // in bytes; -1: not known before its end
	info fs.FileInfo
}

// Stdin is the name of the standard input.
const Stdin = "-"

// Find returns what arguments stand for: a file, all access logs of a folder, a pattern as *.log, or -. With
// rotated, a file stands for the files too that it was rotated into, by the gateway or by logrotate. No file is
// returned twice. The error names each argument that stands for nothing.
func Find(args []string, rotated bool) ([]Input, error) {
	var found inputs
	var faults Faults
	for _, arg := range args {
		names, err := expand(arg, rotated)
		for _, name := range names {
			if err == nil {
				err = found.add(name)
			}
		}
		if err != nil {
			faults = append(faults, Fault{arg, plainError(err)})
		}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return found, nil
}

// inputs are different ones.
type inputs []Input

// add adds an input, unless it is there.
func (in *inputs) add(name string) error {
	if name == Stdin {
		if !slices.ContainsFunc(*in, func(other Input) bool { return other.Name == Stdin }) {
			*in = append(*in, Input{Name: Stdin, Size: -1})
		}
		return nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(*in, func(other Input) bool { return other.info != nil && os.SameFile(other.info, info) }) {
		return nil
	}
	size := int64(-1)
	if info.Mode().IsRegular() {
		size = info.Size()
	}
	*in = append(*in, Input{Name: name, Size: size, info: info})
	return nil
}

// expand returns the names that an argument stands for.
func expand(arg string, rotated bool) ([]string, error) {
	if arg == Stdin {
		return []string{Stdin}, nil
	}
	info, err := os.Stat(arg)
	switch {
	case err == nil && info.IsDir():
		return logsIn(arg)
	case err == nil && rotated && info.Mode().IsRegular():
		older, err := rotatedFrom(arg)
		return append(older, arg), err
	case err == nil:
		return []string{arg}, nil
	}
	if strings.ContainsAny(arg, "*?[") {
		names, bad := filepath.Glob(arg)
		if bad != nil {
			return nil, bad
		}
		if len(names) > 0 {
			return names, nil
		}
		return nil, errNoMatch
	}
	return nil, err
}

// logName is the name of an access log or of a file that it was rotated into.
var logName = regexp.MustCompile(`\.log(-\d{8}(-\d+)?|\.\d+)?(\.gz)?$`)

// logsIn returns the access logs of a folder.
func logsIn(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if logName.MatchString(e.Name()) && !e.IsDir() {
			names = append(names, filepath.Join(folder, e.Name()))
		}
	}
	if len(names) == 0 {
		return nil, errNoLogs
	}
	return names, nil
}

// rotatedFrom returns the files that a file was rotated into: access-2026-11-29T15-04-05.000.log as the gateway
// names it, access.log.1 and access.log-20261129 as logrotate does, each of them packed or not.
func rotatedFrom(file string) ([]string, error) {
	folder, name := filepath.Split(file)
	ext := filepath.Ext(name)
	base := regexp.QuoteMeta(strings.TrimSuffix(name, ext))
	pattern, err := regexp.Compile(fmt.Sprintf(`^(%s-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}%s|%s(\.\d+|-\d{8}(-\d+)?))(\.gz)?$`,
		base, regexp.QuoteMeta(ext), regexp.QuoteMeta(name)))
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Clean(folder))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if pattern.MatchString(e.Name()) {
			names = append(names, filepath.Join(folder, e.Name()))
		}
	}
	return names, nil
}
