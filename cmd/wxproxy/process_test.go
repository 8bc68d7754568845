package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"wxproxy/internal/faults"
	"wxproxy/sandbox"
)

// program is the built program. TestMain builds it once, but not under the race detector.
var program string

// built returns the path of the built program. It skips the test under the race detector, which would see only the test.
func built(t *testing.T) string {
	t.Helper()
	if faults.Race {
		t.Skip("drives the built program, which has no race detector")
	}
	return program
}

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "wxproxy-test-")
	if err == nil && !faults.Race {
		program = filepath.Join(folder, "wxproxy")
		build := exec.CommandContext(context.Background(), "go", "build", "-o", program, ".")
		build.Stderr = os.Stderr
		err = build.Run()
	}
	if err == nil { // for gateways in this process; tests run in parallel, and may not set it one by one
		err = errors.Join(os.Setenv("CANARY_ADMIN", canaryAdmin), os.Setenv("CANARY_SECRET", canarySecret))
	}
	code := 1
	if err != nil {
		fmt.Fprintf(os.Stderr, "building wxproxy: %v\n", err)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

// Canaries: none of these may turn up in anything that a process writes.
const (
	canarySecret = "c0ffee00canary00secret00c0ffee00"
	canaryAdmin  = "canary-admin-token-0123456789"
	canaryOpenID = "oCANARY0openid0of0a0user000001"
	canaryBody   = "canary text of a customer"
	canaryOld    = "CANARY_OLD_ACCESS_TOKEN_0123456789"
)

// process is a running wxproxy.
type process struct {
	cmd    *exec.Cmd
	url    string // of the main listener
	admin  string
	stdout *output
	stderr *output
	exited chan error
	ended  bool
}

// output keeps what a process writes and lets a test wait for a line.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // closed and replaced at each write
}

func newOutput() *output { return &output{more: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.more)
	o.more = make(chan struct{})
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// lines returns the JSON objects written so far.
func (o *output) lines(t *testing.T) []map[string]any {
	t.Helper()
	var found []map[string]any
	s := bufio.NewScanner(strings.NewReader(o.String()))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var line map[string]any
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			t.Errorf("not a line of JSON: %q", s.Text())
			continue
		}
		found = append(found, line)
	}
	return found
}

// await returns the first line for which is holds, waiting for it at most 15 seconds.
func (o *output) await(t *testing.T, what string, is func(line map[string]any) bool) map[string]any {
	t.Helper()
	deadline := time.After(15 * time.Second)
	for {
		o.mu.Lock()
		text, more := o.text.String(), o.more
		o.mu.Unlock()
		for line := range strings.Lines(text) {
			var parsed map[string]any
			if strings.HasSuffix(line, "\n") && json.Unmarshal([]byte(line), &parsed) == nil && is(parsed) {
				return parsed
			}
		}
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("no %s in:\n%s", what, text)
		}
	}
}

func message(text string) func(map[string]any) bool {
	return func(line map[string]any) bool { s, _ := line["msg"].(string); return strings.Contains(s, text) }
}

// start runs the built program as a gateway and waits until it listens. It is stopped with the
// test, and then everything it wrote is searched for canaries.
func start(t *testing.T, config string, wechat *sandbox.Server, env ...string) *process {
	t.Helper()
	return startBy(t, nil, config, wechat, env...)
}

// startBy starts it by a command line that it is put behind.
func startBy(t *testing.T, by []string, config string, wechat *sandbox.Server, env ...string) *process {
	t.Helper()
	args := append(slices.Clone(by), built(t), "serve", "--config", config)
	p := &process{
		// Not t.Context(): it ends before the cleanup that asks the process to stop.
		cmd:    exec.CommandContext(context.WithoutCancel(t.Context()), args[0], args[1:]...),
		stdout: newOutput(),
		stderr: newOutput(),
		exited: make(chan error, 1),
	}
	p.cmd.Env = append(os.Environ(), append([]string{"CANARY_SECRET=" + canarySecret, "CANARY_ADMIN=" + canaryAdmin, "NO_PROXY=*"}, env...)...)
	p.cmd.Dir = filepath.Dir(config)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.cmd.Cancel = func() error { return p.cmd.Process.Kill() }
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.exited <- p.cmd.Wait() }()
	t.Cleanup(func() {
		if !p.ended {
			p.stop(t)
		}
		p.search(t, wechat)
	})
	select {
	case err := <-p.exited:
		p.ended = true
		t.Fatalf("wxproxy ended at once: %v\n%s", err, p.stderr)
	case line := <-listening(t, p.stderr):
		p.url, p.admin = "http://"+line["address"].(string), "http://"+line["admin"].(string)
	}
	return p
}

func listening(t *testing.T, o *output) <-chan map[string]any {
	t.Helper()
	found := make(chan map[string]any, 1)
	go func() {
		for {
			o.mu.Lock()
			text, more := o.text.String(), o.more
			o.mu.Unlock()
			for line := range strings.Lines(text) {
				var parsed map[string]any
				if json.Unmarshal([]byte(line), &parsed) == nil && parsed["msg"] == "listening" {
					found <- parsed
					return
				}
			}
			select {
			case <-more:
			case <-t.Context().Done():
				return
			}
		}
	}()
	return found
}

// stop asks the process to stop and waits until it has.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.ended = true
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	select {
	case err := <-p.exited:
		if err != nil && !strings.Contains(err.Error(), "signal: killed") {
			t.Errorf("wxproxy: %v\n%s", err, p.stderr)
		}
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		t.Errorf("wxproxy did not stop:\n%s", p.stderr)
	}
}

// kill is kill -9.
func (p *process) kill(t *testing.T) {
	t.Helper()
	p.ended = true
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-p.exited; err == nil {
		t.Error("wxproxy ended by itself, before it was killed")
	}
}

func (p *process) search(t *testing.T, wechat *sandbox.Server) {
	t.Helper()
	canaries := []string{canarySecret, canaryAdmin, canaryOpenID, canaryBody, canaryOld, canaryCRMNew, canaryCRMOld, canaryWeb, "wxp1."}
	if wechat != nil {
		for _, app := range []string{sandbox.DefaultAppID, appA, appB} {
			canaries = append(canaries, tokensOf(wechat, app)...)
		}
	}
	for name, o := range map[string]*output{"stdout": p.stdout, "stderr": p.stderr} {
		text := o.String()
		for _, canary := range canaries {
			if strings.Contains(text, canary) {
				t.Errorf("%s holds the canary %q", name, canary)
			}
		}
		if i := strings.LastIndexByte(text, '\n'); i+1 == len(text) || p.cmd.ProcessState.Success() {
			o.lines(t) // a process that was killed may have been cut off in a line
		}
	}
}

// tokensOf returns the tokens of an app, none if the sandbox does not know it.
func tokensOf(wechat *sandbox.Server, app string) (tokens []string) {
	defer func() { _ = recover() }() // it panics on an app that it does not know
	return wechat.Tokens(app)
}

// answer is what a caller sees.
type answer struct {
	status   int
	kind     string // Content-Type
	decision string
	reason   string
	body     string
}

// client has room for many connections at once, and asks only this machine.
var client = &http.Client{
	Timeout:   2 * time.Minute,
	Transport: &http.Transport{MaxIdleConnsPerHost: 1024, MaxIdleConns: 4096},
}

func do(t *testing.T, method, url string, body io.Reader) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Error(err)
		return answer{}
	}
	return send(t, r)
}

func send(t *testing.T, r *http.Request) answer {
	t.Helper()
	response, err := client.Do(r)
	if err != nil {
		t.Error(err)
		return answer{}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	decision, reason := response.Header.Get("X-Wxproxy-Decision"), response.Header.Get("X-Wxproxy-Reason")
	if strings.HasPrefix(decision, "refused-") != (reason != "") {
		t.Errorf("the decision %q has the reason %q, want one with each refusal", decision, reason)
	}
	return answer{response.StatusCode, response.Header.Get("Content-Type"), decision, reason, string(text)}
}

// askAdmin asks the admin listener with the token, and decodes JSON into value.
func (p *process) askAdmin(t *testing.T, method, path string, value any) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, p.admin+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+canaryAdmin)
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if value != nil {
		if err := json.NewDecoder(response.Body).Decode(value); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	return response.StatusCode
}
