package main

import (
	"bytes"
	"maps"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"wxproxy/admin"
	"wxproxy/internal/words"
)

var han = regexp.MustCompile(`\p{Han}`)

// Each help is in one language.
func TestHelpInOneLanguage(t *testing.T) {
	t.Parallel()
	var names []string
	for _, c := range rootCommand(words.English).Commands() {
		names = append(names, c.Name())
	}
	for _, name := range append(names, "") {
		help := make(map[words.Language]string)
		for _, l := range []words.Language{words.English, words.Chinese} {
			root := rootCommand(l)
			var out bytes.Buffer
			root.SetOut(&out)
			root.SetArgs(append(strings.Fields(name), "--help"))
			if err := root.ExecuteContext(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			help[l] = out.String()
		}
		if found := han.FindString(help[words.English]); found != "" {
			t.Errorf("%s: %s in the English help:\n%s", name, found, help[words.English])
		}
		en, zh := strings.Count(help[words.English], "--"), strings.Count(help[words.Chinese], "--")
		if en != zh {
			t.Errorf("%s: %d flags in the English help, %d in the Chinese one", name, en, zh)
		}
	}
}

// The help of every command and flag is from the dictionary.
func TestHelpIsTranslated(t *testing.T) {
	t.Parallel()
	known := make(map[string]bool)
	for _, text := range words.Chinese.Dictionary() {
		known[text] = true
	}
	root := rootCommand(words.Chinese)
	for _, cmd := range append(root.Commands(), root) {
		if !known[cmd.Short] || cmd.Long != "" && !known[cmd.Long] {
			t.Errorf("%s: help that is not from the dictionary: %q %q", cmd.CommandPath(), cmd.Short, cmd.Long)
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !known[f.Usage] {
				t.Errorf("%s --%s: help that is not from the dictionary: %q", cmd.CommandPath(), f.Name, f.Usage)
			}
		})
	}
}

// What the commands print and the errors that they return are in Chinese too.
func TestCommandsInChinese(t *testing.T) {
	t.Parallel()
	s := clearStand(t)
	s.lang = words.Chinese
	s.answers[clearShop] = admin.ClearAnswer{Done: true, Calls: []admin.ClearStep{{Done: true, Statement: "done: errcode 0, WeChat counts from 0 again"}}, Clears: clearsRow("clear_quota", 10, 6)}
	for _, tt := range []struct {
		args   []string
		answer map[string]any
		stdout string
		err    string
	}{
		{[]string{"clear", "shop", "--yes"}, nil, `
shop  ` + appA + `  限额表 production
要清零：整个帐号

类目      接口            每日实时调用量/上限  %     接口状态  规则
界面丰富  自定义菜单创建  12/1000              1%    已获得    menu.create
用户管理  设置用户备注名  10000/10000          100%  已用完    user.info.updateremark

需要 1 次清零；本月 10 次还剩 7 次。
完成：errcode 0，微信从 0 重新计数
本月 10 次清零还剩 6 次。
`, ""},
		{[]string{"clear", "shop"}, nil, `
shop  ` + appA + `  限额表 production
要清零：整个帐号

类目      接口            每日实时调用量/上限  %     接口状态  规则
界面丰富  自定义菜单创建  12/1000              1%    已获得    menu.create
用户管理  设置用户备注名  10000/10000          100%  已用完    user.info.updateremark

需要 1 次清零；本月 10 次还剩 7 次。
`, "标准输入不是终端，无法询问：什么也没有做。要不经询问就执行，请加 --yes"},
		{[]string{"explain", "shop", "GET", "/cgi-bin/menu/create"}, map[string]any{
			"GET /api/v1/explain?app=shop&caller=&method=GET&path=%2Fcgi-bin%2Fmenu%2Fcreate": admin.Explanation{
				App: "shop", AppID: appA, Profile: "test", Method: "GET", Path: "/cgi-bin/menu/create", Rule: "menu.create", Title: "自定义菜单创建", Quota: "1000/day", Inject: "account",
				Rows: shopUsage().Rows[:1], Statement: "pass: counted and sent",
			},
		}, `
帐号      shop  ` + appA + `
限额表    test
调用      GET /cgi-bin/menu/create
规则      menu.create  自定义菜单创建
限额      1000/day
填入      account
今天      1000 中已用 12，还剩 988，到 2026-11-24T00:00:00+08:00 为止
此时调用  pass：计数并发出
`, ""},
		{[]string{"limits", "shop"}, map[string]any{"GET /api/v1/limits?app=shop": admin.Limits{App: "shop", AppID: appA, Profile: "production", Rows: shopLimits().Rows[1:3]}}, `
shop  ` + appA + `  限额表 production
   规则               内置         配置              出自          微信        接口
*  user.info          5000000/day  500000/day        wxproxy.yaml  800000/day  获取用户基本信息
*  message.mass.send  100/day      100/day, 4/month  shop          200/day     高级群发接口

* user.info
     内置  5000000/day  程序内置的表
     配置  500000/day   wxproxy.yaml 里帐号的 quotas
     微信  800000/day   2026-11-23 15:04:05 查询

* message.mass.send
     内置  100/day           程序内置的表
     配置  100/day, 4/month  限额表 shop
     微信  200/day           2026-11-23 15:04:05 查询
`, ""},
		{[]string{"usage", "shpo"}, map[string]any{"GET /api/v1/usage?app=shpo": wrong{404, map[string]any{"error": "app shpo: not configured", "seen": "shpo", "known": []string{"shop"}}}}, "", "帐号 shpo：没有配置，是不是想写 shop？"},
		{[]string{"forget", appB, "--yes"}, map[string]any{
			"GET /api/v1/forget?app=" + appB:  admin.Forgotten{AppID: appB, Erased: []string{"counters", "tickets"}},
			"POST /api/v1/forget?app=" + appB: admin.Forgotten{AppID: appB, Erased: []string{"counters", "tickets"}},
		}, `
要删除 ` + appB + ` 的数据，对共用这个存储的所有网关生效：计数、ticket。
本网关启动以来没有计过它的调用：请核对 appid。
已删除 ` + appB + `：计数、ticket。
`, ""},
		{[]string{"explain", "shop"}, nil, "", "wxproxy explain：参数有 1 个，应为 APPID METHOD PATH"},
		{[]string{"usage", "--lvie"}, nil, "", "wxproxy usage：没有 --lvie 这个选项，是不是想写 --live？"},
	} {
		maps.Copy(s.answers, tt.answer)
		stdout, _, err := s.run(t, strings.NewReader(""), tt.args...)
		if stdout != strings.TrimPrefix(tt.stdout, "\n") {
			wantText(t, strings.Join(tt.args, " "), stdout, tt.stdout)
		}
		switch {
		case tt.err == "" && err != nil:
			t.Errorf("%v: %v", tt.args, err)
		case tt.err != "" && (err == nil || !strings.Contains(words.Chinese.Error(err), tt.err)):
			t.Errorf("%v: %v, want %s", tt.args, err, tt.err)
		}
	}
}
