package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"wxproxy/internal/words"
	"wxproxy/report"
)

// progressTime is how often the progress of a report is shown anew.
const progressTime = 300 * time.Millisecond

// showProgress shows on a terminal, and only there, how far a report is, until hide is called.
func showProgress(w io.Writer, l words.Language, r *report.Report, inputs []report.Input) (hide func()) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func() {}
	}
	var total int64 // 0: not known
	for _, in := range inputs {
		if in.Size < 0 {
			total = 0
			break
		}
		total += in.Size
	}
	began, stop, done := time.Now(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(progressTime)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				fmt.Fprint(w, "\r\x1b[K")
				return
			case <-tick.C:
				fmt.Fprint(w, "\r\x1b[K"+progress(l, r.Bytes(), total, r.Lines(), time.Since(began)))
			}
		}
	}()
	return func() { close(stop); <-done }
}

// progress is how far a report is that has read so many bytes of a total.
func progress(l words.Language, read, total, lines int64, took time.Duration) string {
	rate := int64(float64(lines) / took.Seconds())
	if total == 0 || read == 0 {
		return l.Text(words.ReportProgress, "size", megabytes(read), "rate", rate)
	}
	read = min(read, total) // a file may have grown
	left := time.Duration(float64(took) * float64(total-read) / float64(read)).Round(time.Second)
	return l.Text(words.ReportPercent, "percent", 100*read/total, "size", megabytes(total), "rate", rate, "left", left)
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }
