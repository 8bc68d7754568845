package sandbox

import (
	"bytes"
	"crypto/rand"
	"mime/multipart"
	"net/http"
	"testing"
	"time"
)

// form is a multipart body with one file.
func form(t *testing.T, field, filename string, content []byte) (body *bytes.Buffer, contentType string) {
	t.Helper()
	body = new(bytes.Buffer)
	m := multipart.NewWriter(body)
	part, err := m.CreateFormFile(field, filename)
	if filename == "" {
		part, err = m.CreateFormField(field)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	return body, m.FormDataContentType()
}

func uploadTo(t *testing.T, s *Server, target, contentType string, body *bytes.Buffer) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+target, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	_, got := exchange(t, req)
	return got
}

type uploaded struct {
	Code    int    `json:"errcode"`
	Type    string `json:"type"`
	ID      string `json:"media_id"`
	Thumb   string `json:"thumb_media_id"`
	Created int64  `json:"created_at"`
	URL     string `json:"url"`
}

func TestTemporaryMedia(t *testing.T) {
	const other = "wx00000000000000aa"
	s := start(t, Options{Apps: []App{{}, {AppID: other}}})
	token := fetch(t, s, DefaultAppID)
	content := make([]byte, 300<<10)
	rand.Read(content)
	tests := []struct {
		kind, contentType, ext string
	}{
		{"image", "image/jpeg", ".jpg"},
		{"thumb", "image/jpeg", ".jpg"},
		{"voice", "audio/amr", ".amr"},
		{"video", "video/mpeg4", ".mp4"},
	}
	for _, tt := range tests {
		t.Run(tt.kind, func(t *testing.T) {
			body, ct := form(t, "media", "a.bin", content)
			var up uploaded
			decode(t, uploadTo(t, s, "/cgi-bin/media/upload?access_token="+token+"&type="+tt.kind, ct, body), &up)
			id := up.ID
			if tt.kind == "thumb" {
				id = up.Thumb
			}
			if up.Type != tt.kind || id == "" || up.Created != noon.Unix() {
				t.Fatalf("uploaded = %+v", up)
			}
			res, got := send(t, s, "GET", "/cgi-bin/media/get?access_token="+token+"&media_id="+id, "")
			if !bytes.Equal(got, content) {
				t.Errorf("got %d other bytes than the %d that were sent", len(got), len(content))
			}
			if got := res.Header.Get("Content-Type"); got != tt.contentType {
				t.Errorf("Content-Type = %q, want %q", got, tt.contentType)
			}
			if got, want := res.Header.Get("Content-Disposition"), `attachment; filename="`+id+tt.ext+`"`; got != want {
				t.Errorf("Content-disposition = %q, want %q", got, want)
			}
			if res.ContentLength != int64(len(content)) {
				t.Errorf("Content-Length = %d, want %d", res.ContentLength, len(content))
			}
			wantCode(t, "another app", callJSON(t, s, "GET", "/cgi-bin/media/get?access_token="+fetch(t, s, other)+"&media_id="+id, "", nil), 40007)
		})
	}
	wantCode(t, "unknown", callJSON(t, s, "GET", "/cgi-bin/media/get?access_token="+token+"&media_id=x", "", nil), 40007)
}

func TestMediaEnds(t *testing.T) {
	s := start(t, Options{})
	body, ct := form(t, "media", "a.jpg", []byte("x"))
	var up uploaded
	decode(t, uploadTo(t, s, "/cgi-bin/media/upload?type=image&access_token="+fetch(t, s, DefaultAppID), ct, body), &up)
	s.Advance(mediaLife)
	target := "/cgi-bin/media/get?media_id=" + up.ID + "&access_token=" + fetch(t, s, DefaultAppID)
	if _, got := send(t, s, "GET", target, ""); string(got) != "x" {
		t.Errorf("after three days: %s, want x", got)
	}
	s.Advance(time.Second)
	wantCode(t, "later", callJSON(t, s, "GET", target, "", nil), 40007)
}

func TestOddUploads(t *testing.T) {
	s := start(t, Options{})
	token := fetch(t, s, DefaultAppID)
	target := "/cgi-bin/media/upload?type=image&access_token=" + token
	file, fileType := form(t, "media", "a.jpg", []byte("x"))
	tests := []struct {
		name, target, contentType string
		body                      func() (*bytes.Buffer, string)
		code                      int
	}{
		{"no filename", target, "", func() (*bytes.Buffer, string) { return form(t, "media", "", []byte("x")) }, 41005},
		{"another field", target, "", func() (*bytes.Buffer, string) { return form(t, "file", "a.jpg", []byte("x")) }, 41005},
		{"no form", target, "", func() (*bytes.Buffer, string) { return bytes.NewBufferString("x"), "text/plain" }, 41005},
		{"nothing like a form", target, "", func() (*bytes.Buffer, string) { return bytes.NewBufferString("\r\n"), "" }, 41005},
		{"cut off", target, "", func() (*bytes.Buffer, string) { return bytes.NewBuffer(file.Bytes()[:file.Len()-9]), fileType }, 41005},
		{"no type", "/cgi-bin/media/upload?access_token=" + token, "", func() (*bytes.Buffer, string) { return form(t, "media", "a.jpg", []byte("x")) }, 40004},
		{"no boundary", target, "", func() (*bytes.Buffer, string) { return bytes.NewBuffer(file.Bytes()), "multipart/form-data" }, 0},
		{"material without file", "/cgi-bin/material/add_material?access_token=" + token, "", func() (*bytes.Buffer, string) { return form(t, "media", "", nil) }, 41005},
		{"material without type", "/cgi-bin/material/add_material?access_token=" + token, "", func() (*bytes.Buffer, string) { return form(t, "media", "a", nil) }, 40004},
		{"picture without file", "/cgi-bin/media/uploadimg?access_token=" + token, "", func() (*bytes.Buffer, string) { return form(t, "media", "", nil) }, 41005},
		{"head without file", "/customservice/kfaccount/uploadheadimg?access_token=" + token, "", func() (*bytes.Buffer, string) { return form(t, "media", "", nil) }, 41005},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body, ct := tt.body()
			var got uploaded
			decode(t, uploadTo(t, s, tt.target, ct, body), &got)
			wantCode(t, tt.name, got.Code, tt.code)
		})
	}
}

func TestMaterial(t *testing.T) {
	s := start(t, Options{})
	q := "?access_token=" + fetch(t, s, DefaultAppID)
	var image, video, news, pic uploaded
	body, ct := form(t, "media", "a.jpg", []byte("picture"))
	decode(t, uploadTo(t, s, "/cgi-bin/material/add_material"+q+"&type=image", ct, body), &image)
	body, ct = form(t, "media", "a.mp4", []byte("film"))
	decode(t, uploadTo(t, s, "/cgi-bin/material/add_material"+q+"&type=video", ct, body), &video)
	body, ct = form(t, "media", "a.mp4", []byte("sound"))
	decode(t, uploadTo(t, s, "/cgi-bin/material/add_material"+q+"&type=voice", ct, body), new(uploaded))
	body, ct = form(t, "media", "a.jpg", []byte("picture"))
	decode(t, uploadTo(t, s, "/cgi-bin/media/uploadimg"+q, ct, body), &pic)
	if pic.URL == "" {
		t.Errorf("uploadimg = %+v, want a url", pic)
	}
	wantCode(t, "add_news", callJSON(t, s, "POST", "/cgi-bin/material/add_news"+q, `{"articles":[{"title":"t"}]}`, &news), 0)

	get := func(id string) string {
		_, got := send(t, s, "POST", "/cgi-bin/material/get_material"+q, `{"media_id":"`+id+`"}`)
		return string(got)
	}
	if got := get(image.ID); got != "picture" {
		t.Errorf("image = %q", got)
	}
	var film struct {
		URL string `json:"down_url"`
	}
	decode(t, []byte(get(video.ID)), &film)
	if film.URL == "" {
		t.Error("a video has no down_url")
	}
	var told struct {
		Items []struct {
			Title string `json:"title"`
		} `json:"news_item"`
	}
	decode(t, []byte(get(news.ID)), &told)
	if len(told.Items) != 1 || told.Items[0].Title != "t" {
		t.Errorf("news = %+v", told)
	}
	var n struct {
		Voice int `json:"voice_count"`
		Video int `json:"video_count"`
		Image int `json:"image_count"`
		News  int `json:"news_count"`
	}
	wantCode(t, "count", callJSON(t, s, "GET", "/cgi-bin/material/get_materialcount"+q, "", &n), 0)
	if n.Voice != 1 || n.Video != 1 || n.Image != 2 || n.News != 1 {
		t.Errorf("counts = %+v, want 1, 1, 2, 1", n)
	}
	wantCode(t, "temporary by a permanent id", callJSON(t, s, "GET", "/cgi-bin/media/get"+q+"&media_id="+image.ID, "", nil), 40007)
	wantCode(t, "delete", callJSON(t, s, "POST", "/cgi-bin/material/del_material"+q, `{"media_id":"`+image.ID+`"}`, nil), 0)
	wantCode(t, "delete again", callJSON(t, s, "POST", "/cgi-bin/material/del_material"+q, `{"media_id":"`+image.ID+`"}`, nil), 40007)
	wantCode(t, "get deleted", callJSON(t, s, "POST", "/cgi-bin/material/get_material"+q, `{"media_id":"`+image.ID+`"}`, nil), 40007)
	wantCode(t, "no draft", callJSON(t, s, "POST", "/cgi-bin/draft/get"+q, `{"media_id":"`+video.ID+`"}`, nil), 40007)
}

func TestMediaStoreIsBounded(t *testing.T) {
	m := mediaStore{byID: make(map[string]*medium)}
	for i := range mostMedia + 10 {
		m.put(&medium{id: string(rune(0x4e00 + i)), body: []byte("x")})
	}
	if len(m.order) != mostMedia || len(m.byID) != mostMedia || m.bytes != mostMedia {
		t.Errorf("kept %d, %d, %d bytes; want %d of each", len(m.order), len(m.byID), m.bytes, mostMedia)
	}
	m.put(&medium{id: "big", body: make([]byte, mostMediaBytes)})
	if len(m.order) != 1 || m.byID["big"] == nil {
		t.Errorf("beside one that fills the store: %d, want none", len(m.order)-1)
	}
}
