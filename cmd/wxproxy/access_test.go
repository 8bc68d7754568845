package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wxproxy/admin"
	"wxproxy/internal/words"
)

// A question needs an address and a token, and says where they come from. It needs no secret of the
// configuration, and none of its other values.
func TestAccess(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+canaryAdmin {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Path != "/api/v1/usage" && r.URL.Path != "/behind/api/v1/usage" {
			t.Errorf("asked %s", r.URL)
		}
		_ = json.NewEncoder(w).Encode(admin.Usage{})
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	state := "admin-" + strings.ReplaceAll(address, ":", "-") + ".token"
	const (
		secrets = "apps: [{name: shop, appid: wx1, secret: \"${NOT_SET_ANYWHERE}\"}]\nstore: {url: file:data/wxproxy.db}\n"
		another = "another-admin-token-0123456789"
	)
	refused := "the gateway at " + address + " does not accept the admin token from "
	for _, tt := range []struct {
		name   string
		config string // ADDRESS is the server's
		env    string // WXPROXY_ADMIN_TOKEN
		state  string // what the file of a running gateway holds
		args   []string
		want   string // of the error; "" is none
	}{
		{"the configuration's", "admin: {listen: ADDRESS, token: " + canaryAdmin + "}\n" + secrets, "", "", nil, ""},
		{"the environment's", "admin: {listen: ADDRESS}\n" + secrets, canaryAdmin, "", nil, ""},
		{"a variable of the configuration", "admin: {listen: ADDRESS, token: \"${WXPROXY_ADMIN_TOKEN}\"}\n" + secrets, canaryAdmin, "", nil, ""},
		{"a running gateway's", "admin: {listen: ADDRESS}\n" + secrets, "", canaryAdmin, nil, ""},
		{"a variable that is not set", "admin: {listen: ADDRESS, token: \"${NOT_SET_EITHER}\"}\n" + secrets, "", canaryAdmin, nil, ""},
		{"a file with faults", "admin: {listen: ADDRESS}\nlisten: nowhere\nlimts: x\n" + secrets, "", canaryAdmin, nil, ""},
		{"flags alone", "", "", "", []string{"--admin", server.URL, "--token-file", "token"}, ""},
		{"flags with a path", "", "", "", []string{"--admin", server.URL + "/behind/", "--token-file", "token"}, ""},
		{"flags before a configuration that is no YAML", "admin: [", "", "", []string{"--admin", address, "--token-file", "token"}, ""},
		{"the address of a flag", "admin: {listen: \"127.0.0.1:1\", token: " + canaryAdmin + "}\n" + secrets, "", "", []string{"--admin", server.URL}, ""},
		{"the address of a flag and a running gateway's token", secrets, "", canaryAdmin, []string{"--admin", server.URL}, ""},

		{"the configuration's is wrong", "admin: {listen: ADDRESS, token: " + another + "}\n" + secrets, "", "", nil, refused + "admin.token in wxproxy.yaml: "},
		{"the environment's is wrong", "admin: {listen: ADDRESS}\n" + secrets, another, "", nil, refused + "WXPROXY_ADMIN_TOKEN: "},
		{"the running gateway's is wrong", "admin: {listen: ADDRESS}\n" + secrets, "", another, nil, refused + "data/" + state + ": "},
		{"the flag's is wrong", "", "", "", []string{"--admin", server.URL, "--token-file", "wrong"}, "does not accept the admin token from --token-file wrong: "},
		{"none", "admin: {listen: ADDRESS}\n" + secrets, "", "", nil, "no admin token: tried admin.token in wxproxy.yaml (not set), WXPROXY_ADMIN_TOKEN (not set), data/" + state + " (no such file): is the gateway running, with the same configuration?"},
		{"none, with a variable that is not set", "admin: {listen: ADDRESS, token: \"${NOT_SET_EITHER}\"}\n" + secrets, "", "", nil, "tried admin.token in wxproxy.yaml (NOT_SET_EITHER not set), WXPROXY_ADMIN_TOKEN"},
		{"no such file", "", "", "", []string{"--token-file", "nosuch"}, "--token-file nosuch: no such file"},
		{"an empty file", "", "", "", []string{"--token-file", "empty"}, "--token-file empty: want one line: the token"},
		{"no YAML", "admin: [", "", "", nil, "wxproxy.yaml:1: not YAML"},
		{"no URL", "", "", "", []string{"--admin", "ftp://127.0.0.1"}, "--admin: want a URL, as http://127.0.0.1:8081, or unix:/path"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			t.Setenv("WXPROXY_ADMIN_TOKEN", tt.env)
			t.Setenv("STATE_DIRECTORY", "")
			t.Setenv("XDG_STATE_HOME", t.TempDir())
			if tt.config != "" {
				writeFile(t, "wxproxy.yaml", strings.ReplaceAll(tt.config, "ADDRESS", `"`+address+`"`))
			}
			if err := os.Mkdir("data", 0o700); err != nil {
				t.Fatal(err)
			}
			writeFile(t, "token", canaryAdmin+"\n")
			writeFile(t, "wrong", another)
			writeFile(t, "empty", "\n")
			if tt.state != "" {
				writeFile(t, filepath.Join("data", state), tt.state+"\n")
			}
			var out bytes.Buffer
			root := rootCommand(words.English)
			root.SetOut(&out)
			root.SetErr(&out)
			root.SetArgs(append([]string{"usage"}, tt.args...))
			err := root.ExecuteContext(t.Context())
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("error %v, want none", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want %q in it", err, tt.want)
			case err != nil && (strings.Contains(err.Error(), canaryAdmin) || strings.Contains(err.Error(), another)):
				t.Errorf("error %v quotes a token", err)
			}
		})
	}
}

// A command line that makes no sense is told what was meant.
func TestDidYouMean(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	for _, tt := range []struct{ args, want string }{
		{"usgae", `unknown command "usgae": did you mean usage?`},
		{"val", `unknown command "val": did you mean validate?`},
		{"用量", `unknown command "用量": did you mean usage?`},
		{"start", `unknown command "start": did you mean serve?`},
		{"zzzzzzzz", `unknown command "zzzzzzzz"`},
		{"usage --jsno", "wxproxy usage: unknown flag --jsno: did you mean --json?"},
		{"usage --confg x", "wxproxy usage: unknown flag --confg: did you mean --config?"},
		{"usage --zzzzzzzz", "wxproxy usage: unknown flag --zzzzzzzz"},
		{"usage -z", "wxproxy usage: unknown flag -z"},
		{"usage --config", "wxproxy usage: flag --config: want a value"},
		{"usage --all=maybe", `wxproxy usage: flag --all: "maybe": want true or false`},
		{"explain shop", "wxproxy explain: arguments: got 1, want APPID METHOD PATH"},
		{"clear", "wxproxy clear: arguments: got 0, want APPID [RULE]"},
		{"version 1", "wxproxy version: arguments: got 1, want none"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), strings.Fields(tt.args), &out, &errs); code != 2 {
			t.Errorf("%s: exit code %d, want 2", tt.args, code)
		}
		if want := "wxproxy: " + strings.TrimPrefix(tt.want, "wxproxy: ") + "\n"; !strings.HasPrefix(errs.String(), want) {
			t.Errorf("%s: %q, want %q", tt.args, errs.String(), want)
		}
	}
}
