package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"wxproxy/internal/redistest"
	"wxproxy/sandbox"
	"wxproxy/token"
)

// sdk is one of the packages that testdata/sdk/package.json pins, with its driver beside that, and
// what it does when nobody helps it.
type sdk struct {
	name string
	// probe is the step that stands for any call. One SDK has no call but that for a ticket.
	probe string
	// tickets is how often it asks for a ticket where the tour asks twice.
	tickets int
	// tokenCalls is how many calls it needs to have a token.
	tokenCalls int
	// wrongSecret is what a probe with a wrong secret ends in, in how many calls, without a gateway.
	wrongSecret, wrongSecretCalls int
	// dead is what a probe ends in when the token died, in how many calls, without a gateway; 0 when
	// the SDK fetches another and repeats the call.
	dead, deadCalls int
	// outdated is what a probe ends in, in how many calls, when the gateway finds its own token too old.
	outdated, outdatedCalls int
}

func (s sdk) hasUsers() bool { return s.probe == "user.info" }

func wechatSDKs() []sdk {
	return []sdk{
		{name: "co-wechat-api", probe: "user.info", tickets: 1, tokenCalls: 1, wrongSecret: 40125, wrongSecretCalls: 1, dead: 0, deadCalls: 3, outdated: 0, outdatedCalls: 3},
		{name: "wechat-api", probe: "user.info", tickets: 1, tokenCalls: 1, wrongSecret: 40125, wrongSecretCalls: 1, dead: 40001, deadCalls: 2, outdated: 42001, outdatedCalls: 1},
		{name: "node-easywechat", probe: "user.info", tickets: 1, tokenCalls: 1, wrongSecret: 40125, wrongSecretCalls: 1, dead: 40001, deadCalls: 1, outdated: 42001, outdatedCalls: 1},
		// It takes an answer without a token for one with the token "undefined", and never finds a
		// ticket that it has kept.
		{name: "tnwx", probe: "user.info", tickets: 2, tokenCalls: 1, wrongSecret: 40014, wrongSecretCalls: 2, dead: 40001, deadCalls: 1, outdated: 42001, outdatedCalls: 1},
		// It fetches a ticket along with each token, and keeps none that is asked for by itself.
		{name: "wechat-jssdk", probe: "ticket", tickets: 3, tokenCalls: 2, wrongSecret: 41001, wrongSecretCalls: 1, dead: 40001, deadCalls: 1, outdated: 42001, outdatedCalls: 1},
	}
}

// key is the SDK's own as a caller: it stands where the AppSecret would.
func (s sdk) key() string { return "canary-key-of-" + s.name + "-0123456789" }

// What the SDKs are told to send.
const (
	sdkMenu    = `今日"歌曲"`
	sdkGarbage = "57_CANARYgarbage0token0that0nobody0issued0000000000000000000000000000000"
	sdkWrong   = "wrong0wrong0wrong0wrong0wrong000"
)

// proxyToken is what the gateway hands out in place of WeChat's token.
var proxyToken = regexp.MustCompile(`^wxp1\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`)

// driver is a running testdata/sdk/driver.cjs.
type driver struct {
	sdk      sdk
	in       io.Writer
	outcomes <-chan sdkStep
	stderr   *output
	calls    int // of all steps so far
}

// sdkStep is what became of a step, as driver.cjs tells it.
type sdkStep struct {
	Step    string `json:"step"`
	OK      bool   `json:"ok"`
	Absent  bool   `json:"absent"`
	Value   string `json:"value"`
	ErrCode int    `json:"errcode"`
	Error   string `json:"error"`
	Calls   int    `json:"calls"`
}

func (o sdkStep) String() string {
	if o.OK {
		return fmt.Sprintf("ok in %d calls", o.Calls)
	}
	return fmt.Sprintf("%d %q in %d calls", o.ErrCode, o.Error, o.Calls)
}

// nodeModules returns the folder into which scripts/deps.sh installs the SDKs. A test without them
// proves nothing, so where CI is set it fails.
func nodeModules(t *testing.T) string {
	t.Helper()
	installed, err := filepath.Abs("../../.cache/sdk")
	if err != nil {
		t.Fatal(err)
	}
	missing := func(what string) {
		t.Helper()
		if os.Getenv("CI") != "" {
			t.Fatalf("no %s: run scripts/deps.sh", what)
		}
		t.Skipf("SKIPPED, no SDK was tried: no %s: run scripts/deps.sh", what)
	}
	if _, err := exec.LookPath("node"); err != nil {
		missing("node")
	}
	want, err := os.ReadFile("testdata/sdk/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(installed, "installed.json")); err != nil || !bytes.Equal(got, want) {
		missing(".cache/sdk as testdata/sdk/package-lock.json has it")
	}
	return filepath.Join(installed, "node_modules")
}

// drive starts the driver of an SDK. It ends with the test.
func drive(t *testing.T, modules string, s sdk) *driver {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	cmd := exec.CommandContext(ctx, "node", "driver.cjs", s.name)
	cmd.Dir = "testdata/sdk"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "NODE_PATH=" + modules, "NO_PROXY=*"}
	cmd.WaitDelay = 10 * time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d := &driver{sdk: s, in: in, stderr: newOutput()}
	cmd.Stderr = d.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	outcomes := make(chan sdkStep)
	d.outcomes = outcomes
	go func() {
		defer close(outcomes)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var o sdkStep
			if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
				o = sdkStep{Step: "not JSON", Error: lines.Text()}
			}
			select {
			case outcomes <- o:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = in.Close() // it ends at the end of its input
		for range outcomes {
		}
		if err := cmd.Wait(); err != nil && ctx.Err() == nil {
			t.Errorf("%s: %v\n%s", s.name, err, d.stderr)
		}
		cancel()
	})
	return d
}

// step has the SDK do something and returns what became of it.
func (d *driver) step(t *testing.T, name string, arguments map[string]any) sdkStep {
	t.Helper()
	line := map[string]any{"step": name}
	maps.Copy(line, arguments)
	text, err := json.Marshal(line)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.in.Write(append(text, '\n')); err != nil {
		t.Fatalf("%s, %s: %v\n%s", d.sdk.name, name, err, d.stderr)
	}
	select {
	case o, running := <-d.outcomes:
		if !running || o.Step != name || o.Absent {
			t.Fatalf("%s, %s: %+v\n%s", d.sdk.name, name, o, d.stderr)
		}
		d.calls += o.Calls
		return o
	case <-time.After(time.Minute):
		t.Fatalf("%s, %s: no outcome within a minute\n%s", d.sdk.name, name, d.stderr)
	}
	return sdkStep{}
}

// open begins anew with the SDK: another instance, which knows no token.
func (d *driver) open(t *testing.T, base, appid, secret string, more map[string]any) {
	t.Helper()
	arguments := map[string]any{"base": base, "appid": appid, "secret": secret, "folder": t.TempDir()}
	maps.Copy(arguments, more)
	d.must(t, "open", arguments)
}

// must is step for what has to succeed, and returns what the SDK made of the answer.
func (d *driver) must(t *testing.T, name string, arguments map[string]any) string {
	t.Helper()
	o := d.step(t, name, arguments)
	if !o.OK {
		t.Fatalf("%s, %s: %v", d.sdk.name, name, o)
	}
	return o.Value
}

func (d *driver) probe(t *testing.T) sdkStep {
	t.Helper()
	return d.step(t, d.sdk.probe, map[string]any{"openid": canaryOpenID})
}

// arrivals is what arrived at WeChat so far.
type arrivals struct{ calls, fetches int64 }

func (u arrivals) since(before arrivals) arrivals {
	return arrivals{u.calls - before.calls, u.fetches - before.fetches}
}

func arrivedAt(wechat *sandbox.Server) arrivals {
	return arrivals{wechat.Calls("", "") - wechat.Calls("", "/cgi-bin/openapi/quota/get"), wechat.TokenFetches("")}
}

// settledAt is what has arrived at WeChat when nothing more does: a question of the gateway's own that took longer than
// the call which it was for still runs, and one that was put off comes 2 s later: a tick, and a second between questions.
func settledAt(wechat *sandbox.Server) arrivals {
	for before := wechat.Calls("", ""); ; {
		time.Sleep(3 * time.Second)
		now := wechat.Calls("", "")
		if now == before {
			return arrivedAt(wechat)
		}
		before = now
	}
}

// The SDKs that services really use, as npm has them, against WeChat's stand-in without a gateway. It
// proves that the drivers use them as they should be, and shows what they do by themselves.
func TestSDKsWithoutAGateway(t *testing.T) {
	t.Parallel()
	modules := nodeModules(t)
	wechat := newWechat(t, sandbox.Options{})
	for _, s := range wechatSDKs() {
		t.Run(s.name, func(t *testing.T) {
			d := drive(t, modules, s)
			d.open(t, wechat.URL, appA, canarySecret, nil)
			before := arrivedAt(wechat)
			sdkTour(t, d, wechat, s.tickets)
			if got := arrivedAt(wechat).since(before); got.calls != int64(d.calls) || got.fetches != 1 {
				t.Errorf("WeChat saw %+v, want the %d calls that the SDK made and 1 fetch of a token", got, d.calls)
			}

			wechat.KillTokens(appA)
			if o := d.probe(t); o.OK != (s.dead == 0) || o.ErrCode != s.dead || o.Calls != s.deadCalls {
				t.Errorf("with a dead token: %v, want errcode %d in %d calls", o, s.dead, s.deadCalls)
			}

			d.open(t, wechat.URL, appA, sdkWrong, nil)
			if o := d.probe(t); o.ErrCode != s.wrongSecret || o.Calls != s.wrongSecretCalls {
				t.Errorf("with a wrong secret: %v, want errcode %d in %d calls", o, s.wrongSecret, s.wrongSecretCalls)
			}

			d.open(t, wechat.URL, appA, canarySecret, map[string]any{"token": sdkGarbage, "key": s.key()})
			if o := d.probe(t); o.ErrCode != 40014 {
				t.Errorf("with a token that is none: %v, want errcode 40014", o)
			}
			seen := wechat.Requests()
			user, password, ok := basicAuth(seen[len(seen)-1].Header)
			if !ok || user != appA || password != s.key() {
				t.Errorf("appid and key in the base URL: sent as %q, %q, %t", user, password, ok)
			}

			if !s.hasUsers() {
				return // there is no row of a table for what it calls
			}
			wechat.SetQuota(appB, "/cgi-bin/user/info", 1)
			wechat.AddUsed(appB, "/cgi-bin/user/info", 1)
			d.open(t, wechat.URL, appB, canarySecret, nil)
			d.must(t, "token", nil)
			if o := d.probe(t); o.ErrCode != 45009 || o.Calls != 1 {
				t.Errorf("over the budget: %v, want errcode 45009 in one call", o)
			}
		})
	}
}

func basicAuth(h http.Header) (user, password string, ok bool) {
	return (&http.Request{Header: h}).BasicAuth()
}

// The same through two gateways: nothing but the base URL and the secret is different.
func TestSDKsThroughTheGateway(t *testing.T) {
	t.Parallel()
	modules := nodeModules(t)
	wechat := newWechat(t, sandbox.Options{})
	config := writeSDKCallers(t, wechat, redistest.Start(t).URL())
	gateways := []*process{start(t, config, wechat), start(t, config, wechat)}
	var handedOut []string // proxy tokens
	t.Cleanup(func() {
		for _, s := range wechatSDKs() {
			handedOut = append(handedOut, s.key())
		}
		searchFor(t, gateways, handedOut)
	})
	killed, tickets := 0, make(map[string]bool)
	for i, s := range wechatSDKs() {
		p := gateways[i%len(gateways)]
		t.Run(s.name, func(t *testing.T) {
			d := drive(t, modules, s)
			d.open(t, p.url, appA, s.key(), nil)
			// Of all the SDKs' tickets only the very first is fetched.
			fetched := int64(0)
			if len(tickets) == 0 {
				fetched = 1
			}
			issued, ticket := sdkTour(t, d, wechat, int(fetched))
			tickets[ticket] = true
			handedOut = append(handedOut, issued)
			if !proxyToken.MatchString(issued) || len(issued) <= 32 || len(issued) > 512 {
				t.Errorf("the token handed out is %q, want wxp1. and two more parts, 33 to 512 characters", issued)
			}
			checkCallerLog(t, p, s.name, d.calls, int(fetched))
			checkTokensSent(t, wechat)

			before := settledAt(wechat)
			if s.hasUsers() { // for another, the next question of the gateway's own would find the token dead, at any time
				wechat.KillTokens(appA)
				killed++
			}
			if o := d.probe(t); !o.OK || o.Calls != 1 {
				t.Errorf("with WeChat's token dead: %v, want success in one call", o)
			}
			want := arrivals{calls: 3, fetches: 1} // the call, a new token, and the call
			if !s.hasUsers() {
				want = arrivals{} // a ticket is at hand
			}
			if got := arrivedAt(wechat).since(before); got != want {
				t.Errorf("with WeChat's token dead WeChat saw %+v, want %+v", got, want)
			}

			// The token is good on the other gateway as well.
			d.open(t, gateways[(i+1)%len(gateways)].url, appA, s.key(), map[string]any{"token": issued})
			if o := d.probe(t); !o.OK || o.Calls != 1 {
				t.Errorf("on the other gateway: %v, want success in one call", o)
			}

			// The AppSecret does as well as the key.
			d.open(t, p.url, appA, canarySecret, nil)
			handedOut = append(handedOut, d.must(t, "token", nil))
			if o := d.probe(t); !o.OK {
				t.Errorf("with the AppSecret: %v, want success", o)
			}

			// A real token out of a cache of the time before the gateway, and Basic in the base URL.
			d.open(t, p.url, appA, canarySecret, map[string]any{"token": sdkGarbage, "key": s.key()})
			if o := d.probe(t); !o.OK || o.Calls != 1 {
				t.Errorf("with the key in the base URL: %v, want success in one call", o)
			}
			checkTokensSent(t, wechat)

			refusedWithoutALoop(t, d, p, wechat)
		})
	}
	if len(tickets) != 1 {
		t.Errorf("the SDKs were given %d different tickets, want all the same", len(tickets))
	}
	for app, want := range map[string]int{appA: 1 + killed, appB: 1} {
		if got := wechat.TokenFetches(app); got != int64(want) {
			t.Errorf("app %s: %d tokens were fetched from WeChat, want %d: one, and one each time it died", app, got, want)
		}
	}
}

// refusedWithoutALoop has the SDK meet every refusal of the gateway's: none makes it call more than
// twice again, and WeChat does not hear of it. docs/sdk.md has these numbers.
func refusedWithoutALoop(t *testing.T, d *driver, p *process, wechat *sandbox.Server) {
	t.Helper()
	before := arrivedAt(wechat)
	refused := func(what string, calls int, codes ...int) {
		t.Helper()
		if o := d.probe(t); o.OK != (codes[0] == 0) || !slices.Contains(codes, o.ErrCode) || o.Calls != calls || calls > 1+2 {
			t.Errorf("%s: %v, want errcode %v in %d calls", what, o, codes, calls)
		}
	}
	d.open(t, p.url, appA, sdkWrong, nil)
	refused("a wrong secret", d.sdk.wrongSecretCalls, 40125, 48001) // the latter where it goes on without a token
	d.open(t, p.url, appA, sdkWrong, map[string]any{"token": sdkGarbage})
	refused("a token that is none", 1, 48001)
	if got := arrivedAt(wechat).since(before); got != (arrivals{}) {
		t.Errorf("refused callers: WeChat saw %+v, want nothing", got)
	}

	old := outdatedToken(t, d.sdk)
	before = arrivedAt(wechat)
	d.open(t, p.url, appA, d.sdk.key(), map[string]any{"token": old})
	refused("an outdated token of the gateway's", d.sdk.outdatedCalls, d.sdk.outdated)
	if got := arrivedAt(wechat).since(before); got.fetches != 0 {
		t.Errorf("an outdated token of the gateway's: %d tokens were fetched from WeChat, want none", got.fetches)
	}

	if !d.sdk.hasUsers() {
		return // a ticket that is at hand costs no budget
	}

	spendOnB(t, p)
	before = arrivedAt(wechat)
	d.open(t, p.url, appB, d.sdk.key(), nil)
	d.must(t, "token", nil)
	refused("over the budget", 1, 45009)
	if got := arrivedAt(wechat).since(before); got != (arrivals{}) {
		t.Errorf("over the budget: WeChat saw %+v, want nothing", got)
	}
	if n := wechat.Executed(appB, "/cgi-bin/user/info"); n != sdkBudget {
		t.Errorf("WeChat executed %d calls, want the %d of the budget", n, sdkBudget)
	}
}

// outdatedToken is what the gateway handed out for app a and the SDK's key two days ago.
func outdatedToken(t *testing.T, s sdk) string {
	t.Helper()
	keyring, err := token.NewKeyring(
		[]token.Account{{AppID: appA, Secrets: []string{canarySecret}}},
		[]token.Caller{{Name: s.name, Keys: []string{s.key()}, Apps: []string{appA}}})
	if err != nil {
		t.Fatal(err)
	}
	old, _, err := keyring.Issue(appA, s.key(), time.Now().Add(-48*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return old
}

// sdkBudget is app b's quota of user.info.
const sdkBudget = 10

// spendOnB uses up what is left of app b's quota.
func spendOnB(t *testing.T, p *process) {
	t.Helper()
	base, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	base.User = url.UserPassword("b", wechatSDKs()[0].key())
	for range sdkBudget + 1 {
		if a := do(t, "GET", base.String()+"/cgi-bin/user/info?openid="+canaryOpenID, nil); a.body == refusal {
			return
		}
	}
	t.Errorf("after %d calls the quota of %d is not used up", sdkBudget+1, sdkBudget)
}

// writeSDKCallers writes a wxproxy.yaml with a caller for each SDK, where nobody may call unnamed.
func writeSDKCallers(t *testing.T, wechat *sandbox.Server, store string) string {
	t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, `listen: 127.0.0.1:0
admin: {listen: "127.0.0.1:0", token: "${CANARY_ADMIN}"}
upstream: {url: "%s"}
store: {url: "%s"}
anonymous: false
apps:
  - {name: a, appid: %s, secret: "${CANARY_SECRET}"}
  - {name: b, appid: %s, secret: "${CANARY_SECRET}", quotas: {user.info: %d/day}}
callers:
`, wechat.URL, store, appA, appB, sdkBudget)
	for _, s := range wechatSDKs() {
		fmt.Fprintf(&text, "  - {name: %s, key: %q, apps: [a, b]}\n", s.name, s.key())
	}
	path := filepath.Join(t.TempDir(), "wxproxy.yaml")
	writeFile(t, path, text.String())
	return path
}

// sdkTour has the SDK do one thing of each kind, checks its answers, and that WeChat executed each of
// them once, but getticket as often as fetched says. It returns the token and the ticket.
func sdkTour(t *testing.T, d *driver, wechat *sandbox.Server, fetched int) (issued, ticket string) {
	t.Helper()
	want := map[string]int64{"/cgi-bin/ticket/getticket": int64(fetched)}
	if d.sdk.hasUsers() {
		for _, path := range []string{
			"/cgi-bin/menu/create", "/cgi-bin/menu/get", "/cgi-bin/menu/delete", "/cgi-bin/user/info", "/cgi-bin/user/get",
			"/cgi-bin/message/custom/send", "/cgi-bin/qrcode/create", "/datacube/getusersummary",
			"/cgi-bin/media/upload", "/cgi-bin/media/get",
		} {
			want[path] = 1
		}
	}
	before := make(map[string]int64)
	for path := range want {
		before[path] = wechat.Executed(appA, path)
	}

	one := func(step string, arguments map[string]any) string {
		t.Helper()
		called := d.calls
		value := d.must(t, step, arguments)
		if d.calls != called+1 {
			t.Errorf("%s, %s: %d calls, want one", d.sdk.name, step, d.calls-called)
		}
		return value
	}
	is := func(step, want string, arguments map[string]any) {
		t.Helper()
		if got := one(step, arguments); got != want {
			t.Errorf("%s, %s: %q, want %q", d.sdk.name, step, got, want)
		}
	}
	issued = d.must(t, "token", nil)
	if d.calls != d.sdk.tokenCalls {
		t.Errorf("%s, token: %d calls, want %d", d.sdk.name, d.calls, d.sdk.tokenCalls)
	}
	if d.sdk.hasUsers() {
		is("menu.create", "ok", map[string]any{"menu": map[string]any{"button": []any{map[string]any{"type": "click", "name": sdkMenu, "key": "song"}}}})
		is("menu.get", sdkMenu, nil)
		is("menu.delete", "ok", nil)
		is("user.info", canaryOpenID, map[string]any{"openid": canaryOpenID})
		is("user.list", "3", nil)
		is("message.send", "ok", map[string]any{"openid": canaryOpenID, "text": canaryBody})
		one("qrcode.create", nil)
		is("statistics", "0", map[string]any{"day": "2026-11-01"})
		file, sum := sdkPicture(t)
		is("media.get", sum, map[string]any{"media": one("media.upload", map[string]any{"file": file})})
	}
	ticket = d.must(t, "ticket", nil)
	if again := d.must(t, "ticket", nil); ticket == "" || again != ticket {
		t.Errorf("%s: ticket %q, then %q", d.sdk.name, ticket, again)
	}

	for path, n := range want {
		if got := wechat.Executed(appA, path) - before[path]; got != n {
			t.Errorf("%s: WeChat executed %s %d times, want %d", d.sdk.name, path, got, n)
		}
	}
	return issued, ticket
}

// sdkPicture writes a file of random bytes, too large to be held in memory on its way, and returns its
// path and its SHA-256.
func sdkPicture(t *testing.T) (path, sum string) {
	t.Helper()
	data := make([]byte, 300_001)
	source := rand.NewChaCha8([32]byte{7})
	_, _ = source.Read(data)
	path = filepath.Join(t.TempDir(), "picture.jpg")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(data)
	return path, hex.EncodeToString(digest[:])
}

// checkCallerLog waits until the gateway has logged as many calls of a caller as its SDK made, and reads
// what it says of them. Tickets are answered here, but for as many as fetched says.
func checkCallerLog(t *testing.T, p *process, caller string, calls, fetched int) {
	t.Helper()
	var lines []map[string]any
	waitFor(t, fmt.Sprintf("%d lines of caller %s in the access log", calls, caller), func() bool {
		lines = slices.DeleteFunc(p.stdout.lines(t), func(line map[string]any) bool { return line["caller"] != caller })
		return len(lines) >= calls
	})
	if len(lines) != calls {
		t.Errorf("the log has %d calls of %s, want %d", len(lines), caller, calls)
	}
	for _, line := range lines {
		want := "pass"
		switch line["path"] {
		case "/cgi-bin/ticket/getticket":
			if fetched--; fetched < 0 {
				want = "local"
			}
		case "/cgi-bin/token":
			want = "local"
		}
		if line["decision"] != want || line["appid"] != appA || line["errcode"] != 0.0 {
			t.Errorf("%s %v: decision %v, app %v, errcode %v, want %s, %s, 0",
				caller, line["path"], line["decision"], line["appid"], line["errcode"], want, appA)
		}
	}
}

// checkTokensSent checks that nothing of the callers' reached WeChat: each call carries one token, and
// that is WeChat's own.
func checkTokensSent(t *testing.T, wechat *sandbox.Server) {
	t.Helper()
	for _, r := range wechat.Requests() {
		query, err := url.ParseQuery(r.RawQuery)
		if err != nil {
			t.Fatal(err)
		}
		shown := query["access_token"]
		if r.Path == "/cgi-bin/stable_token" {
			continue
		}
		if len(shown) != 1 || strings.HasPrefix(shown[0], "wxp1.") || shown[0] == sdkGarbage {
			t.Errorf("WeChat was shown the tokens %q at %s", shown, r.Path)
		}
		if r.Header.Get("Authorization") != "" || strings.Contains(r.RawQuery, "canary-key") || len(r.TransferEncoding) > 0 {
			t.Errorf("WeChat saw at %s: Authorization %q, query %q, transfer encoding %v", r.Path, r.Header.Get("Authorization"), r.RawQuery, r.TransferEncoding)
		}
	}
}

// searchFor looks for secrets in everything that gateways have written.
func searchFor(t *testing.T, gateways []*process, secrets []string) {
	t.Helper()
	for _, p := range gateways {
		for name, o := range map[string]*output{"stdout": p.stdout, "stderr": p.stderr} {
			text := o.String()
			for _, secret := range secrets {
				if secret != "" && strings.Contains(text, secret) {
					t.Errorf("%s holds %q", name, secret)
				}
			}
		}
	}
}
