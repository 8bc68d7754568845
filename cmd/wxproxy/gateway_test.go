package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wxproxy/admin"
	"wxproxy/internal/redistest"
	"wxproxy/sandbox"
)

const (
	appA = "wxaaaaaaaaaaaaaaaa"
	appB = "wxbbbbbbbbbbbbbbbb"

	refusal     = `{"errcode":45009,"errmsg":"api freq out of limit"}`
	refusalType = "application/json; encoding=utf-8"
)

// newWechat starts a stand-in of WeChat that knows both apps. Its own quotas are out of the way:
// what it executed is the judge.
func newWechat(t *testing.T, o sandbox.Options) *sandbox.Server {
	t.Helper()
	o.Apps = []sandbox.App{{AppID: appA, Secret: canarySecret}, {AppID: appB, Secret: canarySecret}}
	wechat := sandbox.NewServer(o)
	t.Cleanup(func() {
		if err := wechat.Close(); err != nil {
			t.Error(err)
		}
	})
	return wechat
}

// deployment is a store and how many gateways may share it.
type deployment struct {
	name     string
	store    string // store.url
	gateways int
}

func deployments(t *testing.T) []deployment {
	t.Helper()
	return []deployment{
		{"redis", redistest.Start(t).URL(), 3},
		{"file", "file:" + filepath.Join(t.TempDir(), "wxproxy.db"), 1},
	}
}

// write writes a wxproxy.yaml of two apps and returns its path. limits are a limits.yaml; "" is
// the shipped table. more is added at the end.
func write(t *testing.T, wechat *sandbox.Server, store, limits string, more ...string) string {
	t.Helper()
	folder := t.TempDir()
	text := fmt.Sprintf(`listen: 127.0.0.1:0
admin: {listen: "127.0.0.1:0", token: "${CANARY_ADMIN}"}
upstream: {url: "%s"}
store: {url: "%s"}
apps:
  - {name: a, appid: %s, secret: "${CANARY_SECRET}"}
  - {name: b, appid: %s, secret: "${CANARY_SECRET}"}
`, wechat.URL, store, appA, appB)
	if limits != "" {
		text += "limits: limits.yaml\n"
		writeFile(t, filepath.Join(folder, "limits.yaml"), limits)
	}
	path := filepath.Join(folder, "wxproxy.yaml")
	writeFile(t, path, text+strings.Join(more, ""))
	return path
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// table is a limits.yaml with quotas for menu/create and user/info.
func table(create, info string) string {
	return fmt.Sprintf(`version: 1
timezone: Asia/Shanghai
profiles:
  production:
    title: 测试
    source: test
    rules:
      - {name: menu.create, title: 自定义菜单创建, category: 自定义菜单, paths: [/cgi-bin/menu/create], quota: %s}
      - {name: user.info, title: 获取用户基本信息, category: 用户管理, paths: [/cgi-bin/user/info], quota: %s}
      - {name: other, title: 其他接口, category: 其他, paths: [/cgi-bin/*], quota: unknown}
`, create, info)
}

const menu = `{"button":[{"name":"` + canaryBody + `"}]}`

// fire sends n calls by callers at once, in turn to each gateway, and counts answers. On a machine that is busy with
// other tests a store may not answer in a call's 250 ms: such a call is sent again, as a service would do.
func fire(t *testing.T, gateways []*process, callers, n int, method, target, body string) map[answer]int {
	t.Helper()
	var mu sync.Mutex
	got := make(map[answer]int)
	var next atomic.Int64
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for next.Add(1) <= int64(n) {
				a := do(t, method, gateways[i%len(gateways)].url+target, strings.NewReader(body))
				for try := 1; a.decision == "refused-store" && try < 20; try++ {
					time.Sleep(100 * time.Millisecond)
					a = do(t, method, gateways[i%len(gateways)].url+target, strings.NewReader(body))
				}
				mu.Lock()
				got[a]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return got
}

func TestExactlyTheQuotaIsExecuted(t *testing.T) {
	t.Parallel()
	for _, d := range deployments(t) {
		for _, n := range []int{1, 10, 100, 1200} { // more than 1000 are taken in blocks
			t.Run(fmt.Sprintf("%s/%d", d.name, n), func(t *testing.T) {
				wechat := newWechat(t, sandbox.Options{Keep: -1})
				config := write(t, wechat, d.store, table(fmt.Sprintf("%d/day", n), "7/day"))
				var gateways []*process
				for range d.gateways {
					gateways = append(gateways, start(t, config, wechat))
				}
				for _, app := range []string{appA, appB} {
					got := fire(t, gateways, 64, 2*n+128, "POST", "/"+app+"/cgi-bin/menu/create?access_token="+canaryOld, menu)
					ok := answer{200, refusalType, "pass", "", `{"errcode":0,"errmsg":"ok"}`}
					refused := answer{200, refusalType, "refused-quota", "quota-used-up", refusal}
					if got[ok] != n || got[refused] != n+128 || len(got) != 2 {
						t.Errorf("app %s: answers %v, want %d sent and %d refused", app, got, n, n+128)
					}
					if executed := wechat.Executed(app, "/cgi-bin/menu/create"); executed != int64(n) {
						t.Errorf("app %s: WeChat executed %d, want %d", app, executed, n)
					}
				}
				// Another rule is not disturbed.
				fire(t, gateways, 8, 20, "GET", "/"+appA+"/cgi-bin/user/info?openid="+canaryOpenID, "")
				if executed := wechat.Executed(appA, "/cgi-bin/user/info"); executed != 7 {
					t.Errorf("another rule: WeChat executed %d, want 7", executed)
				}
			})
		}
	}
}

// A clean stop keeps the count. A crash costs a quota up to 1000 at most the calls in flight, a
// larger one at most a thousandth more.
func TestTheCountGoesOnAfterRestartAndKill(t *testing.T) {
	t.Parallel()
	for _, d := range deployments(t) {
		for _, quota := range []int{200, 2000} {
			t.Run(fmt.Sprintf("%s/%d", d.name, quota), func(t *testing.T) {
				wechat := newWechat(t, sandbox.Options{Keep: -1})
				config := write(t, wechat, d.store, table(fmt.Sprintf("%d/day", quota), "7/day"))
				target := "/" + appA + "/cgi-bin/menu/create"

				p := start(t, config, wechat)
				fire(t, []*process{p}, 16, quota/4, "POST", target, menu)
				p.stop(t)

				p = start(t, config, wechat)
				if left := remaining(t, p); left != int64(quota-quota/4) {
					t.Errorf("after a clean stop %d are left, want %d", left, quota-quota/4)
				}
				// Killed among calls in flight: held in WeChat, after they were executed.
				held := wechat.Order(sandbox.Fault{AppID: appA, Path: "/cgi-bin/menu/create", After: quota / 4, Times: 8, HoldAnswer: true})
				var wg sync.WaitGroup
				for range 8 {
					wg.Go(func() {
						for range quota/4/8 + 16 {
							r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+target, strings.NewReader(menu))
							if err != nil {
								t.Error(err)
								return
							}
							response, err := client.Do(r)
							if err != nil {
								return // killed
							}
							_, _ = io.Copy(io.Discard, response.Body)
							_ = response.Body.Close()
						}
					})
				}
				<-held.Begun()
				waitFor(t, "8 calls in flight", func() bool { return held.Fired() == 8 })
				p.kill(t)
				held.Release()
				wg.Wait()

				p = start(t, config, wechat)
				fire(t, []*process{p}, 16, quota, "POST", target, menu)
				executed := wechat.Executed(appA, "/cgi-bin/menu/create")
				least := int64(quota) // the calls in flight were executed, so nothing is lost but a crash's thousandth
				if quota > 1000 {
					least -= int64(quota / 1000)
				}
				if executed > int64(quota) || executed < least {
					t.Errorf("WeChat executed %d in three lives, want %d to %d", executed, least, quota)
				}
				if held.Fired() != 8 {
					t.Errorf("%d calls were in flight at the kill, want 8", held.Fired())
				}
			})
		}
	}
}

// remaining is what the usage of app a says of menu.create.
func remaining(t *testing.T, p *process) int64 {
	t.Helper()
	var u admin.Usage
	p.askAdmin(t, "GET", "/api/v1/usage?app=a", &u)
	for _, row := range u.Apps[0].Rows {
		if row.Rule == "menu.create" {
			return row.Remaining
		}
	}
	t.Fatalf("no row for menu.create in %+v", u)
	return 0
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute) // the machine may be busy
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A zone file of our own puts midnight a few seconds ahead, for the gateways and for WeChat.
func TestMidnightStartsAnew(t *testing.T) {
	t.Parallel()
	for _, d := range deployments(t) {
		t.Run(d.name, func(t *testing.T) {
			midnight := time.Now().Add(5 * time.Second).Truncate(time.Second)
			east := (86400 - int(midnight.Unix()%86400)) % 86400
			if east > 12*3600 {
				east -= 86400
			}
			zones := t.TempDir()
			if err := os.Mkdir(filepath.Join(zones, "Asia"), 0o700); err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(zones, "Asia", "Shanghai"), zoneFile(east))
			wechat := newWechat(t, sandbox.Options{Keep: -1, Zone: time.FixedZone("test", east), Quotas: map[string]int64{"/cgi-bin/menu/create": 20}})
			config := write(t, wechat, d.store, table("20/day", "7/day"))
			var gateways []*process
			for range d.gateways {
				gateways = append(gateways, start(t, config, wechat, "ZONEINFO="+zones))
			}
			target := "/" + appA + "/cgi-bin/menu/create"
			fire(t, gateways, 16, 100, "POST", target, menu)
			if !time.Now().Before(midnight) {
				t.Fatal("the machine is too slow: midnight has passed already")
			}
			if executed := wechat.Executed(appA, "/cgi-bin/menu/create"); executed != 20 {
				t.Fatalf("before midnight WeChat executed %d, want 20", executed)
			}
			time.Sleep(time.Until(midnight.Add(-time.Second)))
			for time.Now().Before(midnight.Add(time.Second)) {
				fire(t, gateways, 16, 64, "POST", target, menu)
			}
			all := fire(t, gateways, 16, 64, "POST", target, menu)
			if executed := wechat.Executed(appA, "/cgi-bin/menu/create"); executed != 40 {
				t.Errorf("after midnight WeChat has executed %d, want 40; last answers %v", executed, all)
			}
			for a := range all {
				if strings.Contains(a.body, "reach max api daily") {
					t.Errorf("WeChat itself refused: %v", a)
				}
			}
		})
	}
}

// zoneFile is a TZif file (RFC 8536) of a zone that is always so many seconds east.
func zoneFile(east int) string {
	var b bytes.Buffer
	b.WriteString("TZif")
	b.Write(make([]byte, 16))
	for _, n := range []uint32{0, 0, 0, 0, 1, 4} { // one type, four bytes of names
		_ = binary.Write(&b, binary.BigEndian, n)
	}
	_ = binary.Write(&b, binary.BigEndian, int32(east))
	b.Write([]byte{0, 0})
	b.WriteString("TST\x00")
	return b.String()
}

func TestADeadTokenIsRenewedOnceForAllGateways(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{Keep: -1})
	config := write(t, wechat, redistest.Start(t).URL(), table("5000/day", "7/day"))
	gateways := []*process{start(t, config, wechat), start(t, config, wechat), start(t, config, wechat)}
	target := "/" + appA + "/cgi-bin/menu/create"
	fire(t, gateways, 3, 3, "POST", target, menu) // every gateway holds the token
	before := wechat.TokenFetches(appA)
	if before != 1 {
		t.Errorf("three gateways fetched %d tokens at first, want 1", before)
	}
	wechat.KillTokens(appA)
	got := fire(t, gateways, 500, 500, "POST", target, menu)
	if want := (answer{200, refusalType, "pass", "", `{"errcode":0,"errmsg":"ok"}`}); got[want] != 500 {
		t.Errorf("answers %v, want 500 of %v", got, want)
	}
	if fetched := wechat.TokenFetches(appA) - before; fetched != 1 {
		t.Errorf("500 callers with a dead token caused %d fetches, want 1", fetched)
	}
}

func TestLargeMediaBothWays(t *testing.T) {
	t.Parallel()
	const size, many, at = 10 << 20, 2 << 20, 64 // at once go fewer bytes each, still twice of what may be held in memory
	wechat := newWechat(t, sandbox.Options{Keep: 100})
	config := write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), "")
	// The stand-in reads all of them at once, and with the race detector that takes its time.
	text := readFile(t, config)
	writeFile(t, config, strings.Replace(text, "upstream: {", "upstream: {timeout: 5m, ", 1))
	p := start(t, config, wechat)
	do(t, "GET", p.url+"/"+appA+"/cgi-bin/get_api_domain_ip", nil)
	idle := memory(t, p, "VmRSS")

	media := make([]byte, size)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(media)
	var head bytes.Buffer
	form := multipart.NewWriter(&head)
	if _, err := form.CreateFormFile("media", "a.jpg"); err != nil {
		t.Fatal(err)
	}
	tail := "\r\n--" + form.Boundary() + "--\r\n"
	whole := map[int64][sha256.Size]byte{} // by the length of the body
	for _, n := range []int{size, many} {
		body := slices.Concat(head.Bytes(), media[:n], []byte(tail))
		whole[int64(len(body))] = sha256.Sum256(body)
	}
	upload := func(n int) answer {
		// io.MultiReader has no length, so the client sends it in chunks, which WeChat would refuse.
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/"+appA+"/cgi-bin/media/upload?type=image",
			io.MultiReader(bytes.NewReader(head.Bytes()), bytes.NewReader(media[:n]), strings.NewReader(tail)))
		if err != nil {
			t.Error(err)
			return answer{}
		}
		r.Header.Set("Content-Type", form.FormDataContentType())
		return send(t, r)
	}
	var up struct {
		MediaID string `json:"media_id"`
	}
	if a := upload(size); json.Unmarshal([]byte(a.body), &up) != nil || up.MediaID == "" {
		t.Fatalf("upload: %v", a)
	}
	down := do(t, "GET", p.url+"/"+appA+"/cgi-bin/media/get?media_id="+up.MediaID, nil)
	if down.kind != "image/jpeg" || sha256.Sum256([]byte(down.body)) != sha256.Sum256(media) {
		t.Errorf("down came %d bytes of %s that are not those that went up", len(down.body), down.kind)
	}

	var wg sync.WaitGroup
	for range at {
		wg.Go(func() {
			if a := upload(many); !strings.Contains(a.body, `"media_id"`) {
				t.Errorf("upload: %v", a)
			}
		})
	}
	wg.Wait()
	peak := memory(t, p, "VmHWM")
	if t.Logf("%d uploads of 2 MB at once: peak RSS %d KiB, idle %d KiB", at, peak, idle); peak > idle+64<<10 {
		t.Error("want at most 64 MiB more than idle")
	}
	uploads := 0
	for _, r := range wechat.Requests() {
		if r.Path != "/cgi-bin/media/upload" {
			continue
		}
		uploads++
		if len(r.TransferEncoding) > 0 || whole[r.ContentLength] != r.BodySHA256 {
			t.Errorf("WeChat was sent an upload of length %d, encoding %v, that is none of ours", r.ContentLength, r.TransferEncoding)
		}
	}
	if uploads != at+1 {
		t.Errorf("WeChat saw %d uploads, want %d", uploads, at+1)
	}
}

// memory is a line of /proc/PID/status, KiB.
func memory(t *testing.T, p *process, field string) int64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Skipf("no /proc on this machine: %v", err)
	}
	for line := range strings.Lines(string(data)) {
		if name, value, _ := strings.Cut(line, ":"); name == field {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in %s", field, data)
	return 0
}

func TestShutdownFinishesWhatRuns(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	config := write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), table("10/day", "7/day"))
	p := start(t, config, wechat)
	held := wechat.Order(sandbox.Fault{Path: "/cgi-bin/menu/create", Hold: true})
	got := make(chan answer, 1)
	go func() { got <- do(t, "POST", p.url+"/"+appA+"/cgi-bin/menu/create", strings.NewReader(menu)) }()
	<-held.Begun()
	if status := p.askAdmin(t, "GET", "/-/ready", nil); status != 200 {
		t.Errorf("ready = %d, want 200", status)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.stderr.await(t, "line that it stops", message("stopping"))
	if status := p.askAdmin(t, "GET", "/-/ready", nil); status != 503 {
		t.Errorf("ready while stopping = %d, want 503", status)
	}
	held.Release()
	if a := <-got; a.body != `{"errcode":0,"errmsg":"ok"}` {
		t.Errorf("the call that ran was answered %v, want WeChat's answer", a)
	}
	p.stop(t)
	lines := slices.DeleteFunc(p.stdout.lines(t), func(line map[string]any) bool { return line["user_agent"] == "wxproxy" })
	if len(lines) != 1 || lines[0]["decision"] != "pass" {
		t.Errorf("access log after a shutdown: %v, want the line of the last call", lines)
	}
	p = start(t, config, wechat)
	if left := remaining(t, p); left != 9 {
		t.Errorf("%d are left after a restart, want 9", left)
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	config := write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), table("2/day", "7/day"))
	limits := filepath.Join(filepath.Dir(config), "limits.yaml")
	p := start(t, config, wechat)
	executed := func() int64 {
		fire(t, []*process{p}, 4, 10, "POST", "/"+appA+"/cgi-bin/menu/create", menu)
		return wechat.Executed(appA, "/cgi-bin/menu/create")
	}
	if n := executed(); n != 2 {
		t.Fatalf("2/day: executed %d, want 2", n)
	}

	writeFile(t, limits, table("4/day", "7/day")) // found by itself
	p.stderr.await(t, "line that the file was reloaded", message("configuration reloaded"))
	if n := executed(); n != 4 {
		t.Errorf("4/day after the file changed: executed %d, want 4", n)
	}

	writeFile(t, limits, table("4/fortnight", "7/day"))
	var problem struct{ Error string }
	if status := p.askAdmin(t, "POST", "/-/reload", &problem); status != 422 || !strings.Contains(problem.Error, `limits.yaml:8:`) {
		t.Errorf("a bad file: %d %q, want 422 and the fault's place", status, problem.Error)
	}
	if n := executed(); n != 4 {
		t.Errorf("with a bad file the last good table holds: executed %d, want 4", n)
	}

	writeFile(t, limits, table("5/day", "7/day"))
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "5/day after SIGHUP", func() bool { return executed() == 5 })
	if n := executed(); n != 5 {
		t.Errorf("executed %d, want 5", n)
	}

	// What needs a restart stays as it was, and the log says so.
	writeFile(t, config, strings.Replace(readFile(t, config), wechat.URL, "http://127.0.0.1:1", 1))
	if line := p.stderr.await(t, "line that a restart is needed", message("takes effect after a restart")); line["key"] != "upstream" {
		t.Errorf("the log names %v, want upstream", line["key"])
	}
	if a := do(t, "GET", p.url+"/"+appA+"/cgi-bin/get_api_domain_ip", nil); !strings.Contains(a.body, "ip_list") {
		t.Errorf("after a change of upstream.url without a restart: %v, want an answer of the old one", a)
	}
}

func TestTheStoreGoesAwayAndComesBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	wechat := newWechat(t, sandbox.Options{})
	p := start(t, write(t, wechat, server.URL(), table("5/day", "7/day")), wechat)
	target := "/" + appA + "/cgi-bin/menu/create"
	fire(t, []*process{p}, 1, 2, "POST", target, menu)
	server.Freeze()
	begun := time.Now()
	got := do(t, "POST", p.url+target, strings.NewReader(menu))
	if took := time.Since(begun); got.decision != "refused-store" || got.body != `{"errcode":-1,"errmsg":"system error"}` || took > 1500*time.Millisecond {
		t.Errorf("with the store away: %v after %s, want -1 within 250 ms or so", got, took)
	}
	var ready map[string]string
	if status := p.askAdmin(t, "GET", "/-/ready", &ready); status != 200 || ready["store"] != "unreachable" {
		t.Errorf("ready = %d %v, want 200 and unreachable", status, ready)
	}
	server.Thaw()
	waitFor(t, "the rest of the quota", func() bool {
		fire(t, []*process{p}, 4, 4, "POST", target, menu)
		return wechat.Executed(appA, "/cgi-bin/menu/create") == 5
	})
	fire(t, []*process{p}, 4, 20, "POST", target, menu)
	if n := wechat.Executed(appA, "/cgi-bin/menu/create"); n != 5 {
		t.Errorf("executed %d, want 5", n)
	}
	if n := len(p.stderr.lines(t)); n > 20 {
		t.Errorf("%d lines of log, want one for each change of state", n)
	}
}
