package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wxproxy/alert"
)

// fences are the code blocks of a page that begin with ```kind, comments taken off.
func fences(page, kind string) []string {
	var found []string
	for i, part := range strings.Split(page, "```") {
		if text, ok := strings.CutPrefix(part, kind+"\n"); ok && i%2 == 1 {
			found = append(found, text)
		}
	}
	return found
}

func withoutComments(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		code, _, _ := strings.Cut(line, "  #")
		b.WriteString(strings.TrimRight(code, " \n") + "\n")
	}
	return b.String()
}

// The manual of alerts has the same examples in both languages, each loads, and it names each event.
func TestAlertsManual(t *testing.T) {
	var pages []string
	for _, name := range []string{"alerts.md", "alerts.zh-CN.md"} {
		text, err := os.ReadFile(filepath.Join("../docs", name))
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, string(text))
		types := make(map[string]bool)
		for _, example := range fences(string(text), "yaml") {
			dir := files(t, MainFile, "apps: [{name: shop, appid: wx0123456789abcdef, secret: 0123456789abcdef0123456789abcdef}]\n"+example)
			c := load(t, LoadOptions{Dir: dir, Env: env(
				"WECOM_ROBOT_URL", "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=x", "DINGTALK_ROBOT_URL", "https://oapi.dingtalk.com/robot/send?access_token=x",
				"DINGTALK_ROBOT_SECRET", "SECx", "FEISHU_ROBOT_URL", "https://open.feishu.cn/open-apis/bot/v2/hook/x", "FEISHU_ROBOT_SECRET", "x",
				"HOOK_URL", "https://ops.example.com/x", "HOOK_SECRET", "whsec_MASKMASKMASKMASKMASKMASKMASKMASK", "SMTP_PASSWORD", "x",
			)})
			for _, s := range c.Alerts.Sinks {
				types[s.Type] = true
			}
		}
		if len(types) != 6 {
			t.Errorf("%s: examples of %d types, want six", name, len(types))
		}
		for _, kind := range alert.Kinds() {
			if !strings.Contains(string(text), "| `"+string(kind)+"` |") {
				t.Errorf("%s: no row of %s", name, kind)
			}
		}
	}
	for _, kind := range []string{"yaml", "json", "text", "sh"} {
		a, b := fences(pages[0], kind), fences(pages[1], kind)
		for i := range a {
			a[i] = withoutComments(a[i])
		}
		for i := range b {
			b[i] = withoutComments(b[i])
		}
		if diff := cmp.Diff(a, b); diff != "" {
			t.Errorf("%s blocks (-English +Chinese):\n%s", kind, diff)
		}
	}
	var texts []string
	for _, l := range []string{"zh", "en"} {
		text, err := os.ReadFile("../alert/testdata/texts." + l + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n\n----\n\n")...)
	}
	for _, shown := range fences(pages[0], "text") {
		if !slices.Contains(texts, strings.TrimSuffix(shown, "\n")) {
			t.Errorf("no message has this text, which the manual shows:\n%s", shown)
		}
	}
}
