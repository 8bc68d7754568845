package sandbox

import (
	"encoding/json"
	"strconv"
	"time"
)

// The answers that depend on the call or on what was called before. What a call never reads in a
// real account, such as a menu's buttons, is kept as it came.

const (
	followers    = 3   // how many users follow an app
	mostPerBatch = 100 // openids in one user/info/batchget (facts 3)
	ticketLife   = 7200 * time.Second
)

// ticket is a jsapi_ticket or one for cards.
type ticket struct {
	text    string
	expires time.Time
}

func createMenu(c *call) reply {
	c.app.menu = c.body
	return ok(c)
}

func getMenu(c *call) reply {
	menu := json.RawMessage(c.app.menu)
	if menu == nil {
		menu = json.RawMessage(`{"button":[]}`)
	}
	return c.json(map[string]any{"menu": menu})
}

func deleteMenu(c *call) reply {
	c.app.menu = nil
	return ok(c)
}

// created answers the creation of a group or a tag: its number and the name that was asked for.
func created(what string) answer {
	return func(c *call) reply {
		var in map[string]struct {
			Name string `json:"name"`
		}
		_ = c.decode(&in) // another shape: the name stays empty
		return c.json(map[string]any{what: map[string]any{"id": 99 + c.s.next(), "name": in[what].Name}})
	}
}

// follower returns the openid of an app's nth follower.
func follower(a *app, n int) string { return openidOf(a, "follower "+strconv.Itoa(n)) }

// listUsers answers user/get. The last page too names a next_openid (facts 3).
func listUsers(c *call) reply {
	var out struct {
		Total int `json:"total"`
		Count int `json:"count"`
		Data  *struct {
			OpenIDs []string `json:"openid"`
		} `json:"data,omitempty"`
		Next string `json:"next_openid"`
	}
	out.Total = followers
	var page []string
	after := c.query.Get("next_openid")
	found := after == ""
	for n := range followers {
		openid := follower(c.app, n)
		if found {
			page = append(page, openid)
		}
		found = found || openid == after
	}
	if !found {
		return c.fail(40003)
	}
	out.Count = len(page)
	if len(page) > 0 {
		out.Data = &struct {
			OpenIDs []string `json:"openid"`
		}{page}
		out.Next = page[len(page)-1]
	}
	return c.json(out)
}

// user is what user/info returns for a follower. It no longer returns name and picture.
type user struct {
	Subscribe   int    `json:"subscribe"`
	OpenID      string `json:"openid"`
	Language    string `json:"language"`
	Subscribed  int64  `json:"subscribe_time"`
	UnionID     string `json:"unionid"`
	Remark      string `json:"remark"`
	Group       int    `json:"groupid"`
	Tags        []int  `json:"tagid_list"`
	Scene       string `json:"subscribe_scene"`
	CodeScene   int    `json:"qr_scene"`
	CodeSceneID string `json:"qr_scene_str"`
}

// user answers for any openid: everybody follows.
func (c *call) user(openid, language string) user {
	if language == "" {
		language = "zh_CN"
	}
	return user{
		Subscribe: 1, OpenID: openid, Language: language, Subscribed: 1382694957,
		UnionID: openidOf(c.app, "union "+openid), Tags: []int{}, Scene: "ADD_SCENE_QR_CODE",
	}
}

func getUser(c *call) reply {
	openid := c.query.Get("openid")
	if openid == "" {
		return c.fail(41009)
	}
	if openid == "undefined" || openid == "null" { // what a program sends that has none
		return c.fail(40003)
	}
	return c.json(c.user(openid, c.query.Get("lang")))
}

func getUsers(c *call) reply {
	var in struct {
		Users []struct {
			OpenID   string `json:"openid"`
			Language string `json:"lang"`
		} `json:"user_list"`
	}
	if c.decode(&in) != nil {
		return c.fail(47001)
	}
	if len(in.Users) == 0 || len(in.Users) > mostPerBatch {
		return c.fail(40032)
	}
	users := make([]user, len(in.Users))
	for i, u := range in.Users {
		users[i] = c.user(u.OpenID, u.Language)
	}
	return c.json(map[string]any{"user_info_list": users})
}

func massSent(c *call) reply {
	id := 1000000000 + c.s.next()
	return c.json(struct {
		status
		Message int64 `json:"msg_id"`
		Data    int64 `json:"msg_data_id"`
	}{status{Message: "send job submission success"}, id, id})
}

func templateSent(c *call) reply {
	return c.json(struct {
		status
		ID int64 `json:"msgid"`
	}{status{Message: "ok"}, 200000000000000000 + c.s.next()})
}

func submitted(c *call) reply {
	id := 100000000 + c.s.next()
	return c.json(struct {
		status
		Publish string `json:"publish_id"`
		Data    int64  `json:"msg_data_id"`
	}{status{Message: "ok"}, strconv.FormatInt(id, 10), id})
}

func createCode(c *call) reply {
	var in struct {
		ExpireSeconds int64 `json:"expire_seconds"`
	}
	if c.decode(&in) != nil {
		return c.fail(47001)
	}
	return c.json(struct {
		Ticket        string `json:"ticket"`
		ExpireSeconds int64  `json:"expire_seconds,omitempty"`
		URL           string `json:"url"`
	}{random(60), in.ExpireSeconds, "http://weixin.qq.com/q/" + random(12)})
}

// getTicket answers ticket/getticket: the same ticket of a type until it ends.
func getTicket(c *call) reply {
	kind := c.query.Get("type")
	t := c.app.tickets[kind]
	if !c.now.Before(t.expires) {
		t = ticket{text: random(64), expires: c.now.Add(ticketLife)}
		c.app.tickets[kind] = t
	}
	return c.json(struct {
		status
		Ticket         string `json:"ticket"`
		ExpiresSeconds int64  `json:"expires_in"`
	}{status{Message: "ok"}, t.text, int64(t.expires.Sub(c.now) / time.Second)})
}

// picture answers with the beginning and the end of a JPEG.
func picture(*call) reply {
	return reply{contentType: "image/jpeg", body: []byte("\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xd9")}
}
