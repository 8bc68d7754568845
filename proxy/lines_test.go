package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"
)

// fragile is a writer that blocks, or takes only some bytes.
type fragile struct {
	mu    sync.Mutex
	text  bytes.Buffer
	room  int // bytes that it takes; negative: any number
	block chan struct{}
}

func (f *fragile) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.block != nil {
		<-f.block
	}
	n := len(p)
	if f.room >= 0 {
		n = min(n, f.room)
		f.room -= n
	}
	f.text.Write(p[:n])
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func (f *fragile) makeRoom() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.room = -1
}

// A disk that is full in the middle of a line goes on with the rest of that line.
func TestLinesOnAFullDisk(t *testing.T) {
	t.Parallel()
	f := &fragile{room: 55}
	type change struct {
		reason  error
		dropped int64
	}
	changes := make(chan change, 10)
	w := NewLineWriter(f, func(reason error, dropped int64) { changes <- change{reason, dropped} })
	var want strings.Builder
	for i := range 20 {
		line := fmt.Sprintf("line %4d\n", i)
		want.WriteString(line)
		if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	if c := <-changes; !errors.Is(c.reason, syscall.ENOSPC) {
		t.Errorf("told %+v, want that the disk is full", c)
	}
	f.makeRoom()
	if c := <-changes; c.reason != nil || c.dropped != 0 {
		t.Errorf("told %+v, want that all is well", c)
	}
	if err := w.Close(10 * time.Second); err != nil {
		t.Error(err)
	}
	if got := f.text.String(); got != want.String() {
		t.Errorf("written:\n%s", got)
	}
	select {
	case c := <-changes:
		t.Errorf("told %+v, though nothing changed", c)
	default:
	}
}

// A file that is opened anew after half a line begins with a whole one; half a line is told as dropped.
func TestLinesInANewFile(t *testing.T) {
	t.Parallel()
	f := &fragile{room: 15}
	failed := make(chan error, 10)
	w := NewLineWriter(f, func(reason error, _ int64) { failed <- reason })
	for range 3 {
		_, _ = w.Write([]byte("123456789\n"))
	}
	if err := <-failed; !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("told %v, want that the disk is full", err)
	}
	f.mu.Lock()
	f.text.Reset()
	f.mu.Unlock()
	w.Anew()
	f.makeRoom()
	if err := <-failed; err != nil {
		t.Fatalf("told %v, want that all is well", err)
	}
	if err := w.Close(10 * time.Second); err != nil || w.Dropped() != 1 {
		t.Errorf("Close = %v, %d dropped, want 1, which was told before", err, w.Dropped())
	}
	if got := f.text.String(); got != "123456789\n" {
		t.Errorf("the new file holds %q", got)
	}
}

// A writer that blocks costs lines, not time, and how many is told.
func TestLinesThatNobodyTakes(t *testing.T) {
	f := &fragile{room: -1, block: make(chan struct{})}
	var mu sync.Mutex
	var reasons []error
	var dropped int64
	w := NewLineWriter(f, func(reason error, n int64) {
		mu.Lock()
		defer mu.Unlock()
		reasons, dropped = append(reasons, reason), dropped+n
	})
	line := []byte(strings.Repeat("x", 1023) + "\n")
	const lines = 3 * queueBytes / 1024
	began := time.Now()
	for range lines {
		w.add(line)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("adding %d lines took %v", lines, took)
	}
	if err := w.Close(100 * time.Millisecond); err == nil || !strings.Contains(err.Error(), fmt.Sprint(lines)) {
		t.Errorf("Close = %v, want that %d lines are lost", err, lines)
	}
	close(f.block)
	for {
		mu.Lock()
		n := len(reasons)
		mu.Unlock()
		if n == 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := w.Close(10 * time.Second); err != nil {
		t.Errorf("Close = %v, though all that was dropped was told", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !errors.Is(reasons[0], ErrFull) || reasons[1] != nil || dropped != w.Dropped() || dropped < lines/3 {
		t.Errorf("told %v and %d dropped of %d", reasons, dropped, w.Dropped())
	}
	if n := int64(bytes.Count(f.text.Bytes(), []byte{'\n'})); n != lines-dropped || f.text.Len() != int(n)*len(line) {
		t.Errorf("%d lines written, want %d whole ones", n, lines-dropped)
	}
}

func BenchmarkAccessLog(b *testing.B) {
	r := &Record{Time: time.Now(), RequestID: newRequestID(), App: "shop", AppID: testAppID, Method: "POST", Path: "/cgi-bin/menu/create", Rule: "menu.create", Decision: "pass", Status: 200, UserAgent: "okhttp/4.9.0"}
	l := NewAccessLog(&discard{}, nil)
	defer l.Close()
	b.Run("queue", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				l.Write(r)
			}
		})
	})
	zap := &zapcore.BufferedWriteSyncer{WS: &discard{}}
	defer func() { _ = zap.Stop() }()
	b.Run("zap", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				line := l.lines.Get().(*[]byte)
				*line = r.appendLine((*line)[:0])
				_, _ = zap.Write(*line)
				l.lines.Put(line)
			}
		})
	})
}
