package admin

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// trade sends a code as a page does.
func (s *stand) trade(t *testing.T, body string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.server.URL+"/api/v1/session", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := s.server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct{ Token, Error string }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, answer.Token + answer.Error
}

func (s *stand) code(t *testing.T) string {
	t.Helper()
	status, body := s.do(t, "POST", "/api/v1/session/code", "Authorization", "Bearer correct")
	var issued SessionCode
	if err := json.Unmarshal([]byte(body), &issued); err != nil || status != http.StatusOK || len(issued.Code) < 26 {
		t.Fatalf("%d %s: %v", status, body, err)
	}
	if left := time.Until(issued.Expires); left > codeLife || left < codeLife/2 {
		t.Errorf("the code expires in %s", left)
	}
	return issued.Code
}

// A code is given for the token only, and gives it once.
func TestSession(t *testing.T) {
	acted := make(chan Action, 10)
	s := newStand(t, func(o *Options) { o.Acted = func(a Action) { acted <- a } })
	if status, _ := s.do(t, "POST", "/api/v1/session/code"); status != http.StatusUnauthorized {
		t.Errorf("a code without the token: %d", status)
	}
	code := s.code(t)
	if status, text := s.trade(t, `{"code":"`+code+`"}`, "Sec-Fetch-Site", "cross-site", "Origin", "http://evil.example"); status != http.StatusForbidden {
		t.Errorf("by a page of another site: %d %s", status, text)
	}
	if status, text := s.trade(t, `{"code":"`+code+`"}`, "Sec-Fetch-Site", "same-origin"); status != http.StatusOK || text != "correct" {
		t.Errorf("the first time: %d %s", status, text)
	}
	if a := <-acted; a.Name != "sign-in" || a.Outcome != done {
		t.Errorf("reported as %+v", a)
	}
	for _, body := range []string{`{"code":"` + code + `"}`, `{"code":"` + strings.ToLower(s.code(t)) + `"}`, `{"code":"correct"}`} {
		if status, text := s.trade(t, body); status != http.StatusForbidden || strings.Contains(text, "correct") {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
	for _, body := range []string{``, `{}`, `{"code":1}`, `{"code":"` + strings.Repeat("x", 2000) + `"}`} {
		if status, text := s.trade(t, body); status != http.StatusBadRequest {
			t.Errorf("%.40s: %d %s", body, status, text)
		}
	}
	if len(acted) != 0 {
		t.Errorf("reported as well: %+v", <-acted)
	}
}

func TestCodes(t *testing.T) {
	now := time.Now()
	var c codes
	first := c.issue(now, codeLife).Code
	if c.trade(first, now.Add(codeLife)) {
		t.Error("a code is good when its time is over")
	}
	var issued []string
	for range maxCodes + 1 {
		issued = append(issued, c.issue(now, codeLife).Code)
	}
	if c.trade(issued[0], now) {
		t.Error("more codes wait than may")
	}
	for _, code := range issued[1:] {
		if !c.trade(code, now.Add(codeLife-1)) || c.trade(code, now) {
			t.Errorf("a code is not good once")
		}
	}
	if len(c.all) != 0 {
		t.Errorf("%d codes are left", len(c.all))
	}
}

// Codes cannot be guessed faster than tokens.
func TestCodesAreAttempts(t *testing.T) {
	s := newStand(t)
	for range freeAttempts {
		s.trade(t, `{"code":"wrong"}`)
	}
	begun := time.Now()
	if status, _ := s.trade(t, `{"code":"wrong"}`); status != http.StatusForbidden || time.Since(begun) < wrongDelay/2 {
		t.Errorf("the next one: %d after %s", status, time.Since(begun))
	}
}

// The pages need no token, and are never kept but for the parts that have a version in their name.
func TestPages(t *testing.T) {
	s := newStand(t)
	response, err := s.server.Client().Get(s.server.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	h := response.Header
	if response.StatusCode != http.StatusOK || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("%d %v", response.StatusCode, h)
	}
	for target, want := range map[string]int{"/ui/": 404, "/elsewhere": 404, "/api/v1/usage": 401, "/ui/../metrics": 200} {
		if status, _ := s.do(t, "GET", target); status != want {
			t.Errorf("%s = %d, want %d", target, status, want)
		}
	}
	if status, _ := s.do(t, "POST", "/"); status != http.StatusMethodNotAllowed {
		t.Errorf("POST / = %d", status)
	}
}
