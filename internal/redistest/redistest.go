// Package redistest runs a real redis-server for a test, on a free loopback port and a unix
// socket, and can kill it, restart it, freeze it, and start it at another date.
//
// Where there is no redis-server the test is skipped, loudly; where the environment variable CI
// is set it fails instead, so that a pipeline cannot pass by testing nothing.
package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// patience is how long a server may take to answer, or a cluster to form, on a busy machine.
const patience = 10 * time.Second

// Server is a running redis-server. Its methods must be called from the test's own goroutine.
type Server struct {
	Addr     string // host:port on loopback
	Socket   string // path of its unix socket
	Password string // from --requirepass among the arguments of Start

	tb    testing.TB
	dir   string
	args  []string
	env   []string
	clock string        // file that libfaketime reads; "": the clock cannot be moved
	cmd   *exec.Cmd     // nil while it does not run
	gone  chan struct{} // closed when cmd has ended
}

// Start runs redis-server without persistence and waits until it answers. Further args are its
// own, for instance "--requirepass", "x" or "--appendonly", "yes". It is killed when the test ends.
func Start(tb testing.TB, args ...string) *Server {
	tb.Helper()
	return start(tb, nil, args...)
}

// StartAt is Start with a server whose clock begins at now and runs from there, as TIME shows.
// It uses libfaketime and treats its absence like that of redis-server. A Restart begins at now
// once more.
func StartAt(tb testing.TB, now time.Time, args ...string) *Server {
	tb.Helper()
	lib := faketime()
	if lib == "" {
		missing(tb, "libfaketime (Debian package libfaketime)")
	}
	s := start(tb, []string{
		// Debian's redis-server links jemalloc, which asks for the time while libfaketime is
		// still starting; glibc's own malloc, put in front, does not.
		"LD_PRELOAD=" + lib + " libc_malloc_debug.so.0",
		"FAKETIME=@" + now.UTC().Format(time.DateTime),
		"FAKETIME_DONT_FAKE_MONOTONIC=1", // timers and timeouts stay real
		"TZ=UTC",
	}, args...)
	got, err := s.Client(tb).Time(tb.Context()).Result()
	if err != nil {
		tb.Fatalf("redistest: TIME: %v", err)
	}
	if ahead := got.Sub(now.Truncate(time.Second)); ahead < 0 || ahead > patience {
		missing(tb, fmt.Sprintf("libfaketime that works: TIME is %s, want %s", got.UTC(), now.UTC()))
	}
	return s
}

// StartMovable is Start with a server whose clock is the machine's until [Server.Move] moves it. It
// treats the absence of libfaketime as StartAt does.
func StartMovable(tb testing.TB, args ...string) *Server {
	tb.Helper()
	lib := faketime()
	if lib == "" {
		missing(tb, "libfaketime (Debian package libfaketime)")
	}
	clock := filepath.Join(tb.TempDir(), "clock")
	writeClock(tb, clock, 0)
	s := start(tb, []string{
		"LD_PRELOAD=" + lib + " libc_malloc_debug.so.0", // as in StartAt
		"FAKETIME_TIMESTAMP_FILE=" + clock,
		"FAKETIME_NO_CACHE=1", // the file is read at each look at the clock
		"FAKETIME_DONT_FAKE_MONOTONIC=1",
	}, args...)
	s.clock = clock
	return s
}

// Move sets how far the clock of a server of StartMovable is ahead of the machine's, or with a
// negative duration behind it. It returns when TIME shows it. A Restart keeps it.
func (s *Server) Move(ahead time.Duration) {
	s.tb.Helper()
	if s.clock == "" {
		s.tb.Fatal("redistest: Move: want a server of StartMovable")
	}
	writeClock(s.tb, s.clock, ahead)
	if s.cmd == nil {
		return // not running: it begins there
	}
	got, err := s.Client(s.tb).Time(s.tb.Context()).Result()
	if err != nil {
		s.tb.Fatalf("redistest: TIME: %v", err)
	}
	if off := time.Until(got) - ahead; off < -patience || off > patience {
		missing(s.tb, fmt.Sprintf("libfaketime that reads FAKETIME_TIMESTAMP_FILE: TIME is %s off", off))
	}
}

// writeClock replaces a libfaketime file in one step: the server may read it at any moment.
func writeClock(tb testing.TB, path string, ahead time.Duration) {
	tb.Helper()
	next := path + ".next"
	err := os.WriteFile(next, fmt.Appendf(nil, "%+f", ahead.Seconds()), 0o600)
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		tb.Fatalf("redistest: %v", err)
	}
}

// faketime returns the path of libfaketime, or "". scripts/deps.sh unpacks it beside redis-server
// where it may not install it.
func faketime() string {
	roots := []string{"/usr"}
	if server, err := exec.LookPath("redis-server"); err == nil {
		roots = append(roots, filepath.Dir(filepath.Dir(server)))
	}
	for _, root := range roots {
		if libs, _ := filepath.Glob(filepath.Join(root, "lib/*/faketime/libfaketime.so.1")); len(libs) > 0 {
			return libs[0]
		}
	}
	return ""
}

// StartCluster runs three masters that share the slots of one cluster, and no replica.
func StartCluster(tb testing.TB) []*Server {
	tb.Helper()
	nodes := make([]*Server, 3)
	ranges := [][2]int{{0, 5460}, {5461, 10922}, {10923, 16383}}
	var host, port, bus string
	for i := range nodes {
		_, p, err := net.SplitHostPort(freeAddr(tb))
		if err != nil {
			tb.Fatalf("redistest: %v", err)
		}
		nodes[i] = Start(tb, "--cluster-enabled", "yes", "--cluster-port", p)
		c := nodes[i].Client(tb)
		if err := c.ClusterAddSlotsRange(tb.Context(), ranges[i][0], ranges[i][1]).Err(); err != nil {
			tb.Fatalf("redistest: CLUSTER ADDSLOTSRANGE: %v", err)
		}
		if i == 0 {
			host, port, _ = net.SplitHostPort(nodes[0].Addr)
			bus = p
			continue
		}
		// Each node needs an epoch of its own before they meet, or they would have to agree on it.
		if err := c.Do(tb.Context(), "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			tb.Fatalf("redistest: CLUSTER SET-CONFIG-EPOCH: %v", err)
		}
		if err := c.Do(tb.Context(), "CLUSTER", "MEET", host, port, bus).Err(); err != nil {
			tb.Fatalf("redistest: CLUSTER MEET: %v", err)
		}
	}
	for _, n := range nodes {
		c := n.Client(tb)
		waitFor(tb, "the cluster", func() error {
			info, err := c.ClusterInfo(tb.Context()).Result()
			if err != nil {
				return err
			}
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3") {
				return errors.New("cluster_state is not ok")
			}
			return nil
		})
	}
	return nodes
}

// StartSentinel runs one sentinel that watches master under name.
func StartSentinel(tb testing.TB, name string, master *Server) *Server {
	tb.Helper()
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		tb.Fatalf("redistest: %v", err)
	}
	conf := filepath.Join(tb.TempDir(), "sentinel.conf")
	text := fmt.Sprintf("sentinel monitor %s %s %s 1\n", name, host, port)
	if master.Password != "" {
		text += fmt.Sprintf("sentinel auth-pass %s %s\n", name, master.Password)
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		tb.Fatalf("redistest: %v", err)
	}
	return start(tb, nil, "--sentinel", conf)
}

func start(tb testing.TB, env []string, args ...string) *Server {
	tb.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		missing(tb, "redis-server")
	}
	dir, err := os.MkdirTemp("", "redis") //nolint:usetesting // TempDir is too long a path for a unix socket
	if err != nil {
		tb.Fatalf("redistest: %v", err)
	}
	s := &Server{Socket: filepath.Join(dir, "s"), tb: tb, dir: dir, args: args, env: env}
	if i := slices.Index(args, "--requirepass"); i >= 0 && i+1 < len(args) {
		s.Password = args[i+1]
	}
	tb.Cleanup(func() {
		s.kill()
		if err := os.RemoveAll(dir); err != nil {
			tb.Errorf("redistest: %v", err)
		}
	})
	// Another process may take the port between the moment it was found free and its use.
	for attempt := 1; ; attempt++ {
		s.Addr = freeAddr(tb)
		err := s.run()
		if err == nil {
			return s
		}
		if attempt == 3 {
			tb.Fatalf("redistest: redis-server %s: %v\n%s", strings.Join(args, " "), err, s.Log())
		}
	}
}

// URL is the server's address as store.url has it, with its password.
func (s *Server) URL() string {
	if s.Password != "" {
		return "redis://:" + s.Password + "@" + s.Addr + "/0"
	}
	return "redis://" + s.Addr + "/0"
}

// Client returns a client of the server that tries nothing twice. It is closed when the test ends.
func (s *Server) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: s.Addr, Password: s.Password,
		MaxRetries: -1, DialerRetries: 1, Protocol: 2, DisableIdentity: true,
	})
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Errorf("redistest: %v", err)
		}
	})
	return c
}

// Stop kills the server at once, as a crash or kill -9 would: nothing is saved.
func (s *Server) Stop() {
	s.tb.Helper()
	s.kill()
}

// Restart kills the server if it runs and starts it again on the same address, with what it had
// saved: nothing, unless the arguments say otherwise.
func (s *Server) Restart() {
	s.tb.Helper()
	s.kill()
	if err := s.run(); err != nil {
		s.tb.Fatalf("redistest: restart: %v\n%s", err, s.Log())
	}
}

// Freeze stops the process: it takes connections and bytes but answers nothing until Thaw.
func (s *Server) Freeze() {
	s.tb.Helper()
	s.signal(syscall.SIGSTOP)
}

// Thaw lets a frozen server run on, first with what it was sent while frozen.
func (s *Server) Thaw() {
	s.tb.Helper()
	s.signal(syscall.SIGCONT)
}

// Log returns what the server has written so far.
func (s *Server) Log() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (s *Server) signal(sig syscall.Signal) {
	s.tb.Helper()
	if s.cmd == nil {
		s.tb.Fatalf("redistest: %s: the server does not run", sig)
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.tb.Fatalf("redistest: %s: %v", sig, err)
	}
}

// run starts the process and waits until it answers PING.
func (s *Server) run() error {
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own descriptor of it
	args := slices.Clone(s.args)
	if i := slices.Index(args, "--sentinel"); i >= 0 { // wants its file first, and saves nothing
		args = []string{args[i+1], "--sentinel"}
	} else {
		args = append([]string{"--save", "", "--unixsocket", s.Socket}, args...)
	}
	args = append(args, "--bind", host, "--port", port, "--dir", s.dir)
	cmd := exec.Command("redis-server", args...) //nolint:gosec,noctx // lives longer than any call; its arguments are the test's
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	gone := make(chan struct{})
	s.cmd, s.gone = cmd, gone
	go func() {
		_ = cmd.Wait() // "signal: killed", or the log has the reason
		close(gone)
	}()
	c := redis.NewClient(&redis.Options{
		Addr: s.Addr, Password: s.Password, MaxRetries: -1, DialerRetries: 1, Protocol: 2, DisableIdentity: true,
	})
	defer c.Close()
	err = poll(func() error {
		select {
		case <-gone:
			return errEnded
		default:
		}
		conn, err := net.Dial("tcp", s.Addr) //nolint:noctx // to loopback; go-redis would log each vain dial
		if err != nil {
			return err
		}
		conn.Close()
		return s.answers(c, cmd.Process.Pid)
	})
	if err != nil {
		s.kill()
	}
	return err
}

// answers reports whether it is this process, and not another on the same port, that replies, with its
// data loaded.
func (s *Server) answers(c *redis.Client, pid int) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	info, err := c.Info(ctx).Result()
	if err != nil {
		return err
	}
	if strings.Contains(info, "\nloading:1\r\n") { // it answers INFO, and no other command yet
		return errors.New("redis-server is loading its data")
	}
	if !strings.Contains(info, "process_id:"+strconv.Itoa(pid)+"\r\n") {
		return errors.New("another redis-server has the port")
	}
	return nil
}

func (s *Server) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may be gone already
	<-s.gone
	s.cmd = nil
}

func freeAddr(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed on the next line
	if err != nil {
		tb.Fatalf("redistest: %v", err)
	}
	defer l.Close()
	return l.Addr().String()
}

func waitFor(tb testing.TB, what string, ready func() error) {
	tb.Helper()
	if err := poll(ready); err != nil {
		tb.Fatalf("redistest: %s: %v", what, err)
	}
}

var errEnded = errors.New("it ended at once")

func poll(ready func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := ready()
		if err == nil || errors.Is(err, errEnded) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func missing(tb testing.TB, what string) {
	tb.Helper()
	if os.Getenv("CI") != "" {
		tb.Fatalf("redistest: no %s on this machine, and CI is set: this test must not be skipped", what)
	}
	tb.Skipf("NOT TESTED: no %s on this machine; install it to run this test", what)
}
