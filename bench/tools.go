package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

const (
	caddyVersion = "v2.10.2"
	cacheDir     = ".cache/bench"
	modulesDir   = "/usr/lib/nginx/modules"
)

// tools are the programs of a run. Those that could not be had are "".
type tools struct {
	wrk, redis, nginx, haproxy, caddy, wxproxy, self string
	lua                                              bool // nginx has the module
	versions                                         []string
}

// command is exec.CommandContext. The names and arguments are this program's own.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // G204: see above
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// look finds a program, also where a user's PATH does not reach.
func look(name string) string {
	for _, path := range []string{name, filepath.Join("/usr/sbin", name)} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	return ""
}

// install brings what is missing: Debian's packages if this is Debian and we are root, and Caddy
// from its source.
func install(ctx context.Context) (*tools, error) {
	var missing []string
	for program, pkg := range map[string]string{"wrk": "wrk", "nginx": "nginx-light", "haproxy": "haproxy", "redis-server": "redis-server"} {
		if look(program) == "" {
			missing = append(missing, pkg)
		}
	}
	if _, err := os.Stat(modulesDir + "/ngx_http_lua_module.so"); err != nil {
		missing = append(missing, "libnginx-mod-http-lua")
	}
	if len(missing) > 0 {
		if look("apt-get") == "" || os.Getuid() != 0 {
			say("missing, by the names of Debian's packages: %s. Install them as root and run this again", strings.Join(missing, " "))
		} else {
			say("installing with apt-get: %s", strings.Join(missing, " "))
			script := `export DEBIAN_FRONTEND=noninteractive; apt-get -qq update && apt-get -qq -y -o Dpkg::Use-Pty=0 install --no-install-recommends "$@"`
			cmd := command(ctx, "sh", append([]string{"-c", script, "sh"}, missing...)...)
			cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
			if err := cmd.Run(); err != nil {
				say("apt-get: %v", err)
			}
		}
	}

	bin, err := filepath.Abs(filepath.Join(cacheDir, "bin"))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(bin, 0o750); err != nil {
		return nil, err
	}
	t := &tools{
		wrk: look("wrk"), redis: look("redis-server"), nginx: look("nginx"), haproxy: look("haproxy"),
		caddy: filepath.Join(bin, "caddy-"+caddyVersion), wxproxy: filepath.Join(bin, "wxproxy"),
	}
	if t.wrk == "" || t.redis == "" {
		return nil, fmt.Errorf("wrk and redis-server are needed")
	}
	if t.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(modulesDir + "/ngx_http_lua_module.so"); err == nil && t.nginx != "" {
		t.lua = true
	}
	if _, err := os.Stat(t.caddy); err != nil {
		say("building Caddy %s into %s", caddyVersion, bin)
		cmd := command(ctx, "go", "install", "github.com/caddyserver/caddy/v2/cmd/caddy@"+caddyVersion)
		cmd.Env = append(os.Environ(), "GOBIN="+bin, "GOFLAGS=-mod=mod")
		cmd.Stderr = os.Stderr
		err := cmd.Run()
		if err == nil {
			err = os.Rename(filepath.Join(bin, "caddy"), t.caddy)
		}
		if err != nil {
			say("no Caddy, so it is left out: %v", err)
			t.caddy = ""
		}
	}
	if err := build(ctx, t.wxproxy); err != nil {
		return nil, err
	}
	t.readVersions(ctx)
	return t, nil
}

// build builds the program as `make build` does.
func build(ctx context.Context, to string, more ...string) error {
	args := append([]string{"build", "-trimpath", "-o", to}, more...)
	cmd := command(ctx, "go", append(args, "./cmd/wxproxy")...)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	return nil
}

func (t *tools) readVersions(ctx context.Context) {
	add := func(name, path string, args ...string) {
		if path == "" {
			return
		}
		out, _ := command(ctx, path, args...).CombinedOutput() // wrk -v exits with 1
		line, _, _ := strings.Cut(string(out), "\n")
		for _, word := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" /=", r) }) {
			if word = strings.TrimPrefix(word, "v"); word != "" && '0' <= word[0] && word[0] <= '9' {
				t.versions = append(t.versions, name+" "+strings.TrimRight(word, ","))
				return
			}
		}
	}
	t.versions = append(t.versions, "Go "+strings.TrimPrefix(runtime.Version(), "go"))
	add("nginx", t.nginx, "-v")
	add("HAProxy", t.haproxy, "-v")
	add("Caddy", t.caddy, "version")
	add("Redis", t.redis, "--version")
	add("wrk", t.wrk, "-v")
}

// machine describes where this runs: the processor, its cores, the kernel.
func machine() string {
	model := "unknown CPU"
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	release, _, _ := strings.Cut(strings.TrimSpace(string(kernel)), "-") // what follows names a build
	virtual := ""
	if strings.Contains(string(info), " hypervisor") {
		virtual = ", a virtual machine"
	}
	return fmt.Sprintf("%s, %d cores%s, Linux %s, %s", model, runtime.NumCPU(), virtual, release, runtime.GOARCH)
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }
