package faults

import (
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
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"wxproxy/internal/redistest"
	"wxproxy/sandbox"
)

const (
	adminToken = "fault-bench-admin-token"
	secret     = "0123456789abcdef0123456789abcdef"

	sendPath = "/cgi-bin/message/custom/send"                           // POST
	menuPath = "/cgi-bin/get_current_selfmenu_info"                     // GET
	textPath = "/cgi-bin/message/custom/typing"                         // POST
	message  = `{"touser":"o","msgtype":"text","text":{"content":"x"}}` // of either
)

// What a caller hears, as hear writes it.
const (
	passed  = "pass 0"
	full    = "refused-quota 45009"
	noShare = "refused-share 45009"
	latched = "refused-latched 45009" // WeChat itself has said so
	noStore = "refused-store -1"
	alone   = "degraded 0" // sent while the store was away
	broken  = "no answer"  // the connection ended without one
)

// appid returns the appid of the i-th account of a fleet.
func appid(i int) string { return fmt.Sprintf("wx%016d", i) }

// rule is a line of limits.yaml.
type rule struct{ name, path, quota, more string }

func table(zone string, rules ...rule) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\ntimezone: %s\nprofiles:\n  production:\n    title: test\n    source: test\n    rules:\n", zone)
	for _, r := range append(rules, rule{"other", "/cgi-bin/*", "unknown", ""}) {
		more := ""
		if r.more != "" {
			more = ", " + r.more
		}
		fmt.Fprintf(&b, "      - {name: %s, title: %s, category: test, paths: [%s], quota: %s%s}\n", r.name, r.name, r.path, r.quota, more)
	}
	return b.String()
}

// noon returns the name of a zone where it is about noon, so that no day ends within a test.
func noon() string {
	switch hour := time.Now().UTC().Hour(); {
	case hour > 12:
		return fmt.Sprintf("Etc/GMT+%d", hour-12) // these names say how far the zone is behind
	case hour < 12:
		return fmt.Sprintf("Etc/GMT-%d", 12-hour)
	}
	return "Etc/GMT"
}

// setup is what a fleet is made of. The zero value is three gateways of one account.
type setup struct {
	gateways int // negative: none yet
	apps     int
	rules    []rule
	redis    *redistest.Server // default one of its own
	store    string            // host:port that the gateways know as Redis; default redis itself
	file     bool              // the embedded store in place of Redis: of one gateway
	zone     string            // of the table; default noon()
	wechat   sandbox.Options   // its zone is that of the table where none is given
	more     string            // lines of wxproxy.yaml
	env      []string
}

// fleet is gateways as processes, and what they work with.
type fleet struct {
	setup

	wechat   *sandbox.Server
	direct   *redis.Client // to Redis, past any relay; nil with the embedded store
	folder   string        // of wxproxy.yaml and limits.yaml
	client   *http.Client
	gateways []*process
	over     int64 // calls that a quota may be over by, because gateways went on alone
}

func newFleet(t *testing.T, s setup) *fleet {
	t.Helper()
	if Race {
		t.Skip("drives the built program, which has no race detector")
	}
	if s.zone == "" {
		s.zone = noon()
	}
	if s.wechat.Zone == nil {
		zone, err := time.LoadLocation(s.zone)
		if err != nil {
			t.Fatal(err)
		}
		s.wechat.Zone = zone
	}
	url, direct := "file:wxproxy.db", (*redis.Client)(nil)
	if s.file {
		s.gateways = 1
	} else {
		if s.redis == nil {
			s.redis = redistest.Start(t)
		}
		if s.store == "" {
			s.store = s.redis.Addr
		}
		url, direct = "redis://"+s.store, s.redis.Client(t)
	}
	s.apps = max(s.apps, 1)
	var apps strings.Builder
	for i := range s.apps {
		s.wechat.Apps = append(s.wechat.Apps, sandbox.App{AppID: appid(i), Secret: secret})
		fmt.Fprintf(&apps, "  - {name: a%d, appid: %s, secret: %s}\n", i, appid(i), secret)
	}
	if s.wechat.Keep == 0 {
		s.wechat.Keep = -1
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 1024, MaxIdleConns: 4096}
	t.Cleanup(transport.CloseIdleConnections)
	f := &fleet{
		setup:  s,
		wechat: sandbox.NewServer(s.wechat),
		direct: direct,
		folder: t.TempDir(),
		client: &http.Client{Transport: transport, Timeout: 45 * time.Second},
	}
	t.Cleanup(func() {
		if err := f.wechat.Close(); err != nil {
			t.Error(err)
		}
	})
	writeFile(t, filepath.Join(f.folder, "limits.yaml"), table(s.zone, s.rules...))
	writeFile(t, filepath.Join(f.folder, "wxproxy.yaml"), fmt.Sprintf(`listen: 127.0.0.1:0
admin: {listen: "127.0.0.1:0", token: %s}
upstream: {url: "%s"}
store: {url: "%s"}
limits: limits.yaml
%sapps:
%s`, adminToken, f.wechat.URL, url, s.more, apps.String()))
	if s.gateways == 0 {
		s.gateways = 3
	}
	for range max(0, s.gateways) {
		f.start(t)
	}
	return f
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// process is a running gateway.
type process struct {
	url, admin string

	client *http.Client
	cmd    *exec.Cmd
	log    *output
	exited chan error // of the one Wait
	ended  bool
}

// output keeps what a process writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// listening returns the two addresses that the log tells, once it does.
func (o *output) listening() (url, admin string, ok bool) {
	for line := range strings.Lines(o.String()) {
		var said struct{ Msg, Address, Admin string }
		if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "listening" {
			return "http://" + said.Address, "http://" + said.Admin, true
		}
	}
	return "", "", false
}

// start adds a gateway to the fleet and waits until it listens. It is stopped with the test.
func (f *fleet) start(t *testing.T) *process {
	t.Helper()
	p := &process{client: f.client, log: &output{}, exited: make(chan error, 1)}
	// Not t.Context(): it ends before the cleanup that asks the process to stop.
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), program, "serve", "--config", filepath.Join(f.folder, "wxproxy.yaml"))
	p.cmd.Env = append(append(os.Environ(), "NO_PROXY=*"), f.env...)
	p.cmd.Dir = f.folder
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.exited <- p.cmd.Wait() }()
	t.Cleanup(func() {
		if !p.ended {
			p.stop(t)
		}
	})
	waitFor(t, "a gateway that listens", func() bool {
		select {
		case err := <-p.exited:
			p.ended = true
			t.Fatalf("wxproxy ended at once: %v\n%s", err, p.log)
		default:
		}
		var ok bool
		p.url, p.admin, ok = p.log.listening()
		return ok
	})
	f.gateways = append(f.gateways, p)
	return p
}

// stop asks the process to stop and waits until it has.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.ended = true
	p.client.CloseIdleConnections() // for one that was never used it would wait
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	select {
	case err := <-p.exited:
		if err != nil || strings.Contains(p.log.String(), "panic") {
			t.Errorf("wxproxy: %v\n%s", err, p.log)
		}
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill() // Wait ends then, and with it the test's one goroutine for it
		t.Errorf("wxproxy did not stop:\n%s", p.log)
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

// ask asks the admin listener.
func (f *fleet) ask(t *testing.T, p *process, method, path string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, p.admin+path, nil)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	r.Header.Set("Authorization", "Bearer "+adminToken)
	response, err := f.client.Do(r)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return response.StatusCode, string(body)
}

// executed is what WeChat executed of an account's calls. It is the judge.
func (f *fleet) executed(app int, path string) int64 { return f.wechat.Executed(appid(app), path) }

// counted is what Redis holds of a counter, over all its windows of that kind: d or m.
func (f *fleet) counted(t *testing.T, app int, counter, kind string) int64 {
	t.Helper()
	var sum int64
	for _, n := range windows(t, f.direct, appid(app), counter, kind) {
		sum += n
	}
	return sum
}

// windows returns the counts of a counter by the name of its window, d20261123 or m202611.
func windows(t *testing.T, client *redis.Client, app, counter, kind string) map[string]int64 {
	t.Helper()
	keys, err := client.Keys(t.Context(), "*{"+app+"}:"+kind+"[0-9]*").Result()
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int64)
	for _, key := range keys {
		text, err := client.HGet(t.Context(), key, counter).Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		var e, used, v int64
		if err == nil {
			_, err = fmt.Sscan(text, &e, &used, &v)
		}
		if err != nil {
			t.Fatalf("%s %s: %q: %v", key, counter, text, err)
		}
		counts[key[strings.LastIndexByte(key, ':')+1:]] = used
	}
	return counts
}

// atRest waits until the count is what was executed: within the idle second, and the time that a
// busy machine takes.
func (f *fleet) atRest(t *testing.T, app int, counter, path string) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		counted, executed := f.counted(t, app, counter, "d"), f.executed(app, path)
		if counted == executed {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s of %s at rest: counted %d, executed %d", counter, appid(app), counted, executed)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// watched looks while do runs: the count must never be below what was executed.
func (f *fleet) watched(t *testing.T, app int, counter, path string, do func()) {
	t.Helper()
	var wg sync.WaitGroup
	done := make(chan struct{})
	looks := 0
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
			executed := f.executed(app, path) // first: a call between the two looks is no fault
			if counted := f.counted(t, app, counter, "d"); counted < executed {
				t.Errorf("%s of %s: counted %d, executed %d", counter, appid(app), counted, executed)
			}
			looks++
		}
	})
	do()
	close(done)
	wg.Wait()
	if looks == 0 {
		t.Error("nobody has looked while calls ran")
	}
}

// drain calls until the quota is used up, and a second longer. It is used up exactly, but for what a
// rule that goes on while the store is away has sent meanwhile.
func (f *fleet) drain(t *testing.T, app int, counter, path string, quota int64) heard {
	t.Helper()
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for deadline := time.Now().Add(2 * time.Minute); f.executed(app, path) < quota && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
	}()
	got := f.fire(t.Context(), load{call: call{app: app, path: path}, callers: 24, stop: stop, pause: time.Millisecond, refused: 20 * time.Millisecond})
	executed := f.executed(app, path)
	t.Logf("%s: executed %d of %d; callers heard %v", counter, executed, quota, got)
	if over := f.over + int64(got.of[alone]); executed < quota || executed > quota+over {
		t.Errorf("%s: WeChat executed %d, want %d and at most %d more", counter, executed, quota, over)
	}
	for said := range got.of {
		if said != passed && said != full && said != noStore && said != alone {
			t.Errorf("%s: callers heard %q %d times", counter, said, got.of[said])
		}
	}
	return got
}

// soon waits until WeChat has executed so many calls.
func (f *fleet) soon(t *testing.T, app int, path string, n int64) {
	t.Helper()
	waitFor(t, fmt.Sprint(n, " calls executed"), func() bool { return f.executed(app, path) >= n })
}

// logged counts the lines of a gateway's log that say something.
func (p *process) logged(what string) int { return strings.Count(p.log.String(), what) }
