package sandbox

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// named are the calls that the project's notes name by verb and path (facts 1a, 1b and the newer
// official rows).
const named = `
POST /cgi-bin/menu/create
GET /cgi-bin/menu/get
GET /cgi-bin/menu/delete
POST /cgi-bin/groups/create
GET /cgi-bin/groups/get
POST /cgi-bin/groups/update
POST /cgi-bin/groups/members/update
POST /cgi-bin/media/upload
GET /cgi-bin/media/get
POST /cgi-bin/message/custom/send
POST /cgi-bin/message/mass/sendall
POST /cgi-bin/message/mass/send
POST /cgi-bin/media/uploadnews
POST /cgi-bin/message/mass/delete
POST /cgi-bin/qrcode/create
GET /cgi-bin/user/get
GET /cgi-bin/user/info
GET /sns/oauth2/access_token
GET /sns/oauth2/refresh_token
GET /sns/userinfo
POST /cgi-bin/user/info/updateremark
POST /cgi-bin/draft/add
POST /cgi-bin/draft/get
POST /cgi-bin/draft/delete
POST /cgi-bin/draft/update
GET /cgi-bin/draft/count
POST /cgi-bin/draft/batchget
POST /cgi-bin/freepublish/submit
POST /cgi-bin/freepublish/get
POST /cgi-bin/freepublish/delete
POST /cgi-bin/freepublish/getarticle
POST /cgi-bin/freepublish/batchget
GET /cgi-bin/token
POST /cgi-bin/token
POST /cgi-bin/stable_token
POST /cgi-bin/clear_quota
POST /cgi-bin/clear_quota/v2
POST /cgi-bin/openapi/quota/clear
POST /cgi-bin/openapi/quota/get
POST /cgi-bin/openapi/rid/get
GET /cgi-bin/getcallbackip
GET /cgi-bin/get_api_domain_ip
POST /cgi-bin/message/custom/typing
POST /cgi-bin/message/mass/preview
POST /cgi-bin/message/mass/get
POST /cgi-bin/message/mass/speed/get
POST /cgi-bin/message/mass/speed/set
POST /cgi-bin/media/uploadimg
POST /cgi-bin/media/uploadvideo
POST /cgi-bin/message/template/send
POST /cgi-bin/message/template/subscribe
POST /cgi-bin/message/subscribe/bizsend
POST /cgi-bin/tags/create
GET /cgi-bin/tags/get
POST /cgi-bin/tags/update
POST /cgi-bin/tags/delete
POST /cgi-bin/tags/getidlist
POST /cgi-bin/tags/members/batchtagging
POST /cgi-bin/tags/members/batchuntagging
POST /cgi-bin/tags/members/getblacklist
POST /cgi-bin/tags/members/batchblacklist
POST /cgi-bin/tags/members/batchunblacklist
GET /cgi-bin/user/tag/get
POST /cgi-bin/user/info/batchget
POST /cgi-bin/shorturl
POST /cgi-bin/shorten/gen
POST /cgi-bin/shorten/fetch
GET /cgi-bin/get_current_selfmenu_info
POST /cgi-bin/menu/addconditional
POST /cgi-bin/menu/delconditional
POST /cgi-bin/menu/trymatch
POST /cgi-bin/material/add_news
POST /cgi-bin/material/add_material
POST /cgi-bin/material/get_material
POST /cgi-bin/material/del_material
POST /cgi-bin/material/update_news
POST /cgi-bin/material/batchget_material
GET /cgi-bin/material/get_materialcount
GET /cgi-bin/media/get/jssdk
POST /semantic/semproxy/search
POST /customservice/msgrecord/getmsglist
POST /customservice/msgrecord/getrecord
POST /customservice/kfaccount/add
POST /customservice/kfaccount/update
POST /customservice/kfaccount/inviteworker
POST /customservice/kfaccount/uploadheadimg
POST /customservice/kfaccount/del
GET /cgi-bin/customservice/getkflist
GET /cgi-bin/customservice/getonlinekflist
POST /customservice/kfsession/create
POST /customservice/kfsession/close
GET /customservice/kfsession/getsession
GET /customservice/kfsession/getsessionlist
GET /customservice/kfsession/getwaitcase
GET /cgi-bin/ticket/getticket
POST /cgi-bin/template/api_set_industry
GET /cgi-bin/template/get_industry
POST /cgi-bin/template/api_add_template
GET /cgi-bin/template/get_all_private_template
POST /cgi-bin/template/del_private_template
POST /cgi-bin/component/api_component_token
POST /cgi-bin/component/api_query_auth
POST /cgi-bin/component/api_authorizer_token
GET /sns/auth
GET /sns/jscode2session
`

// families are the path families of facts 2d.
const families = "wxa wxaapi datacube card customservice merchant device shakearound bizwifi semantic scan cv " +
	"marketing publisher product shop channels tcb nontax intp xpay redpacketcover ilink sns cgi-bin"

func TestEveryNamedPathIsThere(t *testing.T) {
	s := New(Options{})
	for line := range strings.Lines(strings.TrimSpace(named)) {
		method, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		if a, ok := s.apis[path]; !ok {
			t.Errorf("%s is not in the table", path)
		} else if !a.allows(method) {
			t.Errorf("%s allows %q, want %s", path, a.methods, method)
		}
	}
	for family := range strings.FieldsSeq(families) {
		if !slices.ContainsFunc(apis(), func(a api) bool { return strings.HasPrefix(a.path, "/"+family+"/") }) {
			t.Errorf("no path below /%s/ is in the table", family)
		}
	}
	if rows := apis(); len(rows) != len(s.apis) {
		t.Errorf("%d rows, %d paths: one is there twice", len(rows), len(s.apis))
	}
	for _, a := range apis() {
		if a.path != canonical(a.path) {
			t.Errorf("%s is not spelled as %s", a.path, canonical(a.path))
		}
	}
}

// TestEveryRowAnswers calls each row that takes an account's token, rightly and wrongly.
func TestEveryRowAnswers(t *testing.T) {
	s := start(t, Options{})
	token := fetch(t, s, DefaultAppID)
	form := "--x\r\nContent-Disposition: form-data; name=\"media\"; filename=\"a.jpg\"\r\n\r\nbytes\r\n--x--\r\n"
	var up, add struct {
		ID string `json:"media_id"`
	}
	wantCode(t, "upload", callJSON(t, s, "POST", "/cgi-bin/media/upload?type=image&access_token="+token, form, &up), 0)
	bodies := map[string]string{
		"/cgi-bin/clear_quota":           `{"appid":"` + DefaultAppID + `"}`,
		"/cgi-bin/openapi/quota/get":     `{"cgi_path":"/cgi-bin/menu/get"}`,
		"/cgi-bin/openapi/quota/clear":   `{"cgi_path":"/cgi-bin/menu/get"}`,
		"/cgi-bin/user/info/batchget":    `{"user_list":[{"openid":"o1"}]}`,
		"/cgi-bin/material/del_material": "",
		"/cgi-bin/draft/delete":          "",
	}
	queries := map[string]string{
		"/cgi-bin/user/info":             "&openid=o1",
		"/cgi-bin/media/get":             "&media_id=" + up.ID,
		"/cgi-bin/media/get/jssdk":       "&media_id=" + up.ID,
		"/cgi-bin/media/upload":          "&type=image",
		"/cgi-bin/material/add_material": "&type=image",
		"/cgi-bin/ticket/getticket":      "&type=jsapi",
	}
	for _, a := range apis() {
		if a.shapeFirst || strings.HasPrefix(a.path, "/sns/") || strings.HasPrefix(a.path, "/cgi-bin/component/") {
			continue
		}
		t.Run(strings.TrimPrefix(a.path, "/"), func(t *testing.T) {
			target := a.path + "?access_token=" + token + queries[a.path]
			for method := range strings.SplitSeq(a.methods, " ") {
				body := ""
				if method == "POST" {
					body = "{}"
					if a.body == fileBody {
						body = form
					}
					if b := bodies[a.path]; b != "" {
						body = b
					}
					switch a.path {
					case "/cgi-bin/material/get_material", "/cgi-bin/material/del_material", "/cgi-bin/draft/get", "/cgi-bin/draft/delete":
						wantCode(t, "add", callJSON(t, s, "POST", "/cgi-bin/draft/add?access_token="+token, `{"articles":[]}`, &add), 0)
						body = fmt.Sprintf(`{"media_id":%q}`, add.ID)
					}
				}
				res, got := send(t, s, method, target, body)
				if res.StatusCode != 200 {
					t.Fatalf("%s: status %d", method, res.StatusCode)
				}
				if res.Header.Get("Content-Type") == "image/jpeg" {
					continue
				}
				if ct := res.Header.Get("Content-Type"); ct != jsonType {
					t.Errorf("%s: Content-Type = %q", method, ct)
				}
				var st status
				if err := json.Unmarshal(got, &st); err != nil {
					t.Fatalf("%s: answer %q: %v", method, got, err)
				}
				want := 0
				if a.path == "/cgi-bin/openapi/rid/get" {
					want = 76002 // none is named
				}
				wantCode(t, method+" "+string(got), st.Code, want)
			}
			if !a.allows("GET") {
				wantCode(t, "GET", callJSON(t, s, "GET", target, "", nil), 43002)
			}
			if !a.allows("POST") {
				wantCode(t, "POST", callJSON(t, s, "POST", target, "{}", nil), 43001)
			}
			if a.allows("POST") && a.body != anyBody {
				wantCode(t, "no body", callJSON(t, s, "POST", target, "", nil), 44002)
			}
			method, _, _ := strings.Cut(a.methods, " ")
			wantCode(t, "no token", callJSON(t, s, method, a.path, "{}", nil), 41001)
		})
	}
}

func TestMenuIsKept(t *testing.T) {
	s := start(t, Options{})
	q := "?access_token=" + fetch(t, s, DefaultAppID)
	menu := func() string {
		_, body := send(t, s, "GET", "/cgi-bin/menu/get"+q, "")
		return string(body)
	}
	wantCode(t, "create", callJSON(t, s, "POST", "/cgi-bin/menu/create"+q, `{"button":[{"name":"今日<歌曲>"}]}`, nil), 0)
	if got, want := menu(), `{"menu":{"button":[{"name":"今日<歌曲>"}]}}`; got != want {
		t.Errorf("menu = %s, want %s", got, want)
	}
	wantCode(t, "delete", callJSON(t, s, "GET", "/cgi-bin/menu/delete"+q, "", nil), 0)
	if got, want := menu(), `{"menu":{"button":[]}}`; got != want {
		t.Errorf("menu = %s, want %s", got, want)
	}
}

func TestUsers(t *testing.T) {
	s := start(t, Options{})
	q := "?access_token=" + fetch(t, s, DefaultAppID)
	type page struct {
		Total int `json:"total"`
		Count int `json:"count"`
		Data  struct {
			OpenIDs []string `json:"openid"`
		} `json:"data"`
		Next string `json:"next_openid"`
	}
	var all, rest, none page
	wantCode(t, "all", callJSON(t, s, "GET", "/cgi-bin/user/get"+q, "", &all), 0)
	if all.Total != followers || all.Count != followers || len(all.Data.OpenIDs) != followers || all.Next != all.Data.OpenIDs[followers-1] {
		t.Fatalf("user/get = %+v", all)
	}
	wantCode(t, "rest", callJSON(t, s, "GET", "/cgi-bin/user/get"+q+"&next_openid="+all.Data.OpenIDs[0], "", &rest), 0)
	if diff := cmp.Diff(all.Data.OpenIDs[1:], rest.Data.OpenIDs); diff != "" {
		t.Errorf("rest (-want +got):\n%s", diff)
	}
	wantCode(t, "none", callJSON(t, s, "GET", "/cgi-bin/user/get"+q+"&next_openid="+all.Next, "", &none), 0)
	if none.Count != 0 || none.Next != "" {
		t.Errorf("after the last = %+v, want nobody", none)
	}
	wantCode(t, "unknown", callJSON(t, s, "GET", "/cgi-bin/user/get"+q+"&next_openid=x", "", nil), 40003)

	var u user
	wantCode(t, "info", callJSON(t, s, "GET", "/cgi-bin/user/info"+q+"&openid=o1&lang=en", "", &u), 0)
	if u.OpenID != "o1" || u.Language != "en" || u.Subscribe != 1 || u.UnionID == "" {
		t.Errorf("user = %+v", u)
	}
	wantCode(t, "no openid", callJSON(t, s, "GET", "/cgi-bin/user/info"+q, "", nil), 41009)
	wantCode(t, "odd batch", callJSON(t, s, "POST", "/cgi-bin/user/info/batchget"+q, `{"user_list":1}`, nil), 47001)
	wantCode(t, "empty batch", callJSON(t, s, "POST", "/cgi-bin/user/info/batchget"+q, `{}`, nil), 40032)
	many := `{"user_list":[` + strings.Repeat(`{"openid":"o"},`, mostPerBatch) + `{"openid":"o"}]}`
	wantCode(t, "101", callJSON(t, s, "POST", "/cgi-bin/user/info/batchget"+q, many, nil), 40032)
}

func TestTickets(t *testing.T) {
	s := start(t, Options{})
	target := "/cgi-bin/ticket/getticket?access_token=" + fetch(t, s, DefaultAppID) + "&type="
	type answer struct {
		Ticket  string `json:"ticket"`
		Expires int    `json:"expires_in"`
	}
	var js, again, card answer
	wantCode(t, "jsapi", callJSON(t, s, "GET", target+"jsapi", "", &js), 0)
	wantCode(t, "jsapi", callJSON(t, s, "GET", target+"jsapi", "", &again), 0)
	wantCode(t, "wx_card", callJSON(t, s, "GET", target+"wx_card", "", &card), 0)
	if js.Ticket == "" || js != again || js.Expires != 7200 || card.Ticket == js.Ticket {
		t.Errorf("tickets = %+v, %+v, %+v; want two alike and one other", js, again, card)
	}
}

func TestQRCodeAndGroups(t *testing.T) {
	s := start(t, Options{})
	q := "?access_token=" + fetch(t, s, DefaultAppID)
	var code struct {
		Ticket  string `json:"ticket"`
		Expires int    `json:"expire_seconds"`
		URL     string `json:"url"`
	}
	wantCode(t, "qrcode", callJSON(t, s, "POST", "/cgi-bin/qrcode/create"+q, `{"expire_seconds":60,"action_name":"QR_SCENE"}`, &code), 0)
	if code.Ticket == "" || code.Expires != 60 || code.URL == "" {
		t.Errorf("qrcode = %+v", code)
	}
	wantCode(t, "odd qrcode", callJSON(t, s, "POST", "/cgi-bin/qrcode/create"+q, `[]`, nil), 47001)
	var made struct {
		Group struct {
			ID   int    `json:"id"`
			Name string `json:"name"`
		} `json:"group"`
	}
	wantCode(t, "group", callJSON(t, s, "POST", "/cgi-bin/groups/create"+q, `{"group":{"name":"test"}}`, &made), 0)
	if made.Group.ID == 0 || made.Group.Name != "test" {
		t.Errorf("group = %+v", made)
	}
}
