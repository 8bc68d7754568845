package admin

import (
	"net/http"
	"strconv"
	"strings"
)

// number returns a parameter that is a whole number from 1 to most, or usual when it is left out. When ok is
// false it has answered.
func number(w http.ResponseWriter, r *http.Request, name string, usual, most int) (n int, ok bool) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return usual, true
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		reply(w, http.StatusBadRequest, problem{Error: name + " " + strings.ToValidUTF8(text, "?") + ": want a whole number from 1 to " + strconv.Itoa(most)})
		return 0, false
	}
	return n, true
}

// flag returns a parameter that is 1 or 0, which it is when it is left out. When ok is false it has answered.
func flag(w http.ResponseWriter, r *http.Request, name string) (set, ok bool) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return false, true
	}
	set, err := strconv.ParseBool(text)
	if err != nil {
		reply(w, http.StatusBadRequest, problem{Error: name + " " + strings.ToValidUTF8(text, "?") + ": want 1 or 0"})
		return false, false
	}
	return set, true
}
