package proxy

import (
	"context"
	"net/http"
	"net/url"

	"go.uber.org/zap"

	"wxproxy/wechat"
)

// usagePath is where a caller asks what it has used and what is left, with its own key.
const usagePath = ownPrefix + "usage"

// UsageQuestion is what a caller asks of its accounts.
type UsageQuestion struct {
	Caller string
	Apps   []App                  // all that it may call for, of the configuration
	Only   *App                   // the one of them that it names; nil: all
	All    bool                   // rules too that were not used
	May    func(rule string) bool // reports whether it may call a rule
}

// usage answers a caller about its own accounts. Nothing of it is counted or sent.
func (c *call) usage() *ownAnswer {
	c.rec.Path = usagePath
	if c.h.usage == nil {
		return notFound
	}
	if c.r.Method == http.MethodPost {
		return (&ownAnswer{status: http.StatusMethodNotAllowed, plain: "method not allowed"}).refused(BadMethod)
	}
	if !queryParses(c.r.URL.RawQuery) {
		return refuse(BadQuery, wechat.InvalidParameter)
	}
	if own := c.authenticateKey(); own != nil {
		return own
	}
	if own := c.enter(); own != nil {
		return own
	}
	query, _ := url.ParseQuery(c.r.URL.RawQuery) // queryParses has read it
	all := query.Get("all")
	q := UsageQuestion{Caller: c.caller, Only: c.app, All: all != "" && all != "0", May: func(rule string) bool { return c.s.mayUse(c.caller, rule) }}
	for _, app := range c.s.Apps {
		if c.s.Identity.May(c.caller, app.AppID) {
			q.Apps = append(q.Apps, app)
		}
	}
	body, err := c.h.usage(c.r.Context(), q)
	if err != nil {
		c.h.outages.Warn("usage for a caller: the store was not read", zap.String("caller", c.caller), zap.Error(err))
		return refuse(StoreUnavailable, wechat.SystemError)
	}
	return &ownAnswer{decision: decidedLocal, body: string(body)}
}

// authenticateKey works out the caller by its key alone, and the app that it names, if it names one.
func (c *call) authenticateKey() *ownAnswer {
	var few [4]credential
	own := c.verifyAll(c.headerCredentials(few[:0]))
	c.rec.Caller = c.caller
	switch {
	case own != nil:
		return own
	case c.caller == "":
		return refuse(NothingShown, wechat.Unauthorized)
	case c.app != nil && !c.s.Identity.May(c.caller, c.app.AppID):
		return refuse(AppNotAllowed, wechat.Unauthorized)
	}
	return c.admit(c.caller)
}

// Usage answers a UsageQuestion with JSON. The error is of the store.
type Usage func(ctx context.Context, q UsageQuestion) (body []byte, err error)
