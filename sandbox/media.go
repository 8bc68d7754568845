package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"time"
)

const (
	mediaLife = 3 * 24 * time.Hour // of temporary media (facts 4)
	// mostMedia and mostMediaBytes bound what the sandbox keeps; the oldest goes first.
	mostMedia      = 1000
	mostMediaBytes = 256 << 20
)

// medium is one uploaded file, or permanent news as JSON.
type medium struct {
	id        string
	app       *app
	kind      string // image, voice, video, thumb, news
	body      []byte
	created   time.Time
	permanent bool
}

// mediaStore keeps what was uploaded. It is covered by Sandbox.mu.
type mediaStore struct {
	byID  map[string]*medium
	order []*medium // the oldest first
	bytes int
}

func (m *mediaStore) put(x *medium) {
	m.byID[x.id] = x
	m.order = append(m.order, x)
	m.bytes += len(x.body)
	for len(m.order) > mostMedia || m.bytes > mostMediaBytes && len(m.order) > 1 {
		oldest := m.order[0]
		m.order = m.order[1:]
		m.bytes -= len(oldest.body)
		delete(m.byID, oldest.id)
	}
}

// medium finds a file of the calling app, nil if there is none or it is of the other sort.
func (c *call) medium(id string, permanent bool) *medium {
	x, ok := c.s.media.byID[id]
	if !ok || x.app != c.app || x.permanent != permanent {
		return nil
	}
	if !permanent && c.now.Sub(x.created) > mediaLife {
		return nil
	}
	return x
}

func (c *call) store(kind string, body []byte, permanent bool) *medium {
	x := &medium{id: random(48), app: c.app, kind: kind, body: body, created: c.now, permanent: permanent}
	c.s.media.put(x)
	return x
}

// errNoFile is the error of a form without a part "media" with a file name.
var errNoFile = errors.New("no part media with a file name")

// upload reads the part "media" and the field "type" of a multipart form. The boundary may be
// missing from the Content-Type (facts 4b): then it is the body's first line.
func (c *call) upload() (file []byte, kind string, err error) {
	_, params, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	boundary := params["boundary"]
	if boundary == "" {
		line, _, _ := bytes.Cut(c.body, []byte("\r\n"))
		boundary = strings.TrimPrefix(string(line), "--")
	}
	if boundary == "" {
		return nil, "", errNoFile
	}
	kind = c.query.Get("type")
	form := multipart.NewReader(bytes.NewReader(c.body), boundary)
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, "", err
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return nil, "", err
		}
		switch {
		case part.FormName() == "media" && part.FileName() != "":
			file = content
		case part.FormName() == "type" && kind == "":
			kind = string(content)
		}
	}
	if file == nil {
		return nil, "", errNoFile
	}
	return file, kind, nil
}

func isMediaKind(kind string) bool {
	switch kind {
	case "image", "voice", "video", "thumb":
		return true
	}
	return false
}

// uploadMedia answers media/upload.
func uploadMedia(c *call) reply {
	file, kind, err := c.upload()
	if err != nil {
		return c.fail(41005)
	}
	if !isMediaKind(kind) {
		return c.fail(40004)
	}
	return c.stored(c.store(kind, file, false))
}

// stored is where a temporary file went. A thumb's id has a name of its own.
func (c *call) stored(x *medium) reply {
	out := struct {
		Type    string `json:"type"`
		ID      string `json:"media_id,omitempty"`
		ThumbID string `json:"thumb_media_id,omitempty"`
		Created int64  `json:"created_at"`
	}{Type: x.kind, ID: x.id, Created: x.created.Unix()}
	if x.kind == "thumb" {
		out.ID, out.ThumbID = "", x.id
	}
	return c.json(out)
}

// getMedia answers media/get: the very bytes that were uploaded.
func getMedia(c *call) reply {
	x := c.medium(c.query.Get("media_id"), false)
	if x == nil {
		return c.fail(40007)
	}
	return x.download()
}

// download is the answer with a file in it. The header's lower-case d is WeChat's (facts 4).
func (x *medium) download() reply {
	contentType, ext := "image/jpeg", ".jpg"
	switch x.kind {
	case "voice":
		contentType, ext = "audio/amr", ".amr"
	case "video":
		contentType, ext = "video/mpeg4", ".mp4"
	}
	return reply{contentType: contentType, body: x.body, header: map[string][]string{
		"Content-disposition": {`attachment; filename="` + x.id + ext + `"`},
		"Cache-Control":       {"no-cache, must-revalidate"},
	}}
}

// uploadPicture answers media/uploadimg and its like, which give an address.
func uploadPicture(c *call) reply {
	file, _, err := c.upload()
	if err != nil {
		return c.fail(41005)
	}
	x := c.store("image", file, true)
	return c.json(map[string]string{"url": "http://mmbiz.qpic.cn/mmbiz_jpg/" + x.id + "/0"})
}

// uploadFile answers the uploads that say only that they are done.
func uploadFile(c *call) reply {
	if _, _, err := c.upload(); err != nil {
		return c.fail(41005)
	}
	return ok(c)
}

// uploadNews answers the uploads of a JSON text that becomes temporary media.
func uploadNews(kind string) answer {
	return func(c *call) reply { return c.stored(c.store(kind, c.body, false)) }
}

// addMaterial answers material/add_material.
func addMaterial(c *call) reply {
	file, kind, err := c.upload()
	if err != nil {
		return c.fail(41005)
	}
	if !isMediaKind(kind) {
		return c.fail(40004)
	}
	x := c.store(kind, file, true)
	return c.json(map[string]string{
		"media_id": x.id,
		"url":      "http://mmbiz.qpic.cn/mmbiz_jpg/" + x.id + "/0?wx_fmt=jpeg",
	})
}

// addNews answers material/add_news and draft/add.
func addNews(c *call) reply {
	return c.json(map[string]string{"media_id": c.store("news", c.body, true).id})
}

// getMaterial answers material/get_material: JSON for news and videos, else the bytes.
func getMaterial(c *call) reply {
	x := c.medium(c.field("media_id"), true)
	switch {
	case x == nil:
		return c.fail(40007)
	case x.kind == "news":
		return x.news(c)
	case x.kind == "video":
		return c.json(map[string]string{
			"title": "video", "description": "", "down_url": "http://mp.weixin.qq.com/mp/mp/video?__biz=" + x.id,
		})
	}
	return x.download()
}

func (x *medium) news(c *call) reply {
	var in struct {
		Articles []json.RawMessage `json:"articles"`
	}
	_ = json.Unmarshal(x.body, &in) // no articles in it: none are returned
	if in.Articles == nil {
		in.Articles = []json.RawMessage{}
	}
	return c.json(map[string]any{
		"news_item": in.Articles, "create_time": x.created.Unix(), "update_time": x.created.Unix(),
	})
}

// getDraft answers draft/get.
func getDraft(c *call) reply {
	x := c.medium(c.field("media_id"), true)
	if x == nil || x.kind != "news" {
		return c.fail(40007)
	}
	return x.news(c)
}

// deleteMaterial answers material/del_material and draft/delete.
func deleteMaterial(c *call) reply {
	x := c.medium(c.field("media_id"), true)
	if x == nil {
		return c.fail(40007)
	}
	x.app = nil // it is in no library now, and expires
	return ok(c)
}

// countMaterial answers material/get_materialcount.
func countMaterial(c *call) reply {
	var out struct {
		Voice int `json:"voice_count"`
		Video int `json:"video_count"`
		Image int `json:"image_count"`
		News  int `json:"news_count"`
	}
	for _, x := range c.s.media.order {
		if !x.permanent || x.app != c.app {
			continue
		}
		switch x.kind {
		case "voice":
			out.Voice++
		case "video":
			out.Video++
		case "image":
			out.Image++
		case "news":
			out.News++
		}
	}
	return c.json(out)
}
