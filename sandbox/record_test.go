package sandbox

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestRequestsAreRecorded(t *testing.T) {
	s := start(t, Options{})
	token := fetch(t, s, DefaultAppID)
	got, err := raw(t, s, "POST //cgi-bin/%6denu/create/?a=%20b&access_token="+token+"&;x HTTP/1.1\r\nHost: api.weixin.qq.com\r\n"+
		"Content-Length: 2\r\nX-A: 1\r\nX-A: 2\r\nConnection: close\r\n\r\n{}")
	if err != nil || !strings.Contains(got, `"errcode":0`) {
		t.Fatalf("answer = %q, %v", got, err)
	}
	all := s.Requests()
	if len(all) != 2 {
		t.Fatalf("%d requests, want 2", len(all))
	}
	query := "a=%20b&access_token=" + token + "&;x"
	want := Request{
		Time: noon, AppID: DefaultAppID, Method: "POST", Proto: "HTTP/1.1", Host: "api.weixin.qq.com",
		Target: "//cgi-bin/%6denu/create/?" + query, Path: "//cgi-bin/%6denu/create/", RawQuery: query,
		Header:        http.Header{"Content-Length": {"2"}, "X-A": {"1", "2"}, "Connection": {"close"}},
		ContentLength: 2, Body: []byte("{}"), BodyBytes: 2, BodySHA256: sha256.Sum256([]byte("{}")),
	}
	if diff := cmp.Diff(want, all[1], cmpopts.IgnoreFields(Request{}, "RemoteAddr")); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(all[1].RemoteAddr, "127.0.0.1:") {
		t.Errorf("RemoteAddr = %q", all[1].RemoteAddr)
	}
}

func TestLongBodiesAreCut(t *testing.T) {
	s := start(t, Options{})
	body := strings.Repeat("x", keptBodyBytes+1)
	send(t, s, "POST", "/cgi-bin/menu/create", body)
	got := s.Requests()[0]
	if len(got.Body) != keptBodyBytes || got.BodyBytes != keptBodyBytes+1 || got.BodySHA256 != sha256.Sum256([]byte(body)) {
		t.Errorf("kept %d of %d bytes, want %d of %d and the sum of all", len(got.Body), got.BodyBytes, keptBodyBytes, keptBodyBytes+1)
	}
}

func TestOnlyTheLastAreKept(t *testing.T) {
	for _, tt := range []struct {
		keep int
		want string
	}{
		{3, "/4 /5 /6"},
		{6, "/1 /2 /3 /4 /5 /6"},
		{9, "/0 /1 /2 /3 /4 /5 /6"},
		{-1, ""},
	} {
		s := start(t, Options{Keep: tt.keep})
		for i := range 7 {
			send(t, s, "GET", fmt.Sprint("/", i), "")
		}
		var paths []string
		for _, r := range s.Requests() {
			paths = append(paths, r.Path)
		}
		if got := strings.Join(paths, " "); got != tt.want {
			t.Errorf("keeping %d: %q, want %q", tt.keep, got, tt.want)
		}
	}
}
