package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"wxproxy/internal/words"
	"wxproxy/report"
	"wxproxy/sandbox"
)

// reportOn runs the built program's report and returns what it prints as JSON.
func reportOn(t *testing.T, args ...string) *report.Result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), built(t), append([]string{"report", "--json"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("wxproxy report %v: %v\n%s", args, err, &stderr)
	}
	if stderr.Len() > 0 {
		t.Errorf("on stderr, which is no terminal: %s", &stderr)
	}
	var r report.Result
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

// rowsOf are the rows of one table by their keys.
func rowsOf(t *testing.T, r *report.Result, by string) map[string]report.Counts {
	t.Helper()
	for _, table := range r.Tables {
		if strings.Join(table.By, "+") != by {
			continue
		}
		rows := make(map[string]report.Counts)
		for _, row := range table.Rows {
			rows[strings.Join(row.Keys, " ")] = row.Counts
		}
		return rows
	}
	t.Fatalf("no table by %s", by)
	return nil
}

// What report says of real traffic is what callers saw and what WeChat counted. The table in force, replayed,
// decides again as the gateway did, and a larger one lets pass what was refused.
func TestReportOfRealTraffic(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	folder := t.TempDir()
	log := filepath.Join(folder, "access.log")
	config := write(t, wechat, "file:"+filepath.Join(folder, "wxproxy.db"), table("5/day", "3/day"),
		"callers:\n  - {name: crm, key: "+canaryCRMNew+", apps: [a]}\naccess_log: {file: \""+log+"\"}\n")
	p := start(t, config, wechat)
	decisions, asked := make(map[string]int64), make(map[string]int64)
	call := func(caller, key, method, app, path, body string) {
		base := strings.Replace(p.url, "http://", "http://"+app+":"+key+"@", 1)
		if key == "" {
			base = p.url + "/" + app
		}
		a := do(t, method, base+path, strings.NewReader(body))
		decisions[a.decision]++
		asked[caller]++
	}
	create := func() { call("crm", canaryCRMNew, "POST", "a", "/cgi-bin/menu/create", menu) }
	create()
	wechat.KillTokens(appA)
	for range 6 { // the first is sent twice, so three pass
		create()
	}
	time.Sleep(300 * time.Millisecond) // a clear carries over what may have run after it, by two clocks
	call("", "", "POST", appA, "/cgi-bin/clear_quota", `{"appid":"`+appA+`"}`)
	for range 2 {
		create()
	}
	for range 5 {
		call("", "", "GET", appB, "/cgi-bin/user/info?openid="+canaryOpenID, "")
	}
	call("", "no-key-of-anybody-000001", "GET", "a", "/cgi-bin/user/info?openid="+canaryOpenID, "")
	call("crm", "", "GET", appA, "/cgi-bin/token?grant_type=client_credential&appid="+appA+"&secret="+canaryCRMNew, "")
	metrics := make(map[string]string)
	for _, key := range [][]string{{"a", "crm", "pass", "", "menu.create"}, {"a", "crm", "refused-quota", "quota-used-up", "menu.create"}, {"b", "", "refused-quota", "quota-used-up", "user.info"}} {
		name := fmt.Sprintf(`wxproxy_requests_total{app="%s",caller="%s",decision="%s",reason="%s",rule="%s"}`, key[0], key[1], key[2], key[3], key[4])
		metrics[strings.Join(key, " ")] = metricOf(t, client, p.admin, name)
	}
	p.stop(t)

	byAll := rowsOf(t, reportOn(t, log, "--by", "app+caller+decision+reason+rule"), "app+caller+decision+reason+rule")
	for key, want := range metrics {
		if n := byAll[key].Calls; fmt.Sprint(n) != want {
			t.Errorf("%s: %d calls, want %s as the metrics have it", key, n, want)
		}
	}
	own := wechat.Calls("", "/cgi-bin/openapi/quota/get") // the gateway asks at the first call of a rule, and logs it
	decisions["pass"] += own
	asked[""] += own
	got := reportOn(t, log)
	byDecision := rowsOf(t, got, "decision")
	for decision, n := range decisions {
		if byDecision[decision].Calls != n {
			t.Errorf("%s: %d calls, want the %d that callers saw", decision, byDecision[decision].Calls, n)
		}
	}
	for caller, n := range asked {
		if c := rowsOf(t, got, "caller")[caller]; c.Calls != n {
			t.Errorf("caller %q: %d calls, want %d", caller, c.Calls, n)
		}
	}
	for rule, path := range map[string]string{"menu.create": "/cgi-bin/menu/create", "user.info": "/cgi-bin/user/info"} {
		if sent, want := rowsOf(t, got, "rule")[rule].Sent, wechat.Calls("", path); sent != want || want == 0 {
			t.Errorf("%s: %d sent, want the %d that WeChat received", rule, sent, want)
		}
	}
	if c := rowsOf(t, got, "rule+caller+reason")["menu.create crm quota-used-up"]; c.Calls != 3 {
		t.Errorf("menu.create: %d refused to crm, want 3", c.Calls)
	}
	if c := rowsOf(t, got, "reason")["wrong-key"]; c.Calls != 1 || decisions["local"] != 1 {
		t.Errorf("%d calls with a wrong key, %d local, want 1 of each", c.Calls, decisions["local"])
	}

	inForce := filepath.Join(filepath.Dir(config), "limits.yaml")
	same := reportOn(t, log, "--what-if", inForce, "--config", config).WhatIf
	if same.Refused != 5 || same.RefusedNow != 5 || same.New != 0 || same.Passing != 0 || same.Clears != 1 {
		t.Errorf("the table in force: %+v, want the same 5 refused, and one clear", same)
	}
	larger := filepath.Join(folder, "larger.yaml")
	writeFile(t, larger, table("100/day", "3/day"))
	if r := reportOn(t, log, "--what-if", larger, "--config", config).WhatIf; r.RefusedNow != 2 || r.Passing != 3 || r.New != 0 {
		t.Errorf("a larger table: %+v, want the 3 of menu.create to pass", r)
	}
	smaller := filepath.Join(folder, "smaller.yaml")
	writeFile(t, smaller, table("2/day", "3/day"))
	if r := reportOn(t, log, "--what-if", smaller, "--config", config).WhatIf; r.New == 0 || r.Passing != 0 || r.Refusals[0].Caller != "crm" {
		t.Errorf("a smaller table: %+v, want calls of crm refused that were sent", r)
	}
}

// Progress is shown on a terminal, and an interrupt prints what was read so far: exit code 130.
func TestReportInterrupted(t *testing.T) {
	t.Parallel()
	master, slave := pseudoTerminal(t)
	line := `{"time":"2026-11-29T15:04:05.000+08:00","request_id":"1","client_ip":"10.0.0.7","caller":"crm","app":"shop","appid":"wx0123456789abcdef","method":"POST","path":"/cgi-bin/menu/create","rule":"menu.create","decision":"pass","reason":"","quota":1000,"used":1,"remaining":999,"reset_s":1,"status":200,"errcode":0,"rid":"","duration_ms":1,"upstream_ms":1,"attempts":1,"bytes_in":1,"bytes_out":1,"user_agent":""}` + "\n"
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), built(t), "report", "-", "--json", "--by", "app")
	cmd.Dir = t.TempDir()
	var stdout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, slave
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill() //nolint:errcheck // it has ended, unless the test has failed
	const lines = 1000
	if _, err := stdin.Write([]byte(strings.Repeat(line, lines))); err != nil {
		t.Fatal(err)
	}
	size := megabytes(int64(lines * len(line)))
	if err := master.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Logf("no deadline: %v", err)
	}
	var screen string
	for buffer := make([]byte, 4096); !strings.Contains(screen, size); {
		n, err := master.Read(buffer)
		if err != nil {
			t.Fatalf("%v, on the terminal: %q, want %s", err, screen, size)
		}
		screen += string(buffer[:n])
	}
	if !strings.Contains(screen, "lines/s") {
		t.Errorf("on the terminal: %q, want lines/s", screen)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 130 {
		t.Errorf("%v, want exit status 130", err)
	}
	var got report.Result
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil || got.Complete || got.Total.Calls != lines {
		t.Errorf("%v, complete %t, %d calls, want an incomplete report of %d", err, got.Complete, got.Total.Calls, lines)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		read, total, lines int64
		want               string
	}{
		{0, 100e6, 0, "0.0 MB, 0 lines/s"},
		{25e6, 100e6, 600_000, "25 % of 100.0 MB, 300000 lines/s, 6s left"},
		{200e6, 100e6, 600_000, "100 % of 100.0 MB, 300000 lines/s, 0s left"},
		{25e6, 0, 600_000, "25.0 MB, 300000 lines/s"},
	} {
		if got := progress(words.English, tt.read, tt.total, tt.lines, 2*time.Second); got != tt.want {
			t.Errorf("progress(%d of %d) = %s, want %s", tt.read, tt.total, got, tt.want)
		}
	}
}

// The command finds the access log of the configuration with what it was rotated into, and needs none of its
// secrets.
func TestReportOfTheConfiguredLog(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	log := filepath.Join(folder, "calls.log")
	for i, name := range []string{"calls.log", "calls-2026-11-28T00-00-00.000.log", "calls.log.1"} {
		writeFile(t, filepath.Join(folder, name), fmt.Sprintf(`{"time":"2026-11-%dT15:04:05.000+08:00","request_id":"1","client_ip":"","caller":"","app":"shop","appid":"wx0123456789abcdef","method":"POST","path":"/cgi-bin/menu/create","rule":"menu.create","decision":"pass","status":200,"errcode":0,"duration_ms":1,"attempts":1}`+"\n", 27+i))
	}
	config := filepath.Join(folder, "wxproxy.yaml")
	writeFile(t, config, "apps: [{name: shop, appid: wx0123456789abcdef, secret: \"${SECRET_OF_ANOTHER_MACHINE}\", profile: test}]\naccess_log: {file: \""+log+"\"}\n")
	if got := reportOn(t, "--config", config); got.Files != 3 || got.Total.Calls != 3 || got.First != "2026-11-27T15:04:05+08:00" {
		t.Errorf("%d files, %d calls, from %s, want 3 of each", got.Files, got.Total.Calls, got.First)
	}
	if _, set := os.LookupEnv("SECRET_OF_ANOTHER_MACHINE"); set {
		t.Fatal("the variable is set")
	}
}
