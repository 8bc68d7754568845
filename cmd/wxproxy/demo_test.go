package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"wxproxy/internal/words"
	"wxproxy/sandbox"
)

// demoProcess is `wxproxy demo` as a new user starts it.
type demoProcess struct {
	cmd            *exec.Cmd
	stdout, stderr *output
	temp           string // its folder for temporary files
	exited         chan error
	began          time.Time
}

func newDemo(t *testing.T, args ...string) *demoProcess {
	t.Helper()
	d := &demoProcess{
		cmd:    exec.CommandContext(context.WithoutCancel(t.Context()), built(t), append([]string{"demo"}, args...)...),
		stdout: newOutput(), stderr: newOutput(), temp: t.TempDir(), exited: make(chan error, 1), began: time.Now(),
	}
	d.cmd.Stdout, d.cmd.Stderr, d.cmd.Dir = d.stdout, d.stderr, d.temp
	d.cmd.Env = append(os.Environ(), "TMPDIR="+d.temp, "LC_ALL=", "LC_MESSAGES=", "LANG=zh_CN.UTF-8", "TERM=xterm", "NO_COLOR=")
	return d
}

func (d *demoProcess) start(t *testing.T) {
	t.Helper()
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.cmd.Process.Kill() })
	go func() { d.exited <- d.cmd.Wait() }()
}

// sees waits until something is printed that matches, and returns what the groups match.
func (d *demoProcess) sees(t *testing.T, pattern string) []string {
	t.Helper()
	want := regexp.MustCompile("(?m)" + pattern)
	deadline := time.Now().Add(2 * time.Minute) // the machine may be busy
	for {
		d.stdout.mu.Lock()
		text, more := d.stdout.text.String(), d.stdout.more
		d.stdout.mu.Unlock()
		if found := want.FindStringSubmatch(text); found != nil {
			return found
		}
		select {
		case <-more:
		case <-time.After(time.Until(deadline)):
			t.Fatalf("nothing like %s in:\n%s\n%s", pattern, text, d.stderr)
		}
	}
}

// end interrupts it: it exits with 0 and leaves no file.
func (d *demoProcess) end(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	d.hasEnded(t)
}

func (d *demoProcess) hasEnded(t *testing.T) {
	t.Helper()
	select {
	case err := <-d.exited:
		if err != nil {
			t.Errorf("the demo ended with %v\n%s", err, d.stderr)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("the demo did not end:\n%s", d.stdout)
	}
	if left, err := os.ReadDir(d.temp); err != nil || len(left) > 0 {
		t.Errorf("the demo has left %v: %v", left, err)
	}
}

// wechatState is what the stand-in has executed for the demo's account, by path.
func wechatState(t *testing.T, url string) map[string]int64 {
	t.Helper()
	var state struct {
		Apps []struct {
			Executed map[string]int64 `json:"executed"`
		} `json:"apps"`
	}
	if err := json.Unmarshal([]byte(do(t, "GET", url+"/-/sandbox/state", nil).body), &state); err != nil || len(state.Apps) != 1 {
		t.Fatalf("%+v: %v", state, err)
	}
	return state.Apps[0].Executed
}

// What the demo prints works as it is printed, from another terminal, and what it tells is what has happened.
func TestDemo(t *testing.T) {
	t.Parallel()
	d := newDemo(t, "--lang", "en")
	d.start(t)
	page := d.sees(t, `^  (http://127\.0\.0\.1:\d+)/#code=(\w+)$`)
	admin, code := page[1], page[2]
	wechat, gateway := d.sees(t, `WeChat at (http://[^,\s]+),`)[1], d.sees(t, `curl -i '(http://[^']+)/cgi-bin/menu/create' -d`)[1]
	t.Logf("%v to the address", time.Since(d.began))

	// The address signs in once.
	trade := func(code string) (status int, token string) {
		a := do(t, "POST", admin+"/api/v1/session", strings.NewReader(`{"code":"`+code+`"}`))
		var session struct {
			Token string `json:"token"`
		}
		_ = json.Unmarshal([]byte(a.body), &session) // a refusal has none
		return a.status, session.Token
	}
	status, token := trade(code)
	if status != http.StatusOK || token == "" {
		t.Errorf("the printed code: %d, token %q", status, token)
	}
	if status, _ := trade(code); status != http.StatusForbidden {
		t.Errorf("the printed code for a second time: %d", status)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, admin+"/api/v1/accounts", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if a := send(t, r); a.status != http.StatusOK || !strings.Contains(a.body, `"demo"`) {
		t.Errorf("with the token of the code: %v", a)
	}

	// Calls of the person are told too.
	for i, want := range []string{`"errcode":0`, `"errcode":0`, `"errcode":45009`} {
		if a := do(t, "POST", gateway+"/cgi-bin/menu/create", strings.NewReader(`{"button":[]}`)); !strings.Contains(a.body, want) {
			t.Errorf("call %d: %v, want %s", i+1, a, want)
		}
	}
	d.sees(t, `you +menu\.create +2/2  ok\n(.*\n)*.*you +menu\.create +2/2  refused: quota-used-up$`)
	if a := do(t, "GET", d.sees(t, `curl (http\S*/metrics)`)[1], nil); a.status != http.StatusOK {
		t.Errorf("metrics: %v", a)
	}
	config := d.sees(t, `usage --config (\S+)`)[1]
	out, err := exec.CommandContext(t.Context(), built(t), "usage", "--config", config, "--lang", "en").CombinedOutput()
	if err != nil || !regexp.MustCompile(`\b2/2\s.*menu\.create`).Match(out) {
		t.Errorf("usage: %v\n%s", err, out)
	}

	d.sees(t, `campaign +message\.template\.send +5/5  refused: share-used-up\n\n  campaign has used up its share`)
	t.Logf("%v to the first refusal", time.Since(d.began))
	d.sees(t, `reporter +user\.info +\d+/5000  WeChat: 40003$`)
	d.sees(t, `reporter repeats one call`)
	d.sees(t, `reporter +user\.info +refused: fuse\n\n  The gateway has stopped the loop of reporter`)
	t.Logf("%v to the loop's end", time.Since(d.began))
	d.sees(t, `refused: fuse(.*\n)+.*crm +user\.info +\d+/5000  ok$`) // the others go on
	before := wechatState(t, wechat)["/cgi-bin/user/info"]
	d.sees(t, `campaign +message\.mass\.send +3/3  refused: quota-used-up$`)
	d.sees(t, `crm +user\.get +\d/500  WeChat: 45009\n\n  WeChat itself answers 45009`)
	d.sees(t, `crm +user\.get +\d+/500  refused: wechat-45009\n\n  user\.get is closed`)
	again := d.sees(t, `That was all(?:.*\n)+  http://127\.0\.0\.1:\d+/#code=(\w+)$`)[1]
	if status, _ := trade(again); again == code || status != http.StatusOK {
		t.Errorf("the last code: %d", status)
	}
	t.Logf("%v to the end", time.Since(d.began))

	executed := wechatState(t, wechat)
	for path, most := range map[string]int64{"/cgi-bin/menu/create": 2, "/cgi-bin/message/mass/send": 3, "/cgi-bin/user/info": before + 40} {
		if executed[path] > most || executed[path] == 0 {
			t.Errorf("WeChat has executed %s %d times, want 1 to %d", path, executed[path], most)
		}
	}
	for line := range strings.Lines(d.stdout.String()) {
		if width := columns.StringWidth(strings.TrimSuffix(line, "\n")); width > usualWidth && !strings.Contains(line, d.temp) {
			t.Errorf("%d columns: %s", width, line)
		}
		if strings.Contains(line, "\x1b") || strings.Contains(line, sandbox.DefaultSecret) || han.MatchString(line) {
			t.Errorf("a colour, a secret or Chinese: %q", line)
		}
	}
	if n := strings.Count(d.stdout.String(), "refused: fuse\n"); n > 30 {
		t.Errorf("%d lines of a loop", n)
	}
	d.end(t)
	d.sees(t, `executed \d+ calls; \d+ were\s+refused`)
}

// The same in Chinese, on a terminal, as wide as it is.
func TestDemoOnATerminal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		columns uint16
		row     string
		end     string // typed; "": the terminal is closed
	}{
		{80, `\d\d:\d\d:\d\d  campaign  message\.template\.send        5/5  拒绝：share-used-up`, "\x03"},
		{60, `campaign message\.templat…        5/5 拒绝：share-used-up`, ""},
	} {
		t.Run(fmt.Sprintf("%d columns", tt.columns), func(t *testing.T) {
			t.Parallel()
			master, slave := pseudoTerminal(t)
			resize(t, slave, tt.columns)
			d := newDemo(t)
			d.cmd.Stdin, d.cmd.Stdout, d.cmd.Stderr = slave, slave, slave
			control(d.cmd)
			d.start(t)
			_ = slave.Close() // the demo has it
			read := make(chan struct{})
			go func() {
				defer close(read)
				buffer := make([]byte, 4096)
				for {
					n, err := master.Read(buffer)
					_, _ = d.stdout.Write([]byte(strings.ReplaceAll(string(buffer[:n]), "\r", "")))
					if err != nil {
						return
					}
				}
			}()
			d.sees(t, `^\x1b\[31m`+tt.row+`\x1b\[0m\n\n  \x1b\[1mcampaign 用完了自己的份额`)
			d.sees(t, `\x1b\[33m.*微信：40003`)
			for line := range strings.Lines(d.stdout.String()) {
				line = regexp.MustCompile(`\x1b\[\d+m|\n`).ReplaceAllString(line, "")
				if width := columns.StringWidth(line); width > int(tt.columns) && !strings.Contains(line, d.temp) && !strings.Contains(line, "curl") {
					t.Errorf("%d columns: %s", width, line)
				}
			}
			if tt.end == "" {
				if err := master.Close(); err != nil {
					t.Fatal(err)
				}
				d.hasEnded(t)
				return
			}
			if _, err := master.WriteString(tt.end); err != nil {
				t.Fatal(err)
			}
			d.hasEnded(t)
			<-read
			if !strings.Contains(d.stdout.String(), "演示结束。模拟的微信执行了") {
				t.Errorf("no sum at the end:\n%s", d.stdout)
			}
		})
	}
}

// A demo whose reader has gone ends by itself and leaves nothing.
func TestDemoWithoutAReader(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	d := newDemo(t)
	d.cmd.Stdout = w
	d.start(t)
	_ = w.Close()
	if _, err := r.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	d.hasEnded(t)
}

// A port that is in use gives way to another, and the demo says so.
func TestDemoPortInUse(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	if l, err := lc.Listen(t.Context(), "tcp", demoListen); err == nil {
		defer l.Close()
	} // else it is in use already
	d := newDemo(t)
	d.start(t)
	gateway := d.sees(t, `curl -i '(http://[^']+)/cgi-bin`)[1]
	if !strings.Contains(d.stderr.String(), demoListen+" 已被别的程序占用：演示改用 "+strings.TrimPrefix(gateway, "http://")) {
		t.Errorf("the gateway is at %s, and stderr has:\n%s", gateway, d.stderr)
	}
	if a := do(t, "GET", gateway+"/cgi-bin/menu/get", nil); a.status != http.StatusOK || a.decision != "pass" {
		t.Errorf("a call: %v", a)
	}
	d.sees(t, `你 +menu\.get`)
	d.end(t)
}

// The calls of a loop are summed up, and what came before comes first.
func TestNarrator(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	n := newNarrator(words.English, &out)
	n.told["token"] = true
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.Local)
	call := func(caller, decision, reason string, errcode int, used int64) {
		at = at.Add(time.Millisecond)
		n.call(tailLine{Time: at, Caller: caller, Rule: "user.info", Decision: decision, Reason: reason, Quota: 100, Used: used, Status: 200, Errcode: errcode})
	}
	for used := range int64(9) {
		call("a", "pass", "", 40003, used+1)
	}
	call("b", "pass", "", 0, 10)
	call("a", "refused-fuse", "fuse", 40003, 0)
	n.sum()
	for range 3 {
		call("a", "pass", "", 40003, 11) // still a loop
	}
	n.sum()
	n.sum() // it is over
	call("a", "pass", "", 40003, 12)
	want := `time      caller    rule                  used/limit  decision
12:00:00  a         user.info                  1/100  WeChat: 40003
12:00:00  a         user.info                  2/100  WeChat: 40003
12:00:00  a         user.info                  3/100  WeChat: 40003
12:00:00  a         user.info                  4/100  WeChat: 40003
12:00:00  a         user.info                  5/100  WeChat: 40003
12:00:00  b         user.info                 10/100  ok
12:00:00  a         user.info                  9/100  WeChat: 40003 ×4
12:00:00  a         user.info                  0/100  refused: fuse

  The gateway has stopped the loop of a: after 200 answers 40003 it gives that
  answer itself, at no cost, and tries one call every 6 s until the cause is
  mended. The others go on. (A real gateway takes a minute to be sure and
  tries once a minute; wxproxy.yaml: fuse: on. With alerts configured, the
  team is notified in its chat.)

12:00:00  a         user.info                 11/100  WeChat: 40003 ×3
12:00:00  a         user.info                 12/100  WeChat: 40003
`
	if out.String() != want {
		wantText(t, "told", out.String(), want)
	}
}
