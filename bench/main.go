// Command bench measures wxproxy against a bare httputil.ReverseProxy, nginx with Lua and Redis,
// Caddy and HAProxy, and writes docs/benchmarks.md. `make bench` runs it; it takes half an hour and
// wants a machine that has nothing else to do.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	rounds  int
	window  time.Duration
	wait    time.Duration
	only    string
	out     string
	report  bool
	resume  bool
	profile string
}

func run(ctx context.Context, args []string) error {
	switch { // parts of a run, each a process of its own
	case len(args) >= 3 && args[0] == "serve":
		return serve(ctx, args[1], args[2], strings.Join(args[3:], ""))
	case len(args) == 4 && args[0] == "pace":
		rate, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		d, err := time.ParseDuration(args[3])
		if err != nil {
			return err
		}
		p, err := pace(ctx, args[1], rate, d)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(p)
	}

	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 5, "rounds of each case")
	flags.DurationVar(&o.window, "window", 3*time.Second, "how long each contender is measured in each round, a second at a time")
	flags.DurationVar(&o.wait, "wait", 5*time.Minute, "how long to wait before each round for others to leave the machine alone")
	flags.StringVar(&o.only, "case", "", "only the cases whose name begins with this")
	flags.StringVar(&o.out, "out", "docs", "folder of the documents; nothing is written with -case")
	flags.BoolVar(&o.report, "report", false, "write the documents from the figures of the last run")
	flags.BoolVar(&o.resume, "resume", false, "go on with a run of the same commit that broke off")
	flags.StringVar(&o.profile, "profile", "", "write a CPU profile of wxproxy under the first case that -case leaves to this file, and nothing else")
	if err := flags.Parse(args); err != nil {
		return err
	}
	kept := filepath.Join(cacheDir, "results.json")
	if o.report {
		return rewrite(kept, o.out)
	}
	if runtime.GOOS != "linux" {
		return errors.New("the figures are Linux's own accounting: run it there")
	}

	b, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	if o.profile != "" {
		return b.profile(ctx, o.profile)
	}
	if o.only != "" {
		err := b.all(ctx)
		fmt.Println(b.results.markdown(english))
		return err
	}
	if o.resume {
		if err := b.results.resume(kept); err != nil {
			return err
		}
	}
	failed := b.all(ctx)
	data, err := json.MarshalIndent(b.results, "", " ")
	if err = errors.Join(failed, err, os.WriteFile(kept, data, 0o600)); err != nil {
		return err
	}
	return rewrite(kept, o.out)
}

// resume takes over the figures of a run that broke off, if it measured the same.
func (r *results) resume(from string) error {
	data, err := os.ReadFile(from) //nolint:gosec // G304: our own file
	if err != nil {
		return err
	}
	var before results
	if err := json.Unmarshal(data, &before); err != nil {
		return err
	}
	if before.Commit != r.Commit || before.Window != r.Window || before.Rounds != r.Rounds || before.Machine != r.Machine {
		return fmt.Errorf("the run that broke off was of %s, %d rounds of %v: this is %s, %d of %v",
			before.Commit, before.Rounds, before.Window, r.Commit, r.Rounds, r.Window)
	}
	*r = before
	return nil
}

// rewrite writes the documents from the figures of a run.
func rewrite(from, folder string) error {
	data, err := os.ReadFile(from) //nolint:gosec // G304: our own file
	if err != nil {
		return err
	}
	var r results
	if err := json.Unmarshal(data, &r); err != nil {
		return err
	}
	for name, language := range map[string]language{"benchmarks.md": english, "benchmarks.zh-CN.md": chinese} {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(r.markdown(language)), 0o644); err != nil { //nolint:gosec // G306: a document
			return err
		}
		say("wrote %s", path)
	}
	return nil
}

// bench is a run.
type bench struct {
	options
	tools   *tools
	dir     string
	script  string // wrk's
	pinned  bool   // the load, upstreams and Redis to core 0, contenders to core 1
	results results
}

// open installs and builds what is needed.
func open(ctx context.Context, o options) (*bench, error) {
	b := &bench{options: o}
	var err error
	if b.tools, err = install(ctx); err != nil {
		return nil, err
	}
	parent := "/dev/shm" // access logs of all the contenders: no disk is to be measured
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	if b.dir, err = os.MkdirTemp(parent, "bench-"); err != nil {
		return nil, err
	}
	if b.script, err = writeLoad(b.dir); err != nil {
		return nil, errors.Join(err, b.close())
	}
	b.results = results{Machine: machine(), Versions: b.tools.versions, Date: time.Now(), Rounds: o.rounds, Window: o.window, Commit: commit(ctx)}
	return b, nil
}

// commit names what is measured. Changes of this program and of documents are not part of it.
func commit(ctx context.Context) string {
	out, _ := command(ctx, "git", "describe", "--always").Output() // "": not a repository
	changed, _ := command(ctx, "git", "status", "--porcelain", "--", "*.go", "*.lua", "go.mod", ":!bench", ":!*_test.go").Output()
	name := strings.TrimSpace(string(out))
	if len(changed) > 0 {
		name += "-dirty"
	}
	return name
}

// spareBytes is more than any contender's access log grows by in a turn.
const spareBytes = 96 << 20

// spareMemory has the machine hold memory that the next turn's access log can grow into. The host of a
// virtual machine takes back what is free, within a minute; to get it again takes up to eight times as
// long as to write a line, and is not what a call costs.
func (b *bench) spareMemory() error {
	f, err := os.CreateTemp(b.dir, "spare-")
	if err != nil {
		return err
	}
	piece := make([]byte, 1<<20)
	for written := 0; err == nil && written < spareBytes; written += len(piece) {
		_, err = f.Write(piece)
	}
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

func (b *bench) close() error { return os.RemoveAll(b.dir) }

func procs(pinned bool) int {
	if pinned {
		return 1
	}
	return runtime.NumCPU()
}
