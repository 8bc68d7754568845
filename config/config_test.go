package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the shipped table names a zone

	"github.com/google/go-cmp/cmp"

	"wxproxy/limits"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// shippedYAML reads the limits.yaml that the binary embeds.
func shippedYAML(tb testing.TB) []byte {
	tb.Helper()
	data, err := os.ReadFile("../limits.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func shippedTable(tb testing.TB) *limits.Table {
	tb.Helper()
	table, err := ParseTable("limits.yaml", shippedYAML(tb), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return table
}

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

// files writes a folder; names and contents take turns.
func files(t *testing.T, pairs ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(pairs); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, pairs[i]), []byte(pairs[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func load(t *testing.T, o LoadOptions) *Config {
	t.Helper()
	o.Shipped = shippedYAML(t)
	if o.Env == nil {
		o.Env = env()
	}
	c, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// loadFaults loads what must be refused.
func loadFaults(t *testing.T, o LoadOptions) Faults {
	t.Helper()
	o.Shipped = shippedYAML(t)
	if o.Env == nil {
		o.Env = env()
	}
	c, err := Load(o)
	var faults Faults
	if !errors.As(err, &faults) || c != nil {
		t.Fatalf("Load = %v, %v, want faults", c, err)
	}
	return faults
}

func TestLoadDefaults(t *testing.T) {
	c := load(t, LoadOptions{Dir: t.TempDir()})
	want := `listen: 127.0.0.1:8080
allow_open: false
tls: {cert_file: "", key_file: ""}
trusted_proxies: []
admin:
    listen: 127.0.0.1:8081
    token: ""
upstream:
    url: https://api.weixin.qq.com
    fallbacks: []
    timeout: 30s
store:
    url: file:wxproxy.db
    prefix: wxp
limits: ""
token:
    endpoint: stable_token
drift: {every: 0s, per_day: 500}
apps: []
callers: []
anonymous: auto
learn: auto
alerts:
    language: zh
    thresholds: [50, 80, 95, 100]
    drift: 5
    remind: 4h0m0s
    digest: "off"
    page: ""
    sinks: []
access_log: stdout
max_body: 33554432
max_in_flight: 2000
fuse: watch
shutdown_delay: 0s
`
	if diff := cmp.Diff(want, dump(t, c)); diff != "" {
		t.Errorf("the defaults (-want +got):\n%s", diff)
	}
	if len(c.Apps) != 0 || len(c.Paths) != 0 || c.Table.Profiles["production"] == nil {
		t.Errorf("Apps = %v, Paths = %v, Table = %v, want none, none and the shipped table", c.Apps, c.Paths, c.Table)
	}
	if c.AccessLog.MaxSizeMB != 100 || c.AccessLog.Keep != 7 {
		t.Errorf("AccessLog = %+v, want 100 MB and 7 files", c.AccessLog)
	}
}

// TestExample loads the example that users copy: every key stands at its default there but for
// the app.
func TestExample(t *testing.T) {
	c := load(t, LoadOptions{Path: "../testdata/wxproxy.yaml", Env: env("SHOP_SECRET", "canary")})
	if len(c.Apps) != 1 || c.Apps[0].Name != "shop" || c.Apps[0].Rules.Rule("user.info").Budget.String() != "500000/day" {
		t.Errorf("Apps = %+v, want shop with user.info at 500000/day", c.Apps)
	}
	c.Apps = nil
	bare := load(t, LoadOptions{Dir: t.TempDir()})
	if diff := cmp.Diff(dump(t, bare), dump(t, c)); diff != "" {
		t.Errorf("the example without its app differs from the defaults (-defaults +example):\n%s", diff)
	}
}

func TestLoadGood(t *testing.T) {
	shipped := shippedYAML(t)
	t.Chdir("../testdata/config/good")
	paths, err := filepath.Glob("*.yaml")
	if err != nil || len(paths) < 3 {
		t.Fatalf("good files: %v, %v", paths, err)
	}
	for _, path := range paths {
		if strings.HasPrefix(path, "limits-") {
			continue
		}
		t.Run(path, func(t *testing.T) {
			c, err := Load(LoadOptions{Path: path, Shipped: shipped, Env: env("SHOP_SECRET", "canary-new")})
			if err != nil {
				t.Fatal(err)
			}
			masked := dump(t, c)
			golden(t, strings.TrimSuffix(path, ".yaml")+".txt", masked)
			if strings.Contains(masked, "canary") {
				t.Errorf("dump shows a secret:\n%s", masked)
			}
			again := filepath.Join(t.TempDir(), "masked.yaml")
			if c.LimitsFile != "" {
				abs, err := filepath.Abs(c.LimitsFile)
				if err != nil {
					t.Fatal(err)
				}
				masked = strings.Replace(masked, "limits: "+c.LimitsFile, "limits: "+abs, 1)
			}
			if err := os.WriteFile(again, []byte(masked), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err = Load(LoadOptions{Path: again, Shipped: shipped, Env: env()})
			if err != nil {
				t.Fatalf("a masked configuration does not load: %v", err)
			}
			if got := dump(t, c); got != masked {
				t.Errorf("masked twice (-once +twice):\n%s", cmp.Diff(masked, got))
			}
		})
	}
}

// golden compares got with a file, or writes it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestLoadBad loads each bad file. One that is not named several has exactly one fault.
func TestLoadBad(t *testing.T) {
	shipped, table := shippedYAML(t), shippedTable(t)
	t.Chdir("../testdata/config/bad")
	paths, err := filepath.Glob("*.yaml")
	if err != nil || len(paths) < 28 {
		t.Fatalf("bad files: %d, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(path, func(t *testing.T) {
			var err error
			if strings.HasPrefix(path, "limits-") && path != "limits-file-missing.yaml" {
				var data []byte
				if data, err = os.ReadFile(path); err != nil {
					t.Fatal(err)
				}
				_, err = ParseTable(path, data, table)
			} else {
				_, err = Load(LoadOptions{Path: path, Shipped: shipped, Env: env("SHOP_SECRET", "canary-shop", "CRM_KEY", "canary-crm")})
			}
			var faults Faults
			if !errors.As(err, &faults) {
				t.Fatalf("err = %v, want faults", err)
			}
			golden(t, strings.TrimSuffix(path, ".yaml")+".txt", err.Error()+"\n")
			if several := strings.Contains(path, "several"); several != (len(faults) > 1) {
				t.Errorf("%d faults, want one, or more in a file named several:\n%v", len(faults), err)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("a fault quotes a secret: %v", err)
			}
		})
	}
}

func TestLoadFindsFiles(t *testing.T) {
	const own = "version: 1\nprofiles: {tiny: {rules: [{name: all, paths: [/cgi-bin/*], quota: 1/day}]}}\n"
	const app = "apps: [{appid: wx0123456789abcdef, secret: canary}]\n"
	tests := []struct {
		name  string
		files []string
		path  string // of LoadOptions, in the folder; "" is none
		want  []string
		tiny  bool
	}{
		{"nothing there", nil, "", nil, false},
		{"only the table", []string{"limits.yaml", own}, "", []string{"limits.yaml"}, true},
		{"only the main file", []string{"wxproxy.yaml", app}, "", []string{"wxproxy.yaml"}, false},
		{"both", []string{"wxproxy.yaml", app, "limits.yaml", own}, "", []string{"wxproxy.yaml", "limits.yaml"}, true},
		{"a table named in the file found", []string{"wxproxy.yaml", "limits: own.yaml\n", "own.yaml", own, "limits.yaml", "bad"}, "", []string{"wxproxy.yaml", "own.yaml"}, true},
		{"the shipped table asked for", []string{"wxproxy.yaml", "limits: ''\n", "limits.yaml", "bad"}, "", []string{"wxproxy.yaml"}, false},
		{"limits.yaml beside a named file", []string{"my.yaml", app, "limits.yaml", own}, "my.yaml", []string{"my.yaml", "limits.yaml"}, true},
		{"no limits.yaml beside a named file", []string{"my.yaml", app}, "my.yaml", []string{"my.yaml"}, false},
		{"a named file names limits.yaml", []string{"my.yaml", "limits: limits.yaml\n", "limits.yaml", own}, "my.yaml", []string{"my.yaml", "limits.yaml"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := files(t, tt.files...)
			o := LoadOptions{Dir: dir}
			if tt.path != "" {
				o = LoadOptions{Path: filepath.Join(dir, tt.path)}
			}
			c := load(t, o)
			var got []string
			for _, path := range c.Paths {
				rel, err := filepath.Rel(dir, path)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, rel)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Paths (-want +got):\n%s", diff)
			}
			if tiny := c.Table.Profiles["tiny"] != nil; tiny != tt.tiny {
				t.Errorf("own table read: %t, want %t", tiny, tt.tiny)
			}
			if c.Table.Profiles["production"] == nil {
				t.Error("the shipped profiles are gone")
			}
		})
	}
}

// A file that was meant and is not read is a fault: a gateway without it would do something else.
func TestLoadMisnamed(t *testing.T) {
	for _, tt := range []struct{ file, want string }{
		{"wxproxy.yml", "wxproxy.yml: not read, for it is not called wxproxy.yaml: rename it"},
		{"wxproxy.yaml.txt", "wxproxy.yaml.txt: not read, for it is not called wxproxy.yaml: rename it"},
		{"limits.yml", "limits.yml: not read, for it is not called limits.yaml: rename it"},
	} {
		dir := files(t, tt.file, "")
		if got := strings.TrimPrefix(loadFaults(t, LoadOptions{Dir: dir}).Error(), dir+"/"); got != tt.want {
			t.Errorf("Load beside %s = %s, want %s", tt.file, got, tt.want)
		}
		load(t, LoadOptions{Dir: files(t, tt.file, "", "wxproxy.yaml", "limits: ''\n")})
	}
}

// TestLoadWarns loads each file that works and is probably not meant so.
func TestLoadWarns(t *testing.T) {
	shipped := shippedYAML(t)
	t.Chdir("../testdata/config/warn")
	paths, err := filepath.Glob("*.yaml")
	if err != nil || len(paths) < 10 {
		t.Fatalf("files to warn of: %d, %v", len(paths), err)
	}
	for _, path := range paths {
		if strings.HasPrefix(path, "limits-") {
			continue
		}
		t.Run(path, func(t *testing.T) {
			c, err := Load(LoadOptions{Path: path, Shipped: shipped, Env: env("SHOP_SECRET", strings.Repeat("5a", 16), "CRM_KEY", "0c2aeb0f1d9e4a7b")})
			if err != nil {
				t.Fatal(err)
			}
			warned := strings.Join(slices.DeleteFunc(c.Warnings, func(w string) bool { return strings.Contains(w, ": mode ") }), "\n") // of the checkout
			golden(t, strings.TrimSuffix(path, ".yaml")+".txt", warned+"\n")
			if strings.Contains(warned, "canary") || len(warned) == 0 {
				t.Errorf("Warnings = %q, want some, and no secret in them", warned)
			}
		})
	}
}

func TestLoadNoSuchFile(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "no-such.yaml"), dir} {
		faults := loadFaults(t, LoadOptions{Path: path})
		if len(faults) != 1 || faults[0].File != path {
			t.Errorf("Load(%q): %v, want one fault of the file", path, faults)
		}
	}
}

func TestLoadTooLarge(t *testing.T) {
	dir := files(t, "wxproxy.yaml", strings.Repeat("# a comment\n", maxFile/12+1))
	faults := loadFaults(t, LoadOptions{Dir: dir})
	if len(faults) != 1 || !strings.Contains(faults[0].Text, "larger than 1048576 bytes") {
		t.Errorf("Load of more than 1 MiB: %v", faults)
	}
}

func TestLoadEnvironmentApp(t *testing.T) {
	const id, secret = "wx0123456789abcdef", "canary"
	tests := []struct {
		name string
		file string
		env  []string
		want string // names of the apps with their profiles, or the faults
		warn bool
	}{
		{"an app", "", []string{"WX_APPID", id, "WX_SECRET", secret}, id + "=production", false},
		{"a profile", "", []string{"WX_APPID", id, "WX_SECRET", secret, "WX_PROFILE", "test"}, id + "=test", false},
		{"only a profile", "", []string{"WX_PROFILE", "test"}, "", false},
		{"empty is not set", "", []string{"WX_APPID", "", "WX_SECRET", "", "WX_PROFILE", ""}, "", false},
		{"a file without apps", "max_body: 1MiB\n", []string{"WX_APPID", id, "WX_SECRET", secret}, id + "=production", false},
		{"the file names it", "apps: [{name: shop, appid: '${WX_APPID}', secret: '${WX_SECRET}'}]\n", []string{"WX_APPID", id, "WX_SECRET", secret, "WX_PROFILE", "test"}, "shop=production", false},
		{"the file names another", "apps: [{name: till, appid: wx0000000000000000, secret: x}]\n", []string{"WX_APPID", id, "WX_SECRET", secret}, "till=production", true},
		{"the file names one, half of a pair", "apps: [{name: till, appid: wx0000000000000000, secret: x}]\n", []string{"WX_APPID", id}, "till=production", false},
		{"no secret", "", []string{"WX_APPID", id}, "environment: WX_SECRET: not set, but WX_APPID is: want both or none", false},
		{"no appid", "", []string{"WX_SECRET", secret}, "environment: WX_APPID: not set, but WX_SECRET is: want both or none", false},
		{"a bad appid", "", []string{"WX_APPID", "1", "WX_SECRET", secret}, `environment: WX_APPID: "1": want ` + wantAppID, false},
		{"a bad secret", "", []string{"WX_APPID", id, "WX_SECRET", "canary\n"}, "environment: WX_SECRET: a line break or another control character inside", false},
		{"a profile that is not", "", []string{"WX_APPID", id, "WX_SECRET", secret, "WX_PROFILE", "tset"}, `environment: WX_PROFILE: "tset": no such profile: did you mean test?`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.file != "" {
				dir = files(t, "wxproxy.yaml", tt.file)
			}
			c, err := Load(LoadOptions{Dir: dir, Shipped: shippedYAML(t), Env: env(tt.env...)})
			var got []string
			if err != nil {
				got = append(got, err.Error())
			} else {
				for _, a := range c.Apps {
					got = append(got, a.Name+"="+a.Profile)
					if a.Rules == nil || len(a.Secrets) != 1 {
						t.Errorf("app %s: %d secrets, rules %v, want one and some", a.Name, len(a.Secrets), a.Rules)
					}
				}
				if warned := len(about(c, "WX_APPID")) > 0; warned != tt.warn {
					t.Errorf("Warnings = %q, want any: %t", c.Warnings, tt.warn)
				}
			}
			if got := strings.Join(got, " "); got != tt.want {
				t.Errorf("Load = %s, want %s", got, tt.want)
			}
		})
	}
}

func TestLoadSecretFiles(t *testing.T) {
	dir := files(t,
		"wxproxy.yaml", "store: {url: 'redis://127.0.0.1', password_file: pw}\napps: [{name: shop, appid: wx0123456789abcdef, secret_file: shop.key}]\n",
		"pw", "canary-pw\n", "shop.key", "canary-new\r\ncanary-old\r\n")
	c := load(t, LoadOptions{Dir: dir})
	if diff := cmp.Diff(Secrets{"canary-new", "canary-old"}, c.Apps[0].Secrets); diff != "" {
		t.Errorf("Secrets (-want +got):\n%s", diff)
	}
	if c.Store.Password != "canary-pw" {
		t.Errorf("Password = %q, want canary-pw", c.Store.Password)
	}
	if len(c.Paths) != 3 || len(about(c, "mode")) != 0 {
		t.Errorf("Paths = %v, Warnings = %v, want three and none", c.Paths, c.Warnings)
	}
	if strings.Contains(dump(t, c), "canary") {
		t.Errorf("dump shows a secret:\n%s", dump(t, c))
	}

	if err := os.Chmod(filepath.Join(dir, "shop.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	c = load(t, LoadOptions{Dir: dir})
	if modes := about(c, "mode"); len(modes) != 1 || !strings.Contains(modes[0], "shop.key: mode 0644") {
		t.Errorf("Warnings = %q, want one of shop.key", c.Warnings)
	}

	for name, content := range map[string]string{"empty": "", "blanks": "canary canary\n", "three": "canary1\ncanary2\ncanary3\n"} {
		if err := os.WriteFile(filepath.Join(dir, "shop.key"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		faults := loadFaults(t, LoadOptions{Dir: dir})
		if len(faults) != 1 || strings.Contains(faults.Error(), "canary") {
			t.Errorf("secret_file %s: %v, want one fault without the secret", name, faults)
		}
	}
}

func TestLoadWarnsOfReadableSecrets(t *testing.T) {
	const literal = "apps: [{appid: wx0123456789abcdef, secret: canary}]\n"
	tests := []struct {
		name, file string
		mode       os.FileMode
		want       bool
	}{
		{"a secret for all to read", literal, 0o644, true},
		{"a secret for the owner", literal, 0o600, false},
		{"a variable", strings.Replace(literal, "canary", "'${SHOP_SECRET}'", 1), 0o644, false},
		{"a password of the store", "store: {url: 'redis://:canary@127.0.0.1'}\n", 0o644, true},
		{"an admin token", "admin: {token: canary}\n", 0o640, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := files(t, "wxproxy.yaml", tt.file)
			if err := os.Chmod(filepath.Join(dir, "wxproxy.yaml"), tt.mode); err != nil {
				t.Fatal(err)
			}
			c := load(t, LoadOptions{Dir: dir, Env: env("SHOP_SECRET", "canary")})
			if got := len(about(c, "mode")) > 0; got != tt.want || strings.Contains(strings.Join(c.Warnings, ""), "canary") {
				t.Errorf("Warnings = %q, want any: %t", c.Warnings, tt.want)
			}
		})
	}
}

// about are the warnings with a word in them.
func about(c *Config, word string) []string {
	return slices.DeleteFunc(slices.Clone(c.Warnings), func(w string) bool { return !strings.Contains(w, word) })
}

func TestLoadDigest(t *testing.T) {
	dir := files(t, "wxproxy.yaml", "max_body: 1MiB\n")
	first := load(t, LoadOptions{Dir: dir}).Digest
	if again := load(t, LoadOptions{Dir: dir}).Digest; again != first {
		t.Errorf("Digest changed from %s to %s and no file did", first, again)
	}
	if err := os.WriteFile(filepath.Join(dir, "limits.yaml"), []byte("version: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := load(t, LoadOptions{Dir: dir}).Digest
	if second == first {
		t.Error("Digest is the same after limits.yaml came")
	}
	if err := os.WriteFile(filepath.Join(dir, "wxproxy.yaml"), []byte("max_body: 2MiB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if third := load(t, LoadOptions{Dir: dir}).Digest; third == second {
		t.Error("Digest is the same after wxproxy.yaml changed")
	}
}

func TestLoadOpenListeners(t *testing.T) {
	tests := []struct {
		name, file string
		env        []string
		refused    bool
	}{
		{"anonymous on loopback", "anonymous: true\n", nil, false},
		{"anonymous on a socket", "{listen: 'unix:/run/w.sock', anonymous: true}\n", nil, false},
		{"anonymous on a reachable one", "{listen: ':8080', anonymous: true}\n", nil, true},
		{"allowed", "{listen: ':8080', anonymous: true, allow_open: true}\n", nil, false},
		{"auto on a reachable one", "{listen: ':8080', anonymous: auto, learn: auto}\n", nil, false},
		{"admin without a token", "admin: {listen: '10.0.0.1:8081'}\n", nil, true},
		{"allow_open is not for admin", "{allow_open: true, admin: {listen: '10.0.0.1:8081'}}\n", nil, true},
		{"admin with a token", "admin: {listen: '10.0.0.1:8081', token: canary}\n", nil, false},
		{"admin with the variable", "admin: {listen: '10.0.0.1:8081'}\n", []string{"WXPROXY_ADMIN_TOKEN", "canary"}, false},
		{"admin with the variable written", "admin: {listen: '10.0.0.1:8081', token: '${WXPROXY_ADMIN_TOKEN}'}\n", []string{"WXPROXY_ADMIN_TOKEN", "canary"}, false},
		{"admin with the variable written and not set", "admin: {listen: '10.0.0.1:8081', token: '${WXPROXY_ADMIN_TOKEN}'}\n", nil, true},
		{"loopback admin with the variable written and not set", "admin: {token: '${WXPROXY_ADMIN_TOKEN}'}\n", nil, false},
		{"two free ports", "{listen: '127.0.0.1:0', admin: {listen: '127.0.0.1:0'}}\n", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(LoadOptions{Dir: files(t, "wxproxy.yaml", tt.file), Shipped: shippedYAML(t), Env: env(tt.env...)})
			if refused := err != nil; refused != tt.refused {
				t.Errorf("Load: %v, want refused: %t", err, tt.refused)
			}
		})
	}
}

func TestReachable(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:8080": false, "127.8.8.8:1": false, "[::1]:8080": false, "[::ffff:127.0.0.1]:1": false,
		"localhost:8080": false, "unix:/run/wxproxy.sock": false,
		":8080": true, "0.0.0.0:8080": true, "[::]:8080": true, "10.0.0.1:8080": true, "gateway:8080": true, "": true,
	} {
		if got := Reachable(address); got != want {
			t.Errorf("Reachable(%q) = %t, want %t", address, got, want)
		}
	}
}

func TestLoadShares(t *testing.T) {
	c := load(t, LoadOptions{Dir: files(t, "wxproxy.yaml", `
apps:
  - {name: a, appid: wx000000000000000a, secret: x}
  - {name: b, appid: wx000000000000000b, secret: x}
  - {name: c, appid: wx000000000000000c, secret: x, quotas: {user.info: 7/day}}
upstream: {timeout: 90s}
`)})
	a, b, own := c.Apps[0].Rules, c.Apps[1].Rules, c.Apps[2].Rules
	if a != b || a == own {
		t.Errorf("rulesets %p, %p, %p: want one for the first two and another for the third", a, b, own)
	}
	if got := own.Rule("user.info").Budget.String(); got != "7/day" {
		t.Errorf("user.info of c = %s, want 7/day", got)
	}
	if got := a.Rule("user.info").Budget.String(); got != "5000000/day" {
		t.Errorf("user.info of a = %s, want 5000000/day", got)
	}
	if c.Upstream.Timeout != 90*time.Second {
		t.Errorf("Timeout = %s, want 1m30s", c.Upstream.Timeout)
	}
}

func TestRulesWith(t *testing.T) {
	dir := files(t, "wxproxy.yaml", `
limits: own.yaml
apps: [{name: shop, appid: wx0123456789abcdef, secret: x, profile: shop, quotas: auto}]
`, "own.yaml", `
version: 1
profiles:
  shop:
    rules:
      - {name: day, paths: [/cgi-bin/day], quota: 10/day}
      - {name: both, paths: [/cgi-bin/both], quota: [10/day, 40/month]}
      - {name: month, paths: [/cgi-bin/month], quota: 40/month}
      - {name: unknown, paths: [/cgi-bin/unknown, /cgi-bin/unknown/*], quota: unknown}
      - {name: each, paths: [/cgi-bin/each/*], quota: 10/day}
      - {name: unlimited, paths: [/cgi-bin/unlimited], quota: unlimited}
      - {name: denied, paths: [/cgi-bin/denied], quota: denied}
`)
	c := load(t, LoadOptions{Dir: dir})
	app := c.Apps[0]
	if !app.AutoQuotas || app.Quotas != nil {
		t.Fatalf("AutoQuotas = %t, Quotas = %v, want true and none", app.AutoQuotas, app.Quotas)
	}
	text := func(rules *limits.Ruleset) string {
		var texts []string
		for _, r := range rules.Rules {
			texts = append(texts, r.Name+" "+r.Budget.String())
		}
		return strings.Join(texts, "; ")
	}
	day := func(n int64) limits.Budget {
		return limits.Budget{Kind: limits.Limited, Quotas: []limits.Quota{{Limit: n, Period: limits.Day}}}
	}
	const before = "day 10/day; both 10/day, 40/month; month 40/month; unknown unknown; each 10/day; unlimited unlimited; denied denied; other unknown"
	tests := []struct {
		name    string
		figures map[string]limits.Budget
		want    string
	}{
		{"none", nil, before},
		{"a rule that is gone", map[string]limits.Budget{"gone": day(7)}, before},
		{"rules that take none", map[string]limits.Budget{"month": day(7), "each": day(7), "unlimited": day(7), "denied": day(7)}, before},
		{"no day's figure", map[string]limits.Budget{"day": {Kind: limits.Denied}, "unknown": {}}, before},
		{
			"figures",
			map[string]limits.Budget{"day": day(7), "both": day(8), "unknown": day(9), "gone": day(1)},
			"day 7/day; both 8/day, 40/month; month 40/month; unknown 9/day; each 10/day; unlimited unlimited; denied denied; other unknown",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rules, err := c.RulesWith(app, tt.figures)
			if err != nil {
				t.Fatal(err)
			}
			if got := text(rules); got != tt.want {
				t.Errorf("RulesWith = %s, want %s", got, tt.want)
			}
			if (tt.want == before) != (rules == app.Rules) {
				t.Errorf("RulesWith = the app's own rules: %t, want %t", rules == app.Rules, tt.want == before)
			}
			if got := text(app.Rules); got != before {
				t.Errorf("the app's own rules are now %s", got)
			}
		})
	}
}

func TestLoadDrift(t *testing.T) {
	tests := []struct {
		file   string
		every  time.Duration
		perDay int
	}{
		{"drift: {}\n", 0, 500},
		{"drift: {every: 0}\n", 0, 500},
		{"drift: {every: 1m, per_day: 1}\n", time.Minute, 1},
		{"drift: {every: 24h, per_day: 100000}\n", 24 * time.Hour, 100_000},
	}
	for _, tt := range tests {
		c := load(t, LoadOptions{Dir: files(t, "wxproxy.yaml", tt.file)})
		if got, want := c.Drift, (Drift{tt.every, tt.perDay}); got != want {
			t.Errorf("Drift of %q = %+v, want %+v", tt.file, got, want)
		}
	}
}

func TestUpstreamIsAListener(t *testing.T) {
	for _, tt := range []struct {
		listen, upstream string
		own              bool
	}{
		{"127.0.0.1:9000", "http://127.0.0.1:9000", true},
		{"127.0.0.1:9000", "http://127.0.0.1:9001", false},
		{"127.0.0.1:9000", "http://127.0.0.2:9000", false},
		{"127.0.0.1:9000", "http://10.0.0.1:9000", false},
		{"127.0.0.1:80", "http://127.0.0.1", true},
		{"127.0.0.1:443", "https://127.0.0.1", true},
		{"127.0.0.1:443", "https://api.weixin.qq.com", false},
		{":443", "https://api.weixin.qq.com", false},
		{":9000", "http://localhost:9000", true},
		{"0.0.0.0:9000", "http://127.0.0.1:9000", true},
		{"[::]:9000", "http://[::1]:9000", true},
		{"[::1]:9000", "http://[::1]:9000", true},
		{"[::1]:9000", "http://127.0.0.1:9000", false},
		{"10.0.0.5:9000", "http://10.0.0.5:9000", true},
		{"Gateway:9000", "http://gateway:9000", true},
		{"gateway:9000", "http://wechat:9000", false},
		{"unix:/run/wxproxy.sock", "http://127.0.0.1:9000", false},
	} {
		path := filepath.Join(t.TempDir(), "wxproxy.yaml")
		if err := os.WriteFile(path, []byte("upstream: {url: \""+tt.upstream+"\"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(LoadOptions{Path: path, Shipped: shippedYAML(t), Env: env(), Listen: tt.listen})
		if own := err != nil && strings.Contains(err.Error(), "upstream.url: "+tt.listen+": this is listen, the gateway itself"); own != tt.own {
			t.Errorf("listen %s, upstream %s: %v, want a fault: %t", tt.listen, tt.upstream, err, tt.own)
		}
	}
}
