package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wxproxy/doctor"
	"wxproxy/internal/redistest"
	"wxproxy/internal/words"
	"wxproxy/sandbox"
)

// freeAddress is one of this machine that nobody listens at now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// doctorConfig writes a configuration with the sandbox's own account and addresses that are known. It returns its path.
func doctorConfig(t *testing.T, upstream, store string) string {
	t.Helper()
	folder := t.TempDir()
	path := filepath.Join(folder, "wxproxy.yaml")
	writeFile(t, path, fmt.Sprintf(`listen: %s
admin: {listen: %q, token: "${CANARY_ADMIN}"}
upstream: {url: %q}
store: {url: %q}
max_in_flight: 100
access_log: {file: %s, max_size_mb: 1, keep: 1}
apps:
  - {name: shop, appid: %s, secret: "${SHOP_SECRET}"}
`, freeAddress(t), freeAddress(t), upstream, store, filepath.Join(folder, "access.log"), sandbox.DefaultAppID))
	return path
}

// runDoctor runs the built program on a configuration. What it prints holds no secret.
func runDoctor(t *testing.T, config string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), built(t), append([]string{"doctor", "--config", config}, args...)...)
	cmd.Dir = filepath.Dir(config)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GOMEMLIMIT=1GiB", "CANARY_ADMIN=" + canaryAdmin, "SHOP_SECRET=" + sandbox.DefaultSecret}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if failed := new(exec.ExitError); errors.As(err, &failed) {
		code = failed.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{canaryAdmin, sandbox.DefaultSecret, "topsecret"} {
		if strings.Contains(out.String()+errs.String(), secret) {
			t.Errorf("it prints the secret %q:\n%s%s", secret, out.String(), errs.String())
		}
	}
	return out.String(), errs.String(), code
}

// With all as it should be there are only lines that say so.
func TestDoctorFindsNothing(t *testing.T) {
	t.Parallel()
	wechat := sandbox.NewServer(sandbox.Options{})
	defer wechat.Close()
	config := doctorConfig(t, wechat.URL, redistest.Start(t, "--appendonly", "yes").URL())
	p := start(t, config, wechat, "SHOP_SECRET="+sandbox.DefaultSecret)
	if a := do(t, "GET", p.url+"/cgi-bin/menu/get", nil); a.status != 200 {
		t.Fatal(a)
	}
	used := wechat.Tokens(sandbox.DefaultAppID)
	stdout, stderr, code := runDoctor(t, config)
	if code != 0 || stderr != "" || strings.Count(stdout, "\n") != 9 || strings.Count("\n"+stdout, "\nok ") != 9 {
		t.Errorf("exit code %d, stderr %q, want 0 and 9 lines with ok:\n%s", code, stderr, stdout)
	}
	if !strings.Contains(stdout, "WeChat sees 127.0.0.1") {
		t.Errorf("it does not tell the address:\n%s", stdout)
	}
	if now := wechat.Tokens(sandbox.DefaultAppID); strings.Join(now, " ") != strings.Join(used, " ") {
		t.Errorf("the tokens were %d and are %d, want the one in use alone", len(used), len(now))
	}
	stdout, _, code = runDoctor(t, config, "--lang", "zh")
	if code != 0 || strings.Count("\n"+stdout, "\n正常 ") != 9 {
		t.Errorf("exit code %d, want 0 and 9 lines:\n%s", code, stdout)
	}
	if n := len(p.stdout.lines(t)); n != 0 {
		t.Errorf("%d lines on stdout", n)
	}
}

// A store file that the running gateway has open is not opened: the gateway is asked.
func TestDoctorAsksTheGateway(t *testing.T) {
	t.Parallel()
	wechat := sandbox.NewServer(sandbox.Options{})
	defer wechat.Close()
	config := doctorConfig(t, wechat.URL, "file:wxproxy.db")
	p := start(t, config, wechat, "SHOP_SECRET="+sandbox.DefaultSecret)
	stdout, stderr, code := runDoctor(t, config)
	if want := "wxproxy.db, "; code == exitFaults || !strings.Contains(stdout, want) || !strings.Contains(stdout, "the running gateway has it open, so that was asked instead: ok") {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	p.stop(t)
	stdout, _, code = runDoctor(t, config)
	if code == exitFaults || !strings.Contains(stdout, "note     gateway        no gateway is running at ") || !strings.Contains(stdout, "wxproxy.db, ") || !strings.Contains(stdout, "can be opened") {
		t.Errorf("exit code %d without a gateway:\n%s", code, stdout)
	}
}

// Mistakes in the base URLs of services are found in what the gateway has logged of their calls.
func TestDoctorReadsTheLog(t *testing.T) {
	t.Parallel()
	wechat := sandbox.NewServer(sandbox.Options{})
	defer wechat.Close()
	config := doctorConfig(t, wechat.URL, "file:wxproxy.db")
	p := start(t, config, wechat, "SHOP_SECRET="+sandbox.DefaultSecret)
	app := "/" + sandbox.DefaultAppID
	calls := 0
	call := func(path string, header ...string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range header {
			r.Header.Set(name, "x")
		}
		send(t, r)
		calls++
	}
	for _, path := range []string{"/cgi-bin/gettoken?corpid=x", "/cgi-bin/cgi-bin/menu/get", app + app + "/cgi-bin/menu/get", "/menu", "/cgi-bin/menu/get"} {
		call(path)
	}
	for range 20 {
		call("/cgi-bin/menu/get", "Sec-Fetch-Mode")
	}
	log := filepath.Join(filepath.Dir(config), "access.log")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if text, err := os.ReadFile(log); err == nil && bytes.Count(text, []byte("\n"))-bytes.Count(text, []byte(`"user_agent":"wxproxy"`)) == calls { // but for questions of the gateway's own
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%v: want %d lines in the access log:\n%s", err, calls, text)
		}
	}
	stdout, _, code := runDoctor(t, config)
	if code != exitWarnings {
		t.Errorf("exit code %d, want %d", code, exitWarnings)
	}
	for _, want := range []string{
		"calls of a path of WeCom: 1, lately /cgi-bin/gettoken from 127.0.0.1 at ",
		"calls with a doubled prefix: 1, lately /cgi-bin/cgi-bin/menu/get from ",
		"calls with an appid twice in front of the path: 1, lately " + app + "/cgi-bin/menu/get from ",
		"calls of a path without its prefix: 1, lately /menu from ",
		"127.0.0.1 was refused 20 times for browser, lately at ",
	} {
		if strings.Count(stdout, "warning  log            "+want) != 1 {
			t.Errorf("no %q in:\n%s", want, stdout)
		}
	}
}

// When everything hangs it ends all the same.
func TestDoctorEnds(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes as long as its deadlines")
	}
	silent := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l.Addr().String() // the kernel takes connections, and nothing is ever read
	}
	config := doctorConfig(t, "http://"+silent(), "redis://:topsecret@"+silent()+"/0")
	text := readFile(t, config)
	before, rest, _ := strings.Cut(text, "admin: {listen: \"")
	_, after, _ := strings.Cut(rest, "\"")
	writeFile(t, config, before+"admin: {listen: \""+silent()+"\""+after)
	began := time.Now()
	stdout, stderr, code := runDoctor(t, config)
	took := time.Since(began)
	if code != exitFaults || took > 30*time.Second || !strings.HasPrefix(stderr, "wxproxy: doctor found faults: 3") {
		t.Errorf("exit code %d after %s: want 1 within 30s\n%s%s", code, took, stdout, stderr)
	}
	for _, want := range []string{
		"fault    gateway        127.0.0.1:", "fault    store          store redis://127.0.0.1:", "fault    network        127.0.0.1:",
		"skipped  tokens         not fetched: WeChat cannot be reached, see network", "skipped  address        not known",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in:\n%s", want, stdout)
		}
	}
}

// The answer of --json keeps its shape.
func TestDoctorJSON(t *testing.T) {
	t.Parallel()
	wechat := sandbox.NewServer(sandbox.Options{})
	defer wechat.Close()
	wechat.Order(sandbox.Fault{Path: "/cgi-bin/stable_token", ErrCode: 40125, Times: -1})
	redis := redistest.Start(t, "--appendonly", "yes", "--maxmemory-policy", "volatile-lru")
	stdout, _, code := runDoctor(t, doctorConfig(t, wechat.URL, redis.URL()), "--json", "--lang", "zh")
	var e struct {
		Version          string
		Time             time.Time
		Worst            string
		Faults, Warnings int
		Checks           []struct {
			Name, Subject, Worst string
			Seconds              float64
			Findings             []finding
		}
	}
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		t.Fatalf("%v in:\n%s", err, stdout)
	}
	var names []string
	kinds := make(map[string]finding)
	for _, c := range e.Checks {
		names = append(names, c.Name)
		for _, f := range c.Findings {
			kinds[f.Kind] = f
		}
	}
	if code != exitFaults || e.Version != version || e.Worst != "fault" || e.Faults != 1 || e.Warnings != 1 || time.Since(e.Time) > time.Hour {
		t.Errorf("exit code %d, %+v", code, e)
	}
	if want := "configuration gateway store network tokens address log machine exposure"; strings.Join(names, " ") != want {
		t.Errorf("checks %v, want %s", names, want)
	}
	if f := kinds["policy"]; f.Level != doctor.Warning || !strings.Contains(f.Seen, "maxmemory-policy is volatile-lru") || !strings.HasPrefix(f.Mend, "run CONFIG SET maxmemory-policy noeviction") {
		t.Errorf("the policy is found as %+v", f)
	}
	if f := kinds["wrong-secret"]; f.Level != doctor.Fault || !strings.HasPrefix(f.Seen, "no token for shop: errcode 40125") {
		t.Errorf("the AppSecret is found as %+v", f)
	}
}

func TestDoctorColours(t *testing.T) {
	t.Parallel()
	result := doctor.Result{Check: doctor.Check{Name: "store"}, Findings: []doctor.Finding{
		{Level: doctor.Fault, Seen: words.New(words.DoctorNoRoots), Mend: words.New(words.DoctorNoRootsMend)}, {Level: doctor.OK, Seen: words.New(words.DoctorNoTokens)},
	}}
	var plain, coloured bytes.Buffer
	printer{out: &plain, l: words.English}.result(result)
	printer{out: &coloured, l: words.English, colours: true}.result(result)
	want := "fault    store          this machine has no root certificates\n" +
		"                        -> install the package ca-certificates, or set SSL_CERT_FILE\n" +
		"ok       store          no account is configured\n"
	if plain.String() != want {
		t.Errorf("got\n%swant\n%s", plain.String(), want)
	}
	want = strings.NewReplacer("fault    store", "\x1b[31mfault  \x1b[0m  store", "ok       store", "\x1b[32mok     \x1b[0m  store").Replace(want)
	if coloured.String() != want {
		t.Errorf("got\n%qwant\n%q", coloured.String(), want)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if isScreen(file) || isScreen(&plain) {
		t.Error("a file is taken for a terminal")
	}
	if !isScreen(terminal(t, "")) {
		t.Error("a terminal is not taken for one")
	}
}

// fragments are messages of doctor that are no finding: names, parts of findings, what is fine.
var fragments = regexp.MustCompile(`^Doctor(Short|Long|Found|Level.*|.*Flag|.*Mend|.*Fine|Configuration|Gateway|Store|Network|Tokens|Address|Log|Machine|Exposure|` +
	`Run|Want|ConfigSet|More|Ahead|Behind|Defaults|Server|NoSuchHost|DNSSilent|NetworkSecure|Certificate|OfGateway|OfThisShell|TokenRejected|` +
	`NotEnded|FileAbsent|FileOfGateway|GatewayFetched|LogAbsent)$`)

// The manual has each finding with its text, in both languages, and no other; and the same code in both.
func TestDoctorManual(t *testing.T) {
	t.Parallel()
	row := regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\| [^|]+ \\| (.+) \\| (.+) \\|$")
	manuals := map[words.Language]string{words.English: readFile(t, "../../docs/doctor.md"), words.Chinese: readFile(t, "../../docs/doctor.zh-CN.md")}
	for l, manual := range manuals {
		texts := l.Dictionary()
		mends := map[string]bool{"-": true}
		want := make(map[string]string)
		for key, text := range texts {
			switch {
			case !strings.HasPrefix(key, "Doctor"):
			case fragments.MatchString(key):
				mends[text] = true
			default:
				m := doctor.Finding{Seen: words.New(words.Message{Key: key})}
				want[m.Kind()] = text
			}
		}
		got := make(map[string]string)
		for _, m := range row.FindAllStringSubmatch(manual, -1) {
			got[m[1]] = m[2]
			if !mends[m[3]] {
				t.Errorf("%s: %s: no mend reads %q", l, m[1], m[3])
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: the manual's findings (-program +manual):\n%s", l, diff)
		}
	}
	block := regexp.MustCompile("(?s)\n```[a-z]*\n.*?\n```\n")
	if diff := cmp.Diff(block.FindAllString(manuals[words.English], -1), block.FindAllString(manuals[words.Chinese], -1)); diff != "" {
		t.Errorf("code (-English +Chinese):\n%s", diff)
	}
}
