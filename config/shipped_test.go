package config

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"wxproxy/limits"
)

func TestShippedProfiles(t *testing.T) {
	table := shippedTable(t)
	want := []string{"current", "miniprogram", "production", "service", "subscription", "test", "unverified"}
	if got := sortedKeys(table.Profiles); !slices.Equal(got, want) {
		t.Errorf("profiles = %v, want %v", got, want)
	}
	if table.Zone.String() != "Asia/Shanghai" {
		t.Errorf("zone = %s, want Asia/Shanghai", table.Zone)
	}
	for name, p := range table.Profiles {
		rules, err := table.Rules(name, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.Title == name || p.Source == "" {
			t.Errorf("%s: title %q, source %q, want both", name, p.Title, p.Source)
		}
		for _, r := range rules.Rules {
			if r.Title == r.Name {
				t.Errorf("%s: rule %s has no title", name, r.Name)
			}
		}
		families := "cgi-bin wxa wxaapi datacube card customservice merchant device shakearound bizwifi semantic scan cv " +
			"marketing publisher product shop channels tcb nontax intp xpay redpacketcover ilink " +
			"union promoter retail cityservice user-order wedata donut wxadrama payfeedback"
		for family := range strings.FieldsSeq(families) {
			m := rules.Match("/" + family + "/no/such/path")
			wantName := "other"
			if name == "unverified" && (family == "card" || family == "merchant" || family == "device") {
				wantName = family
			}
			if m.Rule.Name != wantName || !m.Injects || !m.Family {
				t.Errorf("%s: /%s/no/such/path is in %s, want %s with the account's token", name, family, describe(m.Rule), wantName)
			}
		}
		if m := rules.Match("/pay/unifiedorder"); m.Rule.Name != "other" || m.Family {
			t.Errorf("%s: /pay/unifiedorder is in %s, want other and no family", name, describe(m.Rule))
		}
		// Calls that carry another proof than the account's token.
		none := "/cgi-bin/token /cgi-bin/stable_token /cgi-bin/component/api_component_token /cgi-bin/component/clear_quota/v2 " +
			"/componenttcb/batchgetenvid /wxa/gettemplatelist /wedata/wedata_get_login_config /sns/oauth2/access_token /sns/oauth2/refresh_token /sns/userinfo /sns/auth /sns/jscode2session /sns/component/jscode2session"
		for path := range strings.FieldsSeq(none) {
			if m := rules.Match(path); m.Injects || !m.Family {
				t.Errorf("%s: %s is in %s, want no token of the account", name, path, describe(m.Rule))
			}
		}
		if r := rules.Match("/cgi-bin/clear_quota").Rule; r != rules.Match("/cgi-bin/clear_quota/v2").Rule {
			t.Errorf("%s: clear_quota and clear_quota/v2 are counted apart", name)
		}
	}
}

func TestShippedRules(t *testing.T) {
	// A path's rule and budget, in production unless a line begins with another profile.
	const want = `
/cgi-bin/token                             token                     2000/day
/cgi-bin/menu/create                       menu.create               1000/day
/cgi-bin/menu/get                          menu.get                  10000/day
/cgi-bin/menu/delete                       menu.delete               1000/day
/cgi-bin/groups/create                     groups.create             1000/day
/cgi-bin/groups/get                        groups.get                1000/day
/cgi-bin/groups/update                     groups.update             1000/day
/cgi-bin/groups/members/update             groups.members.update     100000/day
/cgi-bin/media/upload                      media.upload              5000/day
/cgi-bin/media/get                         media.get                 10000/day
/cgi-bin/message/custom/send               message.custom.send       500000/day
/cgi-bin/message/mass/sendall              message.mass.send         100/day
/cgi-bin/message/mass/send                 message.mass.send         100/day
/cgi-bin/media/uploadnews                  media.uploadnews          10/day
/cgi-bin/message/mass/delete               message.mass.delete       10/day
/cgi-bin/qrcode/create                     qrcode.create             100000/day
/cgi-bin/user/get                          user.get                  500/day
/cgi-bin/user/info                         user.info                 5000000/day
/sns/oauth2/access_token                   oauth.access_token        unlimited
/sns/oauth2/refresh_token                  oauth.refresh_token       unlimited
/sns/userinfo                              oauth.userinfo            unlimited
/cgi-bin/user/info/updateremark            user.info.updateremark    10000/day
/cgi-bin/stable_token                      stable_token              500000/day
/cgi-bin/clear_quota                       clear_quota               10/month
/cgi-bin/clear_quota/v2                    clear_quota               10/month
/cgi-bin/openapi/quota/clear               quota.clear               50/month
/cgi-bin/openapi/quota/get                 quota.get                 unknown
/cgi-bin/openapi/rid/get                   rid.get                   unknown
/cgi-bin/getcallbackip                     getcallbackip             unknown
/cgi-bin/get_api_domain_ip                 get_api_domain_ip         unknown
/cgi-bin/message/custom/typing             message.custom.typing     unknown
/cgi-bin/message/mass/preview              message.mass              unknown
/cgi-bin/message/mass/get                  message.mass              unknown
/cgi-bin/message/mass/speed/get            message.mass              unknown
/cgi-bin/message/mass/speed/set            message.mass              unknown
/cgi-bin/media/uploadimg                   media.uploadimg           unknown
/cgi-bin/media/uploadvideo                 media.uploadvideo         unknown
/cgi-bin/message/template/send             message.template.send     unknown
/cgi-bin/message/template/subscribe        message.template.subscribe unknown
/cgi-bin/message/subscribe/bizsend         message.subscribe.bizsend unknown
/wxaapi/newtmpl/gettemplate                wxaapi.newtmpl            unknown
/cgi-bin/groups/members/batchupdate        groups                    unknown
/cgi-bin/tags/create                       tags                      unknown
/cgi-bin/tags/members/batchtagging         tags                      unknown
/cgi-bin/tags/members/batchunblacklist     tags                      unknown
/cgi-bin/user/tag/get                      user.tag.get              unknown
/cgi-bin/user/info/batchget                user.info.batchget        unknown
/cgi-bin/shorturl                          shorturl                  unknown
/cgi-bin/shorten/gen                       shorten                   unknown
/cgi-bin/shorten/fetch                     shorten                   unknown
/cgi-bin/get_current_selfmenu_info         get_current_selfmenu_info unknown
/cgi-bin/menu/addconditional               menu.addconditional       unknown
/cgi-bin/menu/delconditional               menu.delconditional       unknown
/cgi-bin/menu/trymatch                     menu.trymatch             unknown
/cgi-bin/material/add_news                 material                  unknown
/cgi-bin/material/add_material             material                  unknown
/cgi-bin/material/get_material             material                  unknown
/cgi-bin/material/del_material             material                  unknown
/cgi-bin/material/update_news              material                  unknown
/cgi-bin/material/batchget_material        material                  unknown
/cgi-bin/material/get_materialcount        material                  unknown
/cgi-bin/media/get/jssdk                   media.get.jssdk           unknown
/semantic/semproxy/search                  semantic.semproxy.search  unknown
/customservice/msgrecord/getmsglist        customservice.msgrecord   unknown
/customservice/msgrecord/getrecord         customservice.msgrecord   unknown
/customservice/kfaccount/add               customservice.kfaccount   unknown
/customservice/kfaccount/uploadheadimg     customservice.kfaccount   unknown
/customservice/kfaccount/del               customservice.kfaccount   unknown
/cgi-bin/customservice/getkflist           customservice.kfaccount   unknown
/cgi-bin/customservice/getonlinekflist     customservice.kfaccount   unknown
/customservice/kfsession/create            customservice.kfsession   unknown
/customservice/kfsession/close             customservice.kfsession   unknown
/customservice/kfsession/getwaitcase       customservice.kfsession   unknown
/merchant/create                           other                     unknown
/card/create                               other                     unknown
/device/transmsg                           other                     unknown
/cgi-bin/ticket/getticket                  ticket.getticket          unknown
/cgi-bin/template/api_set_industry         template                  unknown
/cgi-bin/template/get_all_private_template template                  unknown
/datacube/getarticletotal                  other                     unknown
/cgi-bin/draft/add                         other                     unknown
/cgi-bin/component/api_query_auth          other.component           unknown
/sns/auth                                  other.sns                 unknown
test /cgi-bin/stable_token                 stable_token              unknown
test /cgi-bin/clear_quota                  clear_quota               10/month
test /cgi-bin/message/mass/sendall         message.mass.send         unknown
test /cgi-bin/media/get                    media.get                 1000/day
current /cgi-bin/media/upload              media.upload              100000/day
current /cgi-bin/media/get                 media.get                 200000/day
current /cgi-bin/menu/create               menu.create               1000/day
current /cgi-bin/message/template/send     message.template.send     100000/day
current /cgi-bin/message/mass/preview      message.mass.preview      100/day
current /cgi-bin/message/mass/get          message.mass              unknown
current /wxa/msg_sec_check                 wxa.msg_sec_check         2000000/day
current /wxa/media_check_async             wxa.media_check_async     200000/day
current /wxa/img_sec_check                 wxa.img_sec_check         200000/day
current /wxa/getwxacodeunlimit             wxa.getwxacodeunlimit     unknown
miniprogram /wxa/msg_sec_check             wxa.msg_sec_check         2000000/day
miniprogram /wxa/media_check_async         wxa.media_check_async     200000/day
miniprogram /wxa/img_sec_check             wxa.img_sec_check         200000/day
miniprogram /wxa/getwxacodeunlimit         wxa.getwxacodeunlimit     unknown
miniprogram /wxa/getwxacode                other                     unknown
current /cgi-bin/draft/add                 draft.add                 1000/day
current /cgi-bin/draft/get                 draft.get                 500/day
current /cgi-bin/draft/delete              draft.delete              1000/day
current /cgi-bin/draft/update              draft.update              1000/day
current /cgi-bin/draft/count               draft.count               1000/day
current /cgi-bin/draft/batchget            draft.batchget            1000/day
current /cgi-bin/freepublish/submit        freepublish.submit        100/day
current /cgi-bin/freepublish/get           freepublish.get           100/day
current /cgi-bin/freepublish/delete        freepublish.delete        10/day
current /cgi-bin/freepublish/getarticle    freepublish.getarticle    100/day
current /cgi-bin/freepublish/batchget      freepublish.batchget      100/day
current /cgi-bin/stable_token              stable_token              500000/day
unverified /cgi-bin/token                  token                     2000/day
unverified /cgi-bin/ticket/getticket       ticket.getticket          1000000/day
unverified /cgi-bin/media/uploadimg        media.uploadimg           unknown
unverified /sns/auth                       other.sns                 unknown
service /cgi-bin/message/mass/send         message.mass.send         4/month
subscription /cgi-bin/message/mass/sendall message.mass.send         1/day
`
	table := shippedTable(t)
	for line := range strings.Lines(want) {
		fields := strings.Fields(line)
		profile := "production"
		if len(fields) == 4 {
			profile, fields = fields[0], fields[1:]
		}
		if len(fields) != 3 {
			continue
		}
		rules, err := table.Rules(profile, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := rules.Match(fields[0]).Rule
		if r == nil || r.Name != fields[1] || r.Budget.String() != fields[2] {
			t.Errorf("%s: %s is in %s, want %s: %s", profile, fields[0], describe(r), fields[1], fields[2])
		}
	}
	minutes := map[string]string{
		"wxa.msg_sec_check": "4000/minute", "wxa.media_check_async": "2000/minute", "wxa.img_sec_check": "2000/minute",
		"wxa.getwxacodeunlimit": "5000/minute",
	}
	for _, p := range table.Profiles {
		for _, r := range p.Rules {
			shadow := r.Name == "message.mass.send" && (p.Name == "service" || p.Name == "subscription")
			if r.Shadow != shadow {
				t.Errorf("%s: rule %s: shadow %t, want %t", p.Name, r.Name, r.Shadow, shadow)
			}
			pace := minutes[r.Name]
			if p.Name == "current" && r.Name == "stable_token" {
				pace = "10000/minute"
			}
			if r.Pace.String() != pace {
				t.Errorf("%s: rule %s: pace %q, want %q", p.Name, r.Name, r.Pace, pace)
			}
			if p.Name == "miniprogram" && r.Budget.Kind != limits.Unknown && minutes[r.Name] == "" {
				t.Errorf("miniprogram: rule %s: %s, want unknown", r.Name, r.Budget)
			}
		}
	}
}

// sourceKinds begin every source of a rule: limits.yaml explains them.
var sourceKinds = []string{"seed ", "seeds ", "官方", "后台", "社区", "SDK"}

// TestShippedSources: every rule says where its figure comes from. One that says nothing has its
// figure from the table that its profile names.
func TestShippedSources(t *testing.T) {
	rows := make(map[string]bool) // titles of the tables that a profile names as a whole
	for _, table := range htmlTables(readSeed(t, seedHTML)) {
		for _, row := range table {
			rows[row.title] = true
		}
	}
	for _, p := range shippedTable(t).Profiles {
		for _, r := range p.Rules {
			whole := rows[r.Title] || p.Name == "miniprogram" || p.Name == "current" && (r.Category == "草稿箱" || r.Category == "发布能力")
			known := slices.ContainsFunc(sourceKinds, func(kind string) bool { return strings.HasPrefix(r.Source, kind) })
			if r.Source == "" && !whole || r.Source != "" && !known {
				t.Errorf("%s: rule %s: source %q, want one of %q at its beginning", p.Name, r.Name, r.Source, sourceKinds)
			}
		}
	}
}

// TestShippedMonths: a clear starts the day over and leaves the month alone. So every API that
// WeChat limits can be cleared if no figure of a table but the clears' own is a month's.
func TestShippedMonths(t *testing.T) {
	for _, p := range shippedTable(t).Profiles {
		for _, r := range p.Rules {
			monthly := slices.ContainsFunc(r.Budget.Quotas, func(q limits.Quota) bool { return q.Period == limits.Month })
			clears := r.Name == "clear_quota" || r.Name == "quota.clear"
			masses := p.Name == "service" && r.Name == "message.mass.send" && r.Shadow
			if monthly && !clears && !masses {
				t.Errorf("%s: rule %s: %s: a clear would not clear it", p.Name, r.Name, r.Budget)
			}
		}
	}
}

// shippedDigest is of what a user's own file is compared with, at shippedRevision.
const (
	shippedRevision = "2026-11-29"
	shippedDigest   = "bca11b3d50ea3b81"
)

// TestShippedRevision fails when a rule has changed and the revision has not.
func TestShippedRevision(t *testing.T) {
	table, text := shippedTable(t), ""
	for _, name := range sortedKeys(table.Profiles) {
		for _, r := range table.Profiles[name].Rules {
			text += fmt.Sprintln(name, r.Name, folded(r.Paths), r.Budget, r.Pace, r.Inject, r.Shadow)
		}
	}
	digest := fmt.Sprintf("%.8x", sha256.Sum256([]byte(text)))
	if revision := revisionOf(t, shippedYAML(t)); revision != shippedRevision || digest != shippedDigest {
		t.Errorf("limits.yaml has revision %s and digest %s, want %s and %s: rules that change need a newer revision, and both of them here",
			revision, digest, shippedRevision, shippedDigest)
	}
}
