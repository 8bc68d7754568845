package main

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What the demo prints works as it is printed, from another terminal.
func TestDemo(t *testing.T) {
	t.Parallel()
	demo := exec.CommandContext(context.WithoutCancel(t.Context()), program, "demo")
	stdout, stderr := newOutput(), newOutput()
	demo.Stdout, demo.Stderr = stdout, stderr
	demo.Dir = t.TempDir()
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- demo.Wait() }()
	waitFor(t, "the demo's last line", func() bool { return strings.Contains(stdout.String(), "Ctrl-C ends the demo") })
	for _, line := range []string{`curl -i '([^']*/cgi-bin/menu/create)' -d`, `curl (http\S*/metrics)`} {
		m := regexp.MustCompile(line).FindStringSubmatch(stdout.String())
		if m == nil {
			t.Fatalf("no line like %s in:\n%s", line, stdout)
		}
		if a := do(t, "GET", m[1], nil); a.status != 200 {
			t.Errorf("%s: %v", m[1], a)
		}
	}
	m := regexp.MustCompile(`usage --config (\S+)`).FindStringSubmatch(stdout.String())
	if m == nil {
		t.Fatalf("no usage command in:\n%s", stdout)
	}
	out, err := exec.CommandContext(t.Context(), program, "usage", "--config", m[1]).CombinedOutput()
	if err != nil || !regexp.MustCompile(`\b1/2\s.*menu\.create`).Match(out) {
		t.Errorf("usage: %v\n%s", err, out)
	}
	if err := demo.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the demo ended with %v\n%s", err, stderr)
		}
	case <-time.After(10 * time.Second):
		_ = demo.Process.Kill()
		t.Error("the demo did not end")
	}
	if _, err := os.Stat(m[1]); !os.IsNotExist(err) {
		t.Errorf("the demo has left %s: %v", m[1], err)
	}
}
