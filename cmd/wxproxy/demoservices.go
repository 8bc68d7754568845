package main

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"wxproxy/sandbox"
)

// The services of the demo.
const (
	demoCRM      = "crm"
	demoCampaign = "campaign"
	demoReporter = "reporter"
)

// What they call.
const (
	userInfo     = "/cgi-bin/user/info"
	userGet      = "/cgi-bin/user/get"
	templateSend = "/cgi-bin/message/template/send"
	massSend     = "/cgi-bin/message/mass/send"
)

// demoPatience is how long one part of the demo waits for another at most. An operator who clears or grants
// meanwhile may keep it from coming.
const demoPatience = 45 * time.Second

// demoServices send the calls of the demo.
type demoServices struct {
	gateway string
	keys    map[string]string // by service
	wechat  *sandbox.Server
	around  func(path string, n int64) // told of calls that went around the gateway

	userGets int64 // the quota of userGet

	client *http.Client
}

// run sends calls until ctx is done. over is closed once everything has been shown.
func (s *demoServices) run(ctx context.Context, over chan<- struct{}) {
	s.client = &http.Client{Transport: &http.Transport{}} // no proxy
	defer s.client.CloseIdleConnections()
	loopStopped, quotaReached, passed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { s.crm(ctx, passed, over) })
	wg.Go(func() { s.campaign(ctx, loopStopped, quotaReached) })
	wg.Go(func() { s.reporter(ctx, loopStopped) })
	wg.Go(func() { // a script that goes around the gateway
		await(ctx, quotaReached, demoPatience)
		if pause(ctx, 4*time.Second) {
			n := s.userGets - s.wechat.Used("", userGet)
			s.wechat.AddUsed("", userGet, n)
			close(passed)
			s.around(userGet, n)
		}
	})
	wg.Wait()
}

// crm calls as it should, for ever.
func (s *demoServices) crm(ctx context.Context, passed <-chan struct{}, over chan<- struct{}) {
	until := time.Time{} // over is closed by then
	for n := 1; ; n++ {
		s.call(ctx, demoCRM, userInfo+"?openid=oDemoFollower"+strconv.Itoa(n%5), "")
		wait := 2 * time.Second
		switch {
		case n%2 == 0:
			if !pause(ctx, time.Second/2) {
				return
			}
			latched := s.call(ctx, demoCRM, userGet, "") == "refused-latched"
			select {
			case <-passed:
				if until.IsZero() {
					until = time.Now().Add(demoPatience)
				}
			default:
			}
			if over != nil && !until.IsZero() && (latched || time.Now().After(until)) {
				close(over)
				over = nil
			}
		case n%5 == 0:
			s.call(ctx, demoCRM, templateSend, `{"touser":"oDemoFollower","template_id":"notice","data":{}}`)
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// campaign sends notices until it has used up its share, then messages until the quota is used up, and tries again from
// time to time.
func (s *demoServices) campaign(ctx context.Context, loopStopped <-chan struct{}, quotaReached chan<- struct{}) {
	if !pause(ctx, time.Second) {
		return
	}
	const notice, message = `{"touser":"oDemoFollower","template_id":"sale","data":{}}`, `{"touser":["oDemoFollower1","oDemoFollower2"],"msgtype":"text","text":{"content":"sale"}}`
	s.until(ctx, "refused-share", 700*time.Millisecond, demoCampaign, templateSend, notice)
	await(ctx, loopStopped, demoPatience)
	if !pause(ctx, 4*time.Second) {
		return
	}
	s.until(ctx, "refused-quota", time.Second, demoCampaign, massSend, message)
	close(quotaReached)
	for pause(ctx, 5*time.Second) {
		s.call(ctx, demoCampaign, templateSend, notice)
	}
}

// reporter asks for a user that does not exist, again and again.
func (s *demoServices) reporter(ctx context.Context, loopStopped chan<- struct{}) {
	if !pause(ctx, 7*time.Second) {
		return
	}
	const call = userInfo + "?openid=undefined"
	s.until(ctx, "refused-fuse", 25*time.Millisecond, demoReporter, call, "")
	close(loopStopped)
	for pause(ctx, 200*time.Millisecond) {
		s.call(ctx, demoReporter, call, "")
	}
}

// until repeats a call until the gateway has decided so.
func (s *demoServices) until(ctx context.Context, decision string, every time.Duration, service, target, body string) {
	end := time.Now().Add(demoPatience)
	for s.call(ctx, service, target, body) != decision && time.Now().Before(end) && pause(ctx, every) {
	}
}

// call sends a call of a service and returns what the gateway has decided. How it ends is shown by the gateway.
func (s *demoServices) call(ctx context.Context, service, target, body string) (decision string) {
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(ctx, method, s.gateway+target, strings.NewReader(body))
	if err != nil {
		return ""
	}
	r.SetBasicAuth("demo", s.keys[service])
	r.Header.Set("User-Agent", service)
	response, err := s.client.Do(r)
	if err != nil {
		return "" // the demo ends
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body) // so that the connection is used again
	return response.Header.Get("X-Wxproxy-Decision")
}

// pause waits, and reports whether it was not interrupted.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// await waits until something has happened, for some time at most.
func await(ctx context.Context, happened <-chan struct{}, most time.Duration) {
	select {
	case <-ctx.Done():
	case <-happened:
	case <-time.After(most):
	}
}
