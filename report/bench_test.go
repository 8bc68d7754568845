package report

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// BenchmarkReport reads lines from a file into all tables.
func BenchmarkReport(b *testing.B) {
	for _, apps := range []int{20, 10_000} {
		b.Run(strconv.Itoa(apps)+"apps", func(b *testing.B) { benchmark(b, apps, Options{By: allTables}) })
	}
}

func benchmark(b *testing.B, apps int, o Options) {
	const lines = 200_000
	g := newGenerator(1, apps, 10*time.Millisecond)
	var text bytes.Buffer
	if err := g.write(&text, lines); err != nil {
		b.Fatal(err)
	}
	name := filepath.Join(b.TempDir(), "access.log")
	if err := os.WriteFile(name, text.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		if got, err := read(b, o, name); err != nil || got.Total != g.total {
			b.Fatalf("%+v, %v, want %+v", got.Total, err, g.total)
		}
	}
	b.ReportMetric(float64(lines)*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}
