package admin

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"
)

// How a page is signed in: a command that has the token asks for a code, and the page that it opens trades the code
// for the token. The code stands in an address, which others may see; the token never does.
const (
	codeLife = 30 * time.Second
	maxCodes = 16 // that wait at once
)

// SessionCode is the answer of POST /api/v1/session/code.
type SessionCode struct {
	Code    string    `json:"code"` // good once
	Expires time.Time `json:"expires"`
}

// Session is the answer of POST /api/v1/session.
type Session struct {
	Token string `json:"token"` // the admin token
}

// codes are those that wait to be traded. The zero value is ready.
type codes struct {
	mu  sync.Mutex // covers what follows
	all []sessionCode
}

type sessionCode struct {
	sum     [sha256.Size]byte
	expires time.Time
}

// issue returns a new code, which is good for life. The oldest gives way where too many wait.
func (c *codes) issue(now time.Time, life time.Duration) SessionCode {
	issued := SessionCode{Code: rand.Text(), Expires: now.Add(life)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked(now)
	if len(c.all) >= maxCodes {
		c.all = slices.Delete(c.all, 0, 1)
	}
	c.all = append(c.all, sessionCode{sha256.Sum256([]byte(issued.Code)), issued.Expires})
	return issued
}

// trade reports whether a code is good, which it then is no more.
func (c *codes) trade(code string, now time.Time) bool {
	sum := sha256.Sum256([]byte(code))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked(now)
	i := slices.IndexFunc(c.all, func(one sessionCode) bool { return one.sum == sum })
	if i < 0 {
		return false
	}
	c.all = slices.Delete(c.all, i, i+1)
	return true
}

func (c *codes) dropLocked(now time.Time) {
	c.all = slices.DeleteFunc(c.all, func(one sessionCode) bool { return !now.Before(one.expires) })
}

// sessionCode issues a code to a client that has the token.
func (a *Admin) sessionCode(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, a.codes.issue(time.Now(), cmp.Or(a.o.CodeLife, codeLife)))
}

// session trades a code, which is in the body and so in no log. A wrong one counts as a wrong token.
func (a *Admin) session(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Code string `json:"code"`
	}
	const most = 1 << 10
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, most)).Decode(&asked); err != nil || asked.Code == "" {
		reply(w, http.StatusBadRequest, problem{Error: `no code: want {"code": "..."} with the code that wxproxy ui has printed`})
		return
	}
	good := a.codes.trade(asked.Code, time.Now())
	switch a.attempts.judge(r.Context(), network(peer(r)), good) {
	case TooManyAttempts:
		w.Header().Set("Retry-After", "1")
		a.refuse(w, r, http.StatusTooManyRequests, TooManyAttempts, "too many wrong tokens from this address: want one request at a time with the admin token")
	case WrongToken:
		a.refuse(w, r, http.StatusForbidden, WrongCode, "the code is not good any more: it can be used once, within 30 s: run wxproxy ui again")
	default:
		a.acted(r, Action{Name: "sign-in", Outcome: done})
		reply(w, http.StatusOK, Session{Token: a.o.Token})
	}
}
