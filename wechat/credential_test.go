package wechat

import (
	"bufio"
	"os"
	"strings"
	"testing"
)

// TestCredentialOfSDKPaths holds CredentialOf against what SDKs send and WeChat's pages say.
func TestCredentialOfSDKPaths(t *testing.T) {
	f, err := os.Open("testdata/paths.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	names := map[string]Credential{"account": AccountToken, "platform": PlatformToken, "either": EitherToken, "none": NoToken}
	paths := 0
	var want Credential
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "#"):
		case !strings.HasPrefix(line, " "):
			var ok bool
			if want, ok = names[line]; !ok {
				t.Fatalf("line %q: want a credential", line)
			}
		default:
			fields := strings.Fields(line)
			for _, name := range fields[1:] {
				path := fields[0] + "/" + name
				paths++
				for _, spelled := range []string{path, strings.ToUpper(path), path + "/"} {
					if got := CredentialOf(spelled); got != want {
						t.Errorf("CredentialOf(%q) = %d, want %d", spelled, got, want)
					}
				}
			}
		}
	}
	if paths < 1800 {
		t.Errorf("%d paths, want the whole list", paths)
	}
}

func TestSpelling(t *testing.T) {
	for _, tt := range []struct{ path, want string }{
		{"/retail/b2b/getorder", "/retail/B2b/getorder"},
		{"/RETAIL/B2B/getorder", "/retail/B2b/getorder"},
		{"/wxaapi/broadcast/goods/deleteinroom", "/wxaapi/broadcast/goods/deleteInRoom"},
		{"/wxaapi/broadcast/goods/deleteinroom2", "/wxaapi/broadcast/goods/deleteinroom2"},
		{"/cgi-bin/user/info", "/cgi-bin/user/info"},
	} {
		if got := Spelling(tt.path); got != tt.want {
			t.Errorf("Spelling(%q) = %q, want %q", tt.path, got, tt.want)
		}
	}
}

func TestCredentialOfAllocates(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { CredentialOf("/cgi-bin/material/add_news") }); n != 0 {
		t.Errorf("CredentialOf allocates %v times, want 0", n)
	}
}
