package report

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Why a file was not read, or not to its end.
var (
	errNoLogs   = errors.New("no access log in this folder: want files that are called *.log or *.log.gz")
	errNoMatch  = errors.New("no file matches")
	errReplaced = errors.New("another file has taken its place since the start: run the report again")
	errCut      = errors.New("the gzip file is cut off: what could be read is counted")
	errGzip     = errors.New("not read to its end: the gzip file is damaged")
)

// Fault is a file that was not read, or not to its end.
type Fault struct { //nolint:errname // as in package config
	File string
	Err  error
}

func (f Fault) Error() string { return fmt.Sprintf("%s: %v", f.File, f.Err) }
func (f Fault) Unwrap() error { return f.Err }

// Faults are all files that were not read, or not to their end.
type Faults []Fault //nolint:errname // as in package config

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, one := range f {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the faults.
func (f Faults) Unwrap() []error {
	errs := make([]error, len(f))
	for i, one := range f {
		errs[i] = one
	}
	return errs
}

// plainError is an error of a file without its path, which stands beside it.
func plainError(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("no such file")
	}
	if of, ok := errors.AsType[*fs.PathError](err); ok {
		return of.Err
	}
	return err
}
