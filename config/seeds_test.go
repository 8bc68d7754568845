package config

import (
	"fmt"
	"html"
	"os"
	"regexp"
	"strings"
	"testing"

	"wxproxy/limits"
)

// The seeds are the documents that the tables come from, word for word.
const (
	seedHTML    = "../testdata/seeds/000_124e833b49e77331.txt"
	seedText    = "../testdata/seeds/001_706075acfbe653c1.txt"
	seedConsole = "../testdata/seeds/002_8949a0ddcf2da2d8.txt"
)

// seedRow is a row of a seed's table.
type seedRow struct{ title, figure string }

func readSeed(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// htmlTables returns the tables of seed 000, each without its heading.
func htmlTables(text string) [][]seedRow {
	var tables [][]seedRow
	row := regexp.MustCompile(`<tr><td>([^<]*)</td><td>([^<]*)</td></tr>`)
	for _, table := range regexp.MustCompile(`<table.*?</table>`).FindAllString(text, -1) {
		var rows []seedRow
		for _, m := range row.FindAllStringSubmatch(table, -1) {
			rows = append(rows, seedRow{strings.TrimSpace(html.UnescapeString(m[1])), strings.TrimSpace(m[2])})
		}
		tables = append(tables, rows)
	}
	return tables
}

// textTables returns the tables of seed 001: lines after a heading until a blank line.
func textTables(text string) [][]seedRow {
	var tables [][]seedRow
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "接口 每日限额":
			inside = true
			tables = append(tables, nil)
		case line == "":
			inside = false
		case inside:
			title, figure, _ := strings.Cut(line, " ")
			last := &tables[len(tables)-1]
			*last = append(*last, seedRow{title, figure})
		}
	}
	return tables
}

// byTitle finds the rule of a seed's row: by its title, or by another title that the source notes.
func byTitle(p *limits.Profile, title string) *limits.Rule {
	for _, r := range p.Rules {
		if r.Title == title || strings.HasSuffix(r.Source, " "+title) {
			return r
		}
	}
	return nil
}

// TestShippedHoldsTheSeeds compares the shipped tables with both seeds, row by row.
func TestShippedHoldsTheSeeds(t *testing.T) {
	table := shippedTable(t)
	for _, seed := range []struct {
		name   string
		tables [][]seedRow
		none   string // how the seed writes that there is no limit
	}{
		{"000", htmlTables(readSeed(t, seedHTML)), "无"},
		{"001", textTables(readSeed(t, seedText)), ""},
	} {
		if len(seed.tables) != 2 {
			t.Fatalf("seed %s: %d tables, want 2", seed.name, len(seed.tables))
		}
		for i, of := range []struct {
			profile string
			rows    int
		}{{"production", 21}, {"test", 17}} {
			t.Run(seed.name+"/"+of.profile, func(t *testing.T) {
				rows := seed.tables[i]
				if len(rows) != of.rows {
					t.Errorf("%d rows in the seed, want %d", len(rows), of.rows)
				}
				used := make(map[string]bool)
				for _, row := range rows {
					r := byTitle(table.Profiles[of.profile], row.title)
					if r == nil {
						t.Errorf("%s: no such rule", row.title)
						continue
					}
					want := row.figure + "/day"
					if row.figure == seed.none {
						want = "unlimited"
					}
					if got := r.Budget.String(); got != want {
						t.Errorf("%s: rule %s has %s, want %s", row.title, r.Name, got, want)
					}
					if used[r.Name] {
						t.Errorf("%s: rule %s stands for another row too", row.title, r.Name)
					}
					used[r.Name] = true
				}
				if of.profile == "test" { // what the seed's other table has and this one lacks
					for _, row := range seed.tables[0] {
						r := byTitle(table.Profiles["test"], row.title)
						if r == nil || !used[r.Name] && r.Budget.Kind != limits.Unknown {
							t.Errorf("%s: rule %v of the test account, want unknown", row.title, r)
						}
					}
				}
			})
		}
	}
}

// consoleRow is a row of seed 002.
type consoleRow struct{ title, cap, state string }

// consoleRows reads the table of seed 002. Its columns have slipped, so that a cell is known by
// what it holds.
func consoleRows(text string) []consoleRow {
	link := regexp.MustCompile(`\[([^\]]+)\]\(http[^)]*\)`)
	var rows []consoleRow
	for line := range strings.Lines(text) {
		m := link.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		row := consoleRow{title: m[1]}
		for cell := range strings.SplitSeq(line, "|") {
			switch cell = strings.TrimSpace(cell); {
			case cell == "已获得" || cell == "未获得":
				row.state = cell
			case cell == "无上限" || cell == "详情" || strings.HasPrefix(cell, "0/"):
				row.cap = cell
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// consolePaths holds the rows of seed 002 that are calls to api.weixin.qq.com.
var consolePaths = map[string]string{
	"获取access_token": "/cgi-bin/token",
	"获取微信服务器IP地址":    "/cgi-bin/getcallbackip",
	"客服接口":           "/cgi-bin/message/custom/send /cgi-bin/message/custom/typing",
	"群发接口": "/cgi-bin/message/mass/sendall /cgi-bin/message/mass/send /cgi-bin/message/mass/preview /cgi-bin/message/mass/delete " +
		"/cgi-bin/message/mass/get /cgi-bin/message/mass/speed/get /cgi-bin/message/mass/speed/set /cgi-bin/media/uploadnews /cgi-bin/media/uploadvideo",
	"模版消息（业务通知）": "/cgi-bin/message/template/send",
	"一次性订阅消息":    "/cgi-bin/message/template/subscribe",
	"用户分组管理": "/cgi-bin/groups/create /cgi-bin/groups/get /cgi-bin/groups/getid /cgi-bin/groups/update /cgi-bin/groups/members/update /cgi-bin/groups/members/batchupdate " +
		"/cgi-bin/groups/delete /cgi-bin/tags/create /cgi-bin/tags/get /cgi-bin/tags/update /cgi-bin/tags/delete /cgi-bin/tags/getidlist " +
		"/cgi-bin/tags/members/batchtagging /cgi-bin/tags/members/getblacklist /cgi-bin/user/tag/get",
	"设置用户备注名":        "/cgi-bin/user/info/updateremark",
	"获取用户基本信息":       "/cgi-bin/user/info /cgi-bin/user/info/batchget",
	"获取用户列表":         "/cgi-bin/user/get",
	"生成带参数的二维码":      "/cgi-bin/qrcode/create",
	"长链接转短链接接口":      "/cgi-bin/shorturl",
	"自定义菜单":          "/cgi-bin/menu/create /cgi-bin/menu/get /cgi-bin/menu/delete /cgi-bin/get_current_selfmenu_info",
	"个性化菜单":          "/cgi-bin/menu/addconditional /cgi-bin/menu/delconditional /cgi-bin/menu/trymatch",
	"永久素材管理接口":       "/cgi-bin/material/add_news /cgi-bin/material/get_material /cgi-bin/material/get_materialcount",
	"临时素材管理接口":       "/cgi-bin/media/upload /cgi-bin/media/get /cgi-bin/media/get/jssdk",
	"语义理解接口":         "/semantic/semproxy/search",
	"获取客服聊天记录":       "/customservice/msgrecord/getmsglist /customservice/msgrecord/getrecord",
	"客服管理":           "/customservice/kfaccount/add /customservice/kfaccount/del /cgi-bin/customservice/getkflist /cgi-bin/customservice/getonlinekflist",
	"会话控制":           "/customservice/kfsession/create /customservice/kfsession/getwaitcase",
	"微信小店接口":         "/merchant/create /merchant/order/getbyid",
	"微信卡包接口":         "/card/create /card/code/consume",
	"设备功能接口":         "/device/transmsg /device/bind",
	"网页授权获取用户基本信息":   "/sns/oauth2/access_token /sns/oauth2/refresh_token /sns/userinfo",
	"获取jsapi_ticket": "/cgi-bin/ticket/getticket",
}

// consoleSource begins the source of a rule that stands for a row of seed 002; its title follows.
const consoleSource = "seed 002 "

// uncalled returns the rows of seed 002 that limits.yaml lists in a comment because they are no
// calls, each with its cap or state there.
func uncalled(t *testing.T, text string) map[string]string {
	t.Helper()
	_, text, ok := strings.Cut(text, "其余 40 行没有路径")
	text, _, end := strings.Cut(text, "# ====")
	if !ok || !end {
		t.Fatal("limits.yaml has no list of the rows of seed 002 that are no calls")
	}
	rows := make(map[string]string)
	state := ""
	for line := range strings.Lines(text) {
		line = strings.Trim(line, " #\n")
		for _, s := range []string{"无上限", "未获得"} {
			if _, after, ok := strings.Cut(line, "，"+s+"："); ok {
				state, line = s, after
			}
		}
		for title := range strings.SplitSeq(line, "、") {
			if title != "" && state != "" {
				rows[title] = state
			}
		}
	}
	return rows
}

// TestShippedHoldsTheConsole compares seed 002 with the profile of an unverified account: calls
// by their rules, all else by its name in the comment that lists it, and by there being no rule.
func TestShippedHoldsTheConsole(t *testing.T) {
	table, listed := shippedTable(t), uncalled(t, string(shippedYAML(t)))
	rules, err := table.Rules("unverified", nil)
	if err != nil {
		t.Fatal(err)
	}
	rows := consoleRows(readSeed(t, seedConsole))
	if len(rows) != 65 {
		t.Errorf("%d rows in the seed, want 65", len(rows))
	}
	calls := 0
	for _, row := range rows {
		paths, ok := consolePaths[row.title]
		if !ok {
			want := row.state
			if row.cap == "无上限" {
				want = row.cap
			}
			if want != "无上限" && want != "未获得" || listed[row.title] != want {
				t.Errorf("%s (%s, %s): no call, and limits.yaml lists it as %q", row.title, row.cap, row.state, listed[row.title])
			}
			for _, r := range rules.Rules {
				if r.Title == row.title || r.Source == consoleSource+row.title {
					t.Errorf("%s: no call, and rule %s stands for it", row.title, r.Name)
				}
			}
			delete(listed, row.title)
			continue
		}
		calls++
		want := "unknown"
		if figure, ok := strings.CutPrefix(row.cap, "0/"); ok {
			want = figure + "/day"
		}
		if row.state == "未获得" {
			want = "denied"
		}
		for path := range strings.FieldsSeq(paths) {
			r := rules.Match(path).Rule
			if r == nil || r.Budget.String() != want || r.Source != consoleSource+row.title {
				t.Errorf("%s: %s is in %s, want %s with source %s", row.title, path, describe(r), want, consoleSource+row.title)
			}
		}
	}
	if calls != len(consolePaths) {
		t.Errorf("%d rows of the seed are calls, want %d", calls, len(consolePaths))
	}
	for title := range listed {
		t.Errorf("limits.yaml lists %s, which is no row of the seed", title)
	}
	for _, r := range rules.Rules {
		if title := strings.TrimPrefix(r.Source, consoleSource); r.Budget.Kind == limits.Denied && consolePaths[title] == "" {
			t.Errorf("rule %s is denied and %q is no row of the seed", r.Name, r.Source)
		}
	}
}

func describe(r *limits.Rule) string {
	if r == nil {
		return "no rule"
	}
	return fmt.Sprintf("rule %s: %s, inject %s, shadow %t, source %q", r.Name, r.Budget, r.Inject, r.Shadow, r.Source)
}
