package admin

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"wxproxy/token"
)

// forgetLife is how long erasing an app may take: a Redis is looked through key by key.
const forgetLife = 2 * time.Minute

// ErrConfigured is the error of Options.Forget for an app that is configured. Its next call would
// write it anew.
var ErrConfigured = errors.New("the app is configured")

// Forgotten is the answer of /api/v1/forget: what is erased of an app, or by GET what would be.
type Forgotten struct {
	AppID  string   `json:"appid"`
	Seen   bool     `json:"seen"`   // this gateway has counted calls of it, though it is not configured
	Erased []string `json:"erased"` // what the store holds of an app, in words
}

// held is what a store can hold of an app.
var held = []string{
	"counters", "access tokens", "learned tokens", "tickets", "readings of WeChat's counts", "history", "alerts that were sent",
}

// anAppID is what an appid looks like. One that is not configured is known by nothing else.
var anAppID = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{5,63}$`)

func (a *Admin) planForget(w http.ResponseWriter, r *http.Request) {
	if answer, ok := a.forgettable(w, r); ok {
		reply(w, http.StatusOK, answer)
	}
}

func (a *Admin) forget(w http.ResponseWriter, r *http.Request) {
	answer, ok := a.forgettable(w, r)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), forgetLife)
	defer cancel()
	action := Action{Name: "forget", App: answer.AppID}
	switch err := a.o.Forget(ctx, answer.AppID); {
	case errors.Is(err, ErrConfigured):
		action.Outcome = ErrConfigured.Error()
		stillConfigured(w, App{Name: answer.AppID, AppID: answer.AppID})
	case err != nil:
		action.Outcome = storeProblem(err) + ": some of it may be erased, and some not"
		reply(w, http.StatusServiceUnavailable, problem{Error: storeProblem(err) + ": some of " + answer.AppID + " may be erased, and some not"})
	default:
		action.Outcome = done
		reply(w, http.StatusOK, answer)
	}
	a.acted(r, action)
}

// forgettable checks what is asked for. When it returns false it has answered.
func (a *Admin) forgettable(w http.ResponseWriter, r *http.Request) (*Forgotten, bool) {
	if a.o.Forget == nil {
		notOffered(w, "forget")
		return nil, false
	}
	name := r.URL.Query().Get("app")
	apps := a.o.Apps()
	i := slices.IndexFunc(apps, func(app App) bool { return name == app.AppID || name == app.Name })
	switch {
	case i >= 0 && !apps[i].Learned:
		stillConfigured(w, apps[i])
	case name == token.LearnedApp:
		reply(w, http.StatusBadRequest, problem{Error: name + " is no appid: the store keeps there which app each learned token is of, and each of these entries expires with its token. To erase a learned app, want its appid, as in wx0123456789abcdef"})
	case !anAppID.MatchString(name):
		reply(w, http.StatusBadRequest, problem{Error: "app " + strings.ToValidUTF8(name, "?") + ": want its appid, as in wx0123456789abcdef: an app that is not configured has no name"})
	default:
		return &Forgotten{AppID: name, Seen: i >= 0, Erased: held}, true
	}
	return nil, false
}

func stillConfigured(w http.ResponseWriter, app App) {
	name := app.AppID
	if app.Name != app.AppID {
		name = app.Name + " (" + app.AppID + ")"
	}
	reply(w, http.StatusConflict, problem{Error: "app " + name + " is configured, and its next call would store it again: remove it from wxproxy.yaml first"})
}
