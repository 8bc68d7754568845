package doctor

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"wxproxy/internal/words"
	"wxproxy/sandbox"
)

// examined returns a doctor for accounts of a sandbox that has been reached.
func examined(t *testing.T, wechat *sandbox.Server, more string, apps ...sandbox.App) *doctor {
	t.Helper()
	yaml := fmt.Sprintf("upstream: {url: %q}\n%sapps:\n", wechat.URL, more)
	for i, app := range apps {
		yaml += fmt.Sprintf("  - {name: shop%d, appid: %s, secret: %s}\n", i, app.AppID, app.Secret)
	}
	d := &doctor{Options: load(t, yaml)}
	if d.ConfigErr != nil {
		t.Fatal(d.ConfigErr)
	}
	d.network.Store(&networkState{reached: true})
	return d
}

func accounts(n int) []sandbox.App {
	apps := make([]sandbox.App, n)
	for i := range apps {
		apps[i] = sandbox.App{AppID: fmt.Sprintf("wx%016x", i+1), Secret: fmt.Sprintf("%032x", i+1)}
	}
	return apps
}

func newWeChat(t *testing.T, apps []sandbox.App) *sandbox.Server {
	t.Helper()
	wechat := sandbox.NewServer(sandbox.Options{Apps: apps})
	t.Cleanup(func() {
		if err := wechat.Close(); err != nil {
			t.Error(err)
		}
	})
	return wechat
}

const (
	whitelistMend   = "-> enter 203.0.113.9: developers.weixin.qq.com/platform (WeChat's developer platform), my services, the account, basic information, developer information, API IP whitelist; or mp.weixin.qq.com, basic configuration, IP whitelist. It takes some minutes\n"
	whitelistMendZh = "-> 填入 203.0.113.9：微信开发者平台（developers.weixin.qq.com/platform）- 我的业务 - 该帐号 - 基础信息 - 开发信息 - API IP 白名单；或 mp.weixin.qq.com - 设置与开发 - 基本配置 - IP白名单。几分钟后生效\n"
)

// What WeChat refuses a token with, in words and with the place where it is mended.
func TestErrcodes(t *testing.T) {
	apps := accounts(1)
	wechat := newWeChat(t, apps)
	for _, tt := range []struct {
		fault        sandbox.Fault
		en, zh       string
		seen, seenZh string
	}{
		{
			fault: sandbox.Fault{ErrCode: 40164, ErrMsg: "invalid ip 203.0.113.9 ipv6 ::ffff:203.0.113.9, not in whitelist rid: 6a1b2c3d-00000000-00000000"},
			en:    "fault: no token for shop0: errcode 40164, WeChat sees the address 203.0.113.9, which is not in the account's IP whitelist\n" + whitelistMend,
			zh:    "fault: shop0 取不到 token：errcode 40164，微信看到的地址是 203.0.113.9，不在帐号的 IP 白名单里\n" + whitelistMendZh,
			seen:  "ok: WeChat sees 203.0.113.9\n", seenZh: "ok: 微信看到的是 203.0.113.9\n",
		},
		{
			fault: sandbox.Fault{ErrCode: 40125},
			en:    "fault: no token for shop0: errcode 40125, the AppSecret is wrong\n-> copy it into wxproxy.yaml; WeChat does not show it again, so one that is lost has to be reset: developers.weixin.qq.com/platform, my services, the account, basic information, developer key\n",
			zh:    "fault: shop0 取不到 token：errcode 40125，AppSecret 不对\n-> 把它抄进 wxproxy.yaml；微信不再显示它，丢了只能重置：微信开发者平台（developers.weixin.qq.com/platform）- 我的业务 - 该帐号 - 基础信息 - 开发密钥\n",
		},
		{
			fault: sandbox.Fault{ErrCode: 40243},
			en:    "fault: no token for shop0: errcode 40243, the AppSecret is frozen\n-> unfreeze it: developers.weixin.qq.com/platform, my services, the account, basic information, developer key. It takes ten minutes, and the AppSecret stays the same\n",
			zh:    "fault: shop0 取不到 token：errcode 40243，AppSecret 已冻结\n-> 解冻：微信开发者平台（developers.weixin.qq.com/platform）- 我的业务 - 该帐号 - 基础信息 - 开发密钥。十分钟后生效，AppSecret 不变\n",
		},
		{
			fault: sandbox.Fault{ErrCode: 50004},
			en:    "fault: no token for shop0: errcode 50004, WeChat has blocked or restricted the account\n-> see the notices in mp.weixin.qq.com, and appeal there\n",
			zh:    "fault: shop0 取不到 token：errcode 50004，微信封禁或限制了这个帐号\n-> 看 mp.weixin.qq.com 里的通知，在那里申诉\n",
		},
		{
			fault: sandbox.Fault{ErrCode: 40013},
			en:    "fault: no token for shop0: errcode 40013, WeChat does not know the appid\n-> correct appid in wxproxy.yaml: wx and 16 of [0-9a-f], not the original id (gh_)\n",
			zh:    "fault: shop0 取不到 token：errcode 40013，微信不认识这个 appid\n-> 改正 wxproxy.yaml 里的 appid：wx 加 16 个 [0-9a-f]，不是原始ID（gh_）\n",
		},
		{
			fault: sandbox.Fault{ErrCode: 41004},
			en:    "fault: no token for shop0: errcode 41004, the AppSecret is missing\n-> set secret of the account in wxproxy.yaml, and see that its variable is not empty\n",
			zh:    "fault: shop0 取不到 token：errcode 41004，缺少 AppSecret\n-> 在 wxproxy.yaml 里给该帐号写 secret，并确认它的变量不是空的\n",
		},
		{
			fault: sandbox.Fault{ErrCode: 45009},
			en:    "fault: no token for shop0: errcode 45009, the day's token requests are used up\n-> find what else fetches tokens for this account, and have it ask the gateway; with token.endpoint: token change to stable_token, which has 500000 a day\n",
			zh:    "fault: shop0 取不到 token：errcode 45009，今天取 token 的次数已用完\n-> 找出还有什么在为这个帐号取 token，让它改问网关；token.endpoint 为 token 的改成 stable_token，每天有 500000 次\n",
		},
		{
			fault: sandbox.Fault{ErrCode: -1},
			en:    "warning: no token for shop0: errcode -1, WeChat is busy\n-> repeat it in some seconds\n",
			zh:    "warning: shop0 取不到 token：errcode -1，微信系统繁忙\n-> 几秒后再试\n",
		},
		{
			fault: sandbox.Fault{Status: 502},
			en:    "fault: no token for shop0: HTTP status 502: want 200\n-> see the check of the network, and repeat it\n",
		},
	} {
		t.Run(fmt.Sprint(tt.fault.ErrCode), func(t *testing.T) {
			tt.fault.Path, tt.fault.Times = "/cgi-bin/stable_token", -1
			o := wechat.Order(tt.fault)
			defer o.Cancel()
			d := examined(t, wechat, "", apps...)
			wantLines(t, d.lookAtTokens(t.Context()), tt.en, tt.zh)
			if tt.seen == "" {
				tt.seen = "skipped: not known: WeChat names it in a 40164, or to an account that has got a token\n"
			}
			wantLines(t, d.lookAtAddress(t.Context()), tt.seen, tt.seenZh)
		})
	}
}

// A fetch invalidates nothing: the token that is in use stays the one. Twenty accounts are looked at, or all.
func TestTokens(t *testing.T) {
	apps := accounts(25)
	wechat := newWeChat(t, apps)
	d := examined(t, wechat, "", apps...)
	wantLines(t, d.lookAtTokens(t.Context()), "note: accounts that have got a token: 20; 5 more were not looked at\n-> look at all: --all\n", "")
	before := wechat.Tokens("")
	d.All = true
	wantLines(t, d.lookAtTokens(t.Context()), "ok: WeChat issues tokens, accounts: 25\n", "ok: 微信给 25 个帐号都发了 token\n")
	wantLines(t, d.lookAtAddress(t.Context()), "ok: WeChat sees 127.0.0.1\n", "")
	if after := wechat.Tokens(""); len(before) != 20 || len(after) != 25 || strings.Join(after[:20], " ") != strings.Join(before, " ") {
		t.Errorf("%d tokens before, %d after: want the same 20 and 5 more", len(before), len(after))
	}
	wechat.Order(sandbox.Fault{Path: "/cgi-bin/stable_token", ErrCode: 40125, Times: -1})
	got := lines(words.English, d.lookAtTokens(t.Context()))
	if want := "fault: no token for shop0, shop1, shop2, shop3, shop4, 20 more: errcode 40125, "; !strings.HasPrefix(got, want) || strings.Count(got, "fault") != 1 {
		t.Errorf("got %q, want one finding of all: %q", got, want)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	wantLines(t, d.lookAtTokens(ended), "warning: accounts that have got a token: 0; there was no time for 25 more\n-> see the check of the network, and repeat it\n", "")
	d.network.Store(&networkState{})
	wantLines(t, d.lookAtTokens(t.Context()), "skipped: not fetched: WeChat cannot be reached, see network\n", "skipped: 没有去取：连不上微信，见 network\n")
}

// The old endpoint voids the token in use at each fetch: it is asked only where the user says so.
func TestOldEndpoint(t *testing.T) {
	apps := accounts(1)
	wechat := newWeChat(t, apps)
	d := examined(t, wechat, "token: {endpoint: token}\n", apps...)
	const skippedText = "skipped: not fetched: with token.endpoint: token that would invalidate the token in use, and no gateway has counted a fetch\n" +
		"-> fetch all the same: --fetch; or set token.endpoint: stable_token, of which a fetch invalidates nothing\n"
	wantLines(t, d.lookAtTokens(t.Context()), skippedText, "")
	counted := func(result string, n float64) metric {
		return metric{name: "wxproxy_token_refresh_total", labels: map[string]string{"app": "shop0", "result": result}, value: n}
	}
	d.gateway.Store(&gatewayState{metrics: map[string]metric{"a": counted("ok", 4), "b": counted("40164", 2)}})
	got := lines(words.English, d.lookAtTokens(t.Context()))
	if want := "warning: since the gateway's start, 2 times: no token for shop0: errcode 40164, this machine's address is not in the account's IP whitelist\n-> enter "; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	d.gateway.Store(&gatewayState{metrics: map[string]metric{"a": counted("ok", 4)}})
	wantLines(t, d.lookAtTokens(t.Context()), "ok: the gateway has fetched 4 tokens since its start, and none in vain\n", "")
	if n := wechat.Calls("", "/cgi-bin/token") + wechat.Calls("", "/cgi-bin/stable_token"); n != 0 {
		t.Errorf("%d token requests, want none without --fetch", n)
	}
	d.Fetch = true
	wantLines(t, d.lookAtTokens(t.Context()), "ok: WeChat issues tokens, accounts: 1\n", "")
	if n := wechat.Calls("", "/cgi-bin/token"); n != 1 {
		t.Errorf("%d token requests with --fetch, want 1", n)
	}
}

// Where WeChat does not tell the address, that is said, and nothing is made up.
func TestAddressUntold(t *testing.T) {
	apps := accounts(1)
	wechat := newWeChat(t, apps)
	d := examined(t, wechat, "", apps...)
	d.lookAtTokens(t.Context())
	wechat.Order(sandbox.Fault{Path: ridPath, Body: `{"errcode":76001,"errmsg":"rid not found"}`, Times: -1})
	wantLines(t, d.lookAtAddress(t.Context()),
		"skipped: WeChat did not tell it: the error has no rid. It issues tokens to this machine, so the address is in the whitelist\n", "")
}
