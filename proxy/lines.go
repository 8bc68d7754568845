package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	queueBytes = 4 << 20   // of lines that wait at most, beside those that are being written
	chunkBytes = 256 << 10 // written at once
	retryTime  = time.Second
)

// ErrFull is of lines that were dropped because the writer takes none.
var ErrFull = errors.New("nothing is taken, as from a pipe that nobody reads")

// LineWriter writes lines to a writer that may block or fail, on a goroutine of its own. Adding a
// line never waits: lines for which there is no room in the queue are dropped. After a failure the writer is
// tried again each second, from where it stopped, so that no line is glued to half of another. It is safe for
// concurrent use.
type LineWriter struct {
	to      io.Writer
	changed func(reason error, dropped int64)
	dropped atomic.Int64
	waiting atomic.Int64 // lines that were added and neither written nor dropped
	wake    chan struct{}
	stop    chan chan struct{}
	anew    atomic.Bool // to begins with the next write

	mu     sync.Mutex // covers what follows
	lines  []byte
	failed bool  // as changed was told last
	told   int64 // dropped then
}

// NewLineWriter returns a LineWriter. changed is told when lines begin to be dropped or cannot be written, and with
// no reason when all are written again, with how many were dropped meanwhile; it must not block, and may be nil.
func NewLineWriter(to io.Writer, changed func(reason error, dropped int64)) *LineWriter {
	if changed == nil {
		changed = func(error, int64) {}
	}
	w := &LineWriter{to: to, changed: changed, wake: make(chan struct{}, 1), stop: make(chan chan struct{})}
	go w.run()
	return w
}

// Write adds lines, each with its end. It never fails.
func (w *LineWriter) Write(p []byte) (int, error) {
	w.add(p)
	w.hurry()
	return len(p), nil
}

// add adds one line, which is written within half a second.
func (w *LineWriter) add(p []byte) {
	w.mu.Lock()
	room := len(w.lines)+len(p) <= queueBytes
	if room {
		w.waiting.Add(1)
		w.lines = append(w.lines, p...)
	}
	much := len(w.lines) >= chunkBytes
	w.mu.Unlock()
	if !room {
		w.dropped.Add(1)
		w.report(ErrFull)
	} else if much {
		w.hurry()
	}
}

// hurry has the lines written at once.
func (w *LineWriter) hurry() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// report tells of a change: nil is that all lines are written.
func (w *LineWriter) report(reason error) {
	w.mu.Lock()
	change := w.failed != (reason != nil)
	w.failed = reason != nil
	dropped := w.dropped.Load()
	var n int64
	if change && reason == nil {
		n, w.told = dropped-w.told, dropped
	}
	w.mu.Unlock()
	if change {
		w.changed(reason, n)
	}
}

// run writes what waits twice a second, or when there is much.
func (w *LineWriter) run() {
	var batch, rest []byte // rest is the end of batch that is not written
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		var stopped chan struct{}
		select {
		case <-tick.C:
		case <-w.wake:
		case stopped = <-w.stop:
		}
		for {
			if len(rest) == 0 {
				w.mu.Lock()
				batch, w.lines = w.lines, batch[:0]
				w.mu.Unlock()
				if rest = batch; len(rest) == 0 {
					break
				}
			}
			if w.anew.Swap(false) {
				rest = w.wholeLines(batch, rest)
			}
			var err error
			if rest, err = w.write(rest); err != nil {
				w.report(err)
				break
			}
		}
		if len(rest) == 0 {
			w.report(nil)
		}
		if stopped != nil {
			close(stopped)
			return
		}
		if len(rest) > 0 {
			time.Sleep(retryTime)
		}
	}
}

// write writes one chunk of whole lines, and returns what is left.
func (w *LineWriter) write(lines []byte) ([]byte, error) {
	chunk := lines
	if len(chunk) > chunkBytes {
		chunk = chunk[:bytes.LastIndexByte(chunk[:chunkBytes], '\n')+1]
		if len(chunk) == 0 { // a line that is longer
			chunk = lines
		}
	}
	n, err := w.to.Write(chunk)
	n = min(max(n, 0), len(chunk))
	w.waiting.Add(-int64(bytes.Count(chunk[:n], []byte{'\n'})))
	if n < len(chunk) && err == nil {
		err = io.ErrShortWrite
	}
	return lines[n:], err
}

// wholeLines returns the rest of a batch without the end of a line whose beginning was written before.
func (w *LineWriter) wholeLines(batch, rest []byte) []byte {
	if at := len(batch) - len(rest); at == 0 || batch[at-1] == '\n' {
		return rest
	}
	w.waiting.Add(-1)
	w.dropped.Add(1)
	return rest[bytes.IndexByte(rest, '\n')+1:]
}

// Anew says that what comes next is written to another file, which is to begin with a whole line.
func (w *LineWriter) Anew() { w.anew.Store(true) }

// Dropped returns how many lines were dropped.
func (w *LineWriter) Dropped() int64 { return w.dropped.Load() }

// Close writes what waits. It returns an error that says how many lines are lost if the writer has not taken
// them after patience. No line may be added after it.
func (w *LineWriter) Close(patience time.Duration) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	stopped := make(chan struct{})
	select {
	case w.stop <- stopped:
		select {
		case <-stopped:
		case <-timer.C:
		}
	case <-timer.C:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if lost := w.waiting.Load() + w.dropped.Load() - w.told; lost > 0 {
		return fmt.Errorf("%d lines are lost", lost)
	}
	return nil
}
