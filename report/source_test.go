package report

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// lineAt is a line of a call that came at a time of 2026-11-29, with a request of its own.
func lineAt(tb testing.TB, clock, rule string) string {
	tb.Helper()
	at, err := time.Parse(time.RFC3339, "2026-11-29T"+clock+"+08:00")
	if err != nil {
		tb.Fatal(err)
	}
	r := sample
	r.Time, r.Rule, r.Decision, r.Reason = at, rule, "pass", ""
	return string(written(tb, r))
}

func packed(tb testing.TB, text string) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// orderOf is the order in which the rules of lines are read.
func orderOf(t *testing.T, names ...string) (rules []string) {
	t.Helper()
	inputs, err := Find(names, false)
	if err != nil {
		t.Fatal(err)
	}
	r := New(Options{Zone: shanghai(t)})
	m := merge{read: &r.bytes, fault: func(f Fault) { t.Error(f) }}
	m.start(t.Context(), inputs)
	m.each(t.Context(), func(l *Line) {
		rules = append(rules, string(l.Rule))
		if len(m.open) > 2 {
			t.Errorf("%d files are open, want those whose times overlap", len(m.open))
		}
	})
	return rules
}

// Files are read by the time of their lines: rotated ones after each other whatever they are called, those of two
// gateways side by side.
func TestOrderOfFiles(t *testing.T) {
	folder := t.TempDir()
	file := func(name string, text []byte) string {
		name = filepath.Join(folder, name)
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	file("access-2026-11-29T02-00-00.000.log", []byte(lineAt(t, "10:00:00", "a")+lineAt(t, "10:00:10", "d")))
	file("access.log", []byte(lineAt(t, "10:00:20", "e")+lineAt(t, "10:00:40", "h")))
	file("access.log.2.gz", packed(t, lineAt(t, "09:00:00", "0")))
	second := file("other.log", []byte(lineAt(t, "10:00:05", "b")+lineAt(t, "10:00:07", "c")+lineAt(t, "10:00:25", "f")+lineAt(t, "10:00:30", "g")))
	got := strings.Join(orderOf(t, second, folder), "")
	if want := "0abcdefgh"; got != want {
		t.Errorf("read in the order %s, want %s", got, want)
	}
}

func TestFind(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{
		"access.log", "access-2026-11-29T02-00-00.000.log", "access-2026-11-28T02-00-00.000.log.gz", "access.log.1", "access.log-20261128.gz",
		"access-old.log", "wxproxy.yaml", "accessxlog.1",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("access.log", filepath.Join(folder, "current.log")); err != nil {
		t.Fatal(err)
	}
	set := "access-2026-11-28T02-00-00.000.log.gz access-2026-11-29T02-00-00.000.log access.log access.log-20261128.gz access.log.1"
	for _, tt := range []struct {
		args    string
		rotated bool
		want    string
	}{
		{"access.log", false, "access.log"},
		{"access.log", true, set},
		{".", false, "access-2026-11-28T02-00-00.000.log.gz access-2026-11-29T02-00-00.000.log access-old.log access.log access.log-20261128.gz access.log.1"},
		{"access-2*", false, "access-2026-11-28T02-00-00.000.log.gz access-2026-11-29T02-00-00.000.log"},
		{"access.log current.log access.l*g", false, "access.log"},
	} {
		var args []string
		for arg := range strings.FieldsSeq(tt.args) {
			args = append(args, filepath.Join(folder, arg))
		}
		inputs, err := Find(append(args, Stdin, Stdin), tt.rotated)
		var names []string
		for _, in := range inputs {
			names = append(names, filepath.Base(in.Name))
		}
		slices.Sort(names)
		if got, want := strings.Join(names, " "), "- "+tt.want; err != nil || got != want {
			t.Errorf("Find(%s, %t) = %s, %v, want %s", tt.args, tt.rotated, got, err, want)
		}
	}
	for arg, want := range map[string]string{"nosuch.log": "no such file", "nosuch*": "no file matches", "empty": "no access log in this folder"} {
		arg = filepath.Join(folder, arg)
		if strings.HasSuffix(arg, "empty") {
			if err := os.Mkdir(arg, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Find([]string{arg}, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Find(%s): %v, want %s", arg, err, want)
		}
	}
}

// What is no line of the gateway's is counted and named by its place, and stops nothing.
func TestForeignLines(t *testing.T) {
	secret := "AppSecret 0123456789abcdef0123456789abcdef"
	text := "\ufeff" + lineAt(t, "10:00:00", "a") + secret + "\n" + strings.Repeat("x", maxLine+10) + "\n\n" +
		"wxproxy-1  | " + lineAt(t, "10:00:01", "b") + `{"level":"info","msg":"listening"}` + "\r\n" +
		strings.ReplaceAll(lineAt(t, "10:00:02", "c"), "\n", "\r\n") + strings.TrimSuffix(lineAt(t, "10:00:03", "d"), "\n")
	name := write(t, "a.log", []byte(text))
	got, err := read(t, Options{By: [][]Dimension{{Rule}}}, name)
	if err != nil {
		t.Fatal(err)
	}
	if got.Total.Calls != 4 || got.Foreign != 3 || got.Lines != 7 {
		t.Errorf("%d calls, %d foreign of %d lines, want 4, 3 of 7", got.Total.Calls, got.Foreign, got.Lines)
	}
	want := []Place{{name, 2, NotOurs}, {name, 3, TooLong}, {name, 6, NotOurs}}
	if !slices.Equal(got.Places, want) {
		t.Errorf("places %v, want %v", got.Places, want)
	}
	if shown := fmt.Sprint(got); strings.Contains(shown, "0123456789abcdef0123456789abcdef") {
		t.Errorf("the result holds what a foreign line holds: %s", shown)
	}
	cut := write(t, "b.log", []byte(lineAt(t, "10:00:00", "a")+lineAt(t, "10:00:01", "b")[:200]))
	if got, err = read(t, Options{}, cut); err != nil || got.Total.Calls != 1 || !slices.Equal(got.Places, []Place{{cut, 2, Unfinished}}) {
		t.Errorf("%d calls, %v, %v, want 1 and an unfinished line", got.Total.Calls, got.Places, err)
	}
}

// A gzip file that is cut off or damaged is read as far as it goes, and is a fault.
func TestBrokenFiles(t *testing.T) {
	g := newGenerator(3, 5, time.Second)
	var text bytes.Buffer
	if err := g.write(&text, 5000); err != nil {
		t.Fatal(err)
	}
	whole := packed(t, text.String())
	damaged := bytes.Clone(whole)
	damaged[len(damaged)-6] ^= 1
	for name, tt := range map[string]struct {
		data  []byte
		least int64
		want  error
	}{
		"cut off":          {whole[:len(whole)/2], 1000, errCut},
		"cut in its trail": {whole[:len(whole)-3], 5000, errCut},
		"damaged":          {damaged, 5000, errGzip},
		"only a header":    {whole[:4], 0, errCut},
	} {
		got, err := read(t, Options{}, write(t, "a.log.gz", tt.data))
		if !errors.Is(err, tt.want) && !strings.Contains(fmt.Sprint(err), tt.want.Error()) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if got.Complete || len(got.Faults) != 1 || got.Total.Calls < tt.least || got.Total.Calls > 5000 {
			t.Errorf("%s: complete %t, faults %v, %d calls, want a fault and at least %d", name, got.Complete, got.Faults, got.Total.Calls, tt.least)
		}
	}
	if got, err := read(t, Options{By: allTables}, write(t, "a.log", slices.Concat(whole))); err != nil {
		t.Error(err)
	} else {
		checkSums(t, g, got)
	}
}

// A file that is rotated away between its being found and being read is a fault, and not another file's lines.
func TestAReplacedFile(t *testing.T) {
	name := write(t, "access.log", []byte(lineAt(t, "10:00:00", "a")))
	inputs, err := Find([]string{name}, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name, name+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(lineAt(t, "11:00:00", "b")), 0o600); err != nil {
		t.Fatal(err)
	}
	r := New(Options{Zone: shanghai(t)})
	if err := r.Read(t.Context(), inputs); err == nil || !strings.Contains(err.Error(), errReplaced.Error()) {
		t.Errorf("%v, want %v", err, errReplaced)
	}
}

// A file to which lines are added while it is read gives whole lines only, and reading ends.
func TestAGrowingFile(t *testing.T) {
	name := write(t, "access.log", []byte(strings.Repeat(lineAt(t, "10:00:00", "a"), 20_000)))
	file, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	stop, done := make(chan struct{}), make(chan int)
	more := []byte(lineAt(t, "10:00:01", "b"))
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				done <- n
				return
			case <-time.After(50 * time.Microsecond):
				_, _ = file.Write(more)
			}
		}
	}()
	got, err := read(t, Options{}, name)
	close(stop)
	added := <-done
	if err != nil || got.Foreign > 1 || got.Total.Calls < 20_000 || got.Total.Calls > int64(20_000+added) {
		t.Errorf("%d calls, %d foreign, %v, want 20000 to %d calls", got.Total.Calls, got.Foreign, err, 20_000+added)
	}
}

// An interrupt ends a report that waits for a pipe: what was read is there.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	name := fmt.Sprintf("/dev/fd/%d", reader.Fd())
	inputs, err := Find([]string{name}, false)
	if err != nil {
		t.Skipf("NOT TESTED: %v", err)
	}
	if _, err := writer.WriteString(strings.Repeat(lineAt(t, "10:00:00", "a"), 3)); err != nil {
		t.Fatal(err)
	}
	r := New(Options{Zone: shanghai(t)})
	ended := make(chan error)
	go func() { ended <- r.Read(ctx, inputs) }()
	for end := time.Now().Add(30 * time.Second); r.Lines() < 2 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	cancel()
	select {
	case err := <-ended:
		if got := r.Result(0, err); !errors.Is(err, context.Canceled) || got.Complete || got.Total.Calls != 3 {
			t.Errorf("%v, complete %t, %d calls, want an incomplete report of 3", err, got.Complete, got.Total.Calls)
		}
	case <-time.After(30 * time.Second):
		t.Error("it goes on reading")
	}
}
