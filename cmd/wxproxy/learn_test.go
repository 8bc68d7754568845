package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"wxproxy/admin"
	"wxproxy/internal/redistest"
	"wxproxy/sandbox"
)

// post sends JSON with headers and decodes the answer.
func post(t *testing.T, target, body string, into any, header ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	a := send(t, r)
	if into != nil {
		if err := json.Unmarshal([]byte(a.body), into); err != nil {
			t.Fatalf("%s: %v: %v", target, a, err)
		}
	}
	return a
}

// What a third party calls with a token that was granted to it counts for the account that granted
// it, on every gateway, and keeps its token.
func TestThirdParties(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	config := write(t, wechat, redistest.Start(t).URL(), table("10/day", "4/day"), fmt.Sprintf(identityConfig, "false"))
	gateways := []*process{start(t, config, wechat), start(t, config, wechat), start(t, config, wechat)}
	web := []string{"Authorization", basic("a", canaryWeb)}

	var platform struct {
		Token string `json:"component_access_token"`
	}
	post(t, gateways[0].url+"/cgi-bin/component/api_component_token",
		`{"component_appid":"`+appA+`","component_appsecret":"`+canarySecret+`","component_verify_ticket":"x"}`, &platform, web...)
	if platform.Token == "" {
		t.Fatal("no component_access_token: it must pass with its own secret")
	}
	var granted struct {
		Info struct {
			AppID   string `json:"authorizer_appid"`
			Token   string `json:"authorizer_access_token"`
			Refresh string `json:"authorizer_refresh_token"`
		} `json:"authorization_info"`
	}
	post(t, gateways[0].url+"/cgi-bin/component/api_query_auth?component_access_token="+platform.Token,
		`{"component_appid":"`+appA+`","authorization_code":"`+appB+`"}`, &granted, web...)
	if granted.Info.AppID != appB {
		t.Fatalf("granted %+v, want a token of %s", granted.Info, appB)
	}
	// Without any other proof, on every gateway: 4 of user.info go through, for b and not for a.
	for i := range 6 {
		do(t, "GET", gateways[i%3].url+"/cgi-bin/user/info?openid="+canaryOpenID+"&access_token="+granted.Info.Token, nil)
	}
	if a, b := wechat.Executed(appA, "/cgi-bin/user/info"), wechat.Executed(appB, "/cgi-bin/user/info"); a != 0 || b != 4 {
		t.Errorf("WeChat executed %d of a and %d of b, want 0 and 4", a, b)
	}
	for _, r := range wechat.Requests() {
		if r.Path == "/cgi-bin/user/info" && !strings.Contains(r.RawQuery, "access_token="+granted.Info.Token) {
			t.Errorf("the call was sent with another token than the third party's own")
		}
	}
	if n := wechat.TokenFetches(appB); n > 1 { // one to ask for WeChat's own count
		t.Errorf("the gateway fetched %d tokens of b, want one at most", n)
	}
	// A refreshed one names its account too, although its answer does not.
	var refreshed struct {
		Token string `json:"authorizer_access_token"`
	}
	post(t, gateways[1].url+"/cgi-bin/component/api_authorizer_token?component_access_token="+platform.Token,
		`{"component_appid":"`+appA+`","authorizer_appid":"`+appB+`","authorizer_refresh_token":"`+granted.Info.Refresh+`"}`, &refreshed, web...)
	for _, p := range gateways {
		if a := do(t, "GET", p.url+"/cgi-bin/get_api_domain_ip?access_token="+refreshed.Token, nil); a.decision != "pass" {
			t.Errorf("with a refreshed token: %v, want pass", a)
		}
	}
	if n := wechat.Executed(appB, "/cgi-bin/get_api_domain_ip"); n != 3 {
		t.Errorf("WeChat executed %d of b with the refreshed token, want 3", n)
	}
	// It proves its own account and no other.
	if a := do(t, "GET", gateways[2].url+"/"+appA+"/cgi-bin/get_api_domain_ip?access_token="+refreshed.Token, nil); !strings.Contains(a.body, "48001") {
		t.Errorf("with another account's prefix: %v, want 48001", a)
	}
}

// With no app configured, services fetch their own tokens through any of the gateways, share them,
// and are counted for their account on all.
func TestAppsAreLearned(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	store := redistest.Start(t).URL()
	config := filepath.Join(t.TempDir(), "wxproxy.yaml")
	writeFile(t, config, fmt.Sprintf("listen: 127.0.0.1:0\nadmin: {listen: \"127.0.0.1:0\", token: \"${CANARY_ADMIN}\"}\nupstream: {url: %q}\nstore: {url: %q}\nlimits: limits.yaml\n", wechat.URL, store))
	writeFile(t, filepath.Join(filepath.Dir(config), "limits.yaml"), table("10/day", "4/day"))
	gateways := []*process{start(t, config, wechat), start(t, config, wechat), start(t, config, wechat)}
	if log := gateways[0].stderr.String(); !strings.Contains(log, `"level":"warn"`) || !strings.Contains(log, "NO APP IS CONFIGURED: apps are learned") || !strings.Contains(log, `"folder":"`+filepath.Dir(config)+`"`) {
		t.Errorf("the log does not say that apps are learned, and from which files:\n%s", log)
	}

	stable := func(p *process, secret string) tokenAnswer {
		return decodeToken(t, post(t, p.url+"/cgi-bin/stable_token",
			`{"grant_type":"client_credential","appid":"`+appA+`","secret":"`+secret+`","force_refresh":true}`, nil))
	}
	first := stable(gateways[0], canarySecret)
	if first.AccessToken == "" || strings.HasPrefix(first.AccessToken, "wxp1.") || first.ExpiresIn < 7000 {
		t.Fatalf("a learned app's own fetch: errcode %d, %d s, want WeChat's token", first.Errcode, first.ExpiresIn)
	}
	for i, p := range gateways {
		if again := stable(p, canarySecret); again.AccessToken != first.AccessToken {
			t.Errorf("gateway %d: another token for the same secret: want it shared", i)
		}
	}
	if n := wechat.TokenFetches(appA); n != 1 {
		t.Errorf("four fetches, one of them at each gateway, caused %d upstream, want 1", n)
	}
	if got := stable(gateways[1], "wrong"); got.Errcode != 40125 {
		t.Errorf("a wrong secret: errcode %d, want WeChat's 40125 and not somebody else's token", got.Errcode)
	}
	for i := range 9 {
		do(t, "GET", gateways[i%3].url+"/cgi-bin/user/info?openid="+canaryOpenID+"&access_token="+first.AccessToken, nil)
	}
	if n := wechat.Executed(appA, "/cgi-bin/user/info"); n != 4 {
		t.Errorf("WeChat executed %d, want the 4 of production's table", n)
	}
	var u admin.Usage
	gateways[2].askAdmin(t, "GET", "/api/v1/usage?app="+appA, &u)
	var used int64
	for _, row := range u.Apps[0].Rows {
		if row.Rule == "user.info" {
			used = row.Used
		}
	}
	if used != 4 {
		t.Errorf("usage says %d, want 4", used)
	}
	if a := do(t, "GET", gateways[0].url+"/cgi-bin/user/info?access_token="+canaryOld, nil); !strings.Contains(a.body, "48001") {
		t.Errorf("a token that nobody saw being issued: %v, want 48001", a)
	}

	// A dead token is fetched anew once; a loop of fetches is stopped at ten a minute.
	wechat.KillTokens(appA)
	if a := do(t, "GET", gateways[0].url+"/cgi-bin/get_api_domain_ip?access_token="+first.AccessToken, nil); !strings.Contains(a.body, "40001") {
		t.Errorf("a learned token that is dead: %v, want WeChat's own 40001", a)
	}
	if fresh := stable(gateways[0], canarySecret); fresh.AccessToken == "" || fresh.AccessToken == first.AccessToken {
		t.Errorf("after a dead token: errcode %d, want another token", fresh.Errcode)
	}
	before := wechat.TokenFetches(appA)
	slow := 0
	for i := range 30 {
		p := gateways[i%3]
		got := stable(p, canarySecret)
		if got.Errcode == 45011 {
			slow++
			continue
		}
		wechat.KillTokens(appA)
		do(t, "GET", p.url+"/cgi-bin/get_api_domain_ip?access_token="+got.AccessToken, nil)
	}
	if n := wechat.TokenFetches(appA) - before; n > 10 || slow == 0 {
		t.Errorf("a loop of 30 fetches caused %d upstream and %d refusals with 45011, want at most 10 and some", n, slow)
	}
}

// A jsapi ticket is fetched once for the fleet and not counted when it comes from the cache.
func TestTicketsAreShared(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	config := write(t, wechat, redistest.Start(t).URL(), "", fmt.Sprintf(identityConfig, "auto"))
	gateways := []*process{start(t, config, wechat), start(t, config, wechat), start(t, config, wechat)}
	const path = "/cgi-bin/ticket/getticket"
	seen := make(map[string]int)
	for a, n := range fire(t, gateways, 30, 90, "GET", "/"+appA+path+"?type=jsapi&access_token="+canaryOld, "") {
		var got struct {
			Ticket    string `json:"ticket"`
			ExpiresIn int    `json:"expires_in"`
		}
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != 200 || a.kind != refusalType || got.ExpiresIn > 7200 || got.ExpiresIn < 7100 {
			t.Errorf("%v: %v", a, err)
		}
		seen[got.Ticket+" "+a.decision] += n
		if a.decision != "local" && a.decision != "pass" {
			t.Errorf("decision %s, want local or pass", a.decision)
		}
	}
	if len(seen) != 2 {
		t.Errorf("tickets and decisions: %v, want one ticket, passed once and local 89 times", seen)
	}
	if n := wechat.Executed(appA, path); n != 1 {
		t.Errorf("WeChat executed %d getticket for 90 calls on three gateways, want 1", n)
	}
	// Another kind and another app are others.
	do(t, "GET", gateways[0].url+"/"+appA+path+"?type=wx_card", nil)
	do(t, "GET", gateways[1].url+"/"+appB+path+"?type=jsapi", nil)
	if a, b := wechat.Executed(appA, path), wechat.Executed(appB, path); a != 2 || b != 1 {
		t.Errorf("WeChat executed %d of a and %d of b, want 2 and 1", a, b)
	}
}

// Anybody who may learn can show any number of appids. Made-up ones leave no series, no counters and no
// memory behind, and no rows that stay.
func TestLearningIsBounded(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the memory of a process is read from /proc")
	}
	wechat := newWechat(t, sandbox.Options{})
	folder := t.TempDir()
	config, file := filepath.Join(folder, "wxproxy.yaml"), filepath.Join(folder, "wxproxy.db")
	writeFile(t, config, fmt.Sprintf("listen: 127.0.0.1:0\nadmin: {listen: \"127.0.0.1:0\", token: \"${CANARY_ADMIN}\"}\nupstream: {url: %q}\nstore: {url: \"file:%s\"}\n", wechat.URL, file))
	p := start(t, config, wechat)
	fetch := func(appid string) tokenAnswer {
		return decodeToken(t, post(t, p.url+"/cgi-bin/stable_token",
			`{"grant_type":"client_credential","appid":"`+appid+`","secret":"`+canarySecret+`"}`, nil))
	}
	if got := fetch(appA); got.AccessToken == "" {
		t.Fatalf("the fetch of an app that exists: errcode %d", got.Errcode)
	}
	var next atomic.Int64
	makeUp := func(n int64) {
		var wg sync.WaitGroup
		end := next.Load() + n
		for range 8 {
			wg.Go(func() {
				for i := next.Add(1); i <= end; i = next.Add(1) {
					if got := fetch(fmt.Sprintf("wx%016x", i)); got.Errcode != 40013 && got.Errcode != 45011 {
						t.Errorf("a made-up appid: errcode %d, want WeChat's 40013, or 45011 past 60 a minute", got.Errcode)
						return
					}
				}
			})
		}
		wg.Wait()
		next.Store(end)
	}
	measure := func() (memory, size int64, series int) {
		for line := range strings.Lines(readFile(t, fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))) {
			if text, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				if _, err := fmt.Sscan(text, &memory); err != nil {
					t.Fatal(err)
				}
			}
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(do(t, "GET", p.admin+"/metrics", nil).body) {
			if !strings.HasPrefix(line, "#") {
				series++
			}
		}
		return memory, info.Size(), series
	}
	makeUp(5_000) // so that what is bounded is full, and the garbage collector at work
	measure()     // so that the metrics have been read once: reading the store makes series of its own
	memory, size, series := measure()
	makeUp(20_000)
	memoryAfter, sizeAfter, seriesAfter := measure()
	t.Logf("memory %d -> %d KiB, file %d -> %d bytes, series %d -> %d", memory, memoryAfter, size, sizeAfter, series, seriesAfter)
	if grown := memoryAfter - memory; grown > 32<<10 {
		t.Errorf("20,000 made-up appids took %d KiB of memory, want at most 32 MiB", grown)
	}
	if grown := sizeAfter - size; grown > 256<<10 {
		t.Errorf("20,000 made-up appids took %d bytes of the file, want at most 256 KiB", grown)
	}
	if grown := seriesAfter - series; grown > 50 { // an answer that did not occur before has some, a histogram of it 15
		t.Errorf("20,000 made-up appids made %d series, want at most 50", grown)
	}
	if text := do(t, "GET", p.admin+"/metrics", nil).body; strings.Contains(text, `"wx0000`) || !strings.Contains(text, appA) {
		t.Error("the metrics name a made-up appid, or not the one that exists")
	}
	var u admin.Usage
	p.askAdmin(t, "GET", "/api/v1/usage", &u)
	if len(u.Apps) != 1 || u.Apps[0].AppID != appA {
		t.Errorf("usage has %d apps, want the one that exists", len(u.Apps))
	}
}
