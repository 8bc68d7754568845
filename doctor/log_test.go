package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wxproxy/internal/words"
)

// logLine is a line of an access log.
func logLine(at time.Time, client, path, reason string, status, errcode int) string {
	return fmt.Sprintf(`{"time":%q,"request_id":"r","client_ip":%q,"caller":"crm","method":"GET","path":%q,"decision":"x","reason":%q,"status":%d,"errcode":%d}`+"\n",
		at.Format(time.RFC3339Nano), client, path, reason, status, errcode)
}

// reading returns a doctor whose access log has a text.
func reading(t *testing.T, text string) (*doctor, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access.log")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return &doctor{Options: load(t, "access_log: {file: "+path+"}\n")}, path
}

func TestLog(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	at := now.Format(time.RFC3339)
	refused := func(n int, reason string) string {
		return strings.Repeat(logLine(now, "10.0.0.9", "/cgi-bin/menu/get", reason, 200, 48001), n)
	}
	for _, tt := range []struct{ name, log, en, zh string }{
		{
			name: "WeCom", log: logLine(now, "10.0.0.5", "/cgi-bin/gettoken", "path", 200, 40066) + logLine(now, "10.0.0.5", "/cgi-bin/gettoken", "path", 200, 40066),
			en: "warning: calls of a path of WeCom: 2, lately /cgi-bin/gettoken from 10.0.0.5 at " + at + "\n-> that service uses an SDK of WeCom (qyapi.weixin.qq.com), which is not served here: set its base URL back\n",
			zh: "warning: 2 次调用了企业微信的路径，最近是 " + at + " 来自 10.0.0.5 的 /cgi-bin/gettoken\n-> 那个服务用的是企业微信（qyapi.weixin.qq.com）的 SDK，这里不支持：把它的基地址改回去\n",
		},
		{
			name: "doubled", log: logLine(now, "10.0.0.5", "/cgi-bin/cgi-bin/menu/get", "", 200, 40066),
			en: "warning: calls with a doubled prefix: 1, lately /cgi-bin/cgi-bin/menu/get from 10.0.0.5 at " + at + "\n-> that SDK adds the prefix itself: its base URL is to end before it, as in http://HOST:8080\n",
			zh: "warning: 1 次调用的路径前缀重复，最近是 " + at + " 来自 10.0.0.5 的 /cgi-bin/cgi-bin/menu/get\n-> 那个 SDK 自己会加前缀：基地址要写到它之前为止，如 http://HOST:8080\n",
		},
		{
			name: "appid twice", log: logLine(now, "10.0.0.5", "/wx0123456789abcdef/cgi-bin/menu/get", "", 200, 40066),
			en: "warning: calls with an appid twice in front of the path: 1, lately /wx0123456789abcdef/cgi-bin/menu/get from 10.0.0.5 at " + at + "\n-> write the appid once: in the base URL, or in the path\n",
		},
		{
			name: "one segment", log: logLine(now, "10.0.0.5", "/token", "path", 404, 40066) + logLine(now, "10.0.0.6", "/favicon.ico", "path", 404, 40066) + logLine(now, "10.0.0.6", "/", "path", 404, 40066),
			en: "warning: calls of a path without its prefix: 1, lately /token from 10.0.0.5 at " + at + "\n-> that service calls what WeChat does not have; where an SDK wants the prefix in its base URL, add it: http://HOST:8080/cgi-bin\n",
		},
		{
			name: "refused", log: refused(20, "nothing-shown") + refused(19, "browser"),
			en: "warning: 10.0.0.9 was refused 20 times for nothing-shown, lately at " + at + "\n-> give that service a key of its own under callers, and set it in place of its AppSecret\n",
			zh: "warning: 10.0.0.9 因 nothing-shown 被拒绝 20 次，最近是 " + at + "\n-> 在 callers 下给那个服务一个密钥，让它用密钥代替 AppSecret\n",
		},
		{
			name: "good", log: logLine(now, "10.0.0.5", "/cgi-bin/menu/get", "", 200, 0) + logLine(now, "10.0.0.5", "/cgi-bin/message/custom/send", "", 200, 0) + "no JSON\n",
			en: "ok: LOG: no mistake in 2 lines of the last day\n",
		},
		{name: "of yesterday", log: logLine(now.Add(-25*time.Hour), "10.0.0.5", "/cgi-bin/gettoken", "path", 200, 40066), en: "ok: LOG: no mistake in 0 lines of the last day\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, path := reading(t, tt.log)
			wantLines(t, d.lookAtLog(t.Context()), strings.ReplaceAll(tt.en, "LOG", path), tt.zh)
		})
	}
}

// Of a large log the end is read.
func TestLogEnd(t *testing.T) {
	t.Parallel()
	now := time.Now()
	good := logLine(now, "10.0.0.5", "/cgi-bin/menu/get", "", 200, 0)
	d, _ := reading(t, logLine(now, "10.0.0.5", "/cgi-bin/gettoken", "path", 200, 40066)+strings.Repeat(good, logBytes/len(good)+1))
	if got := lines(words.English, d.lookAtLog(t.Context())); !strings.HasPrefix(got, "ok: ") {
		t.Errorf("got %s, want nothing of the beginning", got)
	}
}

func TestNoLog(t *testing.T) {
	d := &doctor{Options: load(t, "max_in_flight: 10\n")}
	wantLines(t, d.lookAtLog(t.Context()), "skipped: the access log goes to stdout\n-> name a file that holds it: --log FILE\n", "skipped: 访问日志输出到标准输出\n-> 用 --log 文件 指明存着它的文件\n")
	d.Log = filepath.Join(t.TempDir(), "gone.log")
	wantLines(t, d.lookAtLog(t.Context()), "fault: access log "+d.Log+": no such file or directory\n-> run doctor as the gateway's user, or name another file: --log FILE\n", "")
	d.Log = t.TempDir()
	if got := lines(words.English, d.lookAtLog(t.Context())); !strings.HasPrefix(got, "fault: access log "+d.Log+": is a directory\n") {
		t.Errorf("got %s", got)
	}
}

// Each reason that is told of is one of docs/reasons.md.
func TestReasons(t *testing.T) {
	manual, err := os.ReadFile("../docs/reasons.md")
	if err != nil {
		t.Fatal(err)
	}
	for reason := range reasons {
		if !strings.Contains(string(manual), "\n| `"+reason+"` |") {
			t.Errorf("%s is no reason of docs/reasons.md", reason)
		}
	}
}
