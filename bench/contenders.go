package main

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"
)

//go:embed files
var files embed.FS

// The contenders, by the names in the tables.
const (
	direct    = "no proxy"
	bareProxy = "bare"
	handler   = "net/http"
	ours      = "wxproxy"
	nginx     = "nginx"
	nginxLua  = "nginx + Lua + Redis"
	caddy     = "Caddy"
	haproxy   = "HAProxy"

	nginxCounting = "the same, counting only"
)

// setup is what a contender is started with.
type setup struct {
	Address, Admin, Upstream string
	RedisPort                int
	Dir                      string // its own
	Quota                    int
	Apps, Rules              []string
	Procs                    int
	Root, Lua, Whole         bool
	Modules, Refusal         string

	pinned bool
	env    []string
}

// running is a process that was started.
type running struct {
	name    string
	address string
	dir     string
	cmd     *exec.Cmd
	exited  chan error
	started time.Duration // until it answered
}

// write fills in a file of files.
func (s *setup) write(name string) (string, error) {
	text, err := files.ReadFile("files/" + name)
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.Dir, name)
	if filepath.Ext(name) == ".lua" { // [[ is Lua's own
		return path, os.WriteFile(path, text, 0o600)
	}
	t, err := template.New(name).Delims("[[", "]]").Parse(string(text))
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, s); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, b.Bytes(), 0o600)
}

// available tells whether a contender can be had.
func (t *tools) available(name string) bool {
	switch name {
	case nginx:
		return t.nginx != ""
	case nginxLua, nginxCounting:
		return t.lua
	case caddy:
		return t.caddy != ""
	case haproxy:
		return t.haproxy != ""
	}
	return true
}

// start starts a contender and waits until it takes connections.
func (t *tools) start(ctx context.Context, name string, s setup) (*running, error) {
	argv, err := t.argv(name, &s)
	if err != nil {
		return nil, err
	}
	if s.pinned {
		argv = append([]string{"taskset", "-c", "1"}, argv...)
	}
	cmd := command(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "BENCH_SECRET=0123456789abcdef0123456789abcdef", "GOMAXPROCS="+strconv.Itoa(s.Procs), "XDG_DATA_HOME="+s.Dir, "XDG_CONFIG_HOME="+s.Dir)
	cmd.Env = append(cmd.Env, s.env...)
	return launch(ctx, name, s.Address, s.Dir, cmd)
}

func (t *tools) argv(name string, s *setup) ([]string, error) {
	switch name {
	case bareProxy:
		return []string{t.self, "serve", "bare", s.Address, "http://" + s.Upstream}, nil
	case handler:
		return []string{t.self, "serve", "refuse", s.Address}, nil
	case ours:
		if _, err := s.write("limits.yaml"); err != nil {
			return nil, err
		}
		path, err := s.write("wxproxy.yaml")
		return []string{t.wxproxy, "serve", "--config", path}, err
	case nginx, nginxLua, nginxCounting:
		s.Lua, s.Whole = name != nginx, name == nginxLua
		if _, err := s.write("quota.lua"); err != nil {
			return nil, err
		}
		path, err := s.write("nginx.conf")
		return []string{t.nginx, "-e", filepath.Join(s.Dir, "error.log"), "-c", path}, err
	case caddy:
		path, err := s.write("Caddyfile")
		return []string{t.caddy, "run", "--adapter", "caddyfile", "--config", path}, err
	case haproxy:
		path, err := s.write("haproxy.cfg")
		return []string{t.haproxy, "-db", "-f", path}, err
	}
	return nil, fmt.Errorf("contender %q: unknown", name)
}

// launch runs a command until it takes connections at address. Its output goes into files in dir.
func launch(ctx context.Context, name, address, dir string, cmd *exec.Cmd) (*running, error) {
	stdout, err := os.Create(filepath.Join(dir, "stdout.log")) //nolint:gosec // G304: our own folder
	if err != nil {
		return nil, err
	}
	defer stdout.Close()
	stderr, err := os.Create(filepath.Join(dir, "stderr.log")) //nolint:gosec // G304: our own folder
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	r := &running{name: name, address: address, dir: dir, cmd: cmd, exited: make(chan error, 1)}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() { r.exited <- cmd.Wait() }()
	dialer := net.Dialer{Timeout: time.Second}
	for ctx.Err() == nil && time.Since(began) < 20*time.Second {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			r.started = time.Since(began)
			return r, conn.Close()
		}
		select {
		case err := <-r.exited:
			text, _ := os.ReadFile(stderr.Name())
			return nil, fmt.Errorf("%s ended at once: %w\n%s", name, err, text)
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil, errors.Join(fmt.Errorf("%s does not listen", name), ctx.Err(), r.stop())
}

// stop ends the process and waits for it.
func (r *running) stop() error {
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-r.exited:
		_ = err // how a process says that it was told to end differs
		return nil
	case <-time.After(15 * time.Second):
		return errors.Join(fmt.Errorf("%s did not stop", r.name), r.cmd.Process.Kill())
	}
}

// logLines counts the lines of the contender's access log, or returns -1 where there is none.
func (r *running) logLines() int64 {
	name := map[string]string{ours: "stdout.log", nginxLua: "access.log", nginxCounting: "access.log", caddy: "access.log"}[r.name]
	if name == "" {
		return -1
	}
	f, err := os.Open(filepath.Join(r.dir, name))
	if err != nil {
		return -1
	}
	defer f.Close()
	var lines int64
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		if !bytes.Contains(scanner.Bytes(), []byte(`"user_agent":"wxproxy"`)) { // its own questions to WeChat
			lines++
		}
	}
	return lines
}

// decisions counts what wxproxy's access log says of its calls, for an error message.
func (r *running) decisions() string {
	if r.name != ours {
		return ""
	}
	data, err := os.ReadFile(filepath.Join(r.dir, "stdout.log"))
	if err != nil {
		return err.Error()
	}
	found := make(map[string]int)
	for line := range strings.Lines(string(data)) {
		_, rest, _ := strings.Cut(line, `"decision":"`)
		decision, _, _ := strings.Cut(rest, `"`)
		found[decision]++
	}
	said, _ := os.ReadFile(filepath.Join(r.dir, "stderr.log"))
	return fmt.Sprintf("%v\n%.2000s", found, said)
}

// freeAddress finds a port of loopback that nobody listens on.
func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func port(address string) int {
	_, p, _ := strings.Cut(address, ":")
	n, _ := strconv.Atoi(p) // freeAddress made it
	return n
}

// fetch makes one call and returns the answer's body, which must come with a status of 200.
func fetch(ctx context.Context, method, url, body string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Close = true
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %.200s", method, url, res.Status, data)
	}
	return string(data), err
}
