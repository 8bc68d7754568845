package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wxproxy/internal/words"
	"wxproxy/sandbox"
)

const tailConfig = twoCallers + "anonymous: false\n"

func startTailed(t *testing.T, wechat *sandbox.Server) *process {
	t.Helper()
	return start(t, write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), table("2/day", "100000/day"), tailConfig), wechat)
}

// watch opens a stream. It ends with the test.
func (p *process) watch(t *testing.T, query string) *bufio.Reader {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.admin+"/api/v1/tail?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+canaryAdmin)
	response, err := (&http.Client{Transport: &http.Transport{}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = response.Body.Close() })
	if kind := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || !strings.HasPrefix(kind, "application/x-ndjson") {
		t.Fatalf("tail?%s: %d %s", query, response.StatusCode, kind)
	}
	return bufio.NewReader(response.Body)
}

// nextLine reads a stream up to the next line that is no heartbeat. It fails after 20 s.
func nextLine(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	type read struct {
		text string
		err  error
	}
	lines := make(chan read, 1)
	go func() {
		for {
			text, err := r.ReadString('\n')
			if err != nil || text != "\n" {
				lines <- read{text, err}
				return
			}
		}
	}()
	select {
	case l := <-lines:
		if l.err != nil {
			t.Fatalf("the stream has ended: %v", l.err)
		}
		return l.text
	case <-time.After(20 * time.Second):
		t.Fatal("no line in 20 s")
		return ""
	}
}

// Each stream has the lines of the access log that its filter passes, byte by byte, and nothing else.
func TestTailIsTheAccessLog(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	p := startTailed(t, wechat)
	streams := map[string]*bufio.Reader{}
	filters := map[string]func(line map[string]any) bool{
		"":                       func(map[string]any) bool { return true },
		"app=b":                  func(l map[string]any) bool { return l["app"] == "b" },
		"app=" + appA:            func(l map[string]any) bool { return l["app"] == "a" },
		"caller=web":             func(l map[string]any) bool { return l["caller"] == "web" },
		"rule=menu.*&app=a":      func(l map[string]any) bool { return l["rule"] == "menu.create" && l["app"] == "a" },
		"decision=refused-quota": func(l map[string]any) bool { return l["decision"] == "refused-quota" },
		"reason=wrong-key":       func(l map[string]any) bool { return l["reason"] == "wrong-key" },
		"refused=1":              func(l map[string]any) bool { return strings.HasPrefix(l["decision"].(string), "refused-") },
		"errcode=40003":          func(l map[string]any) bool { return l["errcode"] == 40003.0 },
		"refused=0&errcode=0":    func(l map[string]any) bool { return l["errcode"] == 0.0 },
	}
	for query := range filters {
		streams[query] = p.watch(t, query)
	}
	call := func(method, app, key, target string) {
		var body io.Reader
		if method == "POST" {
			body = strings.NewReader(menu)
		}
		r, err := http.NewRequestWithContext(t.Context(), method, p.url+target, body)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(app, key)
		send(t, r)
	}
	for range 3 {
		call("POST", "a", canaryCRMNew, "/cgi-bin/menu/create?access_token="+canaryOld)
	}
	call("GET", "a", canaryCRMNew, "/cgi-bin/user/info?openid="+canaryOpenID)
	call("GET", "b", canaryWeb, "/cgi-bin/user/info?openid=undefined")
	call("GET", "a", "no-such-key", "/cgi-bin/user/info?openid="+canaryOpenID)
	call("GET", "a", canaryWeb, "/cgi-bin/menu/get")
	p.stdout.await(t, "last line", func(l map[string]any) bool { return l["path"] == "/cgi-bin/menu/get" })
	secrets := append(tokensOf(wechat, appA), canarySecret, canaryAdmin, canaryOpenID, canaryBody, canaryOld, canaryCRMNew, canaryWeb, "no-such-key", "wxp1.")
	for query, passes := range filters {
		n := 0
		for line := range strings.Lines(p.stdout.String()) {
			var parsed map[string]any
			if err := json.Unmarshal([]byte(line), &parsed); err != nil {
				t.Fatal(err)
			}
			if !passes(parsed) {
				continue
			}
			n++
			got := nextLine(t, streams[query])
			if got != line {
				t.Errorf("tail?%s: line %d is\n%s want\n%s", query, n, got, line)
			}
			for _, secret := range secrets {
				if strings.Contains(got, secret) {
					t.Errorf("tail?%s holds the canary %s", query, secret)
				}
			}
		}
		if n == 0 {
			t.Errorf("tail?%s: the test has no line for it", query)
		}
	}
	for query, want := range map[string]string{"app=nosuch": "not configured", "errcode=x": "want a whole number", "refused=maybe": "want 1 or 0"} {
		var problem struct{ Error string }
		if status := p.askAdmin(t, "GET", "/api/v1/tail?"+query, &problem); status/100 != 4 || !strings.Contains(problem.Error, want) {
			t.Errorf("tail?%s: %d %q, want an error that says %q", query, status, problem.Error, want)
		}
	}
	if a := do(t, "GET", p.admin+"/api/v1/tail", nil); a.status != http.StatusUnauthorized {
		t.Errorf("without the token: %d", a.status)
	}
}

// With 100 clients that read nothing each call is answered, and one more client is refused. What the clients missed
// is counted, and the stream itself tells it: with what it has it is all there was.
func TestTailClientsThatDoNotRead(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{Keep: -1})
	p := startTailed(t, wechat)
	var stalled []net.Conn
	for range 100 {
		c := dialWire(t, strings.TrimPrefix(p.admin, "http://")).Conn
		if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET /api/v1/tail?caller=crm HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", canaryAdmin)
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadFull(c, make([]byte, 9)); err != nil { // it watches
			t.Fatal(err)
		}
		stalled = append(stalled, c)
	}
	var problem struct{ Error string }
	if status := p.askAdmin(t, "GET", "/api/v1/tail", &problem); status != http.StatusServiceUnavailable || !strings.Contains(problem.Error, "100 clients") {
		t.Errorf("client 101: %d %q", status, problem.Error)
	}
	before := memory(t, p, "VmRSS")
	const callers, each = 8, 250
	slowest := make([]time.Duration, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for range each {
				began := time.Now()
				if a := askUser(t, p.url, canaryCRMNew, "o"); a.decision != "pass" {
					t.Errorf("%+v", a)
				}
				slowest[i] = max(slowest[i], time.Since(began))
			}
		})
	}
	all.Wait()
	for _, took := range slowest {
		if took > 10*time.Second { // a stalled client is cut after 30 s
			t.Errorf("a call took %s", took)
		}
	}
	if grown := memory(t, p, "VmRSS") - before; grown > 64<<10 {
		t.Errorf("the process has grown by %d KiB", grown)
	}
	dropped, err := strconv.ParseFloat(metricOf(t, client, p.admin, "wxproxy_tail_dropped_total"), 64)
	if err != nil || dropped < 100 {
		t.Errorf("wxproxy_tail_dropped_total is %v, %v, want lines of each client", dropped, err)
	}

	// One of them begins to read, and misses nothing that it is not told of.
	made := int64(callers * each)
	var got, missed atomic.Int64
	go countLines(stalled[0], &got, &missed)
	for checks := 0; missed.Load() == 0 || got.Load()+missed.Load() != made; checks++ {
		if checks > 1000 {
			t.Fatalf("of %d calls it has %d, and was told of %d more", made, got.Load(), missed.Load())
		}
		if checks%100 == 99 { // the next line comes with the number of those before it
			askUser(t, p.url, canaryCRMNew, "o")
			made++
		}
		time.Sleep(20 * time.Millisecond)
	}

	// One that goes gives its place back.
	_ = stalled[1].Close()
	waitFor(t, "place of a client that has gone", func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.admin+"/api/v1/tail", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+canaryAdmin)
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

// countLines reads a stream whose first bytes were read, to its end.
func countLines(c net.Conn, got, missed *atomic.Int64) {
	_ = c.SetReadDeadline(time.Time{})
	r := bufio.NewReader(c)
	for line := ""; line != "\r\n"; { // the rest of the header
		var err error
		if line, err = r.ReadString('\n'); err != nil {
			return
		}
	}
	for s := bufio.NewScanner(httputil.NewChunkedReader(r)); s.Scan(); {
		var line struct{ Dropped int64 }
		switch err := json.Unmarshal(s.Bytes(), &line); {
		case err != nil: // a heartbeat
		case line.Dropped > 0:
			missed.Add(line.Dropped)
		default:
			got.Add(1)
		}
	}
}

// A stream ends as soon as the gateway begins to stop, although a call is still under way.
func TestTailEndsAtShutdown(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	held := wechat.Order(sandbox.Fault{Path: "/cgi-bin/user/info", Hold: true})
	p := startTailed(t, wechat)
	stream := p.watch(t, "")
	answered := make(chan answer, 1)
	go func() { answered <- askUser(t, p.url, canaryCRMNew, "o") }()
	<-held.Begun()
	p.terminate(t)
	ended := make(chan error, 1)
	go func() { _, err := io.Copy(io.Discard, stream); ended <- err }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the stream was broken off: %v", err)
		}
	case <-time.After(15 * time.Second):
		t.Error("the stream goes on")
	}
	select {
	case a := <-answered:
		t.Errorf("the call was over before: %+v", a)
	default:
	}
	held.Release()
	if a := <-answered; a.decision != "pass" {
		t.Errorf("the call: %+v", a)
	}
}

// The command prints calls in columns or as they are, connects again when the gateway restarts, and an interrupt ends
// it with 0.
func TestTailCommand(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	config := write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), table("2/day", "100000/day"), tailConfig)
	socket := "unix:" + filepath.Join(t.TempDir(), "admin") // the same after a restart
	writeFile(t, config, strings.Replace(readFile(t, config), `admin: {listen: "127.0.0.1:0"`, `admin: {listen: "`+socket+`"`, 1))
	p := start(t, config, wechat)
	tail := func(args ...string) (*exec.Cmd, *output, *output) {
		cmd := exec.CommandContext(t.Context(), built(t), append([]string{"tail", "--config", config}, args...)...)
		cmd.Env = append(cmd.Environ(), "CANARY_SECRET="+canarySecret, "CANARY_ADMIN="+canaryAdmin, "LC_ALL=C")
		stdout, stderr := newOutput(), newOutput()
		cmd.Stdout, cmd.Stderr = stdout, stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, stdout, stderr
	}
	has := func(o *output, text string) func() bool {
		return func() bool { return strings.Contains(o.String(), text) }
	}
	table, tableOut, tableErr := tail("a", "--refused")
	lines, linesOut, _ := tail("--json", "--rule", "menu.*")
	waitFor(t, "refused call", func() bool {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/cgi-bin/menu/create", strings.NewReader(menu))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("a", canaryCRMNew)
		send(t, r)
		return has(tableOut, "refused-quota")() && has(linesOut, "refused-quota")()
	})
	head, first, _ := strings.Cut(tableOut.String(), "\n")
	if !strings.Contains(head, "caller") || !strings.Contains(first, "crm") || !strings.Contains(first, "quota-used-up") || !strings.Contains(first, "2/2") || strings.Contains(tableOut.String(), "\x1b") {
		t.Errorf("the table is\n%s", tableOut)
	}
	for _, line := range linesOut.lines(t) {
		if line["rule"] != "menu.create" {
			t.Errorf("--rule menu.* has %v", line)
		}
	}
	p.stop(t)
	waitFor(t, "note that the connection has ended", has(tableErr, "connecting again"))
	p = start(t, config, wechat)
	waitFor(t, "note that it is there again", has(tableErr, "connected again"))
	before := strings.Count(tableOut.String(), "\n")
	waitFor(t, "call of the gateway that was restarted", func() bool {
		askUser(t, p.url, "no-such-key", "o") // of no account
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/cgi-bin/menu/create", strings.NewReader(menu))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("a", canaryCRMNew)
		send(t, r)
		return strings.Count(tableOut.String(), "\n") > before
	})
	for name, cmd := range map[string]*exec.Cmd{"table": table, "--json": lines} {
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: interrupted, it ends with %v", name, err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), built(t), "tail", "nosuch", "--config", config).CombinedOutput(); err == nil {
		t.Errorf("tail of an unknown account: %s", out)
	}
}

// Columns grow with what comes, by the width of Chinese; colours are for a terminal.
func TestTailTable(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	line := `{"time":"2026-11-23T15:04:05.678+08:00","app":%s,"caller":"crm","rule":"user.info","decision":"%s","reason":"%s","quota":%d,"used":7,"errcode":%d,"status":%d,"duration_ms":12.34,"path":"/cgi-bin/user/info"}`
	plain := newTailTable(words.Chinese, false)
	for _, l := range []string{
		fmt.Sprintf(line, `"商城"`, "pass", "", 1000, 0, 200), fmt.Sprintf(line, `"shop-of-a-long-name"`, "refused-quota", "quota-used-up", 7, 45009, 200),
		`{"dropped":3}`, `{"what":"a later version says"}`, fmt.Sprintf(line, `"b"`, "refused-fuse", "fuse", 0, 40003, 200), fmt.Sprintf(line, `"b"`, "pass", "", 0, -1, 502),
	} {
		if err := plain.print(&b, []byte(l)); err != nil {
			t.Fatal(err)
		}
	}
	wantText(t, "table", b.String(), `
时间      帐号      调用方    规则                  结果            errcode  用量/上限     耗时
15:04:05  商城      crm       user.info             pass                     7/1000        12.3ms    /cgi-bin/user/info
15:04:05  shop-of-a-long-name  crm       user.info             refused-quota quota-used-up  45009    7/7           12.3ms    /cgi-bin/user/info
15:04:05  b                    crm       user.info             refused-fuse                 40003                  12.3ms    /cgi-bin/user/info
15:04:05  b                    crm       user.info             pass                         -1                     12.3ms    /cgi-bin/user/info
`)
	b.Reset()
	if err := newTailTable(words.English, true).print(&b, []byte(fmt.Sprintf(line, `"b"`, "refused-quota", "quota-used-up", 0, 45009, 200))); err != nil {
		t.Fatal(err)
	}
	if _, row, _ := strings.Cut(b.String(), "\n"); !strings.HasPrefix(row, "\x1b[31m15:04:05") || !strings.HasSuffix(row, "\x1b[0m\n") {
		t.Errorf("on a terminal: %q", row)
	}
}
