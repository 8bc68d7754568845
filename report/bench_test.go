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
	b.Helper()
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

// BenchmarkParse reads one line as the gateway writes it, and in another order through encoding/json.
func BenchmarkParse(b *testing.B) {
	line := bytes.TrimSpace(newGenerator(1, 1, time.Second).next())
	other := bytes.Replace(line, []byte(`"status":200,`), nil, 1)
	other = bytes.Replace(other, []byte("{"), []byte(`{"status":200,`), 1)
	for name, line := range map[string][]byte{"as written": line, "another order": other} {
		b.Run(name, func(b *testing.B) {
			var p Parser
			var l Line
			for b.Loop() {
				if !p.Parse(line, &l) {
					b.Fatal("not read")
				}
			}
		})
	}
}
