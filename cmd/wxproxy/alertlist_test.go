package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"wxproxy/internal/redistest"
	"wxproxy/sandbox"
)

// adminCommand runs a command that asks a gateway's admin listener, in English.
func adminCommand(t *testing.T, p *process, args ...string) (string, error) {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	writeFile(t, token, canaryAdmin)
	cmd := exec.CommandContext(t.Context(), built(t), append(args, "--admin", p.admin, "--token-file", token, "--lang", "en")...)
	cmd.Env = append(os.Environ(), "NO_PROXY=*")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The page and the command show what was sent: nothing yet, an alert with what became of it at each sink, and while the store
// is down what the gateway sends by itself.
func TestAlertsShown(t *testing.T) {
	t.Parallel()
	robot, gone, wechat := newWeComRobot(t), newWeComRobot(t), newWechat(t, sandbox.Options{})
	gone.gone = true
	redis := redistest.Start(t)
	config := write(t, wechat, redis.URL(), table("100/day", "5000/day"),
		"alerts: {sinks: [{name: oncall, type: wecom, url: \"${ROBOT_URL}\"}, {name: former, type: wecom, url: \"${GONE_URL}\"}]}\n")
	gateway := start(t, config, wechat, "ROBOT_URL="+robot.url, "GONE_URL="+gone.url)
	p := openTab(t, gateway.admin)
	p.do(t, chromedp.Navigate(signedInAddress(t, gateway)))
	p.goTo(t, "gateway")
	p.await(t, "that nothing was sent", `document.querySelector("section[aria-labelledby=sent] .empty")?.innerText === "还没有发过告警。"`)
	p.shows(t, ".sinks tr", "还没有发过")
	p.shows(t, "main", "alerts.sinks: [oncall (wecom), former (wecom)]")
	if out, err := adminCommand(t, gateway, "alert", "list"); err != nil || !strings.Contains(out, "nothing sent yet") || !strings.Contains(out, "No alert was sent yet.") {
		t.Errorf("alert list of nothing: %v\n%s", err, out)
	}

	for i := range 81 {
		if got := do(t, "POST", gateway.url+"/"+appA+"/cgi-bin/menu/create", strings.NewReader(menu)); got.decision != "pass" {
			t.Fatalf("call %d: %+v", i, got)
		}
	}
	p.await(t, "the alert with what became of it", `[...document.querySelectorAll(".sent tbody tr")].some((r) => /^\d\d:\d\d\s+a\s+已用 8[01]%：8[01] \/ 100\s+自定义菜单创建\s+menu.create\s+former 被拒绝\s+93000: 机器人已被移除，或网址不对\s+oncall 已送达$/.test(r.innerText.trim()))`)
	p.shows(t, ".sinks tr", "起静默，直到配置更改或测试成功")
	p.shows(t, ".sinks tr", "正常，最近一条在")
	p.accessible(t, "alerts")
	p.click(t, "#language")
	p.await(t, "the alert in English", `[...document.querySelectorAll(".sent tbody tr")].some((r) => /8[01]% used: 8[01] of 100[^]*former refused\s+93000: the robot is gone or its URL is wrong\s+oncall delivered/.test(r.innerText))`)
	p.click(t, `section[aria-labelledby="alerts"] button`)
	p.shows(t, ".sent tbody tr", "test message")
	out, err := adminCommand(t, gateway, "alert", "list")
	for _, part := range []string{
		`(?m)^former +wecom +silenced since \d\d-\d\d \d\d:\d\d, until its configuration changes or a test succeeds: 93000: the robot is gone`, `(?m)^oncall +wecom +takes messages, the last at `,
		`(?m)^\d\d-\d\d \d\d:\d\d +a +8[01]% used: 8[01] of 100 +menu\.create +former refused: 93000: the robot is gone or its URL is wrong, oncall delivered$`,
	} {
		if err != nil || !regexp.MustCompile(part).MatchString(out) {
			t.Errorf("alert list: %v, no %s in\n%s", err, part, out)
		}
	}
	shown := p.text(t, "main")
	answered, err := adminCommand(t, gateway, "alert", "list", "--json")
	if err != nil || !strings.Contains(answered, `"oncall"`) {
		t.Errorf("alert list --json: %v\n%s", err, answered)
	}
	for what, text := range map[string]string{"the page": shown, "the command": out, "the API": answered} {
		if strings.Contains(text, canaryRobot) || strings.Contains(text, "127.0.0.1") && what != "the page" {
			t.Errorf("%s shows where a sink is:\n%s", what, text)
		}
	}

	redis.Stop()
	p.shows(t, "section[aria-labelledby=sent] .note", "This is what the gateway has seen last: ")
	p.shows(t, ".sent tbody tr", "store unavailable to gateway ")
	p.await(t, "that it was delivered, and not sent to the sink that is silenced", `/former not sent\s+the sink is silenced[^]*oncall delivered/.test(document.querySelector(".sent tbody tr").innerText)`)
	if out, err := adminCommand(t, gateway, "alert", "list"); err != nil || !strings.HasPrefix(out, "The store does not answer: this is what the gateway has seen last.\n") {
		t.Errorf("alert list without a store: %v\n%s", err, out)
	}
	p.accessible(t, "alerts without a store")
	wantNoRobot(t, gateway)
}
