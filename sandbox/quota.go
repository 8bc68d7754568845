package sandbox

import (
	"net/url"
	"strings"
	"time"
)

const pathQuotaGet = "/cgi-bin/openapi/quota/get"

// How often a month an app may clear its counts (facts 3).
const (
	clearsPerMonth  = 10 // clear_quota, its v2 and the console together
	singlesPerMonth = 50 // openapi/quota/clear
)

func dayOf(t time.Time) int {
	y, m, d := t.Date()
	return (y*100+int(m))*100 + d
}

func monthOf(t time.Time) int { return dayOf(t) / 100 }

// roll begins a new minute, day or month if the old one is over. now is in the sandbox's zone.
func (a *app) roll(now time.Time) {
	if minute := now.Unix() / 60; minute != a.minute {
		a.minute = minute
		clear(a.usedMinute)
	}
	if day := dayOf(now); day != a.day {
		a.day, a.forces = day, 0
		clear(a.used)
	}
	if month := monthOf(now); month != a.month {
		a.month, a.clears, a.singles = month, 0, 0
	}
}

// quota is what an app may call a path in a day, negative if that is not limited. It needs s.mu.
func (s *Sandbox) quota(a *app, path string) int64 {
	if n, ok := a.quotas[path]; ok {
		return n
	}
	if n, ok := s.quotas[path]; ok {
		return n
	}
	return -1
}

// take spends one call of the day and of the clock minute and counts it as executed, or returns the
// errcode for a day or a minute that is spent: then the call is in neither count.
func (c *call) take() int {
	c.app.roll(c.now)
	if limit := c.s.quota(c.app, c.path); limit >= 0 && c.app.used[c.path] >= limit {
		if c.path == pathQuotaGet {
			return 44993 // facts 2c: it has a code of its own
		}
		return 45009
	}
	if limit, ok := c.app.perMinute[c.path]; ok && c.app.usedMinute[c.path] >= limit {
		return 45009 // facts 8a: in the same words as the day's
	}
	c.app.used[c.path]++
	c.app.usedMinute[c.path]++
	c.app.executed.add(c.path)
	return 0
}

// SetQuota sets how often a day an app may call a path; negative: not limited. 0 refuses every
// call. An empty appid sets the quota of every app that has none of its own; an unknown one
// panics.
func (s *Sandbox) SetQuota(appid, path string, perDay int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if appid == "" {
		s.quotas[canonical(path)] = perDay
		return
	}
	for _, a := range s.each(appid) {
		a.quotas[canonical(path)] = perDay
	}
}

// SetMinuteLimit sets how often in each clock minute an app may call a path, beside the quota of the
// day; negative: not limited. 0 refuses every call. A clear does not reset the count of the minute.
// An empty appid means every app; an unknown one panics.
func (s *Sandbox) SetMinuteLimit(appid, path string, perMinute int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.each(appid) {
		if perMinute < 0 {
			delete(a.perMinute, canonical(path))
		} else {
			a.perMinute[canonical(path)] = perMinute
		}
	}
}

// Used returns today's count of an app's calls to a path as WeChat's quota sees it. An empty path
// means all, an empty appid every app.
func (s *Sandbox) Used(appid, path string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	var n int64
	for id, a := range s.apps {
		if appid == "" || appid == id {
			a.roll(now)
			n += counts(a.used).sum(path, true)
		}
	}
	return n
}

// AddUsed counts n calls that an app made around the gateway: Used grows, Executed does
// not. An empty appid means every app; an unknown one panics.
func (s *Sandbox) AddUsed(appid, path string, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	for _, a := range s.each(appid) {
		a.roll(now)
		a.used[canonical(path)] += n
	}
}

// ClearQuota is a clear in WeChat's console: it zeroes today's counts of every path of the app and
// takes one of the month's ten clears. It reports whether there was one left, and does nothing
// otherwise. An empty appid means every app; an unknown one panics.
func (s *Sandbox) ClearQuota(appid string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	granted := true
	for _, a := range s.each(appid) {
		granted = a.clear(now) && granted
	}
	return granted
}

func (a *app) clear(now time.Time) bool {
	a.roll(now)
	if a.clears >= clearsPerMonth {
		return false
	}
	a.clears++
	clear(a.used)
	return true
}

// clearQuota answers clear_quota: the body names the token's own app.
func clearQuota(c *call) reply {
	if c.field("appid") != c.app.id {
		return c.fail(40013)
	}
	return clearQuotaV2(c)
}

// clearQuotaV2 answers clear_quota/v2, which needs no token: one can be had by it when those are spent.
func clearQuotaV2(c *call) reply {
	if !c.app.clear(c.now) {
		return c.fail(48006)
	}
	return ok(c)
}

// clearOneQuota answers openapi/quota/clear, which zeroes one path.
func clearOneQuota(c *call) reply {
	path, code := c.cgiPath()
	if code != 0 {
		return c.fail(code)
	}
	if c.app.singles >= singlesPerMonth {
		return c.fail(48006)
	}
	c.app.singles++
	delete(c.app.used, path)
	return ok(c)
}

// getQuota answers openapi/quota/get. A path without a quota has a limit of 0, as in the official
// example, and a path without a limit of the minute has zeros for that.
func getQuota(c *call) reply {
	path, code := c.cgiPath()
	if code != 0 {
		return c.fail(code)
	}
	type rate struct {
		Calls          int64 `json:"call_count"`
		RefreshSeconds int64 `json:"refresh_second"`
	}
	var out struct {
		Code    int    `json:"errcode"`
		Message string `json:"errmsg"`
		Quota   struct {
			Limit  int64 `json:"daily_limit"`
			Used   int64 `json:"used"`
			Remain int64 `json:"remain"`
		} `json:"quota"`
		Rate      rate `json:"rate_limit"`
		Component rate `json:"component_rate_limit"`
	}
	out.Message = "ok"
	out.Quota.Used = c.app.used[path]
	if limit := c.s.quota(c.app, path); limit >= 0 {
		out.Quota.Limit = limit
		out.Quota.Remain = max(0, limit-out.Quota.Used)
	}
	if limit, ok := c.app.perMinute[path]; ok {
		out.Rate = rate{Calls: limit, RefreshSeconds: 60}
	}
	return c.json(out)
}

// cgiPath reads which path an openapi/quota call is about.
func (c *call) cgiPath() (path string, code int) {
	asked := c.field("cgi_path")
	u, err := url.Parse(asked)
	if err != nil || !strings.HasPrefix(asked, "/") || strings.HasPrefix(asked, "//") || u.RawQuery != "" {
		return "", 76003
	}
	path = canonical(u.Path)
	if strings.HasPrefix(path, "/sns/") {
		return "", 76022
	}
	if _, known := c.s.apis[path]; !known {
		return "", 76021
	}
	return path, 0
}
