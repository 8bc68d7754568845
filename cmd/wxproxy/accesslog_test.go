package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"wxproxy/sandbox"
)

// Whatever stdout is, calls go on, and the process ends when it is told to, with exit status 0.
func TestTheAccessLogStopsNoCall(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, stdout string
		calls        int
		reason       string // in the log; "" is none as long as the queue has room
	}{
		{"a pipe that nobody reads", `mkfifo p; exec 3<>p; exec "$@" >p`, 1500, ""},
		{"a reader that is gone", `mkfifo p; (exec <p) & exec "$@" >p`, 100, "broken pipe"},
		{"a disk that is full", `exec "$@" >/dev/full`, 100, "no space left on device"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wechat := newWechat(t, sandbox.Options{})
			p := startBy(t, []string{"sh", "-c", tt.stdout, "sh"}, writeSmall(t, wechat), wechat)
			for range tt.calls {
				if a := do(t, "GET", p.url+"/"+appA+"/cgi-bin/get_api_domain_ip", nil); a.decision != "pass" {
					t.Fatalf("%+v, want pass", a)
				}
			}
			if tt.reason != "" {
				line := p.stderr.await(t, "line that the access log is not written", message("access log: write failed"))
				if !strings.Contains(line["error"].(string), tt.reason) {
					t.Errorf("%v, want the reason %q", line, tt.reason)
				}
			}
			if n := metricOf(t, http.DefaultClient, p.admin, "wxproxy_access_log_dropped_total"); n != "0" {
				t.Errorf("%s lines dropped, though the queue has room", n)
			}
			began := time.Now()
			p.stop(t)
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("it took %v to stop", took)
			}
			if !strings.Contains(p.stderr.String(), "lines are lost") {
				t.Errorf("the log does not say how many lines are lost:\n%s", p.stderr)
			}
		})
	}
}

// stdout and stderr may be the same pipe, which nobody reads.
func TestTheLogStopsNoCall(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	p := startBy(t, []string{"sh", "-c", `mkfifo p; exec 3<>p; exec "$@" >p`, "sh"}, writeSmall(t, wechat), wechat)
	wechat.Close() // each call is an entry of the log as well
	for range 200 {
		if a := do(t, "GET", p.url+"/"+appA+"/cgi-bin/get_api_domain_ip", nil); a.decision == "" {
			t.Fatalf("%+v, want an answer", a)
		}
	}
	p.stop(t)
}

// A file that was renamed is not written any more after SIGHUP, and no line is lost.
func TestARenamedAccessLog(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	file := filepath.Join(t.TempDir(), "access.log")
	p := start(t, writeSmall(t, wechat, "access_log: {file: \""+file+"\"}\n"), wechat)
	call := func() { do(t, "GET", p.url+"/"+appA+"/cgi-bin/get_api_domain_ip", nil) }
	lines := func(file string) int {
		text, _ := os.ReadFile(file)
		return strings.Count(string(text), "\n")
	}
	await := func(file string, n int) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); lines(file) != n; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s has %d lines, want %d", filepath.Base(file), lines(file), n)
			}
		}
	}
	call()
	await(file, 1)
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	call()
	await(file+".1", 2) // as long as nobody says so
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.stderr.await(t, "line of the reload", message("configuration reloaded"))
	call()
	await(file, 1)
	if n := lines(file + ".1"); n != 2 {
		t.Errorf("the renamed file has %d lines, want 2", n)
	}
}
