package sandbox

import (
	"encoding/json"
	"net"
	"strings"
)

// maxRids is how many rids are known before the older ones are forgotten. WeChat knows one for seven days.
const maxRids = 10000

// failed is a call that was answered with an error.
type failed struct {
	app    *app
	client string // its address
	at     int64  // Unix time
	body   string // of the answer
}

// remember keeps the rid of an error for getRid. It needs s.mu.
func (c *call) remember(message, body string) {
	_, rid, found := strings.Cut(message, " rid: ")
	if !found || c.app == nil {
		return
	}
	if len(c.s.rids) >= maxRids {
		clear(c.s.rids)
	}
	host, _, err := net.SplitHostPort(c.r.RemoteAddr)
	if err != nil {
		host = c.r.RemoteAddr
	}
	c.s.rids[rid] = failed{c.app, host, c.now.Unix(), body}
}

// getRid answers what a call was that got an error (facts 3): only those of the same account.
func getRid(c *call) reply {
	var in struct {
		RID string `json:"rid"`
	}
	if json.Unmarshal(c.body, &in) != nil || in.RID == "" {
		return c.fail(76002)
	}
	f, known := c.s.rids[in.RID]
	switch {
	case !known:
		return c.fail(76001)
	case f.app != c.app:
		return c.fail(76003)
	}
	return c.json(struct {
		status

		Request any `json:"request"`
	}{status{0, "ok"}, struct {
		InvokeTime   int64  `json:"invoke_time"`
		CostMs       int64  `json:"cost_in_ms"`
		RequestURL   string `json:"request_url"`
		RequestBody  string `json:"request_body"`
		ResponseBody string `json:"response_body"`
		ClientIP     string `json:"client_ip"`
	}{f.at, 1, "access_token=xxxx", "", f.body, f.client}})
}
