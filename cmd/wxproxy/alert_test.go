package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"wxproxy/internal/redistest"
	"wxproxy/sandbox"
)

// canaryRobot is the key in the URL of a robot, which is all that it takes to send by it.
const canaryRobot = "CANARY-r0b0t-key-97a0"

// weComRobot is a stand-in of a robot of 企业微信.
type weComRobot struct {
	url string

	mu    sync.Mutex
	texts []string
	gone  bool
}

func newWeComRobot(t *testing.T) *weComRobot {
	t.Helper()
	robot := new(weComRobot)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var message struct {
			Text struct{ Content string }
		}
		robot.mu.Lock()
		defer robot.mu.Unlock()
		switch body, err := io.ReadAll(r.Body); {
		case err != nil || json.Unmarshal(body, &message) != nil || len(message.Text.Content) > 2048:
			_, _ = io.WriteString(w, `{"errcode":40058,"errmsg":"text.content exceed max length 2048"}`)
		case robot.gone || r.URL.Query().Get("key") != canaryRobot:
			_, _ = io.WriteString(w, `{"errcode":93000,"errmsg":"invalid webhook url"}`)
		default:
			robot.texts = append(robot.texts, message.Text.Content)
			_, _ = io.WriteString(w, `{"errcode":0,"errmsg":"ok"}`)
		}
	}))
	t.Cleanup(server.Close)
	robot.url = server.URL + "/cgi-bin/webhook/send?key=" + canaryRobot
	return robot
}

func (r *weComRobot) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.texts)
}

// await waits for a message with a part.
func (r *weComRobot) await(t *testing.T, part string) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if strings.Contains(strings.Join(r.all(), "\n"), part) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %q in %q", part, r.all())
		}
	}
}

// alertsTo is an alerts section with one robot.
func alertsTo() string {
	return "alerts: {page: 'https://gateway.example.com/', sinks: [{name: oncall, type: wecom, url: \"${ROBOT_URL}\"}]}\n"
}

// wantNoRobot looks for the robot's key in what a gateway wrote.
func wantNoRobot(t *testing.T, p *process) {
	t.Helper()
	if text := p.stdout.String() + p.stderr.String(); strings.Contains(text, canaryRobot) {
		t.Errorf("a log holds the robot's key:\n%s", text)
	}
}

// A rule that two gateways drive to 80 % is told once, as is each threshold after it, whichever gateway sends.
func TestAlertOnceByTwoGateways(t *testing.T) {
	t.Parallel()
	robot, wechat := newWeComRobot(t), newWechat(t, sandbox.Options{})
	redis := redistest.Start(t).URL()
	var gateways []*process
	for range 2 {
		gateways = append(gateways, start(t, write(t, wechat, redis, table("100/day", "5000/day"), alertsTo()), wechat, "ROBOT_URL="+robot.url))
	}
	calls := 0
	drive := func(to int) {
		t.Helper()
		for ; calls < to; calls++ {
			if got := do(t, "POST", gateways[calls%2].url+"/"+appA+"/cgi-bin/menu/create", strings.NewReader(menu)); got.decision != "pass" {
				t.Fatalf("call %d: %+v", calls, got)
			}
		}
	}
	drive(80)
	robot.await(t, "80 / 100")
	drive(96)
	robot.await(t, "96 / 100")
	text := strings.Join(robot.all(), "\n\n")
	for _, part := range []string{"【已用 80%】a 自定义菜单创建 (menu.create)：80 / 100", "【已用 96%】a 自定义菜单创建 (menu.create)：96 / 100"} {
		if n := strings.Count(text, part); n != 1 {
			t.Errorf("%q %d times, want once, in:\n%s", part, n, text)
		}
	}
	if n := strings.Count(text, "【已用 "); n != 2 || !strings.Contains(text, "wxproxy usage a") || !strings.Contains(text, "https://gateway.example.com/") {
		t.Errorf("%d messages about thresholds, want 2, with what to do and the link:\n%s", n, text)
	}
	sent := regexp.MustCompile(`(?m)^wxproxy_alerts_total\{event="used",result="sent",sink="oncall"\} (\d+)$`)
	waitFor(t, "wxproxy_alerts_total of both gateways to be 2", func() bool { // a message is counted after its answer
		sum := 0
		for _, p := range gateways {
			for _, found := range sent.FindAllStringSubmatch(do(t, "GET", p.admin+"/metrics", nil).body, -1) {
				n, err := strconv.Atoi(found[1])
				if err != nil {
					t.Fatal(err)
				}
				sum += n
			}
		}
		return sum == 2
	})
	for _, p := range gateways {
		wantNoRobot(t, p)
	}
}

// What happens to a gateway is told, and that it is over: a token that WeChat refuses, a reload that fails. alert test asks
// each sink.
func TestAlertsOfOneGateway(t *testing.T) {
	t.Parallel()
	robot, wechat := newWeComRobot(t), newWechat(t, sandbox.Options{})
	config := write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), "", alertsTo())
	p := start(t, config, wechat, "ROBOT_URL="+robot.url)
	command := func(args ...string) (string, error) {
		token := filepath.Join(t.TempDir(), "token")
		writeFile(t, token, canaryAdmin)
		cmd := exec.CommandContext(t.Context(), built(t), append(args, "--admin", p.admin, "--token-file", token, "--lang", "en")...)
		cmd.Env = append(os.Environ(), "NO_PROXY=*")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := command("alert", "test"); err != nil || out != "oncall (wecom): sent\n" {
		t.Errorf("alert test: %v, %q", err, out)
	}
	robot.await(t, "【测试消息】")
	if out, err := command("alert", "test", "oncal"); err == nil || !strings.Contains(out, "did you mean oncall?") {
		t.Errorf("alert test of no sink: %v, %q", err, out)
	}

	good := readFile(t, config)
	writeFile(t, config, strings.Replace(good, "alerts:", "alert:", 1))
	robot.await(t, "【配置没有重新加载】")
	writeFile(t, config, good)
	robot.await(t, "【已恢复】配置已重新加载")

	wechat.Order(sandbox.Fault{AppID: appB, Path: "/cgi-bin/stable_token", ErrCode: 40164, ErrMsg: "invalid ip 203.0.113.9 ipv6 ::ffff:203.0.113.9, not in whitelist"})
	do(t, "POST", p.url+"/"+appB+"/cgi-bin/menu/create", strings.NewReader(menu))
	robot.await(t, "【取不到 access_token】b：203.0.113.9 不在 IP 白名单（40164）")
	robot.await(t, "IP白名单”加上 203.0.113.9")

	robot.mu.Lock()
	robot.gone = true
	robot.mu.Unlock()
	out, err := command("alert", "test", "oncall")
	if err == nil || !strings.Contains(out, "oncall (wecom): not sent: 93000: the robot is gone or its URL is wrong") {
		t.Errorf("alert test of a robot that is gone: %v, %q", err, out)
	}
	if strings.Contains(out, canaryRobot) {
		t.Errorf("the command shows the robot's key: %s", out)
	}
	if strings.Count(strings.Join(robot.all(), ""), "【") != 4 {
		t.Errorf("messages %q, want four", robot.all())
	}
	wantNoRobot(t, p)
}

// A counter that will run out is told with the time, and who calls most with it and with a threshold.
func TestAlertsOfForecastAndCallers(t *testing.T) {
	t.Parallel()
	robot, wechat := newWeComRobot(t), newWechat(t, sandbox.Options{Keep: -1})
	name, _ := noon()
	limits := strings.Replace(table("1000/day", "150/day"), "Asia/Shanghai", name, 1)
	p := start(t, write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), limits, historyCallers, alertsTo()), wechat, "ROBOT_URL="+robot.url)
	call := func(key string, times int) {
		t.Helper()
		for range times {
			askUser(t, p.url, key, "oSomebody")
		}
	}
	call(keyOncall, 5)
	call(keyCRM, 20)
	robot.await(t, " 用完】a 获取用户基本信息 (user.info)：")
	call(keyCRM, 100)
	robot.await(t, "%】a 获取用户基本信息 (user.info)：")
	for _, part := range []string{`【预计 \d\d:\d\d 用完】a 获取用户基本信息 \(user.info\)：\d+ / 150`, `【已用 8\d%】[^【]*调用最多：crm \d+、oncall 5。`, `按现在的速度，\d\d:\d\d 用完。`} {
		if text := strings.Join(robot.all(), "\n\n"); !regexp.MustCompile(part).MatchString(text) {
			t.Errorf("no %s in:\n%s", part, text)
		}
	}
}

// A caller that fails in a loop is told, also where its calls are not refused, and that it has ended.
func TestAlertsOfALoop(t *testing.T) {
	robot, wechat := newWeComRobot(t), newWechat(t, sandbox.Options{Keep: -1})
	t.Setenv("ROBOT_URL", robot.url)
	g := serveHere(t, write(t, wechat, "file:"+t.TempDir()+"/wxproxy.db", table("100/day", "100000/day"), twoCallers, alertsTo()), serving{loopTime: time.Second})
	callUntil := func(message string) {
		t.Helper()
		waitFor(t, message, func() bool {
			askUser(t, "http://"+g.main, canaryCRMNew, "oSomebody")
			return strings.Contains(strings.Join(robot.all(), "\n"), message)
		})
	}
	fails := wechat.Order(sandbox.Fault{AppID: appA, Path: "/cgi-bin/user/info", Times: -1, ErrCode: 40003})
	callUntil("【反复失败】crm 对 a 获取用户基本信息 (user.info) 的调用：40003")
	fails.Cancel()
	callUntil("【已恢复】crm 对 a 获取用户基本信息 (user.info) 的调用不再反复失败")
}

// Calls that go around the gateway are told, and that WeChat itself refuses: with the figures, and that this is over after a
// clear.
func TestAlertsOfDriftAndLatch(t *testing.T) {
	t.Parallel()
	robot, wechat := newWeComRobot(t), noonWechat(t, map[string]int64{createPath: 1000, "/cgi-bin/user/info": 1000})
	config := write(t, wechat, redistest.Start(t).URL(), noonTable("1000/day", "1000/day"), alertsTo())
	gateways := []*process{start(t, config, wechat, "ROBOT_URL="+robot.url), start(t, config, wechat, "ROBOT_URL="+robot.url)}
	fire(t, gateways, 4, 50, "POST", "/"+appA+createPath, menu)
	wechat.AddUsed(appA, createPath, 300)
	row(t, gateways[0], "menu.create", true) // asks WeChat
	robot.await(t, "【有调用绕过网关】a 自定义菜单创建 (menu.create)：微信多计了 300 次")
	robot.await(t, "微信自己的计数：350 / 1000，其中经过网关的 50。")

	call := func() answer {
		t.Helper()
		return do(t, "GET", gateways[0].url+"/"+appA+"/cgi-bin/user/info?openid=oSomebody", nil)
	}
	if got := call(); got.decision != "pass" {
		t.Fatalf("the first call: %+v", got)
	}
	wechat.AddUsed(appA, "/cgi-bin/user/info", 1000)
	call()
	robot.await(t, "【微信已拒绝】a 获取用户基本信息 (user.info)：45009")
	if status := gateways[1].askAdmin(t, "POST", "/api/v1/clear?app=a", nil); status != http.StatusOK {
		t.Fatalf("clear: %d", status)
	}
	waitFor(t, "a call after the clear", func() bool { return call().decision == "pass" })
	robot.await(t, "【已恢复】微信重新接受 a 获取用户基本信息 (user.info) 的调用")
	for _, part := range []string{"【有调用绕过网关】a 自定义菜单创建", "【微信已拒绝】", "【已恢复】"} {
		if n := strings.Count(strings.Join(robot.all(), "\n"), part); n != 1 {
			t.Errorf("%s %d times, want once, in %q", part, n, robot.all())
		}
	}
	for _, p := range gateways {
		wantNoRobot(t, p)
	}
}

// An access_token that is about to end, while WeChat gives no other one, is told with its end and why, and that it is over.
func TestAlertOfATokenThatEnds(t *testing.T) {
	t.Parallel()
	robot, wechat := newWeComRobot(t), newWechat(t, sandbox.Options{})
	issued := post(t, wechat.URL+"/cgi-bin/stable_token", `{"grant_type":"client_credential","appid":"`+appA+`","secret":"`+canarySecret+`"}`, nil)
	short := regexp.MustCompile(`"expires_in":\d+`).ReplaceAllString(issued.body, `"expires_in":20`) // renewed after ten seconds
	stable := sandbox.Fault{AppID: appA, Path: "/cgi-bin/stable_token"}
	first, fails := stable, stable
	first.Body = short
	fails.Times, fails.Status = -1, http.StatusBadGateway
	wechat.Order(first)
	refusing := wechat.Order(fails)
	p := start(t, write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), table("5000000/day", "5000000/day"), alertsTo()), wechat, "ROBOT_URL="+robot.url)
	callUntil := func(message string) {
		t.Helper()
		waitFor(t, message, func() bool {
			do(t, "POST", p.url+"/"+appA+createPath, strings.NewReader(menu))
			return strings.Contains(strings.Join(robot.all(), "\n"), message)
		})
	}
	callUntil("【access_token 没有续上】a\n现有的到 ")
	refusing.Cancel()
	callUntil("【已恢复】a 的 access_token 已续上")
	if text := strings.Join(robot.all(), "\n"); strings.Count(text, "【") != 2 || !strings.Contains(text, "原因：HTTP 状态 502：应为 200\n") {
		t.Errorf("want two messages, the first with the reason:\n%s", text)
	}
	wantNoRobot(t, p)
}
