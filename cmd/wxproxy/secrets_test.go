package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"wxproxy/internal/words"
)

// canaryToken is in every answer of a WeChat that answers what nobody can read.
const canaryToken = "C4N4RY_t0ken"

// malformed are answers that are not of HTTP, not of JSON, or not what was asked for. Each has a token.
var malformed = []string{
	"C4N4RY_t0ken\r\n\r\n",                // no status line
	"HTTP/1.1 C4N4RY_t0ken OK\r\n\r\n",    // no status
	"HTTP/C4N4RY_t0ken 200 OK\r\n\r\n",    // no version
	"HTTP/1.1 500 C4N4RY_t0ken\r\n\r\n",   // a reason
	"HTTP/1.1 200 OK\r\nC4N4RY_t0ken\r\n", // no header
	"HTTP/1.1 200 OK\r\nC4N4RY_t0ken (: 1\r\n\r\n{}",
	"HTTP/1.1 200 OK\r\nContent-Length: C4N4RY_t0ken\r\n\r\n{}",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: C4N4RY_t0ken\r\n\r\n{}",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nC4N4RY_t0ken\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nC4N4RY_t0ken\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nC4N4RY_t0ken",
	"HTTP/1.1 302 Found\r\nLocation: http://C4N4RY_t0ken:C4N4RY_t0ken/%zz?access_token=C4N4RY_t0ken\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/?access_token=C4N4RY_t0ken\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + `{"access_token":"C4N4RY_t0ken","expires_in":7200`, // broken off
	plainAnswer(`C4N4RY_t0ken`),
	plainAnswer(`"C4N4RY_t0ken"`),
	plainAnswer(`["C4N4RY_t0ken"]`),
	plainAnswer(`{"access_token":"C4N4RY_t0ken"}`),
	plainAnswer(`{"access_token":"C4N4RY_t0ken","expires_in":7200} C4N4RY_t0ken`),
	plainAnswer(`{"access_token":"C4N4RY_t0ken","expires_in":"C4N4RY_t0ken"}`),
	plainAnswer(`{"access_token":{"C4N4RY_t0ken":"C4N4RY_t0ken"},"expires_in":7200}`),
	plainAnswer(`{"access_token":"C4N4RY_t0ken é","expires_in":7200}`),
	plainAnswer(`{"access_token":"C4N4RY_t0ken","expires_in":7200,"errcode":"C4N4RY_t0ken"}`),
	plainAnswer(`{"access_token":"C4N4RY_t0ken","expires_in":7200,"errcode":40013,"errmsg":"invalid appid"}`),
	plainAnswer(`{"errcode":0,"ticket":"C4N4RY_t0ken","quota":"C4N4RY_t0ken"}`),
	plainAnswer(`{"errcode":0,"ticket":{"C4N4RY_t0ken":1},"quota":{"daily_limit":"C4N4RY_t0ken","used":1}}`),
	plainAnswer(`<html>C4N4RY_t0ken`),
}

func plainAnswer(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// rawWechat answers each request with what answer returns, and closes the connection.
func rawWechat(t *testing.T, answer func(r *http.Request, body []byte) string) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				if body, err := io.ReadAll(r.Body); err == nil {
					_, _ = io.WriteString(conn, answer(r, body))
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return "http://" + l.Addr().String()
}

// malformedApp is the app that gets the answer malformed[i].
func malformedApp(i int) string { return fmt.Sprintf("wx%016x", i) }

// startMalformed starts a gateway with an app for each of malformed, and returns it with a configuration for
// commands.
func startMalformed(t *testing.T, upstream, more string) (p *process, commands string) {
	t.Helper()
	var apps strings.Builder
	for i := range malformed {
		fmt.Fprintf(&apps, "  - {name: a%d, appid: %s, secret: \"${CANARY_SECRET}\"}\n", i, malformedApp(i))
	}
	folder := t.TempDir()
	text := func(listen, admin string) string {
		return fmt.Sprintf("listen: %q\nadmin: {listen: %q, token: \"${CANARY_ADMIN}\"}\nupstream: {url: %q}\nstore: {url: 'file:wxproxy.db'}\n%sapps:\n%s", listen, admin, upstream, more, &apps)
	}
	config := filepath.Join(folder, "wxproxy.yaml")
	writeFile(t, config, text("127.0.0.1:0", "127.0.0.1:0"))
	p = start(t, config, nil)
	commands = filepath.Join(folder, "commands.yaml")
	writeFile(t, commands, text(strings.TrimPrefix(p.url, "http://"), strings.TrimPrefix(p.admin, "http://")))
	return p, commands
}

// wantNoCanary looks at every page, and at what commands write.
func wantNoCanary(t *testing.T, p *process, config string, commands ...string) {
	t.Helper()
	check := func(what, text string) {
		t.Helper()
		if strings.Contains(text, canaryToken) || strings.Contains(text, canarySecret) {
			t.Errorf("%s holds a secret:\n%s", what, text)
		}
	}
	for _, path := range []string{"/metrics", "/-/ready", "/-/healthy", "/api/v1/usage", "/api/v1/limits?app=a0"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.admin+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+canaryAdmin)
		check(path, fmt.Sprint(send(t, r)))
	}
	for _, command := range commands {
		cmd := exec.CommandContext(t.Context(), built(t), append(strings.Fields(command), "--config", config)...)
		cmd.Env = append(cmd.Environ(), "CANARY_SECRET="+canarySecret, "CANARY_ADMIN="+canaryAdmin)
		out, err := cmd.CombinedOutput()
		check(command, fmt.Sprint(string(out), err))
		if len(out) == 0 {
			t.Errorf("%s: no output, %v", command, err)
		}
	}
	for i, line := range append(strings.Split(p.stderr.String(), "\n"), strings.Split(p.stdout.String(), "\n")...) {
		check(fmt.Sprint("line ", i+1), line)
	}
}

// TestMalformedTokenAnswers has WeChat answer token requests so that nobody can read it.
func TestMalformedTokenAnswers(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{"stable_token", "token"} {
		t.Run(endpoint, func(t *testing.T) {
			upstream := rawWechat(t, func(r *http.Request, body []byte) string {
				ask := struct {
					AppID string `json:"appid"`
				}{r.URL.Query().Get("appid")}
				_ = json.Unmarshal(body, &ask) // a GET has none
				for i, answer := range malformed {
					if ask.AppID == malformedApp(i) {
						return answer
					}
				}
				return malformed[len(ask.AppID)%len(malformed)] // of an app that is learned
			})
			p, config := startMalformed(t, upstream, "learn: true\ntoken: {endpoint: "+endpoint+"}\n")
			for i := range malformed {
				got := do(t, http.MethodGet, p.url+"/"+malformedApp(i)+"/cgi-bin/user/info", nil)
				if got.status != http.StatusOK || got.decision != "refused-token" || strings.Contains(got.body, canaryToken) {
					t.Errorf("answer to app %d, whose token came as %q, = %+v, want a refusal", i, malformed[i], got)
				}
			}
			for i := range malformed {
				learned := "wx" + strings.Repeat("e", i+6)
				got := do(t, http.MethodGet, p.url+"/cgi-bin/token?grant_type=client_credential&appid="+learned+"&secret="+canarySecret, nil)
				if got.status != http.StatusOK || strings.Contains(got.body, canaryToken) {
					t.Errorf("answer to the learned app %s = %+v, want a refusal", learned, got)
				}
			}
			// A secret in the place of an appid.
			if got := do(t, http.MethodGet, p.url+"/cgi-bin/token?grant_type=client_credential&appid="+learnedSecret+"&secret=wx0123456789abcdef", nil); !strings.Contains(got.body, "40013") {
				t.Errorf("answer to a secret as appid = %+v, want errcode 40013", got)
			}
			if logged := p.stderr.String() + p.stdout.String(); strings.Contains(logged, learnedSecret) {
				t.Errorf("a secret that was sent as an appid is logged:\n%s", logged)
			}
			wantNoCanary(t, p, config, "usage", "usage a1 --live", "usage a11 --live", "clear a12 --yes", "limits a13 --live")
			if failed := strings.Count(p.stderr.String(), "access_token not fetched"); failed < len(malformed) {
				t.Errorf("%d of %d fetches failed: the test tests too little\n%s", failed, len(malformed), p.stderr)
			}
		})
	}
}

// learnedSecret is an AppSecret that a service sends as its appid.
const learnedSecret = "abcdef00112233445566778899abcdef"

// TestMalformedAnswers has WeChat answer the gateway's own questions, and the calls of services whose answers
// are read, so that nobody can read it.
func TestMalformedAnswers(t *testing.T) {
	t.Parallel()
	upstream := rawWechat(t, func(r *http.Request, body []byte) string {
		if r.URL.Path == "/cgi-bin/stable_token" {
			var ask struct {
				AppID string `json:"appid"`
			}
			_ = json.Unmarshal(body, &ask)
			return plainAnswer(`{"access_token":"` + canaryToken + `-` + ask.AppID + `","expires_in":7200}`)
		}
		shown := strings.TrimPrefix(r.URL.Query().Get("access_token"), canaryToken+"-")
		for i, answer := range malformed {
			if shown == malformedApp(i) {
				return answer
			}
		}
		return plainAnswer(`{"errcode":40001}`)
	})
	p, config := startMalformed(t, upstream, "drift: {every: 1m}\n")
	var commands []string
	for i := range malformed {
		for _, path := range []string{"/cgi-bin/user/info", "/cgi-bin/ticket/getticket?type=jsapi", "/cgi-bin/media/get"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/"+malformedApp(i)+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if response, err := client.Do(r); err == nil { // some answers break off
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
		}
		commands = append(commands, fmt.Sprintf("usage a%d --live", i), fmt.Sprintf("clear a%d --yes", i))
	}
	wantNoCanary(t, p, config, slices.Concat(commands, []string{"usage", "limits a0 --live"})...)
}

// TestUnsolicitedAnswer has WeChat send a token on an idle connection. net/http's client logs what it says
// there, with package log.
func TestUnsolicitedAnswer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answered, closed := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	serve := func(conn net.Conn) {
		defer conn.Close()
		in := bufio.NewReader(conn)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			switch r.URL.Path {
			case "/cgi-bin/stable_token":
				_, _ = io.WriteString(conn, plainAnswer(`{"access_token":"`+canaryToken+`","expires_in":7200}`))
				return
			case "/cgi-bin/user/info":
				_, _ = io.WriteString(conn, plainAnswer(`{"errcode":0}`))
				<-answered
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nX-Token: "+canaryToken+"\r\n\r\n")
				_, _ = io.Copy(io.Discard, in) // until the gateway has seen it
				close(closed)
				return
			}
			_, _ = io.WriteString(conn, plainAnswer(`{"errcode":0}`))
		}
	}
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(conn) })
		}
	})
	defer func() { l.Close(); wg.Wait() }()
	p, config := startMalformed(t, "http://"+l.Addr().String(), "")
	if got := do(t, http.MethodGet, p.url+"/"+malformedApp(0)+"/cgi-bin/user/info", nil); got.body != `{"errcode":0}` {
		t.Errorf("answer = %+v", got)
	}
	close(answered)
	<-closed
	wantNoCanary(t, p, config, "usage")
}

// TestCommandsQuoteNoAnswer has another program listen at admin.listen.
func TestCommandsQuoteNoAnswer(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "wxproxy.yaml")
	for _, answer := range malformed {
		listen := strings.TrimPrefix(rawWechat(t, func(*http.Request, []byte) string { return answer }), "http://")
		writeFile(t, config, "admin: {listen: "+listen+", token: "+canaryAdmin+"}\n"+shopApps)
		for _, command := range []string{"usage", "limits shop", "clear shop --yes", "healthcheck"} {
			root := rootCommand(words.English)
			root.SetArgs(append(strings.Fields(command), "--config", config))
			root.SetOut(io.Discard)
			root.SetErr(io.Discard)
			if err := root.ExecuteContext(t.Context()); strings.Contains(fmt.Sprint(err), canaryToken) {
				t.Errorf("%s, answered %q: %v", command, answer, err)
			}
		}
	}
}

// TestValidateQuotesNoSecret runs what an operator runs first.
func TestValidateQuotesNoSecret(t *testing.T) {
	t.Parallel()
	const hex = "c0ffee00beef0123456789abcdef0042"
	config := filepath.Join(t.TempDir(), "wxproxy.yaml")
	for text, fine := range map[string]bool{
		"apps: [{appid: " + hex + ", secret: wx0123456789abcdef}]":                 false,
		"apps: [{appid: wx0123456789abcdef, secret_file: " + hex + "}]":            false,
		"store: {url: 'redis://:" + hex + "'}\n" + shopApps:                        false,
		"store: {url: 'redis://" + hex + "'}\n" + shopApps:                         false,
		"store: {url: 'redis://user:" + hex + "'}\n" + shopApps:                    false,
		"store: {url: 'redis://10.0.0.1/" + hex + "'}\n" + shopApps:                false,
		"store: {url: 'redis://" + hex + "@10.0.0.1'}\n" + shopApps:                true,
		"store: {url: 'redis://:" + hex + "@10.0.0.1'}\n" + shopApps:               true,
		"store: {url: 'redis://10.0.0.1?password=" + hex + "'}\n" + shopApps:       false,
		"store: {url: 'redis://10.0.0.1?pool_size=" + hex + "'}\n" + shopApps:      false,
		"tls: {cert_file: a.pem, key_file: '-----BEGIN " + hex + "'}\n" + shopApps: false,
	} {
		writeFile(t, config, text)
		for _, command := range []string{"validate", "serve"} {
			if fine && command == "serve" {
				continue
			}
			cmd := exec.CommandContext(t.Context(), built(t), command, "--config", config)
			out, err := cmd.CombinedOutput()
			if strings.Contains(string(out), hex) || (err == nil) != fine {
				t.Errorf("%s of %s: %v\n%s\nwant it to be fine: %t, without the secret", command, text, err, out, fine)
			}
		}
	}
	writeFile(t, config, "tls: {cert_file: a.pem, key_file: "+hex+"}\n"+shopApps)
	out, err := exec.CommandContext(t.Context(), built(t), "serve", "--config", config).CombinedOutput()
	if err == nil || strings.Contains(string(out), hex) {
		t.Errorf("serve with the key in the place of its file: %v\n%s", err, out)
	}
}
